-- What policies keep in the store, on both databases: quotas, rates, events.
local core = require "longshore.core"
local parallel = require "spec.policy.parallel"
local postgres = require "spec.support.postgres"
local stores = require "longshore.store"
local support = require "spec.support"

local T = 1700000000

local function contract(open)
  local store, options

  setup(function()
    options = open()
    store = assert(stores.open(options))
  end)
  teardown(function() store:close() end)

  local function together(processes, settings)
    settings.store = options
    return parallel.together("process.lua", processes, settings)
  end

  it("holds a quota of files against parallel uploads", function()
    assert.equal(25, together(5, { times = 12, quotas = { { scope = "organization", files = 25 } } }))
  end)

  it("counts bytes, users and running uploads in the same transaction", function()
    local function quota(fields, expected)
      local n = core.hex(core.random(6))
      local upload = { id = "upl_" .. n, file_id = "fil_" .. n, tenant = "t", organization = "o",
        user = fields.by or "a", service = "s", provider = "p", key = n, filename = n, content_type = "a/b",
        size = fields.size or 10,
        part_size = 10, part_count = 1, integrity = "none", signs_length = true, requires_tokens = true,
        if_exists = "keep", state = "starting", deadline = T, lease = 0, created_at = T, updated_at = T }
      local file = { id = upload.file_id, tenant = "t", organization = "o", user = upload.user, service = "s",
        filename = n, size = upload.size, state = "uploading", created_at = T, updated_at = T }
      local ok, err = store:create_upload(upload, file, nil, { fields })
      if expected then
        assert.is_nil(ok)
        assert.equal("quota", err.code)
        assert.equal(expected, err.quota)
        fields.by, fields.size = nil, nil
      else
        assert(ok, tostring(err))
      end
      return upload
    end
    quota { scope = "user", bytes = 20, by = "a" }
    quota { scope = "user", bytes = 20, by = "a" }
    quota({ scope = "user", bytes = 20, by = "a", size = 1 }, "bytes")
    quota { scope = "user", bytes = 20, by = "a", size = 0 }
    local last = quota { scope = "user", bytes = 20, by = "b" }
    quota({ scope = "organization", bytes = 39, by = "c" }, "bytes")
    quota({ scope = "organization", files = 4, by = "c" }, "files")
    quota({ scope = "user", running = 1, by = "b" }, "running uploads")
    quota { scope = "user", running = 1, by = "c", size = 0 }
    -- What is given up is free again.
    assert(store:begin_undo(last.id, { from = { "starting" }, to = "aborting", now = T,
      cleanup = { id = "cln_" .. last.id, upload_id = last.id, provider = "p", key = "k", kind = "undo", due = T,
        attempts = 0, created_at = T } }))
    assert(store:finish_cleanup({ id = "cln_" .. last.id, upload_id = last.id }, { now = T }))
    quota { scope = "user", bytes = 20, by = "b", size = 20 }
  end)

  it("never allows more than a rate's limit, however many take at once", function()
    assert.equal(17, together(5, { times = 12, limit = 17 }))
  end)

  it("gives a rate's payments back as time passes", function()
    local function take(at) return assert(store:take_rate("one", { limit = 3, seconds = 60, now = T + at })) end
    for _ = 1, 3 do assert.equal(0, take(0)) end
    assert.equal(20, take(0))
    assert.equal(10, take(10))
    assert.equal(0, take(20))
    assert.equal(20, take(20))
    assert.equal(0, take(1000))
    assert.equal(0, (store:take_rate("other", { limit = 1, seconds = 60, now = T })))
    for _ = 1, 7 do assert.equal(0, (store:take_rate("seven", { limit = 7, seconds = 1, now = T }))) end
    assert.is_true((store:take_rate("seven", { limit = 7, seconds = 1, now = T })) > 0)
    assert.is_true(assert(store:purge_rates(T + 5000)) >= 3)
    assert.equal(0, take(1001))
  end)

  it("keeps events until they are told; one gets each", function()
    local event = { id = "evt_1", hook = "after_abort", target = "policy", payload = '{"ü":1}', due = T, attempts = 0,
      created_at = T }
    assert(store:add_events { event })
    assert.same({}, assert(store:due_events(T - 1, 10)))
    local due = assert(store:due_events(T, 10))
    assert.same({ event }, due)
    assert.is_true(store:claim_event(due[1], T + 60))
    assert.is_false(store:claim_event(due[1], T + 60))
    assert.same({}, assert(store:due_events(T, 10)))
    assert.same({ policy = 1 }, assert(store:count_events()))
    assert(store:postpone_event("evt_1", T + 5, "away"))
    due = assert(store:due_events(T + 5, 10))
    assert.equal("away", due[1].error)
    assert.equal(1, due[1].attempts)
    assert(store:finish_event("evt_1"))
    assert.same({}, assert(store:due_events(T + 500, 10)))
  end)

  it("puts off what one is to be told, not what others are", function()
    local list = {}
    for i, target in ipairs { "webhook:a", "webhook:b", "webhook:a", "webhook:a" } do
      list[i] = { id = "evt_p" .. i, hook = "after_abort", target = target, payload = "{}", due = T + i, attempts = 0,
        created_at = T }
    end
    assert(store:add_events(list))
    local function ids(now, target)
      local found = {}
      for i, event in ipairs(assert(store:due_events(now, 10, target))) do found[i] = event.id end
      return found
    end
    assert.same({ "evt_p1", "evt_p3", "evt_p4" }, ids(T + 4, "webhook:a"))
    assert.equal(2, assert(store:postpone_events("webhook:a", T + 3, T + 60)))
    assert.same({ "evt_p2", "evt_p4" }, ids(T + 59))
    assert.same({ "evt_p4", "evt_p1", "evt_p3" }, ids(T + 60, "webhook:a"))
    for i = 1, 4 do assert(store:finish_event("evt_p" .. i)) end
  end)
end

describe("policies' store on SQLite", function()
  contract(function() return { type = "sqlite", path = support.tmpdir() .. "/s.db", synchronous = "OFF" } end)
  teardown(support.cleanup)
end)

describe("policies' store on PostgreSQL", function()
  contract(function() return assert(postgres.start(), "PostgreSQL is missing: make deps").options() end)
  teardown(support.cleanup)
end)

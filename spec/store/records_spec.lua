-- What every implementation of the store holds of records and deliveries. See
-- longshore.store.records.
local postgres = require "spec.support.postgres"
local rows = require "longshore.store.rows"
local stores = require "longshore.store"
local support = require "spec.support"

local OWNER = { tenant = "harbour", organization = "acme" }
local T = 1700000000.125

local function merged(row, fields)
  for k, v in pairs(fields or {}) do row[k] = v end
  return row
end

local counter = 0
local function number()
  counter = counter + 1
  return 9007199254740991 - counter
end

-- Text that was not there before.
local function fresh(prefix) return ("%s%.0f"):format(prefix, number()) end

local function record_row(fields)
  return merged({ id = number(), tenant = "harbour", organization = "acme", user = "ann", service = "cognite",
    name = "n", fields = "{}", expires_at = T + 100, created_at = T, updated_at = T }, fields)
end

local function cleanup_row(fields)
  return merged({ id = fresh "cln_", provider = "default", key = "k", kind = "staging", due = T + 1e6,
    attempts = 0, created_at = T }, fields)
end

local function delivery_row(record, fields)
  return merged({ id = fresh "dlv_", record_id = record.id, tenant = record.tenant,
    organization = record.organization, user = "ann", kind = "put", provider = "default", key = "k/staging",
    content_key = "k", state = "open", deadline = T + 100, lease = 0, look_at = T + 60, cleanup_id = "none",
    created_at = T, updated_at = T }, fields)
end

local function contract(open)
  local store, second
  setup(function() store, second = open() end)
  teardown(function()
    store:close()
    second:close()
  end)

  local function create(fields, delivery_fields, limits)
    local record = record_row(fields)
    local cleanup = cleanup_row()
    local delivery = delivery_row(record, merged({ cleanup_id = cleanup.id }, delivery_fields))
    local ok, err = store:create_record(record, delivery, cleanup, limits or {})
    if not ok then return nil, err end
    return record, delivery, cleanup
  end

  local function find(reference, owner) return assert(store:find_records(owner or OWNER, { reference }))[1] end

  local function cleanups()
    local all = {}
    for _, row in ipairs(assert(store:due_cleanups(T + 1e9, 1e6))) do all[row.id] = row end
    return all
  end

  local function bind(delivery, fields, more)
    local content = merged({ provider = "default", key = fresh "new", etag = "e", size = 5368709120,
      crc32c = 4294967295 }, fields)
    return store:bind_delivery(delivery, merged({ now = T + 1, state = "used", content = content, content_at = T,
      drop = "nothing", new_cleanup = function(f) return cleanup_row(merged({ kind = "delete" }, f)) end }, more))
  end

  it("keeps ids to 2^53-1 and finds records by id and by external id, many at once", function()
    local references, ids = {}, {}
    for i = 1, 120 do
      local record = assert(create { external_id = "many" .. i, unique_name = fresh "many" })
      references[i] = i % 2 == 0 and { id = record.id } or { external_id = "many" .. i }
      ids[record.id] = true
    end
    references[121] = { id = 1 }
    references[122] = {}
    local found = assert(second:find_records(OWNER, references))
    assert.equal(120, #found)
    for _, row in ipairs(found) do assert.is_true(ids[row.id]) end
    assert.same({}, store:find_records({ tenant = "harbour", organization = "other" }, references))
    assert.same({}, store:find_records({ tenant = "other", organization = "acme" }, references))
    assert.same({}, store:find_records(OWNER, {}))
  end)

  it("makes record, delivery and cleanup at once, or none", function()
    local name = fresh "u"
    local record, delivery, cleanup = create { unique_name = name }
    assert.is_truthy(cleanups()[cleanup.id])
    assert.equal("open", store:delivery(delivery.id).state)
    local _, err = create { unique_name = name }
    assert.same({ "conflict", "external_id" }, { err.code, err.reason })
    _, err = create { id = record.id }
    assert.same({ "conflict", "id" }, { err.code, err.reason })
    local before = 0
    for _ in pairs(cleanups()) do before = before + 1 end
    local lone = record_row { organization = "limited" }
    _, err = store:create_record(lone, delivery_row(lone), cleanup_row(),
      { room = { owner = lone, max_running = 0, running = 1 } })
    assert.equal("quota", err.code)
    assert.is_nil(find({ id = lone.id }, lone))
    local after = 0
    for _ in pairs(cleanups()) do after = after + 1 end
    assert.equal(before, after)
  end)

  it("adds deliveries while the record is there, and its life grows", function()
    local record = create()
    local c = cleanup_row()
    local more = delivery_row(record, { cleanup_id = c.id, kind = "multipart", state = "starting" })
    assert.is_true(store:add_delivery(more, c, {}, T + 500, function(row)
      assert.equal(record.id, row.id)
      return { name = "changed" }
    end))
    assert.same({ "changed", T + 500 }, { find({ id = record.id }).name, find({ id = record.id }).expires_at })
    local _, err = store:add_delivery(delivery_row(record), cleanup_row(), { of_record = 2 }, T)
    assert.equal("quota", err.code)
    assert.is_false(store:add_delivery(delivery_row { id = 77, tenant = "t", organization = "o" }, cleanup_row(), {},
      T))
    assert.is_true(store:start_delivery(more.id, { provider_upload_id = "mpu", now = T }))
    assert.is_false(store:start_delivery(more.id, { provider_upload_id = "other", now = T }))
    assert.equal("mpu", cleanups()[c.id].provider_upload_id)
    assert.equal(1, #store:open_deliveries { record.id }) -- parts are completed, not looked for
  end)

  it("extends an open delivery with its cleanup and its record", function()
    local record, delivery, cleanup = create()
    assert.is_true(store:extend_delivery(delivery, { deadline = T + 900, due = T + 2e6, now = T }))
    assert.equal(T + 900, store:delivery(delivery.id).deadline)
    assert.equal(T + 2e6, cleanups()[cleanup.id].due)
    assert.equal(T + 900, find({ id = record.id }).expires_at)
    assert.is_true(store:end_delivery(delivery.id, T))
    assert.is_false(store:extend_delivery(delivery, { deadline = T, due = T, now = T }))
    assert.is_false(store:end_delivery(delivery.id, T))
  end)

  it("binds content once for the same bytes, newest by the store's clock, and makes the old one's cleanup", function()
    local record, delivery = create()
    local drop = cleanup_row()
    assert(store:add_cleanup(drop))
    local ok, swapped = bind(delivery, { key = "one" }, { etag = "a", seen_at = T, drop = drop.id })
    assert.is_true(ok and swapped)
    assert.is_nil(cleanups()[drop.id])
    local row = find { id = record.id }
    assert.same({ "one", 5368709120, 4294967295, T + 1 }, { row.key, row.size, row.crc32c, row.uploaded_at })
    assert.is_false((bind(delivery, nil, { etag = "a", seen_at = T })))
    ok, swapped = bind(delivery, { key = "two" }, { etag = "b", seen_at = T + 1,
      content_at = T + 1 })
    assert.is_true(ok and swapped)
    local old = 0
    for _, c in pairs(cleanups()) do if c.key == "one" and c.kind == "delete" then old = old + 1 end end
    assert.equal(1, old)
    ok, swapped = bind(delivery, { key = "late" }, { etag = "c", seen_at = T - 5, content_at = T - 5 })
    assert.is_true(ok)
    assert.is_false(swapped)
    assert.equal("two", find({ id = record.id }).key)
    assert.is_true(store:end_delivery(delivery.id, T))
    assert.is_false((bind(delivery, nil, { etag = "d", seen_at = T + 9 })))
    assert.is_false((bind(delivery_row { id = 78, tenant = "t", organization = "o" })))
  end)

  it("lets one complete at a time, by the lease", function()
    local _, delivery = create(nil, { kind = "multipart" })
    assert.is_true(store:begin_delivery(delivery, { lease = T + 60, now = T }))
    assert.is_false(second:begin_delivery(delivery, { lease = T + 61, now = T }))
    local row = store:delivery(delivery.id)
    assert.same({ "completing", T + 60 }, { row.state, row.lease })
    assert.is_true(store:begin_delivery(row, { lease = T + 90, now = T }))
    assert.is_false(second:begin_delivery(row, { lease = T + 91, now = T }))
    assert.is_true(store:step_back_delivery(delivery.id, T))
    assert.is_false(store:step_back_delivery(delivery.id, T))
  end)

  it("lists what is to be looked at, and what has expired", function()
    local record, delivery = create({ expires_at = T - 50 }, { look_at = T - 1e6 })
    local due = assert(store:due_deliveries(T - 1e5, 10))
    assert.same({ delivery.id }, { due[1].id, due[2] and due[2].id })
    assert(store:look_again(delivery.id, T + 5))
    assert.equal(0, #store:due_deliveries(T - 1e5, 10))
    assert.equal(record.id, store:expired_records(T - 40, 10)[1].id)
    assert.is_false(store:expire_record(record.id, T - 60))
    assert.is_true(store:begin_delivery(delivery, { lease = T, now = T }))
    assert.is_false(store:expire_record(record.id, T)) -- just being completed
    assert.is_true(store:end_delivery(delivery.id, T))
    assert.is_true(store:expire_record(record.id, T))
    assert.equal("not_found", select(2, store:delivery(delivery.id)).code)
    local kept, arrived = create { expires_at = T - 50 }
    bind(arrived)
    assert.is_false(store:expire_record(kept.id, T))
    assert.is_false(store:drop_record(kept.id))
    local dropped = create()
    assert.is_true(store:drop_record(dropped.id))
    assert.is_false(store:drop_record(dropped.id))
  end)

  it("changes many records or none", function()
    local one, two = create { unique_name = fresh "c", external_id = "c1" }, create()
    local function set(fields) return function() return fields end end
    local _, err = store:change_records(OWNER, { { reference = { id = one.id }, change = set { name = "x" } },
      { reference = { id = 5 }, change = set { name = "x" } } }, T + 9)
    assert.same({ { id = 5 } }, err.missing)
    assert.equal("n", find({ id = one.id }).name)
    _, err = store:change_records(OWNER, { { reference = { id = one.id }, change = set { name = "x" } },
      { reference = { id = two.id }, change = set { external_id = "c1", unique_name = one.unique_name } } }, T + 9)
    assert.same({ "conflict", "external_id", "c1" }, { err.code, err.reason, err.external_id })
    assert.equal("n", find({ id = one.id }).name)
    local changed = assert(store:change_records(OWNER, {
      { reference = { external_id = "c1" }, change = set { external_id = rows.null, unique_name = rows.null } },
      { reference = { id = two.id }, change = function(row) return { name = row.name .. "!" } end } }, T + 9))
    assert.is_nil(changed[1].external_id)
    assert.same({ "n!", T + 9 }, { changed[2].name, changed[2].updated_at })
    _, err = store:change_records({ tenant = "harbour", organization = "other" },
      { { reference = { id = one.id }, change = set {} } }, T)
    assert.equal("not_found", err.code)
  end)

  it("deletes many records or none, with cleanups for all they have", function()
    local one, delivery = create(nil, { key = "staged" })
    bind(delivery, { key = ("content%.0f"):format(one.id) })
    local made = {}
    local function new_cleanup(fields)
      made[#made + 1] = merged(cleanup_row { kind = "delete" }, fields)
      return made[#made]
    end
    local _, err = store:delete_records(OWNER, { one.id, 5 }, new_cleanup)
    assert.same({ { id = 5 } }, err.missing)
    assert.is_truthy(find { id = one.id })
    _, err = store:delete_records({ tenant = "harbour", organization = "other" }, { one.id }, new_cleanup)
    assert.same({ { id = one.id } }, err.missing)
    made = {}
    assert.equal(1, #assert(store:delete_records(OWNER, { one.id }, new_cleanup)))
    assert.is_nil(find { id = one.id })
    assert.same({ "staged", "staging", ("content%.0f"):format(one.id), "delete" },
      { made[1].key, made[1].kind, made[2].key, made[2].kind })
  end)

  it("lists in pages, oldest first", function()
    local owner, ids = { tenant = "pages", organization = "acme" }, {}
    for i = 1, 5 do
      ids[i] = assert(create { tenant = "pages", created_at = T + math.floor(i / 2) }).id
    end
    local seen, after = {}, nil
    repeat
      local page = assert(store:list_records { tenant = owner.tenant, organization = owner.organization, after = after,
        limit = 2 })
      for _, row in ipairs(page) do
        seen[#seen + 1] = row.id
        after = row
      end
    until #page < 2
    table.sort(ids)
    local sorted = { (table.unpack or unpack)(seen) } -- luacheck: ignore
    table.sort(sorted)
    assert.same(ids, sorted)
  end)

  it("knows which objects are content, or will be removed", function()
    assert(create({ provider = "default", key = "dlv_a/held" }))
    assert(store:add_cleanup(cleanup_row { key = "dlv_a/waits" }))
    assert.is_true(second:is_content("default", "dlv_a/held"))
    assert.is_true(second:is_content("default", "dlv_a/waits"))
    assert.is_false(second:is_content("other", "dlv_a/held"))
    assert.is_false(second:is_content("default", "dlv_a/nobody's"))
  end)

  it("purges deliveries that are over", function()
    local _, delivery = create()
    assert.is_true(store:end_delivery(delivery.id, T - 2e6))
    assert.is_true(store:purge_deliveries(T - 1e6, 10) >= 1)
    assert.equal("not_found", select(2, store:delivery(delivery.id)).code)
  end)
end

describe("records in the SQLite store", function()
  contract(function()
    local options = { type = "sqlite", path = support.tmpdir() .. "/longshore.db", synchronous = "OFF" }
    return assert(stores.open(options)), assert(stores.open(options))
  end)
  teardown(support.cleanup)
end)

describe("records in the PostgreSQL store", function()
  contract(function()
    local server = assert(postgres.start(), "PostgreSQL is missing: make deps")
    local options = server.options()
    return assert(stores.open(options)), assert(stores.open(options))
  end)
  teardown(support.cleanup)
end)

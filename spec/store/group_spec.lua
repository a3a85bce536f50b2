-- Changes of several requests in one transaction: each of them as if it had been alone. See longshore.store.dbi.
local errors = require "longshore.errors"
local postgres = require "spec.support.postgres"
local stores = require "longshore.store"
local support = require "spec.support"

local T = 1700000000.125
local counter = 0

local function id(prefix)
  counter = counter + 1
  return ("%s%026d"):format(prefix, counter)
end

local function rows(fields)
  local upload = {
    id = id "upl_", file_id = id "fil_", tenant = "default", organization = "acme", user = "ann", service = "newton",
    provider = "default", key = "newton/acme/x", filename = "a.bin", content_type = "video/mp4", size = 10,
    part_size = 4, part_count = 3, integrity = "crc32c", signs_length = true, requires_tokens = true,
    if_exists = "refuse", state = "starting", deadline = T + 100, lease = 0, created_at = T, updated_at = T,
  }
  for k, v in pairs(fields or {}) do upload[k] = v end
  upload.max_running = nil
  return upload, { id = upload.file_id, tenant = upload.tenant, organization = upload.organization,
    user = upload.user, service = upload.service, filename = upload.filename, content_type = upload.content_type,
    size = upload.size, state = "uploading", created_at = T, updated_at = T }
end

local function group_contract(open)
  local store, second
  setup(function() store, second = open() end)
  teardown(function()
    store:close()
    second:close()
  end)

  -- Starts of uploads, and what became of each, as `{state or nil, error's code}`.
  local function group(list)
    local functions = {}
    for i, one in ipairs(list) do
      functions[i] = type(one) == "function" and one or function()
        local upload, file = rows(one)
        list[i] = upload
        return store:create_upload(upload, file, one.max_running)
      end
    end
    return store.db:group(functions)
  end

  it("keeps them all, seen by others at once and not before", function()
    local before
    local list = { {}, {}, function()
      before = #second:find_uploads { tenant = "default", organization = "acme", service = "newton",
        filename = "a.bin", states = { "starting" } }
      return before
    end }
    local results = group(list)
    assert.same({ { true, true }, { true, true }, { true, 0 } }, results)
    for i = 1, 2 do
      assert.equal("starting", second:upload(list[i].id).state)
      assert.equal("uploading", second:file(list[i].file_id).state)
    end
  end)

  it("takes back what fails or raises, and nothing else of it", function()
    local half, file = rows()
    assert(store:create_upload(half, file))
    local list = { {}, function()
      assert(store.db:transaction(function()
        return store.db:exec("INSERT INTO parts (upload_id, number, token) VALUES (?, ?i, ?)", half.id, 1, "t")
      end))
      return errors.fail("quota", "no")
    end, {}, function()
      assert(store.db:exec("INSERT INTO parts (upload_id, number, token) VALUES (?, ?i, ?)", half.id, 2, "t"))
      error("a bug", 0)
    end, function()
      -- What the database itself refuses.
      return store.db:exec("INSERT INTO no_such_table VALUES (1)")
    end, {} }
    local results = group(list)
    for _, i in ipairs { 1, 3, 6 } do
      assert.same({ true, true }, results[i])
      assert.equal("starting", second:upload(list[i].id).state)
    end
    assert.equal("quota", results[2][3].code)
    assert.same({ false, "a bug" }, results[4])
    assert.is_nil(results[5][2])
    assert.equal("database", results[5][3].code)
    assert.same({}, second:parts(half.id))
  end)

  it("runs those that succeed once, and after a failure all of them for some time", function()
    local runs = 0
    local function count()
      runs = runs + 1
      return true
    end
    store.db.careful = nil
    group { count, count }
    assert.equal(2, runs)
    group { count, function() return errors.fail("quota", "no") end }
    assert.equal(4, runs)
    for _ = 1, 8 do group { count, function() return errors.fail("quota", "no") end } end
    assert.equal(12, runs)
  end)

  it("counts those of the same moment", function()
    local results = group { { organization = "few", max_running = 2 }, { organization = "few", max_running = 2 },
      { organization = "few", max_running = 2 }, { organization = "many", max_running = 2 } }
    assert.same({ true, true, nil, true }, { results[1][2], results[2][2], results[3][2], results[4][2] })
    assert.equal("quota", results[3][3].code)
  end)

  it("compares and sets each", function()
    local list = { {}, {} }
    group(list)
    local function begin(i, at)
      return function() return store:start_upload(list[i].id, at, T) end
    end
    local results = store.db:group { begin(1, "first"), begin(2, "x"), begin(1, "second") }
    assert.same({ { true, true }, { true, true }, { true, false } }, results)
    assert.equal("first", second:upload(list[1].id).provider_upload_id)
  end)

  it("tells of changes when they are done", function()
    local told, seen = {}, {}
    store:on_change(function(row_id)
      told[#told + 1] = row_id
      seen[#seen + 1] = second:upload(row_id).deadline
    end)
    local list = { {}, {} }
    group(list)
    for _, row in ipairs(list) do assert.is_true(store:start_upload(row.id, "a", T)) end
    store.db:group {
      function() return store:extend_upload(list[1].id, T + 7000, T) end,
      function() return store:extend_upload(list[2].id, T + 8000, T) end,
    }
    store:on_change(nil)
    assert.same({ list[1].id, list[2].id }, told)
    assert.same({ T + 7000, T + 8000 }, seen)
  end)

  it("fails as a whole where the database does, and works afterwards", function()
    local prepare, list = store.db.handle, { {}, {}, {} }
    local handle = setmetatable({}, { __index = function(_, name)
      return function(_, ...)
        if name == "prepare" and (...):find("^COMMIT") then return nil, "the disk is gone" end
        return prepare[name](prepare, ...)
      end
    end })
    store.db.handle, store.db.statements = handle, {}
    local results = group(list)
    store.db.handle, store.db.statements = prepare, {}
    for i, result in ipairs(results) do
      assert.is_nil(result[2])
      assert.equal("database", result[3].code)
      assert.equal("not_found", select(2, second:upload(list[i].id)).code)
    end
    assert.same({ true, true }, group({ {}, {} })[1])
    assert.is_true(store.db:transaction(function() return true end))
  end)

  it("leaves nothing behind where it breaks: later changes have transactions of their own", function()
    local handle = store.db.handle
    store.db.handle = setmetatable({}, { __index = function(_, name)
      return function(_, text, ...)
        if name == "prepare" and text:find("SAVEPOINT", 1, true) then error("the driver is broken") end
        return handle[name](handle, text, ...)
      end
    end })
    store.db.statements = {}
    local results = group { {}, {}, function() return errors.fail("quota", "no") end }
    store.db.handle, store.db.statements = handle, {}
    for i = 1, 3 do
      assert.is_nil(results[i][2])
      assert.equal("database", results[i][3].code)
    end
    local upload, file = rows()
    assert(store:create_upload(upload, file))
    -- The file's row comes first, the upload's is there already: neither stays.
    local other
    other, file = rows()
    assert.is_nil((store:create_upload(upload, file)))
    assert.equal("not_found", select(2, store:file(other.file_id)).code)
  end)

  it("is tried again as a whole when the database wants that", function()
    local times, attempts = 0, store.db.dialect.attempts
    store.db.dialect.attempts = 3
    local list = { {}, function()
      times = times + 1
      if times < 3 then return errors.fail("busy", "a clash") end
      return "third"
    end }
    local results = group(list)
    store.db.dialect.attempts = attempts
    assert.same({ true, true }, results[1])
    assert.same({ true, "third" }, results[2])
    assert.truthy(second:upload(list[1].id))
  end)
end

describe("a group of changes on SQLite", function()
  teardown(support.cleanup)
  group_contract(function()
    local path = support.tmpdir() .. "/group.db"
    return assert(stores.open { path = path }), assert(stores.open { path = path })
  end)

  it("is there whole or not at all after kill -9", function()
    local folder = support.tmpdir()
    local path = folder .. "/killed.db"
    local writer = support.write_file(folder .. "/writer.lua", ([[
      local store = assert(require("longshore.store").open { path = %q })
      for i = 1, 1e9 do
        local functions = {}
        for n = 1, 4 do
          local id, file = ("upl_%%024d%%02d"):format(i, n), ("fil_%%024d%%02d"):format(i, n)
          functions[n] = function()
            return store:create_upload({ id = id, file_id = file, tenant = "t", organization = "o", user = "u",
              service = "newton", provider = "default", key = "k", filename = "f", integrity = "none",
              signs_length = true, requires_tokens = true, if_exists = "keep", state = "uploading", deadline = 100,
              lease = 0, created_at = 1, updated_at = 1 },
              { id = file, tenant = "t", organization = "o", user = "u", service = "newton", filename = "f",
              state = "uploading", created_at = 1, updated_at = 1 })
          end
        end
        functions[5] = function() return nil, "refused" end
        for n, result in ipairs(store.db:group(functions)) do assert(n == 5 or result[2]) end
        io.write(i, "\n")
        io.flush()
      end]]):format(path))
    for round = 1, 3 do
      local process = support.spawn(support.lua, { args = { writer }, stdout = folder .. "/out" .. round })
      assert(support.wait_until(function()
        return #(support.read_file(folder .. "/out" .. round) or "") > 100 * round
      end, 60, 0.001))
      process:kill("sigkill")
      process:wait(60)
      local answered = tonumber(support.read_file(folder .. "/out" .. round):match("(%d+)\n[^\n]*$"))
      local store = assert(stores.open { path = path })
      assert.equal("ok", assert(store.db:query("PRAGMA integrity_check"))[1][1])
      local found = store:stale_uploads { state = "uploading", by = "deadline", before = 1000, limit = 1000000 }
      assert.equal(0, #found % 4)
      assert.is_true(#found >= answered * 4)
      for _, row in ipairs(found) do assert.truthy(store:file(row.file_id)) end
      assert(store.db:exec("DELETE FROM uploads"))
      assert(store.db:exec("DELETE FROM files"))
      store:close()
    end
  end)
end)

describe("a group of changes on PostgreSQL", function()
  group_contract(function()
    local server = assert(postgres.start(), "PostgreSQL is missing: make deps")
    local options = server.options()
    return assert(stores.open(options)), assert(stores.open(options))
  end)
  teardown(support.cleanup)
end)

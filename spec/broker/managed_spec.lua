-- Managed files: the process dies before or after every call to the store and to the
-- provider, or another one is quicker there. Afterwards the client repeats what it did, or the
-- janitor alone comes by; either way no byte is lost, no row lies, and nothing is left over.
local areas = require "longshore.config.areas"
local catalogs = require "longshore.broker.catalogs"
local core = require "longshore.core"
local crash = require "spec.support.crash"
local postgres = require "spec.support.postgres"
local stores = require "longshore.store"
local support = require "spec.support"
local worlds = require "spec.support.broker"

local ANN = worlds.actor()
local CATALOG = areas.catalog_id "default"
local BODY, KEY = "0123456789", "dir/a.txt"
local SETTLED = { available = true, soft_deleted = true, purged = true, abandoned = true }

describe("managed files after a death", function()
  local path, number = nil, 0
  setup(function() path = support.tmpdir() end)
  teardown(support.cleanup)

  local function manage(w, broker)
    broker:manage { catalogs = w.catalogs, trash_seconds = 1e9 }
    return broker
  end

  local function new_world()
    number = number + 1
    local w = worlds.new { path = ("%s/%d.db"):format(path, number), policy = { upload_seconds = 3600 } }
    w.catalogs = catalogs.new { store = w.store, clock = w.clock, builtin = { default = { id = CATALOG,
      profile = "fake", bucket = "fake", prefix = "m/", created_at = 0, provider = w.provider:below "m/" } } }
    manage(w, w.broker)
    return w
  end

  local function request(broker, key)
    local list, err = broker:upload_urls(ANN, { { catalog = CATALOG, key = key or KEY, size = #BODY } })
    return list and list[1], err
  end

  -- A file with content, whose URLs have ended.
  local function stored(w, key)
    local entry = assert(request(w.broker, key))
    assert.equal(200, (w.provider:client_put(entry.upload.url, BODY)))
    assert.equal("available", w.broker:managed_file(ANN, entry.file.id).status)
    w.clock.advance(7300)
    assert.equal(0, w.broker:janitor().errors)
    return entry.file.id
  end

  -- What is there, and that it agrees: rows by status.
  local function settle(w, where)
    for _ = 1, 3 do
      w.clock.advance(7300)
      w:sweep()
    end
    local counts, expected = {}, 0
    for _, line in ipairs(assert(w.store.db:query "SELECT id FROM managed_files")) do
      local row = assert(w.store:managed_file(line[1]))
      assert.is_true(SETTLED[row.status] or false, ("%s: a file stays %s"):format(where, row.status))
      counts[row.status] = (counts[row.status] or 0) + 1
      local place = row.status == "available" and row.key or row.status == "soft_deleted" and row.trash_key
      if place then
        local object = assert(w.provider.objects["m/" .. place], where .. ": a row without its object")
        assert.equal(BODY, object.body, where)
        assert.equal(object.etag, row.etag, where)
        expected = expected + 1
      end
      if row.status == "available" then
        assert.equal(row.id, w.store:claimant(row.provider .. "/" .. row.key), where)
      end
    end
    local objects, uploads = w.provider:left()
    assert.equal(expected, objects, where .. ": objects of nobody")
    assert.equal(0, uploads, where .. ": uploads left")
    assert.same({}, w.store:count_cleanups(), where)
    return counts
  end

  it("live the same life on PostgreSQL", function()
    local server = postgres.start()
    if not server then return pending("PostgreSQL is not installed") end
    local w = worlds.new { store = assert(stores.open(server.options())), policy = { upload_seconds = 3600 } }
    w.catalogs = catalogs.new { store = w.store, clock = w.clock, builtin = { default = { id = CATALOG,
      profile = "fake", bucket = "fake", prefix = "m/", created_at = 0, provider = w.provider:below "m/" } } }
    manage(w, w.broker)
    local broker, id = w.broker, stored(w)
    assert.equal("state", select(2, broker:restore_managed(ANN, id)).code)
    assert(broker:confirm_managed(ANN, id, { size = #BODY, sha256 = core.hex(core.sha256(BODY)) }))
    assert.equal("new/b", assert(broker:move_managed(ANN, { id }, { key = "new/b" }))[1].key)
    assert.equal("public", assert(broker:show_managed(ANN, { id }, "public"))[1].visibility)
    assert.is_false(assert(broker:managed_url(ANN, id, "read")).hit)
    assert.is_true(assert(broker:managed_url(ANN, id, "read")).hit)
    assert.equal(1, #assert(broker:managed_files(ANN, { catalog = CATALOG, prefix = "new/", text = "a.txt" })))
    local upload = assert(broker:create_managed_upload(ANN, id, {}))
    local grant = assert(broker:sign_managed_part(ANN, id, upload.id, 1))
    local _, etag = w.provider:client_put(grant.url, BODY)
    assert(broker:complete_managed_upload(ANN, id, upload.id, { { number = 1, token = etag } }))
    assert(broker:ingest_managed(ANN, id, { text = BODY, length = #BODY, content_type = "text/plain" }))
    local others, err = broker:upload_urls(worlds.actor { user = "bob" }, { { catalog = CATALOG, key = "new/c" },
      { catalog = CATALOG, key = "new/b" } })
    assert.is_nil(others)
    assert.equal("forbidden", err.code)
    assert.equal(1, select(2, broker:managed_files(ANN, {})))
    assert(broker:delete_managed(ANN, { id }))
    assert(broker:restore_managed(ANN, id))
    assert(broker:delete_managed(ANN, { id }))
    assert.same({ soft_deleted = 1 }, settle(w, "postgres"))
    assert(broker:purge_managed(ANN, id))
    assert.same({ purged = 1 }, settle(w, "postgres"))
  end)

  it("of a key that another one asks for at that moment is its owner's other request's, or not for others", function()
    for user, others in pairs { ann = false, bob = true } do
      crash.every(function(at)
        local w, first = new_world(), nil
        local broker = manage(w, crash.arm(w, at, function() first = request(w.broker) end))
        local list, err = broker:upload_urls(worlds.actor { user = user }, { { catalog = CATALOG, key = KEY,
          size = #BODY } })
        crash.disarm(w)
        local where = ("%s, %s"):format(user, tostring(w.died))
        if not first then -- too late, or the count of places
          assert.is_truthy(list, where)
        elseif others then
          assert.equal("forbidden", err and err.code, ("%s: %s"):format(where, tostring(err)))
        else
          assert.equal(first.file.id, list and list[1].file.id, ("%s: %s"):format(where, tostring(err)))
        end
        return w
      end)
    end
  end)

  -- Dies everywhere in `act(w, broker, prepared)`; then either `repeat_` succeeds or the janitor
  -- cleans up, and `check(counts, where, w)` holds.
  local function everywhere(scenario)
    for _, repeats in ipairs { true, false } do
      local places = crash.every(function(die_at)
        local w = new_world()
        local prepared = scenario.prepare and scenario.prepare(w)
        local broker = manage(w, crash.arm(w, die_at))
        crash.dies(function() scenario.act(w, broker, prepared) end)
        crash.disarm(w)
        local where = ("%s%s"):format(tostring(w.died), repeats and "" or ", only the janitor")
        if repeats then
          local ok, err = scenario.act(w, w.broker, prepared)
          if not ok and scenario.done_already then ok = scenario.done_already(err) end
          assert(ok, where .. ": " .. tostring(err))
        end
        local counts = settle(w, where)
        if repeats then assert.same(scenario.result, counts, where) end
        w.store:close()
        return w
      end)
      assert.is_true(places >= scenario.places, tostring(places))
    end
  end

  local function is(code)
    return function(err) return err.code == code end
  end

  it("in upload-url: one row, one URL, or nothing", function()
    everywhere { places = 8, result = { available = 1 }, act = function(w, broker)
      local entry, err = request(broker)
      if not entry then return nil, err end
      assert.equal(200, (w.provider:client_put(entry.upload.url, BODY)))
      return broker:managed_file(ANN, entry.file.id)
    end }
  end)

  it("in delete: the file is in the trash, whole", function()
    everywhere { places = 12, prepare = stored, result = { soft_deleted = 1 }, done_already = is "not_found",
      act = function(_, broker, id) return broker:delete_managed(ANN, { id }) end }
  end)

  it("in restore: the file is back, whole", function()
    everywhere { places = 12, result = { available = 1 }, done_already = is "state",
      prepare = function(w)
        local id = stored(w)
        assert(w.broker:delete_managed(ANN, { id }))
        return id
      end,
      act = function(_, broker, id) return broker:restore_managed(ANN, id) end }
  end)

  it("in a move: the file is at one key, whole", function()
    everywhere { places = 14, prepare = stored, result = { available = 1 },
      act = function(_, broker, id) return broker:move_managed(ANN, { id }, { key = "elsewhere/b.txt" }) end }
  end)

  it("in purge: nothing is left", function()
    everywhere { places = 14, prepare = stored, result = { purged = 1 }, done_already = is "not_found",
      act = function(_, broker, id) return broker:purge_managed(ANN, id) end }
  end)

  it("in a tunnel: the row knows what is there", function()
    local source = { text = BODY, length = #BODY, content_type = "text/plain" }
    everywhere { places = 8, result = { available = 1 },
      prepare = function(w)
        local id = stored(w)
        w.provider.objects["m/" .. KEY].body = BODY
        return id
      end,
      act = function(_, broker, id) return broker:ingest_managed(ANN, id, source) end }
  end)

  it("anywhere in a multipart upload: the new content, or the old", function()
    everywhere { places = 30, prepare = stored, result = { available = 1 },
      act = function(w, broker, id)
        local upload, err = broker:create_managed_upload(ANN, id, {})
        if not upload then return nil, err end
        local parts = {}
        for i, body in ipairs { BODY:sub(1, 5), BODY:sub(6) } do
          local grant
          grant, err = broker:sign_managed_part(ANN, id, upload.id, i)
          if not grant then return nil, err end
          local _, etag = w.provider:client_put(grant.url, body)
          parts[i] = { number = i, token = etag }
        end
        return broker:complete_managed_upload(ANN, id, upload.id, parts)
      end }
  end)

  it("when two do it at once, one does, and the other sees it", function()
    local acts = {
      { prepare = stored, act = function(broker, id) return broker:delete_managed(ANN, { id }) end,
        counts = { soft_deleted = 1 } },
      { prepare = stored, act = function(broker, id) return broker:move_managed(ANN, { id }, { key = "b" }) end,
        counts = { available = 1 } },
      { prepare = function(w)
          local id = stored(w)
          assert(w.broker:delete_managed(ANN, { id }))
          return id
        end, act = function(broker, id) return broker:restore_managed(ANN, id) end, counts = { available = 1 } },
    }
    for _, case in ipairs(acts) do
      crash.every(function(at)
        local w = new_world()
        local id = case.prepare(w)
        local armed = manage(w, crash.arm(w, at, function() case.act(w.broker, id) end))
        local ok, err = case.act(armed, id)
        crash.disarm(w)
        assert(ok or err.code == "conflict" or err.code == "not_found" or err.code == "state",
          tostring(w.died) .. ": " .. tostring(err))
        assert.same(case.counts, settle(w, "another at " .. tostring(w.died)))
        w.store:close()
        return w
      end)
    end
  end)

  it("delete and restore, delete and move at once: the file ends whole, in one place", function()
    local others = {
      function(w, id) w.broker:move_managed(ANN, { id }, { key = "b" }) end,
      function(w, id) w.broker:show_managed(ANN, { id }, "public") end,
      function(w) request(w.broker) end,
    }
    for _, other in ipairs(others) do
      crash.every(function(at)
        local w = new_world()
        local id = stored(w)
        local armed = manage(w, crash.arm(w, at, function() other(w, id) end))
        armed:delete_managed(ANN, { id })
        crash.disarm(w)
        local counts = settle(w, "beside another at " .. tostring(w.died))
        assert.equal(1, (counts.soft_deleted or 0) + (counts.available or 0), tostring(w.died))
        w.store:close()
        return w
      end)
    end
  end)
end)

-- Rows that may be used again for some seconds: what takes them out. See longshore.store.recent.
local recent = require "longshore.store.recent"
local stores = require "longshore.store"

local T = 1700000000.125
local OWNER = { tenant = "default", organization = "acme" }

describe("recent rows", function()
  local store, near, cache, wanted, count

  -- A cache as nginx's dictionary is one, without the seconds, which are only noted.
  local function new_cache()
    local self = { values = {}, seconds = {} }
    function self.get(key) return self.values[key] end
    function self.set(key, text, seconds) self.values[key], self.seconds[key] = text, seconds end
    return self
  end

  before_each(function()
    store = assert(stores.open { type = "sqlite", path = ":memory:" })
    cache, wanted, count = new_cache(), true, 0
    recent.watch(store, { cache = cache, seconds = 7, wanted = function() return wanted end })
    near = recent.only(cache)
  end)
  after_each(function() store:close() end)

  local function id(prefix)
    count = count + 1
    return ("%s%026d"):format(prefix, count)
  end

  -- A running upload that was just read.
  local function running(fields)
    local row = {
      id = id "upl_", file_id = id "fil_", tenant = "default", organization = "acme", user = "ann",
      service = "newton", provider = "default", key = "newton/acme/x", filename = "a.bin", content_type = "video/mp4",
      size = 2 ^ 40 + 1, part_size = 2 ^ 30, part_count = 1025, integrity = "crc32c", signs_length = true,
      requires_tokens = true, if_exists = "refuse", state = "starting", deadline = T + 100, lease = 0, created_at = T,
      updated_at = T,
    }
    for name, value in pairs(fields or {}) do row[name] = value end
    local file = { id = row.file_id, tenant = row.tenant, organization = row.organization, user = row.user,
      service = row.service, filename = row.filename, content_type = row.content_type, size = row.size,
      state = "uploading", created_at = T, updated_at = T }
    assert.is_true(store:create_upload(row, file))
    assert.is_true(store:start_upload(row.id, "provider-id", T))
    return (assert(store:upload(row.id, OWNER)))
  end

  local function cleanup(upload)
    return { id = id "cln_", provider = "default", key = "k", kind = "undo", due = T, attempts = 0, created_at = T,
      upload_id = upload.id }
  end

  local function new_cleanup(fields)
    local row = { id = id "cln_", kind = "delete", due = T, attempts = 0, created_at = T }
    for name, value in pairs(fields) do row[name] = value end
    return row
  end

  local function gone(key, owner)
    local row, err = near:upload(key, owner)
    assert.is_nil(row)
    assert.equal("unavailable", err.code)
  end

  it("are the rows of the database, for so many seconds", function()
    local row = running()
    assert.same(row, near:upload(row.id, OWNER))
    assert.same(row, near:upload(row.id))
    assert.equal(7, cache.seconds["row:" .. row.id])
    assert.equal("number", type(near:upload(row.id).deadline))
  end)

  it("are nobody else's", function()
    local row = running()
    gone(row.id, { tenant = "default", organization = "other" })
    gone(row.id, { tenant = "other", organization = "acme" })
  end)

  it("are not kept where they are not wanted", function()
    wanted = false
    gone(running().id)
  end)

  it("are uploads that accept parts, and no others", function()
    local row = running()
    local other = { id = id "upl_", file_id = id "fil_" }
    for name, value in pairs(row) do other[name] = other[name] or value end
    other.state, other.provider_upload_id = "starting", nil
    assert.is_true(store:create_upload(other, nil))
    assert(store:upload(other.id))
    gone(other.id)
    gone(id "upl_")
  end)

  it("answer nothing but tokens and uploads", function()
    for _, name in ipairs { "parts", "create_upload", "file", "take_rate" } do
      local ok, err = near[name](near, "x")
      assert.is_nil(ok)
      assert.equal("unavailable", err.code)
    end
  end)

  local function complete(row)
    assert.is_true(store:begin_complete(row.id, { now = T, lease = T + 1, parts = {}, file_id = row.file_id }))
  end

  local changes = {
    extend_upload = function(row) return store:extend_upload(row.id, T + 200, T) end,
    checkpoint = function(row) return store:checkpoint(row.id, { { number = 1, token = "x" } }, T) end,
    begin_complete = function(row) return store:begin_complete(row.id, { now = T, lease = T, parts = {},
      file_id = row.file_id }) end,
    finish_complete = function(row) return store:finish_complete(row, { now = T, file = { state = "registered" },
      new_cleanup = new_cleanup }) end,
    fail_upload = function(row) return store:fail_upload(row, { now = T, error = "x", from = { "uploading" },
      cleanup = cleanup(row) }) end,
    begin_undo = function(row) return store:begin_undo(row.id, { from = { "uploading" }, to = "aborting", now = T,
      cleanup = cleanup(row) }) end,
    begin_undo_stale = function(row) return store:begin_undo(row.id, { from = { "uploading" }, to = "expiring", now = T,
      stale = { by = "deadline", before = T + 1000 }, cleanup = cleanup(row) }) end,
  }
  for name, change in pairs(changes) do
    it("are out of date after " .. name, function()
      local row, other = running(), running { filename = "other" }
      assert.is_true(change(row))
      gone(row.id)
      assert.same(other, near:upload(other.id))
      -- Read again, the new row counts.
      local now = assert(store:upload(row.id))
      if now.state == "uploading" then assert.same(now, near:upload(row.id)) else gone(row.id) end
    end)
  end

  it("come back with a row that was taken up again", function()
    local row = running()
    complete(row)
    gone(row.id)
    assert.is_true(store:step_back(row.id, T))
    gone(row.id)
    assert(store:upload(row.id))
    assert.equal("uploading", assert(near:upload(row.id)).state)
  end)

  it("are out of date too when nobody knows whether the change happened", function()
    local row = running()
    local commit = store.db.handle
    store.db.handle = setmetatable({}, { __index = function(_, name)
      if name == "prepare" then return function() return nil, "the disk is gone" end end
      return function(_, ...) return commit[name](commit, ...) end
    end })
    store.db.statements = {}
    assert.is_nil((store:extend_upload(row.id, T + 200, T)))
    store.db.handle = commit
    gone(row.id)
  end)

  it("do not come back through a reader who was slower than the change", function()
    local row = running()
    local query = store.db.query
    -- The change comes between this reader's look and what it does with it.
    store.db.query = function(...)
      store.db.query = query
      local answer, err = query(...)
      assert.is_true(changes.begin_undo(row))
      return answer, err
    end
    assert.equal("uploading", assert(store:upload(row.id)).state)
    gone(row.id)
  end)

  it("do not come back when what was known of earlier changes is forgotten", function()
    for before = 0, 2 do
      local row = running { filename = "f" .. before }
      for i = 1, before do
        assert.is_true(store:extend_upload(row.id, T + 200 + i, T))
        assert(store:upload(row.id))
      end
      assert(near:upload(row.id))
      cache.values["changes:" .. row.id] = nil
      assert.is_true(changes.begin_undo(row))
      gone(row.id)
      assert.is_true(cache.seconds["changes:" .. row.id] >= 60)
    end
  end)

  it("are tokens until they are revoked", function()
    local token = { id = "tok_aaaaaaaaaaaaaaaa", user = "ann", organization = "acme", tenant = "default",
      rights = { "read" }, hash = ("0"):rep(64), created_at = T }
    assert.is_true(store:create_token(token))
    assert.is_nil((near:token(token.id)))
    local row = assert(store:token(token.id))
    assert.same(row, near:token(token.id))
    assert.is_true(store:revoke_token(token.id, T))
    assert.is_nil((near:token(token.id)))
    assert(store:token(token.id))
    assert.is_nil((near:token(token.id)))
  end)

  describe("for the stores alone", function()
    local now, asks, queries

    before_each(function()
      now, asks, queries, wanted = T, true, 0, "again"
      store:close()
      store, cache = assert(stores.open { type = "sqlite", path = ":memory:" }), new_cache()
      recent.watch(store, { cache = cache, seconds = 7, clock = { now = function() return now end },
        wanted = function(...)
          if type(wanted) == "function" then return wanted(...) end
          return wanted
        end,
        again = function(what) return asks == true or asks == what end })
      near = recent.only(cache)
      local query = store.db.query
      store.db.query = function(...)
        queries = queries + 1
        return query(...)
      end
    end)

    -- How often the database is asked for this row.
    local function asked(key, owner)
      local before = queries
      local row, err = store:upload(key, owner)
      return queries - before, row, err
    end

    it("are used again, and not by others", function()
      local row = running()
      gone(row.id)
      assert.is_false(recent.has(cache, row.id))
      local count_asked, again = asked(row.id, OWNER)
      assert.equal(0, count_asked)
      assert.same(row, again)
      asks = false
      assert.equal(1, (asked(row.id, OWNER)))
      assert.equal(7, cache.seconds["seen:" .. row.id])
    end)

    it("are those for all as well", function()
      wanted = true
      local row = running()
      assert.is_true(recent.has(cache, row.id))
      assert.equal(0, (asked(row.id, OWNER)))
    end)

    it("are of the kind that who asks takes", function()
      local kinds = {}
      asks = "token"
      local row = running()
      gone(row.id)
      assert.equal(1, (asked(row.id, OWNER)))
      wanted = function(_, what) kinds[#kinds + 1] = what end
      assert(store:upload(row.id, OWNER))
      assert.same({ "upload" }, kinds)
    end)

    it("are nobody else's: the database says so", function()
      local row = running()
      local count_asked, other, err = asked(row.id, { tenant = "default", organization = "other" })
      assert.equal(1, count_asked)
      assert.is_nil(other)
      assert.equal("not_found", err.code)
    end)

    it("are read again after each change", function()
      local row = running()
      assert.is_true(changes.extend_upload(row))
      local count_asked, extended = asked(row.id, OWNER)
      assert.same({ 1, T + 200 }, { count_asked, extended.deadline })
      assert.equal(0, (asked(row.id, OWNER)))
      assert.is_true(changes.begin_undo(row))
      assert.equal("aborting", select(2, asked(row.id, OWNER)).state)
      assert.equal(1, (asked(row.id, OWNER)))
    end)

    it("are read again when their time is over", function()
      local row = running()
      now = row.deadline
      assert.equal(1, (asked(row.id, OWNER)))
    end)

    it("are tokens until they end or are revoked", function()
      local token = { id = "tok_aaaaaaaaaaaaaaaa", user = "ann", organization = "acme", tenant = "default",
        rights = { "read" }, hash = ("0"):rep(64), created_at = T, expires_at = T + 10 }
      assert.is_true(store:create_token(token))
      local row = assert(store:token(token.id))
      local before = queries
      assert.same(row, store:token(token.id))
      assert.equal(before, queries)
      now = T + 10
      assert(store:token(token.id))
      assert.equal(before + 1, queries)
      now = T
      assert.is_true(store:revoke_token(token.id, T))
      assert.equal(T, assert(store:token(token.id)).revoked_at)
    end)
  end)
end)

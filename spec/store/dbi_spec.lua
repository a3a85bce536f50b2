-- The wrapper around lua-dbi and what belongs to one database only.
local support = require "spec.support"
local core = require "longshore.core"
local dbi = require "longshore.store.dbi"
local postgres = require "spec.support.postgres"
local schema = require "longshore.store.schema"
local sqlite = require "longshore.store.sqlite"
local stores = require "longshore.store"

describe("store: the connection to SQLite", function()
  local folder, count = nil, 0
  setup(function() folder = support.tmpdir() end)
  teardown(support.cleanup)

  local function path()
    count = count + 1
    return ("%s/%d.db"):format(folder, count)
  end
  local function open(options)
    options = options or {}
    options.path = options.path or path()
    return assert(dbi.open(sqlite.dialect(options)))
  end

  it("passes integers as integers, in expressions too", function()
    local db = open()
    -- As text "10" + 50 <= "9" would be true somewhere.
    local function truth(sql, ...) return assert(db:query(sql, ...))[1][1] end
    assert.equal("0", truth("SELECT CAST(100 + ?i <= ?i AS TEXT)", 10, 50))
    assert.equal("integer", truth("SELECT typeof(?i)", 5368709120))
    for _, n in ipairs { 0, -1, 2147483647, 2147483648, -2147483649, 5368709120, 9007199254740991,
      -9007199254740991 } do
      assert.equal(("%.0f"):format(n), truth("SELECT CAST(?i AS TEXT)", n))
    end
    db:close()
  end)

  it("takes no number that is not exact, no text that is none, no wrong count", function()
    local db = open()
    for _, bad in ipairs { 1.5, 2 ^ 53, 1 / 0, 0 / 0, "7" } do
      assert.has_error(function() db:query("SELECT ?i", bad) end)
    end
    assert.has_error(function() db:query("SELECT ?", 7) end)
    assert.has_error(function() db:query("SELECT ?") end)
    assert.has_error(function() db:query("SELECT ?", "a", "b") end)
    assert.equal("invalid", select(2, db:query("SELECT ?", "a\0b")).code)
    assert.equal("invalid", select(2, db:query("SELECT ?", "\255")).code)
    assert.same({ {} }, db:query("SELECT ?", nil))
    db:close()
    db:close()
    assert.has_error(function() db:query("SELECT 1") end)
  end)

  it("knows UTF-8", function()
    for _, good in ipairs { "", "abc", "ü", "€", "𝄞", "\239\191\191", "\244\143\191\191", "\194\128" } do
      assert.is_true(dbi.is_text(good))
    end
    for _, bad in ipairs { "\0", "\128", "\192\175", "\193\191", "\224\128\128", "\237\160\128", "\240\128\128\128",
      "\244\144\128\128", "\245\128\128\128", "\226\130", "a\195" } do
      assert.is_false(dbi.is_text(bad))
    end
  end)

  it("says busy when another writes for too long, and works as soon as it is over", function()
    local file = path()
    local one, two = open { path = file }, open { path = file, busy_timeout = 0.05 }
    assert(one:exec("CREATE TABLE t (n INTEGER)"))
    assert(one:exec("BEGIN IMMEDIATE"))
    local insert = function() return two:exec("INSERT INTO t VALUES (?i)", 1) end
    for _ = 1, 2 do
      local ok, err = insert()
      assert.is_nil(ok)
      assert.equal("busy", err.code)
      assert.is_true(err.retryable)
    end
    assert(one:exec("COMMIT"))
    assert.equal(1, insert()) -- the same statement: lua-dbi alone would repeat the old error
    local began = core.monotonic()
    assert(one:exec("BEGIN IMMEDIATE"))
    assert.equal("busy", select(2, two:transaction(function() return true end)).code)
    assert.truthy(core.monotonic() - began < 8) -- not the ten seconds of who is not told
    assert(one:exec("ROLLBACK"))
    assert.is_true(two:transaction(function() return true end))
    one:close()
    two:close()
  end)

  it("works again after a statement failed", function()
    local db = open()
    assert(db:exec("CREATE TABLE t (n INTEGER PRIMARY KEY, s TEXT UNIQUE)"))
    local insert = function(n, s) return db:exec("INSERT INTO t VALUES (?i, ?)", n, s) end
    assert.equal(1, insert(1, "a"))
    local _, err = insert(2, "a")
    assert.equal("conflict", err.code)
    assert.equal("t.s", err.constraint)
    assert.equal(1, insert(2, "b"))
    assert.equal("database", select(2, db:query("SELECT nonsense FROM nowhere")).code)
    db:close()
  end)

  it("rolls back what fails or raises, keeps what it answers", function()
    local db = open()
    assert(db:exec("CREATE TABLE t (n INTEGER)"))
    local function sum() return tonumber(assert(db:query("SELECT CAST(COUNT(*) AS TEXT) FROM t"))[1][1]) end
    local a, b = db:transaction(function()
      assert(db:exec("INSERT INTO t VALUES (1)"))
      return "a", "b"
    end)
    assert.same({ "a", "b", 1 }, { a, b, sum() })
    assert.is_false((db:transaction(function()
      return false
    end)))
    local ok, err = db:transaction(function()
      assert(db:exec("INSERT INTO t VALUES (2)"))
      return nil, "no"
    end)
    assert.same({ "no", 1 }, { err, sum() })
    assert.is_nil(ok)
    local thrown = {}
    ok, err = pcall(db.transaction, db, function()
      assert(db:exec("INSERT INTO t VALUES (3)"))
      error(thrown, 0)
    end)
    assert.is_false(ok)
    assert.equal(thrown, err)
    assert.equal(1, sum())
    assert.has_error(function()
      db:transaction(function() return db:transaction(function() return true end) end)
    end)
    assert.is_true(db:transaction(function() return true end))
    db:close()
  end)

  it("leaves no read open that would hold it to an old state", function()
    local file = path()
    local one, two = open { path = file }, open { path = file }
    assert(one:exec("CREATE TABLE t (n INTEGER)"))
    assert(one:exec("PRAGMA user_version")) -- answers a row that nobody reads
    assert(two:exec("INSERT INTO t VALUES (1)"))
    assert.equal(1, #assert(one:query("SELECT n FROM t")))
    one:close()
    two:close()
  end)

  it("is in WAL mode, waits for locks, checks references, and is as durable as it is told", function()
    local db = open { synchronous = "normal" }
    local function pragma(name) return tostring(assert(db:query("PRAGMA " .. name))[1][1]) end
    assert.equal("wal", pragma "journal_mode")
    assert.equal("10000", pragma "busy_timeout")
    assert.equal("1", pragma "foreign_keys")
    assert.equal("1", pragma "synchronous")
    db:close()
    db = open()
    assert.equal("2", pragma "synchronous")
    db:close()
    assert.has_error(function() sqlite.dialect { path = "x", synchronous = "SOMETIMES" } end)
    assert.has_error(function() sqlite.dialect { path = "" } end)
  end)

  it("has files that only its owner reads, whatever the umask", function()
    local code, said = support.run(("umask 022; FOLDER=%s %s -e '%s'"):format(folder, support.lua,
      [[local dbi, folder = require "longshore.store.dbi", os.getenv "FOLDER"
        local db = assert(dbi.open(require("longshore.store.sqlite").dialect { path = folder .. "/private.db" }))
        assert(db:exec("CREATE TABLE t (a INTEGER)"))
        os.execute("cd $FOLDER && ls -l private*")]]))
    assert.equal(0, code)
    local seen = {}
    for mode, name in (said .. "\n"):gmatch("(%S+)[^\n]- (private%S+)\n") do seen[name] = mode end
    assert.same({ ["private.db"] = "-rw-------", ["private.db-wal"] = "-rw-------",
      ["private.db-shm"] = "-rw-------" }, seen)
  end)

  it("says which file it cannot open", function()
    local store, err = stores.open { path = folder .. "/none/x.db" }
    assert.is_nil(store)
    assert.equal("unavailable", err.code)
    assert.truthy(err.message:find(folder .. "/none/x.db", 1, true))
    assert.truthy(err.message:find("cannot stat " .. folder .. "/none: No such file or directory; make that folder", 1,
      true))
    store, err = stores.open { path = folder }
    assert.is_nil(store)
    assert.truthy(err.message:find("may the user that the broker runs as write there?", 1, true))
    support.write_file(folder .. "/text.db", ("this is no database "):rep(100))
    store, err = stores.open { path = folder .. "/text.db" }
    assert.is_nil(store)
    assert.equal("database", err.code)
    assert.truthy(err.message:find(folder .. "/text.db): ", 1, true), err.message)
  end)

  it("migrates once, remembers it, and refuses a database of the future", function()
    local file = path()
    local store = assert(stores.open { path = file })
    assert.equal(#schema.migrations, store.version)
    assert(store:create_token { id = "tok_1", hash = "h", user = "u", organization = "o", tenant = "t",
      rights = { "read" }, created_at = 1 })
    store:close()
    store = assert(stores.open { path = file })
    assert.truthy(store:token("tok_1"))
    assert(store.db:exec("INSERT INTO longshore_schema (version) VALUES (?i)", #schema.migrations + 1))
    store:close()
    local err
    store, err = stores.open { path = file }
    assert.is_nil(store)
    assert.equal("database", err.code)
    assert.truthy(err.message:find("newer", 1, true))
  end)

  it("leaves the old version when a migration fails half-way", function()
    local file = path()
    stores.open({ path = file }):close()
    schema.migrations[#schema.migrations + 1] = { "CREATE TABLE half (n {integer})", "CREATE TABLE broken (" }
    local store, err = stores.open { path = file }
    schema.migrations[#schema.migrations] = { "CREATE TABLE half (n {integer})", "CREATE TABLE other (n {integer})" }
    assert.is_nil(store)
    assert.equal("database", err.code)
    store, err = stores.open { path = file }
    assert.truthy(store, err)
    assert.equal(#schema.migrations, store.version)
    store:close()
    schema.migrations[#schema.migrations] = nil
  end)

  it("needs none of its statements again when the process ends without closing", function()
    local code, out = support.run(([[%s -e 'local s = assert(require("longshore.store").open { path = "%s" })
      s:tokens() s:upload("x")']]):format(support.lua, path()))
    assert.equal(0, code, out)
    assert.equal("", out)
  end)
end)

-- Processes that all do the same to one database.
local WORKER = [[
  local core = require "longshore.core"
  local store = assert(require("longshore.store").open(SETTINGS))
  while core.now() < START do core.sleep(0.001) end
  local won, late = 0, 0
  for i = 1, ROUNDS do
    local id = ("upl_%026d"):format(i)
    local began, err = store:begin_complete(id, { now = 10, lease = 70, parts = { { number = 1, token = NAME } },
      unique_name = ("name%d"):format(i % 10), file_id = ("fil_%026d"):format(i) })
    if began then won = won + 1
    elseif began == nil and err.reason ~= "name_taken" then error(tostring(err)) end
  end
  for i = 1, 5 do -- a quota that parallel requests cannot overrun
    local id = ("%s-%d"):format(NAME, i)
    local made, err = store:create_upload({ id = id, file_id = id, tenant = "t", organization = "full", user = "u",
      service = "newton", provider = "default", key = "k", filename = "f", integrity = "none", signs_length = true,
      requires_tokens = true, if_exists = "keep", state = "starting", deadline = 100, lease = 0, created_at = 1,
      updated_at = 1 }, nil, 7)
    if not made and err.code ~= "quota" then error(tostring(err)) end
  end
  store:close()
  io.write(won)
]]

local function together(settings, processes, rounds)
  local store = assert(stores.open(settings))
  for i = 1, rounds do
    local row = { id = ("upl_%026d"):format(i), file_id = ("fil_%026d"):format(i), tenant = "t", organization = "o",
      user = "u", service = "newton", provider = "default", key = "k", filename = "f", integrity = "none",
      signs_length = true, requires_tokens = true, if_exists = "refuse", unique_name = "name" .. i % 10,
      state = "uploading", deadline = 100, lease = 0, created_at = 1, updated_at = 1 }
    assert(store:create_upload(row, { id = row.file_id, tenant = "t", organization = "o", user = "u",
      service = "newton", filename = "f", state = "uploading", created_at = 1, updated_at = 1 }))
  end
  local folder = support.tmpdir()
  local literal = require("longshore.json").encode(settings)
  local running = {}
  for i = 1, processes do
    local file = support.write_file(("%s/%d.lua"):format(folder, i),
      ("local SETTINGS, START, ROUNDS, NAME = require('longshore.json').decode(%q), %.3f, %d, 'p%d'\n%s")
      :format(literal, core.now() + 0.3, rounds, i, WORKER))
    running[i] = support.spawn(support.lua, { args = { file }, stdout = folder .. "/out" .. i })
  end
  local won = 0
  for i = 1, processes do
    local code = running[i]:wait(60)
    local said = support.read_file(folder .. "/out" .. i)
    assert.equal(0, code, said)
    won = won + tonumber(said)
  end
  assert.equal(7, store:count_uploads().starting)
  -- Ten names: ten completes began, each by one process, with that one's part.
  assert.equal(10, won)
  assert.equal(10, store:count_uploads().completing)
  for _, row in ipairs(store:stale_uploads { state = "completing", by = "lease", before = 1e9, limit = 100 }) do
    assert.equal(1, #store:parts(row.id))
  end
  store:close()
end

describe("store: processes and PostgreSQL", function()
  local server
  setup(function() server = assert(postgres.start(), "PostgreSQL is missing: make deps") end)
  teardown(support.cleanup)

  describe("many processes at once", function()

    it("agree on SQLite who was first, also when they make the database", function()
      local folder = support.tmpdir()
      local settings = { type = "sqlite", path = folder .. "/s.db" }
      local running = {}
      for i = 1, 4 do
        running[i] = support.spawn(support.lua, { stdout = folder .. "/out", args = { "-e",
          ("require('longshore.store').open({ path = %q }):close()"):format(settings.path) } })
      end
      for i = 1, 4 do assert.equal(0, running[i]:wait(120), support.read_file(folder .. "/out")) end
      together(settings, 4, 100)
    end)

    it("agree on PostgreSQL who was first", function()
      together(server.options(), 4, 100)
    end)

    it("find the database whole after kill -9 while writing", function()
      local folder = support.tmpdir()
      local path = folder .. "/s.db"
      local writer = support.write_file(folder .. "/w.lua", ([[
        local store = assert(require("longshore.store").open { path = %q })
        for i = 1, 1e9 do
          local id, file = ("upl_%%026d"):format(i), ("fil_%%026d"):format(i)
          assert(store:create_upload({ id = id, file_id = file, tenant = "t", organization = "o", user = "u",
            service = "newton", provider = "default", key = "k", filename = "f", integrity = "none",
            signs_length = true, requires_tokens = true, if_exists = "keep", state = "uploading", deadline = 100,
            lease = 0, created_at = 1, updated_at = 1 },
            { id = file, tenant = "t", organization = "o", user = "u", service = "newton", filename = "f",
            state = "uploading", created_at = 1, updated_at = 1 }))
          assert(store:checkpoint(id, { { number = 1, token = "a" }, { number = 2, token = "b" } }, 2))
        end]]):format(path))
      for round = 1, 3 do
        os.remove(path)
        os.remove(path .. "-wal")
        os.remove(path .. "-shm")
        local process = support.spawn(support.lua, { args = { writer }, stdout = folder .. "/out" })
        assert(support.wait_until(function()
          local size = require("lfs").attributes(path .. "-wal", "size")
          return size and size > 300000 + round * 77777
        end, 60, 0.001), support.read_file(folder .. "/out"))
        process:kill("sigkill")
        process:wait(60)
        local store = assert(stores.open { path = path })
        assert.equal("ok", assert(store.db:query("PRAGMA integrity_check"))[1][1])
        local rows = store:stale_uploads { state = "uploading", by = "deadline", before = 1000, limit = 100000 }
        assert.truthy(#rows > 1)
        for i, row in ipairs(rows) do
          assert.truthy(store:file(row.file_id)) -- the two rows of one operation
          local n = #store:parts(row.id)
          assert.truthy(n == 2 or (n == 0 and i == #rows))
        end
        store:close()
      end
    end)
  end)

  describe("the connection to PostgreSQL", function()
    it("is made anew after the server was restarted", function()
      local store = assert(stores.open(server.options()))
      assert.same({}, store:tokens())
      server.stop("fast")
      local rows, err = store:tokens()
      assert.is_nil(rows)
      assert.equal("unavailable", err.code)
      assert.is_true(err.retryable)
      assert.equal("unavailable", select(2, store:tokens()).code)
      server.run()
      assert.same({}, store:tokens())
      store:close()
    end)

    it("loses nothing but the transaction when it breaks inside one", function()
      local store = assert(stores.open(server.options()))
      local token = { id = "tok_1", hash = "h", user = "u", organization = "o", tenant = "t", rights = { "read" },
        created_at = 1 }
      local ok, err = store.db:transaction(function()
        assert(store:create_token(token))
        return store.db:query("SELECT CAST(pg_terminate_backend(pg_backend_pid()) AS TEXT)")
      end)
      assert.is_nil(ok)
      assert.equal("unavailable", err.code)
      assert.same({}, store:tokens())
      assert(store:create_token(token))
      assert.equal("conflict", select(2, store:create_token(token)).code)
      store:close()
    end)

    it("says when there is no such server, without the password", function()
      local store, err = stores.open { type = "postgres", database = "x", user = "u", password = "hidden-secret",
        host = "/nonexistent" }
      assert.is_nil(store)
      assert.equal("unavailable", err.code)
      assert.is_nil(tostring(err):find("hidden-secret", 1, true))
    end)
  end)
end)

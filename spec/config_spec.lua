local config = require "longshore.config"
local core = require "longshore.core"
local support = require "spec.support"

local function refused(given)
  local loaded, err = config.check(given, "/tmp")
  assert.is_nil(loaded)
  assert.equal("invalid", err.code)
  return err
end

describe("the configuration", function()
  local dir

  setup(function() dir = support.tmpdir() end)
  teardown(support.cleanup)

  local function load(text, overrides)
    local path = support.write_file(dir .. "/c.lua", text)
    return config.load(path, overrides)
  end

  it("has defaults for everything", function()
    local c = assert(config.check({}, "/srv"))
    assert.equal("/srv/longshore-data", c.data)
    assert.equal("127.0.0.1:8080", c.broker.listen)
    assert.equal("http://127.0.0.1:8080", c.broker.public_url)
    assert.equal("/srv/longshore-data/longshore.db", c.store.path)
    assert.equal("http://127.0.0.1:9000", c.buckets.default.endpoint)
    assert.equal("diskstore", c.buckets.default.profile)
    assert.is_true(c.services.newton.enabled)
  end)

  it("gives each a default table of its own", function()
    local one, two = config.check({}, "/srv"), config.check({}, "/srv")
    one.diskstore.buckets[1] = "changed"
    assert.equal("longshore", two.diskstore.buckets[1])
  end)

  it("names a mistake with its key", function()
    for field, given in pairs {
      ["broker.listen"] = { broker = { listen = "8080" } },
      ["broker.threads"] = { broker = { threads = 0 } },
      ["broker.workers"] = { broker = { workers = 1.5 } },
      ["broker.queue"] = { broker = { queue = "many" } },
      ["broker.tls.key"] = { broker = { tls = { certificate = "a" } } },
      ["broker"] = { broker = true },
      ["data"] = { data = "" },
      ["store.type"] = { store = { type = "oracle" } },
      ["store.synchronous"] = { store = { synchronous = "SOMETIMES" } },
      ["store.database"] = { store = { type = "postgres" } },
      ["diskstore.buckets"] = { diskstore = { buckets = {} } },
      ["diskstore.buckets[2]"] = { diskstore = { buckets = { "good", "Bad_Name" } } },
      ["diskstore.credentials[1].secret_key"] = { diskstore = { credentials = { { access_key = "a" } } } },
      ["buckets.main.bucket"] = { buckets = { main = {} } },
      ["buckets.main.public_endpoint"] = { buckets = { main = { bucket = "b", public_endpoint = "ftp://x" } } },
      ["services.newton.bucket"] = { services = { newton = { bucket = "other" } } },
      ["cors.origins[1]"] = { cors = { origins = { "app.example" } } },
      ["log.level"] = { log = { level = "loud" } },
      ["policy.url_seconds"] = { policy = { url_seconds = 700000 } },
    } do
      local err = refused(given)
      assert.equal(field, err.field)
      assert.equal(field, err.message:sub(1, #field))
    end
  end)

  it("guesses what a misspelt key should be", function()
    assert.equal("broker.lisen: is not a known key; did you mean broker.listen?",
      refused({ broker = { lisen = "x" } }).message)
    assert.truthy(refused({ Brokers = {} }).message:find("did you mean broker?", 1, true))
    assert.truthy(refused({ nonsense = {} }).message:find("known are", 1, true))
    assert.truthy(refused({ [1] = "x" }).message:find("is not a known key", 1, true))
  end)

  it("loads a file, and takes paths from its folder", function()
    local c = assert(load [[return { data = "here", broker = { listen = "0.0.0.0:1234", max_body = 4 * MiB } }]])
    assert.equal(dir .. "/here", c.data)
    assert.equal(4194304, c.broker.max_body)
    assert.equal("http://127.0.0.1:1234", c.broker.public_url)
    assert.equal(dir .. "/c.lua", c.file)
  end)

  it("lets options go before the file, key by key", function()
    local c = assert(load([[return { broker = { listen = "127.0.0.1:1", threads = 3 } }]],
      { broker = { listen = "127.0.0.1:2" } }))
    assert.equal("127.0.0.1:2", c.broker.listen)
    assert.equal(3, c.broker.threads)
  end)

  it("reads secrets from the environment and from files", function()
    support.write_file(dir .. "/secret", "s3cr3t\n")
    local c = assert(load [[
      return { buckets = { default = { bucket = "b", endpoint = "https://s3.example.com",
        access_key = env("LONGSHORE_NO_SUCH_VARIABLE", "AK"), secret_key = file "secret" } } }]])
    assert.equal("AK", c.buckets.default.access_key)
    assert.equal("s3cr3t", c.buckets.default.secret_key)
    local _, err = load [[return { data = env "LONGSHORE_NO_SUCH_VARIABLE" }]]
    assert.truthy(err.message:find("LONGSHORE_NO_SUCH_VARIABLE", 1, true))
    _, err = load [[return { data = file "no/such/file" }]]
    assert.truthy(err.message:find("no/such/file", 1, true))
  end)

  it("gives the file nothing to do harm with", function()
    for _, name in ipairs { "os", "io", "require", "load", "loadstring", "dofile", "debug", "package", "setmetatable",
      "rawset", "getmetatable", "_G", "collectgarbage", "ffi", "jit", "print", "string.dump" } do
      local c, err = load(("if %s ~= nil then error('there is %s') end return {}"):format(name, name))
      assert.is_nil(err)
      assert.truthy(c)
    end
    assert(load "string.format = nil; table.concat = nil; return {}")
    assert.equal("1", ("%d"):format(1))
    assert.truthy(table.concat)
    local _, err = load(string.dump(function() return {} end))
    assert.equal("invalid", err.code)
  end)

  it("gives up on a file that does not end, and says where", function()
    for _, text in ipairs { "local n = 0\nwhile true do n = n + 1 end", "local n = 0\nrepeat until false",
      "local function f() return f() end\nreturn f()",
      "\nfor _ = 1, 1e300 do table.sort({ 3, 2, 1 }, function(a, b) return a < b end) end",
      "\nreturn (('x'):rep(1000):gsub('x', function() while true do end end))" } do
      local began = core.monotonic()
      local c, err = load(text)
      assert.is_nil(c)
      assert.equal("invalid", err.code)
      assert.truthy(err.message:find("c%.lua:%d+: it does not end; is there an endless loop?"), err.message)
      assert.truthy(core.monotonic() - began < 60)
    end
    -- Others' hooks are theirs again, and a long file is none without end.
    local function hook() end
    debug.sethook(hook, "", 1000000)
    assert(load "local n = 0 for i = 1, 100000 do n = n + i end return {}")
    local now, _, count = debug.gethook()
    debug.sethook()
    assert.equal(hook, now)
    assert.equal(1000000, count)
  end)

  it("says what is wrong with a file that is none", function()
    local _, err = config.load(dir .. "/missing.lua")
    assert.truthy(err.message:find("cannot read", 1, true))
    _, err = load "return {"
    assert.truthy(err.message:find("not valid Lua", 1, true))
    _, err = load "return 5"
    assert.truthy(err.message:find("must return a table", 1, true))
    _, err = load "error('my own words')"
    assert.truthy(err.message:find("my own words", 1, true))
    _, err = load "return { broker = { lisen = 1 } }"
    assert.truthy(err.message:find(dir .. "/c.lua: broker.lisen", 1, true))
    _, err = config.load(dir)
    assert.equal("invalid", err.code)
  end)

  it("never shows a secret", function()
    local secret = "TOPSECRETVALUE"
    local given = { buckets = { default = { bucket = "b", endpoint = "https://s3.example.com", access_key = "AK",
      secret_key = secret, session_token = secret } },
      diskstore = { credentials = { { access_key = "a", secret_key = secret } } } }
    local c = assert(config.check(given, "/srv"))
    local shown = require("longshore.json").encode(config.redacted(c))
    assert.is_nil(shown:find(secret, 1, true))
    assert.truthy(shown:find("AK", 1, true))
    given.buckets.default.secret_key = { secret }
    assert.is_nil(refused(given).message:find(secret, 1, true))
    given.buckets.default.secret_key = secret .. "\n"
    assert.is_nil(refused(given).message:find(secret, 1, true))
    local _, err = config.check({ buckets = { default = { bucket = "b", endpoint = "https://u:" .. secret .. "@h" } } })
    assert.is_nil(err.message:find(secret, 1, true))
  end)

  it("writes a file that loads to the same", function()
    local c = assert(config.check({ data = "/srv/a 'b\" \\c", broker = { public_url = "https://x.example/p" },
      services = { newton = { file_types = { "text/csv" } } } }, "/"))
    local path = support.write_file(dir .. "/copy.lua", config.serialize(c))
    local again = assert(config.load(path))
    again.file = nil
    assert.same(c, (function() again.generated_credentials = c.generated_credentials return again end)())
    again = assert(config.restore(config.serialize(c)))
    again.generated_credentials = c.generated_credentials
    assert.same(c, again)
    assert.is_nil((config.restore "return {"))
  end)

  it("takes generated credentials from the data folder, and refuses damaged ones", function()
    local data = dir .. "/data"
    require("lfs").mkdir(data)
    support.write_file(data .. "/diskstore-credentials", "access_key=LSX\nsecret_key=abc\n")
    local c = assert(config.check({ data = data }))
    assert.equal("LSX", c.buckets.default.access_key)
    assert.equal("abc", c.diskstore.credentials[1].secret_key)
    support.write_file(data .. "/diskstore-credentials", "damaged")
    assert.truthy(refused({ data = data }).message:find("damaged", 1, true))
  end)

  it("asks for a bucket where the disk store is not enabled", function()
    local loaded, err = config.check({ diskstore = { enabled = false } }, "/tmp")
    assert.is_nil(loaded)
    assert.equal("buckets.default", err.field)
  end)

  it("signs URLs for the public endpoint of the disk store", function()
    local c = assert(config.check {
      diskstore = { listen = "0.0.0.0:9100", public_endpoint = "https://store.example.com" },
    })
    assert.equal("http://127.0.0.1:9100", c.buckets.default.endpoint)
    assert.equal("https://store.example.com", c.buckets.default.public_endpoint)
  end)
end)

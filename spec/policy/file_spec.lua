-- Policy files: loaded in the sandbox or trusted, changed while they are used, and
-- what their hooks may ask the broker.
local chain = require "longshore.policy.chain"
local file = require "longshore.policy.file"
local json = require "longshore.json"
local policy = require "longshore.policy"
local support = require "spec.support"
local worlds = require "spec.support.broker"

local ANN = worlds.actor()

describe("a policy file", function()
  local path, clock, logged
  before_each(function()
    path, logged = support.tmpdir() .. "/policy.lua", {}
    clock = require("longshore.clock").fixed(1700000000)
  end)
  after_each(support.cleanup)

  local function log(level, message, fields)
    logged[#logged + 1] = { level = level, message = message, fields = fields }
  end

  -- As an editor does: another file in its place.
  local function write(text)
    support.write_file(path .. ".new", text)
    assert(os.rename(path .. ".new", path))
  end

  local function open(text, options)
    if text then write(text) end
    local all = { path = path, clock = clock, log = log }
    for k, v in pairs(options or {}) do all[k] = v end
    return file.open(all)
  end

  local function key_of(opened)
    local decision, err = chain.new({ opened }, log):decide("before_initiate", { actor = ANN })
    return decision and decision.key, err
  end

  local function keyed(key) return ("return { before_initiate = function() return { key = %q } end }"):format(key) end

  it("that changes is used at once, between two hooks", function()
    local opened = assert(open(keyed "a"))
    assert.equal("a", key_of(opened))
    write(keyed "bb")
    assert.equal("a", key_of(opened)) -- looked at a moment ago
    clock.advance(1)
    assert.equal("bb", key_of(opened))
    assert.equal("policy loaded again", logged[1].message)
    clock.advance(1)
    assert.equal("bb", key_of(opened))
    assert.equal(1, #logged)
  end)

  it("that changes for the worse stays as it was, and says why, once", function()
    local opened = assert(open(keyed "a"))
    for i, bad in ipairs { "return {", "return 7", "return { before_breakfast = function() end }", "while true do end",
      "error 'no'" } do
      write(bad)
      for _ = 1, 3 do
        clock.advance(1)
        assert.equal("a", key_of(opened))
      end
      assert.equal(i, #logged, bad)
      assert.equal("error", logged[i].level)
    end
    os.remove(path)
    clock.advance(1)
    assert.equal("a", key_of(opened))
    write(keyed "c")
    clock.advance(1)
    assert.equal("c", key_of(opened))
  end)

  it("leaves all states of a broker at the same version when it breaks, new ones too", function()
    local folder = support.tmpdir()
    local options = { keep = folder .. "/kept", modules = folder }
    support.write_file(folder .. "/m.lua", "return 'with a module'")
    local first = assert(open("local k = require 'm' return { before_initiate = function() return { key = 'a' } end }",
      options))
    local busy = assert(open(nil, options))
    write(keyed "b")
    clock.advance(1)
    assert.equal("b", key_of(busy))
    write "return {"
    clock.advance(1)
    assert.equal("b", key_of(first)) -- which was idle all the while
    assert.equal("b", key_of(busy))
    assert.equal("b", key_of(assert(open(nil, options))))
    assert.is_nil((open()))          -- nothing kept: said at once
    write "local k = require 'm' return { before_initiate = function() return { key = #k .. '' } end }"
    clock.advance(1)
    assert.equal("13", key_of(busy))
    write "return {"
    os.remove(folder .. "/m.lua")
    clock.advance(1)
    assert.equal("13", key_of(first))
    support.write_file(options.keep, "damaged")
    assert.is_nil((open(nil, options)))
  end)

  it("gains and loses hooks", function()
    local opened = assert(open "return {}")
    local asked = chain.new { opened }
    assert.is_false(asked:has "before_delete")
    write "return { before_delete = function() return false, 'never' end }"
    clock.advance(1)
    assert.is_true(asked:has "before_delete")
    assert.equal("never", select(2, asked:decide("before_delete", { actor = ANN })).message)
  end)

  it("has modules of its own, whose changes count", function()
    local folder = support.tmpdir()
    assert.equal(0, (support.run("mkdir -p " .. folder .. "/shared")))
    support.write_file(folder .. "/shared/keys.lua", "return 'one'")
    local text = "local k = require 'shared.keys' return { before_initiate = function() return { key = k } end }"
    for _, trusted in ipairs { false, true } do
      support.write_file(folder .. "/shared/keys.lua", "return 'one'")
      local opened = assert(open(text, { modules = folder, trusted = trusted }))
      assert.equal("one", key_of(opened))
      support.write_file(folder .. "/shared/keys.lua", "return 'three'")
      clock.advance(1)
      assert.equal("three", key_of(opened))
    end
    for _, name in ipairs { "../policy", "shared/keys", "shared..keys", ".shared", "/etc/passwd" } do
      assert.is_nil((open(("require %q return {}"):format(name), { modules = folder })))
    end
  end)

  it("that is trusted can do what the program can", function()
    local text = "local n = os.getenv and #package.path return { before_initiate = function(_, host) "
      .. "return { key = 'n' .. (n > 0 and io and coroutine and 1 or 0) .. GiB } end }"
    assert.is_nil((open(text)))
    assert.equal("n11073741824", key_of(assert(open(text, { trusted = true }))))
    assert.is_nil((open("return {", { trusted = true })))
    assert.is_nil((open("error 'x'", { trusted = true })))
  end)

  it("is named when it cannot be used", function()
    for text, part in pairs { ["return {"] = "policy.lua:1", ["return { before_sign = 7 }"] = "before_sign",
      ["return { before_breakfast = function() end }"] = "before_breakfast" } do
      write(text)
      local made, err = policy.new { file = path }
      assert.is_nil(made)
      assert.equal("file", err.field)
      assert.truthy(err.message:find(part, 1, true), err.message)
    end
    assert.equal("not_found", select(2, policy.new { file = path .. "x" }).code)
    assert.equal("trusted", select(2, policy.new { trusted = 1 }).field)
  end)

  it("refuses the request when a hook runs away, names hook and field, and serves the next", function()
    local opened = assert(open([[return {
      before_initiate = function(c)
        if c.filename == "loop" then while true do end end
        if c.filename == "wrong" then return { key = "../x" } end
        if c.filename == "more" then return { colour = "red" } end
        return { key = "fine" }
      end }]], { limits = { instructions = 100000 } }))
    local asked = chain.new({ opened }, log)
    local function start(filename)
      return asked:decide("before_initiate", { actor = ANN, filename = filename })
    end
    for filename, field in pairs { loop = false, wrong = "key", more = "colour" } do
      local ok, err = start(filename)
      assert.is_nil(ok)
      assert.equal("internal", err.code)
      assert.equal("before_initiate", err.hook)
      local line = logged[#logged]
      assert.equal("policy failed", line.message)
      assert.equal("before_initiate", line.fields.hook)
      assert.equal(field or nil, line.fields.field)
      assert.equal("fine", assert(start "good").key)
    end
    assert.truthy(logged[1].fields.reason)
  end)
end)

describe("a hook's host", function()
  local w, answers, fetched
  after_each(support.cleanup)

  -- A world whose policy keeps the answers of one question.
  local function ask(hook, question, options)
    answers, fetched = {}, {}
    options = options or {}
    options.rules = { { [hook] = function(context, host)
      answers[#answers + 1] = { question(host, context) }
    end } }
    options.transport = function(request)
      fetched[#fetched + 1] = request
      return { status = 200, headers = { ["content-type"] = "application/json; x=y" }, body = '{"a":1}' }
    end
    w = worlds.new(options)
    return w
  end

  it("shows the content of its own upload before anybody else sees it", function()
    ask("before_register", function(host, context)
      context.upload.key = "another"
      assert.equal(0, select(2, w.store:files { tenant = "default", organization = "acme", state = "registered" }))
      return host.head(4), host.url(60)
    end)
    local upload, parts = w:upload("0123456789")
    assert(w.broker:complete(ANN, upload.id, { parts = parts }))
    assert.equal("0123", answers[1][1])
    assert.equal("http://store.test/" .. upload.key, answers[1][2])
  end)

  it("shows no content where there is none yet", function()
    ask("before_initiate", function(host) return host.head(4) end)
    assert(w:initiate("x"))
    assert.is_nil(answers[1][1])
    assert.equal("state", answers[1][2].code)
  end)

  it("finds files of its actor only, and finished ones", function()
    ask("before_delete", function(host, context)
      return host.find { service = "newton", filename = context.file.filename }
    end)
    local upload, parts = w:upload("0123456789")
    local mine = assert(w.broker:complete(ANN, upload.id, { parts = parts }))
    local other = worlds.actor { organization = "other" }
    w.actor = other
    local theirs, their_parts = w:upload("0123456789")
    theirs = assert(w.broker:complete(other, theirs.id, { parts = their_parts }))
    assert(w.broker:delete_file(ANN, mine.id))
    assert(w.broker:delete_file(other, theirs.id))
    assert.equal(mine.id, answers[1][1].id)
    assert.equal(theirs.id, answers[2][1].id)
  end)

  it("fetches what the configuration lists, and nothing beside it", function()
    local url
    ask("before_initiate", function(host) return host.fetch { url = url, json = { q = 1 }, timeout = 999 } end,
      { policy = { fetch = { "https://a.example/api", "http://b.example:81/" } } })
    local function try(this)
      url = this
      answers = {}
      assert(w:initiate("x", { filename = "f" .. w.provider.counter }))
      return answers[1][1], answers[1][2]
    end
    for _, good in ipairs { "https://a.example/api", "https://a.example/api/x?y", "https://a.example/api?q",
      "https://a.example/api/x?y=a%2F..%2Fb",       "http://b.example:81/any" } do
      local answer = assert(try(good))
      assert.equal(200, answer.status)
      assert.same({ a = 1 }, answer.json)
    end
    assert.equal('{"q":1}', fetched[1].body)
    assert.equal(60, fetched[1].timeout)
    local count = #fetched
    for _, bad in ipairs { "https://a.example/", "https://a.example/apis", "https://a.example.evil/api",
      "http://a.example/api", "https://a.example/api/../x", "https://a.example@evil/api", "http://b.example:811/",
      "file:///etc/passwd", "https://a.example/api\r\nx: y", "",
      "https://a.example/api/%2e%2E/x", "https://a.example/api/.%2e/x", "https://a.example/api/..%2Fx",
      "https://a.example/api/%2e%2e%2fx", "https://a.example/api/%252e%252e/x", "https://a.example/api%5c..%5cx" } do
      assert.equal("forbidden", select(2, try(bad)).code, bad)
    end
    assert.equal(count, #fetched)
  end)

  it("fetches with an end, and from the host that is listed", function()
    local request
    ask("before_initiate", function(host) return host.fetch(request) end,
      { policy = { fetch = { "https://a.example/api" } } })
    for timeout, expected in pairs { [0] = 0.1, [-1] = 0.1, [1e-9] = 0.1, [-math.huge] = 0.1, [math.huge] = 60,
      [5] = 5 } do
      request = { url = "https://a.example/api", timeout = timeout }
      assert(w:initiate("x", { filename = "t" .. timeout }))
      assert.equal(expected, fetched[#fetched].timeout)
    end
    request = { url = "https://a.example/api", timeout = 0 / 0 }
    assert(w:initiate("x", { filename = "nan" }))
    assert.equal(0.1, fetched[#fetched].timeout)
    local count = #fetched
    answers = {}
    request = { url = "https://a.example/api", headers = { Host = "inside.example" } }
    assert(w:initiate("x", { filename = "host" }))
    assert.equal("forbidden", answers[1][2].code)
    assert.equal(count, #fetched)
  end)

  it("says of a failure where it was, and not the path, which may be a key", function()
    ask("before_initiate", function(host) return host.fetch { url = "https://a.example/api/KEY?KEY" } end,
      { policy = { fetch = { "https://a.example/api" } } })
    w.broker.transport = function()
      return nil, require("longshore.errors").new("network", "no connection: https://a.example/api/KEY")
    end
    assert(w:initiate "x")
    assert.equal("no connection: https://a.example/...", answers[1][2].message)
  end)

  it("logs some lines of some length, and no secrets", function()
    ask("before_initiate", function(host)
      local fields = {}
      for i = 1, 100 do fields["f" .. i] = ("y"):rep(1e5) end
      for _ = 1, 50 do host.log("loud", ("x"):rep(1e6), fields) end
    end)
    assert(w:initiate "x")
    local lines = 0
    for _, line in ipairs(w.logged) do
      if line.message:find("^policy: ") then
        lines = lines + 1
        local count = 0
        for _, value in pairs(line.fields) do
          count = count + 1
          assert.is_true(#value <= 1000)
        end
        assert.same({ 20, 1008, "info" }, { count, #line.message, line.level })
      end
    end
    assert.equal(20, lines)
  end)

  it("is nothing that crashes a sandboxed hook's broker", function()
    local path = support.write_file(support.tmpdir() .. "/p.lua", [[return { before_initiate = function(c, host)
      local seen = {}
      for _, name in ipairs { "take", "find", "fetch", "head", "url", "sha256", "word", "log" } do
        for _, value in ipairs { false, 1, "x", {}, { limit = 0 }, { filename = 7 }, { url = {} } } do
          pcall(host[name], value)
        end
      end
      return { metadata = { done = host.sha256 "" } }
    end }]])
    w = worlds.new { policy = { file = path } }
    local upload = assert(w:initiate("x"))
    assert.equal('{"done":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}',
      assert(w.store:file(upload.file_id)).metadata)
  end)
end)

describe("before_register", function()
  after_each(support.cleanup)

  local function world(answer)
    return worlds.new { rules = { { before_register = function() return answer() end } } }
  end

  it("that refuses fails the upload; nothing stays", function()
    local w = world(function() return false, { code = "integrity", message = "bad" } end)
    local upload, parts = w:upload("0123456789")
    local made, err = w.broker:complete(ANN, upload.id, { parts = parts })
    assert.is_nil(made)
    assert.equal("integrity", err.code)
    assert.equal("failed", assert(w.store:upload(upload.id)).state)
    w:sweep()
    assert.same({ 0, 0 }, { w.provider:left() })
  end)

  it("that cannot say waits: completing again, or the janitor, asks again", function()
    for _, by in ipairs { "client", "janitor" } do
      local ready = false
      local w = world(function()
        if ready then return true end
        return false, { code = "unavailable", retryable = true, message = "not yet" }
      end)
      local upload, parts = w:upload("0123456789")
      local _, err = w.broker:complete(ANN, upload.id, { parts = parts })
      assert.is_true(err.retryable)
      assert.equal("completing", assert(w.store:upload(upload.id)).state)
      ready = true
      if by == "client" then
        assert(w.broker:complete(ANN, upload.id, { parts = parts }))
      else
        w.clock.advance(200)
        assert.equal(1, w.broker:janitor().finished)
      end
      assert.equal("completed", assert(w.store:upload(upload.id)).state)
    end
  end)

  it("that breaks loses nothing", function()
    local broken = true
    local w = world(function() if broken then error "bug" end end)
    local upload, parts = w:upload("0123456789")
    assert.equal("internal", select(2, w.broker:complete(ANN, upload.id, { parts = parts })).code)
    broken = false
    assert(w.broker:complete(ANN, upload.id, { parts = parts }))
  end)
end)

describe("the contract of rewrites", function()
  it("says so where a service cannot do what is asked", function()
    for service, fields in pairs { athena = { key = "k", provider = "p" }, geolens = { metadata = { a = 1 } } } do
      for field, value in pairs(fields) do
        local reason
        local asked = chain.new({ { before_initiate = function() return { [field] = value } end } },
          function(_, _, given) reason = given end)
        assert(asked:decide("before_initiate", { actor = ANN, service = "newton" }))
        assert(asked:decide("before_initiate", { actor = ANN, service = service, [field] = value })) -- as it is
        local _, err = asked:decide("before_initiate", { actor = ANN, service = service })
        assert.same({ "internal", "before_initiate" }, { err.code, err.hook })
        assert.equal(field, reason.field)
        assert.truthy(reason.reason:find(service, 1, true))
      end
    end
  end)

  local contract = require "longshore.policy.contract"

  local function check(field, value)
    return (contract.hooks.before_initiate.rewrites[field](value))
  end

  it("takes headers and tags that an object may have, and no others", function()
    assert.is_true(check("headers", { ["x-amz-storage-class"] = "GLACIER", ["cache-control"] = "no-store" }))
    for _, bad in ipairs { { authorization = "x" }, { ["x-amz-acl"] = "public-read" }, { ["cache-control"] = "a\nb" },
      { ["cache-control"] = "" }, { ["cache-control"] = 1 }, { ["X-Amz-Storage-Class"] = "x" }, "x" } do
      assert.is_false(check("headers", bad), json.encode(bad))
    end
    assert.is_true(check("tags", { a = "b", ["c d"] = "e:f" }))
    for _, bad in ipairs { { a = "&" }, { [""] = "x" }, { a = ("x"):rep(257) }, { a = 1 }, 1 } do
      assert.is_false(check("tags", bad))
    end
  end)

  it("takes quotas with a scope", function()
    assert.is_true(check("quotas", { { scope = "user", bytes = 1 },
      { scope = "organization", files = 2, running = 3 } }))
    for _, bad in ipairs { { { bytes = 1 } }, { { scope = "all" } }, { { scope = "user", bytes = -1 } },
      { { scope = "user", byte = 1 } }, { 1 }, 1 } do
      assert.is_false(check("quotas", bad))
    end
  end)

  it("takes whole actors only", function()
    local actor = contract.hooks.authenticate.rewrites.actor
    assert.is_true((actor { user = "a", organization = "b", tenant = "c", rights = { upload = true } }))
    for _, bad in ipairs { {}, { user = "a", organization = "b", tenant = "c" }, { user = "", organization = "b",
      tenant = "c", rights = {} }, { user = "a", organization = "b", tenant = "c", rights = { root = true } },
      { user = "a", organization = "b", tenant = "c", rights = {}, root = true } } do
      assert.is_false((actor(bad)))
    end
  end)
end)

local core = require "longshore.core"
local errors = require "longshore.errors"
local transports = require "longshore.http.transport"
local support = require "spec.support"
local relay = require "spec.support.relay"

describe("the libcurl transport", function()
  local r

  setup(function() r = relay.start() end)
  teardown(function() support.cleanup() end)
  before_each(function() r:clear() end)

  it("answers with status, headers and body", function()
    local transport = transports.new()
    r:rules { { status = 404, headers = { ["X-Request-Id"] = "r1" }, body = "<Error/>" } }
    local response = assert(transport { method = "GET", url = r.endpoint .. "/b/k?x=1", headers = { ["x-a"] = "1" } })
    assert.equal(404, response.status)
    assert.equal("r1", response.headers["x-request-id"])
    assert.equal("<Error/>", response.body)
    assert.truthy(r:log()[1].head:find("x-a: 1", 1, true))
  end)

  it("keeps its connection between calls", function()
    local transport, close = transports.new()
    for i = 1, 5 do
      local response = assert(transport { method = "PUT", url = r.endpoint .. "/" .. i, body = "body " .. i })
      assert.equal('"' .. core.hex(core.md5("body " .. i)) .. '"', response.headers.etag)
    end
    local seen = {}
    for _, entry in ipairs((r:log())) do seen[entry.connection] = true end
    local n = 0
    for _ in pairs(seen) do n = n + 1 end
    assert.equal(1, n)
    close()
    assert.has_error(function() transport { url = r.endpoint .. "/x" } end)
  end)

  it("goes on with others for a host that has several requests", function()
    local waiting = {}
    local transport = transports.new { connections = 4, park = function(step, id)
      if not coroutine.isyieldable() then return nil end -- luacheck: ignore 143
      waiting[id] = { co = coroutine.running(), step = step }
      return coroutine.yield()
    end }
    r:rules { { match = "/2", delay_answer = 0.4 }, { match = "/3", delay_answer = 60 } }
    local answers, given_up = {}, nil
    for i = 1, 3 do
      coroutine.wrap(function()
        local response, err = transport { method = "PUT", url = r.endpoint .. "/" .. i, body = "body " .. i }
        answers[#answers + 1] = { i, response and response.status, err }
        given_up = given_up or err
      end)()
    end
    local began = core.monotonic()
    while #answers < 2 do
      local id, one = next(waiting)
      local ended = one.step(0.1)
      for other, entry in pairs(waiting) do
        if ended[other] then
          waiting[other] = nil
          assert(coroutine.resume(entry.co, ended[other]))
        end
      end
      assert.is_true(core.monotonic() - began < 30, id)
    end
    table.sort(answers, function(a, b) return a[1] < b[1] end)
    assert.same({ { 1, 200 }, { 2, 200 } }, answers)
    local _, hanging = next(waiting)
    assert(coroutine.resume(hanging.co, false))
    assert.equal("timeout", given_up.code)
    assert.is_false(given_up.retryable)
    assert.is_nil(next(hanging.step(0)))
    -- Who is alone waits here, also beside one that was given up.
    assert.equal(200, assert(transport { url = r.endpoint .. "/1" }).status)
  end)

  it("sends files and writes answers to files", function()
    local transport = transports.new()
    local path = support.write_file(support.tmpdir() .. "/f", "0123456789")
    local response = assert(transport { method = "PUT", url = r.endpoint .. "/x",
      file = { path = path, offset = 2, length = 5, size = 10 } })
    assert.equal(core.crc32c("23456"), response.crc32c)
    assert.equal(5, r:log()[1].length)
    response = assert(transport { url = r.endpoint .. "/bytes/20", output = { path = path, offset = 10 } })
    assert.equal("", response.body)
    assert.equal("01234567890,1,2,3,4,5,6,7,8,9,", support.read_file(path))
  end)

  it("fails with an error of ours, and goes on working", function()
    local hasty = transports.new { timeout = 0.3 }
    r:rules { { delay_answer = 60, times = 1 } }
    local response, err = hasty { url = r.endpoint .. "/x?X-Amz-Signature=c0ffee" }
    assert.is_nil(response)
    assert.is_true(errors.is(err))
    assert.equal("timeout", err.code)
    assert.is_nil(tostring(err):find("c0ffee", 1, true))
    local transport = transports.new()
    r:rules { { delay_answer = 60, times = 1 } }
    response, err = transport { url = r.endpoint .. "/x", timeout = 0.3 }
    assert.is_nil(response)
    assert.equal("timeout", err.code)
    response, err = transport { url = "ftp://127.0.0.1/x" }
    assert.is_nil(response)
    assert.equal("invalid", err.code)
    assert.equal(200, assert(transport { url = r.endpoint .. "/y" }).status)
    response, err = transport { url = r.endpoint .. "/bytes/5000", max_response = 100 }
    assert.is_nil(response)
    assert.equal("too_large", err.code)
  end)

  it("waits for a server that takes its time, within the timeout", function()
    local transport = transports.new { stall_seconds = 0.2 }
    r:rules { { delay_answer = 0.7 } }
    assert.equal(200, assert(transport { method = "POST", url = r.endpoint .. "/complete", body = "<x/>" }).status)
  end)
end)

describe("a proxy", function()
  local r

  setup(function() r = relay.start() end)
  teardown(function() support.cleanup() end)
  before_each(function() r:clear() end)

  -- (Nobody asks a name server, which may be slow, for so long a label.)
  local nowhere = ("x"):rep(64) .. ".invalid"

  -- One request in a process of its own, so that the environment can differ.
  local function request(env, options, url)
    local script = support.write_file(support.tmpdir() .. "/request.lua", ([[
      local transport = require("longshore.http.transport").new(%s)
      local response, err = transport { method = "PUT", url = %q, body = "x", timeout = 60 }
      io.write(response and response.status or tostring(err))]]):format(options or "nil", url))
    return select(2, support.run(("env -u http_proxy -u no_proxy -u NO_PROXY -u all_proxy %s %s %s"):format(
      env, support.lua, script)))
  end

  it("comes from the environment, gets the whole URL, and can be excepted", function()
    local url = "http://" .. nowhere .. ":81/b/../k?x=%2F"
    assert.equal("200", request("http_proxy=" .. r.endpoint, nil, url))
    assert.equal(url, r:log()[1].target)
    assert.truthy(request("http_proxy=" .. r.endpoint .. " no_proxy=" .. nowhere, nil, url):find("network", 1, true))
    assert.equal(1, #(r:log()))
  end)

  it("can be named, and can be switched off", function()
    local url = "http://" .. nowhere .. "/k"
    assert.equal("200", request("", ("{proxy=%q}"):format(r.endpoint), url))
    assert.equal(url, r:log()[1].target)
    assert.truthy(request("http_proxy=" .. r.endpoint, "{proxy=''}", url):find("network", 1, true))
  end)
end)

describe("memory", function()
  it("does not grow with the size of parts", function()
    local r = relay.start()
    local dir = support.tmpdir()
    support.run("truncate -s 512M " .. dir .. "/sparse")
    local script = support.write_file(dir .. "/upload.lua", ([[
      local core = require "longshore.core"
      local engine = core.engine { connections = 4 }
      local size, left = 128 * 1024 * 1024, 4
      for i = 0, 3 do
        engine:add { method = "PUT", url = %q, body = { path = %q, offset = i * size, length = size } }
      end
      while left > 0 do
        for _, event in ipairs(engine:step(1)) do
          if event.type ~= "progress" then
            assert(event.type == "done" and event.status == 200, tostring(event.error))
            left = left - 1
          end
        end
      end
      assert(engine:stats().buffer_bytes <= 4 * 1048576)
      for line in io.lines("/proc/self/status") do
        if line:find("^VmHWM") then io.write((line:match("%%d+"))) end
      end]]):format(r.endpoint .. "/x", dir .. "/sparse"))
    local code, out = support.run(support.lua .. " " .. script)
    support.cleanup()
    assert.equal(0, code, out)
    local kib = assert(tonumber(out), out)
    assert.is_true(kib < 24 * 1024, out .. " KiB")
  end)
end)

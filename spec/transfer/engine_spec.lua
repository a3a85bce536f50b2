local core = require "longshore.core"
local errors = require "longshore.errors"
local support = require "spec.support"
local relay = require "spec.support.relay"

-- Runs jobs (a list) on an engine until all have ended. Returns the final
-- events in the order of the jobs, and all progress events.
local function run(engine, jobs, seconds)
  local order, ends, progress = {}, {}, {}
  for i, job in ipairs(jobs) do
    order[assert(engine:add(job))] = i
  end
  local left, till = #jobs, core.monotonic() + (seconds or 120)
  while left > 0 do
    assert(core.monotonic() < till, "the jobs did not end")
    for _, event in ipairs(engine:step(0.2)) do
      if event.type == "progress" then
        progress[#progress + 1] = event
      else
        ends[assert(order[event.id])] = event
        left = left - 1
      end
    end
  end
  return ends, progress
end

local function run_one(engine, job, seconds)
  return run(engine, { job }, seconds)[1]
end

local function header_of(head, name)
  return head:lower():match("\r\n" .. name:lower():gsub("%-", "%%-") .. ": ([^\r]*)")
end

-- A file of n bytes that do not repeat, and these bytes.
local function make_file(path, n)
  local parts, size, i = {}, 0, 0
  while size < n do
    i = i + 1
    parts[i] = ("%08x"):format(i * 2654435 % 4294967296)
    size = size + 8
  end
  local data = table.concat(parts):sub(1, n)
  support.write_file(path, data)
  return data
end

for _, threads in ipairs { 1, 3 } do
describe(("transfer engine with %d thread(s)"):format(threads), function()
  local r, engine, dir, path, data
  local SIZE = 3 * 1024 * 1024 + 17

  setup(function()
    dir = support.tmpdir()
    path = dir .. "/source"
    data = make_file(path, SIZE)
    r = relay.start()
  end)
  teardown(function()
    collectgarbage()
    support.cleanup()
  end)
  before_each(function()
    r:clear()
    engine = assert(core.engine { connections = 4, threads = threads })
  end)
  after_each(function() engine:close() end)

  local function put(target, offset, length, more)
    local stat = core.file_stat(path)
    local job = { method = "PUT", url = r.endpoint .. target,
      body = { path = path, offset = offset, length = length, size = stat.size, mtime_ns = stat.mtime_ns } }
    for k, v in pairs(more or {}) do job[k] = v end
    return job
  end

  describe("sending", function()
    it("puts ranges of a file with the right bytes and their CRC32C", function()
      local jobs, ranges = {}, { { 0, SIZE }, { 0, 1 }, { SIZE - 1, 1 }, { 7, 1048576 }, { 1048576, 2097152 },
        { SIZE, 0 }, { 123, 0 } }
      for i, range in ipairs(ranges) do jobs[i] = put("/part" .. i .. "x", range[1], range[2]) end
      local events = run(engine, jobs)
      local seen = {}
      for _, entry in ipairs((r:log())) do seen[entry.target] = entry end
      for i, range in ipairs(ranges) do
        local event = events[i]
        local bytes = data:sub(range[1] + 1, range[1] + range[2])
        assert.equal("done", event.type)
        assert.equal(200, event.status)
        assert.equal(#bytes, event.sent)
        assert.equal(core.crc32c(bytes), event.crc32c)
        assert.equal(core.hex(core.md5(bytes)), seen["/part" .. i .. "x"].md5)
        assert.equal('"' .. core.hex(core.md5(bytes)) .. '"', event.headers.etag)
      end
    end)

    it("sends strings, empty bodies and none, each method as it is", function()
      local function head_of(job)
        r:clear()
        local event = run_one(engine, job)
        assert.equal("done", event.type, tostring(event.error))
        return r:log()[1], event
      end
      local entry, event = head_of { method = "POST", url = r.endpoint .. "/p", body = "a\0b" }
      assert.equal("POST", entry.method)
      assert.equal(3, entry.length)
      assert.equal("3", header_of(entry.head, "content-length"))
      assert.equal(core.crc32c("a\0b"), event.crc32c)
      for _, method in ipairs { "POST", "PUT", "PATCH" } do
        entry = head_of { method = method, url = r.endpoint .. "/p" }
        assert.equal("0", header_of(entry.head, "content-length"))
        entry = head_of { method = method, url = r.endpoint .. "/p", body = "" }
        assert.equal("0", header_of(entry.head, "content-length"))
      end
      for _, method in ipairs { "DELETE", "GET" } do
        entry = head_of { method = method, url = r.endpoint .. "/p" }
        assert.equal(method, entry.method)
        assert.is_nil(header_of(entry.head, "content-length"))
        entry = head_of { method = method, url = r.endpoint .. "/p", body = "xyz" }
        assert.equal(method, entry.method)
        assert.equal(3, entry.length)
      end
      entry, event = head_of { method = "HEAD", url = r.endpoint .. "/bytes/77" }
      assert.equal("HEAD", entry.method)
      assert.equal("77", event.headers["content-length"])
      assert.equal("", event.body)
    end)

    it("adds no header of its own beyond Host, Content-Length and User-Agent", function()
      run_one(engine, put("/x", 0, SIZE))
      local names = {}
      for name in r:log()[1].head:gmatch("\r\n([%w%-]+):") do names[#names + 1] = name:lower() end
      table.sort(names)
      assert.same({ "content-length", "host", "user-agent" }, names)
    end)

    it("sends the headers it was given, as a map or as a list, empty ones too", function()
      run_one(engine, { url = r.endpoint .. "/x", headers = {
        ["X-One"] = "a  b", Accept = "text/plain", ["user-agent"] = "mine", ["x-empty"] = "", Host = "other:1" } })
      local head = r:log()[1].head
      assert.equal("a  b", header_of(head, "X-One"))
      assert.equal("text/plain", header_of(head, "Accept"))
      assert.equal("mine", header_of(head, "User-Agent"))
      assert.equal("other:1", header_of(head, "Host"))
      assert.truthy(head:find("\r\nx%-empty:%s*\r\n"))
      r:clear()
      run_one(engine, { url = r.endpoint .. "/x", headers = { { "x-a", "1" }, { "x-a", "2" } } })
      assert.truthy(r:log()[1].head:find("x-a: 1\r\nx-a: 2\r\n", 1, true))
    end)

    it("asks for 100-continue only when told to, and then waits for it", function()
      local event = run_one(engine, put("/x", 0, 2000000, { headers = { Expect = "100-continue" } }))
      assert.equal(200, event.status)
      assert.equal("100-continue", header_of(r:log()[1].head, "expect"))
    end)

    it("sends the URL byte for byte", function()
      local targets = { "/a/../b", "/a/./b", "//a//b/", "/%2e%2E/%2f", "/%c3%bc%C3%BC", "/a?b?c&d=%20&e=+", "/a?", "/",
        "?q=1", "/a;b=c,d!$'()*+:@~", "/a[1]{2}|3\\4^5`6\"7<8>", "/x?a=/../b" }
      for _, target in ipairs(targets) do
        r:clear()
        local event = run_one(engine, { method = "PUT", url = r.endpoint .. target, body = "" })
        assert.equal("done", event.type, target .. ": " .. tostring(event.error))
        local wanted = target:sub(1, 1) == "?" and "/" .. target or target
        assert.equal(wanted, r:log()[1].target)
      end
    end)
  end)

  describe("answers", function()
    it("come with status, lower-case headers, repeated ones joined, and body", function()
      r:rules { { raw = "HTTP/1.1 418 Teapot\r\nX-A: 1\r\nx-a:2\r\nFolded: a\r\n b\r\n" ..
        "Spaces:  \t v w \t\r\n\r\nthe body" } }
      local event = run_one(engine, { url = r.endpoint .. "/x" })
      assert.equal(418, event.status)
      assert.equal("1, 2", event.headers["x-a"])
      assert.equal("v w", event.headers.spaces)
      assert.equal("the body", event.body)
      assert.equal(core.crc32c("the body"), event.received_crc32c)
    end)

    it("are the final ones, not interim ones", function()
      r:rules { { raw = "HTTP/1.1 103 Early\r\nx-hint: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" } }
      local event = run_one(engine, { url = r.endpoint .. "/x" })
      assert.equal(200, event.status)
      assert.is_nil(event.headers["x-hint"])
      assert.equal("ok", event.body)
    end)

    it("may be chunked, with trailers that are no headers", function()
      r:rules { { raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n" ..
        "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-A: 2\r\n\r\n" } }
      local event = run_one(engine, { url = r.endpoint .. "/x" })
      assert.equal("abcde", event.body)
      assert.equal("1", event.headers["x-a"])
    end)

    it("of 301, 302, 307 and 308 are answers, not followed", function()
      for _, status in ipairs { 301, 302, 307, 308 } do
        r:clear()
        r:rules { { status = status, headers = { Location = r.endpoint .. "/elsewhere" } } }
        local event = run_one(engine, put("/x", 0, 10))
        assert.equal(status, event.status)
        assert.equal(r.endpoint .. "/elsewhere", event.headers.location)
        assert.equal(1, #(r:log()))
      end
    end)

    it("longer than the ceiling are refused, with length and without", function()
      for _, chunked in ipairs { false, true } do
        r:rules { { status = 200, body = ("x"):rep(5000), chunked = chunked } }
        local event = run_one(engine, { url = r.endpoint .. "/x", max_response = 4999 })
        assert.equal("failed", event.type)
        assert.equal("too_large", event.error.code)
        assert.is_false(event.error.retryable)
        assert.equal(200, event.error.answered)
        event = run_one(engine, { url = r.endpoint .. "/x", max_response = 5000 })
        assert.equal(5000, #event.body)
      end
    end)

    it("with endless headers are refused", function()
      r:rules { { raw = "HTTP/1.1 200 OK\r\n" .. ("X-Long: " .. ("y"):rep(1000) .. "\r\n"):rep(200) .. "\r\n" } }
      local event = run_one(engine, { url = r.endpoint .. "/x" })
      assert.equal("failed", event.type)
      assert.equal("too_large", event.error.code)
    end)

    it("that are no HTTP are failures", function()
      for _, raw in ipairs { "hello\r\n\r\n", "HTTP/0.9\r\n\r\nx", "\r\n\r\n", "HTTP/1.1 099 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno header\r\n\r\n" } do
        r:rules { { raw = raw } }
        local event = run_one(engine, { url = r.endpoint .. "/x" })
        assert.equal("failed", event.type, raw)
        assert.equal("network", event.error.code)
        assert.is_true(event.error.retryable)
      end
    end)
  end)

  describe("an early answer", function()
    it("that refuses is reported as that answer, though the connection is reset", function()
      r:rules { { early = true, status = 403, body = "<Code>AccessDenied</Code>", headers = { ["X-Id"] = "7" } } }
      local jobs = {}
      for i = 1, 30 do jobs[i] = put("/p" .. i, 0, SIZE) end
      for _, event in ipairs(run(engine, jobs)) do
        assert.equal("done", event.type, tostring(event.error))
        assert.equal(403, event.status)
        assert.equal("<Code>AccessDenied</Code>", event.body)
        assert.equal("7", event.headers["x-id"])
      end
    end)

    it("is heard whether chunked or without length", function()
      r:rules { { early = true, status = 503, body = "slow down", chunked = true, times = 5 },
        { early = true, raw = "HTTP/1.1 503 Slow\r\nRetry-After: 2\r\n\r\nslow down" } }
      for _ = 1, 10 do
        local event = run_one(engine, put("/p", 0, SIZE))
        assert.equal("done", event.type, tostring(event.error))
        assert.equal(503, event.status)
        assert.equal("slow down", event.body)
      end
    end)

    it("that claims success is a failure", function()
      r:rules { { early = true, status = 200, reset = true } }
      for _ = 1, 20 do
        local event = run_one(engine, put("/p", 0, SIZE))
        assert.equal("failed", event.type)
        assert.equal("network", event.error.code)
        assert.is_true(event.error.retryable)
      end
    end)
  end)

  describe("downloads", function()
    local function expected(n)
      local t, size, i = {}, 0, 0
      while size < n do
        t[#t + 1] = i .. ","
        size = size + #t[#t]
        i = i + 1
      end
      return table.concat(t):sub(1, n)
    end

    it("go to their place in a file, checksummed, leaving the rest alone", function()
      local want = expected(300000)
      local to = support.write_file(dir .. "/down", ("z"):rep(10))
      local jobs = {}
      for i, range in ipairs { { 0, 99999 }, { 100000, 199999 }, { 200000, 299999 } } do
        jobs[i] = { url = r.endpoint .. "/bytes/300000", output = { path = to, offset = 5 + range[1], length = 100000 },
          headers = { Range = ("bytes=%d-%d"):format(range[1], range[2]) } }
      end
      for i, event in ipairs(run(engine, jobs)) do
        assert.equal(206, event.status)
        assert.equal("", event.body)
        assert.equal(100000, event.received)
        assert.equal(core.crc32c(want:sub((i - 1) * 100000 + 1, i * 100000)), event.received_crc32c)
      end
      assert.equal("zzzzz" .. want, support.read_file(to))
    end)

    it("of nothing make an empty file", function()
      local event = run_one(engine, { url = r.endpoint .. "/bytes/0", output = { path = dir .. "/empty" } })
      assert.equal("done", event.type)
      assert.equal("", support.read_file(dir .. "/empty"))
    end)

    it("do not write an error's body into the file", function()
      r:rules { { status = 404, body = "NoSuchKey" } }
      local event = run_one(engine, { url = r.endpoint .. "/x", output = { path = dir .. "/none" } })
      assert.equal(404, event.status)
      assert.equal("NoSuchKey", event.body)
      assert.is_nil(support.read_file(dir .. "/none"))
    end)

    it("end when more comes than was expected", function()
      local event = run_one(engine, { url = r.endpoint .. "/bytes/200000",
        output = { path = dir .. "/more", length = 150000 } })
      assert.equal("failed", event.type)
      assert.equal("too_large", event.error.code)
      assert.is_true(#support.read_file(dir .. "/more") <= 150000)
    end)

    it("fail with io where the file cannot be written", function()
      local event = run_one(engine, { url = r.endpoint .. "/bytes/10", output = { path = dir .. "/no/such/folder" } })
      assert.equal("io", event.error.code)
      event = run_one(engine, { url = r.endpoint .. "/bytes/100000", output = { path = "/dev/full" } })
      assert.equal("io", event.error.code)
      assert.is_false(event.error.retryable)
      support.run("mkfifo " .. dir .. "/out") -- nobody reads it, and nobody waits for that
      event = run_one(engine, { url = r.endpoint .. "/bytes/10", output = { path = dir .. "/out" } })
      assert.equal("io", event.error.code)
    end)

    it("that break off are failures", function()
      r:rules { { cut_answer = 1000 } }
      local event = run_one(engine, { url = r.endpoint .. "/bytes/5000" })
      assert.equal("failed", event.type)
      assert.equal("network", event.error.code)
      assert.is_true(event.error.retryable)
    end)
  end)

  describe("a source", function()
    it("that is not what it was is refused before anything is sent", function()
      local stat = core.file_stat(path)
      local cases = {
        { { size = stat.size - 1 }, "longer" }, { { size = stat.size + 1 }, "shorter" },
        { { mtime_ns = "1" }, "changed" }, { { offset = 10, length = stat.size }, "ends before" },
      }
      for _, case in ipairs(cases) do
        local body = { path = path, offset = 0, length = 100 }
        for k, v in pairs(case[1]) do body[k] = v end
        local event = run_one(engine, { method = "PUT", url = r.endpoint .. "/x", body = body })
        assert.equal("failed", event.type)
        assert.equal("changed", event.error.code)
        assert.is_false(event.error.retryable)
        assert.truthy(event.error.message:find(case[2], 1, true))
        assert.truthy(event.error.message:find(path, 1, true))
      end
      assert.equal(0, #(r:log()))
    end)

    it("that is missing or no file is an io failure", function()
      for _, bad in ipairs { dir .. "/nowhere", dir, "/dev/zero" } do
        local event = run_one(engine, { method = "PUT", url = r.endpoint .. "/x", body = { path = bad, length = 5 } })
        assert.equal("io", event.error.code, bad)
      end
      support.run("mkfifo " .. dir .. "/fifo")
      local event = run_one(engine, { method = "PUT", url = r.endpoint .. "/x",
        body = { path = dir .. "/fifo", length = 5 } })
      assert.equal("io", event.error.code)
    end)

    -- Starts a slow PUT, changes the file on the way, and returns the event.
    local function change_midway(change, given)
      local victim = dir .. "/victim"
      support.write_file(victim, data)
      local stat = core.file_stat(victim)
      -- Slow until the file has changed, so that this comes in time.
      engine:limit { rate_limit = 200000 }
      local body = { path = victim, offset = 0, length = SIZE }
      if given then body.size, body.mtime_ns = stat.size, stat.mtime_ns end
      local id = assert(engine:add { method = "PUT", url = r.endpoint .. "/x", body = body })
      local till = core.monotonic() + 120
      repeat
        for _, event in ipairs(engine:step(0.05)) do
          if event.id == id and event.type ~= "progress" then return event end
          if event.sent > 0 and change then
            core.sleep(0.02)
            change(victim)
            change = nil
            engine:limit { rate_limit = 0 }
          end
        end
      until core.monotonic() > till
    end

    it("that shrinks while it is sent fails, and the receiver has no whole body", function()
      local event = change_midway(function(victim)
        support.run("truncate -s 100 " .. victim)
      end, false)
      assert.equal("changed", event.error.code)
      for _, entry in ipairs((r:log())) do assert.is_true(entry.length < SIZE) end
    end)

    it("that grows or is rewritten while it is sent fails, and the receiver has no whole body", function()
      local event = change_midway(function(victim)
        support.run("printf x >> " .. victim)
      end, true)
      assert.equal("changed", event.error.code)
      event = change_midway(function(victim)
        support.run("printf x | dd conv=notrunc bs=1 count=1 status=none of=" .. victim)
      end, true)
      assert.equal("changed", event.error.code)
      core.sleep(0.05)
      for _, entry in ipairs((r:log())) do assert.is_true(entry.length < SIZE) end
    end)
  end)

  describe("failures", function()
    it("of the connection are network failures worth a retry", function()
      local cases = {
        { cut = 1000000 }, { cut = 1000000, reset = true }, { cut = 0 }, { drop = true }, { drop = true, reset = true },
        { cut_answer = 0, status = 200, body = "x" }, { raw = "" }, { raw = "HTTP/1.1 200 OK\r\nContent-Le" },
      }
      for i, case in ipairs(cases) do
        r:rules { case }
        local event = run_one(engine, put("/x?X-Amz-Signature=c0ffee", 0, SIZE))
        assert.equal("failed", event.type, "case " .. i)
        assert.equal("network", event.error.code, "case " .. i)
        assert.is_true(event.error.retryable)
        assert.is_true(event.error.connected)
        assert.is_true(errors.is(event.error))
        assert.is_nil(event.error.message:find("c0ffee", 1, true))
      end
    end)

    it("of name and connection are network failures", function()
      local closed = support.free_port()
      -- (Nobody asks a name server, which may be slow, for so long a label.)
      local nowhere = ("x"):rep(64) .. ".invalid"
      for _, url in ipairs { "http://" .. nowhere .. "/", "http://127.0.0.1:" .. closed .. "/?Signature=c0ffee" } do
        local event = run_one(engine, { url = url })
        assert.equal("network", event.error.code)
        assert.is_false(event.error.connected)
        assert.is_nil(event.error.answered)
        assert.is_nil(event.error.message:find("c0ffee", 1, true))
      end
    end)

    it("of the clock are timeouts: a stalled body, a stalled answer, the total", function()
      r:rules { { stall = 500000 } }
      local stalling = put("/x", 0, SIZE, { stall_seconds = 0.4, stall_bytes = 10 })
      stalling.body = { path = dir .. "/sparse", offset = 0, length = 64 * 1024 * 1024 }
      support.run("truncate -s 64M " .. dir .. "/sparse")
      local event = run_one(engine, stalling)
      assert.equal("timeout", event.error.code)
      assert.is_true(event.error.retryable)
      assert.truthy(event.error.message:find("stalled", 1, true))
      r:rules { { stall_answer = 10 } }
      event = run_one(engine, { url = r.endpoint .. "/bytes/5000", stall_seconds = 0.4, stall_bytes = 10 })
      assert.equal("timeout", event.error.code)
      r:rules { { delay_answer = 60 } }
      local before = core.monotonic()
      event = run_one(engine, { url = r.endpoint .. "/x", timeout = 1 })
      assert.equal("timeout", event.error.code)
      assert.truthy(event.error.message:find("not finished within 1 seconds", 1, true))
      -- On a kept connection too the server may have had the request.
      r:rules { { method = "POST", delay_answer = 60 } }
      run(engine, { { url = r.endpoint .. "/1" }, { url = r.endpoint .. "/2" } })
      event = run_one(engine, { method = "POST", url = r.endpoint .. "/x", body = "x", timeout = 1 })
      assert.equal("timeout", event.error.code)
      assert.is_true(event.error.connected)
      assert.is_true(core.monotonic() - before < 30)
    end)

    it("of the clock come in any case, however short the time was", function()
      r:rules { { delay_answer = 60 } }
      local before = core.monotonic()
      assert.equal("timeout", run_one(engine, { url = r.endpoint .. "/x", timeout = 0.0004 }).error.code)
      -- What a job does not say of the watchdog is the engine's.
      local watched = assert(core.engine { stall_seconds = 0.4, threads = threads })
      assert.equal("timeout", run_one(watched, { url = r.endpoint .. "/x", stall_bytes = 10 }).error.code)
      watched:close()
      assert.is_true(core.monotonic() - before < 20)
    end)

    it("of connecting are timeouts with the limit in the text", function()
      -- A listener whose queue is full lets nobody in.
      local socket = require "socket"
      local listener = assert(socket.bind("127.0.0.1", 0, 1))
      local _, port = listener:getsockname()
      local crowd = {}
      for i = 1, 8 do
        crowd[i] = socket.tcp()
        crowd[i]:settimeout(0)
        crowd[i]:connect("127.0.0.1", port)
      end
      local hasty = assert(core.engine { connect_timeout = 0.3, threads = threads })
      local event = run_one(hasty, { url = "http://127.0.0.1:" .. port .. "/" })
      hasty:close()
      for _, s in ipairs(crowd) do s:close() end
      listener:close()
      assert.equal("timeout", event.error.code)
      assert.truthy(event.error.message:find("no connection within 0.3 seconds", 1, true))
    end)

    it("of the watchdog do not hit a slow job that moves, nor one that the cap holds back", function()
      engine:limit { rate_limit = 100000 }
      local event = run_one(engine, put("/x", 0, 300000, { stall_seconds = 1.5, stall_bytes = 1000000 }))
      assert.equal("done", event.type, tostring(event.error))
      engine:limit { rate_limit = 0 }
      r:rules { { rate = 800000 } }
      event = run_one(engine, put("/x", 0, 2400000, { stall_seconds = 2.5, stall_bytes = 1000 }))
      assert.equal("done", event.type, tostring(event.error))
    end)
  end)

  if threads == 1 then
    it("does not take it for a stall when nobody steps for a while", function()
      r:rules { { hold = true } }
      local id = assert(engine:add(put("/x", 0, 100000, { stall_seconds = 1.5, stall_bytes = 1000000 })))
      assert(support.wait_until(function()
        engine:step(0.01)
        return #(r:log()) == 1
      end))
      core.sleep(1.6)
      r:rules {}
      local event
      while not event or event.id ~= id or event.type == "progress" do event = engine:step(1)[1] end
      assert.equal("done", event.type, tostring(event.error))
    end)
  end

  describe("connections", function()
    it("are kept and used again, unless a fresh one is asked for", function()
      local single = assert(core.engine { connections = 1, threads = threads })
      for _ = 1, 5 do run_one(single, put("/x", 0, 1000)) end
      assert.equal(1, single:stats().connections_opened)
      run_one(single, put("/x", 0, 1000, { fresh = true }))
      assert.equal(2, single:stats().connections_opened)
      single:close()
      local seen = {}
      for _, entry in ipairs((r:log())) do seen[entry.connection] = (seen[entry.connection] or 0) + 1 end
      local counts = {}
      for _, n in pairs(seen) do counts[#counts + 1] = n end
      table.sort(counts)
      assert.same({ 1, 5 }, counts)
    end)

    it("that died while idle are replaced; the body and its checksum start over", function()
      local single = assert(core.engine { connections = 1, threads = threads })
      run_one(single, put("/first", 0, 1000))
      r:rules { { drop = true, times = 1 } }
      local event = run_one(single, put("/second", 1000, 2000000))
      single:close()
      assert.equal("done", event.type, tostring(event.error))
      assert.equal(core.crc32c(data:sub(1001, 2001000)), event.crc32c)
      assert.equal(2000000, event.sent)
      local log = r:log()
      assert.equal(3, #log)
      assert.equal(core.hex(core.md5(data:sub(1001, 2001000))), log[3].md5)
    end)

    it("that died do not make a POST go out twice", function()
      local single = assert(core.engine { connections = 1, threads = threads })
      run_one(single, put("/first", 0, 1000))
      r:rules { { method = "POST", drop = true, times = 1 } }
      local event = run_one(single, { method = "POST", url = r.endpoint .. "/complete", body = "<x/>" })
      single:close()
      assert.equal("failed", event.type)
      assert.equal("network", event.error.code)
      assert.is_true(event.error.retryable)
      assert.equal(2, #(r:log()))
    end)

    it("are never more than allowed, and the limit can change", function()
      r:rules { { hold = true } }
      -- So many are under way, and not one more.
      local function under_way(n)
        support.wait_until(function()
          assert.same({}, engine:step(0.02))
          return #(r:log()) >= n
        end)
        assert.same({}, engine:step(0.1))
        assert.equal(n, #(r:log()))
        local stats = engine:stats()
        assert.equal(n, stats.active)
        assert.equal(8 - n, stats.queued)
      end
      engine:limit { connections = 2 }
      for i = 1, 8 do assert(engine:add { url = r.endpoint .. "/" .. i }) end
      under_way(2)
      engine:limit { connections = 6 }
      under_way(6)
      r:rules {}
      local ended = 0
      while ended < 8 do ended = ended + #engine:step(1) end
    end)
  end)

  describe("the bandwidth cap", function()
    it("holds for all connections together", function()
      engine:limit { rate_limit = 2000000 }
      local before = core.monotonic()
      local events = run(engine, { put("/1", 0, 700000), put("/2", 0, 700000), put("/3", 0, 700000) })
      local seconds = core.monotonic() - before
      for _, event in ipairs(events) do
        assert.equal("done", event.type)
        assert.equal(core.crc32c(data:sub(1, 700000)), event.crc32c)
      end
      assert.is_true(seconds > 0.9 and seconds < 8, tostring(seconds))
    end)

    it("holds for downloads", function()
      engine:limit { rate_limit = 1000000 }
      local before = core.monotonic()
      local event = run_one(engine, { url = r.endpoint .. "/bytes/800000" })
      local seconds = core.monotonic() - before
      assert.equal(800000, event.received)
      assert.is_true(seconds > 0.6 and seconds < 8, tostring(seconds))
    end)
  end)

  describe("progress", function()
    it("rises, never above the size, and the totals agree", function()
      engine:limit { rate_limit = 3000000 }
      local ends, progress = run(engine, { put("/x", 0, SIZE) })
      assert.is_true(#progress >= 2)
      local last = 0
      for _, event in ipairs(progress) do
        assert.is_true(event.sent >= last and event.sent <= SIZE)
        last = event.sent
      end
      assert.equal(SIZE, ends[1].sent)
      local stats = engine:stats()
      assert.equal(SIZE, stats.bytes_sent)
      assert.equal(0, stats.active)
      assert.equal(0, stats.queued)
    end)

    it("times what happened", function()
      r:rules { { delay_answer = 0.2 } }
      local event = run_one(engine, put("/x", 0, 1000))
      assert.is_true(event.seconds.connect >= 0)
      assert.is_true(event.seconds.first_byte - event.seconds.connect >= 0.2)
      assert.is_true(event.seconds.total >= event.seconds.first_byte)
    end)
  end)

  describe("cancelling", function()
    it("ends jobs under way and in the queue, and tells which were there", function()
      r:rules { { rate = 100000 } }
      local ids = {}
      for i = 1, 6 do ids[i] = assert(engine:add(put("/x", 0, SIZE))) end
      assert(support.wait_until(function()
        engine:step(0.1)
        return engine:stats().active == 4 and #(r:log()) == 4
      end))
      for i = 1, 6 do assert.is_true(engine:cancel(ids[i])) end
      assert.is_false(engine:cancel(12345))
      local ended = {}
      support.wait_until(function()
        for _, event in ipairs(engine:step(0.1)) do
          if event.type ~= "progress" then
            assert.equal("failed", event.type)
            assert.equal("cancelled", event.error.code)
            assert.is_false(event.error.retryable)
            ended[#ended + 1] = event.id
          end
        end
        return #ended == 6
      end, 10)
      table.sort(ended)
      assert.same(ids, ended)
      assert.is_false(engine:cancel(ids[1]))
      assert.equal("done", run_one(engine, { url = r.endpoint .. "/y" }).type)
    end)
  end)

  describe("the object", function()
    it("steps no longer than asked for, with and without jobs", function()
      local before = core.monotonic()
      assert.same({}, engine:step(0.15))
      local waited = core.monotonic() - before
      assert.is_true(waited >= 0.14 and waited < 10, tostring(waited))
      assert.same({}, engine:step(0))
    end)

    it("closes with work under way, twice, and says so when used afterwards", function()
      r:rules { { stall = 1000 } }
      for i = 1, 6 do engine:add(put("/x" .. i, 0, SIZE)) end
      engine:step(0.05)
      engine:close()
      engine:close()
      assert.equal("longshore.engine (closed)", tostring(engine))
      assert.has_error(function() engine:step(0) end)
      assert.has_error(function() engine:stats() end)
    end)

    it("is collected with work under way", function()
      r:rules { { stall = 1000 } }
      do
        local lost = core.engine { threads = threads }
        for i = 1, 6 do lost:add(put("/x" .. i, 0, SIZE)) end
        lost:step(0.05)
      end
      collectgarbage()
      collectgarbage()
    end)

    it("refuses a user agent that would forge headers", function()
      local forged, err = core.engine { user_agent = "a\r\nX-Forged: 1" }
      assert.is_nil(forged)
      assert.equal("invalid", err.code)
    end)

    it("takes texts from the table that keeps them, whatever its metatable makes", function()
      local made = 0
      local function make()
        made = made + 1
        return dir .. ("/none"):rep(50) .. made
      end
      local options = setmetatable({}, { __index = function(_, name) return name == "ca_file" and make() or nil end })
      core.engine(options):close()
      assert.has_error(function()
        engine:add { url = r.endpoint .. "/x", output = setmetatable({}, { __index = make }) }
      end)
      assert(engine:add(setmetatable({ url = r.endpoint .. "/x" }, { __index = make })))
      assert.equal(0, made)
    end)

    it("takes a time of last change as a whole number of 64 bits, and no other", function()
      for _, bad in ipairs { "", "x", "1x", "1\0", "9223372036854775808", "99999999999999999999", 5 } do
        assert.has_error(function()
          engine:add { method = "PUT", url = r.endpoint .. "/x", body = { path = path, length = 1, mtime_ns = bad } }
        end)
      end
    end)

    it("shows no URL and no secret", function()
      engine:add(put("/x?X-Amz-Signature=c0ffee", 0, 10, { headers = { Authorization = "Bearer hush" } }))
      assert.is_nil(tostring(engine):find("c0ffee", 1, true))
      assert.is_nil(tostring(engine):find("hush", 1, true))
    end)

    it("runs many small jobs, each once", function()
      local jobs = {}
      for i = 1, 300 do jobs[i] = put("/n" .. i, i * 1000, 1000) end
      local events = run(engine, jobs)
      for i, event in ipairs(events) do
        assert.equal(200, event.status)
        assert.equal(core.crc32c(data:sub(i * 1000 + 1, i * 1000 + 1000)), event.crc32c)
      end
      local seen = {}
      for _, entry in ipairs((r:log())) do
        assert.is_nil(seen[entry.target])
        seen[entry.target] = true
      end
      assert.is_true(engine:stats().connections_opened <= 4)
    end)
  end)
end)
end

local core = require "longshore.core"
local support = require "spec.support"
local relay = require "spec.support.relay"

local function run_one(engine, job)
  local id = assert(engine:add(job))
  local till = core.monotonic() + 120
  repeat
    for _, event in ipairs(engine:step(0.2)) do
      if event.id == id and event.type ~= "progress" then return event end
    end
  until core.monotonic() > till
  error("the job did not end")
end

describe("transfer over TLS", function()
  local r, path, data

  setup(function()
    r = relay.start { tls = true }
    path = support.tmpdir() .. "/source"
    data = core.random(4096):rep(1024) .. core.random(1000)
    support.write_file(path, data)
  end)
  teardown(function() support.cleanup() end)
  before_each(function() r:clear() end)

  local function with(options, fn)
    options.connect_timeout = 100 -- (valgrind's processors are slow)
    local engine = assert(core.engine(options))
    local ok, why = pcall(fn, engine)
    engine:close()
    if not ok then error(why, 0) end
  end

  for _, threads in ipairs { 1, 2 } do
    it(("sends every byte, whatever the size of buffer and body, threads = %d"):format(threads), function()
      for _, buffer in ipairs { 16384, 65536, 1048576 } do
        with({ ca_file = r.ca_file, buffer = buffer, threads = threads }, function(engine)
          for _, n in ipairs { 0, 1, 16383, 16384, 16385, 65536, 262144, 1048576, #data } do
            r:clear()
            local event = run_one(engine, { method = "PUT", url = r.endpoint .. "/x",
              body = { path = path, offset = #data - n, length = n } })
            assert.equal("done", event.type, tostring(event.error))
            assert.equal(200, event.status)
            assert.equal(n, event.sent)
            assert.equal(core.crc32c(data:sub(#data - n + 1)), event.crc32c)
            assert.equal(core.hex(core.md5(data:sub(#data - n + 1))), r:log()[1].md5)
          end
          assert.is_true(engine:stats().connections_opened <= 2)
        end)
      end
    end)
  end

  it("sends through a socket that is slow to take it", function()
    with({ ca_file = r.ca_file, connections = 3 }, function(engine)
      r:rules { { rate = 8000000 } }
      local ends = 0
      for i = 1, 3 do
        assert(engine:add { method = "PUT", url = r.endpoint .. "/" .. i,
          body = { path = path, offset = 0, length = #data } })
      end
      local last = {}
      while ends < 3 do
        for _, event in ipairs(engine:step(1)) do
          assert.is_true(event.sent <= #data and event.sent >= (last[event.id] or 0))
          last[event.id] = event.sent
          if event.type ~= "progress" then
            ends = ends + 1
            assert.equal("done", event.type, tostring(event.error))
            assert.equal(#data, event.sent)
          end
        end
      end
      for _, entry in ipairs((r:log())) do assert.equal(core.hex(core.md5(data)), entry.md5) end
    end)
  end)

  it("receives, keeps connections, and sends strings", function()
    with({ ca_file = r.ca_file, connections = 1 }, function(engine)
      assert.equal(300000, #run_one(engine, { url = r.endpoint .. "/bytes/300000" }).body)
      local event = run_one(engine, { method = "POST", url = r.endpoint .. "/x", body = "hello" })
      assert.equal('"' .. core.hex(core.md5("hello")) .. '"', event.headers.etag)
      assert.equal(1, engine:stats().connections_opened)
      assert.is_true(event.seconds.connect >= 0)
    end)
  end)

  it("hears an early answer behind a broken write", function()
    with({ ca_file = r.ca_file }, function(engine)
      r:rules { { early = true, status = 503, body = "<Code>SlowDown</Code>" } }
      for _ = 1, 20 do
        local event = run_one(engine, { method = "PUT", url = r.endpoint .. "/x",
          body = { path = path, length = #data } })
        assert.equal("done", event.type, tostring(event.error))
        assert.equal(503, event.status)
        assert.equal("<Code>SlowDown</Code>", event.body)
      end
    end)
  end)

  it("reports a connection that breaks as a network failure", function()
    with({ ca_file = r.ca_file }, function(engine)
      for _, rule in ipairs { { cut = 1000000 }, { cut = 1000000, reset = true }, { drop = true } } do
        r:rules { rule }
        local event = run_one(engine, { method = "PUT", url = r.endpoint .. "/x",
          body = { path = path, length = #data } })
        assert.equal("failed", event.type)
        assert.equal("network", event.error.code)
        assert.is_true(event.error.retryable)
      end
    end)
  end)

  it("sees a stall", function()
    with({ ca_file = r.ca_file }, function(engine)
      local sparse = support.tmpdir() .. "/sparse"
      support.run("truncate -s 64M " .. sparse)
      r:rules { { stall = 500000 } }
      local event = run_one(engine, { method = "PUT", url = r.endpoint .. "/x", stall_seconds = 0.5,
        stall_bytes = 10, body = { path = sparse, length = 64 * 1024 * 1024 } })
      assert.equal("timeout", event.error.code)
      assert.truthy(event.error.message:find("stalled", 1, true))
    end)
  end)

  it("refuses a certificate that the system does not trust", function()
    with({}, function(engine)
      local event = run_one(engine, { url = r.endpoint .. "/x" })
      assert.equal("failed", event.type)
      assert.equal("tls", event.error.code)
      assert.is_false(event.error.retryable)
    end)
  end)

  it("refuses a certificate for another name", function()
    with({ ca_file = r.ca_file }, function(engine)
      local url = ("https://other.localhost:%d/x"):format(r.port)
      local event = run_one(engine, { url = url })
      assert.equal("tls", event.error.code)
      assert.equal(0, #(r:log()))
      assert.equal("done", run_one(engine, { url = ("https://localhost:%d/x"):format(r.port) }).type)
    end)
  end)

  it("reads a folder of certificates, and says when there is none", function()
    local folder = support.tmpdir()
    support.run(("cp %s %s/ca.pem && openssl rehash %s"):format(r.ca_file, folder, folder))
    with({ ca_path = folder }, function(engine)
      assert.equal("done", run_one(engine, { url = r.endpoint .. "/x" }).type)
    end)
    with({ ca_file = folder .. "/nowhere.pem" }, function(engine)
      local event = run_one(engine, { url = r.endpoint .. "/x" })
      assert.equal("tls", event.error.code)
      assert.is_false(event.error.retryable)
    end)
  end)

  it("cannot be told not to verify", function()
    assert.has_error(function() core.engine { insecure = true } end)
  end)

  it("fails against a server that speaks no TLS, and plain HTTP against one that does", function()
    local plain = relay.start()
    with({ ca_file = r.ca_file }, function(engine)
      local event = run_one(engine, { url = ("https://127.0.0.1:%d/"):format(plain.port), timeout = 60 })
      assert.equal("tls", event.error.code)
      event = run_one(engine, { url = ("http://127.0.0.1:%d/"):format(r.port), timeout = 60 })
      assert.equal("failed", event.type)
      assert.equal("network", event.error.code)
    end)
    plain:stop()
  end)
end)

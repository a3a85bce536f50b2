-- Calls in threads, many of them at once. See longshore.nginx.gate.
local fake_ngx = require "spec.support.fake_ngx"
local serve = require "spec.support.serve"
local support = require "spec.support"

describe("many calls in threads", function()
  teardown(support.cleanup)

  it("share the timer that keeps nginx from stopping before them", function()
    local server = serve.start { config = "return { broker = { threads = 2 } }" }
    local script = support.write_file(support.tmpdir() .. "/load.lua", ([[
      wrk.headers["Authorization"] = "Bearer %s"]]):format(server.token))
    local count = 0
    assert.truthy(support.wait_until(function()
      local code, out = support.run(("wrk -t1 -c8 -d1s --timeout 10s -s %s %s/v0.5/files/info"):format(script,
        server.url))
      assert.equal(0, code, out)
      assert.is_nil(out:find("Non%-2xx"), out)
      count = count + tonumber(out:match("(%d+) requests in"))
      return count > 300
    end, 60))
    -- nginx runs 256 timers at once and says so when there are more.
    assert.is_nil(support.read_file(server.log):find("max_running_timers", 1, true))
    assert.equal(0, server:stop())
  end)

  -- nginx drops a timer without a word to whoever set it when too many run, those of other applications.
  it("set that timer again when nginx never ran it", function()
    local now, timers, ran = 1000, {}, 0
    fake_ngx({
      now = function() return now end,
      timer = { at = function(_, fn, gate)
        timers[#timers + 1] = { fn, gate }
        return 1
      end },
      sleep = function() error("asleep", 0) end,
      run_worker_thread = function()
        ran = ran + 1
        return true, "answer"
      end,
    }, function()
      local gate = require("longshore.nginx.gate").new { pool = "p", permits = 2, queue = 1, seconds = 1 }
      for _ = 1, 5 do assert.equal("answer", gate:run("m", "f")) end
      assert.equal(1, #timers)
      now = now + 5
      for _ = 1, 5 do gate:run("m", "f") end
      assert.equal(2, #timers)
      -- One that runs is set no second time, however long it does.
      gate.running = 1
      for _ = 1, 3 do
        now = now + 5
        assert.is_false(pcall(timers[2][1], false, gate))
        gate:run("m", "f")
      end
      assert.equal(2, #timers)
      assert.equal(13, ran)
    end)
  end)
end)

-- Calls in threads, many of them at once. See longshore.nginx.gate.
local serve = require "spec.support.serve"
local support = require "spec.support"

describe("many calls in threads", function()
  teardown(support.cleanup)

  it("share the timer that keeps nginx from stopping before them", function()
    local server = serve.start { config = "return { broker = { threads = 2 } }" }
    local script = support.write_file(support.tmpdir() .. "/load.lua", ([[
      wrk.headers["Authorization"] = "Bearer %s"]]):format(server.token))
    local code, out = support.run(("wrk -t1 -c8 -d1s --timeout 10s -s %s %s/v0.5/files/info"):format(script,
      server.url))
    assert.equal(0, code, out)
    local count = tonumber(out:match("(%d+) requests in"))
    assert.truthy(count > 300, out)
    assert.is_nil(out:find("Non%-2xx"), out)
    -- nginx runs 256 timers at once and says so when there are more.
    assert.is_nil(support.read_file(server.log):find("max_running_timers", 1, true))
    assert.equal(0, server:stop())
  end)
end)

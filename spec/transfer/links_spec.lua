-- The uploader on links that are long, or that end connections: see
-- spec/bench/links.lua. The full comparison is `make bench-transfer`.
local links = require "spec.bench.links"
local support = require "spec.support"

describe("uploading over a link", function()
  local why = links.unavailable()
  local path

  local function on_a_link(name, fn)
    it(name, function()
      if why then pending(why) return end
      path = support.tmpdir() .. "/file"
      local ok, err = pcall(fn)
      support.cleanup()
      if not ok then error(err, 0) end
    end)
  end

  local function make(megabytes)
    assert.equal(0, (support.run(("head -c %d /dev/urandom > %s"):format(megabytes * 1000000, path))))
  end

  on_a_link("that is fat and long finds that more at once are faster", function()
    make(40)
    local net = links.open("400mbit")
    local endpoint = net:serve { link = { "--delay", "40", "--window", "131072" } }
    local four = assert(net:send(endpoint, path, 2097152, 4))
    local auto = assert(net:send(endpoint, path, 2097152, "auto"))
    -- Four cannot be faster than 6.1 s by their windows. It is about half of that; some
    -- seconds are left for a machine that stands still for a moment.
    assert.is_true(auto < 0.85 * four, ("%.2f s against %.2f s with 4"):format(auto, four))
  end)

  on_a_link("to a store that takes six at once gets through, refused a few times at most", function()
    make(40)
    local net = links.open("200mbit")
    local endpoint = net:serve { link = { "--delay", "10", "--window", "131072" }, sink = { "--busy", "6" } }
    local seconds, retries = net:send(endpoint, path, 1048576, "auto")
    assert(seconds, retries)
    assert.is_true(retries <= 12, tostring(retries))
    assert.is_true(seconds < 30, tostring(seconds))
  end)

  on_a_link("that stalls and resets connections sends what was lost again, on others", function()
    make(16)
    local net = links.open("200mbit")
    local endpoint = net:serve { link = { "--delay", "5", "--jitter", "5", "--window", "131072",
      "--accidents", "5000000" } }
    local seconds, retries = net:send(endpoint, path, 2097152, 4, 1)
    assert(seconds, retries)
    assert.is_true(retries >= 1)
    assert.is_true(seconds < 60, tostring(seconds))
  end)
end)

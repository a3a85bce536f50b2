-- Uploads over made-up links: a network namespace, a veth pair held to a rate
-- by tc tbf, and link.c, which adds what this kernel's tc cannot: delay,
-- jitter, windows, stalls, resets. Needs root, ip and tc.
--
--   local links = require "spec.bench.links"
--   local why = links.unavailable()          -- nil, or why it cannot be done
--   local net = links.open("200mbit")        -- sets it up
--   local endpoint = net:serve{ link = {"--delay", "40"}, sink = {"--busy", "6"} }
--   local seconds, retries = net:send(endpoint, path, part_size, "auto", stall_seconds, limit)
--   net:close()
local core = require "longshore.core"
local support = require "spec.support"

local _M = {}

local methods = {}
local mt = { __index = methods }

--- Builds sink and link; returns their paths. (Others may do so at the same time, and run them.)
function _M.programs()
  local dir = support.root .. "/build/bench"
  assert(os.execute("mkdir -p " .. support.quote(dir)))
  for _, name in ipairs { "sink", "link" } do
    local code, out = support.run(("cd %s && [ build/bench/%s -nt spec/bench/%s.c -a build/bench/%s -nt "
      .. "spec/bench/blind.h ] || { ${CC:-gcc} -O2 -g -D_GNU_SOURCE "
      .. "-Wall -Wextra -o build/bench/%s.$$ spec/bench/%s.c -lssl -lcrypto -lpthread && "
      .. "mv build/bench/%s.$$ build/bench/%s; }"):format(
      support.quote(support.root), name, name, name, name, name, name, name))
    assert(code == 0, out)
  end
  return dir .. "/sink", dir .. "/link"
end

--- Why links cannot be made here, or nil.
function _M.unavailable()
  local name = "lsprobe" .. core.hex(core.random(3))
  local code, out = support.run(("ip netns add %s && ip link add %s type veth peer name %sp && "
    .. "tc qdisc add dev %s root tbf rate 1mbit burst 32kb latency 50ms"):format(name, name, name, name))
  support.run(("ip link del %s; ip netns del %s"):format(name, name))
  if code ~= 0 then
    return "network namespaces and tc tbf are not permitted here: " .. (out:match("[^\n]+") or "unknown reason")
  end
end

--- A namespace whose way out is held to `rate` ("200mbit").
function _M.open(rate)
  local tag = core.hex(core.random(3))
  -- The two Luas may be here at the same time: each has addresses of its own.
  local a, b = core.random(2):byte(1, 2)
  local net = ("10.%d.%d."):format(support.lua:find("jit", 1, true) and 214 or 213, a)
  local self = setmetatable({
    space = "ls" .. tag, device = "lsv" .. tag, inner = "lsw" .. tag, processes = {},
    here = net .. b - b % 4 + 1, there = net .. b - b % 4 + 2,
  }, mt)
  local code, out = support.run(([[
    ip netns add SPACE && ip link add DEVICE type veth peer name INNER && ip link set INNER netns SPACE &&
    ip addr add HOSTIP/30 dev DEVICE && ip link set DEVICE up &&
    ip netns exec SPACE ip addr add PEERIP/30 dev INNER && ip netns exec SPACE ip link set INNER up &&
    ip netns exec SPACE ip link set lo up &&
    ip netns exec SPACE tc qdisc add dev INNER root tbf rate RATE burst 128kb latency 60ms]])
    :gsub("SPACE", self.space):gsub("DEVICE", self.device):gsub("INNER", self.inner):gsub("HOSTIP", self.here)
    :gsub("PEERIP", self.there):gsub("RATE", rate))
  support.defer(function() self:close() end)
  assert(code == 0, out)
  return self
end

--- Starts a sink, and a link before it when `link` options are given; returns
-- the endpoint.
function methods:serve(options)
  local sink, link = _M.programs()
  local sink_port, port = support.free_port(), support.free_port()
  local function start(program, args)
    self.processes[#self.processes + 1] = support.spawn(program, { args = args })
  end
  local function joined(first, more)
    for _, word in ipairs(more or {}) do first[#first + 1] = tostring(word) end
    return first
  end
  start(sink, joined({ "--address", self.here, "--port", tostring(sink_port) }, options.sink))
  assert(support.wait_until(function()
    return support.run(("curl -s -o /dev/null http://%s:%d/_count"):format(self.here, sink_port)) == 0
  end, 10), "the sink did not start")
  if not options.link then return ("http://%s:%d"):format(self.here, sink_port) end
  start(link, joined({ "--listen", ("%s:%d"):format(self.here, port), "--target",
    ("%s:%d"):format(self.here, sink_port) }, options.link))
  assert(support.wait_until(function()
    return support.run(("curl -s -o /dev/null http://%s:%d/_count"):format(self.here, port)) == 0
  end, 10), "the link did not start")
  return ("http://%s:%d"):format(self.here, port)
end

--- Uploads a file from inside the namespace. Returns seconds and retries, or
-- nil and why (a run longer than `limit` seconds is ended).
function methods:send(endpoint, path, part_size, parallel, stall_seconds, limit)
  local code, out = support.run(("cd %s && timeout %d ip netns exec %s %s spec/bench/send.lua %s %s %d %s %s"):format(
    support.quote(support.root), math.ceil(limit or 120), self.space, support.lua, endpoint, support.quote(path),
    part_size, parallel, tostring(stall_seconds or 10)))
  if code ~= 0 then return nil, code == 124 and "too slow" or out end
  local seconds, retries = out:match("(%S+) (%d+)%s*$")
  return tonumber(seconds), tonumber(retries)
end

--- Stops what was started for the last `serve`.
function methods:stop()
  for _, process in ipairs(self.processes) do
    process:kill("sigkill")
    process:wait(60)
  end
  self.processes = {}
end

function methods:close()
  if self.closed then return end
  self.closed = true
  self:stop()
  support.run(("ip link del %s; ip netns del %s"):format(self.device, self.space))
end

return _M

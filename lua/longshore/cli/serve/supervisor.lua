--- Runs the nginx processes: starts them, waits until they answer, starts one
-- again that died, stops all when told to.
--
-- Each runs in a session of its own, so that Ctrl-C reaches only this process,
-- which then lets the requests in flight finish: the broker first, which needs
-- the store for that.
--
-- Room: cli.
-- @module longshore.cli.serve.supervisor
local core = require "longshore.core"
local errors = require "longshore.errors"
local finder = require "longshore.cli.serve.host"
local logs = require "longshore.cli.serve.logs"
local uv = require "luv"

local _M = {}
local methods = {}
local mt = { __index = methods }

local GRACE, RESTARTS, WINDOW = 30, 5, 60
local PAUSE = 5 -- milliseconds between looks at a log

--- Makes a supervisor.
-- @tparam string binary nginx
-- @tparam table servers of setup.write_conf
-- @tparam table output `say` (function(format, ...)), and for the servers' logs `write`, `quiet`, `debug`
-- @treturn table
function _M.new(binary, servers, output)
  return setmetatable({ binary = binary, servers = servers, say = output.say, output = output }, mt)
end

-- The environment without the paths of the Lua that runs this command.
local function environment()
  local list = {}
  for name, value in pairs(uv.os_environ()) do
    if not name:find("^LUA_C?PATH") then list[#list + 1] = name .. "=" .. value end
  end
  return list
end

-- Ends the nginx processes of a folder whose master is gone.
local function sweep(folder)
  local signal, till = "sigterm", core.monotonic() + 2
  while true do
    local pids = finder.leftovers(folder)
    if not pids[1] then return end
    for _, pid in ipairs(pids) do uv.kill(pid, signal) end
    if core.monotonic() > till then signal = "sigkill" end
    core.sleep(0.02)
  end
end

--- Ends what a server that was killed left running.
function methods:sweep()
  for _, server in ipairs(self.servers) do sweep(server.folder) end
end

--- Asks nginx whether a configuration is usable.
-- @tparam table server
-- @treturn boolean|nil
-- @treturn table err with nginx's own words
function methods:test(server)
  local command = ("unset LUA_PATH LUA_CPATH LUA_PATH_5_4 LUA_CPATH_5_4; %s -t -q -p %s/ -c %s 2>&1"):format(
    finder.shell(self.binary), finder.shell(server.folder), finder.shell(server.conf))
  local pipe = io.popen(command, "r")
  local text = pipe:read("*a")
  pipe:close()
  if text:find("[emerg]", 1, true) or text:find("failed", 1, true) then
    return errors.fail("unavailable", ("nginx refuses the %s's configuration: %s"):format(server.name,
      errors.redact(text:gsub("%s+", " "))))
  end
  return true
end

-- A pipe whose lines become lines of our log; returns the end to write to.
local function log_pipe(self, server)
  local fds = assert(uv.pipe({ nonblock = true }, { nonblock = false }))
  local pipe, read = uv.new_pipe(false), logs.reader(server.name, self.output)
  local pause = uv.new_timer()
  pipe:open(fds.read)
  local function take(_, chunk)
    read(chunk)
    if not chunk then
      pause:close()
      return pipe:close()
    end
    -- Those that follow at once are taken together: nginx writes each by itself, and would wake us for each.
    pipe:read_stop()
    pause:start(PAUSE, 0, function() pipe:read_start(take) end)
  end
  pipe:read_start(take)
  return fds.write
end

local function spawn(self, server)
  sweep(server.folder)
  server.exited = false
  local log = log_pipe(self, server)
  local handle, pid = uv.spawn(self.binary, {
    args = { "-p", server.folder .. "/", "-c", server.conf }, cwd = server.folder, detached = true,
    env = environment(), stdio = { nil, log, log },
  }, function(code, signal)
    server.exited, server.code, server.signal = true, code, signal
    server.handle:close()
    server.handle = nil
    -- A death during the start is an error, not a reason to try again.
    if not self.stopping and not self.starting then self:died(server) end
  end)
  uv.fs_close(log)
  if not handle then
    return errors.fail("unavailable", ("cannot start %s: %s"):format(self.binary, tostring(pid)))
  end
  server.handle, server.pid = handle, pid
  return true
end

-- A server that died is started again, unless it keeps dying.
function methods:died(server)
  local now = core.monotonic()
  self.say("longshore: the %s's nginx ended (%s); starting it again", server.name,
    server.signal ~= 0 and "signal " .. server.signal or "exit code " .. server.code)
  local recent = { now }
  for _, at in ipairs(server.deaths or {}) do
    if now - at < WINDOW then recent[#recent + 1] = at end
  end
  server.deaths = recent
  if #recent > RESTARTS then
    return self:fail(errors.new("unavailable",
      ("the %s's nginx ended %d times within a minute; giving up"):format(server.name, #recent)))
  end
  local timer = uv.new_timer()
  timer:start((#recent - 1) * 500, 0, function()
    timer:close()
    if self.stopping then return end
    self:refresh(server)
    local ok, err = spawn(self, server)
    if not ok then self:fail(err) end
  end)
end

--- Has the configuration written anew by the longshore that is installed now,
-- which the new nginx will load; where that fails it stays as it was.
-- @tparam table server
function methods:refresh(server)
  local undo, err = self.renew(true)
  local ok = undo ~= nil
  if ok then ok, err = self:test(server) end
  if ok then return end
  if undo then undo() end
  self.say("longshore: the %s's nginx.conf stays as it was: %s", server.name, tostring(err))
end

function methods:fail(err)
  self.error = self.error or err
  self:stop()
end

-- Calls back when the address answers, or the server has died, or never does.
local function wait_until_up(self, server, seconds)
  local host, port = server.listen:match("^(.+):(%d+)$")
  host = host:match("^%[(.*)%]$") or host
  if host == "0.0.0.0" then host = "127.0.0.1" elseif host == "::" then host = "::1" end
  local address = uv.getaddrinfo(host, port, { socktype = "stream" })[1].addr
  local till = core.monotonic() + seconds
  while core.monotonic() < till do
    if self.stopping then return true end
    local tcp, answer = uv.new_tcp(), nil
    tcp:connect(address, tonumber(port), function(err) answer = err or "up" end)
    while answer == nil and not server.exited do uv.run("once") end
    tcp:close()
    if server.exited then
      return errors.fail("unavailable", ("the %s's nginx ended at once (exit code %s); its message is above")
        :format(server.name, tostring(server.code)))
    end
    if answer == "up" then return true end
    core.sleep(0.01)
    uv.run("nowait")
  end
  return errors.fail("timeout", ("the %s does not answer on %s"):format(server.name, server.listen))
end

local function watch_signals(self)
  self.signals = {}
  for i, name in ipairs { "sigint", "sigterm" } do
    self.signals[i] = uv.new_signal()
    self.signals[i]:start(name, function() self:stop() end)
  end
  local hup = uv.new_signal()
  hup:start("sighup", function() self:reload() end)
  local usr1 = uv.new_signal()
  usr1:start("sigusr1", function() self:tell("sigusr1") end)
  self.signals[#self.signals + 1], self.signals[#self.signals + 2] = hup, usr1
end

--- Sends all servers a signal: SIGUSR1 has nginx open its logs anew.
-- @tparam string signal
function methods:tell(signal)
  for _, server in ipairs(self.servers) do
    if server.handle then server.handle:kill(signal) end
  end
end

--- Starts all servers and waits until they listen.
-- @treturn boolean|nil
-- @treturn table err
function methods:start()
  watch_signals(self)
  self.starting = true
  for _, server in ipairs(self.servers) do
    local ok, err = spawn(self, server)
    if ok then ok, err = wait_until_up(self, server, 20) end
    if not ok then
      self:stop_all("sigterm")
      return nil, err
    end
  end
  self.starting = false
  return true
end

-- Ends the servers, last started first; each has time to finish what it is doing.
function methods:stop_all(signal)
  for i = #self.servers, 1, -1 do
    local server = self.servers[i]
    local till = core.monotonic() + GRACE
    if server.handle then server.handle:kill(signal) end
    while server.handle do
      if self.hurry or core.monotonic() > till then
        server.handle:kill("sigterm")
        till, self.hurry = core.monotonic() + 5, false
      end
      uv.run("nowait")
      core.sleep(0.005)
    end
    sweep(server.folder)
  end
end

--- Has the servers read their configuration again, once it is found to be good:
-- requests in flight are finished by the old workers. SIGHUP does.
function methods:reload()
  if self.stopping or self.starting then return end
  -- `renew` has the new files written; it answers how to take that back, or nil, err.
  local undo, err = self.renew(false)
  local ok = undo ~= nil
  for _, server in ipairs(self.servers) do
    if ok then ok, err = self:test(server) end
  end
  if not ok then
    if undo then undo() end
    self.say("longshore: the configuration stays as it was: %s", tostring(err))
    return
  end
  self:tell("sighup")
  self.say("longshore: read the configuration again")
end

--- Ends `run`; a second call does not wait for requests in flight.
function methods:stop()
  if self.stopping then self.hurry = true end
  self.stopping = true
  uv.stop()
end

--- Runs until `stop` is called (SIGINT and SIGTERM do).
-- @treturn boolean|nil true after a clean stop
-- @treturn table err
function methods:run()
  while not self.stopping do uv.run() end
  self.say("longshore: stopping")
  self:stop_all("sigquit")
  if self.error then return nil, self.error end
  return true
end

--- Lets the last lines of the logs through and closes what libuv holds: a Lua
-- state that ends before its handles crashes.
function methods:close()
  for _, handle in ipairs(self.signals or {}) do handle:close() end
  self.signals = nil
  local till = core.monotonic() + 1
  while uv.run("nowait") and core.monotonic() < till do core.sleep(0.005) end
  uv.walk(function(handle)
    if not handle:is_closing() then handle:close() end
  end)
  uv.run()
end

return _M

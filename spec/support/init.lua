-- What specs share: temporary folders, free ports, processes, waiting.
--
-- Servers are started here, bind to 127.0.0.1 on a free port below 32768, and
-- are stopped by pid, also when a spec fails (call `support.cleanup` in
-- `teardown`; a finalizer is the net below it).
local uv = require "luv"
local lfs = require "lfs"
local socket = require "socket"
local core = require "longshore.core"

local _M = {}

_M.root = os.getenv("LONGSHORE_ROOT") or lfs.currentdir()
_M.lua = os.getenv("LONGSHORE_LUA") or (rawget(_G, "jit") and "luajit" or "lua5.4")

local undo = {}

--- Runs `fn` at the next `cleanup`, last in first out.
function _M.defer(fn)
  undo[#undo + 1] = fn
end

--- Stops and removes everything made since the last cleanup.
function _M.cleanup()
  for i = #undo, 1, -1 do
    local fn = undo[i]
    undo[i] = nil
    pcall(fn)
  end
end

local function random_int(max)
  local a, b, c = core.random(3):byte(1, 3)
  return (a * 65536 + b * 256 + c) % max
end

--- A fresh folder, removed at cleanup.
function _M.tmpdir()
  local path = ("/tmp/longshore-spec-%d-%06x%06x"):format(uv.os_getpid(), random_int(2 ^ 24), random_int(2 ^ 24))
  assert(lfs.mkdir(path))
  _M.defer(function() os.execute("rm -rf '" .. path .. "'") end)
  return path
end

--- A TCP port below 32768 that nobody listens on, and that nobody else gets here until the
-- cleanup: whoever may use it holds UDP's port of that number, which is of no other use.
function _M.free_port()
  for _ = 1, 200 do
    local port = 18000 + random_int(14000)
    local mark = assert(socket.udp())
    local s = mark:setsockname("127.0.0.1", port) and socket.bind("127.0.0.1", port)
    if s then
      s:close()
      _M.defer(function() mark:close() end)
      return port
    end
    mark:close()
  end
  error("no free port found")
end

function _M.write_file(path, data)
  local f = assert(io.open(path, "wb"))
  assert(f:write(data))
  assert(f:close())
  return path
end

function _M.read_file(path)
  local f, why = io.open(path, "rb")
  if not f then return nil, why end
  local data = f:read("*a")
  f:close()
  return data
end

--- Runs a shell command to its end. Returns its exit code and its output
-- (stdout and stderr together).
function _M.run(command)
  local p = io.popen("{ " .. command .. "\n} 2>&1; printf '\\n%d' $?", "r")
  local out = p:read("*a")
  p:close()
  local text, code = out:match("^(.*)\n(%d+)$")
  return tonumber(code), text
end

--- Quotes a word for the shell.
function _M.quote(word)
  return "'" .. tostring(word):gsub("'", "'\\''") .. "'"
end

--- A folder with lua/ and build/ that every user may read: this checkout, or a
-- copy when it lies where only root may look (below /root, in a private
-- temporary folder).
function _M.public_tree()
  if uv.getuid() ~= 0 then return _M.root end
  local test = ("setpriv --reuid=65534 --regid=65534 --clear-groups test -r %s")
  local file = "/lua/longshore/errors.lua"
  if _M.run(test:format(_M.quote(_M.root .. file))) == 0 then return _M.root end
  local copy = _M.tmpdir()
  local code, out = _M.run(("chmod 755 %s && cd %s && "
    .. "cp -R --parents lua build/lua5.4/longshore build/luajit/longshore %s"):format(copy, _M.quote(_M.root), copy))
  assert(code == 0, out)
  return copy
end

local process_methods = {}
local process_mt = { __index = process_methods }

--- Starts a program. `options`: args (list), env (list of "K=V" added to the
-- environment), cwd, stdout (a file path for stdout and stderr).
-- Returns a process with pid, kill(signal), wait(seconds) -> exit code, alive().
function _M.spawn(program, options)
  options = options or {}
  local fd = assert(uv.fs_open(options.stdout or "/dev/null", "a", 420))
  local env
  if options.env then
    local values = uv.os_environ()
    for _, line in ipairs(options.env) do
      local k, v = line:match("^([^=]+)=(.*)$")
      values[k] = v
    end
    env = {}
    for k, v in pairs(values) do env[#env + 1] = k .. "=" .. v end
  end
  local self = setmetatable({ exited = false }, process_mt)
  local handle, pid = uv.spawn(program, {
    args = options.args, env = env, cwd = options.cwd,
    stdio = { nil, fd, fd },
  }, function(code, signal)
    self.exited, self.code, self.signal = true, code, signal
    self.handle:close()
  end)
  uv.fs_close(fd)
  if not handle then error(("cannot start %s: %s"):format(program, tostring(pid))) end
  self.handle, self.pid = handle, pid
  _M.defer(function()
    if self:alive() then
      self:kill("sigterm")
      if not self:wait(5) then
        self:kill("sigkill")
        self:wait(5)
      end
    end
  end)
  return self
end

function process_methods:alive()
  uv.run("nowait")
  return not self.exited
end

function process_methods:kill(signal)
  if self:alive() then self.handle:kill(signal or "sigterm") end
end

function process_methods:wait(seconds)
  local till = core.monotonic() + (seconds or 30)
  repeat
    local over = core.monotonic() > till
    if not self:alive() then return self.code, self.signal end
    core.sleep(0.005)
  until over
  return nil
end

--- Waits until `fn()` is truthy; returns its value, or nil after `seconds`. (It is asked once more
-- when they are over: whoever was kept from asking finds what has come meanwhile.)
function _M.wait_until(fn, seconds, pause)
  local till = core.monotonic() + (seconds or 30)
  repeat
    local over = core.monotonic() > till
    local value = fn()
    if value then return value end
    core.sleep(pause or 0.01)
  until over
  return nil
end

--- Waits until somebody listens on a port of 127.0.0.1.
function _M.wait_port(port, seconds)
  return _M.wait_until(function()
    local s = socket.connect("127.0.0.1", port)
    if s then s:close() return true end
  end, seconds)
end

return _M

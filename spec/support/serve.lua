-- `longshore serve` for specs: real nginx, real disk store, on free ports.
local http = require "spec.support.http"
local lfs = require "lfs"
local support = require "spec.support"
local uv = require "luv"

local _M = {}

local methods = {}
local mt = { __index = methods }

--- Starts a server. `options`: tree (of support.public_tree), data (folder; a temporary one by default), config
-- (text of a configuration file), args (further arguments), port, store_port.
-- The result: url, store_url, port, store_port, data, token, log (path),
-- process; stop() -> exit code; kill() ends everything at once, nginx too;
-- start() again on the same folder and ports.
function _M.start(options)
  options = options or {}
  local self = setmetatable({ data = options.data or support.tmpdir() .. "/data", args = options.args or {},
    tree = options.tree }, mt)
  self.log = support.tmpdir() .. "/serve.log"
  if options.config then self.config = support.write_file(support.tmpdir() .. "/longshore.lua", options.config) end
  for attempt = 1, 3 do
    self.port = options.port or support.free_port()
    self.store_port = options.store_port or support.free_port()
    self.url = "http://127.0.0.1:" .. self.port
    self.store_url = "http://127.0.0.1:" .. self.store_port
    local ok, why = pcall(self.start, self, options.seconds)
    if ok then return self end
    -- Somebody was faster with one of the ports.
    if attempt == 3 or not tostring(why):find("another program listens", 1, true) then error(why, 2) end
  end
end

function methods:command()
  local args = { (self.tree or support.root) .. "/lua/longshore/cli/main.lua", "serve", "--data", self.data,
    "--listen", "127.0.0.1:" .. self.port,
    "--store-listen", "127.0.0.1:" .. self.store_port }
  if self.config then
    args[#args + 1] = "--config"
    args[#args + 1] = self.config
  end
  for _, arg in ipairs(self.args) do args[#args + 1] = arg end
  return args
end

function methods:environment()
  if not self.tree then return nil end
  return { ("LUA_PATH=%s/lua/?.lua;%s/lua/?/init.lua;;"):format(self.tree, self.tree),
    ("LUA_CPATH=%s/build/%s/?.so;;"):format(self.tree, support.lua) }
end

function methods:start(seconds)
  local before = #(support.read_file(self.log) or "")
  -- On the Lua that runs the specs, whose paths are in the environment.
  self.process = support.spawn(support.lua, { args = self:command(), stdout = self.log, env = self:environment() })
  local ready = support.wait_until(function()
    if not self.process:alive() then return "dead" end
    -- (What it says last.)
    return (support.read_file(self.log) or ""):find("longshore put FILE ", before + 1, true) and "up"
  end, seconds or 60)
  if ready ~= "up" then
    error(("longshore serve is %s:\n%s"):format(ready or "too slow", support.read_file(self.log) or ""), 2)
  end
  local token = support.read_file(self.data .. "/token")
  self.token = token and token:gsub("%s+$", "")
  return self
end

--- What a counter of its metrics is at; 0: nothing was counted. `name` with its labels, where it has any.
function methods:counter(name)
  local text = "\n" .. http.request { method = "GET", url = self.url .. "/metrics" }.body
  local _, at = text:find("\n" .. name .. " ", 1, true)
  return at and tonumber(text:match("^%d+", at + 1)) or 0
end

--- Asks it to stop; returns the exit code.
function methods:stop(signal)
  self.process:kill(signal or "sigterm")
  return self.process:wait(40)
end

--- The pids of its nginx processes, of `name` (broker, diskstore) or of both: masters first, which would
-- replace a worker that is killed before them.
function methods:nginx_pids(name)
  -- Without a shell: who kills them wants it to happen now.
  local folders, pids, masters = {}, {}, {}
  for _, folder in ipairs(name and { name } or { "broker", "diskstore" }) do
    folders[self.data .. "/run/" .. folder] = true
  end
  for entry in lfs.dir("/proc") do
    local pid = tonumber(entry)
    if pid and folders[uv.fs_readlink("/proc/" .. entry .. "/cwd")] then pids[#pids + 1] = pid end
  end
  for _, pid in ipairs(pids) do
    local title = support.read_file(("/proc/%d/cmdline"):format(pid)) or ""
    masters[pid] = title:find("master process", 1, true) and 0 or 1
  end
  table.sort(pids, function(a, b)
    if masters[a] ~= masters[b] then return masters[a] < masters[b] end
    return a < b
  end)
  return pids
end

--- Kills everything at once (kill -9), as a power failure would.
function methods:kill()
  self.process:kill("sigkill")
  for _, pid in ipairs(self:nginx_pids()) do uv.kill(pid, "sigkill") end
  self.process:wait(60)
end

return _M

-- A throwaway nginx of a user: what they wrote for the main context, for http
-- and for a server, and nothing of ours but what they pasted.
--
--   local server = nginx.start { main = "...", http = "...", server = "..." }
--   server.port, .url, .folder; server:log(); server:reload(); server:stop()
--
-- `start` raises when nginx refuses the configuration; stopped by support.cleanup().
local support = require "spec.support"
local uv = require "luv"

local _M = {}

local methods = {}
local mt = { __index = methods }

--- The lines that load the Lua module: Debian's nginx in a file, others have it built in.
function _M.modules()
  local lines = {}
  for _, name in ipairs { "ndk_http_module.so", "ngx_http_lua_module.so" } do
    local path = "/usr/lib/nginx/modules/" .. name
    if support.read_file(path) then lines[#lines + 1] = ("load_module %s;"):format(path) end
  end
  return table.concat(lines, "\n")
end

--- The lines that say where longshore is.
function _M.paths()
  return ('lua_package_path "%s/lua/?.lua;%s/lua/?/init.lua;%s/?.lua;;"; lua_package_cpath "%s/build/luajit/?.so;;";')
    :format(support.root, support.root, support.root, support.root)
end

function methods:log()
  return support.read_file(self.folder .. "/error.log") or ""
end

function methods:write(options)
  support.write_file(self.folder .. "/nginx.conf", ([[
%s
%s
daemon off; pid nginx.pid; error_log error.log %s;
%s
events { worker_connections 1024; }
http {
  access_log %s;
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  %s
  server {
    listen 127.0.0.1:%d;
    %s
  }
}]]):format(_M.modules(), uv.getuid() == 0 and "user root;" or "", options.log_level or "notice", options.main or "",
    options.access_log or "off", options.http or "", self.port, options.server or ""))
end

--- Starts one.
function _M.start(options)
  local self = setmetatable({ folder = options.folder or support.tmpdir(), port = support.free_port() }, mt)
  self.url = "http://127.0.0.1:" .. self.port
  self:write(options)
  self.process = support.spawn("/usr/sbin/nginx", { args = { "-p", self.folder .. "/", "-c", "nginx.conf",
    "-e", "error.log" }, stdout = self.folder .. "/error.log", env = options.env })
  support.wait_until(function() return not self.process:alive() or support.wait_port(self.port, 0.05) end, 60)
  if not self.process:alive() then error("nginx does not start:\n" .. self:log(), 2) end
  return self
end

--- Has it read its configuration again, and waits for the new workers.
function methods:reload()
  local function workers()
    return (support.read_file(("/proc/%d/task/%d/children"):format(self.process.pid, self.process.pid)) or "")
      :match("%d+%s*$")
  end
  local before = workers()
  self.process:kill("sighup")
  assert(support.wait_until(function() return workers() ~= before end, 30), self:log())
end

--- Stops it as a service manager does, gracefully.
function methods:stop(signal)
  self.process:kill(signal or "sigquit")
  assert(self.process:wait(40), "nginx does not stop")
end

return _M

--- The nginx.conf that broker and disk store have in common: modules, pools,
-- paths, logs, TLS. Each has its own template, which fills in the rest.
--
-- The `host` says where things are on this machine:
--
--     { folder = "/data/run/broker",      -- nginx's prefix: pid and temporary files live here
--       config = "/data/run/config.lua",  -- what the worker threads load (longshore.config)
--       modules = { "/usr/lib/nginx/modules/ndk_http_module.so", ... },
--       lua_path = "/src/lua/?.lua;...", lua_cpath = "/src/build/luajit/?.so",
--       user = "name group" | nil,        -- only where nginx starts as root
--       bodies = "/data/objects/.bodies/nginx" | nil,  -- where the disk store's nginx spools, if not where it would
--       files = { soft = 1024, hard = 4096 } | nil,  -- how many it may have open
--       error_log = "stderr" (default), access_log = path | "syslog:..." | "/dev/stderr" | "none" | "off" (default) }
--
-- Room: nginx. No I/O, no ngx: it also runs outside nginx.
-- @module longshore.nginx.conf
local errors = require "longshore.errors"

local _M = {}

--- Quotes a word for nginx.conf. Raises an error of longshore.errors for what
-- nginx has no way to write.
-- @tparam string text
-- @treturn string
function _M.quote(text)
  if text:find('[%c"\\$]') then
    error(errors.new("invalid", ("nginx cannot be given a path with a quote, a backslash, a dollar sign "
      .. "or a control character: %q"):format(text), { field = "data" }))
  end
  return '"' .. text .. '"'
end

-- The lines that say where to listen.
local function listen_lines(address, tls)
  local lines = { ("listen %s%s;"):format(address, tls and " ssl" or "") }
  if tls then
    lines[2] = ("ssl_certificate %s;"):format(_M.quote(tls.certificate))
    lines[3] = ("ssl_certificate_key %s;"):format(_M.quote(tls.key))
    lines[4] = "ssl_protocols TLSv1.2 TLSv1.3;"
    lines[5] = "ssl_session_cache shared:tls:1m;"
  end
  return table.concat(lines, "\n    ")
end

local log_levels = { debug = "info", info = "notice", warn = "warn", error = "error" }

-- A connection is a file, and its body may be another one. Below what nginx would
-- warn of, the limit is raised as far as it goes, or there are fewer connections.
local function connections(host, server)
  local wanted, files = server.connections or 4096, host.files
  if not files or files.soft >= wanted then return wanted end
  return math.min(wanted, files.hard), math.min(2 * wanted, files.hard)
end

local function main_lines(host, server)
  local lines = {}
  for _, path in ipairs(host.modules) do
    lines[#lines + 1] = ("load_module %s;"):format(_M.quote(path))
  end
  if host.user then lines[#lines + 1] = ("user %s;"):format(host.user) end
  lines[#lines + 1] = "daemon off;"
  -- nginx empties the environment; this is what libcurl and OpenSSL look at.
  for _, name in ipairs { "TZ", "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy",
    "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR" } do
    lines[#lines + 1] = ("env %s;"):format(name)
  end
  lines[#lines + 1] = ("worker_processes %d;"):format(server.workers)
  local _, limit = connections(host, server)
  if limit then lines[#lines + 1] = ("worker_rlimit_nofile %d;"):format(limit) end
  lines[#lines + 1] = ("pid %s;"):format(_M.quote(host.folder .. "/nginx.pid"))
  -- A worker that ends waits for bodies on their way and for calls of which the store takes its time, not longer than
  -- this: who was cut off resumes. (`serve` has less patience when it stops.)
  lines[#lines + 1] = "worker_shutdown_timeout 600s;"
  local target = host.error_log or "stderr"
  if target ~= "stderr" then target = _M.quote(target) end
  lines[#lines + 1] = ("error_log %s %s;"):format(target, log_levels[server.log_level or "info"])
  for _, pool in ipairs(server.pools) do
    lines[#lines + 1] = ("thread_pool %s threads=%d max_queue=%d;"):format(pool.name, pool.threads, pool.max_queue)
  end
  return table.concat(lines, "\n")
end

local function http_lines(host, server)
  local lines = {
    "server_tokens off;",
    "default_type application/octet-stream;",
    "keepalive_timeout 75s;",
    "keepalive_requests 100000;",
    "large_client_header_buffers 8 16k;",
    -- (So long a stop waits, too, for connections on which nothing was asked yet.)
    "client_header_timeout 10s;",
    "client_body_timeout 60s;",
    "merge_slashes off;",
    "tcp_nodelay on;",
  }
  for _, kind in ipairs { "client_body", "proxy", "fastcgi", "uwsgi", "scgi" } do
    lines[#lines + 1] = ("%s_temp_path %s;"):format(kind,
      _M.quote(kind == "client_body" and server.body_folder or host.folder .. "/tmp_" .. kind))
  end
  lines[#lines + 1] = ("lua_package_path %s;"):format(_M.quote(host.lua_path .. ";;"))
  lines[#lines + 1] = ("lua_package_cpath %s;"):format(_M.quote(host.lua_cpath .. ";;"))
  local vms = 0
  for _, pool in ipairs(server.pools) do vms = vms + pool.vms end
  lines[#lines + 1] = ("lua_worker_thread_vm_pool_size %d;"):format(vms)
  local access = host.access_log or "off"
  if access == "off" then
    lines[#lines + 1] = "access_log off;"
  elseif access ~= "none" then -- (others of the server's lines say)
    -- The path without its query: presigned URLs carry their signature there.
    lines[#lines + 1] = ("log_format longshore '%s$log_method $log_path $status $body_bytes_sent $request_time "
      .. "$remote_addr $sent_http_x_request_id';"):format(access == "/dev/stderr" and "request " or "$time_iso8601 ")
    lines[#lines + 1] = ("access_log %s longshore;"):format(_M.quote(access))
    lines[#lines + 1] = [[map $request_uri $log_path { "~^(?<longshore_path>[^?]*)" $longshore_path; default -; }]]
    -- (A refusal is an internal redirect, which makes a GET of $request_method.)
    lines[#lines + 1] = [[map $request $log_method { "~^(?<longshore_method>[A-Z]+) " $longshore_method; default -; }]]
  end
  for _, line in ipairs(server.http or {}) do lines[#lines + 1] = line end
  return "  " .. table.concat(lines, "\n  ")
end

--- Renders an nginx.conf with one server.
-- @tparam table host see above
-- @tparam table server `listen`, `tls`, `workers`, `log_level`, `connections` (4096), `pools` (list of
-- `{name=, threads=, max_queue=, vms=}`; `vms` is how many calls may be outstanding, each has a Lua VM),
-- `body_folder` (where nginx spools bodies), `http` (list of lines), `server` (list of lines)
-- @treturn string
function _M.render(host, server)
  return ([[
# Written by longshore; changes are lost at the next start.
%s
events { worker_connections %d; }
http {
%s
  server {
    %s
    %s
  }
}
]]):format(main_lines(host, server), (connections(host, server)), http_lines(host, server),
    listen_lines(server.listen, server.tls), table.concat(server.server, "\n    "))
end

return _M

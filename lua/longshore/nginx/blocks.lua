--- The lines that mount the broker in an nginx.conf: for its main context, its
-- http context, and a server. `longshore serve` writes them, `longshore
-- nginx-conf` prints them to be pasted, and an answer names the one that is missing.
--
-- Room: nginx. No I/O, no ngx.
-- @module longshore.nginx.blocks
local conf = require "longshore.nginx.conf"
local pools = require "longshore.nginx.pools"
local registry = require "longshore.service.registry"

local _M = {}

--- The dictionary that workers and threads share: what was fetched, or read a moment ago. Much comes and goes.
_M.dictionary = "longshore"

--- The dictionary of the counters.
_M.counters = "longshore_metrics"

--- The dictionary of how often who has asked: what a full one drops would be asked once more.
_M.rates = "longshore_rates"

--- All of them, in the order of their lines.
_M.dictionaries = { _M.dictionary, _M.counters, _M.rates }

-- What nginx takes for a large number of bytes.
local function kilobytes(bytes)
  return ("%.0fk"):format(math.ceil(bytes / 1024))
end

local function each_pool(broker, fn)
  local of = pools.of(broker)
  for _, kind in ipairs(pools.kinds) do fn(of[kind]) end
end

--- The line for locations of refusals: nginx's limit for bodies (1m, unless said otherwise) would refuse once more what
-- came in chunks and was refused for its size.
_M.unlimited_line = "client_max_body_size 0;"

--- The pools, as `longshore.nginx.conf` takes them.
-- @tparam table broker `config.broker`
-- @treturn table list
function _M.pools(broker)
  local list = {}
  each_pool(broker, function(pool) list[#list + 1] = pool end)
  return list
end

--- The line that declares a pool.
-- @tparam table pool of `longshore.nginx.pools`
-- @treturn string
function _M.pool_line(pool)
  return ("thread_pool %s threads=%d max_queue=%d;"):format(pool.name, pool.threads, pool.max_queue)
end

--- How many Lua VMs the threads need.
-- @tparam table broker `config.broker`
-- @treturn string
function _M.vm_line(broker)
  local vms = 0
  each_pool(broker, function(pool) vms = vms + pool.vms end)
  return ("lua_worker_thread_vm_pool_size %d;"):format(vms)
end

--- The lines that declare the shared dictionaries.
-- @treturn table list
function _M.dictionary_lines()
  local sizes, lines = { "8m", "2m", "4m" }, {}
  for i, name in ipairs(_M.dictionaries) do lines[i] = ("lua_shared_dict %s %s;"):format(name, sizes[i]) end
  return lines
end

--- The line that reads the configuration.
-- @tparam[opt] string path of the configuration
-- @treturn string
function _M.init_line(path)
  return ("init_by_lua_block { require(\"longshore.nginx\").setup { config = %s } }"):format(
    conf.quote(path or "/etc/longshore.lua"))
end

--- The line that starts what runs by itself.
-- @treturn string
function _M.init_worker_line()
  return "init_worker_by_lua_block { require(\"longshore.nginx\").start() }"
end

-- Variables of the logs: empty unless the handler fills them in. A map makes
-- them without a `set` in every location.
local variables = { "operation", "user", "organization", "tenant", "token", "target", "audit" }

-- As much of a path as is UTF-8, without its query: bytes that are not would make a line that no reader of JSON takes.
local utf8_path = "(?:[\\x00-\\x3e\\x40-\\x7f]++|[\\xc2-\\xdf][\\x80-\\xbf]|\\xe0[\\xa0-\\xbf][\\x80-\\xbf]"
  .. "|[\\xe1-\\xec\\xee\\xef][\\x80-\\xbf]{2}|\\xed[\\x80-\\x9f][\\x80-\\xbf]|\\xf0[\\x90-\\xbf][\\x80-\\xbf]{2}"
  .. "|[\\xf1-\\xf3][\\x80-\\xbf]{3}|\\xf4[\\x80-\\x8f][\\x80-\\xbf]{2})*+"

-- What both logs say of a request.
local common = '"time":"$time_iso8601","request_id":"$sent_http_x_request_id","operation":"$longshore_operation",'
  .. '"status":$status,"remote_addr":"$remote_addr","tenant":"$longshore_tenant",'
  .. '"organization":"$longshore_organization","user":"$longshore_user","token":"$longshore_token"'

--- The lines for the http context that have to do with logs: the path without its
-- query (presigned URLs carry their signature there), and two formats, one JSON
-- object a line: `longshore_json` for all requests, `longshore_audit` for those
-- that change something, used with `if=$longshore_audit`.
-- @treturn table list of lines
function _M.log_lines()
  local lines = {}
  for _, name in ipairs(variables) do
    lines[#lines + 1] = ('map $host $longshore_%s { default ""; }'):format(name)
  end
  lines[#lines + 1] = ([[map $request_uri $longshore_log_path { "~^(?<longshore_bare>%s)(?:\?|$)" $longshore_bare; ]]
    .. [["~^(?<longshore_start>%s)" "$longshore_start..."; default -; }]]):format(utf8_path, utf8_path)
  -- (A refusal is an internal redirect, which makes a GET of $request_method.)
  lines[#lines + 1] = "map $request $longshore_log_method "
    .. [[{ "~^(?<longshore_verb>[A-Z]+) " $longshore_verb; default -; }]]
  lines[#lines + 1] = "log_format longshore_json escape=json '{" .. common
    .. ',"method":"$longshore_log_method","path":"$longshore_log_path","changes":"$longshore_audit",'
    .. '"bytes_in":$request_length,'
    .. '"bytes_out":$body_bytes_sent,"seconds":$request_time}' .. "';"
  lines[#lines + 1] = "log_format longshore_audit escape=json '{" .. common .. ',"target":"$longshore_target"}' .. "';"
  return lines
end

--- The lines for the structured logs that the configuration asks for.
-- @tparam table log `config.log`
-- @tparam[opt] string access where the access log goes, if not where `log` says
-- @treturn table list of lines
function _M.log_targets(log, access)
  local lines = {}
  access = access or log.access
  -- Lines for a file are written together, within a second; /dev/stderr is somebody looking on.
  local function add(target, format, condition)
    local at_once = target:find("^syslog:") or target:find("^/dev/") or log.buffered == false
    lines[#lines + 1] = ("access_log %s %s%s%s;"):format(conf.quote(target), format,
      at_once and "" or " buffer=64k flush=1s", condition or "")
  end
  if access and access ~= "off" and log.format == "json" then add(access, "longshore_json") end
  if log.audit then add(log.audit, "longshore_audit", " if=$longshore_audit") end
  return lines
end

-- A location that matches what a route's path template does.
local function location_of(prefix, path)
  path = prefix .. path
  if not path:find("{", 1, true) then return ("location = %s"):format(path) end
  local pattern = path:gsub("[%.%-%+%*%?]", "\\%0"):gsub("{[%w_]+}", "[^/]+")
  return ('location ~ "^%s$"'):format(pattern)
end

-- What `handle` is given, as Lua.
local function mount_text(options, actor)
  local words = {}
  if options.prefix ~= "" then words[#words + 1] = ("prefix = %q"):format(options.prefix) end
  if options.services then
    local names = {}
    for i, name in ipairs(options.services) do names[i] = ("%q"):format(name) end
    words[#words + 1] = ("services = { %s }"):format(table.concat(names, ", "))
  end
  if actor then words[#words + 1] = "actor = " .. actor end
  if #words == 0 then return "()" end
  return " { " .. table.concat(words, ", ") .. " }"
end

local function add_location(lines, head, inside)
  lines[#lines + 1] = head .. " {"
  for _, line in ipairs(inside) do lines[#lines + 1] = "  " .. line end
  lines[#lines + 1] = "}"
end

--- The services that a mount has.
-- @tparam table config
-- @tparam[opt] table names
-- @treturn table name to settings, those not mounted disabled
function _M.services(config, names)
  if not names then return config.services end
  local wanted, services = {}, {}
  for _, name in ipairs(names) do wanted[name] = true end
  for name, settings in pairs(config.services) do
    services[name] = wanted[name] and settings or { enabled = false }
    wanted[name] = nil
  end
  local unknown = next(wanted)
  if unknown then error(("services: there is no service named %q"):format(unknown), 0) end
  return services
end

--- The locations of a mount.
-- @tparam table config of longshore.config
-- @tparam[opt] table options `prefix` ("/uploads"; nothing: the whole server), `services` (names), `actor` (Lua
-- text that makes one), `logs` (lines for each location that handles requests), `monitoring` (false: without health and
-- metrics), `refusals` (false: nginx's own refusals are the server's matter)
-- @treturn table list of lines
function _M.locations(config, options)
  options = options or {}
  local mount = { prefix = options.prefix or "", services = options.services }
  local lines, broker = {}, config.broker
  local handle = ("content_by_lua_block { require(\"longshore.nginx\").handle%s }"):format(
    mount_text(mount, options.actor))
  local refused = ("%s/.longshore-refused"):format(mount.prefix)
  local function add_handler(to, head, inside)
    if options.refusals ~= false then
      inside[#inside + 1] = ("error_page 400 403 411 413 429 500 503 %s;"):format(refused)
    end
    for _, line in ipairs(options.logs or {}) do inside[#inside + 1] = line end
    inside[#inside + 1] = handle
    add_location(to, head, inside)
  end
  if options.refusals ~= false then
    add_location(lines, "location = " .. refused, { "internal;", _M.unlimited_line,
      ("content_by_lua_block { require(\"longshore.nginx\").refused(nil, %q) }"):format(mount.prefix) })
  end
  if options.monitoring ~= false then
    for _, name in ipairs { "healthz", "readyz" } do
      add_location(lines, ("location = %s/%s"):format(mount.prefix, name), { "access_log off;",
        ("content_by_lua_block { require(\"longshore.nginx\").%s() }"):format(name) })
    end
    local metrics = { "access_log off;" }
    for _, address in ipairs(broker.metrics_allow) do metrics[#metrics + 1] = ("allow %s;"):format(address) end
    metrics[#metrics + 1] = "deny all;"
    metrics[#metrics + 1] = "content_by_lua_block { require(\"longshore.nginx\").metrics() }"
    add_location(lines, ("location = %s/metrics"):format(mount.prefix), metrics)
  end
  -- The buffer is as large as the largest body: none is written to disk.
  local all = { ("client_max_body_size %s;"):format(kilobytes(broker.max_body)),
    ("client_body_buffer_size %s;"):format(kilobytes(broker.max_body)) }
  for _, route in ipairs(registry.routes(_M.services(config, mount.services))) do
    if route.tunnel then
      -- Bodies of tunnels go to a file, up to the route's limit; nothing is buffered twice.
      local head = location_of(mount.prefix, route.path)
      -- (Patterns stand inside: outside, ^~ would keep them from being looked at.)
      add_handler(mount.prefix ~= "" and head:find("location ~", 1, true) and all or lines, head, {
        ("client_max_body_size %s;"):format(kilobytes(route.max_body)), "client_body_in_file_only clean;",
        "client_body_buffer_size 128k;" })
    end
  end
  -- Below a prefix all is ours, also what another application's locations by suffix (`~ \.php$`) would take.
  add_handler(lines, ("location %s%s/"):format(mount.prefix ~= "" and "^~ " or "", mount.prefix), all)
  return lines
end

return _M

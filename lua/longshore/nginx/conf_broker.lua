--- The broker's nginx.conf.
--
-- Room: nginx. No I/O, no ngx.
-- @module longshore.nginx.conf_broker
local conf = require "longshore.nginx.conf"
local pools = require "longshore.nginx.pools"
local registry = require "longshore.service.registry"

local _M = {}

local function megabytes(bytes)
  return ("%.0fk"):format(math.ceil(bytes / 1024))
end

-- A location that matches what a route's path template does.
local function location_of(path)
  if not path:find("{", 1, true) then return ("location = %s"):format(path) end
  local pattern = path:gsub("[%.%-%+%*%?]", "\\%0"):gsub("{[%w_]+}", "[^/]+")
  return ('location ~ "^%s$"'):format(pattern)
end

-- Bodies of tunnels go to a file, up to the route's limit; nothing is buffered twice.
local function tunnel_locations(config)
  local lines = {}
  for _, route in ipairs(registry.routes(config.services)) do
    if route.tunnel then
      lines[#lines + 1] = ("%s {"):format(location_of(route.path))
      lines[#lines + 1] = ("  client_max_body_size %s;"):format(megabytes(route.max_body))
      lines[#lines + 1] = "  client_body_in_file_only clean;"
      lines[#lines + 1] = "  client_body_buffer_size 128k;"
      lines[#lines + 1] = "  content_by_lua_block { require(\"longshore.nginx\").handle() }"
      lines[#lines + 1] = "}"
    end
  end
  return lines
end

--- Renders the broker's nginx.conf.
-- @tparam table config of longshore.config
-- @tparam table host see longshore.nginx.conf
-- @treturn string
function _M.render(config, host)
  local broker, of = config.broker, pools.of(config.broker)
  local server = {
    ("client_max_body_size %s;"):format(megabytes(broker.max_body)),
    -- The buffer is as large as the largest body: none is written to disk.
    ("client_body_buffer_size %s;"):format(megabytes(broker.max_body)),
    "error_page 400 403 404 405 408 411 412 413 414 415 416 417 500 501 502 503 504 505 /.longshore-refused;",
    -- These two arrive as 400.
    "error_page 494 /.longshore-refused-494;",
    "error_page 497 /.longshore-refused-497;",
  }
  for _, status in ipairs { "", "494", "497" } do
    server[#server + 1] = ("location = /.longshore-refused%s {"):format(status == "" and "" or "-" .. status)
    server[#server + 1] = "  internal;"
    server[#server + 1] = ("  content_by_lua_block { require(\"longshore.nginx\").refused(%s) }"):format(status)
    server[#server + 1] = "}"
  end
  for _, line in ipairs(tunnel_locations(config)) do server[#server + 1] = line end
  server[#server + 1] = "location / {"
  server[#server + 1] = "  content_by_lua_block { require(\"longshore.nginx\").handle() }"
  server[#server + 1] = "}"
  return conf.render(host, {
    listen = broker.listen, tls = broker.tls, workers = broker.workers, log_level = config.log.level,
    pools = { of.requests, of.janitor }, body_folder = config.data .. "/spool", server = server,
    http = {
      ("init_by_lua_block { require(\"longshore.nginx\").setup { config = %s } }"):format(conf.quote(host.config)),
      "init_worker_by_lua_block { require(\"longshore.nginx\").start() }",
    },
  })
end

return _M

--- The broker's nginx.conf.
--
-- What nginx refuses by itself gets the service's shape through `error_page`. One
-- thing it does not let itself be told: a request whose head or body stops
-- arriving (`client_header_timeout`, 10 s; `client_body_timeout`, 60 s) is ended by
-- closing the connection; nginx gives no 408 to `error_page`, nor to the client.
--
-- Room: nginx. No I/O, no ngx.
-- @module longshore.nginx.conf_broker
local blocks = require "longshore.nginx.blocks"
local conf = require "longshore.nginx.conf"

local _M = {}

--- Renders the broker's nginx.conf.
-- @tparam table config of longshore.config
-- @tparam table host see longshore.nginx.conf
-- @treturn string
function _M.render(config, host)
  local server = {
    "error_page 400 403 404 405 411 412 413 414 415 416 417 429 500 501 502 503 504 505 /.longshore-refused;",
    -- These two arrive as 400.
    "error_page 494 /.longshore-refused-494;",
    "error_page 497 /.longshore-refused-497;",
  }
  for _, status in ipairs { "", "494", "497" } do
    server[#server + 1] = ("location = /.longshore-refused%s {"):format(status == "" and "" or "-" .. status)
    server[#server + 1] = "  internal; " .. blocks.unlimited_line
    server[#server + 1] = ("  content_by_lua_block { require(\"longshore.nginx\").refused(%s) }"):format(status)
    server[#server + 1] = "}"
  end
  for _, line in ipairs(blocks.locations(config, { refusals = false })) do server[#server + 1] = line end
  local http = { blocks.init_line(host.config), blocks.init_worker_line() }
  for _, line in ipairs(blocks.dictionary_lines()) do http[#http + 1] = line end
  for _, line in ipairs(blocks.log_lines()) do http[#http + 1] = line end
  local given, logs = {}, blocks.log_targets(config.log, host.access_log)
  for name, value in pairs(host) do given[name] = value end
  for _, line in ipairs(logs) do http[#http + 1] = line end
  if config.log.format == "json" or (host.access_log or "off") == "off" then
    -- ("off" would silence the lines beside it.)
    given.access_log = logs[1] and "none" or "off"
  end
  return conf.render(given, {
    listen = config.broker.listen, tls = config.broker.tls, workers = config.broker.workers,
    log_level = config.log.level, pools = blocks.pools(config.broker), body_folder = host.folder .. "/tmp_client_body",
    server = server, http = http,
  })
end

return _M

--- The disk store's nginx.conf.
--
-- What nginx refuses by itself gets S3's shape through `error_page`. Two things
-- it does not let itself be told: a body that stops arriving is answered by
-- closing the connection (no 408), and a path that climbs above its root
-- (`/bucket/../../x`) is 400 before anybody is asked for the key.
--
-- Room: nginx. No I/O, no ngx.
-- @module longshore.nginx.conf_diskstore
local conf = require "longshore.nginx.conf"
local pools = require "longshore.nginx.diskstore_pools"

local _M = {}

local kinds = { "heavy", "light", "read", "janitor" }

local function call(name)
  return ("{ require(\"longshore.nginx.diskstore\").%s() }"):format(name)
end

--- Renders the disk store's nginx.conf.
-- @tparam table config of longshore.config
-- @tparam table host see longshore.nginx.conf
-- @treturn string
function _M.render(config, host)
  local disk = config.diskstore
  local of = pools.of(disk)
  local list = {}
  for i, kind in ipairs(kinds) do list[i] = of[kind] end
  list[#list + 1] = { name = "diskstore_files", threads = disk.threads, max_queue = 65536, vms = 0 }
  return conf.render(host, {
    listen = disk.listen, tls = disk.tls, workers = disk.workers, log_level = config.log.level,
    pools = list, body_folder = host.bodies or disk.folder .. "/spool",
    http = {
      "lua_shared_dict longshore_diskstore 4m;",
      -- Named in a format, the id is made once for a request.
      "log_format longshore_request \"$request_id\";",
      -- A header is metadata: no name of one is dropped or changed.
      "underscores_in_headers on;",
      "ignore_invalid_headers off;",
      "lua_transform_underscores_in_response_headers off;",
      ("init_by_lua_block { require(\"longshore.nginx.diskstore\").setup { config = %s } }"):format(
        conf.quote(host.config)),
      "init_worker_by_lua_block " .. call("start"),
    },
    server = {
      -- Sizes are checked by the access handler, in S3's words; this bounds
      -- what comes in HTTP's chunks, which announce nothing.
      ("client_max_body_size %.0f;"):format(2 * disk.max_body + 8 * 1048576),
      "client_body_in_file_only clean;",
      "client_body_buffer_size 256k;",
      "sendfile on;",
      "tcp_nopush on;",
      "aio threads=diskstore_files;",
      "etag off;",
      "header_filter_by_lua_block " .. call("headers"),
      "error_page 400 401 402 403 404 405 408 411 412 413 414 415 416 417 495 496 497 500 501 502 503 504 505 507 "
        .. "/.longshore-refused;",
      -- Of these nginx forgets the number, and says 400.
      "error_page 494 /.longshore-headers;",
      "location / {",
      "  set $longshore_file \"\";",
      "  set $longshore_answer \"\";",
      "  access_by_lua_block " .. call("access"),
      "  content_by_lua_block " .. call("content"),
      "}",
      "location @closing {",
      "  keepalive_timeout 0;",
      "  content_by_lua_block " .. call("closing"),
      "}",
      "location @file {",
      ("  root %s;"):format(conf.quote(disk.folder)),
      -- The document says that it is there.
      "  try_files $longshore_file =500;",
      "}",
      "location = /.longshore-refused {",
      "  internal;",
      "  content_by_lua_block " .. call("refused"),
      "}",
      "location = /.longshore-headers {",
      "  internal;",
      "  content_by_lua_block { require(\"longshore.nginx.diskstore\").refused(494) }",
      "}",
    },
  })
end

return _M

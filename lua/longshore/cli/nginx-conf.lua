--- `longshore nginx-conf`: the three blocks that mount the broker in an nginx of
-- one's own.
--
-- Room: cli.
-- @module longshore.cli.nginx-conf
local common = require "longshore.cli.common"
local errors = require "longshore.errors"
local lfs = require "lfs"

local _M = {
  summary = [[
Prints the lines that mount the broker in an nginx.conf of your own: a block for
the main context, one for http, one for a server. They work as pasted.]],
}

--- Adds the options.
function _M.configure(parser)
  parser:option("--config"):argname("FILE")
    :description("The broker's configuration, which nginx will read (default: none; the printed path is then "
      .. "/etc/longshore.lua).")
  parser:option("--prefix"):argname("PATH")
    :description("Mount below this path, for example /uploads, beside what else the server does. "
      .. "broker.public_url should end in it.")
  parser:option("--service"):argname("NAME"):count("*"):description "Mount this service only. May be repeated."
  parser:option("--actor"):argname("LUA")
    :description("A Lua expression that says who asks, where the host authenticates: "
      .. '{ user =, organization =, rights = { "upload" } }.')
  parser:option("--block"):argname("BLOCK"):choices { "main", "http", "server" }
    :description "Print one block only, without comments."
  parser:epilog [[
Exit codes: 0 printed, 1 the configuration is wrong, 2 wrong usage.

Examples:
  longshore nginx-conf --config /etc/longshore.lua
  longshore nginx-conf --prefix /uploads --service newton
  longshore nginx-conf --prefix /uploads --actor 'require("my_app").actor()']]
end

local function absolute(path)
  return path:sub(1, 1) == "/" and path or lfs.currentdir() .. "/" .. path
end

local function main_block(config, host)
  local blocks = require "longshore.nginx.blocks"
  local lines = {}
  for _, path in ipairs(host.modules) do
    lines[#lines + 1] = ("# load_module %s;   # unless your nginx loads it already"):format(path)
  end
  for _, pool in ipairs(blocks.pools(config.broker)) do lines[#lines + 1] = blocks.pool_line(pool) end
  return lines
end

local function http_block(config, host, path)
  local blocks = require "longshore.nginx.blocks"
  local lines = {
    ('lua_package_path "%s;;";'):format(host.lua_path), ('lua_package_cpath "%s;;";'):format(host.lua_cpath),
    blocks.vm_line(config.broker), blocks.init_line(path), blocks.init_worker_line(),
  }
  for _, line in ipairs(blocks.dictionary_lines()) do lines[#lines + 1] = line end
  for _, line in ipairs(blocks.log_lines()) do lines[#lines + 1] = line end
  return lines
end

local about = {
  main = { "1. the main context: before or after `events`, outside of `http`" },
  http = { "2. the http context: above its servers",
    "   (a directive that is there already: join both, `lua_package_path` with a `;`,",
    "   `init_by_lua_block` by calling both, `lua_worker_thread_vm_pool_size` by adding;",
    "   nginx's user must own the data folder)" },
  server = { "3. a server: beside its other locations" },
}

local function show(args, name, lines)
  if args.block and args.block ~= name then return end
  if not args.block then
    for _, line in ipairs(about[name]) do common.print("%s", "# " .. line) end
  end
  for _, line in ipairs(lines) do common.print("%s", line) end
  if not args.block then common.print("") end
end

--- Runs the command.
-- @tparam table args
-- @treturn number|nil exit code
-- @treturn table err
function _M.run(args)
  local prefix = (args.prefix or ""):gsub("/+$", "")
  if prefix ~= "" and not prefix:find("^/[%w%._~%-/]*$") then
    common.usage("--prefix: a path such as /uploads is expected")
  end
  local config, err = require("longshore.config").load(args.config)
  if not config then return nil, err end
  for _, name in ipairs(args.service) do
    if not config.services[name] then common.usage(("--service: there is no service named %s"):format(name)) end
  end
  if args.actor then
    local ok, why = (loadstring or load)("return " .. args.actor) -- luacheck: ignore
    if not ok then common.usage("--actor: " .. tostring(why)) end
  end
  local host
  host, err = require("longshore.cli.serve.host").find(config)
  if not host then return nil, err end
  local path, made = args.config and absolute(args.config), require "longshore.nginx.blocks"
  local done, blocks = pcall(function()
    return {
      main = main_block(config, host), http = http_block(config, host, path),
      server = made.locations(config, { prefix = prefix, services = args.service[1] and args.service,
        actor = args.actor, logs = made.log_targets(config.log) }),
    }
  end)
  if not done then
    if errors.is(blocks) then return nil, blocks end
    error(blocks, 0)
  end
  for _, name in ipairs { "main", "http", "server" } do show(args, name, blocks[name]) end
  return 0
end

return _M

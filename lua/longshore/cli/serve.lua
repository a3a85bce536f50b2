--- `longshore serve`: a broker and a disk store on this machine.
--
-- The first run makes everything it needs in the data folder; later runs find
-- it there, also after everything was killed.
--
-- Started by root, nginx's workers run as the owner of the data folder (or as
-- `nginx.user` of the configuration). A folder that root makes is root's: give
-- the server fewer rights by making the folder first, for example with
-- `install -d -o www-data -g www-data /var/lib/longshore`. Root then takes the
-- folder itself and what is read as root (`longshore.cli.serve.apart`); that user's group must be nobody else's.
--
-- Room: cli.
-- @module longshore.cli.serve
local common = require "longshore.cli.common"
local config_module = require "longshore.config"
local errors = require "longshore.errors"

local _M = {
  summary = [[
Runs a broker and a disk store on this machine until it is told to stop (Ctrl-C,
SIGTERM). The first run makes what it needs in the data folder, and a token;
later runs find it there. Logs go to stderr.

Without --config everything has its default. Only this machine is served then:
give --listen another address to serve others, with TLS from a configuration.]],
}

--- Declares the options.
function _M.configure(parser)
  parser:option("--config"):argname("FILE"):description("The configuration, a Lua file (see the README).")
  parser:option("--data"):argname("DIR")
    :description("Where everything is kept: database, objects, credentials (default ./longshore-data).")
  parser:option("--listen"):argname("HOST:PORT"):description("The broker's address (default 127.0.0.1:8080).")
  parser:option("--store-listen"):argname("HOST:PORT")
    :description("The disk store's address (default 127.0.0.1:9000).")
  parser:option("--renew"):hidden(true) -- see longshore.cli.serve.renewal
  parser:flag("--first-token"):hidden(true) -- see first_token
  parser:flag("-q --quiet"):description("Print warnings and errors only.")
  parser:epilog [[
Exit codes: 0 stopped when told to, 1 could not start or gave up, 2 wrong usage.

Examples:
  longshore serve
  longshore serve --data /var/lib/longshore --listen 127.0.0.1:8000
  longshore serve --config /etc/longshore.lua]]
end

local function overrides(args)
  local given = {}
  if args.data then given.data = args.data end
  if args.listen then given.broker = { listen = args.listen } end
  if args.store_listen then given.diskstore = { listen = args.store_listen } end
  return given
end

-- Options are relative to the current folder, what the file says to the file's.
local function load(args)
  local given = overrides(args)
  if given.data and given.data:sub(1, 1) ~= "/" then
    given.data = require("lfs").currentdir() .. "/" .. given.data:gsub("^%./+", "")
  end
  return config_module.load(args.config, given)
end

local function access_log(config, args)
  return config.log.access or (args.quiet and "off" or "/dev/stderr")
end

-- Everything up to the point where nginx can be started.
local function prepare(args)
  local host_module = require "longshore.cli.serve.host"
  local setup = require "longshore.cli.serve.setup"
  local config, err = load(args)
  if not config then return nil, err end
  local found
  found, err = host_module.find(config)
  if not found then return nil, err end
  -- What nginx cannot be told is refused before anything is made.
  local ok
  ok, err = setup.render(config, found)
  if not ok then return nil, err end
  local fresh = not host_module.exists(config.data)
  ok, err = setup.make_folder(config.data)
  if not ok then return nil, err end
  local user, uid, gid = host_module.user(config)
  if not user and uid then return nil, uid end
  if user then
    ok, err = host_module.readable(found, user, uid, gid)
    if not ok then return nil, err end
  end
  local owner = host_module.owner(uid, gid)
  ok, err = setup.own(config, owner, fresh)
  if not ok then return nil, err end
  local lock
  lock, err = setup.lock(config)
  if not lock then return nil, err end
  ok, err = setup.folders(config, owner)
  if not ok then return nil, err end
  ok, err = setup.prepare(config, owner)
  if not ok then return nil, err end
  -- Again: the credentials are there now.
  config, err = load(args)
  if not config then return nil, err end
  ok, err = require("longshore.service").check(config)
  if not ok then return nil, err end
  found.user, found.access_log, found.apart = user, access_log(config, args), owner ~= nil
  local servers
  servers, err = setup.write_conf(config, found, owner)
  if not servers then return nil, err end
  return { config = config, found = found, servers = servers, owner = owner, lock = lock, setup = setup }
end

-- Whether the first token was made now. Root touches nothing of the workers' but as them.
local function first_token(ready)
  local data = ready.config.data
  if not ready.owner then return ready.setup.first_token(ready.config) end
  local shell = require("longshore.cli.serve.host").shell
  local said, err = require("longshore.cli.serve.apart").as_worker(("%s serve --first-token --config %s"):format(
    require("longshore.cli.serve.renewal").program(), shell(data .. "/run/config.lua")), ready.owner)
  if not said then return nil, err end
  return said == "made"
end

local function announce(say, ready, token)
  local config = ready.config
  local data, url = config.data, config.broker.public_url
  say("longshore: broker on %s, data in %s", url, data)
  if config.diskstore.enabled then
    say("longshore: disk store on %s, bucket %s", config.buckets.default.endpoint, config.diskstore.buckets[1])
  end
  local url_of_store = require("longshore.cli.serve.host").unreachable(config)
  if url_of_store then
    say("longshore: other machines reach the broker, but its URLs lead to %s; let the disk store listen for "
      .. "them, too, and name it in diskstore.public_endpoint", url_of_store)
  end
  if token then say("longshore: made the first token, kept in %s/token", data) end
  if require("lfs").attributes(data .. "/token", "mode") then
    say("longshore: upload with\n\n  LONGSHORE_TOKEN=$(cat %s/token) longshore put FILE %s\n",
      data:find("[^%w/%.%-_]") and "'" .. data:gsub("'", "'\\''") .. "'" or data, url)
  else
    say("longshore: make a token with `longshore token create`, then `longshore put FILE %s`", url)
  end
end

--- Runs the command.
-- @tparam table args
-- @treturn number|nil exit code
-- @treturn table err
function _M.run(args)
  local function warn(format, ...) common.err((format .. "\n"):format(...)) end
  local function say(format, ...)
    if not args.quiet then
      common.out((format .. "\n"):format(...))
      io.stdout:flush()
    end
  end
  if args.first_token then
    local config, err = load(args)
    if not config then return nil, err end
    local made
    made, err = require("longshore.cli.serve.setup").first_token(config)
    if made == nil then return nil, err end
    if made then common.out "made\n" end
    return 0
  end
  if args.renew then return require("longshore.cli.serve.renewal").write(load, access_log, args) end
  local ready, err = prepare(args)
  if not ready then return nil, err end
  local host = require "longshore.cli.serve.host"
  if ready.owner then
    for _, doubt in ipairs(require("longshore.cli.serve.apart").doubts(ready.config.data, ready.owner)) do
      warn("longshore: %s", doubt)
    end
  end
  local supervisor = require("longshore.cli.serve.supervisor").new(ready.found.binary, ready.servers,
    { say = warn, write = common.err, quiet = args.quiet, debug = ready.config.log.level == "debug" })
  supervisor.renew = function(same)
    return require("longshore.cli.serve.renewal").run(args, ready, same)
  end
  supervisor:sweep()
  for _, server in ipairs(ready.servers) do
    local ok
    ok, err = host.port_free(server.listen, server.name .. ".listen")
    if not ok then return nil, err end
  end
  local token
  token, err = first_token(ready)
  if token == nil then return nil, err end
  for _, server in ipairs(ready.servers) do
    local ok
    ok, err = supervisor:test(server)
    if not ok then return nil, err end
  end
  local ok
  ok, err = supervisor:start()
  if ok then
    announce(say, ready, token)
    ok, err = supervisor:run()
  end
  supervisor:close()
  if not ok then return nil, errors.from(err) end
  say("longshore: stopped")
  return 0
end

return _M

--- Prepares the data folder: what is missing is made, the rest stays.
--
--     DATA/                        0700
--       longshore.db               the broker's metadata
--       objects/                   the disk store's objects
--       diskstore-credentials      0600, the disk store's generated key pair
--       token                      0600, the first token, as `longshore put` takes it
--       spool/                     bodies on their way through the broker
--       run/                       lock, nginx.conf files, pids, the configuration as nginx reads it (0600)
--
-- Started by root, with workers of another user: see `longshore.cli.serve.apart`. An `owner` here is that user,
-- `{uid=, gid=}`; nil in all other cases.
--
-- Room: cli.
-- @module longshore.cli.serve.setup
local apart = require "longshore.cli.serve.apart"
local config_module = require "longshore.config"
local core = require "longshore.core"
local errors = require "longshore.errors"
local lfs = require "lfs"
local schema = require "longshore.config.schema"
local uv = require "luv"

local _M = {}

local RWX, RW, GROUP_READS = tonumber("700", 8), tonumber("600", 8), tonumber("640", 8)

local function cannot(what, path, why)
  return errors.fail("io", ("cannot %s %s: %s"):format(what, path, tostring(why)), { field = "data" })
end

--- Makes a folder and the folders above it.
-- @tparam string path
-- @tparam[opt] table owner `{uid=, gid=}` of what is made
-- @treturn boolean|nil
-- @treturn table err
function _M.make_folder(path, owner)
  if lfs.attributes(path, "mode") == "directory" then return true end
  local parent = path:match("^(.+)/[^/]+/*$")
  if parent then
    local ok, err = _M.make_folder(parent, owner)
    if not ok then return nil, err end
  end
  local ok, why, name = uv.fs_mkdir(path, RWX)
  if not ok and name ~= "EEXIST" then return cannot("make the folder", path, why) end
  if ok and owner then uv.fs_lchown(path, owner.uid, owner.gid) end
  return true
end

--- Writes a file that only its owner may read, whole or not at all.
-- @tparam string path
-- @tparam string text
-- @tparam[opt] table owner
-- @tparam[opt] number mode
-- @treturn boolean|nil
-- @treturn table err
function _M.write_private(path, text, owner, mode)
  -- A new file, not what somebody's link leads to.
  uv.fs_unlink(path .. ".new")
  local fd, why = uv.fs_open(path .. ".new", "wx", RW)
  if not fd then return cannot("write", path, why) end
  uv.fs_fchmod(fd, mode or RW)
  if owner then uv.fs_fchown(fd, owner.uid, owner.gid) end
  local written
  written, why = uv.fs_write(fd, text, 0)
  if written == #text then
    local ok
    ok, why = uv.fs_fsync(fd)
    written = ok and written
  end
  uv.fs_close(fd)
  if written ~= #text then
    uv.fs_unlink(path .. ".new")
    return cannot("write", path, why or "not all of it was written")
  end
  local ok
  ok, why = uv.fs_rename(path .. ".new", path)
  if not ok then return cannot("write", path, why) end
  return true
end

local function letters(n)
  return (core.random(n):gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- The disk store's key pair, made once.
local function ensure_credentials(config, owner)
  if not config.diskstore.enabled or config.diskstore.credentials then return true end
  return _M.write_private(schema.credentials_file(config),
    ("access_key=LS%s\nsecret_key=%s\n"):format(letters(9):upper(), letters(20)), owner)
end

local function in_use(config, pid)
  return errors.fail("conflict", ("another longshore serve (process %s) uses %s"):format(pid or "?", config.data),
    { field = "data" })
end

--- Takes the data folder, and in it the folder of what nginx reads.
-- @tparam table config
-- @tparam[opt] table owner
-- @tparam boolean fresh the folder was made just now
-- @treturn boolean|nil
-- @treturn table err
function _M.own(config, owner, fresh)
  local run = config.data .. "/run"
  if not owner then
    local ok, err = apart.check_mine(config.data)
    if not ok then return nil, err end
    return _M.make_folder(run)
  end
  local data = uv.fs_realpath(config.data)
  -- A server that runs there, and that an earlier version has started, has its lock in what would be thrown away.
  local stat = uv.fs_lstat(run)
  if stat and stat.uid ~= 0 then
    local f = io.open(run .. "/lock", "r+")
    local free = not f or lfs.lock(f, "w")
    if f then f:close() end
    if not free then return in_use(config) end
  end
  local ok, err = apart.take(data, owner, fresh)
  if ok then ok, err = apart.reserve(data .. "/run", owner) end
  return ok, err
end

--- Makes the folders; only for who has the lock.
-- @tparam table config
-- @tparam[opt] table owner
-- @treturn boolean|nil
-- @treturn table err
function _M.folders(config, owner)
  local disk = config.diskstore
  for _, name in ipairs { "broker", "diskstore" } do
    local ok, err = (owner and apart.reserve or _M.make_folder)(config.data .. "/run/" .. name, owner)
    if not ok then return nil, err end
  end
  local store = disk.enabled and disk.folder or config.data
  for _, path in ipairs { config.data .. "/spool", store, config.store.path:match("^(.+)/[^/]+$") } do
    local ok, err = _M.make_folder(path, owner)
    if not ok then return nil, err end
  end
  if not owner or not disk.enabled then return true end
  local ok, err = apart.take(store, owner)
  if ok then ok, err = apart.reserve(_M.bodies(config), owner) end
  return ok, err
end

--- Where the folder is that the disk store's nginx spools into, if root's nginx gives it to another user.
-- @tparam table config
-- @treturn string
function _M.bodies(config)
  return config.diskstore.folder .. "/.bodies"
end

--- Makes the credentials and removes what a killed server left behind; only for
-- who has the lock.
-- @tparam table config
-- @tparam[opt] table owner
-- @treturn boolean|nil
-- @treturn table err
function _M.prepare(config, owner)
  local folders = { [config.data .. "/spool"] = "^form_", [config.data .. "/run/broker/tmp_client_body"] = "^%d+$" }
  if owner then folders[_M.bodies(config) .. "/nginx"] = "^%d+$" end
  for folder, pattern in pairs(folders) do
    if lfs.symlinkattributes(folder, "mode") == "directory" then
      for name in lfs.dir(folder) do
        if name:find(pattern) then os.remove(folder .. "/" .. name) end
      end
    end
  end
  return ensure_credentials(config, owner)
end

--- Takes the data folder for this process, until it ends.
-- @tparam table config
-- @treturn table the lock; keep it
-- @treturn[2] nil
-- @treturn[2] table err
function _M.lock(config)
  local path = config.data .. "/run/lock"
  local f, why = io.open(path, "a+")
  if not f then return cannot("open", path, why) end
  if not lfs.lock(f, "w") then
    f:seek("set", 0)
    local pid = f:read("*l")
    f:close()
    return in_use(config, pid)
  end
  local own = io.open(path, "w")
  -- Closing another handle of the file would drop the lock, so this one is kept too.
  if own then
    own:write(("%d\n"):format(uv.os_getpid()))
    own:flush()
  end
  return { f, own }
end

--- Opens the database (and brings it up to date) and makes the first token.
-- @tparam table config
-- @treturn boolean whether this run made it
-- @treturn[2] nil
-- @treturn[2] table err
function _M.first_token(config)
  local clock = require("longshore.clock").system
  local store, err = require("longshore.store").open(config.store)
  if not store then return nil, err end
  local tokens = require("longshore.broker.tokens").new { store = store, clock = clock }
  local known, made
  known, err = tokens:list()
  if known and #known == 0 then
    made, err = tokens:create { user = "admin", organization = "default", tenant = "default",
      rights = { "read", "upload", "delete", "admin" }, label = "made by the first longshore serve" }
    if made then made, err = _M.write_private(config.data .. "/token", made.token .. "\n") end
  end
  store:close()
  -- (SQLite gives the files beside it the same mode.)
  for _, suffix in ipairs { "", "-wal", "-shm" } do uv.fs_chmod(config.store.path .. suffix, RW) end
  if err then return nil, err end
  return made ~= nil
end

--- The nginx.conf files.
-- @tparam table config
-- @tparam table host `binary`, `modules`, `lua_path`, `lua_cpath`, `user`, `access_log`, `apart` (whether root's nginx
-- has workers of another user)
-- @treturn table list of servers: `{name=, folder=, conf=, listen=, text=}`
-- @treturn[2] nil
-- @treturn[2] table err what cannot be written in such a file
function _M.render(config, host)
  local run, servers = config.data .. "/run", {}
  local function add(name, listen, template)
    local folder = run .. "/" .. name
    local rendered, text = pcall(require(template).render, config, {
      folder = folder, config = run .. "/config.lua", modules = host.modules, user = host.user,
      lua_path = host.lua_path, lua_cpath = host.lua_cpath, access_log = host.access_log, files = host.files,
      bodies = host.apart and _M.bodies(config) .. "/nginx",
    })
    if not rendered then
      if errors.is(text) then return nil, text end
      error(text, 0)
    end
    servers[#servers + 1] = { name = name, folder = folder, conf = folder .. "/nginx.conf", listen = listen,
      text = text }
    return true
  end
  local ok, err = true, nil
  if config.diskstore.enabled then
    ok, err = add("diskstore", config.diskstore.listen, "longshore.nginx.conf_diskstore")
  end
  if ok then ok, err = add("broker", config.broker.listen, "longshore.nginx.conf_broker") end
  if not ok then return nil, err end
  return servers
end

--- Writes a file that nginx reads: root's, where that is another user than the workers, who may read it.
-- @tparam string path
-- @tparam string text
-- @tparam[opt] table owner
-- @treturn boolean|nil
-- @treturn table err
function _M.write_run(path, text, owner)
  if not owner then return _M.write_private(path, text) end
  return _M.write_private(path, text, { uid = 0, gid = owner.gid }, GROUP_READS)
end

--- Writes the configuration and the nginx.conf files that nginx will read.
-- @tparam table config
-- @tparam table host as of `render`
-- @tparam[opt] table owner
-- @treturn table list of servers, as of `render`
-- @treturn[2] nil
-- @treturn[2] table err
function _M.write_conf(config, host, owner)
  local servers, err = _M.render(config, host)
  if not servers then return nil, err end
  local ok
  ok, err = _M.write_run(config.data .. "/run/config.lua", config_module.serialize(config), owner)
  for _, server in ipairs(servers) do
    if ok then ok, err = _M.write_run(server.conf, server.text, owner) end
  end
  if ok and owner then
    ok, err = apart.remember(config.data, owner, function(path, text) return _M.write_run(path, text, owner) end)
  end
  if not ok then return nil, err end
  return servers
end

return _M

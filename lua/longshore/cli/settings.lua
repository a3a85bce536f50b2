--- The broker's configuration for the commands that work beside `longshore serve`: what
-- `--config` names, or what serve last ran with in the folder that `--data` names.
--
-- Room: cli.
-- @module longshore.cli.settings
local config = require "longshore.config"
local errors = require "longshore.errors"
local host = require "longshore.cli.serve.host"
local lfs = require "lfs"
local uv = require "luv"

local _M = {}

--- Loads it.
-- @tparam table args `config`, `data`
-- @treturn table config
-- @treturn[2] nil
-- @treturn[2] table err
function _M.load(args)
  local given = {}
  if args.data then
    given.data = args.data:sub(1, 1) == "/" and args.data or lfs.currentdir() .. "/" .. args.data
  end
  if not args.config then
    local found = config.served(given.data)
    if found then return found end
  end
  return config.load(args.config, given)
end

-- Root becomes the user whose the database's folder is. As root it would follow that user's links, make files that the
-- broker cannot open, and on most systems not be let write to that user's files in a folder that `serve` has taken
-- (fs.protected_regular).
local function become_owner(path)
  if uv.getuid() ~= 0 then return true end
  local uid, gid = host.whose(path:match("^(.*)/"))
  if uid == 0 then return true end
  uv.setgid(gid)
  uv.setuid(uid)
  if rawget(package, "searchpath")("longshore.cli.settings", package.path) then return true end
  return errors.fail("forbidden", ("%s is of the user number %d, who may not read longshore; install it where that user"
    .. " can (make install)"):format(path, uid), { field = "data" })
end

--- Before the database is opened: a fault for one that is not there, since SQLite would make one wherever it
-- is told to. Root becomes the user whose it is, until this program ends.
-- @tparam table found what `load` answered
-- @tparam[opt] boolean creates whether the database may be new, in a folder that is there
-- @treturn boolean
-- @treturn[2] nil
-- @treturn[2] table err
function _M.reach_database(found, creates)
  local path = found.store.path
  if found.store.type ~= "sqlite" then return true end
  if lfs.attributes(creates and path:match("^(.*)/") or path, "mode") then return become_owner(path) end
  local _, why = lfs.attributes(path, "mode")
  if why and why:find("Permission denied", 1, true) then return errors.fail("io", why) end
  return errors.fail("not_found", ("there is no broker's database at %s; name its place with --data or --config")
    :format(path))
end

return _M

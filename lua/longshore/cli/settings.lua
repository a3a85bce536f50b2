--- The broker's configuration for the commands that work beside `longshore serve`: what
-- `--config` names, or what serve last ran with in the folder that `--data` names.
--
-- Room: cli.
-- @module longshore.cli.settings
local config = require "longshore.config"
local errors = require "longshore.errors"
local lfs = require "lfs"

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

--- A fault for a database that is not there: SQLite would make one wherever it
-- is told to.
-- @tparam table found what `load` answered
-- @tparam[opt] boolean creates whether the database may be new, in a folder that is there
-- @treturn boolean
-- @treturn[2] nil
-- @treturn[2] table err
function _M.has_database(found, creates)
  local path = found.store.path
  if found.store.type ~= "sqlite" or lfs.attributes(creates and path:match("^(.*)/") or path, "mode") then
    return true
  end
  local _, why = lfs.attributes(path, "mode")
  if why and why:find("Permission denied", 1, true) then return errors.fail("io", why) end
  return errors.fail("not_found", ("there is no broker's database at %s; name its place with --data or --config")
    :format(path))
end

return _M

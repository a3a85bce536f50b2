--- The configuration of the broker that --config or --data names, for the
-- commands that work beside `longshore serve`.
--
-- Without --config it is the one that serve last ran with in that folder: its
-- ports and its database may come from options and files of its own, and who
-- says only --data means that broker.
--
-- Room: cli.
-- @module longshore.cli.settings
local config = require "longshore.config"
local errors = require "longshore.errors"
local lfs = require "lfs"

local _M = {}

local function same(a, b)
  local one, other = lfs.attributes(a), lfs.attributes(b)
  return one and other and one.dev == other.dev and one.ino == other.ino
end

-- A folder that was copied since has a configuration that points elsewhere.
local function last_served(folder)
  local path = folder .. "/run/config.lua"
  if lfs.attributes(path, "mode") ~= "file" then return nil end
  local found = config.load(path)
  return found and same(found.data, folder) and found or nil
end

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
    local found = last_served(given.data or lfs.currentdir() .. "/longshore-data")
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
  return errors.fail("not_found", ("there is no broker's database at %s; name its place with --data or --config")
    :format(path))
end

return _M

--- Keys that clients name: checked here and nowhere else.
--
-- A key lies below its catalog's prefix, whatever it says. It has at most as many bytes
-- as the store leaves below that prefix, no control characters and no slash at either end.
-- Segments that are empty, `.` or `..` are refused unless the configuration allows them
-- (`dot_segments`): proxies and browsers rewrite such paths. Two forms are longshore's own:
-- `.trash/...`, and segments like the ids that the broker gives to keys: `fil_` and `upl_` in
-- the last one, `dlv_` in any.
--
-- Room: broker, no I/O.
-- @module longshore.broker.managed.keys
local check = require "longshore.broker.check"
local ids = require "longshore.broker.ids"

local _M = {}

-- What S3 takes; and ours to spare: a trash key is shorter than this.
local MAX_KEY = 1024

_M.TRASH = ".trash/"

--- Checks a key.
-- @param key anything
-- @tparam number prefix how long the catalog's prefix is
-- @tparam[opt] boolean dots whether `.`, `..` and empty segments may stand
-- @tparam[opt="storage_key"] string field
-- @treturn string|nil key
-- @treturn table err
function _M.check(key, prefix, dots, field)
  field = field or "storage_key"
  local ok, err = check.name(key, field, MAX_KEY - prefix)
  if not ok then return nil, err end
  if key:find("^/") or key:find("/$") then return check.invalid(field, "must not begin or end with a slash") end
  if key:sub(1, #_M.TRASH) == _M.TRASH or key == ".trash" then
    return check.invalid(field, "keys below .trash/ are reserved")
  end
  local last = key:match("[^/]*$")
  if ids.is(last, "fil_") or ids.is(last, "upl_") then
    return check.invalid(field, "a last segment of this form is reserved")
  end
  for segment in key:gmatch("[^/]+") do
    if ids.is(segment, "dlv_") then return check.invalid(field, "a segment of this form is reserved") end
  end
  if not dots then
    for segment in (key .. "/"):gmatch("([^/]*)/") do
      if segment == "" or segment == "." or segment == ".." then
        return check.invalid(field, "must have no empty, . or .. segments")
      end
    end
  end
  return key
end

--- The word by which a place is one file's.
-- @tparam string provider its name
-- @tparam string key
-- @treturn string
function _M.place(provider, key)
  return provider .. "/" .. key
end

--- A new key in the trash of the same bucket; no URL that writes ever names it.
-- @tparam string id of the file
-- @treturn string
function _M.trash(id)
  return _M.TRASH .. id .. "/" .. ids.characters(16)
end

return _M

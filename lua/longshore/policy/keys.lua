--- Object keys made by the server, from safe characters only.
--
-- A layout such as `{service}/{organization}/{file_id}` is filled in with names
-- that users or administrators chose, so each name is made safe first: a plain
-- one (letters, digits, `-` and `_`, not beginning with `_`, at most 64) stands as
-- it is, any other becomes `_` and 32 hex digits of its SHA-256. Two names never
-- become the same word.
--
-- Room: policy, no I/O.
-- @module longshore.policy.keys
local core = require "longshore.core"

local _M = {}

local MAX_KEY = 1024
local FIELDS = { service = true, tenant = true, organization = true, user = true, file_id = true,
  upload_id = true }

--- Whether a key can do no harm in a URL, a file system or a listing.
-- @param key anything
-- @treturn boolean
function _M.is_safe(key)
  if type(key) ~= "string" or key == "" or #key > MAX_KEY or key:find("[^%w%._~/%-]") then
    return false
  end
  for segment in (key .. "/"):gmatch("([^/]*)/") do
    if segment == "" or segment == "." or segment == ".." then return false end
  end
  return true
end

--- A name as a safe word.
-- @tparam string name
-- @treturn string
function _M.word(name)
  if #name <= 64 and name:find("^[%w%-][%w%-_]*$") then return name end
  return "_" .. core.hex(core.sha256(name)):sub(1, 32)
end

--- Checks a layout.
-- @tparam string layout
-- @return true, or nil and what is wrong with it
function _M.check_layout(layout)
  if type(layout) ~= "string" then return nil, "layout: string expected" end
  local own = false
  for field in layout:gmatch("{([^}]*)}") do
    if not FIELDS[field] then return nil, ("layout: there is no field {%s}"):format(field) end
    own = own or field == "file_id" or field == "upload_id"
  end
  if not own then return nil, "layout: {file_id} or {upload_id} must be in it, or uploads would share a key" end
  if not _M.is_safe((layout:gsub("{[^}]*}", "x"))) then
    return nil, "layout: only A-Z a-z 0-9 . _ ~ - and single / between names"
  end
  return true
end

--- Fills a layout in.
-- @tparam string layout one that check_layout accepts
-- @tparam table fields strings by name
-- @treturn string key
function _M.make(layout, fields)
  return (layout:gsub("{([^}]*)}", function(field)
    return _M.word(assert(fields[field], field))
  end))
end

return _M

--- The filter of a list: whether a file belongs to it.
--
-- Room: service, cognite. No I/O.
-- @module longshore.service.cognite.filter
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}

local function begins(value, prefix)
  return value ~= nil and value:sub(1, #prefix) == prefix
end

local function within(value, range)
  if value == nil then return false end
  return (not range.min or value >= range.min) and (not range.max or value <= range.max)
end

local function contains(list, wanted)
  for _, value in ipairs(list or {}) do
    if value == wanted then return true end
  end
  return false
end

local function any(list, wanted)
  for _, value in ipairs(wanted) do
    if contains(list, value) then return true end
  end
  return false
end

local function has_labels(file, wish)
  local names = {}
  for _, label in ipairs(file.labels or {}) do names[label.externalId] = true end
  local found = wish.containsAny == nil
  for _, label in ipairs(wish.containsAny or {}) do found = found or names[label.externalId] or false end
  for _, label in ipairs(wish.containsAll or {}) do found = found and names[label.externalId] or false end
  return found
end

local tests = {
  directoryPrefix = function(file, wish) return begins(file.directory, wish) end,
  externalIdPrefix = function(file, wish) return begins(file.externalId, wish) end,
  assetIds = function(file, wish) return any(file.assetIds, wish) end,
  labels = has_labels,
  dataSetIds = function(file, wish) -- (there are no data sets here to have external ids)
    for _, reference in ipairs(wish) do
      if reference.id and reference.id == file.dataSetId then return true end
    end
    return false
  end,
  metadata = function(file, wish)
    for key, value in pairs(wish) do
      if not file.metadata or file.metadata[key] ~= value then return false end
    end
    return true
  end,
}
for _, name in ipairs { "name", "mimeType", "source", "uploaded" } do
  tests[name] = function(file, wish) return file[name] == wish end
end
for _, name in ipairs { "createdTime", "lastUpdatedTime", "uploadedTime", "sourceCreatedTime",
  "sourceModifiedTime" } do
  tests[name] = function(file, wish) return within(file[name], wish) end
end

--- Makes the test of a list's body.
-- @tparam table body checked
-- @treturn function matches(file) with a file as it is rendered
function _M.new(body)
  local filter = body.filter or {}
  local number, count = (body.partition or "1/1"):match("^(%d+)/(%d+)$")
  number, count = tonumber(number), tonumber(count)
  return function(file)
    if file.id % count ~= number - 1 then return false end
    for name, wish in pairs(filter) do
      if not tests[name](file, wish) then return false end
    end
    return true
  end
end

--- A cursor: where the next page begins.
-- @tparam table after {created_at, id}
-- @treturn string
function _M.cursor(after)
  return core.base64url(("%.0f.%.0f"):format(after.created_at * 1000, after.id))
end

--- Reads a cursor.
-- @tparam ?string text
-- @treturn table|nil after; nil without cursor
-- @treturn table|nil err
function _M.read_cursor(text)
  if not text then return nil end
  local created, id = (core.unbase64url(text) or ""):match("^(%d+)%.(%d+)$")
  created, id = tonumber(created), tonumber(id)
  if not created or created > 2 ^ 53 or id < 1 or id > 2 ^ 53 - 1 then
    return errors.fail("invalid", "cursor: is not one that a list gave", { field = "cursor", reason = "format" })
  end
  return { created_at = created / 1000, id = id }
end

return _M

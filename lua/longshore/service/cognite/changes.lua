--- What requests make of a file's fields: a start that overwrites, an update.
--
-- Room: service, cognite. No I/O.
-- @module longshore.service.cognite.changes
local json = require "longshore.json"
local rules = require "longshore.service.cognite.rules"
local validate = require "longshore.http.validate"

local _M = {}

--- The fields of a start's body that are kept as such.
-- @tparam table body checked
-- @treturn table
function _M.fields_of(body)
  local fields = {}
  for name in pairs(rules.fields) do fields[name] = body[name] end
  return fields
end

--- What a file becomes when a start overwrites it: what was sent takes the place
-- of what was there, each field as a whole (metadata, too); what was not
-- sent stays (assetIds, above all).
-- @tparam table body checked
-- @treturn function change(record)
function _M.overwrite(body)
  return function(record)
    local fields = record.fields
    for name, value in pairs(_M.fields_of(body)) do fields[name] = value end
    return { name = body.name, fields = fields }
  end
end

local function update_map(old, change)
  if change.set then return change.set end
  local map = {}
  for key, value in pairs(old or {}) do map[key] = value end
  for _, key in ipairs(change.remove or {}) do map[key] = nil end
  for key, value in pairs(change.add or {}) do map[key] = value end
  return map
end

local function plain(value) return value end

local function update_list(old, change, identity)
  if change.set then return change.set end
  local drop, seen, items = {}, {}, {}
  for _, value in ipairs(change.remove or {}) do drop[identity(value)] = true end
  for _, source in ipairs { old or {}, change.add or {} } do
    for _, value in ipairs(source) do
      local key = identity(value)
      if not seen[key] and not (source == old and drop[key]) then
        seen[key] = true
        items[#items + 1] = value
      end
    end
  end
  return json.array(items)
end

local MERGES = {
  metadata = update_map,
  assetIds = function(old, change) return update_list(old, change, plain) end,
  securityCategories = function(old, change) return update_list(old, change, plain) end,
  labels = function(old, change) return update_list(old, change, function(l) return l.externalId end) end,
}

--- What a file becomes by an update.
-- @tparam table update checked
-- @treturn function change(record) -> fields | nil, err when the whole is beyond a limit
function _M.update(update)
  return function(record)
    local fields = record.fields
    for name, change in pairs(update) do
      if MERGES[name] then
        fields[name] = MERGES[name](fields[name], change)
      elseif name ~= "externalId" then
        fields[name] = change.set -- nil with setNull
      end
    end
    local kept, err = validate.check(rules.kept, fields)
    if not kept then return nil, err end
    local external_id
    if update.externalId then external_id = update.externalId.set or false end
    return { fields = kept, external_id = external_id }
  end
end

return _M

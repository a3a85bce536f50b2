--- Whether a value is a GeoJSON Feature as cognite takes it.
--
-- Room: service, cognite. No I/O.
-- @module longshore.service.cognite.geo
local json = require "longshore.json"

local _M = {}

-- More positions than any file needs; a bound for what is kept.
local MAX_POSITIONS = 10000

local function is_list(value) return type(value) == "table" and json.is_array(value) end

local function is_object(value) return type(value) == "table" and value ~= json.null and not json.is_array(value) end

local function position(value, state)
  state.count = state.count + 1
  if state.count > MAX_POSITIONS or not is_list(value) or #value < 2 or #value > 3 then return false end
  for _, number in ipairs(value) do
    if type(number) ~= "number" or number ~= number or number == math.huge or number == -math.huge then return false end
  end
  return true
end

local function list_of(item, least)
  return function(value, state)
    if not is_list(value) or #value < least then return false end
    for _, entry in ipairs(value) do
      if not item(entry, state) then return false end
    end
    return true
  end
end

-- A closed line of at least four positions.
local function ring(value, state)
  if not list_of(position, 4)(value, state) then return false end
  local first, last = value[1], value[#value]
  for i = 1, math.max(#first, #last) do
    if first[i] ~= last[i] then return false end
  end
  return true
end

local line = list_of(position, 2)
local polygon = list_of(ring, 1)

local SHAPES = {
  Point = position, LineString = line, Polygon = polygon,
  MultiPoint = list_of(position, 1), MultiLineString = list_of(line, 1), MultiPolygon = list_of(polygon, 1),
}

--- Checks a Feature.
-- @param value of `json.decode`
-- @return true, or nil and what is wrong
function _M.feature(value)
  if not is_object(value) or value.type ~= "Feature" then return nil, "a GeoJSON object of type Feature is expected" end
  local geometry = value.geometry
  local shape = is_object(geometry) and SHAPES[geometry.type]
  if not shape then
    return nil, "geometry: a Point, LineString, Polygon, MultiPoint, MultiLineString or MultiPolygon is expected"
  end
  if not shape(geometry.coordinates, { count = 0 }) then
    return nil, ("geometry.coordinates: are not those of a %s"):format(geometry.type)
  end
  local properties = value.properties
  if properties ~= nil and properties ~= json.null and not is_object(properties) then
    return nil, "properties: an object is expected"
  end
  return true
end

return _M

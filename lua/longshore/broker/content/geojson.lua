--- The preview of a GeoJSON or JSON file.
--
-- Reads at most 16 MiB from the beginning, a chunk at a time, and holds one
-- chunk, one feature's properties and the sample. Coordinates are skipped, never
-- stored. Understood are a FeatureCollection, a Feature, a bare geometry, an
-- array of objects (rows without geometry) and newline-delimited Features
-- (RFC 8142 too); members may stand in any order.
--
-- The count of features is known when the array of features ended within what
-- was read. Without a `crs` member the coordinate system is EPSG:4326 (RFC
-- 7946), also where a file too long to read wholly has one at its end. A
-- polygon beside a multi-polygon makes the layer a MultiPolygon; other mixtures
-- are `Geometry`.
--
-- Room: broker, content; pure.
-- @module longshore.broker.content.geojson
local json = require "longshore.json"
local scanner = require "longshore.broker.content.scanner"
local source = require "longshore.broker.content.source"
local text = require "longshore.broker.content.text"
local types = require "longshore.broker.content.types"

local _M = {}

-- Columns kept, bytes of a name, bytes of a value in the sample, rows of it.
_M.MAX_COLUMNS, _M.MAX_NAME, _M.MAX_VALUE, _M.SAMPLE = 1000, 255, 500, 5

local GEOMETRIES = {
  Point = true, LineString = true, Polygon = true, MultiPoint = true,
  MultiLineString = true, MultiPolygon = true, GeometryCollection = true,
}

local function merge_geometry(a, b)
  if a == nil or a == b then return b end
  if a == "Multi" .. b then return a end
  if b == "Multi" .. a then return b end
  return "Geometry"
end

local function utf8(s)
  return (text.utf8(s))
end

-- The EPSG number of a `crs` member, as GeoJSON 2008 and earlier had it.
local function epsg(crs)
  if type(crs) ~= "table" then return nil end
  local properties = type(crs.properties) == "table" and crs.properties or {}
  local name, code = properties.name, properties.code
  if type(code) == "number" then return code >= 1 and code <= 998999 and code % 1 == 0 and code or nil end
  if type(name) ~= "string" then return nil end
  local upper = name:upper()
  if upper:find("CRS84", 1, true) then return 4326 end
  local number = upper:find("EPSG", 1, true) and tonumber(upper:match("[:/](%d+)$"))
  return number and number >= 1 and number <= 998999 and number or nil
end

local layer_methods = {}

local function new_layer(limit)
  return setmetatable({
    names = {}, kinds = {}, known = {}, sample = {}, limit = limit, rows = 0, too_wide = false,
  }, { __index = layer_methods })
end

function layer_methods:column(name, kind)
  if not self.known[name] then
    if #self.names >= _M.MAX_COLUMNS then
      self.too_wide = true
      return false
    end
    self.names[#self.names + 1] = name
    self.known[name] = true
  end
  self.kinds[name] = types.merge(self.kinds[name], kind)
  return true
end

-- One property's value: its type and, if wanted, itself.
local function read_value(s, wanted)
  local c = s.peek()
  if c == '"' then
    local value, cut = s.string(_M.MAX_VALUE)
    if not value then return nil end
    if cut then return "String", utf8(value) .. "…" end
    return types.of_text(value, true) or "String", utf8(value)
  elseif c == "{" or c == "[" then
    local ok, raw = s.skip(wanted and _M.MAX_VALUE or nil)
    if not ok then return nil end
    if not wanted then return "JSON" end
    local value = raw and json.decode(raw)
    if value == nil then value = "…" end -- too long to show, or not strict JSON
    return "JSON", value
  end
  local literal = s.scalar()
  if not literal then return nil end
  if literal == "null" then return false, json.null end
  if literal == "true" or literal == "false" then return "Boolean", literal == "true" end
  local value = tonumber(literal)
  if value == nil or value ~= value or math.abs(value) >= 2 ^ 53 then value = literal end
  return types.of_number(literal), value
end

-- An object of properties becomes a row.
function layer_methods:row(s)
  local wanted = #self.sample < self.limit
  local row = wanted and {}
  for key in s.members(_M.MAX_NAME) do
    local kind, value = read_value(s, wanted)
    if kind == nil then break end
    local name = utf8(key)
    if self:column(name, kind or nil) and row then row[name] = value end
  end
  if s.problem() then return end
  if row then self.sample[#self.sample + 1] = row end
end

-- A geometry object, or null.
function layer_methods:shape(s)
  if s.peek() ~= "{" then
    s.skip()
    return
  end
  for key in s.members(_M.MAX_NAME) do
    if key == "type" and s.peek() == '"' then
      local kind = s.string(_M.MAX_NAME)
      if kind and GEOMETRIES[kind] then self.geometry = merge_geometry(self.geometry, kind) end
    else
      s.skip()
    end
  end
end

-- An element of `features`. A feature without properties is a row of nulls.
function layer_methods:feature(s)
  if s.peek() ~= "{" then
    s.skip()
    return
  end
  local had = false
  for key in s.members(_M.MAX_NAME) do
    if key == "properties" and s.peek() == "{" then
      had = true
      self:row(s)
    elseif key == "geometry" then
      self:shape(s)
    else
      s.skip()
    end
  end
  if s.problem() then return end
  self.rows = self.rows + 1
  if not had and #self.sample < self.limit then self.sample[#self.sample + 1] = {} end
end

function layer_methods:features(s)
  for _ in s.elements() do
    self:feature(s)
  end
  if not s.problem() then self.complete = true end
end

-- A top-level object: which of the kinds it is shows as its members come.
function layer_methods:document(s)
  local kind, feature_like, had_row = nil, false, false
  for key in s.members(_M.MAX_NAME) do
    local c = s.peek()
    if key == "features" and c == "[" then
      self.collection = true
      self:features(s)
    elseif key == "type" and c == '"' then
      kind = s.string(_M.MAX_NAME)
    elseif key == "crs" then
      local ok, raw = s.skip(4096)
      if ok then self.crs_given, self.crs = true, epsg(raw and json.decode(raw)) end
    elseif key == "name" and c == '"' then
      local name, cut = s.string(500)
      if name and not cut then self.name = utf8(name) end
    elseif key == "geometry" then
      feature_like = true
      self:shape(s)
    elseif key == "properties" and c == "{" then
      had_row = true
      self:row(s)
    else
      s.skip()
    end
  end
  if s.problem() then return end
  if kind == "Feature" or (kind == nil and feature_like) then
    self.rows = self.rows + 1
    self.spatial = true
    if not had_row and #self.sample < self.limit then self.sample[#self.sample + 1] = {} end
  elseif kind and GEOMETRIES[kind] then
    self.rows = self.rows + 1
    self.spatial = true
    self.geometry = merge_geometry(self.geometry, kind)
  end
end

-- A top-level array: of features, or of plain objects.
function layer_methods:array(s)
  for c in s.elements() do
    if c == "{" then
      self:row(s)
      self.rows = self.rows + 1
    else
      s.skip()
    end
  end
  if not s.problem() then self.complete = true end
end

local MESSAGES = {
  invalid = "The file is not valid JSON near byte %d.",
  deep = "The JSON is nested too deeply near byte %d.",
  truncated = "The file ends in the middle of its JSON, after %d bytes.",
}

--- Reads the beginning of a GeoJSON file.
-- @tparam function read see longshore.broker.content.source
-- @tparam number size
-- @tparam[opt] table options `scan`, `chunk` in bytes, `sample` in rows
-- @treturn table|nil `{columns={{name,type}}, rows=number|nil, sample={{...}},
--   geometry=string|nil, crs=number|nil, name=string|nil, problem=string|nil,
--   warnings={...}}`; `problem` says why the file cannot be used
-- @treturn table|nil err what reading failed with
function _M.preview(read, size, options)
  local feed = source.feed(read, size, options)
  local s = scanner.new(feed)
  local layer = new_layer(options and options.sample or _M.SAMPLE)
  local c = s.peek()
  while c and not s.problem() do
    if c == "{" then
      layer:document(s)
    elseif c == "[" then
      layer:array(s)
    else
      s.skip()
    end
    c = s.peek()
  end
  if feed.err() then return nil, feed.err() end

  local whole = feed.whole()
  local trouble, where = s.problem()
  local problem
  if trouble and (whole or trouble ~= "truncated") then problem = MESSAGES[trouble]:format(where) end
  local columns, warnings = {}, {}
  for i, name in ipairs(layer.names) do
    columns[i] = { name = name, type = layer.kinds[name] or "String" }
  end
  for _, row in ipairs(layer.sample) do
    for _, name in ipairs(layer.names) do
      if row[name] == nil then row[name] = json.null end
    end
  end
  if layer.too_wide then
    warnings[1] = ("More than %d columns: only the first are shown."):format(_M.MAX_COLUMNS)
  end
  local spatial = layer.collection or layer.spatial
  local counted = layer.collection and layer.complete or not layer.collection and whole and not trouble
  local crs = layer.crs
  if not layer.crs_given and spatial then crs = 4326 end
  return {
    columns = columns, sample = layer.sample, rows = counted and layer.rows or nil,
    geometry = layer.geometry, crs = crs, name = layer.name, problem = problem, warnings = warnings,
  }
end

return _M

--- What a file holds, as far as it shows without a geospatial library.
--
-- CSV and GeoJSON are read (at most 16 MiB of them, see the modules); of other
-- formats nothing but the name is known and the fields are null or empty.
--
-- Room: broker, content; pure.
-- @module longshore.broker.content.preview
local csv = require "longshore.broker.content.csv"
local geojson = require "longshore.broker.content.geojson"
local json = require "longshore.json"
local sniff = require "longshore.broker.content.sniff"

local _M = {}

local READERS = { [".csv"] = csv.preview, [".json"] = geojson.preview, [".geojson"] = geojson.preview }

-- A layer is named after its file.
local function layer_of(filename)
  local base = filename:match("([^/\\]*)$")
  return base:match("^(.+)%.[^%.]*$") or base
end

--- Looks into a file.
-- @tparam string filename its extension says what it is
-- @tparam function read see longshore.broker.content.source
-- @tparam number size
-- @tparam[opt] table options `scan`, `chunk` in bytes, `sample` in rows
-- @treturn table|nil `{columns, crs, geometry_type, feature_count, sample_rows,
--   layer_name, warnings, problem}`: null where not known; `problem` is a
--   sentence, present only when the file is broken
-- @treturn table|nil err what reading failed with
function _M.look(filename, read, size, options)
  local reader = READERS[sniff.extension(filename)]
  local found, err
  if reader then
    found, err = reader(read, size, options)
    if not found then return nil, err end
  else
    found = {}
  end
  return {
    columns = json.array(found.columns),
    crs = found.crs or json.null,
    geometry_type = found.geometry or json.null,
    feature_count = found.rows or json.null,
    sample_rows = json.array(found.sample),
    layer_name = found.name or layer_of(filename),
    warnings = json.array(found.warnings),
    problem = found.problem,
  }
end

return _M

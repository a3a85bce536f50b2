--- What cognite takes and gives: every field's type and limits in one place, for
-- checking requests and for the OpenAPI document. Limits are in characters
-- where the page says nothing, in bytes where it says bytes (metadata).
--
-- Room: service, cognite. No I/O.
-- @module longshore.service.cognite.rules
local geo = require "longshore.service.cognite.geo"

local _M = {}

local LARGEST = 9007199254740991

local function object(fields)
  return { type = "object", unknown = "ignore", fields = fields }
end

local function with(rule, more)
  local copy = {}
  for k, v in pairs(rule) do copy[k] = v end
  for k, v in pairs(more) do copy[k] = v end
  return copy
end

local function required(rule) return with(rule, { required = true }) end

local function text(max) return { type = "string", max_chars = max } end

local function list(items, max, min) return { type = "array", items = items, max_items = max, min_items = min } end

local id = { type = "integer", min = 1, max = LARGEST }
local moment = { type = "integer", min = 0, max = LARGEST }
local external_id = text(255)
local label = object { externalId = required(text(255)) }

local function check_directory(value)
  if value:sub(1, 1) ~= "/" then return nil, "must be an absolute unix path: it begins with /" end
  return true
end

local function check_labels(value)
  local seen = {}
  for _, entry in ipairs(value) do
    local name = entry and entry.externalId
    if name and seen[name] then return nil, ("the label %q stands twice"):format(name) end
    if name then seen[name] = true end
  end
  return true
end

local function check_ids(value)
  local seen = {}
  for _, number in ipairs(value) do
    if seen[number] then return nil, ("%.0f stands twice"):format(number) end
    seen[number] = true
  end
  return true
end

--- The limits of a map of metadata; also of what an update makes of it.
_M.metadata = { type = "map", keys = { type = "string", max_bytes = 128, text = true },
  values = { type = "string", max_bytes = 10240, text = true }, max_pairs = 256, max_bytes = 10240 }

local asset_ids = with(list(id, 1000, 1), { check = check_ids })
local categories = list(id, 100)
local labels = with(list(label, 10), { check = check_labels })
local geo_location = { type = "any", check = geo.feature,
  says = "A GeoJSON Feature whose geometry is a Point, LineString, Polygon or a Multi form of these." }

--- The fields of a file besides name and externalId, as they are kept.
_M.fields = {
  directory = with(text(512), { check = check_directory }), source = text(128), mimeType = text(256),
  metadata = _M.metadata, assetIds = asset_ids, dataSetId = id, sourceCreatedTime = moment,
  sourceModifiedTime = moment, securityCategories = categories, labels = labels, geoLocation = geo_location,
}

--- What any of these may hold after an update: an update may empty a list.
_M.kept = object(with(_M.fields, { assetIds = with(list(id, 1000), { check = check_ids }) }))

--- The body that starts an upload. (`uploaded` has no effect, as all unknown fields.)
_M.file = object(with(_M.fields, {
  name = { type = "string", required = true, min_chars = 1, max_chars = 256 }, externalId = external_id,
}))

_M.start_query = object { overwrite = { type = "boolean", default = false } }
_M.start_parts_query = object {
  overwrite = { type = "boolean", default = false },
  parts = { type = "integer", min = 1, max = 250, required = true },
}
_M.parts_query = object { parts = { type = "integer", min = 1, max = 250, required = true } }
_M.download_query = object { extendedExpiration = { type = "boolean", default = false } }

local instance = object { space = required(text(43)), externalId = required(text(255)) }

-- Exactly one of the three.
local function check_one(value)
  local n = (value.id and 1 or 0) + (value.externalId and 1 or 0) + (value.instanceId and 1 or 0)
  if n == 1 then return true end
  return nil, n == 0 and "one of id, externalId or instanceId is expected"
    or "only one of id, externalId and instanceId may be given"
end

local function reference(more)
  local rule = object(with({ id = id, externalId = external_id, instanceId = instance }, more or {}))
  rule.check = check_one
  return rule
end

_M.one = object { items = required(list(reference(), 1, 1)) }
_M.many = object { items = required(list(reference(), 1000, 1)), ignoreUnknownIds = { type = "boolean" } }
_M.downloads = object { items = required(list(reference(), 100, 1)) }
_M.complete = reference { uploadId = required(text(1024)) }

local function set(rule, nullable)
  local one = object { set = rule, setNull = nullable and { type = "boolean" } or nil }
  one.check = function(value)
    if value.setNull == false or (value.set == nil) == (value.setNull == nil) then
      return nil, nullable and "either set or setNull (true) is expected" or "set is expected"
    end
    return true
  end
  return one
end

-- Either the whole anew, or some added and some removed.
local function set_or_change(whole, add, remove)
  local one = object { set = whole, add = add, remove = remove }
  one.check = function(value)
    local changes = value.add ~= nil or value.remove ~= nil
    if (value.set ~= nil) == changes then return nil, "either set, or add and remove, is expected" end
    return true
  end
  return one
end

local changes = { type = "object", unknown = "refuse", fields = {
  externalId = set(external_id, true), directory = set(_M.fields.directory, true),
  source = set(_M.fields.source, true), mimeType = set(_M.fields.mimeType, true),
  metadata = set_or_change(_M.metadata, _M.metadata, list(text(), 256)),
  assetIds = set_or_change(with(list(id, 1000), { check = check_ids }), list(id, 1000), list(id, 1000)),
  dataSetId = set(id, true), sourceCreatedTime = set(moment, true), sourceModifiedTime = set(moment, true),
  securityCategories = set_or_change(categories, categories, categories),
  labels = set_or_change(labels, list(label, 10), list(label, 10)),
  geoLocation = set(geo_location, true),
} }

_M.update = object { items = required(list(reference { update = required(changes) }, 1000, 1)) }

local range = object { min = moment, max = moment }

-- A filter that is not understood must not look like one that matches all.
local unsupported = { type = "any", check = function() return nil, "this filter is not available here" end,
  says = "Not available here: a request with it is refused." }

_M.filter = { type = "object", unknown = "refuse", fields = {
  name = text(256), directoryPrefix = text(512), mimeType = text(256), source = text(128),
  metadata = { type = "map", values = { type = "string", text = true }, max_pairs = 256 },
  assetIds = list(id, 1000, 1), dataSetIds = list(reference(), 1000, 1),
  externalIdPrefix = text(255), uploaded = { type = "boolean" },
  createdTime = range, lastUpdatedTime = range, uploadedTime = range, sourceCreatedTime = range,
  sourceModifiedTime = range,
  labels = object { containsAny = list(label, 100), containsAll = list(label, 100) },
  assetExternalIds = unsupported, assetSubtreeIds = unsupported, rootAssetIds = unsupported,
  geoLocation = unsupported,
} }

local function check_partition(value)
  local number, count = value:match("^(%d+)/(%d+)$")
  number, count = tonumber(number), tonumber(count)
  if not number or number < 1 or count > 100 or number > count then
    return nil, "must be of the form m/n, where 1 <= m <= n <= 100"
  end
  return true
end

_M.list = object {
  filter = _M.filter, limit = { type = "integer", min = 1, max = 1000, default = 100 },
  cursor = { type = "string", max_bytes = 100 },
  partition = with(text(7), { check = check_partition }),
}

--- Parameters of paths.
_M.paths = { project = { type = "string", min_chars = 1 } }

local file = with(_M.kept.fields, {
  id = required(id), name = required(text()), externalId = external_id,
  uploaded = required { type = "boolean" }, uploadedTime = moment,
  createdTime = required(moment), lastUpdatedTime = required(moment),
})

local url = required { type = "string" }

--- The answers, for the OpenAPI document and for the specs that hold us to them.
_M.answers = {
  File = object(file),
  Files = object { items = required(list(object(file))) },
  FilePage = object { items = required(list(object(file))), nextCursor = text() },
  FileWithUrl = object(with(file, { uploadUrl = url })),
  FileWithUrls = object(with(file, { uploadId = url, uploadUrls = required(list { type = "string" }) })),
  UploadLink = object(with(file, { uploadUrl = url,
    items = required(list(object(with(file, { uploadUrl = url })), 1, 1)) })),
  UploadLinks = object { items = required(list(object(with(file, { uploadId = url,
    uploadUrls = required(list { type = "string" }) })), 1, 1)) },
  DownloadLinks = object { items = required(list(object { id = id, externalId = external_id, instanceId = instance,
    downloadUrl = url })) },
  Nothing = object {},
  Error = object { error = required(object {
    code = required { type = "integer" }, message = required(text()),
    missing = list { type = "any" }, duplicated = list { type = "any" },
  }) },
}

return _M

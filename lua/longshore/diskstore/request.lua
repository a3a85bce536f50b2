--- What a request asks for: the operation, the bucket, the key, the query.
--
-- The key is taken from the raw target, every byte as it was sent and decoded
-- once: `a//b`, `../x` and a trailing slash are keys like any other.
--
-- Room: diskstore, no I/O.
-- @module longshore.diskstore.request
local core = require "longshore.core"
local fault = require "longshore.diskstore.fault"
local layout = require "longshore.diskstore.layout"

local _M = {}

--- Bucket names that are valid but kept for later use.
_M.reserved = { v1 = true }

-- S3's sub-resources. Those that an operation below does not take are refused:
-- a PUT of "?retention" must not replace the object.
local subresources = {}
for name in ([[accelerate acl analytics append attributes cors delete encryption intelligent-tiering
  inventory legal-hold lifecycle location logging metadataConfiguration metadataTable metrics
  notification object-lock ownershipControls partNumber policy policyStatus publicAccessBlock
  renameObject replication requestPayment restore retention select session tagging torrent uploadId
  uploads versionId versioning versions website]]):gmatch("%S+") do
  subresources[name] = true
end

-- method, then the sub-resources (sorted, joined with "&") to the operation
local on_bucket = {
  HEAD = { [""] = "head_bucket" },
  GET = {
    [""] = "list_objects", location = "bucket_location", uploads = "list_uploads",
    versioning = "bucket_versioning", acl = "get_acl", policy = "no_policy", cors = "no_cors",
    lifecycle = "no_lifecycle", tagging = "no_tagging", encryption = "no_encryption",
  },
  PUT = { [""] = "create_bucket", acl = "put_acl" },
  DELETE = { [""] = "delete_bucket" },
  POST = { delete = "delete_objects" },
}

local on_object = {
  HEAD = { [""] = "head_object", partNumber = "head_object" },
  GET = {
    [""] = "get_object", partNumber = "get_object", uploadId = "list_parts", acl = "get_acl",
    tagging = "get_tagging",
  },
  PUT = { [""] = "put_object", ["partNumber&uploadId"] = "upload_part", acl = "put_acl" },
  DELETE = { [""] = "delete_object", uploadId = "abort_upload" },
  POST = { uploads = "create_upload", uploadId = "complete_upload" },
}

-- Operations whose body is kept, and those whose body is a document.
local bodies = { put_object = "data", upload_part = "data", complete_upload = "xml", delete_objects = "xml",
  create_bucket = "xml", put_acl = "xml" }

local function parse_query(text)
  local query = {}
  for pair in (text or ""):gmatch("[^&]+") do
    local name, value = pair:match("^([^=]*)=(.*)$")
    name = core.uri_decode(name or pair, true)
    value = core.uri_decode(value or "", true)
    if not name or not value then return nil end
    if query[name] == nil then query[name] = value end
  end
  return query
end

local function resources_of(query)
  local found = {}
  for name in pairs(query) do
    if subresources[name] and not (name == "versionId" and query[name] == "null") then
      found[#found + 1] = name
    end
  end
  table.sort(found)
  return table.concat(found, "&")
end

-- The operation's name, or nil and a fault.
local function operation(method, op)
  if not op.bucket then
    if op.resources == "" and (method == "GET" or method == "HEAD") then return "list_buckets" end
    return fault.fail(op.resources == "" and "MethodNotAllowed" or "NotImplemented")
  end
  local by_method = op.key and on_object or on_bucket
  if not by_method[method] then return fault.fail("MethodNotAllowed") end
  local name = by_method[method][op.resources]
  if not name then
    return fault.fail("NotImplemented", ("This store does not implement %s of %s."):format(method,
      op.resources ~= "" and "?" .. op.resources or op.key and "an object in this form" or "a bucket in this form"))
  end
  if op.headers["x-amz-copy-source"] then
    if name == "put_object" then return "copy_object" end
    if name == "upload_part" then return "upload_part_copy" end
    return fault.fail("InvalidRequest", "x-amz-copy-source does not belong to this request.")
  end
  return name
end

--- Headers with one value each, as most of the store wants them.
-- @tparam table headers lowercase names to a string or a list of strings
-- @treturn table lowercase names to strings
function _M.flatten(headers)
  local flat = {}
  for name, value in pairs(headers) do
    if type(value) == "table" then value = table.concat(value, ",") end
    flat[name:lower()] = tostring(value)
  end
  return flat
end

--- Reads a bucket and a key out of a path, encoded as in a request.
-- @tparam string path begins with "/"
-- @treturn string bucket or nil, string key or nil
-- @return[2] nil, nil and a fault
function _M.split(path)
  local raw_bucket, raw_key = path:match("^/([^/]*)/(.+)$")
  if not raw_bucket then raw_bucket = path:match("^/([^/]*)/?$") end
  if not raw_bucket then return nil, nil, fault.new("InvalidURI") end
  if raw_bucket == "" then
    if raw_key then return nil, nil, fault.new("InvalidBucketName") end
    return nil, nil
  end
  local bucket, key = core.uri_decode(raw_bucket), raw_key and core.uri_decode(raw_key)
  if not bucket or (raw_key and not key) then return nil, nil, fault.new("InvalidURI") end
  if not layout.bucket_name(bucket) or _M.reserved[bucket] then
    return nil, nil, fault.new("InvalidBucketName", nil, { { "BucketName", bucket } })
  end
  if key and #key > 1024 then
    return nil, nil, fault.new("KeyTooLongError", nil,
      { { "Size", tostring(#key) }, { "MaxSizeAllowed", "1024" } })
  end
  if key and key:find("\0", 1, true) then
    return nil, nil, fault.new("InvalidArgument", "A key cannot contain a NUL byte.")
  end
  return bucket, key
end

--- Parses a request.
-- @tparam string method
-- @tparam string target the raw path and query as received
-- @tparam table headers flat, lowercase
-- @treturn table op: name, method, bucket, key, query, headers, resources, body ("data", "xml" or nil)
-- @return[2] nil
-- @treturn[2] table fault
function _M.parse(method, target, headers)
  local path, query_text = target:match("^(/[^?#]*)%??([^#]*)$")
  if not path then return fault.fail("InvalidURI") end
  local query = parse_query(query_text)
  if not query then return fault.fail("InvalidURI") end
  local op = { method = method, path = path, query = query, headers = headers, resources = resources_of(query) }
  local why
  op.bucket, op.key, why = _M.split(path)
  if why then return nil, why end
  op.name, why = operation(method, op)
  if not op.name then return nil, why end
  op.body = bodies[op.name]
  return op
end

--- A whole number from the query.
-- @tparam table op
-- @tparam string name
-- @tparam number fallback where it is not given
-- @tparam number min
-- @tparam number max
-- @tparam[opt] boolean clamp more than `max` is `max`, not an error
-- @treturn number
-- @return[2] nil
-- @treturn[2] table fault
function _M.integer(op, name, fallback, min, max, clamp)
  local text = op.query[name]
  if text == nil or text == "" then return fallback end
  local n = text:find("^%d+$") and #text <= 15 and tonumber(text)
  if n and clamp and n > max then n = max end
  if not n or n < min or n > max then
    return fault.fail("InvalidArgument", ("%s must be a whole number from %d to %d."):format(name, min, max),
      { { "ArgumentName", name }, { "ArgumentValue", text } })
  end
  return n
end

return _M

--- What athena's requests may contain, and what its answers do: every field's type
-- and limits, here and nowhere else. (Keys have a place of their own:
-- longshore.broker.managed.keys.)
--
-- No limits are published. These were chosen: keys and names 1024 bytes, metadata 64 KiB as JSON,
-- `services.athena.max_batch` files (100) in a batch, 1000 ids in a *-many call.
--
-- Room: service, athena. No I/O.
-- @module longshore.service.athena.rules
local check = require "longshore.broker.check"
local json = require "longshore.json"

local _M = {}

local UUID = "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"
local METADATA = 65536
local MANY = 1000

_M.VISIBILITIES = { "private", "organization", "public" }

local function object(fields)
  return { type = "object", unknown = "ignore", fields = fields }
end

local function with(rule, more)
  local copy = {}
  for k, v in pairs(rule) do copy[k] = v end
  for k, v in pairs(more) do copy[k] = v end
  return copy
end

local function text(bytes, more)
  return with({ type = "string", min_bytes = 1, max_bytes = bytes }, more or {})
end

local uuid = { type = "string", pattern = UUID, says = "must be a UUID", format = "uuid" }
local file_id = with(uuid, { required = true })
local upload_id = { type = "string", required = true, min_bytes = 1, max_bytes = 1024 }

local function media_type(value)
  local ok, err = check.content_type(value)
  if ok then return true end
  return nil, (err.message:gsub("^content_type: ", ""))
end

local content_type = text(255, { check = media_type })

local metadata = { type = "map", values = { type = "any", nullable = true }, max_pairs = 1000,
  keys = { type = "string", max_bytes = 1024 }, says = "at most 64 KiB as JSON",
  check = function(value)
    if #json.encode(value) <= METADATA then return true end
    return nil, ("at most %d bytes of JSON are allowed"):format(METADATA)
  end }

local encryption = { type = "string", enum = { "AES256", "aws:kms", "aws:kms:dsse" } }
local key_id = text(2048, { check = function(value)
  if value:find("[^\33-\126]") then return nil, "must be plain ASCII without spaces" end
  return true
end })

local function encrypted(fields)
  fields.server_side_encryption, fields.sse = encryption, encryption
  fields.kms_key_id, fields.ssekms_key_id = key_id, key_id
  fields.bucket_key_enabled = { type = "boolean" }
  return fields
end

local visibility = { type = "string", enum = _M.VISIBILITIES }
local public = { type = "boolean" }

local upload_fields = encrypted {
  s3_id = with(uuid, { required = true }), storage_key = text(1024, { required = true }), bucket = text(255),
  name = text(1024), original_name = text(1024), resource_id = text(1024), mime_type = content_type,
  content_type = content_type, size_bytes = { type = "integer", min = 0 }, file_id = uuid, public = public,
  visibility = visibility, metadata = metadata,
}

--- One upload request.
_M.upload = object(upload_fields)

--- A batch of them.
-- @tparam number most
-- @treturn table rule
function _M.uploads(most)
  return object { files = { type = "array", required = true, min_items = 1, max_items = most,
    items = _M.upload } }
end

local function sha256(value)
  if _M.sha256(value) then return true end
  return nil, "a SHA-256 is 64 hexadecimal digits, or 44 characters of Base64"
end

--- The SHA-256 that a client wrote, in hex.
-- @tparam string value
-- @treturn string|nil
function _M.sha256(value)
  if #value == 64 and value:find("^%x+$") then return value:lower() end
  local core = require "longshore.core"
  local raw = #value == 44 and core.unbase64(value)
  return raw and #raw == 32 and core.hex(raw) or nil
end

_M.confirm = object {
  checksum_sha256 = text(64, { check = sha256 }), content_type = content_type, metadata = metadata,
  size_bytes = { type = "integer", min = 0 },
}

local function some_visibility(value)
  if value.public == nil and value.visibility == nil then return nil, "public or visibility is required" end
  return true
end

_M.visibility = with(object { public = public, visibility = visibility }, { check = some_visibility })

local file_ids = { type = "array", required = true, min_items = 1, max_items = MANY, items = uuid }

_M.visibility_many = with(object { file_ids = file_ids, public = public, visibility = visibility },
  { check = some_visibility })

_M.list = object {
  s3_id = with(uuid, { required = true }), prefix = { type = "string", max_bytes = 1024 }, bucket = text(255),
  limit = { type = "integer", min = 1, max = 1000, default = 1000 },
  offset = { type = "integer", min = 0, default = 0 },
}

_M.search = object {
  query = { type = "string", max_bytes = 1024 }, s3_id = uuid, bucket = text(255),
  limit = { type = "integer", min = 1, max = 1000, default = 50 },
  offset = { type = "integer", min = 0, default = 0 },
}

-- Also a folder, with its slash at the end.
_M.update = object { storage_key = text(1024, { required = true }), bucket = text(255) }
_M.update_many = object { file_ids = file_ids, storage_key = text(1024, { required = true }), bucket = text(255) }
_M.delete_many = object { file_ids = file_ids }

_M.url_query = object { purpose = { type = "string", enum = { "read", "download", "stream" }, default = "read" } }

_M.multipart_create = object(encrypted { file_id = file_id, content_type = content_type })
_M.multipart_sign = object { file_id = file_id, upload_id = upload_id,
  part_number = { type = "integer", required = true, min = 1, max = 10000 } }
_M.multipart_complete = object { file_id = file_id, upload_id = upload_id,
  parts = { type = "array", required = true, min_items = 1, max_items = 10000, items = object {
    part_number = { type = "integer", required = true, min = 1, max = 10000 },
    etag = text(1024, { required = true }),
  } } }
_M.multipart_named = object { file_id = file_id, upload_id = upload_id }

local function url(value)
  if value:find("^https?://[^/?#%s@]+[^?#%s]*$") then return true end
  return nil, "must be an http:// or https:// URL without user, query or fragment"
end

local function catalog_fields(more)
  local fields = {
    name = text(255), endpoint = text(1024, { check = url }), public_endpoint = text(1024, { check = url }),
    region = text(64, { pattern = "^[%w%-_]+$", says = "must be letters, digits and -" }),
    bucket = text(255, { pattern = "^[%w%.%-_]+$", says = "must be a bucket's name" }),
    buckets = { type = "array", max_items = 100,
      items = text(255, { pattern = "^[%w%.%-_]+$", says = "must be a bucket's name" }) },
    provider = text(64), force_path_style = { type = "boolean" },
    default_prefix = { type = "string", max_bytes = 512 },
    public_base_url = text(1024, { check = url }), access_key_id = text(512, { check = key_id.check }),
    secret_key = text(1024, { check = key_id.check }), session_token = text(8192, { check = key_id.check }),
    metadata = metadata,
  }
  for name, changes in pairs(more) do fields[name] = with(fields[name] or {}, changes) end
  return object(fields)
end

local REQUIRED = { required = true }

_M.create_catalog = catalog_fields { name = REQUIRED, bucket = REQUIRED, access_key_id = REQUIRED,
  secret_key = REQUIRED }
_M.update_catalog = catalog_fields { is_active = { type = "boolean" }, default_prefix = { nullable = true },
  public_base_url = { nullable = true }, public_endpoint = { nullable = true }, session_token = { nullable = true } }

--- Headers of every request, for the OpenAPI document; longshore.service.athena.session reads them.
_M.headers = object {
  ["X-Athena-Client"] = { type = "string", required = true,
    says = "The logical client; DEFAULT_CLIENT means the configured default." },
  ["X-Athena-Key"] = { type = "string",
    says = "An API key: the request has the rights that session and key both have." },
  ["X-Strip-Nulls"] = { type = "string", says = "true: fields that are null are left out of answers." },
}

--- Parameters of paths.
_M.paths = { file_id = uuid, id = uuid }

---------------------------------------------------------------------------
-- answers, for the OpenAPI document and for the specs that hold us to them

local function null(rule)
  return with(rule, { nullable = true, required = true })
end

local word = { type = "string", required = true }
local count = { type = "integer", required = true, min = 0 }
local moment = { type = "string", required = true, format = "date-time" }

local file = object {
  id = file_id, name = word, original_name = null(word), url = null(word), bucket = word, s3_id = file_id,
  prefix_path = null(word), size_bytes = null(count), mime_type = null(word), content_type = null(word),
  resource_id = null(word), organization_id = word, created_by_user_id = word, uploaded_by_user_id = word,
  checksum_sha256 = null(word),
  metadata = { type = "map", required = true, values = { type = "any", nullable = true } },
  created_at = moment, updated_at = moment, storage_key = word, extension = null(word),
  visibility = with(visibility, REQUIRED), is_public = { type = "boolean", required = true }, status = word,
  deleted_at = null(moment),
}

local function signed(more)
  local fields = {
    file_id = file_id, bucket = word, storage_key = word, purpose = word, url = word, expires_at = moment,
    expires_at_epoch_seconds = count, expires_in = count, cache_hit = { type = "boolean", required = true },
    cache_layer = { type = "string", required = true, enum = { "memory", "database", "none" } },
  }
  for name, rule in pairs(more or {}) do fields[name] = rule end
  return object(fields)
end

local headers = { type = "map", required = true, values = { type = "string" } }
local upload = signed { method = word, headers = headers }
local grant = object { file = with(file, REQUIRED), upload = with(upload, REQUIRED) }

local function envelope(data)
  return object { status = { type = "string", required = true, enum = { "success" } }, message = word,
    data = with(data, REQUIRED) }
end

local files = { type = "array", required = true, items = file }

local catalog = object {
  id = file_id, name = word, endpoint = null(word), region = null(word), bucket = word,
  buckets = { type = "array", required = true, items = { type = "string" } }, provider = word,
  force_path_style = { type = "boolean", required = true }, default_prefix = null(word), public_base_url = null(word),
  is_active = { type = "boolean", required = true },
  metadata = { type = "map", required = true, values = { type = "any", nullable = true } }, created_at = moment,
  updated_at = moment,
}

_M.answers = {
  Upload = envelope(grant),
  Uploads = envelope(object { files = { type = "array", required = true, items = grant } }),
  File = envelope(object { file = with(file, REQUIRED) }),
  Files = envelope(object { files = files, count = count }),
  FileList = envelope(object { files = files, count = count, total = count }),
  SignedUrl = envelope(signed()),
  MultipartCreated = envelope(object { upload_id = word, file_id = file_id, bucket = word, storage_key = word,
    expires_at = moment }),
  PartUrl = envelope(object { url = word, method = word, headers = headers, part_number = count, expires_at = moment,
    expires_at_epoch_seconds = count, expires_in = count }),
  Parts = envelope(object { upload_id = word, file_id = file_id, parts = { type = "array", required = true,
    items = object { part_number = count, etag = word, size_bytes = count } } }),
  Aborted = envelope(object { upload_id = word, file_id = file_id, aborted = { type = "boolean", required = true } }),
  Catalog = catalog,
  Catalogs = object { data = { type = "array", required = true, items = catalog } },
  CatalogDeleted = object { id = file_id, deleted = { type = "boolean", required = true } },
  Credentials = object { data = { type = "array", required = true, items = object {
    id = file_id, s3_id = file_id, name = word, endpoint = null(word), region = null(word), bucket = word,
    provider = word, access_key = word, is_active = { type = "boolean", required = true }, created_at = moment,
    rotated_at = null(moment) } } },
  Error = object { status = { type = "string", required = true, enum = { "error" } }, message = word, error = word,
    code = word, request_id = { type = "string" }, docs_url = { type = "string" } },
}

return _M

--- athena's answers: the envelope, files, URLs, catalogs, errors.
--
-- `X-Strip-Nulls: true` leaves fields that are null out of files and URLs.
--
-- Room: service, athena. No I/O.
-- @module longshore.service.athena.render
local json = require "longshore.json"
local response = require "longshore.http.response"
local status_room = require "longshore.service.status"

local _M = {}

local null = json.null
local moment, optional = response.moment, json.optional

local function stripped(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for name, field in pairs(value) do
    if name == "metadata" then copy[name] = field -- the user's own, nulls included
    elseif field ~= null then copy[name] = stripped(field) end
  end
  if json.is_array(value) then return json.array(copy) end
  return next(copy) and copy or json.object(copy)
end

--- A success in its envelope.
-- @tparam table ctx
-- @tparam number status
-- @tparam string message
-- @tparam table data
-- @treturn table response
function _M.success(ctx, status, message, data)
  if (ctx.request.headers["x-strip-nulls"] or ""):lower() == "true" then data = stripped(data) end
  return response.json(status, { status = "success", message = message, data = data })
end

--- A file.
-- @tparam table file of the broker
-- @treturn table
function _M.file(file)
  local folder, last = file.key:match("^(.*)/([^/]*)$")
  local extension = (last or file.key):match("%.([^%.]+)$")
  return {
    id = file.id, name = file.name, original_name = optional(file.original_name), url = null, bucket = file.bucket,
    s3_id = file.catalog, prefix_path = optional(folder), size_bytes = optional(file.size),
    mime_type = optional(file.content_type), content_type = optional(file.content_type),
    resource_id = optional(file.resource_id), organization_id = file.organization, created_by_user_id = file.user,
    uploaded_by_user_id = file.user, checksum_sha256 = optional(file.sha256),
    metadata = file.metadata or json.object {}, created_at = moment(file.created_at),
    updated_at = moment(file.updated_at), storage_key = file.key, extension = optional(extension),
    visibility = file.visibility, is_public = file.visibility == "public", status = file.status,
    deleted_at = moment(file.deleted_at),
  }
end

--- Many files.
-- @tparam table list
-- @treturn table array
function _M.files(list)
  local array = json.array()
  for i, file in ipairs(list) do array[i] = _M.file(file) end
  return array
end

local tointeger = rawget(math, "tointeger") or function(n) return n end

-- The three ways in which the end of a URL is told; they agree.
local function ends(answer, grant)
  local at = tointeger(math.floor(grant.expires_at))
  answer.expires_at, answer.expires_at_epoch_seconds = response.rfc3339(at), at
  answer.expires_in = tointeger(math.floor(grant.expires_in))
  return answer
end

--- A signed URL.
-- @tparam table file
-- @tparam table grant of the broker
-- @tparam string purpose
-- @treturn table
function _M.url(file, grant, purpose)
  return ends({
    file_id = file.id, bucket = file.bucket, storage_key = file.key, purpose = purpose, url = grant.url,
    cache_hit = grant.hit, cache_layer = grant.layer,
  }, grant)
end

--- The answer to an upload request.
-- @tparam table entry `file`, `upload`
-- @treturn table
function _M.upload(entry)
  local upload = _M.url(entry.file, entry.upload, "upload")
  upload.method, upload.headers = "PUT", json.object(entry.upload.headers or {})
  return { file = _M.file(entry.file), upload = upload }
end

--- The URL of a part.
-- @tparam number number
-- @tparam table grant
-- @treturn table
function _M.part(number, grant)
  return ends({ url = grant.url, method = "PUT", headers = json.object(grant.headers or {}), part_number = number },
    grant)
end

--- A catalog, without its secrets.
-- @tparam table row
-- @treturn table
function _M.catalog(row)
  return {
    id = row.id, name = row.name, endpoint = optional(row.endpoint), region = optional(row.region),
    bucket = row.bucket, buckets = json.array(row.buckets or {}), provider = row.profile,
    force_path_style = row.path_style == true, default_prefix = row.prefix ~= "" and row.prefix or null,
    public_base_url = optional(row.public_base_url), is_active = row.active == true,
    metadata = row.metadata and json.decode(row.metadata) or json.object {}, created_at = moment(row.created_at),
    updated_at = moment(row.updated_at),
  }
end

--- The credentials of a catalog: which they are, not what they are.
-- @tparam table row
-- @treturn table
function _M.credential(row)
  return {
    id = row.id, s3_id = row.id, name = row.name, endpoint = optional(row.endpoint), region = optional(row.region),
    bucket = row.bucket, provider = row.profile, access_key = row.access_key, is_active = row.active == true,
    created_at = moment(row.created_at), rotated_at = moment(row.rotated_at),
  }
end

-- The documented statuses.
local STATUS = {
  invalid = 400, unauthenticated = 401, forbidden = 403, not_found = 404, conflict = 409, state = 409, expired = 409,
  changed = 409, cancelled = 409, integrity = 409, too_large = 400, quota = 403, unsupported = 400, rate_limited = 429,
  busy = 503, unavailable = 503, database = 503, store = 503, network = 503, tls = 503, timeout = 504,
}

--- Renders an error.
-- @tparam table err
-- @tparam[opt] table ids `request`
-- @treturn table response
function _M.error(err, ids)
  local status = STATUS[err.code] or (err.refused and 403 or 500)
  if (err.refused or err.code == "unsupported") and err.status then status = err.status end
  if err.code == "too_large" and err.reason == "body" then status = 413 end
  local message = status_room.message(err)
  return response.json(status, {
    status = "error", message = message, error = message, code = err.code, request_id = ids and ids.request,
  })
end

return _M

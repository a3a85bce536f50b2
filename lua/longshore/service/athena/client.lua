--- The athena service (Athena Storage) as the uploader's driver: works with the service
-- itself and with longshore's broker.
--
-- Below 32 MiB a file is one PUT: `upload-url`, the bytes, `confirm-upload` with size and SHA-256
-- (a service that has no such call is believed). Above, parts of 8 MiB, more where the file would have
-- too many: `upload-url` for the row, `multipart/create`, `sign-part` for one part at a time, just in
-- time, `multipart/complete`. ETags go back as they came.
--
-- The service has no resume; here it is made of `list-parts` and the journal: a part that the journal knows
-- and the store lists with the same ETag and size is not sent again. A fresh URL is `upload-url` with the
-- file's id, or `sign-part` again. An upload that is given up for good is aborted.
--
-- Room: service.
-- @module longshore.service.athena.client
local calls = require "longshore.service.client"
local core = require "longshore.core"
local dates = require "longshore.dates"
local errors = require "longshore.errors"
local json = require "longshore.json"
local plans = require "longshore.plan"

local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.athena.client" }
mt.__tostring = function(self) return "athena client of " .. self.destination end

local MiB = 1048576
local UUID = "%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x"
local VISIBILITIES = { private = true, organization = true, public = true }
-- What the official SDK has.
local THRESHOLD, PART_SIZE, MIN_PART, MAX_PARTS = 32 * MiB, 8 * MiB, 5 * MiB, 10000
-- Joining the parts of a large file, or reading it for its checksum, may take the service minutes.
local COMPLETE_TIMEOUT = 900

local function plain(options, name)
  local value = options[name]
  if value == nil then return true end
  if type(value) ~= "string" or value == "" or value:find("[^\32-\126]") then
    return errors.fail("invalid", ("the %s must be plain ASCII"):format(name), { field = name })
  end
  return true
end

--- Makes the driver.
-- @tparam table options `url` of the service (with or without `/storage`), `token` (a session), `client` (the
-- logical client; by default the SDK's word for none), `key` (an API key), `catalog` (its id; by default the only
-- one there is), `bucket`, `prefix` (in front of names), `visibility`; `threshold` and `part_size`
-- @treturn[1] driver
-- @return[2] nil
-- @treturn[2] table err
function _M.new(options)
  local base, err = calls.base_url(options.url, "")
  if not base then return nil, err end
  base = base:gsub("/storage$", "")
  local token, refused = calls.token(options.token)
  if not token then return nil, refused end
  if options.key and options.key:find("[^\33-\126]") then
    return errors.fail("invalid", "the key contains characters that none has", { field = "key" })
  end
  for _, name in ipairs { "client", "bucket" } do
    local ok, why = plain(options, name)
    if not ok then return nil, why end
  end
  if options.catalog and not options.catalog:find("^" .. UUID .. "$") then
    return errors.fail("invalid", "a catalog's id is a UUID", { field = "catalog" })
  end
  if options.visibility and not VISIBILITIES[options.visibility] then
    return errors.fail("invalid", "visibility is private, organization or public", { field = "visibility" })
  end
  local client = options.client or "DEFAULT_CLIENT"
  return setmetatable({
    name = "athena", base = base .. "/storage", host = base:match("^%a+://([^/]+)"),
    -- What a journal is bound to: another client or catalog is another place.
    destination = ("%s/storage/%s/%s"):format(base, client, options.catalog or ""),
    catalog = options.catalog, bucket = options.bucket, prefix = options.prefix, visibility = options.visibility,
    threshold = options.threshold or THRESHOLD, part_size = math.max(options.part_size or PART_SIZE, MIN_PART),
    headers = { ["X-Athena-Client"] = client, ["X-Athena-Auth-Session-Token"] = token,
      ["X-Athena-Key"] = options.key },
    capabilities = { batch = 1, checkpoint = 0, etag = "maybe" },
  }, mt)
end

--- @see longshore.uploader.driver
function methods:attach(context)
  self.context = context
end

-- A call; the data in the answer's envelope (or all of it, without one).
local function call(self, what, method, path, body, options)
  local request = { what = what, method = method, url = self.base .. path, headers = self.headers, json = body,
    retry = "safe" }
  for k, v in pairs(options or {}) do request[k] = v end
  local value, err, response = calls.call(self.context.transport, request)
  if not value then return nil, err, response end
  local data = type(value) == "table" and not json.is_array(value) and value.data
  if request.raw then data = value end
  if type(data) ~= "table" then
    return errors.fail("store", what .. ": the service's answer has no data")
  end
  return data, response
end

-- The catalog to put files in: the one that was named, or the only one there is.
local function find_catalog(self)
  if self.catalog then return self.catalog end
  local list, err = call(self, "looking for the catalog", "GET", "/catalogs")
  if not list then return nil, err end
  local active = {}
  for _, item in ipairs(list) do
    local usable = type(item) == "table" and item.is_active ~= false and type(item.id) == "string"
    if usable then active[#active + 1] = item end
  end
  if #active ~= 1 then
    return errors.fail("invalid", #active == 0 and "the client has no catalog to put files in"
      or ("the client has %d catalogs; name one with --catalog"):format(#active), { field = "catalog" })
  end
  self.catalog = active[1].id
  return self.catalog
end

local function is_id(value)
  return type(value) == "string" and value ~= "" and not value:find("[%c/?#]")
end

-- Asks for a row and the URL of a single PUT.
local function upload_url(self, source, file_id)
  local catalog, err = find_catalog(self)
  if not catalog then return nil, err end
  local data, response
  data, err, response = call(self, "asking for the upload", "POST", "/files/upload-url", {
    s3_id = catalog, bucket = self.bucket, storage_key = (self.prefix or "") .. source.name,
    name = source.name:match("[^/]+$"), original_name = source.name:match("[^/]+$"), content_type = source.content_type,
    mime_type = source.content_type, size_bytes = source.size, file_id = file_id, visibility = self.visibility,
    public = self.visibility and self.visibility == "public" or nil,
  })
  if not data then return nil, err, response end
  local file, upload = data.file, data.upload
  if type(file) ~= "table" or type(upload) ~= "table" or not is_id(file.id) or type(upload.url) ~= "string" then
    return errors.fail("store", "the service's answer to upload-url has no file or no URL")
  end
  local headers = {}
  for name, value in pairs(type(upload.headers) == "table" and upload.headers or {}) do
    if type(value) == "string" then headers[name] = value end
  end
  return { file_id = file.id, url = upload.url, headers = headers,
    expires_at = dates.parse_time(upload.expires_at_epoch_seconds or upload.expires_at) }
end

local function with_type(headers, content_type)
  for name in pairs(headers) do
    if name:lower() == "content-type" then return headers end
  end
  headers["Content-Type"] = content_type
  return headers
end

---------------------------------------------------------------------------
-- start and resume

local function single_session(source, grant)
  return {
    id = grant.file_id, file_id = grant.file_id, source = source, single = true, resumed = false,
    part_size = source.size,
    parts = { { number = 1, offset = 0, length = source.size, url = grant.url,
      headers = with_type(grant.headers, source.content_type), expires_at = grant.expires_at } },
    have = {},
  }
end

local function parts_of(source, part_size, have)
  local parts = {}
  for number = 1, math.ceil(source.size / part_size) do
    if not (have and have[number]) then
      local offset = (number - 1) * part_size
      parts[#parts + 1] = { number = number, offset = offset, length = math.min(part_size, source.size - offset) }
    end
  end
  return parts
end

local function multipart_session(self, source, grant)
  local plan, err = plans.parts { size = source.size, min_part = MIN_PART, max_part = 5 * 1024 * MiB,
    max_parts = MAX_PARTS, max_object = MAX_PARTS * 5 * 1024 * MiB, part_size = self.part_size }
  if not plan then return nil, err end
  local data
  data, err = call(self, "starting the upload", "POST", "/multipart/create",
    { file_id = grant.file_id, content_type = source.content_type })
  if not data then return nil, err end
  local upload_id = data.upload_id or data.uploadId
  if type(upload_id) ~= "string" or upload_id == "" then
    return errors.fail("store", "the service's answer to multipart/create has no upload_id")
  end
  return {
    id = upload_id, file_id = grant.file_id, part_size = plan.part_size, resumed = false, have = {},
    parts = parts_of(source, plan.part_size),
    state = { file_id = grant.file_id, part_size = plan.part_size, size = source.size },
  }
end

local function good_state(saved, source)
  local state = saved.state
  return type(state) == "table" and is_id(state.file_id) and state.size == source.size
    and type(state.part_size) == "number" and state.part_size >= 1 and state.part_size % 1 == 0
end

local function bare(etag)
  return (etag:gsub("^W/", ""):gsub('"', ""))
end

-- The journal's upload, with the parts that the store has. Nil when it is gone.
local function resume(self, source, saved)
  local state = saved.state
  local data, err, response = call(self, "listing the parts", "POST", "/multipart/list-parts",
    { file_id = state.file_id, upload_id = saved.id })
  if not data then
    if response and (response.status == 404 or response.status == 409 or response.status == 410) then return false end
    return nil, err
  end
  local list = data.parts or data.Parts
  local session = { id = saved.id, file_id = state.file_id, part_size = state.part_size, resumed = true, have = {},
    state = state }
  for _, part in ipairs(type(list) == "table" and list or {}) do
    local number = type(part) == "table" and (part.part_number or part.PartNumber)
    local etag, size = number and (part.etag or part.ETag), number and (part.size_bytes or part.size or part.Size)
    local known = number and saved.parts[number]
    if known and known.token and type(etag) == "string" and bare(etag) == bare(known.token)
      and (size == nil or size == known.length) then
      session.have[number] = { offset = known.offset, length = known.length, token = known.token,
        crc32c = known.crc32c, check = known.check }
    end
  end
  session.parts = parts_of(source, state.part_size, session.have)
  return session
end

-- The file of a multipart upload that is gone, when it is there whole: the answer to complete was lost.
local function finished(self, file_id, size, not_before)
  local data = call(self, "looking at the file", "GET", "/files/" .. core.uri_encode(file_id))
  local file = data and data.file
  if type(file) ~= "table" or file.size_bytes ~= size then return nil end
  if file.status ~= "available" and file.status ~= "uploaded" and file.status ~= "ready" then return nil end
  local updated = dates.parse_time(file.updated_at)
  if not_before and not (updated and updated >= not_before) then return nil end
  return file
end

local function result_of(self, file)
  return { file_id = file.id, file_name = file.name, file_status = file.status,
    location = ("%s/files/%s"):format(self.base, file.id) }
end

--- @see longshore.uploader.driver
function methods:start(source, saved)
  if json.bad_utf8(source.name) then
    return errors.fail("invalid", "the name is not valid UTF-8, which this service needs; give another with --name",
      { field = "name" })
  end
  local notes
  if saved and good_state(saved, source) then
    local session, err = resume(self, source, saved)
    if session then return session end
    if session == nil then return nil, err end
    notes = { "the interrupted upload is gone at the service; starting over" }
  end
  local grant, err = upload_url(self, source)
  if not grant then return nil, err end
  if source.size < self.threshold then return single_session(source, grant) end
  local session
  session, err = multipart_session(self, source, grant)
  if session then session.notes = notes end
  return session, err
end

---------------------------------------------------------------------------
-- the other steps

-- An upload that the service does not know (any more) cannot go on.
local function gone(err, response)
  if response and (response.status == 404 or response.status == 410) then err.gone = true end
  return nil, err
end

--- @see longshore.uploader.driver
function methods:urls(session, parts)
  local part = parts[1]
  if session.single then
    local grant, err, response = upload_url(self, session.source, session.file_id)
    if not grant then return gone(err, response) end
    return { { url = grant.url, headers = with_type(grant.headers, session.source.content_type),
      expires_at = grant.expires_at } }
  end
  local data, err, response = call(self, "asking for a URL", "POST", "/multipart/sign-part",
    { file_id = session.file_id, upload_id = session.id, part_number = part.number })
  if not data then return gone(err, response) end
  local headers = {}
  for name, value in pairs(type(data.headers) == "table" and data.headers or {}) do
    if type(value) == "string" then headers[name] = value end
  end
  return { { url = data.url, headers = headers,
    expires_at = dates.parse_time(data.expires_at_epoch_seconds or data.expires_at) } }
end

-- The service looks at what arrived, and compares.
local function confirm(self, session)
  local source = session.source
  local digest, err = core.digest_file(source.path, { sha256 = true })
  if not digest then return nil, err end
  local data, why, response = call(self, "confirming the upload", "POST",
    ("/files/%s/confirm-upload"):format(core.uri_encode(session.file_id)),
    { size_bytes = source.size, checksum_sha256 = core.hex(digest.sha256) }, { timeout = COMPLETE_TIMEOUT })
  if data then
    local file = type(data.file) == "table" and data.file or {}
    file.id = file.id or session.file_id
    return result_of(self, file)
  end
  -- The official client never confirms, and the call may not be there.
  if response and (response.status == 405 or response.status == 501) then
    self.context.note "the service has no confirm-upload; the upload is not confirmed"
    return { file_id = session.file_id }
  end
  if response and response.status == 409 and why.service_code == "integrity" then why.code = "integrity" end
  return nil, why
end

--- @see longshore.uploader.driver
function methods:complete(session, parts)
  if session.single then return confirm(self, session) end
  local list, size = json.array(), 0
  for i, part in ipairs(parts) do
    list[i], size = { part_number = part.number, etag = part.token }, size + part.length
  end
  local began = self.context.clock.now()
  local data, err, response = call(self, "completing the upload", "POST", "/multipart/complete",
    { file_id = session.file_id, upload_id = session.id, parts = list }, { timeout = COMPLETE_TIMEOUT })
  if not data then
    if not response then return nil, err end
    -- Completed already, perhaps by a call of ours whose answer was lost?
    local lost = response.doubtful and (response.status == 404 or response.status == 409)
    local file = lost and finished(self, session.file_id, size, began - COMPLETE_TIMEOUT)
    if file then return result_of(self, file) end
    return gone(err, response)
  end
  local file = type(data.file) == "table" and data.file or {}
  if type(file.size_bytes) == "number" and file.size_bytes ~= size then
    return errors.fail("integrity", ("the service has %.0f bytes of a file of %.0f"):format(file.size_bytes, size))
  end
  file.id = file.id or session.file_id
  return result_of(self, file)
end

--- @see longshore.uploader.driver
function methods:abort(session)
  local file_id = session.file_id or (session.state and session.state.file_id)
  if session.single or not file_id then return true end
  local data, err, response = call(self, "aborting the upload", "POST", "/multipart/abort",
    { file_id = file_id, upload_id = session.id })
  if data or response and (response.status == 404 or response.status == 409) then return true end
  return nil, err
end

--- @see longshore.uploader.driver
function methods:download(id)
  if not is_id(id) then return errors.fail("invalid", "a file's id is expected", { field = "id" }) end
  local path = "/files/" .. core.uri_encode(id)
  local data, err = call(self, "looking at the file", "GET", path)
  if not data then return nil, err end
  local file = type(data.file) == "table" and data.file or {}
  local url
  url, err = call(self, "asking for the download", "GET", path .. "/url?purpose=download")
  if not url then return nil, err end
  if type(url.url) ~= "string" then return errors.fail("store", "the service's answer has no URL") end
  return { url = url.url, name = type(file.name) == "string" and file.name or nil,
    size = type(file.size_bytes) == "number" and file.size_bytes or nil,
    expires_at = dates.parse_time(url.expires_at_epoch_seconds or url.expires_at) }
end

return _M

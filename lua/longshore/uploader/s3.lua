--- The driver for a bucket itself: `s3://bucket/prefix`, with credentials.
--
-- Files up to the threshold go as one PUT, larger ones as a multipart upload
-- with part URLs signed here, just in time. The bucket is the checkpoint:
-- resuming asks it which parts it has and takes those that are what the journal
-- says, or whose checksum is that of the file's bytes.
--
-- An upload carries a random mark in the object's metadata, so that a Complete
-- whose answer was lost is recognised by looking at the object.
--
-- Room: uploader.
-- @module longshore.uploader.s3
local core = require "longshore.core"
local errors = require "longshore.errors"
local plans = require "longshore.plan"
local provider = require "longshore.provider.s3"
local verify = require "longshore.uploader.verify"

local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.uploader.s3" }
mt.__tostring = function(self) return "s3 driver for " .. self.destination end

local MiB = 1024 * 1024

--- Size of a part when none is asked for.
_M.PART_SIZE = 16 * MiB
--- Up to this size a file goes as one PUT.
_M.THRESHOLD = 32 * MiB

-- Stores that are known by their host.
local HOSTS = {
  { "%.amazonaws%.com$", "aws" }, { "%.amazonaws%.com%.cn$", "aws" }, { "%.r2%.cloudflarestorage%.com$", "r2" },
  { "^storage%.googleapis%.com$", "gcs" }, { "%.backblazeb2%.com$", "b2" }, { "%.wasabisys%.com$", "wasabi" },
  { "%.digitaloceanspaces%.com$", "digitalocean" }, { "%.scw%.cloud$", "scaleway" },
  { "%.storjshare%.io$", "storj" },
}

--- The profile of the store behind an endpoint.
-- @tparam ?string endpoint nil: Amazon's
-- @treturn string
function _M.profile_of(endpoint)
  if not endpoint then return "aws" end
  local host = (endpoint:match("^%a+://([^/:?#]+)") or ""):lower()
  for _, row in ipairs(HOSTS) do
    if host:find(row[1]) then return row[2] end
  end
  return "generic"
end

--- Splits `s3://bucket/prefix`.
-- @tparam string url
-- @treturn[1] string bucket
-- @treturn[1] string prefix, "" or with a slash at its end
-- @return[2] nil
-- @treturn[2] table err
function _M.parse_url(url)
  local bucket, prefix = url:match("^[sS]3://([^/]+)/*(.*)$")
  if not bucket or not bucket:match("^[%w%.%-_]+$") then
    return errors.fail("invalid", "s3://bucket or s3://bucket/prefix is expected", { field = "url" })
  end
  if prefix ~= "" and prefix:sub(-1) ~= "/" then prefix = prefix .. "/" end
  return bucket, prefix
end

--- Makes the driver.
-- @tparam table options `url` (`s3://bucket/prefix`), `endpoint`, `region`,
-- `profile`, `path_style`, `access_key`, `secret_key`, `session_token` or
-- `credentials` (see `longshore.provider.credentials`), `part_size`,
-- `threshold`, `expires` (seconds that URLs live, 3600), `no_clobber`, `attempts`
-- of a call (10)
-- @treturn[1] driver
-- @return[2] nil
-- @treturn[2] table err
function _M.new(options)
  local bucket, prefix = _M.parse_url(options.url)
  if not bucket then return nil, prefix end
  local self = setmetatable({
    name = "s3", part_size = options.part_size, threshold = options.threshold or _M.THRESHOLD,
    expires = options.expires or 3600, no_clobber = options.no_clobber,
  }, mt)
  local settings = { bucket = bucket, prefix = prefix, name = bucket,
    profile = options.profile or _M.profile_of(options.endpoint), learn_clock = false,
    attempts = options.attempts or 10 }
  for _, field in ipairs { "endpoint", "region", "path_style", "access_key", "secret_key", "session_token",
    "credentials" } do
    settings[field] = options[field]
  end
  -- Through what the uploader gives, once it has.
  settings.transport = function(request)
    request.retry = "never" -- the provider repeats
    return self.context.transport(request)
  end
  settings.clock = {
    now = function() return self.context.clock.now() end,
    sleep = function(seconds) return self.context.clock.sleep(seconds) end,
  }
  local p, err = provider.new(settings)
  if not p then return nil, err end
  self.provider = p
  self.destination = ("%s/%s/%s"):format(p.endpoint:gsub("/+$", ""), bucket, prefix)
  self.host = p.client.public_address.host
  local profile = p.profile
  self.capabilities = {
    batch = 1000, etag = profile.etag_is_md5 and "md5" or profile.name == "generic" and "maybe" or "opaque",
  }
  return self
end

--- @see longshore.uploader.driver
function methods:attach(context)
  self.context = context
end

-- Calls the provider; once more when the store disliked our clock, which has
-- been corrected by its answer.
local function call(self, method, o)
  local result, err = self.provider[method](self.provider, o)
  if not result and err.store_code == "RequestTimeTooSkewed" and self.context.skew:offset(self.host) ~= 0 then
    result, err = self.provider[method](self.provider, o)
  end
  return result, err
end

---------------------------------------------------------------------------
-- start

local function check_absent(self, source)
  local found, err = call(self, "head", { key = source.name })
  if found then
    return errors.fail("conflict", ("%s exists already and is not replaced"):format(source.name))
  end
  return err.code == "not_found" and true or nil, err
end

local function single(source)
  return { id = "put", parts = { { number = 1, offset = 0, length = source.size } }, have = {}, single = true,
    key = source.name, content_type = source.content_type, metadata = source.metadata, resumed = false }
end

local function part_at(state, number)
  local offset = (number - 1) * state.part_size
  return offset, math.min(state.part_size, state.size - offset)
end

local function session_of(id, state, resumed)
  return { id = id, state = state, key = state.key, parts = {}, have = {}, part_size = state.part_size,
    resumed = resumed }
end

local function fresh(self, source)
  local profile = self.provider.profile
  local plan, err = plans.parts {
    size = source.size, min_part = profile.min_part, max_part = profile.max_part, max_parts = profile.max_parts,
    max_object = profile.max_object, part_size = self.part_size or math.max(_M.PART_SIZE, profile.min_part),
    equal = true,
  }
  if not plan then return nil, err end
  local marker = core.hex(core.random(16))
  local started
  started, err = call(self, "create_multipart", { key = source.name, content_type = source.content_type,
    metadata = source.metadata, marker = marker })
  if not started then return nil, err end
  local state = { key = source.name, size = source.size, part_size = plan.part_size, count = plan.count,
    marker = marker }
  local session = session_of(started.upload_id, state, false)
  for number = 1, plan.count do
    local offset, length = part_at(state, number)
    session.parts[number] = { number = number, offset = offset, length = length }
  end
  return session
end

-- Whether a part that the store lists is what the file has there: as the
-- journal knows, or by its checksum. Returns what is known of it, or nil.
local function same_part(self, source, listed, known, offset, length)
  if listed.size ~= length then return nil end
  local bare = verify.bare_etag(known and known.token)
  if known and known.offset == offset and known.length == length then
    if bare ~= listed.etag or listed.crc32c and listed.crc32c ~= known.crc32c then return nil end
    return { crc32c = known.crc32c, check = known.check }
  end
  local md5 = self.capabilities.etag == "md5" and #listed.etag == 32
  if not listed.crc32c and not md5 then return nil end
  local digest = core.digest_file(source.path, { offset = offset, length = length, crc32c = true, md5 = md5 })
  if not digest then return nil end
  if listed.crc32c then
    return listed.crc32c == digest.crc32c and { crc32c = digest.crc32c, check = "crc32c" } or nil
  end
  return core.hex(digest.md5) == listed.etag:lower() and { crc32c = digest.crc32c, check = "md5" } or nil
end

local function good_state(state, source)
  local function count(n) return type(n) == "number" and n >= 1 and n % 1 == 0 end
  return type(state.key) == "string" and state.key == source.name and state.size == source.size
    and type(state.marker) == "string" and count(state.part_size) and count(state.count)
    and math.ceil(state.size / state.part_size) == state.count
end

-- The object, if it is the one that this upload was completed to.
local function completed(self, id, state)
  local found = call(self, "head", { key = state.key })
  if not found or found.marker ~= state.marker or found.size ~= state.size then return nil end
  local session = session_of(id, state, true)
  session.completed = { etag = found.etag, crc32c = found.crc32c, location = self.destination .. state.key }
  return session
end

local function resume(self, source, saved)
  local state = saved.state
  local listed, err = call(self, "list_parts", { key = state.key, upload_id = saved.id })
  if not listed then
    if err.code ~= "not_found" then return nil, err end
    local done = completed(self, saved.id, state)
    if done then return done end
    local session
    session, err = fresh(self, source)
    if session then session.notes = { "the interrupted upload is gone at the store; starting over" } end
    return session, err
  end
  local there = {}
  for _, part in ipairs(listed) do there[part.number] = part end
  local session = session_of(saved.id, state, true)
  for number = 1, state.count do
    local offset, length = part_at(state, number)
    local part = there[number]
    local same = part and same_part(self, source, part, saved.parts[number], offset, length)
    if same then
      same.offset, same.length, same.token = offset, length, part.etag
      session.have[number] = same
    else
      session.parts[#session.parts + 1] = { number = number, offset = offset, length = length }
    end
  end
  return session
end

--- @see longshore.uploader.driver
function methods:start(source, saved)
  if saved and good_state(saved.state, source) then return resume(self, source, saved) end
  local profile = self.provider.profile
  if self.no_clobber then
    local ok, err = check_absent(self, source)
    if not ok then return nil, err end
  end
  if source.size <= math.min(self.threshold, profile.max_put) then return single(source) end
  return fresh(self, source)
end

---------------------------------------------------------------------------
-- the other steps

--- @see longshore.uploader.driver
function methods:urls(session, parts)
  if not session.single then
    return self.provider:sign_parts { key = session.key, upload_id = session.id, parts = parts, expires = self.expires }
  end
  local headers
  if self.no_clobber and self.provider.profile.conditional_put then headers = { ["if-none-match"] = "*" } end
  local target, err = self.provider:sign_put { key = session.key, length = parts[1].length,
    content_type = session.content_type, metadata = session.metadata, headers = headers, expires = self.expires }
  if not target then return nil, err end
  return { target }
end

--- @see longshore.uploader.driver
function methods:complete(session, parts, _)
  local location = self.destination .. session.key
  if session.single then
    -- The one part is the object: what was compared for it holds for the whole.
    local part = parts[1]
    return { etag = verify.bare_etag(part.token), location = location,
      crc32c = part.check == "crc32c" and part.crc32c or nil }
  end
  local list = {}
  for i, part in ipairs(parts) do list[i] = { number = part.number, etag = part.token } end
  local answer, err = call(self, "complete_multipart", {
    key = session.key, upload_id = session.id, parts = list,
    marker = session.state.marker, size = session.state.size,
    if_none_match = self.no_clobber and self.provider.profile.conditional_complete or nil,
  })
  if not answer then
    if err.code == "not_found" then err.gone = true end
    if err.code == "conflict" and self.no_clobber then
      err.final = true
      err.message = ("%s exists already and is not replaced (%s)"):format(session.key, err.message)
    end
    return nil, err
  end
  -- The object as a reader will find it.
  local found = call(self, "head", { key = session.key })
  if found and found.size ~= session.state.size then
    return errors.fail("integrity", ("the object at the store has %.0f bytes, the file %.0f"):format(found.size,
      session.state.size))
  end
  return { etag = answer.etag, crc32c = answer.crc32c or found and found.crc32c, location = location }
end

--- @see longshore.uploader.driver
function methods:abort(session)
  local state = session.state
  if not state or type(state.key) ~= "string" then return true end
  return call(self, "abort_multipart", { key = state.key, upload_id = session.id, until_empty = true })
end

--- @see longshore.uploader.driver
function methods:download(id)
  -- An answer to a range does not tell the whole object's checksum; this does.
  local found, why = call(self, "head", { key = id })
  if not found then
    if why.code == "not_found" then why.message = ("there is no object %s; %s"):format(id, why.message) end
    return nil, why
  end
  local target, err = self.provider:sign_get { key = id, expires = self.expires }
  if not target then return nil, err end
  target.name, target.size, target.crc32c = id, found.size, found.crc32c
  return target
end

return _M

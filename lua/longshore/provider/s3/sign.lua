--- Presigned URLs: what is granted to somebody else, for a while.
--
-- Each answer is `{method, url, headers, expires_at, expires, clamped}`:
-- `headers` are those the client must send exactly so (Content-Length is signed
-- but not among them: HTTP libraries set it, from a body of that length);
-- `expires_at` is by the clock here; `clamped` is true when the credentials end
-- before the wish.
--
-- Nothing but what is asked for is signed: no checksum of a body not yet known,
-- nothing moved into the query that a store would then not check.
--
-- Room: provider, no I/O but the renewal of credentials.
-- @module longshore.provider.s3.sign
local errors = require "longshore.errors"
local json = require "longshore.json"
local limits = require "longshore.provider.s3.limits"
local metadata = require "longshore.provider.metadata"
local sessions = require "longshore.sessions"

local _M = {}

local DEFAULT_EXPIRES = 3600

local function invalid(field, why)
  return errors.fail("invalid", ("%s: %s"):format(field, why), { field = field })
end

local function answer(grant, method, url, headers)
  return {
    method = method, url = url, headers = headers or {}, expires_at = grant.expires_at, expires = grant.expires,
    clamped = grant.clamped,
  }
end

local function presign(self, method, o)
  local grant, err = self.client:grant(o.expires or DEFAULT_EXPIRES, self.profile.max_expires)
  if not grant then return nil, err end
  local address = self.client.public_address
  local url
  url, err = grant.signer:presign {
    method = method, scheme = address.scheme, host = address.host, path = address.root .. o.key,
    query = o.query or {}, headers = o.signed or {}, expires = grant.expires, time = grant.time,
  }
  if not url then return nil, errors.from(err) end
  return answer(grant, method, url, o.headers)
end

--- Signs the upload of one part.
-- @tparam table o `key`, `upload_id`, `number`, `length` (signed when given),
--   `expires` (seconds, default 3600)
-- @treturn table|nil answer
-- @treturn[opt] table err
function _M:sign_part(o)
  local list, err = self:sign_parts {
    key = o.key, upload_id = o.upload_id, parts = { { number = o.number, length = o.length } }, expires = o.expires,
  }
  if not list then return nil, err end
  return list[1]
end

-- What signing a run of parts begins with: a grant, and the signer's argument.
local function begin_run(self, o)
  local key, err = self:full_key(o.key)
  if not key then return nil, err end
  assert(type(o.upload_id) == "string" and o.upload_id ~= "", "upload_id: string expected")
  for _, part in ipairs(o.parts) do
    local ok, why = limits.part(self.profile, part.number, part.length)
    if not ok then return nil, why end
  end
  local grant
  grant, err = self.client:grant(o.expires or DEFAULT_EXPIRES, self.profile.max_expires)
  if not grant then return nil, err end
  local address = self.client.public_address
  return grant, {
    scheme = address.scheme, host = address.host, path = address.root .. key, upload_id = o.upload_id,
    parts = o.parts, expires = grant.expires, time = grant.time,
  }
end

--- Signs many parts at once.
-- @tparam table o `key`, `upload_id`, `parts` (list of `{number=, length=}`), `expires`
-- @treturn table|nil list of answers, each with its `number`
-- @treturn[opt] table err
function _M:sign_parts(o)
  local grant, run = begin_run(self, o)
  if not grant then return nil, run end
  local urls, err = grant.signer:presign_parts(run)
  if not urls then return nil, errors.from(err) end
  local list = {}
  for i, part in ipairs(o.parts) do
    list[i] = answer(grant, "PUT", urls[i])
    list[i].number = part.number
  end
  return list
end

--- Signs many parts and writes them down as JSON at once, in C: of a hundred
-- parts the signing is then the smaller half of the work.
-- @tparam table o as of `sign_parts`, and `part_size`, `shape(expires_at)`: a function that returns what each part
-- looks like, JSON with `%n` for its number, `%o` its offset, `%l` its length, `%u` its URL, `%%` for a percent sign
-- @treturn string|nil a JSON array
-- @treturn number|table when the URLs end; or err
function _M:sign_parts_text(o)
  local grant, run = begin_run(self, o)
  if not grant then return nil, run end
  run.shape, run.part_size = o.shape(grant.expires_at), o.part_size
  local text, err = grant.signer:presign_parts_json(run)
  if not text then return nil, errors.from(err) end
  return text, grant.expires_at
end

-- The name as clients should send it.
local function pretty(name)
  if name:find("^x%-") then return name end
  return (name:gsub("%f[%a]%l", string.upper))
end

--- Signs the upload of a whole object.
-- @tparam table o `key`, `length` and `content_type` (signed when given),
--   `metadata`, `headers` (further headers to sign), `expires`
-- @treturn table|nil answer
-- @treturn[opt] table err
function _M:sign_put(o)
  local key, err = self:full_key(o.key)
  if not key then return nil, err end
  local signed
  signed, err = metadata.headers(o.metadata, { rule = self.metadata_rule, limit = self.profile.max_metadata })
  if not signed then return nil, err end
  for name, value in pairs(o.headers or {}) do signed[name:lower()] = value end
  if o.content_type then signed["content-type"] = o.content_type end
  local send = {}
  for name, value in pairs(signed) do
    if type(value) ~= "string" or value:find("%c") or name:find("[^%w%-_]") then
      return invalid("headers", ("%q cannot be sent as a header"):format(name))
    end
    -- Signers fold spaces; what is sent has to be what was signed.
    value = value:gsub("^ +", ""):gsub(" +$", ""):gsub("  +", " ")
    signed[name] = value
    send[pretty(name)] = value
  end
  if o.length ~= nil then
    if not limits.whole(o.length, 0, 2 ^ 53) then return invalid("length", "a whole number of bytes expected") end
    if o.length > self.profile.max_put then
      return errors.fail("too_large", ("length: a single PUT has at most %.0f bytes here"):format(self.profile.max_put),
        { field = "length" })
    end
    signed["content-length"] = json.number(o.length)
  end
  return presign(self, "PUT", { key = key, signed = signed, headers = send, expires = o.expires })
end

--- A resumable session for one object, where the profile has them. It begins
-- with its first request; nothing is asked of the store now.
-- @tparam table o `key`, `max_size` (bytes it takes at most), `expires`
-- @treturn table|nil answer
-- @treturn[opt] table err
function _M:sign_session(o)
  if not self.profile.sessions then
    return errors.fail("unsupported", ("%s has no resumable sessions"):format(self.profile.title))
  end
  local key, err = self:full_key(o.key)
  if not key then return nil, err end
  local grant
  grant, err = self.client:grant(o.expires or DEFAULT_EXPIRES, self.profile.max_expires)
  if not grant then return nil, err end
  local keys
  keys, err = self.client.keys()
  if not keys then return nil, err end
  local id = sessions.new_id { access_key = keys.access_key, secret_key = keys.secret_key, bucket = self.bucket,
    key = key, expires_at = grant.time + grant.expires, max_size = o.max_size }
  local address = self.client.public_address
  return answer(grant, "PUT", ("%s://%s%s"):format(address.scheme, address.host, sessions.target(self.bucket, key, id)))
end

--- Signs a download.
-- @tparam table o `key`, `filename` (to save under), `content_type` (to answer
--   with), `method` (GET or HEAD), `expires`
-- @treturn table|nil answer
-- @treturn[opt] table err
function _M:sign_get(o)
  local key, err = self:full_key(o.key)
  if not key then return nil, err end
  return presign(self, o.method or "GET", { key = key, expires = o.expires, query = {
    ["response-content-disposition"] = o.filename and metadata.disposition(o.filename) or nil,
    ["response-content-type"] = o.content_type,
  } })
end

--- Signs any request on an object, or on the bucket, as the caller wants it.
-- @tparam table o `method`, `key` (nil: the bucket), `query`, `headers` (signed,
--   and to be sent), `length` (of the body; signed when given), `expires`
-- @treturn table|nil answer
-- @treturn[opt] table err
function _M:sign_url(o)
  local key = ""
  if o.key then
    local err
    key, err = self:full_key(o.key)
    if not key then return nil, err end
  end
  if not o.method:match("^[A-Z]+$") then return invalid("method", "a method such as GET or PUT expected") end
  local signed, send = {}, {}
  for name, value in pairs(o.headers or {}) do
    if type(value) ~= "string" or value:find("%c") or not name:match("^[%w%-_]+$") then
      return invalid("headers", ("%q cannot be sent as a header"):format(name))
    end
    value = value:gsub("^ +", ""):gsub(" +$", ""):gsub("  +", " ")
    signed[name:lower()], send[pretty(name:lower())] = value, value
  end
  if o.length ~= nil then
    if not limits.whole(o.length, 0, 2 ^ 53) then return invalid("length", "a whole number of bytes expected") end
    signed["content-length"] = json.number(o.length)
  end
  return presign(self, o.method, { key = key, query = o.query, signed = signed, headers = send, expires = o.expires })
end

return _M

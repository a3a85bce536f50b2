--- One bucket of an S3-compatible store.
--
--   local s3 = require "longshore.provider.s3"
--   local p = assert(s3.new {
--     profile = "ceph", endpoint = "https://store.internal:7480", bucket = "uploads",
--     access_key = "...", secret_key = "...",
--   })
--   local started = assert(p:create_multipart { key = "a/b", content_type = "text/csv" })
--   local part = assert(p:sign_part { key = "a/b", upload_id = started.upload_id, number = 1 })
--
-- The methods are in the modules below `longshore.provider.s3`: `sign` (presigned
-- URLs), `multipart`, `objects`, `copy`, `buckets`. Every one returns `nil, err` when
-- the store refuses or cannot be reached; `err.store_code` and `err.request_id`
-- are the store's own words.
--
-- Room: provider. `require` does no I/O; requests go through the transport.
-- @module longshore.provider.s3
local errors = require "longshore.errors"
local address = require "longshore.provider.address"
local client = require "longshore.provider.s3.client"
local credentials = require "longshore.provider.credentials"
local metadata = require "longshore.provider.metadata"
local profiles = require "longshore.provider.profiles"

local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.provider.s3" }

for _, name in ipairs { "sign", "multipart", "objects", "copy", "buckets" } do
  for method, fn in pairs(require("longshore.provider.s3." .. name)) do
    if type(fn) == "function" then methods[method] = fn end
  end
end

function mt:__tostring()
  return ("%s (%s): %s at %s"):format(self.name, self.profile.name, self.bucket, self.endpoint)
end

local function invalid(name, field, why)
  return errors.fail("invalid", ("provider %s: %s: %s"):format(name, field, why), { field = field })
end

--- The key at the store of a key here. (For the provider's own rooms.)
-- @tparam string key
-- @treturn string|nil
-- @treturn[opt] table err
function methods:full_key(key)
  if type(key) ~= "string" then error("key: string expected", 3) end
  local full = self.prefix .. key
  if key == "" or #full > 1024 or full:find("\0", 1, true) then
    return errors.fail("invalid", "key: 1 to 1024 bytes without NUL expected", { field = "key" })
  end
  return full
end

--- The key here of a key at the store; nil when it is not below the prefix.
-- @tparam string|nil key
-- @treturn string|nil
function methods:short_key(key)
  if key and key:sub(1, #self.prefix) == self.prefix then return key:sub(#self.prefix + 1) end
end

--- The same bucket, deeper: all keys lie below one more prefix.
-- @tparam string prefix
-- @tparam[opt] string name for messages
-- @treturn table provider
function methods:below(prefix, name)
  local deeper = {}
  for field, value in pairs(self) do deeper[field] = value end
  deeper.prefix, deeper.name = self.prefix .. prefix, name or self.name
  return setmetatable(deeper, mt)
end

-- The endpoint of the profile, with its blanks filled in.
local function endpoint_of(o, profile, region)
  if o.endpoint then return o.endpoint end
  if not profile.endpoint then return nil end
  local missing
  local text = profile.endpoint:gsub("{(%a+)}", function(blank)
    local value = blank == "region" and region or o[blank]
    if type(value) ~= "string" or not value:match("^[%w%-]+$") then missing = missing or blank end
    return value
  end)
  if missing then return nil, missing end
  if profile.name == "aws" and region:find("^cn%-") then text = text .. ".cn" end
  return text
end

local function source_of(o)
  if o.credentials ~= nil then
    if type(o.credentials) ~= "function" then return nil, "credentials", "a function expected" end
    return o.credentials
  end
  for _, field in ipairs { "access_key", "secret_key" } do
    if type(o[field]) ~= "string" or o[field] == "" then return nil, field, "a string expected" end
    if o[field]:find("[%c ]") then return nil, field, "it has a space or control character" end
  end
  return credentials.static { access_key = o.access_key, secret_key = o.secret_key, session_token = o.session_token }
end

-- Checks the options; returns the fields of the provider and of its client.
local function settle(o)
  local name = o.name or "default"
  local profile = profiles.get(o.profile or "generic")
  if not profile then
    local names = table.concat(profiles.names, ", ")
    return invalid(name, "profile", ("%s is none of %s"):format(tostring(o.profile), names))
  end
  local region = o.region or profile.region
  if type(region) ~= "string" or not region:match("^[%w%-_]+$") then
    return invalid(name, "region", "letters, digits and - expected")
  end
  if type(o.bucket) ~= "string" or not o.bucket:match("^[%w%.%-_]+$") or #o.bucket > 255 or o.bucket:match("^%.+$") then
    return invalid(name, "bucket", "a bucket's name expected")
  end
  if o.prefix ~= nil and (type(o.prefix) ~= "string" or #o.prefix > 512 or o.prefix:find("%z")) then
    return invalid(name, "prefix", "a string of at most 512 bytes expected")
  end
  if o.metadata_rule ~= nil and not metadata.is_rule(o.metadata_rule) then
    return invalid(name, "metadata_rule", "rfc2047, percent or refuse expected")
  end
  local text, missing = endpoint_of(o, profile, region)
  if not text then return invalid(name, missing or "endpoint", "is missing; " .. profile.title .. " needs it") end
  local endpoint, err = address.parse(text)
  if not endpoint then return invalid(name, "endpoint", err.message) end
  local public
  public, err = address.parse(o.public_endpoint or text)
  if not public then return invalid(name, "public_endpoint", err.message) end
  local wish = o.path_style
  if wish == nil then wish = profile.path_style end
  local source, field, why = source_of(o)
  if not source then return invalid(name, field, why) end
  return {
    name = name, profile = profile, region = region, bucket = o.bucket, prefix = o.prefix or "",
    endpoint = text, public_endpoint = o.public_endpoint or text, metadata_rule = o.metadata_rule,
    path_style = address.needs_path(endpoint, o.bucket, wish),
  }, {
    address = address.bucket(endpoint, o.bucket, address.needs_path(endpoint, o.bucket, wish)),
    public_address = address.bucket(public, o.bucket, address.needs_path(public, o.bucket, wish)),
    region = region, credentials = source,
  }
end

--- Makes a provider.
-- @tparam table o
--
--  * `name`: for messages; `profile`: a name of `profiles.names` or a table of
--    changes with `base` (default generic);
--  * `endpoint` (default: the profile's), `public_endpoint` (what URLs are signed
--    for; default the same), `region`, `account` (R2), `bucket`, `prefix` (in
--    front of every key), `path_style` (true, false; default by profile and names);
--  * `access_key`, `secret_key`, `session_token`, or `credentials` (a function, see
--    `longshore.provider.credentials`);
--  * `metadata_rule`: rfc2047, percent or refuse (`longshore.provider.metadata`);
--  * `transport`, `clock`, `attempts` (5), `timeout` (60 seconds), `patience` (no
--    further attempt this many seconds after the first began), `learn_clock`
--    (true: follow the store's clock when ours is off).
-- @treturn[1] table provider
-- @treturn[2] nil
-- @treturn[2] table err code `invalid` with `field`
function _M.new(o)
  assert(type(o) == "table", "options: table expected")
  local self, settings = settle(o)
  if not self then return nil, settings end
  settings.clock = o.clock or require("longshore.clock").system
  settings.transport = o.transport or require("longshore.http.transport").new {}
  settings.attempts, settings.timeout, settings.random = o.attempts, o.timeout, o.random
  settings.learn_clock, settings.patience = o.learn_clock, o.patience
  self.client = client.new(settings)
  return setmetatable(self, mt)
end

return _M

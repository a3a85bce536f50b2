--- Bearer tokens: made once, kept only as a hash, checked in constant time.
--
-- A token is `ls_<id>_<secret>`: 16 random characters to find the row by and 32
-- (160 bits) that only its owner knows. The database holds the SHA-256 of the
-- whole, so that who reads it cannot use it.
--
-- Room: broker.
-- @module longshore.broker.tokens
local clock = require "longshore.clock"
local core = require "longshore.core"
local check = require "longshore.broker.check"
local errors = require "longshore.errors"
local ids = require "longshore.broker.ids"

local _M = {}

local RIGHTS = { read = true, upload = true, delete = true, admin = true }

local methods = {}
local mt = { __index = methods, __name = "longshore.broker.tokens" }

--- @tparam table options `store`, `clock`
-- @treturn table tokens
function _M.new(options)
  assert(options.store, "store: longshore.store expected")
  return setmetatable({ store = options.store, clock = options.clock or clock.system }, mt)
end

local function hash(token)
  return core.hex(core.sha256(token))
end

local function read_rights(rights)
  if rights == nil then return { "read", "upload", "delete" } end
  if type(rights) ~= "table" or #rights == 0 then
    return check.invalid("rights", "a list of read, upload, delete, admin is expected")
  end
  local list, seen = {}, {}
  for _, right in ipairs(rights) do
    if not RIGHTS[right] then
      return check.invalid("rights", ("there is no right %q; there are read, upload, delete, admin")
        :format(tostring(right)))
    end
    if not seen[right] then
      seen[right] = true
      list[#list + 1] = right
    end
  end
  return list
end

-- `{ requests =, seconds = }`, checked.
local function read_rate(rate)
  local function whole(name, high)
    local value = type(rate) == "table" and rate[name]
    if type(value) == "number" and value % 1 == 0 and value >= 1 and value <= high then return value end
    return check.invalid("rate", ("%s: a whole number from 1 to %d is expected"):format(name, high))
  end
  local requests, err = whole("requests", 1000000000)
  if not requests then return nil, err end
  local seconds
  seconds, err = whole("seconds", 86400)
  if not seconds then return nil, err end
  return { requests = requests, seconds = seconds }
end

--- Makes a token. It is shown this once.
-- @tparam table options `user`, `organization`, `tenant` ("default"), `rights`
-- (list; default read, upload, delete), `expires_in` seconds (default: never),
-- `rate` (`{ requests =, seconds = }`, how often it may ask; default: as the broker's configuration says), `label`
-- @treturn table `token`, `id`, `expires_at`; or nil, err
function methods:create(options)
  assert(type(options) == "table", "options: table expected")
  local row = { id = "tok_" .. ids.characters(16) }
  for _, name in ipairs { "user", "organization", "tenant" } do
    local value = options[name]
    if value == nil and name == "tenant" then value = "default" end
    local err
    row[name], err = check.name(value, name, 255)
    if not row[name] then return nil, err end
  end
  if options.label ~= nil then
    local err
    row.label, err = check.name(options.label, "label", 255)
    if not row.label then return nil, err end
  end
  local err
  row.rights, err = read_rights(options.rights)
  if not row.rights then return nil, err end
  row.created_at = self.clock.now()
  if options.expires_in ~= nil then
    local seconds
    seconds, err = check.size(options.expires_in, "expires_in")
    if not seconds then return nil, err end
    if seconds < 1 or seconds > 3155760000 then
      return check.invalid("expires_in", "1 second to 100 years is expected")
    end
    row.expires_at = row.created_at + seconds
  end
  if options.rate ~= nil then
    local rate
    rate, err = read_rate(options.rate)
    if not rate then return nil, err end
    row.rate_requests, row.rate_seconds = rate.requests, rate.seconds
  end
  local token = "ls_" .. row.id:sub(5) .. "_" .. ids.characters(32)
  row.hash = hash(token)
  local ok
  ok, err = self.store:create_token(row)
  if not ok then return nil, err end
  return { token = token, id = row.id, expires_at = row.expires_at }
end

local function rate_of(row)
  return row.rate_requests and { requests = row.rate_requests, seconds = row.rate_seconds } or nil
end

--- The actor that a token stands for.
-- @tparam string token
-- @treturn table actor, or nil, err: `unauthenticated`, the same for a token that
-- never was, is wrong, or is revoked; `reason` is "expired" for one whose time is over
function methods:verify(token)
  local id = type(token) == "string" and #token == 52 and token:match("^ls_([a-z2-7]+)_[a-z2-7]+$")
  if not id or #id ~= 16 then
    return errors.fail("unauthenticated", "the token is not valid")
  end
  local row, err = self.store:token("tok_" .. id)
  if not row and err.code ~= "not_found" then return nil, err end
  local right = core.equal(hash(token), row and row.hash or ("0"):rep(64))
  if not row or not right or row.revoked_at then
    return errors.fail("unauthenticated", "the token is not valid")
  end
  if row.expires_at and row.expires_at <= self.clock.now() then
    return errors.fail("unauthenticated", "the token has expired", { reason = "expired" })
  end
  local rights = {}
  for _, name in ipairs(row.rights) do rights[name] = true end
  return {
    user = row.user, organization = row.organization, tenant = row.tenant, rights = rights, via = "token",
    token_id = row.id, rate = rate_of(row),
  }
end

--- All tokens, without what could be used.
-- @treturn {table,...} each with `id`, `user`, `organization`, `tenant`, `rights`,
-- `label`, `rate`, `created_at`, `expires_at`, `revoked_at`, `state` (active, expired, revoked)
function methods:list()
  local rows, err = self.store:tokens()
  if not rows then return nil, err end
  local now = self.clock.now()
  for _, row in ipairs(rows) do
    row.hash = nil
    row.rate, row.rate_requests, row.rate_seconds = rate_of(row), nil, nil
    row.state = row.revoked_at and "revoked" or row.expires_at and row.expires_at <= now and "expired" or "active"
  end
  return rows
end

--- Makes a token useless from now on. Revoking twice is fine.
-- @tparam string id tok_...
-- @treturn true, or nil, err
function methods:revoke(id)
  assert(type(id) == "string", "id: string expected")
  if not id:find("^tok_[a-z2-7]+$") then return errors.fail("not_found", "there is no such token") end
  return self.store:revoke_token(id, self.clock.now())
end

return _M

--- JSON web tokens as bearer tokens: to actors, by the claims that are configured.
--
-- The algorithm belongs to the key, in the configuration or by the JWK's own kind
-- and the list of those allowed; what the token's header says must agree with it
-- and decides nothing. Checked: signature, `exp` (required), `nbf`, `iat`, `iss`
-- and `aud`, with the configured clock skew.
--
-- Room: http. Asks for keys only through `longshore.http.jwks`.
-- @module longshore.http.jwt
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"
local jwks = require "longshore.http.jwks"

local _M = {}
local methods = {}
local mt = { __index = methods, __name = "longshore.http.jwt" }
mt.__tostring = function() return "longshore.http.jwt" end

local RIGHTS = { read = true, upload = true, delete = true, admin = true }

-- The same words for all that is wrong with a token, but for its time.
local function refuse(why, reason)
  return errors.fail("unauthenticated", "the token is not valid: " .. why, { reason = reason or "token" })
end

--- Makes the check.
-- @tparam table options `config.auth.jwt`: `keys` (list of `{kid=, algorithm=, secret= | pem=}`), `jwks` (path or URL)
-- with `algorithms`, `issuer`, `audience`, `skew`, and the names of claims: `user`, `organization`, `tenant`, `rights`
-- @tparam table parts `clock`, `transport`, `cache`, `log`: see longshore.http.jwks
-- @treturn table tokens with `is(token)` and `verify(token)`
-- @treturn[2] nil
-- @treturn[2] table err names the key of the configuration
function _M.new(options, parts)
  if not options.keys and not options.jwks then
    return errors.fail("invalid", "auth.jwt: keys or jwks is required", { field = "auth.jwt" })
  end
  local self = setmetatable({ options = options, clock = parts.clock, keys = {} }, mt)
  for i, given in ipairs(options.keys or {}) do
    local field = ("auth.jwt.keys[%d]"):format(i)
    local secret = given.algorithm == "HS256"
    if (given.secret ~= nil) ~= secret or (given.pem ~= nil) == secret then
      return errors.fail("invalid", field .. (secret and ": HS256 takes a secret" or ": a public key (pem) is wanted"),
        { field = field })
    end
    local key, err = core.jws_key { algorithm = given.algorithm, secret = given.secret, pem = given.pem }
    if not key then return errors.fail("invalid", ("%s: %s"):format(field, err.message), { field = field }) end
    self.keys[i] = { kid = given.kid, key = key, algorithm = given.algorithm }
  end
  if options.jwks then
    local err
    self.remote, err = jwks.new(options, parts)
    if not self.remote then return nil, err end
  end
  return self
end

--- Whether a token looks like one of these: three parts with dots between.
-- @tparam string token
-- @treturn boolean
function methods.is(_, token)
  return token:find("^[%w_%-]+%.[%w_%-]+%.[%w_%-]+$") ~= nil
end

-- Bytes of base64url without padding, decoded strictly, or nil.
local function decode(text)
  if text:find("=", 1, true) then return nil end
  return (core.unbase64url(text))
end

local function read_object(text)
  local bytes = decode(text)
  local value = bytes and json.decode(bytes, { max_bytes = 16384 })
  if type(value) == "table" and not json.is_array(value) then return value end
end

-- Whether one of some keys has signed: of those of the header's algorithm and, where both have one, of its kid.
local function is_signed(keys, header, text, signature)
  for _, one in ipairs(keys) do
    if one.algorithm == header.alg and (header.kid == nil or one.kid == nil or one.kid == header.kid)
      and one.key:verify(text, signature) then
      return true
    end
  end
  return false
end

local function has_audience(claim, wanted)
  if claim == wanted then return true end
  if type(claim) == "table" then
    for _, value in ipairs(claim) do
      if value == wanted then return true end
    end
  end
  return false
end

local function is_time(value)
  return type(value) == "number" and value == value and math.abs(value) < 2 ^ 53
end

local function check_claims(self, claims)
  local options, now = self.options, self.clock.now()
  if not is_time(claims.exp) then return refuse("it has no expiry (exp)") end
  if claims.exp + options.skew <= now then
    return errors.fail("unauthenticated", "the token has expired", { reason = "expired" })
  end
  for _, name in ipairs { "nbf", "iat" } do
    local value = claims[name]
    if value ~= nil and not is_time(value) then return refuse(name .. " is no time") end
    if value and value - options.skew > now then return refuse("its time has not come (" .. name .. ")", "early") end
  end
  if claims.iss ~= options.issuer then return refuse("it was issued by somebody else (iss)") end
  if not has_audience(claims.aud, options.audience) then return refuse("it is meant for somebody else (aud)") end
  return true
end

local function name_of(value)
  if type(value) ~= "string" or value == "" or #value > 255 then return nil end
  if value:find("%c") or json.bad_utf8(value) then return nil end
  return value
end

-- "read upload", or { "read", "upload" }; other words are others' scopes.
local function read_rights(claim)
  local rights, words = {}, {}
  if type(claim) == "string" then
    for word in claim:gmatch("%S+") do words[#words + 1] = word end
  elseif type(claim) == "table" then
    words = claim
  end
  for _, word in ipairs(words) do
    local name = type(word) == "string" and (word:match("^longshore[:.](%a+)$") or word)
    if RIGHTS[name] then rights[name] = true end
  end
  return rights
end

local function actor_of(self, claims, text)
  local options = self.options
  local actor = { via = "jwt", tenant = "default", rights = read_rights(claims[options.rights]) }
  for _, field in ipairs { "user", "organization", "tenant" } do
    if options[field] then
      actor[field] = name_of(claims[options[field]])
      if not actor[field] then return refuse(("its claim %q is missing or is no name"):format(options[field])) end
    end
  end
  -- What logs and rates know it by; not what could be used. (An ES256 signature can be written in two ways.)
  actor.token_id = "jwt_" .. core.hex(core.sha256(text)):sub(1, 16)
  return actor
end

--- The actor that a token stands for.
-- @tparam string token
-- @treturn table actor
-- @treturn[2] nil
-- @treturn[2] table err unauthenticated; unavailable where the keys cannot be fetched
function methods:verify(token)
  local head, body, signature = token:match("^([%w_%-]+)%.([%w_%-]+)%.([%w_%-]+)$")
  local header = head and read_object(head)
  local bytes = header and decode(signature)
  if not bytes then return refuse("it is malformed") end
  if header.crit ~= nil then return refuse("it asks for extensions (crit)") end
  if header.kid ~= nil and type(header.kid) ~= "string" then return refuse("it is malformed") end
  local text = head .. "." .. body
  local signed = is_signed(self.keys, header, text, bytes)
  if not signed and self.remote and self.remote:has(header.alg) then
    local keys, err = self.remote:find(header.kid)
    if not keys then return nil, err end
    signed = is_signed(keys, header, text, bytes)
  end
  if not signed then return refuse("no key of ours has signed it") end
  local claims = read_object(body)
  if not claims then return refuse("it is malformed") end
  local ok, err = check_claims(self, claims)
  if not ok then return nil, err end
  return actor_of(self, claims, text)
end

return _M

--- Public keys from a JSON Web Key Set (RFC 7517), a file or a URL: read, kept for
-- some time, and read again when a token names a key that is not there.
--
-- In nginx the text is kept where all workers and threads find it, and one of
-- them fetches it while the others go on with the old one. A set that cannot be
-- fetched leaves the old one in use for ten times its time.
--
-- The cache is injected: `get(key)`, `set(key, text, seconds)`, and
-- `claim(key, seconds)`, which is true for one caller in that time.
--
-- Room: http. Reads the named file, or fetches through the injected transport.
-- @module longshore.http.jwks
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"

local _M = {}
local methods = {}
local mt = { __index = methods, __name = "longshore.http.jwks" }

-- A key that is not there makes us look again, but not more often than this (seconds).
local PAUSE = 10
-- Who has to wait for an answer of the issuer, at most; and for how long after it gave none nobody waits with them.
local TIMEOUT, AWAY = 5, 60
local MAX_BYTES = 262144
local KEEP = 10

--- A cache for one process.
-- @tparam table clock
-- @treturn table
function _M.memory(clock)
  local values = {}
  local function get(key)
    local entry = values[key]
    return entry and entry.till > clock.now() and entry.text or nil
  end
  return {
    get = get,
    set = function(key, text, seconds) values[key] = { text = text, till = clock.now() + seconds } end,
    claim = function(key, seconds)
      if get(key) then return false end
      values[key] = { text = true, till = clock.now() + seconds }
      return true
    end,
  }
end

local function bytes_of(jwk, name)
  return type(jwk[name]) == "string" and (core.unbase64url(jwk[name])) or nil
end

-- A JWK as a key: its algorithm follows from its kind. Nil for one that is not for us.
local function read_key(jwk, allowed)
  if type(jwk) ~= "table" or (jwk.use ~= nil and jwk.use ~= "sig") then return nil end
  local given
  if jwk.kty == "RSA" then
    given = { algorithm = "RS256", n = bytes_of(jwk, "n"), e = bytes_of(jwk, "e") }
    if not given.n or not given.e then return nil end
  elseif jwk.kty == "EC" and jwk.crv == "P-256" then
    given = { algorithm = "ES256", x = bytes_of(jwk, "x"), y = bytes_of(jwk, "y") }
    if not given.x or not given.y then return nil end
  elseif jwk.kty == "OKP" and jwk.crv == "Ed25519" then
    given = { algorithm = "EdDSA", x = bytes_of(jwk, "x") }
    if not given.x then return nil end
  else
    return nil -- a shared secret (oct) has no place in a public set
  end
  if not allowed[given.algorithm] or (jwk.alg ~= nil and jwk.alg ~= given.algorithm) then return nil end
  local key = core.jws_key(given)
  return key and { kid = type(jwk.kid) == "string" and jwk.kid or nil, key = key, algorithm = given.algorithm }
end

--- Reads a key set.
-- @tparam string text
-- @tparam table allowed algorithm to true
-- @treturn table list of `{kid=, key=, algorithm=}`; keys that are not for us are left out
-- @treturn[2] nil
-- @treturn[2] table err
function _M.parse(text, allowed)
  local value = json.decode(text, { max_bytes = MAX_BYTES })
  if type(value) ~= "table" or type(value.keys) ~= "table" then
    return errors.fail("invalid", "the key set is not a JSON object with keys")
  end
  local list = {}
  for _, jwk in ipairs(value.keys) do list[#list + 1] = read_key(jwk, allowed) end
  return list
end

--- Makes a source of keys. Nothing is read yet.
-- @tparam table options `jwks` (a path or an https URL; http only for this machine), `algorithms`, `cache_seconds`
-- @tparam table parts `clock`, `transport`, `cache` (default: of this process), `log`
-- @treturn table with `find(kid)`
-- @treturn[2] nil
-- @treturn[2] table err
function _M.new(options, parts)
  local where = options.jwks
  local remote = where:find("^%a+://") ~= nil
  if remote and not where:find("^https://") and not where:find("^http://127%.0%.0%.1[:/]")
    and not where:find("^http://localhost[:/]") then
    return errors.fail("invalid", "auth.jwt.jwks: an https URL or a path is expected", { field = "auth.jwt.jwks" })
  end
  local allowed = {}
  for _, name in ipairs(options.algorithms or { "RS256", "ES256", "EdDSA" }) do allowed[name] = true end
  return setmetatable({
    where = where, remote = remote, allowed = allowed, seconds = options.cache_seconds or 600,
    clock = parts.clock, transport = parts.transport, cache = parts.cache or _M.memory(parts.clock),
    log = parts.log or function() end,
  }, mt)
end

local function read_file(path)
  local f, why = io.open(path, "rb")
  if not f then return nil, tostring(why) end
  local text = f:read(MAX_BYTES + 1)
  f:close()
  return text or ""
end

local function fetch(self)
  if not self.remote then return read_file(self.where) end
  local response, err = self.transport { method = "GET", url = self.where, timeout = TIMEOUT, max_response = MAX_BYTES,
    headers = { accept = "application/json" } }
  if not response then return nil, tostring(err) end
  if response.status ~= 200 then return nil, "status " .. response.status end
  return response.body
end

-- Fetches the set, if it is this caller's turn; true when it is there anew, false when it is not to be had.
local function renew(self)
  local cache = self.cache
  if not cache.claim("jwks:turn:" .. self.where, PAUSE) then return nil end
  local text, why = fetch(self)
  local list, err
  if text then list, err = _M.parse(text, self.allowed) end
  if not list then
    self.log("error", "the key set cannot be read: " .. tostring(why or err), { jwks = self.where })
    cache.set("jwks:away:" .. self.where, "1", AWAY)
    return false
  end
  cache.set("jwks:text:" .. self.where, text, self.seconds * KEEP)
  cache.set("jwks:fresh:" .. self.where, "1", self.seconds)
  return true
end

-- The keys of the text that is kept, parsed once.
local function current(self)
  local text = self.cache.get("jwks:text:" .. self.where)
  if text and text ~= self.text then
    self.text, self.list = text, _M.parse(text, self.allowed)
  end
  return text and self.list
end

local function matching(list, kid)
  local found = {}
  for _, one in ipairs(list) do
    if kid == nil or one.kid == nil or one.kid == kid then found[#found + 1] = one end
  end
  return found
end

--- Whether keys of an algorithm are taken from the set.
-- @tparam string algorithm
-- @treturn boolean
function methods:has(algorithm)
  return self.allowed[algorithm] == true
end

--- The keys that a token may mean.
-- @tparam[opt] string kid
-- @treturn table list, perhaps empty
-- @treturn[2] nil
-- @treturn[2] table err unavailable: there is no set yet
function methods:find(kid)
  local list = current(self)
  if not list or not self.cache.get("jwks:fresh:" .. self.where) then
    renew(self)
    list = current(self)
    -- Somebody else fetches it for the first time: their answer is worth waiting for. (Not that of an issuer who is
    -- away: anybody could hold all threads, with tokens that are none.)
    for _ = 1, 10 * TIMEOUT do
      if list or self.cache.get("jwks:away:" .. self.where) then break end
      self.clock.sleep(0.1)
      list = current(self)
    end
  end
  if not list then
    return errors.fail("unavailable", "the keys of tokens cannot be fetched", { retryable = true, retry_after = PAUSE })
  end
  local found = matching(list, kid)
  -- The signer may have a new key.
  if not found[1] and renew(self) then found = matching(current(self), kid) end
  return found
end

return _M

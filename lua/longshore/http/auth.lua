--- Who is asking: bearer tokens to actors.
--
-- An actor is `{user=, organization=, tenant=, rights={name=true}, via="token"|"host"}`
-- and is made only here, or by a host that authenticates itself.
--
-- Room: http. No I/O of its own; `tokens` looks into the store.
-- @module longshore.http.auth
local errors = require "longshore.errors"
local json = require "longshore.json"

local _M = {}

--- The token of an Authorization header.
-- @tparam table headers
-- @treturn string token
-- @treturn[2] nil
-- @treturn[2] table err unauthenticated
function _M.bearer_token(headers)
  local value = headers.authorization
  if not value or value == "" then
    return errors.fail("unauthenticated", "a token is required: send Authorization: Bearer <token>",
      { reason = "missing" })
  end
  local scheme, token = value:match("^%s*(%S+)%s+(%S+)%s*$")
  if not scheme or scheme:lower() ~= "bearer" then
    return errors.fail("unauthenticated", "the Authorization header must be of the form Bearer <token>",
      { reason = "format" })
  end
  if #token > 4096 or token:find("[^%w%-%._~%+/=]") then
    return errors.fail("unauthenticated", "the token is not valid", { reason = "token" })
  end
  return token
end

--- Authenticates by bearer token.
-- @tparam table tokens has `verify(self, token)` -> actor | nil, err
-- @treturn function authenticate(request, find) -> actor | nil, err; `find(request)` -> token | nil, err
-- is for a service whose token may stand elsewhere than in Authorization
function _M.bearer(tokens)
  return function(request, find)
    if request.actor then return request.actor end
    local token, err
    if find then token, err = find(request) else token, err = _M.bearer_token(request.headers) end
    if not token then return nil, err end
    return tokens:verify(token)
  end
end

--- Tokens of two kinds: those that `first` takes for its own (`first:is(token)`) go to it, the others to `second`.
-- @tparam table first
-- @tparam table second
-- @treturn table with `verify(self, token)`
function _M.either(first, second)
  local both = {}
  function both.verify(_, token)
    return (first:is(token) and first or second):verify(token)
  end
  return both
end

local function actor_error(field, what)
  error(("actor.%s: %s"):format(field, what), 3)
end

--- The actor that a host hands in, checked and made whole: one who says "organization" wrongly must not read
-- another's files. A mistake raises.
-- @tparam table given `user`, `organization`, `tenant` ("default"), `rights` (a list, or name to true; default read,
-- upload, delete)
-- @treturn table actor
function _M.host_actor(given)
  if type(given) ~= "table" then error("actor: a table { user =, organization = } expected", 2) end
  local actor = { via = "host", tenant = "default" }
  for _, field in ipairs { "user", "organization", "tenant" } do
    local value = given[field]
    if value == nil then value = actor[field] end
    if type(value) ~= "string" or value == "" or #value > 255 or value:find("%c") or json.bad_utf8(value) then
      actor_error(field, "a text of 1 to 255 characters in UTF-8 expected")
    end
    actor[field] = value
  end
  local rights = given.rights or { "read", "upload", "delete" }
  if type(rights) ~= "table" then actor_error("rights", "a list of read, upload, delete, admin expected") end
  actor.rights = {}
  for key, value in pairs(rights) do
    local name = type(key) == "number" and value or (value and key)
    if name then
      if name ~= "read" and name ~= "upload" and name ~= "delete" and name ~= "admin" then
        actor_error("rights", ("there is no right %q; there are read, upload, delete, admin"):format(tostring(name)))
      end
      actor.rights[name] = true
    end
  end
  return actor
end

--- Whether an actor has a right; `admin` has them all.
-- @tparam table actor
-- @tparam[opt] string right
-- @treturn boolean|nil
-- @treturn table err forbidden
function _M.allow(actor, right)
  if not right or actor.rights[right] or actor.rights.admin then return true end
  return errors.fail("forbidden", ("this token has not the right to %s"):format(right), { reason = "right" })
end

return _M

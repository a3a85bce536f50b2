--- Who is asking: bearer tokens to actors.
--
-- An actor is `{user=, organization=, tenant=, rights={name=true}, via="token"|"host"}`
-- and is made only here, or by a host that authenticates itself.
--
-- Room: http. No I/O of its own; `tokens` looks into the store.
-- @module longshore.http.auth
local errors = require "longshore.errors"

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

--- Who asks, and for which client: sessions, keys, the client's header.
--
-- A session is a token of `longshore token`, made for a user, an organization and a client (the
-- token's tenant). It stands in `X-Athena-Auth-Session-Token`, in the cookie
-- `athena-auth.session-token` (or with an underscore), in `X-Athena-Auth-Bearer-Token` or in
-- `Authorization: Bearer`; the first of these that is there counts. `X-Athena-Key` is a
-- token, too: a request that carries one has the rights that both have. A key names no user,
-- so a key alone is no session.
--
-- From a trusted address `X-User-Id` and `X-Organization-Id` stand for a session with the rights to
-- read, upload and delete; from elsewhere they mean nothing.
--
-- First comes the session (401), then the client (400), then the key (401, 403), and only then
-- is the body looked at.
--
-- Room: service, athena. No I/O of its own.
-- @module longshore.service.athena.session
local auth = require "longshore.http.auth"
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}

local RIGHTS = { "read", "upload", "delete", "admin" }

local function no_context()
  return errors.fail("unauthenticated", "there is no user or organization context: send a session token",
    { reason = "missing" })
end

-- The value of a cookie, of the first name that is there.
local function cookie(header, names)
  if not header then return nil end
  for _, name in ipairs(names) do
    for pair in header:gmatch("[^;,]+") do
      local key, value = pair:match("^%s*([^=]-)%s*=%s*(.-)%s*$")
      if key == name and value ~= "" then
        value = value:gsub('^"(.*)"$', "%1")
        return core.uri_decode(value) or value
      end
    end
  end
end

local COOKIES = { "athena-auth.session-token", "athena-auth.session_token" }

local function session_token(headers)
  for _, name in ipairs { "x-athena-auth-session-token", "", "x-athena-auth-bearer-token" } do
    local value
    if name == "" then value = cookie(headers.cookie, COOKIES) else value = headers[name] end
    if value and value ~= "" then
      return (value:gsub("^%s*[Bb]earer%s+", ""):gsub("^%s+", ""):gsub("%s+$", ""))
    end
  end
  if headers.authorization and headers.authorization ~= "" then return auth.bearer_token(headers) end
  return nil
end

-- A session that a trusted server vouches for.
local function vouched(request, settings)
  local user, organization = request.headers["x-user-id"], request.headers["x-organization-id"]
  if not user or not organization then return nil end
  local trusted = false
  for _, address in ipairs(settings.trusted_addresses) do trusted = trusted or address == request.remote_addr end
  if not trusted then return nil end
  for _, name in ipairs { user, organization } do
    if name == "" or #name > 255 or name:find("[%c\127-\255]") then return nil end
  end
  return { user = user, organization = organization, rights = { read = true, upload = true, delete = true },
    via = "host" }
end

-- The client that a request names, or why it is none.
local function client_of(headers, settings)
  local name = headers["x-athena-client"]
  if not name or name == "" then
    return errors.fail("invalid", "the header X-Athena-Client is required", { field = "x-athena-client",
      reason = "client" })
  end
  -- What the SDK says when its user said nothing.
  if name == "DEFAULT_CLIENT" and not settings.clients[name] then name = settings.default_client end
  return name or ""
end

local function unknown_client()
  return errors.fail("invalid", "X-Athena-Client: there is no such client for this session",
    { field = "x-athena-client", reason = "client" })
end

local function both(a, b)
  local rights = {}
  for _, right in ipairs(RIGHTS) do
    if (a[right] or a.admin) and (b[right] or b.admin) then rights[right] = true end
  end
  return rights
end

-- The same words for a key that never was and a key of another client.
local function bad_key()
  return errors.fail("unauthenticated", "X-Athena-Key: the key is not valid", { reason = "key" })
end

--- Authenticates a request.
-- @tparam table request
-- @tparam function verify(token) -> actor | nil, err
-- @tparam table route with `settings`
-- @treturn table|nil actor; its tenant is the client
-- @treturn table err
function _M.authenticate(request, verify, route)
  local headers, settings = request.headers, route.settings
  local actor, err
  if request.actor then
    actor = request.actor
  else
    local token
    token, err = session_token(headers)
    if err then return nil, err end
    if token then
      actor, err = verify(token)
      if not actor then return nil, err end
    else
      actor = vouched(request, settings)
      if not actor then return no_context() end
    end
  end
  local client
  client, err = client_of(headers, settings)
  if not client then return nil, err end
  -- A session of another client learns nothing of which clients there are.
  if not settings.clients[client] or (actor.tenant and actor.tenant ~= client) then return unknown_client() end
  local rights, key = actor.rights, headers["x-athena-key"]
  if key and key ~= "" then
    local holder
    holder, err = verify(key)
    if not holder and err.code ~= "unauthenticated" then return nil, err end
    if not holder or holder.tenant ~= client then return bad_key() end
    local allowed
    allowed, err = auth.allow(holder, route.right)
    if not allowed then
      err.message = ("X-Athena-Key: this key has not the right to %s"):format(route.right)
      return nil, err
    end
    rights = both(rights, holder.rights)
  end
  local asking = {}
  for name, value in pairs(actor) do asking[name] = value end
  asking.tenant, asking.rights = client, rights
  return asking
end

return _M

--- Cross-origin requests: the preflight's answer, and the headers of others.
--
-- Runs before authentication, since a preflight carries no credentials. Only
-- configured origins get anything; `*` allows all, without cookies.
--
-- Room: http. No I/O.
-- @module longshore.http.cors
local errors = require "longshore.errors"

local _M = {}
local methods = {}
local mt = { __index = methods, __name = "longshore.http.cors" }

local EXPOSED = "ETag, Location, Retry-After, X-Request-Id"

--- Makes the rules.
-- @tparam table options `origins` (list, `"*"` among them allows all), `max_age` (seconds, default 600),
-- `exposed` (the headers that scripts may read, a text with commas)
-- @treturn table cors
function _M.new(options)
  local self = setmetatable({ known = {}, any = false, max_age = options.max_age or 600,
    exposed = options.exposed or EXPOSED }, mt)
  for _, origin in ipairs(options.origins or {}) do
    if origin == "*" then
      self.any = true
    else
      self.known[origin:lower():gsub("/$", "")] = true
    end
  end
  self.active = self.any or next(self.known) ~= nil
  return self
end

-- The value of Access-Control-Allow-Origin for a request, or nil.
local function allow(self, request)
  local origin = request.headers.origin
  if not origin or not self.active then return nil end
  if self.any then return "*" end
  return self.known[origin:lower()] and origin or nil
end

--- Whether a request is a preflight.
-- @tparam table request
-- @treturn boolean
function methods.is_preflight(_, request)
  return request.method == "OPTIONS" and request.headers.origin ~= nil
    and request.headers["access-control-request-method"] ~= nil
end

--- Answers a preflight.
-- @tparam table request
-- @tparam table allowed list of the methods that the path answers
-- @treturn table headers of the answer
-- @treturn[2] nil
-- @treturn[2] table err forbidden for an origin that is not configured
function methods:preflight(request, allowed)
  local origin = allow(self, request)
  if not origin then
    return errors.fail("forbidden", "this origin is not allowed (see cors.origins in the configuration)",
      { reason = "origin" })
  end
  local headers = {
    ["access-control-allow-origin"] = origin,
    ["access-control-allow-methods"] = table.concat(allowed, ", "),
    ["access-control-max-age"] = ("%d"):format(self.max_age),
    vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
  }
  local asked = request.headers["access-control-request-headers"]
  if asked and #asked <= 4096 and asked:find("^[%w%-_!#$&'*+.^`|~, \t]+$") then
    headers["access-control-allow-headers"] = asked
  end
  return headers
end

--- Adds what a browser needs to an answer of any status.
-- @tparam table request
-- @tparam table headers changed in place
function methods:decorate(request, headers)
  if not self.active then return end
  if not headers.vary then
    headers.vary = "Origin"
  elseif not headers.vary:find("Origin", 1, true) then
    headers.vary = headers.vary .. ", Origin"
  end
  local origin = allow(self, request)
  if origin then
    headers["access-control-allow-origin"] = origin
    headers["access-control-expose-headers"] = self.exposed
  end
end

return _M

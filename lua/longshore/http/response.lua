--- Answers: `{status=, headers={lowercase=value}, body=string|nil}`.
--
-- Room: http. No I/O.
-- @module longshore.http.response
local json = require "longshore.json"

local _M = {}

--- An answer with a JSON body.
-- @tparam number status
-- @param value what to encode
-- @tparam[opt] table headers more headers
-- @treturn table response
function _M.json(status, value, headers)
  local all = { ["content-type"] = "application/json", ["cache-control"] = "no-store" }
  for name, text in pairs(headers or {}) do all[name] = text end
  return { status = status, headers = all, body = json.encode(value) }
end

--- An answer whose JSON is written already.
-- @tparam number status
-- @tparam string text
-- @treturn table response
function _M.json_text(status, text)
  return { status = status, body = text,
    headers = { ["content-type"] = "application/json", ["cache-control"] = "no-store" } }
end

--- An answer without a body.
-- @tparam number status
-- @tparam[opt] table headers
-- @treturn table response
function _M.empty(status, headers)
  return { status = status, headers = headers or {}, body = "" }
end

--- Sends the client to another URL; nobody may keep the answer, as such URLs expire.
-- @tparam string url
-- @tparam[opt=302] number status
-- @treturn table response
function _M.redirect(url, status)
  return _M.empty(status or 302, { location = url, ["cache-control"] = "no-store" })
end

--- A time as RFC 3339 has it, in UTC, whole seconds.
-- @tparam number seconds since 1970
-- @treturn string
function _M.rfc3339(seconds)
  return os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(seconds))
end

--- A time of an answer, null where there is none.
-- @tparam[opt] number seconds since 1970
-- @return string, or json.null
function _M.moment(seconds)
  return seconds and _M.rfc3339(seconds) or json.null
end

return _M

--- The HTTP status of an error, and what of it a client may read.
--
-- Room: service, shared by all of them. No I/O.
-- @module longshore.service.status
local _M = {}

local statuses = {
  invalid = 400, unauthenticated = 401, forbidden = 403, not_found = 404, conflict = 409, state = 409,
  expired = 409, changed = 409, cancelled = 409, too_large = 413, quota = 403, unsupported = 501,
  integrity = 400, rate_limited = 429, busy = 503, unavailable = 503, timeout = 504, network = 502,
  store = 502, tls = 502, database = 503, io = 500, internal = 500,
}

-- What went wrong inside is logged, with the id that the client is given.
local hidden = {
  internal = "an error occurred in the server; its id is in the server's log",
  io = "the server could not read or write a file",
  database = "the metadata database is not available",
  network = "the object store could not be reached",
  tls = "the object store could not be reached",
  timeout = "the object store took too long to answer",
  store = "the object store refused or failed",
}

--- The status of an answer to an error. What a policy refused says it itself, and so does an
-- error of the code `unsupported` (405, 415, 501); the status that an error of the
-- object store carries is not ours.
-- @tparam table err
-- @treturn number
function _M.of(err)
  if (err.refused or err.code == "unsupported") and err.status then return err.status end
  return statuses[err.code] or (err.refused and 403 or 500)
end

--- The text of an error for the client.
-- @tparam table err
-- @treturn string
function _M.message(err)
  if err.refused then return err.message end
  return hidden[err.code] or (statuses[err.code] and err.message) or hidden.internal
end

--- The headers that an error brings with it.
-- @tparam table err
-- @treturn table
function _M.headers(err)
  local headers = {}
  if err.allow then headers.allow = err.allow end
  if err.code == "unauthenticated" then headers["www-authenticate"] = 'Bearer realm="longshore"' end
  local wait = err.retry_after or ((err.code == "busy" or err.code == "unavailable" or err.code == "database") and 1)
  if wait then headers["retry-after"] = ("%d"):format(math.max(1, math.ceil(wait))) end
  return headers
end

return _M

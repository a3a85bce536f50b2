--- What an answer of an object store (or of a service) to a request means for
-- the request: done, again, again with a fresh URL, or never.
--
-- Kinds:
--
-- * `ok`        200 or 201
-- * `expired`   the URL or its credentials are too old: a fresh URL, once
-- * `skewed`    a clock is wrong: learn the offset, sign again, once
-- * `throttled` refused for load: the gate's business, then again
-- * `transient` may go well the next time
-- * `corrupted` the store says that the bytes are not what was announced
-- * `gone`      the upload does not exist (any more)
-- * `fatal`     the same request will be refused again
--
-- Room: uploader, no I/O.
-- @module longshore.uploader.classify
local dates = require "longshore.dates"
local errors = require "longshore.errors"

local _M = {}

-- Error codes of S3 and those who speak like it (GCS's XML API, Azure, Ceph),
-- that say more than the status does.
local CODES = {
  ExpiredToken = "expired", TokenExpired = "expired", RequestExpired = "expired",
  TokenRefreshRequired = "expired",
  RequestTimeTooSkewed = "skewed", RequestNotYetValid = "skewed",
  SlowDown = "throttled", Throttling = "throttled", ThrottlingException = "throttled",
  RequestLimitExceeded = "throttled", TooManyRequests = "throttled", ServerBusy = "throttled",
  ServiceUnavailable = "throttled", BandwidthLimitExceeded = "throttled", EgressIsOverAccountLimit = "throttled",
  InternalError = "transient", RequestTimeout = "transient", IncompleteBody = "transient",
  OperationAborted = "transient", ConditionalRequestConflict = "transient", OperationTimedOut = "transient",
  BadDigest = "corrupted", InvalidDigest = "corrupted", XAmzContentSHA256Mismatch = "corrupted",
  XAmzContentChecksumMismatch = "corrupted", Md5Mismatch = "corrupted", Crc64Mismatch = "corrupted",
  NoSuchUpload = "gone",
}

local ERROR_CODES = {
  expired = "expired", skewed = "expired", throttled = "busy", transient = "unavailable",
  corrupted = "integrity", gone = "not_found",
}

local STATUS_CODES = {
  [400] = "invalid", [401] = "unauthenticated", [403] = "forbidden", [404] = "not_found", [409] = "conflict",
  [411] = "invalid", [412] = "conflict", [413] = "too_large", [416] = "invalid", [422] = "invalid",
  [507] = "quota",
}

--- The Code and Message of an S3 error document, as far as they are there.
-- @tparam string body
-- @treturn ?string code
-- @treturn ?string message
function _M.s3_error(body)
  local code = body:match("<Code>%s*([%w_%.%-]+)%s*</Code>")
  local message = body:match("<Message>(.-)</Message>")
  if message then
    message = message:gsub("&lt;", "<"):gsub("&gt;", ">"):gsub("&quot;", '"'):gsub("&#39;", "'")
      :gsub("&apos;", "'"):gsub("&amp;", "&")
  end
  return code, message
end

--- Seconds that an answer asks to wait (Retry-After as a number or a date).
-- @tparam table headers with lower-case names
-- @treturn ?number
function _M.retry_after(headers)
  local value = headers["retry-after"]
  if not value then return nil end
  local seconds = tonumber(value:match("^%s*(%d+)%s*$"))
  if seconds then return seconds end
  local at, date = dates.parse_http(value), headers.date and dates.parse_http(headers.date)
  if at and date then return math.max(0, at - date) end
  return nil
end

local function by_status(status)
  if status == 429 or status == 503 then return "throttled" end
  if status == 408 or status >= 500 and status ~= 501 and status ~= 505 and status ~= 507 then return "transient" end
  return "fatal"
end

-- A 403 that does not say why. Ceph answers a bare AccessDenied for an expired
-- URL: the store's own clock against the known expiry decides.
local function forbidden(message, answer, expires_at, now)
  if message and (message:find("expired", 1, true) or message:find("Expired", 1, true)) then
    return "expired"
  end
  if message and (message:find("not yet valid", 1, true) or message:find("not valid yet", 1, true)) then
    return "skewed"
  end
  if not expires_at then return "expired" end
  local date = answer.headers.date and dates.parse_http(answer.headers.date)
  if (date or now) >= expires_at then return "expired" end
  return "fatal"
end

--- Classifies an answer.
-- @tparam table answer status, headers, body
-- @tparam[opt] number expires_at when the URL that was used ends
-- @tparam[opt] number now seconds since 1970 as the server has it
-- @treturn string kind, one of those above
-- @treturn ?table err for every kind but ok
function _M.answer(answer, expires_at, now)
  local status, body = answer.status, answer.body or ""
  if status == 200 or status == 201 then return "ok" end
  local code, message = _M.s3_error(body)
  local kind = code and CODES[code]
  if not kind then
    if status == 400 and body:find("TokenExpired", 1, true) then
      kind = "expired"
    elseif status == 403 and code ~= "SignatureDoesNotMatch" and code ~= "InvalidAccessKeyId" then
      kind = forbidden(message, answer, expires_at, now or 0)
    else
      kind = by_status(status)
    end
  end
  local said = code and (message and message ~= "" and code .. ": " .. message or code) or nil
  local err = errors.new(ERROR_CODES[kind] or STATUS_CODES[status] or "store",
    ("the store answered %d%s"):format(status, said and " " .. said or ""), {
      status = status, store_code = code, kind = kind,
      retryable = kind == "throttled" or kind == "transient" or nil,
      request_id = answer.headers["x-amz-request-id"],
      retry_after = _M.retry_after(answer.headers),
    })
  return kind, err
end

--- Classifies an error that the engine reported.
-- @tparam table err
-- @treturn string kind `transient` or `fatal`
function _M.failure(err)
  return err.retryable and "transient" or "fatal"
end

return _M

--- What a store's refusal means: its error documents and status codes as
-- longshore's errors.
--
-- Room: provider, no I/O.
-- @module longshore.provider.s3.failures
local errors = require "longshore.errors"
local xml = require "longshore.provider.xml"

local _M = {}

-- Code of the store -> our code; a second value says "worth trying again".
local codes = {
  NoSuchUpload = "not_found", NoSuchKey = "not_found", NoSuchBucket = "not_found", NoSuchVersion = "not_found",
  NoSuchCORSConfiguration = "not_found", NoSuchLifecycleConfiguration = "not_found",
  AccessDenied = "forbidden", SignatureDoesNotMatch = "forbidden", InvalidAccessKeyId = "forbidden",
  InvalidSecurity = "forbidden", AccountProblem = "forbidden", AllAccessDisabled = "forbidden",
  RequestTimeTooSkewed = "forbidden", InvalidToken = "forbidden", InvalidObjectState = "forbidden",
  AuthorizationQueryParametersError = "forbidden", AuthorizationHeaderMalformed = "forbidden",
  ExpiredToken = "expired", TokenRefreshRequired = "expired", RequestExpired = "expired",
  PreconditionFailed = "conflict", ConditionalRequestConflict = "conflict", OperationAborted = "conflict",
  BucketAlreadyExists = "conflict", BucketAlreadyOwnedByYou = "conflict", BucketNotEmpty = "conflict",
  EntityTooLarge = "too_large", MaxMessageLengthExceeded = "too_large", MetadataTooLarge = "too_large",
  BadDigest = "integrity", InvalidDigest = "integrity", XAmzContentSHA256Mismatch = "integrity",
  XAmzContentChecksumMismatch = "integrity",
  QuotaExceeded = "quota", XMinioStorageFull = "quota", InsufficientStorage = "quota", ServiceQuotaExceeded = "quota",
  TooManyBuckets = "quota",
  NotImplemented = "unsupported", MethodNotAllowed = "unsupported", XNotImplemented = "unsupported",
}

local transient = {
  SlowDown = "busy", SlowDownRead = "busy", SlowDownWrite = "busy", ServiceUnavailable = "busy",
  Throttling = "busy", ThrottlingException = "busy", TooManyRequests = "busy", RequestLimitExceeded = "busy",
  Busy = "busy", InternalError = "unavailable", RequestTimeout = "timeout", RequestTimeoutException = "timeout",
}

local statuses = {
  [304] = "conflict", [400] = "invalid", [401] = "forbidden", [403] = "forbidden", [404] = "not_found",
  [405] = "unsupported", [409] = "conflict", [410] = "not_found", [411] = "invalid", [412] = "conflict",
  [413] = "too_large", [416] = "invalid", [501] = "unsupported", [507] = "quota",
}

local transient_statuses = {
  [408] = "timeout", [425] = "busy", [429] = "busy", [500] = "unavailable", [502] = "unavailable",
  [503] = "busy", [504] = "unavailable",
}

local function classify(store_code, status)
  if status < 300 then status = 400 end -- a refusal inside an answer that began well
  if transient[store_code] then return transient[store_code], true end
  if codes[store_code] then return codes[store_code], false end
  if transient_statuses[status] then return transient_statuses[status], true end
  if statuses[status] then return statuses[status], false end
  if status >= 500 then return "unavailable", true end
  return "store", false
end

--- The id of a request, as the store's support wants to hear it.
-- @tparam table headers
-- @treturn string|nil
function _M.request_id(headers)
  return headers["x-amz-request-id"] or headers["x-guploader-uploadid"] or headers["cf-ray"]
end

--- Seconds to wait that an answer asks for.
-- @tparam table headers
-- @treturn number|nil
function _M.retry_after(headers)
  local seconds = (headers["retry-after"] or ""):match("^%s*(%d+)%s*$")
  return seconds and tonumber(seconds)
end

-- Fields of the error document, if the body is one.
local function document(body)
  if not body or not body:find("<", 1, true) then return nil end
  local root = xml.read(body, { max_bytes = 256 * 1024, max_elements = 1000 })
  if not root then return nil end
  if root.name == "Error" then return root end
  return root.name == "ErrorResponse" and root:first("Error") or nil
end

-- One line of printable text, not too long.
local function tidy(text)
  text = text:gsub("[%c]+", " ")
  return #text > 300 and text:sub(1, 300) .. "..." or text
end

local function wrong_region(err, configured, region)
  err.code, err.field, err.region, err.retryable = "invalid", "region", region, nil
  err.message = ("the bucket is in region %s; configured is %s"):format(region, configured)
  return err
end

--- The error of an answer that is not what was asked for.
-- @tparam table response status, headers, body
-- @tparam table context `what` (the operation, for the message), `region`
-- @tparam[opt] table root the body, when it has been read already
-- @treturn table err with `status`, `store_code`, `request_id`, and `retryable`,
--   `retry_after`, `region`, `server_time` (text) where they apply
function _M.from_response(response, context, root)
  local headers, status = response.headers or {}, response.status
  root = root or document(response.body)
  local store_code = root and root:get("Code")
  if store_code == "" then store_code = nil end
  local code, retryable = classify(store_code, status)
  local said = root and root:get("Message") or ""
  if code == "forbidden" and said:lower():find("expired", 1, true) then code = "expired" end
  local message = ("%s: the store answered %d%s%s"):format(context.what, status,
    store_code and " " .. tidy(store_code) or "", said ~= "" and ": " .. tidy(said) or "")
  local err = errors.new(code, message, {
    status = status, store_code = store_code, retryable = retryable or nil,
    request_id = _M.request_id(headers) or (root and root:get("RequestId")) or nil,
    host_id = headers["x-amz-id-2"],
    retry_after = retryable and _M.retry_after(headers) or nil,
    server_time = root and root:get("ServerTime"),
  })
  local region = headers["x-amz-bucket-region"] or (root and root:get("Region"))
  if region and region ~= "" and region ~= context.region and (status == 301 or status == 307 or status == 400
    or store_code == "AuthorizationHeaderMalformed" or store_code == "PermanentRedirect") then
    return wrong_region(err, context.region, tidy(region))
  end
  if store_code == "PermanentRedirect" or store_code == "TemporaryRedirect" or status == 301 or status == 307 then
    err.code, err.field = "invalid", "endpoint"
    local endpoint = root and root:get("Endpoint")
    err.message = ("%s: the bucket is at another endpoint%s"):format(context.what,
      endpoint and endpoint ~= "" and ", " .. tidy(endpoint) or "")
  end
  return err
end

--- The error of an answer that cannot be understood.
-- @tparam table response
-- @tparam table context
-- @tparam string why
-- @treturn table err retryable
function _M.nonsense(response, context, why)
  return errors.new("unavailable", ("%s: the store's answer cannot be understood: %s"):format(context.what, why), {
    status = response.status, retryable = true, request_id = _M.request_id(response.headers or {}), nonsense = true,
  })
end

return _M

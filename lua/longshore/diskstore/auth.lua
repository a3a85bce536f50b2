--- Who asks: Signature Version 4, in headers or in the query.
--
-- The core parses and verifies; here its findings become S3's errors, and the
-- rules that go beyond the signature are kept: every request is signed (the
-- core sees that its `x-amz-*` headers are, too), and what it says of its
-- payload is something this store can check.
--
-- Room: diskstore, no I/O.
-- @module longshore.diskstore.auth
local chunked = require "longshore.diskstore.chunked"
local core = require "longshore.core"
local fault = require "longshore.diskstore.fault"

local _M = {}

local methods = {}
local mt = { __index = methods, __tostring = function() return "longshore.diskstore.auth" end }

-- How far a clock may be off, as S3 has it.
local SKEW = 900

--- Makes a verifier.
-- @tparam table options credentials (list of {access_key, secret_key, session_token=nil}), region, clock
-- @treturn table auth
function _M.new(options)
  local known = {}
  for _, row in ipairs(options.credentials) do known[row.access_key] = row end
  return setmetatable({ known = known, region = options.region, clock = options.clock }, mt)
end

local function time_text(seconds)
  return require("longshore.diskstore.http_date").iso(seconds)
end

-- The core's error in S3's words.
local function translate(self, request, err, parsed, now)
  local query = request.target:find("[?&]X%-Amz%-") ~= nil and not request.headers.authorization
  if err.code == "signature_mismatch" then
    local details = {
      { "AWSAccessKeyId", parsed.access_key },
      { "StringToSign", err.string_to_sign or "" },
      { "CanonicalRequest", err.canonical_request or "" },
    }
    return fault.new("SignatureDoesNotMatch", nil, details)
  elseif err.code == "expired" then
    return fault.new("AccessDenied", "Request has expired", {
      { "X-Amz-Expires", tostring(parsed.expires) },
      { "Expires", time_text(parsed.time + (parsed.expires or 0)) }, { "ServerTime", time_text(now) } })
  elseif err.code == "skewed" then
    if query then
      return fault.new("AccessDenied", "Request is not yet valid", { { "ServerTime", time_text(now) } })
    end
    return fault.new("RequestTimeTooSkewed", nil, { { "RequestTime", time_text(parsed.time) },
      { "ServerTime", time_text(now) }, { "MaxAllowedSkewMilliseconds", tostring(SKEW * 1000) } })
  elseif err.code == "scope" then
    return fault.new(query and "AuthorizationQueryParametersError" or "AuthorizationHeaderMalformed",
      err.field == "region" and ("The credential is for another region; expecting '%s'"):format(self.region)
      or ("The credential's scope is wrong: %s"):format(err.message), { { "Region", self.region } })
  elseif err.code == "unsigned_header" or err.code == "missing_header" then
    return fault.new("AccessDenied", err.message, { { "HeadersNotSigned", err.field or "" } })
  elseif err.code == "token" then
    return fault.new("InvalidToken")
  end
  return fault.new(query and "AuthorizationQueryParametersError" or "AuthorizationHeaderMalformed", err.message)
end

-- Older ways to sign deserve a clear word.
local function other_mechanism(request)
  local authorization = request.headers.authorization
  if type(authorization) == "string" and authorization:find("^AWS ") or request.target:find("[?&]AWSAccessKeyId=") then
    return true
  end
end

-- What the request says of its payload: the text, or nil and a fault.
local function payload_of(request, parsed)
  local hash = request.headers["x-amz-content-sha256"]
  if type(hash) == "table" then return fault.fail("InvalidArgument", "x-amz-content-sha256 is given twice.") end
  if parsed.form == "query" then hash = parsed.payload_hash end -- a URL may carry it as well
  if not hash then
    return fault.fail("MissingSecurityHeader", "The header x-amz-content-sha256 is missing.",
      { { "MissingHeaderName", "x-amz-content-sha256" } })
  end
  if chunked.is(hash) then
    if chunked.kind(hash) and parsed.form == "header" then return hash end
    return fault.fail("NotImplemented", ("This store does not decode %s bodies. Send the body as it is, with its "
      .. "SHA-256 or UNSIGNED-PAYLOAD in x-amz-content-sha256."):format(hash), {
        { "Header", "x-amz-content-sha256" } })
  end
  if hash ~= "UNSIGNED-PAYLOAD" and not (#hash == 64 and not hash:find("[^0-9a-f]")) then
    return fault.fail("InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, or a valid sha256 value.",
      { { "ArgumentName", "x-amz-content-sha256" } })
  end
  return hash
end

--- Verifies a request.
-- @tparam table request method, target (raw), headers (lowercase names to a string or a list of strings)
-- @treturn table who: access_key, payload_hash (what was signed of the body), and for a body in signed chunks
-- `chain` (of longshore.diskstore.chunked)
-- @return[2] nil
-- @treturn[2] table fault
function methods:verify(request)
  if other_mechanism(request) then
    return fault.fail("InvalidRequest", "The authorization mechanism you have provided is not supported. "
      .. "Please use AWS4-HMAC-SHA256.")
  end
  local parsed, err = core.sigv4_parse(request)
  if not parsed then return nil, translate(self, request, err) end
  if parsed.form == "none" then
    return fault.fail("AccessDenied", "Anonymous requests are not allowed.")
  end
  local row = self.known[parsed.access_key]
  if not row then
    return fault.fail("InvalidAccessKeyId", nil, { { "AWSAccessKeyId", parsed.access_key } })
  end
  local now = self.clock.now()
  local ok
  ok, err = core.sigv4_verify(request, { secret_key = row.secret_key, session_token = row.session_token, now = now,
    skew = SKEW, region = self.region, service = "s3" })
  if not ok then return nil, translate(self, request, err, parsed, now) end
  local payload, why = payload_of(request, parsed)
  if not payload then return nil, why end
  local chain
  if chunked.is(payload) and chunked.kind(payload).signed then
    chain = chunked.chain(row.secret_key, parsed, request.headers["x-amz-date"],
      request.headers.authorization:match("Signature=(%x+)"))
  end
  return { access_key = parsed.access_key, payload_hash = payload, chain = chain }
end

return _M

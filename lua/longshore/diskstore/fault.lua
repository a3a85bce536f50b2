--- What the disk store refuses, in S3's words.
--
-- A fault is a longshore error whose `code` is S3's own (`NoSuchKey`), with
-- the HTTP `status` that S3 answers and `details`, a list of {element, text}
-- that goes into the XML. `render` makes the document.
--
-- Room: diskstore, no I/O.
-- @module longshore.diskstore.fault
local errors = require "longshore.errors"
local xml = require "longshore.diskstore.xml"

local _M = {}

-- code = { status, message }
local table_of = {
  AccessDenied = { 403, "Access Denied" },
  AccessControlListNotSupported = { 400, "This store has no access control lists; the only ACL is private." },
  AccessForbidden = { 403, "This cross-origin request is not allowed." },
  AuthorizationHeaderMalformed = { 400, "The authorization header is malformed." },
  AuthorizationQueryParametersError = { 400, "The authorization query parameters are malformed." },
  BadDigest = { 400, "The checksum you specified did not match what we received." },
  BadRequest = { 400, "The request is not one that HTTP knows." },
  BucketAlreadyOwnedByYou = { 409, "The bucket exists and is yours." },
  BucketNotEmpty = { 409, "The bucket you tried to delete is not empty." },
  EntityTooLarge = { 400, "Your upload exceeds the maximum size that is allowed." },
  EntityTooSmall = { 400, "Your upload is smaller than the minimum size that is allowed for a part." },
  HeadersTooLarge = { 400, "The request's headers are larger than this server reads." },
  IncompleteBody = { 400, "You did not provide the number of bytes that Content-Length announced." },
  InsufficientStorage = { 507, "The store's disk is full. Nothing was stored." },
  InternalError = { 500, "The store met an error of its own. Please try again." },
  InvalidAccessKeyId = { 403, "The access key id you provided is not known here." },
  InvalidArgument = { 400, "An argument is not valid." },
  InvalidBucketName = { 400, "The bucket name is not valid: 3 to 63 of a-z, 0-9, dot and hyphen, not an IP address." },
  InvalidDigest = { 400, "The checksum you specified has not the form it must have." },
  InvalidLocationConstraint = { 400, "The location constraint is not this store's region." },
  InvalidPart = { 400, "A part you named was not found, or its ETag or checksum is not the one of the part here." },
  InvalidPartOrder = { 400, "The list of parts is not in ascending order." },
  InvalidRange = { 416, "The range is outside of the object." },
  InvalidRequest = { 400, "The request is not valid." },
  InvalidStorageClass = { 400, "This store has only the storage class STANDARD." },
  InvalidToken = { 400, "The session token is not valid." },
  InvalidURI = { 400, "The request's URI cannot be parsed." },
  KeyTooLongError = { 400, "The key is longer than 1024 bytes." },
  MalformedXML = { 400, "The XML you sent is not well-formed or is not the document this operation takes." },
  MetadataTooLarge = { 400, "The metadata headers are larger than this store keeps (8 KiB)." },
  MethodNotAllowed = { 405, "The method is not allowed on this resource." },
  MissingContentLength = { 411, "You must send the Content-Length header." },
  MissingSecurityHeader = { 400, "A header that the request needs is missing." },
  NoSuchBucket = { 404, "The bucket does not exist." },
  NoSuchBucketPolicy = { 404, "The bucket has no policy." },
  NoSuchCORSConfiguration = { 404, "The bucket has no CORS configuration of its own." },
  NoSuchKey = { 404, "The key does not exist." },
  NoSuchLifecycleConfiguration = { 404, "The bucket has no lifecycle configuration." },
  NoSuchTagSet = { 404, "There are no tags." },
  NoSuchUpload = { 404, "The multipart upload does not exist. It may have been completed or aborted." },
  NotImplemented = { 501, "This store does not implement what the request asks for." },
  NotModified = { 304, "Not Modified" },
  OperationAborted = { 409, "A conflicting operation is under way. Please try again." },
  PreconditionFailed = { 412, "A condition of the request did not hold." },
  SessionGone = { 410, "The upload session is over. Begin another one." },
  RequestTimeout = { 408, "The request's body did not arrive in time." },
  RequestTimeTooSkewed = { 403, "The request's time and the store's differ by too much." },
  RequestURITooLong = { 414, "The request's URI is longer than this server reads." },
  ServerSideEncryptionConfigurationNotFoundError = { 404, "The bucket has no encryption configuration." },
  ServiceUnavailable = { 503, "The store cannot serve the request now. Please try again." },
  SignatureDoesNotMatch = { 403, "The request signature we calculated does not match the one you provided. "
    .. "Check your secret key and how you sign." },
  SlowDown = { 503, "The store has more requests than it works on at once. Please try again later." },
  XAmzContentSHA256Mismatch = { 400, "The x-amz-content-sha256 you sent is not the SHA-256 of the body we received." },
}

--- Makes a fault.
-- @tparam string code one of S3's codes above
-- @tparam[opt] string message where S3's general one says too little
-- @tparam[opt] table details list of {element, text}
-- @treturn table fault (an error of longshore.errors)
function _M.new(code, message, details)
  local row = assert(table_of[code], "unknown S3 code")
  return errors.new(code, message or row[2], {
    status = row[1],
    details = details,
    retryable = row[1] >= 500 and row[1] ~= 501 or nil,
  })
end

--- `nil, fault`, ready to return.
-- @tparam string code
-- @tparam[opt] string message
-- @tparam[opt] table details
-- @return nil
-- @treturn table fault
function _M.fail(code, message, details)
  return nil, _M.new(code, message, details)
end

--- Turns what the file system said into a fault.
-- @param why what io, os, lfs or longshore.core returned as second value
-- @treturn table fault
function _M.from_io(why)
  if type(why) == "table" and type(why.status) == "number" then return why end
  local text = tostring(why)
  local fault
  if text:find("No space left", 1, true) or text:find("quota exceeded", 1, true) then
    fault = _M.new("InsufficientStorage")
  else
    fault = _M.new("InternalError")
  end
  fault.cause = text -- for the log; never sent
  return fault
end

--- The XML document of a fault.
-- @tparam table fault
-- @tparam string resource what the request named
-- @tparam string request_id
-- @treturn string
function _M.render(fault, resource, request_id)
  local out = {
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error>',
    xml.element("Code", fault.code), xml.element("Message", fault.message),
  }
  for _, detail in ipairs(fault.details or {}) do
    out[#out + 1] = xml.element(detail[1], detail[2])
  end
  out[#out + 1] = xml.element("Resource", resource)
  out[#out + 1] = xml.element("RequestId", request_id)
  out[#out + 1] = "</Error>"
  return table.concat(out)
end

return _M

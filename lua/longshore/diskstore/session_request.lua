--- Requests of resumable sessions, below `/v1/files/gcs_proxy/`: what is asked
-- for, and whether the session's id allows it. The rest is in
-- `longshore.diskstore.sessions`.
--
--     PUT, no Content-Range                the whole object
--     PUT, Content-Range: bytes a-b/total  a chunk; total may be *
--     PUT, empty, Content-Range: bytes */total   where are we? (total may be *)
--     DELETE                               cancel
--
-- `x-longshore-crc32c` (and `Content-MD5`) are of the body of the request: bytes that
-- arrive damaged are refused (BadDigest) instead of kept, as nothing that a session
-- has can be taken back.
--
-- Room: diskstore, no I/O.
-- @module longshore.diskstore.session_request
local fault = require "longshore.diskstore.fault"
local request = require "longshore.diskstore.request"
local sessions = require "longshore.sessions"

local _M = {}

--- All chunks but the last are whole multiples of this.
_M.QUANTUM = 256 * 1024

--- The CRC32C (base64) of a request's body, if the client says it.
_M.CHECKSUM = "x-longshore-crc32c"

local NAMES = { PUT = "session_put", DELETE = "session_delete" }

--- Whether a target is one of a session.
-- @tparam string target
-- @treturn boolean
function _M.is(target)
  return target:sub(1, #sessions.PREFIX) == sessions.PREFIX
end

local function number(text)
  return #text <= 15 and tonumber(text) or nil
end

-- {first, last, total}, {query = true, total}, or nil and a fault. `total` is
-- nil where it is not known yet.
local function read_range(text)
  local first, last, total = text:match("^%s*bytes%s+(%d+)%-(%d+)/([%d*]+)%s*$")
  local range
  if first then
    range = { first = number(first), last = number(last) }
    if not range.first or not range.last or range.last < range.first then range = nil end
  else
    total = text:match("^%s*bytes%s+%*/([%d*]+)%s*$")
    range = total and { query = true } or nil
  end
  if range and total ~= "*" then
    range.total = number(total)
    if not range.total or range.last and range.last >= range.total then range = nil end
  end
  if range then return range end
  return fault.fail("InvalidArgument", "Content-Range must be bytes first-last/total or bytes */total; total may be *.",
    { { "ArgumentName", "Content-Range" }, { "ArgumentValue", text:sub(1, 100) } })
end

local function length_of(headers, name)
  if headers["transfer-encoding"] then return fault.fail("MissingContentLength") end
  local text = headers["content-length"]
  if not text then
    if name == "session_put" and not headers["content-range"] then return fault.fail("MissingContentLength") end
    return 0
  end
  local length = text:find("^%d+$") and number(text)
  if not length then return fault.fail("InvalidArgument", "Content-Length is not a length.") end
  return length
end

-- Whether range and length fit each other and the session.
local function check(op, max)
  local range = op.range
  if range and range.query and op.length > 0 then
    return fault.fail("InvalidArgument", "A question (bytes */total) has no body.")
  elseif range and not range.query and op.length ~= range.last - range.first + 1 then
    return fault.fail("InvalidArgument", "Content-Length and Content-Range disagree.")
  end
  local most = range and (range.total or range.last and range.last + 1 or 0) or op.length
  if most > max or op.length > max then
    return fault.fail("EntityTooLarge", nil, { { "ProposedSize", ("%.0f"):format(most) },
      { "MaxSizeAllowed", ("%.0f"):format(max) } })
  end
  local ends = range and range.total and range.last and range.last + 1 == range.total
  if range and not range.query and not ends and op.length % _M.QUANTUM ~= 0 then
    return fault.fail("InvalidArgument", ("Every chunk but the last must be a multiple of %d bytes."):format(
      _M.QUANTUM))
  end
  return op
end

--- Admits a request of a session or refuses it.
-- @tparam table raw method, target, headers
-- @tparam table options `secret_of(access_key)`, `max_body`, `clock`
-- @treturn table op: name, bucket, key, session (name of its document), expires_at, range, length, body, headers
-- @return[2] nil
-- @treturn[2] table fault
function _M.admit(raw, options)
  local headers = request.flatten(raw.headers)
  local name = NAMES[raw.method]
  local path, query = raw.target:match("^(/[^?#]*)%??([^#]*)$")
  if not path then return fault.fail("InvalidURI") end
  local bucket, key, why = request.split(path:sub(#sessions.PREFIX))
  if why then return nil, why end
  local id = ("&" .. query):match("&upload_id=([%w%._%-]+)")
  local session = bucket and key and sessions.verify(id, bucket, key, options.secret_of)
  -- One answer for whatever is not a session of this key.
  if not session then return fault.fail("NoSuchUpload") end
  if not name then return fault.fail("MethodNotAllowed") end
  if options.clock.now() >= session.expires_at then return fault.fail("SessionGone") end
  local op = { name = name, method = raw.method, bucket = bucket, key = key, session = session.hash, path = path,
    expires_at = session.expires_at, query = {}, payload_hash = "UNSIGNED-PAYLOAD",
    headers = { ["content-md5"] = headers["content-md5"], ["content-type"] = headers["content-type"],
      ["x-amz-checksum-crc32c"] = headers[_M.CHECKSUM] } }
  op.length, why = length_of(headers, name)
  if not op.length then return nil, why end
  if name == "session_delete" then return op end
  op.body = "data"
  if headers["content-range"] then
    op.range, why = read_range(headers["content-range"])
    if not op.range then return nil, why end
  end
  return check(op, math.min(session.max_size or options.max_body, options.max_body))
end

return _M

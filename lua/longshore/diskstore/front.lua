--- The gate of the disk store: everything that can be refused is refused here,
-- before a body is read and without touching the disk.
--
-- Room: diskstore, no I/O, so it may run in an event loop.
-- @module longshore.diskstore.front
local attributes = require "longshore.diskstore.attributes"
local auth = require "longshore.diskstore.auth"
local chunked = require "longshore.diskstore.chunked"
local checksums = require "longshore.diskstore.checksums"
local clock = require "longshore.clock"
local fault = require "longshore.diskstore.fault"
local request = require "longshore.diskstore.request"
local session_request = require "longshore.diskstore.session_request"

local _M = {}

local methods = {}
local mt = { __index = methods }

local MAX_XML = 8 * 1024 * 1024
local writes = { put_object = true, copy_object = true, create_upload = true, upload_part = true }

--- Makes the gate.
-- @tparam table options credentials, region, max_body (bytes), clock
-- @treturn table front
function _M.new(options)
  local time = options.clock or clock.system
  return setmetatable({
    auth = auth.new { credentials = options.credentials, region = options.region, clock = time },
    max_body = options.max_body, clock = time,
    secret_of = function(access_key)
      for _, row in ipairs(options.credentials) do
        if row.access_key == access_key then return row.secret_key end
      end
    end,
  }, mt)
end

-- A body in chunks: what to know for decoding it, nil where it is none, or nil
-- and a fault.
local function chunks_of(self, op, who)
  local headers = op.headers
  local kind = chunked.is(who.payload_hash) and chunked.kind(who.payload_hash)
  if not kind then
    if headers["x-amz-trailer"] or (headers["content-encoding"] or ""):find("aws-chunked", 1, true) then
      return fault.fail("InvalidRequest", "A body in chunks, or with trailers, needs STREAMING-... in "
        .. "x-amz-content-sha256.")
    end
    return nil
  end
  if op.body ~= "data" then
    return fault.fail("NotImplemented", "This operation does not take its body in chunks.",
      { { "Header", "x-amz-content-sha256" } })
  end
  local text = headers["x-amz-decoded-content-length"]
  if not text then return fault.fail("MissingContentLength", "x-amz-decoded-content-length is missing.") end
  local length = text:find("^%d+$") and #text <= 15 and tonumber(text)
  if not length then return fault.fail("InvalidArgument", "x-amz-decoded-content-length is not a length.") end
  if length > self.max_body then
    return fault.fail("EntityTooLarge", nil, { { "ProposedSize", text },
      { "MaxSizeAllowed", ("%.0f"):format(self.max_body) } })
  end
  local why = checksums.refuse_trailers(headers["x-amz-trailer"])
  if why then return nil, why end
  return { kind = kind, length = length, chain = who.chain }
end

-- The announced length of the body, or nil and a fault. HTTP's own chunks
-- announce none and are not taken, unless they carry S3's, which do; then the
-- length is -1.
local function length_of(self, op)
  local headers = op.headers
  if headers["transfer-encoding"] then
    if op.chunked then return -1 end
    return fault.fail("MissingContentLength")
  end
  local text = headers["content-length"]
  if not text then
    if op.body == "data" then return fault.fail("MissingContentLength") end
    return 0
  end
  local length = text:find("^%d+$") and #text <= 15 and tonumber(text)
  if not length then return fault.fail("InvalidArgument", "Content-Length is not a length.") end
  local most = op.body == "data" and self.max_body or MAX_XML
  -- What chunks add is bounded, too.
  if op.chunked then most = 2 * op.chunked.length + 1048576 end
  if length > most then
    return fault.fail("EntityTooLarge", nil, { { "ProposedSize", text },
      { "MaxSizeAllowed", ("%.0f"):format(most) } })
  end
  return length
end

--- Admits a request or refuses it.
-- @tparam table raw method, target (raw), headers (lowercase names to a string or a list of strings)
-- @treturn table op of longshore.diskstore.request, with length, payload_hash, access_key, and
-- for a body in chunks `chunked`
-- @return[2] nil
-- @treturn[2] table fault
function methods:admit(raw)
  -- Resumable sessions carry a proof of their own, and stand before S3's paths.
  if session_request.is(raw.target) then return session_request.admit(raw, self) end
  local headers = request.flatten(raw.headers)
  local op, why = request.parse(raw.method, raw.target, headers)
  -- Who may not ask is told nothing else.
  local who, denied = self.auth:verify(raw)
  if not who then return nil, denied end
  if not op then return nil, why end
  op.access_key, op.payload_hash = who.access_key, who.payload_hash
  op.chunked, why = chunks_of(self, op, who)
  if why then return nil, why end
  if op.chunked then op.payload_hash = "UNSIGNED-PAYLOAD" end
  op.length, why = length_of(self, op)
  if not op.length then return nil, why end
  if op.body then
    local expected
    expected, why = checksums.expected(headers, op.payload_hash, op.name == "complete_upload")
    if not expected then return nil, why end
  end
  if writes[op.name] then
    why = attributes.refuse(headers)
    if why then return nil, why end
  end
  return op
end

return _M

--- What a client says of the body it sends, and whether it is so.
--
-- Verified: Content-MD5, the SHA-256 in x-amz-content-sha256, and
-- x-amz-checksum-crc32c, -crc32, -crc64nvme, -sha1 and -sha256. Another x-amz-checksum-*
-- is refused before the body is read: a checksum is never taken and ignored.
-- One in the query is no checksum of the body (some SDKs put that of an empty
-- body into every presigned URL) and is not looked at.
--
-- Room: diskstore, no I/O.
-- @module longshore.diskstore.checksums
local core = require "longshore.core"
local fault = require "longshore.diskstore.fault"

local _M = {}

-- x-amz-checksum-NAME: bytes of the value
local lengths = { crc32c = 4, crc32 = 4, crc64nvme = 8, sha1 = 20, sha256 = 32 }
local ignored = { mode = true, algorithm = true, type = true }

--- The bytes of a CRC, most significant first, as stores encode it.
-- @tparam number crc
-- @treturn string four bytes
function _M.crc_bytes(crc)
  return string.char(math.floor(crc / 16777216) % 256, math.floor(crc / 65536) % 256,
    math.floor(crc / 256) % 256, crc % 256)
end

local function decode(text, length)
  local raw = core.unbase64(text)
  return raw and #raw == length and raw or nil
end

--- Reads what the headers announce.
-- @tparam table headers flat
-- @tparam string payload_hash what was signed: hexadecimal SHA-256, UNSIGNED-PAYLOAD or nil
-- @tparam[opt] boolean of_object the x-amz-checksum-* are not the body's but the object's (Complete)
-- @treturn table expected: md5, payload (raw SHA-256), and crc32c, crc32, crc64nvme, sha1, sha256 as raw bytes
-- @return[2] nil
-- @treturn[2] table fault
function _M.expected(headers, payload_hash, of_object)
  local expected = {}
  if headers["content-md5"] then
    expected.md5 = decode(headers["content-md5"], 16)
    if not expected.md5 then
      return fault.fail("InvalidDigest", "Content-MD5 is not the base64 of an MD5.")
    end
  end
  if payload_hash and payload_hash ~= "UNSIGNED-PAYLOAD" then
    expected.payload = #payload_hash == 64 and core.unhex(payload_hash) or nil
    if not expected.payload then
      return fault.fail("InvalidArgument",
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD or the SHA-256 of the body in hexadecimal.")
    end
  end
  for header, value in pairs(headers) do
    local name = not of_object and header:match("^x%-amz%-checksum%-(.+)$")
    if name and not ignored[name] then
      if not lengths[name] then
        return fault.fail("NotImplemented",
          ("This store does not verify %s. It verifies crc32c, crc32, crc64nvme, sha1 and sha256."):format(header),
          { { "Header", header } })
      end
      expected[name] = decode(value, lengths[name])
      if not expected[name] then
        return fault.fail("InvalidRequest", ("Value for %s header is invalid."):format(header))
      end
    end
  end
  return expected
end

--- Whether what x-amz-trailer announces are checksums that can be verified.
-- @tparam string|nil names the header
-- @treturn table fault, or nil
function _M.refuse_trailers(names)
  for name in (names or ""):gmatch("[^,%s]+") do
    if not lengths[name:lower():match("^x%-amz%-checksum%-(.+)$") or ""] then
      return fault.new("NotImplemented", "This store knows no trailer of that name.", { { "Trailer", name } })
    end
  end
end

--- What the pass over the body must compute.
-- @tparam table expected
-- @treturn table options for core.digest_file
function _M.wanted(expected)
  return {
    md5 = true,
    crc32c = true,
    sha256 = (expected.payload or expected.sha256) and true or nil,
    sha1 = expected.sha1 and true or nil,
    crc32 = expected.crc32 and true or nil,
    crc64nvme = expected.crc64nvme and true or nil,
  }
end

--- Compares.
-- @tparam table expected
-- @tparam table digest what core.digest_file answered
-- @treturn table fault, or nil when all holds
function _M.verify(expected, digest)
  if expected.md5 and not core.equal(expected.md5, digest.md5) then
    return fault.new("BadDigest", "The Content-MD5 you specified did not match what we received.", {
      { "ExpectedDigest", core.base64(expected.md5) }, { "CalculatedDigest", core.base64(digest.md5) } })
  end
  if expected.payload and not core.equal(expected.payload, digest.sha256) then
    return fault.new("XAmzContentSHA256Mismatch", nil, {
      { "ClientComputedContentSHA256", core.hex(expected.payload) },
      { "S3ComputedContentSHA256", core.hex(digest.sha256) } })
  end
  local raw = {
    crc32c = digest.crc32c and _M.crc_bytes(digest.crc32c),
    crc32 = digest.crc32 and _M.crc_bytes(digest.crc32),
    crc64nvme = digest.crc64nvme,
    sha1 = digest.sha1,
    sha256 = digest.sha256,
  }
  for name in pairs(lengths) do
    if expected[name] and not (raw[name] and core.equal(expected[name], raw[name])) then
      return fault.new("BadDigest", ("The %s you specified did not match what we received."):format(
        name:upper()), { { "CalculatedDigest", raw[name] and core.base64(raw[name]) or "" } })
    end
  end
end

--- The verified checksums besides CRC32C, to be kept and shown.
-- @tparam table expected
-- @treturn table name to base64
function _M.kept(expected)
  local kept = {}
  for name in pairs(lengths) do
    if expected[name] and name ~= "crc32c" then kept[name] = core.base64(expected[name]) end
  end
  return kept
end

--- Adds x-amz-checksum-* to the headers of an answer.
-- @tparam table headers changed in place
-- @tparam table doc object or part with crc32c and checksums
-- @treturn table headers
function _M.show(headers, doc)
  if doc.crc32c then
    headers["x-amz-checksum-crc32c"] = core.crc32c_base64(doc.crc32c)
    headers["x-amz-checksum-type"] = "FULL_OBJECT"
  end
  for name, value in pairs(doc.checksums or {}) do headers["x-amz-checksum-" .. name] = value end
  return headers
end

return _M

--- Pieces of the store's answers: ETags, checksums, numbers, encoded keys.
--
-- Room: provider, no I/O.
-- @module longshore.provider.s3.answers
local core = require "longshore.core"

local _M = {}

local to_integer = rawget(math, "tointeger") or function(v) return v end

--- An ETag without its quotes.
-- @tparam string|nil text
-- @treturn string|nil
function _M.etag(text)
  if not text or text == "" then return nil end
  return text:match('^%s*"(.*)"%s*$') or text
end

--- A size: a whole number up to 2^53.
-- @tparam string|nil text
-- @treturn number|nil
function _M.integer(text)
  local digits = text and text:match("^%s*(%d+)%s*$")
  local value = digits and #digits <= 16 and tonumber(digits)
  if value and value <= 2 ^ 53 then return to_integer(value) or value end
end

--- The CRC32C of a whole object. One of a composite ("...-3") is none.
-- @tparam string|nil text base64
-- @treturn number|nil
function _M.crc32c(text)
  if not text or #text ~= 8 then return nil end
  return (core.crc32c_from_base64(text))
end

--- The CRC32C that the headers of an answer name (Amazon's or Google's way).
-- @tparam table headers
-- @treturn number|nil
function _M.header_crc32c(headers)
  if (headers["x-amz-checksum-type"] or ""):upper() ~= "COMPOSITE" then
    local crc = _M.crc32c(headers["x-amz-checksum-crc32c"])
    if crc then return crc end
  end
  return _M.crc32c((headers["x-goog-hash"] or ""):match("crc32c=([%w+/]+=*)"))
end

--- The decoder for keys of a listing.
-- @tparam table root
-- @treturn function
function _M.key_decoder(root)
  if root:get("EncodingType") == "url" then
    return function(text) return text and (core.uri_decode(text, true)) end
  end
  return function(text) return text end
end

--- The ETag that S3 gives an object made of these parts.
-- @tparam table parts list with `etag`
-- @treturn string|nil nil when the parts' ETags are no MD5s
function _M.multipart_etag(parts)
  local md5s = {}
  for i, part in ipairs(parts) do
    local etag = _M.etag(part.etag)
    if not etag or not etag:match("^%x+$") or #etag ~= 32 then return nil end
    md5s[i] = core.unhex(etag)
  end
  return ("%s-%d"):format(core.hex(core.md5(table.concat(md5s))), #parts)
end

return _M

--- Whether the store has what was sent to it.
--
-- Room: provider, no I/O.
-- @module longshore.provider.s3.written
local core = require "longshore.core"
local errors = require "longshore.errors"
local answers = require "longshore.provider.s3.answers"

local _M = {}

--- The MD5 of a body that is about to be sent, where it is known. Raises unless
-- there is either a body or a file.
-- @tparam table o `body`, or `file` and perhaps `md5`
-- @treturn string|nil raw
function _M.md5(o)
  if (o.body == nil) == (o.file == nil) then error("either body or file expected", 3) end
  return o.md5 or (o.body and core.md5(o.body)) or nil
end

--- Compares what the answer to a PUT says with what was sent.
-- @tparam table profile
-- @tparam string what the operation, for messages
-- @tparam table o the request, as in `md5`
-- @tparam string|nil md5 raw; it went along as Content-MD5
-- @tparam table response
-- @treturn[1] table `{etag, crc32c|nil, sent_crc32c|nil, check="crc32c"|"md5"|"none"}`
-- @treturn[2] nil
-- @treturn[2] table err code `integrity`
function _M.verify(profile, what, o, md5, response)
  local etag, crc32c = answers.etag(response.headers.etag), answers.header_crc32c(response.headers)
  local sent = o.body and core.crc32c(o.body) or response.crc32c
  local result = { etag = etag, crc32c = crc32c, sent_crc32c = sent, check = "none" }
  if md5 then
    result.check = "md5" -- the store compared Content-MD5
    if profile.etag_is_md5 and etag and #etag == 32 and etag:lower() ~= core.hex(md5) then
      return errors.fail("integrity", what .. ": the store's ETag is not the MD5 of what was sent")
    end
  end
  if crc32c and sent then
    if crc32c ~= sent then
      return errors.fail("integrity", ("%s: the store has CRC32C %s, sent was %s"):format(what,
        core.crc32c_base64(crc32c), core.crc32c_base64(sent)))
    end
    result.check = "crc32c"
  end
  return result
end

return _M

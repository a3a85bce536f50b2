--- Whether the store has the bytes that were sent: what it answered against
-- what we know.
--
-- Its CRC32C first; else its ETag where that is an MD5; else nothing could be
-- compared, and the result says so. Where nobody knows what the ETag is
-- (`maybe`), equality proves that it is an MD5; from then on a different one is
-- damage. Before that a different one is sent once more: damage does not strike
-- twice alike, a store with other ETags does.
--
-- Room: uploader.
-- @module longshore.uploader.verify
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}

-- The CRC32C of the bytes as the store has them: S3's header, or Google's.
local function stored_crc32c(headers)
  local text = headers["x-amz-checksum-crc32c"]
  if not text and headers["x-goog-hash"] then
    text = headers["x-goog-hash"]:match("crc32c=([%w+/]+=*)")
  end
  return text and core.crc32c_from_base64(text)
end

--- The ETag without its quotes (and without a W/), or nil.
-- @tparam ?string etag
-- @treturn ?string
function _M.bare_etag(etag)
  if not etag then return nil end
  etag = etag:gsub("^%s*W/", ""):gsub("^%s+", ""):gsub("%s+$", ""):gsub('^"(.*)"$', "%1")
  return etag ~= "" and etag or nil
end

-- Stores that encrypt with a key of their own or the caller's have other ETags.
local function encrypted(headers)
  return (headers["x-amz-server-side-encryption"] or ""):find("^aws:kms") ~= nil
    or headers["x-amz-server-side-encryption-customer-algorithm"] ~= nil
end

local function damaged(what)
  return errors.fail("integrity", "the bytes arrived damaged: " .. what, { retryable = true })
end

--- Checks a part that the store has accepted.
-- @tparam table facts `crc32c` of the bytes sent, `headers` of the answer,
-- `etag` (`md5`, `maybe`, `opaque`), `md5` a function that answers the raw MD5
-- of the bytes (or nil, err), `known` a table shared by the parts of an
-- endpoint, `seen` ETags of earlier tries of this part
-- @treturn[1] string `crc32c`, `md5` or `none`: what was compared
-- @return[2] nil
-- @treturn[2] table err `integrity`, retryable
function _M.part(facts)
  local theirs = stored_crc32c(facts.headers)
  if theirs then
    if theirs == facts.crc32c then return "crc32c" end
    return damaged(("CRC32C %s was sent, %s arrived"):format(core.crc32c_base64(facts.crc32c),
      core.crc32c_base64(theirs)))
  end
  local known = facts.known
  local etag = _M.bare_etag(facts.headers.etag)
  if facts.etag == "opaque" or known.etag == "opaque" or not etag or not etag:match("^%x+$") or #etag ~= 32
    or encrypted(facts.headers) then
    return "none"
  end
  local md5, err = facts.md5()
  if not md5 then return nil, err end
  if core.hex(md5) == etag:lower() then
    known.etag = "md5"
    return "md5"
  end
  if facts.etag == "maybe" and known.etag ~= "md5" then
    if #facts.seen > 0 then
      known.etag = "opaque"
      return "none"
    end
    facts.seen[#facts.seen + 1] = etag
  end
  return damaged(("MD5 %s was sent, the store's ETag is %s"):format(core.hex(md5), etag))
end

return _M

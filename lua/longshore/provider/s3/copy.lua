--- Copies inside the store, made by it: no byte passes through here.
--
-- What is too large for one CopyObject is copied in parts.
--
-- Room: provider. Methods of the provider object of `longshore.provider.s3`.
-- @module longshore.provider.s3.copy
local core = require "longshore.core"
local errors = require "longshore.errors"
local answers = require "longshore.provider.s3.answers"

local _M = {}

local COPY_SECONDS = 3600

-- Source headers: the object must still be the one that was looked at.
local function source_headers(bucket, from, etag)
  return {
    ["x-amz-copy-source"] = "/" .. core.uri_encode(bucket) .. "/" .. core.uri_encode(from, true),
    ["x-amz-copy-source-if-match"] = etag and ('"%s"'):format(etag) or nil,
  }
end

-- Headers that a copy has from its source, all of them or none.
local DESCRIBES = { ["cache-control"] = true, ["content-disposition"] = true, ["content-encoding"] = true,
  ["content-language"] = true, ["expires"] = true }

-- What describes the copy, when anything of it is to be new.
local function description(o, found)
  local new = o.metadata or o.content_type or o.marker
  for name in pairs(o.headers or {}) do new = new or DESCRIBES[name] end
  return new and { metadata = o.metadata or found.metadata, marker = o.marker or found.marker,
    content_type = o.content_type or found.content_type }
end

local function simple(self, o, bucket, from, to, found)
  local headers = source_headers(bucket, from, found.etag)
  local wanted = description(o, found)
  if wanted then
    local described, err = self:object_headers(wanted)
    if not described then return nil, err end
    for name, value in pairs(described) do headers[name] = value end
    headers["x-amz-metadata-directive"] = "REPLACE"
  end
  for name, value in pairs(o.headers or {}) do headers[name] = value end
  if headers["x-amz-tagging"] then headers["x-amz-tagging-directive"] = "REPLACE" end
  local response, err = self.client:send {
    what = "copy the object", method = "PUT", key = to, headers = headers, expect = "CopyObjectResult",
    timeout = COPY_SECONDS,
  }
  if not response then return nil, err end
  return {
    etag = answers.etag(response.root:get("ETag")),
    crc32c = answers.crc32c(response.root:get("ChecksumCRC32C")) or answers.header_crc32c(response.headers),
  }
end

-- Parts of half a GiB, larger when there would be too many.
local function part_size(profile, size)
  local wish = 512 * 1024 * 1024
  local least = math.ceil(size / profile.max_parts)
  return math.min(profile.max_copy, math.max(math.min(wish, profile.max_copy), least, profile.min_part))
end

local function copy_parts(self, o, bucket, from, upload_id, found)
  local profile, parts = self.profile, {}
  local step = part_size(profile, found.size)
  for first = 0, found.size - 1, step do
    local number = #parts + 1
    local headers = source_headers(bucket, from, found.etag)
    headers["x-amz-copy-source-range"] = ("bytes=%.0f-%.0f"):format(first, math.min(found.size, first + step) - 1)
    local response, err = self.client:send {
      what = "copy a part", method = "PUT", key = self.prefix .. o.to, headers = headers, expect = "CopyPartResult",
      query = { partNumber = ("%d"):format(number), uploadId = upload_id }, timeout = COPY_SECONDS,
    }
    if not response then return nil, err end
    parts[number] = { number = number, etag = answers.etag(response.root:get("ETag")) }
  end
  return parts
end

local function in_parts(self, o, bucket, from, found)
  local started, err = self:create_multipart {
    key = o.to, content_type = o.content_type or found.content_type, metadata = o.metadata or found.metadata,
    marker = o.marker or found.marker, headers = o.headers,
  }
  if not started then return nil, err end
  local parts, result
  parts, err = copy_parts(self, o, bucket, from, started.upload_id, found)
  if parts then
    result, err = self:complete_multipart {
      key = o.to, upload_id = started.upload_id, parts = parts, size = found.size,
    }
  end
  if not result then
    self:abort_multipart { key = o.to, upload_id = started.upload_id }
    return nil, err
  end
  return result
end

--- Copies an object into the bucket; the copy replaces what is at `to`.
-- @tparam table o `from`, `to`, `if_match` (an ETag the source must have),
--   `metadata` and `content_type` (default: the source's), `source` (the provider of
--   another bucket of this store, whose key `from` is), `headers` (further ones: encryption,
--   storage class, tags, cache-control...)
-- @treturn table|nil `{etag, crc32c|nil, size}`
-- @treturn[opt] table err `not_found`, or `conflict` when the source is another one
function _M:copy(o)
  local source = o.source or self
  local from, err = source:full_key(o.from)
  if not from then return nil, err end
  local to
  to, err = self:full_key(o.to)
  if not to then return nil, err end
  local found
  found, err = source:head { key = o.from }
  if not found then return nil, err end
  local etag = o.if_match and answers.etag(o.if_match)
  if etag and etag ~= found.etag then
    return errors.fail("conflict", "copy the object: the source is not the one that was meant")
  end
  local result
  if found.size > self.profile.max_copy then
    result, err = in_parts(self, o, source.bucket, from, found)
  else
    result, err = simple(self, o, source.bucket, from, to, found)
  end
  if not result then return nil, err end
  result.size = found.size
  return result
end

return _M

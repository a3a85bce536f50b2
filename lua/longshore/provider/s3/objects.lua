--- Objects at the store: look at, read, write, list and delete them.
--
-- Room: provider. Methods of the provider object of `longshore.provider.s3`.
-- @module longshore.provider.s3.objects
local core = require "longshore.core"
local errors = require "longshore.errors"
local answers = require "longshore.provider.s3.answers"
local dates = require "longshore.dates"
local json = require "longshore.json"
local metadata = require "longshore.provider.metadata"
local pages = require "longshore.provider.s3.pages"
local written = require "longshore.provider.s3.written"

local _M = {}

local LIST_BYTES = 8 * 1024 * 1024
local GET_BYTES = 16 * 1024 * 1024

--- Headers that describe an object being made. (For the provider's own rooms.)
-- @tparam table o `content_type`, `content_disposition`, `metadata`, `marker`, `headers`
-- (further ones by lower-case name: storage class, encryption, tags, cache-control...)
-- @treturn table|nil headers
-- @treturn[opt] table err
function _M:object_headers(o)
  if o.metadata and (o.metadata[metadata.marker] ~= nil) then
    return errors.fail("invalid", ("metadata %q: this name is longshore's own"):format(metadata.marker),
      { field = "metadata" })
  end
  local headers, err = metadata.headers(o.metadata, { rule = self.metadata_rule, limit = self.profile.max_metadata })
  if not headers then return nil, err end
  for name, value in pairs { ["content-type"] = o.content_type or "application/octet-stream",
    ["content-disposition"] = o.content_disposition } do
    if type(value) ~= "string" or value == "" or value:find("[^\32-\126]") then
      return errors.fail("invalid", ("%s: printable ASCII expected"):format(name), { field = name:gsub("%-", "_") })
    end
    headers[name] = value:gsub("^ +", ""):gsub(" +$", ""):gsub("  +", " ")
  end
  if o.marker then headers["x-amz-meta-" .. metadata.marker] = o.marker end
  for name, value in pairs(o.headers or {}) do headers[name] = value end
  return headers
end

-- What the headers of an answer say of an object.
local function described(self, headers)
  local kept = metadata.read(headers, self.metadata_rule)
  local marker = kept[metadata.marker]
  kept[metadata.marker] = nil
  return {
    size = answers.integer(headers["content-length"]), etag = answers.etag(headers.etag),
    crc32c = answers.header_crc32c(headers), content_type = headers["content-type"], metadata = kept,
    marker = marker, modified = dates.parse_http(headers["last-modified"]),
  }
end

--- Looks at an object.
-- @tparam table o `key`
-- @treturn table|nil `{size, etag, crc32c|nil, content_type, metadata, marker|nil, modified}`
-- @treturn[opt] table err `not_found`
function _M:head(o)
  local key, err = self:full_key(o.key)
  if not key then return nil, err end
  local response
  response, err = self.client:send {
    what = "look at the object", method = "HEAD", key = key,
    headers = self.profile.checksum_mode and { ["x-amz-checksum-mode"] = "ENABLED" } or nil,
  }
  if not response then return nil, err end
  local found = described(self, response.headers)
  if not found.size then
    return errors.fail("unavailable", "look at the object: the store named no size")
  end
  return found
end

--- Reads an object or a range of it into memory.
-- @tparam table o `key`, `first` and `last` (byte positions from 0, inclusive),
--   `max` (more bytes are an error, default 16 MiB)
-- @treturn string|nil bytes
-- @treturn table description as of `head`, or err
function _M:get(o)
  local key, err = self:full_key(o.key)
  if not key then return nil, err end
  local headers
  if o.first or o.last then
    headers = { range = ("bytes=%s-%s"):format(json.number(o.first or 0), o.last and json.number(o.last) or "") }
  end
  local response
  response, err = self.client:send {
    what = "read the object", method = "GET", key = key, headers = headers, max_response = o.max or GET_BYTES,
  }
  if not response then return nil, err end
  if headers and response.status ~= 206 then
    return errors.fail("unavailable", "read the object: the store ignored the range", { status = response.status })
  end
  local length = answers.integer(response.headers["content-length"])
  if length and length ~= #response.body then
    return errors.fail("network", ("read the object: %d of %s bytes arrived"):format(#response.body,
      json.number(length)), { retryable = true })
  end
  return response.body, described(self, response.headers)
end

-- After a conditional PUT met an object: is that our own first try's?
local function own_write(self, o, md5, response_err)
  if not (response_err.code == "conflict" and response_err.lost and md5 and self.profile.etag_is_md5) then
    return nil
  end
  local found = self:head { key = o.key }
  if found and found.etag == core.hex(md5) then
    return { etag = found.etag, crc32c = found.crc32c, check = "md5" }
  end
end

--- Writes an object in one request.
-- @tparam table o `key`, `body` (string) or `file` (`{path=, offset=, length=}`),
--   `md5` (raw, of the file's range, if known), `content_type`,
--   `content_disposition`, `metadata`, `marker`, `headers`, `if_none_match` (true: never replace)
-- @treturn table|nil `{etag, crc32c|nil, sent_crc32c|nil, check="crc32c"|"md5"|"none"}`
-- @treturn[opt] table err
function _M:put(o)
  local key, err = self:full_key(o.key)
  if not key then return nil, err end
  local md5 = written.md5(o)
  local headers
  headers, err = self:object_headers(o)
  if not headers then return nil, err end
  if o.if_none_match then
    if not self.profile.conditional_put then
      return errors.fail("unsupported", ("%s does not write on a condition"):format(self.profile.title))
    end
    headers["if-none-match"] = "*"
  end
  if md5 then headers["content-md5"] = core.base64(md5) end
  local response
  response, err = self.client:send {
    what = "write the object", method = "PUT", key = key, headers = headers, body = o.body, file = o.file,
    checksum = o.file and true or nil,
  }
  if not response then
    local result = o.if_none_match and own_write(self, o, md5, err)
    if result then return result end
    return nil, err
  end
  return written.verify(self.profile, "write the object", o, md5, response)
end

--- Deletes an object. One that is not there is deleted.
-- @tparam table o `key`
-- @treturn boolean|nil true
-- @treturn[opt] table err
function _M:delete(o)
  local key, err = self:full_key(o.key)
  if not key then return nil, err end
  local response
  response, err = self.client:send { what = "delete the object", method = "DELETE", key = key }
  if not response and not (err.code == "not_found" and err.store_code ~= "NoSuchBucket") then return nil, err end
  return true
end

--- Lists objects, all pages or up to `limit` of them.
-- @tparam[opt] table o `prefix`, `delimiter`, `after` (a key: only later ones),
--   `limit`
-- @treturn table|nil list of `{key, size, etag, modified}` in the store's order; its
--   field `prefixes` has the common prefixes when there is a delimiter
-- @treturn[opt] table err
function _M:list(o)
  o = o or {}
  local list = { prefixes = {} }
  local query = { ["list-type"] = "2", ["encoding-type"] = "url", delimiter = o.delimiter }
  local prefix = self.prefix .. (o.prefix or "")
  if prefix ~= "" then query.prefix = prefix end
  if o.after then query["start-after"] = self.prefix .. o.after end
  local page = math.min(o.limit or 1000, o.page or 1000)
  if page < 1000 then query["max-keys"] = json.number(page) end
  local full = false
  local ok, err = pages(self.client, {
    what = "list the objects", method = "GET", expect = "ListBucketResult", max_response = LIST_BYTES,
  }, query, function(root)
    local decode = answers.key_decoder(root)
    for _, node in ipairs(root:all("Contents")) do
      local key = self:short_key(decode(node:get("Key")))
      full = o.limit ~= nil and #list >= o.limit
      if key and not full then
        list[#list + 1] = {
          key = key, size = answers.integer(node:get("Size")), etag = answers.etag(node:get("ETag")),
          modified = dates.parse_time(node:get("LastModified")),
        }
      end
    end
    for _, node in ipairs(root:all("CommonPrefixes")) do
      list.prefixes[#list.prefixes + 1] = self:short_key(decode(node:get("Prefix")))
    end
    if o.limit and #list >= o.limit then return nil, "enough" end
    return { ["continuation-token"] = root:get("NextContinuationToken") }
  end)
  if not ok and not (o.limit and #list >= o.limit) then return nil, err end
  return list
end

return _M

--- Multipart uploads at the store: start, list, finish, abort.
--
-- Room: provider. Methods of the provider object of `longshore.provider.s3`.
-- @module longshore.provider.s3.multipart
local core = require "longshore.core"
local errors = require "longshore.errors"
local answers = require "longshore.provider.s3.answers"
local dates = require "longshore.dates"
local json = require "longshore.json"
local limits = require "longshore.provider.s3.limits"
local pages = require "longshore.provider.s3.pages"
local written = require "longshore.provider.s3.written"
local xml = require "longshore.provider.xml"

local _M = {}

local NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
local LIST_BYTES = 8 * 1024 * 1024
-- Completing may take a store minutes; it sends spaces meanwhile.
local COMPLETE_SECONDS = 600

local function invalid(field, why)
  return errors.fail("invalid", ("%s: %s"):format(field, why), { field = field })
end

local function upload_of(self, o)
  assert(type(o.upload_id) == "string" and o.upload_id ~= "", "upload_id: string expected")
  return self:full_key(o.key)
end

--- Starts a multipart upload. No checksum algorithm is announced: clients that
-- know nothing of it send parts without one.
-- @tparam table o `key`, `content_type`, `content_disposition`, `metadata`,
--   `marker` (kept with the object, see `complete_multipart`), `headers` (further ones)
-- @treturn table|nil `{upload_id=, tries=}`; after more than one try the store may
--   have started others that nobody knows
-- @treturn[opt] table err
function _M:create_multipart(o)
  local key, err = self:full_key(o.key)
  if not key then return nil, err end
  local headers
  headers, err = self:object_headers(o)
  if not headers then return nil, err end
  local response
  response, err = self.client:send {
    what = "start a multipart upload", method = "POST", key = key, query = { uploads = "" }, headers = headers,
    expect = "InitiateMultipartUploadResult",
  }
  if not response then return nil, err end
  local upload_id = response.root:get("UploadId")
  if not upload_id or upload_id == "" then
    return errors.fail("unavailable", "start a multipart upload: the store named no upload id")
  end
  return { upload_id = upload_id, tries = response.tries }
end

--- Sends one part from here (not through a presigned URL).
-- @tparam table o `key`, `upload_id`, `number`, `body` (string) or `file`
--   (`{path=, offset=, length=}`), `md5` (raw, of the file's range, if known)
-- @treturn table|nil `{etag, crc32c|nil, sent_crc32c|nil, check}` as of `put`
-- @treturn[opt] table err
function _M:put_part(o)
  local key, err = upload_of(self, o)
  if not key then return nil, err end
  local length = o.body and #o.body or o.file and o.file.length
  local ok
  ok, err = limits.part(self.profile, o.number, length)
  if not ok then return nil, err end
  local md5 = written.md5(o)
  local response
  response, err = self.client:send {
    what = ("write part %d"):format(o.number), method = "PUT", key = key, body = o.body, file = o.file,
    query = { partNumber = ("%d"):format(o.number), uploadId = o.upload_id }, checksum = o.file and true or nil,
    headers = md5 and { ["content-md5"] = core.base64(md5) } or nil,
  }
  if not response then return nil, err end
  return written.verify(self.profile, ("write part %d"):format(o.number), o, md5, response)
end

--- Lists the parts that the store has, all pages.
-- @tparam table o `key`, `upload_id`
-- @treturn table|nil list of `{number=, etag=, size=, crc32c=, modified=}` by number
-- @treturn[opt] table err `not_found` when there is no such upload
function _M:list_parts(o)
  local key, err = upload_of(self, o)
  if not key then return nil, err end
  local list, bad = {}, nil
  local query = { uploadId = o.upload_id, ["max-parts"] = o.page and json.number(o.page) or nil }
  local ok
  ok, err = pages(self.client, {
    what = "list the parts", method = "GET", key = key, expect = "ListPartsResult", max_response = LIST_BYTES,
  }, query, function(root)
    for _, node in ipairs(root:all("Part")) do
      local part = {
        number = answers.integer(node:get("PartNumber")), etag = answers.etag(node:get("ETag")),
        size = answers.integer(node:get("Size")), crc32c = answers.crc32c(node:get("ChecksumCRC32C")),
        modified = dates.parse_time(node:get("LastModified")),
      }
      if not part.number or not part.etag or not part.size then bad = true end
      list[#list + 1] = part
    end
    return { ["part-number-marker"] = root:get("NextPartNumberMarker") }
  end)
  if not ok then return nil, err end
  if bad then return errors.fail("unavailable", "list the parts: the store left out a number, ETag or size") end
  table.sort(list, function(a, b) return a.number < b.number end)
  return list
end

-- Parts by number without gaps, with bare ETags.
local function whole_list(parts)
  local sorted = {}
  for i, part in ipairs(parts) do
    local etag = answers.etag(part.etag)
    if type(part.number) ~= "number" or not etag or etag:find('[%c"]') then
      return invalid("parts", ("entry %d has no number or no ETag"):format(i))
    end
    sorted[i] = { number = part.number, etag = etag }
  end
  if #sorted == 0 then return invalid("parts", "at least one part is needed") end
  table.sort(sorted, function(a, b) return a.number < b.number end)
  for i, part in ipairs(sorted) do
    if part.number ~= i then
      return invalid("parts", part.number < i and ("part %d is listed twice"):format(part.number)
        or ("part %d is missing"):format(i))
    end
  end
  return sorted
end

local function complete_body(parts)
  local out = { ('<CompleteMultipartUpload xmlns="%s">'):format(NAMESPACE) }
  for i, part in ipairs(parts) do
    out[i + 1] = ("<Part><PartNumber>%d</PartNumber><ETag>&quot;%s&quot;</ETag></Part>"):format(part.number,
      xml.escape(part.etag))
  end
  out[#out + 1] = "</CompleteMultipartUpload>"
  return table.concat(out)
end

-- After "no such upload": is the object there the one that these parts make?
local function recover(self, o, parts)
  local found = self:head { key = o.key }
  if not found then return nil end
  local same_etag = self.profile.etag_is_md5 and found.etag == answers.multipart_etag(parts)
  local same_mark = o.marker and found.marker == o.marker and (not o.size or found.size == o.size)
  if not same_etag and not same_mark then return nil end
  return { etag = found.etag, crc32c = found.crc32c, size = found.size, recovered = true }
end

-- Stores that fail without saying why: does the upload still exist?
local function gone(self, key, upload_id)
  local _, err = self.client:send {
    what = "complete the upload", method = "GET", key = key, query = { uploadId = upload_id, ["max-parts"] = "1" },
    expect = "ListPartsResult", attempts = 1, max_response = LIST_BYTES,
  }
  return err and err.code == "not_found" and err or nil
end

--- Finishes a multipart upload. May be repeated: when the store no longer knows
-- the upload, the object is looked at; it is taken for the result when its ETag
-- is the one these parts make, or when it carries `marker` and has `size`.
-- @tparam table o `key`, `upload_id`, `parts` (list of `{number=, etag=}`, 1..n
--   without gaps, any order), `marker`, `size`, `if_none_match` (never replace)
-- @treturn table|nil `{etag=, crc32c=int|nil, recovered=true|nil}`
-- @treturn[opt] table err
function _M:complete_multipart(o)
  local key, err = upload_of(self, o)
  if not key then return nil, err end
  local parts
  parts, err = whole_list(o.parts)
  if not parts then return nil, err end
  local headers = { ["content-type"] = "application/xml" }
  if o.if_none_match then
    if not self.profile.conditional_complete then
      return errors.fail("unsupported", ("%s does not complete on a condition"):format(self.profile.title))
    end
    headers["if-none-match"] = "*"
  end
  local response
  response, err = self.client:send {
    what = "complete the upload", method = "POST", key = key, query = { uploadId = o.upload_id }, headers = headers,
    body = complete_body(parts), expect = "CompleteMultipartUploadResult", timeout = COMPLETE_SECONDS,
    reconsider = function() return gone(self, key, o.upload_id) end,
  }
  if not response then
    if err.code == "not_found" or (err.code == "conflict" and o.if_none_match and err.lost) then
      local result = recover(self, o, parts)
      if result then return result end
    end
    return nil, err
  end
  local crc32c = answers.header_crc32c(response.headers)
  if not crc32c and (response.root:get("ChecksumType") or ""):upper() ~= "COMPOSITE" then
    crc32c = answers.crc32c(response.root:get("ChecksumCRC32C"))
  end
  local etag = answers.etag(response.root:get("ETag"))
  if not etag then -- Ceph forgets it when it completes for the first time
    local found
    found, err = self:head { key = o.key }
    if not found then return nil, err end
    etag, crc32c = found.etag, found.crc32c
  end
  return { etag = etag, crc32c = crc32c }
end

--- Aborts a multipart upload. An upload that is gone is aborted.
--
-- Parts that are still on the way may arrive after the abort and stay: with
-- `until_empty`, the parts are listed and the abort repeated until none is left.
-- @tparam table o `key`, `upload_id`, `until_empty`, `rounds` (5)
-- @treturn boolean|nil true
-- @treturn[opt] table err
function _M:abort_multipart(o)
  local key, err = upload_of(self, o)
  if not key then return nil, err end
  local rounds = o.until_empty and (o.rounds or 5) or 1
  for round = 1, rounds do
    local response
    response, err = self.client:send {
      what = "abort the upload", method = "DELETE", key = key, query = { uploadId = o.upload_id },
    }
    if not response and err.code ~= "not_found" then return nil, err end
    if not o.until_empty then return true end
    local left
    left, err = self:list_parts(o)
    if not left and err.code == "not_found" then return true end
    if not left then return nil, err end
    if #left == 0 then return true end
    if round < rounds then self.client.clock.sleep(0.2 * round) end
  end
  return errors.fail("busy", "abort the upload: parts keep arriving; stop the senders first", { retryable = true })
end

--- Lists the unfinished uploads, all pages.
-- @tparam[opt] table o `prefix`
-- @treturn table|nil list of `{key=, upload_id=, initiated=}`
-- @treturn[opt] table err
function _M:list_uploads(o)
  local list = {}
  local query = { uploads = "", prefix = self.prefix .. (o and o.prefix or "") }
  if query.prefix == "" then query.prefix = nil end
  if self.profile.uploads_encoded then query["encoding-type"] = "url" end
  if o and o.page then query["max-uploads"] = json.number(o.page) end
  local ok, err = pages(self.client, {
    what = "list the uploads", method = "GET", expect = "ListMultipartUploadsResult", max_response = LIST_BYTES,
  }, query, function(root)
    local decode = answers.key_decoder(root)
    for _, node in ipairs(root:all("Upload")) do
      local key = self:short_key(decode(node:get("Key")))
      if key then
        list[#list + 1] = {
          key = key, upload_id = node:get("UploadId"), initiated = dates.parse_time(node:get("Initiated")),
        }
      end
    end
    return { ["key-marker"] = decode(root:get("NextKeyMarker")), ["upload-id-marker"] = root:get("NextUploadIdMarker") }
  end)
  if not ok then return nil, err end
  return list
end

return _M

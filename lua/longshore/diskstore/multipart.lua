--- Multipart uploads, up to their end (longshore.diskstore.complete) or abort.
--
-- An upload is a folder `data/<xx>/<id>` for its parts and a document in the
-- bucket's `uploads/`. A part becomes one of the upload by a rename, under the
-- upload's lock (shared); Complete and Abort hold the lock alone, so exactly
-- one of them wins and no part changes under them. Complete writes a manifest
-- that names the parts' files; the bytes stay where they are. The object keeps
-- the upload's id: so a Complete that is repeated after its answer was lost
-- finds the object and gives the same answer.
--
-- Room: diskstore.
-- @module longshore.diskstore.multipart
local attributes = require "longshore.diskstore.attributes"
local blob = require "longshore.diskstore.blob"
local checksums = require "longshore.diskstore.checksums"
local commit = require "longshore.diskstore.commit"
local core = require "longshore.core"
local document = require "longshore.diskstore.document"
local fault = require "longshore.diskstore.fault"
local files = require "longshore.diskstore.files"
local http_date = require "longshore.diskstore.http_date"
local layout = require "longshore.diskstore.layout"
local lfs = require "lfs"
local objects = require "longshore.diskstore.objects"
local request = require "longshore.diskstore.request"
local uploads = require "longshore.diskstore.uploads"
local xml = require "longshore.diskstore.xml"

local _M = {}

--- Whether the upload of an UploadPart is open.
function _M.check_upload(store, op)
  local upload, why = uploads.find(store, op)
  if not upload then return nil, why end
  return true
end

--- CreateMultipartUpload.
function _M.create_upload(store, op)
  local headers, why = attributes.take(op.headers)
  if not headers then return nil, why end
  local algorithm = op.headers["x-amz-checksum-algorithm"]
  if algorithm and not ({ CRC32C = 1, CRC32 = 1, CRC64NVME = 1, SHA1 = 1, SHA256 = 1 })[algorithm:upper()] then
    return fault.fail("NotImplemented", "This store does not verify checksums of the algorithm "
      .. algorithm .. ".", { { "Header", "x-amz-checksum-algorithm" } })
  end
  local places = store.layout
  local doc = { kind = "upload", id = layout.new_id(), bucket = op.bucket, key = op.key,
    modified = store.clock.now(), headers = headers }
  local pending = places:pending(doc.id .. ".upload")
  local ok
  ok, why = document.write(pending, doc, store.durable)
  if ok then ok, why = files.make_folder(places:data(doc.id)) end
  if ok and store.durable then ok, why = core.fsync(places:data_parent(doc.id)) end
  if ok then ok, why = os.rename(pending, places:upload(doc.bucket, doc.id)) end
  if ok and store.durable then ok, why = core.fsync(places:uploads(doc.bucket)) end
  if not ok then
    os.remove(pending)
    files.remove_tree(places:data(doc.id))
    if files.is_missing(why) then return fault.fail("NoSuchBucket", nil, { { "BucketName", op.bucket } }) end
    return nil, fault.from_io(why)
  end
  return { status = 200, headers = {}, body = xml.document("InitiateMultipartUploadResult", {
    xml.element("Bucket", op.bucket), xml.element("Key", op.key), xml.element("UploadId", doc.id),
  }) }
end

-- Removes what older uploads of the same part number left; under the lock.
local function drop_older(folder, part)
  local group = folder .. "/" .. blob.group(part.number)
  for _, name in ipairs(files.list(group) or {}) do
    local other = blob.parse_name(name)
    if other and other.number == part.number and other.stamp < part.stamp then os.remove(group .. "/" .. name) end
  end
end

-- The time that a part is given: now, but later than what the same number has,
-- or a part that is sent again after the clock was set back would not count.
local function stamp_of(store, group, number)
  local now = store.clock.now()
  for _, name in ipairs(files.list(group) or {}) do
    local other = blob.parse_name(name)
    if other and other.number == number and other.modified >= now then now = other.modified + 2e-6 end
  end
  return now
end

-- Makes a checked body a part of its upload: part, or nil and a fault.
local function add_part(store, op, number, digest, from)
  return uploads.locked(store, op, "shared", function(upload)
    local folder = store.layout:data(upload.id)
    local part = { number = number, size = digest.bytes, md5 = digest.md5, crc32c = digest.crc32c }
    local group = folder .. "/" .. blob.group(number)
    local name = blob.part_name(part, stamp_of(store, group, number))
    part = blob.parse_name(name)
    local ok, why = lfs.mkdir(group)
    if ok and store.durable then ok, why = core.fsync(folder) end
    if not ok and lfs.attributes(group, "mode") ~= "directory" then return nil, fault.from_io(why) end
    if from then
      ok, why = commit.place(store, from, group .. "/" .. name, group)
    else
      ok, why = files.write(group .. "/" .. name, "", store.durable)
    end
    if not ok then return nil, why end
    drop_older(folder, part)
    return part
  end)
end

--- UploadPart.
function _M.upload_part(store, op)
  local number, why = request.integer(op, "partNumber", nil, 1, store.max_parts)
  if why then return nil, why end
  local ok
  ok, why = uploads.find(store, op)
  if not ok then return nil, why end
  local digest
  digest, why = objects.digest(op)
  if not digest then return nil, why end
  local part
  part, why = add_part(store, op, number, digest, op.spooled)
  if not part then return nil, why end
  return { status = 200, headers = checksums.show({ etag = '"' .. part.etag .. '"' },
    { crc32c = part.crc32c, checksums = digest.checksums }) }
end

-- The bytes of x-amz-copy-source-range of a document: first, length.
local function copy_range(op, source)
  local text = op.headers["x-amz-copy-source-range"]
  if not text then return 0, source.size end
  local first, last = text:match("^bytes=(%d+)%-(%d+)$")
  first, last = tonumber(first), tonumber(last)
  if not first or last < first then
    return nil, fault.new("InvalidArgument", "The x-amz-copy-source-range value must be of the form "
      .. "bytes=first-last.", { { "ArgumentName", "x-amz-copy-source-range" }, { "ArgumentValue", text } })
  end
  if last >= source.size then
    return nil, fault.new("InvalidRange", ("Range specified is not valid for source object of size: %.0f"):format(
      source.size))
  end
  return first, last - first + 1
end

--- UploadPartCopy. The bytes are read once to be checked and copied to a file
-- of their own.
function _M.upload_part_copy(store, op)
  local number, why = request.integer(op, "partNumber", nil, 1, store.max_parts)
  if why then return nil, why end
  local upload
  upload, why = uploads.find(store, op)
  if not upload then return nil, why end
  local source
  source, why = objects.copy_source(store, op)
  if not source then return nil, why end
  local first, length = copy_range(op, source)
  if not first then return nil, length end
  local places = store.layout
  local copy = length > 0 and places:spool() .. "/" .. layout.new_id() or nil
  local digest, part
  if copy then
    local segments = { { path = source.file and places.folder .. "/" .. source.file, offset = first, length = length } }
    if not source.file then segments, why = blob.segments(places:data(source.id), first, length) end
    local output
    if segments then output, why = io.open(copy, "wb") end
    local ok = output ~= nil
    for _, segment in ipairs(ok and segments or {}) do
      ok, why = files.append_range(output, segment.path, segment.offset, segment.length)
      if not ok then break end
    end
    if output then
      local closed, why_closed = output:close()
      if ok and not closed then ok, why = nil, why_closed end
    end
    if ok then digest, why = core.digest_file(copy, { md5 = true, crc32c = true }) end
    if not digest then
      why = files.is_missing(why) and fault.new("OperationAborted") or fault.from_io(why)
    end
  else
    digest = { bytes = 0, md5 = core.md5(""), crc32c = 0 }
  end
  if digest then part, why = add_part(store, op, number, digest, copy) end
  if not part then
    if copy then os.remove(copy) end
    return nil, why
  end
  return { status = 200, headers = {}, body = xml.document("CopyPartResult", {
    xml.element("LastModified", http_date.iso(part.modified)), xml.element("ETag", '"' .. part.etag .. '"'),
    xml.element("ChecksumCRC32C", core.crc32c_base64(part.crc32c)),
  }) }
end

--- ListParts, in pages.
function _M.list_parts(store, op)
  local upload, why = uploads.find(store, op)
  if not upload then return nil, why end
  local most, after
  most, why = request.integer(op, "max-parts", 1000, 0, 1000, true)
  if why then return nil, why end
  after, why = request.integer(op, "part-number-marker", 0, 0, 2 ^ 31)
  if why then return nil, why end
  local newest
  newest, why = uploads.parts(store.layout:data(upload.id))
  if not newest then
    if files.is_missing(why) then return uploads.missing(upload.id) end
    return nil, fault.from_io(why)
  end
  local numbers = {}
  for number in pairs(newest) do
    if number > after then numbers[#numbers + 1] = number end
  end
  table.sort(numbers)
  local pieces = {}
  for i = 1, math.min(most, #numbers) do
    local part = newest[numbers[i]]
    pieces[i] = "<Part>" .. xml.element("PartNumber", part.number)
      .. xml.element("LastModified", http_date.iso(part.modified)) .. xml.element("ETag", '"' .. part.etag .. '"')
      .. xml.element("Size", part.size) .. xml.element("ChecksumCRC32C", core.crc32c_base64(part.crc32c)) .. "</Part>"
  end
  local last = numbers[#pieces] or after
  local owner = store:owner_xml("Initiator") .. store:owner_xml("Owner")
  return { status = 200, headers = {}, body = xml.document("ListPartsResult", {
    xml.element("Bucket", op.bucket), xml.element("Key", op.key), xml.element("UploadId", upload.id), owner,
    xml.element("StorageClass", "STANDARD"), xml.element("PartNumberMarker", after),
    xml.element("NextPartNumberMarker", last), xml.element("MaxParts", most),
    xml.element("IsTruncated", #pieces < #numbers and most > 0), xml.element("ChecksumAlgorithm", "CRC32C"),
    xml.element("ChecksumType", "FULL_OBJECT"), table.concat(pieces),
  }) }
end

--- AbortMultipartUpload.
function _M.abort_upload(store, op)
  local ok, why = uploads.locked(store, op, "exclusive", function(upload)
    local path = store.layout:upload(op.bucket, upload.id)
    if uploads.outcome(store, op) then
      -- It is an object already; only the crash before hid that.
      os.remove(path)
      return uploads.missing(upload.id)
    end
    local moved, err = os.rename(path, store.layout:trash(upload.id))
    if not moved then return nil, err end
    -- Nobody reads parts: their space is free at once. The janitor goes over
    -- it again for a part that arrives just now.
    files.remove_tree(store.layout:data(upload.id))
    return true
  end)
  if not ok then return nil, why end
  return { status = 204, headers = {} }
end

return _M

--- PutObject, GetObject, HeadObject, CopyObject, DeleteObject, DeleteObjects.
--
-- Each takes the store and an op (longshore.diskstore.request) and returns a
-- response: status, headers, and body, or where the bytes are (`file`, or
-- `parts`, with `range`).
--
-- Room: diskstore.
-- @module longshore.diskstore.objects
local attributes = require "longshore.diskstore.attributes"
local blob = require "longshore.diskstore.blob"
local checksums = require "longshore.diskstore.checksums"
local commit = require "longshore.diskstore.commit"
local conditions = require "longshore.diskstore.conditions"
local core = require "longshore.core"
local fault = require "longshore.diskstore.fault"
local files = require "longshore.diskstore.files"
local http_date = require "longshore.diskstore.http_date"
local layout = require "longshore.diskstore.layout"
local request = require "longshore.diskstore.request"
local xml = require "longshore.diskstore.xml"

local _M = {}

--- One pass over a spooled body: what was announced is compared.
-- @tparam table op with `spooled` (path or nil) and `length`
-- @treturn table digest: bytes, md5, crc32c, checksums
-- @return[2] nil
-- @treturn[2] table fault
function _M.digest(op)
  local expected, why = checksums.expected(op.headers, op.payload_hash, op.name == "complete_upload")
  if not expected then return nil, why end
  local digest
  if op.spooled then
    digest, why = core.digest_file(op.spooled, checksums.wanted(expected))
  else
    digest = { bytes = 0, md5 = core.md5(""), sha1 = core.sha1(""), sha256 = core.sha256(""), crc32c = 0, crc32 = 0,
      crc64nvme = ("\0"):rep(8) }
  end
  if not digest then return nil, fault.from_io(why) end
  if op.length and digest.bytes ~= op.length then
    return fault.fail("IncompleteBody", nil, { { "NumberBytesExpected", tostring(op.length) },
      { "NumberBytesProvided", tostring(digest.bytes) } })
  end
  why = checksums.verify(expected, digest)
  if why then return nil, why end
  digest.checksums = checksums.kept(expected)
  return digest
end

--- Whether the conditions of a PutObject hold as things are now.
function _M.check_write(store, op)
  if not conditions.on_write(op.headers) then return true end
  local old, why = commit.find(store, op.bucket, op.key)
  if why then return nil, why end
  why = conditions.write(op.headers, old)
  if why then return nil, why end
  return true
end

--- PutObject.
function _M.put_object(store, op)
  local headers, why = attributes.take(op.headers)
  if not headers then return nil, why end
  local digest
  digest, why = _M.digest(op)
  if not digest then return nil, why end
  local doc = {
    kind = "object", id = layout.new_id(), bucket = op.bucket, key = op.key,
    size = digest.bytes, etag = core.hex(digest.md5), crc32c = digest.crc32c,
    modified = store.clock.now(), headers = headers, checksums = digest.checksums,
  }
  local ok
  ok, why = commit.put(store, doc, op.spooled, function(old) return conditions.write(op.headers, old) end)
  if not ok then return nil, why end
  return { status = 200, headers = checksums.show({ etag = '"' .. doc.etag .. '"' }, doc) }
end

local function find(store, op)
  local doc, why = commit.find(store, op.bucket, op.key)
  if doc then return doc end
  if why then return nil, why end
  if not store:has_bucket(op.bucket) then
    return fault.fail("NoSuchBucket", nil, { { "BucketName", op.bucket } })
  end
  return fault.fail("NoSuchKey", nil, { { "Key", op.key } })
end

-- The range of a part, for ?partNumber=.
local function part_range(store, doc, number)
  if doc.parts == 0 then
    if number == 1 then return nil, nil, doc.size end
  elseif number <= doc.parts then
    local part = blob.part_at(store.layout:data(doc.id), number)
    if part then return { first = part.offset, last = part.offset + part.size - 1 }, nil, part.size end
  end
  return nil, fault.new("InvalidRange", "The object has no part of that number.",
    { { "ActualPartCount", ("%d"):format(math.max(1, doc.parts)) } })
end

--- GetObject and HeadObject.
function _M.get_object(store, op)
  local doc, why = find(store, op)
  if not doc then return nil, why end
  local headers
  headers, why = attributes.answer(doc, op.query)
  if not headers then return nil, why end
  headers.etag = '"' .. doc.etag .. '"'
  headers["last-modified"] = http_date.http(doc.modified)
  headers["accept-ranges"] = "bytes"
  why = conditions.read(op.headers, doc)
  if why then
    if why.status == 304 then
      return { status = 304, headers = { etag = headers.etag, ["last-modified"] = headers["last-modified"],
        ["cache-control"] = headers["cache-control"] } }
    end
    return nil, why
  end
  local range, length
  local number
  number, why = request.integer(op, "partNumber", nil, 1, 10000)
  if why then return nil, why end
  if number then
    range, why, length = part_range(store, doc, number)
    if why then return nil, why end
    if doc.parts > 0 then headers["x-amz-mp-parts-count"] = ("%d"):format(doc.parts) end
    if length == 0 then range = nil end
  else
    range, why = conditions.range(op.headers, doc)
    if why then return nil, why end
  end
  local response = { status = 200, headers = headers, length = length or doc.size }
  if range then
    response.status = 206
    response.range = range
    response.length = range.last - range.first + 1
    headers["content-range"] = ("bytes %.0f-%.0f/%.0f"):format(range.first, range.last, doc.size)
  elseif not number then
    -- A checksum of the whole says nothing of a range.
    checksums.show(headers, doc)
  end
  if op.method ~= "HEAD" and response.length > 0 then
    if doc.file then response.file = doc.file else response.parts = doc.id end
  end
  return response
end

_M.head_object = _M.get_object

-- The source that x-amz-copy-source names: doc, or nil and a fault.
local function copy_source(store, op)
  local text = op.headers["x-amz-copy-source"]
  local path, query = text:match("^([^?]*)%??(.*)$")
  if query ~= "" and query ~= "versionId=null" then
    return fault.fail("NotImplemented", "This store keeps no versions.")
  end
  if path:sub(1, 1) ~= "/" then path = "/" .. path end
  local bucket, key, why = request.split(path)
  if why then return nil, why end
  if not key then
    return fault.fail("InvalidArgument", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
      { { "ArgumentName", "x-amz-copy-source" }, { "ArgumentValue", text } })
  end
  local doc
  doc, why = find(store, { bucket = bucket, key = key })
  if not doc then return nil, why end
  why = conditions.copy_source(op.headers, doc)
  if why then return nil, why end
  return doc
end

_M.copy_source = copy_source

-- Gives the data of `source` a second name, `doc.id`; of parts, all of them.
local function share(store, source, doc)
  local from, to = store.layout:data(source.id), store.layout:data(doc.id)
  if doc.size == 0 then return true end
  if source.file then return files.link_or_copy(store.layout.folder .. "/" .. source.file, to) end
  local ok, why = files.make_folder(to)
  local segments
  if ok then segments, why = blob.segments(from, 0, doc.size) end
  if not segments then return nil, why end
  local made = {}
  for _, segment in ipairs(segments) do
    local name = segment.path:sub(#from + 2)
    local group = name:sub(1, 2)
    if not made[group] then
      ok, why = files.make_folder(to .. "/" .. group)
      if not ok then return nil, why end
      made[group] = true
    end
    ok, why = files.link_or_copy(segment.path, to .. "/" .. name)
    if not ok then return nil, why end
  end
  return files.link_or_copy(from .. "/manifest", to .. "/manifest")
end

--- CopyObject. The bytes are not copied where the file system has hard links.
function _M.copy_object(store, op)
  local source, why = copy_source(store, op)
  if not source then return nil, why end
  local directive = op.headers["x-amz-metadata-directive"] or "COPY"
  local headers = source.headers
  if directive == "REPLACE" then
    headers, why = attributes.take(op.headers)
    if not headers then return nil, why end
  elseif directive ~= "COPY" then
    return fault.fail("InvalidArgument", "Unknown metadata directive.",
      { { "ArgumentName", "x-amz-metadata-directive" }, { "ArgumentValue", directive } })
  elseif source.bucket == op.bucket and source.key == op.key then
    return fault.fail("InvalidRequest", "This copy request is illegal because it is trying to copy an object "
      .. "to itself without changing the object's metadata, storage class, website redirect location or "
      .. "encryption attributes.")
  end
  local doc = {
    kind = "object", id = layout.new_id(), bucket = op.bucket, key = op.key, size = source.size,
    etag = source.etag, crc32c = source.crc32c, modified = store.clock.now(),
    headers = headers, checksums = source.checksums,
    -- An object of one part is one file, which becomes a plain one here.
    parts = source.file and 0 or source.parts,
  }
  doc.file = source.file and store.layout:data_name(doc.id) or nil
  local pending
  pending, why = commit.announce(store, doc, "put")
  if not pending then return nil, why end
  local ok
  ok, why = share(store, source, doc)
  if not ok then
    -- The source was replaced or deleted while its bytes were being linked.
    why = files.is_missing(why) and fault.new("OperationAborted") or fault.from_io(why)
  elseif store.durable then
    ok, why = core.fsync(store.layout:data_parent(doc.id))
    if ok and doc.parts > 0 and not doc.file then ok, why = core.fsync(store.layout:data(doc.id)) end
    if not ok then why = fault.from_io(why) end
  end
  if ok then
    ok, why = commit.publish(store, doc, pending, function(old) return conditions.write(op.headers, old) end)
  end
  if not ok then
    files.remove_tree(store.layout:data(doc.id))
    os.remove(pending)
    return nil, why
  end
  local body = {
    xml.element("LastModified", http_date.iso(doc.modified)), xml.element("ETag", '"' .. doc.etag .. '"'),
  }
  if doc.crc32c then
    body[#body + 1] = xml.element("ChecksumCRC32C", core.crc32c_base64(doc.crc32c))
    body[#body + 1] = xml.element("ChecksumType", "FULL_OBJECT")
  end
  return { status = 200, headers = {}, body = xml.document("CopyObjectResult", body) }
end

--- DeleteObject; an object that is not there counts as deleted.
function _M.delete_object(store, op)
  local done, why = commit.delete(store, op.bucket, op.key, function(old)
    if not op.headers["if-match"] then return nil end
    return conditions.write({ ["if-match"] = op.headers["if-match"] }, old)
  end)
  if done == nil then return nil, why end
  return { status = 204, headers = {} }
end

--- DeleteObjects: up to 1,000 keys, a result for each.
function _M.delete_objects(store, op, body)
  local root, why = xml.parse(body)
  if not root or root.name ~= "Delete" then
    return fault.fail("MalformedXML", root and "A Delete document is expected." or "The XML is not well-formed: "
      .. why .. ".")
  end
  if not store:has_bucket(op.bucket) then
    return fault.fail("NoSuchBucket", nil, { { "BucketName", op.bucket } })
  end
  local quiet = xml.child_text(root, "Quiet") == "true"
  local keys = {}
  for _, node in ipairs(root) do
    if node.name == "Object" then
      local key = xml.child_text(node, "Key")
      if not key or key == "" then return fault.fail("MalformedXML", "An Object without a Key.") end
      keys[#keys + 1] = key
    end
  end
  if #keys == 0 or #keys > 1000 then return fault.fail("MalformedXML", "1 to 1000 keys are expected.") end
  local pieces = {}
  for _, key in ipairs(keys) do
    local done, err
    if #key > 1024 then
      err = fault.new("KeyTooLongError")
    else
      done, err = commit.delete(store, op.bucket, key)
    end
    if done == nil then
      pieces[#pieces + 1] = "<Error>" .. xml.element("Key", key) .. xml.element("Code", err.code)
        .. xml.element("Message", err.message) .. "</Error>"
    elseif not quiet then
      pieces[#pieces + 1] = "<Deleted>" .. xml.element("Key", key) .. "</Deleted>"
    end
  end
  return { status = 200, headers = {}, body = xml.document("DeleteResult", pieces) }
end

return _M

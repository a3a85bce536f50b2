--- CompleteMultipartUpload: the list is compared with the parts that are here,
-- a manifest names their files, and the object becomes visible. No byte of the
-- parts is read or written.
--
-- Room: diskstore.
-- @module longshore.diskstore.complete
local commit = require "longshore.diskstore.commit"
local conditions = require "longshore.diskstore.conditions"
local core = require "longshore.core"
local fault = require "longshore.diskstore.fault"
local uploads = require "longshore.diskstore.uploads"
local xml = require "longshore.diskstore.xml"

local _M = {}

-- Reads the document of a Complete: list of {number, etag, crc32c}.
local function read_list(store, body)
  local root, why = xml.parse(body)
  if not root or root.name ~= "CompleteMultipartUpload" then
    return fault.fail("MalformedXML", root and "A CompleteMultipartUpload document is expected."
      or "The XML is not well-formed: " .. why .. ".")
  end
  local list = {}
  for _, node in ipairs(root) do
    if node.name == "Part" then
      local number = xml.child_text(node, "PartNumber")
      local etag = xml.child_text(node, "ETag")
      number = number and number:match("^%s*(%d+)%s*$")
      if not number or #number > 9 or not etag then
        return fault.fail("MalformedXML", "A Part needs a PartNumber and an ETag.")
      end
      number = tonumber(number)
      if number < 1 or number > store.max_parts then
        return fault.fail("InvalidArgument", ("Part number must be an integer between 1 and %d, inclusive"):format(
          store.max_parts), { { "ArgumentName", "PartNumber" }, { "ArgumentValue", tostring(number) } })
      end
      if list[1] and number <= list[#list].number then return fault.fail("InvalidPartOrder") end
      list[#list + 1] = { number = number, etag = conditions.bare_etag(etag),
        crc32c = xml.child_text(node, "ChecksumCRC32C") }
    end
  end
  if not list[1] then return fault.fail("MalformedXML", "You must specify at least one part.") end
  return list
end

-- Compares a list with the parts that are here: see `uploads.sum`.
local function choose(store, list, newest)
  local chosen = {}
  for i, wanted in ipairs(list) do
    local part = newest[wanted.number]
    if not part or part.etag ~= wanted.etag:lower()
      or wanted.crc32c and wanted.crc32c ~= core.crc32c_base64(part.crc32c) then
      return fault.fail("InvalidPart", nil, { { "PartNumber", tostring(wanted.number) }, { "ETag", wanted.etag } })
    end
    if i < #list and part.size < store.min_part then
      return fault.fail("EntityTooSmall", nil, { { "PartNumber", tostring(part.number) },
        { "ProposedSize", ("%.0f"):format(part.size) }, { "MinSizeAllowed", ("%.0f"):format(store.min_part) },
        { "ETag", part.etag } })
    end
    chosen[i] = part
  end
  return uploads.sum(chosen)
end

-- What the request says of the whole object.
local function check_whole(headers, whole)
  local size = headers["x-amz-mp-object-size"]
  if size and size ~= ("%.0f"):format(whole.size) then
    return fault.new("InvalidRequest", ("The size in x-amz-mp-object-size (%s) is not that of the parts (%.0f).")
      :format(size, whole.size))
  end
  for name, value in pairs(headers) do
    local algorithm = name:match("^x%-amz%-checksum%-(.+)$")
    if algorithm == "crc32c" then
      if value ~= core.crc32c_base64(whole.crc32c) then
        return fault.new("BadDigest", "The CRC32C you specified is not that of the whole object.",
          { { "CalculatedDigest", core.crc32c_base64(whole.crc32c) } })
      end
    elseif algorithm and algorithm ~= "type" and algorithm ~= "algorithm" then
      return fault.new("NotImplemented", "This store knows of an object of parts only the CRC32C.",
        { { "Header", name } })
    end
  end
end

local function completed(op, doc)
  return { status = 200, headers = {}, body = xml.document("CompleteMultipartUploadResult", {
    xml.element("Location", ("%s/%s"):format(op.location or "", core.uri_encode(op.bucket .. "/" .. op.key, true))),
    xml.element("Bucket", op.bucket), xml.element("Key", op.key), xml.element("ETag", '"' .. doc.etag .. '"'),
    xml.element("ChecksumCRC32C", core.crc32c_base64(doc.crc32c)), xml.element("ChecksumType", "FULL_OBJECT"),
  }) }
end

local function build(store, op, upload, list)
  local folder = store.layout:data(upload.id)
  local newest, older = uploads.parts(folder)
  if not newest then return nil, older end
  local whole, why = choose(store, list, newest)
  if not whole then return nil, why end
  why = check_whole(op.headers, whole)
  if why then return nil, why end
  local doc
  doc, why = uploads.object(store, upload, whole)
  if not doc then return nil, why end
  for _, part in ipairs(whole.parts) do newest[part.number] = nil end
  for _, part in pairs(newest) do older[#older + 1] = part end
  return doc, older
end

--- CompleteMultipartUpload.
function _M.complete_upload(store, op, body)
  local list, why = read_list(store, body)
  if not list then return nil, why end
  local doc, unused
  local ok
  ok, why = uploads.locked(store, op, "exclusive", function(upload)
    -- A crash came between the object's appearing and the upload's going.
    doc = uploads.outcome(store, op)
    if not doc then
      local err
      doc, unused = build(store, op, upload, list)
      if not doc then return nil, unused end
      local pending
      pending, err = commit.announce(store, doc, "complete")
      if not pending then return nil, err end
      local published
      published, err = commit.publish(store, doc, pending, function(old)
        return conditions.write(op.headers, old)
      end)
      if not published then
        os.remove(pending)
        return nil, err
      end
    end
    return os.remove(store.layout:upload(op.bucket, upload.id))
  end)
  if not ok then
    if why.code ~= "NoSuchUpload" then return nil, why end
    -- It was completed before, and the answer may have been lost.
    doc = uploads.outcome(store, op)
    if not doc then return nil, why end
    return completed(op, doc)
  end
  local folder = store.layout:data(doc.id)
  for _, part in ipairs(unused or {}) do os.remove(folder .. "/" .. part.path) end
  os.remove(folder .. "/lock")
  return completed(op, doc)
end

return _M

--- ListObjects (v1 and v2) and ListMultipartUploads.
--
-- A page of ListObjects walks the index from where the page begins and reads
-- the documents of the keys on it: about a page's worth of small files,
-- whatever the bucket's size. Behind a common prefix it jumps to the next one.
-- ListMultipartUploads reads the documents of all open uploads of the bucket
-- for every page: there are few, since an upload is completed or aborted.
--
-- Room: diskstore.
-- @module longshore.diskstore.listing
local commit = require "longshore.diskstore.commit"
local core = require "longshore.core"
local document = require "longshore.diskstore.document"
local fault = require "longshore.diskstore.fault"
local files = require "longshore.diskstore.files"
local http_date = require "longshore.diskstore.http_date"
local request = require "longshore.diskstore.request"
local xml = require "longshore.diskstore.xml"

local _M = {}

local CHECKSUM = "<ChecksumAlgorithm>CRC32C</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"

-- The first text after all that begin with `prefix`, or nil.
local function after_prefix(prefix)
  local i = #prefix
  while i > 0 and prefix:byte(i) == 255 do i = i - 1 end
  if i == 0 then return nil end
  return prefix:sub(1, i - 1) .. string.char(prefix:byte(i) + 1)
end

local function common_prefix(key, prefix, delimiter)
  if delimiter == "" then return nil end
  local _, stop = key:find(delimiter, #prefix + 1, true)
  return stop and key:sub(1, stop)
end

--- One page of keys.
-- @tparam table store
-- @tparam table want bucket, prefix, delimiter, after (exclusive, "" for the beginning), most
-- @treturn table page: entries (list of {prefix=} or {doc=}), truncated, last (key or prefix)
-- @return[2] nil
-- @treturn[2] table fault
function _M.page(store, want)
  local page = { entries = {}, truncated = false }
  if want.most == 0 then return page end
  local cursor = store:index(want.bucket):cursor(want.prefix)
  if want.after ~= "" then cursor:seek(want.after) end
  while true do
    local key, why = cursor.next()
    if why then return nil, fault.from_io(why) end
    if not key or key:sub(1, #want.prefix) ~= want.prefix then return page end
    local common = common_prefix(key, want.prefix, want.delimiter)
    if common and common == want.after then
      -- All of this prefix was on the page before.
      local beyond = after_prefix(common)
      if not beyond then return page end
      cursor:seek(beyond)
    elseif key > want.after then
      local doc
      doc, why = commit.find(store, want.bucket, key)
      if why then return nil, why end
      if doc then
        if #page.entries == want.most then
          page.truncated = true
          return page
        end
        page.entries[#page.entries + 1] = common and { prefix = common } or { doc = doc }
        page.last = common or key
        if common then
          local beyond = after_prefix(common)
          if not beyond then return page end
          cursor:seek(beyond)
        end
      end
    end
  end
end

-- Element with a key in it, encoded if the client asked for it.
local function encoder(op)
  local kind = op.query["encoding-type"]
  if kind and kind ~= "" and kind ~= "url" then
    return fault.fail("InvalidArgument", "Invalid Encoding Method specified in Request",
      { { "ArgumentName", "encoding-type" }, { "ArgumentValue", kind } })
  end
  local url = kind == "url"
  return function(name, text)
    return xml.element(name, url and core.uri_encode(text, true) or text)
  end, url
end

local function render(store, op, page, name)
  local pieces, v2 = {}, op.query["list-type"] == "2"
  local owner = (not v2 or op.query["fetch-owner"] == "true") and store:owner_xml("Owner") or ""
  for _, entry in ipairs(page.entries) do
    local doc = entry.doc
    if doc then
      pieces[#pieces + 1] = "<Contents>" .. name("Key", doc.key)
        .. xml.element("LastModified", http_date.iso(doc.modified)) .. xml.element("ETag", '"' .. doc.etag .. '"')
        .. (doc.crc32c and CHECKSUM or "")
        .. xml.element("Size", doc.size) .. owner .. "<StorageClass>STANDARD</StorageClass></Contents>"
    end
  end
  for _, entry in ipairs(page.entries) do
    if entry.prefix then
      pieces[#pieces + 1] = "<CommonPrefixes>" .. name("Prefix", entry.prefix) .. "</CommonPrefixes>"
    end
  end
  return table.concat(pieces)
end

--- ListObjects and, with list-type=2, ListObjectsV2.
function _M.list_objects(store, op)
  local query = op.query
  local v2 = query["list-type"] == "2"
  if query["list-type"] and not v2 then
    return fault.fail("InvalidArgument", "list-type must be 2.", { { "ArgumentName", "list-type" } })
  end
  local most, why = request.integer(op, "max-keys", 1000, 0, 1000, true)
  if why then return nil, why end
  local name, url = encoder(op)
  if not name then return nil, url end
  if not store:has_bucket(op.bucket) then
    return fault.fail("NoSuchBucket", nil, { { "BucketName", op.bucket } })
  end
  local token = v2 and query["continuation-token"]
  local after = v2 and (query["start-after"] or "") or query.marker or ""
  if token then
    after = core.unhex(token)
    if not after or token == "" then
      return fault.fail("InvalidArgument", "The continuation token provided is incorrect",
        { { "ArgumentName", "continuation-token" } })
    end
  end
  local prefix, delimiter = query.prefix or "", query.delimiter or ""
  local page
  page, why = _M.page(store, { bucket = op.bucket, prefix = prefix, delimiter = delimiter, after = after, most = most })
  if not page then return nil, why end
  local head = { xml.element("Name", op.bucket), name("Prefix", prefix) }
  local function add(piece) head[#head + 1] = piece end
  if delimiter ~= "" then add(name("Delimiter", delimiter)) end
  add(xml.element("MaxKeys", most))
  if url then add(xml.element("EncodingType", "url")) end
  add(xml.element("IsTruncated", page.truncated))
  if v2 then
    add(xml.element("KeyCount", #page.entries))
    if token then add(xml.element("ContinuationToken", token)) end
    if query["start-after"] then add(name("StartAfter", query["start-after"])) end
    if page.truncated then add(xml.element("NextContinuationToken", core.hex(page.last))) end
  else
    add(name("Marker", query.marker or ""))
    -- S3 gives it only with a delimiter; it is right without one, too.
    if page.truncated then add(name("NextMarker", page.last)) end
  end
  add(render(store, op, page, name))
  return { status = 200, headers = {}, body = xml.document("ListBucketResult", head) }
end

-- The open uploads of a bucket by key, then by age.
local function open_uploads(store, bucket)
  local names, why = files.list(store.layout:uploads(bucket))
  if not names then return nil, why end
  local docs = {}
  for _, id in ipairs(names) do
    docs[#docs + 1] = document.read(store.layout:upload(bucket, id))
  end
  table.sort(docs, function(a, b)
    if a.key ~= b.key then return a.key < b.key end
    return a.id < b.id -- ids sort by age
  end)
  return docs
end

--- ListMultipartUploads.
function _M.list_uploads(store, op)
  local query = op.query
  local most, why = request.integer(op, "max-uploads", 1000, 0, 1000, true)
  if why then return nil, why end
  local name, url = encoder(op)
  if not name then return nil, url end
  local docs
  docs, why = open_uploads(store, op.bucket)
  if not docs then
    if not store:has_bucket(op.bucket) then
      return fault.fail("NoSuchBucket", nil, { { "BucketName", op.bucket } })
    end
    return nil, fault.from_io(why)
  end
  local prefix, delimiter = query.prefix or "", query.delimiter or ""
  local key_marker, id_marker = query["key-marker"] or "", query["upload-id-marker"] or ""
  local pieces, prefixes, seen, count, truncated = {}, {}, {}, 0, false
  local next_key, next_id = "", ""
  for _, doc in ipairs(docs) do
    local skip = key_marker ~= "" and (doc.key < key_marker
      or doc.key == key_marker and (id_marker == "" or doc.id <= id_marker))
    local common = common_prefix(doc.key, prefix, delimiter)
    if common and (common == key_marker or seen[common]) then skip = true end
    if not skip and doc.key:sub(1, #prefix) == prefix then
      if count == most then
        truncated = most > 0
        break
      end
      count = count + 1
      next_key, next_id = common or doc.key, common and "" or doc.id
      if common then
        seen[common] = true
        prefixes[#prefixes + 1] = "<CommonPrefixes>" .. name("Prefix", common) .. "</CommonPrefixes>"
      else
        pieces[#pieces + 1] = "<Upload>" .. name("Key", doc.key) .. xml.element("UploadId", doc.id)
          .. store:owner_xml("Initiator") .. store:owner_xml("Owner") .. "<StorageClass>STANDARD</StorageClass>"
          .. xml.element("Initiated", http_date.iso(doc.modified)) .. "</Upload>"
      end
    end
  end
  local head = {
    xml.element("Bucket", op.bucket), name("KeyMarker", key_marker), xml.element("UploadIdMarker", id_marker),
    name("Prefix", prefix), delimiter ~= "" and name("Delimiter", delimiter) or "",
    truncated and name("NextKeyMarker", next_key) .. xml.element("NextUploadIdMarker", next_id) or "",
    xml.element("MaxUploads", most), url and xml.element("EncodingType", "url") or "",
    xml.element("IsTruncated", truncated), table.concat(pieces), table.concat(prefixes),
  }
  return { status = 200, headers = {}, body = xml.document("ListMultipartUploadsResult", head) }
end

return _M

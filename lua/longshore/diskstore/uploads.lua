--- Open multipart uploads: finding one, taking its lock, reading its parts, making
-- an object of them.
--
-- Room: diskstore.
-- @module longshore.diskstore.uploads
local blob = require "longshore.diskstore.blob"
local commit = require "longshore.diskstore.commit"
local core = require "longshore.core"
local document = require "longshore.diskstore.document"
local fault = require "longshore.diskstore.fault"
local files = require "longshore.diskstore.files"
local layout = require "longshore.diskstore.layout"

local _M = {}

--- `nil, fault` of an upload that is not there.
-- @tparam string id
function _M.missing(id)
  return fault.fail("NoSuchUpload", nil, { { "UploadId", id } })
end

--- The document of an open upload.
-- @tparam table store
-- @tparam table op with bucket, key and query.uploadId
-- @treturn table doc
-- @return[2] nil
-- @treturn[2] table fault
function _M.find(store, op)
  local id = op.query.uploadId
  if layout.is_id(id) then
    local doc, why = document.read(store.layout:upload(op.bucket, id))
    if doc and doc.key == op.key then return doc end
    if not doc and not files.is_missing(why) then return nil, fault.from_io(why) end
  end
  if not store:has_bucket(op.bucket) then
    return fault.fail("NoSuchBucket", nil, { { "BucketName", op.bucket } })
  end
  return _M.missing(id)
end

--- Runs fn(upload) under the upload's lock.
-- @tparam table store
-- @tparam table op
-- @tparam string mode "shared" for who adds a part, "exclusive" for who ends the upload
-- @tparam function fn
-- @return what fn returned, or nil and a fault
function _M.locked(store, op, mode, fn)
  local upload, why = _M.find(store, op)
  if not upload then return nil, why end
  local result
  result, why = files.locked(store.layout:data(upload.id) .. "/lock", mode, function()
    -- It may have gone while we waited.
    local still, err = _M.find(store, op)
    if not still then return nil, err end
    return fn(still)
  end)
  if result == nil then
    if files.is_missing(why) then return _M.missing(upload.id) end
    return nil, fault.from_io(why)
  end
  return result
end

--- The newest file of each part number, and those that are older.
-- @tparam string folder of the upload
-- @treturn table by number
-- @treturn table list
-- @return[2] nil and why
function _M.parts(folder)
  local newest, older = {}, {}
  local groups, why = files.list(folder)
  if not groups then return nil, why end
  for _, group in ipairs(groups) do
    if group:find("^%d%d$") then
      for _, name in ipairs(files.list(folder .. "/" .. group) or {}) do
        local part = blob.parse_name(name)
        local other = part and newest[part.number]
        if other and other.stamp > part.stamp then
          older[#older + 1] = part
        elseif part then
          newest[part.number] = part
          if other then older[#older + 1] = other end
        end
      end
    end
  end
  return newest, older
end

--- The visible object that this upload became, or nil.
-- @tparam table store
-- @tparam table op
-- @treturn table|nil doc
function _M.outcome(store, op)
  local doc = commit.find(store, op.bucket, op.key)
  return doc and doc.id == op.query.uploadId and doc or nil
end

--- What parts are together.
-- @tparam table parts in order
-- @treturn table parts, size, crc32c, etag
function _M.sum(parts)
  local sums, size, crc = {}, 0, 0
  for i, part in ipairs(parts) do
    sums[i] = part.md5
    crc = core.crc32c_combine(crc, part.crc32c, part.size)
    size = size + part.size
  end
  return { parts = parts, size = size, crc32c = crc,
    etag = ("%s-%d"):format(core.hex(core.md5(table.concat(sums))), #parts) }
end

--- Makes an object of the parts in a folder: writes the manifest. Nothing is visible yet.
-- @tparam table store
-- @tparam table upload whose parts they are: id, bucket, key, headers
-- @tparam table whole of `sum`
-- @treturn table doc, or nil and why
function _M.object(store, upload, whole)
  local folder = store.layout:data(upload.id)
  local ok, why = blob.write_manifest(folder .. "/manifest", whole.parts, store.durable)
  if ok and store.durable then ok, why = core.fsync(folder) end
  if not ok then return nil, why end
  local doc = {
    kind = "object", id = upload.id, bucket = upload.bucket, key = upload.key, size = whole.size,
    etag = whole.etag, crc32c = whole.crc32c, parts = #whole.parts, modified = store.clock.now(),
    headers = upload.headers, checksums = {},
  }
  if #whole.parts == 1 and whole.size > 0 then
    doc.file = store.layout:data_name(upload.id) .. "/" .. whole.parts[1].path
  end
  return doc
end

return _M

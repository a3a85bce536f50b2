--- Buckets, and the small documents that clients ask of them.
--
-- Room: diskstore.
-- @module longshore.diskstore.buckets
local attributes = require "longshore.diskstore.attributes"
local commit = require "longshore.diskstore.commit"
local core = require "longshore.core"
local document = require "longshore.diskstore.document"
local fault = require "longshore.diskstore.fault"
local files = require "longshore.diskstore.files"
local http_date = require "longshore.diskstore.http_date"
local layout = require "longshore.diskstore.layout"
local lfs = require "lfs"
local xml = require "longshore.diskstore.xml"

local _M = {}

--- Makes a bucket: all of it in pending/, then one rename.
-- @tparam table store
-- @tparam string bucket a name that has passed layout.bucket_name
-- @treturn boolean whether it is new
-- @return[2] nil
-- @treturn[2] table fault
function _M.make(store, bucket)
  local places = store.layout
  if store:has_bucket(bucket) then return false end
  local folder = places:pending(layout.new_id() .. ".bucket")
  local ok, why = files.make_folder(folder)
  for _, name in ipairs { "objects", "uploads" } do
    if ok then ok, why = files.make_folder(folder .. "/" .. name) end
  end
  if ok then ok, why = files.write(folder .. "/lock", "") end
  if ok then ok, why = store:index(bucket, folder .. "/index"):create() end
  if ok then
    ok, why = document.write(folder .. "/bucket", { kind = "bucket", bucket = bucket,
      modified = store.clock.now() }, store.durable)
  end
  if ok then ok, why = os.rename(folder, places:bucket(bucket)) end
  if ok and store.durable then ok, why = core.fsync(places:buckets()) end
  if ok then return true end
  files.remove_tree(folder)
  if store:has_bucket(bucket) then return false end
  return nil, fault.from_io(why)
end

--- CreateBucket. One that exists is the caller's, and the answer is the same.
function _M.create_bucket(store, op, body)
  local why = attributes.refuse_acl(op.headers)
  if why then return nil, why end
  if op.headers["x-amz-bucket-object-lock-enabled"] == "true" then
    return fault.fail("NotImplemented", "This store has no object lock.")
  end
  if body and body:find("%S") then
    local root
    root, why = xml.parse(body, 100)
    if not root or root.name ~= "CreateBucketConfiguration" then
      return fault.fail("MalformedXML", not root and "The XML is not well-formed: " .. why .. "." or nil)
    end
    local place = xml.child_text(root, "LocationConstraint")
    if place and place ~= "" and place ~= store.region then
      return fault.fail("InvalidLocationConstraint", nil, { { "LocationConstraint", place } })
    end
  end
  local made
  made, why = _M.make(store, op.bucket)
  if made == nil then return nil, why end
  return { status = 200, headers = { location = "/" .. op.bucket } }
end

-- Whether a bucket has an object or an upload.
local function is_empty(store, bucket)
  if next(files.list(store.layout:uploads(bucket)) or {}) then return false end
  local cursor = store:index(bucket):cursor("")
  local key, why = cursor.next()
  while key do
    if commit.find(store, bucket, key) then return false end
    key, why = cursor.next()
  end
  if why then return nil, why end
  return true
end

--- DeleteBucket, when it is empty.
function _M.delete_bucket(store, op)
  local path = store.layout:bucket(op.bucket)
  local gone = store.layout:trash(layout.new_id() .. ".bucket")
  local ok, why = files.locked(path .. "/lock", "exclusive", function()
    local empty, err = is_empty(store, op.bucket)
    if not empty then return nil, err or fault.new("BucketNotEmpty", nil, { { "BucketName", op.bucket } }) end
    return os.rename(path, gone)
  end)
  if not ok then
    if files.is_missing(why) then return fault.fail("NoSuchBucket", nil, { { "BucketName", op.bucket } }) end
    return nil, fault.from_io(why)
  end
  files.remove_tree(gone)
  return { status = 204, headers = {} }
end

--- HeadBucket.
function _M.head_bucket(store, op)
  if not store:has_bucket(op.bucket) then return fault.fail("NoSuchBucket") end
  return { status = 200, headers = { ["x-amz-bucket-region"] = store.region } }
end

--- GetBucketLocation; us-east-1 is, as S3 has it, the empty text.
function _M.bucket_location(store)
  local region = store.region ~= "us-east-1" and xml.escape(store.region) or ""
  return { status = 200, headers = {}, body = xml.document("LocationConstraint", { region }) }
end

--- ListBuckets.
function _M.list_buckets(store)
  local names, why = files.list(store.layout:buckets())
  if not names then return nil, fault.from_io(why) end
  table.sort(names)
  local pieces = {}
  for _, name in ipairs(names) do
    local doc = document.read(store.layout:bucket(name) .. "/bucket")
    if doc then
      pieces[#pieces + 1] = "<Bucket>" .. xml.element("Name", name)
        .. xml.element("CreationDate", http_date.iso(doc.modified)) .. "</Bucket>"
    end
  end
  return { status = 200, headers = {}, body = xml.document("ListAllMyBucketsResult", {
    store:owner_xml("Owner"), "<Buckets>", table.concat(pieces), "</Buckets>",
  }) }
end

--- GetBucketVersioning: there never is any.
function _M.bucket_versioning()
  return { status = 200, headers = {}, body = xml.document("VersioningConfiguration", {}) }
end

--- GetBucketAcl and GetObjectAcl: the owner may do everything.
function _M.get_acl(store, op)
  if op.key then
    local doc, why = commit.find(store, op.bucket, op.key)
    if not doc then return nil, why or fault.new("NoSuchKey", nil, { { "Key", op.key } }) end
  end
  return { status = 200, headers = {}, body = xml.document("AccessControlPolicy", {
    store:owner_xml("Owner"),
    "<AccessControlList><Grant>",
    '<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">',
    xml.element("ID", store.owner), xml.element("DisplayName", store.owner), "</Grantee>",
    xml.element("Permission", "FULL_CONTROL"), "</Grant></AccessControlList>",
  }) }
end

-- Whether a policy says no more than that the owner may do everything.
local function is_private(store, root)
  local list
  for _, node in ipairs(root) do
    if node.name == "AccessControlList" then list = node end
  end
  for _, grant in ipairs(list or {}) do
    local grantee
    for _, node in ipairs(grant) do
      if node.name == "Grantee" then grantee = node end
    end
    if not grantee or xml.child_text(grantee, "ID") ~= store.owner
      or xml.child_text(grant, "Permission") ~= "FULL_CONTROL" then
      return false
    end
  end
  return list ~= nil
end

--- PutBucketAcl and PutObjectAcl: `private` is what it is, as header or spelled out.
function _M.put_acl(store, op, body)
  local why = attributes.refuse_acl(op.headers)
  if why then return nil, why end
  if not op.headers["x-amz-acl"] then
    local root
    root, why = xml.parse(body, 1000)
    if not root or root.name ~= "AccessControlPolicy" then
      return fault.fail("MalformedXML", not root and "The XML is not well-formed: " .. why .. "." or nil)
    end
    if not is_private(store, root) then return fault.fail("AccessControlListNotSupported") end
  end
  if op.key then
    local doc
    doc, why = commit.find(store, op.bucket, op.key)
    if not doc then return nil, why or fault.new("NoSuchKey", nil, { { "Key", op.key } }) end
  end
  return { status = 200, headers = {} }
end

--- GetObjectTagging: no object has tags.
function _M.get_tagging(store, op)
  local doc, why = commit.find(store, op.bucket, op.key)
  if not doc then return nil, why or fault.new("NoSuchKey", nil, { { "Key", op.key } }) end
  return { status = 200, headers = {}, body = xml.document("Tagging", { "<TagSet></TagSet>" }) }
end

for name, code in pairs {
  no_policy = "NoSuchBucketPolicy", no_cors = "NoSuchCORSConfiguration",
  no_lifecycle = "NoSuchLifecycleConfiguration", no_tagging = "NoSuchTagSet",
  no_encryption = "ServerSideEncryptionConfigurationNotFoundError",
} do
  _M[name] = function() return fault.fail(code) end
end

--- Sees that the indexes can be read, and makes anew one that cannot; before
-- the first request.
-- @tparam table store
-- @return true, or nil and why
function _M.repair(store)
  for _, bucket in ipairs(_M.names(store)) do
    local index = store:index(bucket)
    if not index:read_map() then
      local keys, objects = {}, store.layout:bucket(bucket) .. "/objects"
      for _, group in ipairs(files.list(objects) or {}) do
        for _, name in ipairs(files.list(objects .. "/" .. group) or {}) do
          local doc = document.read(objects .. "/" .. group .. "/" .. name)
          keys[#keys + 1] = doc and doc.key
        end
      end
      local ok, why = index:rebuild(keys)
      if not ok then return nil, why end
    end
  end
  return true
end

--- The names of all buckets.
-- @tparam table store
-- @treturn table list
function _M.names(store)
  local names = {}
  for _, name in ipairs(files.list(store.layout:buckets()) or {}) do
    if lfs.attributes(store.layout:bucket(name), "mode") == "directory" then names[#names + 1] = name end
  end
  return names
end

return _M

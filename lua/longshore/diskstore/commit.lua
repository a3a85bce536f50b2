--- Making objects visible and taking them away, so that a crash at any moment
-- leaves the old object or the new one and nothing that nobody will clean up.
--
-- What is about to appear is first announced by its document in `pending/`;
-- then its data gets its place; the rename of the document to where readers
-- look is the commit. What goes keeps its document in `trash/` until its data
-- is gone. The janitor (longshore.diskstore.sweep) finishes both.
--
-- Writers to one key take turns under the key's lock, where the conditions of
-- the request are looked at as well. Locks are taken in this order: upload,
-- bucket, key, index.
--
-- Room: diskstore.
-- @module longshore.diskstore.commit
local core = require "longshore.core"
local document = require "longshore.diskstore.document"
local fault = require "longshore.diskstore.fault"
local files = require "longshore.diskstore.files"
local lfs = require "lfs"

local _M = {}

-- fsync of a folder, where the store is durable.
local function settle(store, folder)
  if not store.durable then return true end
  return core.fsync(folder)
end

--- The document of a visible object.
-- @tparam table store
-- @tparam string bucket
-- @tparam string key
-- @treturn table doc
-- @return[2] nil where there is none
-- @treturn[2] table|nil fault where it could not be read
function _M.find(store, bucket, key)
  local path = store.layout:object(bucket, key)
  local doc, why = document.read(path)
  if doc then
    if doc.key == key then return doc end
    return nil, fault.from_io(path .. " is the document of another key")
  end
  if files.is_missing(why) then return nil end
  return nil, fault.from_io(why)
end

--- Runs `fn(old)` under the locks of a bucket and a key; `old` is the visible
-- document or nil.
-- @tparam table store
-- @tparam string bucket
-- @tparam string key
-- @tparam function fn
-- @return what fn returned, or nil and a fault
function _M.with_key(store, bucket, key, fn)
  local layout = store.layout
  local result, why = files.locked(layout:bucket(bucket) .. "/lock", "shared", function()
    return files.locked(layout:key_lock(bucket, key), "exclusive", function()
      local old, err = _M.find(store, bucket, key)
      if err then return nil, err end
      return fn(old)
    end)
  end)
  if result == nil and why then
    if files.is_missing(why) then return fault.fail("NoSuchBucket", nil, { { "BucketName", bucket } }) end
    return nil, fault.from_io(why)
  end
  return result, why
end

-- The old object's document gets a second name in trash/. Called under the
-- key's lock; what is in trash/ and still visible is no trash (sweep looks).
local function retire(store, old)
  local path = store.layout:object(old.bucket, old.key)
  local ok, why = lfs.link(path, store.layout:trash(old.id))
  if ok or tostring(why):find("File exists", 1, true) then return true end
  -- A file system without hard links: a copy says the same.
  return document.write(store.layout:trash(old.id), old, store.durable)
end

-- A key that is new to the bucket: it gets into the index before its document
-- appears, and the document's folder is made.
local function introduce(store, doc, parent)
  local ok, why = store:index(doc.bucket):add(doc.key)
  if not ok or lfs.attributes(parent, "mode") then return ok, why end
  ok, why = files.make_folder(parent)
  if not ok then return nil, why end
  return settle(store, parent .. "/..")
end

--- Announces an object: from here on a crash leaves nothing behind for ever.
-- @tparam table store
-- @tparam table doc
-- @tparam string kind "put" or "complete"
-- @treturn string path of the pending document
-- @return[2] nil
-- @treturn[2] table fault
function _M.announce(store, doc, kind)
  local path = store.layout:pending(doc.id .. "." .. kind)
  local ok, why = document.write(path, doc, store.durable)
  if not ok then return nil, fault.from_io(why) end
  return path
end

--- Makes an announced object visible, if `check(old)` finds no fault.
-- @tparam table store
-- @tparam table doc
-- @tparam string pending what `announce` returned
-- @tparam[opt] function check(old) returns a fault or nil; runs under the key's lock
-- @return true
-- @return[2] nil
-- @treturn[2] table fault; the pending document is still there
function _M.publish(store, doc, pending, check)
  return _M.with_key(store, doc.bucket, doc.key, function(old)
    local refused = check and check(old)
    if refused then return nil, refused end
    local path, parent = store.layout:object(doc.bucket, doc.key)
    local make_way = old and retire or introduce
    local ok, why = make_way(store, old or doc, parent)
    if not ok then return nil, why end
    ok, why = os.rename(pending, path)
    if not ok then return nil, why end
    return settle(store, parent)
  end)
end

--- Puts a finished body in its place: the spooled file is renamed, not copied.
-- @tparam table store
-- @tparam string from path of the spooled file
-- @tparam string to path inside the store
-- @tparam string parent folder of `to`
-- @return true, or nil and a fault
function _M.place(store, from, to, parent)
  local ok, why = true, nil
  if store.durable then ok, why = core.fsync(from) end
  if ok then ok, why = os.rename(from, to) end
  if ok then ok, why = settle(store, parent) end
  if not ok then return nil, fault.from_io(why) end
  return true
end

--- Makes an object of one file (or of no bytes) visible.
-- @tparam table store
-- @tparam table doc with id, size; `file` is set here
-- @tparam string|nil from path of the file that becomes its data
-- @tparam[opt] function check(old)
-- @return true, or nil and a fault; on a fault nothing is left
function _M.put(store, doc, from, check)
  local layout = store.layout
  doc.parts = 0
  doc.file = doc.size > 0 and layout:data_name(doc.id) or nil
  local pending, err = _M.announce(store, doc, "put")
  if not pending then return nil, err end
  local ok = true
  if doc.file then ok, err = _M.place(store, from, layout:data(doc.id), layout:data_parent(doc.id)) end
  if ok then ok, err = _M.publish(store, doc, pending, check) end
  if ok then return true end
  files.remove_tree(layout:data(doc.id))
  os.remove(pending)
  return nil, err
end

--- Takes an object away.
-- @tparam table store
-- @tparam string bucket
-- @tparam string key
-- @tparam[opt] function check(old) returns a fault or nil
-- @treturn boolean whether there was one
-- @return[2] nil
-- @treturn[2] table fault
function _M.delete(store, bucket, key, check)
  return _M.with_key(store, bucket, key, function(old)
    local refused = check and check(old)
    if refused then return nil, refused end
    if not old then return false end
    local path, parent = store.layout:object(bucket, key)
    local ok, why = os.rename(path, store.layout:trash(old.id))
    if not ok then return nil, why end
    -- A key too many in the index does no harm: listing looks at the documents.
    store:index(bucket):remove(key)
    ok, why = settle(store, parent)
    if not ok then return nil, why end
    return true
  end)
end

return _M

--- Resumable sessions: an object that arrives in chunks, one after another.
--
-- A session begins with its first request; its id, which nobody can guess, says
-- what it is for (see `longshore.sessions`). Its document, `sessions/<hash>`, says
-- how far it is: the chunks are files in `data/<xx>/<id>/` like the parts of a
-- multipart upload, each put into place by a rename, and count only once the
-- document counts them. So a crash at any moment leaves the session at the end
-- of a chunk, and the client asks where that is. After the last byte a
-- manifest makes the chunks an object, which becomes visible by one rename; no byte is
-- copied. Requests to one session take turns under its lock.
--
-- A chunk that begins before the end of what is here was sent again: what is known of it is
-- passed over. One that begins behind the end is not kept; the answer says where to go on.
-- A body without Content-Range is the whole object, whatever came before.
--
-- The document stays until the session's time is over, so that a repeated last
-- request, or a question, is answered: finished with 200, cancelled with 410.
--
-- Room: diskstore.
-- @module longshore.diskstore.sessions
local attributes = require "longshore.diskstore.attributes"
local blob = require "longshore.diskstore.blob"
local checksums = require "longshore.diskstore.checksums"
local commit = require "longshore.diskstore.commit"
local core = require "longshore.core"
local document = require "longshore.diskstore.document"
local fault = require "longshore.diskstore.fault"
local files = require "longshore.diskstore.files"
local json = require "longshore.json"
local layout = require "longshore.diskstore.layout"
local lfs = require "lfs"
local objects = require "longshore.diskstore.objects"
local uploads = require "longshore.diskstore.uploads"

local _M = {}

-- What names of chunks can count.
local MAX_CHUNKS = 99999

local function document_path(store, op)
  return store.layout:session(op.session)
end

-- The session's document: as it is, or of one that begins.
local function load(store, op)
  local doc, why = document.read(document_path(store, op))
  if doc then return doc end
  if not files.is_missing(why) then return nil, fault.from_io(why) end
  if not store:has_bucket(op.bucket) then
    return fault.fail("NoSuchBucket", nil, { { "BucketName", op.bucket } })
  end
  local headers
  headers, why = attributes.take { ["content-type"] = op.headers["content-type"] }
  if not headers then return nil, why end
  return { kind = "session", id = layout.new_id(), bucket = op.bucket, key = op.key, size = 0, parts = 0,
    modified = store.clock.now(), headers = headers, fresh = true,
    checksums = { state = "open", expires = ("%.0f"):format(op.expires_at) } }
end

-- Replaces the document, as a whole.
local function save(store, op, doc)
  local path = document_path(store, op)
  local pending = store.layout:pending(layout.new_id() .. ".session")
  doc.fresh = nil
  local ok, why = document.write(pending, doc, store.durable)
  if ok then ok, why = os.rename(pending, path) end
  if ok and store.durable then ok, why = core.fsync(store.layout.folder .. "/sessions") end
  if not ok then
    os.remove(pending)
    return nil, fault.from_io(why)
  end
  return true
end

local function finished(doc, crc)
  return { status = 200, headers = {
    ["content-type"] = "application/json", etag = '"' .. doc.etag .. '"',
    -- Of this request's bytes; the whole object's is in the body.
    ["x-amz-checksum-crc32c"] = crc and core.crc32c_base64(crc) or nil,
  }, body = json.encode { kind = "storage#object", bucket = doc.bucket, name = doc.key,
    size = ("%.0f"):format(doc.size), crc32c = core.crc32c_base64(doc.crc32c), etag = doc.etag } }
end

local function unfinished(doc, crc)
  return { status = 308, headers = {
    range = doc.size > 0 and ("bytes=0-%.0f"):format(doc.size - 1) or nil,
    ["x-amz-checksum-crc32c"] = crc and core.crc32c_base64(crc) or nil,
  } }
end

-- The object is visible: the document says so for the rest of its time.
local function conclude(store, op, doc, object)
  doc.etag, doc.crc32c, doc.size = object.etag, object.crc32c, object.size
  doc.checksums.state = "done"
  return save(store, op, doc)
end

-- Makes the chunks that are here an object.
local function assemble(store, op, doc)
  local visible = commit.find(store, doc.bucket, doc.key)
  if visible and visible.id == doc.id then return conclude(store, op, doc, visible) end -- a crash hid it
  local folder = store.layout:data(doc.id)
  local newest, why = uploads.parts(folder)
  if not newest then return nil, fault.from_io(why) end
  local chunks = {}
  for number = 1, doc.parts do
    chunks[number] = newest[number]
    if not chunks[number] then return nil, fault.from_io(folder .. ": a chunk is missing") end
  end
  local object
  object, why = uploads.object(store, doc, uploads.sum(chunks))
  if not object then return nil, fault.from_io(why) end
  if object.size ~= doc.size then return nil, fault.from_io(folder .. ": the chunks do not add up") end
  local pending
  pending, why = commit.announce(store, object, "complete")
  if not pending then return nil, why end
  local ok
  ok, why = commit.publish(store, object, pending)
  if not ok then
    os.remove(pending)
    return nil, why
  end
  return conclude(store, op, doc, object)
end

-- Cuts off what was sent again: the path of a file with the rest.
local function rest_of(store, op, known)
  local path = store.layout:spool() .. "/" .. layout.new_id()
  local output, why = io.open(path, "wb")
  if not output then return nil, fault.from_io(why) end
  local ok
  ok, why = files.append_range(output, op.spooled, known, op.length - known)
  local closed, why_closed = output:close()
  if ok and closed then return path end
  os.remove(path)
  return nil, fault.from_io(why or why_closed)
end

-- The file of the next chunk gets its place; the document counts it.
local function add(store, op, doc, digest, from)
  if doc.parts >= MAX_CHUNKS then
    return fault.fail("InvalidArgument", ("A session takes at most %d chunks; send larger ones."):format(MAX_CHUNKS))
  end
  local folder = store.layout:data(doc.id)
  local part = { number = doc.parts + 1, size = digest.bytes, md5 = digest.md5, crc32c = digest.crc32c }
  local group = folder .. "/" .. blob.group(part.number)
  local ok, why = files.make_folder(group)
  if ok and store.durable then ok, why = core.fsync(folder) end
  if not ok then return nil, fault.from_io(why) end
  ok, why = commit.place(store, from, group .. "/" .. blob.part_name(part, store.clock.now()), group)
  if not ok then return nil, why end
  doc.parts, doc.size = part.number, doc.size + part.size
  return save(store, op, doc)
end

-- The whole object in one body.
local function take_whole(store, op, doc, digest)
  local object = { kind = "object", id = layout.new_id(), bucket = doc.bucket, key = doc.key, size = digest.bytes,
    etag = core.hex(digest.md5), crc32c = digest.crc32c, modified = store.clock.now(), headers = doc.headers,
    checksums = checksums.kept {} }
  local ok, why = commit.put(store, object, op.spooled)
  if not ok then return nil, why end
  files.remove_tree(store.layout:data(doc.id))
  ok, why = conclude(store, op, doc, object)
  if not ok then return nil, why end
  return finished(doc, digest.crc32c)
end

-- A chunk, or a question.
local function take_chunk(store, op, doc, digest)
  local range = op.range
  if range.total and doc.checksums.total and tonumber(doc.checksums.total) ~= range.total then
    return fault.fail("InvalidArgument", ("The total was %s before and is %.0f now."):format(doc.checksums.total,
      range.total))
  end
  if range.total and range.total < doc.size then
    return fault.fail("InvalidArgument", ("The total is less than the %.0f bytes that are here."):format(doc.size))
  end
  if range.total and not range.query then doc.checksums.total = ("%.0f"):format(range.total) end
  local crc
  if not range.query and range.first <= doc.size and range.last >= doc.size then
    local known, from, ok, why = doc.size - range.first, op.spooled
    crc = digest.crc32c
    if known > 0 then
      from, why = rest_of(store, op, known)
      if from then digest, why = core.digest_file(from, { md5 = true, crc32c = true }) end
      if not from or not digest then return nil, fault.from_io(why) end
    end
    ok, why = add(store, op, doc, digest, from)
    if not ok then
      if from ~= op.spooled then os.remove(from) end
      return nil, why
    end
  end
  if range.total ~= doc.size then return unfinished(doc, crc) end
  if doc.size == 0 then return take_whole(store, op, doc, { bytes = 0, md5 = core.md5(""), crc32c = 0 }) end
  local ok, why = assemble(store, op, doc)
  if not ok then return nil, why end
  return finished(doc, crc)
end

-- The folder with the lock; it is there before the document.
local function locked(store, op, fn)
  local path = store.layout:session(op.session) .. ".lock"
  local result, why = files.locked(path, "exclusive", fn)
  if result == nil then return nil, fault.from_io(why) end
  return result
end

local function gone(doc)
  return doc.checksums.state == "cancelled"
end

--- PUT: the whole object, a chunk or a question.
function _M.session_put(store, op)
  local digest, why
  if not (op.range and op.range.query) then
    digest, why = objects.digest(op)
    if not digest then return nil, why end
  end
  return locked(store, op, function()
    local doc, err = load(store, op)
    if not doc then return nil, err end
    if gone(doc) then return fault.fail("SessionGone") end
    if doc.checksums.state == "done" then return finished(doc) end
    if not op.range then return take_whole(store, op, doc, digest) end
    if doc.fresh then
      local folder = store.layout:data(doc.id)
      local ok
      ok, err = save(store, op, doc)
      if ok then ok, err = files.make_folder(folder) end
      if ok and store.durable then ok, err = core.fsync(store.layout:data_parent(doc.id)) end
      if not ok then return nil, fault.from_io(err) end
    elseif not lfs.attributes(store.layout:data(doc.id), "mode") then
      -- A crash came between the document and its folder.
      local ok
      ok, err = files.make_folder(store.layout:data(doc.id))
      if not ok then return nil, fault.from_io(err) end
    end
    return take_chunk(store, op, doc, digest)
  end)
end

--- DELETE: the session is over, and what it has goes. What is an object already stays one.
function _M.session_delete(store, op)
  return locked(store, op, function()
    local doc, err = load(store, op)
    if not doc then return nil, err end
    if gone(doc) then return fault.fail("SessionGone") end
    if doc.checksums.state == "done" then return { status = 204, headers = {} } end
    doc.checksums.state = "cancelled"
    local ok
    ok, err = save(store, op, doc)
    if not ok then return nil, err end
    local visible = commit.find(store, doc.bucket, doc.key)
    if not (visible and visible.id == doc.id) then files.remove_tree(store.layout:data(doc.id)) end
    return { status = 499, headers = {} }
  end)
end

--- The janitor's part: whether a session's document may go, and with it what it has.
-- @tparam table store
-- @tparam string name of the document
-- @tparam number now
-- @treturn boolean whether its time is over; nil when it could not be removed
function _M.sweep_session(store, name, now)
  local path = store.layout:session(name)
  local doc = document.read(path)
  if doc and now < (tonumber(doc.checksums.expires) or 0) + 3600 then return false end
  return files.locked(path .. ".lock", "exclusive", function()
    if doc then
      local visible, err = commit.find(store, doc.bucket, doc.key)
      if err then return nil end
      if not (visible and visible.id == doc.id) and not files.read(store.layout:trash(doc.id))
        and not files.remove_tree(store.layout:data(doc.id)) then
        return nil
      end
    end
    os.remove(path)
    os.remove(path .. ".lock")
    return true
  end)
end

return _M

--- The embedded object store: an S3 subset over files in a folder.
--
-- This room is plain Lua: it takes an operation that was parsed
-- (longshore.diskstore.request) and authenticated (longshore.diskstore.auth),
-- does it, and returns a response. Whoever hosts it brings HTTP: nginx does
-- (longshore.nginx.diskstore), a spec may.
--
--     local store = assert(require("longshore.diskstore").new { folder = "/data" })
--     assert(store:prepare { "longshore" })
--     local response = store:handle(op)
--
-- A response has status, headers, and one of: `body` (a string), `file` (a
-- path inside the folder) or `parts` (an id, to be read with `store:read`),
-- the latter two with `range` {first, last} or nil for the whole.
--
-- Room: diskstore.
-- @module longshore.diskstore
local blob = require "longshore.diskstore.blob"
local chunked = require "longshore.diskstore.chunked"
local clock = require "longshore.clock"
local errors = require "longshore.errors"
local fault = require "longshore.diskstore.fault"
local files = require "longshore.diskstore.files"
local index = require "longshore.diskstore.index"
local layout = require "longshore.diskstore.layout"
local lfs = require "lfs"
local sweep = require "longshore.diskstore.sweep"
local xml = require "longshore.diskstore.xml"

local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.diskstore" }

local MAX_XML = 8 * 1024 * 1024

local operations = {}
for _, name in ipairs { "objects", "multipart", "complete", "listing", "buckets", "sessions" } do
  for operation, fn in pairs(require("longshore.diskstore." .. name)) do operations[operation] = fn end
end

--- Opens a store. Nothing is read or written before `prepare` or `handle`.
-- @tparam table options folder; region ("us-east-1"), durable (wait for the disk: true), min_part (bytes, 5
-- MiB), max_parts (10000), clock
-- @treturn table store
function _M.new(options)
  assert(type(options.folder) == "string", "folder: string expected")
  return setmetatable({
    layout = layout.new(options.folder),
    region = options.region or "us-east-1",
    durable = options.durable ~= false,
    min_part = options.min_part or 5 * 1024 * 1024,
    max_parts = options.max_parts or 10000,
    clock = options.clock or clock.system,
    owner = "longshore",
  }, mt)
end

--- Makes the folder ready: its parts, and the buckets that must be there.
-- @tparam[opt] table buckets names
-- @return true
-- @return[2] nil
-- @treturn[2] table err
function methods:prepare(buckets)
  local lock, why = self.layout:preparing()
  if lock then
    return files.locked(lock, "exclusive", function() return self:make_ready(buckets) end)
  end
  return errors.fail("io", ("the disk store's folder: %s"):format(tostring(why)), { field = "folder" })
end

-- The same, while nobody else does it.
function methods:make_ready(buckets)
  local ok, why = self.layout:prepare()
  if not ok then
    return errors.fail("io", ("the disk store's folder: %s"):format(tostring(why)), { field = "folder" })
  end
  local all = require "longshore.diskstore.buckets"
  for _, name in ipairs(buckets or {}) do
    local made
    made, why = all.make(self, name)
    if made == nil then return nil, why end
  end
  return all.repair(self)
end

--- Whether a bucket exists.
-- @tparam string bucket
-- @treturn boolean
function methods:has_bucket(bucket)
  return lfs.attributes(self.layout:bucket(bucket), "mode") == "directory"
end

--- The index of a bucket.
-- @tparam string bucket
-- @tparam[opt] string folder where it is not in its place yet
-- @treturn table longshore.diskstore.index
function methods:index(bucket, folder)
  return index.new(folder or self.layout:index(bucket), { durable = self.durable })
end

--- `<name>` with the owner of everything here.
-- @tparam string name
-- @treturn string
function methods:owner_xml(name)
  return "<" .. name .. ">" .. xml.element("ID", self.owner) .. xml.element("DisplayName", self.owner)
    .. "</" .. name .. ">"
end

-- Takes a body apart that came in chunks: op goes on with the decoded one.
local function decode(self, op)
  local how = op.chunked
  if how.length == 0 and not op.spooled then return true end
  local decoded = self.layout:spool() .. "/" .. layout.new_id()
  local trailers, why = chunked.decode(op.spooled, decoded, how)
  if not trailers then return nil, why end
  op.spooled, op.length = decoded, how.length
  local announced = (op.headers["x-amz-trailer"] or ""):lower()
  for name in announced:gmatch("[^,%s]+") do
    if not trailers[name] then
      return fault.fail("IncompleteBody", "A trailer that was announced did not come.", { { "Trailer", name } })
    end
    op.headers[name] = trailers[name]
  end
  return true
end

-- The text of a body that is a document.
local function read_body(op)
  if op.text then return op.text end
  if not op.spooled then return "" end
  local size = lfs.attributes(op.spooled, "size")
  if size and size > MAX_XML then return fault.fail("EntityTooLarge") end
  local digest, why = require("longshore.diskstore.objects").digest(op)
  if not digest then return nil, why end
  return files.read(op.spooled)
end

--- Looks whether an operation with a large body will be refused anyway, so
-- that the body need not be sent: no such bucket, no such upload, a condition
-- that does not hold now.
-- @tparam table op
-- @return true
-- @return[2] nil
-- @treturn[2] table fault
function methods:precheck(op)
  if op.name == "upload_part" then return operations.check_upload(self, op) end
  if not self:has_bucket(op.bucket) then
    return fault.fail("NoSuchBucket", nil, { { "BucketName", op.bucket } })
  end
  return operations.check_write(self, op)
end

--- Does an operation.
-- @tparam table op of longshore.diskstore.request, with `spooled` (path of the body or nil), `length`
-- (what Content-Length said), `payload_hash` (what was signed of the body) and `chunked` (how it is to be decoded)
-- @treturn table response
-- @return[2] nil
-- @treturn[2] table fault
function methods:handle(op)
  local fn = assert(operations[op.name], "unknown operation")
  local body, why
  if op.body == "xml" then
    body, why = read_body(op)
    if not body then return nil, fault.from_io(why) end
  end
  if not op.chunked then return fn(self, op, body) end
  local came = op.spooled
  local ok, response = decode(self, op)
  if ok then
    response, why = fn(self, op)
  else
    response, why = nil, response
  end
  if op.spooled ~= came then os.remove(op.spooled) end
  return response, why
end

--- Bytes of an object of parts.
-- @tparam string id the response's `parts`
-- @tparam number offset
-- @tparam number length at most; the answer may be shorter, never empty
-- @treturn string
-- @return[2] nil
-- @treturn[2] string why
function methods:read(id, offset, length)
  return blob.read(self.layout:data(id), offset, length)
end

--- One round of the janitor.
-- @tparam[opt] table options of longshore.diskstore.sweep
-- @treturn table report
function methods:sweep(options)
  return sweep.run(self, options)
end

_M.MAX_XML = MAX_XML

return _M

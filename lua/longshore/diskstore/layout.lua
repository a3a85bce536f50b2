--- Where things lie in the disk store's folder.
--
--     FORMAT                     what this folder is, and its version
--     spool/                     nginx's request bodies, before they are checked
--     data/<xx>/<id>             an object's bytes: a file, or for an object of
--                                parts a folder with them and their manifest
--     pending/<id>               documents of objects about to become visible
--     trash/<id>                 documents of objects replaced or deleted,
--                                whose data has still to go
--     sessions/<hash>            the documents of resumable sessions, each with its lock
--     locks/<xx>                 one lock for every 1/256 of the keys
--     buckets/<bucket>/bucket    the bucket's own document
--     buckets/<bucket>/lock      held shared by commits, exclusively by DeleteBucket
--     buckets/<bucket>/objects/<xx>/<hash>   the documents of the visible objects
--     buckets/<bucket>/index/    the keys in byte order (longshore.diskstore.index)
--     buckets/<bucket>/uploads/<id>          the documents of open multipart uploads
--
-- A name that a client chose is never a file name: keys become their SHA-256,
-- ids are made here, and a bucket's name has passed `bucket_name`.
--
-- Room: diskstore.
-- @module longshore.diskstore.layout
local core = require "longshore.core"
local files = require "longshore.diskstore.files"

local _M = {}

local FORMAT = "longshore disk store 1\n"

local methods = {}
local mt = { __index = methods }

--- Whether a text is a bucket name that S3 and this store allow.
-- @tparam string name
-- @treturn boolean
function _M.bucket_name(name)
  return #name >= 3 and #name <= 63
    and name:find("^[a-z0-9][a-z0-9.-]*[a-z0-9]$") ~= nil
    and not name:find("..", 1, true)
    and not name:find(".-", 1, true)
    and not name:find("-.", 1, true)
    and not name:find("^%d+%.%d+%.%d+%.%d+$")
end

--- A fresh id: 32 hexadecimal digits, the microseconds since 1970 and 72 bits
-- that nobody can guess. Ids sort by age.
-- @treturn string
function _M.new_id()
  return ("%014x"):format(math.floor(core.now() * 1e6)) .. core.hex(core.random(9))
end

--- Whether a text has the form of an id.
-- @tparam string text
-- @treturn boolean
function _M.is_id(text)
  return #text == 32 and not text:find("[^0-9a-f]")
end

--- The layout of a folder; nothing is read or written.
-- @tparam string folder
-- @treturn table layout
function _M.new(folder)
  return setmetatable({ folder = folder }, mt)
end

--- Makes the folders that are missing. Call it under `preparing`.
-- @return true, or nil and why (also where the folder is something else's)
function methods:prepare()
  local ok, why
  local format = files.read(self.folder .. "/FORMAT")
  if not format then
    for _, name in ipairs(files.list(self.folder) or {}) do
      if name ~= "spool" and name:sub(1, 1) ~= "." then
        return nil, ("%s is neither empty nor a disk store's folder (it contains %s)"):format(self.folder, name)
      end
    end
  elseif format ~= FORMAT then
    return nil, ("%s was made by another version of the disk store (%s)"):format(self.folder,
      (format:gsub("%c", " ")))
  end
  for _, name in ipairs { "spool", "data", "pending", "trash", "sessions", "locks", "buckets" } do
    ok, why = files.make_folder(self.folder .. "/" .. name)
    if not ok then return nil, why end
  end
  for i = 0, 255 do
    ok, why = files.make_folder(("%s/data/%02x"):format(self.folder, i))
    if not ok then return nil, why end
  end
  if not format then return files.write(self.folder .. "/FORMAT", FORMAT, true) end
  return true
end

--- The lock of who makes the folder ready: workers start at the same time. The
-- folder itself is made here.
-- @treturn string path
-- @return[2] nil and why
function methods:preparing()
  local ok, why = files.make_folder(self.folder)
  if not ok then return nil, why end
  return self.folder .. "/.preparing"
end

--- The bytes of the object (or the folder of the upload) with this id.
function methods:data(id)
  return self.folder .. "/" .. self:data_name(id)
end

--- The same, seen from the store's folder.
function methods.data_name(_, id)
  return "data/" .. id:sub(-2) .. "/" .. id
end

--- The folder that contains `data(id)`.
function methods:data_parent(id)
  return self.folder .. "/data/" .. id:sub(-2)
end

function methods:pending(id)
  return self.folder .. "/pending/" .. id
end

function methods:trash(id)
  return self.folder .. "/trash/" .. id
end

function methods:session(hash)
  return self.folder .. "/sessions/" .. hash
end

function methods:spool()
  return self.folder .. "/spool"
end

function methods:buckets()
  return self.folder .. "/buckets"
end

function methods:bucket(bucket)
  return self.folder .. "/buckets/" .. bucket
end

--- The document of an object, and the folder it is in.
function methods:object(bucket, key)
  local hash = core.hex(core.sha256(key))
  local parent = ("%s/buckets/%s/objects/%s"):format(self.folder, bucket, hash:sub(1, 2))
  return parent .. "/" .. hash, parent
end

function methods:key_lock(bucket, key)
  return ("%s/locks/%s"):format(self.folder, core.hex(core.sha256(bucket .. "/" .. key)):sub(1, 2))
end

function methods:index(bucket)
  return self.folder .. "/buckets/" .. bucket .. "/index"
end

function methods:uploads(bucket)
  return self.folder .. "/buckets/" .. bucket .. "/uploads"
end

function methods:upload(bucket, id)
  return self.folder .. "/buckets/" .. bucket .. "/uploads/" .. id
end

return _M

--- The bytes of an object: nothing, one file, or parts that a manifest lists.
--
-- A manifest is a file of records of equal length, one for each part: the
-- offset at which the part begins, and the part's file. Finding a byte is a
-- binary search with a few reads, whatever the number of parts.
--
-- A part's file name carries all that is known of the part, so that listing
-- parts and completing an upload read one folder and no documents:
--
--     <number %100>/<number>-<microseconds>-<random>-<size>-<md5>-<crc32c>
--
-- Room: diskstore.
-- @module longshore.diskstore.blob
local core = require "longshore.core"
local files = require "longshore.diskstore.files"

local _M = {}

local NAME = "%05d-%014x-%s-%012x-%s-%08x"
local NAME_PATTERN = "^(%d%d%d%d%d)%-(%x+)%-(%x+)%-(%x+)%-(%x+)%-(%x+)$"
local RECORD = "%016x %s\n"
-- "42/00042-" and the rest of a name, the offset, two separators
local PATH_LENGTH = 3 + 5 + 1 + 14 + 1 + 8 + 1 + 12 + 1 + 32 + 1 + 8
local RECORD_LENGTH = 16 + 1 + PATH_LENGTH + 1

--- The folder inside an upload's that has the part of this number.
-- @tparam number number
-- @treturn string
function _M.group(number)
  return ("%02d"):format(number % 100)
end

--- The name of a part's file.
-- @tparam table part number, size, md5 (raw), crc32c
-- @tparam number now seconds
-- @treturn string
function _M.part_name(part, now)
  return NAME:format(part.number, math.floor(now * 1e6), core.hex(core.random(4)), part.size,
    core.hex(part.md5), part.crc32c)
end

local function integer(hex)
  return tonumber(hex, 16) -- an integer on both Luas
end

--- What a part's file name says.
-- @tparam string name without its folder
-- @treturn table part: number, stamp (compares by age), size, md5 (raw), etag, crc32c, modified, path; or nil
function _M.parse_name(name)
  local number, stamp, random, size, md5, crc = name:match(NAME_PATTERN)
  if not number then return nil end
  number = tonumber(number, 10)
  return {
    number = number,
    stamp = stamp .. random,
    size = integer(size),
    md5 = core.unhex(md5),
    etag = md5,
    crc32c = integer(crc),
    modified = integer(stamp) / 1e6,
    path = _M.group(number) .. "/" .. name,
  }
end

--- Writes the manifest of some parts.
-- @tparam string path
-- @tparam table parts in order, each with path and size
-- @tparam boolean durable
-- @return true, or nil and why
function _M.write_manifest(path, parts, durable)
  local lines, offset = {}, 0
  for i, part in ipairs(parts) do
    lines[i] = RECORD:format(offset, part.path)
    offset = offset + part.size
  end
  return files.write(path, table.concat(lines), durable)
end

-- Record `i` (from 0) of an open manifest: offset, path.
local function record(f, i)
  f:seek("set", i * RECORD_LENGTH)
  local line = f:read(RECORD_LENGTH)
  if not line or #line < RECORD_LENGTH then return nil end
  local offset, path = line:match("^(%x+) (%d%d/%S+)\n$")
  if not offset then return nil end
  return integer(offset), path
end

--- The part of this number.
-- @tparam string folder of the object's data
-- @tparam number i its place in the manifest, from 1
-- @treturn table part with offset, or nil
function _M.part_at(folder, i)
  local f = io.open(folder .. "/manifest", "rb")
  if not f then return nil end
  local offset, path = record(f, i - 1)
  f:close()
  if not offset then return nil end
  local part = _M.parse_name(path:sub(4))
  part.offset = offset
  return part
end

--- Where the bytes of a range are.
-- @tparam string folder of the object's data
-- @tparam number offset
-- @tparam number length more than 0
-- @tparam[opt] number most segments at most
-- @treturn table list of {path, offset, length}, in order
-- @return[2] nil and why
function _M.segments(folder, offset, length, most)
  local f, why = io.open(folder .. "/manifest", "rb")
  if not f then return nil, why end
  local count = f:seek("end") / RECORD_LENGTH
  local low, high = 0, math.floor(count) - 1
  while low < high do
    local middle = math.ceil((low + high) / 2)
    local begins = record(f, middle)
    if not begins then f:close() return nil, folder .. "/manifest is damaged" end
    if begins <= offset then low = middle else high = middle - 1 end
  end
  local segments = {}
  while length > 0 and #segments < (most or math.huge) do
    local begins, path = record(f, low)
    local part = begins and _M.parse_name(path:sub(4))
    if not part then f:close() return nil, folder .. "/manifest ends too early" end
    local inside = offset - begins
    local n = math.min(part.size - inside, length)
    if n > 0 then segments[#segments + 1] = { path = folder .. "/" .. path, offset = inside, length = n } end
    offset, length, low = offset + n, length - n, low + 1
  end
  f:close()
  return segments
end

--- Reads some bytes of an object of parts.
-- @tparam string folder of the object's data
-- @tparam number offset
-- @tparam number length at most this many; the answer may be shorter, never empty
-- @treturn string
-- @return[2] nil and why
function _M.read(folder, offset, length)
  local segments, why = _M.segments(folder, offset, length, 1)
  if not segments then return nil, why end
  local segment = segments[1]
  if not segment then return nil, folder .. ": nothing at this offset" end
  local f
  f, why = io.open(segment.path, "rb")
  if not f then return nil, why end
  f:seek("set", segment.offset)
  local data = f:read(segment.length)
  f:close()
  if not data or #data ~= segment.length then return nil, segment.path .. " is shorter than it should be" end
  return data
end

return _M

--- The keys of a bucket in byte order, so that a page of a listing reads a
-- page's worth of keys and not the bucket.
--
-- The key space is cut into shards, each a file of lines `+key` and `-key`:
-- first a sorted snapshot, then what was added and removed since. `map` names
-- the shards with the smallest key that each may hold. When what was appended
-- outgrows `LOG_BYTES`, the shard is written anew, and cut when its snapshot
-- outgrows `SHARD_BYTES`: new files first, then a new map by rename, so that a
-- reader sees the old shards or the new ones.
--
-- The index names *candidates*: a key is added before its document appears and
-- removed after it went, so a crash leaves at most a key too many, never one
-- too few. Who lists looks at the documents.
--
-- Cost: a key that is new to the bucket is one appended line (two lines when
-- it goes); a page reads the map (about 60 bytes for every 1,000 keys) and the
-- shards it touches (at most some 200 KiB each, 1,000 keys of 60 bytes are 60
-- KiB). Amortised writing is about four times the key's length.
--
-- Room: diskstore.
-- @module longshore.diskstore.index
local core = require "longshore.core"
local files = require "longshore.diskstore.files"

local _M = {}

local LOG_BYTES = 65536
local SHARD_BYTES = 131072
-- Ends a line that was cut; no escaped key has it.
local CUT = "\1"

local methods = {}
local mt = { __index = methods }

local function escape(key)
  return (key:gsub("[\1-\32%%\127]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function unescape(text)
  if not text:find("%", 1, true) then return text end
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

--- The index in a folder, which `create` has made.
-- @tparam string folder
-- @tparam[opt] table options durable: wait for the disk; log_bytes, shard_bytes: smaller limits for specs
-- @treturn table index
function _M.new(folder, options)
  options = options or {}
  return setmetatable({
    folder = folder,
    durable = options.durable,
    log_bytes = options.log_bytes or LOG_BYTES,
    shard_bytes = options.shard_bytes or SHARD_BYTES,
  }, mt)
end

local function shard_name(bytes)
  return ("s-%s-%.0f"):format(core.hex(core.random(8)), bytes)
end

function methods:path(name)
  return self.folder .. "/" .. name
end

-- Puts a new map in the place of the old one.
function methods:write_map(map)
  local lines = {}
  for _, row in ipairs(map) do lines[#lines + 1] = row.name .. " " .. escape(row.from) .. "\n" end
  local fresh = self:path("map." .. core.hex(core.random(8)))
  local ok, why = files.write(fresh, table.concat(lines), self.durable)
  if not ok then return nil, why end
  ok, why = os.rename(fresh, self:path("map"))
  if not ok then
    os.remove(fresh)
    return nil, why
  end
  if self.durable then return core.fsync(self.folder) end
  return true
end

--- Makes the folder and an empty index in it.
-- @return true, or nil and why
function methods:create()
  local ok, why = files.make_folder(self.folder)
  if not ok then return nil, why end
  local name = shard_name(0)
  ok, why = files.write(self:path(name), "", self.durable)
  if not ok then return nil, why end
  return self:write_map { { name = name, from = "" } }
end

--- Makes the index anew, when its map is lost (a power cut without fsync).
-- Nobody may be writing meanwhile: call it before the first request.
-- @tparam table keys all that are in the bucket, in any order
-- @return true, or nil and why
function methods:rebuild(keys)
  return files.locked(self:path("lock"), "exclusive", function()
    table.sort(keys)
    local map, old = {}, files.list(self.folder) or {}
    local i = 1
    repeat
      local lines, bytes, from = {}, 0, #map == 0 and "" or keys[i]
      while keys[i] and bytes < self.shard_bytes / 2 do
        lines[#lines + 1] = "+" .. escape(keys[i]) .. "\n"
        bytes, i = bytes + #lines[#lines], i + 1
      end
      map[#map + 1] = { name = shard_name(bytes), from = from }
      local ok, why = files.write(self:path(map[#map].name), table.concat(lines), self.durable)
      if not ok then return nil, why end
    until not keys[i]
    local ok, why = self:write_map(map)
    if not ok then return nil, why end
    for _, name in ipairs(old) do
      if name ~= "lock" and name ~= "map" then os.remove(self:path(name)) end
    end
    return true
  end)
end

-- Reads the map: list of {name, from}, by `from`.
function methods:read_map()
  local text, why = files.read(self:path("map"))
  if not text then return nil, why end
  local map = {}
  for name, from in text:gmatch("(%S+) ([^\n]*)\n") do
    map[#map + 1] = { name = name, from = unescape(from) }
  end
  if not map[1] then return nil, self.folder .. "/map is empty" end
  return map
end

-- The place in the map of the shard that may hold `key`.
local function find(map, key)
  local low, high = 1, #map
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if map[middle].from <= key then low = middle else high = middle - 1 end
  end
  return low
end

-- Reads a shard: its keys, sorted.
function methods:read_shard(name)
  local text, why = files.read(self:path(name))
  if not text then return nil, why end
  local there = {}
  for sign, key in text:gmatch("([+-])([^\n" .. CUT .. "]+)\n") do
    there[key] = sign == "+" or nil
  end
  local keys = {}
  for key in pairs(there) do keys[#keys + 1] = unescape(key) end
  table.sort(keys)
  return keys
end

-- Writes a shard anew, in pieces when it is large. Called under the lock.
function methods:compact(map, at)
  local keys, why = self:read_shard(map[at].name)
  if not keys then return nil, why end
  local rows, lines, bytes, from = {}, {}, 0, map[at].from
  local function flush()
    local name = shard_name(bytes)
    local ok
    ok, why = files.write(self:path(name), table.concat(lines), self.durable)
    if not ok then return nil end
    rows[#rows + 1] = { name = name, from = from }
    lines, bytes = {}, 0
    return true
  end
  local total = 0
  for i, key in ipairs(keys) do
    keys[i] = { key = key, line = "+" .. escape(key) .. "\n" }
    total = total + #keys[i].line
  end
  local piece = total > self.shard_bytes and self.shard_bytes / 2 or total
  local ok = true
  for _, row in ipairs(keys) do
    if bytes > 0 and bytes + #row.line > piece then
      ok = flush()
      if not ok then break end
      from = row.key
    end
    lines[#lines + 1], bytes = row.line, bytes + #row.line
  end
  -- A shard that holds nothing goes, unless it is the first one.
  if ok and (bytes > 0 or at == 1) then ok = flush() end
  local fresh = {}
  for i, row in ipairs(map) do
    if i == at then
      for _, new in ipairs(rows) do fresh[#fresh + 1] = new end
    else
      fresh[#fresh + 1] = row
    end
  end
  if ok then ok, why = self:write_map(fresh) end
  if not ok then
    for _, row in ipairs(rows) do os.remove(self:path(row.name)) end
    return nil, why
  end
  os.remove(self:path(map[at].name))
  return fresh
end

-- Appends a line to the shard of `key`, under the lock.
function methods:append(sign, key)
  return files.locked(self:path("lock"), "exclusive", function()
    local map, why = self:read_map()
    if not map then return nil, why end
    local at = find(map, key)
    local path = self:path(map[at].name)
    local f
    f, why = io.open(path, "r+b")
    if not f then return nil, why end
    local size = f:seek("end")
    local line = sign .. escape(key) .. "\n"
    -- A line that a crash or a full disk cut must not swallow this one, nor take
    -- another key away: "-ab" of "-abc". The mark makes it no line at all.
    if size > 0 then
      f:seek("set", size - 1)
      if f:read(1) ~= "\n" then line = CUT .. "\n" .. line end
      f:seek("end")
    end
    local ok
    ok, why = f:write(line)
    local closed, why_closed = f:close()
    if not (ok and closed) then return nil, why or why_closed end
    if self.durable then
      ok, why = core.fsync(path)
      if not ok then return nil, why end
    end
    if size + #line - tonumber(map[at].name:match("%-(%d+)$")) > self.log_bytes then
      -- The line is written; a shard that could not be written anew is only longer.
      self:compact(map, at)
    end
    return true
  end)
end

--- Adds a key; call before its document appears.
-- @tparam string key
-- @return true, or nil and why
function methods:add(key)
  return self:append("+", key)
end

--- Removes a key; call after its document went.
-- @tparam string key
-- @return true, or nil and why
function methods:remove(key)
  return self:append("-", key)
end

--- A reader that starts at the first key that is not before `key`.
-- `cursor:next()` gives key after key in byte order, nil at the end, nil and
-- why when something cannot be read; `cursor:seek(key)` goes forward.
-- @tparam string key
-- @treturn table cursor
function methods:cursor(key)
  local index = self
  local cursor = { key = key }
  local keys, i, upper

  -- Loads the shard that may hold cursor.key.
  local function load()
    for _ = 1, 10 do
      local map, why = index:read_map()
      if not map then return nil, why end
      local at = find(map, cursor.key)
      keys, why = index:read_shard(map[at].name)
      if keys then
        upper = map[at + 1] and map[at + 1].from
        i = 1
        while keys[i] and keys[i] < cursor.key do i = i + 1 end
        return true
      end
      -- The shard was written anew between the two reads: look again.
      if not files.is_missing(why) then return nil, why end
    end
    return nil, index.folder .. " changes too fast to be read"
  end

  function cursor.next()
    while true do
      if not keys then
        local ok, why = load()
        if not ok then return nil, why end
      end
      local found = keys[i]
      if found then
        i = i + 1
        cursor.key = found .. "\0"
        return found
      end
      if not upper then return nil end
      cursor.key, keys = upper, nil
    end
  end

  function cursor.seek(_, to)
    if to <= cursor.key then return end
    cursor.key = to
    if keys and (not upper or to < upper) then
      while keys[i] and keys[i] < to do i = i + 1 end
    else
      keys = nil
    end
  end

  return cursor
end

return _M

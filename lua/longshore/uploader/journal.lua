--- The journal of an upload: what the same command needs to go on after a kill.
--
-- One file per upload (source path, destination, name), only ever appended to:
-- a line per event, each with its own CRC32C, so that a line torn by a crash is
-- seen and skipped. Records:
--
-- * `start`   version, destination, name, path, identity of the source (size,
--   mtime, inode): everything before it is void
-- * `session` what the driver wants back to resume, the size of parts
-- * `part`    number, offset, length, token (ETag), CRC32C of a part the store has
-- * `arrived` the result of an upload that is complete, while its command is not:
--   given again, the command does not send it twice
--
-- A line is in the kernel's hands when the call returns, so that kill -9 loses
-- none; it is forced to the disk when a session begins and then at most once a
-- second. No token or secret of the service is written, and no URL but the one of
-- a resumable session, which is all that it can be resumed by; so the file is its
-- owner's alone.
--
-- A lock (a byte range of `FOLDER/locks`, which dies with the process) keeps
-- two processes from resuming one upload at once.
--
-- Room: uploader.
-- @module longshore.uploader.journal
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"
local lfs = require "lfs"

local _M = {}

--- The format that this module writes.
_M.VERSION = 1
-- Seconds between two fsyncs of one journal.
local SYNC_EVERY = 1
-- After so long nobody means the same command any more.
local ARRIVED_SECONDS = 7 * 86400
-- Longer lines are none of ours.
local MAX_LINE = 1024 * 1024
local CHECKS = { crc32c = true, md5 = true, none = true }

local methods = {}
local mt = { __index = methods, __name = "longshore.journal" }

---------------------------------------------------------------------------
-- names and folders

-- Paths are bytes, JSON is UTF-8.
local function encode_path(path)
  return (path:gsub("[%z\1-\31%%\127-\255]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function decode_path(text)
  return (text:gsub("%%(%x%x)", function(h) return string.char(tonumber(h, 16)) end))
end

--- The folder for journals.
-- @tparam[opt] string explicit what the user named
-- @tparam[opt] function getenv os.getenv
-- @treturn[1] string
-- @return[2] nil
-- @treturn[2] table err when there is no home to put it under
function _M.folder(explicit, getenv)
  if explicit then return explicit end
  getenv = getenv or os.getenv
  local state, home = getenv("XDG_STATE_HOME"), getenv("HOME")
  if state and state:sub(1, 1) == "/" then return state .. "/longshore/uploads" end
  if home and home ~= "" then return home .. "/.local/state/longshore/uploads" end
  return errors.fail("io", "there is no HOME to keep a journal in; name a folder with --journal, or use --no-journal")
end

--- A path that does not depend on the current folder.
-- @tparam string path
-- @treturn string
function _M.absolute(path)
  if path:sub(1, 1) ~= "/" then path = lfs.currentdir() .. "/" .. path end
  local parts = {}
  for part in path:gmatch("[^/]+") do
    if part ~= "." then parts[#parts + 1] = part end
  end
  return "/" .. table.concat(parts, "/")
end

local function make_folder(path)
  local at = path:sub(1, 1) == "/" and "" or "."
  for part in path:gmatch("[^/]+") do
    at = at .. "/" .. part
    if not lfs.attributes(at, "mode") then
      local ok, why = lfs.mkdir(at)
      if not ok and not lfs.attributes(at, "mode") then
        return errors.fail("io", ("cannot make the folder %s of the journal: %s; name "
          .. "another with --journal, or use --no-journal"):format(at, why))
      end
    end
  end
  return true
end

---------------------------------------------------------------------------
-- the lock

-- One open file per folder: closing any other handle of it would drop the
-- locks of this process.
local lockers = {}

local function lock(folder, name)
  local path = folder .. "/locks"
  local locker = lockers[folder]
  if locker and not next(locker.held) and not lfs.attributes(path, "mode") then
    locker.file:close()
    locker = nil
  end
  if not locker then
    local file, why = io.open(path, "ab")
    if not file then return errors.fail("io", ("cannot write the journal: %s"):format(why)) end
    locker = { file = file, held = {} }
    lockers[folder] = locker
  end
  local offset = tonumber(name:sub(1, 7), 16)
  local busy = function()
    return errors.fail("busy", "another process is uploading this file to this place just now")
  end
  if locker.held[offset] then return busy() end
  if not lfs.lock(locker.file, "w", offset, 1) then return busy() end
  locker.held[offset] = true
  return function()
    if not locker.held[offset] then return end
    locker.held[offset] = nil
    lfs.unlock(locker.file, offset, 1)
  end
end

---------------------------------------------------------------------------
-- records

local function encode(record)
  local text = json.encode(record)
  return ("%08x %s\n"):format(core.crc32c(text), text)
end

local function decode(line)
  local sum, text = line:match("^(%x%x%x%x%x%x%x%x) (.*)$")
  if not sum or #text > MAX_LINE or tonumber(sum, 16) ~= core.crc32c(text) then return nil end
  local record = json.decode(text)
  return type(record) == "table" and record or nil
end

local function is_size(n)
  return type(n) == "number" and n >= 0 and n < 2 ^ 53 and n % 1 == 0
end

local function good_part(r)
  return is_size(r.n) and is_size(r.o) and is_size(r.l) and is_size(r.crc) and r.crc < 2 ^ 32
    and (r.token == nil or type(r.token) == "string")
end

local function good_session(r)
  return type(r.id) == "string" and type(r.state) == "table" and (r.part_size == nil or is_size(r.part_size))
end

-- Reads a journal: the last start, its session and parts. `note` when there
-- are bytes but nothing to use.
local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local found, note
  for line in file:lines() do
    local record = #line <= MAX_LINE + 16 and decode(line) or nil
    if record and record.t == "start" then
      found, note = nil, nil
      if record.v == _M.VERSION then
        found = { start = record, parts = {} }
      else
        note = ("the journal of an earlier try has format %s, this longshore reads %d; starting over"):format(
          tostring(record.v), _M.VERSION)
      end
    elseif record and found and record.t == "session" and good_session(record) then
      found.session, found.parts = record, {}
    elseif record and found and found.session and record.t == "part" and good_part(record) then
      found.parts[record.n] = { number = record.n, offset = record.o, length = record.l, token = record.token,
        crc32c = record.crc, check = CHECKS[record.check] and record.check or nil }
    elseif record and found and record.t == "arrived" and type(record.result) == "table" and is_size(record.at) then
      found.arrived = record
    end
  end
  local size = file:seek("end")
  file:close()
  if found and (found.session or found.arrived) then return found end
  if size > 0 and not note then note = "the journal of an earlier try cannot be read; starting over" end
  return nil, note
end

local function same_source(a, b)
  return type(a) == "table" and a.size == b.size and a.mtime_ns == b.mtime_ns and a.inode == b.inode
end

---------------------------------------------------------------------------

--- Opens the journal of one upload and takes its lock. Nothing is written yet.
--
-- The journal then has `saved`, what an earlier try left (`id`, `state`,
-- `part_size`, `parts` by number), or `stale`, the same of a try that must not
-- be resumed because the source has changed since (to be aborted), or `arrived`,
-- the result of one that is complete; and `note`, a sentence for people.
-- @tparam table options `folder`, `destination`, `driver`, `name`, `path`,
-- `source` ({size, mtime_ns, inode}), `clock`
-- @treturn[1] journal
-- @return[2] nil
-- @treturn[2] table err `busy` when another process has it, `io`
function _M.open(options)
  local folder = options.folder
  local ok, err = make_folder(folder)
  if not ok then return nil, err end
  local path = _M.absolute(options.path)
  local key = core.hex(core.sha256(table.concat({ options.driver, options.destination, options.name, path }, "\0")))
  local unlock
  unlock, err = lock(folder, key)
  if not unlock then return nil, err end

  local self = setmetatable({
    folder = folder, file_path = ("%s/%s.journal"):format(folder, key:sub(1, 40)),
    start = {
      t = "start", v = _M.VERSION, driver = options.driver, destination = options.destination,
      name = encode_path(options.name), path = encode_path(path), source = options.source,
    },
    unlock = unlock, clock = options.clock, synced = -math.huge,
  }, mt)
  local found, note = read(self.file_path)
  self.note = note
  if found and found.arrived then
    if same_source(found.start.source, options.source)
      and options.clock.now() - found.arrived.at < ARRIVED_SECONDS then
      self.arrived = found.arrived.result
    end
  elseif found then
    local saved = { id = found.session.id, state = found.session.state, part_size = found.session.part_size,
      parts = found.parts }
    if same_source(found.start.source, options.source) then
      self.saved = saved
    else
      self.stale = saved
      self.note = "the file has changed since the interrupted upload; starting over"
    end
  end
  return self
end

-- Appends a record. A journal that cannot be written does not stop the upload:
-- `broken` then says why, and the upload is not resumable.
local function append(self, record, sync)
  if self.broken then return end
  local file, why = self.file, nil
  if not file then
    -- A lock's file is made with the mode 0600, whatever the umask.
    local private = core.lock_file(self.file_path, "exclusive")
    if private then private:close() end
    file, why = io.open(self.file_path, "ab")
    self.file = file
    -- A torn last line must not swallow the next one.
    if file then file, why = file:write("\n") end
  end
  if file then file, why = self.file:write(encode(record)) end
  if file then file, why = self.file:flush() end
  local now = self.clock.now()
  if file and (sync or now - self.synced >= SYNC_EVERY) then
    self.synced = now
    file, why = core.fsync(self.file_path)
  end
  if not file then self.broken = tostring(why) end
end

--- Begins a session: earlier parts are forgotten.
-- @tparam table session `id`, `state` (plain data, no secret), `part_size`
function methods:session(session)
  self.start.at = math.floor(self.clock.now())
  append(self, self.start)
  append(self, { t = "session", id = session.id, state = session.state, part_size = session.part_size }, true)
  core.fsync(self.folder)
end

--- Records a part that the store has.
-- @tparam table part `number`, `offset`, `length`, `token`, `crc32c`,
-- `check`
function methods:part(part)
  append(self, { t = "part", n = part.number, o = part.offset, l = part.length, token = part.token,
    crc = part.crc32c, check = part.check })
end

--- The upload is over, or given up: nothing is left to resume.
function methods:finish()
  if self.file then self.file:close() end
  self.file = nil
  os.remove(self.file_path)
  self.unlock()
end

--- The upload is over, its command is not: leaves the result for the next try.
-- No fsync: what a power cut takes is sent again.
-- @tparam table result plain data, without secrets
-- @treturn string the journal's path, for who removes it when all is over
function methods:arrive(result)
  self.start.at = math.floor(self.clock.now())
  append(self, self.start)
  append(self, { t = "arrived", at = self.start.at, result = result })
  if self.file then self.file:close() end
  self.file = nil
  self.unlock()
  return self.file_path
end

--- Leaves the journal for the next try.
function methods:close()
  if self.file then
    self.file:close()
    self.file = nil
    core.fsync(self.file_path)
  end
  self.unlock()
end

--- The uploads that were interrupted and can be resumed.
-- @tparam string folder
-- @treturn table list of {path, name, destination, driver, size, bytes, parts, at, id, journal}
function _M.list(folder)
  local list = {}
  if lfs.attributes(folder, "mode") ~= "directory" then return list end
  for name in lfs.dir(folder) do
    if name:match("%.journal$") then
      local found = read(folder .. "/" .. name)
      if found and not found.arrived then
        local bytes, parts = 0, 0
        for _, part in pairs(found.parts) do
          bytes, parts = bytes + part.length, parts + 1
        end
        local start = found.start
        list[#list + 1] = {
          path = decode_path(tostring(start.path)), name = decode_path(tostring(start.name)),
          destination = start.destination, driver = start.driver, id = found.session.id,
          size = type(start.source) == "table" and start.source.size or nil,
          bytes = bytes, parts = parts, at = start.at, journal = folder .. "/" .. name,
        }
      end
    end
  end
  table.sort(list, function(a, b) return a.path < b.path end)
  return list
end

return _M

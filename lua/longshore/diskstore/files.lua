--- Small file work: whole texts, folders, locks; every failure is `nil, why`.
--
-- Room: diskstore. The only module here, beside the spool's, that opens files.
-- @module longshore.diskstore.files
local core = require "longshore.core"
local lfs = require "lfs"

local _M = {}

--- Reads a whole file.
-- @tparam string path
-- @return its bytes, or nil and why
function _M.read(path)
  local f, why = io.open(path, "rb")
  if not f then return nil, why end
  local data
  data, why = f:read("*a")
  f:close()
  if not data then return nil, why or "cannot read " .. path end
  return data
end

--- Writes a file of its own (an older one of that name is replaced in place,
-- so use it for names that nobody reads yet).
-- @tparam string path
-- @tparam string data
-- @tparam[opt] boolean durable also waits until it is on the disk
-- @return true, or nil and why; a partial file is removed
function _M.write(path, data, durable)
  local f, why = io.open(path, "wb")
  if not f then return nil, why end
  local ok
  ok, why = f:write(data)
  local closed, why_closed = f:close()
  if ok and closed then
    if not durable then return true end
    ok, why = core.fsync(path)
    if ok then return true end
  else
    why = why or why_closed
  end
  os.remove(path)
  return nil, why
end

--- Whether the file system said that there is no such file or folder.
-- @tparam string why second value of a failed call
-- @treturn boolean
function _M.is_missing(why)
  why = tostring(why)
  return why:find("No such file or directory", 1, true) ~= nil or why:find("Not a directory", 1, true) ~= nil
end

--- Makes a folder unless it is there.
-- @tparam string path
-- @return true, or nil and why
function _M.make_folder(path)
  local ok, why = lfs.mkdir(path)
  if ok then return true end
  if lfs.attributes(path, "mode") == "directory" then return true end
  return nil, why
end

--- The names in a folder, unsorted, without `.` and `..`.
-- @tparam string path
-- @return list, or nil and why
function _M.list(path)
  -- lfs.dir raises where the folder cannot be opened.
  local ok, iterate, state = pcall(lfs.dir, path)
  if not ok then return nil, iterate end
  local names = {}
  for name in iterate, state do
    if name ~= "." and name ~= ".." then names[#names + 1] = name end
  end
  return names
end

--- Removes a file, or a folder with all in it; one that is missing is fine.
-- @tparam string path
-- @return true, or nil and why
function _M.remove_tree(path)
  local mode = lfs.symlinkattributes(path, "mode")
  if not mode then return true end
  if mode == "directory" then
    for _, name in ipairs(_M.list(path) or {}) do
      local ok, why = _M.remove_tree(path .. "/" .. name)
      if not ok then return nil, why end
    end
    local ok, why = lfs.rmdir(path)
    if not ok and lfs.symlinkattributes(path, "mode") then return nil, why end
    return true
  end
  local ok, why = os.remove(path)
  if not ok and not _M.is_missing(why) then return nil, why end
  return true
end

--- Gives a file a second name where the file system can, else a copy of it.
-- @tparam string from
-- @tparam string to must not exist
-- @return true, or nil and why
function _M.link_or_copy(from, to)
  if lfs.link(from, to) then return true end
  local input, why = io.open(from, "rb")
  if not input then return nil, why end
  local output
  output, why = io.open(to, "wb")
  if not output then input:close() return nil, why end
  local ok = true
  while ok do
    local block = input:read(1048576)
    if not block then break end
    ok, why = output:write(block)
  end
  input:close()
  local closed, why_closed = output:close()
  if ok and closed then return true end
  os.remove(to)
  return nil, why or why_closed
end

--- Copies a range of a file to the end of an open one.
-- @tparam file output
-- @tparam string from path
-- @tparam number offset
-- @tparam number length
-- @return true, or nil and why
function _M.append_range(output, from, offset, length)
  local input, why = io.open(from, "rb")
  if not input then return nil, why end
  input:seek("set", offset)
  while length > 0 do
    local block = input:read(math.min(length, 1048576))
    if not block then input:close() return nil, from .. " is shorter than it should be" end
    local ok
    ok, why = output:write(block)
    if not ok then input:close() return nil, why end
    length = length - #block
  end
  input:close()
  return true
end

--- Takes the lock that a file stands for, waits for it, runs `fn` and gives
-- the lock back, also when `fn` raises. A lock that its holder did not give
-- back (kill -9) is free.
-- @tparam string path the file; it is never read or written
-- @tparam string mode "shared" or "exclusive"
-- @tparam function fn its results are returned
-- @return what fn returned, or nil and why
function _M.locked(path, mode, fn)
  local lock, why = core.lock_file(path, mode)
  if not lock then return nil, why end
  local function finish(ok, ...)
    lock:close()
    if not ok then error((...), 0) end
    return ...
  end
  return finish(pcall(fn))
end

return _M

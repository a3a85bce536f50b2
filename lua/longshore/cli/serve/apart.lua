--- Where `serve` is started by root and nginx's workers run as another user: who has
-- taken over a worker is that user, and must not become root at the next reload or start.
--
-- So whatever root reads, writes, or has nginx's master give to that user by name, lies where
-- that user can replace nothing:
--
--     DATA/                  root:GROUP 1770: workers make their files here, and remove no others
--       run/                 root:GROUP 0710: nginx.conf, pids, what serve last ran with (0640), nginx's own folders
--       objects/             root:GROUP 1770
--         .bodies/           root:GROUP 0710: in it the folder that nginx spools into
--
-- Everything else is the workers' own, and root touches it only as that user (`as_worker`). GROUP should be that user's
-- alone: whoever else is in it can make files there, too.
--
-- Room: cli.
-- @module longshore.cli.serve.apart
local errors = require "longshore.errors"
local host = require "longshore.cli.serve.host"
local uv = require "luv"

local _M = {}

local STICKY, STICKY_BIT, GROUP_WRITES = tonumber("1770", 8), tonumber("1000", 8), tonumber("20", 8)
-- Who may go through it to what is theirs.
local PASS = tonumber("710", 8)

local function refuse(message)
  return errors.fail("conflict", message, { field = "data" })
end

local function is_taken(stat, owner)
  return stat.uid == 0 and stat.gid == owner.gid and stat.mode % 4096 == STICKY
end

-- Makes an entry root's, not what a link leads to. (Once it is root's, in a folder of root's, it stays what it is.)
local function give_to_root(path, owner, mode)
  uv.fs_lchown(path, 0, owner.gid)
  local stat = uv.fs_lstat(path)
  if not stat or stat.type ~= "directory" or stat.uid ~= 0 then
    return refuse(("%s must be a folder, and no link"):format(path))
  end
  local ok, why = uv.fs_chmod(path, mode)
  if not ok then return refuse(("cannot change the mode of %s: %s"):format(path, why)) end
  return true
end

--- Takes a folder that the workers' user has, or that was made just now, for root: that user can then make files in it,
-- and replace none of root's.
-- @tparam string path
-- @tparam table owner `{uid=, gid=}` of the workers
-- @tparam[opt] boolean fresh it was made just now
-- @treturn boolean|nil
-- @treturn table err
function _M.take(path, owner, fresh)
  local stat = uv.fs_lstat(path)
  if stat and is_taken(stat, owner) then return true end
  if not stat or not (fresh or stat.uid == owner.uid) then
    return errors.fail("conflict", ("nginx.user: %s does not belong to the user that nginx's workers would run as; "
      .. "chown -R it, or leave nginx.user out"):format(path), { field = "nginx.user" })
  end
  return give_to_root(path, owner, STICKY)
end

--- Makes a folder that only root writes in, or takes the one that is there.
-- @tparam string path in a folder that was taken
-- @tparam table owner
-- @treturn boolean|nil
-- @treturn table err
function _M.reserve(path, owner)
  local stat = uv.fs_lstat(path)
  local ok, why = true, nil
  -- (What somebody else put there stays nowhere: root reads it.)
  if stat and (stat.uid ~= 0 or stat.type ~= "directory") then
    ok = os.execute("rm -rf -- " .. host.shell(path))
    stat = nil
  end
  if not stat then ok, why = uv.fs_mkdir(path, PASS) end
  if not ok then return refuse(("cannot make the folder %s: %s"):format(path, tostring(why))) end
  return give_to_root(path, owner, PASS)
end

--- Whether a folder that root has taken is now used without root, who says no more than that a file cannot be opened.
-- @tparam string data
-- @treturn boolean|nil
-- @treturn table err what to do
function _M.check_mine(data)
  local stat, me = uv.fs_stat(data .. "/run"), uv.getuid()
  if me == 0 or not stat or stat.uid == me then return true end
  return refuse(("%s/run is another user's, who started longshore serve before (root takes what it reads); "
    .. "chown -R %s is what it needs to be yours"):format(data, data))
end

-- The folder above another that the workers' user can rename the other in, or nil.
local function loose_above(path, owner)
  repeat
    path = path:match("^(/.*)/[^/]+$") or "/"
    local stat = uv.fs_stat(path)
    local mode = stat and stat.mode % 4096 or 0
    local function has(bit) return math.floor(mode / bit) % 2 == 1 end
    if stat and (stat.uid == owner.uid
      or not has(STICKY_BIT) and (has(2) or stat.gid == owner.gid and has(GROUP_WRITES))) then
      return path
    end
  until path == "/"
end

--- What keeps others from being kept out, for the administrator to change.
-- @tparam string data a folder that was taken
-- @tparam table owner
-- @treturn {string,...}
function _M.doubts(data, owner)
  local list, companions = {}, host.companions(owner)
  if companions[1] then
    list[1] = ("%s can read the server's keys and make files in %s, as they are in its user's group; give it a user "
      .. "with a group of its own"):format(table.concat(companions, ", "), data)
  end
  local above = loose_above(uv.fs_realpath(data) or data, owner)
  if above then
    list[#list + 1] = ("in %s its user can put another folder in the place of %s, which root reads; keep the data in a "
      .. "folder where only root writes"):format(above, data)
  end
  return list
end

--- Notes who the workers are: the folder's owner, which said so, is root from now on.
-- @tparam string data
-- @tparam table owner
-- @tparam function write(path, text)
-- @return what `write` returns
function _M.remember(data, owner, write)
  return write(data .. "/run/user", ("%d %d\n"):format(owner.uid, owner.gid))
end

--- Runs a command of this program as the workers' user.
-- @tparam string command for the shell
-- @tparam table owner
-- @treturn string what it printed
-- @treturn[2] nil
-- @treturn[2] table err
function _M.as_worker(command, owner)
  local out, said, code = assert(uv.new_pipe(false)), {}, nil
  local handle, why
  handle, why = uv.spawn("/bin/sh", { args = { "-c", command .. " 2>&1" }, uid = owner.uid, gid = owner.gid,
    stdio = { nil, out } }, function(status, signal)
    code = signal ~= 0 and 128 + signal or status
    handle:close()
  end)
  if not handle then
    out:close()
    return errors.fail("unavailable", "cannot start a process of the workers' user: " .. tostring(why))
  end
  out:read_start(function(_, chunk)
    if chunk then said[#said + 1] = chunk else out:close() end
  end)
  while code == nil or not out:is_closing() do uv.run("once") end
  uv.run("nowait")
  local text = table.concat(said):gsub("%s+$", "")
  if code ~= 0 then
    return errors.fail("unavailable", (text:gsub("^longshore serve: ", ""):gsub("%s+", " ")))
  end
  return text
end

return _M

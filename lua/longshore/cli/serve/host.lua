--- What `serve` finds on this machine: nginx and its Lua module, the LuaJIT
-- build of longshore.core, the user to run as, ports, leftover processes.
--
-- Room: cli.
-- @module longshore.cli.serve.host
local errors = require "longshore.errors"
local lfs = require "lfs"
local uv = require "luv"

local _M = {}

--- Whether a path exists.
-- @tparam string path
-- @treturn boolean
function _M.exists(path)
  return lfs.attributes(path, "mode") ~= nil
end

local function first(paths)
  for _, path in ipairs(paths) do
    if _M.exists(path) then return path end
  end
end

--- Quotes a word for the shell.
-- @tparam string word
-- @treturn string
function _M.shell(word)
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

local function capture(command)
  local pipe = io.popen(command .. " 2>&1", "r")
  local text = pipe:read("*a")
  local ok = pipe:close()
  return text, ok
end

local function find_binary(config)
  if config.nginx.binary then
    if _M.exists(config.nginx.binary) then return config.nginx.binary end
    return errors.fail("unavailable", ("nginx.binary: there is no %s"):format(config.nginx.binary),
      { field = "nginx.binary" })
  end
  local paths = {}
  for folder in (os.getenv("PATH") or ""):gmatch("[^:]+") do paths[#paths + 1] = folder .. "/nginx" end
  for _, path in ipairs { "/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/local/openresty/nginx/sbin/nginx" } do
    paths[#paths + 1] = path
  end
  local found = first(paths)
  if found then return found end
  return errors.fail("unavailable",
    "nginx is not installed (Debian: apt-get install nginx libnginx-mod-http-lua lua-resty-core)")
end

-- The Lua module: built in (OpenResty), or two files to load.
local function find_modules(config, binary)
  if config.nginx.modules then return config.nginx.modules end
  local about = capture(_M.shell(binary) .. " -V")
  if about:find("ngx_lua", 1, true) or about:find("lua-nginx-module", 1, true) then return {} end
  local folder = about:match("%-%-modules%-path=(%S+)")
  for _, path in ipairs { folder or "/usr/lib/nginx/modules", "/usr/lib/nginx/modules", "/usr/lib64/nginx/modules" } do
    local kit, lua = path .. "/ndk_http_module.so", path .. "/ngx_http_lua_module.so"
    if _M.exists(kit) and _M.exists(lua) then return { kit, lua } end
  end
  return errors.fail("unavailable", "this nginx has no Lua module (Debian: apt-get install libnginx-mod-http-lua)")
end

-- Where this very module was loaded from: the folder that holds longshore/.
local function lua_folder()
  local here = debug.getinfo(errors.new, "S").source:match("^@(.*)$")
  return uv.fs_realpath((here:gsub("/?longshore/errors%.lua$", ""):gsub("^$", ".")))
end

-- nginx runs LuaJIT and needs the module built for it, whatever runs this command.
local function luajit_cpath(folder)
  local base = folder:match("^(.*)/lua$")
  local prefix = folder:match("^(.*)/share/lua/[%d.]+$")
  local candidates = {}
  if base then candidates[#candidates + 1] = base .. "/build/luajit" end
  if prefix then candidates[#candidates + 1] = prefix .. "/lib/lua/5.1" end
  candidates[#candidates + 1] = "/usr/local/lib/lua/5.1"
  for _, path in ipairs(candidates) do
    if _M.exists(path .. "/longshore/core.so") then return path .. "/?.so" end
  end
  return errors.fail("unavailable", "the LuaJIT build of longshore.core was not found; nginx needs it (looked in "
    .. table.concat(candidates, ", ") .. "; set nginx.lua_cpath in the configuration, or run make)")
end

-- How many files a process may have open: what it may now, and what it may allow itself.
local function open_files()
  local f = io.open("/proc/self/limits", "r")
  if not f then return nil end
  local soft, hard = f:read("*a"):match("Max open files%s+(%w+)%s+(%w+)")
  f:close()
  return soft and { soft = tonumber(soft) or math.huge, hard = tonumber(hard) or math.huge }
end

--- Finds nginx and what it must load.
-- @tparam table config
-- @treturn table `binary`, `modules`, `lua_path`, `lua_cpath`
-- @treturn[2] nil
-- @treturn[2] table err
function _M.find(config)
  local binary, err = find_binary(config)
  if not binary then return nil, err end
  local modules
  modules, err = find_modules(config, binary)
  if not modules then return nil, err end
  local folder = lua_folder()
  local cpath = config.nginx.lua_cpath
  if not cpath then
    cpath, err = luajit_cpath(folder)
    if not cpath then return nil, err end
  end
  return {
    binary = binary, modules = modules, lua_cpath = cpath, files = open_files(),
    lua_path = config.nginx.lua_path or ("%s/?.lua;%s/?/init.lua"):format(folder, folder),
  }
end

local function lookup(database, id)
  local f = io.open(database, "r")
  if not f then return nil end
  for line in f:lines() do
    local name, number = line:match("^([^:]+):[^:]*:(%d+):")
    if tonumber(number) == id then
      f:close()
      return name
    end
  end
  f:close()
end

--- Whose a data folder is: its owner's, or whose it was when root took it (see longshore.cli.serve.apart).
-- @tparam string data
-- @treturn number uid, gid
function _M.whose(data)
  local stat, run = uv.fs_stat(data), uv.fs_lstat(data .. "/run")
  if not stat then return 0, 0 end
  if stat.uid == 0 and run and run.type == "directory" and run.uid == 0 then
    local f = io.open(data .. "/run/user", "r")
    local uid, gid = (f and f:read("*l") or ""):match("^(%d+) (%d+)$")
    if f then f:close() end
    if uid then return tonumber(uid), tonumber(gid) end
  end
  return stat.uid, stat.gid
end

--- The user and group that nginx's workers should run as: only root can choose,
-- and takes the owner of the data folder, so that its files stay theirs.
-- @tparam table config
-- @treturn string|nil "name group" for nginx, nil where this user is not root
-- @treturn number|nil uid
-- @treturn number|nil gid
function _M.user(config)
  if uv.getuid() ~= 0 then return nil end
  if config.nginx.user then
    local f = io.open("/etc/passwd", "r")
    local uid, gid = (f and f:read("*a") or ""):match("%f[^\n%z]" .. config.nginx.user:gsub("%p", "%%%0")
      .. ":[^:]*:(%d+):(%d+):")
    if f then f:close() end
    if not uid then
      return errors.fail("invalid", "nginx.user: there is no such user", { field = "nginx.user" })
    end
    return ("%s %s"):format(config.nginx.user, lookup("/etc/group", tonumber(gid)) or config.nginx.user),
      tonumber(uid), tonumber(gid)
  end
  local uid, gid = _M.whose(config.data)
  local name, group = lookup("/etc/passwd", uid), lookup("/etc/group", gid)
  if not name then
    return errors.fail("invalid", ("%s belongs to the user number %d, who has no name; name one in nginx.user")
      :format(config.data, uid), { field = "nginx.user" })
  end
  return ("%s %s"):format(name, group or name), uid, gid
end

--- The workers' user where it is another one than root, who starts nginx.
-- @tparam number|nil uid of `user`
-- @tparam number|nil gid
-- @treturn table|nil `{uid=, gid=}`
function _M.owner(uid, gid)
  if uid and uid ~= 0 then return { uid = uid, gid = gid } end
end

--- Who else is in the workers' group: they can read what root lets that group read, and make files beside its own.
-- @tparam table owner `{uid=, gid=}`
-- @treturn {string,...} names, at most ten
function _M.companions(owner)
  local names, own = {}, lookup("/etc/passwd", owner.uid)
  local function each(path, pattern, fn)
    local f = io.open(path, "r")
    if not f then return end
    for line in f:lines() do fn(line:match(pattern)) end
    f:close()
  end
  local function add(name)
    if name ~= own and name ~= "root" and #names < 10 then names[#names + 1] = name end
  end
  each("/etc/passwd", "^([^:]+):[^:]*:%d+:(%d+):", function(name, gid)
    if tonumber(gid) == owner.gid then add(name) end
  end)
  each("/etc/group", "^[^:]+:[^:]*:(%d+):(.*)$", function(gid, members)
    if tonumber(gid) ~= owner.gid then return end
    for name in members:gmatch "[^,]+" do add(name) end
  end)
  return names
end

-- Whether a user may do what `bit` says (4: read, 1: enter) with a path itself.
local function permits(path, uid, gid, bit)
  local stat = uv.fs_stat(path)
  if not stat then return false end
  local shift = stat.uid == uid and 64 or stat.gid == gid and 8 or 1
  return math.floor(stat.mode / (bit * shift)) % 2 == 1
end

--- Whether a user may read what nginx must load: a checkout below /root, for
-- example, is nobody's but root's.
-- @tparam table found of `find`
-- @tparam string user
-- @tparam number uid
-- @tparam number gid
-- @treturn boolean|nil
-- @treturn table err names the folder that is in the way
function _M.readable(found, user, uid, gid)
  if uid == 0 then return true end
  for _, list in ipairs { found.lua_path, found.lua_cpath } do
    local name = list == found.lua_path and "longshore/errors.lua" or "longshore/core.so"
    local file
    for pattern in list:gmatch("[^;]+") do
      local path = pattern:gsub("%?%.lua$", name):gsub("%?%.so$", name)
      if not file and _M.exists(path) then file = path end
    end
    local at = file and file:match("^(.*)/[^/]+$")
    if file and not permits(file, uid, gid, 4) then at = nil end
    while at and at ~= "" and permits(at, uid, gid, 1) do at = at:match("^(.*)/[^/]+$") end
    if file and at ~= "" then
      return errors.fail("forbidden", ("nginx's workers run as %s, who may not read %s; install longshore elsewhere "
        .. "(make install), or open that path"):format(user:match("^%S+"), at or file), { field = "nginx.user" })
    end
  end
  return true
end

--- Whether one may listen at an address.
-- @tparam string address host:port
-- @tparam string key its name in the configuration
-- @treturn boolean|nil
-- @treturn table err says who should give way
function _M.port_free(address, key)
  local host, port = address:match("^(.+):(%d+)$")
  local ip = host:match("^%[(.*)%]$") or host
  local found = uv.getaddrinfo(ip, port, { socktype = "stream" })
  if not found or not found[1] then
    return errors.fail("invalid", ("%s: the host %s is not known"):format(key, host), { field = key })
  end
  local tcp = uv.new_tcp()
  local ok, why, name = tcp:bind(found[1].addr, tonumber(port))
  if ok then ok, why, name = tcp:listen(1, function() end) end
  tcp:close()
  uv.run("nowait")
  if ok then return true end
  if name == "EADDRINUSE" then
    return errors.fail("conflict", ("%s: another program listens on %s; stop it, or choose another port"):format(key,
      address), { field = key })
  elseif name == "EACCES" then
    return errors.fail("forbidden", ("%s: listening on port %s needs root's rights"):format(key, port), { field = key })
  elseif name == "EADDRNOTAVAIL" then
    return errors.fail("invalid", ("%s: %s is not an address of this machine"):format(key, host), { field = key })
  end
  return errors.fail("io", ("%s: cannot listen on %s: %s"):format(key, address, tostring(why)), { field = key })
end

--- The nginx processes whose working folder is this one: those of a server that
-- was killed without being able to stop them.
-- @tparam string folder
-- @treturn table list of pids
function _M.leftovers(folder)
  local real, list = uv.fs_realpath(folder), {}
  if not real or not _M.exists("/proc/self") then return list end
  for name in lfs.dir("/proc") do
    if name:find("^%d+$") and uv.fs_readlink("/proc/" .. name .. "/cwd") == real then
      local f = io.open("/proc/" .. name .. "/comm", "r")
      local command = f and f:read("*l")
      if f then f:close() end
      if command == "nginx" then list[#list + 1] = tonumber(name) end
    end
  end
  return list
end

local function is_loopback(place)
  return place:find("127.", 1, true) == 1 or place:find("localhost", 1, true) == 1 or place:find("[::1]", 1, true) == 1
end

--- Where a broker that other machines reach sends them in vain: to a disk store at
-- a loopback address, which would be their own.
-- @tparam table config
-- @treturn ?string the store's URL; nil or false when all is well
function _M.unreachable(config)
  local bucket = config.buckets.default
  local url = bucket.public_endpoint or bucket.endpoint
  return config.diskstore.enabled and not is_loopback(config.broker.listen)
    and is_loopback((url:gsub("^%a+://", ""))) and url
end

return _M

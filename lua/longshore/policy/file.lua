--- A policy from a file, which may change while it is used.
--
-- The file is Lua and returns a policy: a table of hooks, or a list of rules (see
-- `longshore.policy.rules`). It runs in a sandbox (`longshore.policy.sandbox`)
-- unless it is trusted: then it is part of the program, with everything the program
-- can do and without limits.
--
-- `require` in it finds longshore's rules and, where a folder of `modules` is
-- named, the Lua files there.
--
-- A change of the file, or of a module it has read, is noticed by size, time and
-- inode, looked at once a second at most. The new version is loaded beside the old
-- one and takes its place between two hooks; when it cannot be loaded the old one
-- stays and the reason is logged.
--
-- Room: policy. Reads the files.
-- @module longshore.policy.file
local contract = require "longshore.policy.contract"
local core = require "longshore.core"
local errors = require "longshore.errors"
local sandbox = require "longshore.policy.sandbox"

local _M = {}

local RECHECK = 1 -- seconds
local MAX_FILE = 1024 * 1024

--- What the host offers to policies; see longshore.policy.contract.
_M.services = { "now", "log", "word", "sha256", "take", "find", "fetch", "head", "url" }

local function read(path)
  local f, why = io.open(path, "rb")
  if not f then return errors.fail("not_found", why) end
  local text = f:read(MAX_FILE + 1) or ""
  f:close()
  if #text > MAX_FILE then return errors.fail("too_large", path .. ": longer than 1 MiB") end
  return text
end

-- What changes when a file does.
local function mark(path)
  local stat = core.file_stat(path)
  if not stat then return "missing" end
  return ("%.0f %s %s"):format(stat.size, stat.mtime_ns, stat.inode)
end

-- Reads modules from a folder, remembering what was read.
local function module_reader(folder, seen)
  if not folder then return nil end
  return function(name)
    if not name:find("^[%w_]+$") and not (name:find("^[%w_][%w_%.]*[%w_]$") and not name:find("..", 1, true)) then
      return errors.fail("invalid", "not the name of a module")
    end
    local path = folder .. "/" .. name:gsub("%.", "/") .. ".lua"
    seen[path] = mark(path)
    return read(path)
  end
end

local function loader(text, name, env)
  if text:sub(1, 1) == "\27" then return nil, name .. ": bytecode is not allowed" end
  local set = rawget(_G, "setfenv")
  if set then
    local chunk, why = loadstring(text, name) -- luacheck: ignore
    return chunk and set(chunk, env), why
  end
  return load(text, name, "t", env) -- luacheck: ignore
end

local UNITS = { KiB = 1024, MiB = 1048576, GiB = 1073741824, TiB = 1099511627776, minutes = 60, hours = 3600,
  days = 86400 }

-- A trusted policy: hooks by name.
local function load_trusted(options, text, modules)
  local env, loaded = setmetatable({}, { __index = _G }), {}
  for name, value in pairs(UNITS) do env[name] = value end
  env.array = require("longshore.json").array
  env.require = function(name)
    if loaded[name] ~= nil then return loaded[name] end
    local source = modules and not name:find("^longshore%.") and modules(name)
    if not source then return require(name) end
    local chunk, why = loader(source, "@" .. name, env)
    if not chunk then error(why, 2) end
    loaded[name] = chunk(name) or true
    return loaded[name]
  end
  local chunk, why = loader(text, "@" .. options.path:match("[^/]*$"), env)
  if not chunk then return errors.fail("invalid", why) end
  local ok, policy = pcall(function() return require("longshore.policy.rules").chain(chunk()) end)
  if not ok then return errors.fail("invalid", tostring(policy)) end
  return policy
end

local function load_sandboxed(options, text, modules)
  local box, err = sandbox.new {
    text = text, name = options.path:match("[^/]*$"), limits = options.limits, modules = modules,
    services = _M.services,
  }
  if not box then return errors.fail(err.code == "error" and "invalid" or err.code, err.message) end
  local policy = { name = box.name, about = box.about }
  for hook in pairs(box.hooks) do
    policy[hook] = function(context, host)
      local ok, answer, reason = box:call(hook, context, host)
      if not ok then error(answer, 0) end
      return answer, reason
    end
  end
  return policy
end

-- Loads the file as it is now: the policy, and what would tell a change.
local function load_version(options)
  local seen = { [options.path] = mark(options.path) }
  local text, err = read(options.path)
  if not text then return nil, err end
  local modules = module_reader(options.modules, seen)
  local policy
  if options.trusted then
    policy, err = load_trusted(options, text, modules)
  else
    policy, err = load_sandboxed(options, text, modules)
  end
  if not policy then return nil, err, seen end
  for hook in pairs(policy) do
    if hook ~= "name" and hook ~= "about" and not contract.hooks[hook] then
      return nil, errors.new("invalid", ("there is no hook %q"):format(hook)), seen
    end
  end
  return policy, nil, seen
end

local function changed(seen)
  for path, was in pairs(seen) do
    if mark(path) ~= was then return true end
  end
  return false
end

--- Opens a policy file.
-- @tparam table options `path`; `trusted` (false); `limits` (see
-- longshore.policy.sandbox.defaults); `modules` (a folder); `log`; `clock`
-- @treturn table policy whose hooks are always those of the newest version that
-- could be loaded, with `name` and `about`; or nil, err
function _M.open(options)
  local version, err, seen = load_version(options)
  if not version then return nil, err end
  local log = options.log or function() end
  local clock = options.clock or require("longshore.clock").system
  local looked = clock.now()

  local function refresh()
    local now = clock.now()
    if now - looked < RECHECK and now >= looked then return end
    looked = now
    if not changed(seen) then return end
    local new, why, marks = load_version(options)
    seen = marks or { [options.path] = mark(options.path) }
    if new then
      version = new
      log("info", "policy loaded again", { file = options.path })
    else
      log("error", "the changed policy cannot be used; the old one stays",
        { file = options.path, reason = errors.redact(tostring(why)) })
    end
  end

  return setmetatable({}, { __index = function(_, hook)
    if contract.hooks[hook] then
      refresh()
    elseif hook == "name" then
      return version.name or options.path:match("[^/]*$")
    elseif hook == "version" then
      return version
    end
    return version[hook]
  end })
end

return _M

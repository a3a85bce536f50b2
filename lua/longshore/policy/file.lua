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
-- A broker has many Lua states, some idle for long, some begun later. So that all of
-- them stay at the same old one, what was loaded last is kept in a file of the broker's.
--
-- Room: policy. Reads the files.
-- @module longshore.policy.file
local contract = require "longshore.policy.contract"
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"
local sandbox = require "longshore.policy.sandbox"

local _M = {}

local RECHECK = 1 -- seconds
local MAX_FILE = 1024 * 1024

--- What the host offers to policies; see longshore.policy.contract.
_M.services = { "now", "log", "word", "sha256", "take", "find", "fetch", "head", "url" }

local function read(path)
  local f, why = io.open(path, "rb")
  if not f then return errors.fail("not_found", why) end
  local text
  text, why = f:read(MAX_FILE + 1)
  f:close()
  if not text and why then return errors.fail("io", ("%s: %s"):format(path, why)) end
  text = (text or ""):gsub("^\239\187\191", "") -- which some editors write before UTF-8
  if #text > MAX_FILE then return errors.fail("too_large", path .. ": longer than 1 MiB") end
  return text
end

-- What changes when a file does.
local function mark(path)
  local stat = core.file_stat(path)
  if not stat then return "missing" end
  return ("%.0f %s %s"):format(stat.size, stat.mtime_ns, stat.inode)
end

-- Writes the newest version that could be loaded where other states find it.
local function keep(options, sources)
  local modules = {}
  for name, text in pairs(sources.modules) do modules[name] = core.base64(text) end
  local text = json.encode({ text = core.base64(sources.text), modules = modules }, { sorted = true })
  local f = io.open(options.keep, "rb")
  local known = f and f:read("*a")
  if f then f:close() end
  if known == text then return end
  local new = ("%s.%s"):format(options.keep, core.hex(core.random(6)))
  f = io.open(new, "wb")
  if not f then return end
  local done = f:write(text)
  done = f:close() and done
  if not done or not os.rename(new, options.keep) then os.remove(new) end
end

-- What was kept: the sources, or nil.
local function kept(options)
  local f = options.keep and io.open(options.keep, "rb")
  if not f then return nil end
  local value = json.decode(f:read("*a") or "")
  f:close()
  if type(value) ~= "table" or type(value.text) ~= "string" then return nil end
  local sources = { text = core.unbase64(value.text), modules = {} }
  for name, text in pairs(value.modules or {}) do sources.modules[name] = core.unbase64(text) end
  return sources.text and sources or nil
end

-- Reads modules from a folder, remembering what was read.
local function module_reader(folder, seen, sources)
  if not folder then return nil end
  return function(name)
    if not name:find("^[%w_]+$") and not (name:find("^[%w_][%w_%.]*[%w_]$") and not name:find("..", 1, true)) then
      return errors.fail("invalid", "not the name of a module")
    end
    local path = folder .. "/" .. name:gsub("%.", "/") .. ".lua"
    seen[path] = mark(path)
    local text, err = read(path)
    sources[name] = text
    return text, err
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

local function load_text(options, text, modules)
  local loading = options.trusted and load_trusted or load_sandboxed
  local policy, err = loading(options, text, modules)
  local name = options.path:match("[^/]*$")
  local function bad(why) -- which file it is, where that is not said
    return why:find(name .. ":", 1, true) and why or ("%s: %s"):format(name, why)
  end
  if not policy then return errors.fail(err.code, bad(err.message)) end
  for hook in pairs(policy) do
    if hook ~= "name" and hook ~= "about" and not contract.hooks[hook] then
      return errors.fail("invalid", bad(contract.no_hook(hook)))
    end
  end
  return policy
end

-- Loads the file as it is now: the policy (or nil), its text or an error, and what
-- would tell a change.
local function load_version(options)
  local seen, sources = { [options.path] = mark(options.path) }, { modules = {} }
  local text, err = read(options.path)
  if not text then return nil, err, seen end
  sources.text = text
  local policy
  policy, err = load_text(options, text, module_reader(options.modules, seen, sources.modules))
  if not policy then return nil, err, seen end
  if options.keep then keep(options, sources) end
  return policy, text, seen
end

-- The newest version that any state could load, unless it is the one of this text.
local function load_kept(options, text)
  local sources = kept(options)
  if not sources or sources.text == text then return nil end
  local policy = load_text(options, sources.text, function(name) return sources.modules[name] end)
  return policy, sources.text
end

local function changed(seen)
  for path, was in pairs(seen) do
    if mark(path) ~= was then return true end
  end
  return false
end

--- Opens a policy file.
-- @tparam table options `path`; `trusted` (false); `limits` (see
-- longshore.policy.sandbox.defaults); `modules` (a folder); `keep` (the path of a file
-- for the newest version that could be loaded); `log`; `clock`
-- @treturn table policy whose hooks are always those of the newest version that
-- could be loaded, with `name` and `about`; or nil, err
function _M.open(options)
  local log = options.log or function() end
  local function refuse(why)
    log("error", "the policy cannot be used as it is; the old one stays",
      { file = options.path, reason = errors.redact(tostring(why)) })
  end
  local version, text, seen = load_version(options)
  if not version then
    local why = text
    version, text = load_kept(options)
    if not version then return nil, why end
    refuse(why)
  end
  local clock = options.clock or require("longshore.clock").system
  local looked = clock.now()

  local function refresh()
    local now = clock.now()
    if now - looked < RECHECK and now >= looked then return end
    looked = now
    if not changed(seen) then return end
    local new, result, marks = load_version(options)
    seen = marks
    if new then
      version, text = new, result
      log("info", "policy loaded again", { file = options.path })
      return
    end
    refuse(result)
    new, result = load_kept(options, text)
    if new then version, text = new, result end
  end

  return setmetatable({}, { __index = function(_, hook)
    if contract.hooks[hook] then
      refresh()
    elseif hook == "name" then
      return version.name or options.path:match("[^/]*$")
    elseif hook == "isolated" then
      return not options.trusted
    elseif hook == "version" then
      return version
    end
    return version[hook]
  end })
end

return _M

--- The configuration: a Lua file that returns a table.
--
--     return {
--       data = "/var/lib/longshore",
--       broker = { listen = "0.0.0.0:8080", tls = { certificate = "tls.pem", key = "tls.key" } },
--       buckets = { default = { profile = "aws", region = "eu-central-1", bucket = "uploads",
--         access_key = env "AWS_ACCESS_KEY_ID", secret_key = env "AWS_SECRET_ACCESS_KEY" } },
--     }
--
-- Every key is checked, and a mistake is named with its path. The file runs
-- with nothing but `env(name [, default])`, `file(path)` (a text file without
-- its last line end, for secrets), `KiB MiB GiB TiB`, `minutes hours days`, and
-- Lua's pure functions. Relative paths are taken from the file's folder. A file that
-- does not come to its end within some million steps is refused.
--
-- `load` also fills in what follows from the rest: paths under `data`, and the
-- bucket `default`, which is the disk store's unless another is configured.
--
-- Room: shared ground. Reads the named file when called, nothing in `require`.
-- @module longshore.config
local errors = require "longshore.errors"
local schema = require "longshore.config.schema"
local check = require "longshore.config.check"

local _M = {}

-- The pure part of Lua, copied: a configuration cannot change it for others.
local function sandbox(read)
  local env = {
    KiB = 1024, MiB = 1048576, GiB = 1073741824, TiB = 1099511627776,
    minutes = 60, hours = 3600, days = 86400,
    assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs,
    select = select, tonumber = tonumber, tostring = tostring, type = type,
    env = function(name, default)
      local value = os.getenv(name)
      if value == nil then value = default end
      if value == nil then error(("the environment has no %s"):format(tostring(name)), 2) end
      return value
    end,
    file = read,
  }
  for _, name in ipairs { "string", "table", "math" } do
    env[name] = {}
    for key, value in pairs(_G[name]) do env[name][key] = value end
  end
  env.string.dump = nil
  return env
end

local function folder_of(path)
  return path:match("^(.*)/[^/]*$") or (path:sub(1, 1) == "/" and "/") or "."
end

local function absolute(path, folder)
  if path:sub(1, 1) == "/" then return path end
  return folder .. "/" .. path:gsub("^%./+", "")
end

local function read_text(path)
  local f, why = io.open(path, "rb")
  if not f then return nil, why end
  local text = f:read("*a")
  f:close()
  if not text then return nil, path .. ": cannot be read" end
  return text
end

local function fail(path, message)
  return errors.fail("invalid", ("%s: %s"):format(path, message), { field = path })
end

-- Steps of Lua that a configuration may take: a fraction of a second, and far
-- more than any needs.
local STEPS = 20000000

-- Calls a chunk that may not end. The hook never fires in compiled code, so
-- LuaJIT is told not to compile it.
local function bounded(chunk)
  local jit = rawget(_G, "jit")
  if jit then jit.off(chunk, true) end
  local hook, mask, count = debug.gethook()
  debug.sethook(function()
    local at = debug.getinfo(2, "Sl")
    error(("%s:%d: it does not end; is there an endless loop?"):format(at.short_src, at.currentline), 0)
  end, "", STEPS)
  local ok, result = pcall(chunk)
  debug.sethook(hook, mask, count)
  return ok, result
end

-- Runs the text of a configuration; its table.
local function run(path, text)
  if text:sub(1, 1) == "\27" then return fail(path, "is compiled Lua, which is not accepted") end
  local folder = folder_of(path)
  local env = sandbox(function(name)
    local content, reason = read_text(absolute(name, folder))
    if not content then error(reason, 2) end
    return (content:gsub("\r?\n$", ""))
  end)
  local chunk, broken
  if rawget(_G, "setfenv") then
    chunk, broken = loadstring(text, "@" .. path) -- luacheck: ignore 113
    if chunk then setfenv(chunk, env) end -- luacheck: ignore 113
  else
    chunk, broken = load(text, "@" .. path, "t", env)
  end
  if not chunk then return fail(path, "is not valid Lua: " .. tostring(broken)) end
  local ok, result = bounded(chunk)
  if not ok then return fail(path, "stopped with an error: " .. errors.redact(tostring(result))) end
  if type(result) ~= "table" then return fail(path, "must return a table") end
  return result
end

local function run_file(path)
  local text, why = read_text(path)
  if not text then return fail(path, "cannot read the configuration: " .. tostring(why)) end
  return run(path, text)
end

local function here()
  return require("lfs").currentdir()
end

--- Checks a configuration given as a table and fills in the defaults.
-- @tparam table given
-- @tparam[opt] string folder what relative paths are relative to (default: the current folder)
-- @treturn table config
-- @treturn[2] nil
-- @treturn[2] table err code invalid; `field` and the message name the key, for example broker.listen
function _M.check(given, folder)
  local config, problem = check.run(schema.rules, given)
  if not config then
    return errors.fail("invalid", problem.message, { field = problem.field })
  end
  return schema.complete(config, function(path) return absolute(path, folder or here()) end)
end

--- Loads a configuration file, or the defaults.
-- @tparam[opt] string path
-- @tparam[opt] table overrides a table of the same shape that goes before the file's values
-- @treturn table config; `config.file` is the path
-- @treturn[2] nil
-- @treturn[2] table err
function _M.load(path, overrides)
  local given = {}
  if path then
    path = absolute(path, here())
    local err
    given, err = run_file(path)
    if not given then return nil, err end
  end
  local config, err = _M.check(check.merge(given, overrides or {}), path and folder_of(path))
  if not config then
    if path then err.message = path .. ": " .. err.message end
    return nil, err
  end
  config.file = path
  return config
end

local function same_folder(a, b)
  local lfs = require "lfs"
  local one, other = lfs.attributes(a), lfs.attributes(b)
  return one and other and one.dev == other.dev and one.ino == other.ino
end

--- The configuration that `longshore serve` last ran with in a data folder: its
-- ports, its database and its buckets may come from options and files of its own,
-- and who names only the folder means that broker. A folder that was copied since
-- has a configuration that points elsewhere, and none of its own.
-- @tparam[opt="longshore-data"] string folder
-- @treturn table|nil config
function _M.served(folder)
  folder = absolute(folder or "longshore-data", here())
  local path = folder .. "/run/config.lua"
  if require("lfs").attributes(path, "mode") ~= "file" then return nil end
  local found = _M.load(path)
  return found and same_folder(found.data, folder) and found or nil
end

--- A copy without secrets, to print or to log.
-- @tparam table config
-- @treturn table
function _M.redacted(config)
  return check.redact(schema.rules, config)
end

--- The text of a file that `load` reads back to the same configuration, and `restore`
-- without a file. `serve` hands its nginx such a file, since options may have changed
-- what the user's says. It holds the secrets: write it with mode 0600.
-- @tparam table config
-- @treturn string
function _M.serialize(config)
  return "return " .. check.serialize(schema.rules, config, "") .. "\n"
end

--- The configuration that `serialize` made a text of; needs neither files nor environment.
-- @tparam string text
-- @treturn table config
-- @treturn[2] nil
-- @treturn[2] table err
function _M.restore(text)
  local given, err = run("/configuration", text)
  if not given then return nil, err end
  return _M.check(given, "/")
end

return _M

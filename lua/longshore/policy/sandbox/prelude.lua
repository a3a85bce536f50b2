--- The world that a sandboxed policy lives in.
--
-- Run by `longshore.core`'s sandbox in a fresh Lua state, with the native
-- functions it needs, before any policy is. It keeps the libraries to itself and
-- gives policies an environment of what cannot do harm; what the hook that counts
-- instructions does not see is replaced:
--
-- * `pcall` and `xpcall` raise a stop again; a handler of `xpcall` runs after the
--   error, because a handler runs with hooks off;
-- * a table gets a copy of its metatable, so that nothing is in there later that was refused:
--   finalizers (`__gc`) would run with hooks off, weak keys (`__mode`) can take the collector very long,
--   and so can a call through a chain of `__call` that never ends in a function;
-- * pattern matching is measured before it is left to C, and otherwise done in Lua
--   (`longshore.policy.sandbox.pattern`); sorting is in Lua too, because quicksort has inputs
--   that take it for ever;
-- * what takes its size from a metatable (`table.insert` over a `__len`) gets
--   plain tables only; `string.rep` and other copying is charged by its work;
-- * no coroutines, `load`, `collectgarbage`, `debug`, `io`, `os`, `package`, `ffi`,
--   `jit`, `newproxy`, `getfenv`, `string.dump`, `table.move`.
--
-- It answers the function that every run calls: `dispatch(operation, ...)`.
--
-- Room: policy. Runs inside the sandbox.
-- @module longshore.policy.sandbox.prelude
local native = ...

local charge, check, compile, is_plain, array_mark = native.charge, native.check, native.compile,
  native.is_plain, native.array
local yield = coroutine.yield
local error, getmetatable, ipairs, next, pairs, pcall = error, getmetatable, ipairs, next, pairs, pcall
local rawequal, rawget, rawset, select, setmetatable = rawequal, rawget, rawset, select, setmetatable
local tonumber, tostring, type = tonumber, tostring, type
local concat, insert, remove = table.concat, table.insert, table.remove
local byte, char, find, format, gmatch, gsub, len, lower, match, rep, reverse, sub, upper = string.byte,
  string.char, string.find, string.format, string.gmatch, string.gsub, string.len, string.lower, string.match,
  string.rep, string.reverse, string.sub, string.upper
local unpack = table.unpack or unpack -- luacheck: ignore

local CHEAP = 20000    -- steps of a pattern that C may do at once
local patterns         -- longshore.policy.sandbox.pattern, handed over by the host

local function text_argument(value, position, name)
  if type(value) == "number" then return tostring(value) end
  if type(value) ~= "string" then
    error(("bad argument #%d to '%s' (string expected, got %s)"):format(position, name, type(value)), 3)
  end
  return value
end

-- Whether a pattern may be left to C: at worst each quantifier (and a start that
-- is not anchored: gmatch knows no anchor) tries every position.
local function is_cheap(s, p, all)
  local n, loops = #s + 1, byte(p) == 94 and not all and 0 or 1
  if #p > 1000 then return false end
  for i = 1, #p do
    local c = byte(p, i)
    if c == 42 or c == 43 or c == 45 or c == 63 then
      loops = loops + 1
    elseif c == 37 then
      local kind = byte(p, i + 1)
      if kind and (kind == 98 or (kind >= 49 and kind <= 57)) then loops = loops + 1 end
    end
  end
  local steps = #p * n ^ loops
  if steps > CHEAP then return false end
  charge(steps / 100)
  return true
end

local safe_string = {
  byte = byte, char = char, len = len, lower = lower, reverse = reverse, sub = sub, upper = upper,
}

function safe_string.find(s, p, init, plain)
  s, p = text_argument(s, 1, "find"), text_argument(p, 2, "find")
  if not plain and is_cheap(s, p) then return find(s, p, init) end
  if plain or not find(p, "[%^%$%*%+%?%.%(%[%%%-]") then
    charge(#s * #p / 16)
    return find(s, p, init, true)
  end
  return patterns.find(s, p, init)
end

function safe_string.match(s, p, init)
  s, p = text_argument(s, 1, "match"), text_argument(p, 2, "match")
  if is_cheap(s, p) then return match(s, p, init) end
  return patterns.match(s, p, init)
end

function safe_string.gmatch(s, p)
  s, p = text_argument(s, 1, "gmatch"), text_argument(p, 2, "gmatch")
  if is_cheap(s, p, true) then return gmatch(s, p) end
  return patterns.gmatch(s, p)
end

-- gsub by a function, which is called between two passes and not by C: it may ask the host.
local function gsub_by(s, p, fn, max)
  local found, values, at = {}, {}, 0
  gsub(s, p, function(...) found[#found + 1] = { ... } end, max)
  for i = 1, #found do values[i] = fn(unpack(found[i])) or false end
  return gsub(s, p, function()
    at = at + 1
    return values[at]
  end, max)
end

function safe_string.gsub(s, p, repl, max)
  s, p = text_argument(s, 1, "gsub"), text_argument(p, 2, "gsub")
  local kind = type(repl)
  if is_cheap(s, p) then return (kind == "function" and gsub_by or gsub)(s, p, repl, max) end
  if kind ~= "string" and kind ~= "number" and kind ~= "table" and kind ~= "function" then
    error("bad argument #3 to 'gsub' (string/function/table expected)", 2)
  end
  return patterns.gsub(s, p, repl, max)
end

function safe_string.rep(s, n, separator)
  s, separator = text_argument(s, 1, "rep"), separator and text_argument(separator, 3, "rep") or ""
  if type(n) ~= "number" then error("bad argument #2 to 'rep' (number expected)", 2) end
  local unit = s .. separator
  if n < 1 or #unit == 0 then return "" end
  charge(n * (#unit + 16) / 16)
  return sub(rep(unit, n), 1, -1 - #separator)
end

function safe_string.format(form, ...)
  if type(form) == "string" and find(form, "%q", 1, true) then
    for i = 1, select("#", ...) do
      local value = select(i, ...)
      if type(value) == "string" then charge(#value) end
    end
  end
  return format(form, ...)
end

local function plain_table(t, name)
  if type(t) ~= "table" then
    error(("bad argument #1 to '%s' (table expected, got %s)"):format(name, type(t)), 3)
  end
  if not is_plain(t) then error(("'%s' takes tables without a metatable"):format(name), 3) end
  return t
end

local safe_table = {}

function safe_table.concat(t, ...)
  charge(#plain_table(t, "concat") / 4)
  return concat(t, ...)
end

function safe_table.insert(t, ...)
  if select("#", ...) > 1 then charge(#plain_table(t, "insert") / 4) end
  return insert(plain_table(t, "insert"), ...)
end

function safe_table.remove(t, ...)
  if select("#", ...) > 0 then charge(#plain_table(t, "remove") / 4) end
  return remove(plain_table(t, "remove"), ...)
end

local function is_less(a, b) return a < b end

-- Joins the sorted from[low..middle-1] and from[middle..high-1] in `into`.
local function join(from, into, low, middle, high, less)
  local a, b = low, middle
  for i = low, high - 1 do
    if a < middle and not (b < high and less(from[b], from[a])) then
      into[i], a = from[a], a + 1
    else
      into[i], b = from[b], b + 1
    end
  end
end

function safe_table.sort(t, less)
  if less ~= nil and type(less) ~= "function" then
    error(("bad argument #2 to 'sort' (function expected, got %s)"):format(type(less)), 2)
  end
  local n, width = #plain_table(t, "sort"), 1
  local from, into = {}, {}
  for i = 1, n do from[i] = t[i] end
  while width < n do
    for low = 1, n, 2 * width do
      local middle, high = low + width, low + 2 * width
      join(from, into, low, middle <= n and middle or n + 1, high <= n and high or n + 1, less or is_less)
    end
    from, into, width = into, from, 2 * width
  end
  for i = 1, n do t[i] = from[i] end
end

function safe_table.unpack(t, i, j)
  i, j = i or 1, j or #plain_table(t, "unpack")
  charge(j - i)
  return unpack(t, i, j)
end

safe_table.pack = function(...) return { n = select("#", ...), ... } end

local safe_math = {}
for _, name in ipairs { "abs", "ceil", "cos", "deg", "exp", "floor", "fmod", "huge", "log", "max", "min", "modf",
  "pi", "rad", "random", "sin", "sqrt", "tan", "tointeger", "type" } do
  safe_math[name] = math[name]
end

local function safe_pcall(f, ...)
  return check(pcall(f, ...))
end

local function handled(handler, ok, ...)
  if ok then return true, ... end
  return false, handler((...))
end

local function safe_xpcall(f, handler, ...)
  return handled(handler, check(pcall(f, ...)))
end

local ORIGINAL = {} -- key of a metatable's copy: what it is a copy of

local function safe_setmetatable(t, mt)
  if type(mt) ~= "table" then return setmetatable(t, mt) end
  local copy = { [ORIGINAL] = mt }
  for name, value in next, mt do copy[name] = value end
  for _, name in ipairs { "__gc", "__mode" } do
    if copy[name] ~= nil then error(("metatables with %s are not allowed here"):format(name), 2) end
  end
  if copy.__call ~= nil and type(copy.__call) ~= "function" then error("__call: a function expected", 2) end
  return setmetatable(t, copy)
end

local function safe_getmetatable(value)
  if type(value) ~= "table" then return nil end
  local mt = getmetatable(value)
  return type(mt) == "table" and rawget(mt, ORIGINAL) or mt
end

-- What the host does for a policy: it is asked by yielding.
local host = {}
local function ask(name)
  host[name] = function(...)
    local ok, a, b = yield(name, ...)
    if ok then return a, b end
    error(a, 2)
  end
end

local frozen = {}

local function freeze(t)
  local shown = setmetatable({}, { __index = t, __metatable = false,
    __newindex = function() error("this table cannot be changed", 2) end })
  frozen[shown] = true
  return shown
end

local function safe_rawset(t, name, value)
  if frozen[t] then error("this table cannot be changed", 2) end
  return rawset(t, name, value)
end

local loaded, loading = {}, {}

local function safe_require(env)
  return function(name)
    if type(name) ~= "string" then error("bad argument #1 to 'require' (string expected)", 2) end
    local module = loaded[name]
    if module ~= nil then return module end
    if loading[name] then error(("module %q requires itself"):format(name), 2) end
    local ok, text = yield("module", name)
    if not ok then error(text, 2) end
    local chunk, why = compile(text, "@" .. name, env)
    if not chunk then error(why, 2) end
    loading[name] = true
    ok, module = check(pcall(chunk, name))
    loading[name] = nil
    if not ok then error(module, 0) end
    if module == nil then module = true end
    loaded[name] = module
    return module
  end
end

local function new_environment()
  local env = {
    assert = assert, error = error, getmetatable = safe_getmetatable, ipairs = ipairs, next = next, pairs = pairs,
    pcall = safe_pcall, rawequal = rawequal, rawget = rawget, rawset = safe_rawset, select = select,
    setmetatable = safe_setmetatable, tonumber = tonumber, tostring = tostring, type = type, xpcall = safe_xpcall,
    rawlen = rawlen or function(v) return #v end, -- luacheck: ignore
    _VERSION = _VERSION, unpack = safe_table.unpack,
    string = freeze(safe_string), table = freeze(safe_table), math = freeze(safe_math),
    KiB = 1024, MiB = 1024 ^ 2, GiB = 1024 ^ 3, TiB = 1024 ^ 4, minutes = 60, hours = 3600, days = 86400,
    array = function(t) return setmetatable(t or {}, array_mark) end,
  }
  for name, value in pairs { KiB = 1024, MiB = 1048576, GiB = 1073741824, TiB = 1099511627776 } do
    env[name] = value -- integers, where there are any
  end
  env._G = env
  env.require = safe_require(env)
  return env
end

local string_mt = getmetatable("")
string_mt.__index, string_mt.__metatable = safe_string, false

local policy
local dispatch = {}

-- The pattern matcher, what the host offers, and a number that no other state has: LuaJIT begins at the same one.
function dispatch.setup(text, names, seed)
  math.randomseed(seed)
  patterns = compile(text, "=pattern", { error = error, select = select, tonumber = tonumber, tostring = tostring,
    type = type, string = { byte = byte, find = find, gsub = gsub, sub = sub }, table = { concat = concat },
    unpack = unpack })()
  for _, name in ipairs(names) do ask(name) end
  host = freeze(host)
  return true
end

-- The policy itself: its hooks, and how it describes itself.
function dispatch.load(text, name)
  local env = new_environment()
  local chunk, why = compile(text, name, env)
  if not chunk then error(why, 0) end
  local value = chunk()
  policy = env.require("longshore.policy.rules").chain(value)
  local hooks = {}
  for hook in next, policy do
    if hook ~= "name" and hook ~= "about" then hooks[#hooks + 1] = hook end
  end
  return hooks, policy.name, policy.about
end

function dispatch.hook(hook, context)
  local answer, reason = policy[hook](context, host)
  return answer, reason
end

return function(operation, ...)
  return dispatch[operation](...)
end

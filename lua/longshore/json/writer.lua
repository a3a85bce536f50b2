--- Writes JSON. See `longshore.json`.
--
-- Room: shared ground, no I/O.
-- @module longshore.json.writer
local core = require "longshore.core"
local marks = require "longshore.json.marks"
local utf8 = require "longshore.json.utf8"

local byte, find, format, gsub = string.byte, string.find, string.format, string.gsub
local is_plain = core.is_plain
local floor, huge = math.floor, math.huge
local array_mt, object_mt, null = marks.array, marks.object, marks.null
local MAX_DEPTH, EXACT = marks.max_depth, 2 ^ 53

local _M = {}

local escapes = {
  ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n",
  ["\r"] = "\\r", ["\t"] = "\\t", ["\127"] = "\\u007f",
}

local function escape(c)
  return escapes[c] or format("\\u%04x", byte(c))
end

local function write_string(s)
  if is_plain(s) then return '"' .. s .. '"' end
  if find(s, '[%c"\\]') then s = gsub(s, '[%c"\\]', escape) end
  return '"' .. utf8.repaired(s) .. '"'
end

local math_type = rawget(math, "type") or function() return "float" end

--- A number as JSON (and SQL, and XML) want it: integers plain up to 2^53, other
-- values with the fewest digits that read back as the same double.
-- @tparam number v finite
-- @treturn string
function _M.number(v)
  if math_type(v) == "integer" then return format("%d", v) end
  if v ~= v or v == huge or v == -huge then
    error("json.encode: " .. tostring(v) .. " has no JSON form", 0)
  end
  if v == 0 then return "0" end
  if v == floor(v) and v >= -EXACT and v <= EXACT then return format("%.0f", v) end
  -- The smallest doubles have fewer digits than the usual fifteen.
  local first = v > -2.3e-308 and v < 2.3e-308 and 1 or 15
  for digits = first, 17 do
    local s = format("%." .. digits .. "g", v)
    if tonumber(s) == v then return (gsub(s, ",", ".")) end
  end
end

local write_value

-- Whether to write a table as array, and how many elements it has.
local function shape(t)
  local mt = getmetatable(t)
  local n = 0
  local strings = false
  for k in pairs(t) do
    if type(k) == "string" then
      strings = true
    elseif type(k) == "number" and k >= 1 and k == floor(k) then
      n = n + 1
    else
      error("json.encode: a key must be a string, got " .. type(k) .. " " .. tostring(k), 0)
    end
  end
  if n > 0 and (strings or mt == object_mt) then
    error("json.encode: a table has both kinds of keys, positions and names", 0)
  end
  if mt == array_mt then
    if strings then error("json.encode: an array has the key " .. tostring((next(t))), 0) end
    return true, n
  end
  return n > 0, n
end

local function write_array(out, t, n, state, depth)
  local line = state.indent and "\n" .. state.indent:rep(depth)
  out[#out + 1] = "["
  for i = 1, n do
    local v = t[i]
    if v == nil then error("json.encode: an array has a hole at " .. i, 0) end
    if i > 1 then out[#out + 1] = "," end
    if line then out[#out + 1] = line end
    write_value(out, v, state, depth)
  end
  if line and n > 0 then out[#out + 1] = "\n" .. state.indent:rep(depth - 1) end
  out[#out + 1] = "]"
end

local function write_pair(out, k, v, state, depth, line, first)
  if not first then out[#out + 1] = "," end
  if line then out[#out + 1] = line end
  out[#out + 1] = write_string(k)
  out[#out + 1] = line and ": " or ":"
  write_value(out, v, state, depth)
end

local function write_object(out, t, state, depth)
  local line = state.indent and "\n" .. state.indent:rep(depth)
  out[#out + 1] = "{"
  local first = true
  if state.sorted then
    local keys = {}
    for k in pairs(t) do keys[#keys + 1] = k end
    table.sort(keys)
    for i = 1, #keys do
      write_pair(out, keys[i], t[keys[i]], state, depth, line, first)
      first = false
    end
  else
    for k, v in pairs(t) do
      write_pair(out, k, v, state, depth, line, first)
      first = false
    end
  end
  if line and not first then out[#out + 1] = "\n" .. state.indent:rep(depth - 1) end
  out[#out + 1] = "}"
end

write_value = function(out, v, state, depth)
  local kind = type(v)
  if kind == "string" then
    out[#out + 1] = write_string(v)
  elseif kind == "number" then
    out[#out + 1] = _M.number(v)
  elseif kind == "boolean" then
    out[#out + 1] = v and "true" or "false"
  elseif v == null then
    out[#out + 1] = "null"
  elseif kind == "table" then
    depth = depth + 1
    if depth > MAX_DEPTH then error("json.encode: nested too deep (does a table contain itself?)", 0) end
    local array, n = shape(v)
    if array then
      write_array(out, v, n, state, depth)
    else
      write_object(out, v, state, depth)
    end
  else
    error("json.encode: a " .. kind .. " has no JSON form", 0)
  end
end

local plain = {}

--- Writes a value as JSON. An unmarked table with the keys 1..n is an array, an
-- empty one an object. Bytes that are not UTF-8 are written as U+FFFD: what must
-- survive byte for byte (a path on disk) has to be encoded first.
--
-- Raises on what has no JSON form: functions, NaN, infinities, tables with both
-- kinds of keys or with holes, more than 128 levels.
-- @param value table, string, number, boolean or `json.null`
-- @tparam[opt] table options `sorted=true`: keys in byte order; `indent="  "`:
--   one line for each value, keys sorted
-- @treturn string
function _M.encode(value, options)
  local state = plain
  if options then
    state = { sorted = options.sorted or options.indent ~= nil, indent = options.indent }
  end
  local out = {}
  write_value(out, value, state, 0)
  return table.concat(out)
end

return _M

--- JSON without surprises, the same on Lua 5.4 and LuaJIT.
--
-- What lua-cjson loses is kept here: integers up to 2^53 come back as integers,
-- every finite double survives (written with the fewest digits that read back
-- the same), `[]` stays an array and `{}` an object, null is explicit
-- (`json.null`, lua-cjson's, so that it crosses nginx's worker threads).
--
-- Reading is strict (RFC 8259): no comments, no raw control characters, valid
-- UTF-8 only, no half surrogates, no number that a double cannot hold (1e400),
-- limited nesting. Of equal keys the last wins. Integers beyond 2^53 become the
-- nearest double, as in browsers. -0 becomes 0.
--
-- Room: shared ground, no I/O.
-- @module longshore.json
local cjson = require "cjson"
local errors = require "longshore.errors"

local byte, find, match, sub = string.byte, string.find, string.match, string.sub
local format, gsub, char = string.format, string.gsub, string.char
local floor, huge = math.floor, math.huge

local _M = {}

--- The value of JSON's null inside tables.
_M.null = cjson.null
local null = _M.null

-- How deep arrays and objects may be nested, both ways.
local MAX_DEPTH = 128
local EXACT = 2 ^ 53

local array_mt = { __name = "longshore.json.array" }
local object_mt = { __name = "longshore.json.object" }

--- Marks a table as an array, so that it is written as one even when empty.
-- @tparam[opt] table t default: a new one
-- @treturn table t
function _M.array(t)
  return setmetatable(t or {}, array_mt)
end

--- Marks a table as an object. (An unmarked empty table is one already.)
-- @tparam[opt] table t default: a new one
-- @treturn table t
function _M.object(t)
  return setmetatable(t or {}, object_mt)
end

--- Whether a value is a table that was decoded from, or marked as, an array.
-- @param t anything
-- @treturn boolean
function _M.is_array(t)
  return type(t) == "table" and getmetatable(t) == array_mt
end

-- Lua 5.4 tells integers and floats apart; LuaJIT has no need to.
local to_integer = rawget(math, "tointeger") or function(v) return v end

---------------------------------------------------------------------------
-- UTF-8

local TAIL = "[\128-\191]"
local well_formed = {
  "^[\194-\223]" .. TAIL .. "()",
  "^\224[\160-\191]" .. TAIL .. "()",
  "^[\225-\236\238\239]" .. TAIL .. TAIL .. "()",
  "^\237[\128-\159]" .. TAIL .. "()",
  "^\240[\144-\191]" .. TAIL .. TAIL .. "()",
  "^[\241-\243]" .. TAIL .. TAIL .. TAIL .. "()",
  "^\244[\128-\143]" .. TAIL .. TAIL .. "()",
}

-- Where the well-formed sequence at `pos` ends (next position), or nil.
local function sequence(text, pos)
  for i = 1, #well_formed do
    local stop = match(text, well_formed[i], pos)
    if stop then return stop end
  end
end

--- Where a text stops being UTF-8.
-- @tparam string text
-- @treturn[1] nil all of it is well-formed
-- @treturn[2] number position of the first byte that is not
function _M.bad_utf8(text)
  local pos = find(text, "[\128-\255]")
  while pos do
    local stop = sequence(text, pos)
    if not stop then return pos end
    pos = find(text, "[\128-\255]", stop)
  end
end

-- Each byte that is not part of UTF-8 becomes U+FFFD.
local function repaired(text)
  local out, from = {}, 1
  local pos = find(text, "[\128-\255]")
  while pos do
    local stop = sequence(text, pos)
    if not stop then
      out[#out + 1] = sub(text, from, pos - 1) .. "\239\191\189"
      stop = pos + 1
      from = stop
    end
    pos = find(text, "[\128-\255]", stop)
  end
  out[#out + 1] = sub(text, from)
  return table.concat(out)
end

---------------------------------------------------------------------------
-- Reading

local syntax_mt = {}

local function fail(pos, message)
  error(setmetatable({ pos = pos, message = message }, syntax_mt), 0)
end

local unescaped = {
  ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
}

local function utf8_char(c)
  if c < 0x80 then return char(c) end
  if c < 0x800 then return char(0xC0 + floor(c / 64), 0x80 + c % 64) end
  if c < 0x10000 then
    return char(0xE0 + floor(c / 4096), 0x80 + floor(c / 64) % 64, 0x80 + c % 64)
  end
  return char(0xF0 + floor(c / 262144), 0x80 + floor(c / 4096) % 64,
    0x80 + floor(c / 64) % 64, 0x80 + c % 64)
end

-- The code point of the \u escape whose backslash is at `pos`, and what follows.
local function unicode_escape(text, pos)
  local hex = match(text, "^\\u(%x%x%x%x)", pos)
  if not hex then fail(pos, "\\u needs four hexadecimal digits") end
  local c = tonumber(hex, 16)
  if c < 0xD800 or c > 0xDFFF then return c, pos + 6 end
  local low = c < 0xDC00 and match(text, "^\\u([dD][c-fC-F]%x%x)", pos + 6)
  if not low then fail(pos, "half of a surrogate pair") end
  return 0x10000 + (c - 0xD800) * 1024 + (tonumber(low, 16) - 0xDC00), pos + 12
end

-- A string with escapes; `pos` is the first byte after the opening quote.
local function escaped_string(text, pos)
  local out, n = {}, 0
  while true do
    local stop = find(text, '[%c"\\]', pos)
    if not stop then fail(pos, "a string without its closing quote") end
    local b = byte(text, stop)
    n = n + 1
    out[n] = sub(text, pos, stop - 1)
    if b == 34 then
      return table.concat(out, "", 1, n), stop + 1
    elseif b == 92 then
      local e = sub(text, stop + 1, stop + 1)
      n = n + 1
      if e == "u" then
        local c
        c, pos = unicode_escape(text, stop)
        out[n] = utf8_char(c)
      else
        out[n] = unescaped[e] or fail(stop, "an unknown escape in a string")
        pos = stop + 2
      end
    elseif b == 127 then -- %c has it, JSON allows it
      n = n + 1
      out[n] = "\127"
      pos = stop + 1
    else
      fail(stop, "a raw control character in a string")
    end
  end
end

-- `pos` is at the opening quote.
local function read_string(text, pos)
  local stop = find(text, '[%c"\\]', pos + 1)
  if stop and byte(text, stop) == 34 then
    return sub(text, pos + 1, stop - 1), stop + 1
  end
  return escaped_string(text, pos + 1)
end

local function read_number(text, pos)
  local digits, stop = match(text, "^%-?(%d+)()", pos)
  if not digits or (#digits > 1 and byte(digits) == 48) then
    fail(pos, "not a number as JSON has them")
  end
  local b = byte(text, stop)
  if b == 46 then -- .
    stop = match(text, "^%d+()", stop + 1) or fail(stop, "a decimal point without digits")
    b = byte(text, stop)
  end
  if b == 69 or b == 101 then -- E e
    stop = match(text, "^[+-]?%d+()", stop + 1) or fail(stop, "an exponent without digits")
  end
  local value = tonumber(sub(text, pos, stop - 1))
  if value == 0 then return 0, stop end
  if value >= -EXACT and value <= EXACT then
    return to_integer(value) or value, stop
  end
  if value == huge or value == -huge then
    fail(pos, "a number too large for a double")
  end
  return value + 0.0, stop
end

local function skip(text, pos)
  local b = byte(text, pos)
  if b and b > 32 then return pos end
  return find(text, "[^ \n\r\t]", pos) or #text + 1
end

local words = {
  [116] = { "^true()", true }, [102] = { "^false()", false }, [110] = { "^null()", null },
}

local read_value

local function read_object(text, pos, depth, max_depth)
  if depth > max_depth then fail(pos, "nested too deep") end
  local t = {}
  pos = skip(text, pos + 1)
  if byte(text, pos) == 125 then return t, pos + 1 end
  while true do
    if byte(text, pos) ~= 34 then fail(pos, "a key in quotes expected") end
    local key, value
    key, pos = read_string(text, pos)
    if byte(text, pos) ~= 58 then
      pos = skip(text, pos)
      if byte(text, pos) ~= 58 then fail(pos, "a colon expected") end
    end
    value, pos = read_value(text, skip(text, pos + 1), depth, max_depth)
    t[key] = value
    local b = byte(text, pos)
    if b ~= 44 and b ~= 125 then
      pos = skip(text, pos)
      b = byte(text, pos)
    end
    if b == 125 then return t, pos + 1 end
    if b ~= 44 then fail(pos, "a comma or } expected") end
    pos = skip(text, pos + 1)
  end
end

local function read_array(text, pos, depth, max_depth)
  if depth > max_depth then fail(pos, "nested too deep") end
  local t, n = setmetatable({}, array_mt), 0
  pos = skip(text, pos + 1)
  if byte(text, pos) == 93 then return t, pos + 1 end
  while true do
    n = n + 1
    t[n], pos = read_value(text, pos, depth, max_depth)
    local b = byte(text, pos)
    if b ~= 44 and b ~= 93 then
      pos = skip(text, pos)
      b = byte(text, pos)
    end
    if b == 93 then return t, pos + 1 end
    if b ~= 44 then fail(pos, "a comma or ] expected") end
    pos = skip(text, pos + 1)
  end
end

read_value = function(text, pos, depth, max_depth)
  local b = byte(text, pos)
  if b == 34 then return read_string(text, pos) end
  if b == 123 then return read_object(text, pos, depth + 1, max_depth) end
  if b == 91 then return read_array(text, pos, depth + 1, max_depth) end
  if b == 45 or (b and b >= 48 and b <= 57) then return read_number(text, pos) end
  local word = words[b]
  local stop = word and match(text, word[1], pos)
  if not stop then fail(pos, b and "a value expected" or "the text ends too early") end
  return word[2], stop
end

local function read_document(text, max_depth)
  local pos = skip(text, 1)
  local value
  value, pos = read_value(text, pos, 0, max_depth)
  pos = skip(text, pos)
  if pos <= #text then fail(pos, "something follows the value") end
  return value
end

--- Reads a JSON text.
-- @tparam string text
-- @tparam[opt] table options `max_bytes` (none by default), `max_depth` (128)
-- @return the value: a table, a string, a number, a boolean or `json.null`
-- @return[2] nil
-- @treturn[2] table err code `invalid` (with `position`, the byte where it
--   went wrong) or `too_large`
function _M.decode(text, options)
  if type(text) ~= "string" then error("json.decode: a string expected, got " .. type(text), 2) end
  local max_bytes = options and options.max_bytes
  if max_bytes and #text > max_bytes then
    return errors.fail("too_large", format("the JSON text has %d bytes; %d are allowed", #text, max_bytes))
  end
  local bad = _M.bad_utf8(text)
  if bad then
    return errors.fail("invalid", format("broken JSON: not UTF-8 at byte %d", bad), { position = bad })
  end
  local ok, value = pcall(read_document, text, options and options.max_depth or MAX_DEPTH)
  if ok then return value end
  if getmetatable(value) ~= syntax_mt then error(value, 0) end
  return errors.fail("invalid", format("broken JSON: %s at byte %d", value.message, value.pos),
    { position = value.pos })
end

---------------------------------------------------------------------------
-- Writing

local escapes = {
  ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n",
  ["\r"] = "\\r", ["\t"] = "\\t", ["\127"] = "\\u007f",
}

local function escape(c)
  return escapes[c] or format("\\u%04x", byte(c))
end

local function write_string(s)
  if find(s, '[%c"\\]') then s = gsub(s, '[%c"\\]', escape) end
  if find(s, "[\128-\255]") and _M.bad_utf8(s) then s = repaired(s) end
  return '"' .. s .. '"'
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

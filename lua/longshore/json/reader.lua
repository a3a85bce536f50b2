--- Reads JSON, strictly. See `longshore.json` for what is strict.
--
-- Room: shared ground, no I/O.
-- @module longshore.json.reader
local errors = require "longshore.errors"
local marks = require "longshore.json.marks"
local utf8 = require "longshore.json.utf8"

local byte, find, match, sub, format = string.byte, string.find, string.match, string.sub, string.format
local huge = math.huge
local array_mt, null = marks.array, marks.null
local MAX_DEPTH, EXACT = marks.max_depth, 2 ^ 53

-- Lua 5.4 tells integers and floats apart; LuaJIT has no need to.
local to_integer = rawget(math, "tointeger") or function(v) return v end

local _M = {}

local syntax_mt = {}

local function fail(pos, message)
  error(setmetatable({ pos = pos, message = message }, syntax_mt), 0)
end

local unescaped = {
  ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
}

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
        out[n] = utf8.char(c)
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
  if not value then -- LuaJIT does not read absurd exponents
    local mantissa, sign = match(sub(text, pos, stop - 1), "^([^eE]+)[eE]([+-]?)")
    value = (sign == "-" or not find(mantissa, "[1-9]")) and 0 or huge
  end
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
  local bad = utf8.bad(text)
  if bad then
    return errors.fail("invalid", format("broken JSON: not UTF-8 at byte %d", bad), { position = bad })
  end
  local ok, value = pcall(read_document, text, options and options.max_depth or MAX_DEPTH)
  if ok then return value end
  if getmetatable(value) ~= syntax_mt then error(value, 0) end
  return errors.fail("invalid", format("broken JSON: %s at byte %d", value.message, value.pos),
    { position = value.pos })
end

return _M

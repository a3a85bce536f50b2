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
local marks = require "longshore.json.marks"
local reader = require "longshore.json.reader"
local utf8 = require "longshore.json.utf8"
local writer = require "longshore.json.writer"

local _M = {}

--- The value of JSON's null inside tables.
_M.null = marks.null

--- Reads a text: `decode(text, {max_bytes=, max_depth=})`.
-- @see longshore.json.reader.decode
_M.decode = reader.decode

--- Writes a value: `encode(value, {sorted=, indent=})`.
-- @see longshore.json.writer.encode
_M.encode = writer.encode

--- Writes a number.
-- @see longshore.json.writer.number
_M.number = writer.number

--- Where a text stops being UTF-8.
-- @see longshore.json.utf8.bad
_M.bad_utf8 = utf8.bad

--- Marks a table as an array, so that it is written as one even when empty.
-- @tparam[opt] table t default: a new one
-- @treturn table t
function _M.array(t)
  return setmetatable(t or {}, marks.array)
end

--- Marks a table as an object. (An unmarked empty table is one already.)
-- @tparam[opt] table t default: a new one
-- @treturn table t
function _M.object(t)
  return setmetatable(t or {}, marks.object)
end

--- Whether a value is a table that was decoded from, or marked as, an array.
-- @param t anything
-- @treturn boolean
function _M.is_array(t)
  return type(t) == "table" and getmetatable(t) == marks.array
end

--- A value as a field that is always there: null where there is none.
-- @param[opt] value
-- @return value, or `json.null`
function _M.optional(value)
  if value == nil then return _M.null end
  return value
end

return _M

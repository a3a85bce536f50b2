--- Random names that nobody can guess.
--
-- Room: broker.
-- @module longshore.broker.ids
local core = require "longshore.core"

local _M = {}

--- Random characters of the base-32 alphabet (RFC 4648, small letters); 5 bits
-- each.
-- @tparam number n how many
-- @treturn string
_M.characters = core.letters

-- The alphabet in the order of its bytes, so that what is younger sorts behind what is older.
local ORDERED = "234567abcdefghijklmnopqrstuvwxyz"
-- The characters of the last moment's time.
local moment, text

local function time_characters()
  local now = math.floor(core.now() * 1000)
  if now ~= moment then
    local list, rest = {}, now
    for i = 9, 1, -1 do
      local digit = rest % 32
      list[i], rest = ORDERED:sub(digit + 1, digit + 1), (rest - digit) / 32
    end
    moment, text = now, table.concat(list)
  end
  return text
end

--- A new id: a prefix and 26 characters, 9 that tell the moment (milliseconds) and 85 random
-- bits. Rows that are made one after the other lie side by side in a database's indexes then, and
-- many are written with few pages.
-- @tparam string prefix such as "upl_"
-- @treturn string
function _M.new(prefix)
  return prefix .. time_characters() .. _M.characters(17)
end

--- A new id that is a number: 1 to 2^53-1, exact on both Luas.
-- @treturn number integral
function _M.number()
  local a, b, c, d, e, f, g = core.random(7):byte(1, 7)
  local n = ((((((a % 32) * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f) * 256 + g
  return n > 0 and n or _M.number()
end

--- Whether a text has the form of an id with this prefix.
-- @param id anything
-- @tparam string prefix
-- @treturn boolean
function _M.is(id, prefix)
  return type(id) == "string" and #id == #prefix + 26 and id:sub(1, #prefix) == prefix
    and not id:find("[^a-z2-7]", #prefix + 1)
end

return _M

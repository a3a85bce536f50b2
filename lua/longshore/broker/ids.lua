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

--- A new id: a prefix and 26 characters, 130 random bits.
-- @tparam string prefix such as "upl_"
-- @treturn string
function _M.new(prefix)
  return prefix .. _M.characters(26)
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

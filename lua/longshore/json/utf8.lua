--- UTF-8: whether it is, and making it.
--
-- Room: shared ground, no I/O.
-- @module longshore.json.utf8
local core = require "longshore.core"

local sub = string.sub
local char, floor = string.char, math.floor

local _M = {}

--- Where a text stops being UTF-8.
-- @tparam string text
-- @tparam[opt=1] number from where to begin to look
-- @treturn[1] nil all of it is well-formed
-- @treturn[2] number position of the first byte that is not
_M.bad = core.utf8_bad

--- A text in which each byte that is not part of UTF-8 is U+FFFD.
-- @tparam string text
-- @treturn string
-- @treturn boolean whether there was any
function _M.repaired(text)
  local pos = _M.bad(text)
  if not pos then return text, false end
  local out, from = {}, 1
  while pos do
    out[#out + 1] = sub(text, from, pos - 1) .. "\239\191\189"
    from = pos + 1
    pos = _M.bad(text, from)
  end
  out[#out + 1] = sub(text, from)
  return table.concat(out), true
end

--- A character.
-- @tparam number c code point
-- @treturn string
function _M.char(c)
  if c < 0x80 then return char(c) end
  if c < 0x800 then return char(0xC0 + floor(c / 64), 0x80 + c % 64) end
  if c < 0x10000 then
    return char(0xE0 + floor(c / 4096), 0x80 + floor(c / 64) % 64, 0x80 + c % 64)
  end
  return char(0xF0 + floor(c / 262144), 0x80 + floor(c / 4096) % 64,
    0x80 + floor(c / 64) % 64, 0x80 + c % 64)
end

return _M

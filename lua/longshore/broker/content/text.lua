--- Text of unknown quality: made valid UTF-8, cut to a length.
--
-- Room: broker, content; pure.
-- @module longshore.broker.content.text
local utf8 = require "longshore.json.utf8"

local _M = {}

local byte, sub = string.byte, string.sub

--- Replaces every byte that is not part of valid UTF-8 by U+FFFD.
-- @tparam string s
-- @treturn string
-- @treturn boolean whether anything had to be replaced
_M.utf8 = utf8.repaired

--- Cuts valid UTF-8 to at most `max` bytes, at a character's end.
-- @tparam string s
-- @tparam number max
-- @tparam[opt=""] string mark appended when something was cut
-- @treturn string
function _M.cut(s, max, mark)
  if #s <= max then return s end
  local last = max
  while last > 0 do
    local c = byte(s, last + 1)
    if c < 0x80 or c > 0xBF then break end
    last = last - 1
  end
  return sub(s, 1, last) .. (mark or "")
end

return _M

--- Text of unknown quality: made valid UTF-8, cut to a length.
--
-- Room: broker, content; pure.
-- @module longshore.broker.content.text
local _M = {}

local REPLACEMENT = "\239\191\189"
local byte, find, sub = string.byte, string.find, string.sub

-- Length of the valid sequence at `i`, or nil.
local function sequence(s, i)
  local c = byte(s, i)
  if c < 0x80 then return 1 end
  local n, low, high
  if c >= 0xC2 and c <= 0xDF then
    n = 1
  elseif c >= 0xE0 and c <= 0xEF then
    n = 2
    if c == 0xE0 then low = 0xA0 elseif c == 0xED then high = 0x9F end
  elseif c >= 0xF0 and c <= 0xF4 then
    n = 3
    if c == 0xF0 then low = 0x90 elseif c == 0xF4 then high = 0x8F end
  else
    return nil
  end
  for k = 1, n do
    local d = byte(s, i + k)
    if not d or d < (k == 1 and low or 0x80) or d > (k == 1 and high or 0xBF) then return nil end
  end
  return n + 1
end

--- Replaces every byte that is not part of valid UTF-8 by U+FFFD.
-- @tparam string s
-- @treturn string
-- @treturn boolean whether anything had to be replaced
function _M.utf8(s)
  local i = find(s, "[\128-\255]")
  if not i then return s, false end
  local out, from, broken = {}, 1, false
  while i do
    local n = sequence(s, i)
    if n then
      i = i + n
    else
      broken = true
      out[#out + 1] = sub(s, from, i - 1)
      out[#out + 1] = REPLACEMENT
      i = i + 1
      from = i
    end
    i = find(s, "[\128-\255]", i)
  end
  if not broken then return s, false end
  out[#out + 1] = sub(s, from)
  return table.concat(out), true
end

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

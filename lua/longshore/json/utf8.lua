--- UTF-8: whether it is, and making it.
--
-- Room: shared ground, no I/O.
-- @module longshore.json.utf8
local find, match, sub = string.find, string.match, string.sub
local char, floor = string.char, math.floor

local _M = {}

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
function _M.bad(text)
  local pos = find(text, "[\128-\255]")
  while pos do
    local stop = sequence(text, pos)
    if not stop then return pos end
    pos = find(text, "[\128-\255]", stop)
  end
end

--- A text in which each byte that is not part of UTF-8 is U+FFFD.
-- @tparam string text
-- @treturn string
function _M.repaired(text)
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

--- Random UUIDs (RFC 9562, version 4), where a service's ids have that form.
--
-- Room: broker.
-- @module longshore.broker.uuid
local core = require "longshore.core"

local _M = {}

--- A new one, 122 random bits, in small letters.
-- @treturn string
function _M.new()
  local b = { core.random(16):byte(1, 16) }
  b[7] = b[7] % 16 + 64
  b[9] = b[9] % 64 + 128
  local hex = core.hex(string.char((table.unpack or unpack)(b))) -- luacheck: ignore
  return ("%s-%s-%s-%s-%s"):format(hex:sub(1, 8), hex:sub(9, 12), hex:sub(13, 16), hex:sub(17, 20), hex:sub(21))
end

return _M

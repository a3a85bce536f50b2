--- Numbers that a store refuses late, refused early.
--
-- Room: provider, no I/O.
-- @module longshore.provider.s3.limits
local errors = require "longshore.errors"

local _M = {}

--- Whether a value is a whole number in a range.
-- @param value anything
-- @tparam number low
-- @tparam number high
-- @treturn boolean
function _M.whole(value, low, high)
  return type(value) == "number" and value == math.floor(value) and value >= low and value <= high
end

--- Checks number and length of a part against a store's limits.
-- @tparam table profile
-- @param number
-- @param length nil: not known
-- @treturn boolean|nil true
-- @treturn[opt] table err `invalid` or `too_large` with `field`
function _M.part(profile, number, length)
  if not _M.whole(number, 1, profile.max_parts) then
    return errors.fail("invalid", ("number: a part number is 1 to %.0f"):format(profile.max_parts),
      { field = "number" })
  end
  if length == nil then return true end
  if not _M.whole(length, 0, 2 ^ 53) then
    return errors.fail("invalid", "length: a whole number of bytes expected", { field = "length" })
  end
  if length > profile.max_part then
    return errors.fail("too_large", ("length: a part has at most %.0f bytes here"):format(profile.max_part),
      { field = "length" })
  end
  return true
end

return _M

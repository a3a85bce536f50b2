--- Dividing an object into parts, within the limits of its store, before the
-- first byte is sent.
--
-- All parts but the last have the same size. Where nobody knows the length yet
-- and the store allows it, sizes double after every tenth of the parts, so that
-- a short stream has small parts and a long one still fits.
--
-- Room: shared ground, no I/O.
-- @module longshore.plan
local core = require "longshore.core"

local _M = {}

--- The part size where nobody asks for another.
_M.DEFAULT_PART_SIZE = 8 * 2 ^ 20

-- What S3 allows; a profile has the same fields.
local MIN_PART, MAX_PART, MAX_PARTS = 5 * 2 ^ 20, 5 * 2 ^ 30, 10000

--- Plans the parts of an object.
-- @tparam table options
--   size (bytes; nil: not known yet), part_size (preferred, default 8 MiB),
--   min_part, max_part, max_parts, max_object (the store's limits, default
--   S3's), equal (parts must not grow; default false)
-- @treturn table plan: part_size, max_size (what it can hold) and, if the size
--   is known, count and last_length; an empty object has one part of length 0.
--   A growing plan also has grow_every and max_part.
-- @return nil, err with code `too_large`, `field` size and `limit` in bytes
function _M.parts(options)
  local max_part = options.max_part or MAX_PART
  local max_parts = options.max_parts or MAX_PARTS
  local max_object = options.max_object or math.min(max_part * max_parts, 2 ^ 53)
  local plan, err = core.plan {
    size = options.size,
    part_size = options.part_size or _M.DEFAULT_PART_SIZE,
    min_part = math.min(options.min_part or MIN_PART, max_part),
    max_part = max_part,
    max_parts = max_parts,
    max_object = max_object,
    equal = options.equal,
  }
  if plan then
    return plan
  end
  err.field = "size"
  err.limit = math.min(max_object, max_part * max_parts)
  err.message = ("%.0f bytes are more than the store can hold: at most %.0f in %.0f parts of up to %.0f"):format(
    options.size, err.limit, max_parts, max_part)
  return nil, err
end

--- Where a part lies.
-- @param plan a plan, or only its part size
-- @tparam ?number size of the object in bytes; nil: not known yet
-- @tparam number number of the part, from 1
-- @treturn number offset
-- @treturn number length
-- @return nil, err with code `invalid` for a part that the object does not have
function _M.range(plan, size, number)
  return core.plan_range(plan, size, number)
end

return _M

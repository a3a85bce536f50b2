--- What the store has, compared with what was planned and announced: the checks
-- of a complete.
--
-- Room: broker. Reads from the store, changes nothing.
-- @module longshore.broker.assembly
local check = require "longshore.broker.check"
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}

--- The store's parts that make the object.
-- @tparam table broker
-- @tparam table row upload
-- @tparam table tokens number to bare token
-- @tparam {table,...} listed by the store
-- @treturn {table,...} parts in order: `number`, `etag`, `size`, `crc32c`
-- @treturn number bytes in all; or nil, err naming the first part that is missing
-- or not as planned
function _M.choose(broker, row, tokens, listed)
  local there = {}
  for _, part in ipairs(listed) do there[part.number] = part end
  local chosen, size = {}, 0
  local count = row.part_count
  if not count then -- the size was not announced: what is listed counts
    count = 0
    for _, part in ipairs(listed) do count = math.max(count, part.number) end
  end
  if count == 0 then return check.invalid("parts", "no part is in the store") end
  for number = 1, count do
    local part = there[number]
    if not part then
      return check.invalid("parts", ("part %d is not in the store; send it again"):format(number))
    end
    local length = broker:part_length(row, number)
    if length and part.size ~= length then
      return check.invalid("parts", ("part %d has %.0f bytes in the store instead of %.0f; send it again")
        :format(number, part.size, length))
    end
    local etag = check.bare_token(part.etag)
    if tokens[number] and tokens[number] ~= etag then
      return check.invalid("parts", ("part %d in the store is not the one whose token was given; send it again")
        :format(number))
    elseif row.requires_tokens and not tokens[number] then
      return check.invalid("parts", ("part %d has no token"):format(number))
    end
    size = size + part.size
    chosen[number] = { number = number, etag = etag, size = part.size, crc32c = part.crc32c }
  end
  return chosen, size
end

--- The CRC32C of the whole from those of the parts, or nil where one is unknown.
function _M.combined(chosen)
  local crc = 0
  for i, part in ipairs(chosen) do
    if not part.crc32c then return nil end
    crc = i == 1 and part.crc32c or core.crc32c_combine(crc, part.crc32c, part.size)
  end
  return crc
end

--- The object of this upload.
-- @treturn table as the provider's `head`; nil without an error when it is not
-- there or not this upload's; nil, err (`integrity` when its size is wrong)
function _M.look(provider, row, size)
  local object, err = provider:head { key = row.key }
  if not object then
    if err.code == "not_found" then return nil end
    return nil, err
  end
  if object.marker ~= row.id then return nil end
  if size and object.size ~= size then
    return errors.fail("integrity", ("the object has %.0f bytes instead of %.0f"):format(object.size, size))
  end
  return object
end

--- The error of a checksum that is not the expected one.
function _M.mismatch(expected, found)
  return errors.new("integrity", ("the CRC32C of what arrived is %s, not %s as expected")
    :format(core.crc32c_base64(found), core.crc32c_base64(expected)), { field = "crc32c" })
end

--- Compares the object's own CRC32C with what is expected of it.
-- @tparam table provider
-- @tparam table row upload
-- @tparam ?number crc of the parts together, where they were listed
-- @tparam ?number object_crc
-- @treturn boolean true; or nil, err (`integrity`)
function _M.verify(provider, row, crc, object_crc)
  local expected = row.expected_crc32c or crc
  if expected and object_crc and expected ~= object_crc then
    return nil, _M.mismatch(expected, object_crc)
  elseif row.expected_crc32c and not crc and not object_crc and not provider.profile.lists_crc32c then
    -- Where the store lists checksums of parts, they were compared before the
    -- object was made. Here nothing ever was.
    return errors.fail("integrity", "the store reported no CRC32C to compare with the announced one",
      { field = "crc32c" })
  end
  return true
end

return _M

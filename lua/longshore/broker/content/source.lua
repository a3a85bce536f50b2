--- Bytes by range: what sniffing and preview read from.
--
-- A source is a size and `read(first, last) -> bytes` (offsets from 0, both
-- included, as in an HTTP range). Nothing here knows where the bytes are: a
-- broker passes ranged reads of an object, a spec passes a string.
--
-- Room: broker, content; pure.
-- @module longshore.broker.content.source
local errors = require "longshore.errors"

local _M = {}

--- Bytes asked for at once while scanning.
_M.CHUNK = 1048576
--- Bytes of a file that a scan looks at, at most.
_M.SCAN = 16 * 1048576

--- A source over a string (specs, small bodies).
-- @tparam string data
-- @treturn function read
-- @treturn number size
function _M.of_string(data)
  return function(first, last)
    return data:sub(first + 1, last + 1)
  end, #data
end

--- Reads a range and holds the reader to what was asked for.
-- @tparam function read
-- @tparam number first
-- @tparam number last
-- @treturn string|nil bytes
-- @treturn table|nil err
function _M.range(read, first, last)
  if last < first then return "" end
  local bytes, err = read(first, last)
  if not bytes then return nil, err end
  if #bytes ~= last - first + 1 then
    return errors.fail("io", ("asked for bytes %d to %d and got %d of them"):format(first, last, #bytes),
      { retryable = true })
  end
  return bytes
end

--- Successive chunks of a file, up to a limit.
-- `feed()` returns the next bytes, or nil at the end. After that
-- `feed.whole()` tells whether the end was the file's own, and `feed.err()`
-- what went wrong if reading failed.
-- @tparam function read
-- @tparam number size of the file
-- @tparam[opt] table options `scan`, `chunk`: bytes
-- @treturn table feed callable
function _M.feed(read, size, options)
  options = options or {}
  local limit = math.min(size, options.scan or _M.SCAN)
  local chunk = options.chunk or _M.CHUNK
  local at, failed = 0, nil
  local feed = {}
  function feed.whole() return not failed and at >= size end
  function feed.err() return failed end
  return setmetatable(feed, { __call = function()
    if failed or at >= limit then return nil end
    local last = math.min(at + chunk, limit) - 1
    local bytes, err = _M.range(read, at, last)
    if not bytes then
      failed = err
      return nil
    end
    at = last + 1
    return bytes
  end })
end

return _M

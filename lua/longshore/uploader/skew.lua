--- How far other clocks are from ours, learned from the Date of their answers.
--
-- A Date has whole seconds and is some way old when it arrives, so a small
-- difference says nothing: below `TOLERANCE` a clock counts as right.
--
-- Room: uploader, no I/O.
-- @module longshore.uploader.skew
local dates = require "longshore.dates"

local _M = {}

--- Seconds of difference that are not a wrong clock.
_M.TOLERANCE = 5

local methods = {}
local mt = { __index = methods, __name = "longshore.skew" }

--- Remembers offsets by host.
-- @treturn skew
function _M.new()
  return setmetatable({ offsets = {} }, mt)
end

--- Learns from an answer.
-- @tparam string host any name for the clock
-- @tparam ?string date its Date header
-- @tparam number sent our time when the request left
-- @tparam number received our time when the answer was there
function methods:learn(host, date, sent, received)
  local theirs = date and dates.parse_http(date)
  if not theirs then return end
  -- The Date was made somewhere in between, and cut down to a whole second.
  local low, high = theirs - received, theirs + 1 - sent
  local offset = (low + high) / 2
  if high - low > 120 then return end -- a slow answer tells nothing
  if math.abs(offset) < _M.TOLERANCE then offset = 0 end
  self.offsets[host] = offset
end

--- Seconds to add to our time to get theirs; 0 when nothing is known.
function methods:offset(host)
  return self.offsets[host] or 0
end

--- A sentence for error texts, or nil when the clocks agree.
-- @tparam string host
function methods:hint(host)
  local offset = self:offset(host)
  if offset == 0 then return nil end
  local seconds = math.abs(offset)
  local amount = seconds >= 120 and ("%d minutes"):format(math.floor(seconds / 60 + 0.5))
    or ("%d seconds"):format(math.floor(seconds + 0.5))
  return ("the clock of this machine is %s %s that of %s; set it right"):format(amount,
    offset > 0 and "behind" or "ahead of", host)
end

return _M

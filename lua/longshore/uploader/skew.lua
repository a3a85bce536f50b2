--- How far other clocks are from ours, learned from the Date of their answers.
--
-- A Date has whole seconds and is some way old when it arrives, so a small
-- difference says nothing: below `TOLERANCE` a clock counts as right.
--
-- Room: uploader, no I/O.
-- @module longshore.uploader.skew
local _M = {}

--- Seconds of difference that are not a wrong clock.
_M.TOLERANCE = 5

local MONTHS = { Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6,
  Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11, Dec = 12 }

-- Days since 1970-01-01 of a date of the Gregorian calendar.
local function days(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local of_year = math.floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + day - 1
  return era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year - 719468
end

--- Reads an HTTP date (IMF-fixdate: "Wed, 21 Oct 2015 07:28:00 GMT").
-- @tparam string text
-- @treturn ?number seconds since 1970; nil when it is none
function _M.parse_date(text)
  local d, name, y, h, m, s = text:match("^%a+, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$")
  local month = name and MONTHS[name]
  if not month then return nil end
  return days(tonumber(y), month, tonumber(d)) * 86400 + tonumber(h) * 3600 + tonumber(m) * 60 + tonumber(s)
end

--- Reads an RFC 3339 time ("2026-01-31T12:00:00Z", with a fraction or an
-- offset too), or a number of seconds (or of milliseconds) since 1970.
-- @tparam string|number value
-- @treturn ?number seconds since 1970; nil when it is none
function _M.parse_time(value)
  if type(value) == "string" and value:match("^%d+%.?%d*$") then value = tonumber(value) end
  if type(value) == "number" then
    return value > 1e11 and value / 1000 or value
  end
  if type(value) ~= "string" then return nil end
  local y, mo, d, h, m, s, zone = value:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d%.?%d*)(.*)$")
  if not y then return nil end
  local offset = 0
  if zone ~= "" and zone:upper() ~= "Z" then
    local sign, zh, zm = zone:match("^([+-])(%d%d):?(%d%d)$")
    if not sign then return nil end
    offset = (tonumber(zh) * 3600 + tonumber(zm) * 60) * (sign == "-" and -1 or 1)
  end
  return days(tonumber(y), tonumber(mo), tonumber(d)) * 86400 + tonumber(h) * 3600 + tonumber(m) * 60
    + tonumber(s) - offset
end

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
  local theirs = date and _M.parse_date(date)
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

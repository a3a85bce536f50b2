--- Reading dates as services and stores write them.
--
-- Room: shared ground, no I/O.
-- @module longshore.dates
local _M = {}

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

local LENGTHS = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

-- Seconds since 1970 of a date and time in UTC; nil where the calendar has none.
local function seconds(y, mo, d, h, m, s)
  y, mo, d, h, m, s = tonumber(y), tonumber(mo), tonumber(d), tonumber(h), tonumber(m), tonumber(s)
  if mo < 1 or mo > 12 or d < 1 or d > LENGTHS[mo] or h > 23 or m > 59 or s >= 61 then return nil end
  return days(y, mo, d) * 86400 + h * 3600 + m * 60 + s
end

--- Reads an HTTP date (IMF-fixdate: "Wed, 21 Oct 2015 07:28:00 GMT").
-- @tparam ?string text
-- @treturn ?number seconds since 1970; nil when it is none
function _M.parse_http(text)
  local d, name, y, h, m, s = (text or ""):match("^%a+, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$")
  local month = name and MONTHS[name]
  return month and seconds(y, month, d, h, m, s)
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
  local at = seconds(y, mo, d, h, m, s)
  return at and at - offset
end

return _M

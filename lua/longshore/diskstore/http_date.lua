--- Times as HTTP and S3 write them.
--
-- Room: diskstore, no I/O.
-- @module longshore.diskstore.http_date
local _M = {}

local days = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
local months = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }
local month_of = {}
for i, name in ipairs(months) do month_of[name] = i end

--- `Sun, 06 Nov 1994 08:49:37 GMT`; the fraction is dropped.
-- @tparam number seconds since 1970
-- @treturn string
function _M.http(seconds)
  local t = os.date("!*t", math.floor(seconds))
  return ("%s, %02d %s %04d %02d:%02d:%02d GMT"):format(days[t.wday], t.day, months[t.month], t.year,
    t.hour, t.min, t.sec)
end

--- `1994-11-06T08:49:37.000Z`, to the millisecond.
-- @tparam number seconds since 1970
-- @treturn string
function _M.iso(seconds)
  local t = os.date("!*t", math.floor(seconds))
  return ("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ"):format(t.year, t.month, t.day, t.hour, t.min, t.sec,
    math.floor(seconds * 1000) % 1000)
end

-- Days since 1970 of a date of the Gregorian calendar.
local function days_from(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  local era_days = 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
  return era_days + math.floor((153 * (month - 3) + 2) / 5) + day - 1 - 719468
end

--- Reads a date of either form (and those of RFC 850 not at all).
-- @tparam string text
-- @treturn number seconds since 1970, or nil
function _M.parse(text)
  local day, name, year, hour, min, sec = text:match("^%a+, (%d%d?) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$")
  local month = name and month_of[name]
  if not day then
    year, month, day, hour, min, sec = text:match("^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)%.?%d*Z$")
    month = tonumber(month)
  end
  if not day or not month or month < 1 or month > 12 then return nil end
  return days_from(tonumber(year), month, tonumber(day)) * 86400 + tonumber(hour) * 3600 + tonumber(min) * 60
    + tonumber(sec)
end

return _M

--- The two forms of dates that stores answer with, as seconds since 1970.
--
-- Room: provider, no I/O. Independent of the time zone and locale.
-- @module longshore.provider.dates
local floor = math.floor

local _M = {}

-- Days from 1970-01-01 to a date of the Gregorian calendar.
local function days(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  return 365 * year + floor(year / 4) - floor(year / 100) + floor(year / 400)
    + floor((153 * (month - 3) + 2) / 5) + day - 1 - 719468
end

local lengths = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function seconds(year, month, day, hour, minute, second)
  year, day, hour, minute, second =
    tonumber(year), tonumber(day), tonumber(hour), tonumber(minute), tonumber(second)
  month = tonumber(month)
  if not month or month < 1 or month > 12 or day < 1 or day > lengths[month] or hour > 23 or minute > 59
    or second > 60 then
    return nil
  end
  return days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
end

local months = { Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9, Oct = 10,
  Nov = 11, Dec = 12 }

--- Reads the date of an HTTP header: `Tue, 15 Nov 1994 08:12:31 GMT`.
-- @tparam string|nil text
-- @treturn number|nil seconds
function _M.http(text)
  local day, month, year, hour, minute, second =
    (text or ""):match("^%a%a%a, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$")
  if day and months[month] then return seconds(year, months[month], day, hour, minute, second) end
end

--- Reads an ISO 8601 date: `2026-01-31T23:59:59.123Z`, also without colons
-- and dashes (`20260131T235959Z`).
-- @tparam string|nil text
-- @treturn number|nil seconds (the fraction is kept)
function _M.iso(text)
  local year, month, day, hour, minute, second, fraction =
    (text or ""):match("^(%d%d%d%d)%-?(%d%d)%-?(%d%d)T(%d%d):?(%d%d):?(%d%d)(%.?%d*)Z$")
  local at = year and seconds(year, month, day, hour, minute, second)
  if at and fraction ~= "" then at = at + (tonumber("0" .. fraction) or 0) end
  return at
end

return _M

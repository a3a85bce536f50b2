--- What the rules share: checking options, sizes in words, dates.
--
-- Room: policy, no I/O. Runs inside the sandbox too.
-- @module longshore.policy.rules.util
local _M = {}

local floor = math.floor

--- Checks the options of a rule; a mistake in one raises, when the policy loads.
-- @tparam string rule its name
-- @tparam table options
-- @tparam table known option to type, or to a list of types
-- @treturn table options
function _M.options(rule, options, known)
  if type(options) ~= "table" then error(("rules.%s: a table of options expected"):format(rule), 0) end
  for name, value in pairs(options) do
    local wanted = known[name]
    if not wanted then error(("rules.%s: there is no option %q"):format(rule, tostring(name)), 0) end
    if type(value) ~= wanted then
      error(("rules.%s: %s: a %s expected, got a %s"):format(rule, name, wanted, type(value)), 0)
    end
  end
  return options
end

--- A list as a set.
function _M.set(list)
  local set = {}
  for _, value in ipairs(list or {}) do set[value] = true end
  return set
end

--- A copy of a table, one level deep; of nothing: an empty one.
function _M.copy(t)
  local new = {}
  for k, v in pairs(t or {}) do new[k] = v end
  return new
end

--- Bytes for people.
function _M.bytes(n)
  for _, unit in ipairs { { 1099511627776, "TiB" }, { 1073741824, "GiB" }, { 1048576, "MiB" }, { 1024, "KiB" } } do
    if n >= unit[1] then return (("%.1f %s"):format(n / unit[1], unit[2]):gsub("%.0 ", " ")) end
  end
  return ("%.0f bytes"):format(n)
end

--- The extension of a file's name: lower case, without the dot; "" for none.
function _M.extension(filename)
  return ((filename or ""):match("[^/\\]%.([%w_%-]+)$") or ""):lower()
end

--- The calendar of a time.
-- @tparam number now seconds since 1970
-- @tparam[opt] number offset seconds east of Greenwich
-- @treturn table `year`, `month`, `day`, `weekday` (1 is Monday), `minute` of the day
function _M.calendar(now, offset)
  local at = floor(now + (offset or 0))
  local days = floor(at / 86400)
  local z = days + 719468
  local era = floor(z / 146097)
  local of_era = z - era * 146097
  local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local shifted = floor((5 * of_year + 2) / 153)
  local month = shifted + (shifted < 10 and 3 or -9)
  return {
    year = year + era * 400 + (month <= 2 and 1 or 0), month = month,
    day = of_year - floor((153 * shifted + 2) / 5) + 1,
    weekday = (days + 3) % 7 + 1, minute = floor((at - days * 86400) / 60),
  }
end

--- Seconds of "+01:00", "-0530" or "Z".
-- @treturn number, or nil when it is none of these
function _M.offset(text)
  if text == nil or text == "Z" then return 0 end
  local sign, h, m = tostring(text):match("^([+-])(%d%d):?(%d%d)$")
  if not sign then return nil end
  return (tonumber(h) * 3600 + tonumber(m) * 60) * (sign == "-" and -1 or 1)
end

return _M

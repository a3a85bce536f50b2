--- What the rules share: checking options, sizes in words, dates.
--
-- Room: policy, no I/O. Runs inside the sandbox too.
-- @module longshore.policy.rules.util
local _M = {}

local floor = math.floor

local function is_list(value)
  if type(value) ~= "table" or value[1] == nil then return false end
  for key in pairs(value) do
    if type(key) ~= "number" or type(value[key]) ~= "string" or key > #value then return false end
  end
  return true
end

-- Kinds of options beside Lua's types.
local kinds = {
  list = { is_list, "a list of texts" },
  whole = { function(v) return type(v) == "number" and v % 1 == 0 and v >= 0 and v <= 9007199254740991 end,
    "a whole number" },
  positive = { function(v) return type(v) == "number" and v > 0 and v < math.huge end, "a number above 0" },
}

--- Checks the options of a rule; a mistake in one raises, when the policy loads, and names the
-- line of the policy.
-- @tparam string rule its name
-- @tparam table options
-- @tparam table known option to its type or kind (`list` of texts, `whole`, `positive`), or to the set of its values
-- @tparam[opt] string needed what is missing when there is no option at all
-- @treturn table options
function _M.options(rule, options, known, needed)
  if type(options) ~= "table" then error(("rules.%s: a table of options expected"):format(rule), 3) end
  local any = false
  for name, value in pairs(options) do
    local wanted = known[name]
    any = true
    if not wanted then error(("rules.%s: there is no option %q"):format(rule, tostring(name)), 3) end
    local kind = kinds[wanted]
    if type(wanted) == "table" then
      if not wanted[value] then
        error(("rules.%s: %s: one of %s expected"):format(rule, name, _M.names(wanted)), 3)
      end
    elseif kind and not kind[1](value) then
      error(("rules.%s: %s: %s expected"):format(rule, name, kind[2]), 3)
    elseif not kind and type(value) ~= wanted then
      error(("rules.%s: %s: a %s expected, got a %s"):format(rule, name, wanted, type(value)), 3)
    end
  end
  if needed and not any then error(("rules.%s: %s is missing"):format(rule, needed), 3) end
  return options
end

--- The keys of a set, for a message.
function _M.names(set)
  local names = {}
  for name in pairs(set) do names[#names + 1] = tostring(name) end
  table.sort(names)
  return table.concat(names, ", ")
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

--- A MIME type without its parameters, in lower case; "" for none.
function _M.bare_type(content_type)
  return ((content_type or ""):match("^%s*([^;%s]+)") or ""):lower()
end

--- Whether a text is a type, or a kind of them such as `video/*`.
function _M.is_type(text)
  return text:find("^[^/%s]+/[^/%s;]+$") ~= nil
end

--- Whether a bare type is one, or of the kind.
function _M.fits_type(bare, wanted)
  wanted = wanted:lower()
  return wanted == bare or wanted == "*/*"
    or (wanted:sub(-2) == "/*" and bare:sub(1, #wanted - 1) == wanted:sub(1, -2))
end

--- Whether a text may be a header's value: printable ASCII.
function _M.is_header(text)
  return type(text) == "string" and #text <= 1024 and text:find("^[!-~][ -~]*$") ~= nil and text:sub(-1) ~= " "
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

-- Days from 1970-01-01 to a date.
local function day_number(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = floor(year / 400)
  local of_era = year - era * 400
  local of_year = floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + day - 1
  return era * 146097 + of_era * 365 + floor(of_era / 4) - floor(of_era / 100) + of_year - 719468
end

-- Seconds of "1", "-10:30", "+3"; at most `most` hours.
local function clock_seconds(text, most)
  local sign, h, m = text:match("^([+-]?)(%d+):?(%d*)$")
  h, m = tonumber(h), m == "" and 0 or tonumber(m)
  if not h or h > most or not m or m > 59 then return nil end
  return (h * 3600 + m * 60) * (sign == "-" and -1 or 1)
end

-- When in a year the clocks change: "M3.5.0/2" is the fifth (last) Sunday of March, at two.
local function change_of(text)
  local month, week, day, at = text:match("^M(%d+)%.(%d)%.(%d)/?(.*)$")
  month, week, day = tonumber(month), tonumber(week), tonumber(day)
  at = clock_seconds(at == "" and "2" or at or "", 167)
  if not (at and month and month >= 1 and month <= 12 and week >= 1 and week <= 5 and day <= 6) then return nil end
  return function(year) -- in local seconds
    local first = day_number(year, month, 1)
    local days = first + (day - (first + 4)) % 7 + (week - 1) * 7
    local ends = month == 12 and day_number(year + 1, 1, 1) or day_number(year, month + 1, 1)
    if days >= ends then days = days - 7 end
    return days * 86400 + at
  end
end

-- A zone as POSIX writes it: "CET-1CEST,M3.5.0,M10.5.0/3".
local function posix_zone(text)
  local name = "[%a][%a][%a]+"
  local rest = text:match("^" .. name .. "(.*)$") or text:match("^<[%w+-]+>(.*)$")
  local west, more = (rest or ""):match("^([+-]?[%d:]+)(.*)$")
  west = west and clock_seconds(west, 24)
  if not west then return nil end
  local winter = -west
  if more == "" then return function() return winter end end
  rest = more:match("^" .. name .. "(.*)$") or more:match("^<[%w+-]+>(.*)$")
  local summer_west, begins, ends = (rest or ""):match("^([+-]?[%d:]*),([^,]+),([^,]+)$")
  if not begins then return nil end
  local summer = winter + 3600
  if summer_west ~= "" then
    summer_west = clock_seconds(summer_west, 24)
    if not summer_west then return nil end
    summer = -summer_west
  end
  begins, ends = change_of(begins), change_of(ends)
  if not begins or not ends then return nil end
  return function(now)
    local year = _M.calendar(now, winter).year
    local from, to = begins(year) - winter, ends(year) - summer
    local is_summer
    if from < to then is_summer = now >= from and now < to else is_summer = now >= from or now < to end
    return is_summer and summer or winter
  end
end

--- How far east of Greenwich a zone is: "+01:00", "-0530", "Z", or as POSIX writes a zone with
-- summer time, "CET-1CEST,M3.5.0,M10.5.0/3" (west is positive there).
-- @tparam ?string text nil is UTC
-- @treturn function|nil (now) -> seconds; nil when it is none of these
function _M.offset(text)
  if text == nil or text == "Z" then return function() return 0 end end
  local sign, h, m = tostring(text):match("^([+-])(%d%d):?(%d%d)$")
  if not sign then return posix_zone(tostring(text)) end
  if tonumber(h) > 24 or tonumber(m) > 59 then return nil end
  local seconds = (tonumber(h) * 3600 + tonumber(m) * 60) * (sign == "-" and -1 or 1)
  return function() return seconds end
end

return _M

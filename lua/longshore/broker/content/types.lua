--- Column types of a preview, and the difference between two schemas.
--
-- Names are OGR's: String, Integer (32 bits), Integer64, Real, Boolean, Date,
-- Time, DateTime, and JSON for nested objects and arrays.
--
-- Room: broker, content; pure.
-- @module longshore.broker.content.types
local json = require "longshore.json"

local _M = {}

local find, match = string.find, string.match

local function fits(digits, max)
  return #digits < #max or (#digits == #max and digits <= max)
end

-- Integers that fit 64 bits; a longer one is a name, not a number.
local function of_integer(text)
  local sign, digits = match(text, "^([+-]?)(%d+)$")
  if #digits > 1 and digits:sub(1, 1) == "0" then return "String" end -- 01234 is a code
  if fits(digits, sign == "-" and "2147483648" or "2147483647") then return "Integer" end
  if fits(digits, sign == "-" and "9223372036854775808" or "9223372036854775807") then return "Integer64" end
  return "String"
end

local function is_date(text)
  local month, day = match(text, "^%d%d%d%d[%-/](%d%d)[%-/](%d%d)")
  month, day = tonumber(month), tonumber(day)
  return month and month >= 1 and month <= 12 and day >= 1 and day <= 31
end

local function is_time(text)
  local hour, minute, rest = match(text, "^(%d%d):(%d%d)(.*)$")
  if not hour or tonumber(hour) > 24 or tonumber(minute) > 59 then return false end
  rest = rest:gsub("^:[0-6]%d", ""):gsub("^[%.,]%d+", "")
  return rest == "" or rest == "Z" or find(rest, "^[+-]%d%d:?%d%d$") ~= nil or find(rest, "^[+-]%d%d$") ~= nil
end

-- The kind of text that looks like a date, a time or both.
local function of_moment(text)
  if is_date(text) then
    if #text == 10 then return "Date" end
    local clock = match(text, "^[ Tt](.+)$", 11)
    return clock and is_time(clock) and "DateTime" or "String"
  end
  return is_time(text) and "Time" or "String"
end

--- The type of one piece of text, as it stands in a CSV field or in a string.
-- @tparam string text
-- @tparam[opt=false] boolean quoted true: only dates are looked for
-- @treturn string|nil nil for nothing but white space
function _M.of_text(text, quoted)
  text = match(text, "^%s*(.-)%s*$")
  if text == "" then return nil end
  if #text > 40 then return "String" end
  if not quoted then
    if find(text, "^[+-]?%d+$") then return of_integer(text) end
    if find(text, "^[+-]?%d*%.?%d*$") and find(text, "%d") then return "Real" end
    if find(text, "^[+-]?%d*%.?%d*[eE][+-]?%d+$") and find(text, "^[+-]?%.?%d") then return "Real" end
    local lower = text:lower()
    if lower == "true" or lower == "false" then return "Boolean" end
  end
  if find(text, "^%d%d") then return of_moment(text) end
  return "String"
end

--- The type of a number as JSON writes it.
-- @tparam string text
-- @treturn string
function _M.of_number(text)
  if find(text, "^-?%d+$") then
    local kind = of_integer(text)
    return kind == "String" and "Real" or kind
  end
  return "Real"
end

local WIDER = {
  Integer = { Integer64 = "Integer64", Real = "Real" },
  Integer64 = { Integer = "Integer64", Real = "Real" },
  Real = { Integer = "Real", Integer64 = "Real" },
  Date = { DateTime = "DateTime" },
  DateTime = { Date = "DateTime" },
}

--- The narrowest type that holds both.
-- @tparam string|nil a nil: nothing known
-- @tparam string|nil b
-- @treturn string|nil
function _M.merge(a, b)
  if a == nil or a == b then return b end
  if b == nil then return a end
  return WIDER[a] and WIDER[a][b] or "String"
end

--- A CSV field as a value of its column's type.
-- Integers beyond 2^53 stay text: a double would change them.
-- @tparam string text
-- @tparam string kind
-- @return json.null, number, boolean or string
function _M.value(text, kind)
  local bare = match(text, "^%s*(.-)%s*$")
  if bare == "" then return json.null end
  if kind == "Boolean" then return bare:lower() == "true" end
  if kind == "Integer" or kind == "Integer64" or kind == "Real" then
    local number = tonumber(bare)
    local exact = number and number == number and math.abs(number) < 2 ^ 53
    return exact and number or bare
  end
  return text
end

-- Several names for one type: a schema kept by another version, or by a
-- database, compares as equal.
local SAME = {
  ["string"] = "character varying", ["text"] = "character varying",
  ["int"] = "integer", ["int64"] = "bigint", ["integer64"] = "bigint",
  ["real"] = "double precision", ["float"] = "double precision",
  ["bool"] = "boolean", ["datetime"] = "timestamp",
}

local function canonical(kind)
  kind = kind:lower()
  return SAME[kind] or kind
end

local function by_name(columns)
  local map, names = {}, {}
  for _, column in ipairs(columns or {}) do
    local key = column.name:lower()
    if not map[key] then names[#names + 1] = key end
    map[key] = column
  end
  table.sort(names)
  return map, names
end

--- What changes when one schema takes the place of another. Names compare
-- without case, types by meaning; lists are sorted by name.
-- @tparam table|nil old list of `{name, type}`
-- @tparam table|nil new the same
-- @tparam number|nil old_count rows
-- @tparam number|nil new_count rows
-- @treturn table `columns_added`, `columns_removed`, `type_changes`,
--   `row_count_old`, `row_count_new` (json.null where unknown),
--   `row_count_delta` (an unknown count counts as 0, as the published service has it)
function _M.difference(old, new, old_count, new_count)
  local olds, old_names = by_name(old)
  local news, new_names = by_name(new)
  local added, removed, changes = json.array {}, json.array {}, json.array {}
  for _, key in ipairs(new_names) do
    local n, o = news[key], olds[key]
    if not o then
      added[#added + 1] = { name = n.name, type = n.type }
    elseif canonical(o.type) ~= canonical(n.type) then
      changes[#changes + 1] = { name = n.name, old_type = o.type, new_type = n.type }
    end
  end
  for _, key in ipairs(old_names) do
    if not news[key] then
      removed[#removed + 1] = { name = olds[key].name, type = olds[key].type }
    end
  end
  return {
    columns_added = added, columns_removed = removed, type_changes = changes,
    row_count_old = old_count or json.null, row_count_new = new_count or json.null,
    row_count_delta = (new_count or 0) - (old_count or 0),
  }
end

return _M

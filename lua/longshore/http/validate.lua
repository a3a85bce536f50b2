--- Checks values that came from outside against a table that says what they
-- should be. One place for a field's type, limits and error message.
--
-- A rule is a table:
--
--     { type = "object", unknown = "ignore" | "refuse",
--       fields = { filename = { type = "string", required = true, max_bytes = 1024 }, ... } }
--     { type = "string", min_chars =, max_chars =, min_bytes =, max_bytes =, enum = { ... },
--       pattern = "^...$", says = "what the pattern wants", text = true (allows tab and newlines) }
--     { type = "integer" | "number", min =, max = }
--     { type = "boolean" }  { type = "any" }
--     { type = "array", items = rule, min_items =, max_items = }
--     { type = "map", values = rule, keys = rule, max_pairs =, max_bytes = (keys and values) }
--
-- Any rule may have `required`, `default`, `nullable` (null stays null; else
-- null counts as absent), `code` (a service's own word for an error here) and
-- `check = function(value) return true | nil, "what is wrong" end`.
--
-- Strings must be valid UTF-8 and free of control characters (NUL first of
-- all); integers lie within 2^53 and are exact on both Luas.
--
-- Room: http, shared by the services. No I/O.
-- @module longshore.http.validate
local errors = require "longshore.errors"
local json = require "longshore.json"

local _M = {}

local MAX_PROBLEMS = 8
local LARGEST = 9007199254740991

local floor = math.floor
local to_integer = rawget(math, "tointeger") or function(n) return n end

--- The number of characters (code points) of a UTF-8 string.
-- @tparam string s
-- @treturn number
function _M.characters(s)
  if not s:find("[\128-\255]") then return #s end
  local _, continuation = s:gsub("[\128-\191]", "")
  return #s - continuation
end

local function kind_of(value)
  if value == json.null then return "null" end
  local t = type(value)
  if t ~= "table" then return t end
  return json.is_array(value) and "array" or "object"
end

local function is_integer(value)
  return type(value) == "number" and value == floor(value) and value >= -LARGEST and value <= LARGEST
end

-- A number as people write it: no 5e+09, no 5.0.
local function show(n)
  return n == floor(n) and ("%.0f"):format(n) or tostring(n)
end

local function add(problems, rule, field, reason, text)
  if #problems < MAX_PROBLEMS then
    problems[#problems + 1] = { field = field, reason = reason, code = rule.code,
      message = (field == "" and "the body" or field) .. ": " .. text }
  end
end

local function wrong_type(problems, rule, field, value, expected)
  add(problems, rule, field, "type", ("%s is expected, got %s"):format(expected, kind_of(value)))
end

local walk

local checks = {}

function checks.string(rule, value, field, problems)
  if type(value) ~= "string" then
    return wrong_type(problems, rule, field, value, "a string")
  end
  if rule.max_bytes and #value > rule.max_bytes then
    return add(problems, rule, field, "length", ("at most %d bytes are allowed, got %d"):format(rule.max_bytes, #value))
  end
  if json.bad_utf8(value) then
    return add(problems, rule, field, "characters", "is not valid UTF-8")
  end
  if value:find(rule.text and "[%z\1-\8\11\12\14-\31\127]" or "[%z\1-\31\127]") then
    return add(problems, rule, field, "characters", "control characters are not allowed")
  end
  if rule.min_bytes and #value < rule.min_bytes then
    return add(problems, rule, field, "length", #value == 0 and "must not be empty"
      or ("at least %d bytes are expected"):format(rule.min_bytes))
  end
  local n = (rule.min_chars or rule.max_chars) and _M.characters(value)
  if rule.min_chars and n < rule.min_chars then
    return add(problems, rule, field, "length", n == 0 and "must not be empty"
      or ("at least %d characters are expected"):format(rule.min_chars))
  end
  if rule.max_chars and n > rule.max_chars then
    return add(problems, rule, field, "length",
      ("at most %d characters are allowed, got %d"):format(rule.max_chars, n))
  end
  if rule.enum then
    local known = false
    for _, word in ipairs(rule.enum) do known = known or word == value end
    if not known then
      return add(problems, rule, field, "value", "must be one of " .. table.concat(rule.enum, ", "))
    end
  end
  if rule.pattern and not value:find(rule.pattern) then
    return add(problems, rule, field, "format", rule.says or "has the wrong format")
  end
  return value
end

local function in_range(rule, value, field, problems)
  if rule.min and value < rule.min then
    return add(problems, rule, field, "range", ("must be at least %s"):format(show(rule.min)))
  end
  if rule.max and value > rule.max then
    return add(problems, rule, field, "range", ("must be at most %s"):format(show(rule.max)))
  end
  return value
end

function checks.integer(rule, value, field, problems)
  if type(value) ~= "number" then
    return wrong_type(problems, rule, field, value, "an integer")
  end
  if not is_integer(value) then
    return add(problems, rule, field, "type", value == floor(value)
      and "is too large a number" or "an integer is expected, got a fraction")
  end
  return in_range(rule, to_integer(value), field, problems)
end

function checks.number(rule, value, field, problems)
  if type(value) ~= "number" then
    return wrong_type(problems, rule, field, value, "a number")
  end
  if value ~= value or value == math.huge or value == -math.huge then
    return add(problems, rule, field, "range", "a finite number is expected")
  end
  return in_range(rule, value, field, problems)
end

function checks.boolean(rule, value, field, problems)
  if type(value) ~= "boolean" then
    return wrong_type(problems, rule, field, value, "true or false")
  end
  return value
end

function checks.any(_, value)
  return value
end

function checks.array(rule, value, field, problems)
  if type(value) ~= "table" or not json.is_array(value) then
    return wrong_type(problems, rule, field, value, "an array")
  end
  local n = #value
  if rule.min_items and n < rule.min_items then
    return add(problems, rule, field, "length", ("at least %d entries are expected"):format(rule.min_items))
  end
  if rule.max_items and n > rule.max_items then
    return add(problems, rule, field, "length", ("at most %d entries are allowed, got %d"):format(rule.max_items, n))
  end
  local clean, items = {}, rule.items
  local numbers = items.type == "integer" and not items.check
  for i = 1, n do
    local item = value[i]
    -- Long lists of numbers need no names for what is right.
    if numbers and is_integer(item) and item >= (items.min or -LARGEST) and item <= (items.max or LARGEST) then
      clean[i] = to_integer(item)
    else
      clean[i] = walk(items, item, ("%s[%d]"):format(field, i - 1), problems, true)
      if #problems >= MAX_PROBLEMS then return nil end
    end
  end
  return json.array(clean)
end

local function join(field, name)
  return field == "" and name or field .. "." .. name
end

-- The names of a rule's fields in order, made once: problems come in the same order always.
local orders = setmetatable({}, { __mode = "k" })

local function names_of(fields)
  local names = orders[fields]
  if not names then
    names = {}
    for name in pairs(fields) do names[#names + 1] = name end
    table.sort(names)
    orders[fields] = names
  end
  return names
end

function checks.object(rule, value, field, problems)
  if type(value) ~= "table" or json.is_array(value) then
    return wrong_type(problems, rule, field, value, "an object")
  end
  local clean = {}
  for _, name in ipairs(names_of(rule.fields)) do
    local item = walk(rule.fields[name], value[name], join(field, name), problems)
    clean[name] = item
  end
  if rule.unknown == "refuse" then
    for name in pairs(value) do
      if rule.fields[name] == nil then
        add(problems, rule, join(field, tostring(name):sub(1, 64):gsub("%c", "?")), "unknown", "is not a known field")
      end
    end
  end
  return clean
end

function checks.map(rule, value, field, problems)
  if type(value) ~= "table" or json.is_array(value) then
    return wrong_type(problems, rule, field, value, "an object")
  end
  local clean, pairs_seen, bytes = {}, 0, 0
  for key, item in pairs(value) do
    pairs_seen = pairs_seen + 1
    local name = join(field, key:sub(1, 64):gsub("%c", "?"))
    if rule.keys then checks.string(rule.keys, key, name, problems) end
    clean[key] = walk(rule.values, item, name, problems, true)
    bytes = bytes + #key + (type(item) == "string" and #item or 0)
    if #problems >= MAX_PROBLEMS then return nil end
  end
  if rule.max_pairs and pairs_seen > rule.max_pairs then
    return add(problems, rule, field, "length",
      ("at most %d entries are allowed, got %d"):format(rule.max_pairs, pairs_seen))
  end
  if rule.max_bytes and bytes > rule.max_bytes then
    return add(problems, rule, field, "length",
      ("keys and values together may have at most %d bytes, got %d"):format(rule.max_bytes, bytes))
  end
  return clean
end

function walk(rule, value, field, problems, element)
  if value == nil or (value == json.null and not rule.nullable) then
    if rule.required or element then
      add(problems, rule, field, value == nil and "missing" or "type",
        value == nil and "is required" or "must not be null")
      return nil
    end
    return rule.default
  end
  if value == json.null then return value end
  local before = #problems
  local clean = checks[rule.type](rule, value, field, problems)
  if rule.check and #problems == before then
    local ok, why = rule.check(clean)
    if not ok then add(problems, rule, field, "value", why) end
  end
  return clean
end

--- Checks a value against a rule.
-- @tparam table rule see above
-- @param value what `json.decode` gave (or a plain table of strings)
-- @tparam[opt=""] string field its name, for messages
-- @return the checked value: known fields only, defaults filled in
-- @treturn[2] nil
-- @treturn[2] table err code "invalid"; `field`, `reason` (missing, type, range, length, characters, format,
-- value, unknown) and `message` of the first problem, `problems` with all of them (at most 8)
function _M.check(rule, value, field)
  local problems = {}
  local clean = walk(rule, value, field or "", problems, true)
  if problems[1] then
    local first = problems[1]
    return errors.fail("invalid", first.message, { field = first.field, reason = first.reason, problems = problems })
  end
  return clean
end

--- Checks the string values of a query or a form: integers and booleans are
-- read from their text first.
-- @tparam table rule an object rule
-- @tparam table values name to string
-- @return as `check`
function _M.check_strings(rule, values)
  local typed = {}
  for name, value in pairs(values) do
    local field = rule.fields[name]
    typed[name] = value
    if field and (field.type == "integer" or field.type == "number") then
      if value:find("^%-?%d+$") or (field.type == "number" and value:find("^%-?%d+%.%d+$")) then
        typed[name] = tonumber(value)
      end
    elseif field and field.type == "boolean" then
      if value == "true" then typed[name] = true elseif value == "false" then typed[name] = false end
    end
  end
  return _M.check(rule, typed)
end

return _M

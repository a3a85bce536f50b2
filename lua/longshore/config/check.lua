--- Checks a table of settings against rules, names a mistake by its path and
-- guesses what a misspelt key should have been.
--
-- A rule: `{ kind = "string"|"integer"|"number"|"boolean"|"function", default =, min =, max =, one_of = {...},
-- secret = true, check = function(value) return true | nil, why end }`, `{ kind = "table", fields = {...} }`,
-- `{ kind = "list", each = rule }` or `{ kind = "named", each = rule }` (any keys).
-- A kind may be followed by `optional = true`: then there is no default and nil is fine.
--
-- Room: shared ground, no I/O.
-- @module longshore.config.check
local _M = {}

local to_integer = rawget(math, "tointeger") or function(n) return n end

local function join(path, key)
  return path == "" and tostring(key) or path .. "." .. tostring(key)
end

-- How many single changes lead from one word to the other.
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local before = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local best = math.min(row[j] + 1, row[j - 1] + 1, before + cost)
      before, row[j] = row[j], best
    end
  end
  return row[#b]
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = tostring(key) end
  table.sort(keys)
  return keys
end

-- The known key nearest to a misspelt one, or nil when none is near.
local function nearest(word, fields)
  local best, best_distance
  for _, name in ipairs(sorted_keys(fields)) do
    local d = distance(word:lower(), name)
    if not best_distance or d < best_distance then best, best_distance = name, d end
  end
  if best and best_distance <= math.max(2, math.floor(#word / 3)) then return best end
end

local function problem(path, text)
  return nil, { field = path, message = ("%s: %s"):format(path == "" and "the configuration" or path, text) }
end

local articles = { integer = "an integer", table = "a table", list = "a list", named = "a table" }

local function wrong_kind(path, kind, value)
  return problem(path, ("%s is expected, got a %s"):format(articles[kind] or "a " .. kind, type(value)))
end

local walk

local kinds = {}

function kinds.string(rule, value, path)
  if type(value) ~= "string" then return wrong_kind(path, "string", value) end
  if value:find(rule.lines and "%z" or "[%z\r\n]") then return problem(path, "line ends and NUL are not allowed") end
  if value == "" and not rule.empty then return problem(path, "must not be empty") end
  return value
end

function kinds.number(rule, value, path)
  if type(value) ~= "number" or value ~= value then return wrong_kind(path, rule.kind, value) end
  if rule.min and value < rule.min then return problem(path, ("must be at least %s"):format(rule.min)) end
  if rule.max and value > rule.max then return problem(path, ("must be at most %.0f"):format(rule.max)) end
  return value
end

function kinds.integer(rule, value, path)
  if type(value) ~= "number" or value ~= math.floor(value) or value > 2 ^ 53 or value < -2 ^ 53 then
    return wrong_kind(path, "integer", value)
  end
  return kinds.number(rule, to_integer(value), path)
end

function kinds.boolean(_, value, path)
  if type(value) ~= "boolean" then return wrong_kind(path, "boolean", value) end
  return value
end

function kinds.table(rule, value, path)
  if type(value) ~= "table" then return wrong_kind(path, "table", value) end
  for key in pairs(value) do
    if rule.fields[key] == nil then
      local guess = type(key) == "string" and nearest(key, rule.fields)
      return problem(join(path, key), guess and ("is not a known key; did you mean %s?"):format(join(path, guess))
        or "is not a known key; known are " .. table.concat(sorted_keys(rule.fields), ", "))
    end
  end
  local clean = {}
  for _, key in ipairs(sorted_keys(rule.fields)) do
    local item, err = walk(rule.fields[key], value[key], join(path, key))
    if err then return nil, err end
    clean[key] = item
  end
  return clean
end

function kinds.list(rule, value, path)
  if type(value) ~= "table" then return wrong_kind(path, "list", value) end
  local clean, n = {}, #value
  for key in pairs(value) do
    if type(key) ~= "number" or key < 1 or key > n or key ~= math.floor(key) then
      return problem(join(path, key), "a list is expected here: { first, second }")
    end
  end
  if n < (rule.min or 0) then return problem(path, "must not be empty") end
  for i = 1, n do
    local item, err = walk(rule.each, value[i], ("%s[%d]"):format(path, i))
    if err then return nil, err end
    clean[i] = item
  end
  return clean
end

function kinds.named(rule, value, path)
  if type(value) ~= "table" then return wrong_kind(path, "table", value) end
  local clean = {}
  for _, key in ipairs(sorted_keys(value)) do
    if not key:find("^[%w_%-]+$") or value[key] == nil then
      return problem(join(path, key), "a name of letters, digits, - and _ is expected")
    end
    local item, err = walk(rule.each, value[key], join(path, key))
    if err then return nil, err end
    clean[key] = item
  end
  return clean
end

local function default_of(rule)
  if type(rule.default) ~= "table" then return rule.default end
  local copy = {}
  for key, value in pairs(rule.default) do copy[key] = value end
  return copy
end

function walk(rule, value, path)
  if value == nil then
    if rule.required then return problem(path, "is required") end
    -- The default of a table is what its fields' defaults make.
    if rule.kind ~= "table" or rule.optional then return default_of(rule) end
    value = {}
  end
  local clean, err = kinds[rule.kind](rule, value, path)
  if err then return nil, err end
  if rule.one_of then
    local known = false
    for _, word in ipairs(rule.one_of) do known = known or word == clean end
    if not known then return problem(path, "must be one of " .. table.concat(rule.one_of, ", ")) end
  end
  if rule.check then
    local ok, why = rule.check(clean)
    if not ok then return problem(path, why) end
  end
  return clean
end

--- Checks settings.
-- @tparam table rule
-- @param value
-- @return the settings with defaults
-- @treturn[2] nil
-- @treturn[2] table `{field=, message=}`
function _M.run(rule, value)
  return walk(rule, value, "")
end

--- Lays one table of settings over another.
-- @tparam table under
-- @tparam table over its values win; lists are replaced as a whole
-- @treturn table a new table
function _M.merge(under, over)
  local merged = {}
  for key, value in pairs(under) do merged[key] = value end
  for key, value in pairs(over) do
    if type(value) == "table" and type(merged[key]) == "table" and value[1] == nil and merged[key][1] == nil then
      merged[key] = _M.merge(merged[key], value)
    else
      merged[key] = value
    end
  end
  return merged
end

--- A copy of settings in which secrets read "...".
-- @tparam table rule
-- @param value
-- @return the copy
function _M.redact(rule, value)
  if rule.secret then return value ~= nil and "..." or nil end
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, item in pairs(value) do
    local inner = rule.fields and rule.fields[key] or rule.each
    if inner then copy[key] = _M.redact(inner, item) end
  end
  return copy
end

--- Settings as Lua source; only what the rules know of.
-- @tparam table rule
-- @param value tables, strings, numbers, booleans
-- @tparam string indent
-- @treturn string
function _M.serialize(rule, value, indent)
  local kind = type(value)
  if kind == "string" then return (("%q"):format(value):gsub("\\\n", "\\n"):gsub("%z", "\\0")) end
  if kind == "number" then
    return value == math.floor(value) and ("%.0f"):format(value) or ("%.17g"):format(value)
  end
  if kind ~= "table" then return tostring(value) end
  local lines = {}
  for i = 1, #value do
    lines[#lines + 1] = indent .. "  " .. _M.serialize(rule.each, value[i], indent .. "  ")
  end
  for _, key in ipairs(sorted_keys(value)) do
    local inner = rule.fields and rule.fields[key] or (rule.kind == "named" and rule.each)
    if inner and value[key] ~= nil then
      lines[#lines + 1] = ("%s  [%q] = %s"):format(indent, key, _M.serialize(inner, value[key], indent .. "  "))
    end
  end
  if not lines[1] then return "{}" end
  return "{\n" .. table.concat(lines, ",\n") .. "\n" .. indent .. "}"
end

return _M

--- Lua tables to database rows and back.
--
-- A table is described once, as a list of columns: `name` in Lua, `kind`, and
-- `column` where the database's name differs (`user` is a reserved word).
--
-- | kind | in Lua | in the database |
-- |---|---|---|
-- | `s` | string | text |
-- | `i` | integral number | integer |
-- | `b` | boolean | integer 0 or 1 |
-- | `t` | seconds since 1970, a number | integer milliseconds |
-- | `l` | list of words | words separated by commas |
--
-- Room: store, no I/O.
-- @module longshore.store.rows
local dbi = require "longshore.store.dbi"

local _M = {}

local floor = math.floor
local tointeger = rawget(math, "tointeger") or function(n) return n end

--- Milliseconds of a time in seconds.
-- @tparam number seconds
-- @treturn number integral
function _M.milliseconds(seconds)
  return tointeger(floor(seconds * 1000 + 0.5))
end

local encode = {
  s = function(v) return v end,
  i = function(v) return v end,
  b = function(v) return v and 1 or 0 end,
  t = _M.milliseconds,
  l = function(v) return table.concat(v, ",") end,
}

local decode = {
  s = function(v) return v end,
  i = tonumber,
  b = function(v) return v == "1" end,
  t = function(v) return tonumber(v) / 1000 end,
  l = function(v)
    local list = {}
    for word in v:gmatch("[^,]+") do list[#list + 1] = word end
    return list
  end,
}

local textual = { s = true, l = true }

local methods = {}
local mt = { __index = methods }

--- Describes a table.
-- @tparam string name of the table in the database
-- @tparam {{name,kind,column},...} columns
-- @treturn table description with `name`, `all` (the select list of every
-- column), `insert` (the statement that inserts a whole row)
function _M.define(name, columns)
  local self = setmetatable({ name = name, columns = columns, by_name = {} }, mt)
  local selected, names, marks = {}, {}, {}
  for i, c in ipairs(columns) do
    local column = { name = c[1], kind = c[2], column = c[3] or c[1] }
    columns[i] = column
    self.by_name[column.name] = column
    selected[i] = textual[column.kind] and column.column
      -- Under another name: PostgreSQL would take the text's for ORDER BY.
      or ("CAST(%s AS TEXT) AS %s_text"):format(column.column, column.column)
    names[i] = column.column
    marks[i] = textual[column.kind] and "?" or "?i"
  end
  self.width = #columns
  self.all = table.concat(selected, ", ")
  self.insert = ("INSERT INTO %s (%s) VALUES (%s)"):format(name,
    table.concat(names, ", "), table.concat(marks, ", "))
  return self
end

--- The parameters of `insert` for a Lua row.
-- @tparam table row fields by name; a field that is not a column raises
-- @treturn table values, with holes for NULL
-- @treturn number how many
function methods:values(row)
  for field in pairs(row) do
    if not self.by_name[field] then
      error(("%s has no column %s"):format(self.name, tostring(field)), 2)
    end
  end
  local values = {}
  for i, c in ipairs(self.columns) do
    local v = row[c.name]
    if v ~= nil then values[i] = encode[c.kind](v) end
  end
  return values, self.width
end

--- The database's value of one field.
-- @tparam string field
-- @param value in Lua, or nil
function methods:value(field, value)
  local c = assert(self.by_name[field], field)
  if value == nil then return nil end
  return encode[c.kind](value)
end

--- The Lua row of an answer to `SELECT <all>`.
-- @tparam table answer values by position
-- @treturn table row
function methods:row(answer)
  local row = {}
  for i, c in ipairs(self.columns) do
    local v = answer[i]
    if v ~= nil then row[c.name] = decode[c.kind](v) end
  end
  return row
end

--- The Lua rows of many answers.
function methods:rows(answers)
  local list = {}
  for i, answer in ipairs(answers) do list[i] = self:row(answer) end
  return list
end

--- Builds the SET list of an UPDATE from fields.
-- @tparam table fields name to value; `rows.null` sets NULL
-- @treturn string `a = ?, b = ?i`
-- @treturn table values
-- @treturn number how many
function methods:set(fields)
  local parts, values, n = {}, {}, 0
  for _, c in ipairs(self.columns) do
    local v = fields[c.name]
    if v ~= nil then
      n = n + 1
      parts[n] = ("%s = %s"):format(c.column, textual[c.kind] and "?" or "?i")
      if v ~= _M.null then values[n] = encode[c.kind](v) end
    end
  end
  for field in pairs(fields) do
    if not self.by_name[field] then
      error(("%s has no column %s"):format(self.name, tostring(field)), 2)
    end
  end
  return table.concat(parts, ", "), values, n
end

--- Inserts a row.
-- @tparam table db longshore.store.dbi
-- @tparam table description of `define`
-- @tparam table row
-- @treturn true, or nil, err
function _M.insert(db, description, row)
  local done, err = db:exec_with(description.insert, description:values(row))
  if not done then return nil, err end
  return true
end

--- Inserts rows, in the transaction that the caller has begun.
-- @tparam table db longshore.store.dbi
-- @tparam table description of `define`
-- @tparam ?{table,...} list nil: none
-- @treturn true, or nil, err
function _M.insert_all(db, description, list)
  for _, row in ipairs(list or {}) do
    local ok, err = _M.insert(db, description, row)
    if not ok then return nil, err end
  end
  return true
end

--- Changes the one row that a condition names.
-- @tparam table db longshore.store.dbi
-- @tparam table description of `define`
-- @tparam table fields as of `set`
-- @tparam string where
-- @param ... its parameters
-- @treturn boolean whether a row changed, or nil, err
function _M.change(db, description, fields, where, ...)
  local set, values, n = description:set(fields)
  local count = select("#", ...)
  for i = 1, count do values[n + i] = (select(i, ...)) end
  local changed, err = db:exec_with(("UPDATE %s SET %s WHERE %s"):format(description.name, set, where), values,
    n + count)
  if not changed then return nil, err end
  return changed == 1
end

--- Stands for NULL in `set`.
_M.null = setmetatable({}, { __tostring = function() return "NULL" end })

_M.integer = dbi.integer

--- The largest integer that survives everywhere.
_M.max_integer = 9007199254740991

return _M

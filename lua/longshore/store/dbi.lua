--- One connection to a database through lua-dbi, with its traps closed.
--
-- lua-dbi reads integers through 32 bits, and sends large ones as text that
-- databases refuse or round. So here every integer travels as decimal text in
-- both directions: SQL has `?` where text goes in and `?i` where an integer goes
-- in (it becomes `CAST(? AS INTEGER)` or `CAST($n AS BIGINT)`), and columns that
-- are integers are selected as `CAST(x AS TEXT)` (see `longshore.store.rows`).
-- Exact from -(2^53-1) to 2^53-1.
--
-- Further: a statement that failed is forgotten and prepared anew (lua-dbi
-- repeats the old error otherwise); every result is read to its end, so that no
-- read lock stays behind; strings with NUL or broken UTF-8 are refused (the
-- binding would cut them at the NUL, PostgreSQL refuses them); the number of
-- parameters is checked.
--
-- Room: store. The only module that requires lua-dbi.
-- @module longshore.store.dbi
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}

local unpack = table.unpack or unpack -- luacheck: ignore
local floor = math.floor
local is_plain = core.is_plain

local MAX_INTEGER = 9007199254740991

--- Decimal text of an integer.
-- @tparam number n integral, at most 2^53-1 in size
-- @treturn string
function _M.integer(n)
  if type(n) ~= "number" or n ~= floor(n) or n > MAX_INTEGER or n < -MAX_INTEGER then
    error(("integer within 2^53 expected, got %s"):format(tostring(n)), 2)
  end
  return ("%.0f"):format(n)
end

--- Whether a string is well-formed UTF-8 without NUL: what every database of
-- ours can keep.
-- @tparam string s
-- @treturn boolean
function _M.is_text(s)
  return is_plain(s) or not (s:find("\0", 1, true) or core.utf8_bad(s))
end

local methods = {}
local mt = { __index = methods, __name = "longshore.store.dbi" }
mt.__tostring = function(self) return "database (" .. self.dialect.name .. ")" end

--- Opens a connection.
-- `dialect`: a table with `name`, `connect() -> handle | nil, text`,
-- `integer_type`, `numbered` (placeholders are $1, $2...), `begin` (the statement
-- that opens a writing transaction), `classify(text) -> code, fields` and
-- `prepare_connection(db)`, which sets the connection up; perhaps `turn` and `turn_seconds`: what threads of this
-- process wait for before they write, and how long.
-- @tparam table dialect
-- @treturn table db, or nil, err
function _M.open(dialect)
  local db = setmetatable({ dialect = dialect, statements = {}, translated = {}, touched = {} }, mt)
  local ok, err = db:connect()
  if not ok then return nil, err end
  return db
end

--- The error for a text of the database's: its code by the dialect.
function methods:failure(text, doing)
  text = tostring(text)
  local code, fields = self.dialect.classify(text)
  fields = fields or {}
  fields.cause = text
  if code == "busy" then
    fields.retryable = true
    return errors.new("busy", "the database is busy; try again", fields)
  elseif code == "unavailable" then
    fields.retryable = true
    self.lost = true
    return errors.new("unavailable", "the database cannot be reached: " .. text, fields)
  elseif code == "conflict" then
    return errors.new("conflict", "the row clashes with another one: " .. text, fields)
  end
  return errors.new("database", ("the database failed to %s: %s"):format(doing, text), fields)
end

function methods:connect()
  local handle, text = self.dialect.connect()
  if not handle then
    local err = errors.new("unavailable", ("cannot open the database (%s): %s"):format(self.dialect.name,
      tostring(text)), { retryable = true, cause = text })
    return nil, err
  end
  handle:autocommit(true)
  self.handle, self.statements, self.lost, self.inside = handle, {}, false, false
  if self.dialect.prepare_connection then
    local ok, err = self.dialect.prepare_connection(self)
    if not ok then
      self:close()
      if err.code ~= "database" then return nil, err end
      return errors.fail("database", ("cannot use the database (%s): %s"):format(self.dialect.name,
        err.cause or err.message), { cause = err })
    end
  end
  return true
end

--- Our placeholders in the database's own spelling, and which are integers.
function methods:translate(sql)
  local known = self.translated[sql]
  if known then return known end
  local dialect, count, integers = self.dialect, 0, {}
  local text = sql:gsub("%?(i?)", function(kind)
    count = count + 1
    integers[count] = kind == "i"
    local mark = dialect.numbered and ("$" .. count) or "?"
    if kind == "i" then
      return ("CAST(%s AS %s)"):format(mark, dialect.integer_type)
    end
    return dialect.numbered and ("CAST(%s AS TEXT)"):format(mark) or mark
  end)
  known = { text = text:gsub("{integer}", dialect.integer_type), count = count, integers = integers }
  self.translated[sql] = known
  return known
end

local NONE = {}

-- Makes values what lua-dbi takes, in their place.
local function bind(known, values, n)
  if n ~= known.count then
    error(("%d parameters expected, got %d: %s"):format(known.count, n, known.text), 4)
  end
  for i = 1, n do
    local v = values[i]
    if v == nil then -- luacheck: ignore (NULL)
    elseif known.integers[i] then
      if v == true then v = 1 elseif v == false then v = 0 end
      values[i] = _M.integer(v)
    elseif type(v) ~= "string" then
      error(("parameter %d: string expected, got %s: %s"):format(i, type(v), known.text), 4)
    elseif not _M.is_text(v) then
      return errors.fail("invalid", "text must be UTF-8 without NUL bytes")
    end
  end
  return true
end

-- Runs one statement with `n` values, which are used up; `collect(st)` reads what it answers.
local function run(self, sql, collect, n, values)
  if self.lost and not self.inside then
    self:drop()
    local ok, err = self:connect()
    if not ok then return nil, err end
  end
  if not self.handle then error("the database is closed", 3) end
  local known = self:translate(sql)
  local ok, text
  ok, text = bind(known, values, n)
  if not ok then return nil, text end
  local st = self.statements[sql]
  if not st then
    st, text = self.handle:prepare(known.text)
    if not st then return nil, self:failure(text, "prepare a statement") end
    self.statements[sql] = st
  end
  ok, text = st:execute(unpack(values, 1, n))
  if not ok then
    self.statements[sql] = nil
    pcall(st.close, st)
    return nil, self:failure(text, "run a statement")
  end
  return collect(st)
end

local function collect_rows(st)
  local rows, n = {}, 0
  local row = st:fetch(false)
  while row do
    n = n + 1
    rows[n] = row
    row = st:fetch(false)
  end
  return rows, n
end

-- A statement that answers rows all the same (a PRAGMA) must not stay open: its
-- read lock would hold this connection to an old state of the database.
local function collect_affected(st)
  local affected = st:affected()
  while st:fetch(false) do affected = 0 end
  return affected
end

--- Runs a statement that answers rows.
-- @tparam string sql
-- @param ... parameters; nil is NULL
-- @treturn {{...},...} rows, each an array by column position (NULL is nil), or
-- nil, err
-- @treturn number how many
function methods:query(sql, ...)
  return run(self, sql, collect_rows, select("#", ...), { ... })
end

-- Waits for this process's turn to write, where the database has one writer at a
-- time; answers whether there is something to leave, or nil, err.
local function enter(self)
  local turn = self.dialect.turn
  if not turn or self.inside then return false end
  if turn:enter(self.dialect.turn_seconds) then return true end
  return nil, errors.new("busy", "the database is busy; try again", { retryable = true })
end

-- Tells of the rows that were changed; of a change that failed too, since it may
-- have happened all the same.
local function tell(self)
  local touched = self.touched
  if touched[1] then
    self.touched = {}
    for _, id in ipairs(touched) do self.listener(id) end
  end
end

local function leave(self, entered, ok, ...)
  if entered then self.dialect.turn:leave() end
  if not self.inside then tell(self) end
  if not ok then error((...), 0) end
  return ...
end

--- Runs a statement that answers no rows.
-- @tparam string sql
-- @param ... parameters
-- @treturn number rows affected, or nil, err
function methods:exec(sql, ...)
  return self:exec_with(sql, { ... }, select("#", ...))
end

--- The same with its parameters in a table, which is used up.
-- @tparam string sql
-- @tparam table values with holes for NULL
-- @tparam number n how many
-- @treturn number rows affected, or nil, err
function methods:exec_with(sql, values, n)
  local entered, err = enter(self)
  if entered == nil then return nil, err end
  if not entered then return run(self, sql, collect_affected, n, values) end
  return leave(self, true, pcall(run, self, sql, collect_affected, n, values))
end

--- Inserts many rows with few statements.
-- @tparam string head `INSERT INTO t (a, b) VALUES`
-- @tparam string tuple `(?, ?i)`
-- @tparam string ending what follows the values
-- @tparam {{...},...} rows parameters of each tuple; no nil inside
-- @tparam number width parameters of one tuple
-- @treturn true, or nil, err
function methods:insert_many(head, tuple, ending, rows, width)
  local step = 50
  local i = 1
  while i <= #rows do
    local size = (#rows - i + 1 >= step) and step or 1
    local params, n = {}, 0
    for r = i, i + size - 1 do
      for c = 1, width do
        n = n + 1
        params[n] = rows[r][c]
      end
    end
    local sql = head .. " " .. tuple .. ("," .. tuple):rep(size - 1) .. " " .. ending
    local ok, err = self:exec_with(sql, params, n)
    if not ok then return nil, err end
    i = i + size
  end
  return true
end

--- Runs `fn` in one writing transaction. What `fn` returns is returned after
-- the commit. When it returns `nil, err` (with an err) or raises, everything is
-- rolled back. It is run again, up to three times, when the database chose it as
-- the victim of a clash.
-- @tparam function fn
-- @return what fn returns, or nil, err
function methods:transaction(fn)
  if self.grouped then return fn() end
  assert(not self.inside, "transactions do not nest")
  local entered, err = enter(self)
  if entered == nil then return nil, err end
  return leave(self, entered, pcall(self.transact, self, fn))
end

methods.group = require("longshore.store.group").run

--- Says that a row is being changed; the listener hears it once the change is done.
-- To be called in the change's transaction, or else after the change.
-- @tparam string id
function methods:touch(id)
  if not self.listener then return end
  self.touched[#self.touched + 1] = id
  if not self.inside then tell(self) end
end

--- The transaction itself, once it is this thread's turn.
function methods:transact(fn)
  local err
  for attempt = 1, self.dialect.attempts or 1 do
    local began
    began, err = run(self, self.dialect.begin, collect_affected, 0, NONE)
    if not began then return nil, err end
    self.inside = true
    local ok, a, b, c = pcall(fn)
    if ok and not (a == nil and b ~= nil) then
      local done
      done, err = run(self, "COMMIT", collect_affected, 0, NONE)
      self.inside = false
      if done then return a, b, c end
      self:rollback()
    else
      self:rollback()
      self.inside = false
      if not ok then error(a, 0) end
      err = b
    end
    if type(err) ~= "table" or err.code ~= "busy" or attempt == (self.dialect.attempts or 1) then
      return nil, err
    end
  end
  return nil, err
end

--- Takes back what the open transaction did.
function methods:rollback()
  local ok = run(self, "ROLLBACK", collect_affected, 0, NONE)
  if not ok then self.lost = true end -- a fresh connection is the only clean one left
end

--- Forgets the connection without asking it anything more.
function methods:drop()
  for _, st in pairs(self.statements) do pcall(st.close, st) end
  self.statements = {}
  if self.handle then pcall(self.handle.close, self.handle) end
  self.handle = nil
end

--- Closes the connection. Closing twice is fine.
function methods:close()
  self:drop()
  self.lost = false
end

return _M

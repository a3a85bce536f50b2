--- Several changes in one transaction of a database, each as if it had been alone.
--
-- Room: store.
-- @module longshore.store.group
local errors = require "longshore.errors"

local _M = {}

-- After a group with a failure so many have savepoints at once: what fails (a name that is taken) is soon tried again.
local CAREFUL = 16

-- Whether what `pcall` answered is no success.
local function failed(result)
  return not result[1] or (result[2] == nil and result[3] ~= nil)
end

-- The error of one that was told that the database wants everything anew, or nil.
local function clash(result)
  local err = result[1] and result[3]
  return type(err) == "table" and err.code == "busy" and err or nil
end

-- One function of a group: everything it did is kept, or nothing. Answers what `pcall` of it did; or
-- nil, err when that cannot be said of it, or when the database wants everything anew.
local function member(self, fn)
  local ok, err = self:exec "SAVEPOINT member"
  if not ok then return nil, err end
  local result = { pcall(fn) }
  if failed(result) then
    err = clash(result)
    if err then return nil, err end
    ok, err = self:exec "ROLLBACK TO member"
    if not ok then return nil, err end
  end
  ok, err = self:exec "RELEASE member"
  if not ok then return nil, err end
  return result
end

-- The same without a way back: nil, ONE_FAILED for one that fails.
local ONE_FAILED = {}
local function hopeful(_, fn)
  local result = { pcall(fn) }
  if not failed(result) then return result end
  return nil, clash(result) or ONE_FAILED
end

-- Runs the functions in one transaction, each with `one`; what `pcall` of that answered.
local function together(self, functions, one)
  local called, results, err = pcall(self.transaction, self, function()
    local list = {}
    self.grouped = true
    for i, fn in ipairs(functions) do
      local why
      list[i], why = one(self, fn)
      if not list[i] then return nil, why end
    end
    return list
  end)
  -- (Were it left so, every later change would be written without a transaction.)
  self.grouped = false
  return called, results, err
end

--- Runs several functions that each make one change of the store (a transaction, or
-- statements) in one transaction: they are written, and made durable, together. One
-- that answers `nil, err` or raises is taken back alone, the others stay. (Mostly none does: they are run
-- without savepoints first, and once more with them when one has failed.)
-- @tparam table self longshore.store.dbi
-- @tparam {function,...} functions
-- @treturn {table,...} for each what `pcall` of it answered; `{ true, nil, err }` for all when the database failed
function _M.run(self, functions)
  if not functions[2] then return { { pcall(functions[1]) } } end
  local careful, called, results, err = self.careful or 0, nil, nil, nil
  if careful == 0 then
    called, results, err = together(self, functions, hopeful)
    if called and err == ONE_FAILED then careful = CAREFUL end
  end
  if careful > 0 then
    self.careful = careful - 1
    called, results, err = together(self, functions, member)
  end
  if not called then results, err = nil, errors.new("database", "the database failed: " .. tostring(results)) end
  if results then return results end
  results = {}
  for i = 1, #functions do results[i] = { true, nil, err } end
  return results
end

return _M

--- What the operations on records and on deliveries share.
--
-- Room: store.
-- @module longshore.store.record_rows
local errors = require "longshore.errors"
local rows = require "longshore.store.rows"
local schema = require "longshore.store.schema"

local _M = {}

local unpack = table.unpack or unpack -- luacheck: ignore
local records, deliveries, cleanups = schema.records, schema.deliveries, schema.cleanups

local RUNNING = "state IN ('starting', 'open', 'completing')"
-- References of one query; more take further ones.
local STEP = 50

--- The record's clash in the service's terms.
function _M.taken(err)
  if not err or err.code ~= "conflict" then return nil, err end
  local by_name = tostring(err.constraint):find("unique_name", 1, true)
  return errors.fail("conflict", by_name and "the external id is taken" or "the id is taken",
    { reason = by_name and "external_id" or "id", cause = err })
end

--- A record; false when there is none.
function _M.one(db, sql, ...)
  local answer, err = db:query(("SELECT %s FROM records WHERE "):format(records.all) .. sql, ...)
  if not answer then return nil, err end
  return answer[1] and records:row(answer[1]) or false
end

--- Makes other writers of this record wait, and answers it; false when it is gone.
function _M.lock(db, id)
  local n, err = db:exec("UPDATE records SET updated_at = updated_at WHERE id = ?i", id)
  if not n then return nil, err end
  return n == 1 and _M.one(db, "id = ?i", id)
end

--- Rows whose `column` is one of the values, in steps of equal statements.
function _M.select_in(db, description, column, mark, values, more, ...)
  local found = {}
  for first = 1, #values, STEP do
    local params, marks = { ... }, {}
    for i = 1, STEP do
      params[#params + 1] = values[math.min(first + i - 1, #values)]
      marks[i] = mark
    end
    local answer, err = db:query(("SELECT %s FROM %s WHERE %s AND %s IN (%s)"):format(description.all, description.name,
      more, column, table.concat(marks, ", ")), unpack(params))
    if not answer then return nil, err end
    for _, row in ipairs(answer) do found[#found + 1] = description:row(row) end
  end
  return found
end

local function limited(db, record_id, limits)
  local answer, err = db:query("SELECT CAST(COUNT(*) AS TEXT) FROM deliveries WHERE " .. RUNNING
    .. " AND record_id = ?i", record_id)
  if not answer then return nil, err end
  if limits.of_record and tonumber(answer[1][1]) >= limits.of_record then
    return errors.fail("quota", ("%.0f uploads of this file are running; finish one first"):format(limits.of_record),
      { reason = "too_many_uploads" })
  end
  return true
end

--- Inserts a delivery with its cleanup, within the limits.
function _M.add_delivery(db, delivery, cleanup, limits)
  local ok, err = limited(db, delivery.record_id, limits)
  if not ok then return nil, err end
  ok, err = rows.insert(db, deliveries, delivery)
  if not ok then return nil, err end
  return rows.insert(db, cleanups, cleanup)
end

return _M

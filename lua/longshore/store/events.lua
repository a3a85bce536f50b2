--- The store's operations on events: what is still to be told. See
-- `longshore.store` for the contract.
--
-- `due` is both the time and the lease, as with cleanups.
--
-- Room: store.
-- @module longshore.store.events
local rows = require "longshore.store.rows"
local schema = require "longshore.store.schema"

local _M = {}

local unpack = table.unpack or unpack -- luacheck: ignore
local events = schema.events
local ms = rows.milliseconds

function _M.add_events(self, list)
  return self.db:transaction(function() return rows.insert_all(self.db, events, list) end)
end

function _M.due_events(self, now, limit, target)
  local which, given = "", { ms(now) }
  if target then which, given[2] = " AND target = ?", target end
  given[#given + 1] = limit
  local answer, err = self.db:query(("SELECT %s FROM events WHERE due <= ?i%s ORDER BY due, id LIMIT ?i")
    :format(events.all, which), unpack(given))
  if not answer then return nil, err end
  return events:rows(answer)
end

function _M.claim_event(self, event, lease)
  local n, err = self.db:exec("UPDATE events SET due = ?i, attempts = attempts + 1 WHERE id = ? AND due = ?i",
    ms(lease), event.id, ms(event.due))
  if not n then return nil, err end
  return n == 1
end

function _M.postpone_event(self, id, due, why)
  local n, err = self.db:exec("UPDATE events SET due = ?i, error = ? WHERE id = ?", ms(due), why, id)
  if not n then return nil, err end
  return true
end

function _M.postpone_events(self, target, before, due)
  return self.db:exec("UPDATE events SET due = ?i WHERE target = ? AND due <= ?i", ms(due), target, ms(before))
end

function _M.finish_event(self, id)
  local n, err = self.db:exec("DELETE FROM events WHERE id = ?", id)
  if not n then return nil, err end
  return true
end

function _M.count_events(self)
  local answer, err = self.db:query("SELECT target, CAST(COUNT(*) AS TEXT) FROM events GROUP BY target")
  if not answer then return nil, err end
  local counts = {}
  for _, row in ipairs(answer) do counts[row[1]] = tonumber(row[2]) end
  return counts
end

return _M

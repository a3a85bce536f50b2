--- The store's operations on cleanups: what has to be undone at an object store.
-- See `longshore.store` for the contract.
--
-- `due` is both the time and the lease: who moves it from the value that was read
-- has claimed the cleanup until then.
--
-- Room: store.
-- @module longshore.store.cleanups
local rows = require "longshore.store.rows"
local schema = require "longshore.store.schema"

local _M = {}

local cleanups = schema.cleanups
local ms = rows.milliseconds

function _M.add_cleanup(self, cleanup)
  return rows.insert(self.db, cleanups, cleanup)
end

function _M.due_cleanups(self, now, limit)
  local answer, err = self.db:query(("SELECT %s FROM cleanups WHERE due <= ?i ORDER BY due, id LIMIT ?i")
    :format(cleanups.all), ms(now), limit)
  if not answer then return nil, err end
  return cleanups:rows(answer)
end

function _M.claim_cleanup(self, cleanup, lease)
  local n, err = self.db:exec("UPDATE cleanups SET due = ?i, attempts = attempts + 1 WHERE id = ? AND due = ?i",
    ms(lease), cleanup.id, ms(cleanup.due))
  if not n then return nil, err end
  return n == 1
end

function _M.postpone_cleanup(self, id, due, why)
  local n, err = self.db:exec("UPDATE cleanups SET due = ?i, error = ? WHERE id = ?", ms(due), why, id)
  if not n then return nil, err end
  return true
end

-- The upload, its file or the deleted file reach their final state.
local function settle(db, cleanup, now)
  if cleanup.upload_id then
    local ok, err = db:exec([[DELETE FROM files WHERE state = 'uploading' AND id =
      (SELECT file_id FROM uploads WHERE id = ? AND state IN ('aborting', 'expiring'))]], cleanup.upload_id)
    if not ok then return nil, err end
    ok, err = db:exec([[UPDATE uploads SET updated_at = ?i, state =
      CASE state WHEN 'aborting' THEN 'aborted' ELSE 'expired' END
      WHERE id = ? AND state IN ('aborting', 'expiring')]], ms(now), cleanup.upload_id)
    if not ok then return nil, err end
  end
  if cleanup.file_id then
    local ok, err = db:exec([[UPDATE files SET state = 'deleted', provider = NULL, object_key = NULL,
      updated_at = ?i WHERE id = ? AND state = 'deleting']], ms(now), cleanup.file_id)
    if not ok then return nil, err end
  end
  return true
end

function _M.finish_cleanup(self, cleanup, finish)
  local db = self.db
  return db:transaction(function()
    local ok, err = db:exec("DELETE FROM cleanups WHERE id = ?", cleanup.id)
    if not ok then return nil, err end
    ok, err = settle(db, cleanup, finish.now)
    if not ok then return nil, err end
    if finish.again then
      ok, err = rows.insert(db, cleanups, finish.again)
      if not ok then return nil, err end
    end
    return true
  end)
end

function _M.count_cleanups(self)
  local answer, err = self.db:query([[SELECT kind, CAST(COUNT(*) AS TEXT) FROM cleanups GROUP BY kind]])
  if not answer then return nil, err end
  local counts = {}
  for _, row in ipairs(answer) do counts[row[1]] = tonumber(row[2]) end
  return counts
end

return _M

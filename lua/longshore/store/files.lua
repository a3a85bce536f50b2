--- The store's operations on files. See `longshore.store` for the contract.
--
-- Room: store.
-- @module longshore.store.files
local errors = require "longshore.errors"
local rows = require "longshore.store.rows"
local schema = require "longshore.store.schema"

local _M = {}

local unpack = table.unpack or unpack -- luacheck: ignore
local files, cleanups = schema.files, schema.cleanups
local ms = rows.milliseconds

-- What readers may see: not what is being deleted.
local VISIBLE = "state NOT IN ('deleting', 'deleted')"

local SELECT_FILE = ("SELECT %s FROM files WHERE id = ?"):format(files.all)
local SELECT_OWN = ("%s AND tenant = ? AND organization = ? AND %s"):format(SELECT_FILE, VISIBLE)

function _M.file(self, id, owner)
  local answer, err
  if owner then
    answer, err = self.db:query(SELECT_OWN, id, owner.tenant, owner.organization)
  else
    answer, err = self.db:query(SELECT_FILE, id)
  end
  if not answer then return nil, err end
  if not answer[1] then return errors.fail("not_found", "there is no such file") end
  return files:row(answer[1])
end

-- Finished before corrupt before unfinished; of equals the newest.
local SELECT_NAMED = ([[SELECT %s FROM files WHERE tenant = ? AND organization = ? AND service = ?
  AND filename = ? AND %s ORDER BY CASE state WHEN 'registered' THEN 0 ELSE 1 END,
  created_at DESC, id DESC LIMIT 1]]):format(files.all, VISIBLE)

function _M.file_by_name(self, query)
  local answer, err = self.db:query(SELECT_NAMED, query.tenant, query.organization, query.service, query.filename)
  if not answer then return nil, err end
  if not answer[1] then return errors.fail("not_found", "there is no file of this name") end
  return files:row(answer[1])
end

local function restrict(query)
  local where = "tenant = ? AND organization = ? AND " .. VISIBLE
  local params = { query.tenant, query.organization }
  for _, field in ipairs { "service", "content_type", "state" } do
    if query[field] then
      where = ("%s AND %s = ?"):format(where, field)
      params[#params + 1] = query[field]
    end
  end
  return where, params
end

function _M.files(self, query)
  local where, params = restrict(query)
  local answer, err = self.db:query("SELECT CAST(COUNT(*) AS TEXT) FROM files WHERE " .. where, unpack(params))
  if not answer then return nil, err end
  local total = tonumber(answer[1][1])
  local page = ("SELECT %s FROM files WHERE %s ORDER BY created_at, id"):format(files.all, where)
  if query.limit or (query.offset or 0) > 0 then
    page = page .. " LIMIT ?i OFFSET ?i"
    params[#params + 1] = query.limit or rows.max_integer
    params[#params + 1] = query.offset or 0
  end
  answer, err = self.db:query(page, unpack(params))
  if not answer then return nil, err end
  return files:rows(answer), total
end

function _M.usage(self, query)
  local where, params = restrict(query)
  local answer, err = self.db:query(([[SELECT CAST(COUNT(*) AS TEXT), CAST(COALESCE(SUM(size), 0) AS TEXT),
    CAST(MAX(updated_at) AS TEXT) FROM files WHERE %s]]):format(where), unpack(params))
  if not answer then return nil, err end
  local row = answer[1]
  return { files = tonumber(row[1]), bytes = tonumber(row[2]), updated_at = row[3] and tonumber(row[3]) / 1000 }
end

function _M.begin_delete(self, id, delete)
  local db = self.db
  return db:transaction(function()
    local answer, err = db:query([[UPDATE files SET state = 'deleting', unique_name = NULL,
      updated_at = ?i WHERE id = ? AND tenant = ? AND organization = ?
      AND state IN ('registered', 'corrupt') RETURNING provider, object_key]],
      ms(delete.now), id, delete.owner.tenant, delete.owner.organization)
    if not answer then return nil, err end
    local row = answer[1]
    if not row then return false end
    if not row[2] then -- no content: nothing to clean
      local ok
      ok, err = db:exec("UPDATE files SET state = 'deleted' WHERE id = ?", id)
      if not ok then return nil, err end
      ok, err = rows.insert_all(db, schema.events, delete.events)
      if not ok then return nil, err end
      return true
    end
    local cleanup = delete.new_cleanup { file_id = id, provider = row[1], key = row[2] }
    local ok
    ok, err = rows.insert(db, cleanups, cleanup)
    if not ok then return nil, err end
    ok, err = rows.insert_all(db, schema.events, delete.events)
    if not ok then return nil, err end
    return true, cleanup
  end)
end

function _M.purge_files(self, before, limit)
  return self.db:exec([[DELETE FROM files WHERE id IN (SELECT id FROM files
    WHERE state IN ('deleted', 'corrupt') AND updated_at <= ?i
    AND NOT EXISTS (SELECT 1 FROM cleanups WHERE cleanups.file_id = files.id)
    AND NOT EXISTS (SELECT 1 FROM uploads WHERE uploads.file_id = files.id)
    ORDER BY updated_at LIMIT ?i)]], ms(before), limit)
end

return _M

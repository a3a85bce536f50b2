--- The store's operations on catalogs: buckets that clients keep files in.
--
-- * `create_catalog(row, check) -> true`, `update_catalog(id, tenant, fields, check) -> row`:
--   `check(rows, row)` is asked inside the transaction, with all other catalogs and the
--   row as it would be; what it refuses (nil, err) does not happen. One at a time.
-- * `delete_catalog(id, tenant) -> true`
-- * `catalog(id, tenant|nil) -> row`, `catalogs(tenant|nil) -> rows` by name
--
-- Room: store.
-- @module longshore.store.catalogs
local errors = require "longshore.errors"
local rows = require "longshore.store.rows"
local tables = require "longshore.store.managed_tables"

local _M = {}

local catalogs = tables.catalogs

local function missing()
  return errors.fail("not_found", "there is no such catalog")
end

-- One change at a time, so that what `check` sees stays true. (SQLite's writers
-- are one at a time anyway.)
local function alone(db)
  if not db.dialect.lock_name then return true end
  return db:query(db.dialect.lock_name, "catalogs")
end

local function others(db, id)
  local answer, err = db:query(("SELECT %s FROM catalogs WHERE id <> ?"):format(catalogs.all), id)
  if not answer then return nil, err end
  return catalogs:rows(answer)
end

local SELECT = ("SELECT %s FROM catalogs WHERE id = ?"):format(catalogs.all)

local function find(db, id, tenant)
  local answer, err
  if tenant then
    answer, err = db:query(SELECT .. " AND tenant = ?", id, tenant)
  else
    answer, err = db:query(SELECT, id)
  end
  if not answer then return nil, err end
  if not answer[1] then return missing() end
  return catalogs:row(answer[1])
end

function _M.create_catalog(self, row, check)
  local db = self.db
  return db:transaction(function()
    local ok, err = alone(db)
    if not ok then return nil, err end
    local list
    list, err = others(db, row.id)
    if not list then return nil, err end
    ok, err = check(list, row)
    if not ok then return nil, err end
    return rows.insert(db, catalogs, row)
  end)
end

function _M.update_catalog(self, id, tenant, fields, check)
  local db = self.db
  return db:transaction(function()
    local ok, err = alone(db)
    if not ok then return nil, err end
    local row
    row, err = find(db, id, tenant)
    if not row then return nil, err end
    local list
    list, err = others(db, id)
    if not list then return nil, err end
    ok, err = check(list, row)
    if not ok then return nil, err end
    local changed = { version = row.version + 1 }
    for name, value in pairs(fields) do changed[name] = value end
    local set, values, n = catalogs:set(changed)
    values[n + 1], values[n + 2] = id, tenant
    ok, err = db:exec_with(("UPDATE catalogs SET %s WHERE id = ? AND tenant = ?"):format(set), values, n + 2)
    if not ok then return nil, err end
    return find(db, id, tenant)
  end)
end

function _M.delete_catalog(self, id, tenant)
  local n, err = self.db:exec("DELETE FROM catalogs WHERE id = ? AND tenant = ?", id, tenant)
  if not n then return nil, err end
  if n == 0 then return missing() end
  return true
end

function _M.catalog(self, id, tenant)
  return find(self.db, id, tenant)
end

function _M.catalogs(self, tenant)
  local text = ("SELECT %s FROM catalogs%s ORDER BY name, id"):format(catalogs.all,
    tenant and " WHERE tenant = ?" or "")
  local answer, err
  if tenant then answer, err = self.db:query(text, tenant) else answer, err = self.db:query(text) end
  if not answer then return nil, err end
  return catalogs:rows(answer)
end

return _M

--- The store's operations on records. Part of the contract of `longshore.store`,
-- with its rules: each atomic.
--
-- A **record** has content or (`key` NULL) none yet; deliveries bring it, see
-- `longshore.store.deliveries`. A reference is `{id=}` or `{external_id=}`.
--
-- * `create_record(record, delivery, cleanup, limits) -> true`: all three at once;
--   the cleanup will remove what is left at the delivery's key. `conflict`
--   (`reason` `id` or `external_id`) when that is taken; `quota` when `limits.room` (see
--   `longshore.store.quotas`) is not there, or the record has `limits.of_record` deliveries.
-- * `drop_record(id) -> bool`: while it has no content: with its deliveries.
-- * `find_records(owner, references) -> rows`, in no order, those that there are.
-- * `list_records{tenant,organization,after={created_at,id}|nil,limit} -> rows`, oldest first.
-- * `change_records(owner, {{reference,change},...}, now) -> rows`: `change(row) -> fields | nil, err`;
--   all or none. `not_found` (`missing`: references), `conflict` (`reason` external_id).
-- * `delete_records(owner, ids, new_cleanup, new_events(row)|nil) -> rows`: all or none, with their
--   deliveries; cleanups for content and keys, and what is to be told of each.
-- * `expired_records(now, limit) -> rows`, `expire_record(id, now, new_events(row, delivery)|nil) -> bool`:
--   without content and time, it goes, and its deliveries; what is to be told of each that ran.
--
-- Room: store.
-- @module longshore.store.records
local errors = require "longshore.errors"
local quotas = require "longshore.store.quotas"
local record_rows = require "longshore.store.record_rows"
local rows = require "longshore.store.rows"
local schema = require "longshore.store.schema"

local _M = {}

local records, deliveries, cleanups = schema.records, schema.deliveries, schema.cleanups
local ms = rows.milliseconds
local one, lock, taken = record_rows.one, record_rows.lock, record_rows.taken

function _M.create_record(self, record, delivery, cleanup, limits)
  local db = self.db
  local ok, err = db:transaction(function()
    local done, why = quotas.admit(db, limits.room)
    if not done then return nil, why end
    done, why = rows.insert(db, records, record)
    if not done then return nil, why end
    return record_rows.add_delivery(db, delivery, cleanup, limits)
  end)
  if ok then return true end
  return taken(err)
end

local function drop_deliveries(db, id)
  return db:exec("DELETE FROM deliveries WHERE record_id = ?i", id)
end

function _M.drop_record(self, id)
  local db = self.db
  return db:transaction(function()
    local n, err = db:exec("DELETE FROM records WHERE id = ?i AND object_key IS NULL", id)
    if not n then return nil, err end
    if n == 0 then return false end
    n, err = drop_deliveries(db, id)
    if not n then return nil, err end
    return true
  end)
end

function _M.find_records(self, owner, references)
  local numbers, names = {}, {}
  for _, reference in ipairs(references) do
    if reference.id then
      numbers[#numbers + 1] = reference.id
    elseif reference.external_id then
      names[#names + 1] = reference.external_id
    end
  end
  local own = "tenant = ? AND organization = ?"
  local found, err = record_rows.select_in(self.db, records, "id", "?i", numbers, own, owner.tenant, owner.organization)
  if not found then return nil, err end
  local named
  named, err = record_rows.select_in(self.db, records, "external_id", "?", names, own, owner.tenant, owner.organization)
  if not named then return nil, err end
  for _, row in ipairs(named) do found[#found + 1] = row end
  return found
end

function _M.list_records(self, query)
  local sql = "SELECT %s FROM records WHERE tenant = ? AND organization = ?%s ORDER BY created_at, id LIMIT ?i"
  local answer, err
  if query.after then
    local created = ms(query.after.created_at)
    answer, err = self.db:query(sql:format(records.all, " AND (created_at > ?i OR (created_at = ?i AND id > ?i))"),
      query.tenant, query.organization, created, created, query.after.id, query.limit)
  else
    answer, err = self.db:query(sql:format(records.all, ""), query.tenant, query.organization, query.limit)
  end
  if not answer then return nil, err end
  return records:rows(answer)
end

local function of_reference(db, owner, reference)
  local own = " AND tenant = ? AND organization = ?"
  if reference.id then return one(db, "id = ?i" .. own, reference.id, owner.tenant, owner.organization) end
  return one(db, "external_id = ?" .. own, reference.external_id, owner.tenant, owner.organization)
end

function _M.change_records(self, owner, changes, now)
  local db = self.db
  local done, err = db:transaction(function()
    local changed, missing = {}, {}
    for i, entry in ipairs(changes) do
      local row, why = of_reference(db, owner, entry.reference)
      if row then row, why = lock(db, row.id) end
      if row == nil then return nil, why end
      if row then changed[i] = row else missing[#missing + 1] = entry.reference end
    end
    if missing[1] then
      return errors.fail("not_found", "there are no such records", { missing = missing, reason = "record" })
    end
    for i, entry in ipairs(changes) do
      local fields, why = entry.change(changed[i])
      if not fields then return nil, why end
      fields.updated_at = now
      local ok
      ok, why = rows.change(db, records, fields, "id = ?i", changed[i].id)
      if not ok then
        if why and why.code == "conflict" then why.external_id = fields.external_id end
        return nil, why
      end
      changed[i], why = one(db, "id = ?i", changed[i].id)
      if not changed[i] then return nil, why end
    end
    return changed
  end)
  if done then return done end
  if err.code == "conflict" then
    local name = err.external_id
    err = select(2, taken(err))
    err.external_id = name
  end
  return nil, err
end

local function drop_one(db, row, new_cleanup)
  local answer, err = db:query(("SELECT %s FROM deliveries WHERE record_id = ?i"):format(deliveries.all), row.id)
  if not answer then return nil, err end
  local ok
  -- What lies at their keys goes now; the cleanups that they have come again
  -- when no URL works any longer.
  for _, delivery in ipairs(deliveries:rows(answer)) do
    if delivery.state ~= "done" and delivery.state ~= "void" then
      ok, err = rows.insert(db, cleanups, new_cleanup { provider = delivery.provider, key = delivery.key,
        provider_upload_id = delivery.provider_upload_id, kind = "staging" })
      if not ok then return nil, err end
    end
  end
  if row.key then
    ok, err = rows.insert(db, cleanups, new_cleanup { provider = row.provider, key = row.key })
    if not ok then return nil, err end
  end
  ok, err = drop_deliveries(db, row.id)
  if not ok then return nil, err end
  ok, err = db:exec("DELETE FROM records WHERE id = ?i", row.id)
  if not ok then return nil, err end
  return true
end

function _M.delete_records(self, owner, ids, new_cleanup, new_events)
  local db = self.db
  return db:transaction(function()
    local gone, missing = {}, {}
    for _, id in ipairs(ids) do
      local row, err = lock(db, id)
      if row == nil then return nil, err end
      if row and row.tenant == owner.tenant and row.organization == owner.organization then
        local ok
        ok, err = drop_one(db, row, new_cleanup)
        if not ok then return nil, err end
        ok, err = rows.insert_all(db, schema.events, new_events and new_events(row))
        if not ok then return nil, err end
        gone[#gone + 1] = row
      else
        missing[#missing + 1] = { id = id }
      end
    end
    if missing[1] then
      return errors.fail("not_found", "there are no such records", { missing = missing, reason = "record" })
    end
    return gone
  end)
end

function _M.expired_records(self, now, limit)
  local answer, err = self.db:query(([[SELECT %s FROM records WHERE object_key IS NULL AND expires_at <= ?i
    ORDER BY expires_at, id LIMIT ?i]]):format(records.all), ms(now), limit)
  if not answer then return nil, err end
  return records:rows(answer)
end

function _M.expire_record(self, id, now, new_events)
  local db = self.db
  return db:transaction(function()
    local row, err = lock(db, id)
    if not row then return row, err end
    local n
    n, err = db:exec([[DELETE FROM records WHERE id = ?i AND object_key IS NULL AND expires_at <= ?i
      AND NOT EXISTS (SELECT 1 FROM deliveries WHERE record_id = ?i AND state = 'completing')]], id, ms(now), id)
    if not n then return nil, err end
    if n == 0 then return false end
    local answer
    answer, err = db:query(("SELECT %s FROM deliveries WHERE record_id = ?i AND state IN ('starting', 'open')")
      :format(deliveries.all), id)
    if not answer then return nil, err end
    for _, delivery in ipairs(new_events and deliveries:rows(answer) or {}) do
      local ok
      ok, err = rows.insert_all(db, schema.events, new_events(row, delivery))
      if not ok then return nil, err end
    end
    n, err = drop_deliveries(db, id)
    if not n then return nil, err end
    return true
  end)
end

return _M

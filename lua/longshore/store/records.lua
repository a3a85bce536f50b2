--- The store's operations on records and on the deliveries that bring them
-- bytes. Part of the contract of `longshore.store`, with its rules: each atomic,
-- changes of state are compare-and-set and answer `false` when the row is not
-- in that state any more.
--
-- A **record** has content or (`key` NULL) none yet. A **delivery** is
-- `starting`, `open` (its URLs are out), `used` (bytes were taken from it, and
-- it is still watched), `completing` (its parts are being assembled), `done` or
-- `void`. A reference is `{id=}` or `{external_id=}`.
--
-- * `create_record(record, delivery, cleanup, limits) -> true`: all three at once;
--   the cleanup will remove what is left at the delivery's key. `conflict`
--   (`reason` `id` or `external_id`) when that is taken; `quota` when the
--   organization has `limits.running` running deliveries, or the record
--   `limits.of_record`.
-- * `add_delivery(delivery, cleanup, limits, expires_at, change|nil) -> bool`: one
--   more for a record; `false` when the record is gone. The record expires no earlier than
--   `expires_at`; `change(row) -> fields` may rewrite it in the same transaction.
-- * `drop_record(id) -> bool`: while it has no content: with its deliveries.
-- * `find_records(owner, references) -> rows`, in no order, those that there are.
-- * `list_records{tenant,organization,after={created_at,id}|nil,limit} -> rows`, oldest first.
-- * `start_delivery(id, {provider_upload_id,now}) -> bool`: starting → open; its
--   cleanup learns of the upload too.
-- * `extend_delivery(delivery, {deadline,due,now}) -> bool`: while open: its URLs,
--   cleanup and record live longer.
-- * `delivery(id) -> row`, `open_deliveries(record_ids) -> rows` (put and session, open), oldest first.
-- * `due_deliveries(now, limit) -> rows`: running ones with `look_at` passed.
-- * `look_again(id, look_at) -> true`, `end_delivery(id, now) -> bool` (→ void).
-- * `begin_delivery(delivery, {lease,now}) -> bool`: open → completing, or a completing one
--   whose lease is still the one in `delivery`; `step_back_delivery(id, now) -> bool`: completing → open.
-- * `bind_delivery(delivery, {now,state,content,content_at,drop,etag|nil,seen_at|nil,new_cleanup}) -> bool, swapped`:
--   the delivery gets its state and, unless the record has newer content
--   already, the record gets the fields `content`; the cleanup `drop`, which would
--   have removed the content, is dropped and one for the old content made.
--   `false` when the delivery or the record is gone.
-- * `change_records(owner, {{reference,change},...}, now) -> rows`: `change(row) -> fields | nil, err`;
--   all or none. `not_found` (`missing`: references), `conflict` (`reason` external_id).
-- * `delete_records(owner, ids, new_cleanup) -> rows`: all or none, with their
--   deliveries; cleanups for content and keys.
-- * `expired_records(now, limit) -> rows`, `expire_record(id, now) -> bool`.
-- * `purge_deliveries(before, limit) -> count`: final ones last touched before then.
--
-- Room: store.
-- @module longshore.store.records
local errors = require "longshore.errors"
local rows = require "longshore.store.rows"
local schema = require "longshore.store.schema"

local _M = {}

local unpack = table.unpack or unpack -- luacheck: ignore
local records, deliveries, cleanups = schema.records, schema.deliveries, schema.cleanups
local ms = rows.milliseconds

local RUNNING = "state IN ('starting', 'open', 'completing')"
-- References of one query; more take further ones.
local STEP = 50

-- The record's clash in the service's terms.
local function taken(err)
  if not err or err.code ~= "conflict" then return nil, err end
  local by_name = tostring(err.constraint):find("unique_name", 1, true)
  return errors.fail("conflict", by_name and "the external id is taken" or "the id is taken",
    { reason = by_name and "external_id" or "id", cause = err })
end

local function limited(db, owner, record_id, limits)
  local count = "SELECT CAST(COUNT(*) AS TEXT) FROM deliveries WHERE " .. RUNNING
  local answer, err = db:query(count .. " AND tenant = ? AND organization = ?", owner.tenant, owner.organization)
  if not answer then return nil, err end
  if limits.running and tonumber(answer[1][1]) >= limits.running then
    return errors.fail("quota", ("%.0f uploads are running; finish some first"):format(limits.running),
      { reason = "too_many_uploads" })
  end
  answer, err = db:query(count .. " AND record_id = ?i", record_id)
  if not answer then return nil, err end
  if limits.of_record and tonumber(answer[1][1]) >= limits.of_record then
    return errors.fail("quota", ("%.0f uploads of this file are running; finish one first"):format(limits.of_record),
      { reason = "too_many_uploads" })
  end
  return true
end

local function add(db, delivery, cleanup, limits)
  local ok, err = limited(db, delivery, delivery.record_id, limits)
  if not ok then return nil, err end
  ok, err = rows.insert(db, deliveries, delivery)
  if not ok then return nil, err end
  return rows.insert(db, cleanups, cleanup)
end

function _M.create_record(self, record, delivery, cleanup, limits)
  local db = self.db
  local ok, err = db:transaction(function()
    local done, why = rows.insert(db, records, record)
    if not done then return nil, why end
    return add(db, delivery, cleanup, limits)
  end)
  if ok then return true end
  return taken(err)
end

local function one(db, sql, ...)
  local answer, err = db:query(("SELECT %s FROM records WHERE "):format(records.all) .. sql, ...)
  if not answer then return nil, err end
  return answer[1] and records:row(answer[1]) or false
end

-- Makes other writers of this record wait, and answers it; false when it is gone.
local function lock(db, id)
  local n, err = db:exec("UPDATE records SET updated_at = updated_at WHERE id = ?i", id)
  if not n then return nil, err end
  return n == 1 and one(db, "id = ?i", id)
end

function _M.add_delivery(self, delivery, cleanup, limits, expires_at, change)
  local db = self.db
  local ok, err = db:transaction(function()
    local row, why = lock(db, delivery.record_id)
    if not row then return row, why end
    local fields = change and change(row) or {}
    fields.expires_at = math.max(row.expires_at, expires_at)
    local done
    done, why = rows.change(db, records, fields, "id = ?i", row.id)
    if not done then return nil, why end
    return add(db, delivery, cleanup, limits)
  end)
  if ok ~= nil then return ok end
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

-- Rows whose `column` is one of the values, in steps of equal statements.
local function select_in(db, description, column, mark, values, more, ...)
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
  local found, err = select_in(self.db, records, "id", "?i", numbers, own, owner.tenant, owner.organization)
  if not found then return nil, err end
  local named
  named, err = select_in(self.db, records, "external_id", "?", names, own, owner.tenant, owner.organization)
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

function _M.start_delivery(self, id, start)
  local db = self.db
  return db:transaction(function()
    local ok, err = rows.change(db, deliveries, { state = "open", provider_upload_id = start.provider_upload_id,
      updated_at = start.now }, "id = ? AND state = 'starting'", id)
    if not ok then return ok, err end
    return rows.change(db, cleanups, { provider_upload_id = start.provider_upload_id },
      "id = (SELECT cleanup_id FROM deliveries WHERE id = ?)", id)
  end)
end

function _M.extend_delivery(self, delivery, extend)
  local db = self.db
  return db:transaction(function()
    local ok, err = rows.change(db, deliveries, { deadline = extend.deadline, updated_at = extend.now },
      "id = ? AND state = 'open'", delivery.id)
    if not ok then return ok, err end
    ok, err = rows.change(db, cleanups, { due = extend.due }, "id = ?", delivery.cleanup_id)
    if not ok then return ok, err end
    ok, err = db:exec("UPDATE records SET expires_at = ?i WHERE id = ?i AND expires_at < ?i", ms(extend.deadline),
      delivery.record_id, ms(extend.deadline))
    if not ok then return nil, err end
    return true
  end)
end

function _M.delivery(self, id)
  local answer, err = self.db:query(("SELECT %s FROM deliveries WHERE id = ?"):format(deliveries.all), id)
  if not answer then return nil, err end
  if not answer[1] then return errors.fail("not_found", "there is no such upload", { reason = "delivery" }) end
  return deliveries:row(answer[1])
end

function _M.open_deliveries(self, record_ids)
  local found, err = select_in(self.db, deliveries, "record_id", "?i", record_ids,
    "state = 'open' AND kind <> 'multipart'")
  if not found then return nil, err end
  table.sort(found, function(a, b)
    if a.created_at ~= b.created_at then return a.created_at < b.created_at end
    return a.id < b.id
  end)
  return found
end

function _M.due_deliveries(self, now, limit)
  local answer, err = self.db:query(([[SELECT %s FROM deliveries WHERE look_at <= ?i
    AND state IN ('starting', 'open', 'used', 'completing') ORDER BY look_at, id LIMIT ?i]]):format(deliveries.all),
    ms(now), limit)
  if not answer then return nil, err end
  return deliveries:rows(answer)
end

function _M.look_again(self, id, look_at)
  local n, err = self.db:exec("UPDATE deliveries SET look_at = ?i WHERE id = ?", ms(look_at), id)
  if not n then return nil, err end
  return true
end

function _M.end_delivery(self, id, now)
  return rows.change(self.db, deliveries, { state = "void", updated_at = now },
    "id = ? AND state IN ('starting', 'open', 'used', 'completing')", id)
end

function _M.begin_delivery(self, delivery, begin)
  return rows.change(self.db, deliveries, { state = "completing", lease = begin.lease, look_at = begin.lease,
    updated_at = begin.now }, "id = ? AND (state = 'open' OR (state = 'completing' AND lease = ?i))",
    delivery.id, ms(delivery.lease))
end

function _M.step_back_delivery(self, id, now)
  return rows.change(self.db, deliveries, { state = "open", lease = 0, updated_at = now },
    "id = ? AND state = 'completing'", id)
end

local function drop_cleanup(db, id)
  local n, err = db:exec("DELETE FROM cleanups WHERE id = ?", id)
  if not n then return nil, err end
  return true
end

-- The record's content becomes another; the old one's object gets its cleanup.
local function swap(db, row, bind)
  local fields = { content_at = bind.content_at, uploaded_at = bind.now, updated_at = bind.now }
  for name, value in pairs(bind.content) do fields[name] = value end
  if fields.crc32c == nil then fields.crc32c = rows.null end
  local ok, err = rows.change(db, records, fields, "id = ?i", row.id)
  if not ok then return nil, err end
  ok, err = drop_cleanup(db, bind.drop)
  if not ok or not row.key then return ok, err end
  return rows.insert(db, cleanups, bind.new_cleanup { provider = row.provider, key = row.key })
end

function _M.bind_delivery(self, delivery, bind)
  local db = self.db
  return db:transaction(function()
    local row, err = lock(db, delivery.record_id)
    if not row then return row, err end
    local ok
    local where = "id = ? AND state IN ('open', 'used', 'completing')"
    local fields = { state = bind.state, etag = bind.etag, seen_at = bind.seen_at, lease = 0, updated_at = bind.now }
    if bind.etag and bind.seen_at then -- the same bytes are taken once
      ok, err = rows.change(db, deliveries, fields, where .. " AND (etag IS NULL OR etag <> ? OR seen_at <> ?i)",
        delivery.id, bind.etag, ms(bind.seen_at))
    else
      ok, err = rows.change(db, deliveries, fields, where, delivery.id)
    end
    if not ok then return ok, err end
    if row.content_at and row.content_at > bind.content_at then return true, false end
    ok, err = swap(db, row, bind)
    if not ok then return nil, err end
    return true, true
  end)
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

function _M.delete_records(self, owner, ids, new_cleanup)
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

function _M.expire_record(self, id, now)
  local db = self.db
  return db:transaction(function()
    local n, err = db:exec([[DELETE FROM records WHERE id = ?i AND object_key IS NULL AND expires_at <= ?i
      AND NOT EXISTS (SELECT 1 FROM deliveries WHERE record_id = ?i AND state = 'completing')]], id, ms(now), id)
    if not n then return nil, err end
    if n == 0 then return false end
    n, err = drop_deliveries(db, id)
    if not n then return nil, err end
    return true
  end)
end

function _M.purge_deliveries(self, before, limit)
  return self.db:exec([[DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries
    WHERE state IN ('done', 'void') AND updated_at <= ?i ORDER BY updated_at LIMIT ?i)]], ms(before), limit)
end

return _M

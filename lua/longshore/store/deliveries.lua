--- The store's operations on deliveries, which bring records their bytes. Part of
-- the contract of `longshore.store`, with its rules: each atomic, changes of state
-- are compare-and-set and answer `false` when the row is not in that state any more.
--
-- A **delivery** is `starting`, `open` (its URLs are out), `used` (bytes were taken
-- from it, and it is still watched), `completing` (its parts are being assembled),
-- `done` or `void`.
--
-- * `add_delivery(delivery, cleanup, limits, expires_at, change|nil) -> bool`: one
--   more for a record; `false` when the record is gone. The record expires no earlier than
--   `expires_at`; `change(row) -> fields` may rewrite it in the same transaction. `limits` as of `create_record`.
-- * `start_delivery(id, {provider_upload_id,now}) -> bool`: starting → open; its
--   cleanup learns of the upload too.
-- * `extend_delivery(delivery, {deadline,due,now}) -> bool`: while open: its URLs,
--   cleanup and record live longer.
-- * `delivery(id) -> row`, `open_deliveries(record_ids) -> rows` (put and session, open), oldest first.
-- * `due_deliveries(now, limit) -> rows`: running ones with `look_at` passed.
-- * `look_again(id, look_at) -> true`, `end_delivery(id, now, events|nil) -> bool` (→ void).
-- * `refuse_delivery(delivery, {now,state,etag|nil,seen_at|nil,events|nil}) -> bool`: what it brought will not be
--   content: it gets this state, and the mark of these bytes; `false` when they were marked already.
-- * `begin_delivery(delivery, {lease,now}) -> bool`: open → completing, or a completing one
--   whose lease is still the one in `delivery`; `step_back_delivery(id, now) -> bool`: completing → open.
-- * `bind_delivery(delivery, {now,state,content,content_at,drop,etag|nil,seen_at|nil,new_cleanup,
--   quotas|nil,replaces|nil,events|nil}) -> bool, swapped`:
--   the delivery gets its state and, unless the record has newer content
--   already, the record gets the fields `content`; the cleanup `drop`, which would
--   have removed the content, is dropped and one for the old content made.
--   `false` when the delivery or the record is gone. `quota` when the content is more than `quotas` allow;
--   `conflict` (`reason` replaced) when the record's content is not the one of key `replaces` (false: none) any more.
--   `events` tell of a swap.
-- * `purge_deliveries(before, limit) -> count`: final ones last touched before then.
-- * `is_content(provider, key) -> bool`: whether a record or a file has this object, or a cleanup will remove it.
--
-- Room: store.
-- @module longshore.store.deliveries
local errors = require "longshore.errors"
local quotas = require "longshore.store.quotas"
local record_rows = require "longshore.store.record_rows"
local rows = require "longshore.store.rows"
local schema = require "longshore.store.schema"

local _M = {}

local records, deliveries, cleanups = schema.records, schema.deliveries, schema.cleanups
local ms = rows.milliseconds
local lock = record_rows.lock

function _M.add_delivery(self, delivery, cleanup, limits, expires_at, change)
  local db = self.db
  local ok, err = db:transaction(function()
    local admitted, full = quotas.admit(db, limits.room)
    if not admitted then return nil, full end
    local row, why = lock(db, delivery.record_id)
    if not row then return row, why end
    local fields = change and change(row) or {}
    fields.expires_at = math.max(row.expires_at, expires_at)
    local done
    done, why = rows.change(db, records, fields, "id = ?i", row.id)
    if not done then return nil, why end
    return record_rows.add_delivery(db, delivery, cleanup, limits)
  end)
  if ok ~= nil then return ok end
  return record_rows.taken(err)
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
  local found, err = record_rows.select_in(self.db, deliveries, "record_id", "?i", record_ids,
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

function _M.end_delivery(self, id, now, events)
  local db = self.db
  return db:transaction(function()
    local ok, err = rows.change(db, deliveries, { state = "void", updated_at = now },
      "id = ? AND state IN ('starting', 'open', 'used', 'completing')", id)
    if not ok then return ok, err end
    return rows.insert_all(db, schema.events, events)
  end)
end

-- The delivery gets its state, unless these bytes were taken or refused already.
local function settle(db, delivery, fields)
  local where = "id = ? AND state IN ('open', 'used', 'completing')"
  if fields.etag and fields.seen_at then
    return rows.change(db, deliveries, fields, where .. " AND (etag IS NULL OR etag <> ? OR seen_at <> ?i)",
      delivery.id, fields.etag, ms(fields.seen_at))
  end
  return rows.change(db, deliveries, fields, where, delivery.id)
end

function _M.refuse_delivery(self, delivery, refuse)
  local db = self.db
  return db:transaction(function()
    local ok, err = settle(db, delivery, { state = refuse.state, etag = refuse.etag, seen_at = refuse.seen_at,
      lease = 0, updated_at = refuse.now })
    if not ok then return ok, err end
    return rows.insert_all(db, schema.events, refuse.events)
  end)
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
    local room = { owner = delivery, quotas = bind.quotas, bytes = 0 }
    -- First the organization's lock, then the record's: the order of all who take both.
    local ok, err = quotas.hold(db, room)
    if not ok then return nil, err end
    local row
    row, err = lock(db, delivery.record_id)
    if not row then return row, err end
    ok, err = settle(db, delivery, { state = bind.state, etag = bind.etag, seen_at = bind.seen_at, lease = 0,
      updated_at = bind.now })
    if not ok then return ok, err end
    if row.content_at and row.content_at > bind.content_at then return true, false end
    if bind.replaces ~= nil and (row.key or false) ~= bind.replaces then
      return errors.fail("conflict", "the file was replaced by another one meanwhile", { reason = "replaced" })
    end
    room.bytes = bind.content.size - (row.size or 0)
    ok, err = quotas.admit(db, room)
    if not ok then return nil, err end
    ok, err = swap(db, row, bind)
    if not ok then return nil, err end
    ok, err = rows.insert_all(db, schema.events, bind.events)
    if not ok then return nil, err end
    return true, true
  end)
end

function _M.purge_deliveries(self, before, limit)
  return self.db:exec([[DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries
    WHERE state IN ('done', 'void') AND updated_at <= ?i ORDER BY updated_at LIMIT ?i)]], ms(before), limit)
end

function _M.is_content(self, provider, key)
  local answer, err = self.db:query("SELECT id FROM cleanups WHERE provider = ? AND object_key = ? UNION ALL "
    .. "SELECT CAST(id AS TEXT) FROM records WHERE provider = ? AND object_key = ? UNION ALL "
    .. "SELECT id FROM files WHERE provider = ? AND object_key = ?", provider, key, provider, key, provider, key)
  if not answer then return nil, err end
  return answer[1] ~= nil
end

return _M

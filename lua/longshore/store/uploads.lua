--- The store's operations on uploads and their parts. See `longshore.store` for
-- the contract; every function here is one of its operations.
--
-- Every change of state is an UPDATE that names the states it may start from; it
-- is the first statement of its transaction, so that whoever comes second waits
-- and then finds that nothing matches.
--
-- Room: store.
-- @module longshore.store.uploads
local errors = require "longshore.errors"
local quotas = require "longshore.store.quotas"
local rows = require "longshore.store.rows"
local schema = require "longshore.store.schema"

local _M = {}

local unpack = table.unpack or unpack -- luacheck: ignore
local uploads, parts, files, cleanups = schema.uploads, schema.parts, schema.files, schema.cleanups
local events = schema.events
local ms = rows.milliseconds

-- UPDATE uploads SET <fields> WHERE id AND state in `from` [AND more]
-- Answers how many rows changed: 0 or 1. (All but `managed` and the purge of final rows change uploads here.)
local function change(db, id, from, fields, more, ...)
  local set, values, n = uploads:set(fields)
  local marks = {}
  n = n + 1
  values[n] = id
  for i, state in ipairs(from) do
    marks[i] = "?"
    n = n + 1
    values[n] = state
  end
  for i = 1, select("#", ...) do
    n = n + 1
    values[n] = (select(i, ...))
  end
  local sql = ("UPDATE uploads SET %s WHERE id = ? AND state IN (%s)%s"):format(set,
    table.concat(marks, ", "), more and " AND " .. more or "")
  local changed, err = db:exec_with(sql, values, n)
  db:touch(id)
  return changed, err
end

local function put_parts(db, id, list)
  local tuples = {}
  for i, part in ipairs(list) do tuples[i] = { id, part.number, part.token } end
  return db:insert_many("INSERT INTO parts (upload_id, number, token) VALUES", "(?, ?i, ?)",
    "ON CONFLICT (upload_id, number) DO UPDATE SET token = excluded.token", tuples, 3)
end

local function drop_parts(db, id)
  return db:exec("DELETE FROM parts WHERE upload_id = ?", id)
end

local function add_cleanup(db, cleanup)
  return rows.insert(db, cleanups, cleanup)
end

function _M.create_upload(self, upload, file, max_running, limits, managed)
  local db = self.db
  return db:transaction(function()
    local room = { owner = upload, max_running = max_running, quotas = limits, running = 1, files = file and 1 or 0,
      bytes = file and upload.size or 0 }
    if managed then
      local held, why = quotas.hold(db, room)
      if not held then return nil, why end
      local waiting
      waiting, why = quotas.waits(db, managed)
      if waiting == nil then return nil, why end
      if waiting then room.running = 0 end
    end
    local admitted, full = quotas.admit(db, room)
    if not admitted then return nil, full end
    if file then
      local ok, err = rows.insert(db, files, file)
      if not ok then return nil, err end
    end
    if upload.if_exists == "refuse" and upload.unique_name then
      local taken, err = db:query("SELECT id FROM files WHERE unique_name = ?", upload.unique_name)
      if not taken then return nil, err end
      if taken[1] then
        return errors.fail("conflict", "a file of this name exists already",
          { reason = "name_taken", file_id = taken[1][1] })
      end
    end
    local ok, err = rows.insert(db, uploads, upload)
    if not ok then return nil, err end
    return true
  end)
end

local START = "UPDATE uploads SET state = 'uploading', provider_upload_id = ?, updated_at = ?i "
  .. "WHERE id = ? AND state = 'starting'"

-- (A row that is starting is nobody's to keep: whoever has one of this upload has read it after this.)
function _M.start_upload(self, id, provider_upload_id, now)
  local n, err = self.db:exec(START, provider_upload_id, ms(now), id)
  if not n then return nil, err end
  return n == 1
end

local SELECT_UPLOAD = ("SELECT %s FROM uploads WHERE id = ?"):format(uploads.all)
local SELECT_OWN = SELECT_UPLOAD .. " AND tenant = ? AND organization = ?"

function _M.upload(self, id, owner)
  local answer, err
  if owner then
    answer, err = self.db:query(SELECT_OWN, id, owner.tenant, owner.organization)
  else
    answer, err = self.db:query(SELECT_UPLOAD, id)
  end
  if not answer then return nil, err end
  if not answer[1] then return errors.fail("not_found", "there is no such upload") end
  return uploads:row(answer[1])
end

function _M.find_uploads(self, query)
  local marks, params = {}, { query.tenant, query.organization, query.service, query.filename }
  for i, state in ipairs(query.states) do
    marks[i] = "?"
    params[4 + i] = state
  end
  local answer, err = self.db:query(([[SELECT %s FROM uploads WHERE tenant = ? AND organization = ?
    AND service = ? AND filename = ? AND state IN (%s) ORDER BY created_at DESC, id DESC LIMIT 100]])
    :format(uploads.all, table.concat(marks, ", ")), unpack(params))
  if not answer then return nil, err end
  return uploads:rows(answer)
end

function _M.uploads_of_file(self, file_id)
  local answer, err = self.db:query(("SELECT %s FROM uploads WHERE file_id = ?"):format(uploads.all), file_id)
  if not answer then return nil, err end
  return uploads:rows(answer)
end

function _M.extend_upload(self, id, deadline, now)
  local n, err = change(self.db, id, { "uploading" }, { deadline = deadline, updated_at = now },
    "deadline > ?i", ms(now))
  if not n then return nil, err end
  return n == 1
end

local SELECT_PARTS = ("SELECT %s FROM parts WHERE upload_id = ? ORDER BY number"):format(parts.all)

function _M.parts(self, id)
  local answer, err = self.db:query(SELECT_PARTS, id)
  if not answer then return nil, err end
  local list = {}
  for i, row in ipairs(answer) do
    list[i] = { number = tonumber(row[2]), token = row[3] }
  end
  return list
end

function _M.checkpoint(self, id, list, now)
  local db = self.db
  return db:transaction(function()
    local n, err = change(db, id, { "uploading" }, { updated_at = now }, "deadline > ?i", ms(now))
    if not n then return nil, err end
    if n == 0 then return false end
    local ok
    ok, err = put_parts(db, id, list)
    if not ok then return nil, err end
    return true
  end)
end

function _M.forget_parts(self, id, numbers)
  local db = self.db
  return db:transaction(function()
    for _, number in ipairs(numbers) do
      local ok, err = db:exec("DELETE FROM parts WHERE upload_id = ? AND number = ?i", id, number)
      if not ok then return nil, err end
    end
    return true
  end)
end

-- Makes `name` the file's own, if no other file has it.
local function claim_name(db, file_id, name)
  local n, err = db:exec([[UPDATE files SET unique_name = ? WHERE id = ? AND NOT EXISTS
    (SELECT 1 FROM files other WHERE other.unique_name = ? AND other.id <> ?)]],
    name, file_id, name, file_id)
  if not n and err.code ~= "conflict" then return nil, err end
  if n == 1 then return true end
  return errors.fail("conflict", "a file of this name was finished meanwhile", { reason = "name_taken" })
end

function _M.begin_complete(self, id, begin)
  local db, now = self.db, begin.now
  return db:transaction(function()
    local n, err = change(db, id, { "uploading" }, {
      state = "completing", lease = begin.lease, updated_at = now,
      expected_crc32c = begin.expected_crc32c or rows.null,
    }, "deadline > ?i", ms(now))
    if not n then return nil, err end
    if n == 0 then return false end
    local ok
    if begin.unique_name then
      ok, err = claim_name(db, begin.file_id, begin.unique_name)
      if not ok then return nil, err end
    end
    ok, err = put_parts(db, id, begin.parts)
    if not ok then return nil, err end
    return true
  end)
end

function _M.step_back(self, id, now)
  local db = self.db
  return db:transaction(function()
    local n, err = change(db, id, { "completing" },
      { state = "uploading", lease = 0, expected_crc32c = rows.null, updated_at = now })
    if not n then return nil, err end
    if n == 0 then return false end
    local ok
    ok, err = db:exec([[UPDATE files SET unique_name = NULL WHERE state = 'uploading'
      AND id = (SELECT file_id FROM uploads WHERE id = ?)]], id)
    if not ok then return nil, err end
    return true
  end)
end

-- The finished file whose name is taken over: out of sight, its object to be deleted.
local function displace(db, upload, new_cleanup, now)
  local name, file_id = upload.unique_name, upload.file_id
  local answer, err = db:query([[UPDATE files SET state = 'deleting', unique_name = NULL,
    updated_at = ?i WHERE unique_name = ? AND id <> ? RETURNING id, provider, object_key]],
    ms(now), name, file_id)
  if not answer then return nil, err end
  for _, row in ipairs(answer) do
    if upload.replaces and row[1] ~= upload.replaces then
      return errors.fail("conflict", "the file was replaced by another one meanwhile",
        { reason = "replaced", file_id = row[1] })
    end
    local ok
    ok, err = add_cleanup(db, new_cleanup { file_id = row[1], provider = row[2], key = row[3] })
    if not ok then return nil, err end
  end
  return true
end

-- Content that the file had before; its object is not needed any more.
local function supersede(db, upload, new_cleanup)
  local answer, err = db:query("SELECT provider, object_key FROM files WHERE id = ?", upload.file_id)
  if not answer then return nil, err end
  local old = answer[1]
  if not old then
    return errors.fail("not_found", "the upload's file is gone")
  end
  if old[2] and not (old[1] == upload.provider and old[2] == upload.key) then
    return add_cleanup(db, new_cleanup { provider = old[1], key = old[2] })
  end
  return true
end

function _M.finish_complete(self, upload, finish)
  local db, now = self.db, finish.now
  return db:transaction(function()
    local n, err = change(db, upload.id, { "completing", "uploading" },
      { state = "completed", lease = 0, updated_at = now })
    if not n then return nil, err end
    if n == 0 then return false end
    local ok
    ok, err = supersede(db, upload, finish.new_cleanup)
    if not ok then return nil, err end
    if upload.unique_name then
      if upload.if_exists == "replace" then
        ok, err = displace(db, upload, finish.new_cleanup, now)
        if not ok then return nil, err end
      end
      ok, err = claim_name(db, upload.file_id, upload.unique_name)
      if not ok then return nil, err end
    end
    local set, values, count = files:set(finish.file)
    values[count + 1] = upload.file_id
    ok, err = db:exec_with("UPDATE files SET " .. set .. " WHERE id = ?", values, count + 1)
    if not ok then return nil, err end
    ok, err = drop_parts(db, upload.id)
    if not ok then return nil, err end
    ok, err = rows.insert_all(db, events, finish.events)
    if not ok then return nil, err end
    return true
  end)
end

function _M.fail_upload(self, upload, fail)
  local db, now = self.db, fail.now
  return db:transaction(function()
    local n, err = change(db, upload.id, fail.from or { "completing" },
      { state = "failed", error = fail.error, lease = 0, updated_at = now })
    if not n then return nil, err end
    if n == 0 then return false end
    local ok
    ok, err = db:exec([[UPDATE files SET state = 'corrupt', unique_name = NULL, updated_at = ?i
      WHERE id = ? AND state = 'uploading']], ms(now), upload.file_id)
    if not ok then return nil, err end
    ok, err = drop_parts(db, upload.id)
    if not ok then return nil, err end
    ok, err = add_cleanup(db, fail.cleanup)
    if not ok then return nil, err end
    ok, err = rows.insert_all(db, events, fail.events)
    if not ok then return nil, err end
    return true
  end)
end

local function stale_column(by)
  return assert(({ deadline = "deadline", lease = "lease", updated_at = "updated_at" })[by],
    "by: deadline, lease or updated_at expected")
end

function _M.begin_undo(self, id, undo)
  local db = self.db
  return db:transaction(function()
    local n, err
    local fields = { state = undo.to, error = undo.error, lease = 0, updated_at = undo.now }
    if undo.stale then
      n, err = change(db, id, undo.from, fields, stale_column(undo.stale.by) .. " <= ?i", ms(undo.stale.before))
    else
      n, err = change(db, id, undo.from, fields)
    end
    if not n then return nil, err end
    if n == 0 then return false end
    local ok
    ok, err = drop_parts(db, id)
    if not ok then return nil, err end
    ok, err = add_cleanup(db, undo.cleanup)
    if not ok then return nil, err end
    ok, err = rows.insert_all(db, events, undo.events)
    if not ok then return nil, err end
    return true
  end)
end

function _M.stale_uploads(self, query)
  local column = stale_column(query.by)
  local answer, err = self.db:query(([[SELECT %s FROM uploads WHERE state = ? AND %s <= ?i
    ORDER BY %s, id LIMIT ?i]]):format(uploads.all, column, column),
    query.state, ms(query.before), query.limit)
  if not answer then return nil, err end
  return uploads:rows(answer)
end

function _M.claim_completing(self, upload, lease)
  local n, err = change(self.db, upload.id, { "completing" }, { lease = lease },
    "lease = ?i", ms(upload.lease))
  if not n then return nil, err end
  return n == 1
end

function _M.purge_uploads(self, before, limit)
  return self.db:exec([[DELETE FROM uploads WHERE id IN (SELECT id FROM uploads
    WHERE state IN ('completed', 'aborted', 'expired', 'failed') AND updated_at <= ?i
    ORDER BY updated_at LIMIT ?i)]], ms(before), limit)
end

function _M.count_uploads(self)
  local answer, err = self.db:query("SELECT state, CAST(COUNT(*) AS TEXT) FROM uploads GROUP BY state")
  if not answer then return nil, err end
  local counts = {}
  for _, row in ipairs(answer) do counts[row[1]] = tonumber(row[2]) end
  return counts
end

return _M

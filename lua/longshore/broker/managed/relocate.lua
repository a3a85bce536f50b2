--- Moving a managed file's object: to another key, into the trash, out of it, away.
--
-- The row says what is to happen before anything does (`moving`, `deleting`,
-- `restoring`, and until when somebody works at it); every step may be repeated.
--
-- A URL that can write to the old key may still be alive. Until it has ended, the key stays
-- the file's, so that nobody else's bytes can be overwritten through it; then a cleanup
-- removes what may have arrived there and frees the key.
--
-- Room: broker.
-- @module longshore.broker.managed.relocate
local errors = require "longshore.errors"
local json = require "longshore.json"
local keys = require "longshore.broker.managed.keys"
local rows = require "longshore.store.rows"

local _M = {}

-- Who works at a move has this long; copying takes the store a while.
local LEASE = 900

--- Statuses of files that are on their way.
_M.BUSY = { moving = true, deleting = true, restoring = true }

local function place_of(row)
  return keys.place(row.provider, row.key)
end

-- Uploads that were to fill the key end. One that is being completed is waited for.
local function end_uploads(self, row, why)
  local uploads, err = self.store:uploads_of_file(row.id)
  if not uploads then return nil, err end
  for _, upload in ipairs(uploads) do
    if upload.state == "completing" then
      return errors.fail("conflict", "an upload of this file is being completed; try again",
        { reason = "completing", retryable = true, retry_after = 1 })
    end
    if upload.state == "starting" or upload.state == "uploading" then
      local ok
      ok, err = self:give_up(upload, { "starting", "uploading" }, "aborting", why)
      if ok == nil then return nil, err end
    end
  end
  return true
end

-- The file's key is not its own any more: at once, or when the last URL has ended.
local function leave(self, row, change)
  if row.watch_until <= self.clock.now() then
    change.release = place_of(row)
  else
    change.cleanups = { self:new_cleanup { kind = "release", file_id = row.id, provider = row.provider, key = row.key,
      due = row.watch_until } }
  end
end

-- Whether the row still wants what it wanted: somebody who had been given up for dead must
-- not touch what has happened since.
local function still(self, row)
  local now, err = self.store:managed_file(row.id)
  if not now then return nil, err end
  if now.status == row.status and now.generation == row.generation and now.trash_key == row.trash_key
    and now.move_provider == row.move_provider and now.move_key == row.move_key then
    return true
  end
  return errors.fail("conflict", "the file was changed meanwhile; try again", { reason = "changed", retryable = true })
end

-- Copies an object and removes the original. Answers what is at the target, or
-- false when there was nothing.
local function transfer(self, row, from, from_key, to, to_key)
  local ok, err = still(self, row)
  if not ok then return nil, err end
  local made
  made, err = to:copy {
    from = from_key, to = to_key, source = from ~= to and from or nil,
    headers = row.encryption and json.decode(row.encryption) or nil,
  }
  if not made then
    if not self:is_gone(err) then return nil, self:store_failure(err) end
    made, err = to:head { key = to_key } -- copied by an earlier try
    if not made then
      if self:is_gone(err) then return false end
      return nil, self:store_failure(err)
    end
  end
  ok, err = still(self, row)
  if not ok then return nil, err end
  ok, err = from:delete { key = from_key }
  if not ok then return nil, self:store_failure(err) end
  return made
end

local works = {}

function works.deleting(self, row, provider, now)
  local made, err = transfer(self, row, provider, row.key, provider, row.trash_key)
  if made == nil then return nil, err end
  local change = { id = row.id, version = row.version, fields = { status = "soft_deleted", deleted_at = now,
    updated_at = now, due = now + self.managed.trash_seconds, generation = row.generation + 1 } }
  if made then
    change.fields.etag, change.fields.size = made.etag, made.size
  else
    change.fields.etag, change.fields.trash_key = rows.null, rows.null
  end
  leave(self, row, change)
  return change
end

function works.restoring(self, row, provider, now)
  local made = false
  if row.trash_key then
    local err
    made, err = transfer(self, row, provider, row.trash_key, provider, row.key)
    if made == nil then return nil, err end
  end
  local fields = { deleted_at = rows.null, trash_key = rows.null, updated_at = now, generation = row.generation + 1,
    status = "available" }
  if not made then
    fields.status, fields.etag, fields.size = "presigned", rows.null, rows.null
  else
    fields.etag, fields.size = made.etag, made.size
  end
  fields.due = (row.watch_until > now or fields.status == "presigned") and math.max(now, row.watch_until) or rows.null
  return { id = row.id, version = row.version, fields = fields }
end

function works.moving(self, row, provider, now)
  local target, err = self:provider(row.move_provider)
  if not target then return nil, err end
  local made
  made, err = transfer(self, row, provider, row.key, target, row.move_key)
  if made == nil then return nil, err end
  local change = { id = row.id, version = row.version, fields = {
    provider = row.move_provider, bucket = row.move_bucket, key = row.move_key, move_provider = rows.null,
    move_bucket = rows.null, move_key = rows.null, generation = row.generation + 1, updated_at = now,
    status = made and "available" or "failed", etag = made and made.etag or rows.null,
    size = made and made.size or rows.null, watch_until = now, due = rows.null,
  } }
  leave(self, row, change)
  return change
end

-- Does the work of a row whose lease is the caller's. (Somebody else may have done it already.)
local function work(self, row)
  if not _M.BUSY[row.status] then return row end
  local provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local change
  change, err = works[row.status](self, row, provider, self.clock.now())
  if not change then return nil, err end
  local ok
  ok, err = self.store:write_managed { change }
  if not ok and err.reason ~= "changed" then return nil, err end
  self.store:forget_urls(row.id)
  return self.store:managed_file(row.id)
end

--- Goes on with what was cut off.
-- @tparam table self broker
-- @tparam table row
-- @treturn table|nil row, as it is then
-- @treturn table err
function _M.resume(self, row)
  local ok, err = self.store:write_managed { { id = row.id, version = row.version,
    fields = { due = self.clock.now() + LEASE } } }
  if not ok then
    if err.reason == "changed" then return row end
    return nil, err
  end
  row, err = self.store:managed_file(row.id)
  if not row then return nil, err end
  return work(self, row)
end

-- `with`: `events`, `room`, further `fields` of the change.
local function begin(self, row, fields, claim, former, with)
  with = with or {}
  for name, value in pairs(with.fields or {}) do fields[name] = value end
  fields.due, fields.updated_at = self.clock.now() + LEASE, self.clock.now()
  local changes = {}
  if former then changes[1] = { id = former.id, version = former.version, fields = {}, release = claim } end
  changes[#changes + 1] = { id = row.id, version = row.version, fields = fields, claim = claim,
    events = with.events, room = with.room }
  local ok, err = self.store:write_managed(changes)
  if not ok then return nil, err end
  local new
  new, err = self.store:managed_file(row.id)
  if not new then return nil, err end
  return work(self, new)
end

--- Puts a file into the trash.
-- @tparam table self broker
-- @tparam table row
-- @tparam[opt] {table,...} events to be told, written with the change
-- @treturn table|nil row
-- @treturn table err
function _M.delete(self, row, events)
  if row.status == "deleting" then return _M.resume(self, row) end
  local ok, err = end_uploads(self, row, "the file was deleted")
  if not ok then return nil, err end
  return begin(self, row, { status = "deleting", trash_key = keys.trash(row.id) }, nil, nil, { events = events })
end

--- Takes a file out of the trash, to the key that it had.
-- @tparam table self broker
-- @tparam table row
-- @tparam[opt] table former a file of the same owner that has left this key and still holds it
-- @tparam[opt] table with `fields` and `room` of the change
-- @treturn table|nil row
-- @treturn table err `conflict` when the key is another file's meanwhile
function _M.restore(self, row, former, with)
  if row.status == "restoring" then return _M.resume(self, row) end
  -- Its URLs may still be alive.
  local watch = former and math.max(row.watch_until, former.watch_until) or nil
  return begin(self, row, { status = "restoring", watch_until = watch }, place_of(row), former,
    with)
end

--- Gives a file another key.
-- @tparam table self broker
-- @tparam table row
-- @tparam table target `provider` (its name), `bucket`, `key`, perhaps further `fields` of the row
-- @treturn table|nil row
-- @treturn table err
function _M.move(self, row, target)
  if row.status == "moving" and row.move_provider == target.provider and row.move_key == target.key then
    return _M.resume(self, row)
  end
  local ok, err = end_uploads(self, row, "the file was moved")
  if not ok then return nil, err end
  return begin(self, row, { status = "moving", move_provider = target.provider, move_bucket = target.bucket,
    move_key = target.key }, keys.place(target.provider, target.key), nil, { fields = target.fields })
end

--- Empties the trash of a file, for good.
-- @tparam table self broker
-- @tparam table row
-- @treturn table|nil row
-- @treturn table err
function _M.purge(self, row)
  local now = self.clock.now()
  local cleanup = row.trash_key and self:new_cleanup { provider = row.provider, key = row.trash_key, attempts = 1,
    due = now + self.cleanup_lease } or nil
  local ok, err = self.store:write_managed { { id = row.id, version = row.version, cleanups = { cleanup },
    fields = { status = "purged", trash_key = rows.null, due = rows.null, updated_at = now } } }
  if not ok then return nil, err end
  if cleanup then self:run_cleanup(cleanup) end
  return self.store:managed_file(row.id)
end

--- The cleanup of a key that a file has left: what lies there is removed, and the key is
-- free. Unless the file is there again, or the key has become another file's.
-- @tparam table self broker
-- @tparam table provider
-- @tparam table cleanup
-- @treturn boolean|nil true
-- @treturn table err
function _M.release(self, provider, cleanup)
  local place = keys.place(cleanup.provider, cleanup.key)
  local holder, err = self.store:claimant(place)
  if holder == nil then
    if err then return nil, err end
    return true
  end
  if holder ~= cleanup.id then
    if holder ~= cleanup.file_id then return true end
    local row
    row, err = self.store:managed_file(cleanup.file_id)
    if not row and err.code ~= "not_found" then return nil, err end
    local left = not row or place_of(row) ~= place or row.status == "soft_deleted" or row.status == "purged"
    if row and (row.status == "moving" or row.status == "deleting" or row.status == "restoring") then
      return errors.fail("busy", "the file is on its way", { retryable = true })
    end
    if not left then return true end
    local held
    held, err = self.store:hold_place(place, cleanup.file_id, row and row.version, cleanup.id)
    if held == nil then return nil, err end
    if not held then return errors.fail("busy", "the file was changed meanwhile", { retryable = true }) end
  end
  local ok
  ok, err = provider:delete { key = cleanup.key }
  if not ok then return nil, err end
  return self.store:free_place(place, cleanup.id)
end

return _M

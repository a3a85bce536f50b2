--- Undoing: what was begun at an object store and is not wanted.
--
-- A cleanup is a row written with the decision it follows from. Running it may be
-- repeated at will: whatever it removes belongs to one upload only. Kinds:
--
-- * `undo`: abort the multipart upload (every one of this key, when the store's
--   answer to its start was never seen) and delete the object, if it is there and
--   carries this upload's id;
-- * `again`: the same once more, when no URL works any longer: stores may accept
--   a part that was on its way while they aborted;
-- * `strays`: abort every multipart upload of this key but the one that is used:
--   the request that starts one is repeated when its answer is lost, and the store
--   may then have two;
-- * `delete`: delete the object of a deleted or replaced file;
-- * `staging`: abort the multipart upload and delete the object, whoever wrote it:
--   of a key that was only ever a way to somewhere else;
-- * `release`: a managed file has left this key; what arrived there since is removed, and the key is free.
--
-- Room: broker.
-- @module longshore.broker.cleanup
local errors = require "longshore.errors"
local relocate = require "longshore.broker.managed.relocate"

local _M = {}

local function abort(self, provider, key, upload_id)
  local err
  for _ = 1, 3 do
    local ok
    ok, err = provider:abort_multipart { key = key, upload_id = upload_id }
    if not ok and not self:is_gone(err) then return nil, err end
    local listed
    listed, err = provider:list_parts { key = key, upload_id = upload_id }
    if not listed then
      if self:is_gone(err) then return true end
      return nil, err
    end
    if #listed == 0 then return true end
    -- A part arrived meanwhile; once more.
  end
  return errors.fail("unavailable", "parts keep arriving while the upload is aborted", { retryable = true })
end

local function abort_all(self, provider, key, keep)
  local listed, err = provider:list_uploads { prefix = key }
  if not listed then return nil, err end
  for _, upload in ipairs(listed) do
    if upload.key == key and upload.upload_id ~= keep then
      local ok
      ok, err = abort(self, provider, key, upload.upload_id)
      if not ok then return nil, err end
    end
  end
  return true
end

local function delete_own(provider, key, upload_id)
  local object, err = provider:head { key = key }
  if not object then
    if err.code == "not_found" then return true end
    return nil, err
  end
  if object.marker ~= upload_id then return true end
  return provider:delete { key = key }
end

local function perform(self, provider, cleanup)
  if cleanup.kind == "delete" then
    local ok, err = provider:delete { key = cleanup.key }
    if not ok and err.code == "not_found" then return true end
    return ok, err
  elseif cleanup.kind == "release" then
    return relocate.release(self, provider, cleanup)
  end
  local ok, err
  if cleanup.kind == "strays" then
    return abort_all(self, provider, cleanup.key, cleanup.provider_upload_id)
  elseif cleanup.provider_upload_id then
    ok, err = abort(self, provider, cleanup.key, cleanup.provider_upload_id)
  else
    ok, err = abort_all(self, provider, cleanup.key)
  end
  if not ok then return nil, err end
  if cleanup.kind == "staging" then return provider:delete { key = cleanup.key } end
  return delete_own(provider, cleanup.key, cleanup.upload_id)
end

-- When to look once more after an undo: when the last URL has expired, and the
-- last request to start the upload has been given up.
local function another_look(self, cleanup)
  if cleanup.kind ~= "undo" then return nil end
  local settings = self.policy.settings or {}
  return self:new_cleanup {
    kind = "again", upload_id = cleanup.upload_id, provider = cleanup.provider, key = cleanup.key,
    provider_upload_id = cleanup.provider_upload_id,
    due = self.clock.now() + math.max(settings.url_seconds or 0, self.start_grace) + 60,
  }
end

--- Runs a cleanup that the caller has claimed (`attempts` counts this one). When
-- it fails it is put off, later each time, up to an hour.
-- @tparam table cleanup row
-- @treturn true, or nil, err
function _M.run_cleanup(self, cleanup)
  local provider, err = self:provider(cleanup.provider)
  local ok
  if provider then ok, err = perform(self, provider, cleanup) end
  if ok then
    ok, err = self.store:finish_cleanup(cleanup,
      { now = self.clock.now(), again = another_look(self, cleanup) })
    if ok then return true end
    return nil, err
  end
  local wait = math.min(3600, 30 * 2 ^ math.min(cleanup.attempts - 1, 10))
  self.log("warn", "cleanup failed", { cleanup_id = cleanup.id, upload_id = cleanup.upload_id,
    file_id = cleanup.file_id, attempts = cleanup.attempts, error = tostring(err) })
  local postponed, why = self.store:postpone_cleanup(cleanup.id, self.clock.now() + wait, tostring(err))
  if not postponed then return nil, why end
  return nil, err
end

--- Decides that an upload is to be undone, and undoes it as far as the store
-- lets; the rest is the janitor's.
-- @tparam table row upload
-- @tparam {string,...} from states
-- @tparam string to aborting or expiring
-- @tparam[opt] string why
-- @tparam[opt] table stale see `longshore.store`
-- @tparam[opt] {table,...} events to be told of, written with the decision
-- @treturn boolean whether this call decided it, or nil, err
function _M.give_up(self, row, from, to, why, stale, events)
  local cleanup = self:undo_cleanup(row)
  local changed, err = self.store:begin_undo(row.id,
    { from = from, to = to, now = self.clock.now(), error = why, cleanup = cleanup, stale = stale,
      events = events })
  if changed == nil then return nil, err end
  if not changed then return false end
  self:run_cleanup(cleanup)
  return true
end

return _M

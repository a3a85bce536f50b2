--- The broker's complete, and going on with one that was cut short.
--
-- The order is what makes it recoverable. First the row: uploading → completing,
-- with the parts and the checksum the client announced. Then the store's own list
-- is compared with the plan, the tokens and the checksum; only when all of it fits
-- is the object made. Then the row again, with the file in the same transaction.
-- Whoever finds a row in `completing` runs the same steps from the list on: when
-- the multipart upload is not there any more, the object is looked at, and counts
-- if it has the right size and this upload's id.
--
-- Several may run the steps for one upload at once. They read the same facts; the
-- object can be made only once; one of them moves the row on, the others find it
-- moved. What cannot be finished goes back to uploading (a part is missing or is
-- not the one announced: the client can send it and complete again) or becomes
-- failed (the checksum of what arrived is wrong) with a cleanup beside it.
--
-- Room: broker.
-- @module longshore.broker.complete
local assembly = require "longshore.broker.assembly"
local check = require "longshore.broker.check"
local decision = require "longshore.broker.decision"
local errors = require "longshore.errors"

local _M = {}

-- Made a moment ago and not there: somebody else has undone it, or will be asked
-- again.
local function gone_again()
  return errors.new("unavailable", "the object store does not show the finished object yet", { retryable = true })
end

-- completing → failed, the file corrupt, the object to be removed.
local function fail(self, row, err, actor)
  local cleanup = self:undo_cleanup(row)
  local file = self.store:file(row.file_id)
  local view = self:view_upload(row, "failed")
  view.error = err.message
  local events = self:events("after_fail", { actor = actor, upload = view, file = file and self:view_file(file) })
  local changed, why = self.store:fail_upload(row, { now = self.clock.now(), error = err.message, cleanup = cleanup,
    from = { "completing", "uploading" }, events = events })
  if changed == nil then return nil, why end
  if not changed then return self:settled(row, actor) end
  self.log("warn", "upload failed", { upload_id = row.id, error = tostring(err) })
  self:run_cleanup(cleanup)
  self:deliver(events)
  return nil, err
end

-- completing → uploading: the client can put right what is wrong.
local function step_back(self, row, err, actor)
  local changed, why = self.store:step_back(row.id, self.clock.now())
  if changed == nil then return nil, why end
  if not changed then
    local now
    now, why = self.store:upload(row.id)
    if not now then return nil, why end
    if now.state ~= "uploading" then return self:settled(row, actor) end
  end
  return nil, err
end

-- The file as it will be seen, for whoever is told of it.
local function finished_view(self, row, fields)
  local file = self.store:file(row.file_id)
  if not file then return nil end
  for name, value in pairs(fields) do file[name] = value end
  return self:view_file(file)
end

-- The object exists and is right: the row and the file say so.
local function register(self, row, actor, content)
  local provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local checks = { "size" }
  if row.expected_crc32c then checks[2] = "crc32c" end
  local admitted, refused
  admitted, err, refused = decision.admit(self, actor, self:view_upload(row), content)
  if not admitted then
    if refused then return fail(self, row, err, actor) end
    return nil, err
  end
  local now = self.clock.now()
  local fields = {
    state = "registered", filename = row.filename, content_type = row.content_type, size = content.size,
    provider = row.provider, key = row.key, etag = content.etag, crc32c = content.crc32c, checks = checks,
    updated_at = now,
  }
  local events = self:events("after_complete", function()
    return { actor = actor, upload = self:view_upload(row, "completed"), file = finished_view(self, row, fields) }
  end)
  -- What is replaced stays as long as a download that was signed for it.
  local due = now + ((self.policy.settings or {}).download_seconds or 0)
  local changed
  for _ = 1, 3 do -- two replacing each other's name at once: one begins anew
    changed, err = self.store:finish_complete(row, {
      now = now, file = fields, events = events,
      new_cleanup = function(cleanup)
        cleanup.due = due
        return self:new_cleanup(cleanup)
      end,
    })
    if changed ~= nil or err.reason ~= "name_taken" or row.if_exists ~= "replace" then break end
  end
  if changed == nil then
    -- Possible only when the row had stepped back to uploading in between.
    if err.reason == "name_taken" or err.reason == "replaced" or err.code == "not_found" then
      return fail(self, row, err, actor)
    end
    return nil, err
  end
  if not changed then return self:settled(row, actor) end
  local file
  file, err = self.store:file(row.file_id)
  if not file then return nil, err end
  file = self:view_file(file)
  self.log("info", "upload completed", { upload_id = row.id, file_id = file.id, size = file.size })
  self:deliver(events)
  return file
end

--- What a row that somebody else moved on means to this caller.
-- @return the file when it is completed; nil, err otherwise
function _M.settled(self, row, actor)
  local now, err = self.store:upload(row.id)
  if not now then return nil, err end
  if now.state ~= "completed" then return self:state_error(now) end
  local file
  file, err = self.store:file(row.file_id, actor)
  if not file then return nil, err end
  return self:view_file(file)
end

--- The multipart upload is gone from the store: either it became the object, or
-- it is lost.
-- @tparam table row
-- @tparam[opt] table actor
-- @treturn table file; or nil, err: `expired` when it is lost, and then it has been given up
function _M.recover_lost(self, row, actor)
  local provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local object
  object, err = assembly.look(provider, row, row.size)
  if object then
    local ok
    ok, err = assembly.verify(provider, row, nil, object.crc32c)
    if not ok then return fail(self, row, err, actor) end
    return register(self, row, actor, object)
  elseif err and err.code == "integrity" then
    return fail(self, row, err, actor)
  elseif err then
    return nil, self:store_failure(err)
  end
  local lost = errors.new("expired", "the object store has lost this upload; start again",
    { state = "expired", reason = "lost" })
  local changed
  changed, err = self:give_up(row, { "completing", "uploading" }, "expiring", lost.message)
  if changed == nil then return nil, err end
  if changed then return nil, lost end
  return self:settled(row, actor)
end

--- Finishes an upload that is in `completing`. May be called by several at once,
-- and again after a failure at any point.
-- @tparam table row as read from the store
-- @tparam[opt] table actor nil for the janitor
-- @treturn table file, or nil, err
function _M.finish(self, row, actor)
  local provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local listed
  listed, err = provider:list_parts { key = row.key, upload_id = row.provider_upload_id }
  if not listed then
    if self:is_gone(err) then return self:recover_lost(row, actor) end
    return nil, self:store_failure(err)
  end
  local known
  known, err = self.store:parts(row.id)
  if not known then return nil, err end
  local tokens = {}
  for _, part in ipairs(known) do tokens[part.number] = part.token end
  local chosen, size = assembly.choose(self, row, tokens, listed)
  if not chosen then return step_back(self, row, size, actor) end
  local crc = assembly.combined(chosen)
  if row.expected_crc32c and crc and crc ~= row.expected_crc32c then
    return fail(self, row, assembly.mismatch(row.expected_crc32c, crc), actor)
  end
  local ok
  ok, err = self.policy:decide("before_complete",
    { actor = actor, upload = self:view_upload(row), parts = chosen, size = size, crc32c = crc })
  if not ok then return step_back(self, row, err, actor) end

  local parts = {}
  for i, part in ipairs(chosen) do parts[i] = { number = part.number, etag = part.etag } end
  local made
  made, err = provider:complete_multipart {
    key = row.key, upload_id = row.provider_upload_id, parts = parts, marker = row.id, size = size,
  }
  if not made then
    -- Perhaps it was made and the answer lost, or somebody else made it.
    local object, why = assembly.look(provider, row, size)
    if why and why.code == "integrity" then return fail(self, row, why, actor) end
    if why then return nil, self:store_failure(err) end
    if not object then
      if self:is_gone(err) then return self:recover_lost(row, actor) end
      if err.retryable or err.lost then return nil, self:store_failure(err) end
      return step_back(self, row, self:store_failure(err), actor)
    end
    made = object
  end
  local object_crc = made.crc32c
  if not crc and not object_crc and row.integrity == "crc32c" then
    -- Not every store says it in its answer to complete; the object has it.
    local object
    object, err = assembly.look(provider, row, size)
    if not object then return nil, self:store_failure(err or gone_again()) end
    object_crc = object.crc32c
  end
  ok, err = assembly.verify(provider, row, crc, object_crc)
  if not ok then return fail(self, row, err, actor) end
  return register(self, row, actor, { size = size, etag = made.etag, crc32c = crc or object_crc })
end

-- All parts with their tokens: those recorded and those given now.
local function all_parts(self, row, given)
  if not row.requires_tokens then return true end
  local known, err = self.store:parts(row.id)
  if not known then return nil, err end
  local have = {}
  for _, part in ipairs(known) do have[part.number] = true end
  for _, part in ipairs(given) do have[part.number] = true end
  for number = 1, row.part_count or 1 do
    if not have[number] then
      return check.invalid("parts", ("part %d is neither listed nor recorded"):format(number))
    end
  end
  return true
end

--- Completes an upload.
-- @tparam table actor
-- @tparam string id
-- @tparam table request `parts` ({number=,token=}; may repeat what was recorded),
-- `crc32c` (of the whole file, a number) where the upload's `integrity` is crc32c
-- @treturn table file; or nil, err: `conflict` with `reason` already_completed
-- (`file_id` tells the file); `invalid` when a part is missing or wrong (send it and
-- complete again); `integrity` when the checksum is wrong (the file is corrupt)
function _M.complete(self, actor, id, request)
  check.actor(actor)
  request = request or {}
  local ok, err = self:authorize(actor, "complete", "upload")
  if not ok then return nil, err end
  local row
  row, err = self:own_upload(actor, id)
  if not row then return nil, err end
  local now = self.clock.now()
  if row.state ~= "completing" and (row.state ~= "uploading" or row.deadline <= now) then
    return self:state_error(row)
  end
  local parts
  parts, err = check.parts(request.parts or {}, row)
  if not parts then return nil, err end
  if request.crc32c ~= nil then
    ok, err = check.crc32c(request.crc32c)
    if not ok then return nil, err end
    if row.integrity ~= "crc32c" then
      return check.invalid("crc32c", "this upload's integrity algorithm is none")
    end
  end
  if row.state == "uploading" then
    ok, err = all_parts(self, row, parts)
    if not ok then return nil, err end
    local begun
    begun, err = self.store:begin_complete(id, {
      now = now, lease = now + self.complete_lease, parts = parts, expected_crc32c = request.crc32c,
      unique_name = row.if_exists == "refuse" and row.unique_name or nil, file_id = row.file_id,
    })
    if begun == nil then return nil, err end
    row, err = self:own_upload(actor, id)
    if not row then return nil, err end
    if row.state == "completed" then return self:settled(row, actor) end
    if row.state ~= "completing" then return self:state_error(row) end
  end
  if request.crc32c ~= nil and request.crc32c ~= row.expected_crc32c then
    return errors.fail("conflict", "the upload is being completed with another checksum",
      { state = "completing", reason = "completing", retryable = true, retry_after = 1 })
  end
  return self:finish(row, actor)
end

return _M

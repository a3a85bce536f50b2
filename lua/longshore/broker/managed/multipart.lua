--- Multipart uploads of managed files: create, sign a part, list, complete, abort.
--
-- An upload is a row like any other upload's, so that the janitor ends it in time and undoes
-- it at the store. Its client plans the parts and names no sizes before it sends them. The
-- object appears at the file's key when the store completes the upload, in one step.
--
-- An upload belongs to a file and to the user who began it; its id is ours, not the store's.
--
-- Room: broker.
-- @module longshore.broker.managed.multipart
local access = require "longshore.broker.managed.access"
local check = require "longshore.broker.check"
local decide = require "longshore.broker.managed.decide"
local decisions = require "longshore.broker.decision"
local errors = require "longshore.errors"
local ids = require "longshore.broker.ids"
local json = require "longshore.json"
local look = require "longshore.broker.managed.look"
local relocate = require "longshore.broker.managed.relocate"
local rows = require "longshore.store.rows"

local _M = {}

local MAX_EXPIRES = 604800

local function missing()
  return errors.fail("not_found", "there is no such upload")
end

-- What policies see: the service's name is the service's.
local function view_of(self, upload, state)
  local view = self:view_upload(upload, state)
  view.service = "athena"
  return view
end

-- The file and the upload that a request names.
local function load_both(self, actor, file_id, upload_id)
  local file, err = access.load(self, actor, file_id, "overwrite")
  if not file then return nil, err end
  if not ids.is(upload_id, "upl_") then return missing() end
  local upload
  upload, err = self.store:upload(upload_id, actor)
  if not upload then
    if err.code == "not_found" then return missing() end
    return nil, err
  end
  if upload.service ~= "managed" or upload.file_id ~= file.id or upload.user ~= actor.user then return missing() end
  return file, upload
end

local function running(self, actor, file_id, upload_id)
  local file, upload = load_both(self, actor, file_id, upload_id)
  if not file then return nil, upload end
  if upload.state ~= "uploading" or upload.deadline <= self.clock.now() then return self:state_error(upload) end
  return file, upload
end

--- Starts a multipart upload of a file.
-- @tparam table actor
-- @tparam string file_id
-- @tparam table request `content_type`, `encryption`, `kms_key_id`, `bucket_key`
-- @treturn table|nil upload
-- @treturn table err
function _M.create_managed_upload(self, actor, file_id, request)
  local ok, err = access.authorize(self, actor, "multipart_create", "upload")
  if not ok then return nil, err end
  local file
  file, err = access.load(self, actor, file_id, "overwrite")
  if not file then return nil, err end
  if relocate.BUSY[file.status] then
    return errors.fail("conflict", "the file is on its way to another key; try again",
      { retryable = true, retry_after = 1 })
  end
  local content_type
  content_type, err = check.content_type(request.content_type or file.content_type)
  if not content_type then return nil, err end
  local decision
  decision, err = decide.ask(self, actor, { operation = "multipart_create", key = file.key, name = file.name,
    size = file.declared_size, content_type = content_type,
    metadata = file.metadata and json.decode(file.metadata) or nil }, file, true)
  if not decision then return nil, err end
  local provider
  provider, err = self:provider(file.provider)
  if not provider then return nil, err end
  local headers
  headers, err = self:encryption_headers(provider, request)
  if err then return nil, err end
  headers = decide.headers(headers or (file.encryption and json.decode(file.encryption)) or nil, decision)
  -- What counts at the end is the file's; its parts' owner is its owner.
  local noted = decide.describe(decision, {})
  noted.content_type = nil -- the upload's, until it completes
  if next(noted) then
    ok, err = self.store:write_managed { { id = file.id, version = file.version, fields = noted,
      room = decisions.room(actor, decision, math.max(file.declared_size or 0, file.size or 0), file) } }
    if not ok then return nil, err end
    file.version = file.version + 1
  end
  local now = self.clock.now()
  local row = {
    id = ids.new("upl_"), file_id = file.id, tenant = actor.tenant, organization = actor.organization,
    user = actor.user, service = "managed", provider = file.provider, key = file.key, filename = file.name,
    content_type = decision.content_type, size = file.declared_size, integrity = "none", signs_length = false,
    requires_tokens = true, if_exists = "keep", state = "starting", deadline = now + decision.upload_seconds, lease = 0,
    created_at = now, updated_at = now,
  }
  ok, err = self.store:create_upload(row, nil, decision.max_running, decision.quotas, file.id)
  if not ok then return nil, err end
  local begun
  begun, err = provider:create_multipart { key = file.key, content_type = row.content_type, marker = row.id,
    headers = headers }
  if begun then
    ok, err = self.store:start_upload(row.id, begun.upload_id, self.clock.now())
    if ok then
      if (begun.tries or 1) > 1 then
        ok, err = self.store:add_cleanup(self:new_cleanup { kind = "strays", provider = row.provider, key = row.key,
          provider_upload_id = begun.upload_id, due = now + self.start_grace })
        if not ok then return nil, err end
      end
      row.state, row.provider_upload_id = "uploading", begun.upload_id
      -- The row shows it where there is nothing else to show; it does not matter if somebody was quicker.
      if file.status == "presigned" or file.status == "failed" then
        self.store:write_managed { { id = file.id, version = file.version,
          fields = { status = "uploading", updated_at = now, due = file.due or now } } }
      end
      return self:view_upload(row)
    end
    if err then return nil, err end
    err = errors.new("unavailable", "the object store took too long to start the upload", { retryable = true })
  end
  self:give_up(row, { "starting" }, "aborting", tostring(err))
  return nil, self:store_failure(err)
end

--- Signs the PUT of one part.
-- @tparam table actor
-- @tparam string file_id
-- @tparam string upload_id
-- @tparam number number
-- @treturn table|nil `{url, headers, expires_at, expires_in}`
-- @treturn table err
function _M.sign_managed_part(self, actor, file_id, upload_id, number)
  local ok, err = access.authorize(self, actor, "part_urls", "upload")
  if not ok then return nil, err end
  local file, upload = running(self, actor, file_id, upload_id)
  if not file then return nil, upload end
  local decision
  decision, err = self.policy:decide("before_sign",
    { actor = actor, upload = view_of(self, upload), numbers = { number } })
  if not decision then return nil, err end
  local provider
  provider, err = self:provider(upload.provider)
  if not provider then return nil, err end
  local now = self.clock.now()
  local grant
  grant, err = provider:sign_part {
    key = upload.key, upload_id = upload.provider_upload_id, number = number,
    expires = math.max(1, math.min(decision.url_seconds, math.ceil(upload.deadline - now), MAX_EXPIRES)),
  }
  if not grant then
    if err.code == "invalid" then return check.invalid("part_number", (err.message:gsub("^number: ", ""))) end
    return nil, self:store_failure(err)
  end
  grant.expires_in = math.max(0, grant.expires_at - math.floor(now))
  return grant
end

--- The parts that the store has.
-- @tparam table actor
-- @tparam string file_id
-- @tparam string upload_id
-- @treturn {{number,etag,size},...}|nil
-- @treturn table err
function _M.list_managed_parts(self, actor, file_id, upload_id)
  local ok, err = access.authorize(self, actor, "part_urls", "upload")
  if not ok then return nil, err end
  local file, upload = running(self, actor, file_id, upload_id)
  if not file then return nil, upload end
  local provider
  provider, err = self:provider(upload.provider)
  if not provider then return nil, err end
  local list
  list, err = provider:list_parts { key = upload.key, upload_id = upload.provider_upload_id }
  if not list then
    if self:is_gone(err) then
      return errors.fail("expired", "the object store has lost this upload; start again", { state = "expired" })
    end
    return nil, self:store_failure(err)
  end
  return list
end

---------------------------------------------------------------------------
-- complete

local function fail(self, upload, err, actor)
  local cleanup = self:undo_cleanup(upload)
  local view, file = view_of(self, upload, "failed"), self.store:managed_file(upload.file_id)
  view.error = err.message
  local events = self:events("after_fail", { actor = actor, upload = view, file = file and self:view_managed(file) })
  local changed, why = self.store:fail_upload(upload,
    { now = self.clock.now(), error = err.message, cleanup = cleanup, from = { "completing" }, events = events })
  if changed == nil then return nil, why end
  if changed then
    self:run_cleanup(cleanup) -- the object too, if this upload made it
    self:deliver(events)
    if file then look.at(self, file) end
  end
  return nil, err
end

local function step_back(self, upload, err)
  local changed, why = self.store:step_back(upload.id, self.clock.now())
  if changed == nil then return nil, why end
  return nil, err
end

-- The parts that were announced, as the store has them, and their bytes.
local function chosen(self, upload, listed)
  local known, err = self.store:parts(upload.id)
  if not known then return nil, err end
  local there, parts, size = {}, {}, 0
  for _, part in ipairs(listed) do there[part.number] = part end
  for i, part in ipairs(known) do
    local stored = there[part.number]
    if part.number ~= i then
      return check.invalid("parts", ("part %d is missing: they are numbered from 1 without gaps"):format(i))
    end
    if not stored then return check.invalid("parts", ("part %d has not arrived"):format(i)) end
    if check.bare_token(part.token) ~= check.bare_token(stored.etag) then
      return check.invalid("parts", ("part %d: the store has another ETag; send the part again"):format(i))
    end
    parts[i], size = { number = i, etag = stored.etag }, size + stored.size
  end
  if #parts == 0 then return check.invalid("parts", "at least one is needed") end
  return parts, size
end

-- The object that this upload made, nil when it made none.
local function made_object(self, provider, upload)
  local object, err = provider:head { key = upload.key }
  if object then return object.marker == upload.id and object or nil end
  if self:is_gone(err) then return nil end
  return nil, self:store_failure(err)
end

-- completing → completed, and the file has the content.
local function register(self, upload, content, actor)
  local ok, err, final = decisions.admit(self, actor, view_of(self, upload), content)
  if not ok then
    if final then return fail(self, upload, err, actor) end
    return nil, err
  end
  for _ = 1, 5 do
    local file
    file, err = self.store:managed_file(upload.file_id)
    if not file and err.code ~= "not_found" then return nil, err end
    if not file or file.provider ~= upload.provider or file.key ~= upload.key or access.GONE[file.status] then
      local lost = errors.new("conflict", "the file has moved or was deleted meanwhile", { reason = "moved" })
      return fail(self, upload, lost, actor)
    end
    local now = self.clock.now()
    local fields = { status = "available", etag = content.etag, size = content.size,
      crc32c = content.crc32c or rows.null, sha256 = rows.null, content_type = upload.content_type,
      generation = file.generation + 1, updated_at = now, due = file.due or now }
    local events = look.events(self, "after_complete", file, fields, nil, actor, view_of(self, upload, "completed"))
    ok, err = self.store:write_managed { { id = file.id, version = file.version, fields = fields, events = events,
      room = decisions.room(file, decisions.kept(file), content.size, file),
      upload = { id = upload.id, from = { "completing" }, to = "completed", now = now } } }
    if ok then
      self.log("info", "upload completed", { upload_id = upload.id, file_id = file.id, size = content.size })
      self:deliver(events)
      file, err = self.store:managed_file(file.id)
      if not file then return nil, err end
      return self:view_managed(file)
    end
    if err.code == "quota" then return fail(self, upload, err, actor) end
    if err.reason ~= "changed" then return nil, err end
    local newest
    newest, err = self.store:upload(upload.id)
    if not newest then return nil, err end
    if newest.state == "completed" then
      file, err = self.store:managed_file(upload.file_id)
      return file and self:view_managed(file), err
    end
    if newest.state ~= "completing" then return self:state_error(newest) end
  end
  return nil, err
end

--- Finishes an upload that is in `completing`; the janitor's way in, too.
-- @tparam table upload row
-- @tparam[opt] table actor
-- @treturn table|nil file
-- @treturn table err
function _M.finish_managed_upload(self, upload, actor)
  local provider, err = self:provider(upload.provider)
  if not provider then return nil, err end
  local listed
  listed, err = provider:list_parts { key = upload.key, upload_id = upload.provider_upload_id }
  if not listed then
    if not self:is_gone(err) then return nil, self:store_failure(err) end
    local object
    object, err = made_object(self, provider, upload)
    if object then return register(self, upload, object, actor) end
    if err then return nil, err end
    local lost = errors.new("expired", "the object store has lost this upload; start again", { state = "expired" })
    local changed, why = self:give_up(upload, { "completing" }, "expiring", lost.message)
    if changed == nil then return nil, why end
    return nil, lost
  end
  local parts, size = chosen(self, upload, listed)
  if not parts then
    if size.code == "invalid" then return step_back(self, upload, size) end
    return nil, size
  end
  if size > look.limit_of(self) then
    return fail(self, upload, errors.new("too_large", ("the parts have %.0f bytes; at most %.0f are allowed"):format(
      size, look.limit_of(self))), actor)
  end
  if upload.size and upload.size ~= size then
    return step_back(self, upload, errors.new("integrity",
      ("parts: they have %.0f bytes, size_bytes said %.0f"):format(size, upload.size), { field = "parts" }))
  end
  local ok
  ok, err = self.policy:decide("before_complete",
    { actor = actor, upload = view_of(self, upload), parts = parts, size = size })
  if not ok then return step_back(self, upload, err) end
  local made
  made, err = provider:complete_multipart { key = upload.key, upload_id = upload.provider_upload_id, parts = parts,
    marker = upload.id, size = size }
  if not made then
    local object, why = made_object(self, provider, upload)
    if object then return register(self, upload, object, actor) end
    if why or err.retryable or err.lost then return nil, why or self:store_failure(err) end
    if err.code == "invalid" then return step_back(self, upload, select(2, check.invalid("parts", err.message))) end
    return step_back(self, upload, self:store_failure(err))
  end
  return register(self, upload, { etag = made.etag, crc32c = made.crc32c, size = size }, actor)
end

--- Completes an upload. May be repeated.
-- @tparam table actor
-- @tparam string file_id
-- @tparam string upload_id
-- @tparam {{number=,token=},...} parts
-- @treturn table|nil file
-- @treturn table err
function _M.complete_managed_upload(self, actor, file_id, upload_id, parts)
  local ok, err = access.authorize(self, actor, "complete", "upload")
  if not ok then return nil, err end
  local file, upload = load_both(self, actor, file_id, upload_id)
  if not file then return nil, upload end
  local list
  list, err = check.parts(parts, { part_count = 10000 })
  if not list then return nil, err end
  local now = self.clock.now()
  if upload.state == "uploading" and upload.deadline > now then
    -- Only what is announced now counts: a repetition may announce less.
    local known
    known, err = self.store:parts(upload.id)
    if not known then return nil, err end
    local stale = {}
    for i, part in ipairs(known) do stale[i] = part.number end
    if stale[1] then
      ok, err = self.store:forget_parts(upload.id, stale)
      if not ok then return nil, err end
    end
    ok, err = self.store:begin_complete(upload.id, { now = now, lease = now + self.complete_lease, parts = list,
      file_id = file.id })
    if ok == nil then return nil, err end
    upload, err = self.store:upload(upload.id)
    if not upload then return nil, err end
  end
  if upload.state == "completed" then return self:view_managed(file) end
  if upload.state ~= "completing" then return self:state_error(upload) end
  return _M.finish_managed_upload(self, upload, actor)
end

--- Gives an upload up. One that was given up already is fine.
-- @tparam table actor
-- @tparam string file_id
-- @tparam string upload_id
-- @treturn boolean|nil true
-- @treturn table err
function _M.abort_managed_upload(self, actor, file_id, upload_id)
  local ok, err = access.authorize(self, actor, "abort", "upload")
  if not ok then return nil, err end
  local file, upload = load_both(self, actor, file_id, upload_id)
  if not file then return nil, upload end
  ok, err = self.policy:decide("before_abort", { actor = actor, upload = view_of(self, upload) })
  if not ok then return nil, err end
  local changed
  local events = self:events("after_abort", { actor = actor, upload = view_of(self, upload, "aborting") })
  changed, err = self:give_up(upload, { "starting", "uploading" }, "aborting", "aborted by the client", nil, events)
  if changed == nil then return nil, err end
  if not changed then
    upload, err = self.store:upload(upload.id)
    if not upload then return nil, err end
    if upload.state ~= "aborting" and upload.state ~= "aborted" then return self:state_error(upload) end
    return true
  end
  self:deliver(events)
  return true
end

return _M

--- The broker's initiate (with resume), upload and abort.
--
-- Room: broker.
-- @module longshore.broker.uploads
local check = require "longshore.broker.check"
local core = require "longshore.core"
local decision_room = require "longshore.broker.decision"
local errors = require "longshore.errors"
local ids = require "longshore.broker.ids"
local json = require "longshore.json"
local plan = require "longshore.plan"

local _M = {}


-- Checks an initiate request; the checked copy.
local function read_request(request)
  assert(type(request) == "table", "request: table expected")
  local r = {}
  for _, field in ipairs { "service", "metadata", "provider", "if_exists", "max_size", "operation" } do
    r[field] = request[field]
  end
  assert(type(r.service) == "string" and r.service ~= "", "service: string expected")
  assert(r.if_exists == nil or r.if_exists == "refuse" or r.if_exists == "replace" or r.if_exists == "keep",
    "if_exists: refuse, replace or keep expected")
  r.if_exists = r.if_exists or "refuse"
  r.operation = r.operation or "initiate"
  r.signs_length = request.signs_length ~= false
  r.requires_tokens = request.requires_tokens ~= false
  r.provider = r.provider or "default"
  r.resume = request.resume == true
  local err
  r.filename, err = check.name(request.filename, "filename", 1024)
  if not r.filename then return nil, err end
  r.content_type, err = check.content_type(request.content_type)
  if not r.content_type then return nil, err end
  r.size, err = check.size(request.size, "size")
  if not r.size then return nil, err end
  if request.part_size ~= nil then
    r.part_size, err = check.size(request.part_size, "part_size")
    if not r.part_size then return nil, err end
  end
  if r.metadata ~= nil and type(r.metadata) ~= "table" then
    return check.invalid("metadata", "an object is expected")
  end
  return r
end

-- What no other finished file may have: service, owner and name, made one word.
-- Each part is preceded by its length, so that no two combinations are alike.
local function unique_name(actor, r, if_exists)
  if if_exists == "keep" then return nil end
  local text = {}
  for i, word in ipairs { r.service, actor.tenant, actor.organization, r.filename } do
    text[i] = ("%d:%s"):format(#word, word)
  end
  return core.hex(core.sha256(table.concat(text)))
end

-- The rows of a new upload and its file.
local function new_rows(self, actor, r, decision, provider, parts)
  local now = self.clock.now()
  local crc = provider.profile.checksum_of_unannounced == "crc32c"
  local metadata
  if decision.metadata then metadata = json.encode(decision.metadata) end
  local upload = {
    id = decision.upload_id, file_id = decision.file_id, tenant = actor.tenant,
    organization = actor.organization, user = actor.user, service = r.service,
    provider = decision.provider, key = decision.key, filename = r.filename,
    content_type = decision.content_type, size = r.size, part_size = parts.part_size,
    part_count = parts.count, integrity = crc and "crc32c" or "none", signs_length = r.signs_length,
    requires_tokens = r.requires_tokens, if_exists = decision.if_exists,
    unique_name = unique_name(actor, r, decision.if_exists),
    state = "starting", deadline = now + decision.upload_seconds, lease = 0, created_at = now, updated_at = now,
    replaces = decision.if_exists == "replace" and decision.replaces or nil,
  }
  local file = {
    id = upload.file_id, tenant = upload.tenant, organization = upload.organization, user = upload.user,
    service = upload.service, filename = upload.filename, content_type = upload.content_type,
    size = upload.size, state = "uploading", metadata = metadata, created_at = now, updated_at = now,
  }
  return upload, file
end

-- A new upload: policy, plan, row, the store's upload, row.
local function start(self, actor, r, decision)
  local provider, err = self:provider(decision.provider)
  if not provider then return nil, err end
  local profile = provider.profile
  local parts
  parts, err = plan.parts {
    size = r.size, min_part = profile.min_part, max_part = profile.max_part, max_parts = profile.max_parts,
    max_object = profile.max_object, part_size = decision.part_size, equal = profile.equal_parts,
  }
  if not parts then return nil, err end
  local row, file = new_rows(self, actor, r, decision, provider, parts)
  local ok
  ok, err = self.store:create_upload(row, file, decision.max_running, decision.quotas)
  if not ok then return nil, err end

  local begun, why = provider:create_multipart {
    key = row.key, content_type = row.content_type, marker = row.id, headers = decision_room.object_headers(decision),
  }
  if begun then
    ok, err = self.store:start_upload(row.id, begun.upload_id, self.clock.now())
    if ok then
      if (begun.tries or 1) > 1 then
        -- An earlier try may have started one too. When none can be on its way
        -- any more, whatever is not this one goes.
        ok, err = self.store:add_cleanup(self:new_cleanup {
          kind = "strays", provider = row.provider, key = row.key, provider_upload_id = begun.upload_id,
          due = self.clock.now() + self.start_grace,
        })
        if not ok then return nil, err end
      end
      row.state, row.provider_upload_id = "uploading", begun.upload_id
      return row
    end
    -- Either the row cannot be written, and the janitor will find it; or it was
    -- given up as stale while the store was slow, and its cleanup looks again.
    if err then return nil, err end
    why = errors.new("unavailable", "the object store took too long to start the upload", { retryable = true })
  end
  self:give_up(row, { "starting" }, "aborting", tostring(why))
  return nil, self:store_failure(why)
end

-- The uploads of this name that are not over yet, when the client wants to go on with one.
local function running_ones(self, actor, r)
  if not r.resume then return {} end
  local rows, err = self.store:find_uploads {
    tenant = actor.tenant, organization = actor.organization, service = r.service,
    filename = r.filename, states = { "uploading", "completing" },
  }
  if not rows then return nil, err end
  local now, list = self.clock.now(), {}
  for _, row in ipairs(rows) do
    if row.state == "completing" or row.deadline > now then list[#list + 1] = row end
  end
  return list
end

-- The one of them that a resuming client means, or nil; a mismatch is a conflict.
local function find_running(self, candidates, r, decision)
  local now, mismatch, completing = self.clock.now(), nil, nil
  for _, row in ipairs(candidates) do
    if row.size ~= r.size or row.content_type ~= decision.content_type then
      mismatch = mismatch or (row.deadline > now and row)
    elseif row.state == "completing" then
      completing = row
    elseif row.deadline > now and self.providers[row.provider] then
      return row
    end
  end
  if completing then return completing end
  if mismatch then
    return errors.fail("conflict", "an upload of this name is running with another size or type; "
      .. "abort it or use another name", { reason = "mismatch" })
  end
  return nil
end

-- Takes checkpoints back that the store does not confirm.
-- Answers true; false when the store does not know the upload any more.
local function reconcile(self, row)
  local provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local listed
  listed, err = provider:list_parts { key = row.key, upload_id = row.provider_upload_id }
  if not listed then
    if self:is_gone(err) then return false end
    return nil, self:store_failure(err)
  end
  local known
  known, err = self.store:parts(row.id)
  if not known then return nil, err end
  local by_number, wrong = {}, {}
  for _, part in ipairs(listed) do by_number[part.number] = part end
  for _, part in ipairs(known) do
    local there = by_number[part.number]
    if not there or check.bare_token(there.etag) ~= part.token
      or there.size ~= self:part_length(row, part.number) then
      wrong[#wrong + 1] = part.number
    end
  end
  if #wrong == 0 then return true end
  return self.store:forget_parts(row.id, wrong)
end

local function finished_already(file)
  return errors.fail("conflict", "a file of this name exists already", { reason = "name_taken", file_id = file.id })
end

-- A completing upload: its client or its broker died there. Whatever comes of it
-- decides: finished (conflict), back to uploading (true), gone (false).
local function settle_completing(self, row, actor)
  local file, err = self:finish(row, actor)
  if file then return finished_already(file) end
  if err.retryable or err.code == "internal" then return nil, err end
  local now
  now, err = self.store:upload(row.id)
  if not now then return nil, err end
  if now.state == "completing" then return self:state_error(now) end
  return now.state == "uploading"
end

-- Continues an upload, or answers nil without an error when a new one is to be made.
local function resume(self, actor, r, decision, candidates)
  local row, err = find_running(self, candidates, r, decision)
  if not row then return nil, err end
  if row.state == "completing" then
    local running
    running, err = settle_completing(self, row, actor)
    if not running then return nil, err end
  end
  local there
  there, err = reconcile(self, row)
  if there == nil then return nil, err end
  if there == false then
    -- Finished at the store without our knowing, or lost: see which.
    local file
    file, err = self:recover_lost(row, actor)
    if file then return finished_already(file) end
    if err.code ~= "expired" then return nil, err end
    return nil
  end
  local deadline = self.clock.now() + decision.upload_seconds
  local extended
  extended, err = self.store:extend_upload(row.id, deadline, self.clock.now())
  if extended == nil then return nil, err end
  if not extended then return nil end -- expired or completed under our hands
  row.deadline, row.state = deadline, "uploading"
  return row
end

-- The policy's word.
local function decide(self, actor, r, is_resume)
  local decision, rewritten = self.policy:decide("before_initiate", {
    actor = actor, operation = r.operation, service = r.service, filename = r.filename,
    content_type = r.content_type, size = r.size, max_size = r.max_size, metadata = r.metadata,
    part_size = r.part_size, resume = is_resume, provider = r.provider, if_exists = r.if_exists,
    file_id = ids.new("fil_"), upload_id = ids.new("upl_"),
  })
  if not decision then return nil, rewritten end
  local ok, err = decision_room.check_bucket(self, decision, rewritten)
  if not ok then return nil, err end
  return decision
end

--- Starts an upload, or takes one up again.
-- @tparam table actor
-- @tparam table request `service`, `filename`, `content_type`, `size`, `resume`
-- (take up a running upload of the same organization, service and name, if there
-- is one; its size and type must be equal), `metadata` (kept with the file),
-- `provider` ("default"), `part_size` (preferred), `max_size` (the service's
-- limit), `signs_length` (default true: part URLs are for exactly their length),
-- `requires_tokens` (default true: complete needs the ETag of every part),
-- `if_exists`: what a finished file of the same name means: "refuse" (default:
-- conflict), "replace" (it is deleted when this upload completes) or "keep" (both stay),
-- `urls` (true: of the parts that are missing, too; or the `shape` of `part_urls_text`)
-- @treturn table upload
-- @treturn table info `is_resume`, `urls` (as of `part_urls`, or of `part_urls_text` and then `urls_end` as well); or
-- nil, err
function _M.initiate(self, actor, request)
  check.actor(actor)
  local r, err = read_request(request)
  if not r then return nil, err end
  local ok
  ok, err = self:authorize(actor, r.operation, "upload", r.service)
  if not ok then return nil, err end
  -- Who wants to go on where nothing runs begins something new, for the policy too.
  local running
  running, err = running_ones(self, actor, r)
  if not running then return nil, err end
  local decision, row
  decision, err = decide(self, actor, r, running[1] ~= nil)
  if not decision then return nil, err end
  if running[1] then
    row, err = resume(self, actor, r, decision, running)
    if err then return nil, err end
    if not row then
      decision, err = decide(self, actor, r, false)
      if not decision then return nil, err end
    end
  end
  local is_resume = row ~= nil
  if not row then
    row, err = start(self, actor, r, decision)
    if not row then return nil, err end
  end
  self.log("info", is_resume and "upload resumed" or "upload started",
    { upload_id = row.id, service = row.service, size = row.size, parts = row.part_count })
  local info = { is_resume = is_resume }
  if request.urls then
    local shape, ends = request.urls ~= true and request.urls or nil
    if not is_resume then
      info.urls, ends = self:first_urls(actor, row, shape)
    elseif shape then
      info.urls, ends = self:part_urls_text(actor, row.id, nil, shape)
    else
      info.urls, ends = self:part_urls(actor, row.id)
    end
    if not info.urls then return nil, ends end
    info.urls_end = ends
  end
  return self:view_upload(row), info
end

--- An upload with the parts that are recorded.
-- @tparam table actor
-- @tparam string id
-- @treturn table upload with `parts` ({number=,token=}), or nil, err
function _M.upload(self, actor, id)
  check.actor(actor)
  local ok, err = self:authorize(actor, "upload", "upload")
  if not ok then return nil, err end
  local row
  row, err = self:own_upload(actor, id)
  if not row then return nil, err end
  if row.state == "starting" then return self:state_error(row) end
  local upload = self:view_upload(row)
  upload.parts, err = self.store:parts(id)
  if not upload.parts then return nil, err end
  return upload
end

--- Gives an upload up: its parts are removed from the store, now or by the janitor.
-- Giving up what was given up already, or has failed or expired, is success.
-- @tparam table actor
-- @tparam string id
-- @treturn true, or nil, err: `conflict` when completed or being completed
function _M.abort(self, actor, id)
  check.actor(actor)
  local ok, err = self:authorize(actor, "abort", "upload")
  if not ok then return nil, err end
  local row
  row, err = self:own_upload(actor, id)
  if not row then return nil, err end
  if row.state == "uploading" then
    ok, err = self.policy:decide("before_abort", { actor = actor, upload = self:view_upload(row) })
    if not ok then return nil, err end
    local changed
    local events = self:events("after_abort", { actor = actor, upload = self:view_upload(row, "aborting") })
    changed, err = self:give_up(row, { "uploading" }, "aborting", nil, nil, events)
    if changed == nil then return nil, err end
    if changed then
      self:deliver(events)
      return true
    end
    row, err = self:own_upload(actor, id)
    if not row then return nil, err end
  end
  if row.state == "completed" or row.state == "completing" or row.state == "uploading" then
    return self:state_error(row)
  elseif row.state == "starting" then
    return errors.fail("not_found", "there is no such upload")
  end
  return true
end

return _M

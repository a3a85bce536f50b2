--- The bytes have arrived: assemble, freeze, check, bind.
--
-- A PUT URL works until its window ends, so what lies at the staging key can
-- change at any time. Therefore it is first copied, at the store, to a key that
-- no URL ever named; then the copy is checked (size, quota, first bytes) and the
-- job's row is pointed at it. Every attempt freezes to a key of its own and one
-- wins the row, so attempts may be repeated and overlap; the copy of a loser, or
-- of a process that died, is removed by a cleanup that was written before it.
-- Only the assembly of parts is one attempt's at a time, by a lease: the store
-- may refuse a second one meanwhile, and a refusal aborts.
--
-- Room: broker.
-- @module longshore.broker.datasets.complete
local access = require "longshore.broker.datasets.access"
local decisions = require "longshore.broker.decision"
local errors = require "longshore.errors"
local ids = require "longshore.broker.ids"
local sniff = require "longshore.broker.content.sniff"
local start = require "longshore.broker.datasets.start"
local views = require "longshore.broker.datasets.views"

local _M = {}

-- Assembling parts takes a store no longer than this; another attempt waits so
-- long for it.
local ASSEMBLY_SECONDS, WAIT_SECONDS = 120, 30

-- A frozen copy that nobody bound is removed after this time.
local UNBOUND_SECONDS = 3600

local AGAIN = "Upload completion failed. Please try again."

--- Reads ranges of an object.
-- @tparam table provider
-- @tparam string key
-- @treturn function see longshore.broker.content.source
function _M.reader(provider, key)
  return function(first, last)
    return provider:get { key = key, first = first, last = last, max = last - first + 1 }
  end
end

local function completable(job)
  if job.origin ~= "presigned" then
    return errors.fail("state", "Job is not a presigned upload", { reason = "origin" })
  end
  if job.key then return errors.fail("state", "Upload already completed for this job", { reason = "completed" }) end
  if job.status ~= "pending" then
    return errors.fail("state", "This job has already failed and cannot be completed. Start the upload again.",
      { reason = "failed" })
  end
  return true
end

-- What was wrong, or that another attempt was quicker.
local function unless_completed(self, job, err)
  local now = self.store:job(job.id)
  if now then
    local ok, why = completable(now)
    if not ok then return nil, why end
  end
  return nil, err
end

-- Bare tokens, in order, each number once.
local function ordered(list)
  local parts, seen = {}, {}
  for _, part in ipairs(list) do
    local etag = part.etag:gsub('^W/', ""):gsub('"', "")
    if seen[part.number] and seen[part.number] ~= etag then
      return errors.fail("state", ("Part %d is listed with two different ETags"):format(part.number),
        { reason = "parts" })
    elseif not seen[part.number] then
      seen[part.number] = etag
      parts[#parts + 1] = { number = part.number, etag = etag }
    end
  end
  table.sort(parts, function(a, b) return a.number < b.number end)
  return parts
end

-- Answers of the store that say that these parts, or this upload, will never do.
-- (Wrong credentials, say, are no reason to throw away what a client sent.)
local REFUSED = { invalid = true, not_found = true, too_large = true }

-- An ETag that a browser could not read arrives empty: the store's own counts.
local function fill_in(provider, upload, parts)
  local empty = false
  for _, part in ipairs(parts) do empty = empty or part.etag == "" end
  if not empty then return true end
  local listed, err = provider:list_parts(upload)
  if not listed then return nil, err end
  local known = {}
  for _, part in ipairs(listed) do known[part.number] = part.etag end
  for _, part in ipairs(parts) do
    if part.etag == "" then part.etag = known[part.number] or "" end
  end
  return true
end

-- One attempt at a time at what `work` does.
local function alone(self, job, work)
  local clock = self.clock
  local till = clock.now() + WAIT_SECONDS
  local lease
  while true do
    local now = clock.now()
    lease = now + ASSEMBLY_SECONDS
    local ok, err = self.store:lease_job(job.id, { now = now, lease = lease })
    if ok == nil then return nil, err end
    if ok then break end
    ok, err = unless_completed(self, job, errors.new("conflict", "This upload is being completed by another request.",
      { reason = "completing", retry_after = 5 }))
    if err.reason ~= "completing" or now >= till then return ok, err end
    clock.sleep(0.5)
  end
  local done, err = work()
  self.store:release_job(job.id, lease)
  return done, err
end

-- Whether the object is there: true, false, or nil and an error.
local function assembled(provider, job)
  local there, err = provider:head { key = job.staging_key }
  if there then return true end
  if err.code == "not_found" then return false end
  return start.storage_failure(err, AGAIN)
end

-- Makes the object of its parts.
local function assemble(self, provider, job, list)
  local there, err = assembled(provider, job)
  if there ~= false then return there, err end
  local upload = { key = job.staging_key, upload_id = job.provider_upload_id }
  if #list == 0 then
    provider:abort_multipart(upload)
    return errors.fail("state", "Multipart upload completion requires at least one uploaded part",
      { reason = "parts" })
  end
  local parts
  parts, err = ordered(list)
  if not parts then return nil, err end
  local made
  made, err = fill_in(provider, upload, parts)
  if made then
    upload.parts = parts
    made, err = provider:complete_multipart(upload)
  end
  if made or assembled(provider, job) then return true end
  if REFUSED[err.code] then provider:abort_multipart(upload) end
  return unless_completed(self, job, errors.new("store",
    "Upload completion failed: the upload session may have expired. Please try again.",
    { cause = err, public = true, store_code = err.store_code }))
end

-- The same by one attempt at a time. An object that is there already was made
-- by an earlier attempt, whose answer may have been lost.
local function assemble_alone(self, provider, job, list)
  local there, err = assembled(provider, job)
  if there ~= false then return there, err end
  return alone(self, job, function() return assemble(self, provider, job, list) end)
end

--- What is to be told of a job that failed.
-- @tparam table self broker
-- @tparam table job
-- @tparam string message
-- @tparam[opt] table actor
-- @treturn {table,...} events
function _M.failed(self, job, message, actor)
  return self:events("after_fail", function()
    local dataset = job.dataset_id and self.store:dataset(job.dataset_id)
    return { actor = actor, upload = views.job(job, { state = "failed", error = message }),
      file = dataset and views.dataset(dataset) or nil }
  end)
end

-- Content was refused: both objects go, and a replacement's job has failed. (A
-- new dataset's job waits for better bytes until its window ends.)
local function refuse(self, provider, job, frozen, err, actor)
  local terminal = job.workflow == "reupload" and err.code ~= "quota"
  if terminal then
    local events = _M.failed(self, job, err.message, actor)
    local failed, why = self.store:fail_job(job, { error = err.message, now = self.clock.now(), bound = false,
      events = events })
    if failed == nil then return nil, why end
    if not failed then return unless_completed(self, job, err) end
    self:deliver(events)
  end
  if frozen then provider:delete { key = frozen } end
  provider:delete { key = job.staging_key }
  return nil, err
end

-- Size, quota and first bytes of content that nobody can change, and the policy's word on it. Third: true
-- when the policy refused it for good.
local function check(self, provider, job, key, found, limits, replaced, actor)
  local ok, err = start.within_size(found.size, limits)
  if not ok then return nil, err end
  if found.size ~= job.size then
    return errors.fail("integrity", ("Uploaded file size (%.0f bytes) does not match the declared size (%.0f bytes).")
      :format(found.size, job.size), { reason = "size" })
  end
  ok, err = start.within_quota(self, replaced or job, found.size, limits, replaced)
  if not ok then return nil, err end
  ok, err = sniff.check(job.filename, _M.reader(provider, key), found.size)
  if not ok then return nil, err end
  return decisions.admit(self, actor, views.job(job, { key = key, state = "completing" }), found)
end

-- What the client may hear of as it is, and ask again.
local WAITS = { busy = true, unavailable = true, database = true }
local REFUSALS = { too_large = true, integrity = true, quota = true }

-- Copies the staged object to a key of its own.
local function freeze(self, provider, job)
  local kept = decisions.kept(job)
  local cleanup, err, refused = self:freeze(provider, { provider = job.provider, from = job.staging_key,
    to = job.content_key .. "/" .. ids.new(""), content_type = kept.content_type or job.content_type,
    headers = kept.headers, due = self.clock.now() + UNBOUND_SECONDS })
  if cleanup or not refused then return cleanup, err end
  return unless_completed(self, job, errors.new("store", AGAIN,
    { cause = err, public = true, store_code = err.store_code }))
end

-- Everything behind assembly.
local function finalize(self, provider, job, limits, replaced, actor)
  local staged, err = provider:head { key = job.staging_key }
  if not staged and err.code == "not_found" then
    return unless_completed(self, job, errors.new("state", "File not found in storage after upload",
      { reason = "missing" }))
  elseif not staged then
    return start.storage_failure(err, AGAIN)
  end
  local ok
  ok, err = start.within_size(staged.size, limits) -- so that nothing huge is copied only to be refused
  if not ok then return refuse(self, provider, job, nil, err, actor) end
  local cleanup
  cleanup, err = freeze(self, provider, job)
  if not cleanup then return nil, err end
  local found
  found, err = provider:head { key = cleanup.key }
  local final
  if found then ok, err, final = check(self, provider, job, cleanup.key, found, limits, replaced, actor) end
  if not found or not ok then
    if found and (final or REFUSALS[err.code]) then return refuse(self, provider, job, cleanup.key, err, actor) end
    provider:delete { key = cleanup.key }
    if found and (err.hook or WAITS[err.code]) then return nil, err end
    return start.storage_failure(err, AGAIN)
  end
  local now = self.clock.now()
  ok, err = self.store:bind_job(job.id, { key = cleanup.key, etag = found.etag, crc32c = found.crc32c,
    deadline = now + limits.commit_seconds, now = now, cleanup = cleanup.id })
  if ok == nil then return nil, err end -- unknown: the cleanup stays, and repeating the call finds out
  if not ok then
    provider:delete { key = cleanup.key }
    return unless_completed(self, job, errors.new("state", "The job has ended", { reason = "failed" }))
  end
  provider:delete { key = job.staging_key } -- the cleanup comes again when the window has ended
  return true
end

--- Completes a presigned upload.
-- @tparam table self broker
-- @tparam table actor
-- @tparam table request `{job_id, dataset_id|nil, parts={{number,etag}}}`
-- @tparam table limits see longshore.broker.datasets.start
-- @treturn table|nil job
-- @treturn table|nil err
function _M.run(self, actor, request, limits)
  local job, dataset = start.next_step(self, actor, "complete", request)
  if not job then return nil, dataset end
  local ok, err = completable(job)
  if not ok then return nil, err end
  ok, err = self.policy:decide("before_complete", { actor = actor, upload = views.job(job),
    parts = request.parts, size = job.size })
  if not ok then return nil, err end
  local provider
  provider, err = self:provider(job.provider)
  if not provider then return nil, err end
  if job.provider_upload_id then
    ok, err = assemble_alone(self, provider, job, request.parts)
    if not ok then return nil, err end
  end
  ok, err = finalize(self, provider, job, limits, dataset or nil, actor)
  if not ok then return nil, err end
  return self.store:job(job.id)
end

--- Brings a file of this machine in: the direct form upload.
-- The content is checked where it lies, then stored under a key of its own.
-- @tparam table self broker
-- @tparam table actor
-- @tparam table request `{dataset_id|nil, filename, content_type, file={path,offset,length} | text=string,
--   read=function}`; `read` reads ranges of the same bytes
-- @tparam table limits
-- @treturn table|nil job
-- @treturn table|nil err
function _M.direct(self, actor, request, limits)
  local ok, err = access.authorize(self, actor, "ingest", "upload")
  if not ok then return nil, err end
  local size = request.file and request.file.length or #request.text
  local dataset
  dataset, err = start.admit(self, actor, { dataset_id = request.dataset_id, filename = request.filename, size = size },
    limits)
  if dataset == nil then return nil, err end
  local job, room = start.new_job(self, actor, { operation = "ingest", dataset = dataset or nil,
    filename = request.filename, size = size, content_type = request.content_type }, limits)
  if not job then return nil, room end
  local provider
  provider, err = self:provider(job.provider)
  if not provider then return nil, err end
  local cleanup = self:new_cleanup { provider = job.provider, key = job.content_key .. "/" .. ids.new(""),
    due = job.window_ends + start.GRACE }
  ok, err = self.store:create_job(job, cleanup, room)
  if not ok then return nil, err end
  local function fail(why)
    local events = _M.failed(self, job, why.message, actor)
    if self.store:fail_job(job, { error = why.message, now = self.clock.now(), events = events }) then
      self:deliver(events)
    end
    return nil, why
  end
  ok, err = self.policy:decide("before_complete", { actor = actor, upload = views.job(job), parts = {}, size = size })
  if not ok then return fail(err) end
  ok, err = sniff.check(request.filename, request.read, size)
  if not ok then return fail(err) end
  local stored
  local kept = decisions.kept(job)
  stored, err = provider:put { key = cleanup.key, file = request.file, body = request.text,
    content_type = kept.content_type or request.content_type, headers = kept.headers }
  if not stored then return fail(select(2, start.storage_failure(err))) end
  ok, err = decisions.admit(self, actor, views.job(job, { key = cleanup.key, state = "completing" }),
    { size = size, etag = stored.etag, crc32c = stored.crc32c })
  if not ok then -- nobody sends these bytes again: the form was all there is
    provider:delete { key = cleanup.key }
    return fail(err)
  end
  local now = self.clock.now()
  ok, err = self.store:bind_job(job.id, { key = cleanup.key, etag = stored.etag, crc32c = stored.crc32c,
    deadline = now + limits.commit_seconds, now = now, cleanup = cleanup.id })
  if not ok then return nil, err or errors.new("state", "The job has ended", { reason = "failed" }) end
  return self.store:job(job.id)
end

return _M

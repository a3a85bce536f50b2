--- A job's content becomes its dataset's, in one transaction.
--
-- Committing reads what the file holds (see longshore.broker.content.preview), then
-- swaps: the dataset's row points to the new object, and the old one is removed
-- when the last download of it has had its time. Whoever asks for the dataset's
-- content before gets the whole old, after that the whole new content. Here the work is done
-- at once, within the request; a job whose process died in it is found by its
-- lease and finished by whoever polls it, or by the janitor.
--
-- A file whose JSON is broken, as far as it was read, is not committed: the job
-- fails and the dataset keeps its content.
--
-- Room: broker.
-- @module longshore.broker.datasets.commit
local complete = require "longshore.broker.datasets.complete"
local errors = require "longshore.errors"
local json = require "longshore.json"
local preview = require "longshore.broker.content.preview"
local sniff = require "longshore.broker.content.sniff"
local start = require "longshore.broker.datasets.start"
local decisions = require "longshore.broker.decision"
local uuid = require "longshore.broker.uuid"
local views = require "longshore.broker.datasets.views"

local _M = {}

-- Who works at a running job has this long; then another may.
local LEASE = 300
-- A job that could not be finished in this time, for whatever reason, has failed.
local GIVE_UP = 3600
-- A replaced object outlives the longest download of it by this.
local DOWNLOAD_SLACK = 3600

local RASTER = { [".tif"] = true, [".tiff"] = true }
local TABLES = { [".xlsx"] = true, [".xls"] = true, [".csv"] = true }

local function known(value)
  if value ~= json.null then return value end
end

-- What a new dataset is, by its file.
local function record_type(job, found, options)
  local extension = sniff.extension(job.filename)
  if RASTER[extension] then return "raster_dataset" end
  local placed = options.x_column or options.geom_column
  if TABLES[extension] and not placed then return "table" end
  if (extension == ".json") and not known(found.geometry_type) and known(found.crs) == nil then return "table" end
  return "vector_dataset"
end

-- The dataset's fields that come with content.
local function content_fields(job, found)
  local columns = {}
  for i, column in ipairs(found.columns) do columns[i] = { name = column.name, type = column.type } end
  return {
    filename = job.filename, content_type = decisions.kept(job).content_type or job.content_type, size = job.size,
    provider = job.provider,
    key = job.key, etag = job.etag, crc32c = job.crc32c, columns = json.encode(json.array(columns)),
    feature_count = known(found.feature_count), geometry_type = known(found.geometry_type),
    srid = job.srid or known(found.crs), layer_name = job.layer_name,
  }
end

local function fail(self, job, message)
  local events = complete.failed(self, job, message)
  local ended, err = self.store:fail_job(job, { error = message, now = self.clock.now(), events = events,
    cleanup = self:new_cleanup { provider = job.provider, key = job.key } })
  if ended then
    self.log("info", "a commit failed", { job = job.id, reason = message })
    self:deliver(events)
  end
  return ended, err
end

-- What a store that does not answer means for a job: later, or never.
local function postpone(self, job, err)
  local now = self.clock.now()
  self.log("warn", "a commit waits for the object store", { job = job.id, cause = tostring(err) })
  if now - job.started_at > GIVE_UP then
    return fail(self, job, "The uploaded file could not be read from storage.")
  end
  return self.store:claim_job(job, now + 30)
end

-- What is to be told when the dataset has its content: its row is not written yet.
local function completed(self, job, fields)
  return self:events("after_complete", function()
    local dataset = {}
    for _, source in ipairs { job.dataset_id and self.store:dataset(job.dataset_id) or {}, fields } do
      for name, value in pairs(source) do dataset[name] = value end
    end
    if job.dataset_id then
      dataset.version, dataset.updated_at = (dataset.version or 0) + 1, self.clock.now()
    end
    return { upload = views.job(job, { state = "completed" }), file = views.dataset(dataset) }
  end)
end

-- Answers as the store does, and the events that were written.
local function finish(self, job, found, options)
  local now = self.clock.now()
  local fields = content_fields(job, found)
  local common = { now = now, rows_processed = known(found.feature_count), warning = found.warnings[1],
    quota_bytes = options.quota_bytes, dataset = fields }
  if job.dataset_id then
    local downloads = self.policy.settings and self.policy.settings.download_seconds or 0
    common.cleanup = function(old)
      return self:new_cleanup { provider = old.provider, key = old.key, due = now + downloads + DOWNLOAD_SLACK }
    end
    common.replaces = decisions.kept(job).replaces
    common.events = completed(self, job, fields)
    local done, err = self.store:finish_commit(job, common)
    return done, err, common.events
  end
  fields.id, fields.user = options.dataset_id, job.user
  fields.tenant, fields.organization = job.tenant, job.organization
  fields.title, fields.summary, fields.visibility = options.title, options.summary, options.visibility
  fields.temporal_start, fields.temporal_end = options.temporal_start, options.temporal_end
  fields.record_type = record_type(job, found, options)
  fields.version, fields.created_at, fields.updated_at = 1, now, now
  common.quota_datasets = options.quota_datasets
  common.events = completed(self, job, fields)
  local done, err = self.store:finish_create(job, common)
  return done, err, common.events
end

local REASONS = {
  quota = "The owner's quota of bytes does not allow this content.",
  quota_datasets = "The owner's quota of datasets is used up.",
  dataset = "The dataset does not exist any more.",
  replaced = "The dataset was replaced by another upload meanwhile.",
}

--- Does the work of a running job whose lease is the caller's.
-- @tparam table self broker
-- @tparam table job
-- @treturn boolean|nil whether the job is done (complete or failed)
-- @treturn table|nil err of the database
function _M.work(self, job)
  local options = json.decode(job.options or "{}")
  local provider, err = self:provider(job.provider)
  if not provider then return postpone(self, job, err) end
  self.store:step_job(job.id, { current_step = "validating", now = self.clock.now() })
  local head
  head, err = provider:head { key = job.key }
  if not head and err.code ~= "not_found" then return postpone(self, job, err) end
  if not head or head.size ~= job.size or (job.etag and head.etag ~= job.etag) then
    return fail(self, job, "The uploaded file is missing from storage.")
  end
  local found
  found, err = preview.look(job.filename, complete.reader(provider, job.key), job.size)
  if not found then return postpone(self, job, err) end
  if found.problem then return fail(self, job, found.problem) end
  local done, events
  done, err, events = finish(self, job, found, options)
  if done then
    local id = job.dataset_id or options.dataset_id
    self.log("info", "a dataset has new content", { job = job.id, dataset = id, bytes = job.size })
    self:deliver(events)
  end
  if done == nil and err.reason and REASONS[err.reason] then return fail(self, job, REASONS[err.reason]) end
  return done, err
end

--- Takes over a running job whose lease has ended: its worker seems to be gone.
-- @tparam table self broker
-- @tparam table job
-- @treturn boolean|nil
-- @treturn table|nil err
function _M.resume(self, job)
  local now = self.clock.now()
  local claimed, err = self.store:claim_job(job, now + LEASE)
  if not claimed then return claimed, err end
  job.deadline = now + LEASE
  return _M.work(self, job)
end

local function committable(job)
  if job.status ~= "pending" then
    return errors.fail("state", "Job already processed", { reason = "processed" })
  end
  if not job.key then
    return errors.fail("state", "The upload must be completed before it can be committed", { reason = "unbound" })
  end
  return true
end

-- A new dataset that others are to see: the policy is asked as when that changes.
local function shown(self, actor, job, options)
  if not options.visibility or options.visibility == "private" then return true end
  local now = self.clock.now()
  local file = views.dataset { id = options.dataset_id, filename = job.filename, title = options.title,
    content_type = job.content_type, size = job.size, etag = job.etag, crc32c = job.crc32c, visibility = "private",
    tenant = job.tenant, organization = job.organization, user = job.user, created_at = now, updated_at = now }
  local ok, err = self.policy:decide("before_visibility", { actor = actor, files = { file },
    visibility = options.visibility })
  if not ok then return nil, err end
  return true
end

--- Commits a job.
-- @tparam table self broker
-- @tparam table actor
-- @tparam table request `{job_id, dataset_id|nil, layer_name, srid, options={title, summary, ...}}`
-- @tparam table limits see longshore.broker.datasets.start
-- @treturn table|nil job as it is after what could be done at once
-- @treturn table|nil err
function _M.run(self, actor, request, limits)
  local job, dataset = start.next_step(self, actor, "commit", request)
  if not job then return nil, dataset end
  local ok, err = committable(job)
  if not ok then return nil, err end
  local options = { quota_bytes = limits.quota_bytes, quota_datasets = limits.quota_datasets,
    dataset_id = not dataset and uuid.new() or nil }
  for name, value in pairs(request.options or {}) do options[name] = value end
  if not dataset then
    ok, err = start.within_quota(self, job, job.size, limits)
    if not ok then return nil, err end
    ok, err = shown(self, actor, job, options)
    if not ok then return nil, err end
  end
  local now = self.clock.now()
  ok, err = self.store:begin_commit(job, { now = now, deadline = now + LEASE, layer_name = request.layer_name,
    srid = request.srid, options = json.encode(options) })
  if ok == nil then
    if err.reason == "dataset_busy" then
      err.detail = { code = "dataset_busy", message =
        "A refresh is already running for this dataset. Wait for it to finish, then try again." }
    end
    return nil, err
  end
  if not ok then return committable { status = "gone" } end
  job, err = self.store:job(job.id)
  if not job then return nil, err end
  ok, err = _M.work(self, job)
  -- The commit is accepted: what the database could not do now is done later.
  if ok == nil and err then self.log("warn", "a commit is left for later", { job = job.id, cause = tostring(err) }) end
  return self.store:job(job.id)
end

return _M

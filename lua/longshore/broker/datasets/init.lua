--- The broker's workflow of datasets: content is replaced, or brought in, by a
-- job. See the modules beside this one; `longshore.store.datasets` has the rows.
--
--     job, urls = broker:start_job(actor, {dataset_id=|nil, filename=, size=, content_type=, signs_type=}, limits)
--     job = broker:complete_job(actor, {job_id=, dataset_id=|nil, parts={{number=,etag=}}}, limits)
--     job = broker:ingest_job(actor, {dataset_id=|nil, filename=, content_type=, file={path=,offset=,length=}}, limits)
--     found = broker:preview_job(actor, {job_id=, dataset_id=|nil, layer_name=|nil})
--     job = broker:commit_job(actor, {job_id=, dataset_id=|nil, layer_name=, srid=, options={...}}, limits)
--     job = broker:job(actor, job_id)
--     dataset = broker:dataset(actor, dataset_id)
--     {url=, expires_at=} = broker:download_dataset(actor, dataset_id)
--     usage = broker:dataset_usage(actor)
--
-- A job waits for its bytes until its window ends, then for its commit for as
-- long as configured, then it has failed and what it holds is removed. `job` and
-- the janitor (`sweep_jobs`) see to that, and finish commits that were cut off.
--
-- Room: broker.
-- @module longshore.broker.datasets
local access = require "longshore.broker.datasets.access"
local commit = require "longshore.broker.datasets.commit"
local complete = require "longshore.broker.datasets.complete"
local errors = require "longshore.errors"
local json = require "longshore.json"
local preview = require "longshore.broker.content.preview"
local start = require "longshore.broker.datasets.start"
local types = require "longshore.broker.content.types"
local views = require "longshore.broker.datasets.views"

local _M = {}

_M.start_job = start.presigned
_M.complete_job = complete.run
_M.ingest_job = complete.direct
_M.commit_job = commit.run

-- Ends or finishes a job whose time is over. Answers whether anything changed.
local function settle(self, job)
  local now = self.clock.now()
  if job.deadline > now then return false end
  if job.status == "running" then return commit.resume(self, job) end
  if job.status ~= "pending" then return false end
  local cleanup = job.key and self:new_cleanup { provider = job.provider, key = job.key }
  local why = job.key and "The upload was not committed in time." or "The upload was not completed in time."
  local events = self:events("after_expire", { upload = views.job(job, { state = "expired", error = why }) })
  local ended, err = self.store:fail_job(job, { now = now, stale = true, cleanup = cleanup, error = why,
    events = events })
  if ended then self:deliver(events) end
  return ended, err
end

--- A job of the actor's own; administrators see every job of their organization.
-- @tparam table actor
-- @tparam string id
-- @treturn table|nil job
-- @treturn table|nil err
function _M.job(self, actor, id)
  local ok, err = access.authorize(self, actor, "job", "upload")
  if not ok then return nil, err end
  local job
  job, err = self.store:job(id, access.owner_of(actor))
  if not job and err.code ~= "not_found" then return nil, err end
  if not job or not (job.user == actor.user or actor.rights.admin) then
    return errors.fail("not_found", "Job not found", { reason = "job" })
  end
  if job.status ~= "pending" and job.status ~= "running" then return job end
  local changed
  changed, err = settle(self, job)
  if changed == nil and err then return nil, err end
  if changed then return self.store:job(id) end
  return job
end

local function wanted_layer(found, name)
  if name == nil or name == found.layer_name then return true end
  return errors.fail("integrity", ("Layer '%s' not found in this file (it has the one layer '%s')."):format(name,
    found.layer_name), { reason = "layer" })
end

local function previewable(dataset)
  if dataset.record_type == "raster_dataset" then
    return errors.fail("state", "Raster datasets have no schema to preview. Commit the replacement directly.",
      { reason = "raster" })
  end
  return true
end

--- Looks into a job's content.
-- @tparam table actor
-- @tparam table request `{job_id, dataset_id|nil, layer_name|nil}`
-- @treturn table|nil found as longshore.broker.content.preview has it, with `job` and,
--   for a replacement, `difference` and `previous_layer`
-- @treturn table|nil err
function _M.preview_job(self, actor, request)
  local job, dataset = start.next_step(self, actor, "preview", request, previewable)
  if not job then return nil, dataset end
  if job.status ~= "pending" then return errors.fail("state", "Job already processed", { reason = "processed" }) end
  if not job.key then
    return errors.fail("state", "Job has no file yet: the upload must be completed before a preview",
      { reason = "unbound" })
  end
  local provider, err = self:provider(job.provider)
  if not provider then return nil, err end
  local ok, found
  found, err = preview.look(job.filename, complete.reader(provider, job.key), job.size)
  if not found then return start.storage_failure(err) end
  if found.problem then
    return errors.fail("integrity", "Unable to preview file. " .. found.problem, { reason = "content" })
  end
  ok, err = wanted_layer(found, request.layer_name)
  if not ok then return nil, err end
  found.job = job
  if dataset then
    found.difference = types.difference(json.decode(dataset.columns or "[]"), found.columns, dataset.feature_count,
      found.feature_count ~= json.null and found.feature_count or nil)
    found.previous_layer = dataset.layer_name
  end
  return found
end

--- A dataset that the actor may see.
-- @tparam table actor
-- @tparam string id
-- @treturn table|nil dataset; `columns` is a list
-- @treturn table|nil err
function _M.dataset(self, actor, id)
  local ok, err = access.authorize(self, actor, "dataset", "read")
  if not ok then return nil, err end
  local dataset
  dataset, err = access.visible(self, actor, id)
  if not dataset then return nil, err end
  dataset.columns = json.decode(dataset.columns or "[]")
  return dataset
end

--- A URL from which a dataset's content can be read.
-- @tparam table actor
-- @tparam string id
-- @treturn table|nil `{url, expires_at, headers}`
-- @treturn table|nil err
function _M.download_dataset(self, actor, id)
  local ok, err = access.authorize(self, actor, "download", "read")
  if not ok then return nil, err end
  local dataset
  dataset, err = access.visible(self, actor, id)
  if not dataset then return nil, err end
  local decision, rewritten = self.policy:decide("before_download", { actor = actor, file = views.dataset(dataset),
    filename = dataset.filename, content_type = dataset.content_type })
  if not decision then return nil, rewritten end
  local provider
  provider, err = self:provider(dataset.provider)
  if not provider then return nil, err end
  local target
  target, err = provider:sign_get { key = dataset.key, expires = decision.url_seconds,
    filename = decision.filename, content_type = rewritten.content_type and decision.content_type or nil }
  if not target then return start.storage_failure(err) end
  return target
end

--- How much of their quota the actor uses.
-- @tparam table actor
-- @treturn table|nil `{datasets, bytes}`
-- @treturn table|nil err
function _M.dataset_usage(self, actor)
  local ok, err = access.authorize(self, actor, "usage", "upload")
  if not ok then return nil, err end
  return self.store:dataset_usage { tenant = actor.tenant, organization = actor.organization, user = actor.user }
end

--- The janitor's part: ends jobs whose time is over and finishes commits that
-- were cut off.
-- @tparam table options `now`, `limit`, `dry_run`
-- @treturn table|nil report `{failed, finished, errors}`
-- @treturn table|nil err
function _M.sweep_jobs(self, options)
  local report = { failed = 0, finished = 0, errors = 0 }
  local jobs, err = self.store:stale_jobs(options.now or self.clock.now(), options.limit or 100)
  if not jobs then return nil, err end
  for _, job in ipairs(jobs) do
    local which = job.status == "running" and "finished" or "failed"
    local changed, why = true, nil
    if not options.dry_run then changed, why = settle(self, job) end
    if changed then
      report[which] = report[which] + 1
    elseif changed == nil and why then
      report.errors = report.errors + 1
      self.log("error", "a job could not be ended", { job = job.id, cause = tostring(why) })
    end
  end
  return report
end

return _M

--- The store's operations on datasets and on the jobs that bring content into
-- them. Part of the contract of `longshore.store`, with its rules: each atomic,
-- changes of state are compare-and-set and answer `false` when the row is not
-- in that state any more.
--
-- A **dataset** always has content: its row is made by the job that brings the
-- first. A **job** is `pending` (waiting for bytes while it has no `key`, for a
-- commit once it has one), `running`, then `complete` or `failed`. `deadline` is
-- the time after which a job may be taken for abandoned: of the upload, of the
-- commit, and while running the lease of who works at it.
--
-- * `create_dataset(row) -> true`
-- * `dataset(id, owner|nil) -> row`
-- * `dataset_usage{tenant,organization,user} -> {datasets=, bytes=}`
-- * `create_job(row, cleanup, room|nil) -> true`: with the cleanup that will remove what
--   is left at its staging key; `quota` when there is no room (see `longshore.store.quotas`).
-- * `job(id, owner|nil) -> row`
-- * `start_job(id, {provider_upload_id,part_size,part_count,cleanup,now}) -> bool`:
--   the store has begun a multipart upload; the cleanup learns of it too.
-- * `lease_job(id, {now,lease}) -> bool`: of a pending job without content, whose
--   earlier lease has ended; `release_job(id, lease) -> bool` gives that one back.
-- * `bind_job(id, {key,etag,crc32c,deadline,now,cleanup}) -> bool`: pending and
--   without content → with content; the cleanup that would have removed the
--   content is dropped.
-- * `fail_job(job, {error,now,cleanup|nil,stale|nil,bound|nil,events|nil}) -> bool`: pending
--   or running → failed. With `stale` only while its deadline is the one in `job`;
--   with `bound=false` only while it has no content. The dataset is no longer busy.
-- * `begin_commit(job, {now,deadline,layer_name,srid,options}) -> bool`: pending
--   with content → running, and its dataset is busy with it: `conflict`
--   (`reason="dataset_busy"`) when it is busy with another.
-- * `claim_job(job, deadline) -> bool`: a running job's lease moves from the value
--   in `job`.
-- * `step_job(id, {current_step,rows_processed,now}) -> bool`: while running.
-- * `finish_commit(job, {now,dataset,cleanup(old)|nil,quota_bytes|nil,replaces|nil,events|nil,
--   rows_processed,warning}) -> bool`:
--   running → complete; in the same transaction the dataset gets its new content
--   and the old object its cleanup. `conflict` (`reason="quota"`) when the owner
--   would then have more than `quota_bytes` or (`reason="replaced"`) when the dataset's version
--   is not `replaces` any more, `not_found` when the dataset is gone.
-- * `finish_create(job, {now,dataset,quota_bytes|nil,quota_datasets|nil,...}) -> bool`:
--   the same with a new dataset; `reason="quota_datasets"` too.
-- * `stale_jobs(now, limit) -> rows`: pending or running with the deadline passed.
-- * `purge_jobs(before, limit) -> count`: final jobs last touched before then.
-- * `count_jobs() -> {status=count}`
--
-- Room: store.
-- @module longshore.store.datasets
local errors = require "longshore.errors"
local quotas = require "longshore.store.quotas"
local rows = require "longshore.store.rows"
local schema = require "longshore.store.schema"

local _M = {}

local datasets, jobs, cleanups = schema.datasets, schema.jobs, schema.cleanups
local ms = rows.milliseconds

local insert, change = rows.insert, rows.change

local function one(self, description, what, id, owner)
  local sql = ("SELECT %s FROM %s WHERE id = ?"):format(description.all, description.name)
  local answer, err
  if owner then
    answer, err = self.db:query(sql .. " AND tenant = ? AND organization = ?", id, owner.tenant, owner.organization)
  else
    answer, err = self.db:query(sql, id)
  end
  if not answer then return nil, err end
  if not answer[1] then return errors.fail("not_found", "there is no such " .. what, { reason = what }) end
  return description:row(answer[1])
end

function _M.create_dataset(self, row)
  return insert(self.db, datasets, row)
end

function _M.dataset(self, id, owner)
  return one(self, datasets, "dataset", id, owner)
end

local function usage(db, who)
  local answer, err = db:query([[SELECT CAST(COUNT(*) AS TEXT), CAST(COALESCE(SUM(size), 0) AS TEXT) FROM datasets
    WHERE tenant = ? AND organization = ? AND username = ?]], who.tenant, who.organization, who.user)
  if not answer then return nil, err end
  return { datasets = tonumber(answer[1][1]), bytes = tonumber(answer[1][2]) }
end

function _M.dataset_usage(self, who)
  return usage(self.db, who)
end

function _M.create_job(self, row, cleanup, room)
  local db = self.db
  return db:transaction(function()
    local ok, err = quotas.admit(db, room)
    if not ok then return nil, err end
    ok, err = insert(db, jobs, row)
    if not ok then return nil, err end
    return insert(db, cleanups, cleanup)
  end)
end

function _M.job(self, id, owner)
  return one(self, jobs, "job", id, owner)
end

function _M.start_job(self, id, start)
  local db = self.db
  return db:transaction(function()
    local ok, err = change(db, jobs, {
      provider_upload_id = start.provider_upload_id, part_size = start.part_size,
      part_count = start.part_count, updated_at = start.now,
    }, "id = ? AND status = 'pending'", id)
    if not ok then return ok, err end
    return change(db, cleanups, { provider_upload_id = start.provider_upload_id }, "id = ?", start.cleanup)
  end)
end

function _M.lease_job(self, id, claim)
  return change(self.db, jobs, { lease = claim.lease },
    "id = ? AND status = 'pending' AND object_key IS NULL AND lease <= ?i", id, ms(claim.now))
end

function _M.release_job(self, id, lease)
  return change(self.db, jobs, { lease = 0 }, "id = ? AND lease = ?i", id, ms(lease))
end

local function drop_cleanup(db, id)
  local n, err = db:exec("DELETE FROM cleanups WHERE id = ?", id)
  if not n then return nil, err end
  return true
end

function _M.bind_job(self, id, bind)
  local db = self.db
  return db:transaction(function()
    local ok, err = change(db, jobs, {
      key = bind.key, etag = bind.etag, crc32c = bind.crc32c, deadline = bind.deadline, updated_at = bind.now,
    }, "id = ? AND status = 'pending' AND object_key IS NULL", id)
    if not ok then return ok, err end
    return drop_cleanup(db, bind.cleanup)
  end)
end

-- The dataset is free for the next job.
local function release(db, job)
  if not job.dataset_id then return true end
  local n, err = db:exec("UPDATE datasets SET busy_job = NULL WHERE id = ? AND busy_job = ?", job.dataset_id, job.id)
  if not n then return nil, err end
  return true
end

function _M.fail_job(self, job, fail)
  local db = self.db
  return db:transaction(function()
    local where = "id = ? AND status IN ('pending', 'running')"
    if fail.bound == false then where = where .. " AND object_key IS NULL" end
    local fields = { status = "failed", error = fail.error, updated_at = fail.now, completed_at = fail.now,
      current_step = rows.null }
    local ok, err
    if fail.stale then
      ok, err = change(db, jobs, fields, where .. " AND deadline = ?i", job.id, ms(job.deadline))
    else
      ok, err = change(db, jobs, fields, where, job.id)
    end
    if not ok then return ok, err end
    ok, err = release(db, job)
    if not ok then return nil, err end
    ok, err = rows.insert_all(db, schema.events, fail.events)
    if not ok then return nil, err end
    if fail.cleanup then return insert(db, cleanups, fail.cleanup) end
    return true
  end)
end

function _M.begin_commit(self, job, begin)
  local db = self.db
  return db:transaction(function()
    local ok, err = change(db, jobs, {
      status = "running", deadline = begin.deadline, started_at = begin.now, updated_at = begin.now,
      layer_name = begin.layer_name, srid = begin.srid, options = begin.options, current_step = "queued",
    }, "id = ? AND status = 'pending' AND object_key IS NOT NULL", job.id)
    if not ok or not job.dataset_id then return ok, err end
    ok, err = change(db, datasets, { busy_job = job.id }, "id = ? AND busy_job IS NULL", job.dataset_id)
    if ok == false then
      return errors.fail("conflict", "another job is replacing this dataset's content", { reason = "dataset_busy" })
    end
    return ok, err
  end)
end

function _M.claim_job(self, job, deadline)
  return change(self.db, jobs, { deadline = deadline }, "id = ? AND status = 'running' AND deadline = ?i",
    job.id, ms(job.deadline))
end

function _M.step_job(self, id, step)
  return change(self.db, jobs, { current_step = step.current_step, rows_processed = step.rows_processed,
    updated_at = step.now }, "id = ? AND status = 'running'", id)
end

local function complete(db, job, finish, dataset_id)
  return change(db, jobs, {
    status = "complete", dataset_id = dataset_id, current_step = "complete", completed_at = finish.now,
    updated_at = finish.now, rows_processed = finish.rows_processed, warning = finish.warning,
  }, "id = ? AND status = 'running'", job.id)
end

local function within_bytes(db, owner, limit, more)
  if not limit then return true end
  local used, err = usage(db, owner)
  if not used then return nil, err end
  if used.bytes + more > limit then
    return errors.fail("conflict", "the owner's quota of bytes would be exceeded", { reason = "quota" })
  end
  return true
end

function _M.finish_commit(self, job, finish)
  local db = self.db
  return db:transaction(function()
    local ok, err = complete(db, job, finish, job.dataset_id)
    if not ok then return ok, err end
    -- Touching the row first makes a second writer wait for this one.
    ok, err = change(db, datasets, { busy_job = rows.null }, "id = ?", job.dataset_id)
    if ok == nil then return nil, err end
    if not ok then return errors.fail("not_found", "the dataset is gone", { reason = "dataset" }) end
    local old
    old, err = one(self, datasets, "dataset", job.dataset_id)
    if not old then return nil, err end
    if finish.replaces and old.version ~= finish.replaces then
      return errors.fail("conflict", "the dataset was replaced by another one meanwhile", { reason = "replaced" })
    end
    ok, err = within_bytes(db, old, finish.quota_bytes, finish.dataset.size - old.size)
    if not ok then return nil, err end
    ok, err = rows.insert_all(db, schema.events, finish.events)
    if not ok then return nil, err end
    local fields = { version = old.version + 1, updated_at = finish.now }
    for name, value in pairs(finish.dataset) do fields[name] = value end
    ok, err = change(db, datasets, fields, "id = ?", job.dataset_id)
    if not ok then return nil, err end
    if old.provider == fields.provider and old.key == fields.key then return true end
    return insert(db, cleanups, finish.cleanup(old))
  end)
end

function _M.finish_create(self, job, finish)
  local db = self.db
  return db:transaction(function()
    local ok, err = complete(db, job, finish, finish.dataset.id)
    if not ok then return ok, err end
    ok, err = within_bytes(db, finish.dataset, finish.quota_bytes, finish.dataset.size)
    if not ok then return nil, err end
    if finish.quota_datasets then
      local used
      used, err = usage(db, finish.dataset)
      if not used then return nil, err end
      if used.datasets >= finish.quota_datasets then
        return errors.fail("conflict", "the owner may not have more datasets", { reason = "quota_datasets" })
      end
    end
    ok, err = rows.insert_all(db, schema.events, finish.events)
    if not ok then return nil, err end
    return insert(db, datasets, finish.dataset)
  end)
end

function _M.stale_jobs(self, now, limit)
  local answer, err = self.db:query(([[SELECT %s FROM jobs WHERE status IN ('pending', 'running') AND deadline <= ?i
    ORDER BY deadline, id LIMIT ?i]]):format(jobs.all), ms(now), limit)
  if not answer then return nil, err end
  return jobs:rows(answer)
end

function _M.purge_jobs(self, before, limit)
  return self.db:exec([[DELETE FROM jobs WHERE id IN (SELECT id FROM jobs
    WHERE status IN ('complete', 'failed') AND updated_at <= ?i ORDER BY updated_at LIMIT ?i)]], ms(before), limit)
end

function _M.count_jobs(self)
  local answer, err = self.db:query("SELECT status, CAST(COUNT(*) AS TEXT) FROM jobs GROUP BY status")
  if not answer then return nil, err end
  local counts = {}
  for _, row in ipairs(answer) do counts[row[1]] = tonumber(row[2]) end
  return counts
end

return _M

--- What policies see of datasets and of the jobs that bring their content.
--
-- Room: broker, no I/O.
-- @module longshore.broker.datasets.views
local decisions = require "longshore.broker.decision"

local _M = {}

--- A dataset: a file.
-- @tparam table row
-- @treturn table
function _M.dataset(row)
  return {
    id = row.id, filename = row.filename, title = row.title, summary = row.summary, content_type = row.content_type,
    size = row.size, state = "registered", etag = row.etag, crc32c = row.crc32c, visibility = row.visibility,
    record_type = row.record_type, version = row.version, service = "geolens", tenant = row.tenant,
    organization = row.organization, user = row.user, created_at = row.created_at, updated_at = row.updated_at,
  }
end

local STATES = { pending = "uploading", running = "completing", complete = "completed" }

--- A job: an upload.
-- @tparam table job row
-- @tparam[opt] table now what is different: `state`, `key`, `error`
-- @treturn table
function _M.job(job, now)
  now = now or {}
  return {
    id = job.id, file_id = job.dataset_id or job.id, dataset_id = job.dataset_id, workflow = job.workflow,
    filename = job.filename, content_type = decisions.kept(job).content_type or job.content_type, size = job.size,
    part_size = job.part_size, part_count = job.part_count, state = now.state or STATES[job.status] or job.status,
    deadline = job.deadline, provider = job.provider, key = now.key or job.key or job.staging_key,
    error = now.error or job.error, service = "geolens", tenant = job.tenant, organization = job.organization,
    user = job.user, created_at = job.created_at, updated_at = job.updated_at,
  }
end

return _M

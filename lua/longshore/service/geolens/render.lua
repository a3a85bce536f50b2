--- geolens's answers, made of what the broker gives.
--
-- Room: service, geolens. No I/O.
-- @module longshore.service.geolens.render
local json = require "longshore.json"
local response = require "longshore.http.response"

local _M = {}

local null = json.null
local moment, optional = response.moment, json.optional

--- The answer to a start.
-- @tparam table job
-- @tparam {string,...} urls
-- @treturn table
function _M.started(job, urls)
  return {
    job_id = job.id, urls = json.array(urls), s3_key = job.staging_key,
    upload_id = optional(job.provider_upload_id), part_size = optional(job.part_size),
  }
end

--- The answer to complete, the form upload and commit.
-- @tparam table job
-- @tparam string message
-- @treturn table
function _M.accepted(job, message)
  return { job_id = job.id, status = "pending", message = message }
end

--- The answer to a preview.
-- @tparam table found of `broker:preview_job`
-- @treturn table
function _M.preview(found)
  local answer = {
    job_id = found.job.id, source_filename = found.job.filename, columns = found.columns, crs = found.crs,
    geometry_type = found.geometry_type, feature_count = found.feature_count, sample_rows = found.sample_rows,
    layer_name = found.layer_name,
  }
  if found.difference then
    answer.schema_diff = found.difference
    answer.all_layers = null
    answer.previous_source_layer = optional(found.previous_layer)
  else
    answer.layers = null
  end
  return answer
end

--- A job.
-- @tparam table job
-- @treturn table
function _M.job(job)
  local failed = job.status == "failed"
  return {
    id = job.id, status = job.status, dataset_id = optional(job.dataset_id), source_filename = job.filename,
    error_message = optional(job.error), can_retry = false,
    retry_reason = failed and "This job cannot be retried; start a new upload." or null,
    warning_message = optional(job.warning), warnings = json.array {},
    progress = job.status == "complete" and 1 or null, current_step = optional(job.current_step),
    rows_processed = optional(job.rows_processed), rows_failed = null,
    archive_failed = false, temporal_parse_errors = json.object {},
    started_at = moment(job.started_at), completed_at = moment(job.completed_at), created_at = moment(job.created_at),
  }
end

--- A dataset.
-- @tparam table dataset of `broker:dataset`
-- @treturn table
function _M.dataset(dataset)
  return {
    id = dataset.id, title = dataset.title, summary = optional(dataset.summary), visibility = dataset.visibility,
    record_type = dataset.record_type, source_filename = dataset.filename, file_size = dataset.size,
    version = dataset.version, columns = json.array(dataset.columns), feature_count = optional(dataset.feature_count),
    geometry_type = optional(dataset.geometry_type), srid = optional(dataset.srid),
    created_at = moment(dataset.created_at), updated_at = moment(dataset.updated_at),
  }
end

return _M

--- A job begins: checks, the row, the URLs.
--
-- `limits` comes from the service's configuration: `provider` (name), `max_size`,
-- `threshold` (above it multipart), `part_size`, `window` (seconds in which all
-- URLs work), `commit_seconds`, `extensions` (list), `quota_bytes`,
-- `quota_datasets` (nil: none).
--
-- Two keys belong to a job: the staging key, which URLs name, and the key of its
-- content, which no URL that can write ever names. The staging key is
-- `staging/{job id}/{file name}`, every byte of the name that is not plain made an
-- underscore. What is left there is removed after the window, whatever happened:
-- the cleanup is written together with the job.
--
-- Of what the policy may rewrite, everything counts but `metadata`, which a dataset does not have: key,
-- headers and type are the content's, the window ends no later than the service's, and `if_exists`
-- says whether a re-upload may replace what is there.
--
-- Room: broker.
-- @module longshore.broker.datasets.start
local access = require "longshore.broker.datasets.access"
local decisions = require "longshore.broker.decision"
local errors = require "longshore.errors"
local plan = require "longshore.plan"
local sniff = require "longshore.broker.content.sniff"
local uuid = require "longshore.broker.uuid"
local views = require "longshore.broker.datasets.views"

local _M = {}

-- Less than this left of the window: no URL is signed.
local MIN_WINDOW = 60
-- Staging is swept this long after the last URL has ended.
_M.GRACE = 3600

local RASTER = { [".tif"] = true, [".tiff"] = true }

--- A failure of the object store, as a client may read it.
-- @tparam table err
-- @tparam[opt] string message
-- @treturn nil
-- @treturn table err
function _M.storage_failure(err, message)
  return errors.fail("store", message or "Storage service unavailable",
    { cause = err, public = true, retryable = true, store_code = err.store_code })
end

-- A type that cannot take the place of the dataset's.
local function compatible(dataset, extension)
  if extension == ".vrt" then
    return errors.fail("unsupported", "Standalone VRT files cannot be uploaded.", { reason = "type" })
  end
  local kind = dataset and dataset.record_type
  if kind == "vrt_dataset" then
    return errors.fail("unsupported", "VRT datasets do not take files; edit the VRT's members instead.",
      { reason = "type" })
  end
  if kind == "raster_dataset" and not RASTER[extension] or kind and kind ~= "raster_dataset" and RASTER[extension] then
    return errors.fail("unsupported", ("This dataset is a %s; %s files cannot replace its content."):format(
      kind:gsub("_", " "), extension == "" and "such" or extension), { reason = "type" })
  end
  return true
end

local function allowed(extension, extensions)
  for _, known in ipairs(extensions) do
    if known == extension then return true end
  end
  return errors.fail("unsupported", ("File type '%s' is not allowed. Allowed types: %s"):format(extension,
    table.concat(extensions, ", ")), { reason = "extension" })
end

--- Whether a file of this size is within the limit.
-- @tparam number size
-- @tparam table limits
-- @treturn true|nil
-- @treturn table|nil err too_large
function _M.within_size(size, limits)
  if size <= limits.max_size then return true end
  return errors.fail("too_large", ("File size (%.1f MB) exceeds the maximum allowed (%.1f MB)."):format(
    size / 1048576, limits.max_size / 1048576), { reason = "size" })
end

--- Whether the owner's quota allows this content.
-- @tparam table self broker
-- @tparam table owner `{tenant, organization, user}`: who the dataset counts for
-- @tparam number size
-- @tparam table limits
-- @tparam[opt] table replaced the dataset whose content it replaces
-- @treturn true|nil
-- @treturn table|nil err quota; `reason` is "datasets" for their number
function _M.within_quota(self, owner, size, limits, replaced)
  if not limits.quota_bytes and not limits.quota_datasets then return true end
  local used, err = self.store:dataset_usage(owner)
  if not used then return nil, err end
  local after = used.bytes + size - (replaced and replaced.size or 0)
  if limits.quota_bytes and after > limits.quota_bytes then
    return errors.fail("quota", ("This upload would use %.1f MB of a quota of %.1f MB."):format(after / 1048576,
      limits.quota_bytes / 1048576), { reason = "bytes" })
  end
  if not replaced and limits.quota_datasets and used.datasets >= limits.quota_datasets then
    return errors.fail("quota", ("The quota of %.0f datasets is used up."):format(limits.quota_datasets),
      { reason = "datasets" })
  end
  return true
end

--- The checks that come before a job exists, in the service's order.
-- @tparam table self broker
-- @tparam table actor
-- @tparam table request `{dataset_id|nil, filename, size}`
-- @tparam table limits
-- @treturn table|boolean|nil the dataset that is replaced, or false
-- @treturn table|nil err
function _M.admit(self, actor, request, limits)
  local dataset = false
  local ok, err
  if request.dataset_id then
    dataset, err = access.writable(self, actor, request.dataset_id)
    if not dataset then return nil, err end
  end
  local extension = sniff.extension(request.filename)
  ok, err = compatible(dataset, extension)
  if not ok then return nil, err end
  ok, err = allowed(extension, limits.extensions)
  if not ok then return nil, err end
  ok, err = _M.within_size(request.size, limits)
  if not ok then return nil, err end
  ok, err = _M.within_quota(self, dataset or actor, request.size, limits, dataset or nil)
  if not ok then return nil, err end
  return dataset
end

--- What a job's next step is about: the actor's own job and the dataset that it replaces.
-- @tparam table self broker
-- @tparam table actor
-- @tparam string operation that the policy is asked about
-- @tparam table request `{job_id, dataset_id|nil}`
-- @tparam[opt] function refuse of the dataset: answers true, or nil and why it takes no such step
-- @treturn table|nil job
-- @treturn table|boolean dataset, or false when the job makes a new one; or err
function _M.next_step(self, actor, operation, request, refuse)
  local ok, err = access.authorize(self, actor, operation, "upload")
  if not ok then return nil, err end
  local dataset, job = false
  if request.dataset_id then
    dataset, err = access.writable(self, actor, request.dataset_id)
    if not dataset then return nil, err end
    -- (One that a later change made a VRT takes no files.)
    if dataset.record_type == "vrt_dataset" then return compatible(dataset, "") end
    if refuse then
      ok, err = refuse(dataset)
      if not ok then return nil, err end
    end
  end
  job, err = access.own_job(self, actor, request.job_id, dataset and "reupload" or "ingest", request.dataset_id)
  if not job then return nil, err end
  return job, dataset
end

-- The file's name as the last segment of a key: plain characters, its extension kept.
local function safe_name(filename)
  local name = filename:gsub("[^%w%._%-]", "_"):gsub("^%.+", "_")
  if #name > 120 then
    local extension = sniff.extension(name)
    name = name:sub(1, 120 - #extension) .. extension
  end
  return name
end

-- The size of parts: the service's, unless a policy wants another that the store takes.
local function part_size(self, job, decision, rewritten, limits)
  if not rewritten.part_size then return limits.part_size end
  local provider, err = self:provider(job.provider)
  if not provider then return nil, err end
  local profile, parts = provider.profile
  parts, err = plan.parts { size = job.size, min_part = profile.min_part, max_part = profile.max_part,
    max_parts = profile.max_parts, max_object = profile.max_object, part_size = decision.part_size, equal = true }
  return parts and parts.part_size, err
end

--- Asks the policy, and makes the job's row.
-- @tparam table self broker
-- @tparam table actor
-- @tparam table request `{operation, dataset|nil, filename, size, content_type}`; `dataset`: the row whose content is
-- replaced
-- @tparam table limits
-- @treturn table|nil job not yet stored
-- @treturn table room of the store (see longshore.store.quotas), or err
-- @treturn number how large its parts are to be
function _M.new_job(self, actor, request, limits)
  local id, now, dataset = uuid.new(), self.clock.now(), request.dataset
  local current = dataset and views.dataset(dataset)
  local decision, rewritten = self.policy:decide("before_initiate", {
    actor = actor, operation = request.operation, service = "geolens", filename = request.filename,
    content_type = request.content_type, size = request.size, max_size = limits.max_size, resume = false,
    file_id = dataset and dataset.id or id, upload_id = id, provider = limits.provider,
    part_size = limits.part_size, if_exists = dataset and "replace" or "keep", current = current,
  })
  if not decision then return nil, rewritten end
  local ok, err = decisions.check_bucket(self, decision, rewritten)
  if not ok then return nil, err end
  ok, err = decisions.may_replace(decision, current)
  if not ok then return nil, err end
  local window = decisions.seconds(decision, rewritten, limits.window)
  local job = {
    id = id, tenant = actor.tenant, organization = actor.organization, user = actor.user,
    dataset_id = dataset and dataset.id, workflow = dataset and "reupload" or "ingest",
    origin = request.operation == "ingest" and "direct" or "presigned", filename = request.filename,
    content_type = request.content_type, size = request.size, provider = decision.provider,
    staging_key = ("staging/%s/%s"):format(id, safe_name(request.filename)), content_key = decision.key,
    status = "pending", deadline = now + window, window_ends = now + window,
    lease = 0, created_at = now, updated_at = now, decided = decisions.keep {
      headers = decisions.object_headers(decision),
      content_type = rewritten.content_type and decision.content_type or nil,
      replaces = dataset and decision.replaces and dataset.version or nil,
    },
  }
  local size
  size, err = part_size(self, job, decision, rewritten, limits)
  if not size then return nil, err end
  return job, { owner = job, quotas = decision.quotas, max_running = decision.max_running,
    files = dataset and 0 or 1, bytes = job.size, running = 1 }, size
end

--- The cleanup of what a job leaves at its staging key.
-- @tparam table self broker
-- @tparam table job
-- @treturn table row
function _M.staging_cleanup(self, job)
  return self:new_cleanup { provider = job.provider, key = job.staging_key, kind = "staging",
    due = job.window_ends + _M.GRACE }
end

-- How long URLs may work now: until the window's end, unless a rule wants less.
local function url_seconds(self, actor, job)
  local left = math.floor(job.window_ends - self.clock.now())
  if left < MIN_WINDOW then
    return errors.fail("conflict", "This upload's time window has closed. Start a new upload.", { reason = "window" })
  end
  local numbers = {}
  for i = 1, job.part_count or 1 do numbers[i] = i end
  local decision, err = self.policy:decide("before_sign",
    { actor = actor, upload = views.job(job), numbers = numbers })
  if not decision then return nil, err end
  return self:url_life(decision.url_seconds, "url_seconds", math.min(left, 604800))
end

local function sign_single(self, actor, provider, job, signs_type)
  local seconds, err = url_seconds(self, actor, job)
  if not seconds then return nil, err end
  local target
  target, err = provider:sign_put { key = job.staging_key, length = job.size,
    content_type = signs_type and job.content_type or nil, expires = seconds }
  if not target then return _M.storage_failure(err) end
  return { target.url }
end

local function sign_parts(self, actor, provider, job)
  local seconds, err = url_seconds(self, actor, job)
  if not seconds then return nil, err end
  local parts = {}
  for i = 1, job.part_count do
    parts[i] = { number = i, length = math.min(job.part_size, job.size - (i - 1) * job.part_size) }
  end
  local targets
  targets, err = provider:sign_parts { key = job.staging_key, upload_id = job.provider_upload_id, parts = parts,
    expires = seconds }
  if not targets then return _M.storage_failure(err) end
  local urls = {}
  for i, target in ipairs(targets) do urls[i] = target.url end
  return urls
end

-- A multipart upload at the store, known to the job's row before a URL goes out.
local function open_multipart(self, provider, job, cleanup, size)
  local opened, err = provider:create_multipart { key = job.staging_key, content_type = job.content_type }
  if not opened then return _M.storage_failure(err) end
  job.provider_upload_id, job.part_size = opened.upload_id, size
  job.part_count = math.ceil(job.size / size)
  local ok
  ok, err = self.store:start_job(job.id, { provider_upload_id = job.provider_upload_id, part_size = job.part_size,
    part_count = job.part_count, cleanup = cleanup.id, now = self.clock.now() })
  if not ok then return nil, err or errors.new("state", "the job has ended", { reason = "job" }) end
  return true
end

--- Starts a presigned upload.
-- @tparam table self broker
-- @tparam table actor
-- @tparam table request `{dataset_id|nil, filename, size, content_type, signs_type}`; `signs_type`: a single
--   PUT must have that type
-- @tparam table limits
-- @treturn table|nil job
-- @treturn table|nil urls in order of the parts, or err
function _M.presigned(self, actor, request, limits)
  local ok, err = access.authorize(self, actor, "initiate", "upload")
  if not ok then return nil, err end
  local dataset
  dataset, err = _M.admit(self, actor, request, limits)
  if dataset == nil then return nil, err end
  local job, room, size = _M.new_job(self, actor, { operation = "initiate", dataset = dataset or nil,
    filename = request.filename, size = request.size, content_type = request.content_type }, limits)
  if not job then return nil, room end
  local provider
  provider, err = self:provider(job.provider)
  if not provider then return nil, err end
  local cleanup = _M.staging_cleanup(self, job)
  ok, err = self.store:create_job(job, cleanup, room)
  if not ok then return nil, err end
  local urls
  if job.size > limits.threshold then
    ok, err = open_multipart(self, provider, job, cleanup, size)
    if ok then urls, err = sign_parts(self, actor, provider, job) end
  else
    urls, err = sign_single(self, actor, provider, job, request.signs_type)
  end
  if urls then return job, urls end
  -- Nobody has the id of this job: it ends here, and what it opened is undone.
  if job.provider_upload_id then
    provider:abort_multipart { key = job.staging_key, upload_id = job.provider_upload_id }
  end
  self.store:fail_job(job, { error = err.message, now = self.clock.now() })
  return nil, err
end

return _M

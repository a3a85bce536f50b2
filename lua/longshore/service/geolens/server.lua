--- The geolens service as a server: the content of a dataset is replaced, or a
-- new one made, through an ingestion job.
--
-- What the published service leaves open, and what was chosen here:
--
-- * An extension that is not allowed is 400 on the presigned doors too (the
--   original seems to fail with a 500).
-- * `s3_key` is `staging/{job_id}/{filename}` with every byte of the name that is
--   not a letter, a digit, `.`, `_` or `-` made `_`.
-- * The type is signed into a single PUT when it was declared. The official web
--   client declares none where the browser knows none (.gpkg, .parquet), and then
--   its PUT has none either: such a PUT may have any type, or none.
-- * Content is frozen to a key below the dataset's own, not below `staging/`:
--   a rule that empties staging can never take a dataset's content.
-- * A store that cannot be reached while parts are assembled is 502 and nothing is
--   aborted: the same call may be repeated. Only a refusal of the parts
--   themselves aborts the upload.
-- * A part whose `etag` is empty (a browser that may not read it) counts with the
--   ETag that the store lists.
-- * A commit is carried out at once; the answer is still 202 and the job is polled.
--   A file whose JSON is broken fails the job; the dataset keeps its content.
-- * A job that was uploaded in time may be completed later, as long as nothing has
--   ended it (a poll or the janitor after the window).
-- * The old object is removed an hour after its last download URL has ended.
-- * `internal` and `public` datasets are seen by the owner's whole organization,
--   never by other organizations; `private` and `restricted` by the owner.
--   Administrators see and change all datasets of their organization.
-- * `reupload/service/preview` is 400: this server fetches nothing from other
--   services. `token` and `temporal_*` are accepted; `token` is not kept.
-- * A token needs the right to upload for everything but reading a dataset, so that
--   one made for uploads suffices to see an upload through.
-- * Beyond the original's API, `GET /api/datasets/{id}` answers a few of its
--   fields and `GET /api/datasets/{id}/download` redirects to the content.
--
-- Room: service, geolens.
-- @module longshore.service.geolens.server
local errors = require "longshore.errors"
local form = require "longshore.http.form"
local json = require "longshore.json"
local problem = require "longshore.service.geolens.problem"
local render = require "longshore.service.geolens.render"
local responses = require "longshore.http.response"
local rules = require "longshore.service.geolens.rules"
local sniff = require "longshore.broker.content.sniff"
local auth = require "longshore.http.auth"
local validate = require "longshore.http.validate"

local _M = {}

_M.name = "geolens"
_M.openapi = {
  title = "GeoLens dataset re-upload: content of a dataset is replaced through an ingestion job",
  schemas = rules.answers,
  errors = { content_type = "application/problem+json", schema = "ProblemDetail" },
  security = { { scheme = "bearer" }, { scheme = "geolensKey" }, { scheme = "geolensLegacyKey" } },
  schemes = {
    geolensKey = { type = "apiKey", ["in"] = "header", name = "X-Api-Key" },
    geolensLegacyKey = { type = "apiKey", ["in"] = "query", name = "api_key",
      description = "A legacy form: query strings end up in logs." },
  },
}
_M.prefixes = { "/api/datasets", "/api/ingest", "/api/jobs" }

local MiB = 1048576
-- JSON above this is 413.
local MAX_JSON = 10 * MiB

--- Renders an error.
-- @tparam table err
-- @tparam[opt] table _ ids, which have no place in a problem
-- @tparam[opt] table settings `config.services.geolens`
-- @treturn table response
function _M.render_error(err, _, settings)
  return problem.render(err, settings)
end

--- The token of a request: Authorization, X-Api-Key, or the legacy `api_key` in
-- the query.
-- @tparam table request
-- @treturn string|nil
-- @treturn table|nil err
function _M.token(request)
  local headers = request.headers
  if headers.authorization then return auth.bearer_token(headers) end
  local key = headers["x-api-key"] or request.query.api_key
  if not key then
    return errors.fail("unauthenticated", "Not authenticated", { reason = "missing" })
  end
  return auth.bearer_token { authorization = "Bearer " .. key }
end

-- The limits that the broker's workflow wants, from the configuration.
local function limits_of(settings)
  return {
    provider = settings.bucket, max_size = settings.max_size, threshold = settings.threshold,
    part_size = settings.part_size, window = settings.window, commit_seconds = settings.commit_seconds,
    extensions = settings.extensions or sniff.EXTENSIONS, quota_bytes = settings.quota_bytes,
    quota_datasets = settings.quota_datasets,
  }
end

local handlers = {}

function handlers.start(ctx)
  local job, urls = ctx.broker:start_job(ctx.actor, { dataset_id = ctx.ids.dataset_id, filename = ctx.body.filename,
    size = ctx.body.file_size, content_type = ctx.body.content_type or rules.DEFAULT_TYPE,
    signs_type = ctx.body.content_type ~= nil }, limits_of(ctx.settings))
  if not job then return nil, urls end
  return responses.json(201, render.started(job, urls))
end

local UPLOADED = { reupload = "File uploaded for re-upload preview", ingest = "File uploaded and ready for preview" }

function handlers.complete(ctx)
  local parts = {}
  for i, part in ipairs(ctx.body and ctx.body.parts or {}) do
    parts[i] = { number = part.part_number, etag = part.etag }
  end
  local job, err = ctx.broker:complete_job(ctx.actor, { dataset_id = ctx.ids.dataset_id, job_id = ctx.ids.job_id,
    parts = parts }, limits_of(ctx.settings))
  if not job then return nil, err end
  return responses.json(200, render.accepted(job, UPLOADED[job.workflow]))
end

-- Reads ranges of a form's part, wherever the body lies.
local function part_reader(source, part)
  if source.text then
    return function(first, last) return source.text:sub(part.offset + first + 1, part.offset + last + 1) end
  end
  return function(first, last)
    local f, why = io.open(source.path, "rb")
    if not f then return errors.fail("io", "cannot open the spooled body: " .. tostring(why)) end
    f:seek("set", part.offset + first)
    local bytes = f:read(last - first + 1)
    f:close()
    return bytes or ""
  end
end

function handlers.form(ctx)
  local part = form.file_part(ctx.parts)
  if not part then
    return errors.fail("invalid", "file: is required", { field = "file", reason = "missing" })
  end
  local _, err = validate.check(rules.presigned_upload.fields.filename, part.filename, "filename")
  if err then return nil, err end
  local content_type = part.content_type or rules.DEFAULT_TYPE
  _, err = validate.check(rules.presigned_upload.fields.content_type, content_type, "content_type")
  if err then return nil, err end
  local source = ctx.source
  local job
  job, err = ctx.broker:ingest_job(ctx.actor, {
    dataset_id = ctx.ids.dataset_id, filename = part.filename, content_type = content_type,
    file = source.path and { path = source.path, offset = part.offset, length = part.length } or nil,
    text = source.text and source.text:sub(part.offset + 1, part.offset + part.length) or nil,
    read = part_reader(source, part),
  }, limits_of(ctx.settings))
  if not job then return nil, err end
  return responses.json(201, render.accepted(job, UPLOADED[job.workflow]))
end

function handlers.preview(ctx)
  local asked = ctx.body ~= json.null and ctx.body or ctx.query or {}
  local layer = asked.layer_name
  local found, err = ctx.broker:preview_job(ctx.actor, { dataset_id = ctx.ids.dataset_id, job_id = ctx.ids.job_id,
    layer_name = layer ~= json.null and layer or nil })
  if not found then return nil, err end
  return responses.json(200, render.preview(found))
end

function handlers.service_preview(ctx)
  local dataset, err = ctx.broker:dataset(ctx.actor, ctx.ids.dataset_id)
  if not dataset then return nil, err end
  return errors.fail("unsupported", "This server does not read from remote services. Upload a file instead.")
end

local QUEUED = { reupload = "Re-upload queued", ingest = "Ingestion queued" }

-- What of a commit's body is the dataset's.
local DESCRIBES = { "title", "summary", "visibility", "temporal_start", "temporal_end", "x_column", "y_column",
  "geom_column" }

function handlers.commit(ctx)
  local body, options = ctx.body or {}, {}
  local function given(name)
    if body[name] ~= json.null then return body[name] end
  end
  if not ctx.ids.dataset_id then
    for _, name in ipairs(DESCRIBES) do options[name] = given(name) end
  end
  local job, err = ctx.broker:commit_job(ctx.actor, { dataset_id = ctx.ids.dataset_id, job_id = ctx.ids.job_id,
    layer_name = given("layer_name"), srid = given("srid_override"), options = options }, limits_of(ctx.settings))
  if not job then return nil, err end
  return responses.json(202, render.accepted(job, QUEUED[job.workflow]))
end

function handlers.job(ctx)
  local job, err = ctx.broker:job(ctx.actor, ctx.ids.job_id)
  if not job then return nil, err end
  return responses.json(200, render.job(job))
end

function handlers.config(ctx)
  local limits = limits_of(ctx.settings)
  local remaining = json.null
  if limits.quota_datasets then
    local usage, err = ctx.broker:dataset_usage(ctx.actor)
    if not usage then return nil, err end
    remaining = math.max(0, limits.quota_datasets - usage.datasets)
  end
  return responses.json(200, {
    presigned_uploads = true, presigned_threshold_bytes = limits.threshold, max_file_size_bytes = limits.max_size,
    allowed_extensions = table.concat(limits.extensions, ","), remaining_dataset_quota = remaining,
  })
end

function handlers.dataset(ctx)
  local dataset, err = ctx.broker:dataset(ctx.actor, ctx.ids.dataset_id)
  if not dataset then return nil, err end
  return responses.json(200, render.dataset(dataset))
end

function handlers.download(ctx)
  local target, err = ctx.broker:download_dataset(ctx.actor, ctx.ids.dataset_id)
  if not target then return nil, err end
  return responses.redirect(target.url)
end

-- Every handler finds the path's ids checked in `ctx.ids`.
local function with_ids(handler)
  return function(ctx)
    local ids, err = rules.check_path(ctx.params)
    if not ids then return nil, err end
    ctx.ids = ids
    return handler(ctx)
  end
end

--- The service's routes.
-- @tparam table settings `config.services.geolens`
-- @treturn table list
function _M.routes(settings)
  local function route(method, path, name, more)
    local new = {
      method = method, path = "/api/" .. path, name = "geolens." .. name, auth = "token", right = "upload",
      max_body = MAX_JSON, params = rules.paths,
    }
    for key, value in pairs(more) do new[key] = value end
    new.handler = with_ids(new.handler)
    return new
  end
  local form_body = { handler = handlers.form, body = "form", tunnel = true, max_body = settings.max_size + MiB,
    answers = { [201] = "UploadResponse" } }
  local presigned = { handler = handlers.start, body = "json", schema = rules.presigned_upload,
    answers = { [201] = "PresignedUploadResponse" } }
  local complete = { handler = handlers.complete, body = "optional_json", schema = rules.presigned_complete,
    answers = { [200] = "UploadResponse" } }
  local replace = "datasets/{dataset_id}/reupload"
  return {
    route("POST", replace .. "/presigned", "reupload_presigned", presigned),
    route("POST", replace .. "/presigned/{job_id}/complete", "reupload_complete", complete),
    route("POST", replace, "reupload_form", form_body),
    route("POST", replace .. "/{job_id}/preview", "reupload_preview", { handler = handlers.preview,
      body = "optional_json", schema = rules.preview, answers = { [200] = "ReuploadPreviewResponse" } }),
    route("POST", replace .. "/{job_id}/commit", "reupload_commit", { handler = handlers.commit,
      body = "optional_json", schema = rules.reupload_commit, answers = { [202] = "CommitResponse" } }),
    route("POST", replace .. "/service/preview", "reupload_service_preview", { handler = handlers.service_preview,
      answers = {} }),
    route("POST", "ingest/upload/presigned", "ingest_presigned", presigned),
    route("POST", "ingest/upload/presigned/{job_id}/complete", "ingest_complete", complete),
    route("POST", "ingest/upload", "ingest_form", form_body),
    route("POST", "ingest/preview/{job_id}", "ingest_preview", { handler = handlers.preview,
      query = rules.preview_query, answers = { [200] = "PreviewResponse" } }),
    route("POST", "ingest/commit/{job_id}", "ingest_commit", { handler = handlers.commit, body = "json",
      schema = rules.ingest_commit, answers = { [202] = "CommitResponse" } }),
    route("GET", "ingest/upload/config", "config", { handler = handlers.config,
      answers = { [200] = "UploadConfigResponse" } }),
    route("GET", "jobs/{job_id}", "job", { handler = handlers.job,
      answers = { [200] = "JobStatusResponse" } }),
    route("GET", "datasets/{dataset_id}", "dataset", { handler = handlers.dataset, right = "read",
      answers = { [200] = "DatasetResponse" } }),
    route("GET", "datasets/{dataset_id}/download", "download", { handler = handlers.download, right = "read",
      answers = { [302] = false } }),
  }
end

return _M

--- What geolens takes and gives: every field's type and limits in one place, for
-- checking requests and for the OpenAPI document.
--
-- Room: service, geolens. No I/O.
-- @module longshore.service.geolens.rules
local validate = require "longshore.http.validate"

local _M = {}

--- The type of a file whose type was not declared.
_M.DEFAULT_TYPE = "application/octet-stream"

local UUID = "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"

local function object(fields)
  return { type = "object", unknown = "ignore", fields = fields }
end

local function text(max, more)
  local rule = { type = "string", max_chars = max }
  for k, v in pairs(more or {}) do rule[k] = v end
  return rule
end

local function optional(rule)
  rule.nullable = true
  return rule
end

local uuid = { type = "string", pattern = UUID, says = "must be a valid UUID", format = "uuid" }

-- A header value: what is signed goes out as a header of the PUT.
local function header_text(value)
  if value:find("[^\32-\126]") then return nil, "must be plain ASCII" end
  if value:find("^%s") or value:find("%s$") or value:find("  ", 1, true) then
    return nil, "must have no white space at its ends and no double spaces"
  end
  return true
end

local function file_name(value)
  if value == "." or value == ".." or value:find("[/\\]") then
    return nil, "must be a file's name, without folders"
  end
  return true
end

--- The body that starts an upload.
_M.presigned_upload = object {
  filename = text(255, { required = true, min_chars = 1, check = file_name }),
  file_size = { type = "integer", required = true, min = 1 },
  content_type = text(255, { stands_for = _M.DEFAULT_TYPE, check = header_text }),
}

--- The body that completes one; 10,000 is what an S3 upload can have.
_M.presigned_complete = object {
  parts = { type = "array", max_items = 10000, items = object {
    etag = text(1024, { required = true }),
    part_number = { type = "integer", required = true, min = 1, max = 10000 },
  } },
}

-- Of a preview even the whole body may be null.
_M.preview = optional(object { layer_name = optional(text(500)) })
_M.preview_query = object { layer_name = text(500) }

_M.reupload_commit = object {
  srid_override = optional { type = "integer", min = 1, max = 998999 },
  token = optional(text(1000)),
  layer_name = optional(text(500)),
}

_M.VISIBILITIES = { "private", "restricted", "internal", "public" }

_M.ingest_commit = object {
  title = text(500, { required = true, min_chars = 1 }),
  summary = optional(text(5000, { text = true })),
  visibility = { type = "string", enum = _M.VISIBILITIES, default = "private" },
  srid_override = optional { type = "integer", min = 1, max = 998999 },
  token = optional(text(1000)),
  temporal_start = optional(text(64)),
  temporal_end = optional(text(64)),
  layer_name = optional(text(500)),
  x_column = optional(text(255)),
  y_column = optional(text(255)),
  geom_column = optional(text(255)),
}

--- Parameters of paths.
_M.paths = {
  dataset_id = uuid,
  job_id = uuid,
}

--- The path's ids, checked.
-- @tparam table params
-- @treturn table|nil
-- @treturn table|nil err
function _M.check_path(params)
  local fields = {}
  for name in pairs(params) do fields[name] = _M.paths[name] end
  local clean, err = validate.check(object(fields), params)
  if not clean then
    err.location = "path"
    return nil, err
  end
  for name, value in pairs(clean) do clean[name] = value:lower() end
  return clean
end

local column = object { name = text(nil, { required = true }), type = text(nil, { required = true }) }
local columns = { type = "array", items = column, required = true }
local null_integer = optional { type = "integer" }
local null_text = optional { type = "string" }
local sample = { type = "array", required = true, items = { type = "map", values = { type = "any" } } }

local function always(rule)
  local copy = { required = true }
  for k, v in pairs(rule) do copy[k] = v end
  return copy
end

local accepted = object { job_id = always(uuid), status = text(nil, { required = true }),
  message = text(nil, { required = true }) }

local function preview_answer(more)
  local fields = {
    job_id = always(uuid), source_filename = null_text, columns = columns, crs = null_integer,
    geometry_type = null_text, feature_count = null_integer, sample_rows = sample,
    layer_name = text(nil, { required = true }),
  }
  for name, rule in pairs(more) do fields[name] = rule end
  return object(fields)
end

--- The answers, for the OpenAPI document and for the specs that hold us to them.
_M.answers = {
  PresignedUploadResponse = object {
    job_id = always(uuid),
    urls = { type = "array", required = true, min_items = 1, items = { type = "string" } },
    s3_key = text(nil, { required = true }),
    upload_id = null_text, part_size = null_integer,
  },
  UploadResponse = accepted,
  CommitResponse = accepted,
  ReuploadPreviewResponse = preview_answer {
    schema_diff = always(object {
      columns_added = columns, columns_removed = columns,
      type_changes = { type = "array", required = true, items = object {
        name = text(nil, { required = true }), old_type = text(nil, { required = true }),
        new_type = text(nil, { required = true }) } },
      row_count_old = null_integer, row_count_new = null_integer,
      row_count_delta = { type = "integer", required = true },
    }),
    all_layers = optional { type = "array", items = { type = "any" } },
    previous_source_layer = null_text,
  },
  PreviewResponse = preview_answer { layers = optional { type = "array", items = { type = "any" } } },
  JobStatusResponse = object {
    id = always(uuid),
    status = { type = "string", required = true,
      enum = { "pending", "running", "complete", "failed", "cancelled", "fanned_out" } },
    dataset_id = optional { type = "string", pattern = UUID }, source_filename = null_text,
    error_message = null_text, can_retry = { type = "boolean", required = true }, retry_reason = null_text,
    started_at = null_text, completed_at = null_text, created_at = text(nil, { required = true }),
    warning_message = null_text, warnings = { type = "array", required = true, items = { type = "any" } },
    progress = optional { type = "number", min = 0, max = 1 },
    current_step = optional { type = "string", enum = { "queued", "validating", "ogr2ogr", "finalize", "complete",
      "cog_convert", "quicklook", "analyzing", "registering" } },
    rows_processed = null_integer, rows_failed = null_integer,
    archive_failed = { type = "boolean", required = true },
    temporal_parse_errors = { type = "map", required = true, values = { type = "string" } },
  },
  UploadConfigResponse = object {
    presigned_uploads = { type = "boolean", required = true },
    presigned_threshold_bytes = { type = "integer", required = true },
    max_file_size_bytes = { type = "integer", required = true },
    allowed_extensions = text(nil, { required = true }),
    remaining_dataset_quota = null_integer,
  },
  DatasetResponse = object {
    id = always(uuid), title = text(nil, { required = true }),
    summary = optional { type = "string", text = true },
    visibility = { type = "string", required = true, enum = _M.VISIBILITIES },
    record_type = text(nil, { required = true }), source_filename = text(nil, { required = true }),
    file_size = { type = "integer", required = true }, version = { type = "integer", required = true },
    columns = columns, feature_count = null_integer, geometry_type = null_text, srid = null_integer,
    created_at = text(nil, { required = true }), updated_at = text(nil, { required = true }),
  },
  ProblemDetail = object {
    type = text(nil, { required = true }), title = text(nil, { required = true }),
    status = { type = "integer", required = true }, detail = { type = "any", required = true },
  },
}

return _M

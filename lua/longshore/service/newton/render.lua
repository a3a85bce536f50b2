--- What the newton service answers: objects from the broker's, errors in its
-- own shape.
--
-- Room: service. No I/O.
-- @module longshore.service.newton.render
local core = require "longshore.core"
local json = require "longshore.json"
local responses = require "longshore.http.response"
local status = require "longshore.service.status"

local _M = {}

-- The state of a file in the broker, in the service's words.
local states = {
  uploading = "Uploading", completing = "Uploading", registered = "Registered", corrupt = "Corrupt",
  deleting = "Deleting", deleted = "Deleted",
}

--- The status of a file as `complete` spells it.
-- @tparam string state
-- @treturn string
function _M.file_status(state)
  return states[state] or "Unknown"
end

-- The last shape: in one second all have the same.
local shaped, shape

--- What a part looks like in the answers to initiate and to parts/urls, for `part_urls_text`.
-- @tparam number expires_at
-- @treturn string
function _M.part_shape(expires_at)
  if expires_at ~= shaped then
    shaped, shape = expires_at, ('{"part_number":%%n,"offset":%%o,"length":%%l,"expires_at":"%s","url":"%%u"}'):format(
      responses.rfc3339(expires_at))
  end
  return shape
end

--- The answer to initiate.
-- @tparam table upload
-- @tparam table info of `broker:initiate`: `is_resume`; `urls` of the parts that are missing, as text; `urls_end`
-- @treturn string JSON
function _M.upload(upload, info)
  local head = json.encode {
    upload_id = upload.id,
    file_uid = upload.file_id,
    file_name = upload.filename,
    total_bytes = upload.size,
    num_parts = upload.part_count,
    part_size = upload.part_size,
    integrity_algorithm = upload.integrity,
    is_resume = info.is_resume,
    strategy = "multipart",
    expires_at = info.urls_end and responses.rfc3339(info.urls_end) or nil,
  }
  return head:sub(1, -2) .. ',"parts":' .. info.urls .. "}"
end

-- What is known of a file beyond the fixed fields. The checks say on what the
-- claim that the bytes are the sender's rests.
local function attributes(file)
  local checks = {}
  for i, name in ipairs(file.checks or {}) do checks[i] = name end
  return {
    crc32c = file.crc32c and core.crc32c_base64(file.crc32c) or nil,
    checks = json.array(checks),
  }
end

--- The answer to complete.
function _M.completed(file)
  return {
    file_uid = file.id, file_name = file.filename, num_bytes = file.size,
    file_status = _M.file_status(file.state), file_attributes = attributes(file),
  }
end

--- The answer to the form upload and to delete.
function _M.reference(file)
  return { is_valid = true, file_id = file.filename, file_uid = file.id }
end

--- A metadata record.
-- @tparam table file
-- @tparam[opt] number index its place in the list
function _M.metadata(file, index)
  return {
    file_id = file.filename, file_uid = file.id, is_valid = file.state == "registered",
    file_type = file.content_type, num_bytes = file.size,
    file_status = "FILE_STATUS_" .. _M.file_status(file.state):upper(),
    file_attributes = attributes(file), file_tags = {}, ingested = false, file_index = index,
  }
end

local codes = {
  unauthenticated = "unauthorized", forbidden = "forbidden", conflict = "conflict", state = "conflict",
  expired = "upload_expired", too_large = "invalid_file_size", quota = "capacity_reached",
  integrity = "integrity_check_failed", unsupported = "unsupported", rate_limited = "rate_limited",
  busy = "service_busy", unavailable = "service_unavailable", database = "service_unavailable",
  store = "storage_error", network = "storage_error", tls = "storage_error", timeout = "storage_error",
  internal = "internal_error", io = "internal_error",
}

local suggestions = {
  unauthenticated = "Send a valid API key in the Authorization header.",
  busy = "Repeat the request after the time in Retry-After.",
  unavailable = "Repeat the request after the time in Retry-After.",
  database = "Repeat the request after the time in Retry-After.",
  conflict = "Look at the file's metadata; a finished file keeps its name until it is deleted.",
  integrity = "The stored bytes differ from the sent ones: upload the file again.",
  expired = "Initiate a new upload.",
}

local function code_of(err)
  if err.code == "not_found" then return err.word or "NOT_FOUND" end
  if err.code == "unsupported" and err.status == 405 then return "method_not_allowed" end
  if err.code == "unsupported" and err.status == 415 then return "unsupported_media_type" end
  if err.code == "too_large" and err.reason == "body" then return "request_too_large" end
  return codes[err.code] or (err.refused and err.code) or "invalid_parameter"
end

local function problem_code(problem)
  if problem.reason == "missing" then return "missing_parameter" end
  return problem.code or "invalid_parameter"
end

-- Each problem of several has an id of its own, all beginning with the one in the log.
local function entries(err, id)
  local suggestion = err.suggestion or suggestions[err.code]
  if err.code == "invalid" and err.problems then
    local list = {}
    for i, problem in ipairs(err.problems) do
      list[i] = { code = problem_code(problem), message = problem.message, suggestion = suggestion,
        error_uid = i == 1 and id or ("%s-%d"):format(id, i) }
    end
    return list
  end
  local code = err.code == "invalid" and problem_code { reason = err.reason, code = err.word } or code_of(err)
  return { { code = code, message = status.message(err), suggestion = suggestion, error_uid = id } }
end

--- An error in the service's shape.
-- @tparam table err
-- @tparam table ids `error`
-- @treturn table response
function _M.error(err, ids)
  return responses.json(status.of(err), { errors = json.array(entries(err, ids.error)) })
end

return _M

--- cognite's answers, made of what the broker gives, and its errors.
--
-- Fields that a file does not have are left out.
--
-- Room: service, cognite. No I/O.
-- @module longshore.service.cognite.render
local json = require "longshore.json"
local response = require "longshore.http.response"
local status = require "longshore.service.status"

local _M = {}

local to_integer = rawget(math, "tointeger") or function(n) return n end

-- Milliseconds since 1970, whole.
local function moment(seconds)
  return seconds and to_integer(math.floor(seconds * 1000 + 0.5)) or nil
end

--- A file.
-- @tparam table record of the broker
-- @tparam[opt] table more further fields
-- @treturn table
function _M.file(record, more)
  local file = {}
  for name, value in pairs(record.fields) do file[name] = value end
  file.id, file.name, file.externalId = record.id, record.name, record.external_id
  file.uploaded, file.uploadedTime = record.uploaded, moment(record.uploaded_at)
  file.createdTime, file.lastUpdatedTime = moment(record.created_at), moment(record.updated_at)
  for name, value in pairs(more or {}) do file[name] = value end
  return file
end

--- Files, as a list.
-- @tparam {table,...} records
-- @treturn table
function _M.files(records)
  local items = {}
  for i, record in ipairs(records) do items[i] = _M.file(record) end
  return json.array(items)
end

--- A reference as requests have it.
-- @tparam table reference of the broker
-- @treturn table
function _M.reference(reference)
  if reference.external_id then return { externalId = reference.external_id } end
  if reference.instance then return { instanceId = reference.instance } end
  return { id = reference.id }
end

local function references(list)
  if not list then return nil end
  local items = {}
  for i, reference in ipairs(list) do items[i] = _M.reference(reference) end
  return json.array(items)
end

--- The status of an error. A file that is not there is a mistake in the
-- request, not in the path.
-- @tparam table err
-- @treturn number
function _M.status(err)
  if err.refused and err.status then return err.status end
  if err.code == "not_found" and err.missing or err.code == "state" then return 400 end
  if err.code == "quota" then return 400 end
  if err.code == "too_large" and err.reason ~= "body" then return 400 end
  return status.of(err)
end

--- Renders an error.
-- @tparam table err
-- @treturn table response
function _M.error(err)
  local code = _M.status(err)
  local message = status.message(err)
  if err.problems and err.problems[2] then
    local texts = {}
    for i, problem in ipairs(err.problems) do texts[i] = problem.message end
    message = table.concat(texts, "; ")
  end
  return response.json(code, { error = { code = code, message = message, missing = references(err.missing),
    duplicated = references(err.duplicated) } })
end

return _M

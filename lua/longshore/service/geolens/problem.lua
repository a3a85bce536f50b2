--- How geolens says that something is wrong: `application/problem+json` with
-- `type`, `title`, `status` and `detail`.
--
-- `detail` is a string, or an object with `code` and `message` where the
-- published service has one (a busy dataset). What is wrong with a body's fields is
-- one string by default ("body.file_size: must be at least 1; ..."), or, with
-- `validation = "list"` in the configuration, the list of `{loc, msg, type}` that the
-- published page shows.
--
-- Room: service, geolens. No I/O.
-- @module longshore.service.geolens.problem
local json = require "longshore.json"
local response = require "longshore.http.response"

local _M = {}

local TITLES = {
  [400] = "Bad Request", [401] = "Unauthorized", [403] = "Forbidden", [404] = "Not Found",
  [405] = "Method Not Allowed", [408] = "Request Timeout", [409] = "Conflict", [411] = "Length Required",
  [414] = "URI Too Long", [413] = "Payload Too Large", [415] = "Unsupported Media Type",
  [422] = "Validation Error", [429] = "Too Many Requests", [500] = "Internal Server Error", [502] = "Bad Gateway",
  [503] = "Service Unavailable",
}

-- What the codes of the lower rooms mean here.
local STATUS = {
  invalid = 422, unauthenticated = 401, forbidden = 403, not_found = 404, conflict = 409, state = 400,
  expired = 400, changed = 409, cancelled = 409, too_large = 422, quota = 413, unsupported = 400, integrity = 422,
  rate_limited = 429, busy = 503, unavailable = 503, database = 503, store = 502, timeout = 502, network = 502,
  tls = 502,
}

-- What went wrong inside is in the log; a client gets one sentence.
local HIDDEN = {
  [500] = "Internal server error", [502] = "Storage service unavailable", [503] = "Service temporarily unavailable",
}

-- validate's reasons in the words of the published page.
local TYPES = {
  missing = "missing", type = "type_error", range = "value_error.range", length = "value_error.length",
  characters = "value_error.characters", format = "value_error.format", value = "value_error",
  unknown = "extra_forbidden",
}

-- "parts[0].etag" as the list {"parts", 0, "etag"}.
local function path_of(field)
  local path = {}
  for word in field:gmatch("[^%.%[%]]+") do path[#path + 1] = tonumber(word) or word end
  return path
end

-- One problem of a body, a query or a path: where it is and what it is.
local function locate(problem, root)
  local path = path_of(problem.field or "")
  table.insert(path, 1, root)
  local text = problem.message
  local prefix = (problem.field == "" and "the body" or tostring(problem.field)) .. ": "
  if text:sub(1, #prefix) == prefix then text = text:sub(#prefix + 1) end
  return path, text, TYPES[problem.reason] or "value_error"
end

local function validation(err, as_list)
  local list = err.problems or { { field = err.field, reason = err.reason, message = err.message } }
  local objects, lines = json.array {}, {}
  for i, problem in ipairs(list) do
    local path, text, kind = locate(problem, err.location or "body")
    objects[i] = { loc = json.array(path), msg = text, type = kind }
    local words = {}
    for k, word in ipairs(path) do words[k] = tostring(word) end
    lines[i] = table.concat(words, ".") .. ": " .. text
  end
  return as_list and objects or table.concat(lines, "; ")
end

--- The status of an error. Only `unsupported` says it itself (405, 415), and what a policy refused: the
-- status that an error of the object store carries is not ours.
-- @tparam table err
-- @treturn number
function _M.status(err)
  if err.refused and err.status then return err.status end
  if err.code == "unsupported" and TITLES[err.status] then return err.status end
  if err.code == "too_large" and err.reason == "body" then return 413 end
  if err.code == "quota" and err.reason == "datasets" then return 422 end
  return STATUS[err.code] or (err.refused and 403 or 500)
end

--- Renders an error.
-- @tparam table err see longshore.errors; `detail` goes out as it is, `public` says that the message of a
-- failure inside is meant for the client
-- @tparam[opt] table options `validation`: "string" (default) or "list"
-- @treturn table response
function _M.render(err, options)
  local status = _M.status(err)
  local detail = err.detail
  if detail == nil then
    if err.problems or (err.code == "invalid" and err.reason and status == 422) then
      detail = validation(err, options and options.validation == "list")
    else
      detail = not (err.public or err.refused) and HIDDEN[status] or err.message
    end
  end
  return response.json(status, {
    type = "about:blank", title = TITLES[status] or "Refused", status = status, detail = detail,
  }, { ["content-type"] = "application/problem+json" })
end

return _M

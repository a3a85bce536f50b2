--- What the clients of services share: JSON calls through the transport they
-- were given, and errors of any service read into ours.
--
-- Room: service.
-- @module longshore.service.client
local errors = require "longshore.errors"
local json = require "longshore.json"

local _M = {}

local CODES = {
  [400] = "invalid", [401] = "unauthenticated", [403] = "forbidden", [404] = "not_found", [405] = "unsupported",
  [408] = "timeout", [409] = "conflict", [410] = "not_found", [411] = "invalid", [412] = "conflict",
  [413] = "too_large", [415] = "unsupported", [422] = "invalid", [429] = "rate_limited", [501] = "unsupported",
  [503] = "unavailable", [507] = "quota",
}

-- More than enough of anybody's words.
local LONGEST = 500

local function text_of(value)
  if type(value) == "string" and value ~= "" then return value end
  if type(value) == "number" then return tostring(value) end
  return nil
end

-- The words in one entry of a list of errors.
local function entry_text(entry)
  if type(entry) ~= "table" then return text_of(entry) end
  local text = text_of(entry.message) or text_of(entry.msg) or text_of(entry.detail)
  local place = entry.loc
  if text and type(place) == "table" then
    local names = {}
    for i, name in ipairs(place) do names[i] = tostring(name) end
    text = table.concat(names, ".") .. ": " .. text
  end
  local hint = text_of(entry.suggestion) or text_of(entry.hint)
  if text and hint then text = text .. " (" .. hint .. ")" end
  return text
end

local function list_text(list)
  local texts = {}
  for _, entry in ipairs(list) do texts[#texts + 1] = entry_text(entry) end
  return texts[1] and table.concat(texts, "; ") or nil
end

--- What a decoded error body says, whatever the service: `errors[]`, `detail`
-- as string, list or object, `error` as object or string, `message`, `details`.
-- @tparam table body
-- @treturn ?string text
-- @treturn ?string code the service's own word
-- @treturn ?string id of the error at the service
function _M.read_error(body)
  local first = type(body.errors) == "table" and type(body.errors[1]) == "table" and body.errors[1] or {}
  local object = type(body.error) == "table" and body.error or type(body.detail) == "table" and body.detail or {}
  local text = type(body.errors) == "table" and list_text(body.errors)
    or entry_text(object) or type(body.detail) == "table" and list_text(body.detail)
    or text_of(body.detail) or text_of(body.message) or text_of(body.error) or text_of(body.details)
    or text_of(body.title)
  return text, text_of(first.code) or text_of(object.code) or text_of(body.code), text_of(first.error_uid)
end

-- What something else answers at a URL that is not the service's.
local NOT_OURS = { [301] = true, [302] = true, [307] = true, [308] = true, [400] = true, [404] = true, [405] = true }

--- Turns a response that is no success into an error.
-- @tparam table response
-- @tparam string what was being done, for people
-- @treturn table err `status`, `service_code`, `request_id`, `retryable`, `retry_after`
function _M.error(response, what)
  local status = response.status
  local body = json.decode(response.body or "")
  local text, code, id
  if type(body) == "table" then
    text, code, id = _M.read_error(body)
  elseif (response.headers["content-type"] or ""):find("text/plain", 1, true) then
    text = text_of((response.body:gsub("[%c%s]+", " ")))
  end
  if type(body) ~= "table" and NOT_OURS[status] then
    local location = text_of(response.headers.location)
    local doubt = "not in the words of this API; is the URL right?" .. (location and " It leads to " .. location or "")
    text = text and ("%s (%s)"):format(text, doubt) or doubt
  end
  if text and #text > LONGEST then text = text:sub(1, LONGEST) .. "..." end
  return errors.new(CODES[status] or status >= 500 and "unavailable" or "store",
    ("%s: %s answered %d%s"):format(what, "the service", status, text and ": " .. errors.redact(text) or ""), {
      status = status, service_code = code,
      request_id = id or response.headers["x-request-id"],
      retryable = (status == 408 or status == 429 or status >= 500 and status ~= 501 and status ~= 507) or nil,
      retry_after = tonumber((response.headers["retry-after"] or ""):match("^%d+$")),
    })
end

--- Sends a JSON call and reads its JSON answer.
-- @tparam function transport
-- @tparam table request `what` (for error texts), `method`, `url`, `headers`,
-- `json` (a value to send), `retry`, `timeout`, `max_response`
-- @treturn[1] any the decoded body ({} when it is empty)
-- @treturn[1] table response
-- @return[2] nil
-- @treturn[2] table err
-- @treturn[2] ?table response
function _M.call(transport, request)
  local headers = { Accept = "application/json" }
  for k, v in pairs(request.headers or {}) do headers[k] = v end
  local body
  if request.json ~= nil then
    body = json.encode(request.json)
    headers["Content-Type"] = "application/json"
  end
  local response, err = transport {
    method = request.method, url = request.url, headers = headers, body = body, retry = request.retry,
    timeout = request.timeout, max_response = request.max_response,
  }
  if not response then
    local fields = {}
    for k, v in pairs(err) do fields[k] = v end
    return nil, errors.new(err.code, ("%s: %s"):format(request.what, err.message), fields)
  end
  if response.status < 200 or response.status > 299 then
    return nil, _M.error(response, request.what), response
  end
  if not response.body:find("%S") then return {}, response end
  local value, why = json.decode(response.body)
  if value == nil then
    return nil, errors.new("store", ("%s: the service answered %d with something that is not JSON (%s)"):format(
      request.what, response.status, why.message), { status = response.status }), response
  end
  return value, response
end

--- Checks the URL of a service.
-- @tparam string url with or without the API's own path, which may stand below a prefix
-- @tparam string api the API's own path ("/api"), "" for none
-- @tparam[opt] string pattern of such a path, where others are good too ("/v[%d.]+")
-- @treturn[1] string without a slash at the end
-- @return[2] nil
-- @treturn[2] table err
function _M.base_url(url, api, pattern)
  local scheme, authority, path = url:match("^(%a[%w+.-]*)://([^/?#]+)([^?#]*)$")
  scheme = scheme and scheme:lower()
  if scheme ~= "http" and scheme ~= "https" or url:find("[%c%s]") then
    return errors.fail("invalid", "an http:// or https:// URL without query is expected", { field = "url" })
  end
  if authority:find("@", 1, true) then
    return errors.fail("invalid", "the URL must not contain a user or a password; use a token", { field = "url" })
  end
  path = path:gsub("/+$", "")
  if not path:find((pattern or api:gsub("%p", "%%%0")) .. "$") then path = path .. api end
  return scheme .. "://" .. authority .. path
end

--- Checks the token for a service, which goes into a header.
-- @param token
-- @treturn[1] string
-- @return[2] nil
-- @treturn[2] table err
function _M.token(token)
  if type(token) ~= "string" or token == "" then
    return errors.fail("unauthenticated", "a token is needed", { field = "token" })
  end
  if token:find("[^\33-\126]") then
    return errors.fail("invalid", "the token contains characters that no token has", { field = "token" })
  end
  return token
end

return _M

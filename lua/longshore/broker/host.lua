--- What a policy's hooks may ask of the broker: their `host`.
--
-- Made for each decision and bound to it: a hook reads the object of its own
-- upload and finds files of its own actor, whatever it says. See
-- `longshore.policy.contract` for what the functions are.
--
-- Room: broker.
-- @module longshore.broker.host
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"
local keys = require "longshore.policy.keys"

local _M = {}

local MAX_HEAD, MAX_URL, MAX_FETCH = 65536, 3600, 60
local MAX_RESPONSE = 1024 * 1024
local MAX_LINES, MAX_FIELDS, MAX_WORDS = 20, 20, 1000 -- of one hook in the log

-- Whether one of the allowed URLs is the beginning of this one, at a boundary.
local function is_allowed(allowed, url)
  local host = type(url) == "string" and url:match("^https?://([^/?#]+)")
  if not host or host:find("@", 1, true) or url:find("[%c%s\\]") then return false end
  -- Whoever answers may read these as steps upwards, and as separators.
  local path = url:match("^[^?#]*"):gsub("%%2[eE]", ".")
  if path:find("..", 1, true) or path:find("%%2[fF5]") or path:find("%%5[cC]") then return false end
  for _, prefix in ipairs(allowed or {}) do
    if url:sub(1, #prefix) == prefix then
      local after = url:sub(#prefix + 1, #prefix + 1)
      if after == "" or after == "/" or after == "?" or prefix:sub(-1) == "/" then return true end
    end
  end
  return false
end

-- A number that a policy gave, within bounds: what is none of them (0, as a time without an end) is the nearest.
local function within(value, usual, low, high)
  value = tonumber(value) or usual
  if value ~= value or value < low then return low end
  return math.min(value, high)
end

local function fetch(broker, request)
  assert(type(request) == "table", "a table expected")
  if not is_allowed(broker.policy.fetch, request.url) then
    return errors.fail("forbidden", "this URL is not in the configuration's policy.fetch")
  elseif not broker.transport then
    return errors.fail("unavailable", "this broker has no transport for policies")
  end
  local headers, body = {}, request.body
  -- (The transport knows bodies that are files of this machine.)
  assert(body == nil or type(body) == "string", "body: a text expected")
  assert(request.method == nil or type(request.method) == "string", "method: a text expected")
  assert(request.headers == nil or type(request.headers) == "table", "headers: a table expected")
  for name, value in pairs(request.headers or {}) do headers[tostring(name):lower()] = tostring(value) end
  if headers.host then
    return errors.fail("forbidden", "headers: the host is the URL's, which the configuration allows")
  end
  if request.json ~= nil then
    body, headers["content-type"] = json.encode(request.json), "application/json"
  end
  local response, err = broker.transport {
    method = request.method or (body and "POST" or "GET"), url = request.url, headers = headers, body = body,
    timeout = within(request.timeout, 10, 0.1, MAX_FETCH), max_response = MAX_RESPONSE,
  }
  if not response then
    err.message = errors.without_path(err.message, request.url)
    return nil, err
  end
  local answer = { status = response.status, headers = response.headers, body = response.body }
  if (response.headers["content-type"] or ""):find("^application/[%w%.%+%-]*json") then
    answer.json = json.decode(response.body)
  end
  return answer
end

-- The upload whose object the hook may read: as the store has it.
local function content(broker, context)
  local upload = context.upload
  if not upload or not upload.key then return errors.fail("state", "there is no content to look at here") end
  local provider, err = broker:provider(upload.provider)
  if not provider then return nil, err end
  return provider, upload.key
end

-- A value as the log has it: no secrets, no more than somebody reads.
local function in_short(value)
  return (errors.redact(tostring(value):sub(1, 4 * MAX_WORDS)):sub(1, MAX_WORDS))
end

--- Makes the host of one decision.
-- @tparam table broker
-- @tparam table context of the hook, as the broker made it
-- @treturn table functions by name
function _M.new(broker, context)
  local host, actor, lines = {}, context.actor, 0

  function host.now() return broker.clock.now() end

  function host.log(level, message, fields)
    local known = { debug = true, info = true, warn = true, error = true }
    lines = lines + 1
    if lines > MAX_LINES then return false end
    local given, count = {}, 0
    for name, value in pairs(type(fields) == "table" and fields or {}) do
      count = count + 1
      if count <= MAX_FIELDS then given[in_short(name)] = in_short(value) end
    end
    broker.log(known[level] and level or "info", "policy: " .. in_short(message), given)
    return true
  end

  function host.word(name) return keys.word(tostring(name)) end

  function host.sha256(text) return core.hex(core.sha256(tostring(text))) end

  function host.take(rate)
    assert(type(rate) == "table" and type(rate.limit) == "number" and rate.limit >= 1, "limit: 1 or more expected")
    assert(type(rate.seconds) == "number" and rate.seconds > 0 and rate.seconds <= 31536000, "seconds expected")
    local name = core.hex(core.sha256(tostring(rate.name or "") .. "\0" .. tostring(rate.key or "")))
    return broker.store:take_rate(name, { limit = rate.limit, seconds = rate.seconds, now = broker.clock.now() })
  end

  function host.find(query)
    if not actor then return errors.fail("state", "nobody is asking") end
    assert(type(query) == "table" and type(query.filename) == "string", "filename expected")
    local current, service = context.current, query.service or context.service
    assert(type(service) == "string", "service: a text expected")
    if service == context.service and context.service ~= "newton" then
      if current and (query.filename == context.filename or query.filename == current.filename) then return current end
      return errors.fail("not_found", "there is no finished file of this name")
    end
    local row, err = broker.store:file_by_name {
      tenant = actor.tenant, organization = actor.organization, service = service, filename = query.filename,
    }
    if not row then return nil, err end
    if row.state ~= "registered" then return errors.fail("not_found", "there is no finished file of this name") end
    return broker:view_file(row)
  end

  function host.fetch(request) return fetch(broker, request) end

  function host.head(bytes)
    bytes = math.floor(within(bytes, 512, 1, MAX_HEAD))
    local provider, key = content(broker, context)
    if not provider then return nil, key end
    if (context.size or context.upload.size) == 0 then return "" end
    return provider:get { key = key, first = 0, last = bytes - 1, max = MAX_HEAD + 1 }
  end

  function host.url(seconds)
    local provider, key = content(broker, context)
    if not provider then return nil, key end
    local grant, err = provider:sign_get { key = key, expires = math.floor(within(seconds, 300, 1, MAX_URL)) }
    if not grant then return nil, err end
    return grant.url
  end

  return host
end

return _M

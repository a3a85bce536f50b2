-- What the specs of all services share: an application in a plain script over a real
-- database and the object store in memory, whose tokens are their own description.
local config = require "longshore.config"
local errors = require "longshore.errors"
local json = require "longshore.json"
local service = require "longshore.service"
local support = require "spec.support"
local validate = require "longshore.http.validate"

local _M = {}

--- Whom a token names. `rights`: "read+upload", or nil for all but administrators'.
function _M.actor(user, organization, tenant, rights)
  if not user then return errors.fail("unauthenticated", "the token is not valid") end
  local actor = { user = user, organization = organization, tenant = tenant, rights = {}, via = "token" }
  for right in (rights or "read,upload,delete"):gmatch("%a+") do actor.rights[right] = true end
  return actor
end

--- The application of one world (spec.support.broker): its configuration has `services`; `actor_of(token)`
-- is the answer to a token; `parts`: more of the application.
-- Answers it and the configuration, which `prepare` may change before.
function _M.app(world, services, actor_of, parts, prepare)
  local settings = assert(config.check({ data = support.tmpdir(), services = services,
    cors = { origins = { "https://app.example" } } }))
  if prepare then prepare(settings) end
  local more = { broker = world.broker, tokens = { verify = function(_, token) return actor_of(token) end },
    log = function(level, message, fields)
      world.logged[#world.logged + 1] = { level = level, message = message, fields = fields }
    end }
  for k, v in pairs(parts or {}) do more[k] = v end
  return assert(service.new(settings, more)), settings
end

--- One request, with its `headers` and `more`; `value` is a table (JSON), text or nil. A JSON answer is read as `json`.
function _M.send(app, request, value, more)
  local body = value
  if type(value) == "table" then
    body = json.encode(value)
    request.headers["content-type"] = "application/json"
  end
  for name, text in pairs(more or {}) do request.headers[name] = text or nil end
  request.body = body
  local response = app:handle(request)
  if response.body and response.body:find("^[%[{]") then response.json = assert(json.decode(response.body)) end
  return response
end

--- Asserts the status.
function _M.status(response, status)
  assert(response.status == status, ("%d expected, got %d: %s"):format(status, response.status, response.body))
end

--- Asserts that a message has a pattern, if one is given.
function _M.says(text, pattern)
  assert(not pattern or text:find(pattern), ("%q is not in %q"):format(tostring(pattern), text))
end

local function strict(rule)
  local copy = {}
  for k, v in pairs(rule) do copy[k] = v end
  if rule.type == "object" then
    copy.unknown, copy.fields = "refuse", {}
    for name, field in pairs(rule.fields) do copy.fields[name] = strict(field) end
  elseif rule.type == "array" then
    copy.items = strict(rule.items)
  end
  return copy
end

--- A function that asserts that an answer has this status and the published shape of this name, nothing
-- missing or added; it returns the answer's value.
function _M.shapes(answers)
  return function(response, status, name)
    _M.status(response, status)
    local ok, err = validate.check(strict(answers[name]), response.json)
    assert(ok, name .. ": " .. tostring(err) .. "\n" .. response.body)
    return response.json
  end
end

return _M

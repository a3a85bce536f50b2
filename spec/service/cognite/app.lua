-- The cognite service in a plain script, over a real database and the object
-- store in memory, for specs. Tokens are their own description: "ann-acme" or
-- "ann-acme-harbour" (the project) or "ann-acme-harbour-read+upload".
local config = require "longshore.config"
local errors = require "longshore.errors"
local json = require "longshore.json"
local rules = require "longshore.service.cognite.rules"
local service = require "longshore.service"
local support = require "spec.support"
local validate = require "longshore.http.validate"
local worlds = require "spec.support.broker"

local _M = {}

local methods = {}
local mt = { __index = methods }

local function actor_of(token)
  local user, organization = token:match("^(%w+)%-(%w+)")
  if not user then return errors.fail("unauthenticated", "the token is not valid") end
  local rights = {}
  for right in (token:match("^%w+%-%w+%-%w+%-(.*)$") or "read,upload,delete"):gmatch("%a+") do rights[right] = true end
  return { user = user, organization = organization, tenant = token:match("^%w+%-%w+%-(%w+)") or "harbour",
    rights = rights, via = "token" }
end

--- Makes one. `settings`: of services.cognite.
function _M.new(settings)
  local self = setmetatable({}, mt)
  self.world = worlds.new { profile = { max_put = 1e9, max_part = 1e9, max_object = 1e9, min_part = 4,
    max_parts = 10000 } }
  self.config = assert(config.check({ data = support.tmpdir(), services = { cognite = settings or {} },
    cors = { origins = { "https://app.example" } } }))
  self.app = assert(service.new(self.config, { broker = self.world.broker,
    tokens = { verify = function(_, token) return actor_of(token) end },
    log = function(level, message, fields)
      self.world.logged[#self.world.logged + 1] = { level = level, message = message, fields = fields }
    end }))
  return self
end

--- One request below `files`: `value` is a table (JSON), text or nil; `more`: token
-- (false: none), project, headers, method.
function methods:send(path, value, more)
  more = more or {}
  local headers = {}
  if more.token ~= false then headers.authorization = "Bearer " .. (more.token or "ann-acme") end
  local body = value
  if type(value) == "table" then
    body = json.encode(value)
    headers["content-type"] = "application/json"
  end
  for name, text in pairs(more.headers or {}) do headers[name] = text or nil end
  local response = self.app:handle { method = more.method or "POST", headers = headers, body = body,
    target = ("/api/v1/projects/%s/files%s"):format(more.project or "harbour", path) }
  if response.body and response.body:find("^[%[{]") then response.json = assert(json.decode(response.body)) end
  return response
end

--- Asserts an error of this status; returns the object.
function _M.refused(response, status, pattern)
  assert(response.status == status, ("%d expected, got %d: %s"):format(status, response.status, response.body))
  local err = response.json and response.json.error
  assert(err and err.code == status and type(err.message) == "string" and err.message ~= "", response.body)
  assert(response.headers["x-request-id"], "no x-request-id")
  assert(not pattern or err.message:find(pattern), ("%q is not in %q"):format(tostring(pattern), err.message))
  local ok, why = validate.check(rules.answers.Error, response.json)
  assert(ok, tostring(why))
  return err
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

--- Asserts that an answer has the documented shape, nothing missing or added.
function _M.shape(response, status, name)
  assert(response.status == status, ("%d expected, got %d: %s"):format(status, response.status, response.body))
  local ok, err = validate.check(strict(rules.answers[name]), response.json)
  assert(ok, name .. ": " .. tostring(err) .. "\n" .. response.body)
  return response.json
end

--- A file with content.
function methods:file(fields, body, more)
  local given = { name = "a.txt" }
  for k, v in pairs(fields or {}) do given[k] = v end
  local started = _M.shape(self:send("", given, more), 201, "FileWithUrl")
  assert(self.world.provider:client_put(started.uploadUrl, body or "hello") == 200)
  self.world.clock.advance(1)
  return started
end

return _M

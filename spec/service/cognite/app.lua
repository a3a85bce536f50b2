-- The cognite service in a plain script, over a real database and the object
-- store in memory, for specs. Tokens are their own description: "ann-acme" or
-- "ann-acme-harbour" (the project) or "ann-acme-harbour-read+upload".
local rules = require "longshore.service.cognite.rules"
local services = require "spec.support.service"
local validate = require "longshore.http.validate"
local worlds = require "spec.support.broker"

local _M = {}

local methods = {}
local mt = { __index = methods }

local function actor_of(token)
  local user, organization = token:match("^(%w+)%-(%w+)")
  return services.actor(user, organization, token:match("^%w+%-%w+%-(%w+)") or "harbour",
    token:match("^%w+%-%w+%-%w+%-(.*)$"))
end

--- Makes one. `settings`: of services.cognite.
function _M.new(settings)
  local self = setmetatable({}, mt)
  self.world = worlds.new { profile = { max_put = 1e9, max_part = 1e9, max_object = 1e9, min_part = 4,
    max_parts = 10000 } }
  self.app, self.config = services.app(self.world, { cognite = settings or {} }, actor_of)
  return self
end

--- One request below `files`: `value` is a table (JSON), text or nil; `more`: token
-- (false: none), project, headers, method.
function methods:send(path, value, more)
  more = more or {}
  local headers = {}
  if more.token ~= false then headers.authorization = "Bearer " .. (more.token or "ann-acme") end
  return services.send(self.app, { method = more.method or "POST", headers = headers,
    target = ("/api/v1/projects/%s/files%s"):format(more.project or "harbour", path) }, value, more.headers)
end

--- Asserts an error of this status; returns the object.
function _M.refused(response, status, pattern)
  services.status(response, status)
  local err = response.json and response.json.error
  assert(err and err.code == status and type(err.message) == "string" and err.message ~= "", response.body)
  assert(response.headers["x-request-id"], "no x-request-id")
  services.says(err.message, pattern)
  local ok, why = validate.check(rules.answers.Error, response.json)
  assert(ok, tostring(why))
  return err
end

--- Asserts that an answer has the documented shape, nothing missing or added; returns its value.
_M.shape = services.shapes(rules.answers)

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

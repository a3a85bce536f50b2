-- The geolens service in a plain script, over a real database and the object
-- store in memory, for specs. Tokens are their own description: "ann-acme" or
-- "ann-acme-read+upload"; `world`, `send`, `refused`, `shape` and the steps of an
-- upload are shared.
local config = require "longshore.config"
local errors = require "longshore.errors"
local json = require "longshore.json"
local rules = require "longshore.service.geolens.rules"
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
  for right in (token:match("%-%w+%-(.*)$") or "read,upload,delete"):gmatch("%a+") do rights[right] = true end
  return { user = user, organization = organization, tenant = "default", rights = rights, via = "token" }
end

--- Makes one. `settings`: of services.geolens.
function _M.new(settings)
  local self = setmetatable({}, mt)
  self.world = worlds.new { profile = { max_put = 1e9, max_part = 1e9, max_object = 1e9, min_part = 1 } }
  local given = { threshold = 100, max_size = 1000 }
  for k, v in pairs(settings or {}) do given[k] = v end
  self.config = assert(config.check({ data = support.tmpdir(), services = { geolens = given },
    cors = { origins = { "https://app.example" } } }))
  if not (settings and settings.part_size) then self.config.services.geolens.part_size = 40 end
  self.app = assert(service.new(self.config, { broker = self.world.broker,
    tokens = { verify = function(_, token) return actor_of(token) end },
    log = function(level, message, fields)
      self.world.logged[#self.world.logged + 1] = { level = level, message = message, fields = fields }
    end }))
  return self
end

--- One request: `value` is a table (JSON), text or nil; `more`: token (false:
-- none), headers, prefix.
function methods:send(method, path, value, more)
  more = more or {}
  local headers = {}
  if more.token ~= false then headers.authorization = "Bearer " .. (more.token or "ann-acme") end
  local body = value
  if type(value) == "table" then
    body = json.encode(value)
    headers["content-type"] = "application/json"
  end
  for name, text in pairs(more.headers or {}) do headers[name] = text or nil end
  local response = self.app:handle { method = method, target = (more.prefix or "/api/") .. path, headers = headers,
    body = body }
  if response.body and response.body:find("^[%[{]") then response.json = assert(json.decode(response.body)) end
  return response
end

--- Asserts a problem of this status; returns its detail.
function _M.refused(response, status, pattern)
  assert(response.status == status, ("%d expected, got %d: %s"):format(status, response.status, response.body))
  assert(response.headers["content-type"] == "application/problem+json", response.headers["content-type"])
  local problem = response.json
  assert(problem and problem.type == "about:blank" and problem.status == status, response.body)
  assert(type(problem.title) == "string" and problem.title ~= "" and problem.detail ~= nil, response.body)
  if pattern then
    local text = type(problem.detail) == "string" and problem.detail or json.encode(problem.detail)
    assert(text:find(pattern), ("%q is not in %q"):format(pattern, text))
  end
  return problem.detail
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

--- Asserts that an answer has the published shape, nothing missing or added.
function _M.shape(response, status, name)
  assert(response.status == status, ("%d expected, got %d: %s"):format(status, response.status, response.body))
  local ok, err = validate.check(strict(rules.answers[name]), response.json)
  assert(ok, name .. ": " .. tostring(err))
  return response.json
end

--- A dataset of ann's, made through the API.
function methods:new_dataset(body, commit, more)
  body = body or "id\n1\n"
  local started = self:send("POST", "ingest/upload/presigned",
    { filename = "old.csv", file_size = #body, content_type = "text/csv" }, more)
  assert(started.status == 201, started.body)
  self:put(started.json, body, "text/csv")
  local job = started.json.job_id
  local done = self:send("POST", ("ingest/upload/presigned/%s/complete"):format(job), { parts = json.array {} }, more)
  assert(done.status == 200, done.body)
  local r = { title = "Piers" }
  for k, v in pairs(commit or {}) do r[k] = v end
  assert(self:send("POST", "ingest/commit/" .. job, r, more).status == 202)
  return self:send("GET", "jobs/" .. job, nil, more).json.dataset_id
end

--- PUTs to the URLs of a start as the official web client does; its parts.
function methods:put(started, body, content_type)
  local parts = json.array {}
  if not started.part_size or started.part_size == json.null then
    local status = self.world.provider:client_put(started.urls[1], body, content_type)
    assert(status == 200, status)
    return parts
  end
  for i, url in ipairs(started.urls) do
    local status, etag = self.world.provider:client_put(url,
      body:sub((i - 1) * started.part_size + 1, i * started.part_size))
    assert(status == 200, status)
    parts[i] = { etag = etag, part_number = i }
  end
  return parts
end

return _M

-- The geolens service in a plain script, over a real database and the object
-- store in memory, for specs. Tokens are their own description: "ann-acme" or
-- "ann-acme-read+upload"; `world`, `send`, `refused`, `shape` and the steps of an
-- upload are shared.
local json = require "longshore.json"
local rules = require "longshore.service.geolens.rules"
local services = require "spec.support.service"
local worlds = require "spec.support.broker"

local _M = {}

local methods = {}
local mt = { __index = methods }

local function actor_of(token)
  local user, organization = token:match("^(%w+)%-(%w+)")
  return services.actor(user, organization, "default", token:match("%-%w+%-(.*)$"))
end

--- Makes one. `settings`: of services.geolens.
function _M.new(settings)
  local self = setmetatable({}, mt)
  self.world = worlds.new { profile = { max_put = 1e9, max_part = 1e9, max_object = 1e9, min_part = 1 } }
  local given = { threshold = 100, max_size = 1000 }
  for k, v in pairs(settings or {}) do given[k] = v end
  self.app, self.config = services.app(self.world, { geolens = given }, actor_of, nil, function(settled)
    if not (settings and settings.part_size) then settled.services.geolens.part_size = 40 end
  end)
  return self
end

--- One request: `value` is a table (JSON), text or nil; `more`: token (false:
-- none), headers, prefix.
function methods:send(method, path, value, more)
  more = more or {}
  local headers = {}
  if more.token ~= false then headers.authorization = "Bearer " .. (more.token or "ann-acme") end
  return services.send(self.app, { method = method, target = (more.prefix or "/api/") .. path, headers = headers },
    value, more.headers)
end

--- Asserts a problem of this status; returns its detail.
function _M.refused(response, status, pattern)
  services.status(response, status)
  assert(response.headers["content-type"] == "application/problem+json", response.headers["content-type"])
  local problem = response.json
  assert(problem and problem.type == "about:blank" and problem.status == status, response.body)
  assert(type(problem.title) == "string" and problem.title ~= "" and problem.detail ~= nil, response.body)
  services.says(type(problem.detail) == "string" and problem.detail or json.encode(problem.detail), pattern)
  return problem.detail
end

--- Asserts that an answer has the published shape, nothing missing or added; returns its value.
_M.shape = services.shapes(rules.answers)

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

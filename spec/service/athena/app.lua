-- The athena service in a plain script, over a real database and the object store
-- in memory, for specs. Tokens are their own description: "ann-acme-north", with rights as
-- "ann-acme-north-read+upload"; clients north and south, each with a catalog of its own.
local areas = require "longshore.config.areas"
local config = require "longshore.config"
local errors = require "longshore.errors"
local fake = require "spec.support.fake_provider"
local json = require "longshore.json"
local rules = require "longshore.service.athena.rules"
local service = require "longshore.service"
local support = require "spec.support"
local validate = require "longshore.http.validate"
local worlds = require "spec.support.broker"

local _M = {}

local methods = {}
local mt = { __index = methods }

_M.CATALOG, _M.SOUTH = areas.catalog_id "north", areas.catalog_id "south"
_M.KEY = ("0123456789abcdef"):rep(4)

local function actor_of(token)
  local user, organization, tenant, rest = token:match("^(%w+)%-(%w+)%-(%w+)(.*)$")
  if not user then return errors.fail("unauthenticated", "the token is not valid") end
  local rights = {}
  for right in (rest ~= "" and rest or "read,upload,delete"):gmatch("%a+") do rights[right] = true end
  return { user = user, organization = organization, tenant = tenant, rights = rights, via = "token" }
end

--- Makes one. `settings`: of services.athena; `parts`: of the application.
function _M.new(settings, parts)
  local self = setmetatable({}, mt)
  self.world = worlds.new { profile = { max_put = 1e9, max_part = 1e9, max_object = 1e9, min_part = 1,
    encryption = { "AES256", "aws:kms" }, title = "the fake store",
    name = "fake" } }
  local given = { clients = { north = { bucket = "default" }, south = { bucket = "default" } },
    default_client = "north", keys = { { id = "k1", key = _M.KEY } } }
  for k, v in pairs(settings or {}) do given[k] = v end
  self.config = assert(config.check({ data = support.tmpdir(), services = { athena = given },
    cors = { origins = { "https://app.example" } } }))
  self.config.services.athena.clients.south.store.synchronous = "OFF"
  self.made = {} -- the stores of catalogs that administrators made, by bucket
  local more = { broker = self.world.broker, tokens = { verify = function(_, token) return actor_of(token) end },
    make_provider = function(options)
      local outer = self.made[options.bucket] or fake.new { clock = self.world.clock, name = options.bucket }
      self.made[options.bucket] = outer
      outer.options = options
      local provider = outer:below(options.prefix or "", options.name)
      rawset(provider, "bucket", options.bucket)
      return provider
    end,
    log = function(level, message, fields)
      self.world.logged[#self.world.logged + 1] = { level = level, message = message, fields = fields }
    end }
  for k, v in pairs(parts or {}) do more[k] = v end
  self.app = assert(service.new(self.config, more))
  support.defer(function() self.app:close() end)
  return self
end

--- One request: `value` is a table (JSON), text or nil; `more`: token (false: none), client, headers, remote.
function methods:send(method, path, value, more)
  more = more or {}
  local token = more.token == nil and "ann-acme-north" or more.token
  local headers = { ["x-athena-client"] = more.client or (token and token:match("^%w+%-%w+%-(%w+)")) or "north" }
  if more.client == false then headers["x-athena-client"] = nil end
  if token then headers["x-athena-auth-session-token"] = token end
  local body = value
  if type(value) == "table" then
    body = json.encode(value)
    headers["content-type"] = "application/json"
  end
  for name, text in pairs(more.headers or {}) do headers[name] = text or nil end
  local response = self.app:handle { method = method, target = "/storage/" .. path, headers = headers, body = body,
    remote_addr = more.remote or "192.0.2.7" }
  if response.body and response.body:find("^[%[{]") then response.json = assert(json.decode(response.body)) end
  return response
end

--- Asserts an error of the documented shape; returns its message.
function _M.refused(response, status, pattern)
  assert(response.status == status, ("%d expected, got %d: %s"):format(status, response.status, response.body))
  local body = response.json
  assert(body and body.status == "error" and type(body.message) == "string" and type(body.error) == "string"
    and type(body.code) == "string", response.body)
  if pattern then assert(body.message:find(pattern), ("%q is not in %q"):format(pattern, body.message)) end
  return body.message
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

--- Asserts that an answer has the published shape; returns its data.
function _M.shape(response, status, name)
  assert(response.status == status, ("%d expected, got %d: %s"):format(status, response.status, response.body))
  local ok, err = validate.check(strict(rules.answers[name]), response.json)
  assert(ok, name .. ": " .. tostring(err))
  return response.json.data or response.json
end

--- An upload request.
function _M.request(key, fields)
  local r = { s3_id = _M.CATALOG, storage_key = key, content_type = "text/plain" }
  for k, v in pairs(fields or {}) do r[k] = v end
  return r
end

--- Uploads as the SDK does: upload-url, then the PUT. The file and the upload of the answer.
function methods:upload(key, body, fields, more)
  local r = _M.request(key, { size_bytes = #body })
  for k, v in pairs(fields or {}) do r[k] = v end
  local data = _M.shape(self:send("POST", "files/upload-url", r, more), 201, "Upload")
  local status = self.world.provider:client_put(data.upload.url, body)
  assert(status == 200, status)
  return data.file, data.upload
end

--- The content of a file, by its download URL; nil and the answer when there is none.
function methods:content(id, more)
  local answer = self:send("GET", ("files/%s/url?purpose=download"):format(id), nil, more)
  if answer.status ~= 200 then return nil, answer end
  local key = answer.json.data.url:match("^http://store.test/(.*)$")
  return self.world.provider.objects[key].body
end

return _M

-- The athena service in a plain script, over a real database and the object store
-- in memory, for specs. Tokens are their own description: "ann-acme-north", with rights as
-- "ann-acme-north-read+upload"; clients north and south, each with a catalog of its own.
local areas = require "longshore.config.areas"
local fake = require "spec.support.fake_provider"
local rules = require "longshore.service.athena.rules"
local services = require "spec.support.service"
local support = require "spec.support"
local worlds = require "spec.support.broker"

local _M = {}

local methods = {}
local mt = { __index = methods }

_M.CATALOG, _M.SOUTH = areas.catalog_id "north", areas.catalog_id "south"
_M.KEY = ("0123456789abcdef"):rep(4)

local function actor_of(token)
  local user, organization, tenant, rest = token:match("^(%w+)%-(%w+)%-(%w+)(.*)$")
  return services.actor(user, organization, tenant, rest ~= "" and rest or nil)
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
  self.made = {} -- the stores of catalogs that administrators made, by bucket
  local more = {
    make_provider = function(options)
      local outer = self.made[options.bucket] or fake.new { clock = self.world.clock, name = options.bucket }
      self.made[options.bucket] = outer
      outer.options = options
      local provider = outer:below(options.prefix or "", options.name)
      rawset(provider, "bucket", options.bucket)
      return provider
    end,
  }
  for k, v in pairs(parts or {}) do more[k] = v end
  self.app, self.config = services.app(self.world, { athena = given }, actor_of, more, function(settled)
    settled.services.athena.clients.south.store.synchronous = "OFF"
  end)
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
  return services.send(self.app, { method = method, target = "/storage/" .. path, headers = headers,
    remote_addr = more.remote or "192.0.2.7" }, value, more.headers)
end

--- Asserts an error of the documented shape; returns its message.
function _M.refused(response, status, pattern)
  services.status(response, status)
  local body = response.json
  assert(body and body.status == "error" and type(body.message) == "string" and type(body.error) == "string"
    and type(body.code) == "string", response.body)
  services.says(body.message, pattern)
  return body.message
end

local shape = services.shapes(rules.answers)

--- Asserts that an answer has the published shape; returns its data.
function _M.shape(response, status, name)
  local value = shape(response, status, name)
  return value.data or value
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

-- A broker over a store in a temporary folder and the store in memory, with a
-- clock that stands still; and the client's side of an upload.
local support = require "spec.support"
local clock = require "longshore.clock"
local core = require "longshore.core"
local fake = require "spec.support.fake_provider"
local policy = require "longshore.policy"

local _M = {}

-- A whole CRC32C as the uploader would announce it.
function _M.crc32c(body) return core.crc32c(body) end

function _M.actor(fields)
  local actor = {
    user = "ann", organization = "acme", tenant = "default", via = "token",
    rights = { read = true, upload = true, delete = true },
  }
  for k, v in pairs(fields or {}) do actor[k] = v end
  return actor
end

local methods = {}
local mt = { __index = methods }

--- A world: `store`, `provider`, `clock`, `broker`, `logged`.
-- `options`: policy (options), rules, profile, provider, store, path, broker (options)
function _M.new(options)
  options = options or {}
  local self = setmetatable({ logged = {}, options = options }, mt)
  self.clock = options.clock or clock.fixed(1700000000)
  self.provider = options.provider or fake.new { clock = self.clock, profile = options.profile }
  self.path = options.path or support.tmpdir() .. "/longshore.db"
  self.store = options.store or assert(require("longshore.store").open {
    path = self.path, synchronous = "OFF", busy_timeout = options.busy_timeout,
  })
  self.broker = self:new_broker()
  support.defer(function() self.store:close() end)
  return self
end

-- Another broker on the same store, as another process would have.
function methods:new_broker(store)
  local settings = { part_size = 4, rules = self.options.rules }
  for k, v in pairs(self.options.policy or {}) do settings[k] = v end
  settings.log = function(level, message, fields)
    self.logged[#self.logged + 1] = { level = level, message = message, fields = fields }
  end
  return require("longshore.broker").new {
    store = store or self.store, providers = self.options.providers or { default = self.provider },
    clock = self.clock, transport = self.options.transport,
    policy = assert(policy.new(settings)), log = settings.log, options = self.options.broker,
  }
end

function methods:initiate(body, fields)
  local request = { service = "newton", filename = "a.bin", content_type = "video/mp4", size = #body }
  for k, v in pairs(fields or {}) do request[k] = v end
  return self.broker:initiate(self.actor or _M.actor(), request)
end

--- PUTs parts as a client does; a list of {number=, token=}.
function methods:put(urls, body)
  local parts = {}
  for i, part in ipairs(urls) do
    local status, etag = self.provider:client_put(part.url, body:sub(part.offset + 1, part.offset + part.length))
    assert(status == 200, status)
    parts[i] = { number = part.number, token = etag }
  end
  return parts
end

--- Initiates and PUTs everything: upload, parts.
function methods:upload(body, fields)
  local upload = assert(self:initiate(body, fields))
  local urls = assert(self.broker:part_urls(self.actor or _M.actor(), upload.id))
  return upload, self:put(urls, body)
end

--- Runs the janitor, now and after every wait it could have, until nothing is pending.
function methods:sweep(broker)
  local reports = {}
  for i = 1, 12 do
    reports[i] = (broker or self.broker):janitor()
    if reports[i].pending == 0 and reports[i].errors == 0 and i > 1 then break end
    self.clock.advance(5000)
  end
  return reports
end

return _M

--- Direct-to-cloud uploads: the public face.
--
--     local longshore = require "longshore"
--
--     -- A URL that lets its holder do one thing with one object.
--     local url = assert(longshore.presign { method = "PUT", url = "s3://bucket/key", expires = 900,
--       endpoint = "https://s3.example.com", access_key = "...", secret_key = "..." })
--
--     -- A file to a broker, or straight to a bucket; in parallel parts, resumable.
--     local result = assert(longshore.upload { path = "video.mp4", to = "http://127.0.0.1:8080", token = "ls_..." })
--
--     -- And back.
--     assert(longshore.download { id = result.file_id, from = "http://127.0.0.1:8080", token = "ls_...",
--       path = "copy.mp4" })
--
--     -- The broker itself, without nginx.
--     local app = assert(longshore.app { data = "/var/lib/longshore" })
--     local upload = assert(app.broker:initiate(actor, { service = "newton", filename = "a", size = 5 }))
--
-- What can fail returns `nil, err` (longshore.errors); what a programmer got
-- wrong raises. Nothing is loaded before it is used, and no `require` does I/O:
-- signing needs no database, and `longshore.uploader`, `longshore.errors`,
-- `longshore.json`, `longshore.policy` ... are the modules of those names.
--
-- Room: above the others, for scripts.
-- @module longshore
local _M = {}

local modules = {
  broker = "longshore.broker", clock = "longshore.clock", config = "longshore.config", core = "longshore.core",
  errors = "longshore.errors", json = "longshore.json", plan = "longshore.plan", policy = "longshore.policy",
  service = "longshore.service", store = "longshore.store", uploader = "longshore.uploader",
}

setmetatable(_M, { __index = function(self, name)
  local module = modules[name]
  if not module then return nil end
  local loaded = require(module)
  rawset(self, name, loaded)
  return loaded
end })

-- What a programmer got wrong is told of where the call stands.
local function checked(call, options)
  local ok, first, second = pcall(require("longshore.options")[call], options)
  if not ok then error(first, 3) end
  return first, second
end

-- The store behind an endpoint is known by its host, unless it was said.
local function with_profile(settings)
  local given = {}
  for name, value in pairs(settings) do given[name] = value end
  given.profile = given.profile or require("longshore.uploader.s3").profile_of(given.endpoint)
  return given
end

--- A bucket of an S3-compatible store.
-- @tparam table options of `longshore.provider.s3`: `bucket`, `endpoint`, `region`, `profile` (by default what the
-- endpoint's host says), `access_key`, `secret_key`, `session_token`, `prefix` ...
-- @treturn table provider
-- @treturn[2] nil
-- @treturn[2] table err
function _M.bucket(options)
  checked("bucket", options)
  return require("longshore.provider.s3").new(with_profile(options))
end

--- Signs a URL; nothing is sent anywhere.
-- @tparam table options `url` ("s3://bucket/key", the key not encoded) or `bucket` and `key`; `method` ("GET"),
-- `expires` (seconds, 3600), `headers` (signed: the request must have them), `query`, `length` (of the body: no other
-- is accepted); and those of `bucket`
-- @treturn string url
-- @treturn table `method`, `url`, `headers` to send, `expires_at`
-- @treturn[2] nil
-- @treturn[2] table err
function _M.presign(options)
  local settings, key = checked("presign", options)
  local provider, err = require("longshore.provider.s3").new(with_profile(settings))
  if not provider then return nil, err end
  local grant
  grant, err = provider:sign_url { method = options.method or "GET", key = key, expires = options.expires or 3600,
    headers = options.headers, query = options.query, length = options.length }
  if not grant then return nil, err end
  return grant.url, grant
end

-- An uploader over the driver of a place.
local function uploader_for(module, settings, options, parallel)
  if module == "longshore.uploader.s3" then settings = with_profile(settings) end
  local driver, err = require(module).new(settings)
  if not driver then return nil, err end
  return require("longshore.uploader").new { driver = driver, parallel = parallel,
    journal = options.journal, restart = options.restart, recheck = options.recheck, attempts = options.attempts,
    interrupted = options.interrupted, engine = options.engine, on_event = options.on_event }
end

--- Uploads a file and waits until it is there, checked.
--
-- Besides, geolens takes `dataset`, or for a new one `title`, `summary`, `visibility`, `srid`, `layer`; athena
-- `client`, `key`, `catalog`, `bucket`, `prefix`, `visibility`; cognite `external_id`, `overwrite`, `directory`; a
-- bucket `profile`, `path_style`, `session_token`, `credentials`, `expires`, `no_clobber`; and athena, cognite and a
-- bucket `part_size` and `threshold`.
-- @tparam table options `path`; `to`: a broker ("http://...", with `token`, and `service`: "newton" unless it is
-- "geolens", "cognite" or "athena") or a bucket ("s3://bucket/prefix", with `endpoint`,
-- `region`, `access_key`, `secret_key` ...); `name` (the file's), `content_type`, `metadata`, `parallel` (by
-- default found by trying, 4 to 16), `journal` (true or a folder: a later call resumes), `restart` (aborts what the
-- journal has instead), `recheck`, `attempts` (10), `interrupted()` (asked often; true stops, to be resumed),
-- `on_event`, `engine` (options of the transfer engine)
-- @treturn table result of `longshore.uploader`
-- @treturn[2] nil
-- @treturn[2] table err
function _M.upload(options)
  local driver, settings = checked("upload", options)
  local uploader, err = uploader_for(driver, settings, options, options.parallel)
  if not uploader then return nil, err end
  local result
  result, err = uploader:put { path = options.path, name = options.name, content_type = options.content_type,
    metadata = options.metadata }
  uploader:close()
  return result, err
end

--- Reads a file back: ranges in parallel, in place only when it is whole and checked.
-- @tparam table options `id` (a file's id; a key) and `from`: a broker (with `token`, `service`) or
-- "s3://bucket/prefix", as for `upload`; `path` (where to; default: the file's own name), `overwrite`, `parallel` (4),
-- `on_progress(received, size)`, `attempts`, `interrupted()`, `engine`
-- @treturn table `{path, bytes, crc32c, compared, seconds}`
-- @treturn[2] nil
-- @treturn[2] table err
function _M.download(options)
  local driver, settings = checked("download", options)
  local uploader, err = uploader_for(driver, settings, options, options.parallel or 4)
  if not uploader then return nil, err end
  local result
  result, err = uploader:get { id = options.id, path = options.path, overwrite = options.overwrite,
    on_progress = options.on_progress }
  uploader:close()
  return result, err
end

-- Nothing but the folder, or nothing at all: the broker that serves from it.
local function settings_of(config)
  if config ~= nil and type(config) ~= "string" and type(config) ~= "table" then
    error(("app: the path of a configuration or a table expected, got %s"):format(type(config)), 3)
  end
  if type(config) == "string" then return _M.config.load(config) end
  local given = config or {}
  local first = next(given)
  if first == nil or first == "data" and type(given.data) == "string" and next(given, first) == nil then
    local found = _M.config.served(given.data)
    if found then return found end
  end
  if not config then return _M.config.load() end
  return _M.config.check(config)
end

--- The application of a configuration: `app.broker`, `app.tokens`, `app:handle(request)`, `app:close()`.
-- @tparam[opt] string|table config the path of a configuration file, or what such a file returns. Where that says no
-- more than `data`, it is the configuration that `longshore serve` last ran with in that folder.
-- @tparam[opt] table parts of `longshore.service.new`
-- @treturn table app
-- @treturn[2] nil
-- @treturn[2] table err
function _M.app(config, parts)
  local settings, err = settings_of(config)
  if not settings then return nil, err end
  return _M.service.new(settings, parts)
end

--- The CRC32C of a string, or of what came before and the string.
-- @tparam string data
-- @tparam[opt=0] number crc of what came before
-- @treturn number
function _M.crc32c(data, crc)
  return _M.core.crc32c(data, crc)
end

--- The CRC32C of a file or a range of it.
-- @tparam string path
-- @tparam[opt] table options `offset`, `length`, `threads`
-- @treturn number crc
-- @treturn number bytes
-- @treturn[2] nil
-- @treturn[2] table err
function _M.crc32c_file(path, options)
  return _M.core.crc32c_file(path, options)
end

--- The base64 form of a CRC32C, as stores and services use it.
-- @tparam number crc
-- @treturn string
function _M.crc32c_base64(crc)
  return _M.core.crc32c_base64(crc)
end

return _M

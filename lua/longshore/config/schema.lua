--- What a configuration may say, its defaults, and what follows from it.
--
-- Room: shared ground. `complete` reads the disk store's generated credentials.
-- @module longshore.config.schema
local areas = require "longshore.config.areas"
local clients = require "longshore.config.clients"
local errors = require "longshore.errors"

local _M = {}

local MiB, GiB, TiB = 1048576, 1073741824, 1099511627776

local function address(value)
  local host, port = value:match("^(.+):(%d+)$")
  if not host then return nil, ("host:port is expected, for example 127.0.0.1:8080; got %q"):format(value) end
  if not host:find("^[%w%.%-]+$") and not host:find("^%[[%x:%.]+%]$") then
    return nil, ("%q is not a host or an address (IPv6 goes in brackets)"):format(host)
  end
  if tonumber(port) < 1 or tonumber(port) > 65535 then
    return nil, ("port %s is not between 1 and 65535"):format(port)
  end
  return true
end

local function endpoint(value)
  if not value:find("^https?://[^/?#%s]+[^?#%s]*$") then
    return nil, ("a URL such as https://s3.example.com is expected, got %q"):format(
      (errors.redact(value):gsub("//[^/@]*@", "//...@")))
  end
  if value:find("^https?://[^/]*@") then return nil, "a URL must not carry a user or a password" end
  return true
end

local function origin(value)
  if value == "*" or value:find("^https?://[^/?#%s]+/?$") then return true end
  return nil, ("an origin such as https://app.example.com or * is expected, got %q"):format(value)
end

local function bucket_name(value)
  if #value >= 3 and #value <= 63 and value:find("^[%l%d][%l%d%.%-]*[%l%d]$") and not value:find("..", 1, true) then
    return true
  end
  return nil, ("a bucket name has 3 to 63 of a-z, 0-9, . and -, got %q"):format(value)
end

-- What nginx's allow takes.
local function network(value)
  if value == "all" or value == "unix:" or value:find("^[%d%.]+/?%d*$") or value:find("^[%x:%.]+/?%d*$") then
    return true
  end
  return nil, ("an address or a network such as 10.0.0.0/8 is expected, got %q"):format(value)
end

local function text(more)
  local rule = { kind = "string", optional = true }
  for key, value in pairs(more or {}) do rule[key] = value end
  return rule
end

local function seconds(default, max)
  return { kind = "integer", default = default, min = 1, max = max }
end

local function size(default, max)
  return { kind = "integer", default = default, min = 1, max = max or 2 ^ 53 - 1 }
end

local tls = { kind = "table", optional = true, fields = {
  certificate = { kind = "string", required = true },
  key = { kind = "string", required = true },
} }

local function origins(default)
  return { kind = "table", fields = {
    origins = { kind = "list", default = default, each = { kind = "string", check = origin } },
    max_age = { kind = "integer", default = 600, min = 0, max = 86400 },
  } }
end

local credentials = { kind = "table", fields = {
  access_key = { kind = "string", required = true },
  secret_key = { kind = "string", required = true, secret = true },
} }

local function store_rule(more)
  local rule = { kind = "table", fields = {
    type = { kind = "string", default = "sqlite", one_of = { "sqlite", "postgres" } },
    path = text(),                                                            -- sqlite
    synchronous = text { one_of = { "OFF", "NORMAL", "FULL", "EXTRA" } },
    busy_timeout = { kind = "integer", optional = true, min = 0, max = 3600 }, -- seconds
    database = text(), user = text(), password = text { secret = true },      -- postgres
    host = text(),
    port = { kind = "integer", optional = true, min = 1, max = 65535 },
  } }
  for key, value in pairs(more or {}) do rule[key] = value end
  return rule
end

local function trusted_address(value)
  if value:find("^%d+%.%d+%.%d+%.%d+$") or value:find("^[%x:]+:[%x:%.]*$") then return true end
  return nil, ("an IP address is expected, got %q"):format(value)
end

local function seal_key(value)
  if value:find("^%x+$") and #value == 64 then return true end
  return nil, "64 hexadecimal digits are expected (openssl rand -hex 32)"
end

local function key_name(value)
  if value:find("^[%w%-_%.]+$") and #value <= 64 then return true end
  return nil, "a name of letters, digits, -, _ and . is expected"
end

-- One key of a token's signer: a shared secret, or a public key in PEM.
local jwt_key = { kind = "table", fields = {
  kid = text(),
  algorithm = { kind = "string", required = true, one_of = { "HS256", "RS256", "ES256", "EdDSA" } },
  secret = text { secret = true },
  pem = text { lines = true },
} }

local jwt = { kind = "table", optional = true, fields = {
  keys = { kind = "list", optional = true, min = 1, each = jwt_key },
  jwks = text(),                                                              -- a path or a URL
  algorithms = { kind = "list", optional = true, min = 1, each = { kind = "string",
    one_of = { "RS256", "ES256", "EdDSA" } } },                               -- of keys from `jwks`
  ca_file = text(),
  cache_seconds = seconds(600, 86400),
  issuer = { kind = "string", required = true },
  audience = { kind = "string", required = true },
  skew = { kind = "integer", default = 60, min = 0, max = 600 },
  user = { kind = "string", default = "sub" },                                -- names of claims
  organization = { kind = "string", default = "org" },
  tenant = text(),
  rights = { kind = "string", default = "scope" },
} }

_M.rules = { kind = "table", fields = {
  data = { kind = "string", default = "./longshore-data" },
  broker = { kind = "table", fields = {
    listen = { kind = "string", default = "127.0.0.1:8080", check = address },
    public_url = text { check = endpoint },
    workers = { kind = "integer", default = 1, min = 1, max = 256 },
    threads = { kind = "integer", default = 8, min = 1, max = 256 },
    queue = { kind = "integer", default = 256, min = 0, max = 65536 },
    queue_seconds = seconds(30, 3600),
    max_body = size(8 * MiB, 256 * MiB),
    cache_seconds = { kind = "integer", default = 2, min = 0, max = 60 },      -- see longshore.nginx.near
    janitor_seconds = { kind = "integer", default = 300, min = 0, max = 86400 },
    outbox_seconds = { kind = "integer", default = 1, min = 0, max = 3600 },
    metrics_allow = { kind = "list", default = { "127.0.0.1", "::1" }, each = { kind = "string", check = network } },
    rate = { kind = "table", optional = true, fields = {                      -- of each token
      requests = { kind = "integer", required = true, min = 1, max = 1000000000 },
      seconds = { kind = "integer", default = 60, min = 1, max = 86400 },
    } },
    tls = tls,
  } },
  store = store_rule(),
  auth = { kind = "table", fields = { jwt = jwt } },
  diskstore = { kind = "table", fields = {
    enabled = { kind = "boolean", default = true },
    listen = { kind = "string", default = "127.0.0.1:9000", check = address },
    public_endpoint = text { check = endpoint },
    folder = text(),
    region = { kind = "string", default = "us-east-1" },
    fsync = { kind = "boolean", default = true },
    workers = { kind = "integer", default = 1, min = 1, max = 256 },
    threads = { kind = "integer", default = 8, min = 1, max = 256 },
    queue = { kind = "integer", default = 256, min = 0, max = 65536 },
    queue_seconds = seconds(30, 3600),
    -- S3's own is 5 MiB; specs take less.
    min_part = { kind = "integer", default = 5 * MiB, min = 0, max = 5 * GiB },
    -- The janitor: how often it looks, how long replaced data stays, and when
    -- what a dead request left behind counts as dead.
    sweep_seconds = seconds(10, 86400),
    grace_seconds = { kind = "integer", default = 60, min = 0, max = 86400 },
    stale_seconds = seconds(3600, 604800),
    credentials = { kind = "list", optional = true, min = 1, each = credentials },
    buckets = { kind = "list", default = { "longshore" }, min = 1, each = { kind = "string", check = bucket_name } },
    cors = origins { "*" },
    max_body = size(5 * GiB),
    tls = tls,
  } },
  buckets = { kind = "named", default = {}, each = { kind = "table", fields = {
    profile = { kind = "string", default = "aws" },
    endpoint = text { check = endpoint },
    public_endpoint = text { check = endpoint },
    account = text(),
    region = text(),
    bucket = { kind = "string", required = true },
    prefix = text { empty = true },
    access_key = text(),
    secret_key = text { secret = true },
    session_token = text { secret = true },
    credentials = text(),                                                     -- a Lua file that returns a function
    path_style = { kind = "boolean", optional = true },
    metadata_rule = text { one_of = { "rfc2047", "percent", "refuse" } },
    timeout = { kind = "integer", optional = true, min = 1, max = 600 },      -- of a request without a file
    ca_file = text(),
  } } },
  services = { kind = "table", fields = {
    newton = { kind = "table", fields = {
      enabled = { kind = "boolean", default = true },
      bucket = { kind = "string", default = "default" },
      max_size = size(250000000000),
      form_max = size(512 * MiB, 5 * GiB),
      part_size = { kind = "integer", optional = true, min = 1, max = 5 * GiB },
      file_types = { kind = "list", optional = true, min = 1, each = { kind = "string" } },
    } },
    geolens = { kind = "table", fields = {
      enabled = { kind = "boolean", default = true },
      bucket = { kind = "string", default = "default" },
      max_size = size(500 * MiB, 5 * GiB),
      threshold = { kind = "integer", default = 100 * MiB, min = 0, max = 5120 * MiB }, -- above it multipart
      part_size = { kind = "integer", default = 10 * MiB, min = 5 * MiB, max = 5 * GiB },
      window = { kind = "integer", default = 3600, min = 60, max = 604800 },            -- seconds
      commit_seconds = seconds(86400, 31536000),
      extensions = { kind = "list", optional = true, min = 1, each = { kind = "string",
        one_of = { ".zip", ".gpkg", ".geojson", ".json", ".csv", ".tif", ".tiff", ".xlsx", ".xls", ".parquet" } } },
      quota_bytes = { kind = "integer", optional = true, min = 1, max = 2 ^ 53 - 1 },   -- for each user
      quota_datasets = { kind = "integer", optional = true, min = 1, max = 1e9 },
      validation = { kind = "string", default = "string", one_of = { "string", "list" } },
    } },
    cognite = { kind = "table", fields = {
      enabled = { kind = "boolean", default = true },
      bucket = { kind = "string", default = "default" },
      upload = { kind = "string", default = "put", one_of = { "put", "resumable" } }, -- what upload links are
      link_seconds = { kind = "integer", default = 604800, min = 60, max = 604800 },
      max_put = size(5000000000, 5 * GiB),
      download_seconds = seconds(30, 604800),
      extended_download_seconds = seconds(3600, 604800),
    } },
    athena = { kind = "table", fields = {
      enabled = { kind = "boolean", default = true },
      bucket = { kind = "string", default = "default" }, -- of the client that is there by default
      -- Logical clients by name; none configured: one named default.
      clients = { kind = "named", default = {}, each = { kind = "table", fields = {
        bucket = text(),                       -- a catalog in this bucket, beside those that administrators make
        store = store_rule { optional = true }, -- its database
      } } },
      default_client = text(),                  -- whom DEFAULT_CLIENT means
      trusted_addresses = { kind = "list", default = {}, each = { kind = "string", check = trusted_address } },
      -- The first one seals the secrets of catalogs, all of them open.
      keys = { kind = "list", default = {}, each = { kind = "table", fields = {
        id = { kind = "string", required = true, check = key_name },
        key = { kind = "string", required = true, secret = true, check = seal_key },
      } } },
      max_size = size(5 * TiB),
      max_batch = { kind = "integer", default = 100, min = 1, max = 1000 },
      tunnel_max = size(512 * MiB, 5 * GiB),
      checksum_max = size(5 * GiB),              -- confirm-upload reads no more to check a SHA-256
      trash_seconds = seconds(30 * 86400, 315360000),
      dot_segments = { kind = "boolean", default = false }, -- keys with . and .. and // in them
    } },
  } },
  cors = origins {},
  policy = { kind = "table", fields = {
    max_size = { kind = "integer", optional = true, min = 0, max = 2 ^ 53 - 1 },
    part_size = { kind = "integer", optional = true, min = 1, max = 5 * GiB },
    url_seconds = { kind = "integer", optional = true, min = 1, max = 604800 },
    download_seconds = { kind = "integer", optional = true, min = 1, max = 604800 },
    upload_seconds = { kind = "integer", optional = true, min = 1, max = 315360000 },
    max_running = { kind = "integer", optional = true, min = 1, max = 2 ^ 53 - 1 },
    layout = text(),
    file = text(),                                       -- see longshore.policy.file
    trusted = { kind = "boolean", optional = true },
    modules = text(),                                    -- a folder
    limits = { kind = "table", fields = {                -- of each hook, in the sandbox
      memory = { kind = "integer", optional = true, min = MiB, max = GiB },
      instructions = { kind = "integer", optional = true, min = 10000, max = 1e12 },
      seconds = { kind = "number", optional = true, min = 0.01, max = 60 },
      waiting = { kind = "number", optional = true, min = 0.01, max = 600 }, -- for what it asks its host
    } },
    fetch = { kind = "list", optional = true, each = { kind = "string" } },
    webhooks = { kind = "list", optional = true, each = { kind = "table", fields = {
      name = { kind = "string", required = true },
      url = { kind = "string", required = true },
      secret = text { secret = true, required = true },
      hooks = { kind = "list", optional = true, each = { kind = "string" } },
      timeout = seconds(10, 60),
    } } },
  } },
  log = { kind = "table", fields = {
    level = { kind = "string", default = "info", one_of = { "debug", "info", "warn", "error" } },
    access = text(),
    format = { kind = "string", default = "text", one_of = { "text", "json" } },
    audit = text(),
    buffered = { kind = "boolean", default = true },   -- lines for files are written within a second
  } },
  nginx = { kind = "table", fields = {
    binary = text(),
    modules = { kind = "list", optional = true, each = { kind = "string" } },
    lua_path = text(),
    lua_cpath = text(),
    user = text { check = function(value)
      if value:find("^[%w_%.%-]+$") then return true end
      return nil, "the name of a user is expected"
    end },
  } },
} }

-- The address at which this machine reaches what listens there.
local function local_url(listen, with_tls)
  local host, port = listen:match("^(.+):(%d+)$")
  if host == "0.0.0.0" then host = "127.0.0.1" elseif host == "[::]" then host = "[::1]" end
  return ("%s://%s:%s"):format(with_tls and "https" or "http", host, port)
end

--- The file that holds the disk store's generated credentials.
-- @tparam table config
-- @treturn string path
function _M.credentials_file(config)
  return config.data .. "/diskstore-credentials"
end

local function read_credentials(path)
  local f = io.open(path, "rb")
  if not f then return nil end
  local content = f:read("*a") or ""
  f:close()
  local access_key, secret_key = content:match("^access_key=(%S+)\nsecret_key=(%S+)\n")
  if not access_key then
    return errors.fail("invalid", path .. ": is damaged; remove it to have new credentials made",
      { field = "diskstore.credentials" })
  end
  return { access_key = access_key, secret_key = secret_key }
end

local function missing_file(path)
  local f = io.open(path, "rb")
  if not f then return true end
  f:close()
end

--- Fills in what follows from the rest.
-- @tparam table config checked
-- @tparam function absolute(path) makes a path absolute
-- @treturn table config
-- @treturn[2] nil
-- @treturn[2] table err
function _M.complete(config, absolute)
  config.data = absolute(config.data)
  for _, key in ipairs { "file", "modules" } do
    if config.policy[key] then config.policy[key] = absolute(config.policy[key]) end
  end
  config.store.path = absolute(config.store.path or config.data .. "/longshore.db")
  if config.store.type == "postgres" and not config.store.database then
    return errors.fail("invalid", "store.database: is required for postgres", { field = "store.database" })
  end
  local disk = config.diskstore
  disk.folder = absolute(disk.folder or config.data .. "/objects")
  for _, name in ipairs { "broker", "diskstore" } do
    local pair = config[name].tls
    for _, key in ipairs(pair and { "certificate", "key" } or {}) do
      pair[key] = absolute(pair[key])
      if missing_file(pair[key]) then
        return errors.fail("invalid", ("%s.tls.%s: cannot read %s"):format(name, key, pair[key]),
          { field = name .. ".tls." .. key })
      end
    end
  end
  if disk.enabled and not disk.credentials then
    local generated, err = read_credentials(_M.credentials_file(config))
    if err then return nil, err end
    disk.credentials = generated and { generated }
    config.generated_credentials = true
  end
  if disk.enabled and not config.buckets.default then
    local own = disk.credentials and disk.credentials[1] or {}
    config.buckets.default = {
      profile = "diskstore", endpoint = local_url(disk.listen, disk.tls),
      public_endpoint = disk.public_endpoint, region = disk.region, bucket = disk.buckets[1],
      access_key = own.access_key, secret_key = own.secret_key, path_style = true,
      ca_file = disk.tls and disk.tls.certificate,
    }
  end
  if not next(config.buckets) then
    return errors.fail("invalid", "buckets.default: the disk store is not enabled, so a bucket must be configured",
      { field = "buckets.default" })
  end
  for name, bucket in pairs(config.buckets) do
    for _, key in ipairs { "ca_file", "credentials" } do
      if bucket[key] then bucket[key] = absolute(bucket[key]) end
      if bucket[key] and missing_file(bucket[key]) then
        local field = ("buckets.%s.%s"):format(name, key)
        return errors.fail("invalid", ("%s: cannot read %s"):format(field, bucket[key]), { field = field })
      end
    end
  end
  for name, service in pairs(config.services) do
    if service.enabled and name ~= "athena" and not config.buckets[service.bucket] then
      return errors.fail("invalid", ("services.%s.bucket: there is no bucket named %q under buckets"):format(name,
        service.bucket), { field = ("services.%s.bucket"):format(name) })
    end
  end
  local ok, err = clients.complete(config, absolute)
  if not ok then return nil, err end
  local apart, clash = areas.check(config)
  if not apart then return errors.fail("invalid", clash.message, { field = clash.field }) end
  local tokens = config.auth.jwt
  if tokens then
    for _, key in ipairs { "ca_file", "jwks" } do
      if tokens[key] and not tokens[key]:find("^%a+://") then tokens[key] = absolute(tokens[key]) end
    end
  end
  config.broker.public_url = config.broker.public_url or local_url(config.broker.listen, config.broker.tls)
  return config
end

return _M

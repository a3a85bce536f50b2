--- Catalogs: the buckets that a client's files may be in, and the keys to them.
--
-- A catalog is made by an administrator (a row in the database, its secrets
-- sealed) or comes with the configuration (`services.athena.clients.NAME.bucket`: a
-- prefix of a configured bucket; it cannot be changed). No two catalogs, of any
-- clients, and no catalog and service share a bucket and a prefix.
--
-- Files name their bucket by a provider's name, `s3:CATALOG/BUCKET`; `provider` turns
-- it into the provider. What administrators change counts from the next call.
--
-- Room: broker.
-- @module longshore.broker.catalogs
local areas = require "longshore.config.areas"
local check = require "longshore.broker.check"
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"
local profiles = require "longshore.provider.profiles"
local rows = require "longshore.store.rows"
local uuid = require "longshore.broker.uuid"

local _M = {}
local methods = {}
local mt = { __index = methods, __name = "longshore.broker.catalogs" }

--- Makes the keeper of catalogs.
-- @tparam table options `store`, `clock`, `keys` (list of `{id=, key=hex}`), `areas` (what the configuration
-- gives away), `builtin` (client to `{id=, bucket=, prefix=, profile=, ..., provider=, created_at=}`),
-- `make_provider(options) -> provider | nil, err`,
-- `in_use(tenant, id, bucket|nil) -> count | nil, err`
-- @treturn table
function _M.new(options)
  local self = setmetatable({
    store = assert(options.store, "store"), clock = options.clock, areas = options.areas or {},
    builtin = options.builtin or {}, make_provider = options.make_provider, in_use = options.in_use,
    keys = {}, by_id = {}, made = {},
  }, mt)
  for i, key in ipairs(options.keys or {}) do
    self.keys[key.id] = core.unhex(key.key)
    if i == 1 then self.seal_id = key.id end
  end
  for tenant, entry in pairs(self.builtin) do
    entry.tenant = tenant
    self.by_id[entry.id] = entry
  end
  return self
end

--- The name of the provider of a catalog's bucket.
-- @tparam string id
-- @tparam string bucket
-- @treturn string
function _M.provider_name(id, bucket)
  return ("s3:%s/%s"):format(id, bucket)
end

-- The catalog of the configuration, as a row.
local function builtin_row(entry)
  return {
    id = entry.id, tenant = entry.tenant, name = "configured", profile = entry.profile, endpoint = entry.endpoint,
    region = entry.region, bucket = entry.bucket, buckets = {}, prefix = entry.prefix, path_style = entry.path_style,
    active = true, version = 0, created_at = entry.created_at, updated_at = entry.created_at, builtin = true,
  }
end

local function admin(actor)
  check.actor(actor)
  if actor.rights.admin then return true end
  return errors.fail("forbidden", "catalogs are the administrators' business", { reason = "right" })
end

---------------------------------------------------------------------------
-- secrets

local function context_of(id)
  return "longshore catalog " .. id
end

local function seal(self, id, secrets)
  local key = self.seal_id and self.keys[self.seal_id]
  if not key then
    return errors.fail("invalid", "services.athena.keys: a key to seal secrets with must be configured first "
      .. "(openssl rand -hex 32)", { field = "services.athena.keys" })
  end
  local sealed, err = core.seal(key, json.encode(secrets), context_of(id))
  if not sealed then return nil, err end
  return core.base64(sealed), self.seal_id
end

local function unseal(self, row)
  local key = self.keys[row.seal_id]
  local text = key and core.open(key, core.unbase64(row.secret) or "", context_of(row.id))
  if not text then
    return errors.fail("unavailable", ("the secrets of catalog %s cannot be opened: the key %q is not the one in "
      .. "services.athena.keys"):format(row.id, row.seal_id), { retryable = false })
  end
  return json.decode(text)
end

local function areas_of(row)
  local place, list = areas.place(row.endpoint, row.profile), {}
  local names = { row.bucket }
  for _, name in ipairs(row.buckets or {}) do names[#names + 1] = name end
  for i, name in ipairs(names) do
    list[i] = { owner = "catalog " .. row.id, place = place, bucket = name, prefix = row.prefix }
  end
  return list
end

-- The configuration may have changed since the catalog was made, and must not reach into it.
local function invaded(self, row)
  for _, area in ipairs(areas_of(row)) do
    local other = areas.conflict(area, self.areas)
    if other then
      return errors.fail("unavailable", ("catalog %s shares bucket %s with %s of the configuration; move one of them")
        :format(row.id, area.bucket, other.owner), { retryable = false })
    end
  end
  return false
end

---------------------------------------------------------------------------
-- providers

local function options_of(row, bucket, secrets)
  return {
    name = _M.provider_name(row.id, bucket), profile = row.profile, endpoint = row.endpoint,
    public_endpoint = row.public_endpoint, region = row.region, bucket = bucket, prefix = row.prefix,
    path_style = row.path_style, access_key = row.access_key, secret_key = secrets.secret_key,
    session_token = secrets.session_token,
  }
end

--- The provider of a name that `provider_name` made.
-- @tparam string name
-- @treturn table|nil provider
-- @treturn table err `unavailable` when the catalog is gone or cannot be used
function methods:provider(name)
  local id, bucket = name:match("^s3:([^/]+)/(.+)$")
  local entry = self.by_id[id]
  if entry then return entry.provider end
  local row, err = self.store:catalog(id)
  if not row then
    if err.code ~= "not_found" then return nil, err end
    return errors.fail("unavailable", "the file's catalog is gone", { retryable = false })
  end
  local made = self.made[name]
  if made and made.version == row.version then return made.provider end
  local met
  met, err = invaded(self, row)
  if met == nil then return nil, err end
  local secrets
  secrets, err = unseal(self, row)
  if not secrets then return nil, err end
  local provider
  provider, err = self.make_provider(options_of(row, bucket, secrets))
  if not provider then return nil, err end
  provider.access_id = ("%.0f"):format(row.version) -- what was signed with other keys is not handed out again
  self.made[name] = { version = row.version, provider = provider }
  return provider
end

--- A catalog of a client, and the provider's name of one of its buckets.
-- @tparam string tenant
-- @tparam string id
-- @tparam ?string bucket nil: the catalog's own
-- @treturn table|nil row
-- @treturn string|table the provider's name, or err
function methods:find(tenant, id, bucket)
  local entry = self.by_id[id]
  local row, err
  if entry and entry.tenant == tenant then
    row = builtin_row(entry)
  else
    row, err = self.store:catalog(id, tenant)
    if not row then
      if err.code == "not_found" then err.field = "s3_id" end
      return nil, err
    end
  end
  if not row.active then
    return errors.fail("conflict", "s3_id: this catalog is not active", { field = "s3_id" })
  end
  bucket = bucket or row.bucket
  local known = bucket == row.bucket
  for _, other in ipairs(row.buckets or {}) do known = known or other == bucket end
  if not known then
    return check.invalid("bucket", "is none of this catalog's buckets")
  end
  row.bucket = bucket
  return row, _M.provider_name(id, bucket)
end

---------------------------------------------------------------------------
-- what administrators do

-- Whether a catalog would be apart from everything else. Says nothing of what it meets.
local function apart(self, others, row)
  local taken = {}
  for _, area in ipairs(self.areas) do taken[#taken + 1] = area end
  for _, other in ipairs(others) do
    for _, area in ipairs(areas_of(other)) do taken[#taken + 1] = area end
  end
  for _, area in ipairs(areas_of(row)) do
    if areas.conflict(area, taken) then
      return errors.fail("conflict", ("bucket %s with prefix %q would be shared with another catalog or service; "
        .. "choose another prefix"):format(area.bucket, area.prefix), { field = "default_prefix", reason = "shared" })
    end
  end
  return true
end

-- The profile of an endpoint, where the request names none that we know.
local function profile_of(provider, endpoint)
  if provider and profiles.get(provider) then return provider end
  local host = (endpoint or ""):match("^%a+://([^/:]+)") or ""
  for _, name in ipairs(profiles.names) do
    local ending = (profiles.get(name).endpoint or ""):match("}?(%.[%w%.%-]+)$")
    if ending and host:sub(-#ending) == ending then return name end
  end
  return endpoint and "generic" or "aws"
end

local function bad_prefix(prefix)
  if #prefix > 512 then return "at most 512 bytes" end
  if prefix:find("^/") or prefix:find("%c") or prefix:find("//", 1, true) then
    return "must not begin with / nor have empty segments or control characters"
  end
  for segment in prefix:gmatch("[^/]+") do
    if segment == "." or segment == ".." then return "must have no . or .. segments" end
  end
end

-- A folder: a prefix "a" would also take "ab/...".
local function folder(prefix)
  if prefix == nil or prefix == "" then return "" end
  return (prefix:gsub("/+$", "")) .. "/"
end

-- Tries the row out: whether a provider can be made of it at all.
local function usable(self, row, secrets)
  for _, name in ipairs { row.bucket, (table.unpack or unpack)(row.buckets or {}) } do -- luacheck: ignore
    local provider, err = self.make_provider(options_of(row, name, secrets))
    if not provider then
      return check.invalid(err.field or "endpoint", (err.message:gsub("^provider [^:]+:[^:]*: [^:]*: ", "")))
    end
  end
  return true
end

--- Makes a catalog.
-- @tparam table actor an administrator
-- @tparam table fields `name`, `endpoint`, `public_endpoint`, `region`, `bucket`, `buckets`, `provider` (a profile),
-- `path_style`, `prefix`, `public_base_url`, `access_key`, `secret_key`, `session_token`, `metadata`
-- @treturn table|nil row without secrets
-- @treturn table err
function methods:create(actor, fields)
  local ok, err = admin(actor)
  if not ok then return nil, err end
  local why = bad_prefix(fields.prefix or "")
  if why then return check.invalid("default_prefix", why) end
  local now = self.clock.now()
  local row = {
    id = uuid.new(), tenant = actor.tenant, name = fields.name,
    profile = profile_of(fields.provider, fields.endpoint), endpoint = fields.endpoint,
    public_endpoint = fields.public_endpoint, public_base_url = fields.public_base_url, region = fields.region,
    bucket = fields.bucket, buckets = fields.buckets, prefix = folder(fields.prefix), path_style = fields.path_style,
    access_key = fields.access_key, metadata = fields.metadata and json.encode(fields.metadata) or nil, active = true,
    version = 1, created_at = now, updated_at = now,
  }
  local secrets = { secret_key = fields.secret_key, session_token = fields.session_token }
  ok, err = usable(self, row, secrets)
  if not ok then return nil, err end
  row.secret, row.seal_id = seal(self, row.id, secrets)
  if not row.secret then return nil, row.seal_id end
  ok, err = self.store:create_catalog(row, function(others, new) return apart(self, others, new) end)
  if not ok then return nil, err end
  return row
end

local PLACE = { endpoint = true, bucket = true, prefix = true, provider = true, region = true }

-- A place may only change while no file is there.
local function may_move(self, row, fields)
  local moves = false
  for name in pairs(PLACE) do moves = moves or (fields[name] ~= nil and fields[name] ~= row[name]) end
  local gone = {}
  if fields.buckets then
    local kept = {}
    for _, name in ipairs(fields.buckets) do kept[name] = true end
    for _, name in ipairs(row.buckets or {}) do
      if not kept[name] then gone[#gone + 1] = name end
    end
  end
  if not moves and not gone[1] then return true end
  for _, bucket in ipairs(moves and { false } or gone) do
    local count, err = self.in_use(row.tenant, row.id, bucket or nil)
    if not count then return nil, err end
    if count > 0 then
      return errors.fail("conflict", ("the catalog has %.0f files there; make a new catalog instead"):format(count),
        { reason = "in_use" })
    end
  end
  return true
end

local COLUMNS = { name = "name", endpoint = "endpoint", public_endpoint = "public_endpoint", region = "region",
  public_base_url = "public_base_url", bucket = "bucket", buckets = "buckets", path_style = "path_style",
  access_key = "access_key", active = "active" }

--- Changes a catalog. What is not given stays; `json.null` takes a field away.
-- @tparam table actor an administrator
-- @tparam string id
-- @tparam table fields as for `create`, and `active`
-- @treturn table|nil row
-- @treturn table err
function methods:update(actor, id, fields)
  local ok, err = admin(actor)
  if not ok then return nil, err end
  if self.by_id[id] and self.by_id[id].tenant == actor.tenant then
    return errors.fail("conflict", "this catalog comes with the configuration and is changed there")
  end
  if fields.prefix == json.null then fields.prefix = "" end
  if fields.prefix then
    local why = bad_prefix(fields.prefix)
    if why then return check.invalid("default_prefix", why) end
    fields.prefix = folder(fields.prefix)
  end
  local row
  row, err = self.store:catalog(id, actor.tenant)
  if not row then return nil, err end
  ok, err = may_move(self, row, fields)
  if not ok then return nil, err end
  local now = self.clock.now()
  local changed = { updated_at = now, prefix = fields.prefix }
  for name, column in pairs(COLUMNS) do
    local value = fields[name]
    if value == json.null then value = rows.null end
    changed[column] = value
  end
  if fields.metadata ~= nil then changed.metadata = json.encode(fields.metadata) end
  local new = {}
  for name, value in pairs(row) do new[name] = value end
  for name, value in pairs(changed) do
    if value == rows.null then value = nil end
    new[name] = value
  end
  if fields.provider then
    changed.profile = profile_of(fields.provider, new.endpoint)
    new.profile = changed.profile
  end
  local secrets
  secrets, err = unseal(self, row)
  if not secrets then
    if not fields.secret_key then return nil, err end
    secrets = {}
  end
  if fields.access_key or fields.secret_key or fields.session_token then
    if fields.session_token == json.null then fields.session_token, secrets.session_token = nil, nil end
    -- A session token belongs to the keys it came with.
    if fields.secret_key then secrets = { secret_key = fields.secret_key } end
    secrets.session_token = fields.session_token or secrets.session_token
    changed.rotated_at = now
  end
  if changed.rotated_at or row.seal_id ~= self.seal_id then
    changed.secret, changed.seal_id = seal(self, id, secrets)
    if not changed.secret then return nil, changed.seal_id end
  end
  ok, err = usable(self, new, secrets)
  if not ok then return nil, err end
  return self.store:update_catalog(id, actor.tenant, changed, function(others) return apart(self, others, new) end)
end

--- Forgets a catalog that no file is in.
-- @tparam table actor an administrator
-- @tparam string id
-- @treturn boolean|nil true
-- @treturn table err
function methods:delete(actor, id)
  local ok, err = admin(actor)
  if not ok then return nil, err end
  if self.by_id[id] and self.by_id[id].tenant == actor.tenant then
    return errors.fail("conflict", "this catalog comes with the configuration and is removed there")
  end
  local row
  row, err = self.store:catalog(id, actor.tenant)
  if not row then return nil, err end
  local count
  count, err = self.in_use(row.tenant, id)
  if not count then return nil, err end
  if count > 0 then
    return errors.fail("conflict", ("the catalog has %.0f files (deleted ones count until they are purged)")
      :format(count), { reason = "in_use" })
  end
  return self.store:delete_catalog(id, actor.tenant)
end

--- The catalogs of the actor's client; everybody of the client may know them.
-- @tparam table actor
-- @treturn table|nil list of rows
-- @treturn table err
function methods:list(actor)
  check.actor(actor)
  local list, err = self.store:catalogs(actor.tenant)
  if not list then return nil, err end
  local entry = self.builtin[actor.tenant]
  if entry then table.insert(list, 1, builtin_row(entry)) end
  return list
end

--- The credentials of the catalogs, without what is secret; for administrators.
-- @tparam table actor
-- @treturn table|nil list of rows
-- @treturn table err
function methods:credentials(actor)
  local ok, err = admin(actor)
  if not ok then return nil, err end
  return self.store:catalogs(actor.tenant)
end

return _M

--- The broker: the life of uploads and files.
--
-- Services, scripts and the command line call it; it asks the policy, remembers
-- in the store, and speaks to object stores through providers. Calls are
-- synchronous. Every method's first argument is the actor (`user`,
-- `organization`, `tenant`, `rights`): rows of another tenant or organization are
-- `not_found`, whatever is asked of them.
--
-- What keeps the promise that nothing is lost and nothing left behind:
--
-- * an upload's row, with its key, is written before the store is asked to start
--   it; a row that never got further is undone by the janitor;
-- * every content has a key of its own, and the object carries the upload's id in
--   its metadata, so a lost answer is recognised and undoing can never hit
--   anything else;
-- * `complete` writes down what it is about to do (state completing, the parts,
--   the expected checksum) before it does it; whoever finds such a row, the
--   client repeating the call or the janitor, goes on from what the store says;
-- * undoing is a row in the table of cleanups, written in the same transaction as
--   the decision, and stays until the store has confirmed.
--
-- Methods are in `broker/uploads.lua` (initiate, upload, abort), `parts.lua`
-- (part_urls, checkpoint), `complete.lua`, `files.lua` (file, files, usage,
-- download, delete_file), `ingest.lua`, `janitor.lua`, `orphans.lua`; `cleanup.lua` undoes; `outbox.lua`
-- tells. Datasets and their jobs are in `datasets/`, files of projects (records) in `records/`, files
-- whose keys clients name in `managed/`, their buckets in `catalogs.lua`.
--
-- Room: broker.
-- @module longshore.broker
local clock = require "longshore.clock"
local errors = require "longshore.errors"
local host = require "longshore.broker.host"
local ids = require "longshore.broker.ids"
local json = require "longshore.json"
local policy = require "longshore.policy"

local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.broker" }
mt.__tostring = function() return "longshore.broker" end

for _, room in ipairs { "uploads", "parts", "complete", "files", "ingest", "cleanup", "janitor", "orphans", "outbox",
  "datasets", "records", "managed" } do
  for name, method in pairs(require("longshore.broker." .. room)) do
    assert(not methods[name], name)
    methods[name] = method
  end
end

--- Options of `new` with their defaults, in seconds.
_M.defaults = {
  start_grace = 900,          -- how long the store may take to start an upload
  complete_lease = 120,       -- how long the janitor leaves a running complete alone
  cleanup_lease = 300,        -- how long one cleanup may take
  event_lease = 120,          -- how long telling one event may take
  keep_seconds = 30 * 86400,  -- how long final rows are kept
}

--- Makes a broker.
-- @tparam table options `store` (longshore.store), `providers` (name to provider),
-- `policy` (longshore.policy.new), `transport` (for its webhooks and what its hooks fetch), `clock`,
-- `log` (function(level, message, fields)),
-- `options` (any of `defaults`). Managed files need `broker:manage` first.
-- @treturn table broker
function _M.new(options)
  assert(type(options) == "table" and options.store, "store: longshore.store expected")
  assert(type(options.providers) == "table", "providers: table expected")
  local self = {
    store = options.store,
    providers = options.providers,
    policy = options.policy or assert(policy.new { log = options.log }),
    clock = options.clock or clock.system,
    log = options.log or function() end,
    transport = options.transport,
  }
  for name, default in pairs(_M.defaults) do
    local value = options.options and options.options[name]
    if value == nil then value = default end
    assert(type(value) == "number" and value >= 0, name .. ": seconds expected")
    self[name] = value
  end
  setmetatable(self, mt):manage {}
  if self.policy.attach then
    self.policy = self.policy:attach(function(context) return host.new(self, context) end)
  end
  return self
end

-- Below: what the broker's rooms share.

--- The provider of a name, or nil, err.
function methods:provider(name)
  local provider = self.providers[name]
  if provider then return provider end
  if self.catalogs and tostring(name):find("^s3:") then return self.catalogs:provider(name) end
  return errors.fail("unavailable", ("no bucket named %q is configured"):format(tostring(name)),
    { retryable = false })
end

--- Asks the policy whether the actor may do this at all. `service`: newton unless said.
function methods:authorize(actor, operation, right, service)
  local ok, err = self.policy:decide("authorize",
    { actor = actor, operation = operation, right = right, service = service or "newton" })
  if not ok then return nil, err end
  return true
end

--- What the policy and the caller see of an upload, perhaps in the state that it is about to have.
function methods.view_upload(_, row, state)
  return {
    id = row.id, file_id = row.file_id, filename = row.filename, content_type = row.content_type,
    size = row.size, part_size = row.part_size, part_count = row.part_count, state = state or row.state,
    deadline = row.deadline, integrity = row.integrity, provider = row.provider, key = row.key,
    organization = row.organization, tenant = row.tenant, user = row.user, service = row.service,
    error = row.error, created_at = row.created_at, updated_at = row.updated_at,
  }
end

--- What the policy and the caller see of a file.
function methods.view_file(_, row)
  local metadata
  if row.metadata then metadata = json.decode(row.metadata) end
  return {
    id = row.id, filename = row.filename, content_type = row.content_type, size = row.size,
    state = row.state, crc32c = row.crc32c, etag = row.etag, checks = row.checks or {},
    metadata = metadata, created_at = row.created_at, updated_at = row.updated_at,
    organization = row.organization, tenant = row.tenant, user = row.user, service = row.service,
  }
end

--- A new row for the table of cleanups.
function methods:new_cleanup(fields)
  local now = self.clock.now()
  return {
    id = ids.new("cln_"), upload_id = fields.upload_id, file_id = fields.file_id,
    provider = fields.provider, key = fields.key, provider_upload_id = fields.provider_upload_id,
    kind = fields.kind or "delete", due = fields.due or now, attempts = fields.attempts or 0, created_at = now,
  }
end

--- How long a URL works where a service says it: as long as that, unless the
-- policy wants anything else than usual, and less.
-- @tparam ?number wanted `url_seconds` of the policy's decision
-- @tparam string setting of the policy that is the usual: `url_seconds` or `download_seconds`
-- @tparam number seconds what the service says
-- @treturn number
function methods:url_life(wanted, setting, seconds)
  local usual = self.policy.settings and self.policy.settings[setting]
  if wanted and wanted ~= usual and wanted < seconds then return wanted end
  return seconds
end

--- Copies an object to a key that no URL ever named; the cleanup that removes
-- the copy is written before, and is to be dropped by whoever points a row at it.
-- @tparam table provider
-- @tparam table o `provider` (its name), `from`, `to`, `due` of the cleanup,
-- `content_type`, `headers`, `if_match`
-- @treturn table|nil cleanup; its `key` is the copy's
-- @treturn table|nil err of the database or the store; nothing is left
-- @treturn boolean|nil true when the store did not copy
function methods:freeze(provider, o)
  local cleanup = self:new_cleanup { provider = o.provider, key = o.to, due = o.due }
  local ok, err = self.store:add_cleanup(cleanup)
  if not ok then return nil, err end
  ok, err = provider:copy { from = o.from, to = o.to, content_type = o.content_type, headers = o.headers,
    if_match = o.if_match }
  if ok then return cleanup end
  provider:delete { key = o.to }
  return nil, err, true
end

--- The cleanup that undoes an upload, claimed for the caller.
function methods:undo_cleanup(row)
  return self:new_cleanup {
    kind = "undo", upload_id = row.id, provider = row.provider, key = row.key,
    provider_upload_id = row.provider_upload_id, attempts = 1, due = self.clock.now() + self.cleanup_lease,
  }
end

--- The error that an upload's state is to whoever wanted it to be uploading.
-- @tparam table row
-- @return nil
-- @treturn table err `state` says which; for completed, `reason` is already_completed
function methods.state_error(_, row)
  local state = row.state
  if state == "completed" then
    return errors.fail("conflict", "the upload is completed already",
      { state = state, reason = "already_completed", file_id = row.file_id })
  elseif state == "completing" then
    return errors.fail("conflict", "the upload is being completed",
      { state = state, reason = "completing", retryable = true, retry_after = 1 })
  elseif state == "failed" then
    return errors.fail("conflict", "the upload failed: " .. (row.error or "start again"),
      { state = state, reason = "failed", file_id = row.file_id })
  elseif state == "expiring" or state == "expired" or state == "uploading" then
    return errors.fail("expired", "the upload's time is over; start again", { state = state })
  end
  return errors.fail("not_found", "there is no such upload", { state = state })
end

--- Whether a store's answer means that this upload or object is not there. A
-- bucket that is not there says nothing about it: it may be a mistake in the
-- configuration, and must not make us forget anything.
function methods.is_gone(_, err)
  return err.code == "not_found" and err.store_code ~= "NoSuchBucket"
end

--- A store's error as the broker's callers see it: what the store forbids to the
-- broker is not forbidden to them, and what it does not find is not their upload.
function methods.store_failure(_, err)
  local passes = { busy = true, unavailable = true, timeout = true, network = true, quota = true, internal = true }
  if passes[err.code] then return err end
  return errors.new("store", "the object store refused: " .. err.message, {
    retryable = err.retryable, cause = err, store_code = err.store_code, request_id = err.request_id,
  })
end

--- The actor's own upload that accepts parts now, or nil, err.
function methods:running_upload(actor, id)
  local row, err = self:own_upload(actor, id)
  if not row then return nil, err end
  if row.state ~= "uploading" or row.deadline <= self.clock.now() then
    return self:state_error(row)
  end
  return row
end

--- The actor's own upload in any state, or nil, err.
function methods:own_upload(actor, id)
  if not ids.is(id, "upl_") then return errors.fail("not_found", "there is no such upload") end
  local row, err = self.store:upload(id, actor)
  if not row then return nil, err end
  -- An upload of a managed file is its user's alone, and ends otherwise.
  if row.service == "managed" then return errors.fail("not_found", "there is no such upload") end
  return row
end

--- The actor's own file, or nil, err.
function methods:own_file(actor, id)
  if not ids.is(id, "fil_") then return errors.fail("not_found", "there is no such file") end
  return self.store:file(id, actor)
end

return _M

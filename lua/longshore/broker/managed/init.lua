--- Managed files: files whose keys clients name, in the buckets of catalogs.
--
--     list = broker:upload_urls(actor, { {catalog=, bucket=, key=, name=, ...}, ... })
--     file = broker:confirm_managed(actor, id, {sha256=, size=, content_type=, metadata=})
--     file = broker:ingest_managed(actor, id, {file=|text=, length=, content_type=})
--     file = broker:managed_file(actor, id); list, total = broker:managed_files(actor, query)
--     url  = broker:managed_url(actor, id, purpose)
--     list = broker:show_managed(actor, ids, visibility)
--     list = broker:move_managed(actor, ids, {key=, bucket=})
--     list = broker:delete_managed(actor, ids)
--     file = broker:restore_managed(actor, id); file = broker:purge_managed(actor, id)
--     ...multipart uploads: see longshore.broker.managed.multipart
--
-- A key is one file's, whatever the organization; its row is written before a URL
-- for it is signed, and an object that has no row is nobody's to overwrite. Content
-- is what lies at the key: the store replaces it atomically, and nobody announces
-- it. So a row is looked at (its object's ETag and size) whenever it is read, and by
-- the janitor, until no URL that can write is alive any more.
--
-- What moves objects (a new key, delete, restore) first says so in the row, with a
-- time; whoever finds such a row after that time, the janitor above all, goes on.
--
-- Statuses: `presigned` (a URL was given, no bytes were seen), `uploading` (a multipart
-- upload runs, no bytes before it), `available`, `failed` (the bytes are too many, are
-- not what was confirmed, or vanished), `abandoned` (nothing ever came), `moving`,
-- `deleting`, `soft_deleted`, `restoring`, `purged`.
--
-- Room: broker.
-- @module longshore.broker.managed
local errors = require "longshore.errors"
local json = require "longshore.json"
local look = require "longshore.broker.managed.look"
local relocate = require "longshore.broker.managed.relocate"

local _M = {}

for _, room in ipairs { "start", "content", "files", "multipart", "places" } do
  for name, method in pairs(require("longshore.broker.managed." .. room)) do
    assert(not _M[name], name)
    _M[name] = method
  end
end

-- What holds when nothing is said.
local DEFAULTS = { max_size = 5 * 2 ^ 40, checksum_max = 5 * 2 ^ 30, trash_seconds = 30 * 86400, dot_segments = false }

--- Says what managed files need.
-- @tparam table options `catalogs` (longshore.broker.catalogs), `cache` (see longshore.broker.managed.urls),
-- `max_size`, `checksum_max` (bytes that are read to check a SHA-256), `trash_seconds`, `dot_segments`
function _M.manage(self, options)
  self.catalogs, self.cache, self.managed = options.catalogs, options.cache, {}
  for name, default in pairs(DEFAULTS) do
    local value = options[name]
    if value == nil then value = default end
    self.managed[name] = value
  end
end

local STATES = { presigned = "uploading", uploading = "uploading", available = "registered", failed = "corrupt",
  abandoned = "deleted", soft_deleted = "deleted", purged = "deleted" }

--- What services and policies see of a managed file.
-- @tparam table row
-- @treturn table
function _M.view_managed(_, row)
  local status = row.status
  if status == "moving" then status = row.etag and "available" or "presigned" end
  if status == "deleting" or status == "restoring" then status = "soft_deleted" end
  return {
    id = row.id, name = row.name, original_name = row.original_name, resource_id = row.resource_id,
    catalog = row.catalog, bucket = row.bucket, key = row.key, size = row.size or row.declared_size,
    content_type = row.content_type, metadata = row.metadata and json.decode(row.metadata) or nil,
    visibility = row.visibility, status = status, etag = row.etag, crc32c = row.crc32c, sha256 = row.sha256,
    organization = row.organization, tenant = row.tenant, user = row.user, deleted_at = row.deleted_at,
    created_at = row.created_at, updated_at = row.updated_at, filename = row.name, service = "athena",
    state = STATES[status], -- what policies know by this word
  }
end

--- What policies see of a single PUT of a managed file.
-- @tparam table row
-- @tparam[opt] table now what is different: `state`, `size`, `content_type`, `error`
-- @treturn table
function _M.view_managed_upload(_, row, now)
  now = now or {}
  return {
    id = row.id, file_id = row.id, filename = row.name, content_type = now.content_type or row.content_type,
    size = now.size or row.declared_size, state = now.state or "uploading", provider = row.provider, key = row.key,
    error = now.error, organization = row.organization, tenant = row.tenant, user = row.user, service = "athena",
    part_count = 1, deadline = row.watch_until, created_at = row.created_at, updated_at = row.updated_at,
  }
end

--- The janitor's part: looks at what is due, goes on with moves that were cut off,
-- empties the trash, forgets old URLs.
-- @tparam table options `now`, `limit`, `dry_run`
-- @treturn table|nil report `{seen, finished, cleaned, expired, errors}`
-- @treturn table err
function _M.sweep_managed(self, options)
  local now = options.now or self.clock.now()
  local report = { seen = 0, finished = 0, cleaned = 0, expired = 0, errors = 0, messages = {} }
  local list, err = self.store:due_managed(now, options.limit or 1000)
  if not list then return nil, err end
  for _, row in ipairs(list) do
    local kind, ok, why = "seen", true, nil
    if relocate.BUSY[row.status] then kind = "finished"
    elseif row.status == "soft_deleted" then kind = "cleaned" end
    if not options.dry_run then
      if kind == "finished" then
        ok, why = relocate.resume(self, row)
      elseif kind == "cleaned" then
        ok, why = relocate.purge(self, row)
      else
        ok, why = look.at(self, row)
        if ok and ok.status == "abandoned" then kind = "expired" end
      end
    end
    if ok then
      report[kind] = report[kind] + 1
    else
      report.errors = report.errors + 1
      report.messages[#report.messages + 1] = ("%s: %s"):format(row.id, errors.redact(tostring(why)))
      -- Later, and not at every turn before all others.
      self.store:write_managed { { id = row.id, version = row.version, fields = { due = now + 300 } } }
    end
  end
  if not options.dry_run then self.store:purge_urls(now) end
  return report
end

return _M

--- The tables, and how a database comes to have them.
--
-- Migrations are numbered from 1 and never edited once released: a change is a
-- new migration. Their SQL is what SQLite and PostgreSQL share; `{integer}` is
-- the 64-bit integer type. The version stands in `longshore_schema`.
--
-- Room: store.
-- @module longshore.store.schema
local errors = require "longshore.errors"
local managed_tables = require "longshore.store.managed_tables"
local record_tables = require "longshore.store.record_tables"
local rows = require "longshore.store.rows"

local _M = {}

_M.records, _M.deliveries = record_tables.records, record_tables.deliveries

--- The columns of `uploads`: one attempt to bring content into the store.
_M.uploads = rows.define("uploads", {
  { "id", "s" },
  { "file_id", "s" },
  { "tenant", "s" },
  { "organization", "s" },
  { "user", "s", "username" },
  { "service", "s" },
  { "provider", "s" },           -- by its name in the configuration
  { "key", "s", "object_key" },
  { "provider_upload_id", "s" }, -- NULL until the store has answered
  { "filename", "s" },
  { "content_type", "s" },
  { "size", "i" },               -- NULL: not announced
  { "part_size", "i" },
  { "part_count", "i" },
  { "integrity", "s" },          -- crc32c or none
  { "signs_length", "b" },
  { "requires_tokens", "b" },    -- false: what the store lists is enough
  { "if_exists", "s" },          -- refuse, replace or keep
  { "unique_name", "s" },        -- what no other finished file may have
  { "state", "s" },
  { "deadline", "t" },
  { "lease", "t" },              -- until then somebody works at it
  { "expected_crc32c", "i" },    -- announced by complete
  { "error", "s" },
  { "created_at", "t" },
  { "updated_at", "t" },
  { "replaces", "s" },           -- the only file that may be displaced; NULL: any
})

--- The columns of `parts`: parts that the client says are in the store.
_M.parts = rows.define("parts", {
  { "upload_id", "s" },
  { "number", "i" },
  { "token", "s" },              -- the bare ETag
})

--- The columns of `files`: what users see; points at finished content.
_M.files = rows.define("files", {
  { "id", "s" },
  { "tenant", "s" },
  { "organization", "s" },
  { "user", "s", "username" },
  { "service", "s" },
  { "filename", "s" },
  { "content_type", "s" },
  { "size", "i" },
  { "state", "s" },
  { "provider", "s" },           -- NULL while there is no content
  { "key", "s", "object_key" },
  { "etag", "s" },
  { "crc32c", "i" },
  { "checks", "l" },             -- what was compared before it was registered
  { "metadata", "s" },           -- JSON text, as given
  { "unique_name", "s" },
  { "created_at", "t" },
  { "updated_at", "t" },
})

--- The columns of `cleanups`: what must be undone at an object store.
_M.cleanups = rows.define("cleanups", {
  { "id", "s" },
  { "upload_id", "s" },
  { "file_id", "s" },
  { "provider", "s" },
  { "key", "s", "object_key" },
  { "provider_upload_id", "s" },
  { "kind", "s" },               -- see longshore.broker.cleanup, staging (both)
  { "due", "t" },                -- also the lease: claimed by moving it
  { "attempts", "i" },
  { "error", "s" },
  { "created_at", "t" },
})

--- The columns of `tokens`.
_M.tokens = rows.define("tokens", {
  { "id", "s" },
  { "hash", "s" },               -- hex SHA-256 of the whole token
  { "user", "s", "username" },
  { "organization", "s" },
  { "tenant", "s" },
  { "rights", "l" },
  { "label", "s" },
  { "created_at", "t" },
  { "expires_at", "t" },
  { "revoked_at", "t" },
  { "rate_requests", "i" },      -- NULL: as the configuration says
  { "rate_seconds", "i" },
})

--- The columns of `datasets`: content that jobs replace.
_M.datasets = rows.define("datasets", {
  { "id", "s" },
  { "tenant", "s" },
  { "organization", "s" },
  { "user", "s", "username" },
  { "title", "s" },
  { "summary", "s" },
  { "visibility", "s" },         -- private, restricted, internal, public
  { "record_type", "s" },        -- vector_dataset, raster_dataset, table, vrt_dataset
  { "filename", "s" },
  { "content_type", "s" },
  { "size", "i" },
  { "provider", "s" },
  { "key", "s", "object_key" },
  { "etag", "s" },
  { "crc32c", "i" },
  { "columns", "s", "column_info" }, -- JSON text: list of {name, type}
  { "feature_count", "i" },
  { "geometry_type", "s" },
  { "srid", "i" },
  { "layer_name", "s" },         -- the layer that was chosen, if one was
  { "temporal_start", "s" },
  { "temporal_end", "s" },
  { "version", "i" },            -- counts its contents
  { "busy_job", "s" },           -- the job that is replacing the content
  { "created_at", "t" },
  { "updated_at", "t" },
})

--- The columns of `jobs`: one attempt to bring content into a dataset.
_M.jobs = rows.define("jobs", {
  { "id", "s" },
  { "tenant", "s" },
  { "organization", "s" },
  { "user", "s", "username" },
  { "dataset_id", "s" },         -- NULL: a new dataset, made by the commit
  { "workflow", "s" },           -- reupload or ingest
  { "origin", "s" },             -- presigned or direct
  { "filename", "s" },
  { "content_type", "s" },
  { "size", "i" },
  { "provider", "s" },
  { "staging_key", "s" },        -- what URLs name
  { "content_key", "s" },        -- what the content's key begins with
  { "provider_upload_id", "s" }, -- NULL: a single PUT
  { "part_size", "i" },
  { "part_count", "i" },
  { "key", "s", "object_key" },  -- NULL until content was frozen and checked
  { "etag", "s" },
  { "crc32c", "i" },
  { "status", "s" },
  { "deadline", "t" },
  { "window_ends", "t" },        -- no URL works any longer
  { "lease", "t" },              -- until then somebody assembles its parts
  { "layer_name", "s" },
  { "srid", "i" },
  { "options", "s" },            -- JSON text: what the commit said
  { "current_step", "s" },
  { "rows_processed", "i" },
  { "error", "s" },
  { "warning", "s" },
  { "created_at", "t" },
  { "started_at", "t" },
  { "completed_at", "t" },
  { "updated_at", "t" },
  { "decided", "s" },            -- see longshore.broker.decision
})

--- The columns of `events`: what is still to be told. See longshore.broker.outbox.
_M.events = rows.define("events", {
  { "id", "s" },
  { "hook", "s" },
  { "target", "s" },             -- policy, or webhook:NAME
  { "payload", "s" },            -- JSON text
  { "due", "t" },                -- also the lease: claimed by moving it
  { "attempts", "i" },
  { "error", "s" },
  { "created_at", "t" },
})

--- The migrations, oldest first; each a list of statements.
_M.migrations = {
  {
    [[CREATE TABLE files (
      id TEXT NOT NULL PRIMARY KEY, tenant TEXT NOT NULL, organization TEXT NOT NULL,
      username TEXT NOT NULL, service TEXT NOT NULL, filename TEXT NOT NULL,
      content_type TEXT, size {integer}, state TEXT NOT NULL, provider TEXT,
      object_key TEXT, etag TEXT, crc32c {integer}, checks TEXT, metadata TEXT,
      unique_name TEXT, created_at {integer} NOT NULL, updated_at {integer} NOT NULL)]],
    "CREATE UNIQUE INDEX files_unique_name ON files (unique_name)",
    "CREATE INDEX files_listing ON files (tenant, organization, service, created_at, id)",
    "CREATE INDEX files_named ON files (tenant, organization, service, filename)",
    "CREATE INDEX files_state ON files (state, updated_at)",
    [[CREATE TABLE uploads (
      id TEXT NOT NULL PRIMARY KEY,
      file_id TEXT NOT NULL, tenant TEXT NOT NULL, organization TEXT NOT NULL,
      username TEXT NOT NULL, service TEXT NOT NULL, provider TEXT NOT NULL,
      object_key TEXT NOT NULL, provider_upload_id TEXT, filename TEXT NOT NULL,
      content_type TEXT, size {integer}, part_size {integer}, part_count {integer},
      integrity TEXT NOT NULL, signs_length {integer} NOT NULL,
      requires_tokens {integer} NOT NULL, if_exists TEXT NOT NULL, unique_name TEXT,
      state TEXT NOT NULL, deadline {integer} NOT NULL, lease {integer} NOT NULL,
      expected_crc32c {integer}, error TEXT, created_at {integer} NOT NULL,
      updated_at {integer} NOT NULL)]],
    "CREATE INDEX uploads_resume ON uploads (tenant, organization, service, filename, state)",
    "CREATE INDEX uploads_stale ON uploads (state, deadline)",
    [[CREATE INDEX uploads_running ON uploads (tenant, organization)
      WHERE state IN ('starting', 'uploading', 'completing')]],
    "CREATE INDEX uploads_file ON uploads (file_id)",
    [[CREATE TABLE parts (
      upload_id TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
      number {integer} NOT NULL, token TEXT NOT NULL,
      PRIMARY KEY (upload_id, number))]],
    [[CREATE TABLE cleanups (
      id TEXT NOT NULL PRIMARY KEY, upload_id TEXT, file_id TEXT, provider TEXT NOT NULL,
      object_key TEXT NOT NULL, provider_upload_id TEXT, kind TEXT NOT NULL,
      due {integer} NOT NULL, attempts {integer} NOT NULL, error TEXT,
      created_at {integer} NOT NULL)]],
    "CREATE INDEX cleanups_due ON cleanups (due)",
    [[CREATE TABLE tokens (
      id TEXT NOT NULL PRIMARY KEY, hash TEXT NOT NULL, username TEXT NOT NULL,
      organization TEXT NOT NULL, tenant TEXT NOT NULL, rights TEXT NOT NULL,
      label TEXT, created_at {integer} NOT NULL, expires_at {integer},
      revoked_at {integer})]],
  },
  {
    [[CREATE TABLE datasets (
      id TEXT NOT NULL PRIMARY KEY, tenant TEXT NOT NULL, organization TEXT NOT NULL,
      username TEXT NOT NULL, title TEXT NOT NULL, summary TEXT, visibility TEXT NOT NULL,
      record_type TEXT NOT NULL, filename TEXT NOT NULL, content_type TEXT,
      size {integer} NOT NULL, provider TEXT NOT NULL, object_key TEXT NOT NULL, etag TEXT,
      crc32c {integer}, column_info TEXT, feature_count {integer}, geometry_type TEXT,
      srid {integer}, layer_name TEXT, temporal_start TEXT, temporal_end TEXT,
      version {integer} NOT NULL, busy_job TEXT, created_at {integer} NOT NULL,
      updated_at {integer} NOT NULL)]],
    "CREATE INDEX datasets_owner ON datasets (tenant, organization, username)",
    [[CREATE TABLE jobs (
      id TEXT NOT NULL PRIMARY KEY, tenant TEXT NOT NULL, organization TEXT NOT NULL,
      username TEXT NOT NULL, dataset_id TEXT, workflow TEXT NOT NULL, origin TEXT NOT NULL,
      filename TEXT NOT NULL, content_type TEXT, size {integer} NOT NULL, provider TEXT NOT NULL,
      staging_key TEXT NOT NULL, content_key TEXT NOT NULL, provider_upload_id TEXT,
      part_size {integer}, part_count {integer}, object_key TEXT, etag TEXT, crc32c {integer},
      status TEXT NOT NULL, deadline {integer} NOT NULL, window_ends {integer} NOT NULL,
      lease {integer} NOT NULL, layer_name TEXT, srid {integer}, options TEXT, current_step TEXT,
      rows_processed {integer}, error TEXT, warning TEXT, created_at {integer} NOT NULL,
      started_at {integer}, completed_at {integer}, updated_at {integer} NOT NULL)]],
    "CREATE INDEX jobs_stale ON jobs (status, deadline)",
    "CREATE INDEX jobs_final ON jobs (status, updated_at)",
  },
  record_tables.migration,
  managed_tables.migration,
  {
    [[CREATE TABLE events (
      id TEXT NOT NULL PRIMARY KEY, hook TEXT NOT NULL, target TEXT NOT NULL,
      payload TEXT NOT NULL, due {integer} NOT NULL, attempts {integer} NOT NULL, error TEXT,
      created_at {integer} NOT NULL)]],
    "CREATE INDEX events_due ON events (due)",
    -- The time at which the last of what was taken is paid for.
    "CREATE TABLE rates (name TEXT NOT NULL PRIMARY KEY, paid_until {integer} NOT NULL)",
    "CREATE INDEX rates_old ON rates (paid_until)",
    "CREATE INDEX files_quota ON files (tenant, organization, state, username, size)",
    "ALTER TABLE uploads ADD COLUMN replaces TEXT",
  },
  {
    "ALTER TABLE tokens ADD COLUMN rate_requests {integer}",
    "ALTER TABLE tokens ADD COLUMN rate_seconds {integer}",
  },
  {
    "CREATE INDEX records_content ON records (object_key)",
  },
  {
    "ALTER TABLE jobs ADD COLUMN decided TEXT",
    "ALTER TABLE deliveries ADD COLUMN decided TEXT",
    "ALTER TABLE managed_files ADD COLUMN decided TEXT",
    -- What quotas and `max_running` count.
    "CREATE INDEX jobs_counted ON jobs (tenant, organization, username) WHERE status IN ('pending', 'running')",
    "CREATE INDEX records_counted ON records (tenant, organization, username, size)",
    "CREATE INDEX managed_files_counted ON managed_files (tenant, organization, username, status)",
    "CREATE INDEX managed_files_running ON managed_files (tenant, organization) WHERE status = 'presigned'",
  },
  {
    "CREATE INDEX files_content ON files (object_key) WHERE object_key IS NOT NULL",
  },
}

local function current_version(db)
  local answer, err = db:query("SELECT CAST(MAX(version) AS TEXT) FROM longshore_schema")
  if not answer then return nil, err end
  return tonumber(answer[1] and answer[1][1] or 0)
end

--- Brings a database up to the newest version. Safe to run from many processes
-- at once. A database newer than this software is refused.
-- @tparam table db longshore.store.dbi
-- @treturn number version, or nil, err
function _M.migrate(db)
  -- The usual case, without a lock; the query fails where the table is missing.
  local version = current_version(db)
  if version == #_M.migrations then return version end
  return db:transaction(function()
    if db.dialect.lock_schema then
      local ok, err = db:query(db.dialect.lock_schema)
      if not ok then return nil, err end
    end
    local ok, err = db:exec("CREATE TABLE IF NOT EXISTS longshore_schema (version {integer} NOT NULL)")
    if not ok then return nil, err end
    version, err = current_version(db)
    if not version then return nil, err end
    if version > #_M.migrations then
      return errors.fail("database", ("the database has schema version %d; this longshore knows %d: "
        .. "use a newer longshore"):format(version, #_M.migrations))
    end
    for number = version + 1, #_M.migrations do
      for _, statement in ipairs(_M.migrations[number]) do
        ok, err = db:exec(statement)
        if not ok then return nil, err end
      end
      ok, err = db:exec("INSERT INTO longshore_schema (version) VALUES (?i)", number)
      if not ok then return nil, err end
    end
    return #_M.migrations
  end)
end

return _M

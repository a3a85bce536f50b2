--- The tables of records (files of a project, with rich metadata) and of the
-- deliveries that bring bytes to them. See `longshore.store.schema`.
--
-- Room: store. No I/O.
-- @module longshore.store.record_tables
local rows = require "longshore.store.rows"

local _M = {}

--- The columns of `records`: what a project calls a file. Its content comes
-- later, and may be replaced.
_M.records = rows.define("records", {
  { "id", "i" },                 -- 1 to 2^53-1, random
  { "tenant", "s" },
  { "organization", "s" },
  { "user", "s", "username" },
  { "service", "s" },
  { "name", "s" },
  { "external_id", "s" },
  { "unique_name", "s" },        -- owner and external id: what no other record may have
  { "fields", "s" },             -- JSON text: everything else that users say of it
  { "provider", "s" },           -- NULL while there is no content
  { "key", "s", "object_key" },
  { "etag", "s" },
  { "size", "i" },
  { "crc32c", "i" },
  { "content_at", "t" },         -- when the store got the content, by the store's clock
  { "uploaded_at", "t" },
  { "expires_at", "t" },         -- without content by then, it is gone
  { "created_at", "t" },
  { "updated_at", "t" },
})

--- The columns of `deliveries`: URLs that were given out to bring content.
_M.deliveries = rows.define("deliveries", {
  { "id", "s" },
  { "record_id", "i" },
  { "tenant", "s" },
  { "organization", "s" },
  { "user", "s", "username" },
  { "kind", "s" },               -- put, session or multipart
  { "provider", "s" },
  { "key", "s", "object_key" },  -- what the URLs name
  { "content_key", "s" },        -- what the key of the content begins with
  { "provider_upload_id", "s" },
  { "part_count", "i" },
  { "max_size", "i" },
  { "state", "s" },              -- starting, open, used, completing, done, void
  { "deadline", "t" },           -- no URL works any longer
  { "lease", "t" },              -- until then somebody works at it
  { "look_at", "t" },            -- when the janitor looks for bytes
  { "etag", "s" },               -- of the bytes that were taken
  { "seen_at", "t" },            -- their Last-Modified
  { "cleanup_id", "s" },         -- removes what is left at `key`
  { "created_at", "t" },
  { "updated_at", "t" },
  { "decided", "s" },            -- see longshore.broker.decision
})

--- Their migration.
_M.migration = {
  [[CREATE TABLE records (
    id {integer} NOT NULL PRIMARY KEY, tenant TEXT NOT NULL, organization TEXT NOT NULL,
    username TEXT NOT NULL, service TEXT NOT NULL, name TEXT NOT NULL, external_id TEXT,
    unique_name TEXT, fields TEXT NOT NULL, provider TEXT, object_key TEXT, etag TEXT,
    size {integer}, crc32c {integer}, content_at {integer}, uploaded_at {integer},
    expires_at {integer} NOT NULL, created_at {integer} NOT NULL, updated_at {integer} NOT NULL)]],
  "CREATE UNIQUE INDEX records_unique_name ON records (unique_name)",
  "CREATE INDEX records_listing ON records (tenant, organization, created_at, id)",
  "CREATE INDEX records_expiring ON records (expires_at) WHERE object_key IS NULL",
  [[CREATE TABLE deliveries (
    id TEXT NOT NULL PRIMARY KEY, record_id {integer} NOT NULL, tenant TEXT NOT NULL,
    organization TEXT NOT NULL, username TEXT NOT NULL, kind TEXT NOT NULL, provider TEXT NOT NULL,
    object_key TEXT NOT NULL, content_key TEXT NOT NULL, provider_upload_id TEXT,
    part_count {integer}, max_size {integer}, state TEXT NOT NULL, deadline {integer} NOT NULL,
    lease {integer} NOT NULL, look_at {integer} NOT NULL, etag TEXT, seen_at {integer},
    cleanup_id TEXT NOT NULL, created_at {integer} NOT NULL, updated_at {integer} NOT NULL)]],
  "CREATE INDEX deliveries_record ON deliveries (record_id, state)",
  [[CREATE INDEX deliveries_due ON deliveries (look_at)
    WHERE state IN ('starting', 'open', 'used', 'completing')]],
  [[CREATE INDEX deliveries_running ON deliveries (tenant, organization)
    WHERE state IN ('starting', 'open', 'completing')]],
}

return _M

--- The tables of managed files and catalogs. See `longshore.store.schema`.
--
-- Room: store, no I/O.
-- @module longshore.store.managed_tables
local rows = require "longshore.store.rows"

local _M = {}

--- The columns of `catalogs`: buckets that athena's clients keep files in.
_M.catalogs = rows.define("catalogs", {
  { "id", "s" },
  { "tenant", "s" },
  { "name", "s" },
  { "profile", "s" },
  { "endpoint", "s" },           -- NULL: the profile's own
  { "public_endpoint", "s" },
  { "public_base_url", "s" },
  { "region", "s" },
  { "bucket", "s" },
  { "buckets", "l" },            -- further ones that requests may name
  { "prefix", "s" },
  { "path_style", "b" },         -- NULL: as the profile says
  { "access_key", "s" },
  { "secret", "s" },             -- sealed: {secret_key, session_token} as JSON
  { "seal_id", "s" },            -- with which key of the configuration
  { "metadata", "s" },           -- JSON text
  { "active", "b" },
  { "version", "i" },
  { "created_at", "t" },
  { "updated_at", "t" },
  { "rotated_at", "t" },         -- when the credentials were changed
})

--- The columns of `managed_files`: files whose keys clients name.
_M.managed = rows.define("managed_files", {
  { "id", "s" },
  { "tenant", "s" },
  { "organization", "s" },
  { "user", "s", "username" },
  { "catalog", "s" },
  { "bucket", "s" },
  { "provider", "s" },           -- of catalog and bucket
  { "key", "s", "object_key" },
  { "name", "s" },
  { "original_name", "s" },
  { "resource_id", "s" },
  { "content_type", "s" },
  { "declared_size", "i" },      -- of what is to come
  { "size", "i" },
  { "etag", "s" },               -- NULL: no content has been seen
  { "crc32c", "i" },
  { "sha256", "s" },             -- hex, of the content with this ETag; checked
  { "metadata", "s" },           -- JSON text
  { "encryption", "s" },         -- JSON text: headers that go along when content is written
  { "visibility", "s" },         -- private, organization, public
  { "status", "s" },
  { "generation", "i" },         -- counts contents and places
  { "version", "i" },            -- counts changes of the row
  { "watch_until", "t" },        -- a URL that can write may be in use until then
  { "due", "t" },                -- when the janitor is to look; NULL: never
  { "move_bucket", "s" },        -- where it is going
  { "move_provider", "s" },
  { "move_key", "s" },
  { "trash_key", "s" },
  { "deleted_at", "t" },
  { "created_at", "t" },
  { "updated_at", "t" },
  { "decided", "s" },            -- see longshore.broker.decision
})

--- The columns of `url_cache`: signed URLs that may be handed out again.
_M.url_cache = rows.define("url_cache", {
  { "id", "s" },
  { "file_id", "s" },
  { "url", "s" },
  { "headers", "s" },            -- JSON text
  { "expires_at", "t" },
})

--- The migration that makes them.
_M.migration = {
  [[CREATE TABLE catalogs (
    id TEXT NOT NULL PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, profile TEXT NOT NULL,
    endpoint TEXT, public_endpoint TEXT, public_base_url TEXT, region TEXT, bucket TEXT NOT NULL, buckets TEXT,
    prefix TEXT NOT NULL, path_style {integer}, access_key TEXT NOT NULL, secret TEXT NOT NULL,
    seal_id TEXT NOT NULL, metadata TEXT, active {integer} NOT NULL, version {integer} NOT NULL,
    created_at {integer} NOT NULL, updated_at {integer} NOT NULL, rotated_at {integer})]],
  [[CREATE TABLE managed_files (
    id TEXT NOT NULL PRIMARY KEY, tenant TEXT NOT NULL, organization TEXT NOT NULL, username TEXT NOT NULL,
    catalog TEXT NOT NULL, bucket TEXT NOT NULL, provider TEXT NOT NULL, object_key TEXT NOT NULL,
    name TEXT NOT NULL, original_name TEXT, resource_id TEXT, content_type TEXT, declared_size {integer},
    size {integer}, etag TEXT, crc32c {integer}, sha256 TEXT, metadata TEXT, encryption TEXT,
    visibility TEXT NOT NULL, status TEXT NOT NULL, generation {integer} NOT NULL, version {integer} NOT NULL,
    watch_until {integer} NOT NULL, due {integer}, move_bucket TEXT, move_provider TEXT, move_key TEXT,
    trash_key TEXT, deleted_at {integer}, created_at {integer} NOT NULL, updated_at {integer} NOT NULL)]],
  "CREATE INDEX managed_files_listing ON managed_files (tenant, organization, catalog, object_key)",
  "CREATE INDEX managed_files_catalog ON managed_files (catalog, bucket)",
  "CREATE INDEX managed_files_due ON managed_files (due)",
  "CREATE INDEX managed_files_final ON managed_files (status, updated_at)",
  -- A key belongs to one file; a file that moves has two for a while.
  "CREATE TABLE managed_claims (place TEXT NOT NULL PRIMARY KEY, file_id TEXT NOT NULL)",
  "CREATE INDEX managed_claims_file ON managed_claims (file_id)",
  [[CREATE TABLE url_cache (
    id TEXT NOT NULL PRIMARY KEY, file_id TEXT NOT NULL, url TEXT NOT NULL, headers TEXT,
    expires_at {integer} NOT NULL)]],
  "CREATE INDEX url_cache_end ON url_cache (expires_at)",
}

return _M

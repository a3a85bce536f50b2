--- What object stores can and cannot do, as data. No code asks which store it
-- talks to; it asks a field of the row.
--
-- Limits, in bytes: `min_part` (all parts but the last), `max_part`, `max_parts`,
-- `max_object`, `max_put` (a single PUT), `max_copy` (one CopyObject),
-- `max_metadata` (names and values together), `max_expires` (seconds a presigned
-- URL may live).
--
-- Quirks:
--
--  * `equal_parts`: all parts but the last must have the same size;
--  * `etag_is_md5`: an ETag is the MD5 of the body (of the parts' MD5s and their
--    number for a multipart object) when the store encrypts nothing by itself;
--  * `checksum_of_unannounced`: the checksum that the store computes and reports
--    for bodies sent without any checksum header, or nil;
--  * `lists_crc32c`: ListParts reports CRC32C of such parts;
--  * `checksum_kinds`: kinds the store verifies when a request carries them, with
--    their type for multipart objects (`full`, `composite` or both);
--  * `checksum_mode`: HEAD and GET report checksums only when asked to;
--  * `post_policy`: browser form uploads with a signed policy;
--  * `conditional_put`, `conditional_complete`: If-None-Match: * is honoured;
--  * `location_constraint`: creating a bucket names the region in the body;
--  * `path_style`: `"auto"` (virtual host where the name allows), `true`, `false`;
--  * `lifecycle_abort`: the lifecycle rule AbortIncompleteMultipartUpload exists;
--  * `bucket_cors`: CORS rules are set with PutBucketCors;
--  * `complete_repeats`: completing twice answers 200 again instead of NoSuchUpload;
--  * `sessions`: it takes resumable uploads (longshore.sessions);
--  * `encryption`: the values of x-amz-server-side-encryption that requests may ask for;
--  * `uploads_encoded`: the list of uploads can have its keys URL-encoded (and says so).
--
-- `endpoint` has `{region}` (and `{account}` for R2) where the option of that
-- name goes; `region` is the default.
--
-- Sources are the vendors' documents; what nobody documents has the cautious value.
--
-- Room: provider, no I/O.
-- @module longshore.provider.profiles
local KiB, MiB, GiB, TiB = 2 ^ 10, 2 ^ 20, 2 ^ 30, 2 ^ 40

local _M = {}

local to_integer = rawget(math, "tointeger") or function(v) return v end

-- What S3 itself has; a row says what differs.
local base = {
  api = "s3",
  min_part = 5 * MiB, max_part = 5 * GiB, max_parts = 10000, max_object = 5 * TiB,
  max_put = 5 * GiB, max_copy = 5 * GiB, max_metadata = 2 * KiB, max_expires = 604800,
  equal_parts = false, etag_is_md5 = true, lists_crc32c = false, checksum_mode = false,
  checksum_kinds = {}, post_policy = true, conditional_put = false, conditional_complete = false,
  location_constraint = false, path_style = "auto", lifecycle_abort = true, bucket_cors = true,
  complete_repeats = false, sessions = false, uploads_encoded = true, region = "us-east-1", encryption = {},
}

local rows = {
  -- The store that `longshore serve` brings along.
  diskstore = {
    title = "longshore's disk store", path_style = true, min_part = 5 * MiB, max_object = 10000 * 5 * GiB,
    checksum_of_unannounced = "crc32c", lists_crc32c = true,
    checksum_kinds = { crc32c = { full = true } },
    post_policy = false, conditional_put = true, conditional_complete = true,
    lifecycle_abort = false, bucket_cors = false, sessions = true,
  },
  aws = {
    title = "Amazon S3", endpoint = "https://s3.{region}.amazonaws.com",
    max_object = 10000 * 5 * GiB, checksum_mode = true,
    checksum_kinds = { crc32 = { full = true, composite = true }, crc32c = { full = true, composite = true },
      crc64nvme = { full = true }, sha1 = { composite = true }, sha256 = { composite = true } },
    conditional_put = true, conditional_complete = true, location_constraint = true,
    encryption = { "AES256", "aws:kms", "aws:kms:dsse" },
    -- SSE-KMS buckets have other ETags; a profile of one's own says so.
  },
  ceph = {
    title = "Ceph RADOS Gateway", path_style = true,
    conditional_put = true, complete_repeats = true, uploads_encoded = false, encryption = { "AES256", "aws:kms" },
  },
  minio = {
    title = "MinIO", path_style = true, max_object = 5 * TiB, max_put = 5 * GiB, checksum_mode = true,
    checksum_kinds = { crc32 = { full = true, composite = true }, crc32c = { full = true, composite = true },
      crc64nvme = { full = true }, sha1 = { composite = true }, sha256 = { composite = true } },
    conditional_put = true, conditional_complete = true, bucket_cors = false, lifecycle_abort = false,
    encryption = { "AES256", "aws:kms" },
  },
  r2 = {
    title = "Cloudflare R2", endpoint = "https://{account}.r2.cloudflarestorage.com", region = "auto",
    path_style = true, equal_parts = true, max_object = 5 * TiB - 5 * GiB, max_part = 5 * GiB - 5 * MiB,
    max_put = 5 * GiB - 5 * MiB, max_metadata = 8 * KiB,
    checksum_kinds = { crc64nvme = { full = true }, crc32 = { composite = true }, crc32c = { composite = true },
      sha1 = { composite = true }, sha256 = { composite = true } },
    post_policy = false, conditional_put = true,
  },
  gcs = {
    title = "Google Cloud Storage (S3 interoperability)", endpoint = "https://storage.googleapis.com",
    region = "auto", path_style = true, max_object = 5 * TiB, max_put = 5 * TiB, max_copy = 5 * TiB,
    max_metadata = 8 * KiB, etag_is_md5 = false, checksum_of_unannounced = "crc32c",
    checksum_kinds = { crc32c = { full = true } },
    -- HMAC keys sign S3's way; a form policy has Google's own field names.
    post_policy = false, bucket_cors = false, lifecycle_abort = true,
  },
  b2 = {
    title = "Backblaze B2", endpoint = "https://s3.{region}.backblazeb2.com", region = "us-west-004",
    max_object = 10 * 10 ^ 12, max_put = 5 * 10 ^ 9, max_part = 5 * 10 ^ 9, max_copy = 5 * 10 ^ 9,
    post_policy = false, etag_is_md5 = true, encryption = { "AES256" },
  },
  wasabi = {
    title = "Wasabi", endpoint = "https://s3.{region}.wasabisys.com", location_constraint = true,
    encryption = { "AES256" },
    max_object = 5 * TiB, lifecycle_abort = false,
  },
  digitalocean = {
    title = "DigitalOcean Spaces", endpoint = "https://{region}.digitaloceanspaces.com", region = "nyc3",
  },
  scaleway = {
    title = "Scaleway Object Storage", endpoint = "https://s3.{region}.scw.cloud", region = "fr-par",
    max_parts = 1000, max_object = 1000 * 5 * GiB,
  },
  storj = {
    title = "Storj", endpoint = "https://gateway.storjshare.io", region = "us-1", path_style = true,
    min_part = 64 * MiB, etag_is_md5 = false, post_policy = false, bucket_cors = false, lifecycle_abort = false,
  },
  generic = {
    title = "an S3-compatible store", path_style = true, etag_is_md5 = false, post_policy = false,
    equal_parts = true, lifecycle_abort = false,
  },
}

local function copy(value)
  if type(value) == "number" then return to_integer(value) or value end
  if type(value) ~= "table" then return value end
  local out = {}
  for k, v in pairs(value) do out[k] = copy(v) end
  return out
end

--- The names, sorted.
_M.names = {}
for name in pairs(rows) do _M.names[#_M.names + 1] = name end
table.sort(_M.names)

--- The row of a store, complete; the caller's to change.
-- @tparam string|table what a name of `names`, or a table of fields with `base`
--   naming the row they change (default `generic`)
-- @treturn table|nil row with `name`; nil for an unknown name
function _M.get(what)
  local changes
  if type(what) == "table" then
    changes, what = what, what.base or "generic"
  end
  local row = rows[what]
  if not row then return nil end
  local profile = copy(base)
  for k, v in pairs(row) do profile[k] = copy(v) end
  profile.name = what
  for k, v in pairs(changes or {}) do profile[k] = copy(v) end
  return profile
end

return _M

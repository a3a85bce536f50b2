--- What every hook of a policy sees and what it may change.
--
-- A `before_` hook may refuse; one with `rewrites` may answer a table of changes.
-- An `after_` hook is told; its answer is ignored. Every hook's context has
-- `actor` (`user`, `organization`, `tenant`, `rights`, `via`; nil when the
-- janitor acts) and the fields listed under `sees`; it is the hook's own copy.
--
-- Room: policy, no I/O.
-- @module longshore.policy.contract
local keys = require "longshore.policy.keys"

local _M = {}

local function whole(low, high)
  return function(v)
    return type(v) == "number" and v % 1 == 0 and v >= low and v <= high,
      ("a whole number from %.0f to %.0f"):format(low, high)
  end
end

local function text(limit)
  return function(v)
    return type(v) == "string" and v ~= "" and #v <= limit and not v:find("[%c]"),
      ("text of 1 to %d bytes without control characters"):format(limit)
  end
end

local function key(v)
  return keys.is_safe(v), "a key of safe characters (A-Z a-z 0-9 . _ ~ - /), no empty, . or .. segment"
end

local function plain(v)
  return type(v) == "table", "a table"
end

local url_seconds = whole(1, 604800)

--- The hooks by name: `sees` (for the documentation), `rewrites` (field to its
-- check) and `after`.
_M.hooks = {
  -- Whether this actor may do this at all. `right`: read, upload, delete, admin.
  authorize = { sees = { "operation", "right" } },

  -- An upload is about to be started (`operation` initiate or ingest), or taken
  -- up again (`resume`; only refusing and upload_seconds count then).
  before_initiate = {
    sees = { "operation", "service", "filename", "content_type", "size", "max_size", "metadata",
      "part_size", "resume", "file_id", "upload_id", "provider",
      "client_key" }, -- where the client names the key (athena); a rewritten `key` counts for nothing then
    rewrites = {
      key = key,
      provider = text(255),
      content_type = text(255),
      metadata = plain,
      part_size = whole(1, 9007199254740991),
      upload_seconds = whole(1, 315360000),
      max_running = whole(1, 9007199254740991),
    },
  },

  -- URLs for these parts are about to be signed.
  before_sign = { sees = { "upload", "numbers" }, rewrites = { url_seconds = url_seconds } },

  -- The parts listed by the store fit the plan; the object is about to be made of them.
  before_complete = { sees = { "upload", "parts", "size", "crc32c" } },

  after_complete = { after = true, sees = { "upload", "file" } },
  after_fail = { after = true, sees = { "upload", "file" } },
  after_abort = { after = true, sees = { "upload" } },
  after_expire = { after = true, sees = { "upload" } },

  before_abort = { sees = { "upload" } },

  before_download = {
    sees = { "file" },
    rewrites = { url_seconds = url_seconds, filename = text(1024), content_type = text(255) },
  },

  before_delete = { sees = { "file" } },
  after_delete = { after = true, sees = { "file" } },
}

return _M

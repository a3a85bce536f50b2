--- What every hook of a policy sees and what it may change.
--
-- A `before_` hook may refuse; one with `rewrites` may answer a table of changes.
-- An `after_` hook is told; its answer is ignored; when it raises it is told again
-- later. Every service asks them all, where it has such a moment; what its API fixes
-- (`fixed`) cannot be rewritten there. Every hook's context has `service`, `actor` (`user`, `organization`, `tenant`,
-- `rights`, `via`, `client` with `address` and `agent` where a request is behind it;
-- nil when the janitor acts, or whoever looked when bytes had come) and the fields listed under `sees`; it
-- is the hook's own copy. An `upload` and a `file` have the fields of `upload_fields` and `file_fields`, whatever
-- the service, and more where they are known: `size`, `content_type`, `part_count`, `deadline`; `etag`, `crc32c`,
-- `metadata`, `visibility`.
--
-- What the words mean for each service:
--
-- * newton: a file is named by its filename; uploads have parts and an end.
-- * athena: a file is named by the key that the client gives it (`client_key`); `before_initiate` is asked for a URL
--   (`upload_url`), a multipart upload (`multipart_create`), bytes through the broker (`ingest`), another key
--   (`update_file`) and out of the trash (`restore_file`). The store replaces what lies at a key, so a URL to
--   read that was given before shows new bytes before they were looked at; no other is given then.
-- * cognite: a file is named by its external id, one without has no other beside it; each set of links is an upload.
--   `before_initiate` is also asked when the metadata or the type of a `file` is about to change (`update_file`; only
--   refusing and these two count then).
-- * geolens: a job is an upload, and the file a dataset; only a re-upload has one that is there already.
--
-- Nobody says when a single PUT of athena or cognite has ended: its bytes are noticed, by a reader or the
-- janitor, and then `before_complete` and `before_register` are asked. Refused bytes are removed; what was
-- there before stays (for athena: is gone with the store's replacing it).
--
-- Its second argument is `host`: `now()`, `log(level, message, fields)`, `word(name)`
-- (a safe word for keys), `sha256(text)` (hex), `take{name=, key=, limit=, seconds=}`
-- (counts; answers the seconds to wait, 0 when it was allowed), `find{service=,
-- filename=}` (the actor's finished file of that name, of the service at hand unless it is
-- named; beside newton's, only the one that is `current`), `fetch{method=, url=, headers=,
-- body= or json=, timeout=}` (of the URLs that the configuration allows; answers
-- `status`, `headers`, `body`, `json`), and where there is an upload with content
-- (before_register, after_complete) `head(bytes)` and `url(seconds)`.
--
-- Room: policy, no I/O.
-- @module longshore.policy.contract
local json = require "longshore.json"
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
    return type(v) == "string" and v ~= "" and #v <= limit and not v:find("[%c]") and not json.bad_utf8(v),
      ("text (UTF-8) of 1 to %d bytes without control characters"):format(limit)
  end
end

-- Two uploads of one key would be one object, which each of them replaces and deletes.
local function key(v, context)
  if not keys.is_safe(v) then
    return false, "a key of safe characters (A-Z a-z 0-9 . _ ~ - /), no empty, . or .. segment"
  end
  local file_id, upload_id = context.file_id or "", context.upload_id or ""
  return v:find(file_id, 1, true) ~= nil or v:find(upload_id, 1, true) ~= nil,
    "a key of its own (with context.file_id or context.upload_id in it)"
end

-- Data that can be kept as JSON, by names.
local function object(v)
  if type(v) ~= "table" or json.is_array(v) then return false, "a table of fields by name" end
  for name in pairs(v) do
    if type(name) ~= "string" then return false, "a table of fields by name" end
  end
  local ok, why = pcall(json.encode, v)
  return ok, not ok and "what can be kept as JSON (" .. tostring(why):gsub("^json.encode: ", "") .. ")"
end

local MIME = "[%w!#$&^_%.+%-]+/[%w!#$&^_%.+%-]+"

--- Whether a text is a MIME type, with parameters perhaps.
-- @tparam string v
-- @treturn boolean
function _M.is_content_type(v)
  return #v <= 255 and (v:find("^" .. MIME .. "$") or v:find("^" .. MIME .. " *;[ -~]*$")) ~= nil
end

local function content_type(v)
  return type(v) == "string" and _M.is_content_type(v), "a MIME type such as video/mp4"
end

local url_seconds = whole(1, 604800)

local function one_of(...)
  local set, words = {}, { ... }
  for _, word in ipairs(words) do set[word] = true end
  return function(v) return set[v] == true, "one of " .. table.concat(words, ", ") end
end

-- A list of fields: name to check; `required` ones must be there.
local function record(fields, required)
  return function(v)
    if type(v) ~= "table" then return false, "a table" end
    for name, value in pairs(v) do
      local check = fields[name]
      if not check then return false, "only known fields (not " .. tostring(name) .. ")" end
      local ok, expected = check(value)
      if not ok then return false, ("%s: %s"):format(name, expected) end
    end
    for _, name in ipairs(required or {}) do
      if v[name] == nil then return false, name end
    end
    return true
  end
end

local function list_of(check)
  return function(v)
    if type(v) ~= "table" then return false, "a list" end
    local count = 0
    for i, value in ipairs(v) do
      local ok, expected = check(value)
      if not ok then return false, ("%d: %s"):format(i, expected) end
      count = i
    end
    for at in pairs(v) do -- what stands beside the list would be no part of it
      if type(at) ~= "number" or at < 1 or at > count then return false, "a list without holes and names" end
    end
    return true
  end
end

local RIGHTS = { read = true, upload = true, delete = true, admin = true }

local function rights(v)
  if type(v) ~= "table" then return false, "a set of rights" end
  for name, value in pairs(v) do
    if not RIGHTS[name] or type(value) ~= "boolean" then return false, "a set of read, upload, delete, admin" end
  end
  return true
end

--- Headers that a policy may give to an object.
_M.headers = {
  ["cache-control"] = true, ["content-disposition"] = true, ["content-encoding"] = true,
  ["content-language"] = true, ["expires"] = true, ["x-amz-storage-class"] = true,
  ["x-amz-server-side-encryption"] = true, ["x-amz-server-side-encryption-aws-kms-key-id"] = true,
  ["x-amz-server-side-encryption-bucket-key-enabled"] = true, ["x-amz-object-lock-mode"] = true,
  ["x-amz-object-lock-retain-until-date"] = true, ["x-amz-object-lock-legal-hold"] = true,
}

local function headers(v)
  if type(v) ~= "table" then return false, "a table of headers" end
  for name, value in pairs(v) do
    if not _M.headers[name] then return false, ("a header that an object may have (not %s)"):format(tostring(name)) end
    if type(value) ~= "string" or value == "" or #value > 1024 or not value:find("^[!-~][ -~]*$")
      or value:sub(-1) == " " then
      return false, ("%s: printable ASCII without spaces around it"):format(name)
    end
  end
  return true
end

local function tags(v)
  if type(v) ~= "table" then return false, "a table of tags" end
  local count = 0
  for name, value in pairs(v) do
    count = count + 1
    if type(name) ~= "string" or name == "" or #name > 128 or type(value) ~= "string" or #value > 256
      or (name .. value):find("[^%w _%.:/=%+%-@]") or count > 10 then
      return false, "at most 10 tags of letters, digits, spaces and _ . : / = + - @"
    end
  end
  return true
end

local function yes_or_no(v) return type(v) == "boolean", "true or false" end

local function words(v) return type(v) == "string", "text" end

local function up_to(high)
  return function(v) return type(v) == "number" and v >= 0 and v <= high, ("a number from 0 to %.0f"):format(high) end
end

local function word(v)
  return type(v) == "string" and #v <= 64 and v:find("^%a[%w_%-%.]*$") ~= nil and v ~= "internal",
    "a word other than internal"
end

--- What the reason of a refusal may say. `code`: one of longshore.errors, which each service has a status and a
-- word for, or one's own (403, if there is no `status`); `status` and `message` are the client's answer;
-- `retryable`: nothing is decided yet; `retry_after`: seconds.
_M.refusal = { code = word, message = words, status = whole(400, 599), field = words, reason = words,
  right = words, limit = up_to(9007199254740991), retryable = yes_or_no, retry_after = up_to(315360000) }

local quota = record({ scope = one_of("user", "organization"), bytes = whole(0, 9007199254740991),
  files = whole(0, 9007199254740991), running = whole(0, 9007199254740991) }, { "scope" })

--- What every `upload` and every `file` has.
_M.upload_fields = { "id", "file_id", "filename", "service", "state", "provider", "key", "organization", "tenant",
  "user", "created_at", "updated_at" }
_M.file_fields = { "id", "filename", "service", "state", "organization", "tenant", "user", "created_at", "updated_at" }

--- What the API of a service fixes, and why a policy cannot rewrite it there.
_M.fixed = {
  athena = { key = "the client names the key", provider = "the client names the bucket" },
  geolens = { metadata = "a dataset has none" },
}

--- The hooks by name: `sees` (for the documentation), `rewrites` (field to its
-- check) and `after`.
_M.hooks = {
  -- Who is asking. `actor` is what the token says, or nil; `token`: whether one was
  -- presented and is not valid. A rewritten actor takes its place, also for those without a token.
  authenticate = {
    sees = { "service", "method", "path", "token", "client" },
    rewrites = { actor = record({ user = text(255), organization = text(255), tenant = text(255), rights = rights,
      via = text(32), token_id = text(64), client = object, principal = object,
      rate = record({ requests = whole(1, 1000000000), seconds = whole(1, 86400) }, { "requests", "seconds" }) },
      { "user", "organization", "tenant", "rights" }) },
  },

  -- Whether this actor may do this at all. `right`: read, upload, delete, admin.
  authorize = { sees = { "service", "operation", "right" } },

  -- An upload is about to be started (`operation` initiate or ingest), or taken
  -- up again (`resume`, where one runs; only refusing and upload_seconds count then).
  before_initiate = {
    sees = { "operation", "service", "filename", "content_type", "size", "max_size", "metadata",
      "part_size", "resume", "file_id", "upload_id", "provider", "if_exists", "quotas", "headers", "tags",
      "file", -- whose metadata is about to change (cognite's update_file)
      "current", -- what is there already and would be replaced, a file (but newton's: see host.find)
      "client_key" }, -- where the client names the key (athena)
    rewrites = {
      key = key,
      provider = text(255),
      content_type = content_type,
      metadata = object,
      part_size = whole(1, 9007199254740991), -- where longshore plans the parts (newton, geolens)
      upload_seconds = whole(1, 315360000), -- of a service with an end of its own: if that is sooner
      max_running = whole(1, 9007199254740991),
      -- keep: both stay; where two cannot have the name (all but newton) that is refuse
      if_exists = one_of("refuse", "replace", "keep"),
      replaces = text(64), -- with if_exists replace: only this file (its id), as it is now
      quotas = list_of(quota),
      headers = headers,
      tags = tags,
    },
  },

  -- URLs for these parts are about to be signed.
  before_sign = { sees = { "upload", "numbers" }, rewrites = { url_seconds = url_seconds } },

  -- The parts listed by the store fit the plan; the object is about to be made of them.
  before_complete = { sees = { "upload", "parts", "size", "crc32c" } },

  -- The object is whole at the store, and nobody can see it yet: a refusal fails the
  -- upload; a `retryable` one leaves it to the next complete, or to the janitor.
  before_register = { sees = { "upload", "size", "etag", "crc32c" } },

  after_complete = { after = true, sees = { "upload", "file" } },
  after_fail = { after = true, sees = { "upload", "file" } },
  after_abort = { after = true, sees = { "upload" } },
  after_expire = { after = true, sees = { "upload" } },

  before_abort = { sees = { "upload" } },

  before_download = {
    sees = { "file" },
    rewrites = { url_seconds = url_seconds, filename = text(1024), content_type = content_type },
  },

  -- Who may see these is about to change. `visibility`: what it becomes.
  before_visibility = { sees = { "files", "visibility" } },

  before_delete = { sees = { "file" } },
  after_delete = { after = true, sees = { "file" } },
}

--- What to say of a hook that there is not.
-- @tparam string name
-- @treturn string
function _M.no_hook(name)
  local names = {}
  for known in pairs(_M.hooks) do names[#names + 1] = known end
  table.sort(names)
  return ("there is no hook %q (there are %s)"):format(tostring(name), table.concat(names, ", "))
end

--- The service that a context is of, which every hook sees.
-- @tparam table context
-- @treturn ?string
function _M.service(context)
  local of = context.upload or context.file or context.files and context.files[1]
  return context.service or of and of.service
end

for _, hook in pairs(_M.hooks) do
  local known
  for _, field in ipairs(hook.sees) do known = known or field == "service" end
  if not known then table.insert(hook.sees, "service") end
end

return _M

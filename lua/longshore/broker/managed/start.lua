--- upload_urls: rows for files to come, and a URL for each; all of them or none.
--
-- Everything is decided and signed first, then all rows are written in one transaction: a
-- refusal of any file leaves nothing changed. What another caller changed meanwhile makes
-- it all begin again.
--
-- Room: broker.
-- @module longshore.broker.managed.start
local access = require "longshore.broker.managed.access"
local check = require "longshore.broker.check"
local decide = require "longshore.broker.managed.decide"
local decisions = require "longshore.broker.decision"
local errors = require "longshore.errors"
local json = require "longshore.json"
local keys = require "longshore.broker.managed.keys"
local look = require "longshore.broker.managed.look"
local relocate = require "longshore.broker.managed.relocate"
local rows = require "longshore.store.rows"
local urls = require "longshore.broker.managed.urls"
local uuid = require "longshore.broker.uuid"

local _M = {}

local ENCRYPTION = "x-amz-server-side-encryption"

--- The headers that ask the store to encrypt, as far as its profile can.
-- @tparam table provider
-- @tparam table wish `encryption`, `kms_key_id`, `bucket_key`
-- @treturn table|nil headers; nil without err: nothing was asked
-- @treturn table err
function _M.encryption_headers(_, provider, wish)
  local kind = wish.encryption or (wish.kms_key_id and "aws:kms") or nil
  if not kind then
    if wish.bucket_key ~= nil then
      return check.invalid("bucket_key_enabled", "needs server_side_encryption aws:kms")
    end
    return nil
  end
  local can = false
  for _, known in ipairs(provider.profile.encryption or {}) do can = can or known == kind end
  if not can then
    return check.invalid("server_side_encryption", ("%s does not encrypt with %s on request"):format(
      provider.profile.title or "this store", kind))
  end
  local headers = { [ENCRYPTION] = kind }
  if kind == "AES256" then
    if wish.kms_key_id then return check.invalid("kms_key_id", "does not go with AES256") end
    if wish.bucket_key ~= nil then return check.invalid("bucket_key_enabled", "does not go with AES256") end
  end
  headers[ENCRYPTION .. "-aws-kms-key-id"] = wish.kms_key_id
  if wish.bucket_key ~= nil then headers[ENCRYPTION .. "-bucket-key-enabled"] = tostring(wish.bucket_key) end
  return headers
end

local function forbidden()
  return errors.fail("forbidden", "an existing file may be overwritten by its owner only", { reason = "owner" })
end

local function taken()
  return errors.fail("conflict", "storage_key: this key is another file's", { field = "storage_key" })
end

-- The row that a request means: an existing one, or nil for a new one. Second: the
-- row of a deleted file of the same owner that still holds the key.
local function find_row(self, actor, r, place)
  local named, err
  if r.file_id then
    named, err = access.load(self, actor, r.file_id, "overwrite", true)
    if not named then return nil, nil, err end
    if keys.place(named.provider, named.key) ~= place then
      return nil, nil, errors.new("conflict", "file_id: this file has another key; change that first",
        { field = "file_id" })
    end
    if access.GONE[named.status] then
      return nil, nil, errors.new("conflict", "file_id: this file is deleted; restore it first", { field = "file_id" })
    end
  end
  local holder
  holder, err = self.store:managed_at(place)
  if not holder and err.code == "not_found" then
    local id, why = self.store:claimant(place)
    if why then return nil, nil, why end
    if not id then return named end
    -- A cleanup's, or a row that moves; or one that was not there a moment ago.
    holder, err = self.store:managed_at(place)
    if not holder and err.code == "not_found" then return nil, nil, select(2, taken()) end
  end
  if not holder then return nil, nil, err end
  if not access.owns(actor, holder) then return nil, nil, select(2, forbidden()) end
  if named and holder.id ~= named.id then return nil, nil, select(2, taken()) end
  if relocate.BUSY[holder.status] then
    return nil, nil, errors.new("conflict", "this file is on its way to another key; try again",
      { retryable = true, retry_after = 1 })
  end
  -- It has been deleted, or has moved, and keeps the key until its last URL has ended.
  if access.GONE[holder.status] or keys.place(holder.provider, holder.key) ~= place then return nil, holder end
  return holder
end

-- An object without a row is nobody's to overwrite.
local function nothing_there(self, provider, key, place)
  local object, err = provider:head { key = key }
  if object and self.store:claimant(place) then -- a moment ago there was no row
    return errors.fail("conflict", "the key was taken meanwhile; try again", { reason = "claimed", retryable = true })
  end
  if object then return forbidden() end
  if self:is_gone(err) then return true end
  return nil, self:store_failure(err)
end

-- Of those that write the same row at the same moment each time one wins: more than there are threads.
local TRIES = 20

local DESCRIBES = { "name", "original_name", "resource_id", "content_type", "visibility" }

local function new_row(actor, r, catalog, provider_name, now)
  return {
    id = uuid.new(), tenant = actor.tenant, organization = actor.organization, user = actor.user,
    catalog = catalog.id, bucket = catalog.bucket, provider = provider_name, key = r.key,
    name = r.name or r.original_name or r.key:match("[^/]*$"), original_name = r.original_name,
    resource_id = r.resource_id, content_type = r.content_type, visibility = r.visibility or "private",
    status = "presigned", generation = 0, version = 1, watch_until = now, created_at = now, updated_at = now,
  }
end

-- What an existing row becomes.
local function changed_fields(r, row, now)
  local fields = { updated_at = now, declared_size = r.size or rows.null }
  for _, name in ipairs(DESCRIBES) do fields[name] = r[name] end
  if row.status == "failed" or row.status == "abandoned" then fields.status = "presigned" end
  return fields
end

-- Whether the file may be seen by those that the request wants to see it.
local function may_show(self, actor, r, row, now)
  if not r.visibility or r.visibility == now then return true end
  local ok, err = self.policy:decide("before_visibility",
    { actor = actor, files = { self:view_managed(row) }, visibility = r.visibility })
  if not ok then return nil, err end
  return true
end

local function sign(self, actor, provider, row, r, headers, wanted)
  local decision, err = self.policy:decide("before_sign",
    { actor = actor, upload = self:view_managed_upload(row, { size = r.size, content_type = r.content_type }),
      numbers = { 1 } })
  if not decision then return nil, err end
  if wanted.replaces_nothing and provider.profile.conditional_put then
    local once = { ["if-none-match"] = "*" }
    for name, value in pairs(headers or {}) do once[name] = value end
    headers = once
  end
  local words = { "upload", r.size or "-", r.content_type or "-",
    headers and json.encode(headers, { sorted = true }) or "-", provider.access_id or "-" }
  local url
  local life = decisions.seconds(wanted, wanted.rewritten, decision.url_seconds)
  url, err = urls.get(self, row, life, words, function(seconds)
    local grant, why = provider:sign_put { key = row.key, length = r.size, headers = headers, expires = seconds }
    if not grant then return nil, why.code == "too_large" and why or self:store_failure(why) end
    return grant
  end)
  return url, err
end

-- Everything about one file, before anything is written: the entry
-- {row, changes, url}.
local function prepare(self, actor, r)
  local catalog, provider_name = self.catalogs:find(actor.tenant, r.catalog, r.bucket)
  if not catalog then return nil, provider_name end
  local ok, err = keys.check(r.key, #catalog.prefix, self.managed.dot_segments)
  if not ok then return nil, err end
  local provider
  provider, err = self:provider(provider_name)
  if not provider then return nil, err end
  local place = keys.place(provider_name, r.key)
  local row, former
  row, former, err = find_row(self, actor, r, place)
  if err then return nil, err end
  local now = self.clock.now()
  local new = not row and new_row(actor, r, catalog, provider_name, now)
  local decision
  decision, err = decide.ask(self, actor, r, row or new, true)
  if not decision then return nil, err end
  r.content_type, r.metadata = decision.content_type, decision.metadata
  ok, err = may_show(self, actor, r, row or new, row and row.visibility or "private")
  if not ok then return nil, err end
  if not row and not former then
    ok, err = nothing_there(self, provider, r.key, place)
    if not ok then return nil, err end
  end
  local headers
  headers, err = self:encryption_headers(provider, r)
  if err then return nil, err end
  headers = decide.headers(headers, decision)
  local url
  url, err = sign(self, actor, provider, row or new, r, headers, decision)
  if not url then return nil, err end

  local fields = new or changed_fields(r, row, now)
  fields.declared_size = r.size or fields.declared_size
  fields.metadata = r.metadata and json.encode(r.metadata) or nil
  fields.content_type = r.content_type
  fields.decided = decisions.keep { quotas = decision.quotas } or (row and rows.null) or nil
  fields.encryption = headers and json.encode(headers) or (row and rows.null) or nil
  fields.watch_until = look.until_after(row or former or new, url.expires_at)
  fields.due = look.first(now, fields.watch_until)
  local changes = {}
  if former then
    changes[1] = { id = former.id, version = former.version, fields = {}, release = place }
  end
  local begins = new or (row.status ~= "presigned" and fields.status == "presigned")
  local room = decisions.room(actor, decision, r.size or 0, row, new and 1 or 0, begins and 1 or 0)
  changes[#changes + 1] = new and { insert = new, claim = place, room = room }
    or { id = row.id, version = row.version, fields = fields, claim = place, room = room }
  return { id = (row or new).id, place = place, changes = changes, url = url }
end

local function locate(err, i, many)
  if many and err.field then
    err.field = ("files[%d].%s"):format(i - 1, err.field)
    err.message = ("files[%d]: %s"):format(i - 1, err.message)
  end
  return nil, err
end

local function try(self, actor, requests)
  local entries, changes, seen = {}, {}, {}
  for i, r in ipairs(requests) do
    local given = {}
    for name, value in pairs(r) do given[name] = value end
    local entry, err = prepare(self, actor, given)
    if not entry then return locate(err, i, #requests > 1) end
    if seen[entry.place] then
      return locate(select(2, check.invalid("storage_key", "stands twice in this batch")), i, true)
    end
    seen[entry.place] = true
    for _, change in ipairs(entry.changes) do changes[#changes + 1] = change end
    entries[i] = entry
  end
  local ok, err = self.store:write_managed(changes)
  if not ok then return nil, err end
  return entries
end

--- Rows and URLs for files to be uploaded, in the order of the requests.
-- @tparam table actor
-- @tparam {table,...} requests `catalog` (id), `bucket`, `key`, `file_id`, `name`, `original_name`,
-- `resource_id`, `content_type`, `size`, `visibility`, `metadata`, `encryption`, `kms_key_id`, `bucket_key`
-- @treturn {{file=,upload=},...}|nil `upload` is `{url, headers, expires_at, expires_in, hit, layer}`
-- @treturn table err `forbidden` when one of them is somebody else's
function _M.upload_urls(self, actor, requests)
  local ok, err = access.authorize(self, actor, "upload_url", "upload")
  if not ok then return nil, err end
  local entries
  for _ = 1, TRIES do
    entries, err = try(self, actor, requests)
    if entries or not (err.reason == "claimed" or err.reason == "changed") then break end
  end
  if not entries then return nil, err end
  local list = {}
  for i, entry in ipairs(entries) do
    entry.url.keep()
    local row
    row, err = self.store:managed_file(entry.id)
    if not row then return nil, err end
    list[i] = { file = self:view_managed(row), upload = entry.url }
  end
  return list
end

return _M

--- Managed files as users meet them: look up, list, read, show to others.
--
-- Room: broker.
-- @module longshore.broker.managed.files
local access = require "longshore.broker.managed.access"
local errors = require "longshore.errors"
local look = require "longshore.broker.managed.look"
local urls = require "longshore.broker.managed.urls"

local _M = {}

-- A list looks at no more objects than this; the janitor sees to the rest.
local LOOKS = 20

--- A file.
-- @tparam table actor
-- @tparam string id
-- @treturn table|nil file
-- @treturn table err
function _M.managed_file(self, actor, id)
  local ok, err = access.authorize(self, actor, "file", "read")
  if not ok then return nil, err end
  local row
  row, err = access.load(self, actor, id, "read")
  if not row then return nil, err end
  row, err = look.fresh(self, row)
  if not row then return nil, err end
  if access.GONE[row.status] then return access.missing() end
  return self:view_managed(row)
end

--- The files that the actor may see, by key.
-- @tparam table actor
-- @tparam table query `catalog`, `bucket`, `prefix`, `text` (in name or key), `limit`, `offset`
-- @treturn {table,...}|nil files
-- @treturn number total of all that match, or err
function _M.managed_files(self, actor, query)
  local ok, err = access.authorize(self, actor, "files", "read")
  if not ok then return nil, err end
  if query.catalog then
    ok, err = self.catalogs:find(actor.tenant, query.catalog, query.bucket)
    if not ok and err.code ~= "conflict" then return nil, err end
  end
  local list, total = self.store:managed_files {
    tenant = actor.tenant, organization = actor.organization, user = actor.user, all = actor.rights.admin == true,
    catalog = query.catalog, bucket = query.bucket, prefix = query.prefix, text = query.text,
    limit = query.limit or 1000, offset = query.offset,
  }
  if not list then return nil, total end
  local files, looked = {}, 0
  for _, row in ipairs(list) do
    if row.due and not row.etag and looked < LOOKS then
      looked = looked + 1
      -- (A store that is away is no reason not to list.)
      row = look.fresh(self, row) or row
    end
    if not access.GONE[row.status] then files[#files + 1] = self:view_managed(row) end
  end
  return files, total
end

--- A URL to read a file with.
-- @tparam table actor
-- @tparam string id
-- @tparam string purpose "read" and "stream" (shown in place), "download" (saved under its name)
-- @treturn table|nil `{url, expires_at, expires_in, hit, layer, file}`
-- @treturn table err `state` when there is nothing to read
function _M.managed_url(self, actor, id, purpose)
  local ok, err = access.authorize(self, actor, "download", "read")
  if not ok then return nil, err end
  local row
  row, err = access.load(self, actor, id, "read")
  if not row then return nil, err end
  row, err = look.fresh(self, row)
  if not row then return nil, err end
  if access.GONE[row.status] then return access.missing() end
  if row.status == "moving" then
    return errors.fail("conflict", "the file is on its way to another key; try again",
      { retryable = true, retry_after = 1 })
  end
  -- What failed its check is not handed on; a running upload's file may have older content.
  if not row.etag or row.status == "failed" then
    return errors.fail("state", row.status == "failed" and "the file's upload failed; upload it again"
      or "no bytes of this file have arrived yet", { state = row.status })
  end
  local file = self:view_managed(row)
  local decision
  decision, err = self.policy:decide("before_download",
    { actor = actor, file = file, filename = purpose == "download" and row.name or nil,
      content_type = row.content_type })
  if not decision then return nil, err end
  local provider
  provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local words = { purpose, decision.filename or "-", decision.content_type or "-", row.etag, provider.access_id or "-" }
  local url
  url, err = urls.get(self, row, decision.url_seconds, words, function(seconds)
    local grant, why = provider:sign_get { key = row.key, expires = seconds, filename = decision.filename,
      content_type = decision.content_type }
    if not grant then return nil, self:store_failure(why) end
    return grant
  end)
  if not url then return nil, err end
  url.keep()
  url.file = file
  return url
end

--- Shows files to others, or hides them; all or none.
-- @tparam table actor
-- @tparam {string,...} ids
-- @tparam string visibility private, organization, public
-- @treturn {table,...}|nil files
-- @treturn table err
function _M.show_managed(self, actor, ids, visibility)
  local ok, err = access.authorize(self, actor, "visibility", "upload")
  if not ok then return nil, err end
  for _ = 1, 4 do
    local changes, seen, order, shown = {}, {}, {}, {}
    for i, id in ipairs(ids) do
      local row
      row, err = access.load(self, actor, id, "change")
      if not row then return nil, err end
      order[i] = row.id
      if not seen[row.id] then
        seen[row.id] = true
        shown[#shown + 1] = self:view_managed(row)
        changes[#changes + 1] = { id = row.id, version = row.version,
          fields = { visibility = visibility, updated_at = self.clock.now() } }
      end
    end
    ok, err = self.policy:decide("before_visibility", { actor = actor, files = shown, visibility = visibility })
    if not ok then return nil, err end
    ok, err = self.store:write_managed(changes)
    if ok then
      local files = {}
      for i, id in ipairs(order) do
        local row
        row, err = self.store:managed_file(id)
        if not row then return nil, err end
        files[i] = self:view_managed(row)
      end
      return files
    end
    if err.reason ~= "changed" then return nil, err end
  end
  return nil, err
end

return _M

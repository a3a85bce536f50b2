--- The broker's files: look up, list, download, delete.
--
-- Room: broker.
-- @module longshore.broker.files
local check = require "longshore.broker.check"
local errors = require "longshore.errors"

local _M = {}

-- The actor's file after the right to this operation.
local function load_file(self, actor, id, operation, right)
  check.actor(actor)
  local ok, err = self:authorize(actor, operation, right)
  if not ok then return nil, err end
  return self:own_file(actor, id)
end

--- A file.
-- @tparam table actor
-- @tparam string id
-- @treturn table file, or nil, err
function _M.file(self, actor, id)
  local row, err = load_file(self, actor, id, "file", "read")
  if not row then return nil, err end
  return self:view_file(row)
end

--- The file of a name: a finished one if there is one, else the newest.
-- @tparam table actor
-- @tparam table query `service`, `filename`
-- @treturn table file, or nil, err
function _M.file_by_name(self, actor, query)
  check.actor(actor)
  local ok, err = self:authorize(actor, "file", "read")
  if not ok then return nil, err end
  local name
  name, err = check.name(query.filename, "filename", 1024)
  if not name then return nil, err end
  local row
  row, err = self.store:file_by_name {
    tenant = actor.tenant, organization = actor.organization, service = query.service, filename = name,
  }
  if not row then return nil, err end
  return self:view_file(row)
end

local function count(value, field)
  if value == nil then return true end
  return check.size(value, field)
end

--- Files of the actor's organization, oldest first.
-- @tparam table actor
-- @tparam[opt] table query `service`, `content_type`, `offset`, `limit` (default: all)
-- @treturn {table,...} files
-- @treturn number total of all that match, or nil, err
function _M.files(self, actor, query)
  check.actor(actor)
  query = query or {}
  local ok, err = self:authorize(actor, "files", "read")
  if not ok then return nil, err end
  for _, field in ipairs { "offset", "limit" } do
    ok, err = count(query[field], field)
    if not ok then return nil, err end
  end
  local rows, total = self.store:files {
    tenant = actor.tenant, organization = actor.organization, service = query.service,
    content_type = query.content_type, offset = query.offset, limit = query.limit,
  }
  if not rows then return nil, total end
  local list = {}
  for i, row in ipairs(rows) do list[i] = self:view_file(row) end
  return list, total
end

--- How much the actor's organization has: finished files and their bytes.
-- @tparam table actor
-- @tparam[opt] table query `service`
-- @treturn table `files`, `bytes`, `updated_at` (of the newest change, or nil), or nil, err
function _M.usage(self, actor, query)
  check.actor(actor)
  local ok, err = self:authorize(actor, "files", "read")
  if not ok then return nil, err end
  return self.store:usage {
    tenant = actor.tenant, organization = actor.organization, service = query and query.service, state = "registered",
  }
end

--- A URL to download a finished file with.
-- @tparam table actor
-- @tparam string id
-- @treturn table `url`, `expires_at`, or nil, err: `state` when it is not finished
function _M.download(self, actor, id)
  local row, err = load_file(self, actor, id, "download", "read")
  if not row then return nil, err end
  if not row.key then
    return errors.fail("state", row.state == "corrupt" and "the file is corrupt; upload it again"
      or "the file is not uploaded yet", { state = row.state })
  end
  local decision
  decision, err = self.policy:decide("before_download", {
    actor = actor, file = self:view_file(row), filename = row.filename, content_type = row.content_type,
  })
  if not decision then return nil, err end
  local provider
  provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local grant
  grant, err = provider:sign_get {
    key = row.key, expires = decision.url_seconds, filename = decision.filename, content_type = decision.content_type,
  }
  if not grant then return nil, self:store_failure(err) end
  return { url = grant.url, expires_at = grant.expires_at }
end

--- Deletes a finished or corrupt file. From now on nobody sees it; its object is
-- removed now or, when the store is away, by the janitor.
-- @tparam table actor
-- @tparam string id
-- @treturn true, or nil, err: `conflict` while it is being uploaded
function _M.delete_file(self, actor, id)
  local row, err = load_file(self, actor, id, "delete_file", "delete")
  if not row then return nil, err end
  local file = self:view_file(row)
  local ok
  ok, err = self.policy:decide("before_delete", { actor = actor, file = file })
  if not ok then return nil, err end
  local events = self:events("after_delete", { actor = actor, file = file })
  local changed, cleanup = self.store:begin_delete(id, {
    owner = actor, now = self.clock.now(), events = events,
    new_cleanup = function(fields)
      fields.due, fields.attempts = self.clock.now() + self.cleanup_lease, 1
      return self:new_cleanup(fields)
    end,
  })
  if changed == nil then return nil, cleanup end
  if not changed then
    row, err = self:own_file(actor, id)
    if not row then return nil, err end
    return errors.fail("conflict", "the file is being uploaded; abort the upload instead", { state = row.state })
  end
  if cleanup then self:run_cleanup(cleanup) end
  self:deliver(events)
  return true
end

return _M

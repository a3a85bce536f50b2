--- What others see of records and of the deliveries that bring their bytes, and what
-- they are told of them.
--
-- Room: broker.
-- @module longshore.broker.records.views
local decision = require "longshore.broker.decision"
local errors = require "longshore.errors"
local json = require "longshore.json"

local _M = {}

--- What services and policies see of a record.
-- @tparam table row
-- @treturn table
function _M.view(row)
  local fields = json.decode(row.fields)
  return {
    id = row.id, name = row.name, filename = row.name, external_id = row.external_id, fields = fields,
    -- What policies know by these words.
    state = row.key and "registered" or "uploading", content_type = fields.mimeType, metadata = fields.metadata,
    etag = row.etag,
    uploaded = row.key ~= nil, uploaded_at = row.uploaded_at, size = row.size, crc32c = row.crc32c,
    created_at = row.created_at, updated_at = row.updated_at, service = row.service,
    tenant = row.tenant, organization = row.organization, user = row.user,
  }
end

--- What policies see of a record: a file, and its id is text like every other.
-- @tparam table row
-- @treturn table
function _M.file(row)
  local view = _M.view(row)
  view.id = ("%.0f"):format(row.id)
  return view
end

local STATES = { open = "uploading", used = "uploading", done = "completed", void = "expired" }

--- A record goes whose bytes never came, and everybody is told.
-- @tparam table self broker
-- @tparam table row
-- @tparam number now
-- @treturn boolean|nil whether it went
-- @treturn table|nil err
function _M.expire(self, row, now)
  local all
  local gone, err = self.store:expire_record(row.id, now, function(record, delivery)
    local events = self:events("after_expire", { upload = _M.view_delivery(delivery, record, { state = "expired" }) })
    all = events
    return events
  end)
  if gone and all then self:deliver(all) end
  return gone, err
end

--- The record of a delivery, or nil, err when it is gone.
-- @tparam table self broker
-- @tparam table delivery
-- @treturn table|nil row
-- @treturn table|nil err
function _M.of_delivery(self, delivery)
  local found, err = self.store:find_records(delivery, { { id = delivery.record_id } })
  if not found then return nil, err end
  if found[1] then return found[1] end
  return errors.fail("not_found", "there are no such files",
    { missing = { { id = delivery.record_id } }, reason = "record" })
end

--- What policies see of a delivery.
-- @tparam table delivery row
-- @tparam table record row
-- @tparam[opt] table now what is different: `state`, `key`, `size`
-- @treturn table
function _M.view_delivery(delivery, record, now)
  now = now or {}
  return {
    id = delivery.id, file_id = ("%.0f"):format(delivery.record_id), filename = record.name, service = record.service,
    state = now.state or STATES[delivery.state] or delivery.state, size = now.size,
    content_type = decision.kept(delivery).content_type or json.decode(record.fields).mimeType,
    deadline = delivery.deadline, provider = delivery.provider, key = now.key or delivery.key,
    part_count = delivery.part_count, organization = delivery.organization, tenant = delivery.tenant,
    user = delivery.user, created_at = delivery.created_at, updated_at = delivery.updated_at,
  }
end

--- What is to be told when a record has its content.
-- @tparam table self broker
-- @tparam ?table actor
-- @tparam table delivery
-- @tparam table record row as it was
-- @tparam table content the fields that it gets
-- @treturn {table,...} events
function _M.completed(self, actor, delivery, record, content)
  return self:events("after_complete", function()
    local row, now = {}, self.clock.now()
    for name, value in pairs(record) do row[name] = value end
    row.crc32c, row.uploaded_at, row.updated_at = nil, now, now
    for name, value in pairs(content) do row[name] = value end
    return { actor = actor, file = _M.file(row),
      upload = _M.view_delivery(delivery, row, { state = "completed", key = content.key, size = content.size }) }
  end)
end

return _M

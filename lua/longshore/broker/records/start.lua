--- Records begin: rows, and URLs to bring their bytes.
--
-- What a record of the same external id becomes is the request's to say; `limits` are
-- those of `longshore.broker.records.deliveries`.
--
-- Room: broker.
-- @module longshore.broker.records.start
local access = require "longshore.broker.records.access"
local deliveries = require "longshore.broker.records.deliveries"
local errors = require "longshore.errors"
local ids = require "longshore.broker.ids"

local _M = {}

-- Two random ids of 53 bits may be the same, if rarely.
local ATTEMPTS = 5

local function new_record(self, actor, request, limits)
  local now = self.clock.now()
  local record = access.columns(actor, limits.service, { name = request.name, external_id = request.external_id,
    fields = request.fields })
  record.tenant, record.organization, record.user = actor.tenant, actor.organization, actor.user
  record.service, record.created_at, record.updated_at = limits.service, now, now
  record.expires_at = now + limits.link_seconds
  return record
end

local function kind_of(request, limits)
  if request.parts then return "multipart" end
  return limits.sessions and "session" or "put"
end

-- The record of this external id is overwritten: its fields now, its content
-- when the new bytes are there.
local function overwrite(self, actor, row, request, limits)
  local grant, err = deliveries.add(self, actor, row, kind_of(request, limits), request.parts, limits, function(current)
    local fields = access.columns(actor, limits.service, request.overwrite(access.view(current)))
    fields.updated_at = self.clock.now()
    return fields
  end)
  if not grant then return nil, err end
  local rows
  rows, err = self.store:find_records(actor, { { id = row.id } })
  if not rows then return nil, err end
  return access.view(rows[1] or row), grant
end

local function taken(external_id)
  return errors.fail("conflict", "a file with this external id exists already",
    { duplicated = { { external_id = external_id } }, reason = "external_id" })
end

local function create_new(self, actor, request, limits)
  local record = new_record(self, actor, request, limits)
  local err
  for _ = 1, ATTEMPTS do
    record.id = ids.number()
    local delivery, cleanup, counts = deliveries.new(self, actor, record, kind_of(request, limits), request.parts,
      limits)
    if not delivery then return nil, cleanup end
    local ok
    ok, err = self.store:create_record(record, delivery, cleanup, counts)
    if ok then
      local grant
      grant, err = deliveries.hand_out(self, actor, record, delivery, limits)
      if grant then return access.view(record), grant end
      deliveries.undo(self, delivery, true)
      return nil, err
    elseif err.reason ~= "id" then
      break
    end
  end
  if err.reason == "external_id" then return taken(request.external_id) end
  return nil, err
end

-- The record of an external id, as far as it is there. One whose time is over
-- makes way.
local function existing(self, actor, external_id)
  local found, err = self.store:find_records(actor, { { external_id = external_id } })
  if not found then return nil, err end
  local present
  present, err = access.present(self, found, access.LOOKS)
  if not present then return nil, err end
  if found[1] and not present[1] then
    local gone
    gone, err = self.store:expire_record(found[1].id, self.clock.now())
    if gone == nil then return nil, err end
  end
  return present[1] or false
end

--- Begins a record, or overwrites the one of its external id.
-- @tparam table actor
-- @tparam table request `name`, `external_id`, `fields`; `overwrite(record)` answers
-- what a record that there is becomes (absent: it is a conflict); `parts`: how
-- many parts (nil: one PUT, or one session)
-- @tparam table limits
-- @treturn table|nil record
-- @treturn table `{url}` or `{urls, upload_id}`; or err: conflict with `duplicated`
function _M.create(self, actor, request, limits)
  local ok, err = access.authorize(self, actor, "initiate", "upload")
  if not ok then return nil, err end
  if not request.external_id then return create_new(self, actor, request, limits) end
  for attempt = 1, 2 do
    local row
    row, err = existing(self, actor, request.external_id)
    if row == nil then return nil, err end
    if row and not request.overwrite then return taken(request.external_id) end
    local record, grant
    if row then
      record, grant = overwrite(self, actor, row, request, limits)
    else
      record, grant = create_new(self, actor, request, limits)
    end
    if record then return record, grant end
    -- Between the look and the change somebody made it, or deleted it.
    local raced = grant.reason == "external_id" and request.overwrite or grant.reason == "record"
    if not raced or attempt == 2 then return nil, grant end
  end
end

return _M

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
local views = require "longshore.broker.records.views"

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

local function taken(external_id)
  return errors.fail("conflict", "a file with this external id exists already",
    { duplicated = { { external_id = external_id } }, reason = "external_id" })
end

-- The record of this external id is overwritten: its fields now, its content
-- when the new bytes are there. Whether it may be is the request's to say, and then the policy's.
local function overwrite(self, actor, row, request, limits)
  local becomes = request.overwrite or request.becomes
  if not becomes then return taken(request.external_id) end
  local function wished(current)
    local fields = access.columns(actor, limits.service, becomes(views.view(current)))
    fields.updated_at = self.clock.now()
    return fields
  end
  local asked = { name = request.name, fields = wished(row).fields }
  for name, value in pairs(row) do
    if asked[name] == nil then asked[name] = value end
  end
  local before = asked.fields
  local grant, err = deliveries.add(self, actor, asked, kind_of(request, limits), request.parts, limits,
    { if_exists = request.overwrite and "replace" or "refuse",
      current = (row.key or not request.overwrite) and row or nil }, function(current)
      local fields = wished(current)
      if asked.fields ~= before then fields.fields = asked.fields end -- as the policy has them
      return fields
    end)
  if not grant then
    if err.reason == "name_taken" then return taken(request.external_id) end
    return nil, err
  end
  local rows
  rows, err = self.store:find_records(actor, { { id = row.id } })
  if not rows then return nil, err end
  return views.view(rows[1] or row), grant
end

local function create_new(self, actor, request, limits)
  local record = new_record(self, actor, request, limits)
  local decided, err = deliveries.decide(self, actor, record, limits,
    { if_exists = request.overwrite and "replace" or request.external_id and "refuse" or "keep" })
  if not decided then return nil, err end
  record.expires_at = record.created_at + decided.seconds
  for _ = 1, ATTEMPTS do
    record.id = ids.number()
    local delivery, cleanup, counts = deliveries.new(self, actor, record, kind_of(request, limits), request.parts,
      limits, decided)
    if not delivery then return nil, cleanup end
    counts.room.files = 1
    local ok
    ok, err = self.store:create_record(record, delivery, cleanup, counts)
    if ok then
      local grant
      grant, err = deliveries.hand_out(self, actor, record, delivery)
      if grant then return views.view(record), grant end
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
    gone, err = views.expire(self, found[1], self.clock.now())
    if gone == nil then return nil, err end
  end
  return present[1] or false
end

--- Begins a record, or overwrites the one of its external id.
-- @tparam table actor
-- @tparam table request `name`, `external_id`, `fields`; `overwrite(record)` answers
-- what a record that there is becomes (absent: it is a conflict, unless the policy replaces
-- and `becomes(record)` answers it); `parts`: how many parts (nil: one PUT, or one session)
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
    local record, grant
    if row then
      record, grant = overwrite(self, actor, row, request, limits)
    else
      record, grant = create_new(self, actor, request, limits)
    end
    if record then return record, grant end
    -- Between the look and the change somebody made it, or deleted it.
    local raced = grant.reason == "external_id" and not row or grant.reason == "record"
    if not raced or attempt == 2 then return nil, grant end
  end
end

return _M

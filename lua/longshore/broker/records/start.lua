--- Records begin: rows, and URLs to bring their bytes.
--
-- `limits` comes from the service: `service`, `provider` (name), `link_seconds`
-- (how long URLs work), `max_put` (bytes in a single PUT), `max_parts`,
-- `sessions` (true: single uploads go to resumable sessions), `of_record`
-- (running deliveries of one record).
--
-- A row is written before the store is asked for anything, and with it the
-- cleanup that will remove what is left at the delivery's key when no URL works
-- any longer, whatever happened.
--
-- Of what the policy may rewrite, the key, the provider, `max_running` and a
-- shorter life of URLs count.
--
-- Room: broker.
-- @module longshore.broker.records.start
local access = require "longshore.broker.records.access"
local errors = require "longshore.errors"
local ids = require "longshore.broker.ids"

local _M = {}

-- What lies at a delivery's key goes this long after its last URL has ended.
local GRACE = 3600
-- Two random ids of 53 bits may be the same, if rarely.
local ATTEMPTS = 5

-- Asks the policy and makes the rows of a delivery, not yet stored.
local function new_delivery(self, actor, record, kind, part_count, limits)
  local id = ids.new("dlv_")
  local decision, err = self.policy:decide("before_initiate", {
    actor = actor, operation = "initiate", service = limits.service, filename = record.name,
    content_type = limits.content_type, metadata = limits.metadata, file_id = id, upload_id = id,
    provider = limits.provider,
  })
  if not decision then return nil, err end
  local provider
  provider, err = self:provider(decision.provider)
  if not provider then return nil, err end
  local now = self.clock.now()
  local deadline = now + limits.link_seconds
  local multipart = kind == "multipart"
  local delivery = {
    id = id, record_id = record.id, tenant = actor.tenant, organization = actor.organization, user = actor.user,
    kind = kind, provider = decision.provider, key = decision.key .. (multipart and "/parts" or "/staging"),
    content_key = decision.key, part_count = part_count, max_size = not multipart and limits.max_put or nil,
    state = multipart and "starting" or "open", deadline = deadline, lease = 0, look_at = now + 60,
    created_at = now, updated_at = now,
  }
  local cleanup = self:new_cleanup { provider = delivery.provider, key = delivery.key, kind = "staging",
    due = deadline + GRACE }
  delivery.cleanup_id = cleanup.id
  return delivery, cleanup, { running = decision.max_running, of_record = limits.of_record }
end

local function seconds_left(self, actor, record, delivery, numbers)
  local left = math.max(1, math.ceil(delivery.deadline - self.clock.now()))
  local decision, err = self.policy:decide("before_sign", { actor = actor,
    upload = access.view_delivery(delivery, record), numbers = numbers })
  if not decision then return nil, err end
  return self:url_life(decision.url_seconds, "url_seconds", left)
end

local function sign_single(self, actor, record, delivery)
  local provider, err = self:provider(delivery.provider)
  if not provider then return nil, err end
  local seconds
  seconds, err = seconds_left(self, actor, record, delivery, { 1 })
  if not seconds then return nil, err end
  local sign = delivery.kind == "session" and provider.sign_session or provider.sign_put
  local target
  target, err = sign(provider, { key = delivery.key, expires = seconds, max_size = delivery.max_size,
    id = delivery.id })
  if not target then return nil, self:store_failure(err) end
  return { url = target.url, expires_at = target.expires_at }
end

local function sign_parts(self, actor, record, delivery)
  local provider, err = self:provider(delivery.provider)
  if not provider then return nil, err end
  local numbers, parts = {}, {}
  for i = 1, delivery.part_count do numbers[i], parts[i] = i, { number = i } end
  local seconds
  seconds, err = seconds_left(self, actor, record, delivery, numbers)
  if not seconds then return nil, err end
  local targets
  targets, err = provider:sign_parts { key = delivery.key, upload_id = delivery.provider_upload_id, parts = parts,
    expires = seconds }
  if not targets then return nil, self:store_failure(err) end
  local urls = {}
  for i, target in ipairs(targets) do urls[i] = target.url end
  return { urls = urls, upload_id = delivery.id, expires_at = targets[1].expires_at }
end

-- The store begins a multipart upload; the row knows it before a URL goes out.
local function open_multipart(self, delivery, limits)
  local provider, err = self:provider(delivery.provider)
  if not provider then return nil, err end
  local opened
  opened, err = provider:create_multipart { key = delivery.key, content_type = limits.content_type,
    marker = delivery.id }
  if not opened then return nil, self:store_failure(err) end
  delivery.provider_upload_id = opened.upload_id
  local ok
  ok, err = self.store:start_delivery(delivery.id, { provider_upload_id = opened.upload_id, now = self.clock.now() })
  if not ok then return nil, err or errors.new("not_found", "the file was deleted", { reason = "record" }) end
  delivery.state = "open"
  return true
end

-- What a stored delivery needs until it can be answered.
local function hand_out(self, actor, record, delivery, limits)
  if delivery.kind == "multipart" then
    local ok, err = open_multipart(self, delivery, limits)
    if not ok then return nil, err end
    return sign_parts(self, actor, record, delivery)
  end
  return sign_single(self, actor, record, delivery)
end

-- Ends a delivery that could not be handed out: nobody has a URL of it.
local function undo(self, delivery, new_record)
  if new_record then self.store:drop_record(delivery.record_id) end
  self.store:end_delivery(delivery.id, self.clock.now())
  if delivery.provider_upload_id then
    local provider = self:provider(delivery.provider)
    if provider then provider:abort_multipart { key = delivery.key, upload_id = delivery.provider_upload_id } end
  end
end

-- A delivery for a record that there is; `change` rewrites the record with it.
local function deliver(self, actor, row, kind, part_count, limits, change)
  local delivery, cleanup, counts = new_delivery(self, actor, row, kind, part_count, limits)
  if not delivery then return nil, cleanup end
  local ok, err = self.store:add_delivery(delivery, cleanup, counts, delivery.deadline, change)
  if ok == nil then return nil, err end
  if not ok then
    return errors.fail("not_found", "there are no such files", { missing = { { id = row.id } }, reason = "record" })
  end
  local grant
  grant, err = hand_out(self, actor, row, delivery, limits)
  if grant then return grant end
  undo(self, delivery, false)
  return nil, err
end

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
  local grant, err = deliver(self, actor, row, kind_of(request, limits), request.parts, limits, function(current)
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
    local delivery, cleanup, counts = new_delivery(self, actor, record, kind_of(request, limits), request.parts, limits)
    if not delivery then return nil, cleanup end
    local ok
    ok, err = self.store:create_record(record, delivery, cleanup, counts)
    if ok then
      local grant
      grant, err = hand_out(self, actor, record, delivery, limits)
      if grant then return access.view(record), grant end
      undo(self, delivery, true)
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

local function one(self, actor, reference)
  local ok, err = access.authorize(self, actor, "part_urls", "upload")
  if not ok then return nil, err end
  local rows
  rows, err = access.find(self, actor, { reference })
  if not rows then return nil, err end
  return rows[1]
end

--- A fresh URL for a single upload of a record's content.
-- One whose bytes have not come yet lives on, with its key.
-- @tparam table actor
-- @tparam table reference
-- @tparam table limits
-- @treturn table|nil record
-- @treturn table `{url}`, or err
function _M.link(self, actor, reference, limits)
  local row, err = one(self, actor, reference)
  if not row then return nil, err end
  local open
  open, err = self.store:open_deliveries { row.id }
  if not open then return nil, err end
  local newest, now = open[#open], self.clock.now()
  -- (A session may have been given up by its client: it gets one of its own.)
  if newest and newest.kind == "put" and not limits.sessions and newest.deadline > now then
    newest.deadline = now + limits.link_seconds
    local ok
    ok, err = self.store:extend_delivery(newest, { deadline = newest.deadline, due = newest.deadline + GRACE,
      now = now })
    if ok == nil then return nil, err end
    if ok then
      local grant
      grant, err = sign_single(self, actor, row, newest)
      if not grant then return nil, err end
      return access.view(row), grant
    end
  end
  local grant
  grant, err = deliver(self, actor, row, limits.sessions and "session" or "put", nil, limits)
  if not grant then return nil, err end
  return access.view(row), grant
end

--- A fresh upload of parts for a record's content. What was sent to an earlier
-- one stays there, and that one can still be completed until its URLs end.
-- @tparam table actor
-- @tparam table reference
-- @tparam number count of parts
-- @tparam table limits
-- @treturn table|nil record
-- @treturn table `{urls, upload_id}`, or err
function _M.parts(self, actor, reference, count, limits)
  local row, err = one(self, actor, reference)
  if not row then return nil, err end
  local grant
  grant, err = deliver(self, actor, row, "multipart", count, limits)
  if not grant then return nil, err end
  return access.view(row), grant
end

return _M

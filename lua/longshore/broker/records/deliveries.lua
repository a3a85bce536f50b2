--- Deliveries: what brings a record its bytes, from the policy's word to the URLs.
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
-- @module longshore.broker.records.deliveries
local access = require "longshore.broker.records.access"
local errors = require "longshore.errors"
local ids = require "longshore.broker.ids"

local _M = {}

--- What lies at a delivery's key goes this long after its last URL has ended.
_M.GRACE = 3600

--- Asks the policy and makes the rows of a delivery, not yet stored.
function _M.new(self, actor, record, kind, part_count, limits)
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
    due = deadline + _M.GRACE }
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

--- Signs the URL of a single upload.
function _M.sign_single(self, actor, record, delivery)
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

--- What a stored delivery needs until it can be answered.
function _M.hand_out(self, actor, record, delivery, limits)
  if delivery.kind == "multipart" then
    local ok, err = open_multipart(self, delivery, limits)
    if not ok then return nil, err end
    return sign_parts(self, actor, record, delivery)
  end
  return _M.sign_single(self, actor, record, delivery)
end

--- Ends a delivery that could not be handed out: nobody has a URL of it.
function _M.undo(self, delivery, new_record)
  if new_record then self.store:drop_record(delivery.record_id) end
  self.store:end_delivery(delivery.id, self.clock.now())
  if delivery.provider_upload_id then
    local provider = self:provider(delivery.provider)
    if provider then provider:abort_multipart { key = delivery.key, upload_id = delivery.provider_upload_id } end
  end
end

--- A delivery for a record that there is; `change` rewrites the record with it.
function _M.add(self, actor, row, kind, part_count, limits, change)
  local delivery, cleanup, counts = _M.new(self, actor, row, kind, part_count, limits)
  if not delivery then return nil, cleanup end
  local ok, err = self.store:add_delivery(delivery, cleanup, counts, delivery.deadline, change)
  if ok == nil then return nil, err end
  if not ok then
    return errors.fail("not_found", "there are no such files", { missing = { { id = row.id } }, reason = "record" })
  end
  local grant
  grant, err = _M.hand_out(self, actor, row, delivery, limits)
  if grant then return grant end
  _M.undo(self, delivery, false)
  return nil, err
end

return _M

--- Deliveries: what brings a record its bytes, from the policy's word to the URLs.
--
-- `limits` comes from the service: `service`, `provider` (name), `link_seconds`
-- (how long URLs work), `max_put` (bytes in a single PUT), `max_parts`,
-- `sessions` (true: single uploads go to resumable sessions), `of_record`
-- (running deliveries of one record), `content_type`, `metadata` (of the request), `check(fields)`
-- (whether the service may keep these).
--
-- A row is written before the store is asked for anything, and with it the
-- cleanup that will remove what is left at the delivery's key when no URL works
-- any longer, whatever happened.
--
-- Of what the policy may rewrite, everything counts but `part_size`: the client cuts its parts.
-- Headers, tags and the type are the content's: what came by a single PUT gets
-- them when it is copied to its own key.
--
-- Room: broker.
-- @module longshore.broker.records.deliveries
local decisions = require "longshore.broker.decision"
local errors = require "longshore.errors"
local ids = require "longshore.broker.ids"
local json = require "longshore.json"
local views = require "longshore.broker.records.views"

local _M = {}

--- What lies at a delivery's key goes this long after its last URL has ended.
_M.GRACE = 3600

-- A record's fields as the policy wants them: true, or nil, err; the record's row has them then.
local function describe(self, record, decision, rewritten, limits)
  if not (rewritten.metadata or rewritten.content_type) then return true end
  local fields = json.decode(record.fields)
  if rewritten.metadata then fields.metadata = decision.metadata end
  if rewritten.content_type then fields.mimeType = decision.content_type end
  if limits.check then
    local ok, err = limits.check(fields)
    if not ok then return decisions.broken(self, "before_initiate", tostring(err.field), err.message) end
  end
  record.fields = json.encode(fields)
  return true
end

--- Asks the policy about new content of a record.
-- @tparam table self broker
-- @tparam table actor
-- @tparam table record row, perhaps not stored yet; its `fields` become those that the policy wants
-- @tparam table limits
-- @tparam table ask `if_exists`; `current` (the row that is there already); `resume` (true: of an open delivery, for
-- which only refusing and the time count)
-- @treturn table|nil what `new` makes a delivery of, with `seconds`
-- @treturn table|nil err
function _M.decide(self, actor, record, limits, ask)
  local id = ids.new("dlv_")
  local there = ask.current and ask.current.key and ask.current
  local fields = json.decode(record.fields)
  local decision, rewritten = self.policy:decide("before_initiate", {
    actor = actor, operation = "initiate", service = limits.service, filename = record.name,
    content_type = limits.content_type or fields.mimeType or "application/octet-stream",
    metadata = limits.metadata or fields.metadata, file_id = id, upload_id = id, provider = limits.provider,
    resume = ask.resume == true, if_exists = ask.if_exists, current = there and views.file(there) or nil,
  })
  if not decision then return nil, rewritten end
  local ok, err = decisions.check_bucket(self, decision, rewritten)
  if not ok then return nil, err end
  ok, err = decisions.may_replace(decision, ask.current and views.file(ask.current))
  if not ok then return nil, err end
  local seconds = decisions.seconds(decision, rewritten, limits.link_seconds)
  if ask.resume then return { seconds = seconds } end
  ok, err = describe(self, record, decision, rewritten, limits)
  if not ok then return nil, err end
  local replaces -- the key of the content that may be replaced, false for none, nil for any
  if decision.replaces then
    replaces = there and there.key or false
  elseif rewritten.if_exists and decision.if_exists ~= "replace" then
    replaces = false
  end
  return {
    id = id, provider = decision.provider, key = decision.key, quotas = decision.quotas,
    max_running = decision.max_running, seconds = seconds,
    described = rewritten.metadata or rewritten.content_type,
    content_type = rewritten.content_type and decision.content_type or limits.content_type,
    headers = decisions.object_headers(decision),
    replaces = replaces,
  }
end

--- Makes the rows of a delivery, not yet stored.
-- @tparam table self broker
-- @tparam table actor
-- @tparam table record
-- @tparam string kind put, session or multipart
-- @tparam ?number part_count
-- @tparam table limits
-- @tparam table decided of `decide`
-- @treturn table|nil delivery
-- @treturn table cleanup, or err
-- @treturn table limits of the store
function _M.new(self, actor, record, kind, part_count, limits, decided)
  local provider, err = self:provider(decided.provider)
  if not provider then return nil, err end
  local now = self.clock.now()
  local deadline = now + decided.seconds
  local multipart = kind == "multipart"
  local delivery = {
    id = decided.id, record_id = record.id, tenant = actor.tenant, organization = actor.organization,
    user = actor.user, kind = kind, provider = decided.provider,
    key = decided.key .. (multipart and "/parts" or "/staging"),
    content_key = decided.key, part_count = part_count, max_size = not multipart and limits.max_put or nil,
    state = multipart and "starting" or "open", deadline = deadline, lease = 0, look_at = now + 60,
    created_at = now, updated_at = now, decided = decisions.keep {
      headers = decided.headers, content_type = decided.content_type, quotas = decided.quotas,
      replaces = decided.replaces,
    },
  }
  local cleanup = self:new_cleanup { provider = delivery.provider, key = delivery.key, kind = "staging",
    due = deadline + _M.GRACE }
  delivery.cleanup_id = cleanup.id
  return delivery, cleanup, { of_record = limits.of_record, room = { owner = delivery, quotas = decided.quotas,
    max_running = decided.max_running, running = 1, bytes = 0 } }
end

local function seconds_left(self, actor, record, delivery, numbers)
  local left = math.max(1, math.ceil(delivery.deadline - self.clock.now()))
  local decision, err = self.policy:decide("before_sign", { actor = actor,
    upload = views.view_delivery(delivery, record), numbers = numbers })
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
local function open_multipart(self, delivery)
  local provider, err = self:provider(delivery.provider)
  if not provider then return nil, err end
  local opened
  local kept = decisions.kept(delivery)
  opened, err = provider:create_multipart { key = delivery.key, content_type = kept.content_type,
    marker = delivery.id, headers = kept.headers }
  if not opened then return nil, self:store_failure(err) end
  delivery.provider_upload_id = opened.upload_id
  local ok
  ok, err = self.store:start_delivery(delivery.id, { provider_upload_id = opened.upload_id, now = self.clock.now() })
  if not ok then return nil, err or errors.new("not_found", "the file was deleted", { reason = "record" }) end
  delivery.state = "open"
  return true
end

--- What a stored delivery needs until it can be answered.
function _M.hand_out(self, actor, record, delivery)
  if delivery.kind == "multipart" then
    local ok, err = open_multipart(self, delivery)
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

--- A delivery for a record that there is.
-- @tparam table self broker
-- @tparam table actor
-- @tparam table row the record; gets the fields that the policy wants
-- @tparam string kind
-- @tparam ?number part_count
-- @tparam table limits
-- @tparam table ask as of `decide`
-- @tparam[opt] function change (row) -> fields that the record gets with it
-- @treturn table|nil grant
-- @treturn table|nil err
function _M.add(self, actor, row, kind, part_count, limits, ask, change)
  local decided, err = _M.decide(self, actor, row, limits, ask)
  if not decided then return nil, err end
  local delivery, cleanup, counts = _M.new(self, actor, row, kind, part_count, limits, decided)
  if not delivery then return nil, cleanup end
  if not change and decided.described then
    change = function() return { fields = row.fields, updated_at = self.clock.now() } end
  end
  local ok
  ok, err = self.store:add_delivery(delivery, cleanup, counts, delivery.deadline, change)
  if ok == nil then return nil, err end
  if not ok then
    return errors.fail("not_found", "there are no such files", { missing = { { id = row.id } }, reason = "record" })
  end
  local grant
  grant, err = _M.hand_out(self, actor, row, delivery)
  if grant then return grant end
  _M.undo(self, delivery, false)
  return nil, err
end

return _M

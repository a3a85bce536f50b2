--- Nobody says that a PUT has ended: the object is looked for, and taken.
--
-- The URL stays alive for days, so what lies at its key can change at any
-- time. Therefore the object is copied, at the store, to a key that no URL ever
-- named, and the record is pointed at the copy. Then the original goes, unless
-- it is another one by now: that one is taken by the next look.
--
-- Looks may overlap, and be cut off anywhere: each copies to a key of its own
-- whose removal was written down before, and the record takes the newest bytes.
--
-- Room: broker.
-- @module longshore.broker.records.notice
local decisions = require "longshore.broker.decision"
local errors = require "longshore.errors"
local ids = require "longshore.broker.ids"
local views = require "longshore.broker.records.views"

local _M = {}

-- A copy that no record points at is removed after this time.
local UNBOUND_SECONDS = 3600
-- Replaced content outlives the longest download of it by this.
local DOWNLOAD_SLACK = 3600

--- The cleanup of content that was replaced, once its last download has had its time.
-- @tparam table self broker
-- @treturn function new_cleanup(fields)
function _M.replaced(self)
  local downloads = math.max(3600, self.policy.settings and self.policy.settings.download_seconds or 0)
  return function(fields)
    fields.due = self.clock.now() + downloads + DOWNLOAD_SLACK
    return self:new_cleanup(fields)
  end
end

-- Removes what lies at the delivery's key, if it is still what was taken.
local function clear(provider, delivery, taken)
  local now = provider:head { key = delivery.key }
  if now and now.etag == taken.etag and now.modified == taken.modified then
    provider:delete { key = delivery.key }
  end
end

-- Throws away an object that may not become content.
local function refuse(self, provider, delivery, record, found, err)
  self.log("info", "bytes were refused", { delivery = delivery.id, reason = tostring(err) })
  local view = views.view_delivery(delivery, record, { state = "failed", size = found.size })
  view.error = err.message
  local events = self:events("after_fail", { upload = view, file = views.file(record) })
  -- (A session's bytes come once; to a URL others may be sent.)
  local marked, why = self.store:refuse_delivery(delivery, { now = self.clock.now(), events = events,
    state = delivery.kind == "session" and "void" or delivery.state, etag = found.etag, seen_at = found.modified })
  if marked == nil then return nil, why end
  local ok
  ok, why = provider:delete { key = delivery.key }
  if marked then self:deliver(events) end
  if not ok then return nil, why end
  return false
end

-- What the policy and the service say of bytes before they are copied: true; or nil, an
-- error, and whether that is for good.
local function admitted(self, delivery, record, found)
  if delivery.max_size and found.size > delivery.max_size then
    return nil, errors.new("too_large", ("%.0f bytes are more than the %.0f that a single PUT may have"):format(
      found.size, delivery.max_size)), true
  end
  return decisions.final(self.policy:decide("before_complete", {
    upload = views.view_delivery(delivery, record, { size = found.size }), parts = {}, size = found.size,
    crc32c = found.crc32c }))
end

-- A copy at a key of its own: its cleanup and what it is; nil without err when it is just being replaced.
local function copied(self, provider, delivery, found)
  local kept = decisions.kept(delivery)
  local cleanup, err = self:freeze(provider, { provider = delivery.provider, from = delivery.key, if_match = found.etag,
    to = delivery.content_key .. "/" .. ids.new(""), due = self.clock.now() + UNBOUND_SECONDS, headers = kept.headers,
    content_type = kept.content_type })
  if not cleanup then
    if err.code == "conflict" or err.code == "not_found" then return nil end
    return nil, err
  end
  local copy
  copy, err = provider:head { key = cleanup.key }
  if not copy then return nil, err end
  return cleanup, copy
end

-- The copy becomes the record's content, if nothing newer is: bound, swapped, events; or nil, err.
local function bind(self, delivery, record, found, cleanup, copy)
  local now, kept = self.clock.now(), decisions.kept(delivery)
  local content = { provider = delivery.provider, key = cleanup.key, etag = copy.etag, size = copy.size,
    crc32c = copy.crc32c }
  local events = views.completed(self, nil, delivery, record, content)
  local bound, swapped = self.store:bind_delivery(delivery, {
    now = now, state = delivery.kind == "session" and "done" or "used", etag = found.etag, seen_at = found.modified,
    content = content, content_at = found.modified or now, drop = cleanup.id, new_cleanup = _M.replaced(self),
    quotas = kept.quotas, replaces = kept.replaces, events = events,
  })
  return bound, swapped, events
end

--- Takes what a delivery brought.
-- @tparam table self broker
-- @tparam table delivery of kind put or session
-- @treturn boolean|nil whether there was anything new
-- @treturn table|nil err
function _M.look(self, delivery)
  local provider, err = self:provider(delivery.provider)
  if not provider then return nil, err end
  local found
  found, err = provider:head { key = delivery.key }
  if not found then
    if err.code == "not_found" and err.store_code ~= "NoSuchBucket" then return false end
    self.log("warn", "cannot look for bytes", { delivery = delivery.id, cause = tostring(err) })
    return nil, err
  end
  if delivery.etag == found.etag and delivery.seen_at == found.modified then
    clear(provider, delivery, found)
    return false
  end
  local record
  record, err = views.of_delivery(self, delivery)
  if not record then
    if err.code == "not_found" then return false end
    return nil, err
  end
  local ok, final
  ok, err, final = admitted(self, delivery, record, found)
  if not ok then
    if final then return refuse(self, provider, delivery, record, found, err) end
    return nil, err
  end
  local cleanup, copy = copied(self, provider, delivery, found)
  if not cleanup then
    if copy then return nil, copy end
    return false
  end
  ok, err, final = decisions.admit(self, nil,
    views.view_delivery(delivery, record, { state = "completing", key = cleanup.key, size = copy.size }), copy)
  if not ok then
    provider:delete { key = cleanup.key }
    if final then return refuse(self, provider, delivery, record, found, err) end
    return nil, err
  end
  local bound, swapped, events = bind(self, delivery, record, found, cleanup, copy)
  if bound == nil then
    -- Anything else is unknown: the cleanup stays.
    if swapped.code ~= "quota" and swapped.reason ~= "replaced" then return nil, swapped end
    provider:delete { key = cleanup.key }
    return refuse(self, provider, delivery, record, found, swapped)
  end
  if not bound or not swapped then provider:delete { key = cleanup.key } end
  clear(provider, delivery, found)
  if bound and swapped then
    self.log("info", "bytes have arrived", { delivery = delivery.id, size = copy.size })
    self:deliver(events)
  end
  return true -- taken now, or by somebody else meanwhile
end

return _M

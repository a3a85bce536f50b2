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
local ids = require "longshore.broker.ids"

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
local function refuse(self, provider, delivery, why)
  self.log("info", "bytes were refused", { delivery = delivery.id, reason = why })
  local ok, err = provider:delete { key = delivery.key }
  if not ok then return nil, err end
  return false
end

local function admitted(self, delivery, found)
  local decision, err = self.policy:decide("before_complete", {
    upload = { id = delivery.id, file_id = ("%.0f"):format(delivery.record_id), provider = delivery.provider,
      key = delivery.key, tenant = delivery.tenant, organization = delivery.organization, user = delivery.user,
      state = delivery.state, deadline = delivery.deadline },
    parts = {}, size = found.size, crc32c = found.crc32c,
  })
  if decision then return true end
  return nil, err.message
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
  if delivery.max_size and found.size > delivery.max_size then
    return refuse(self, provider, delivery, ("%.0f bytes are more than the %.0f that a single PUT may have"):format(
      found.size, delivery.max_size))
  end
  local ok, why = admitted(self, delivery, found)
  if not ok then return refuse(self, provider, delivery, why) end

  local cleanup
  cleanup, err = self:freeze(provider, { provider = delivery.provider, from = delivery.key, if_match = found.etag,
    to = delivery.content_key .. "/" .. ids.new(""), due = self.clock.now() + UNBOUND_SECONDS })
  if not cleanup then
    if err.code == "conflict" or err.code == "not_found" then return false end -- just being replaced
    return nil, err
  end
  local copy
  copy, err = provider:head { key = cleanup.key }
  if not copy then return nil, err end
  local now = self.clock.now()
  local bound, swapped = self.store:bind_delivery(delivery, {
    now = now, state = delivery.kind == "session" and "done" or "used", etag = found.etag, seen_at = found.modified,
    content = { provider = delivery.provider, key = cleanup.key, etag = copy.etag, size = copy.size,
      crc32c = copy.crc32c },
    content_at = found.modified or now, drop = cleanup.id, new_cleanup = _M.replaced(self),
  })
  if bound == nil then return nil, swapped end -- unknown: the cleanup stays
  if not bound or not swapped then provider:delete { key = cleanup.key } end
  clear(provider, delivery, found)
  if bound and swapped then
    self.log("info", "bytes have arrived", { delivery = delivery.id, size = copy.size })
    self:announce("after_complete", { upload = { id = delivery.id, provider = delivery.provider },
      file = { id = ("%.0f"):format(delivery.record_id), size = copy.size, crc32c = copy.crc32c } })
  end
  return true -- taken now, or by somebody else meanwhile
end

return _M

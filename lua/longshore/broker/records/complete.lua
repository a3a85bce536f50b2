--- The parts of a record's content become its content.
--
-- Parts that are missing lose nothing: the call is refused with their numbers, the
-- upload stays open, and the same call works once they are there. So is a part
-- that is too small or too large: it may be sent again.
--
-- When all parts are there the delivery is `completing`, under a lease; then the
-- store assembles them, then record and delivery change in one transaction.
-- Whoever finds a lease that has ended, the client that repeats the call or the
-- janitor, goes on from what the store says.
--
-- Room: broker.
-- @module longshore.broker.records.complete
local access = require "longshore.broker.records.access"
local decisions = require "longshore.broker.decision"
local errors = require "longshore.errors"
local ids = require "longshore.broker.ids"
local notice = require "longshore.broker.records.notice"
local views = require "longshore.broker.records.views"

local _M = {}

-- Assembling parts takes a store no longer than this; another call waits so long for it.
local LEASE, WAIT = 120, 30

local MiB = 1048576
local MAX_PART, MAX_TOTAL = 4000 * MiB, 1000 * 1024 * MiB

local function invalid(message, fields)
  fields.reason = fields.reason or "parts"
  return errors.fail("invalid", message, fields)
end

local function enumerate(numbers)
  local words = {}
  for i = 1, math.min(#numbers, 20) do words[i] = ("%d"):format(numbers[i]) end
  if #numbers > 20 then words[#words + 1] = ("and %d more"):format(#numbers - 20) end
  return table.concat(words, ", ")
end

-- The parts that the store has, when they are what they must be.
local function check_parts(provider, delivery, listed)
  local by_number, missing, total = {}, {}, 0
  for _, part in ipairs(listed) do by_number[part.number] = part end
  local parts = {}
  for number = 1, delivery.part_count do
    local part = by_number[number]
    if not part then
      missing[#missing + 1] = number
    else
      if number < delivery.part_count and part.size < provider.profile.min_part then
        return invalid(("part %d has %.0f bytes; every part but the last needs at least %.0f: send it again, larger")
          :format(number, part.size, provider.profile.min_part), { field = "parts" })
      elseif part.size >= MAX_PART then
        return invalid(("part %d has %.0f bytes; fewer than %.0f are allowed: send it again, smaller"):format(number,
          part.size, MAX_PART), { field = "parts" })
      end
      parts[#parts + 1], total = part, total + part.size
    end
  end
  if missing[1] then
    return invalid(("the upload is not complete: parts %s have not been uploaded (counted from 1); "
      .. "send them and complete again"):format(enumerate(missing)), { field = "parts", parts = missing })
  end
  if total > MAX_TOTAL then
    return invalid(("the parts have %.0f bytes together; at most %.0f are allowed"):format(total, MAX_TOTAL),
      { field = "parts" })
  end
  return parts, total
end

-- The object that the store made of the parts, if it did.
local function assembled(provider, delivery)
  local found, err = provider:head { key = delivery.key }
  if found then return found.marker == delivery.id and found or false end
  if err.code == "not_found" then return false end
  return nil, err
end

local function void(self, delivery, message)
  self.store:end_delivery(delivery.id, self.clock.now())
  return errors.fail("invalid", message, { reason = "gone", field = "uploadId" })
end

-- The object may never be the record's content: it goes, and the delivery has ended.
local function reject(self, provider, delivery, record, found, err, actor)
  local view = views.view_delivery(delivery, record, { state = "failed", size = found.size })
  view.error = err.message
  local events = self:events("after_fail", { actor = actor, upload = view, file = views.file(record) })
  local marked, why = self.store:refuse_delivery(delivery, { now = self.clock.now(), state = "void", events = events })
  if marked == nil then return nil, why end
  self.log("info", "content was refused", { delivery = delivery.id, reason = tostring(err) })
  provider:delete { key = delivery.key }
  if marked then self:deliver(events) end
  return nil, err, true
end

-- Takes the object for the record's content. Third: true when it was refused for good.
local function bind(self, provider, delivery, found, actor)
  local record, err = views.of_delivery(self, delivery)
  if not record then
    if err.code == "not_found" then provider:delete { key = delivery.key } end
    return nil, err
  end
  local ok, final
  ok, err, final = decisions.admit(self, actor,
    views.view_delivery(delivery, record, { state = "completing", size = found.size }), found)
  if not ok then
    if final then return reject(self, provider, delivery, record, found, err, actor) end
    return nil, err
  end
  local kept = decisions.kept(delivery)
  local content = { provider = delivery.provider, key = delivery.key, etag = found.etag, size = found.size,
    crc32c = found.crc32c }
  local events = views.completed(self, actor, delivery, record, content)
  local bound, swapped = self.store:bind_delivery(delivery, {
    now = self.clock.now(), state = "done", drop = delivery.cleanup_id, new_cleanup = notice.replaced(self),
    content = content, content_at = found.modified or self.clock.now(), quotas = kept.quotas,
    replaces = kept.replaces, events = events,
  })
  if bound == nil then
    if swapped.code == "quota" or swapped.reason == "replaced" then
      return reject(self, provider, delivery, record, found, swapped, actor)
    end
    return nil, swapped
  end
  if not bound then -- done by somebody else, or the record is gone
    local now = self.store:delivery(delivery.id)
    if now and now.state == "done" then return true end
    provider:delete { key = delivery.key }
    return errors.fail("not_found", "there are no such files",
      { missing = { { id = delivery.record_id } }, reason = "record" })
  end
  -- (Newer content is there already: the cleanup of the delivery's key stays.)
  if swapped then self:deliver(events) end
  return true
end

-- Answers of the store that say that these parts will not do as they are.
local REFUSED = { invalid = true, too_large = true }

-- From `completing` on: assembles, unless that is done, and binds.
local function finish(self, provider, delivery, actor)
  local found, err = assembled(provider, delivery)
  if found == nil then return nil, self:store_failure(err) end
  if not found then
    local upload = { key = delivery.key, upload_id = delivery.provider_upload_id }
    local listed
    listed, err = provider:list_parts(upload)
    if not listed and self:is_gone(err) then
      return void(self, delivery, "the upload is gone at the object store; fetch a fresh set of links")
    elseif not listed then
      return nil, self:store_failure(err)
    end
    local parts, total = check_parts(provider, delivery, listed)
    local ok = parts ~= nil
    if ok then
      upload.parts, upload.marker, upload.size = parts, delivery.id, total
      ok, err = provider:complete_multipart(upload)
    else
      err = total
    end
    if not ok then
      if not parts or REFUSED[err.code] then
        self.store:step_back_delivery(delivery.id, self.clock.now())
        if parts then err = errors.new("invalid", err.message, { reason = "parts", field = "parts" }) end
        return nil, err
      end
      return nil, self:store_failure(err)
    end
    found, err = provider:head { key = delivery.key }
    if not found then return nil, self:store_failure(err) end
  end
  return bind(self, provider, delivery, found, actor)
end

-- Gives the lease back, so that the next call need not wait for it.
local function attempt(self, provider, delivery, actor)
  local ok, err, final = finish(self, provider, delivery, actor)
  if not ok and not final and err.code ~= "invalid" and err.code ~= "not_found" then
    self.store:begin_delivery(delivery, { lease = 0, now = self.clock.now() })
  end
  return ok, err, final
end

local function claim(self, delivery)
  local now = self.clock.now()
  local claimed, err = self.store:begin_delivery(delivery, { lease = now + LEASE, now = now })
  if claimed then delivery.state, delivery.lease = "completing", now + LEASE end
  return claimed, err
end

--- Goes on with a completion that was cut off; for the janitor.
-- @tparam table self broker
-- @tparam table delivery completing
-- @treturn boolean|nil whether it came to its end
-- @treturn table|nil err
function _M.resume(self, delivery)
  if delivery.lease > self.clock.now() then return false end
  local provider, err = self:provider(delivery.provider)
  if not provider then return nil, err end
  local claimed
  claimed, err = claim(self, delivery)
  if not claimed then return claimed, err end
  local ok, final
  ok, err, final = attempt(self, provider, delivery)
  if ok then return true end
  if final or err.code == "invalid" or err.code == "not_found" then return false end -- its client hears of it
  return nil, err
end

local function of_record(self, row, id)
  local unknown = function()
    return errors.fail("invalid", "uploadId: is not an upload of this file", { field = "uploadId", reason = "value" })
  end
  if not ids.is(id, "dlv_") then return unknown() end
  local delivery, err = self.store:delivery(id)
  if not delivery then
    if err.code == "not_found" then return unknown() end
    return nil, err
  end
  if delivery.record_id ~= row.id or delivery.kind ~= "multipart" then return unknown() end
  return delivery
end

-- Refuses what would be refused at the end, before anything changes.
local function prepare(self, actor, provider, row, delivery)
  local there, err = assembled(provider, delivery)
  if there == nil then return nil, self:store_failure(err) end
  if there then return true end
  local listed
  listed, err = provider:list_parts { key = delivery.key, upload_id = delivery.provider_upload_id }
  if not listed then
    if self:is_gone(err) then
      return void(self, delivery, "the upload is gone at the object store; fetch a fresh set of links")
    end
    return nil, self:store_failure(err)
  end
  local parts, total = check_parts(provider, delivery, listed)
  if not parts then return nil, total end
  local ok
  ok, err = self.policy:decide("before_complete", { actor = actor, upload = views.view_delivery(delivery, row),
    parts = parts, size = total })
  if not ok then return nil, err end
  return true
end

--- Completes an upload of parts. Repeating it is no mistake.
-- @tparam table self broker
-- @tparam table actor
-- @tparam table reference the record
-- @tparam string id of the upload
-- @treturn true|nil
-- @treturn table|nil err
function _M.run(self, actor, reference, id)
  local ok, err = access.authorize(self, actor, "complete", "upload")
  if not ok then return nil, err end
  local found
  found, err = access.find(self, actor, { reference })
  if not found then return nil, err end
  local till = self.clock.now() + WAIT
  while true do
    local delivery
    delivery, err = of_record(self, found[1], id)
    if not delivery then return nil, err end
    if delivery.state == "done" then return true end
    if delivery.state == "void" or delivery.state == "starting" then
      return errors.fail("invalid", "uploadId: this upload is over; fetch a fresh set of links",
        { field = "uploadId", reason = "gone" })
    end
    local provider
    provider, err = self:provider(delivery.provider)
    if not provider then return nil, err end
    local now = self.clock.now()
    if delivery.state == "open" then
      ok, err = prepare(self, actor, provider, found[1], delivery)
      if not ok then return nil, err end
    end
    if delivery.state == "open" or delivery.lease <= now then
      ok, err = claim(self, delivery)
      if ok == nil then return nil, err end
      if ok then
        ok, err = attempt(self, provider, delivery, actor)
        return ok, err
      end
    end
    if now >= till then
      return errors.fail("conflict", "this upload is being completed by another request; ask again",
        { reason = "completing", retryable = true, retry_after = 5 })
    end
    self.clock.sleep(0.3)
  end
end

return _M

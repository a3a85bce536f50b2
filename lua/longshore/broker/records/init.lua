--- The broker's records: files of a project that exist before their bytes do.
--
-- A record has an integer id, a name, perhaps an external id that is unique for its
-- owner, and fields that the broker keeps without reading them. Its content
-- comes by deliveries: URLs that are given out for a week. Nobody announces the
-- end of a single PUT or of a resumable session, so it is noticed (see
-- `notice.lua`) when the record is read, or by the janitor; parts are completed by
-- a call (`complete.lua`). Either way the new bytes are whole, under a key that
-- no URL can write to, before the record points there in one transaction, and until then
-- the old content is what readers get.
--
-- Whichever delivery's bytes came last, by the store's clock, are the content: a
-- delivery that was superseded by a later start still works, so that nobody's
-- bytes vanish because somebody else asked for a URL.
--
-- A record that has no content when its last URL has ended is not there any
-- more; the janitor removes it.
--
-- Everything happens inside one tenant and organization.
--
-- Room: broker.
-- @module longshore.broker.records
local access = require "longshore.broker.records.access"
local change = require "longshore.broker.records.change"
local complete = require "longshore.broker.records.complete"
local errors = require "longshore.errors"
local links = require "longshore.broker.records.links"
local notice = require "longshore.broker.records.notice"
local start = require "longshore.broker.records.start"
local views = require "longshore.broker.records.views"

local _M = {}

-- Rows looked at for one page of a list; a filter that matches little gets
-- further pages.
local SCAN = 10000
local BATCH = 500

_M.create_record = start.create
_M.record_link = links.link
_M.record_parts = links.parts
_M.complete_record = complete.run
_M.change_records = change.run

--- Records by their references.
-- @tparam table actor
-- @tparam {table,...} references `{id=}` or `{external_id=}` (or something
-- that never matches)
-- @tparam[opt] boolean ignore leave out what there is not, instead of refusing
-- @treturn {table,...}|nil records, in the order asked for
-- @treturn table|nil err not_found with `missing`, the references
function _M.records(self, actor, references, ignore)
  local ok, err = access.authorize(self, actor, "file", "read")
  if not ok then return nil, err end
  local rows
  rows, err = access.find(self, actor, references, ignore)
  if not rows then return nil, err end
  local list = {}
  for i, row in ipairs(rows) do list[i] = views.view(row) end
  return list
end

--- A page of the owner's records, oldest first.
-- @tparam table actor
-- @tparam table query `limit`, `after` ({created_at, id} of the last one seen, or nil),
-- `accept(record)` whether it belongs to the list
-- @treturn {table,...}|nil records
-- @treturn table|nil where the next page begins, if there may be one; or err
function _M.list_records(self, actor, query)
  local ok, err = access.authorize(self, actor, "files", "read")
  if not ok then return nil, err end
  local list, after, scanned, budget = {}, query.after, 0, access.LOOKS
  while #list < query.limit and scanned < SCAN do
    local size = math.min(BATCH, SCAN - scanned)
    local rows
    rows, err = self.store:list_records { tenant = actor.tenant, organization = actor.organization, after = after,
      limit = size }
    if not rows then return nil, err end
    local present
    present, budget = access.present(self, rows, budget)
    if not present then return nil, budget end
    local there = {}
    for _, row in ipairs(present) do there[row.id] = row end
    for _, row in ipairs(rows) do
      scanned, after = scanned + 1, { created_at = row.created_at, id = row.id }
      local record = there[row.id] and views.view(there[row.id])
      if record and query.accept(record) then
        list[#list + 1] = record
        if #list == query.limit then break end
      end
    end
    if #rows < size and #list < query.limit then return list, nil end
  end
  return list, after
end

--- Deletes records with their content, all or none. URLs that were given out for
-- them bring nothing any more.
-- @tparam table actor
-- @tparam {table,...} references
-- @tparam[opt] boolean ignore those that there are not
-- @treturn true|nil
-- @treturn table|nil err not_found with `missing`
function _M.delete_records(self, actor, references, ignore)
  local ok, err = access.authorize(self, actor, "delete_file", "delete")
  if not ok then return nil, err end
  local rows
  rows, err = access.find(self, actor, references, ignore)
  if not rows then return nil, err end
  local numbers = {}
  for i, row in ipairs(rows) do
    numbers[i] = row.id
    ok, err = self.policy:decide("before_delete", { actor = actor, file = views.file(row) })
    if not ok then return nil, err end
  end
  local due, made, told = self.clock.now() + self.cleanup_lease, {}, {}
  local gone
  gone, err = self.store:delete_records(actor, numbers, function(fields)
    fields.due, fields.attempts = due, 1
    made[#made + 1] = self:new_cleanup(fields)
    return made[#made]
  end, function(row)
    local events = self:events("after_delete", { actor = actor, file = views.file(row) })
    told[row.id] = events
    return events
  end)
  if not gone then return nil, err end
  for _, cleanup in ipairs(made) do self:run_cleanup(cleanup) end
  for _, row in ipairs(gone) do self:deliver(told[row.id]) end
  return true
end

--- URLs from which records' content can be read.
-- @tparam table actor
-- @tparam {table,...} references
-- @tparam number seconds how long they work, unless the policy wants less
-- @tparam function content_type(record) the type to answer with, or nil
-- @treturn {table,...}|nil `{url, expires_at}` in the order asked for
-- @treturn table|nil err not_found (`missing`), `state` with `missing` for those without content
function _M.record_downloads(self, actor, references, seconds, content_type)
  local ok, err = access.authorize(self, actor, "download", "read")
  if not ok then return nil, err end
  local rows
  rows, err = access.find(self, actor, references)
  if not rows then return nil, err end
  local empty, list = {}, {}
  for i, row in ipairs(rows) do
    if not row.key then empty[#empty + 1] = references[i] end
  end
  if empty[1] then
    return errors.fail("state", "these files have no content yet", { missing = empty, reason = "content" })
  end
  for i, row in ipairs(rows) do
    local record = views.view(row)
    local decision
    decision, err = self.policy:decide("before_download", { actor = actor, file = views.file(row), filename = row.name,
      content_type = content_type(record) })
    if not decision then return nil, err end
    local provider
    provider, err = self:provider(row.provider)
    if not provider then return nil, err end
    list[i], err = provider:sign_get {
      key = row.key, filename = decision.filename, content_type = decision.content_type,
      expires = self:url_life(decision.url_seconds, "download_seconds", seconds),
    }
    if not list[i] then return nil, self:store_failure(err) end
  end
  return list
end

-- One running delivery at its time: true when it came to something.
local function attend(self, delivery, now)
  if delivery.state == "completing" then return complete.resume(self, delivery) end
  local taken, err = false
  if delivery.kind ~= "multipart" and delivery.state ~= "starting" then
    taken, err = notice.look(self, delivery)
    if taken == nil then return nil, err end
  end
  if now >= delivery.deadline + access.LAST_LOOK then
    local ended, events
    local record = delivery.state ~= "used" and views.of_delivery(self, delivery)
    if record then
      events = self:events("after_expire", { upload = views.view_delivery(delivery, record, { state = "expired" }) })
    end
    ended, err = self.store:end_delivery(delivery.id, now, events)
    if ended == nil then return nil, err end
    if ended and events then self:deliver(events) end
  end
  return taken
end

-- When to look again: soon at first, then ever more rarely, and once all is over.
local function next_look(delivery, now)
  local wait = math.max(60, math.min(3600, (now - delivery.created_at) / 4))
  if delivery.kind == "multipart" then wait = delivery.deadline + access.LAST_LOOK - now end
  return math.max(now + 60, math.min(now + wait, delivery.deadline + access.LAST_LOOK))
end

--- The janitor's part: notices bytes, finishes completions that were cut off,
-- and removes records whose bytes never came.
-- @tparam table options `now`, `limit`, `dry_run`
-- @treturn table|nil report `{finished, expired, errors}`
-- @treturn table|nil err
function _M.sweep_records(self, options)
  local now, limit = options.now or self.clock.now(), options.limit or 1000
  local report = { finished = 0, expired = 0, errors = 0 }
  local due, err = self.store:due_deliveries(now, limit)
  if not due then return nil, err end
  for _, delivery in ipairs(options.dry_run and {} or due) do
    -- First the time of the next look: whoever else sweeps just now need not look too.
    local ok, why = self.store:look_again(delivery.id, next_look(delivery, now))
    if ok then ok, why = attend(self, delivery, now) end
    if ok then
      report.finished = report.finished + 1
    elseif ok == nil then
      report.errors = report.errors + 1
      self.log("warn", "a delivery could not be attended to", { delivery = delivery.id, cause = tostring(why) })
    end
  end
  -- Not before the last look at what was sent at the last moment.
  local rows
  rows, err = self.store:expired_records(now - access.LAST_LOOK - 60, limit)
  if not rows then return nil, err end
  for _, row in ipairs(rows) do
    local gone = true
    if not options.dry_run then gone, err = views.expire(self, row, now) end
    if gone == nil then return nil, err end
    if gone then report.expired = report.expired + 1 end
  end
  return report
end

return _M

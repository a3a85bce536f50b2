--- Fresh URLs for a record that there is.
--
-- Room: broker.
-- @module longshore.broker.records.links
local access = require "longshore.broker.records.access"
local deliveries = require "longshore.broker.records.deliveries"
local views = require "longshore.broker.records.views"

local _M = {}

-- New content takes the place of what is there.
local function replacing(row, resume)
  return { if_exists = "replace", current = row.key and row or nil, resume = resume }
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
    local decided
    decided, err = deliveries.decide(self, actor, row, limits, replacing(row, true))
    if not decided then return nil, err end
    -- (The URL that is out already may live longer.)
    newest.deadline = math.max(newest.deadline, now + decided.seconds)
    local ok
    ok, err = self.store:extend_delivery(newest, { deadline = newest.deadline, due = newest.deadline + deliveries.GRACE,
      now = now })
    if ok == nil then return nil, err end
    if ok then
      local grant
      grant, err = deliveries.sign_single(self, actor, row, newest)
      if not grant then return nil, err end
      return views.view(row), grant
    end
  end
  local grant
  grant, err = deliveries.add(self, actor, row, limits.sessions and "session" or "put", nil, limits, replacing(row))
  if not grant then return nil, err end
  return views.view(row), grant
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
  grant, err = deliveries.add(self, actor, row, "multipart", count, limits, replacing(row))
  if not grant then return nil, err end
  return views.view(row), grant
end

return _M

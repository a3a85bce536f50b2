--- The broker's outbox: after-hooks and webhooks, told at least once.
--
-- An event is a row for each who is to be told, written in the transaction of the
-- change that it tells of, and deleted when it was told. The policy's own after-hooks
-- run at once, by whoever made the change; webhooks, and whatever failed or was cut
-- off, are told by `deliver_due`: a timer of the host's every second, and the janitor.
-- What failed is tried again, later each time, up to an hour, for three days.
--
-- Room: broker.
-- @module longshore.broker.outbox
local errors = require "longshore.errors"
local ids = require "longshore.broker.ids"
local json = require "longshore.json"
local webhook = require "longshore.policy.webhook"

local _M = {}

local GIVE_UP = 3 * 86400 -- seconds
local FIRST_WAIT, LONGEST_WAIT = 2, 3600
local ROUND = 200         -- events in one round
local PATIENCE = 3        -- failures of one listener in a round, then all that it is to be told waits
local LONGEST_PAUSE = 60

-- Of an actor, what others may know.
local function view_actor(actor)
  if not actor then return nil end
  return { user = actor.user, organization = actor.organization, tenant = actor.tenant, via = actor.via,
    client = actor.client }
end

--- The rows that tell of a change, to be written with it.
-- @tparam string hook an after-hook
-- @tparam table|function context or what makes it, called only when there is a listener
-- @treturn {table,...} rows, perhaps none, and `hook` and `context`
function _M.events(self, hook, context)
  local policy, targets = self.policy, {}
  if policy:has(hook) then targets[1] = "policy" end
  for _, listener in ipairs(policy.webhooks or {}) do
    if not listener.hooks or listener.hooks[hook] then targets[#targets + 1] = "webhook:" .. listener.name end
  end
  if not targets[1] and not policy.observe then return {} end
  if type(context) == "function" then context = context() end
  local now, list = self.clock.now(), { hook = hook, context = context }
  if not targets[1] then return list end
  local payload = json.encode { hook = hook, at = now, actor = view_actor(context.actor), upload = context.upload,
    file = context.file, dataset = context.dataset }
  for i, target in ipairs(targets) do
    local own = target == "policy" -- told by this very call
    list[i] = { id = ids.new("evt_"), hook = hook, target = target, payload = payload, created_at = now,
      due = own and now + self.event_lease or now, attempts = own and 1 or 0 }
  end
  return list
end

local function post(self, event, name)
  local listener
  for _, candidate in ipairs(self.policy.webhooks or {}) do
    if candidate.name == name then listener = candidate end
  end
  if not listener then
    self.log("warn", "event dropped: there is no such webhook any more", { event_id = event.id, webhook = name })
    return true
  elseif not self.transport then
    return errors.fail("unavailable", "this broker has no transport for webhooks")
  end
  local body = ('{"id":%s,%s'):format(json.encode(event.id), event.payload:sub(2))
  local called, response, err = pcall(self.transport, {
    method = "POST", url = listener.url, body = body, timeout = listener.timeout, max_response = 65536,
    headers = webhook.headers(listener.secret, body, self.clock.now(), event),
  })
  if not called then response, err = nil, errors.from(response) end
  if not response then
    -- It has the delivery, and more to say than anybody reads.
    if err.code == "too_large" and err.answered and err.answered >= 200 and err.answered < 300 then return true end
    return errors.fail(err.code, errors.without_path(err.message, listener.url))
  end
  if response.status >= 200 and response.status < 300 then return true end
  return errors.fail("unavailable", ("the webhook %s answered %d"):format(name, response.status))
end

local function tell(self, event)
  local name = event.target:match("^webhook:(.*)$")
  if name then return post(self, event, name) end
  local context, err = json.decode(event.payload)
  if not context then return nil, err end
  local ok, why = self.policy:notify(event.hook, context)
  if ok then return true end
  return errors.fail("internal", why or "the policy failed")
end

local function wait_after(attempts)
  return math.min(LONGEST_WAIT, FIRST_WAIT * 2 ^ math.min(attempts - 1, 11))
end

-- Tells an event that the caller has claimed.
local function run(self, event)
  local called, ok, err = pcall(tell, self, event)
  if not called then ok, err = nil, errors.from(ok) end
  if ok then return self.store:finish_event(event.id) end
  local now = self.clock.now()
  local fields = { event_id = event.id, hook = event.hook, target = event.target, attempts = event.attempts,
    error = tostring(err) }
  if now - event.created_at > GIVE_UP then
    self.log("error", "event given up", fields)
    self.store:finish_event(event.id)
    return nil, err
  end
  self.log("warn", "event not told yet", fields)
  local put_off, why = self.store:postpone_event(event.id, now + wait_after(event.attempts), tostring(err))
  if not put_off then return nil, why end
  return nil, err
end

--- Tells of a change that has been made, as far as that can be done here.
-- @tparam {table,...} events of `events`, written with the change
function _M.deliver(self, events)
  if self.policy.observe and events.hook then self.policy.observe(events.hook, events.context) end
  for _, event in ipairs(events) do
    if event.target == "policy" then run(self, event) end
  end
end

--- Tells of a change that knows nothing of the outbox: what dies between the change
-- and this call is not told.
-- @tparam string hook
-- @tparam table context
function _M.announce(self, hook, context)
  local events = self:events(hook, context)
  if events[1] then
    local ok, err = self.store:add_events(events)
    if not ok then
      self.log("error", "event lost", { hook = hook, error = tostring(err) })
      return
    end
  end
  self:deliver(events)
end

-- One that does not answer at all is not asked again in this round: each time
-- would take as long, and the others wait.
local function is_away(err)
  return type(err) == "table" and (err.code == "timeout" or err.code == "network" or err.code == "tls")
end

-- What else a listener that is away would be told waits for a while, so that it is not in the others' way.
local function pause(self, target, longest)
  local now = self.clock.now()
  return self.store:postpone_events(target, now, now + math.min(LONGEST_PAUSE, longest))
end

--- Tells what is due: webhooks, and what could not be told before.
-- @tparam[opt] table options `now`, `limit` (200), `dry_run`, `target` (only what is for this one), `seconds` (after
-- them no other one is begun)
-- @treturn table report `told`, `failed` (numbers), `messages`, `more` (there may be more that is due); or nil, err
function _M.deliver_due(self, options)
  options = options or {}
  local limit, began = options.limit or ROUND, self.clock.now()
  local report, failures, longest = { told = 0, failed = 0, messages = {} }, {}, {}
  local rows, err = self.store:due_events(options.now or began, limit, options.target)
  if not rows then return nil, err end
  report.more = #rows == limit and not options.dry_run
  for _, event in ipairs(rows) do
    local target = event.target
    if options.dry_run then
      report.told = report.told + 1
    elseif options.seconds and self.clock.now() - began >= options.seconds then
      report.more = true
      break
    elseif (failures[target] or 0) < PATIENCE
      and self.store:claim_event(event, self.clock.now() + self.event_lease) then
      event.attempts = event.attempts + 1
      local ok, why = run(self, event)
      if ok then
        report.told = report.told + 1
      else
        report.failed, failures[target] = report.failed + 1, is_away(why) and PATIENCE or (failures[target] or 0) + 1
        longest[target] = math.max(longest[target] or 0, wait_after(event.attempts))
        report.messages[#report.messages + 1] = ("%s: %s"):format(event.id, errors.redact(tostring(why)))
        if failures[target] >= PATIENCE then pause(self, target, longest[target]) end
      end
    end
  end
  return report
end

return _M

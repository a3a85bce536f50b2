--- The retry gate of one endpoint: who may send, and when.
--
-- All requests to one endpoint pass one gate, so that a store that asks for
-- less gets less from all of them together:
--
-- * at most `limit` requests at once. A refusal for load (503, 429, SlowDown)
--   halves the limit, at most once per wave; `limit` successes in a row raise
--   it by one again, up to `max`;
-- * after such a refusal nobody starts before a pause is over: capped
--   exponential with full jitter, never shorter than the Retry-After that came
--   with it;
-- * other failures that may be repeated make only the request that failed
--   wait;
-- * retries come out of a budget that successes refill, so that an endpoint
--   that fails most requests is not asked for ever.
--
-- With a pace (`longshore.uploader.pace`) the limit is the pace's, which finds it
-- by throughput, and is told of refusals.
--
-- The gate is a state machine: it is told what happened and when, and reads no
-- clock itself.
--
-- Room: uploader, no I/O.
-- @module longshore.uploader.gate
local core = require "longshore.core"

local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.gate" }

--- A random number in [0, 1) from the system's generator.
local function random()
  local a, b, c = core.random(3):byte(1, 3)
  return (a * 65536 + b * 256 + c) / 16777216
end

local function number(options, name, default, low)
  local value = options[name]
  if value == nil then value = default end
  assert(type(value) == "number" and value >= low, name .. ": number expected, " .. low .. " at least")
  return value
end

--- Makes a gate.
-- @tparam[opt] table options `max` requests at once (4), `base` (0.5) and `cap`
-- (30) of the delay in seconds, `budget` retries (100), `refill` per success
-- (1), `longest_wait` (600): the longest Retry-After that is honoured in full,
-- `random` a function that answers a number in [0, 1), `pace`
-- @treturn gate
function _M.new(options)
  options = options or {}
  local self = {
    max = number(options, "max", 4, 1),
    base = number(options, "base", 0.5, 0),
    cap = number(options, "cap", 30, 0),
    budget = number(options, "budget", 100, 0),
    refill = number(options, "refill", 1, 0),
    longest_wait = number(options, "longest_wait", 600, 0),
    random = options.random or random,
    pace = options.pace,
    active = 0,        -- requests under way
    streak = 0,        -- successes since the limit changed
    refusals = 0,      -- refusals for load in a row
    not_before = -math.huge,
    wave = 0,          -- counts the halvings; a request knows in which it began
  }
  self.limit = self.max
  self.tokens = self.budget
  return setmetatable(self, mt)
end

local function limit_of(self)
  return self.pace and math.min(self.pace.limit, self.max) or self.limit
end

--- Bytes have moved.
-- @tparam number now
-- @tparam number bytes since the last call
-- @treturn boolean whether more requests may start now than before
function methods:moved(now, bytes)
  local pace = self.pace
  if not pace then return false end
  local before = pace.limit
  pace:observe(now, bytes, self.active)
  return pace.limit > before
end

--- Whether a request may start now.
-- @tparam number now seconds, of any steady clock
-- @treturn[1] boolean true
-- @treturn[2] boolean false
-- @treturn[2] ?number seconds after which to ask again; nil: when a request
-- has finished
function methods:ready(now)
  if now < self.not_before then return false, self.not_before - now end
  if self.active >= limit_of(self) then return false end
  return true
end

--- A request starts. Call it only when `ready`.
-- @treturn table ticket for `finish`
function methods:start()
  self.active = self.active + 1
  return { wave = self.wave }
end

--- A request has finished. A ticket counts once.
-- @tparam table ticket
-- @tparam string outcome `ok`; `throttled`: refused for load; `failed`:
-- anything else, cancelled too
-- @tparam number now
-- @tparam[opt] number retry_after seconds, as the server asked
function methods:finish(ticket, outcome, now, retry_after)
  if ticket.finished then return end
  ticket.finished = true
  if self.pace then self.pace:observe(now, 0, self.active) end
  self.active = self.active - 1
  if outcome == "ok" then
    self.refusals = 0
    self.tokens = math.min(self.budget, self.tokens + self.refill)
    self.streak = self.streak + 1
    if self.streak >= self.limit and self.limit < self.max then
      self.limit, self.streak = self.limit + 1, 0
    end
  elseif outcome == "throttled" then
    self.streak = 0
    -- One wave of refusals, sent before the limit was lowered, is one reason
    -- to lower it.
    if ticket.wave == self.wave then
      if self.pace then self.pace:throttled(now, self.active + 1) end
      self.limit = math.max(1, math.floor(self.limit / 2))
      self.wave = self.wave + 1
      self.refusals = self.refusals + 1
    end
    self.not_before = math.max(self.not_before, now + self:delay(self.refusals, retry_after))
  end
end

--- How long to wait before attempt number `attempt` + 1: full jitter over a
-- capped exponential, and no less than the server asked for.
-- @tparam number attempt how many there were, 1 at least
-- @tparam[opt] number retry_after
-- @treturn number seconds
function methods:delay(attempt, retry_after)
  local ceiling = math.min(self.cap, self.base * 2 ^ math.min(attempt - 1, 60))
  local delay = self.random() * ceiling
  if retry_after then delay = math.max(delay, math.min(retry_after, self.longest_wait)) end
  return delay
end

--- Takes one retry out of the budget.
-- @treturn boolean whether there was one
function methods:spend()
  if self.tokens < 1 then return false end
  self.tokens = self.tokens - 1
  return true
end

return _M

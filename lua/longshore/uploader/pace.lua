--- How many requests at once: found by trying, not configured.
--
-- Throughput decides. The number begins low and doubles as long as that makes
-- the whole faster; then it stays at the smallest number that was as fast, and
-- now and then a few more are tried, since links change. A refusal for load
-- halves it at once; the way back leads quickly to just below what was
-- refused, and above it only after a while. When the throughput falls by
-- itself, what was learned is forgotten.
--
-- One pace belongs to one endpoint. It is a state machine: it is told what
-- moved and how many requests are under way, and reads no clock itself. It
-- measures only while as many are under way as it allows, so that the end of a
-- file teaches it nothing.
--
-- Room: uploader, no I/O.
-- @module longshore.uploader.pace
local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.pace" }

local function number(options, name, default, low)
  local value = options[name]
  if value == nil then value = default end
  assert(type(value) == "number" and value >= low, name .. ": number expected, " .. low .. " at least")
  return value
end

--- Makes a pace.
-- @tparam[opt] table options `max` (32), `start` (4), `epoch`: seconds of one
-- measurement (0.25), `probe`: seconds until more are tried again (5)
-- @treturn pace
function _M.new(options)
  options = options or {}
  local self = {
    max = number(options, "max", 32, 1),
    limit = number(options, "start", 4, 1),
    epoch = number(options, "epoch", 0.25, 0.01),
    probe = number(options, "probe", 5, 0.1),
    phase = "grow",
    doubts = 0,      -- measurements in a row that showed no gain
    held = nil,      -- throughput at `good`
    good = nil,      -- the number that is kept
    ceiling = nil,   -- what was refused for load
    patience = 1,    -- how many times longer than usual the next probe waits
  }
  self.limit = math.min(self.limit, self.max)
  self.good = self.limit
  return setmetatable(self, mt)
end

local function restart(self, now)
  self.began, self.bytes, self.busy, self.last, self.moving = now, 0, 0, now, self.moving or 0
end

local function set(self, limit, now)
  limit = math.max(1, math.min(limit, self.max))
  self.settling = limit > self.limit and self.phase ~= "recover"
  self.limit = limit
  restart(self, now)
end

local function hold(self, limit, rate, now)
  self.phase, self.doubts = "hold", 0
  self.good, self.held = limit, rate
  self.next_probe = now + self.probe * self.patience
  set(self, limit, now)
end

-- How many more to try: a quarter, at least one, and not again what was
-- refused, until it has been avoided for a while.
local function more(self, now)
  local to = math.min(self.max, self.limit + math.max(1, math.floor(self.limit / 4)))
  if self.ceiling and now < self.ceiling_until then to = math.min(to, self.ceiling - 1) end
  return to
end

local judge = {}

function judge.grow(self, rate, now)
  if not self.held or rate > self.held * 1.15 then
    self.held, self.good, self.doubts = rate, self.limit, 0
    local to = math.min(self.max, self.limit * 2)
    if self.ceiling and now < self.ceiling_until then to = math.min(to, self.ceiling - 1) end
    if to <= self.limit then return hold(self, self.limit, rate, now) end
    return set(self, to, now)
  end
  self.doubts = self.doubts + 1
  self.best_doubt = math.max(self.best_doubt or 0, rate)
  if self.doubts < 2 then return restart(self, now) end
  -- Twice no gain: what was before the last doubling was enough.
  local rate_here = self.best_doubt
  self.best_doubt = nil
  if rate_here > self.held * 1.04 then return hold(self, self.limit, rate_here, now) end
  hold(self, self.good, self.held, now)
end

function judge.hold(self, rate, now)
  -- The link has become slower, or faster, by itself: learn again.
  if rate < self.held * 0.6 then
    self.doubts = self.doubts + 1
    if self.doubts >= 3 then
      self.held, self.doubts, self.patience = rate, 0, 1
      self.next_probe = now
    end
  else
    self.doubts = 0
    self.held = self.held + (rate - self.held) * 0.25
  end
  if now >= self.next_probe then
    local to = more(self, now)
    if to > self.limit then
      self.phase, self.doubts = "probe", 0
      return set(self, to, now)
    end
    self.next_probe = now + self.probe * self.patience
  end
  restart(self, now)
end

function judge.probe(self, rate, now)
  self.doubts = self.doubts + 1
  self.best_doubt = math.max(self.best_doubt or 0, rate)
  if self.best_doubt <= self.held * 1.05 and self.doubts < 2 then return restart(self, now) end
  rate, self.best_doubt = self.best_doubt, nil
  if rate > self.held * 1.05 then
    self.patience = 1
    self.held, self.good = rate, self.limit
    local to = more(self, now)
    self.doubts = 0
    if to > self.limit then return set(self, to, now) end
    return hold(self, self.limit, rate, now)
  end
  self.patience = math.min(self.patience * 2, 8)
  hold(self, self.good, self.held, now)
end

-- After a refusal: half way back to just below it with each measurement.
function judge.recover(self, rate, now)
  local target = math.max(1, self.ceiling - 1)
  if self.limit >= target then return hold(self, self.limit, rate, now) end
  set(self, self.limit + math.max(1, math.ceil((target - self.limit) / 2)), now)
end

--- Bytes have moved, or a request began or ended.
-- @tparam number now seconds, of any steady clock
-- @tparam number bytes that moved since the last call
-- @tparam number active requests under way before this moment
function methods:observe(now, bytes, active)
  if not self.began then restart(self, now) end
  self.busy = self.busy + math.min(active, self.limit) * (now - self.last)
  self.last = now
  self.bytes = self.bytes + bytes
  local passed = now - self.began
  -- A great gain is seen early; that there is none takes a full measurement.
  if self.phase == "grow" and self.held and passed >= self.epoch * 0.5 and self.limit > self.good
    and self.bytes / passed > self.held * 1.4 then
    return judge.grow(self, self.bytes / passed, now)
  end
  if passed < self.epoch then return end
  -- New connections need time to become fast: the first measurement after a
  -- rise does not count.
  if self.settling then
    self.settling = false
    return restart(self, now)
  end
  if self.busy < passed * self.limit * 0.8 or self.bytes <= 0 then return restart(self, now) end
  judge[self.phase](self, self.bytes / passed, now)
end

--- A request was refused for load.
-- @tparam number now
-- @tparam number active requests under way, with the refused one
function methods:throttled(now, active)
  self.ceiling = math.max(1, math.min(self.limit, active))
  self.refusals = math.min((self.refusals or 0) + 1, 5)
  self.ceiling_until = now + self.probe * 2 ^ self.refusals
  self.phase, self.doubts, self.best_doubt = "recover", 0, nil
  set(self, math.floor(self.ceiling / 2), now)
end

return _M

--- Where the parts of one upload go: URLs, asked for just in time.
--
-- Where the service signs on demand, no more than a window of URLs is held, so
-- that none gets old unused; one that is about to end is replaced before it is
-- used. One call for URLs is under way at a time; whoever needs one waits for
-- it.
--
-- Room: uploader.
-- @module longshore.uploader.targets
local errors = require "longshore.errors"
local loops = require "longshore.uploader.loop"

local _M = {}

-- A URL is not used in the last quarter of its life, nor in its last seconds.
local MARGIN = 30

local methods = {}
local mt = { __index = methods, __name = "longshore.targets" }

--- Makes the targets of a session. The URLs move out of `session.parts`.
-- @tparam table options `driver`, `session`, `loop`, `clock` (the service's
-- time), `window` (16), `upcoming` a function that answers the next parts in
-- the order in which they will be sent: upcoming(n)
-- @treturn targets
function _M.new(options)
  local self = setmetatable({
    driver = options.driver, session = options.session, loop = options.loop, clock = options.clock,
    window = math.max(1, options.window or 16), upcoming = options.upcoming,
    held = {}, count = 0, changed = loops.signal(),
  }, mt)
  local on_demand = self.driver.capabilities.batch > 0
  for _, part in ipairs(self.session.parts) do
    if part.url and (not on_demand or self.count < self.window) then self:hold(part, part) end
    part.url, part.headers, part.expires_at = nil, nil, nil
  end
  return self
end

--- Keeps the target that a part was given.
function methods:hold(part, target)
  if not self.held[part.number] then self.count = self.count + 1 end
  self.held[part.number] = {
    url = target.url, headers = target.headers or {}, method = target.method or "PUT",
    expires_at = target.expires_at, got_at = self.clock.now(),
    offset = target.offset or part.offset, length = target.length or part.length,
  }
end

--- Forgets a part's URL: it was used, or refused.
function methods:drop(part)
  if self.held[part.number] then
    self.held[part.number] = nil
    self.count = self.count - 1
  end
end

--- Whether a target may be used now.
function methods:fresh(target)
  if not target.expires_at then return true end
  local life = target.expires_at - target.got_at
  return target.expires_at - self.clock.now() > math.min(MARGIN, life / 4)
end

-- Makes room for one: the last in order gives up its URL. (Whoever is sending
-- with it goes on with it.)
local function evict(self)
  local last = -1
  for number in pairs(self.held) do last = math.max(last, number) end
  self:drop { number = last }
end

-- Asks for the URL of a part and of those that come next, as many as fit.
local function sign(self, part)
  if not self.held[part.number] and self.count >= self.window then evict(self) end
  local wanted, room = { part }, math.min(self.window - self.count, self.driver.capabilities.batch) - 1
  if self.held[part.number] then room = room + 1 end
  for _, next_part in ipairs(room > 0 and self.upcoming(self.window) or {}) do
    if room <= 0 then break end
    if next_part ~= part and not self.held[next_part.number] then
      wanted[#wanted + 1] = next_part
      room = room - 1
    end
  end
  local list, err = self.driver:urls(self.session, wanted)
  if not list then return nil, err end
  for i, wanted_part in ipairs(wanted) do
    local target = list[i]
    if not target or type(target.url) ~= "string" then
      return errors.fail("store", ("the service gave no URL for part %d"):format(wanted_part.number))
    end
    self:hold(wanted_part, target)
  end
  return self.held[part.number]
end

--- The target for a part, fresh enough to begin with.
-- @tparam table part
-- @tparam[opt] boolean ask even if there is one
-- @treturn[1] table {url, headers, method, expires_at, offset, length}
-- @return[2] nil
-- @treturn[2] table err
function methods:get(part, ask)
  local on_demand = self.driver.capabilities.batch > 0
  while true do
    local target = self.held[part.number]
    if target and not (ask and on_demand) and self:fresh(target) then return target end
    if not on_demand then
      return errors.fail("expired", "the upload's URLs have expired and the service gives no fresh ones; "
        .. "the same command starts the upload again")
    end
    if not self.signing then break end
    self.loop:wait(self.changed)
    ask = false
  end
  self.signing = true
  local undo = self.loop:on_end(function()
    self.signing = false
    self.loop:notify(self.changed)
  end)
  local target, err = sign(self, part)
  undo()
  self.signing = false
  self.loop:notify(self.changed)
  return target, err
end

return _M

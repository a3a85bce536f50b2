--- Several requests in one worker thread at the same time: each is a coroutine that
-- rests while its object store thinks, and the changes that they want written are
-- written in one transaction.
--
-- Nothing of a request's own order changes: its row is written, and durable, before
-- its store is asked, and so on. Only the moment of writing is shared. One that fails
-- fails alone. One whose store takes so long that others wait for it is given up, as if its store had
-- failed, and said to be (`cut`): it can be tried again where it keeps nobody waiting.
--
-- Room: nginx. No ngx.
-- @module longshore.nginx.together
local clock = require "longshore.clock"
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}
local methods = {}
local mt = { __index = methods }

local unpack = table.unpack or unpack -- luacheck: ignore
local running, resume, create, yield = coroutine.running, coroutine.resume, coroutine.create, coroutine.yield

-- Seconds that a store may take for one answer, and that whoever is done waits for it, before those are let go.
local PATIENCE, GRACE = 1, 0.25
-- A decision of the policy that takes so long asks somebody, and the others of its thread stand still meanwhile.
local HEAVY = 0.15

-- The operations that are written together, those of a request that starts an upload,
-- and in which order: organizations are locked in the same order everywhere, so that no two groups
-- wait for each other.
local WRITES = {
  create_upload = function(upload) return ("1 %s\n%s"):format(upload.tenant, upload.organization) end,
  start_upload = function(id) return "0 " .. id end,
}

--- Makes what runs requests together in one Lua VM.
-- @treturn table together; `park` (see longshore.http.transport) and `clock` are for the transports and the
-- application of this VM
function _M.new()
  local self = setmetatable({ members = {}, left = 0 }, mt)
  function self.park(step, id)
    if not self:is_member() then return nil end
    return yield("event", step, id)
  end
  self.clock = {
    now = clock.system.now,
    sleep = function(seconds)
      if not self:is_member() then return clock.system.sleep(seconds) end
      yield("until", clock.system.now() + seconds)
    end,
  }
  return self
end

--- Whether who asks is one of several requests, and can rest. (In a coroutine of somebody else's it cannot.)
-- @treturn boolean
function methods:is_member()
  return self.left > 0 and not self.held and self.members[running() or false] ~= nil and coroutine.isyieldable()
end

--- Lets a store write the changes of several requests together. What the policy does it does without a rest.
-- @tparam table store of longshore.store; changed in place
-- @tparam table policy of longshore.policy; changed in place
function methods:watch(store, policy)
  self.db = store.db
  local function leave(began, ok, ...)
    self.held = false
    self.heavy = self.heavy or core.monotonic() - began > HEAVY
    if not ok then error((...), 0) end
    return ...
  end
  -- (The house rules take no time, and call nobody.)
  local own = #(policy.policies or {}) ~= 1
  for _, name in ipairs(own and { "decide", "notify" } or {}) do
    local ask = policy[name]
    policy[name] = ask and function(this, hook, context)
      if not self:is_member() then return ask(this, hook, context) end
      self.held = true
      return leave(core.monotonic(), pcall(ask, this, hook, context))
    end
  end
  for name, place in pairs(WRITES) do
    local operation = store[name]
    store[name] = function(...)
      if not self:is_member() then return operation(...) end
      local arguments, n = { ... }, select("#", ...)
      return yield("write", place((select(2, ...))), function() return operation(unpack(arguments, 1, n)) end)
    end
  end
end

-- Goes on with one until it rests again or ends.
local function go(self, member, ...)
  self.enter(member.index)
  local ok, why, a, b = resume(member.co, ...)
  if coroutine.status(member.co) == "dead" then
    self.members[member.co] = nil
    self.left, self.done = self.left - 1, self.done or core.monotonic()
    self.results[member.index] = { value = ok and why or nil, thrown = not ok and why or nil, cut = member.cut }
  elseif why == "write" then
    member.place, member.write = a, b
    self.writes[#self.writes + 1] = member
  elseif why == "event" then
    member.step, member.id, member.since = a, b, core.monotonic()
    self.waiting[member] = true
  else
    member.at = a
    self.asleep[member] = true
  end
end

local function write(self)
  local members, functions = self.writes, {}
  self.writes = {}
  table.sort(members, function(a, b)
    if a.place == b.place then return a.index < b.index end
    return a.place < b.place
  end)
  for i, member in ipairs(members) do functions[i] = member.write end
  local results = self.db:group(functions)
  for i, member in ipairs(members) do
    local result = results[i]
    if result[1] then
      go(self, member, unpack(result, 2, 4))
    else
      -- A bug; it is that request's, as if it had been alone.
      go(self, member, nil, errors.new("internal", "a bug: " .. tostring(result[2])))
    end
  end
end

-- Whether somebody waits for one that has had its time.
local function is_over(self, member)
  local now = core.monotonic()
  return member.cut or self.done and now - self.done > GRACE and now - member.since > PATIENCE
end

-- Those whose store has answered, or has not for too long, or whose time has come.
local function woken(self, seconds)
  local list, ended, several, first = {}, {}, false, nil
  for member in pairs(self.waiting) do
    several = several or (first and first ~= member.step)
    first = first or member.step
  end
  if several then seconds = math.min(seconds, 0.005) end
  for member in pairs(self.waiting) do
    local step = member.step
    ended[step] = ended[step] or step(seconds)
    local event = ended[step][member.id]
    if event == false then event = nil end
    if not event and is_over(self, member) then event, member.cut = false, true end
    if event ~= nil then list[#list + 1] = { member, event } end
  end
  local now = next(self.asleep) and self.clock.now()
  for member in pairs(self.asleep) do
    if member.at <= now or member.cut then list[#list + 1] = { member } end
  end
  return list
end

local function wake(self, seconds)
  local list = woken(self, seconds)
  for _, one in ipairs(list) do
    self.waiting[one[1]], self.asleep[one[1]] = nil, nil
    go(self, one[1], one[2])
  end
  return list[1] ~= nil
end

--- Runs functions together.
-- @tparam {function,...} functions
-- @tparam function enter `enter(i)`: called whenever the i-th goes on
-- @treturn {table,...} for each `value` (what it answered), `thrown` (what it raised), `cut` (true: it was given up),
-- `untouched` (true: it was not begun, as the policy takes its time for each)
function methods:run(functions, enter)
  self.enter, self.results, self.left, self.done, self.heavy = enter, {}, #functions, nil, false
  self.writes, self.waiting, self.asleep, self.members = {}, {}, {}, {}
  local list = {}
  for i, fn in ipairs(functions) do
    list[i] = { index = i, co = create(fn) }
    self.members[list[i].co] = list[i]
  end
  for _, member in ipairs(list) do
    if self.heavy then
      self.members[member.co], self.left = nil, self.left - 1
      self.results[member.index] = { untouched = true }
    else
      go(self, member)
    end
  end
  while self.left > 0 do
    -- Whose store has answered by now comes along; nobody is waited for.
    local pending = self.writes[1] ~= nil
    local some = wake(self, pending and 0 or next(self.asleep) and 0.02 or 0.2)
    if not some and pending then
      write(self)
    elseif not some and not next(self.waiting) and next(self.asleep) then
      clock.system.sleep(0.02)
    end
  end
  return self.results
end

return _M

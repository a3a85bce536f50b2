--- A thread pool with a bounded queue in front: so many calls run, some more
-- wait for some time, and whoever comes then is told so at once.
--
-- Permits bound the Lua VMs: a VM is taken when a call is queued, not when a
-- thread picks it up.
--
-- Room: nginx.
-- @module longshore.nginx.gate
local errors = require "longshore.errors"
local semaphore = require "ngx.semaphore"

local _M = {}
local unpack = table.unpack or unpack -- luacheck: ignore
local methods = {}
local mt = { __index = methods }

--- Makes a gate for this nginx worker.
-- @tparam table options pool (name of the thread pool), permits, queue (how many may wait), seconds (how long),
-- advice (the lines of nginx.conf that declare `pool` and enough `vms`)
-- @treturn table gate; `running` and `waiting` are how many calls do so; `freed`, where somebody sets it, is called
-- when a thread has become free
function _M.new(options)
  return setmetatable({
    pool = options.pool, queue = options.queue, seconds = options.seconds, waiting = 0, running = 0,
    advice = options.advice or {}, permits = assert(semaphore.new(options.permits)),
  }, mt)
end

local function busy(text)
  return errors.fail("busy", text, { retry_after = 1 })
end

local function enter(self, counted)
  if self.permits:wait(0) then return true end
  if not counted and self.waiting >= self.queue then return busy("too many requests are waiting") end
  local one = counted and 0 or 1
  self.waiting = self.waiting + one
  local ok = self.permits:wait(self.seconds)
  self.waiting = self.waiting - one
  if not ok then return busy("the request waited too long for its turn") end
  return true
end

-- A line that nginx.conf lacks; with `wait` seconds, that is only felt when much is asked.
local function lacks(line, where, wait)
  return errors.fail("unavailable", ("nginx.conf lacks a line: add `%s` to its %s"):format(line, where),
    { reason = "setup", retryable = wait ~= nil, retry_after = wait })
end

local function collect(self, ok, ...)
  if ok then return ... end
  local why = tostring((...))
  if why:find("no available Lua vm", 1, true) then
    -- There are fewer VMs than permits.
    if self.advice.vms then return lacks(self.advice.vms, "http context", 1) end
    return busy("too many requests are being handled")
  elseif why:find("thread pool", 1, true) and why:find("not found", 1, true) and self.advice.pool then
    return lacks(self.advice.pool, "main context")
  end
  return errors.fail("internal", why)
end

-- When nginx is told to stop it waits for what has a timer, and a request whose
-- call is in a thread has none: it would be dropped, done or not. Something
-- that sleeps as long as anything runs or waits is the timer of all.
local function keep(premature, self)
  while not premature and (self.running > 0 or self.waiting > 0) do
    self.kept = ngx.now()
    ngx.sleep(0.02)
  end
  self.kept = nil
end

-- It has not been running for so long: nginx dropped it, because others have too many timers.
local LOST = 1

local function hold()
  ngx.sleep(3600)
end

-- The sleeper; a light thread of the request's own where nginx is stopping
-- already and takes no new timer.
local function hold_up(self)
  if self.kept and ngx.now() - self.kept < LOST then return nil end
  self.kept = ngx.timer.at(0, keep, self) and ngx.now() or nil
  if not self.kept then return ngx.thread.spawn(hold) end
end

--- Whether a thread is free.
-- @treturn boolean
function methods:free()
  return self.permits:count() > 0
end

--- Runs a function of a module in a thread, with arguments that are asked for when the thread is there.
-- @tparam string module
-- @tparam string name
-- @tparam function make answers the arguments: plain data
-- @tparam[opt] boolean counted whoever waits for this has been added to `waiting`, and is taken off in `make`
-- @return what the function returned (a first nil counts as failure)
-- @return[2] nil
-- @treturn[2] table err busy or internal
function methods:run_with(module, name, make, counted)
  local ok, err = enter(self, counted)
  if not ok then return nil, err end
  self.running = self.running + 1
  local permits, timer = self.permits, hold_up(self)
  local function leave(called, ...)
    self.running = self.running - 1
    permits:post(1)
    if self.freed then self.freed() end
    if timer then ngx.thread.kill(timer) end
    if not called then error((...), 0) end
    return collect(self, ...)
  end
  return leave(pcall(ngx.run_worker_thread, self.pool, module, name, make())) -- luacheck: ignore 143
end

--- Runs a function of a module in a thread.
-- @tparam string module
-- @tparam string name
-- @param ... data
-- @return as `run_with`
function methods:run(module, name, ...)
  local arguments, n = { ... }, select("#", ...)
  return self:run_with(module, name, function() return unpack(arguments, 1, n) end)
end

return _M

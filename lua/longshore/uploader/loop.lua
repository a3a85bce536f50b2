--- Tasks over one transfer engine.
--
-- A task is a coroutine. It sends a request, sleeps or waits for a signal, and
-- others run meanwhile; the loop steps the engine and wakes whom its events
-- concern. So the workflow of an upload, and every driver under it, reads as
-- plain code, though many parts, files and calls to the service are under way
-- at once, in one thread.
--
-- Killing a task cancels its request and runs its clean-ups; the coroutine is
-- never resumed.
--
-- Room: uploader.
-- @module longshore.uploader.loop
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}

local unpack = rawget(table, "unpack") or rawget(_G, "unpack")

local methods = {}
local mt = { __index = methods, __name = "longshore.loop" }

-- No turn is longer than this, so that an interruption is noticed soon.
local LONGEST_STEP = 0.25

--- Makes a loop.
-- @tparam table options `engine`; `monotonic` a function that answers steady
-- seconds (core.monotonic); `interrupted` a function that is asked in each
-- turn, a true answer ends `run`
-- @treturn loop
function _M.new(options)
  assert(type(options.engine) == "table" or type(options.engine) == "userdata", "engine: engine expected")
  return setmetatable({
    engine = options.engine,
    now = options.monotonic or core.monotonic,
    interrupted = options.interrupted or function() return false end,
    ready = {}, head = 1, tail = 0, -- tasks to resume, with what
    jobs = {},       -- engine id -> { task, on_progress }
    cancelling = {}, -- engine ids that have yet to say that they stopped
    sleepers = {},   -- task -> time
    current = nil,
    live = 0,
  }, mt)
end

local function wake(self, task, ...)
  if task.done then return end
  task.waiting = nil
  self.tail = self.tail + 1
  self.ready[self.tail] = { task, select("#", ...), ... }
end

--- Starts a task. It begins at the next turn.
-- @tparam function fn
-- @param ... its arguments
-- @treturn table task; `done`, `result`, `err` say how it ended
function methods:spawn(fn, ...)
  local task = { thread = coroutine.create(fn), cleanups = {}, ended = {} }
  self.live = self.live + 1
  wake(self, task, ...)
  return task
end

-- Runs clean-ups (last first) and wakes who awaits the task.
local function finish(self, task)
  task.done = true
  self.live = self.live - 1
  for i = #task.cleanups, 1, -1 do task.cleanups[i]() end
  for _, waiter in ipairs(task.ended) do wake(self, waiter) end
end

-- entry: a task, the number of values, the values
local function resume(self, entry)
  local task = entry[1]
  if task.done then return end
  self.current = task
  local ok, result, err = coroutine.resume(task.thread, unpack(entry, 3, entry[2] + 2))
  self.current = nil
  if not ok then
    -- A crash in a task is a crash of the program, with the task's own trace.
    self.crashed = self.crashed or debug.traceback(task.thread, tostring(result))
    finish(self, task)
  elseif coroutine.status(task.thread) == "dead" then
    task.result, task.err = result, err
    finish(self, task)
  end
end

-- The task that calls: everything that waits is called from one.
local function here(self)
  return assert(self.current, "call this from a task of the loop")
end

--- Sends a job to the engine and waits for its end.
-- @tparam table job as `engine:add` takes it
-- @tparam[opt] function on_progress called with each `progress` event
-- @treturn table the `done` or `failed` event
function methods:request(job, on_progress)
  local task = here(self)
  local id, err = self.engine:add(job)
  if not id then return { type = "failed", error = errors.from(err), sent = 0 } end
  self.jobs[id] = { task = task, on_progress = on_progress }
  task.waiting = id
  return coroutine.yield()
end

--- Lets the others run for some seconds.
function methods:sleep(seconds)
  local task = here(self)
  self.sleepers[task] = self.now() + seconds
  coroutine.yield()
end

--- A thing that tasks wait for: `loop:wait(signal)`, `loop:notify(signal)`.
function _M.signal()
  return { waiters = {} }
end

--- Waits until somebody notifies the signal, or the time is over.
-- @tparam table signal
-- @tparam[opt] number seconds
function methods:wait(signal, seconds)
  local task = here(self)
  signal.waiters[#signal.waiters + 1] = task
  task.signal = signal
  if seconds then self.sleepers[task] = self.now() + seconds end
  coroutine.yield()
  self.sleepers[task] = nil
  task.signal = nil
end

--- Wakes all who wait for a signal.
function methods:notify(signal)
  local waiters = signal.waiters
  signal.waiters = {}
  for _, task in ipairs(waiters) do
    if task.signal == signal then
      task.signal = nil
      self.sleepers[task] = nil
      wake(self, task)
    end
  end
end

--- Waits for the end of a task.
-- @treturn any its first result
-- @treturn any its second
function methods:await(task)
  while not task.done do
    task.ended[#task.ended + 1] = here(self)
    coroutine.yield()
  end
  return task.result, task.err
end

--- Runs `fn` when the calling task ends or is killed, if not `undone` before.
-- @tparam function fn
-- @treturn function undone
function methods:on_end(fn)
  local cleanups = here(self).cleanups
  cleanups[#cleanups + 1] = fn
  return function()
    for i = #cleanups, 1, -1 do
      if cleanups[i] == fn then return table.remove(cleanups, i) end
    end
  end
end

--- Ends a task where it stands; its request is cancelled.
function methods:kill(task)
  if task.done then return end
  assert(task ~= self.current, "a task ends itself by returning")
  local id = task.waiting
  if id and self.jobs[id] then
    self.jobs[id] = nil
    if self.engine:cancel(id) then self.cancelling[id] = true end
  end
  self.sleepers[task] = nil
  task.signal = nil
  finish(self, task)
end

--- Cancels the request that a task waits for; the task goes on, with an event
-- `failed` of code `cancelled`.
function methods:cut(task)
  local id = task.waiting
  if id and self.jobs[id] then self.engine:cancel(id) end
end

--- Waits until the requests of killed tasks have really stopped.
-- @tparam[opt=5] number seconds at most
function methods:settle(seconds)
  local till = self.now() + (seconds or 5)
  while next(self.cancelling) and self.now() < till do self:sleep(0.01) end
end

local function dispatch(self, events)
  for _, event in ipairs(events) do
    local job = self.jobs[event.id]
    if not job then
      if event.type ~= "progress" then self.cancelling[event.id] = nil end
    elseif event.type == "progress" then
      if job.on_progress then job.on_progress(event) end
    else
      self.jobs[event.id] = nil
      wake(self, job.task, event)
    end
  end
end

local function wake_sleepers(self)
  local now, due = self.now(), nil
  for task, at in pairs(self.sleepers) do
    if at <= now then
      due = due or {}
      due[#due + 1] = task
    end
  end
  for _, task in ipairs(due or {}) do
    self.sleepers[task] = nil
    task.signal = nil
    wake(self, task)
  end
end

-- Seconds until the next sleeper is due.
local function until_next(self)
  local now, wait = self.now(), LONGEST_STEP
  for _, at in pairs(self.sleepers) do
    wait = math.min(wait, at - now)
  end
  return math.max(0, wait)
end

--- Runs a function as a task, and all tasks that it starts, until it returns.
-- @tparam function fn
-- @param ... its arguments
-- @return[1] its first two results
-- @return[2] nil
-- @treturn[2] table err `cancelled` with `interrupted`, after an interruption;
-- what was under way is cancelled
function methods:run(fn, ...)
  local main = self:spawn(fn, ...)
  while not main.done do
    while self.head <= self.tail do
      local entry = self.ready[self.head]
      self.ready[self.head] = nil
      self.head = self.head + 1
      resume(self, entry)
      if self.crashed then error(self.crashed, 0) end
    end
    self.head, self.tail = 1, 0
    if main.done then break end
    if self.interrupted() then
      self:kill(main)
      return errors.fail("cancelled", "interrupted", { interrupted = true })
    end
    dispatch(self, self.engine:step(until_next(self)))
    wake_sleepers(self)
  end
  return main.result, main.err
end

return _M

--- Requests that are handled together: while as many batches run as are good for the
-- machine, those that come gather, and the next batch takes them all. Each gets its own answer.
--
-- Nobody waits for company: where little is asked, a request goes at once, alone; and one that
-- has waited for `haste` seconds goes when any thread is free. A batch ends with its slowest request;
-- one that is much slower than the others is taken out and handled alone, and
-- so are all for some time then.
--
-- Batches run in timers, not in the request of one of those in it: that one may end early.
--
-- Room: nginx.
-- @module longshore.nginx.batches
local errors = require "longshore.errors"
local semaphore = require "ngx.semaphore"

local _M = {}
local methods = {}
local mt = { __index = methods }

-- Batches at the same time, before anybody has waited; requests in one; seconds without company after one was slow.
local AT_ONCE, SIZE, APART = 2, 32, 10
-- Seconds until any thread will do.
local HASTE = 0.02

--- Makes the batches of one nginx worker.
-- @tparam table options `gate` (whose threads they run in; see longshore.nginx.gate), `one(request)`: handles one,
-- and `all(make)`: those that `make()` answers, to be asked when the thread is there: their responses in order, or
-- nil, err; false for one that is to be handled alone, and 0 for one that was not begun; and, where others than
-- the usual ones are good, `at_once` (batches), `size` (of one), `apart` and `haste` (seconds)
-- @treturn table batches
function _M.new(options)
  return setmetatable({ gate = options.gate, one = options.one, all = options.all, waiting = {}, first = 1, last = 0,
    at_once = options.at_once or AT_ONCE, size = options.size or SIZE, seconds_apart = options.apart or APART,
    haste = options.haste or HASTE,
    alone = 0, running = 0, apart = 0 }, mt)
end

-- Those who wait, as many as go into a batch; or only those who came before a time.
local function take(self, before)
  local batch = {}
  while self.first <= self.last and #batch < self.size do
    local entry = self.waiting[self.first]
    if before and entry.since > before then break end
    self.waiting[self.first], self.first = nil, self.first + 1
    batch[#batch + 1] = entry
  end
  self.gate.waiting = self.gate.waiting - #batch
  return batch
end

-- Tells one what became of it; nothing: it handles itself.
local function tell(entry, response, err)
  entry.response, entry.err = response, err
  entry.turn:post(1)
end

local function batch_of(self)
  local batch = {}
  local ok, responses, err = pcall(self.all, function()
    local requests = {}
    batch = take(self)
    for i, entry in ipairs(batch) do requests[i] = entry.request end
    return requests
  end)
  if not ok then responses, err = nil, errors.new("internal", tostring(responses)) end
  -- No thread could be had: those who have waited for long enough are told so.
  if not responses and not batch[1] then batch = take(self, ok and ngx.now() - self.gate.seconds or nil) end
  for i, entry in ipairs(batch) do
    local response = responses and responses[i]
    if response == false or response == 0 then
      self.apart = ngx.now() + self.seconds_apart
      -- (What was begun was counted by the limits.)
      if response == false then entry.request.admitted = true end
      response = nil
    end
    tell(entry, response, not responses and err or nil)
  end
end

local function go(premature, self)
  while self.first <= self.last do
    if premature then
      for _, entry in ipairs(take(self)) do tell(entry) end
    else
      batch_of(self)
    end
  end
  self.running = self.running - 1
end

-- One more batch, where there is need of it; `waited`: somebody has waited for long enough.
local function start(self, waited)
  local late = self.waiting[self.first]
  -- (nginx's time has whole milliseconds, and what lies between two of them is a little more or less.)
  late = late and (waited or ngx.now() - late.since > self.haste - 0.001) and self.gate:free()
  if self.first > self.last or (self.running >= self.at_once and not late) then return end
  self.running = self.running + 1
  if not ngx.timer.at(0, go, self) then go(true, self) end
end

local function wait(self, entry)
  start(self)
  if not entry.turn:wait(self.haste) then
    -- (A batch always ends, and says so; but nginx drops a timer where others have too many.)
    repeat start(self, true) until entry.turn:wait(1)
  end
  if entry.response or entry.err then return entry.response, entry.err end
  return self.one(entry.request)
end

--- A thread has become free: whoever has waited for long enough goes. For the gate to call.
function methods:go_on()
  start(self)
end

--- Handles a request, perhaps together with others.
-- @tparam table request
-- @treturn table response
-- @treturn[2] nil
-- @treturn[2] table err
function methods:handle(request)
  -- (The gate has the words for those who find no place, and perhaps a thread.)
  if ngx.now() < self.apart or self.gate.waiting >= self.gate.queue then return self.one(request) end
  if self.running == 0 and self.alone < self.at_once then
    self.alone = self.alone + 1
    local response, err = self.one(request)
    self.alone = self.alone - 1
    return response, err
  end
  local entry = { request = request, turn = assert(semaphore.new(0)), since = ngx.now() }
  self.last, self.gate.waiting = self.last + 1, self.gate.waiting + 1
  self.waiting[self.last] = entry
  return wait(self, entry)
end

return _M

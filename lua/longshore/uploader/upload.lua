--- The upload of one file, from its start to its result.
--
-- Room: uploader.
-- @module longshore.uploader.upload
local arrived = require "longshore.uploader.arrived"
local core = require "longshore.core"
local errors = require "longshore.errors"
local journals = require "longshore.uploader.journal"
local loops = require "longshore.uploader.loop"
local plans = require "longshore.uploader.session"
local sources = require "longshore.uploader.source"
local targets = require "longshore.uploader.targets"

local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.upload" }

-- After these the upload can never be completed: it is aborted. After all
-- others the same command may go on later.
local FINAL = { changed = true, invalid = true, too_large = true, unsupported = true }

--- Prepares the upload of a file.
-- @tparam table hub what the uploads of an uploader share
-- @tparam table item `path`, `name`, `content_type`, `metadata`
-- @treturn upload
function _M.new(hub, item)
  return setmetatable({
    hub = hub, driver = hub.driver, item = item,
    queue = {}, head = 1, tasks = {}, done = {}, left = 0,
    confirmed = 0, size = 0, resumed_parts = 0, resumed_bytes = 0, sent_parts = 0, retries = 0,
    unrecorded = {}, changed = loops.signal(), record = loops.signal(),
    part_timeout = hub.part_timeout,
  }, mt)
end

--- Tells the caller something in words.
function methods:note(text)
  self.hub.event { type = "note", upload = self, text = text }
end

--- How far it is.
function methods:progress()
  self.hub.event { type = "progress", upload = self }
end

--- Bytes on their way in the parts that are being sent.
function methods:in_flight()
  local sum = 0
  for _, part in pairs(self.tasks) do sum = sum + (part.in_flight or 0) end
  return sum
end

---------------------------------------------------------------------------
-- parts, as the workers see them

--- Whether parts go one after another: always with this driver, or in this session.
function methods:ordered()
  return self.driver.capabilities.ordered or self.session.ordered == true
end

--- The next part to send, or nil when there is none now.
function methods:next_part()
  if self.failed or (next(self.tasks) and self:ordered()) then return nil end
  local part = self.queue[self.head]
  if part then self.head = self.head + 1 end
  return part
end

--- How many parts wait to be sent.
function methods:waiting()
  return self.failed and 0 or #self.queue - self.head + 1
end

local function stop_senders(self)
  for task in pairs(self.tasks) do self.hub.loop:kill(task) end
  self.tasks = {}
end

--- A worker has begun to send a part.
function methods:sending(part, task)
  part.in_flight = 0
  self.tasks[task] = part
end

--- A worker has sent a part, or failed for good.
function methods:sent(part, task, done, err)
  if not self.tasks[task] then return end
  self.tasks[task] = nil
  if done then
    if self.journal then self.journal:part(done) end
    self.done[part.number] = done
    self.left, self.confirmed, self.sent_parts = self.left - 1, self.confirmed + part.length, self.sent_parts + 1
    self.hub.event { type = "part", upload = self, part = done }
    -- The last one goes to the service with complete.
    if self.left > 0 then self:recorded_later(done) end
  elseif err then
    self.failed = self.failed or err
    stop_senders(self)
  end
  if self.left == 0 or self.failed then self.hub.loop:notify(self.changed) end
end

---------------------------------------------------------------------------
-- checkpoints, in the background

--- Notes a part that has arrived, for the next checkpoint.
function methods:recorded_later(done)
  if self.driver.capabilities.checkpoint == 0 then return end
  self.unrecorded[#self.unrecorded + 1] = { number = done.number, token = done.token }
  self.hub.loop:notify(self.record)
end

-- Records parts at the service, as many at once as have come together
-- meanwhile. A failure is tried again with the next part, or after a pause: it
-- costs no more than a part sent again after a kill.
local function recorder(self)
  local loop, failures = self.hub.loop, 0
  while self.recording do
    while #self.unrecorded == 0 do
      loop:wait(self.record)
      if not self.recording then return end
    end
    local batch = {}
    for i = 1, math.min(#self.unrecorded, self.driver.capabilities.checkpoint) do batch[i] = self.unrecorded[i] end
    local ok, err = self.driver:checkpoint(self.session, batch)
    if ok or not err.retryable then
      failures = 0
      for _ = 1, #batch do table.remove(self.unrecorded, 1) end
      if not ok then self:note("a checkpoint was refused: " .. err.message) end
    else
      failures = failures + 1
      if failures == 1 then self:note("a checkpoint failed, will be repeated: " .. err.message) end
      loop:wait(self.record, math.min(60, 2 ^ failures))
    end
  end
end

---------------------------------------------------------------------------
-- the steps

local function abort(self, session)
  if not self.driver.abort then return end
  self.hub.loop:settle()
  local ok, err = self.driver:abort(session)
  if not ok then self:note("the upload could not be aborted at the service: " .. tostring(err)) end
end

local function begin(self, saved)
  local session, err = arrived.session(self), nil
  if not session then session, err = self.driver:start(self.source, saved) end
  if not session then return nil, err end
  self.session, self.failed = session, nil
  for _, text in ipairs(session.notes or {}) do self:note(text) end
  if session.completed then return session end
  local done
  done, err = plans.absorb(self.hub, self.source, session)
  if not done then
    -- What does not fit now never will.
    if err.code == "store" then
      abort(self, session)
      err.gone = true
    end
    return nil, err
  end
  self.done, self.confirmed, self.resumed_parts = done, 0, 0
  for _, part in pairs(done) do
    self.confirmed, self.resumed_parts = self.confirmed + part.length, self.resumed_parts + 1
  end
  self.resumed_bytes = self.confirmed
  if not self.hub.journal_folder or not session.state then
    self.resumable = false
  elseif session.resumed then
    self.resumable = true
  else
    self.journal:session(session)
    self.resumable = not self.journal.broken
    if self.journal.broken then
      self:note("the journal cannot be written, so this upload cannot be resumed: " .. self.journal.broken)
    end
  end
  self.queue, self.head, self.left = session.parts, 1, #session.parts
  self.targets = targets.new {
    driver = self.driver, session = session, loop = self.hub.loop, clock = self.hub.clock,
    window = self.hub.window,
    upcoming = function(n)
      local list = plans.in_order(self.tasks)
      for i = self.head, math.min(#self.queue, self.head + n - 1) do list[#list + 1] = self.queue[i] end
      return list
    end,
  }
  return session
end

local function send_all(self)
  local hub = self.hub
  self.unrecorded = {}
  local background
  if self.driver.capabilities.checkpoint > 0 and (#self.session.parts > 1 or next(self.session.have or {})) then
    self.recording = true
    background = hub.loop:spawn(recorder, self)
    for number, part in pairs(self.session.have or {}) do
      if part.unrecorded and self.done[number] then self:recorded_later(self.done[number]) end
    end
  end
  hub.activate(self)
  while self.left > 0 and not self.failed do hub.loop:wait(self.changed) end
  hub.deactivate(self)
  self.recording = false
  if self.failed then
    if background then hub.loop:kill(background) end
    return nil, self.failed
  end
  -- A checkpoint that is under way may end in peace; the next one is not needed.
  hub.loop:notify(self.record)
  return sources.unchanged(self.source)
end

local function finish(self)
  local parts = plans.in_order(self.done)
  local crc = plans.whole_crc32c(parts)
  local answer, err = self.driver:complete(self.session, parts, self.session.integrity == "crc32c" and crc or nil)
  if not answer then return nil, err end
  if answer.crc32c and answer.crc32c ~= crc then
    return errors.fail("integrity", ("the object at the store is not the file: its CRC32C is %s, the file's %s")
      :format(core.crc32c_base64(answer.crc32c), core.crc32c_base64(crc)))
  end
  local result = plans.result(self, parts, crc)
  result.whole_checked = (answer.crc32c ~= nil or self.session.integrity == "crc32c")
  for k, v in pairs(answer) do result[k] = v end
  return result
end

-- One try: with what an earlier one left, or from the start.
local function try(self, saved)
  local session, err = begin(self, saved)
  if not session then return nil, err end
  self.hub.event { type = "begin", upload = self }
  if session.completed then
    local result = plans.result(self, {}, nil)
    for k, v in pairs(session.completed) do result[k] = v end
    result.already = true
    return result
  end
  local ok
  ok, err = send_all(self)
  if not ok then return nil, err end
  self.hub.event { type = "completing", upload = self }
  return finish(self)
end

--- Uploads the file. Called from a task of the loop.
-- @treturn[1] table result, see `longshore.uploader`
-- @return[2] nil
-- @treturn[2] table err; `resumable` when the same call may go on later
function methods:run()
  local hub, item, err = self.hub, self.item
  self.began = hub.loop.now()
  self.source, err = sources.open(item.path)
  if not self.source then return nil, err end
  local source = self.source
  source.name, source.metadata = item.name, item.metadata
  source.content_type = item.content_type or sources.content_type(item.name)
  self.size = source.size
  local saved
  if hub.journal_folder then
    self.journal, err = journals.open {
      folder = hub.journal_folder, driver = self.driver.name, destination = self.driver.destination,
      name = item.name, path = item.path, clock = hub.clock,
      source = { size = source.size, mtime_ns = source.mtime_ns, inode = source.inode },
    }
    if not self.journal then return nil, err end
    if self.journal.note then self:note(self.journal.note) end
    saved = self.journal.saved
    if saved and hub.restart then
      self.journal.stale, saved = saved, nil
      self:note("starting over, as asked")
    end
    if self.journal.stale then abort(self, self.journal.stale) end
  end

  local result
  result, err = try(self, saved)
  if not result and err.gone and saved then
    self:note("the interrupted upload is gone at the service; starting over")
    result, err = try(self, nil)
  end
  if result then
    if self.journal then arrived.keep(self, result) end
    return result
  end
  return nil, self:give_up(err)
end

--- Ends a failed or interrupted upload: aborted at the service where nothing
-- else can come of it, left for the next try otherwise.
-- @tparam table err
-- @treturn table err
function methods:give_up(err)
  stop_senders(self)
  local final = err.gone or err.final or FINAL[err.code]
  if final and self.session and not err.gone and not self.session.completed then abort(self, self.session) end
  if self.journal then
    if final then self.journal:finish() else self.journal:close() end
  end
  if not final and self.resumable and self.session then err.resumable = true end
  return err
end

return _M

--- Uploads files through a driver: in parallel parts, resumable, checked.
--
--     local uploader = require "longshore.uploader"
--     local newton = require "longshore.service.newton.client"
--     local up = uploader.new {
--       driver = newton.new { url = "http://127.0.0.1:8080", token = "ls_..." },
--       journal = true,
--     }
--     local result, err = up:put { path = "video.mp4" }
--     up:close()
--
-- A result is a table: `path`, `name`, `bytes`, `crc32c` (of the whole file),
-- `compared`, which says what each part was compared with at the store
-- (`crc32c`, `md5`, `mixed`, or `none`: nothing was), `checks` (how many parts
-- by which), `whole_checked` (the service confirmed the whole file's CRC32C),
-- `parts`, `sent_parts`, `resumed_parts`, `sent_bytes`, `seconds`, `upload_id`
-- and what the service adds: `file_id`, `etag`, `location`. `already` is true
-- when an earlier try had completed it.
--
-- The memory in use is connections x buffer of the engine plus a few hundred
-- bytes per part, whatever the sizes of files and parts.
--
-- Room: uploader.
-- @module longshore.uploader
local arrived = require "longshore.uploader.arrived"
local calls = require "longshore.uploader.calls"
local clocks = require "longshore.clock"
local core = require "longshore.core"
local download = require "longshore.uploader.download"
local drivers = require "longshore.uploader.driver"
local errors = require "longshore.errors"
local flights = require "longshore.uploader.flights"
local gate = require "longshore.uploader.gate"
local journals = require "longshore.uploader.journal"
local loops = require "longshore.uploader.loop"
local paces = require "longshore.uploader.pace"
local sender = require "longshore.uploader.sender"
local skew = require "longshore.uploader.skew"
local uploads = require "longshore.uploader.upload"

local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.uploader" }

-- Connections beside those of the parts, for calls to the service.
local CALLS = 4

-- Parts at once at most, where the number is found by trying.
local MOST = 16

local function make_clock(self)
  local clock, driver, skews = self.system_clock, self.driver, self.skew
  return {
    -- The time of the service, as far as its answers have told.
    now = function() return clock.now() + skews:offset(driver.host or "") end,
    sleep = function(seconds)
      if self.loop.current then return self.loop:sleep(seconds) end
      return clock.sleep(seconds)
    end,
  }
end

local function make_hub(self, options)
  local hub = {
    driver = self.driver, loop = self.loop, clock = self.clock, skew = self.skew,
    attempts = options.attempts or 10, window = math.max(options.window or 16, self.parallel),
    our_time = self.system_clock.now, part_timeout = options.part_timeout,
    journal_folder = self.journal_folder, restart = options.restart, recheck = options.recheck,
  }
  local gates = {}
  function hub.gates(host)
    local entry = gates[host]
    if not entry then
      local settings = { max = self.parallel }
      for k, v in pairs(options.gate or {}) do settings[k] = v end
      if self.adaptive then settings.pace = paces.new { max = self.parallel } end
      entry = { gate = gate.new(settings), changed = loops.signal(), flights = flights.new(options.flights) }
      gates[host] = entry
    end
    return entry
  end
  function hub.event(event)
    if event.type == "retry" then event.upload.retries = event.upload.retries + 1 end
    self.on_event(event)
  end
  function hub.activate(upload)
    self.active[#self.active + 1] = upload
    self.loop:notify(self.work)
  end
  function hub.deactivate(upload)
    for i, other in ipairs(self.active) do
      if other == upload then table.remove(self.active, i) break end
    end
    self.loop:notify(self.room)
  end
  return hub
end

--- Makes an uploader.
-- @tparam table options
--
-- * `driver`: see `longshore.uploader.driver`
-- * `parallel`: parts at once, over all files. Not given, the number is found by
--   trying, for each endpoint: it begins with 4, grows up to 16 as long as that
--   makes the whole faster, and is halved when the store refuses for load
-- * `adaptive`: true: find it by trying up to the `parallel` given, too
-- * `journal`: true, or a folder: interrupted uploads can be resumed
-- * `restart`: true: do not resume what the journal has; `recheck`: true: when
--   resuming, read the parts that were sent again and compare their checksums
-- * `engine`: options for core.engine (`ca_file`, `rate_limit`, `proxy`...), or
--   an engine
-- * `attempts` per part and call (10), `window`: URLs held per upload (16),
--   `gate`: options of the retry gate, `part_timeout` in seconds (none: a
--   stalled part is noticed by its throughput)
-- * `on_event(event)`: `type` is `begin`, `progress`, `part`, `retry`, `renew`,
--   `note`, `completing`; `upload` has `item, size, confirmed, in_flight()`
-- * `interrupted()`: asked often; true ends everything, resumable
-- * `clock`
-- @treturn[1] uploader
-- @return[2] nil
-- @treturn[2] table err
function _M.new(options)
  assert(type(options) == "table", "options: table expected")
  local self = setmetatable({
    driver = drivers.check(options.driver), parallel = options.parallel or MOST,
    adaptive = options.adaptive or options.adaptive == nil and options.parallel == nil,
    system_clock = options.clock or clocks.system, skew = skew.new(),
    on_event = options.on_event or function() end,
    active = {}, work = loops.signal(), room = loops.signal(),
  }, mt)
  assert(type(self.parallel) == "number" and self.parallel >= 1 and self.parallel <= 256, "parallel: 1 to 256")
  if options.journal then
    local folder, err = journals.folder(type(options.journal) == "string" and options.journal or nil)
    if not folder then return nil, err end
    self.journal_folder = folder
  end
  local engine = options.engine or {}
  if type(engine) == "table" and not engine.add then
    local settings = { connections = self.parallel + CALLS }
    for k, v in pairs(engine) do settings[k] = v end
    local made, err = core.engine(settings)
    if not made then return nil, err end
    self.engine, self.own_engine = made, true
  else
    self.engine = engine
  end
  self.loop = loops.new { engine = self.engine, monotonic = options.monotonic, interrupted = options.interrupted }
  self.clock = make_clock(self)
  self.hub = make_hub(self, options)
  self.driver:attach {
    transport = calls.transport(self.hub), clock = self.clock, skew = self.skew,
    note = function(text) self.hub.event { type = "note", text = text } end,
  }
  return self
end

-- A worker sends one part at a time, of the earliest file that has one.
local function worker(self)
  while true do
    local upload, part
    for _, candidate in ipairs(self.active) do
      part = candidate:next_part()
      if part then upload = candidate break end
    end
    if upload then
      self.loop:notify(self.room)
      local task = self.loop:spawn(sender.send, self.hub, upload, part)
      upload:sending(part, task)
      upload:sent(part, task, self.loop:await(task))
      -- The next part of an ordered upload is free now, for anybody.
      if upload:ordered() then self.loop:notify(self.work) end
    else
      self.loop:wait(self.work)
    end
  end
end

local function waiting_parts(self)
  local sum = 0
  for _, upload in ipairs(self.active) do sum = sum + upload:waiting() end
  return sum
end

-- Opens files as the workers need them: large ones one after another, small
-- ones many at once.
local function run_all(self, items, on_result)
  local loop, running, open = self.loop, {}, 0
  self.running = running
  local workers = {}
  for i = 1, self.parallel do workers[i] = loop:spawn(worker, self) end
  for _, item in ipairs(items) do
    while open >= self.parallel * 4 or open - #self.active >= self.parallel * 3
      or waiting_parts(self) >= self.parallel do
      loop:wait(self.room)
    end
    open = open + 1
    local upload = uploads.new(self.hub, item)
    running[upload] = true
    loop:spawn(function()
      local result, err
      if item.error then
        err = item.error
      else
        result, err = upload:run()
      end
      running[upload] = nil
      open = open - 1
      on_result(item, result, err)
      loop:notify(self.room)
    end)
  end
  while open > 0 do loop:wait(self.room) end
  for _, task in ipairs(workers) do loop:kill(task) end
  return true
end

--- Uploads files, with one pool of connections for all.
-- @tparam table items list of {path, name, content_type, metadata}; `name` is
-- the file's own by default. An item with an `error` is passed on as failed
-- @tparam[opt] function on_result called with (item, result) or (item, nil,
-- err) for each, as they end
-- @treturn table list of {item, result, err} in the order of the items; after
-- an interruption the err of what had not ended has `interrupted`
function methods:put_many(items, on_result)
  assert(not self.closed, "the uploader is closed")
  local outcomes, index = {}, {}
  for i, item in ipairs(items) do
    assert(type(item.path) == "string", "path: string expected")
    item.name = item.name or item.path:match("([^/]+)/*$") or item.path
    outcomes[i] = { item = item }
    index[item] = i
  end
  local function record(item, result, err)
    local outcome = outcomes[index[item]]
    outcome.result, outcome.err = result, err
    if on_result then on_result(item, result, err) end
  end
  self.hub.arrived = {}
  local _, stopped = self.loop:run(run_all, self, items, record)
  if stopped then
    local resumable = {}
    for upload in pairs(self.running) do
      resumable[upload.item] = upload:give_up(errors.new("cancelled", "interrupted", { interrupted = true }))
    end
    for _, outcome in ipairs(outcomes) do
      if not outcome.result and not outcome.err then
        record(outcome.item, nil, resumable[outcome.item]
          or errors.new("cancelled", "interrupted before it began", { interrupted = true }))
      end
    end
    self:close()
  end
  local all = true
  for _, outcome in ipairs(outcomes) do all = all and outcome.result ~= nil end
  if all then arrived.forget(self.hub) end
  return outcomes
end

--- Uploads one file.
-- @tparam table item {path, name, content_type, metadata}
-- @treturn[1] table result
-- @return[2] nil
-- @treturn[2] table err
function methods:put(item)
  local outcome = self:put_many({ item })[1]
  return outcome.result, outcome.err
end

--- Reads a file back: ranges in parallel, checked, put into place when whole.
-- @tparam table item `id` (the driver's: a file id, a key), `path` (default:
-- the file's own name, in the current folder), `overwrite`,
-- `on_progress(received, size)`
-- @treturn[1] table {path, bytes, crc32c, compared = "crc32c" or "size", seconds}
-- @return[2] nil
-- @treturn[2] table err
function methods:get(item)
  assert(not self.closed, "the uploader is closed")
  assert(type(item.id) == "string", "id: string expected")
  if not self.driver.download then
    return errors.fail("unsupported", self.driver.name .. " offers no download")
  end
  return self.loop:run(download.run, self.hub, {
    path = item.path, overwrite = item.overwrite, on_progress = item.on_progress,
    source = function() return self.driver:download(item.id) end,
  }, self.parallel)
end

--- Closes the connections.
function methods:close()
  if self.closed then return end
  self.closed = true
  if self.own_engine then self.engine:close() end
end

return _M

-- A world without network for the uploader's specs: an engine whose requests
-- take fake time, a store in memory, a driver for it. What goes wrong is up to
-- `world.on_put(put)`, which may return an answer of its own.
local core = require "longshore.core"
local errors = require "longshore.errors"
local support = require "spec.support"

local _M = {}

local function read_range(file)
  local f = io.open(file.path, "rb")
  if not f then return nil end
  f:seek("set", file.offset)
  local data = file.length == 0 and "" or f:read(file.length) or ""
  f:close()
  return data
end

-- The engine: `handler(job)` -> {status, headers, body, after} or {error, after}.
local function engine(world, handler)
  local self = { jobs = {}, last = 0, open = 0, peak = 0, added = 0 }
  function self.add(_, job)
    self.last = self.last + 1
    self.added = self.added + 1
    self.open = self.open + 1
    self.peak = math.max(self.peak, self.open)
    local data = type(job.body) == "table" and read_range(job.body) or job.body or ""
    local answer = handler(job, data)
    answer.id, answer.at, answer.data = self.last, world.clock.now() + (answer.after or 0.01), data
    self.jobs[#self.jobs + 1] = answer
    return self.last
  end
  function self.cancel(_, id)
    for _, answer in ipairs(self.jobs) do
      if answer.id == id then
        answer.error, answer.at = errors.new("cancelled", "cancelled"), world.clock.now()
        return true
      end
    end
    return false
  end
  function self.step(_, timeout)
    local till, due = world.clock.now() + timeout, {}
    table.sort(self.jobs, function(a, b) return a.at < b.at or a.at == b.at and a.id < b.id end)
    local first = self.jobs[1]
    if not first or first.at > till then
      world.clock.set(till)
      return {}
    end
    world.clock.set(math.max(world.clock.now(), first.at))
    while self.jobs[1] and self.jobs[1].at <= world.clock.now() do
      local answer = table.remove(self.jobs, 1)
      self.open = self.open - 1
      local sent = answer.sent or #answer.data
      due[#due + 1] = { type = "progress", id = answer.id, sent = math.floor(sent / 2), received = 0 }
      if answer.error then
        due[#due + 1] = { type = "failed", id = answer.id, error = answer.error, sent = sent }
      else
        due[#due + 1] = { type = "done", id = answer.id, status = answer.status, headers = answer.headers or {},
          body = answer.body or "", sent = sent, crc32c = core.crc32c(answer.data), seconds = { total = 0.01 } }
      end
    end
    return due
  end
  function self.close() end
  return self
end

--- A new world. `options`: part_size (10), url_life (1000), checksums ("crc32c",
-- "md5", "none"), capabilities (for the driver), crc32c (integrity).
function _M.new(options)
  options = options or {}
  local clock = require("longshore.clock").fixed(options.start or 1700000000)
  local world = {
    clock = clock, uploads = {}, puts = {}, signed = {}, checkpoints = {}, events = {}, aborted = {}, completed = {},
    folder = support.tmpdir(), options = options, last = 0, held = 0, on_put = function() end,
  }
  local part_size = options.part_size or 10

  world.engine = engine(world, function(job, data)
    local id, number, expires = job.url:match("^http://store/([^/]+)/(%d+)%?e=(%d+)")
    local put = { id = id, number = tonumber(number), data = data, job = job, at = clock.now(),
      expires = tonumber(expires) }
    world.puts[#world.puts + 1] = put
    local answer = world.on_put(put)
    if answer then return answer end
    if clock.now() >= put.expires then
      return { status = 403, body = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>" }
    end
    local upload = world.uploads[id]
    if not upload then return { status = 404, body = "<Error><Code>NoSuchUpload</Code></Error>" } end
    local stored = world.damage and world.damage(put) or data
    local headers = { etag = '"' .. core.hex(core.md5(stored)) .. '"' }
    if options.checksums == "none" then headers.etag = '"opaque-' .. number .. '"' end
    if (options.checksums or "crc32c") == "crc32c" then
      headers["x-amz-checksum-crc32c"] = core.crc32c_base64(core.crc32c(stored))
    end
    upload.stored[put.number] = { data = stored, etag = headers.etag }
    return { status = 200, headers = headers, after = options.seconds_per_part or 1 }
  end)

  local function url(id, number)
    local expires = clock.now() + (options.url_life or 1000)
    return { url = ("http://store/%s/%d?e=%.0f"):format(id, number, math.ceil(expires)), headers = {},
      expires_at = expires }
  end

  local driver = {
    name = "fake", destination = "http://service", host = "service",
    capabilities = { batch = 16, checkpoint = 100, etag = options.etag or "md5" },
    attach = function() end,
  }
  for k, v in pairs(options.capabilities or {}) do driver.capabilities[k] = v end
  world.driver = driver

  function driver:start(source, saved)
    if world.on_start then
      local _, err = world.on_start(source, saved)
      if err then return nil, err end
    end
    local upload = saved and world.uploads[saved.id]
    local session = { integrity = options.crc32c ~= false and "crc32c" or nil, parts = {}, have = {},
      part_size = part_size, resumed = upload ~= nil }
    if not upload then
      world.last = world.last + 1
      upload = { id = "upl_" .. world.last, stored = {}, recorded = {}, size = source.size, name = source.name }
      world.uploads[upload.id] = upload
    end
    session.id, session.state, session.file_id = upload.id, { size = source.size }, "fil_" .. upload.id
    local count = math.max(1, math.ceil(source.size / part_size))
    for number = 1, count do
      local offset = (number - 1) * part_size
      local part = { number = number, offset = offset, length = math.min(part_size, source.size - offset) }
      local known = session.resumed and saved.parts[number]
      if known then
        part.token, part.crc32c, part.check = known.token, known.crc32c, known.check
        part.unrecorded = not upload.recorded[number] or nil
        session.have[number] = part
      else
        if (self.capabilities.batch == 0) or options.urls_at_start then
          for k, v in pairs(url(upload.id, number)) do part[k] = v end
        end
        session.parts[#session.parts + 1] = part
      end
    end
    return session
  end

  function driver.urls(_, session, parts)
    if world.on_urls then
      local list, err = world.on_urls(session, parts)
      if list or err then return list, err end
    end
    local list, numbers = {}, {}
    for i, part in ipairs(parts) do
      list[i], numbers[i] = url(session.id, part.number), part.number
    end
    world.signed[#world.signed + 1] = numbers
    return list
  end

  function driver.checkpoint(_, session, parts)
    if world.on_checkpoint then
      local ok, err = world.on_checkpoint(parts)
      if not ok then return nil, err end
    end
    world.checkpoints[#world.checkpoints + 1] = parts
    for _, part in ipairs(parts) do world.uploads[session.id].recorded[part.number] = true end
    return true
  end

  function driver.complete(_, session, parts, crc)
    if world.on_complete then
      local answer, err = world.on_complete(session, parts, crc)
      if answer or err then return answer, err end
    end
    local upload, data = world.uploads[session.id], {}
    for i, part in ipairs(parts) do
      assert(part.number == i, "a hole")
      assert(upload.stored[i].etag == part.token, "another token")
      data[i] = upload.stored[i].data
    end
    upload.object = table.concat(data)
    world.completed[#world.completed + 1] = session.id
    if crc and crc ~= core.crc32c(upload.object) then return errors.fail("integrity", "corrupt") end
    return { file_id = session.file_id }
  end

  function driver.abort(_, session)
    world.aborted[#world.aborted + 1] = session.id
    world.open_at_abort = world.engine.open
    world.uploads[session.id] = nil
    return true
  end

  --- Writes a file of `size` bytes (or these bytes).
  function world.file(name, bytes)
    if type(bytes) == "number" then
      local list = {}
      for i = 1, bytes do list[i] = string.char((i * 7 + math.floor(i / 251)) % 256) end
      bytes = table.concat(list)
    end
    return support.write_file(world.folder .. "/" .. name, bytes), bytes
  end

  function world.uploader(more)
    local given = {
      driver = driver, engine = world.engine, clock = clock, monotonic = clock.now, parallel = 2, journal = false,
      gate = { random = function() return 0.5 end },
      on_event = function(event) world.events[#world.events + 1] = event end,
    }
    for k, v in pairs(more or {}) do given[k] = v end
    return require("longshore.uploader").new(given)
  end

  --- How often each part was PUT.
  function world.counts()
    local counts = {}
    for _, put in ipairs(world.puts) do counts[put.number] = (counts[put.number] or 0) + 1 end
    return counts
  end

  function world.notes()
    local list = {}
    for _, event in ipairs(world.events) do
      if event.type == "note" then list[#list + 1] = event.text end
    end
    return table.concat(list, "\n")
  end

  return world
end

return _M

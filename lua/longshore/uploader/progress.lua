--- How far uploads are: counted so that it is never more than all and never
-- goes back, and written as a bar, as lines or as JSON.
--
-- Bytes that the store has confirmed and bytes in flight are counted apart; a
-- part sent again takes its bytes in flight back, the figure shown waits until
-- they are there again.
--
-- Room: uploader. Writes only through the function it is given.
-- @module longshore.uploader.progress
local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.progress" }

-- The rate is that of the last so many seconds.
local WINDOW = 10
local SAMPLE = 0.2
-- Seconds between two pictures of the bar, two lines, two JSON lines.
local PACE = { bar = 0.1, lines = 5, json = 1 }

---------------------------------------------------------------------------
-- words

local UNITS = { "B", "KiB", "MiB", "GiB", "TiB" }

--- A size for people: 1.5 GiB.
-- @tparam number bytes
-- @treturn string
function _M.size(bytes)
  local unit = 1
  while bytes >= 1023.95 and unit < #UNITS do
    bytes, unit = bytes / 1024, unit + 1
  end
  return (unit == 1 and "%.0f %s" or "%.1f %s"):format(bytes, UNITS[unit])
end

--- A time for people: 0:07, 12:30, 3:04:05.
-- @tparam number seconds
-- @treturn string
function _M.time(seconds)
  seconds = math.floor(seconds + 0.5)
  local h, m, s = math.floor(seconds / 3600), math.floor(seconds / 60) % 60, seconds % 60
  if h > 99 then return ">99 h" end
  return h > 0 and ("%d:%02d:%02d"):format(h, m, s) or ("%d:%02d"):format(m, s)
end

-- Cuts a text to a width without cutting a UTF-8 character.
local function clip(text, width)
  if #text <= width then return text end
  local cut = text:sub(1, math.max(0, width))
  local tail = cut:match("[\192-\255][\128-\191]*$")
  if tail then
    local lead = tail:byte()
    local need = lead >= 240 and 4 or lead >= 224 and 3 or 2
    if #tail < need then cut = cut:sub(1, -#tail - 1) end
  end
  return cut
end

---------------------------------------------------------------------------
-- counting

--- Makes a progress.
-- @tparam table options `mode` (`bar`, `lines`, `json`, `none`), `write(text)`,
-- `width()` of the terminal, `now()` steady seconds, `emit(table)` for JSON
-- @treturn progress
function _M.new(options)
  return setmetatable({
    mode = options.mode, write = options.write, emit = options.emit, now = options.now,
    width = options.width or function() return 80 end,
    total = 0, files = 0, ended = 0, settled = 0, active = {}, shown = 0,
    resumed = 0, samples = {}, drawn_at = -math.huge, drawn = false, began = options.now(),
    parts_done = 0, parts_all = 0,
  }, mt)
end

--- Announces what is to come.
-- @tparam number files
-- @tparam number bytes
function methods:plan(files, bytes)
  self.files, self.total = files, bytes
end

local function counted(self)
  local sum = self.settled
  for upload in pairs(self.active) do
    sum = sum + math.min(upload.size, upload.confirmed + upload:in_flight())
  end
  return sum
end

-- Bytes a second over the window.
local function rate(self, now, moved)
  local samples = self.samples
  local last = samples[#samples]
  if not last or now - last[1] >= SAMPLE then samples[#samples + 1] = { now, moved } end
  while samples[2] and now - samples[1][1] > WINDOW do table.remove(samples, 1) end
  local first = samples[1]
  local seconds = now - first[1]
  return seconds > 0 and math.max(0, moved - first[2]) / seconds or 0
end

--- Where things are.
-- @treturn table bytes, total, share (0..1), rate (bytes a second), left
-- (seconds, or nil), files, ended, parts, parts_done
function methods:snapshot()
  local now = self.now()
  self.shown = math.max(self.shown, math.min(self.total, counted(self)))
  local share
  if self.total > 0 then
    share = self.shown / self.total
  else
    share = self.files > 0 and self.ended / self.files or 0
  end
  local speed = rate(self, now, self.shown - self.resumed)
  local remaining = self.total - self.shown
  return {
    bytes = self.shown, total = self.total, share = math.min(1, share), rate = speed,
    left = remaining == 0 and 0 or speed > 0 and remaining / speed or nil,
    files = self.files, ended = self.ended, parts = self.parts_all, parts_done = self.parts_done,
    seconds = now - self.began,
  }
end

---------------------------------------------------------------------------
-- drawing

local function percent(share)
  -- Not 100 before it is all.
  return share >= 1 and 100 or math.min(99, math.floor(share * 100))
end

--- The bar as a line of text.
-- @tparam table s snapshot
-- @tparam number width
-- @treturn string no longer than width
function _M.bar(s, width)
  local texts = {
    ("%3d %%"):format(percent(s.share)),
    ("%s / %s"):format(_M.size(s.bytes), _M.size(s.total)),
    ("%s/s"):format(_M.size(s.rate)),
    s.left and _M.time(s.left) .. " left" or "-:-- left",
    ("parts %d/%d"):format(s.parts_done, s.parts),
  }
  if s.files > 1 then texts[#texts + 1] = ("files %d/%d"):format(s.ended, s.files) end
  local text = table.concat(texts, "  ")
  local room = math.min(40, width - #text - 4)
  if room < 5 then return clip(text, width) end
  local filled = s.share >= 1 and room or math.floor(s.share * room)
  return ("[%s%s] %s"):format(("#"):rep(filled), ("."):rep(room - filled), text)
end

local function line(s)
  return ("%d %%, %s of %s, %s/s%s%s"):format(percent(s.share), _M.size(s.bytes), _M.size(s.total),
    _M.size(s.rate), s.left and ", " .. _M.time(s.left) .. " left" or "",
    s.files > 1 and (", %d of %d files"):format(s.ended, s.files) or "")
end

--- Draws, when it is time to.
-- @tparam[opt] boolean force
function methods:draw(force)
  local pace = PACE[self.mode]
  if not pace then return end
  local now = self.now()
  if not force and now - self.drawn_at < pace then return end
  -- The first line or JSON line comes after a while, not at once.
  if not force and self.mode ~= "bar" and self.drawn_at == -math.huge then
    self.drawn_at = now
    return
  end
  self.drawn_at = now
  local s = self:snapshot()
  if self.mode == "bar" then
    self.write("\r" .. _M.bar(s, self.width() - 1) .. "\27[K")
    self.drawn = true
  elseif self.mode == "lines" then
    self.write(line(s) .. "\n")
  else
    self.emit { event = "progress", bytes = s.bytes, total = s.total, rate = math.floor(s.rate),
      seconds_left = s.left and math.floor(s.left + 0.5) or nil, files = s.files, files_ended = s.ended,
      parts = s.parts, parts_done = s.parts_done }
  end
end

--- Takes the bar away, to write something else.
function methods:clear()
  if self.drawn then
    self.write("\r\27[K")
    self.drawn = false
  end
end

---------------------------------------------------------------------------
-- what happens

--- Takes an event of the uploader.
-- @tparam table event
function methods:event(event)
  local upload = event.upload
  if event.type == "begin" then
    -- The file may have grown since it was counted.
    local known = upload.item.size
    if not self.active[upload] then
      self.total = self.total + (upload.size - (known or upload.size))
      upload.item.size = upload.size
    else
      self.parts_all = self.parts_all - self.active[upload].parts
      self.parts_done = self.parts_done - self.active[upload].done
    end
    local parts = upload.left + upload.resumed_parts
    self.active[upload] = { parts = parts, done = upload.resumed_parts }
    self.parts_all, self.parts_done = self.parts_all + parts, self.parts_done + upload.resumed_parts
    self.resumed = self.resumed + upload.resumed_bytes
  elseif event.type == "part" then
    local entry = self.active[upload]
    entry.done = entry.done + 1
    self.parts_done = self.parts_done + 1
  end
  local last = self.samples[#self.samples]
  if not last or self.now() - last[1] >= SAMPLE then self:snapshot() end
  self:draw()
end

--- A file has ended.
-- @tparam table item
-- @tparam boolean ok
function methods:ended_file(item, ok)
  self.ended = self.ended + 1
  for upload in pairs(self.active) do
    if upload.item == item then
      self.active[upload] = nil
      -- What a failed one had sent is not done.
      if not ok then break end
    end
  end
  if ok then self.settled = self.settled + (item.size or 0) end
  self:draw()
end

--- The last picture.
function methods:finish()
  if self.mode == "bar" and self.drawn then
    self:draw(true)
    self.write("\n")
    self.drawn = false
  end
end

return _M

--- Reads a file back from a store: ranges of it in parallel, checked, and put
-- into place only when it is whole.
--
-- The bytes go to `PATH.longshore-part`, and become PATH by a rename when all
-- of them are there and agree with what is known: the size always, the CRC32C
-- where the service or the store tells it. All ranges are of one version of the
-- object (If-Match); one that changes on the way is an error. Where PATH is a
-- link, this happens where it points; where it is a device, not at all.
--
-- Room: uploader.
-- @module longshore.uploader.download
local calls = require "longshore.uploader.calls"
local classify = require "longshore.uploader.classify"
local core = require "longshore.core"
local errors = require "longshore.errors"
local lfs = require "lfs"
local sources = require "longshore.uploader.source"

local _M = {}

-- Bytes of one request. Ranges are independent of the parts of the upload.
local RANGE = 16 * 1024 * 1024
local MAX_RENEWALS = 5
local MAX_LINKS = 40

--- A name that a server gave, as the name of a file in the current folder.
-- @tparam ?string name
-- @treturn ?string nil when nothing is left of it
function _M.safe_name(name)
  local base = type(name) == "string" and name:match("([^/\\]+)[/\\]*$")
  if not base or base == "." or base == ".." or base:find("%c") then return nil end
  return base
end

-- The path that a rename may go over: where links lead, and not to a device,
-- which would be gone for all.
local function place_of(path, overwrite)
  local stat = core.file_stat(path)
  if not stat then return path end
  if not overwrite then
    return errors.fail("conflict", path .. " exists; name another path, or have it replaced (overwrite, --force)",
      { field = "path" })
  end
  if stat.type ~= "file" then
    return errors.fail("invalid", ("%s is %s; only a regular file can be replaced"):format(path, sources.kind(stat)),
      { field = "path" })
  end
  for _ = 1, MAX_LINKS do
    local target = lfs.symlinkattributes(path, "target")
    if not target then break end
    path = target:sub(1, 1) == "/" and target or (path:match("^.*/") or "") .. target
  end
  return path
end

-- One range of the object into the file, repeated as the gate allows.
-- Returns the `done` event.
local function fetch(hub, state, first, last)
  local attempt, renewals = 0, 0
  while true do
    local target = state.target
    local headers = { Range = ("bytes=%.0f-%.0f"):format(first, last) }
    for k, v in pairs(target.headers or {}) do headers[k] = v end
    if state.etag then headers["If-Match"] = state.etag end
    local host = calls.host(target.url)
    local leave, gate = calls.enter(hub, host)
    state.in_flight[first] = 0
    local event = hub.loop:request({
      method = "GET", url = target.url, headers = headers,
      output = { path = state.temporary, offset = first },
    }, function(progress)
      state.in_flight[first] = progress.received or 0
      state.progress()
    end)
    local kind, problem
    if event.type == "failed" then
      kind, problem = classify.failure(event.error), event.error
    elseif event.status == 206 or event.status == 200 or event.status == 416 then
      kind = "ok"
    elseif event.status == 412 then
      kind, problem = "fatal", errors.new("changed", "the object was replaced while it was read; start again")
    else
      kind, problem = classify.answer(event, target.expires_at, hub.clock.now())
    end
    leave(kind == "ok" and "ok" or kind == "throttled" and "throttled" or "failed", problem and problem.retry_after)
    state.in_flight[first] = nil
    if kind == "ok" then return event end
    if kind == "expired" and renewals < MAX_RENEWALS then
      renewals = renewals + 1
      -- Another range may have renewed it meanwhile.
      if state.target == target then
        local fresh, err = state.renew()
        if not fresh then return nil, err end
        state.target = fresh
      end
    elseif kind == "throttled" or kind == "transient" then
      attempt = attempt + 1
      if attempt >= hub.attempts or not gate:spend() then return nil, problem end
      if kind == "transient" then hub.loop:sleep(gate:delay(attempt, problem.retry_after)) end
    else
      return nil, problem
    end
  end
end

-- The whole object's size, from the answer to the first range.
local function total_of(event, wanted)
  if event.status == 200 then return event.received end
  local from, _, total = (event.headers["content-range"] or ""):match("^bytes (%d+)%-(%d+)/(%d+)$")
  if event.status == 416 then
    total = (event.headers["content-range"] or ""):match("^bytes %*/(%d+)$")
    if total and tonumber(total) ~= 0 then total = nil end
  elseif tonumber(from or "") ~= wanted then
    total = nil
  end
  if not total then
    return errors.fail("store", "the store's answer to a range names no usable Content-Range")
  end
  return tonumber(total)
end

-- Fetches the remaining ranges with some tasks; fills `pieces` by offset.
local function fetch_rest(hub, state, parallel)
  local at, failure = RANGE, nil
  local tasks = {}
  for i = 1, parallel do
    tasks[i] = hub.loop:spawn(function()
      while at < state.size and not failure do
        local first = at
        local last = math.min(first + RANGE, state.size) - 1
        at = last + 1
        local event, err = fetch(hub, state, first, last)
        if event and (event.status ~= 206 or event.received ~= last - first + 1) then
          err = errors.new("store", ("the store answered %d with %.0f bytes to a range of %.0f"):format(
            event.status, event.received, last - first + 1))
        end
        if err then
          failure = failure or err
          return
        end
        state.pieces[first] = { length = event.received, crc32c = event.received_crc32c }
        state.received = state.received + event.received
        state.progress()
      end
    end)
  end
  for _, task in ipairs(tasks) do hub.loop:await(task) end
  if failure then return nil, failure end
  return true
end

local function combined(state)
  local crc, at = 0, 0
  while at < state.size do
    local piece = state.pieces[at]
    crc = core.crc32c_combine(crc, piece.crc32c, piece.length)
    at = at + piece.length
  end
  return crc
end

local function receive(hub, state, parallel)
  local event, err = fetch(hub, state, 0, RANGE - 1)
  if not event then return nil, err end
  state.size, err = total_of(event, 0)
  if not state.size then return nil, err end
  state.etag = event.headers.etag
  if event.status ~= 416 then
    state.pieces[0] = { length = event.received, crc32c = event.received_crc32c }
    state.received = event.received
  end
  -- Only an answer with the whole object speaks of the whole object's bytes.
  local told = state.received == state.size and event.headers["x-amz-checksum-crc32c"]
  state.told = state.target.crc32c or told and core.crc32c_from_base64(told) or nil
  state.progress()
  if state.target.size and state.target.size ~= state.size then
    return errors.fail("integrity", ("the service says %.0f bytes, the store has %.0f"):format(
      state.target.size, state.size))
  end
  if state.received < state.size then
    return fetch_rest(hub, state, parallel)
  end
  return true
end

--- Fetches one file. Runs in a task of the hub's loop.
-- @tparam table hub `loop, gates, clock, attempts`
-- @tparam table item `path` (where to, a file or a folder; default the service's
-- name for it, in the current folder), `overwrite`, `source()` -> target {url, headers,
-- expires_at, name, size, crc32c} | nil, err; `on_progress(received, size)`
-- @tparam number parallel ranges at once
-- @treturn[1] table {path, bytes, crc32c, compared = "crc32c" or "size", seconds}
-- @return[2] nil
-- @treturn[2] table err
function _M.run(hub, item, parallel)
  local began = core.monotonic()
  local target, err = item.source()
  if not target then return nil, err end
  local path, stat = item.path, item.path and core.file_stat(item.path)
  if not path or stat and stat.type == "directory" then
    local name = _M.safe_name(target.name)
    path = name and path and path:gsub("/+$", "") .. "/" .. name or name
  end
  if not path then
    return errors.fail("invalid", "the service's name for this file cannot be used here; say where to with a path",
      { field = "path" })
  end
  local place
  place, err = place_of(path, item.overwrite)
  if not place then return nil, err end
  local temporary = place .. ".longshore-part"
  local file, why = io.open(temporary, "wb")
  if not file then return errors.fail("io", "cannot write " .. tostring(why)) end
  file:close()

  local state = { target = target, temporary = temporary, pieces = {}, received = 0, in_flight = {},
    renew = item.source }
  function state.progress()
    if not item.on_progress then return end
    local sum = state.received
    for _, bytes in pairs(state.in_flight) do sum = sum + bytes end
    item.on_progress(math.min(sum, state.size or sum), state.size)
  end
  local undo = hub.loop:on_end(function() os.remove(temporary) end)
  local ok
  ok, err = receive(hub, state, parallel)
  local crc
  if ok then
    crc = combined(state)
    if state.told and crc ~= state.told then
      ok, err = nil, errors.new("integrity", ("the bytes received have the CRC32C %s, they should have %s"):format(
        core.crc32c_base64(crc), core.crc32c_base64(state.told)))
    end
  end
  if ok then ok, err = core.fsync(temporary) end
  if ok then
    ok, why = os.rename(temporary, place)
    if not ok then err = errors.new("io", "cannot put the file into place: " .. tostring(why)) end
  end
  undo()
  if not ok then
    os.remove(temporary)
    return nil, err
  end
  return { path = path, bytes = state.size, crc32c = crc, compared = state.told and "crc32c" or "size",
    seconds = core.monotonic() - began }
end

return _M

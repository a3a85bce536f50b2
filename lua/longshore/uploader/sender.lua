--- Sends one part until the store has it, intact, or it is certain that it will
-- not.
--
-- Room: uploader.
-- @module longshore.uploader.sender
local calls = require "longshore.uploader.calls"
local classify = require "longshore.uploader.classify"
local core = require "longshore.core"
local errors = require "longshore.errors"
local verify = require "longshore.uploader.verify"

local _M = {}

-- Bytes that arrive damaged this often do so for a reason.
local MAX_DAMAGED = 3

-- A part that is slow on every connection is not sent anew for it again.
local MAX_SLOW = 2

local function say(part, err, hint)
  local text = ("part %d: %s"):format(part.number, err.message)
  if hint then text = ("%s (%s)"):format(text, hint) end
  local fields = {}
  for k, v in pairs(err) do fields[k] = v end
  fields.part, fields.cause = part.number, err
  return nil, errors.new(err.code, text, fields)
end

-- The CRC32C of the part's bytes and the check that was made.
local function check(hub, upload, part, target, event)
  local whole = target.offset == part.offset and target.length == part.length
  local crc = event.crc32c
  if not whole then
    local bytes
    crc, bytes = core.crc32c_file(upload.source.path, { offset = part.offset, length = part.length })
    if not crc then return nil, bytes end
  end
  -- Only what was sent in one piece can be compared with what arrived.
  local compared, err = "none"
  if whole then
    compared, err = verify.part {
      crc32c = crc, headers = event.headers, etag = upload.driver.capabilities.etag,
      known = hub.gates(calls.host(target.url)), seen = part.seen_etags,
      md5 = function()
        local digest, failed = core.digest_file(upload.source.path, { offset = part.offset,
          length = part.length, md5 = true })
        return digest and digest.md5, failed
      end,
    }
    if not compared then return nil, err end
  end
  return { number = part.number, offset = part.offset, length = part.length, crc32c = crc, check = compared }
end

-- What the answer to a PUT means: kind, error, and for `ok` the finished part.
local function read(hub, upload, part, target, event)
  local driver = upload.driver
  if event.type == "failed" then
    return classify.failure(event.error), event.error
  end
  local ok, token
  if driver.answer then
    local err
    ok, token = driver:answer(upload.session, part, event)
    if not ok and token then
      err = errors.from(token)
      return err.kind or classify.failure(err), err
    end
  end
  if not ok then
    local kind, err = classify.answer(event, target.expires_at, hub.clock.now())
    if kind ~= "ok" then return kind, err end
    token = event.headers.etag
  end
  if not token and driver.capabilities.token == "etag" then
    return "fatal", errors.new("store", "the store took the bytes but answered no ETag, so the upload cannot be "
      .. "completed; a proxy may remove it, or the bucket's CORS rules do not expose it")
  end
  local done, err = check(hub, upload, part, target, event)
  if not done then return err.code == "integrity" and "corrupted" or "fatal", err end
  done.token = token
  return "ok", nil, done
end

local OUTCOMES = { ok = "ok", throttled = "throttled" }

-- Sends what the target says and tells who has an interest how far it came:
-- the upload, the gate, and the flights, which may find that another part to
-- the same host is so slow that it had better start over.
local function transfer(hub, upload, part, target, host, fresh)
  local loop, source, entry = hub.loop, upload.source, hub.gates(host)
  local flight, counted = entry.flights:begin(loop.now(), target.length), 0
  flight.task = loop.current
  flight.named = (part.slow or 0) >= MAX_SLOW
  local landed = loop:on_end(function() entry.flights:finish(flight) end)
  local function moved(sent)
    local now = loop.now()
    local more = entry.gate:moved(now, math.max(0, sent - counted))
    counted = sent
    if more then loop:notify(entry.changed) end
    entry.flights:moved(flight, sent)
    for _, slow in ipairs(entry.flights:slow(now)) do loop:cut(slow.task) end
  end
  local event = loop:request({
    method = target.method, url = target.url, headers = target.headers, timeout = upload.part_timeout,
    body = { path = source.path, offset = target.offset, length = target.length, size = source.size,
      mtime_ns = source.mtime_ns },
    checksum = true, fresh = fresh or nil,
  }, function(progress)
    part.in_flight = math.min(part.length, target.offset - part.offset + progress.sent)
    moved(progress.sent)
    upload:progress()
  end)
  landed()
  entry.flights:finish(flight)
  moved(event.sent or counted)
  if flight.named and event.type == "failed" and event.error.code == "cancelled" then
    part.slow = (part.slow or 0) + 1
    event.error = errors.new("timeout", "much slower than the other parts", { retryable = true, connected = true })
  end
  return event
end

--- Sends a part. Called from a task; killing the task cancels what is under way.
-- @tparam table hub `loop, gates, clock, our_time(), skew, attempts, event(table)`
-- @tparam table upload `source, driver, session, targets`
-- @tparam table part `number, offset, length`; `in_flight` is kept up to date
-- @treturn[1] table {number, offset, length, token, crc32c, check}
-- @return[2] nil
-- @treturn[2] table err; `gone` when the upload does not exist any more
function _M.send(hub, upload, part)
  local attempt, damaged, renewed, doubt, troubled = 0, 0, false, nil, false
  part.seen_etags = {}
  while true do
    local target, host, leave, gate, err
    repeat
      target, err = upload.targets:get(part, doubt and upload.driver.capabilities.reask)
      if not target then return say(part, err) end
      host = calls.host(target.url)
      leave, gate = calls.enter(hub, host)
      -- The wait may have been long. (A fresh URL is not asked for in here: the
      -- call may have to pass the same gate.)
      local fresh = upload.targets:fresh(target)
      if not fresh then leave("failed") end
    until fresh
    -- A connection that was in trouble is not the one to try again on.
    local event = transfer(hub, upload, part, target, host, damaged > 0 or troubled)
    troubled = event.type == "failed"
    local kind, problem, done = read(hub, upload, part, target, event)
    if event.type == "done" and kind ~= "ok" then
      local now = hub.our_time()
      hub.skew:learn(host, event.headers.date, now - 2, now)
    end
    leave(OUTCOMES[kind] or "failed", problem and problem.retry_after)
    if kind == "ok" then
      upload.targets:drop(part)
      done.seconds, done.attempts = event.seconds, attempt + 1
      return done
    end
    part.in_flight = 0
    doubt = true

    if kind == "expired" or kind == "skewed" then
      upload.targets:drop(part)
      if renewed or upload.driver.capabilities.batch == 0 then return say(part, problem, hub.skew:hint(host)) end
      renewed = true
      hub.event { type = "renew", upload = upload, part = part, error = problem }
    elseif kind == "gone" then
      problem.gone = true
      return say(part, problem)
    elseif kind == "fatal" then
      return say(part, problem, problem.code == "forbidden" and hub.skew:hint(host) or nil)
    else
      attempt, renewed = attempt + 1, false
      if kind == "corrupted" then damaged = damaged + 1 end
      if attempt >= hub.attempts or damaged >= MAX_DAMAGED then
        return say(part, problem, ("given up after %d attempts"):format(attempt))
      end
      if not gate:spend() then
        return say(part, problem, ("given up: %s fails too many requests"):format(host))
      end
      local delay = kind == "throttled" and 0 or gate:delay(attempt, problem.retry_after)
      hub.event { type = "retry", upload = upload, part = part, attempt = attempt, delay = delay, error = problem }
      if delay > 0 then hub.loop:sleep(delay) end
    end
  end
end

return _M

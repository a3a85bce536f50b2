--- The transport that drivers get: calls to a service, through the gate of its
-- host, repeated where that is safe, while other tasks go on.
--
-- Room: uploader.
-- @module longshore.uploader.calls
local classify = require "longshore.uploader.classify"
local errors = require "longshore.errors"

local _M = {}

-- After so many attempts in vain people are told what they wait for.
local TOLD = 3

-- A call that a service takes longer for than this has failed.
local TIMEOUT = 60

--- The host (with its port) of a URL.
-- @tparam string url
-- @treturn string "" when there is none
function _M.host(url)
  return (url:match("^%a[%w+.-]*://([^/?#]*)") or ""):gsub("^.*@", "")
end

--- Waits until the gate of an endpoint lets a request start. The caller must
-- `leave`.
-- @tparam table hub {loop, gates}
-- @tparam string host
-- @treturn function leave(outcome, retry_after)
function _M.enter(hub, host)
  local loop, entry = hub.loop, hub.gates(host)
  local gate, changed = entry.gate, entry.changed
  while true do
    local ready, wait = gate:ready(loop.now())
    if ready then break end
    loop:wait(changed, wait)
  end
  local ticket = gate:start()
  local undo
  local function leave(outcome, retry_after)
    undo()
    gate:finish(ticket, outcome, loop.now(), retry_after)
    loop:notify(changed)
  end
  undo = loop:on_end(function()
    gate:finish(ticket, "failed", loop.now())
    loop:notify(changed)
  end)
  return leave, gate
end

local SAFE = { GET = "safe", HEAD = "safe", PUT = "safe", DELETE = "safe" }

-- Whether the call may be repeated after this answer or failure, and what the
-- gate is told.
local function judge(request, event)
  local retry = request.retry or SAFE[request.method] or "refused"
  if event.type == "failed" then
    local err = event.error
    if not err.retryable or retry == "never" then return false, "failed" end
    return retry == "safe" or err.connected == false, "failed"
  end
  local status = event.status
  if status == 429 or status == 503 then
    return retry ~= "never", "throttled", classify.retry_after(event.headers)
  end
  if status == 408 or status >= 500 and status ~= 501 and status ~= 505 and status ~= 507 then
    return retry == "safe", "failed"
  end
  return false, "ok"
end

--- Makes a transport.
-- @tparam table hub `loop`, `gates(host)` -> {gate, changed}, `our_time()` (not
-- corrected), `skew`, `attempts`
-- @treturn function transport(request) -> response | nil, err; the response has
-- `attempt`, the number of the attempt that it answers
function _M.transport(hub)
  return function(request)
    local host = _M.host(request.url)
    local attempt, doubtful = 0, false
    while true do
      attempt = attempt + 1
      -- A gate of their own: a call must not wait behind long parts that go to
      -- the same host.
      local leave, gate = _M.enter(hub, "calls to " .. host)
      local began = hub.our_time()
      local streamed = request.file or request.output
      local event = hub.loop:request {
        method = request.method, url = request.url, headers = request.headers,
        body = request.file or request.body, output = request.output,
        timeout = request.timeout or not streamed and TIMEOUT or nil,
        -- A service that thinks for a while has not stalled.
        stall_seconds = request.stall_seconds or not streamed and 0 or nil, max_response = request.max_response,
        checksum = request.checksum,
      }
      if event.type == "done" then
        hub.skew:learn(host, event.headers.date, began, hub.our_time())
      end
      local again, outcome, retry_after = judge(request, event)
      leave(outcome, retry_after)
      if not again or attempt >= hub.attempts or not gate:spend() then
        if event.type == "failed" then
          local err = errors.from(event.error)
          return errors.fail(err.code, ("%s: %s"):format(host, err.message), { retryable = err.retryable,
            connected = err.connected, cause = err, attempt = attempt, doubtful = true })
        end
        return { status = event.status, headers = event.headers, body = event.body or "",
          crc32c = event.crc32c, received_crc32c = event.received_crc32c, attempt = attempt, doubtful = doubtful }
      end
      if attempt == TOLD then
        hub.event { type = "note", text = (event.error and event.error.message
          or ("%s: the service answers %d"):format(host, event.status)) .. "; trying again" }
      end
      -- An earlier attempt may have been carried out without our seeing it.
      if outcome ~= "throttled" and not (event.error and event.error.connected == false) then doubtful = true end
      -- When refused for load, the gate makes everybody wait.
      if outcome ~= "throttled" then hub.loop:sleep(gate:delay(attempt, retry_after)) end
    end
  end
end

return _M

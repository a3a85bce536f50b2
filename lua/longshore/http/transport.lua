--- The transport of scripts and worker threads: one request, one answer, over
-- longshore.core's transfer engine.
--
-- A transport is one function, `transport(request) -> response | nil, err`, and
-- whoever needs one takes it as a parameter. This one blocks until the answer
-- is there, keeps connections alive between calls, follows no redirect, and
-- repeats nothing: an answer of any status is a response.
--
-- Room: http. No I/O in `require`.
-- @module longshore.http.transport
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}

local TIMEOUT = 60

-- A body that is read from a file, or an answer that is written to one, may
-- take as long as it takes, while bytes move; anything else has a time limit,
-- and a server that thinks for a while is not a stalled one.
local function job_of(request, default_timeout)
  local streamed = request.file ~= nil or request.output ~= nil
  local job = {
    method = request.method, url = request.url, headers = request.headers,
    body = request.file or request.body, output = request.output,
    max_response = request.max_response, checksum = request.checksum,
    fresh = request.fresh,
    stall_bytes = request.stall_bytes, stall_seconds = request.stall_seconds,
    timeout = request.timeout,
  }
  if not streamed then
    job.timeout = request.timeout or default_timeout
    job.stall_seconds = request.stall_seconds or 0
  end
  return job
end

--- Makes a transport with an engine of its own.
--
-- The request: `method` ("GET"), `url`, `headers` ({["Name"] = "value"} or a
-- list of pairs), `body` (string) or `file` ({path=, offset=, length=, size=,
-- mtime_ns=}), `output` ({path=, offset=, length=}: where the body of a 2xx
-- answer goes), `timeout` (seconds for all of it; 60 unless a file is sent or
-- written), `max_response`, `stall_bytes`, `stall_seconds`, `fresh`.
--
-- The response: `status`, `headers` (lower-case names), `body`, `sent`,
-- `received`, `crc32c` (of the request's body), `received_crc32c`, `seconds`.
-- @tparam[opt] table options the engine's (ca_file, ca_path, proxy,
--   connect_timeout, rate_limit, user_agent, max_response, buffer ...), `timeout`, the default for requests that name
--   none, and `park(step, id)`, for a host of several requests at once: it answers the event `id` of `step(seconds)`,
--   which goes on with all requests of this transport for so long at most and answers their last events by id; or
--   false where the request is to be given up; or nil: it is to be waited for here
-- @treturn function transport
-- @treturn function close ends the engine; the collector does it too
function _M.new(options)
  local settings, timeout, park = {}, TIMEOUT, nil
  for k, v in pairs(options or {}) do
    if k == "timeout" then
      timeout = v
    elseif k == "park" then
      park = v
    else
      settings[k] = v
    end
  end
  settings.connections = settings.connections or 1
  local engine = assert(core.engine(settings))

  -- What is waited for: false, or the event that it ended with while somebody waited for something else.
  local ended = {}

  local function step(seconds)
    for _, event in ipairs(engine:step(seconds)) do
      if event.type ~= "progress" and ended[event.id] ~= nil then ended[event.id] = event end
    end
    return ended
  end

  local function wait(id)
    ended[id] = false
    local event
    if park then event = park(step, id) end
    if event == false then
      engine:cancel(id)
      event = { type = "failed", error = errors.new("timeout", "no answer in time", { retryable = false }) }
    end
    while not event do event = step(0.5)[id] end
    ended[id] = nil
    return event
  end

  local function transport(request)
    local id, err = engine:add(job_of(request, timeout))
    if not id then
      return nil, errors.from(err)
    end
    local event = wait(id)
    if event.type == "failed" then
      return nil, event.error
    end
    return event
  end

  return transport, function() engine:close() end
end

return _M

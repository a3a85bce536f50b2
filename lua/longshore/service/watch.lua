--- What a host may see of the work: requests to object stores and decisions of
-- the policy, each told to `observe(name, labels, seconds, bytes)`:
--
--     observe("store", { bucket=, outcome="ok"|"refused"|"failed" }, seconds, { sent=, received= })
--     observe("uploaded", { service= }, nil, { received= })        -- a file was completed, of so many bytes
--     observe("hook", { hook=, outcome="allowed"|"refused"|"failed" }, seconds)
--
-- A request to an object store carries the id of the request that caused it, in
-- the header X-Request-Id: it is in both logs.
--
-- Room: service. No I/O.
-- @module longshore.service.watch
local core = require "longshore.core"

local _M = {}

local function outcome_of(response)
  if not response or response.status >= 500 then return "failed" end
  return response.status < 400 and "ok" or "refused"
end

-- Headers are a map, or a list of pairs.
local function with_id(headers, id)
  local all = {}
  for name, value in pairs(headers or {}) do all[name] = value end
  if all[1] then all[#all + 1] = { "x-request-id", id } else all["x-request-id"] = id end
  return all
end

--- A transport that is watched.
-- @tparam function transport
-- @tparam string bucket its name in the configuration
-- @tparam table parts `observe`, `request_id`
-- @treturn function transport
function _M.transport(transport, bucket, parts)
  local observe, request_id = parts.observe, parts.request_id
  if not observe and not request_id then return transport end
  return function(request)
    local id = request_id and request_id()
    if id then request.headers = with_id(request.headers, id) end
    local started = core.monotonic()
    local response, err = transport(request)
    if observe then
      observe("store", { bucket = bucket, outcome = outcome_of(response) }, core.monotonic() - started,
        { sent = response and response.sent, received = response and response.received })
    end
    return response, err
  end
end

--- A policy that is watched.
-- @tparam table policy
-- @tparam table parts `observe`
-- @treturn table policy
function _M.policy(policy, parts)
  local observe = parts.observe
  if not observe then return policy end
  local decide = policy.decide
  policy.decide = function(self, hook, context)
    local started = core.monotonic()
    local decision, err = decide(self, hook, context)
    local outcome = decision and "allowed" or err and err.code == "internal" and "failed" or "refused"
    observe("hook", { hook = hook, outcome = outcome }, core.monotonic() - started)
    return decision, err
  end
  policy.observe = function(hook, context)
    local file = hook == "after_complete" and context.file
    if file and file.service and file.size then
      observe("uploaded", { service = file.service }, nil, { received = file.size })
    end
  end
  return policy
end

return _M

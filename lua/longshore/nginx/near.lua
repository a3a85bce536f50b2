--- Answers in the event loop what needs no more than was read a moment ago: URLs
-- for parts of an upload that this nginx was asked about before.
--
-- The same application as in the worker threads, with a store of recent rows
-- (`longshore.store.recent`) and a transport that reaches nobody: so nothing here
-- can wait, and there is no second set of rules. Only what succeeds is answered
-- here; whatever else comes of it, the worker thread is asked and has the word.
--
-- A thread keeps rows for this only while the policy has no hooks of one's own
-- on the way; with such hooks, which run in threads, only the threads use them
-- (`whose`). Rows are used for `broker.cache_seconds`: that long a change can go
-- unseen that was made elsewhere than through this nginx (a token revoked on the
-- command line, an upload aborted at another broker), or a new hook of the
-- policy. What changed through this nginx is seen at once.
--
-- Room: nginx.
-- @module longshore.nginx.near
local blocks = require "longshore.nginx.blocks"
local errors = require "longshore.errors"
local metrics = require "longshore.nginx.metrics"
local recent = require "longshore.store.recent"
local service = require "longshore.service"
local shared = require "longshore.nginx.shared"

local _M = {}

-- Bytes of a body: with this many the event loop signs a few hundred parts, in less than a millisecond.
local BODY = 2048
local HOOKS = { "authenticate", "authorize", "before_sign" }

local clock = { now = function() return ngx.now() end, sleep = function() error("nothing sleeps here") end }

local lines = {}

local function log(level, message, fields)
  lines[#lines + 1] = { level = level, message = message, fields = fields or {} }
end

local function nobody()
  return errors.fail("unavailable", "nothing is sent from here", { retryable = false })
end

-- The configuration, of it what answers here: services with such routes, without the policy's file and
-- with the tokens that are rows.
local function reduced(config)
  local copy, policy = {}, {}
  for name, value in pairs(config) do copy[name] = value end
  for name, value in pairs(config.policy) do policy[name] = value end
  policy.file, policy.webhooks, policy.fetch = nil, nil, nil
  copy.policy, copy.auth, copy.services = policy, {}, blocks.services(config, { "newton" })
  return copy
end

local function open(state)
  local config = reduced(state.config)
  local parts = shared.parts(config, clock)
  parts.store, parts.transport, parts.clock, parts.log = recent.only(shared.cache), nobody, clock, log
  return service.new(config, parts)
end

--- Whether a request may be tried here.
-- @tparam table state of `longshore.nginx`
-- @tparam table|nil route
-- @tparam table request with its body
-- @treturn boolean
function _M.takes(state, route, request)
  if not route or not route.near or state.broker.cache_seconds == 0 then return false end
  -- For a host's actor the policy may take another one, with a rate of its own: who it is, is to be known before
  -- anything is counted. (A token's row is not kept then.)
  if request.actor and state.config.policy.file then return false end
  return request.body ~= nil and #request.body <= BODY
end

--- Answers a request, if it can be done.
-- @tparam table state of `longshore.nginx`
-- @tparam table request
-- @tparam string id of the upload
-- @tparam function log_line
-- @treturn table|nil response
function _M.handle(state, request, id, log_line)
  if not recent.has(shared.cache, id) then return nil end
  if state.near == nil then
    local app, err = open(state)
    if not app then ngx.log(ngx.ERR, "worker threads answer everything: ", tostring(err)) end
    state.near = app or false
  end
  if not state.near then return nil end
  lines = {}
  local response = state.near:handle(request)
  request.about = nil
  if response.status >= 300 then return nil end
  metrics.count("longshore_near_total", "")
  for _, line in ipairs(lines) do
    line.fields.request_id = request.id
    log_line(line)
  end
  return response
end

--- For whom a row is kept that a worker thread has read.
-- @tparam table app of that thread
-- @tparam table row
-- @treturn boolean|string true: for here; "again": for threads
function _M.whose(app, row)
  local policy, bucket = app.broker.policy, row.provider and app.config.buckets[row.provider]
  -- (Who knows what a function that gets keys waits for.)
  if bucket and bucket.credentials then return "again" end
  for _, hook in ipairs(HOOKS) do
    for _, one in ipairs(policy.policies) do
      if one ~= policy.house and one[hook] then return "again" end
    end
  end
  -- A store whose clock is known to differ is signed for where that is known.
  local provider = row.provider and app.broker.providers[row.provider]
  return not (provider and provider.client) or provider.client.offset == 0 or "again"
end

return _M

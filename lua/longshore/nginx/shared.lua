--- What the Lua VMs of all workers share through nginx's dictionaries, as the
-- parts that `longshore.service` takes: the rate limiter, the cache of what was
-- fetched, the counters. Works in handlers and in worker threads.
--
-- Room: nginx.
-- @module longshore.nginx.shared
local blocks = require "longshore.nginx.blocks"
local limit = require "longshore.http.limit"
local metrics = require "longshore.nginx.metrics"

local _M = {}

-- Adds up in the dictionary; a key is forgotten after so many seconds.
local function add(key, by, seconds)
  local dict = ngx.shared[blocks.rates]
  if not dict then return 0 end
  return dict:incr(key, by, 0, seconds) or 0
end

local cache = {}

-- What is kept under a key, or nil.
function cache.get(key)
  local dict = ngx.shared[blocks.dictionary]
  return dict and dict:get(key)
end

-- Keeps a text for so many seconds.
function cache.set(key, text, seconds)
  local dict = ngx.shared[blocks.dictionary]
  if dict then dict:set(key, text, seconds) end
end

-- True for one caller in so many seconds, false for the others.
function cache.claim(key, seconds)
  local dict = ngx.shared[blocks.dictionary]
  return not dict or dict:add(key, true, seconds) == true
end

--- A cache for all workers: `get(key)`, `set(key, text, seconds)`, and `claim(key, seconds)`, which is true for one
-- caller in that time.
_M.cache = cache

local function observe(kind, labels, seconds, bytes)
  if kind == "store" then
    local bucket = metrics.label("bucket", labels.bucket)
    metrics.count("longshore_store_requests_total", bucket .. ',outcome="' .. labels.outcome .. '"')
    metrics.observe("longshore_store_seconds", bucket, seconds)
    if bytes.sent and bytes.sent > 0 then metrics.count("longshore_store_sent_bytes_total", bucket, bytes.sent) end
    if bytes.received and bytes.received > 0 then
      metrics.count("longshore_store_received_bytes_total", bucket, bytes.received)
    end
  elseif kind == "uploaded" then
    metrics.count("longshore_uploaded_bytes_total", metrics.label("service", labels.service), bytes.received)
  else
    local hook = metrics.label("hook", labels.hook)
    metrics.count("longshore_hooks_total", hook .. ',outcome="' .. labels.outcome .. '"')
    metrics.observe("longshore_hook_seconds", hook, seconds)
  end
end

--- The shared parts of an application.
-- @tparam table config
-- @tparam table clock
-- @treturn table parts of `longshore.service`
function _M.parts(config, clock)
  return { observe = observe, cache = _M.cache,
    limit = limit.new { rate = config.broker.rate, clock = clock, add = add } }
end

return _M

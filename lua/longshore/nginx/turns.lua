--- What runs by itself beside the requests: the janitor, the delivery of events,
-- the watch over the database, and the gauges.
--
-- One nginx worker has the turns (the first; nginx starts it anew when it dies, and
-- a reload has a new one), each in a thread pool of its own, so that neither waits
-- for another or for the requests. Whatever several brokers on one database do
-- at once is claimed there, by one of them.
--
-- Room: nginx.
-- @module longshore.nginx.turns
local blocks = require "longshore.nginx.blocks"
local errors = require "longshore.errors"
local inline = require "longshore.nginx.inline"
local metrics = require "longshore.nginx.metrics"
local pools = require "longshore.nginx.pools"
local snapshot = require "longshore.nginx.snapshot"

local _M = {}

-- Seconds between looks at the database; looks between counts of what it holds, and between lines that say the same.
local WATCH, COUNT, AGAIN = 5, 6, 60

-- A turn that must not overtake itself.
local function guarded(name, fn)
  local running = false
  return function(premature, ...)
    if premature or running then return end
    running = true
    local ok, err = pcall(fn, ...)
    running = false
    if not ok then ngx.log(ngx.ERR, name, ": ", errors.redact(tostring(err))) end
  end
end

local janitor_turn = guarded("janitor", function(state, how)
  how.run(state, "janitor", "janitor", state.path)
end)

-- Tells one listener what is due, for as long as there is more of it.
local function outbox_turn(target)
  return guarded("outbox", function(state, how)
    local report
    repeat
      if state.inline then
        report = inline.deliver(state, target, how.log_line)
      else
        report = how.run(state, "outbox", "deliver", state.path, target)
      end
    until not report or not report.more or ngx.worker.exiting()
  end)
end

local looks, before = 0, ""

-- The line that nginx.conf lacks for a pool that nobody may ask anything of for hours.
local function pool_missing(state, how)
  for _, kind in ipairs(pools.kinds) do
    local _, err = how.run(state, kind, "idle")
    if err and err.reason == "setup" then return err end
  end
end

-- Who probes is told what to do; what went wrong has paths and names in it and is said in the log: when it changes, and
-- now and then, as logs are thrown away.
local function advise(found, err)
  if err and err.reason == "setup" then return err.message end
  if found and found.ready then return "" end
  return "the broker cannot use its database; nginx's error log says why, in a line with \"readiness:\""
end

local watch_turn = guarded("watch", function(state, how)
  looks = looks + 1
  local found, err = how.run(state, "watch", "watch", state.path, looks % COUNT == 1)
  if looks == 1 then state.lacks = pool_missing(state, how) end
  err = err or state.lacks
  local dict, advice = ngx.shared[blocks.dictionary], advise(found, err)
  local why = advice == "" and "" or found and found.why or tostring(err)
  if why ~= before or why ~= "" and looks % AGAIN == 0 then
    ngx.log(why == "" and ngx.NOTICE or ngx.ERR, "readiness: ", why == "" and "the database answers again"
      or errors.one_line(why))
    before = why
  end
  dict:set("ready", advice)
  dict:set("ready_at", ngx.now())
  metrics.set("longshore_ready", "", why == "" and 1 or 0)
  for family, label in pairs { uploads = "state", cleanups = "kind", events = "target" } do
    if found and found[family] then metrics.replace("longshore_" .. family, label, found[family]) end
  end
end)

-- How many calls run and wait in this nginx worker. (None of one that ends: there may be fewer after it.)
local function measure(premature, state)
  for kind, one in pairs(state.gates) do
    for _, what in ipairs { "running", "waiting" } do
      metrics.set("longshore_calls", metrics.labels { "pool", kind, "worker", ngx.worker.id(), "state", what },
        premature and 0 or one[what])
    end
  end
end

-- Whom events are for, as they are called in the outbox.
local function listeners(policy)
  local targets = {}
  if policy.file then targets[1] = "policy" end
  for _, webhook in ipairs(policy.webhooks or {}) do targets[#targets + 1] = "webhook:" .. webhook.name end
  return targets
end

--- Starts the timers of this nginx worker.
-- @tparam table state of `longshore.nginx`
-- @tparam table how `run(state, pool, name, ...)` in a thread, `log_line`
function _M.start(state, how)
  local function every(seconds, turn)
    if seconds > 0 then assert(ngx.timer.every(seconds, turn, state, how)) end
  end
  metrics.gather()
  -- (When nginx stops, its timers are called a last time.)
  every(1, metrics.flush)
  if not state.inline then
    every(1, measure)
    every(1, snapshot.keep)
  end
  if ngx.worker.id() ~= 0 then return end
  for _, target in ipairs(listeners(state.config.policy)) do
    every(state.broker.outbox_seconds, outbox_turn(target))
  end
  if state.inline then return end
  assert(ngx.timer.at(0, watch_turn, state, how))
  every(WATCH, watch_turn)
  every(state.broker.janitor_seconds, janitor_turn)
end

return _M

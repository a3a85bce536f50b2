--- What runs in nginx's worker threads: one application per Lua VM, built at
-- the first call and kept.
--
-- Everything goes in and comes out as data. There is no ngx.log here, so what
-- is to be logged comes back with the answer; what is counted goes into the
-- shared dictionary at once.
--
-- Room: nginx.
-- @module longshore.nginx.worker
local calls = require "longshore.nginx.calls"
local core = require "longshore.core"
local errors = require "longshore.errors"
local shared = require "longshore.nginx.shared"
local metrics = require "longshore.nginx.metrics"
local near = require "longshore.nginx.near"
local recent = require "longshore.store.recent"
local service = require "longshore.service"
local snapshot = require "longshore.nginx.snapshot"
local together = require "longshore.nginx.together"

local _M = {}

-- Connections to object stores that one thread has at most, when it handles several requests.
local CONNECTIONS = 32
-- Seconds that requests which are handled one after the other may take before the rest goes elsewhere.
local PATIENCE = 0.02

-- How much of the memory in use has to be new before the collector begins (400: three quarters; a VM has some 10 MB
-- then), and how much faster than by default it is done: it hurries nobody here, and while it is under way each step
-- of it costs more than what it does.
local PAUSE, STEPS = 400, 1000

local apps, companies = {}, {}
local lines, request_id = {}, nil
-- Whether what is read now may be answered from the event loop next time, or be what was read a moment ago:
-- true; "token" for tokens only.
local keeping = false

local function keeps(what)
  return keeping == true or keeping == what
end

-- Plain data only: an error's metatable and a function would not travel.
local function log(level, message, fields)
  local plain = {}
  for key, value in pairs(fields or {}) do
    plain[key] = type(value) == "table" and tostring(value) or value
  end
  plain.request_id = plain.request_id or request_id
  lines[#lines + 1] = { level = level, message = message, fields = plain }
end

local function app_for(path)
  local app = apps[path]
  if app then return app end
  collectgarbage("setpause", PAUSE)
  collectgarbage("setstepmul", STEPS)
  local config, err = snapshot.read(path)
  if not config then return nil, err end
  local company = together.new()
  local parts = shared.parts(config, company.clock)
  parts.clock, parts.park, parts.connections = company.clock, company.park, CONNECTIONS
  parts.log, parts.request_id = log, function() return request_id end
  app, err = service.new(config, parts)
  if not app then return nil, err end
  -- Changes are told of by whatever makes them: the janitor as well.
  if config.broker.cache_seconds > 0 then
    recent.watch(app.store, { cache = shared.cache, seconds = config.broker.cache_seconds, clock = parts.clock,
      again = keeps, wanted = function(row, what) return keeps(what) and near.whose(app, row) end })
  end
  company:watch(app.store, app.broker.policy)
  apps[path], companies[path] = app, company
  return app
end

-- A body that nginx wrote to a file because it was not told to keep it in
-- memory (client_body_buffer_size) is read here, where waiting for the disk
-- harms nobody. Tunnels read their files themselves.
local function take_body(request, app)
  local file = request.body_file
  if not file or request.tunnel then return end
  local f = io.open(file.path, "rb")
  if not f then return end
  local limit = app.config.broker.max_body
  local text = f:read(limit + 1) or ""
  f:close()
  if #text <= limit then request.body, request.body_file = text, nil end
end

-- Who asked, no more of them than the host's logs have: what goes back is copied twice on its way.
local function shorten(about)
  local actor = about.actor
  about.actor = actor and { user = actor.user, organization = actor.organization, tenant = actor.tenant,
    token_id = actor.token_id, via = actor.via }
end

local function kept(ok, ...)
  keeping = false
  if not ok then error((...), 0) end
  return ...
end

-- Calls a function whose rows are kept; none are afterwards, whatever comes of it.
local function keep_during(what, fn, ...)
  keeping = what
  return kept(pcall(fn, ...))
end

-- Calls a method of the application; its result, and what was logged.
local function call(path, request, method)
  lines, request_id = {}, request.id
  local app, err = app_for(path)
  local response
  if app then
    take_body(request, app)
    response = keep_during(request.near == true, app[method], app, request)
    if response and response.about then shorten(response.about) end
  else
    err = errors.from(err)
    log("error", "the application could not be started: " .. tostring(err), { field = err.field })
    response = service.refuse(request.path, errors.new("unavailable", "the service is not ready"), request.id)
  end
  request_id = nil
  return response or false, lines
end

--- Answers a request.
-- @tparam string path of the configuration, of `longshore.nginx.snapshot`
-- @tparam table request
-- @treturn table response
-- @treturn table list of `{level=, message=, fields=}`
function _M.handle(path, request)
  return call(path, request, "handle")
end

-- What is said to the request that a bug stopped.
local function stopped(request, thrown)
  log("error", "a bug: " .. tostring(thrown), { request_id = request.id })
  return (service.refuse(request.path, errors.new("internal", "a bug"), request.id))
end

-- Answers requests one after the other, as many as there is time for; 0 for the others.
local function each(path, requests, seconds)
  local responses, all, began = {}, {}, core.monotonic()
  metrics.gather()
  for i, request in ipairs(requests) do
    if i > 1 and core.monotonic() - began > seconds then
      responses[i] = 0
    else
      responses[i] = call(path, request, "handle")
      for _, line in ipairs(lines) do all[#all + 1] = line end
    end
  end
  metrics.settle()
  return responses, all
end

--- Answers several requests that each take no time, unless the policy takes its own.
-- @tparam string path of the configuration
-- @tparam {table,...} requests
-- @treturn {table,...} responses in their order; 0 for one that was not begun, because those before took too long
-- @treturn table list of log lines
function _M.handle_each(path, requests)
  if requests[2] then metrics.count("longshore_together_total", "", #requests) end
  return each(path, requests, PATIENCE)
end

--- Answers several requests at the same time.
-- @tparam string path of the configuration file
-- @tparam {table,...} requests
-- @treturn {table,...} responses in their order; false for one whose store takes too long for company: it is to be
-- tried again alone; 0 for one that was not begun, because the policy takes too long
-- @treturn table list of log lines
function _M.handle_all(path, requests)
  if not requests[2] or not app_for(path) then return each(path, requests, math.huge) end
  lines = {}
  local app, functions, responses = app_for(path), {}, {}
  for i, request in ipairs(requests) do
    functions[i] = function()
      take_body(request, app)
      return app:handle(request)
    end
  end
  local company = companies[path]
  metrics.gather()
  local results = keep_during("token", company.run, company, functions, function(i) request_id = requests[i].id end)
  request_id = nil
  metrics.count("longshore_together_total", "", #requests)
  metrics.settle()
  for i, result in ipairs(results) do
    if result.untouched then
      responses[i] = 0
    else
      responses[i] = not result.cut and (result.value or stopped(requests[i], result.thrown))
    end
  end
  return responses, lines
end

--- Whether a request may send its body: false, or the answer that refuses it.
-- @tparam string path
-- @tparam table request without body
-- @treturn table|boolean
-- @treturn table list of log lines
function _M.admit(path, request)
  return call(path, request, "admit")
end

-- Errors travel as data, without what does not.
local function plain_error(err)
  local plain = {}
  for key, value in pairs(errors.from(err)) do
    if type(value) ~= "table" and type(value) ~= "function" then plain[key] = value end
  end
  return plain
end

--- Calls a method of the broker.
-- @tparam string path
-- @tparam string id of the request
-- @tparam string name
-- @tparam table actor
-- @tparam table arguments with `n`
-- @treturn table `first`, `second`: what the method returned; or `error`
-- @treturn table list of log lines
function _M.call(path, id, name, actor, arguments)
  lines, request_id = {}, id
  local app, err = app_for(path)
  local result = {}
  if app then
    local ok, first, second = pcall(calls.run, app.broker, name, actor, arguments)
    if not ok then
      log("error", "a bug: " .. tostring(first))
      result.error = { code = "internal", message = tostring(first) }
    elseif first == nil then
      result.error = plain_error(second)
    else
      result.first, result.second = first, second
    end
  else
    result.error = plain_error(err)
  end
  request_id = nil
  return result, lines
end

--- Runs the janitor once.
-- @tparam string path
-- @treturn table report, or false
-- @treturn table list of log lines
function _M.janitor(path)
  lines, request_id = {}, nil
  local app, err = app_for(path)
  local report
  if app then report, err = app:janitor() end
  if report then
    local busy, counts = false, {}
    for name, count in pairs(report) do
      if type(count) == "number" then
        counts[name] = count
        busy = busy or (count > 0 and name ~= "pending")
        if count > 0 and name ~= "pending" then
          metrics.count("longshore_janitor_total", metrics.labels { "what", name }, count)
        end
      end
    end
    log(busy and "info" or "debug", "janitor", counts)
  else
    log("error", "janitor: " .. tostring(errors.from(err)))
  end
  return report or false, lines
end

--- Tells one listener what is due: a webhook, or the policy what could not be told before.
-- @tparam string path
-- @tparam string target
-- @treturn table `more`: whether to call again at once; or false
-- @treturn table list of log lines
function _M.deliver(path, target)
  lines, request_id = {}, nil
  local app, err = app_for(path)
  local report
  if app then report, err = app.broker:deliver_due { target = target, seconds = 5 } end
  if not report then
    log("error", "outbox: " .. tostring(errors.from(err)))
    return false, lines
  end
  for _, name in ipairs { "told", "failed" } do
    if report[name] > 0 then
      metrics.count("longshore_deliveries_total", metrics.labels { "outcome", name }, report[name])
    end
  end
  return { more = report.more }, lines
end

-- A token that nobody has: asking for it asks the database.
local NOBODY = "tok_aaaaaaaaaaaaaaaa"

--- Does nothing: whether it can be called is the question.
-- @treturn boolean true
-- @treturn table no log lines
function _M.idle()
  return true, {}
end

--- Whether the database answers; with `counts`, what it holds as well.
-- @tparam string path
-- @tparam boolean counts
-- @treturn table `ready` (boolean), `why`, `uploads`, `cleanups` and `events` (state, kind or target to number)
-- @treturn table list of log lines
function _M.watch(path, counts)
  lines, request_id = {}, nil
  local app, err = app_for(path)
  if not app then return { ready = false, why = tostring(errors.from(err)) }, lines end
  local store = app.store
  local token, why = store:token(NOBODY)
  if not token and why.code ~= "not_found" then return { ready = false, why = tostring(why) }, lines end
  local report = { ready = true }
  if counts then
    report.uploads, report.cleanups, report.events = store:count_uploads(), store:count_cleanups(), store:count_events()
  end
  return report, lines
end

return _M

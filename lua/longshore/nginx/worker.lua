--- What runs in nginx's worker threads: one application per Lua VM, built at
-- the first call and kept.
--
-- Everything goes in and comes out as data. There is no ngx.log here, so what
-- is to be logged comes back with the answer.
--
-- Room: nginx.
-- @module longshore.nginx.worker
local errors = require "longshore.errors"
local service = require "longshore.service"

local _M = {}

local apps = {}
local lines, request_id = {}, nil

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
  local config, err = require("longshore.config").load(path)
  if not config then return nil, err end
  app, err = service.new(config, { log = log })
  if not app then return nil, err end
  apps[path] = app
  return app
end

-- Calls a method of the application; its result, and what was logged.
local function call(path, request, method)
  lines, request_id = {}, request.id
  local app, err = app_for(path)
  local response
  if app then
    response = app[method](app, request)
  else
    err = errors.from(err)
    log("error", "the application could not be started: " .. tostring(err), { field = err.field })
    response = service.refuse(request.path, errors.new("unavailable", "the service is not ready"), request.id)
  end
  return response or false, lines
end

--- Answers a request.
-- @tparam string path of the configuration file
-- @tparam table request
-- @treturn table response
-- @treturn table list of `{level=, message=, fields=}`
function _M.handle(path, request)
  return call(path, request, "handle")
end

--- Whether a request may send its body: false, or the answer that refuses it.
-- @tparam string path
-- @tparam table request without body
-- @treturn table|boolean
-- @treturn table list of log lines
function _M.admit(path, request)
  return call(path, request, "admit")
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
      end
    end
    log(busy and "info" or "debug", "janitor", counts)
  else
    log("error", "janitor: " .. tostring(errors.from(err)))
  end
  return report or false, lines
end

return _M

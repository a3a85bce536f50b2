--- The broker in the handler's own coroutine, for hosts whose store and transport
-- do not block: a database client and an HTTP client over nginx's cosockets.
--
--     init_by_lua_block {
--       require("longshore.nginx").setup {
--         config = "/etc/longshore.lua",
--         inline = function(config)
--           return { store = my_store.open(config.store), transport = { nonblocking = true, request = my_http } }
--         end,
--       }
--     }
--
-- Both must say `nonblocking = true`: one that blocks would hold up every request
-- of the nginx worker. `request` is a transport (see longshore.http.transport),
-- the store has the operations of `longshore.store`. Events are told from a timer of
-- the first nginx worker. There is no janitor here: run `longshore janitor` from a timer
-- of the system, or your own.
--
-- Room: nginx.
-- @module longshore.nginx.inline
local calls = require "longshore.nginx.calls"
local errors = require "longshore.errors"
local requests = require "longshore.http.request"
local service = require "longshore.service"
local shared = require "longshore.nginx.shared"

local _M = {}

-- Waits without blocking.
local clock = {
  now = function()
    ngx.update_time()
    return ngx.now()
  end,
  sleep = function(seconds) ngx.sleep(seconds) end,
}

local function check(name, part)
  if type(part) == "table" and part.nonblocking == true then return part end
  error(("inline: the %s must declare itself non-blocking (nonblocking = true); one that blocks belongs in worker "
    .. "threads, the default mode"):format(name), 0)
end

local function open(state, log_line)
  local given = state.inline(state.config)
  if type(given) ~= "table" then error("inline: a table { store =, transport = } expected", 0) end
  local parts = shared.parts(state.config, clock)
  parts.store, parts.clock = check("store", given.store), clock
  local transport = check("transport", given.transport)
  parts.transport = function(request) return transport.request(request) end
  parts.request_id = function() return ngx.ctx.longshore_request end
  parts.log = function(level, message, fields)
    fields = fields or {}
    local plain = { request_id = ngx.ctx.longshore_request }
    for key, value in pairs(fields) do plain[key] = value end
    log_line { level = level, message = message, fields = plain }
  end
  return service.new(state.config, parts)
end

local function app_for(state, log_line)
  if not state.app then
    local app, err = open(state, log_line)
    if not app then return nil, errors.from(err) end
    state.app = app
  end
  return state.app
end

--- Calls a method of the broker in this coroutine.
-- @tparam table state of `longshore.nginx`
-- @tparam string name
-- @tparam table actor
-- @tparam function log_line
-- @param ... the method's arguments after the actor
-- @return what it returns
function _M.call(state, name, actor, log_line, ...)
  local app, err = app_for(state, log_line)
  if not app then return nil, err end
  local ctx = ngx.ctx
  ctx.longshore_request = ctx.longshore_request or requests.new_id("req_")
  local ok, first, second = pcall(calls.run, app.broker, name, actor, { n = select("#", ...), ... })
  if ok then return first, second end
  log_line { level = "error", message = "a bug: " .. tostring(first), fields = { request_id = ctx.longshore_request } }
  return errors.fail("internal", tostring(first))
end

--- Tells the events that are due, in this coroutine.
-- @tparam table state of `longshore.nginx`
-- @tparam string target
-- @tparam function log_line
-- @treturn table|nil report of `broker:deliver_due`
-- @treturn table err
function _M.deliver(state, target, log_line)
  local app, err = app_for(state, log_line)
  if not app then return nil, err end
  return app.broker:deliver_due { target = target, seconds = 5 }
end

--- What can be said of a request before its body has been read.
-- @tparam table state of `longshore.nginx`
-- @tparam table request without body
-- @tparam function log_line
-- @treturn table|nil response; nil alone: read the body and call `handle`
-- @treturn table err
function _M.admit(state, request, log_line)
  local app, err = app_for(state, log_line)
  if not app then return nil, err end
  ngx.ctx.longshore_request = request.id
  return app:admit(request)
end

--- Answers a request in this coroutine.
-- @tparam table state of `longshore.nginx`
-- @tparam table request
-- @tparam function log_line
-- @treturn table response
-- @treturn[2] nil
-- @treturn[2] table err
function _M.handle(state, request, log_line)
  local app, err = app_for(state, log_line)
  if not app then return nil, err end
  ngx.ctx.longshore_request = request.id
  return app:handle(request)
end

return _M

--- The broker inside nginx: collects a request, hands it to a worker thread,
-- sends the answer. The event loop never waits for a database, a store or a
-- file.
--
--     init_by_lua_block        { require("longshore.nginx").setup { config = "/etc/longshore.lua" } }
--     init_worker_by_lua_block { require("longshore.nginx").start() }
--     location / { content_by_lua_block { require("longshore.nginx").handle() } }
--
-- As many calls run at once as there are threads; some more wait in a queue,
-- for some time; who comes then is told to come again (503, Retry-After).
-- `longshore.nginx.conf_broker` writes the rest of the configuration.
--
-- Room: nginx.
-- @module longshore.nginx
local cors = require "longshore.http.cors"
local errors = require "longshore.errors"
local gate = require "longshore.nginx.gate"
local registry = require "longshore.service.registry"
local requests = require "longshore.http.request"
local router = require "longshore.http.router"
local service = require "longshore.service"
local pools = require "longshore.nginx.pools"

local _M = {}

local WORKER = "longshore.nginx.worker"

local state

--- Prepares the handlers; call it in init_by_lua.
-- @tparam table options `config`: the path of the configuration file
function _M.setup(options)
  local config, err = require("longshore.config").load(options.config)
  if not config then error(tostring(err), 0) end
  -- What the worker threads will need: better missed now than at the first request.
  require "longshore.broker"
  require "longshore.broker.tokens"
  require "longshore.http.transport"
  require "longshore.provider.s3"
  require "longshore.store"
  local tunnels = {}
  for _, route in ipairs(registry.routes(config.services)) do
    if route.tunnel then tunnels[#tunnels + 1] = route end
  end
  state = {
    path = options.config, broker = config.broker, tunnels = router.new(tunnels), cors = cors.new(config.cors),
  }
end

local function per_worker()
  if not state then error("call require('longshore.nginx').setup{config=...} in init_by_lua_block", 0) end
  if not state.gates then
    state.gates = {}
    for kind, pool in pairs(pools.of(state.broker)) do
      state.gates[kind] = gate.new { pool = pool.name, permits = pool.vms, queue = state.broker.queue,
        seconds = state.broker.queue_seconds }
    end
  end
  return state
end

-- nginx's own start and stop are notices as well.
local levels = { debug = ngx.INFO, info = ngx.NOTICE, warn = ngx.WARN, error = ngx.ERR }

-- One line: the message, then the fields in a fixed order.
local function log_line(line)
  local names, words = {}, { line.message }
  for name in pairs(line.fields) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    words[#words + 1] = ("%s=%s"):format(name, tostring(line.fields[name]))
  end
  ngx.log(levels[line.level] or ngx.INFO, (errors.redact(table.concat(words, " ")):gsub("%c", " ")))
end

-- Calls the worker module in a thread: its result (false for none), or nil and
-- an error. What it logged is logged.
local function run(self, kind, name, ...)
  local result, lines = self.gates[kind]:run(WORKER, name, ...)
  if result ~= nil then
    for _, line in ipairs(lines) do log_line(line) end
    return result
  end
  if lines.code == "busy" then return nil, lines end
  ngx.log(ngx.ERR, "worker thread: ", (errors.redact(lines.message):gsub("%c", " ")))
  return errors.fail("internal", "a worker thread failed")
end

local function collect()
  local path, query = ngx.var.request_uri:match("^([^?]*)%??(.*)$")
  local headers = {}
  for name, value in pairs(ngx.req.get_headers(256)) do
    headers[name] = type(value) == "table" and table.concat(value, ", ") or value
  end
  return {
    method = ngx.req.get_method(), path = path, query_string = query, headers = headers,
    remote_addr = ngx.var.remote_addr, scheme = ngx.var.scheme, host = ngx.var.http_host,
    id = requests.new_id("req_"),
  }
end

local function send(response, head)
  ngx.status = response.status
  for name, value in pairs(response.headers) do ngx.header[name] = value end
  local text = response.body or ""
  if not head then ngx.header["content-length"] = #text end
  -- `print` of an empty string would leave the status to nginx's own pages.
  ngx.send_headers()
  if not head and text ~= "" then ngx.print(text) end
  return ngx.eof()
end

local function refuse(request, err)
  local response, id = service.refuse(request.path, err, request.id)
  state.cors:decorate(request, response.headers)
  log_line { level = response.status >= 500 and "warn" or "info", message = tostring(err),
    fields = { error_id = id, request_id = request.id, status = response.status, path = request.path } }
  return response
end

-- The body of a tunnel lies in a file, every other one in memory.
local function read_body(request)
  ngx.req.read_body()
  request.body = ngx.req.get_body_data()
  if request.body then return end
  local path = ngx.req.get_body_file()
  if not path then return end
  request.body_file = { path = path, length = tonumber(ngx.var.content_length) }
end

local function answer(self, request)
  local err
  if self.tunnels:match(request.method, request.path) then
    local refusal
    refusal, err = run(self, "requests", "admit", self.path, request)
    if refusal or err then return refusal, err end
  end
  read_body(request)
  return run(self, "requests", "handle", self.path, request)
end

--- Handles the current request; the content handler.
-- @tparam[opt] table options `actor`: who asks, where the host has authenticated the request itself
function _M.handle(options)
  local self = per_worker()
  local request = collect()
  request.actor = options and options.actor
  local response, err = answer(self, request)
  if not response then response = refuse(request, err or errors.new("internal", "no answer")) end
  return send(response, request.method == "HEAD")
end

-- What nginx refuses by itself, by status.
local refusals = {
  [400] = { "invalid", "the request is malformed", { reason = "format" } },
  [408] = { "unsupported", "the request took too long to arrive", { status = 408 } },
  [413] = { "too_large", "the body is larger than is allowed here", { reason = "body" } },
  [414] = { "unsupported", "the path or the query is too long", { status = 414 } },
  [494] = { "invalid", "the headers are too large", { reason = "length" } },
  [497] = { "invalid", "this port speaks https only", { reason = "format" } },
  [501] = { "unsupported", "this transfer encoding is not supported", { status = 501 } },
}

--- Gives nginx's own refusals the shape of the service; the handler of the
-- location that `error_page` names.
-- @tparam[opt] number status where nginx says another one
function _M.refused(status)
  local row = refusals[status or ngx.status]
  if not row then
    row = ngx.status >= 500 and { "internal", "nginx failed" }
      or { "unsupported", "the request is not possible here", { status = ngx.status } }
  end
  local err = errors.new(row[1], row[2], row[3])
  local request = {
    path = (ngx.var.request_uri or "/"):match("^[^?]*"), id = requests.new_id("req_"),
    headers = { origin = ngx.var.http_origin },
  }
  return send(refuse(request, err), ngx.req.get_method() == "HEAD")
end

local function janitor_turn(premature, self)
  if premature or self.cleaning then return end
  self.cleaning = true
  local ok, err = pcall(run, self, "janitor", "janitor", self.path)
  self.cleaning = false
  if not ok then ngx.log(ngx.ERR, "janitor: ", errors.redact(tostring(err))) end
end

--- Starts what runs by itself: the janitor, in one of the workers. Call it in
-- init_worker_by_lua.
function _M.start()
  local self = per_worker()
  if ngx.worker.id() ~= 0 or self.broker.janitor_seconds == 0 then return end
  assert(ngx.timer.every(self.broker.janitor_seconds, janitor_turn, self))
end

return _M

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
-- `longshore.nginx.blocks` has the other lines that nginx.conf needs, and
-- `longshore nginx-conf` prints them; an answer names the one that is missing.
--
-- Mounted under a prefix, with some of the services, or with the host's own
-- authentication:
--
--     location ^~ /uploads/ { content_by_lua_block { require("longshore.nginx").handle {
--       prefix = "/uploads", services = { "newton" }, actor = { user = "ann", organization = "acme" },
--     } } }
--
-- Two modes. `threads`, the default: what is said above. `inline`: the call runs
-- in the handler's own coroutine, with a store and a transport of yours that
-- do not block (see `setup`).
--
-- Room: nginx.
-- @module longshore.nginx
local auth = require "longshore.http.auth"
local batches = require "longshore.nginx.batches"
local blocks = require "longshore.nginx.blocks"
local core = require "longshore.core"
local cors = require "longshore.http.cors"
local errors = require "longshore.errors"
local gate = require "longshore.nginx.gate"
local inline = require "longshore.nginx.inline"
local metrics = require "longshore.nginx.metrics"
local near = require "longshore.nginx.near"
local registry = require "longshore.service.registry"
local requests = require "longshore.http.request"
local router = require "longshore.http.router"
local service = require "longshore.service"
local pools = require "longshore.nginx.pools"
local snapshot = require "longshore.nginx.snapshot"
local turns = require "longshore.nginx.turns"

local _M = {}

local WORKER = "longshore.nginx.worker"
-- How old the last look at the database may be (seconds).
local STALE = 20

local state

-- What the worker threads will need: better missed now than at the first request.
local function load_all()
  require "longshore.broker"
  require "longshore.broker.tokens"
  require "longshore.http.transport"
  require "longshore.provider.s3"
  require "longshore.store"
end

--- Prepares the handlers; call it in init_by_lua.
-- @tparam table options `config`: the path of the configuration file; `inline`: a function, called once in each nginx
-- worker with the configuration, that returns `{ store = ..., transport = ... }`; store and transport say
-- `nonblocking = true` (a transport is then a table `{ nonblocking = true, request = function }`)
function _M.setup(options)
  local config, err = require("longshore.config").load(options.config)
  if not config then error(tostring(err), 0) end
  if options.inline == nil then load_all() end
  state = {
    path = options.inline == nil and snapshot.take(config) or nil, config = config, broker = config.broker,
    inline = options.inline, cors = cors.new(config.cors), mounts = {},
  }
end

-- The line that nginx.conf lacks, or nil.
local function missing()
  if not state then return blocks.init_line(), "http context" end
  for i, name in ipairs(blocks.dictionaries) do
    if not ngx.shared[name] then return blocks.dictionary_lines()[i], "http context" end
  end
  if not state.started then return blocks.init_worker_line(), "http context" end
end

local function lacking()
  local line, where = missing()
  if not line then return nil end
  return errors.new("unavailable", ("nginx.conf lacks a line: add `%s` to its %s"):format(line, where),
    { reason = "setup", retryable = false })
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
  ngx.log(levels[line.level] or ngx.INFO, errors.one_line(table.concat(words, " ")))
end

-- What a call in a thread answers: its result (false for none), or nil and an error. What it logged is logged.
local function settle(result, lines)
  if result ~= nil then
    for _, line in ipairs(lines) do log_line(line) end
    return result
  end
  if lines.code == "busy" then
    metrics.count("longshore_refused_total", "")
    return nil, lines
  end
  ngx.log(ngx.ERR, "worker thread: ", errors.one_line(lines.message))
  if lines.reason == "setup" then return nil, lines end
  return errors.fail("internal", "a worker thread failed")
end

-- Calls the worker module in a thread.
local function run(self, kind, name, ...)
  return settle(self.gates[kind]:run(WORKER, name, ...))
end

-- The calls that run somewhere else: in threads, or, inline, here.
local function open_gates(self)
  self.gates = {}
  for kind, pool in pairs(pools.of(self.broker)) do
    self.gates[kind] = gate.new { pool = pool.name, permits = pool.vms, queue = self.broker.queue,
      seconds = self.broker.queue_seconds,
      advice = { pool = blocks.pool_line(pool), vms = blocks.vm_line(self.broker) } }
  end
  local requests_gate = self.gates.requests
  local function one(request) return run(self, "requests", "handle", self.path, request) end
  local function all(name)
    return function(make)
      return settle(requests_gate:run_with(WORKER, name, function() return self.path, make() end, true))
    end
  end
  self.batches = batches.new { gate = requests_gate, one = one, all = all "handle_all" }
  -- Parts that the event loop does not sign: such a request takes the thread less time than the way there, and one
  -- thread has done some while the event loop speaks with the others. Where a policy takes longer, more threads do.
  self.signing = batches.new { gate = requests_gate, one = one, all = all "handle_each", at_once = 1, haste = 0.008,
    apart = 0.5 }
  function requests_gate.freed()
    self.batches:go_on()
    self.signing:go_on()
  end
end

-- What a location mounts: which services, below which prefix.
local function mount_for(self, options)
  local prefix, names = options.prefix or "", options.services
  local key = names and prefix .. "\n" .. table.concat(names, "\n") or prefix
  local mount = self.mounts[key]
  if not mount then
    local routes, all = {}, nil
    local services = blocks.services(self.config, names)
    for _, route in ipairs(registry.routes(services)) do routes[#routes + 1] = route end
    if not names then all = true end
    mount = { prefix = prefix, routes = router.new(routes), all = all }
    self.mounts[key] = mount
  end
  return mount
end

local function collect(prefix)
  local path, query = ngx.var.request_uri:match("^([^?]*)%??(.*)$")
  if prefix ~= "" and path:sub(1, #prefix) == prefix then path = path:sub(#prefix + 1) end
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

local function text(value)
  return value and tostring(value) or ""
end

-- The variables of the structured logs.
local function fill(vars, about, operation)
  local actor = about.actor or {}
  vars.longshore_operation = operation
  vars.longshore_user, vars.longshore_organization = text(actor.user), text(actor.organization)
  vars.longshore_tenant, vars.longshore_token = text(actor.tenant), text(actor.token_id or actor.via)
  if about.changes then
    vars.longshore_audit = "1"
    local target = {}
    -- (Encoded: what a client has named has no say in how the line reads.)
    for name, value in pairs(about.params or {}) do target[#target + 1] = name .. "=" .. core.uri_encode(value) end
    table.sort(target)
    vars.longshore_target = table.concat(target, " "):sub(1, 512)
  end
end

-- Tells the logs and the counters.
local function report(response)
  local about, vars = response.about or {}, ngx.var
  local operation = about.operation or "none"
  ngx.update_time()
  metrics.request(operation, response.status, ngx.now() - ngx.req.start_time(), tonumber(vars.request_length) or 0,
    #(response.body or ""))
  if about.code then metrics.count("longshore_errors_total", metrics.label("code", about.code)) end
  -- A variable that no log of this nginx.conf uses cannot be assigned.
  if state and not state.unlogged and not pcall(fill, vars, about, operation) then state.unlogged = true end
end

local function send(response, head)
  ngx.status = response.status
  for name, value in pairs(response.headers) do ngx.header[name] = value end
  local body = response.body or ""
  if not head then ngx.header["content-length"] = #body end
  -- `print` of an empty string would leave the status to nginx's own pages.
  ngx.send_headers()
  if not head and body ~= "" then ngx.print(body) end
  return ngx.eof()
end

local function refuse(request, err)
  local response, id = service.refuse(request.path, err, request.id)
  if state then state.cors:decorate(request, response.headers) end
  log_line { level = response.status >= 500 and "warn" or "info", message = tostring(err),
    fields = { error_id = id, request_id = request.id, status = response.status, path = request.path } }
  response.about = { operation = "none", code = err.code }
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

-- nginx takes the memory for a body before the first byte of it has come: for
-- more than this only from who may send it.
local LARGE = 65536
-- Bytes of a body that asks for no more parts than may be signed with others' in one turn.
local FEW = 512

local function is_large()
  local length = ngx.var.http_content_length
  if length then return (tonumber(length) or math.huge) > LARGE end
  -- (HTTP/2 needs to say neither.)
  return ngx.var.http_transfer_encoding ~= nil or ngx.req.http_version() >= 2
end

-- Of other methods a body means nothing, and nginx throws it away.
local WITH_BODY = { POST = true, PUT = true, PATCH = true }

local function answer(self, mount, request)
  local route, params = mount.routes:match(request.method, request.path)
  if not mount.all and not route and params.reason == "path" then return nil, params end
  if route and route.tunnel then
    request.tunnel = true
    if self.inline then return errors.fail("unsupported", "bodies cannot pass through an inline broker") end
  end
  local has_body = WITH_BODY[request.method]
  if has_body and (request.tunnel or is_large()) then
    local refusal, err
    if self.inline then
      refusal, err = inline.admit(self, request, log_line)
    else
      refusal, err = run(self, "requests", "admit", self.path, request)
    end
    if refusal or err then return refusal, err end
    request.admitted = true
  end
  if has_body then read_body(request) end
  if self.inline then return inline.handle(self, request, log_line) end
  if near.takes(self, route, request) then
    local response = near.handle(self, request, params.upload_id, log_line)
    if response then return response end
    request.near = true
    if #request.body <= FEW then return self.signing:handle(request) end
  end
  -- (Many in one thread's memory: small ones.)
  if route and route.together and #(request.body or "") <= LARGE and not request.body_file then
    return self.batches:handle(request)
  end
  return run(self, "requests", "handle", self.path, request)
end

-- Who waits for a word before sending a body that nobody wants: nginx would say 100 to throw it away.
local function keep_body_back(request)
  if not request.headers.expect or request.body or request.body_file then return end
  ngx.req.clear_header("Expect")
end

--- Handles the current request; the content handler.
-- @tparam[opt] table options `prefix`: the beginning of the path that is not the services' ("/uploads"); `services`:
-- names of those to answer here (default: all that are enabled); `actor`: who asks, where the host has authenticated
-- the request itself: `{ user =, organization =, tenant =, rights = { "read", "upload", "delete" } }`
function _M.handle(options)
  options = options or {}
  local request = collect(options.prefix or "")
  local err, response = lacking(), nil
  if not err then
    if options.actor then request.actor = auth.host_actor(options.actor) end
    response, err = answer(state, mount_for(state, options), request)
  end
  if not response then response = refuse(request, err or errors.new("internal", "no answer")) end
  keep_body_back(request)
  report(response)
  return send(response, request.method == "HEAD")
end

--- Calls a method of the broker (see `longshore.broker`) from a handler of your
-- own, without blocking: in a worker thread, or, inline, here.
-- @tparam string name initiate, part_urls, checkpoint, complete, abort, upload, file, files, file_by_name, usage,
-- download or delete_file
-- @tparam table actor who asks, as of `handle`
-- @param ... what the method takes after the actor; plain data
-- @return what the method returns
-- @return[2] nil
-- @treturn[2] table err of longshore.errors
function _M.call(name, actor, ...)
  local err = lacking()
  if err then return nil, err end
  actor = auth.host_actor(actor)
  if state.inline then return inline.call(state, name, actor, log_line, ...) end
  local result, why = run(state, "requests", "call", state.path, requests.new_id("req_"), name, actor,
    { n = select("#", ...), ... })
  if not result then return nil, why end
  if result.error then return nil, errors.restore(result.error) end
  return result.first, result.second
end

-- What nginx refuses by itself, by status.
local refusals = {
  [400] = { "invalid", "the request is malformed", { reason = "format" } },
  [403] = { "forbidden", "this address may not look here" },
  [413] = { "too_large", "the body is larger than is allowed here", { reason = "body" } },
  [414] = { "unsupported", "the path or the query is too long", { status = 414 } },
  [429] = { "rate_limited", "too many requests", { retry_after = 1 } },
  [494] = { "invalid", "the headers are too large", { reason = "length" } },
  [497] = { "invalid", "this port speaks https only", { reason = "format" } },
  [501] = { "unsupported", "this transfer encoding is not supported", { status = 501 } },
  [503] = { "busy", "too many requests at once" },
}

--- Gives nginx's own refusals the shape of the service; the handler of the
-- location that `error_page` names.
-- @tparam[opt] number status where nginx says another one
-- @tparam[opt] string prefix as of `handle`
function _M.refused(status, prefix)
  local row = refusals[status or ngx.status]
  if not row then
    row = ngx.status >= 500 and { "internal", "nginx failed" }
      or { "unsupported", "the request is not possible here", { status = ngx.status } }
  end
  local err = errors.new(row[1], row[2], row[3])
  local request = {
    path = (ngx.var.request_uri or "/"):match("^[^?]*"):sub(#(prefix or "") + 1), id = requests.new_id("req_"),
    headers = { origin = ngx.var.http_origin },
  }
  local response = refuse(request, err)
  report(response)
  return send(response, ngx.req.get_method() == "HEAD")
end

local function plain(status, message)
  return send({ status = status, body = message .. "\n",
    headers = { ["content-type"] = "text/plain", ["cache-control"] = "no-store" } }, ngx.req.get_method() == "HEAD")
end

--- Whether this nginx worker answers at all: 200, unless nginx.conf lacks a line.
-- Asks nobody, so that a stalled database does not have nginx restarted.
function _M.healthz()
  local err = lacking()
  if err then return plain(503, err.message) end
  return plain(200, "ok")
end

--- Whether requests can be served: 200 when the database answered the last look
-- at it, 503 with what to do when it did not or has not come back. The reason is in nginx's error log.
function _M.readyz()
  local err = lacking()
  if err then return plain(503, err.message) end
  if state.inline then return plain(200, "ready") end
  local dict = ngx.shared[blocks.dictionary]
  local why, at = dict:get("ready"), dict:get("ready_at")
  if not at then return plain(503, "the database was not reached yet") end
  if ngx.now() - at > STALE then
    return plain(503, ("the database has not answered for %d s"):format(ngx.now() - at))
  end
  if why ~= "" then return plain(503, why) end
  return plain(200, "ready")
end

--- The counters, as Prometheus reads them.
function _M.metrics()
  local err = lacking()
  if err then return plain(503, err.message) end
  return send({ status = 200, body = metrics.render(),
    headers = { ["content-type"] = "text/plain; version=0.0.4; charset=utf-8" } }, ngx.req.get_method() == "HEAD")
end

--- Starts what runs by itself (see longshore.nginx.turns). Call it in init_worker_by_lua.
function _M.start()
  if not state then return end
  state.started = true
  if not state.inline then open_gates(state) end
  if not ngx.shared[blocks.dictionary] then return end
  turns.start(state, { run = run, log_line = log_line })
end

return _M

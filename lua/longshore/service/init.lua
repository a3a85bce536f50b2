--- The application: requests in, responses out, whoever hosts it.
--
--     local app = require("longshore.service").new(config)
--     local response = app:handle{ method = "POST", target = "/v0.5/files/uploads/initiate",
--       headers = { authorization = "Bearer ls_..." }, body = '{"filename":...}' }
--     app:close()
--
-- It builds store, providers, policy and broker from a configuration, mounts
-- the enabled services, and runs each request through the same steps: route,
-- CORS, authentication, rights, body, fields, handler. It works in a plain
-- script and in nginx's worker threads; it keeps no request's state.
--
-- Room: service.
-- @module longshore.service
local auth = require "longshore.http.auth"
local body = require "longshore.service.body"
local core = require "longshore.core"
local cors = require "longshore.http.cors"
local errors = require "longshore.errors"
local limit = require "longshore.http.limit"
local openapi = require "longshore.service.openapi"
local provider_room = require "longshore.service.providers"
local registry = require "longshore.service.registry"
local requests = require "longshore.http.request"
local responses = require "longshore.http.response"
local router = require "longshore.http.router"
local status = require "longshore.service.status"
local watch = require "longshore.service.watch"

local _M = {}
local methods = {}
local mt = { __index = methods, __name = "longshore.service" }

local function build_providers(config, make)
  local providers, err = provider_room.build(config, make)
  if not providers then return nil, err end
  local ok
  ok, err = registry.check(config.services, providers)
  if not ok then return nil, err end
  return providers
end

local function build_policy(config, log, clock, keep)
  local options = { log = log, clock = clock, keep = keep }
  for key, value in pairs(config.policy) do options[key] = value end
  local policy, err = require("longshore.policy").new(options)
  if policy then return policy end
  return errors.fail(err.code, "policy." .. err.message, { field = "policy." .. tostring(err.field) })
end

--- Checks what of a configuration only its users can: buckets and policy. No
-- connection is made.
-- @tparam table config
-- @treturn boolean|nil
-- @treturn table err names the key
function _M.check(config)
  local providers, err = build_providers(config, provider_room.maker {})
  if not providers then return nil, err end
  local policy
  policy, err = build_policy(config)
  if not policy then return nil, err end
  if config.auth.jwt then
    local jwt
    jwt, err = require("longshore.http.jwt").new(config.auth.jwt, { clock = require("longshore.clock").system })
    if not jwt then return nil, err end
  end
  return true
end

-- Everything that a broker needs, made from the configuration unless given.
local function build(config, parts)
  local clock = parts.clock
  local store, providers, err = parts.store, parts.providers
  if not store then
    store, err = require("longshore.store").open(config.store)
    if not store then return nil, err end
  end
  if not providers then
    providers, err = build_providers(config, parts.make_provider)
    if not providers then return nil, err end
  end
  local policy = parts.policy
  if not policy then
    policy, err = build_policy(config, parts.log, clock,
      config.policy.file and config.data .. "/policy-in-use" or nil)
    if not policy then return nil, err end
  end
  local transport = parts.transport
  if not transport and (policy.fetch and policy.fetch[1] or policy.webhooks and policy.webhooks[1]) then
    transport = require("longshore.http.transport").new { max_response = 1024 * 1024 }
  end
  local broker = require("longshore.broker").new {
    transport = transport, store = store, providers = providers, policy = watch.policy(policy, parts), clock = clock,
    log = parts.log,
    options = config.broker_options,
  }
  local tokens = parts.tokens or require("longshore.broker.tokens").new { store = store, clock = clock }
  if config.auth and config.auth.jwt and not parts.tokens then
    local jwt
    jwt, err = require("longshore.http.jwt").new(config.auth.jwt, {
      clock = clock, cache = parts.cache, log = parts.log,
      transport = parts.transport or require("longshore.http.transport").new { ca_file = config.auth.jwt.ca_file },
    })
    if not jwt then return nil, err end
    tokens = auth.either(jwt, tokens)
  end
  return { store = store, broker = broker, tokens = tokens }
end

-- The services' routes, and the document that describes them.
local function build_router(config)
  local routes = registry.routes(config.services)
  local all = router.new(routes)
  all:add(openapi.route(routes, { url = config.broker.public_url }))
  return all
end

--- Builds an application.
-- @tparam table config of longshore.config
-- @tparam[opt] table parts what to use instead of building it: `broker` and `tokens`, or `store`, `providers`,
-- `policy`, `clock`, `transport` (for all buckets), `make_provider(options)`; `log` is
-- `function(level, message, fields)`, `observe` (see
-- longshore.service.watch), `request_id` a function that names the request being handled, `limit(actor)` a limiter of
-- longshore.http.limit (default: one of this process), `cache` keeps what was fetched (see longshore.http.jwks)
-- and signed URLs
-- @treturn table app
-- @treturn[2] nil
-- @treturn[2] table err
function _M.new(config, parts)
  local given = {}
  for name, part in pairs(parts or {}) do given[name] = part end
  parts = given
  parts.clock = parts.clock or (parts.broker and parts.broker.clock) or require("longshore.clock").system
  parts.make_provider = parts.make_provider or provider_room.maker(parts)
  local built = parts
  if not parts.broker then
    local err
    built, err = build(config, parts)
    if not built then return nil, err end
  end
  local states, err = registry.start(config, { broker = built.broker, make_provider = parts.make_provider,
    cache = parts.cache, log = parts.log or function() end })
  if not states then return nil, err end
  return setmetatable({
    config = config, states = states,
    broker = built.broker, tokens = built.tokens, store = built.store,
    router = build_router(config),
    cors = cors.new(config.cors),
    authenticate = auth.bearer(built.tokens),
    limit = parts.limit or limit.new { rate = config.broker and config.broker.rate, clock = parts.clock },
    verify = function(token) return built.tokens:verify(token) end,
    log = parts.log or function() end,
  }, mt)
end

local function new_error_id()
  local id = core.random(16):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
  return ("err-%s-%s-%s-%s-%s"):format(id:sub(1, 8), id:sub(9, 12), id:sub(13, 16), id:sub(17, 20), id:sub(21))
end

--- Renders an error in the shape of the service that a path belongs to, without
-- an application: for what a host refuses by itself.
-- @tparam string path raw
-- @tparam table err
-- @tparam[opt] string request_id
-- @tparam[opt] table services `config.services`
-- @treturn table response
-- @treturn string the id of the error, as the client sees it
function _M.refuse(path, err, request_id, services)
  local id = new_error_id()
  local owner = registry.of_path(path)
  local response = owner.render_error(err, { error = id, request = request_id }, services and services[owner.name])
  for name, value in pairs(status.headers(err)) do response.headers[name] = value end
  response.headers["x-request-id"] = request_id
  return response, id
end

local function log_error(self, request, response, err, id)
  local fields = {
    error_id = id, request_id = request.id, method = request.method, path = request.path,
    status = response.status, code = err.code, field = err.field,
  }
  if err.cause then fields.cause = tostring(err.cause) end
  if err.store_code then fields.store_code = err.store_code end
  if err.trace then fields.trace = errors.redact(err.trace) end
  self.log(response.status >= 500 and "error" or "info", tostring(err), fields)
end

-- Who is asking: the token's actor, as the policy takes it, with where the request came from.
local function identify(self, request, route)
  local actor, err
  if route.service.authenticate then
    actor, err = route.service.authenticate(request, self.verify, route)
  else
    actor, err = self.authenticate(request, route.service.token)
  end
  if not actor and err.code ~= "unauthenticated" then return nil, err end
  local client = { address = request.remote_addr, agent = request.headers["user-agent"] }
  local policy = self.broker.policy
  if policy and policy.has and policy:has("authenticate") then
    local decision, why = policy:decide("authenticate", { actor = actor, service = route.service.name,
      method = request.method, path = request.path, client = client, token = not actor and err.reason ~= "missing" })
    if not decision then return nil, why end
    actor = decision.actor
  end
  if not actor then return nil, err end
  local known = { client = client }
  for field, value in pairs(actor) do known[field] = value end
  return known
end

-- The steps that need no body. Returns the context, or nil and an error.
local function open(self, request)
  local route, params = self.router:match(request.method, request.path)
  if not route then return nil, params end
  request.about = { operation = route.name, params = params, changes = route.auth and route.right ~= "read" or nil }
  local ctx = { request = request, route = route, params = params, settings = route.settings,
    broker = self.broker, log = self.log, data = self.config.data, state = self.states[route.service.name] }
  if route.auth then
    local actor, err = identify(self, request, route)
    if not actor then return nil, err end
    ctx.actor = actor
    request.about.actor = actor
    local allowed = true
    -- A request that was admitted first has been counted then.
    if not request.admitted then
      allowed, err = self.limit(actor)
      request.admitted = allowed
    end
    if allowed then allowed, err = auth.allow(actor, route.right) end
    if not allowed then return nil, err end
    if route.service.admit then
      allowed, err = route.service.admit(ctx)
      if not allowed then return nil, err end
    end
  end
  local declared = tonumber(request.headers["content-length"] or "")
  if route.max_body and declared and declared > route.max_body then
    return nil, body.too_large(route)
  end
  return ctx
end

local function options_answer(self, request)
  local allowed = self.router:allowed(request.path)
  if not allowed then return errors.fail("not_found", "there is nothing at this path", { reason = "path" }) end
  if self.cors:is_preflight(request) then
    local headers, err = self.cors:preflight(request, allowed)
    if not headers then return nil, err end
    return responses.empty(200, headers)
  end
  return responses.empty(200, { allow = table.concat(allowed, ", ") })
end

local function answer(self, request)
  if request.method == "OPTIONS" then return options_answer(self, request) end
  local ctx, err = open(self, request)
  if not ctx then return nil, err end
  local ok
  ok, err = body.read(ctx)
  if not ok then return nil, err end
  return ctx.route.handler(ctx)
end

local function a_bug(thrown)
  return errors.new("internal", "a bug: " .. tostring(thrown), { trace = debug.traceback("", 2) })
end

-- Runs a step of a request and makes an answer of whatever comes out.
local function guarded(self, request, step)
  requests.new(request)
  local ok, response, err = xpcall(step, a_bug, self, request)
  if not ok then response, err = nil, response end
  if not response and err then
    local id
    err = errors.from(err)
    response, id = _M.refuse(request.path, err, request.id, self.config.services)
    log_error(self, request, response, err, id)
  end
  if response then
    -- For the host's logs and counters: the operation, who asked, and whether it changes anything.
    response.about = request.about
    if response.about then response.about.code = err and err.code or nil end
    response.headers["x-request-id"] = request.id
    self.cors:decorate(request, response.headers)
    if request.method == "HEAD" then
      response.headers["content-length"] = ("%d"):format(#(response.body or ""))
      response.body = ""
    end
  end
  return response
end

--- Answers a request. Never raises.
-- @tparam table request see longshore.http.request
-- @treturn table response
function methods:handle(request)
  return guarded(self, request, answer)
end

local function admission(self, request)
  if request.method == "OPTIONS" then return options_answer(self, request) end
  local ctx, err = open(self, request)
  if not ctx then return nil, err end
  return nil
end

--- Everything of `handle` that can be said before the body has been read. Hosts
-- ask before they spool a large body, and then set `request.admitted`.
-- @tparam table request without body
-- @treturn table|nil response, or nil: read the body and call `handle`
function methods:admit(request)
  return guarded(self, request, admission)
end

--- Runs the janitor once.
-- @tparam[opt] table options of `broker:janitor`
-- @treturn table|nil report
-- @treturn table err
function methods:janitor(options)
  local report, err = self.broker:janitor(options or {})
  for _, name in ipairs(registry.names) do
    local state = self.states[name]
    if report and state and state.janitor then state.janitor(options or {}, report) end
  end
  return report, err
end

--- Closes the store.
function methods:close()
  for _, state in pairs(self.states) do
    if state.close then state.close() end
  end
  if self.store and self.store.close then self.store:close() end
end

return _M

--- Which services there are, and whose a path is. It needs no broker, so that
-- the nginx handler can use it for what never reaches one: tunnels, refusals.
--
-- A service is a module with
--
--     name, prefixes                         -- the beginnings of its paths
--     routes(settings)                       -- list of routes (longshore.http.router)
--     render_error(err, ids, settings)       -- response; ids = {error =, request =}; settings may be nil
--     token(request)                         -- optional: where its token stands; text | nil, err
--     authenticate(request, verify, route)   -- optional: who asks, where a token alone does not say it:
--                                               actor | nil, err
--     start(context)                         -- optional: what it keeps; context = {config, settings, broker,
--                                               make_provider, cache, log}; state | nil, err. Handlers find it
--                                               in ctx.state; its janitor(options, report) and close() are called
--     admit(ctx)                             -- optional: whether the actor may be at this path at all; asked
--                                               before the body is read; true | nil, err
--     check(settings, provider)              -- optional: whether its bucket can do what it needs; true | nil, err
--
-- Room: service. No I/O.
-- @module longshore.service.registry
local _M = {}

--- The names, in the order in which paths are tried. The first one's error
-- shape serves where no service is at home.
_M.names = { "newton", "geolens", "cognite", "athena" }

--- The module of a service.
-- @tparam string name
-- @treturn table
function _M.get(name)
  return require("longshore.service." .. name .. ".server")
end

--- The service whose prefix a path has.
-- @tparam string path raw
-- @treturn table module
function _M.of_path(path)
  for _, name in ipairs(_M.names) do
    local service = _M.get(name)
    for _, prefix in ipairs(service.prefixes) do
      if path == prefix or path:sub(1, #prefix + 1) == prefix .. "/" then return service end
    end
  end
  return _M.get(_M.names[1])
end

--- The routes of all enabled services.
-- @tparam table services `config.services`
-- @treturn table list; each route has `service` (the module) and `settings` added
function _M.routes(services)
  local all = {}
  for _, name in ipairs(_M.names) do
    local settings = services[name]
    if settings and settings.enabled then
      local service = _M.get(name)
      for _, route in ipairs(service.routes(settings)) do
        route.service, route.settings = service, settings
        all[#all + 1] = route
      end
    end
  end
  return all
end

--- Starts the services that keep something.
-- @tparam table config
-- @tparam table parts `broker`, `make_provider`, `cache`, `log`
-- @treturn table|nil name to state
-- @treturn table err
function _M.start(config, parts)
  local states = {}
  for _, name in ipairs(_M.names) do
    local settings, service = config.services[name], _M.get(name)
    if settings and settings.enabled and service.start then
      local context = { config = config, settings = settings }
      for key, part in pairs(parts) do context[key] = part end
      local err
      states[name], err = service.start(context)
      if not states[name] then return nil, err end
    end
  end
  return states
end

--- Checks what only a service can say of the bucket it was given.
-- @tparam table services `config.services`
-- @tparam table providers by name
-- @treturn true|nil
-- @treturn table err names the key
function _M.check(services, providers)
  for _, name in ipairs(_M.names) do
    local settings, service = services[name], _M.get(name)
    if settings and settings.enabled and service.check then
      local ok, err = service.check(settings, providers[settings.bucket])
      if not ok then return nil, err end
    end
  end
  return true
end

return _M

--- Makes the providers of a configuration, and others like them.
--
-- Room: service.
-- @module longshore.service.providers
local errors = require "longshore.errors"
local watch = require "longshore.service.watch"

local _M = {}

-- A store on this machine is never reached through a proxy.
local function is_loopback(endpoint)
  local host = (endpoint or ""):match("^%a+://(%[[^%]]*%])") or (endpoint or ""):match("^%a+://([^:/]+)") or ""
  return host == "localhost" or host == "[::1]" or host:find("^127%.") ~= nil
end

-- The object store is a matter of seconds, or it is away: a thread that waits
-- for it serves nobody meanwhile. (Copies and completes take the time they need.)
local CONNECT, ANSWER = 5, 15

-- The source of keys that a file of the operator's returns (see
-- longshore.provider.credentials), read when keys are first needed.
local function source_of(path)
  local source
  return function()
    if not source then
      local chunk, why = loadfile(path, "t")
      if not chunk then return errors.fail("invalid", why) end
      local made = chunk()
      if type(made) ~= "function" then return errors.fail("invalid", path .. ": must return a function") end
      source = made
    end
    return source()
  end
end

--- A function that makes providers; they share transports. A request that got no answer within `timeout` (15
-- seconds) is not tried again.
-- @tparam table parts `clock`, `transport` (for all of them), `observe` and `request_id` (see longshore.service.watch),
-- `park` (see longshore.http.transport) and with it `connections`
-- @treturn function make(options) -> provider | nil, err; options of longshore.provider.s3, and `ca_file`;
-- `credentials` may be the path of a Lua file that returns the function
function _M.maker(parts)
  local transports = {}
  return function(given)
    local transport = parts.transport
    if not transport then
      local proxy = is_loopback(given.endpoint) and "" or nil
      local kind = (given.ca_file or "") .. (proxy and "|direct" or "|proxy")
      transports[kind] = transports[kind]
        or require("longshore.http.transport").new { ca_file = given.ca_file, proxy = proxy,
          connect_timeout = CONNECT, park = parts.park, connections = parts.connections }
      transport = transports[kind]
    end
    local options = { transport = watch.transport(transport, given.name, parts), clock = parts.clock }
    for key, value in pairs(given) do options[key] = value end
    options.ca_file = nil
    options.timeout = options.timeout or ANSWER
    options.patience = options.timeout
    if type(options.credentials) == "string" then options.credentials = source_of(options.credentials) end
    return require("longshore.provider.s3").new(options)
  end
end

--- The providers of all configured buckets.
-- @tparam table config
-- @tparam function make of `maker`
-- @treturn table|nil name to provider
-- @treturn table err names the key
function _M.build(config, make)
  local providers = {}
  for name, bucket in pairs(config.buckets) do
    local options = { name = name }
    for key, value in pairs(bucket) do options[key] = value end
    local provider, err = make(options)
    if not provider then
      local field = ("buckets.%s.%s"):format(name, err.field or "?")
      return errors.fail(err.code, ("%s: %s"):format(field, (err.message:gsub("^provider [^:]*: [^:]*: ", ""))),
        { field = field })
    end
    providers[name] = provider
  end
  return providers
end

return _M

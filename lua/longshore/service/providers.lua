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

--- A function that makes providers; they share transports.
-- @tparam table parts `clock`, `transport` (for all of them), `observe` and `request_id` (see longshore.service.watch)
-- @treturn function make(options) -> provider | nil, err; options of longshore.provider.s3, and `ca_file`
function _M.maker(parts)
  local transports = {}
  return function(given)
    local transport = parts.transport
    if not transport then
      local proxy = is_loopback(given.endpoint) and "" or nil
      local kind = (given.ca_file or "") .. (proxy and "|direct" or "|proxy")
      transports[kind] = transports[kind]
        or require("longshore.http.transport").new { ca_file = given.ca_file, proxy = proxy }
      transport = transports[kind]
    end
    local options = { transport = watch.transport(transport, given.name, parts), clock = parts.clock }
    for key, value in pairs(given) do options[key] = value end
    options.ca_file = nil
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

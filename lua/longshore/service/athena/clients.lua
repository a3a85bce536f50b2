--- The logical clients: each has a broker over a database of its own; catalogs and
-- tokens are the server's.
--
-- A client's database is opened when the client is first asked for.
--
-- Room: service, athena.
-- @module longshore.service.athena.clients
local areas = require "longshore.config.areas"
local broker_module = require "longshore.broker"
local catalogs_module = require "longshore.broker.catalogs"
local errors = require "longshore.errors"

local _M = {}

local LIMITS = { "max_size", "checksum_max", "trash_seconds", "dot_segments" }

-- The catalogs that come with the configuration, by client. Without providers they can
-- be looked at, not used.
local function builtin_catalogs(config, providers)
  local list = {}
  for name, client in pairs(config.services.athena.clients) do
    local bucket = client.bucket and config.buckets[client.bucket]
    if bucket then
      local id, prefix = areas.catalog_id(name), areas.client_prefix(name)
      local provider = providers and providers[client.bucket]
      list[name] = {
        id = id, created_at = 0, profile = bucket.profile, endpoint = bucket.endpoint, region = bucket.region,
        bucket = bucket.bucket, prefix = (bucket.prefix or "") .. prefix, path_style = bucket.path_style,
        provider = provider and provider:below(prefix, catalogs_module.provider_name(id, bucket.bucket)),
      }
    end
  end
  return list
end

--- The keeper of a configuration's catalogs.
-- @tparam table context `config`, `store` (the server's), `clock`, `make_provider`; `providers` (configured ones),
-- `count(client, id, bucket|nil)` (the files in a catalog)
-- @treturn table longshore.broker.catalogs
function _M.catalogs(context)
  local config = context.config
  return catalogs_module.new {
    store = context.store, clock = context.clock, keys = config.services.athena.keys, areas = areas.of_config(config),
    builtin = builtin_catalogs(config, context.providers), make_provider = context.make_provider,
    in_use = context.count,
  }
end

--- Starts the clients.
-- @tparam table context see longshore.service.registry
-- @treturn table state: `broker(name) -> broker | nil, err`, `catalogs`, `janitor(options, report)`, `close()`
function _M.start(context)
  local main, settings = context.broker, context.settings
  local brokers, options = {}, { cache = context.cache }
  for _, name in ipairs(LIMITS) do options[name] = settings[name] end

  local function find(name)
    if brokers[name] then return brokers[name] end
    local client = settings.clients[name]
    if not client then return errors.fail("invalid", "there is no such client", { reason = "client" }) end
    local broker = main
    if client.store then
      local store, err = require("longshore.store").open(client.store)
      if not store then
        context.log("error", "a client's database cannot be opened: " .. tostring(err), { client = name })
        return errors.fail("unavailable", "the client's database is not available", { cause = err })
      end
      broker = broker_module.new { store = store, providers = main.providers, policy = main.policy, clock = main.clock,
        transport = main.transport, log = main.log, options = context.config.broker_options }
      broker:manage(options)
    end
    brokers[name] = broker
    return broker
  end

  options.catalogs = _M.catalogs {
    config = context.config, store = main.store, clock = main.clock, make_provider = context.make_provider,
    providers = main.providers,
    count = function(client, id, bucket)
      local broker, err = find(client)
      if not broker then return nil, err end
      return broker.store:count_managed(id, bucket)
    end,
  }
  main:manage(options)

  return {
    broker = find, catalogs = options.catalogs,
    -- The main broker's own turn is the application's.
    janitor = function(given, report)
      for name, client in pairs(settings.clients) do
        if client.store then
          local broker, err = find(name)
          local own = broker and broker:janitor(given)
          if own then
            for key, value in pairs(own) do
              if type(value) == "number" then report[key] = (report[key] or 0) + value end
            end
            for _, text in ipairs(own.messages) do report.messages[#report.messages + 1] = name .. ": " .. text end
          else
            report.errors = report.errors + 1
            report.messages[#report.messages + 1] = ("%s: %s"):format(name, tostring(err))
          end
        end
      end
    end,
    close = function()
      for _, broker in pairs(brokers) do
        if broker ~= main then broker.store:close() end
      end
    end,
  }
end

return _M

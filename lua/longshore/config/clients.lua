--- Athena's logical clients in the configuration: each has a database of its own.
--
-- Room: shared ground, no I/O.
-- @module longshore.config.clients
local areas = require "longshore.config.areas"
local errors = require "longshore.errors"

local _M = {}

-- Where a database is, in one word.
local function database_of(store)
  if store.type == "postgres" then
    return ("postgres %s:%s/%s"):format(store.host or "", store.port or 5432, store.database)
  end
  return "sqlite " .. store.path
end

--- Fills in athena's clients: the one that is there by default, and a database for each.
-- @tparam table config
-- @tparam function absolute(path)
-- @treturn boolean|nil
-- @treturn table err
function _M.complete(config, absolute)
  local athena = config.services.athena
  if not athena.enabled then return true end
  if not next(athena.clients) then
    athena.default_client = athena.default_client or "default"
    -- A configuration without the bucket named default may well do without athena's catalog in it.
    local bucket = athena.bucket
    if bucket == "default" and not config.buckets.default then bucket = nil end
    athena.clients[athena.default_client] = { bucket = bucket }
  elseif athena.default_client and not athena.clients[athena.default_client] then
    return errors.fail("invalid", ("services.athena.default_client: there is no client %q"):format(
      athena.default_client), { field = "services.athena.default_client" })
  end
  local owners = { [database_of(config.store)] = "store" }
  for name, client in pairs(athena.clients) do
    local key = "services.athena.clients." .. name
    local function wrong(field, text)
      return errors.fail("invalid", ("%s.%s: %s"):format(key, field, text), { field = key .. "." .. field })
    end
    if #name > 255 or name:find("%c") then return wrong("name", "at most 255 bytes without control characters") end
    if client.bucket and not config.buckets[client.bucket] then
      return wrong("bucket", ("there is no bucket named %q under buckets"):format(client.bucket))
    end
    if not client.store and name ~= athena.default_client then
      if config.store.type ~= "sqlite" then return wrong("store", "is required beside a store of type postgres") end
      client.store = { type = "sqlite" }
    end
    if client.store then
      local store = client.store
      store.path = absolute(store.path or ("%s/%s.db"):format(config.data,
        (areas.client_prefix(name):gsub("/$", ""):gsub("/", "-"))))
      if store.type == "postgres" and not store.database then
        return wrong("store", "database is required for postgres")
      end
      local database = database_of(store)
      if owners[database] then return wrong("store", "is the database of " .. owners[database]) end
      owners[database] = key
    end
  end
  return true
end

return _M

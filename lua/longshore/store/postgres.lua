--- The store on PostgreSQL (or a database that speaks its protocol): any number
-- of brokers on any number of machines.
--
-- The same statements as on SQLite, at the READ COMMITTED level: every change of
-- state is one UPDATE that names the state it expects, and comes first in its
-- transaction, so that it locks the row. A connection that was lost is opened
-- anew by the next call; the call that met the loss answers `unavailable`.
--
-- Room: store.
-- @module longshore.store.postgres
local _M = {}

local function classify(text)
  -- The names of constraints are in the text whatever its language.
  local constraint = text:match('"([%w_]+_unique_name)"') or text:match('"([%w_]+_pkey)"')
  if constraint then return "conflict", { constraint = constraint } end
  if text:find("deadlock detected", 1, true) or text:find("could not serialize", 1, true)
    or text:find("lock timeout", 1, true) then
    return "busy"
  end
  if text:find("server closed the connection", 1, true) or text:find("no connection to the server", 1, true)
    or text:find("connection to server", 1, true) or text:find("terminating connection", 1, true)
    or text:find("SSL connection has been closed", 1, true) or text:find("could not receive data", 1, true)
    or text:find("could not send data", 1, true) then
    return "unavailable"
  end
  return "database"
end

-- LuaDBI loses what the server said ("database ... does not exist", "password authentication failed").
local function why_not(options, text)
  return ("%s; is there a database %s at %s:%d, and may %s log in? psql says more"):format(
    tostring(text):gsub("%s+", " "):gsub(" $", ""), options.database, options.host or "the local socket",
    options.port or 5432, options.user or "this user")
end

--- Describes a PostgreSQL database for `longshore.store.dbi`.
-- @tparam table options `database`, `user`, `password`, `host` (a name or the
-- folder of a unix socket), `port` (5432)
-- @treturn table dialect
function _M.dialect(options)
  assert(type(options.database) == "string", "database: string expected")
  return {
    name = "postgres " .. options.database,
    integer_type = "BIGINT",
    numbered = true,
    begin = "BEGIN",
    attempts = 3,
    lock_schema = "SELECT CAST(pg_advisory_xact_lock(7310868735) AS TEXT)",
    lock_name = "SELECT CAST(pg_advisory_xact_lock(hashtext(?)) AS TEXT)",
    classify = classify,
    connect = function()
      local handle, text = require("DBI").Connect("PostgreSQL", options.database, options.user or "",
        options.password or "", options.host or "", options.port or 5432)
      if not handle then text = why_not(options, text) end
      return handle, text
    end,
    prepare_connection = function(db)
      return db:exec("SET client_min_messages TO warning")
    end,
  }
end

return _M

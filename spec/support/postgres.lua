-- A throwaway PostgreSQL for specs: a unix socket in a temporary folder, no TCP.
--
--   local server = postgres.start()   -- nil where PostgreSQL is not installed
--   server.options()                  -- for store.open: an empty database of its own
--   server.stop()
--
-- PostgreSQL refuses to run as root; then it runs as nobody.
local support = require "spec.support"

local _M = {}

local function binaries()
  local p = io.popen("ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1")
  local folder = p:read("*l")
  p:close()
  return folder ~= "" and folder or nil
end

function _M.start()
  local bin = binaries()
  if not bin or not pcall(require, "dbd.postgresql") then return nil end
  local folder = support.tmpdir()
  local as = ""
  if select(2, support.run("id -u")):match("^0") then
    as = "setpriv --reuid=nobody --regid=nogroup --clear-groups "
    assert(support.run("chown nobody " .. folder) == 0)
  end
  local function must(command)
    local code, out = support.run(("cd %s && %s%s"):format(folder, as, command))
    assert(code == 0, out)
  end
  must(("%s/initdb -D %s/data -U test -A trust --no-sync -E UTF8 --locale=C >/dev/null"):format(bin, folder))
  local server = { folder = folder, count = 0 }
  function server.run()
    must(("%s/pg_ctl -D %s/data -l %s/log -w -o \"-k %s -c listen_addresses='' -F -c synchronous_commit=off\" start "
      .. ">/dev/null </dev/null"):format(bin, folder, folder, folder))
  end
  function server.stop(mode)
    support.run(("cd %s && %s%s/pg_ctl -D %s/data -m %s stop"):format(folder, as, bin, folder, mode or "immediate"))
  end
  server.run()
  support.defer(server.stop)
  function server.options()
    server.count = server.count + 1
    local name = "longshore" .. server.count
    must(("psql -q -h %s -U test postgres -c 'CREATE DATABASE %s'"):format(folder, name))
    return { type = "postgres", database = name, user = "test", host = folder }
  end
  return server
end

return _M

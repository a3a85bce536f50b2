--- The thread pools of the broker's nginx: their names, and how large they are.
--
-- A Lua VM is taken when a call is queued, so the number of outstanding calls
-- (the handler's permits) bounds the number of VMs and with it of database
-- connections. The janitor has a pool and a VM of its own: a busy hour must not
-- keep it from its work, nor it the requests from theirs. So has the watch, which
-- looks every few seconds whether the database answers, for /readyz and /metrics.
-- The outbox has several: one that listens and hangs must not keep the others waiting.
--
-- Room: nginx. No I/O, no ngx.
-- @module longshore.nginx.pools
local _M = {}

--- The pools, in the order in which nginx.conf has them.
_M.kinds = { "requests", "janitor", "outbox", "watch" }

--- The pools of a configuration.
-- @tparam table broker `config.broker`
-- @treturn table `requests`, `janitor`, `outbox` and `watch`: `{name=, threads=, max_queue=, vms=}`
function _M.of(broker)
  return {
    requests = { name = "longshore", threads = broker.threads, max_queue = 65536, vms = broker.threads },
    janitor = { name = "longshore_janitor", threads = 1, max_queue = 64, vms = 1 },
    outbox = { name = "longshore_outbox", threads = 4, max_queue = 64, vms = 4 },
    watch = { name = "longshore_watch", threads = 1, max_queue = 64, vms = 1 },
  }
end

return _M

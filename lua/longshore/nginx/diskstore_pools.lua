--- The thread pools of the disk store's nginx.
--
-- `heavy` reads whole bodies, `light` does everything else, `read` feeds the
-- downloads of objects of parts, `janitor` sweeps, `files` is nginx's own for
-- sending files. They are apart so that none keeps another waiting.
--
-- Room: nginx. No I/O, no ngx.
-- @module longshore.nginx.diskstore_pools
local _M = {}

--- The pools of a configuration.
-- @tparam table disk `config.diskstore`
-- @treturn table by kind: {name=, threads=, max_queue=, vms=}
function _M.of(disk)
  local function pool(name, threads)
    return { name = "diskstore_" .. name, threads = threads, max_queue = 65536, vms = threads }
  end
  return {
    heavy = pool("heavy", disk.threads),
    light = pool("light", disk.threads),
    read = pool("read", disk.threads),
    janitor = pool("janitor", 1),
  }
end

return _M

-- How late a 2 ms timer of an nginx worker is: started in init_worker, asked by
-- a location, which gives "count p99.9 max" in milliseconds and begins anew.
local core = require "longshore.core"

local _M = {}

local PERIOD = 0.002
local late = {}

function _M.start()
  assert(ngx.timer.at(0, function()
    while not ngx.worker.exiting() do
      local before = core.monotonic()
      ngx.sleep(PERIOD)
      late[#late + 1] = (core.monotonic() - before - PERIOD) * 1000
    end
  end))
end

function _M.report()
  local list = late
  late = {}
  table.sort(list)
  ngx.say(("%d %.3f %.3f"):format(#list, list[math.max(1, math.ceil(#list * 0.999))] or 0, list[#list] or 0))
end

return _M

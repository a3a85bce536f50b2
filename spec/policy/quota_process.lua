-- One process of several in parallel_quotas_spec: uploads to all services under a
-- quota, as often as told, and prints how often it was allowed. Arguments: a Lua file that
-- returns the settings, and its number among the processes.
local settings, number = dofile(arg[1]), tonumber(arg[2])
local all = require "spec.policy.service_steps"
local core = require "longshore.core"
local support = require "spec.support"

local w = all.world({ { before_initiate = function() return { quotas = settings.quotas } end } },
  { store = assert(require("longshore.store").open(settings.store)) })

local function fields_of(service, name)
  return ({ newton = { filename = name }, athena = { key = name }, cognite = { name = name },
    geolens = { filename = name .. ".csv" } })[service]
end

while core.now() < settings.start_at do core.sleep(0.001) end

local count = 0
for i = 1, settings.times do
  local service = settings.services[(i + number) % #settings.services + 1]
  local fields = fields_of(service, ("p%d_%d"):format(number, i))
  local act = settings.whole and all.upload or function(_, given) return all.steps[service].start(given) end
  local ok, err = act(service, fields)
  for _ = 1, 50 do -- another process wrote for so long
    if ok or (err.code ~= "busy" and err.code ~= "database") then break end
    ok, err = act(service, fields)
  end
  if ok then
    count = count + 1
  elseif err.code and err.code ~= "quota" then -- (bytes that nobody announced just go)
    error(("%s: %s"):format(service, tostring(err)))
  end
end
io.write(count, "\n")
w.store:close()
support.cleanup()

-- One process of several in stores_spec: does one thing to the shared database
-- and store and prints what came of it. Arguments: a Lua file that returns the
-- settings.
local settings = dofile(arg[1])
local core = require "longshore.core"

local store = assert(require("longshore.store").open(settings.store))
local provider = assert(require("longshore.provider.s3").new(settings.provider(
  require("longshore.http.transport").new { proxy = "" })))
local broker = require("longshore.broker").new {
  store = store, providers = { default = provider },
  policy = assert(require("longshore.policy").new { part_size = settings.part_size }),
}

-- All begin at once.
while core.now() < settings.start_at do core.sleep(0.001) end

if settings.action == "complete" then
  local file, err
  for _ = 1, 100 do -- as a client would: a store may be busy with what another one asked of it
    file, err = broker:complete(settings.actor, settings.upload_id, settings.request)
    if file or not err.retryable then break end
    core.sleep(0.1)
  end
  io.write(file and "file " .. file.id or "error " .. tostring(err.reason or err), "\n")
elseif settings.action == "janitor" then
  local report = broker:janitor { now = settings.now }
  io.write(("%d %d %d\n"):format(report.expired, report.finished, report.errors))
end
store:close()

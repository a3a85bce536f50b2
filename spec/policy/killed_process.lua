-- One process of killed_spec: an upload to one service, killed at one moment, for good
-- (SIGKILL). Arguments: a Lua file that returns the settings.
local settings = dofile(arg[1])
local all = require "spec.policy.service_steps"
local rows = require "longshore.store.rows"
local schema = require "longshore.store.schema"

local function die() os.execute("kill -9 $PPID") end

local w = all.world({ { after_complete = function(context)
  local f = assert(io.open(settings.told, "a"))
  f:write(context.upload.id, "\n")
  f:close()
  if settings.moment == "in the hook" then die() end
end } }, { store = assert(require("longshore.store").open(settings.store)) })

local deliver, insert_all = w.broker.deliver, rows.insert_all

local moments = {
  ["before the change is committed"] = function()
    rows.insert_all = function(db, description, list)
      local ok, err = insert_all(db, description, list)
      if description == schema.events and list and list[1] then die() end
      return ok, err
    end
  end,
  ["when it is committed"] = function() w.broker.deliver = die end,
  ["in the hook"] = function() end,
  ["behind the hook"] = function()
    w.broker.deliver = function(...)
      w.store.finish_event = die
      return deliver(...)
    end
  end,
}
moments[settings.moment]()
all.upload(settings.service)
print "not killed"

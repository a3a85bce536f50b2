-- After-hooks are told at least once, though the process is killed (SIGKILL) at any moment
-- around the change that they tell of; of a change that was not made they are not told.
local all = require "spec.policy.service_steps"
local json = require "longshore.json"
local postgres = require "spec.support.postgres"
local stores = require "longshore.store"
local support = require "spec.support"

local quote = support.quote

-- How often the hook was told before the kill, and how many events are left for others.
local MOMENTS = { ["before the change is committed"] = { 0, 0 }, ["when it is committed"] = { 0, 1 },
  ["in the hook"] = { 1, 1 }, ["behind the hook"] = { 1, 1 } }

-- Whether the change was made.
local DONE = { newton = "files WHERE state = 'registered'", athena = "managed_files WHERE status = 'available'",
  cognite = "records WHERE object_key IS NOT NULL", geolens = "jobs WHERE status = 'complete'" }

local function contract(open)
  teardown(support.cleanup)

  for _, service in ipairs(all.services) do
    for moment, expected in pairs(MOMENTS) do
      it(("%s, killed %s"):format(service, moment), function()
        local options = open()
        stores.open(options):close() -- its tables
        local folder = support.tmpdir()
        local told = support.write_file(folder .. "/told", "")
        local settings = support.write_file(folder .. "/settings.lua",
          ("return require('longshore.json').decode(%q)"):format(json.encode { store = options, service = service,
            moment = moment, told = told }))
        local code, out = support.run(("%s %s/spec/policy/killed_process.lua %s"):format(support.lua,
          quote(support.root), quote(settings)))
        assert.is_true(code ~= 0 and not out:find("not killed", 1, true), out)
        local _, before = support.read_file(told):gsub("\n", "")
        assert.equal(expected[1], before)

        local heard = {}
        local w = all.world({ { after_complete = function(context) heard[#heard + 1] = context end } },
          { store = assert(stores.open(options)) })
        assert.same(expected[2] > 0 and { policy = expected[2] } or {}, assert(w.store:count_events()))
        local made = assert(w.store.db:query("SELECT CAST(COUNT(*) AS TEXT) FROM " .. DONE[service]))[1][1]
        assert.equal(expected[2] > 0 and "1" or "0", made)
        w.clock.advance(600)
        assert(w.broker:deliver_due())
        assert.equal(expected[2], #heard)
        assert.same({}, assert(w.store:count_events()))
        if heard[1] then
          assert.same({ service, "completed", "ann" }, { heard[1].upload.service, heard[1].upload.state,
            heard[1].actor and heard[1].actor.user or "ann" })
          local before_kill = support.read_file(told):match("[^\n]+")
          assert.equal(heard[1].upload.id, before_kill or heard[1].upload.id)
        end
        assert(w.broker:deliver_due())
        assert.equal(expected[2], #heard)
      end)
    end
  end
end

describe("after-hooks and a process that is killed, on SQLite:", function()
  contract(function() return { type = "sqlite", path = support.tmpdir() .. "/s.db", synchronous = "OFF" } end)
end)

describe("after-hooks and a process that is killed, on PostgreSQL:", function()
  local server
  contract(function()
    server = server or assert(postgres.start(), "PostgreSQL is missing: make deps")
    return server.options()
  end)
end)

-- Quotas hold against processes that upload at the same moment, to all services, on
-- both databases.
local all = require "spec.policy.service_steps"
local parallel = require "spec.policy.parallel"
local postgres = require "spec.support.postgres"
local support = require "spec.support"

local PROCESSES, TIMES, LIMIT = 4, 12, 23

local function contract(open)
  teardown(support.cleanup)

  local function together(settings)
    settings.store, settings.times = open(), TIMES
    require("longshore.store").open(settings.store):close() -- its tables
    return parallel.together("quota_process.lua", PROCESSES, settings)
  end

  local ANNOUNCED = { "newton", "athena", "geolens" } -- a set of cognite's links says no size

  it("files of an organization, in all services", function()
    assert.equal(LIMIT, together { services = all.services, quotas = { { scope = "organization", files = LIMIT } } })
  end)

  it("uploads at a time, in all services", function()
    assert.equal(LIMIT, together { services = all.services, quotas = { { scope = "user", running = LIMIT } } })
  end)

  it("bytes that were announced", function()
    assert.equal(LIMIT, together { services = ANNOUNCED,
      quotas = { { scope = "user", bytes = LIMIT * #all.body + 1 } } })
  end)

  it("bytes that came, announced or not, of whole uploads in all services", function()
    assert.equal(LIMIT, together { services = all.services, whole = true,
      quotas = { { scope = "user", bytes = LIMIT * #all.body + 1 }, { scope = "organization", files = 1000 } } })
  end)

  for _, service in ipairs(all.services) do
    it("files of a user of " .. service .. " alone", function()
      assert.equal(LIMIT, together { services = { service }, quotas = { { scope = "user", files = LIMIT } } })
    end)
  end
end

describe("quotas hold against parallel processes on SQLite:", function()
  contract(function() return { type = "sqlite", path = support.tmpdir() .. "/s.db", synchronous = "OFF" } end)
end)

describe("quotas hold against parallel processes on PostgreSQL:", function()
  local server
  contract(function()
    server = server or assert(postgres.start(), "PostgreSQL is missing: make deps")
    return server.options()
  end)
end)

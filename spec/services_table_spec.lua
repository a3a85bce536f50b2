-- The README's table of services: every operation that is served is in it, and every
-- spec that it names is there.
local config = require "longshore.config"
local registry = require "longshore.service.registry"
local support = require "spec.support"

describe("the README's table of services", function()
  teardown(support.cleanup)

  local rows = {}
  setup(function()
    local text = assert(support.read_file(support.root .. "/README.md"))
    for service, operation, title, path in text:gmatch("\n| (%l+) | (`[^|]+`) | %[([^\n]-)%]%(([^\n]-)%) |") do
      rows[#rows + 1] = { service = service, operation = operation, title = title, path = path }
    end
  end)

  it("names specs that exist", function()
    assert.is_true(#rows > 50)
    for _, row in ipairs(rows) do
      local spec = support.read_file(support.root .. "/" .. row.path)
      assert(spec, row.path)
      -- `it`, or a wrapper of the spec's own
      assert(spec:find(('"%s"'):format(row.title), 1, true), row.path .. ": " .. row.title)
    end
  end)

  it("has every operation once", function()
    local listed, services = {}, {}
    for _, row in ipairs(rows) do
      local operation = row.operation:match("^`(%u+ /[^`]+)`$")
      services[row.service] = true
      if operation then
        assert.is_nil(listed[operation], operation)
        listed[operation] = row.service
      end
    end
    local settings = assert(config.check { data = support.tmpdir() })
    for _, route in ipairs(registry.routes(settings.services)) do
      local operation = route.method .. " " .. route.path
      if services[route.service.name] then
        assert.equal(route.service.name, listed[operation], operation .. " is not in the table")
      end
      listed[operation] = nil
    end
    assert.is_nil((next(listed)))
  end)
end)

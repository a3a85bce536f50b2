local core = require "longshore.core"
local plan = require "longshore.plan"

local MiB, GiB, TiB = 2 ^ 20, 2 ^ 30, 2 ^ 40

-- The parts of a plan cover the object without gap or overlap, none but the
-- last below the minimum, none above the maximum.
local function check(options, wanted)
  local p = assert(plan.parts(options))
  local max_parts = options.max_parts or 10000
  assert.is_true(p.count <= max_parts, "too many parts")
  assert.is_true(p.part_size <= (options.max_part or 5 * GiB))
  assert.equal(options.size, (p.count - 1) * p.part_size + p.last_length)
  local at = 0
  for number = 1, p.count, math.max(1, math.floor(p.count / 50)) do
    local offset, length = assert(plan.range(p, options.size, number))
    assert.equal((number - 1) * p.part_size, offset)
    assert.is_true(offset >= at)
    assert.equal(number == p.count and p.last_length or p.part_size, length)
    at = offset + length
  end
  local offset, length = plan.range(p, options.size, p.count)
  assert.equal(options.size, offset + length)
  assert.is_nil((plan.range(p, options.size, p.count + 1)))
  assert.is_nil((plan.range(p, options.size, 0)))
  if options.size > 0 then
    assert.is_true(p.last_length > 0)
  end
  for name, value in pairs(wanted or {}) do assert.equal(value, p[name], name) end
  return p
end

describe("longshore.plan", function()
  it("has in C where a part lies, of a plan or of parts of one size", function()
    local p = assert(core.plan { size = 10 * MiB + 1, part_size = 5 * MiB })
    for _, what in ipairs { p, 5 * MiB } do
      assert.same({ 10 * MiB, 1 }, { core.plan_range(what, 10 * MiB + 1, 3) })
      local offset, err = core.plan_range(what, 10 * MiB + 1, 4)
      assert.is_nil(offset)
      assert.equal("invalid", err.code)
    end
    assert.same({ 10 * MiB, 5 * MiB }, { core.plan_range(5 * MiB, nil, 3) })
    assert.has_error(function() core.plan_range(5 * MiB, 1, "x") end)
  end)

  it("gives an empty object one empty part", function()
    check({ size = 0 }, { count = 1, last_length = 0, part_size = 8 * MiB })
    local offset, length = plan.range(8 * MiB, 0, 1)
    assert.equal(0, offset)
    assert.equal(0, length)
  end)

  it("leaves no empty part behind an exact multiple", function()
    check({ size = 1 }, { count = 1, last_length = 1 })
    check({ size = 8 * MiB }, { count = 1, last_length = 8 * MiB })
    check({ size = 8 * MiB + 1 }, { count = 2, last_length = 1 })
    check({ size = 16 * MiB }, { count = 2, last_length = 8 * MiB })
    check({ size = 24 * MiB - 1 }, { count = 3, last_length = 8 * MiB - 1 })
  end)

  it("keeps the preferred size within the store's limits", function()
    check({ size = 100 * MiB, part_size = 1 }, { part_size = 5 * MiB, count = 20 })
    check({ size = 100 * MiB, part_size = 16 * MiB }, { part_size = 16 * MiB, count = 7, last_length = 4 * MiB })
    check({ size = 11 * GiB, part_size = 6 * GiB }, { part_size = 5 * GiB, count = 3 })
    check({ size = 10, part_size = 4, min_part = 1 }, { count = 3, last_length = 2 })
  end)

  it("grows the part size where there would be more than 10,000 parts", function()
    local size = 8 * MiB
    check({ size = 9999 * size }, { count = 9999, part_size = size })
    check({ size = 10000 * size }, { count = 10000, part_size = size })
    check({ size = 10000 * size + 1 }, { count = 8889, part_size = 9 * MiB })
    check({ size = 10001 * size }, { part_size = 9 * MiB })
  end)

  it("fills a store to its last byte, and says when one more does not fit", function()
    local largest = 10000 * 5 * GiB -- 48.8 TiB
    assert.equal("48.8", ("%.1f"):format(largest / TiB))
    check({ size = largest }, { count = 10000, part_size = 5 * GiB, last_length = 5 * GiB })
    check({ size = largest - 1 }, { count = 10000, last_length = 5 * GiB - 1 })
    local p, err = plan.parts { size = largest + 1 }
    assert.is_nil(p)
    assert.equal("too_large", err.code)
    assert.equal("size", err.field)
    assert.equal(largest, err.limit)
    assert.is_truthy(err.message:find("53687091200001 bytes", 1, true))
    p, err = plan.parts { size = 5 * TiB + 1, max_object = 5 * TiB }
    assert.is_nil(p)
    assert.equal(5 * TiB, err.limit)
    check({ size = 5 * TiB, max_object = 5 * TiB }, { part_size = 525 * MiB })
  end)

  it("does not round a part size over the maximum", function()
    check({ size = 3 * 1000003, min_part = 1, max_part = 1000003, max_parts = 3, part_size = 1 },
      { part_size = 1000003, count = 3 })
  end)

  it("works for a store of few parts", function()
    check({ size = 100 * MiB, max_parts = 1 }, { count = 1, last_length = 100 * MiB })
    check({ size = 999 * MiB + 5, max_parts = 20 }, { part_size = 50 * MiB, count = 20 })
  end)

  it("is exact to 2^53", function()
    check({ size = 2 ^ 53 - 1, max_part = 2 ^ 53, max_parts = 10000, max_object = 2 ^ 53 })
    check({ size = 2 ^ 53, max_part = 2 ^ 53, max_parts = 1, max_object = 2 ^ 53 }, { count = 1 })
  end)

  describe("for a size that nobody knows yet", function()
    local function walk(p, size)
      local at, number = 0, 0
      while at < size do
        number = number + 1
        local offset, length = assert(plan.range(p, size, number))
        assert.equal(at, offset)
        assert.is_true(length > 0)
        at = at + length
      end
      assert.equal(size, at)
      return number
    end

    it("begins with small parts and still holds the largest object", function()
      local p = assert(plan.parts { max_object = 5 * TiB })
      assert.equal(8 * MiB, p.part_size)
      assert.is_nil(p.count)
      assert.equal(5 * TiB, p.max_size)
      assert.is_true(walk(p, 5 * TiB) <= 10000)
      assert.equal(3, walk(p, 17 * MiB))
      local offset, length = plan.range(p, nil, 1001)
      assert.equal(8000 * MiB, offset)
      assert.equal(16 * MiB, length)
    end)

    it("keeps to the largest part", function()
      local p = assert(plan.parts { part_size = 1 * GiB })
      assert.equal(10000 * 5 * GiB > p.max_size, false)
      assert.is_true(walk(p, p.max_size) <= 10000)
    end)

    it("begins with parts for the largest object where all must be equal", function()
      local p = assert(plan.parts { max_object = 5 * TiB, equal = true })
      assert.is_nil(p.grow_every)
      assert.is_true(p.part_size * 10000 >= 5 * TiB)
      assert.is_true((p.part_size - 1) * 10000 < 5 * TiB)
      assert.equal(8 * MiB, plan.parts({ max_object = 100 * MiB, equal = true }).part_size)
    end)
  end)

  it("tells a part's place from the part size alone", function()
    local offset, length = plan.range(10, 25, 3)
    assert.equal(20, offset)
    assert.equal(5, length)
    local none, err = plan.range(10, 20, 3)
    assert.is_nil(none)
    assert.equal("invalid", err.code)
    assert.is_nil((plan.range(2 ^ 53, nil, 2 ^ 53)))
  end)

  it("raises for a programmer's mistake", function()
    for _, bad in ipairs {
      { size = -1 }, { size = 1.5 }, { size = "7" }, { size = 2 ^ 54 }, { size = 1, part_size = 0 },
      { size = 1, max_parts = 0 },
    } do
      assert.has_error(function() plan.parts(bad) end)
    end
    assert.has_error(function() core.plan { size = 1, min_part = 2, max_part = 1 } end)
    assert.has_error(function() plan.range(0, 1, 1) end)
    assert.has_error(function() plan.range({}, 1, 1) end)
    assert.has_error(function() plan.range(1, -1, 1) end)
    assert.has_error(function() plan.range(1, 1, "1") end)
  end)
end)

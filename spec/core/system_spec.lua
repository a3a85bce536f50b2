local core = require "longshore.core"
local support = require "spec.support"

describe("longshore.core time and randomness", function()
  teardown(support.cleanup)

  it("tells the time of the system with a fraction", function()
    local before = os.time()
    local now = core.now()
    -- (os.time is some milliseconds behind.)
    assert.is_true(before <= now and now < os.time() + 1.1)
  end)

  it("gives as many random bytes as were asked for, never the same", function()
    assert.equal(0, #core.random(0))
    assert.equal(16, #core.random(16))
    assert.not_equal(core.random(16), core.random(16))
  end)

  it("makes random words of the base-32 alphabet, every letter as often", function()
    assert.equal("", core.letters(0))
    local counts, total = {}, 0
    for _ = 1, 400 do
      local word = core.letters(256)
      assert.truthy(word:find("^[a-z2-7]+$") and #word == 256)
      for c in word:gmatch(".") do counts[c], total = (counts[c] or 0) + 1, total + 1 end
    end
    local kinds = 0
    for _, count in pairs(counts) do
      kinds = kinds + 1
      -- 3200 expected; this is ten standard deviations.
      assert.is_true(math.abs(count - total / 32) < 560, count)
    end
    assert.equal(32, kinds)
    assert.has_error(function() core.letters(257) end)
    assert.has_error(function() core.letters(-1) end)
  end)

  it("locks no file whose path the system would cut", function()
    local path = support.tmpdir() .. "/lock"
    assert.has_error(function() core.lock_file(path .. "\0x") end)
    assert.has_error(function() core.lock_file("") end)
    assert.is_nil(io.open(path))
    assert(core.lock_file(path)):close()
  end)

  it("refuses a count that is no whole number in range, on both Luas", function()
    for _, bad in ipairs { 1.5, -1, 4097, 0 / 0, "8x" } do
      assert.has_error(function() core.random(bad) end)
    end
  end)
end)

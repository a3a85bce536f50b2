local core = require "longshore.core"

describe("longshore.core time and randomness", function()
  it("tells the time of the system with a fraction", function()
    assert.is_true(math.abs(core.now() - os.time()) < 2)
  end)

  it("gives as many random bytes as were asked for, never the same", function()
    assert.equal(0, #core.random(0))
    assert.equal(16, #core.random(16))
    assert.not_equal(core.random(16), core.random(16))
  end)

  it("refuses a count that is no whole number in range, on both Luas", function()
    for _, bad in ipairs { 1.5, -1, 4097, 0 / 0, "8x" } do
      assert.has_error(function() core.random(bad) end)
    end
  end)
end)

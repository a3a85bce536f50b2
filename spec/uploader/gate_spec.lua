local gate = require "longshore.uploader.gate"

describe("the retry gate", function()
  local function new(options)
    options = options or {}
    options.random = options.random or function() return 0.5 end
    return gate.new(options)
  end

  it("lets max requests through at once", function()
    local g = new { max = 2 }
    assert.is_true(g:ready(0))
    local a = g:start()
    assert.is_true(g:ready(0))
    g:start()
    local ready, wait = g:ready(0)
    assert.is_false(ready)
    assert.is_nil(wait)
    g:finish(a, "ok", 1)
    assert.is_true(g:ready(1))
  end)

  it("counts a ticket once", function()
    local g = new { max = 2 }
    local a = g:start()
    g:start()
    g:finish(a, "failed", 0)
    g:finish(a, "failed", 0)
    assert.equal(1, g.active)
  end)

  it("halves on a refusal for load, once per wave, never below one", function()
    local g = new { max = 8 }
    local wave = {}
    for i = 1, 8 do wave[i] = g:start() end
    for i = 1, 8 do g:finish(wave[i], "throttled", 0) end
    assert.equal(4, g.limit)
    for _ = 1, 5 do g:finish(g:start(), "throttled", 100) end
    assert.equal(1, g.limit)
  end)

  it("rises by one after as many successes as the limit, up to max", function()
    local g = new { max = 4 }
    g:finish(g:start(), "throttled", 0)
    assert.equal(2, g.limit)
    g:finish(g:start(), "ok", 9)
    assert.equal(2, g.limit)
    g:finish(g:start(), "ok", 9)
    assert.equal(3, g.limit)
    for _ = 1, 20 do g:finish(g:start(), "ok", 9) end
    assert.equal(4, g.limit)
  end)

  it("makes everybody wait after a refusal, longer each time", function()
    local g = new { base = 1, cap = 8 }
    local waits = {}
    local now = 0
    for i = 1, 6 do
      g:finish(g:start(), "throttled", now)
      local ready, wait = g:ready(now)
      assert.is_false(ready)
      waits[i] = wait
      now = now + wait
      assert.is_true(g:ready(now))
    end
    assert.same({ 0.5, 1, 2, 4, 4, 4 }, waits)
    g:finish(g:start(), "ok", now)
    g:finish(g:start(), "throttled", now)
    assert.equal(0.5, select(2, g:ready(now)))
  end)

  it("honours Retry-After, for all, up to a ceiling", function()
    local g = new()
    g:finish(g:start(), "throttled", 100, 7)
    assert.equal(7, select(2, g:ready(100)))
    g = new { longest_wait = 60 }
    g:finish(g:start(), "throttled", 0, 86400)
    assert.equal(60, select(2, g:ready(0)))
  end)

  it("is not shortened by a later, milder refusal", function()
    local g = new()
    local a, b = g:start(), g:start()
    g:finish(a, "throttled", 0, 20)
    g:finish(b, "throttled", 1)
    assert.equal(19, select(2, g:ready(1)))
  end)

  it("does not make others wait for an ordinary failure", function()
    local g = new { max = 4 }
    g:finish(g:start(), "failed", 0)
    assert.is_true(g:ready(0))
    assert.equal(4, g.limit)
  end)

  it("jitters over the whole range, capped", function()
    local g = new { base = 0.5, cap = 30, random = function() return 0 end }
    assert.equal(0, g:delay(5))
    g.random = function() return 0.999 end
    assert.is_true(g:delay(1) < 0.5)
    assert.is_true(g:delay(50) < 30 and g:delay(50) > 29)
    assert.is_true(g:delay(5000) < 30)
    local real = gate.new()
    local low, high = 30, 0
    for _ = 1, 500 do
      local d = real:delay(20)
      low, high = math.min(low, d), math.max(high, d)
    end
    assert.is_true(low >= 0 and low < 3)
    assert.is_true(high <= 30 and high > 27)
  end)

  it("has a budget of retries that successes refill", function()
    local g = new { budget = 2 }
    assert.is_true(g:spend())
    assert.is_true(g:spend())
    assert.is_false(g:spend())
    g:finish(g:start(), "ok", 0)
    assert.is_true(g:spend())
    assert.is_false(g:spend())
    for _ = 1, 10 do g:finish(g:start(), "ok", 0) end
    assert.equal(2, g.tokens)
  end)

  it("refuses nonsense at once", function()
    assert.has_error(function() gate.new { max = 0 } end)
    assert.has_error(function() gate.new { base = "1" } end)
  end)
end)

describe("a gate with a pace", function()
  local paces = require "longshore.uploader.pace"

  it("lets in as many as the pace finds, and says when there is room for more", function()
    local pace = paces.new { max = 16, start = 2 }
    local g = gate.new { max = 16, pace = pace }
    local now, tickets, grown = 0, {}, false
    local function fill()
      while g:ready(now) do tickets[#tickets + 1] = g:start() end
    end
    fill()
    assert.equal(2, #tickets)
    for _ = 1, 40 do
      now = now + 0.1
      -- Each connection carries the same: more make it faster.
      if g:moved(now, g.active * 100000) then grown = true end
      fill()
    end
    assert.is_true(grown)
    assert.is_true(#tickets > 4, tostring(#tickets))
  end)

  it("is halved when the store refuses, and waits", function()
    local pace = paces.new { max = 16, start = 8 }
    local g = gate.new { max = 16, pace = pace, random = function() return 0.5 end }
    local tickets = {}
    for i = 1, 8 do tickets[i] = g:start() end
    g:finish(tickets[1], "throttled", 1)
    assert.equal(4, pace.limit)
    -- The others of the same wave do not halve it again.
    g:finish(tickets[2], "throttled", 1)
    assert.equal(4, pace.limit)
    assert.is_false((g:ready(1)))
  end)

  it("is never above its own maximum", function()
    local g = gate.new { max = 2, pace = paces.new { max = 16, start = 8 } }
    g:start()
    g:start()
    assert.is_false((g:ready(0)))
  end)
end)

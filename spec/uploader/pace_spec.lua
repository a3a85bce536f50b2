local paces = require "longshore.uploader.pace"

local MB = 1e6

-- Sends `parts` parts over a made-up link and returns the seconds it took and
-- the number of refusals. A link: `cap` bytes/s for all, `conn` for one
-- connection, `rtt` seconds, `busy`: how many at once the store takes before
-- it refuses, `wobble`: how much the cap varies, `change` {at, cap}.
local function simulate(link, controller)
  local seed = 7
  local function random()
    seed = (seed * 16807) % 2147483647
    return seed / 2147483647
  end
  local t, dt, left, done, refused = 0, 0.01, link.parts, 0, 0
  local active, warm, pause, tick, moved = {}, {}, 0, 0, 0
  while done < link.parts do
    assert(t < 1000, "the link stands still")
    while left > 0 and #active < controller.limit() and t >= pause do
      if link.busy and #active >= link.busy then
        refused = refused + 1
        controller.throttled(t, #active + 1)
        pause = t + 0.5 * random()
        break
      end
      left = left - 1
      local window = table.remove(warm)
      active[#active + 1] = { left = link.size, wait = link.rtt * (window and 1 or 2) + 0.002,
        window = window or 65536 }
    end
    local want, sum = {}, 0
    for i, a in ipairs(active) do
      want[i] = 0
      if a.wait > 0 then
        a.wait = a.wait - dt
      else
        want[i] = math.min(link.conn, a.window / link.rtt)
        a.window = math.min(a.window * (1 + dt / link.rtt), 4 * MB)
      end
      sum = sum + want[i]
    end
    local cap = link.change and t > link.change[1] and link.change[2] or link.cap
    cap = cap * (1 + (link.wobble or 0) * (random() * 2 - 1))
    local scale = sum > cap and cap / sum or 1
    for i = #active, 1, -1 do
      local a = active[i]
      local step = math.min(a.left, want[i] * scale * dt)
      a.left, moved = a.left - step, moved + step
      if a.left <= 0 then
        controller.observe(t, 0, #active)
        warm[#warm + 1] = a.window
        table.remove(active, i)
        done = done + 1
      end
    end
    t, tick = t + dt, tick + dt
    if tick >= 0.1 then
      controller.observe(t, moved, #active)
      tick, moved = 0, 0
    end
  end
  return t, refused
end

local function fixed(n)
  return { limit = function() return n end, observe = function() end, throttled = function() end }
end

local function adaptive(pace)
  return {
    limit = function() return pace.limit end,
    observe = function(...) pace:observe(...) end,
    throttled = function(...) pace:throttled(...) end,
  }
end

local function best_fixed(link)
  local best, number = math.huge, nil
  for _, n in ipairs { 1, 2, 4, 6, 8, 12, 16, 20, 24, 32 } do
    local seconds = simulate(link, fixed(n))
    if seconds < best * 0.999 then best, number = seconds, n end
  end
  return best, number
end

describe("the number of requests at once", function()
  local links = {
    ["a fast local link"] = { cap = 100 * MB, conn = 1000 * MB, rtt = 0.001, size = 8 * MB, parts = 200 },
    ["a fat and long link"] = { cap = 50 * MB, conn = 3.2 * MB, rtt = 0.08, size = 8 * MB, parts = 150 },
    ["a fat, long and unsteady link"] = { cap = 50 * MB, conn = 3.2 * MB, rtt = 0.08, size = 8 * MB, parts = 150,
      wobble = 0.3 },
    ["a thin link"] = { cap = 3 * MB, conn = 1000 * MB, rtt = 0.03, size = 8 * MB, parts = 10 },
    ["a store that takes 6 at once"] = { cap = 100 * MB, conn = 5 * MB, rtt = 0.02, size = 8 * MB, parts = 100,
      busy = 6 },
    ["a store that takes 20 at once"] = { cap = 200 * MB, conn = 5 * MB, rtt = 0.02, size = 8 * MB, parts = 300,
      busy = 20 },
    ["many small parts"] = { cap = 20 * MB, conn = 8 * MB, rtt = 0.05, size = 262144, parts = 1500 },
    ["a link that becomes slow"] = { cap = 50 * MB, conn = 4 * MB, rtt = 0.05, size = 8 * MB, parts = 100,
      change = { 8, 10 * MB } },
  }
  for name, link in pairs(links) do
    it("is found within a tenth of the best fixed one on " .. name, function()
      local best, number = best_fixed(link)
      local seconds = simulate(link, adaptive(paces.new { max = 32 }))
      assert.is_true(seconds < best * 1.1, ("%.1f s against %.1f s with %d"):format(seconds, best, number))
    end)
  end

  it("does not stay higher than it helps", function()
    local pace = paces.new { max = 32 }
    simulate({ cap = 20 * MB, conn = 5 * MB, rtt = 0.02, size = 8 * MB, parts = 60 }, adaptive(pace))
    assert.is_true(pace.limit <= 8, tostring(pace.limit))
  end)

  it("is halved by a refusal, and returns to just below what was refused", function()
    local pace = paces.new { max = 32, start = 16 }
    local now = 0
    local function epoch()
      for _ = 1, 8 do
        now = now + 0.1
        pace:observe(now, pace.limit * 100000, pace.limit)
      end
    end
    epoch()
    local before = pace.limit
    pace:throttled(now, before)
    assert.equal(math.floor(before / 2), pace.limit)
    local top = 0
    for _ = 1, 10 do
      epoch()
      top = math.max(top, pace.limit)
    end
    assert.equal(before - 1, top)
  end)

  it("refuses little from a store that is at its limit", function()
    local _, refused = simulate({ cap = 100 * MB, conn = 5 * MB, rtt = 0.02, size = 8 * MB, parts = 200, busy = 6 },
      adaptive(paces.new { max = 32 }))
    assert.is_true(refused <= 6, tostring(refused))
  end)

  it("learns nothing while fewer are under way than it allows", function()
    local pace = paces.new { max = 32, start = 8 }
    for i = 1, 100 do pace:observe(i / 10, 1000, 2) end
    assert.equal(8, pace.limit)
  end)

  it("stays within 1 and the maximum", function()
    local pace = paces.new { max = 3, start = 8 }
    assert.equal(3, pace.limit)
    for i = 1, 10 do
      pace:throttled(i, pace.limit)
      assert.is_true(pace.limit >= 1)
    end
    for i = 1, 1000 do
      pace:observe(20 + i / 10, i * 1000, pace.limit)
      assert.is_true(pace.limit >= 1 and pace.limit <= 3)
    end
  end)

  it("takes numbers only", function()
    assert.has_error(function() paces.new { max = 0 } end)
    assert.has_error(function() paces.new { start = "4" } end)
  end)
end)

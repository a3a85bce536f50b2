local clocks = require "longshore.clock"
local progress = require "longshore.uploader.progress"

describe("progress", function()
  local clock, written, emitted

  before_each(function()
    clock, written, emitted = clocks.fixed(1000), {}, {}
  end)

  local function new(mode, width)
    return progress.new {
      mode = mode, now = clock.now, width = function() return width or 100 end,
      write = function(text) written[#written + 1] = text end,
      emit = function(event) emitted[#emitted + 1] = event end,
    }
  end

  local function upload(size, parts)
    local u = { item = { size = size }, size = size, confirmed = 0, flying = 0, left = parts or 1, resumed_parts = 0,
      resumed_bytes = 0 }
    function u:in_flight() return self.flying end
    return u
  end

  it("counts what is confirmed and what is in flight", function()
    local p = new("none")
    p:plan(1, 1000)
    local u = upload(1000, 10)
    p:event { type = "begin", upload = u }
    u.confirmed, u.flying = 300, 50
    assert.equal(350, p:snapshot().bytes)
    assert.equal(0.35, p:snapshot().share)
  end)

  it("never goes back when a part is sent again, nor above all", function()
    local p = new("none")
    p:plan(1, 1000)
    local u = upload(1000, 10)
    p:event { type = "begin", upload = u }
    local last = 0
    for _, step in ipairs { { 0, 90 }, { 0, 0 }, { 0, 50 }, { 100, 99 }, { 100, 0 }, { 900, 100 }, { 900, 0 },
      { 1000, 100 }, { 1000, 5000 } } do
      u.confirmed, u.flying = step[1], step[2]
      clock.advance(1)
      local s = p:snapshot()
      assert.is_true(s.bytes >= last)
      assert.is_true(s.bytes <= s.total)
      assert.is_true(s.share <= 1)
      assert.is_true(s.rate >= 0)
      last = s.bytes
    end
    assert.equal(1000, last)
  end)

  it("never goes back when an upload starts over", function()
    local p = new("none")
    p:plan(1, 1000)
    local u = upload(1000, 10)
    u.resumed_parts, u.resumed_bytes, u.confirmed, u.left = 5, 500, 500, 5
    p:event { type = "begin", upload = u }
    assert.equal(5, p:snapshot().parts_done)
    assert.equal(500, p:snapshot().bytes)
    u.resumed_parts, u.resumed_bytes, u.confirmed, u.left = 0, 0, 0, 10
    p:event { type = "begin", upload = u }
    local s = p:snapshot()
    assert.equal(500, s.bytes)
    assert.equal(0, s.parts_done)
    assert.equal(10, s.parts)
  end)

  it("ends at 100 % for an empty file", function()
    local p = new("none")
    p:plan(1, 0)
    local u = upload(0)
    p:event { type = "begin", upload = u }
    assert.equal(0, p:snapshot().share)
    p:ended_file(u.item, true)
    assert.equal(1, p:snapshot().share)
  end)

  it("says 100 % only when it is all", function()
    local p = new("none")
    p:plan(1, 1000000)
    local u = upload(1000000)
    p:event { type = "begin", upload = u }
    u.confirmed = 999999
    assert.truthy(progress.bar(p:snapshot(), 100):find(" 99 %%"))
    u.confirmed = 1000000
    assert.truthy(progress.bar(p:snapshot(), 100):find("100 %%"))
  end)

  it("does not count a failed file as done", function()
    local p = new("none")
    p:plan(2, 200)
    local a, b = upload(100), upload(100)
    p:event { type = "begin", upload = a }
    p:event { type = "begin", upload = b }
    p:ended_file(a.item, true)
    p:ended_file(b.item, false)
    local s = p:snapshot()
    assert.equal(100, s.bytes)
    assert.equal(2, s.ended)
  end)

  it("measures the rate of the last seconds, without what was there already", function()
    local p = new("none")
    p:plan(1, 10000)
    local u = upload(10000, 10)
    u.confirmed, u.resumed_bytes, u.resumed_parts = 5000, 5000, 5
    p:event { type = "begin", upload = u }
    p:snapshot()
    for _ = 1, 20 do
      clock.advance(1)
      u.flying = u.flying + 100
      p:snapshot()
    end
    local s = p:snapshot()
    assert.is_true(math.abs(s.rate - 100) < 1)
    assert.is_true(math.abs(s.left - 30) < 1)
    for _ = 1, 30 do
      clock.advance(1)
      p:snapshot()
    end
    assert.equal(0, p:snapshot().rate)
    assert.is_nil(p:snapshot().left)
  end)

  it("draws a bar that fits any width", function()
    local p = new("bar", 80)
    p:plan(3, 5 * 1024 ^ 3)
    local u = upload(5 * 1024 ^ 3, 80)
    p:event { type = "begin", upload = u }
    u.confirmed = 2 * 1024 ^ 3
    local text = progress.bar(p:snapshot(), 120)
    assert.truthy(text:find("[####", 1, true))
    assert.truthy(text:find(" 40 %  2.0 GiB / 5.0 GiB", 1, true))
    assert.truthy(text:find("parts 0/80", 1, true))
    assert.truthy(text:find("files 0/3", 1, true))
    for width = 0, 200 do assert.is_true(#progress.bar(p:snapshot(), width) <= width) end
  end)

  it("draws no more often than ten times a second, and takes the bar away for other texts", function()
    local p = new("bar")
    p:plan(1, 100)
    local u = upload(100)
    p:event { type = "begin", upload = u }
    for _ = 1, 100 do
      clock.advance(0.01)
      p:event { type = "progress", upload = u }
    end
    assert.is_true(#written <= 12)
    p:clear()
    assert.equal("\r\27[K", written[#written])
    local n = #written
    p:clear()
    assert.equal(n, #written)
  end)

  it("writes plain lines where there is no terminal, without control characters", function()
    local p = new("lines")
    p:plan(1, 100)
    local u = upload(100)
    p:event { type = "begin", upload = u }
    for _ = 1, 20 do
      clock.advance(1)
      u.flying = u.flying + 5
      p:event { type = "progress", upload = u }
    end
    assert.equal(4, #written)
    for _, text in ipairs(written) do assert.falsy(text:gsub("\n$", ""):find("%c")) end
    assert.truthy(written[1]:find("25 %, 25 B of 100 B, 5 B/s, 0:15 left", 1, true))
  end)

  it("gives JSON to programs", function()
    local p = new("json")
    p:plan(1, 100)
    local u = upload(100, 4)
    p:event { type = "begin", upload = u }
    clock.advance(2)
    u.confirmed = 50
    p:event { type = "part", upload = u }
    assert.equal(1, #emitted)
    assert.equal("progress", emitted[1].event)
    assert.equal(50, emitted[1].bytes)
    assert.equal(100, emitted[1].total)
    assert.equal(1, emitted[1].parts_done)
    assert.same({}, written)
  end)

  it("writes sizes and times for people", function()
    assert.equal("0 B", progress.size(0))
    assert.equal("1023 B", progress.size(1023))
    assert.equal("1.0 KiB", progress.size(1024))
    assert.equal("1.0 MiB", progress.size(1024 ^ 2 - 1))
    assert.equal("48.8 TiB", progress.size(48.8 * 1024 ^ 4))
    assert.equal("0:07", progress.time(7))
    assert.equal("12:30", progress.time(750))
    assert.equal("3:04:05", progress.time(11045))
    assert.equal(">99 h", progress.time(1e9))
  end)
end)

local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local flights = require "longshore.uploader.flights"
local provider = require "longshore.provider.s3"
local relay = require "spec.support.relay"
local s3 = require "longshore.uploader.s3"
local support = require "spec.support"
local uploader = require "longshore.uploader"

describe("the flights of an endpoint", function()
  -- Flies parts of the given speeds (bytes a second) for some seconds; returns
  -- which were called slow, by index, and when.
  local function fly(speeds, seconds, length)
    local air = flights.new { window = 2 }
    local list, found = {}, {}
    for i in ipairs(speeds) do list[i] = air:begin(0, length or 1e9) end
    for step = 1, seconds * 10 do
      local now = step / 10
      for i, speed in ipairs(speeds) do air:moved(list[i], speed * now) end
      for _, slow in ipairs(air:slow(now)) do
        for i, flight in ipairs(list) do
          if flight == slow then found[#found + 1] = { i, now } end
        end
      end
    end
    return found
  end

  it("finds the one that is far slower than the others, once", function()
    local found = fly({ 1e6, 1e6, 1e4, 2e6 }, 20)
    assert.equal(1, #found)
    assert.equal(3, found[1][1])
    assert.is_true(found[1][2] < 4)
    assert.equal(2, fly({ 1e6, 0, 1e6, 1e6, 0 }, 10)[2] and 2)
  end)

  it("finds none where all are slow, few fly, or the difference is small", function()
    assert.same({}, fly({ 10, 12, 9, 11 }, 20))
    assert.same({}, fly({ 1e6, 10 }, 20))
    assert.same({}, fly({ 1e6, 1e6, 2e5, 1e6 }, 20))
    assert.same({}, fly({ 0, 0, 0, 0 }, 20))
  end)

  it("lets one go on that will be there sooner than a second try", function()
    -- 30,000 bytes are left of 100,000,000 when speed is first known.
    local air = flights.new { window = 1 }
    local list = {}
    for i = 1, 4 do list[i] = air:begin(0, 1e8) end
    for step = 1, 30 do
      for i = 1, 3 do air:moved(list[i], step * 1e5) end
      air:moved(list[4], 1e8 - 30000 + step * 1000)
      assert.same({}, air:slow(step / 10))
    end
  end)

  it("forgets who has landed", function()
    local air = flights.new { window = 1 }
    local lazy = air:begin(0, 1e9)
    local others = { air:begin(0, 1e9), air:begin(0, 1e9), air:begin(0, 1e9) }
    air:finish(lazy)
    for step = 1, 50 do
      for _, flight in ipairs(others) do air:moved(flight, step * 1e5) end
      assert.same({}, air:slow(step / 10))
    end
  end)

  it("sends a part that has become slow again on another connection", function()
    local store = diskstore.start { min_part = 1 }
    local way = relay.start { target = store.endpoint }
    local folder = support.tmpdir()
    local data = core.random(4096):rep(256 * 32)
    local path = support.write_file(folder .. "/file", data)
    -- One connection crawls; all are held to a speed at which the file takes
    -- some seconds.
    way:rules {
      { method = "PUT", match = "partNumber=2&", times = 1, rate = 5000 },
      { method = "PUT", rate = 3000000 },
    }
    local retried = {}
    local up = assert(uploader.new {
      driver = assert(s3.new { url = "s3://" .. store.bucket .. "/up", endpoint = way.endpoint, region = store.region,
        profile = { base = "diskstore", min_part = 1 }, access_key = store.access_key, secret_key = store.secret_key,
        part_size = 4 * 1024 * 1024, threshold = 1024 }),
      flights = { window = 1 }, parallel = 4, gate = { base = 0.01, cap = 0.05 },
      on_event = function(event)
        if event.type == "retry" then retried[#retried + 1] = event end
      end,
    })
    local before = core.monotonic()
    local result, err = up:put { path = path }
    local seconds = core.monotonic() - before
    up:close()
    local log = way:log()
    local reader = assert(provider.new { profile = "diskstore", endpoint = store.endpoint, region = store.region,
      bucket = store.bucket, access_key = store.access_key, secret_key = store.secret_key })
    local head = result and reader:head { key = "up/file" }
    support.cleanup()

    assert(result, tostring(err))
    assert.equal(core.crc32c(data), head.crc32c)
    assert.equal(1, #retried)
    assert.equal(2, retried[1].part.number)
    assert.equal("timeout", retried[1].error.code)
    -- At 5000 bytes a second it would have been seven minutes.
    assert.is_true(seconds < 120, tostring(seconds))
    local tries = {}
    for _, entry in ipairs(log) do
      if entry.target:find("partNumber=2&", 1, true) then tries[#tries + 1] = entry end
    end
    assert.equal(2, #tries)
    for _, entry in ipairs(log) do
      assert.is_false(entry ~= tries[2] and entry.connection == tries[2].connection and entry.n < tries[2].n)
    end
  end)
end)

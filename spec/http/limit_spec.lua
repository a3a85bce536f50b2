-- How often a token may ask.
local clock = require "longshore.clock"
local limit = require "longshore.http.limit"

describe("the limiter", function()
  local time, allow
  before_each(function() time = clock.fixed(1700000040) end) -- (a minute begins)

  local function actor(id, rate)
    return { token_id = id, user = "u", organization = "o", tenant = "t", rate = rate }
  end

  local function allowed(who, times)
    local count, last = 0, nil
    for _ = 1, times do
      local ok, err = allow(who)
      if ok then count = count + 1 else last = err end
    end
    return count, last
  end

  it("counts each token by itself, in a window that slides", function()
    allow = limit.new { rate = { requests = 10, seconds = 60 }, clock = time }
    local count, err = allowed(actor "a", 15)
    assert.equal(10, count)
    assert.equal("rate_limited", err.code)
    assert.equal(60, err.retry_after)
    assert.equal(10, (allowed(actor "b", 15)))
    -- Half of the last window still counts half a window later.
    time.advance(90)
    assert.equal(5, (allowed(actor "a", 15)))
    time.advance(600)
    assert.equal(10, (allowed(actor "a", 15)))
  end)

  it("takes a token's own rate before the one for all", function()
    allow = limit.new { rate = { requests = 10, seconds = 60 }, clock = time }
    assert.equal(3, (allowed(actor("slow", { requests = 3, seconds = 60 }), 15)))
    assert.equal(20, (allowed(actor("fast", { requests = 20, seconds = 60 }), 25)))
    assert.equal(10, (allowed(actor "other", 15)))
    -- Its window is its own, too.
    local brief = actor("brief", { requests = 2, seconds = 1 })
    assert.equal(2, (allowed(brief, 5)))
    time.advance(2)
    assert.equal(2, (allowed(brief, 5)))
  end)

  it("limits nobody where there is no rate", function()
    allow = limit.new { clock = time }
    assert.equal(500, (allowed(actor "a", 500)))
    assert.equal(1, (allowed(actor("b", { requests = 1, seconds = 60 }), 5)))
  end)

  it("knows those without a token by who they are", function()
    allow = limit.new { rate = { requests = 2, seconds = 60 }, clock = time }
    local function host(user) return { user = user, organization = "o", tenant = "t" } end
    assert.equal(2, (allowed(host "ann", 5)))
    assert.equal(2, (allowed(host "bob", 5)))
  end)
end)

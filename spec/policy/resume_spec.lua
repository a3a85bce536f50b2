-- Whoever asks to go on with an upload that there is not begins a new one: policies see it as that, and nothing that
-- holds for a new one is got round by asking so.
local rules = require "longshore.policy.rules"
local support = require "spec.support"
local worlds = require "spec.support.broker"

describe("an upload that is to be resumed", function()
  after_each(support.cleanup)

  local BODY = "0123456789"
  local seen, w

  local function world(rule)
    seen = {}
    w = worlds.new { rules = { { before_initiate = function(context) seen[#seen + 1] = context.resume end },
      rule and rules.chain { rule } or nil } }
    return w
  end

  local function again(fields)
    fields = fields or {}
    fields.resume = true
    return w:initiate(BODY, fields)
  end

  it("is a new one for the policy where none runs", function()
    world()
    local first, info = assert(again())
    assert.is_false(info.is_resume)
    local second
    second, info = assert(again())
    assert.is_true(info.is_resume)
    assert.equal(first.id, second.id)
    assert(again { filename = "another" })
    assert.same({ false, true, false }, seen)
  end)

  it("gets round no rule for new ones", function()
    local now = 1700000000 -- a Tuesday
    local open = rules.hours { from = "00:00", to = "24:00", days = { "tue" } }
    world(rules.chain { open, rules.metadata { fields = { project = { required = true } } } })
    assert.equal("metadata.project", select(2, again()).field)
    local upload = assert(again { metadata = { project = "p" } })
    w.clock.advance(86400)
    assert.equal(now + 86400, w.clock.now())
    assert.equal("forbidden", select(2, again { filename = "another", metadata = { project = "p" } }).code)
    assert.equal(upload.id, assert(again()).id) -- (what has begun goes on)
  end)

  it("that is over is a new one, too", function()
    world()
    assert(again())
    w.clock.advance(700000)
    assert(again())
    assert.same({ false, false }, seen)
  end)

  it("that the store has lost is asked about as a new one before it begins", function()
    local closed = false
    world { before_initiate = function(context)
      if closed and not context.resume then return false, "closed" end
    end }
    assert(again())
    for id in pairs(w.provider.uploads) do w.provider.uploads[id] = nil end
    closed = true
    local upload, err = again()
    assert.is_nil(upload)
    assert.equal("closed", err.message)
    closed = false
    local info
    upload, info = assert(again())
    assert.is_false(info.is_resume)
    assert.truthy(upload.id)
  end)

  it("is counted once by a rate", function()
    world(rules.rate { limit = 2, seconds = 60 })
    assert(again { filename = "a" })
    assert(again { filename = "b" })
    assert.equal("rate_limited", select(2, again { filename = "c" }).code)
  end)

  it("is found by the type that a policy gave it", function()
    world { before_initiate = function() return { content_type = "text/plain" } end }
    local upload = assert(again())
    local second, info = assert(again())
    assert.same({ upload.id, true }, { second.id, info.is_resume })
    assert.equal("conflict", select(2, w:initiate(BODY .. "x", { resume = true })).code)
  end)
end)

-- After-hooks and webhooks are told at least once, whatever dies or fails.
local json = require "longshore.json"
local policy = require "longshore.policy"
local support = require "spec.support"
local webhook = require "longshore.policy.webhook"
local worlds = require "spec.support.broker"

local ANN = worlds.actor()
local SECRET = "0123456789abcdef"
local BODY = "0123456789"

describe("the outbox", function()
  local w
  after_each(support.cleanup)

  local function complete()
    local upload, parts = w:upload(BODY)
    return assert(w.broker:complete(ANN, upload.id, { parts = parts })), upload
  end

  local function pending()
    local n = 0
    for _, count in pairs(assert(w.store:count_events())) do n = n + count end
    return n
  end

  it("tells at once, with what the hook is promised, and keeps nothing then", function()
    local told = {}
    w = worlds.new { rules = { { after_complete = function(context) told[#told + 1] = context end } } }
    local file, upload = complete()
    assert.equal(1, #told)
    assert.equal(file.id, told[1].file.id)
    assert.equal("registered", told[1].file.state)
    assert.equal(10, told[1].file.size)
    assert.equal("completed", told[1].upload.state)
    assert.equal(upload.id, told[1].upload.id)
    assert.equal("ann", told[1].actor.user)
    assert.equal(0, pending())
  end)

  it("writes nothing where nobody listens", function()
    w = worlds.new()
    complete()
    assert.equal(0, pending())
  end)

  it("tells again what failed, later each time, until it is taken", function()
    local fail, told = true, 0
    w = worlds.new { rules = { { after_abort = function()
      told = told + 1
      if fail then error "away" end
    end } } }
    local upload = assert(w:initiate(BODY))
    assert(w.broker:abort(ANN, upload.id)) -- the abort itself is not harmed
    assert.equal(1, told)
    assert.equal(1, pending())
    assert.equal(0, w.broker:janitor().told)
    w.clock.advance(2)
    assert.equal(1, w.broker:janitor().errors)
    assert.equal(2, told)
    w.clock.advance(3)
    w.broker:janitor()
    assert.equal(2, told) -- 4 seconds now
    w.clock.advance(1)
    fail = false
    assert.equal(1, w.broker:janitor().told)
    assert.equal(3, told)
    assert.equal(0, pending())
  end)

  it("tells what was cut off: the change and its event are one", function()
    local told, die = 0, true
    w = worlds.new { rules = { { after_complete = function() told = told + 1 end } } }
    local deliver = w.broker.deliver
    w.broker.deliver = function(...)
      if die then error("killed", 0) end
      return deliver(...)
    end
    local upload, parts = w:upload(BODY)
    assert.has_error(function() w.broker:complete(ANN, upload.id, { parts = parts }) end)
    assert.equal("completed", assert(w.store:upload(upload.id)).state)
    assert.equal(0, told)
    die = false
    w.broker:janitor()
    assert.equal(0, told) -- perhaps somebody is at it
    w.clock.advance(120)
    assert.equal(1, w.broker:janitor().told)
    assert.equal(1, told)
  end)

  it("tells of a change once, however many make it", function()
    local told = 0
    w = worlds.new { rules = { { after_complete = function() told = told + 1 end } } }
    local upload, parts = w:upload(BODY)
    assert(w.broker:complete(ANN, upload.id, { parts = parts }))
    assert.is_nil((w.broker:complete(ANN, upload.id, { parts = parts })))
    assert.equal(1, told)
  end)

  it("gives up after three days, and says so", function()
    w = worlds.new { rules = { { after_abort = function() error "never" end } } }
    assert(w.broker:abort(ANN, assert(w:initiate(BODY)).id))
    for _ = 1, 100 do
      w.clock.advance(3600)
      w.broker:janitor()
    end
    assert.equal(0, pending())
    local said
    for _, line in ipairs(w.logged) do said = said or line.message == "event given up" end
    assert.is_true(said)
  end)

  describe("as webhooks", function()
    local requests, answer
    before_each(function() requests, answer = {}, { status = 204, headers = {}, body = "" } end)

    local function world(hooks, more)
      w = worlds.new { rules = more, policy = { webhooks = hooks or { { name = "index", url = "https://h.example/x",
        secret = SECRET } } }, transport = function(request)
          requests[#requests + 1] = request
          if not answer then return nil, require("longshore.errors").new("network", "away") end
          return answer
        end }
    end

    it("are signed, carry the facts, and are sent by the janitor or a timer", function()
      world()
      local file = complete()
      assert.equal(0, #requests) -- nobody waits for them
      assert.equal(1, w.broker:janitor().told)
      local request = requests[1]
      assert.equal("POST", request.method)
      assert.equal("https://h.example/x", request.url)
      local body = assert(json.decode(request.body))
      assert.equal("after_complete", body.hook)
      assert.equal(file.id, body.file.id)
      assert.equal("acme", body.actor.organization)
      assert.equal(body.id, request.headers["x-longshore-delivery"])
      assert.equal("after_complete", request.headers["x-longshore-hook"])
      assert.is_true(webhook.verify(SECRET, request.headers, request.body, { now = w.clock.now() }))
      assert.equal(0, pending())
      assert.is_nil(request.body:find(SECRET, 1, true))
    end)

    it("are sent again until a 2xx, the same delivery, signed anew", function()
      world()
      complete()
      answer = { status = 500, headers = {}, body = "" }
      w.broker:janitor()
      answer = nil
      w.clock.advance(10)
      w.broker:janitor()
      answer = { status = 200, headers = {}, body = "" }
      w.clock.advance(20)
      assert.equal(1, w.broker:janitor().told)
      assert.equal(3, #requests)
      assert.equal(requests[1].headers["x-longshore-delivery"], requests[3].headers["x-longshore-delivery"])
      assert.are_not.equal(requests[1].headers["x-longshore-signature"], requests[3].headers["x-longshore-signature"])
      assert.is_true(webhook.verify(SECRET, requests[3].headers, requests[3].body, { now = w.clock.now() }))
    end)

    it("show nobody their paths, which are often keys", function()
      for _, failure in ipairs { { "timeout", true }, { "internal", false } } do
        local url = "https://hooks.example/services/T0/KEYOFTHEHOOK"
        world { { name = "a", url = url .. "?token=KEYINQUERY", secret = SECRET } }
        w.broker.transport = function()
          local err = require("longshore.errors").new(failure[1], "not finished (" .. url .. "): " .. url)
          if failure[2] then return nil, err end
          error(err)
        end
        complete()
        local report = w.broker:janitor()
        local row = assert(w.store:due_events(w.clock.now() + 1e6, 9))[1]
        local lines = { row.error, table.concat(report.messages, "\n") }
        for _, line in ipairs(w.logged) do lines[#lines + 1] = line.message .. " " .. tostring(line.fields.error) end
        local text = table.concat(lines, "\n")
        assert.truthy(text:find("hooks.example", 1, true), text)
        assert.is_nil(text:find("KEY", 1, true), text)
      end
    end)

    it("have received what they answered at too great length", function()
      world()
      complete()
      local errors = require "longshore.errors"
      w.broker.transport = function() return nil, errors.new("too_large", "too long", { answered = 500 }) end
      assert.equal(0, w.broker:janitor().told)
      w.broker.transport = function() return nil, errors.new("too_large", "too long", { answered = 200 }) end
      w.clock.advance(100)
      assert.equal(1, w.broker:janitor().told)
      assert.equal(0, pending())
    end)

    it("hear of what they asked for, each by itself", function()
      world { { name = "a", url = "https://a.example/", secret = SECRET, hooks = { "after_abort" } },
        { name = "b", url = "https://b.example/", secret = SECRET } }
      complete()
      w.broker:janitor()
      assert.equal(1, #requests)
      assert(w.broker:abort(ANN, assert(w:initiate(BODY, { filename = "b" })).id))
      w.broker:janitor()
      assert.equal(3, #requests)
    end)

    it("that are away do not hold the others up", function()
      world { { name = "a", url = "https://a.example/", secret = SECRET }, { name = "b", url = "https://b.example/",
        secret = SECRET } }
      local transport = w.broker.transport
      w.broker.transport = function(request)
        if request.url:find("a.example", 1, true) then
          requests[#requests + 1] = request
          return nil, require("longshore.errors").new("timeout", "away")
        end
        return transport(request)
      end
      for i = 1, 6 do assert(w.broker:abort(ANN, assert(w:initiate(BODY, { filename = "f" .. i })).id)) end
      assert.equal(6, w.broker:janitor().told)
      local tried = 0
      for _, request in ipairs(requests) do
        if request.url:find("a.example", 1, true) then tried = tried + 1 end
      end
      assert.equal(1, tried) -- it would take as long each time
      -- It is asked again soon, later each time, and gets all of it when it is back.
      w.clock.advance(2)
      w.broker:janitor()
      assert.equal(0, w.broker:janitor().told)
      w.broker.transport = transport
      w.clock.advance(61)
      assert.equal(6, w.broker:janitor().told)
      assert.equal(0, pending())
    end)

    it("that refuse are asked three times in a round, and told of to nobody else", function()
      world { { name = "a", url = "https://a.example/", secret = SECRET }, { name = "b", url = "https://b.example/",
        secret = SECRET } }
      answer = { status = 500, headers = {}, body = "" }
      for i = 1, 6 do assert(w.broker:abort(ANN, assert(w:initiate(BODY, { filename = "f" .. i })).id)) end
      local report = assert(w.broker:deliver_due { target = "webhook:a" })
      assert.equal(3, report.failed)
      assert.equal(3, #requests)
      for _, request in ipairs(requests) do assert.equal("https://a.example/", request.url) end
      assert.equal(0, assert(w.broker:deliver_due { target = "webhook:a" }).failed)
    end)

    it("are told in rounds, each of some seconds", function()
      world()
      local transport = w.broker.transport
      w.broker.transport = function(request)
        w.clock.advance(2)
        return transport(request)
      end
      for i = 1, 4 do assert(w.broker:abort(ANN, assert(w:initiate(BODY, { filename = "f" .. i })).id)) end
      local report = assert(w.broker:deliver_due { seconds = 3 })
      assert.equal(2, report.told)
      assert.is_true(report.more)
      report = assert(w.broker:deliver_due { seconds = 60, limit = 1 })
      assert.equal(1, report.told)
      assert.is_true(report.more)
      report = assert(w.broker:deliver_due {})
      assert.equal(1, report.told)
      assert.is_false(report.more)
    end)

    it("that are configured no more are dropped", function()
      world()
      complete()
      w.broker.policy.webhooks = {}
      w.broker:janitor()
      assert.equal(0, pending())
    end)
  end)

  describe("signature", function()
    local event = { id = "evt_1", hook = "after_complete" }

    it("is refused for another body, secret or time, or missing", function()
      local headers = webhook.headers(SECRET, "body", 1000, event)
      assert.is_true(webhook.verify(SECRET, headers, "body", { now = 1300 }))
      local function reason(secret, body, now, changed)
        return select(2, webhook.verify(secret, changed or headers, body, { now = now })).reason
      end
      assert.equal("timestamp", reason(SECRET, "body", 1301))
      assert.equal("timestamp", reason(SECRET, "body", 699))
      assert.equal("signature", reason(SECRET, "Body", 1000))
      assert.equal("signature", reason(SECRET .. "x", "body", 1000))
      assert.equal("missing", reason(SECRET, "body", 1000, {}))
      local shifted = {}
      for k, v in pairs(headers) do shifted[k] = v end
      shifted["x-longshore-timestamp"] = "1001"
      assert.equal("signature", reason(SECRET, "body", 1000, shifted))
    end)

    it("is what its documentation says, by another implementation", function()
      local headers = webhook.headers(SECRET, '{"a":1}', 1700000000, event)
      local _, out = support.run(("printf '%%s' '1700000000.{\"a\":1}' | openssl dgst -sha256 -hmac %s")
        :format(SECRET))
      assert.equal("v1=" .. out:match("(%x+)%s*$"), headers["x-longshore-signature"])
    end)
  end)

  it("names what is wrong with a webhook", function()
    for field, change in pairs { name = { name = "a b" }, url = { url = "ftp://x" }, secret = { secret = "short" },
      hooks = { hooks = { "before_sign" } }, hook = { hook = { "after_abort" } }, timeout = { timeout = 0 } } do
      local hook = { name = "a", url = "https://x/", secret = SECRET }
      for k, v in pairs(change) do hook[k] = v end
      local made, err = policy.new { webhooks = { hook } }
      assert.is_nil(made)
      assert.equal("webhooks.1." .. field, err.field)
    end
    for _, url in ipairs { "https://", "https://u:p@x/", "https://x y/", "https://x/\195\188", "x/y", 5,
      "https://x\\@y" } do
      local _, err = policy.new { webhooks = { { name = "a", url = url, secret = SECRET } } }
      assert.equal("webhooks.1.url", err and err.field, tostring(url))
    end
    assert(policy.new { webhooks = { { name = "a", url = "https://x:8443/y?z=@1", secret = SECRET } } })
    for _, hooks in ipairs { "after_abort", {}, { after_abort = true } } do
      local _, err = policy.new { webhooks = { { name = "a", url = "https://x/", secret = SECRET, hooks = hooks } } }
      assert.equal("webhooks.1.hooks", err.field)
    end
  end)
end)

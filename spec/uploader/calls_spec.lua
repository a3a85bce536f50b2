local calls = require "longshore.uploader.calls"
local errors = require "longshore.errors"
local fake = require "spec.uploader.fake"
local support = require "spec.support"

describe("calls to a service", function()
  local w, up, answers, jobs

  before_each(function()
    answers, jobs = {}, {}
    w = fake.new()
    up = w.uploader { parallel = 2, attempts = 4 }
    w.on_put = function(put)
      jobs[#jobs + 1] = put.job
      return answers[#jobs] or { status = 200, body = "{}" }
    end
  end)
  after_each(support.cleanup)

  -- Sends one request from a task; the world's engine needs the URL's form.
  local function send(request)
    request.url = "http://store/upl_1/1?e=1"
    return up.loop:run(function() return calls.transport(up.hub)(request) end)
  end

  local cut = function() return { error = errors.new("network", "cut", { retryable = true, connected = true }) } end
  local unreachable = function()
    return { error = errors.new("network", "no connection", { retryable = true, connected = false }) }
  end

  it("give the answer, of any status", function()
    answers[1] = { status = 418, body = "teapot", headers = { x = "y" } }
    local response = assert(send { method = "GET" })
    assert.equal(418, response.status)
    assert.equal("teapot", response.body)
    assert.equal("y", response.headers.x)
    assert.equal(1, #jobs)
  end)

  it("have a time limit, and no watchdog while the service thinks", function()
    send { method = "GET" }
    assert.equal(60, jobs[1].timeout)
    assert.equal(0, jobs[1].stall_seconds)
    send { method = "GET", timeout = 5 }
    assert.equal(5, jobs[2].timeout)
  end)

  it("that change nothing are repeated after anything that may pass", function()
    answers = { { status = 503 }, cut(), { status = 500 } }
    local response = assert(send { method = "GET" })
    assert.equal(200, response.status)
    assert.equal(4, response.attempt)
    assert.is_true(response.doubtful)
  end)

  it("say what is waited for, once, when it takes a while", function()
    local notes = {}
    up.hub.event = function(event) notes[#notes + 1] = event.text end
    answers = { unreachable(), unreachable() }
    assert(send { method = "GET" })
    assert.same({}, notes)
    answers, jobs = { unreachable(), unreachable(), { status = 503 } }, {}
    assert(send { method = "GET" })
    assert.same({ "store: the service answers 503; trying again" }, notes)
  end)

  it("that change something are repeated only when they were refused, or never left", function()
    answers = { { status = 429 }, unreachable(), { status = 503 } }
    local response = assert(send { method = "POST" })
    assert.equal(200, response.status)
    assert.is_false(response.doubtful)
    jobs, answers = {}, { cut() }
    local nothing, err = send { method = "POST" }
    assert.is_nil(nothing)
    assert.equal("network", err.code)
    assert.equal(1, #jobs)
    jobs, answers = {}, { { status = 500 } }
    assert.equal(500, send { method = "POST" }.status)
    assert.equal(1, #jobs)
  end)

  it("are repeated by whoever says that they are safe, never by who says never", function()
    answers = { cut(), { status = 502 } }
    assert.equal(200, send { method = "POST", retry = "safe" }.status)
    jobs, answers = {}, { { status = 503 } }
    assert.equal(503, send { method = "GET", retry = "never" }.status)
    assert.equal(1, #jobs)
  end)

  it("end after so many attempts, with the last answer or failure", function()
    answers = { { status = 500 }, { status = 500 }, { status = 500 }, { status = 502, body = "last" } }
    assert.equal("last", send { method = "GET" }.body)
    assert.equal(4, #jobs)
    jobs, answers = {}, { cut(), cut(), cut(), cut() }
    local _, err = send { method = "GET" }
    assert.equal("network", err.code)
    assert.truthy(err.message:find("store", 1, true))
  end)

  it("are not repeated after what will not pass", function()
    answers = { { error = errors.new("tls", "the certificate is not trusted", { retryable = false }) } }
    local _, err = send { method = "GET" }
    assert.equal("tls", err.code)
    assert.equal(1, #jobs)
    for _, status in ipairs { 400, 401, 403, 404, 409, 501, 507 } do
      jobs, answers = {}, { { status = status } }
      assert.equal(status, send { method = "GET" }.status)
      assert.equal(1, #jobs)
    end
  end)

  it("wait as long as the service asks", function()
    answers = { { status = 503, headers = { ["retry-after"] = "33" } } }
    local began = w.clock.now()
    send { method = "GET" }
    assert.is_true(w.clock.now() - began >= 33)
  end)

  it("do not wait behind parts that go to the same host", function()
    local gate = up.hub.gates("store").gate
    gate:start()
    gate:start()
    assert.is_false(gate:ready(0))
    assert.equal(200, send { method = "GET" }.status)
  end)

  it("know the host of a URL, without what goes before the @", function()
    assert.equal("h:80", calls.host "http://h:80/p?q#f")
    assert.equal("h", calls.host "https://u:p@h")
    assert.equal("[::1]:9", calls.host "http://[::1]:9/x")
    assert.equal("", calls.host "nonsense")
  end)
end)

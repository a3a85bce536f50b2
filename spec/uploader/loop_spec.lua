local clocks = require "longshore.clock"
local errors = require "longshore.errors"
local loops = require "longshore.uploader.loop"

describe("the loop", function()
  local clock, engine, loop, stop

  before_each(function()
    clock, stop = clocks.fixed(0), false
    engine = { queue = {}, last = 0, cancelled = {} }
    function engine.add(_, job)
      if job.bad then return nil, errors.new("invalid", "bad job") end
      engine.last = engine.last + 1
      engine.queue[#engine.queue + 1] = { id = engine.last, at = clock.now() + (job.takes or 1), job = job }
      return engine.last
    end
    function engine.cancel(_, id)
      for _, entry in ipairs(engine.queue) do
        if entry.id == id then
          entry.gone, entry.at = true, clock.now() + 0.5
          engine.cancelled[#engine.cancelled + 1] = id
          return true
        end
      end
      return false
    end
    function engine.step(_, timeout)
      local events, till = {}, clock.now() + timeout
      table.sort(engine.queue, function(a, b) return a.at < b.at end)
      local first = engine.queue[1]
      clock.set(first and math.min(first.at, till) or till)
      while engine.queue[1] and engine.queue[1].at <= clock.now() do
        local entry = table.remove(engine.queue, 1)
        events[#events + 1] = { type = "progress", id = entry.id, sent = 1 }
        events[#events + 1] = entry.gone and { type = "failed", id = entry.id, error = errors.new("cancelled", "c") }
          or { type = "done", id = entry.id, status = 200, name = entry.job.name }
      end
      return events
    end
    loop = loops.new { engine = engine, monotonic = clock.now, interrupted = function() return stop end }
  end)

  it("gives each task the answer to its own request, all at the same time", function()
    local seen = {}
    loop:run(function()
      local tasks = {}
      for i = 1, 5 do
        tasks[i] = loop:spawn(function(n)
          local event = loop:request { name = "job " .. n, takes = 6 - n }
          seen[#seen + 1] = event.name
        end, i)
      end
      for i = 1, 5 do loop:await(tasks[i]) end
    end)
    assert.same({ "job 5", "job 4", "job 3", "job 2", "job 1" }, seen)
    assert.equal(5, clock.now())
  end)

  it("passes results and errors on, nil too", function()
    local a, b = loop:run(function() return nil, "why" end)
    assert.is_nil(a)
    assert.equal("why", b)
    local result = loop:run(function()
      local task = loop:spawn(function(x, y, z) return { x, y, z } end, 1, nil, 3)
      return loop:await(task)
    end)
    assert.same({ 1, nil, 3 }, result)
  end)

  it("makes a job that the engine refuses a failure", function()
    local event = loop:run(function() return loop:request({ bad = true }) end)
    assert.equal("failed", event.type)
    assert.equal("invalid", event.error.code)
  end)

  it("reports progress to whoever asked for it", function()
    local seen = 0
    loop:run(function()
      loop:request({}, function(event) seen = seen + event.sent end)
    end)
    assert.equal(1, seen)
  end)

  it("sleeps for as long as it was told, in order", function()
    local order = {}
    loop:run(function()
      local tasks = {}
      for i, seconds in ipairs { 3, 1, 2 } do
        tasks[i] = loop:spawn(function()
          loop:sleep(seconds)
          order[#order + 1] = { seconds, clock.now() }
        end)
      end
      for i = 1, 3 do loop:await(tasks[i]) end
    end)
    assert.same({ { 1, 1 }, { 2, 2 }, { 3, 3 } }, order)
  end)

  it("wakes who waits for a signal, once, or when the time is over", function()
    local signal, woken = loops.signal(), {}
    loop:run(function()
      loop:spawn(function()
        loop:wait(signal, 100)
        woken[#woken + 1] = clock.now()
        loop:wait(signal, 5)
        woken[#woken + 1] = clock.now()
      end)
      loop:sleep(2)
      loop:notify(signal)
      loop:notify(signal)
      loop:sleep(10)
      loop:notify(signal)
    end)
    assert.same({ 2, 7 }, woken)
  end)

  it("kills a task: cancels its request, runs its clean-ups, never resumes it", function()
    local log = {}
    loop:run(function()
      local task = loop:spawn(function()
        loop:on_end(function() log[#log + 1] = "first" end)
        local undo = loop:on_end(function() log[#log + 1] = "undone" end)
        loop:on_end(function() log[#log + 1] = "last" end)
        undo()
        loop:request { takes = 50 }
        log[#log + 1] = "resumed"
      end)
      loop:sleep(1)
      loop:kill(task)
      loop:kill(task)
      assert.is_true(task.done)
      local before = clock.now()
      loop:settle()
      log[#log + 1] = clock.now() - before < 2
    end)
    assert.same({ "last", "first", true }, log)
    assert.same({ 1 }, engine.cancelled)
  end)

  it("wakes who awaits a killed task", function()
    local result, err = loop:run(function()
      local task = loop:spawn(function() loop:sleep(1000) end)
      loop:spawn(function() loop:kill(task) end)
      return loop:await(task)
    end)
    assert.is_nil(result)
    assert.is_nil(err)
    assert.is_true(clock.now() < 1)
  end)

  it("runs clean-ups of a task that ends by itself", function()
    local ran = 0
    loop:run(function()
      loop:await(loop:spawn(function() loop:on_end(function() ran = ran + 1 end) end))
    end)
    assert.equal(1, ran)
  end)

  it("ends on an interruption", function()
    local result, err = loop:run(function()
      loop:spawn(function()
        loop:sleep(3)
        stop = true
      end)
      loop:sleep(1000)
    end)
    assert.is_nil(result)
    assert.is_true(err.interrupted)
    assert.is_true(clock.now() < 4)
  end)

  it("throws what a task threw, with the task's own trace", function()
    local ok, why = pcall(loop.run, loop, function()
      loop:await(loop:spawn(function() error("boom in a task") end))
    end)
    assert.is_false(ok)
    assert.truthy(why:find("boom in a task", 1, true))
    assert.truthy(why:find("loop_spec", 1, true))
  end)

  it("keeps nothing of what has ended", function()
    loop:run(function()
      for _ = 1, 1000 do loop:await(loop:spawn(function() loop:request { takes = 0 } end)) end
    end)
    assert.is_nil(next(loop.jobs))
    assert.is_nil(next(loop.sleepers))
    assert.is_nil(next(loop.cancelling))
    assert.equal(0, loop.live)
  end)
end)

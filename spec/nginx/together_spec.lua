-- Several requests in one thread. See longshore.nginx.together; over nginx: batches_spec.lua.
local core = require "longshore.core"
local errors = require "longshore.errors"
local together = require "longshore.nginx.together"

describe("requests handled together", function()
  local company, store, log, groups, answers, step, entered

  -- A store that notes what is written in which group, and an object store that answers what `answers` says:
  -- `answers[id]` seconds after it was asked, or when that is a function that says so; never without.
  before_each(function()
    company, log, groups, answers, entered = together.new(), {}, {}, {}, {}
    store = { db = {} }
    function store.create_upload(_, upload)
      log[#log + 1] = "row " .. upload.tenant
      if upload.bad == "fails" then return errors.fail("quota", "too many") end
      if upload.bad == "raises" then error("broken") end
      return true
    end
    function store.start_upload(_, id)
      log[#log + 1] = "started " .. id
      return true
    end
    function store.db.group(_, functions)
      groups[#groups + 1] = #functions
      local results = {}
      for i, fn in ipairs(functions) do results[i] = { pcall(fn) } end
      log[#log + 1] = "commit"
      return results
    end
    local asked = {}
    step = function(seconds)
      core.sleep(math.min(seconds, 0.005))
      local ended = {}
      for id, after in pairs(answers) do
        asked[id] = asked[id] or core.monotonic()
        local is_there
        if type(after) == "function" then is_there = after() else is_there = core.monotonic() - asked[id] >= after end
        if is_there then ended[id] = { type = "done", id = id } end
      end
      return ended
    end
    company:watch(store, { decide = function() return true end })
  end)

  local function run(functions)
    return company:run(functions, function(i) entered[#entered + 1] = i end)
  end

  local function start(name, bad)
    return function()
      local ok, err = store:create_upload { tenant = name, organization = "o", bad = bad }
      if not ok then return "refused " .. err.code end
      log[#log + 1] = "ask " .. name
      local event = company.park(step, name)
      if not event then return "cut off" end
      store:start_upload(name)
      return "done " .. name
    end
  end

  it("are written together, and none before its row is there", function()
    answers = { a = 0, b = 0, c = 0 }
    local results = run { start "b", start "a", start "c" }
    for i, name in ipairs { "b", "a", "c" } do assert.equal("done " .. name, results[i].value) end
    assert.same({ 3, 3 }, groups)
    assert.same({ "row a", "row b", "row c", "commit" }, { log[1], log[2], log[3], log[4] })
    local marked = table.concat(log, " "):match("commit.-commit$")
    for _, name in ipairs { "a", "b", "c" } do assert.truthy(marked:find("started " .. name, 1, true)) end
  end)

  it("fail alone", function()
    answers = { a = 0, d = 0 }
    local results = run { start "a", start("b", "fails"), start("c", "raises"), start "d",
      function() error("a bug") end }
    assert.equal("done a", results[1].value)
    assert.equal("refused quota", results[2].value)
    assert.equal("refused internal", results[3].value)
    assert.equal("done d", results[4].value)
    assert.is_nil(results[5].value)
    assert.truthy(results[5].thrown:find("a bug", 1, true))
  end)

  it("wait for nobody's store to write what is ready", function()
    answers = { a = function() return log[6] == "started b" and log[7] == "commit" end, b = 0 }
    run { start "a", start "b" }
    assert.same({ 2, 1, 1 }, groups)
    assert.equal("started b", log[6])
  end)

  it("are let go by one whose store hangs", function()
    answers = { a = 0, c = 0.1 }
    local began = core.monotonic()
    local results = run { start "a", start "hangs", start "c" }
    local took = core.monotonic() - began
    assert.is_true(took > 0.9, took)
    assert.equal("done a", results[1].value)
    assert.equal("done c", results[3].value)
    assert.is_nil(results[1].cut)
    assert.equal("cut off", results[2].value)
    assert.is_true(results[2].cut)
  end)

  it("take the time they need where nobody waits for them", function()
    answers = { a = 1.4, b = 1.45 }
    local results = run { start "a", start "b" }
    assert.equal("done a", results[1].value)
    assert.equal("done b", results[2].value)
    assert.is_nil(results[2].cut)
  end)

  it("rest when they sleep, and whoever goes on is named", function()
    local order = {}
    local function sleeper(name, is_over)
      return function()
        local left = 100
        repeat
          company.clock.sleep(0.05)
          left = left - 1
        until is_over() or left == 0
        order[#order + 1] = name
        return entered[#entered]
      end
    end
    -- The first one sleeps until the second one, which begins after it, has had enough.
    local results = run { sleeper("long", function() return order[1] == "short" end),
      sleeper("short", function() return true end) }
    assert.same({ "short", "long" }, order)
    assert.equal(1, results[1].value)
    assert.equal(2, results[2].value)
  end)

  it("do not rest inside what the policy does, nor in a coroutine of their own", function()
    local policy = { decide = function() return company:is_member() end, notify = function()
      return company:is_member()
    end }
    company:watch(store, policy)
    local results = run { function()
      local inside = coroutine.wrap(function() return company:is_member() end)()
      return { company:is_member(), policy:decide() or policy:notify(), company:is_member(), inside }
    end, function()
      policy.decide = nil
      return company:is_member()
    end }
    assert.same({ true, false, true, false }, results[1].value)
    assert.is_true(results[2].value)
    assert.is_false(company:is_member())
  end)

  it("are not begun when the policy takes its time for each", function()
    local asked = 0
    local policy = { decide = function()
      asked = asked + 1
      if asked == 2 then core.sleep(0.3) end
      return true
    end }
    company:watch(store, policy)
    answers = { a = 0, b = 0, c = 0, d = 0 }
    local functions = {}
    for i, name in ipairs { "a", "b", "c", "d" } do
      local go_on = start(name)
      functions[i] = function()
        policy.decide()
        return go_on()
      end
    end
    local results = run(functions)
    assert.equal(2, asked)
    assert.same({ "done a", "done b" }, { results[1].value, results[2].value })
    assert.same({ { untouched = true }, { untouched = true } }, { results[3], results[4] })
    -- The next ones are.
    results = run(functions)
    for i = 1, 4 do assert.truthy(results[i].value) end
  end)

  it("hear what the policy raises, and rest again after it", function()
    local policy = { decide = function() error("no decision", 0) end }
    company:watch(store, policy)
    local results = run { function()
      local ok, why = pcall(policy.decide, policy)
      return { ok, why, company:is_member() }
    end }
    assert.same({ false, "no decision", true }, results[1].value)
  end)

  it("is not what a single caller gets", function()
    assert.is_nil(company.park(step, 1))
    assert.is_true(store:create_upload { tenant = "t", organization = "o" })
    assert.same({}, groups)
  end)
end)

describe("the starts that may be handled together", function()
  local together_with

  setup(function()
    for _, route in ipairs(require("longshore.service.newton.server").routes { form_max = 1 }) do
      if route.name == "newton.initiate" then together_with = route.together end
    end
  end)

  it("are those whose answers are small", function()
    for _, text in ipairs { '{"num_bytes":5}', '{"filename":"a","num_bytes" : 1073741824 , "file_type":"a/b"}',
      '{"num_bytes":0}' } do
      assert.is_true(together_with { body = text }, text)
    end
  end)

  it("are none that are large, or might be", function()
    for _, text in ipairs { '{"num_bytes":1073741825}', '{"num_bytes":5000000000000}', '{"num_bytes":5e12}',
      '{"num_bytes":5.5}', '{"num_bytes":"5"}', '{"num_bytes":-5}', '{"num_bytes":5,"num_bytes":5000000000000}',
      '{"num_bytes":5,"num\\u005fbytes":5000000000000}', '{"num_bytes":', '{"num_bytes":5', "{}", "",
      '{"filename":"num_bytes","num_bytes":5}', '{"num_bytes":5,"filename":"' .. ("x"):rep(4096) .. '"}' } do
      assert.is_false(together_with { body = text }, text)
    end
    assert.is_false(together_with {})
  end)
end)

-- Starts of uploads that nginx handles together: each gets its own answer, and nobody waits for long for another's
-- store. See longshore.nginx.batches and longshore.nginx.together.
local burst = require "spec.support.burst"
local fake_ngx = require "spec.support.fake_ngx"
local http = require "spec.support.http"
local json = require "longshore.json"
local relay = require "spec.support.relay"
local serve = require "spec.support.serve"
local socket = require "socket"
local stores = require "longshore.store"
local support = require "spec.support"
local uv = require "luv"

local quote = support.quote
local MANY = 40

-- nginx drops a timer without a word to whoever set it when too many run, those of other applications.
describe("a batch whose timer never ran", function()
  it("is begun again", function()
    local now, timers, waits = 1000, {}, 0
    fake_ngx({
      now = function() return now end,
      timer = { at = function(_, fn, batches)
        timers[#timers + 1] = function() fn(false, batches) end
        return 1
      end },
    }, function()
      local gate = { queue = 10, waiting = 0, seconds = 30, free = function() return true end }
      local room = require("longshore.nginx.batches").new { gate = gate,
        one = function() return "alone" end,
        all = function(make)
          local answers = {}
          for i, request in ipairs(make()) do answers[i] = "answer to " .. request end
          return answers
        end }
      room.alone = 2 -- two others are under way
      assert.equal("answer to x", room:handle "x")
      assert.is_true(#timers >= 2)
      assert.equal(0, gate.waiting)
    end, function()
      local posted = 0
      return {
        post = function(_, n) posted = posted + n end,
        wait = function(_, seconds)
          if posted > 0 then return true end
          waits, now = waits + 1, now + seconds
          assert(waits < 10, "it waits for ever")
          -- The first two are dropped.
          if timers[3] then timers[3]() end
          return posted > 0 or nil
        end,
      }
    end)
  end)
end)

describe("a batch", function()
  it("does not wait for longer than is said for the one that is under way", function()
    local now, turns, waited = 1790000000, {}, {}
    fake_ngx({ now = function() return now end, timer = { at = function(_, fn, batches)
      turns[#turns + 1] = function() fn(false, batches) end
      return 1
    end } }, function()
      for _, haste in ipairs { 0.004, 0.02 } do
        local room = require("longshore.nginx.batches").new { at_once = 1, haste = haste,
          gate = { queue = 10, waiting = 0, seconds = 30, free = function() return true end },
          all = function(make) return { "answer to " .. make()[1] } end }
        room.running = 1
        assert.equal("answer to x", room:handle "x")
        assert.equal(1, room.running)
        assert.same({ haste }, waited)
        waited = {}
      end
    end, function()
      local posted = 0
      return { post = function(_, n) posted = posted + n end, wait = function(_, seconds)
        while turns[1] do table.remove(turns, 1)() end
        if posted == 0 then waited[#waited + 1], now = seconds, now + seconds end
        return posted > 0
      end }
    end)
  end)

  it("begins when a thread has become free, for who has waited for long enough", function()
    local now, turns, waits, is_free, room = 1790000000, {}, 0, false, nil
    fake_ngx({ now = function() return now end, timer = { at = function(_, fn, batches)
      turns[#turns + 1] = function() fn(false, batches) end
      return 1
    end } }, function()
      room = require("longshore.nginx.batches").new { at_once = 1, haste = 0.008,
        gate = { queue = 10, waiting = 0, seconds = 30, free = function() return is_free end },
        all = function(make) return { "answer to " .. make()[1] } end }
      room.running = 1
      room:go_on()
      assert.equal("answer to x", room:handle "x")
      assert.equal(2, waits)
    end, function()
      local posted = 0
      return { post = function(_, n) posted = posted + n end, wait = function(_, seconds)
        waits = waits + 1
        if waits == 2 then
          now, is_free = now + 0.002, true
          room:go_on()
        else
          now = now + seconds
        end
        while turns[1] do table.remove(turns, 1)() end
        return posted > 0
      end }
    end)
  end)

  it("hands back what it did not begin, to be counted by the limits, and what it gave up, which was", function()
    local turns, handed = {}, {}
    fake_ngx({ now = function() return 1000 end, timer = { at = function(_, fn, batches)
      turns[#turns + 1] = function() fn(false, batches) end
      return 1
    end } }, function()
      local room
      local function new(answer)
        room = require("longshore.nginx.batches").new {
          gate = { queue = 10, waiting = 0, seconds = 30, free = function() return true end },
          one = function(request)
            handed[#handed + 1] = request.admitted or false
            return "alone"
          end,
          all = function(make)
            make()
            return { answer }
          end }
        room.alone = 2
      end
      for i, answer in ipairs { 0, false } do
        new(answer)
        assert.equal("alone", room:handle {})
        assert.equal(i == 2, handed[i])
        assert.equal("alone", room:handle {}) -- and so are all for some time
        assert.is_false(handed[#handed])
        handed = i == 1 and { handed[1] } or handed
      end
    end, function()
      local posted = 0
      return { post = function(_, n) posted = posted + n end, wait = function()
        while turns[1] do table.remove(turns, 1)() end
        return posted > 0
      end }
    end)
  end)
end)

describe("starts of uploads that come together", function()
  local server, between, folder

  setup(function()
    folder = support.tmpdir()
    local host = serve.start()
    between = relay.start { target = "127.0.0.1:" .. host.store_port }
    local credentials = support.read_file(host.data .. "/diskstore-credentials")
    local keys = ("access_key = %q, secret_key = %q"):format(credentials:match("access_key=(%S+)"),
      credentials:match("secret_key=(%S+)"))
    local policy = support.write_file(folder .. "/policy.lua", [[return {
      before_initiate = function(context)
        if context.filename:find("^refused") then return false, "not this one" end
        if context.filename:find("^slow") then return { provider = "slow" } end
      end }]])
    local bucket = [[{ profile = "diskstore", bucket = "longshore", region = "us-east-1", endpoint = %q, %s }]]
    server = serve.start { config = ([[return { broker = { threads = 2, queue = 100, janitor_seconds = 0 },
      diskstore = { enabled = false }, policy = { file = %q },
      buckets = { default = %s, slow = %s } }]]):format(policy, bucket:format(host.store_url, keys),
      bucket:format(between.endpoint, keys)) }
  end)
  teardown(support.cleanup)
  before_each(function() between:rules {} end)

  local INITIATE = "/v0.5/files/uploads/initiate"
  local function send(body) return burst.send(server, INITIATE, body) end
  local function all(bodies, tokens) return burst.all(server, INITIATE, bodies, tokens) end

  local names = 0
  local function body(prefix, fields)
    names = names + 1
    local given = { filename = (prefix or "n") .. names, file_type = "a/b", num_bytes = 5 + names }
    for name, value in pairs(fields or {}) do given[name] = value end
    return given
  end

  local function with_store(fn)
    local store = assert(stores.open { type = "sqlite", path = server.data .. "/longshore.db" })
    fn(store)
    store:close()
  end

  it("each get their own answer", function()
    local before = server:counter "longshore_together_total"
    local bodies, tokens = {}, {}
    for i = 1, MANY do bodies[i] = body() end
    bodies[7], bodies[13], bodies[20] = body("refused"), body("n", { num_bytes = -1 }), "{"
    tokens[27] = "ls_aaaaaaaaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    local wanted = { [7] = 403, [13] = 400, [20] = 400, [27] = 401 }
    local seen, ids = {}, {}
    -- Two that keep both threads, until the others have come.
    between:clear()
    between:rules { { method = "POST", hold_answer = true } }
    local first = { send(body "slow"), send(body "slow") }
    assert.truthy(support.wait_until(function() return #between:log() == 2 end, 30))
    local function come()
      http.taken(server.port)
      between:rules {}
    end
    with_store(function(store)
      for i, answer in ipairs(burst.all(server, INITIATE, bodies, tokens, come)) do
        assert.equal(wanted[i] or 200, answer.status == 422 and 400 or answer.status, answer.body)
        ids[answer.headers["x-request-id"]] = true
        if answer.status == 200 then
          local row = assert(store:upload(answer.json.upload_id))
          assert.same({ bodies[i].filename, bodies[i].num_bytes, "uploading" }, { row.filename, row.size, row.state })
          assert.is_nil(seen[row.provider_upload_id])
          seen[row.provider_upload_id] = true
          local put = http.request { method = "PUT", url = answer.json.parts[1].url,
            body = ("x"):rep(bodies[i].num_bytes) }
          assert.equal(200, put.status, put.body)
        end
      end
    end)
    local count = 0
    for _ in pairs(ids) do count = count + 1 end
    assert.equal(MANY, count)
    for _, connection in ipairs(first) do
      assert.equal(200, http.read(connection, "POST").status)
      connection:close()
    end
    assert.is_true(server:counter "longshore_together_total" > before)
  end)

  it("are answered when nginx is told to stop", function()
    between:rules { { method = "POST", delay_answer = 0.5 } }
    local connections = {}
    for i = 1, MANY do connections[i] = send(body(i % 2 == 0 and "slow" or "n")) end
    http.taken(server.port)
    local stopped
    server.process:kill("sigterm")
    for i, connection in ipairs(connections) do
      local answer = assert(http.read(connection, "POST"), i)
      assert.equal(200, answer.status, answer.body)
      connection:close()
    end
    stopped = server.process:wait(40)
    assert.equal(0, stopped)
    server:start()
  end)

  it("leave nothing that lies when nginx is killed among them", function()
    between:rules { { method = "POST", delay_answer = 0.05 } }
    local connections = {}
    for round = 1, 3 do
      for i = 1, MANY do connections[i] = send(body(i % 2 == 0 and "slow" or "n")) end
      socket.sleep(0.02 * round)
      for _, pid in ipairs(server:nginx_pids("broker")) do uv.kill(pid, "sigkill") end
      local answered = {}
      for i, connection in ipairs(connections) do
        local answer = http.read(connection, "POST")
        -- (One may be cut off behind its head.)
        if answer and answer.status == 200 and answer.body then
          answered[#answered + 1] = json.decode(answer.body).upload_id
        end
        connections[i] = connection:close() and nil
      end
      with_store(function(store)
        -- Who was answered has what was said; the others are nowhere, begun, or for the janitor.
        for _, id in ipairs(answered) do assert.equal("uploading", assert(store:upload(id)).state) end
        for _, row in ipairs(store:stale_uploads { state = "starting", by = "updated_at", before = 1e11,
          limit = 10000 }) do
          assert.is_nil(row.provider_upload_id)
          assert.truthy(store:file(row.file_id))
        end
      end)
      assert.truthy(support.wait_until(function()
        local ok, answer = pcall(http.request, { method = "GET", url = server.url .. "/healthz" })
        return ok and answer and answer.status == 200
      end, 20))
    end
  end)

  it("count against a token's rate once each", function()
    local code, out = support.run(("LONGSHORE_LUA=%s %s/build/bin/longshore token create --data %s --user rae " ..
      "--rate 15/1h"):format(support.lua, quote(support.root), quote(server.data)))
    assert.equal(0, code, out)
    local token, bodies, tokens, counts = out:match("ls_[%w_]+"), {}, {}, {}
    between:rules { { method = "POST", delay_answer = 2.5 } }
    for i = 1, MANY do bodies[i], tokens[i] = body(i == 5 and "slow" or "n"), token end
    for _, answer in ipairs(all(bodies, tokens)) do counts[answer.status] = (counts[answer.status] or 0) + 1 end
    assert.same({ [200] = 15, [429] = MANY - 15 }, counts)
  end)

  it("do not wait for one whose store hangs", function()
    -- (After one that was slow they go alone for some time; so this has an nginx of its own.)
    assert.equal(0, server:stop())
    server:start()
    between:rules { { method = "POST", delay_answer = 7 } }
    local bodies = {}
    for i = 1, MANY do bodies[i] = body(i == 9 and "slow" or "n") end
    for i, answer in ipairs(all(bodies)) do
      assert.equal(200, answer.status, answer.body)
      if i == 9 then
        assert.is_true(answer.after >= 7, answer.after)
      else
        assert.is_true(answer.after < 6, answer.after)
      end
    end
    -- What had been begun for the slow one is given up, and is the janitor's.
    with_store(function(store)
      local found = {}
      for _, state in ipairs { "starting", "uploading", "aborting", "aborted" } do
        for _, row in ipairs(store:find_uploads { tenant = "default", organization = "default", service = "newton",
          filename = bodies[9].filename, states = { state } }) do
          found[#found + 1] = row
        end
      end
      assert.equal("uploading", found[1].state)
      assert.is_true(#found <= 2)
      assert.is_true(found[2] == nil or found[2].state == "aborting")
      local undone = 0
      for _, cleanup in ipairs(store:due_cleanups(1e11, 1000)) do
        for _, row in ipairs(found) do if cleanup.upload_id == row.id then undone = undone + 1 end end
      end
      assert.equal(#found - 1, undone)
    end)
  end)
end)

-- kill -9 of the client, of the broker's nginx, of the store's nginx, each at ten
-- moments of an upload: the same command again ends with an identical object,
-- sends no part that had been checkpointed, and leaves nothing behind.
local core = require "longshore.core"
local faults = require "spec.support.faults"
local support = require "spec.support"
local uv = require "luv"

local MiB = faults.MiB
local ROUNDS = 10

-- One server does not start an nginx again that dies all the time; so this many
-- kills, then a fresh start.
local KILLS_OF_A_SERVER = 4

describe("kill -9 at ten moments", function()
  local world, path
  local kills = 0

  setup(function()
    world = faults.world()
    path = world:file("source", 26 * MiB + 99) -- six parts
  end)

  teardown(function() support.cleanup() end)

  local function kill_nginx(name)
    for _, pid in ipairs(world.server:nginx_pids(name)) do uv.kill(pid, "sigkill") end
    kills = kills + 1
  end

  local function fresh_server()
    if kills % KILLS_OF_A_SERVER == 0 then
      assert(world.server:stop())
      world.server:start()
    end
  end

  -- Every other round waits for some time, spread over an upload of about 0.8
  -- seconds with its ends included; the rest until the broker knows of 1 to 4 parts,
  -- however slow the machine is: the last part is held up until the kill.
  local function by_time(round) return round % 2 == 1 end

  local function prepare(round)
    world.store_relay:clear()
    if not by_time(round) then world.store_relay:rules { { method = "PUT", match = "partNumber=6", hold = true } } end
  end

  local function wait_for_moment(round, process)
    if by_time(round) then
      core.sleep((round - 1) * 0.08 + 0.02 + core.random(1):byte() / 255 * 0.08)
      return
    end
    local wanted = math.min(round / 2, 4)
    assert(support.wait_until(function()
      local known = 0
      for _ in pairs(world:checkpointed()) do known = known + 1 end
      return known >= wanted
    end, 60))
    assert.is_true(process:alive())
  end

  local function options(round)
    return { "--name", "file-" .. round, "--limit-rate", "40MiB", "-j", "3", "--attempts", "20" }
  end

  local function assert_not_sent(done)
    local sent = world:sent_parts()
    for number in pairs(done) do
      assert.is_nil(sent[number], ("part %d had been checkpointed and was sent again"):format(number))
    end
  end

  -- Repeats the command until it succeeds; what had been checkpointed is not sent.
  local function finish(round, done)
    local run
    for _ = 1, 3 do
      run = world:put(path, options(round))
      if run.code == 0 then break end
    end
    assert.equal(0, run.code, run.text)
    assert_not_sent(done)
    return run
  end

  local function clean()
    -- What was begun and never heard of again ends by its deadline.
    local report = world:janitor(400 * 86400)
    assert.equal(0, report.errors, table.concat(report.messages, "\n"))
    assert.same({}, world:leftovers())
  end

  it("of the client", function()
    local resumed = 0
    for round = 1, ROUNDS do
      prepare(round)
      local wait, process = world:start_put(path, options(round))
      wait_for_moment(round, process)
      process:kill("sigkill")
      local run = wait(5)
      if not run.result then
        core.sleep(0.1) -- requests of the dead client end at the relay
        local done = world:checkpointed()
        world.store_relay:clear()
        run = finish(round, done)
        resumed = resumed + (run.result.resumed_parts or 0)
      end
      world:assert_stored(run.result.file_id, path)
    end
    assert.is_true(resumed > 0, "no kill hit an upload on its way")
    clean()
  end)

  for _, name in ipairs { "broker", "diskstore" } do
    it("of the " .. name .. "'s nginx", function()
      local hits = 0
      for round = 1, ROUNDS do
        fresh_server()
        prepare(round)
        local wait, process = world:start_put(path, options(name .. round))
        wait_for_moment(round, process)
        kill_nginx(name)
        local done = world:checkpointed()
        world.store_relay:clear()
        if next(done) then hits = hits + 1 end
        local run = wait(60)
        -- It may well get through: nginx is started again at once.
        if run.code ~= 0 then
          run = finish(name .. round, done)
        else
          assert_not_sent(done)
        end
        world:assert_stored(run.result.file_id, path)
      end
      assert.is_true(hits > 0, "no kill hit an upload on its way")
      clean()
    end)
  end
end)

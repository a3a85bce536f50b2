-- Faults of the machines: wrong clocks, a full disk, a file that changes.
local core = require "longshore.core"
local faults = require "spec.support.faults"
local support = require "spec.support"

local MiB = faults.MiB

describe("a clock that is an hour off", function()
  local clock
  local skews = { "-3600", "3600" }

  setup(function() clock = faults.wrong_clock() end)
  teardown(function() support.cleanup() end)

  -- nginx that has another time, for one of the two servers only.
  local function wrapper(world_folder, server, skew)
    local path = support.write_file(world_folder .. "/nginx-" .. server, ([[#!/bin/sh
case "$*" in */run/%s/*) export LD_PRELOAD=%s LONGSHORE_SPEC_SKEW=%s ;; esac
exec "$(command -v nginx || echo /usr/sbin/nginx)" "$@"
]]):format(server, clock, skew))
    assert(os.execute("chmod +x " .. path))
    return path
  end

  for _, skew in ipairs(skews) do
    for _, server in ipairs { "broker", "diskstore" } do
      it(("at the %s (%s s) does not matter"):format(server, skew), function()
        local world = faults.world { nginx = { binary = wrapper(support.tmpdir(), server, skew) },
          policy = { url_seconds = 600 } }
        local path = world:file("source", 11 * MiB)
        local run = world:put(path, { "--attempts", "5" })
        assert.equal(0, run.code, run.text)
        world:assert_stored(run.result.file_id, path)
        assert.same({}, world:leftovers())
        world.server:stop()
      end)
    end

    it(("at the client (%s s) does not matter, to a broker or to a bucket"):format(skew), function()
      local world = faults.world { policy = { url_seconds = 600 } }
      local env = { "LD_PRELOAD=" .. clock, "LONGSHORE_SPEC_SKEW=" .. skew }
      local path = world:file("source", 11 * MiB)
      local run = world:put(path, { "--attempts", "5" }, nil, env)
      assert.equal(0, run.code, run.text)
      world:assert_stored(run.result.file_id, path)
      run = world:put(path, { "--endpoint", world.store_relay.endpoint, "--profile", "diskstore", "--part-size", "5MiB",
        "--threshold", "5MiB", "--attempts", "5" }, "s3://longshore/direct", env)
      assert.equal(0, run.code, run.text)
      local found = assert(world.provider:head { key = "direct/source" })
      assert.equal(core.crc32c_file(path), found.crc32c)
      world.server:stop()
    end)
  end

  it("really was off", function()
    local code, text = support.run(("LD_PRELOAD=%s LONGSHORE_SPEC_SKEW=3600 date +%%s"):format(clock))
    assert.equal(0, code)
    assert.is_true(math.abs(tonumber(text) - core.now() - 3600) < 10)
  end)
end)

describe("a full disk on the store's side", function()
  local folder

  teardown(function() support.cleanup() end)

  local function mount()
    folder = support.tmpdir()
    local code = support.run(("mount -t tmpfs -o size=14m,mode=777 tmpfs %s"):format(folder))
    if code ~= 0 then return false end
    support.defer(function() os.execute("umount -l " .. folder) end)
    return true
  end

  it("ends in a clear error, and the upload is resumed when there is room again", function()
    if not mount() then
      pending("a small file system cannot be mounted here (it takes root)")
      return
    end
    local world = faults.world { diskstore = { folder = folder .. "/objects" } }
    local path = world:file("source", 26 * MiB + 5)
    local run = world:put(path, { "--attempts", "3", "-j", "3" })
    assert.equal(1, run.code, run.text)
    assert.is_true(run.result.resumable, run.text)
    assert.truthy(run.result.error.message:lower():find("507", 1, true) or run.result.error.code == "quota", run.text)
    assert.same({}, world:rows("select id from files where state = 'registered'"))
    local done = world:checkpointed()
    assert(os.execute(("mount -o remount,size=200m %s"):format(folder)))
    world.store_relay:clear()
    run = world:put(path, { "--attempts", "3" })
    assert.equal(0, run.code, run.text)
    local kept = 0
    for _ in pairs(done) do kept = kept + 1 end
    assert.is_true(run.result.resumed_parts >= kept)
    for number in pairs(world:sent_parts()) do assert.is_nil(done[number]) end
    world:assert_stored(run.result.file_id, path)
    assert.same({}, world:leftovers())
    -- What did not fit has left nothing in the store's own folders.
    for _, name in ipairs { "spool", "pending" } do
      assert(support.wait_until(function()
        local _, text = support.run(("find %s/objects/%s -type f"):format(folder, name))
        return text == ""
      end, 20), name)
    end
    world.server:stop()
  end)
end)

describe("a file that changes while it is uploaded", function()
  local world
  setup(function() world = faults.world() end)
  teardown(function() support.cleanup() end)

  -- The third part is under way then, and stays so until there are other rules.
  local function third_arrives()
    assert(support.wait_until(function() return world:sent_parts()[3] end, 60, 0.02))
  end

  local changes = {
    ["is written to"] = function(path)
      local f = assert(io.open(path, "r+b"))
      f:seek("set", 1000)
      f:write("changed")
      f:close()
    end,
    ["grows"] = function(path)
      local f = assert(io.open(path, "ab"))
      f:write("more")
      f:close()
    end,
    ["is cut"] = function(path)
      assert(os.execute("truncate -s 20000000 " .. path))
    end,
    ["is replaced by another"] = function(path)
      os.execute(("head -c 27262981 /dev/urandom > %s.new && mv %s.new %s"):format(path, path, path))
    end,
  }
  for how, change in pairs(changes) do
    it("(" .. how .. ") is an error, and the same command then uploads the new content", function()
      local path = world:file((how:gsub(" ", "-")), 26 * MiB + 5)
      world.store_relay:clear()
      world.store_relay:rules { { method = "PUT", match = "partNumber=3", hold = true } }
      local wait = world:start_put(path, { "-j", "1", "--attempts", "3" })
      third_arrives()
      change(path)
      world.store_relay:rules {}
      local run = wait()
      assert.equal(1, run.code, run.text)
      assert.equal("changed", run.result.error.code, run.text)
      run = world:put(path)
      assert.equal(0, run.code, run.text)
      assert.equal(0, run.result.resumed_parts)
      world:assert_stored(run.result.file_id, path)
    end)
  end

  it("leaves nothing of the old content", function()
    world:janitor(400 * 86400)
    assert.same({}, world:leftovers())
  end)
end)

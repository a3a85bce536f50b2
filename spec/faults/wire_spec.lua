-- What may happen to bytes between client, broker and store. Each ends in the
-- right object or in a clear error, never in a wrong object.
local core = require "longshore.core"
local faults = require "spec.support.faults"
local rgw = require "spec.support.rgw"
local support = require "spec.support"

local MiB = faults.MiB

local stores = {
  { name = "the disk store", compared = "crc32c", world = function() return faults.world() end },
  { name = "Ceph RGW", compared = "md5", world = function()
    local store = rgw.start()
    return faults.world { bucket = { profile = "ceph", endpoint = store.endpoint, bucket = store:make_bucket("faults"),
      access_key = store.access_key, secret_key = store.secret_key } }
  end },
}

for _, kind in ipairs(stores) do
  describe("an upload through the broker to " .. kind.name, function()
    local world, path

    setup(function()
      world = kind.world()
      path = world:file("source", 17 * MiB + 4321) -- four parts
    end)

    teardown(function() support.cleanup() end)

    before_each(function()
      world.store_relay:clear()
      world.broker_relay:clear()
    end)

    local names = 0
    local function put(more, url)
      names = names + 1
      local args = { "--name", ("file-%d"):format(names) }
      for _, arg in ipairs(more or {}) do args[#args + 1] = arg end
      return world:put(path, args, url)
    end

    local function right(run)
      assert.equal(0, run.code, run.text)
      assert.equal(kind.compared, run.result.compared)
      world:assert_stored(run.result.file_id, path)
      world:janitor(600)
      assert.same({}, world:leftovers())
      return run
    end

    it("arrives", function()
      local run = right(put())
      assert.equal(4, run.result.sent_parts)
      assert.equal(0, run.result.retries)
    end)

    it("sends a part again in which a bit was flipped on the way", function()
      world.store_relay:rules { { method = "PUT", match = "partNumber=2", times = 1, flip = 3 * MiB + 17 } }
      assert.is_true(right(put()).result.retries >= 1)
      assert.equal(2, world:sent_parts()[2])
    end)

    it("fails when the bytes are damaged every time, and nothing is registered", function()
      world.store_relay:rules { { method = "PUT", match = "partNumber=2", flip = 5 } }
      local run = put { "--attempts", "3" }
      assert.equal(1, run.code)
      assert.equal("integrity", run.result.error.code)
      assert.same({}, world:rows("select id from files where state = 'registered' and filename = 'file-" .. names ..
        "'"))
      world.store_relay:rules {}
      names = names - 1
      right(put())
    end)

    it("sends a part again whose connection broke, in the middle or before the answer", function()
      world.store_relay:rules {
        { method = "PUT", match = "partNumber=1", times = 2, cut = 2 * MiB },
        { method = "PUT", match = "partNumber=2", times = 1, cut = 100, reset = true },
        { method = "PUT", match = "partNumber=3", times = 1, forward = true, drop = true },
      }
      right(put())
      local sent = world:sent_parts()
      assert.is_true(sent[1] >= 3 and sent[2] >= 2 and sent[3] >= 2)
    end)

    it("gets through a storm of 503, on the way to the store and in the broker's own calls", function()
      world.store_relay:rules { { times = 12, status = 503, headers = { ["Retry-After"] = "0" },
        body = "<Error><Code>SlowDown</Code></Error>" } }
      local run = put { "--attempts", "30" }
      right(run)
    end)

    it("gives up on a store that stays away, clearly, and resumes later", function()
      world.store_relay:rules { { method = "PUT", skip = 2, status = 503 } }
      local run = put { "--attempts", "2", "-j", "1" }
      assert.equal(1, run.code)
      assert.is_true(run.result.resumable)
      assert.equal("busy", run.result.error.code)
      local done = world:checkpointed()
      world.store_relay:clear()
      names = names - 1
      run = right(put())
      assert.equal(2, run.result.resumed_parts)
      for number in pairs(world:sent_parts()) do assert.is_nil(done[number]) end
    end)

    it("survives that the store's answers to the broker are errors inside a 200, or lost", function()
      world.store_relay:rules {
        { method = "POST", match = "uploadId=", times = 1, status = 200,
          body = "<Error><Code>InternalError</Code><Message>again</Message></Error>" },
        { method = "POST", match = "uploadId=", times = 1, drop = true },
      }
      right(put())
    end)

    it("survives that the broker's answers are lost", function()
      world.broker_relay:rules {
        { match = "/initiate", times = 1, drop = true },
        { match = "/parts/urls", times = 1, drop = true },
        { match = "/checkpoint", times = 2, drop = true },
        { match = "/complete", times = 1, drop = true },
      }
      local run = put()
      assert.equal(0, run.code, run.text)
      world:assert_stored(run.result.file_id, path)
      -- The upload whose initiate was lost may have to wait for its deadline.
      world:janitor(365 * 86400)
      assert.same({}, world:leftovers())
    end)
  end)
end

describe("an upload with URLs of six seconds", function()
  it("gets fresh ones when they have expired", function()
    local world = faults.world { policy = { url_seconds = 6 } }
    local path = world:file("source", 17 * MiB + 4321)
    world.store_relay:rules { { method = "PUT", match = "partNumber=3", times = 1, delay = 8 } }
    local run = world:put(path, { "-j", "2" })
    assert.equal(0, run.code, run.text)
    assert.is_true(#run:of "renew" >= 1 or run.result.retries >= 1)
    world:assert_stored(run.result.file_id, path)
    assert.same({}, world:leftovers())
    support.cleanup()
  end)
end)

describe("an upload straight to a bucket", function()
  local world, path

  setup(function()
    local store = rgw.start()
    world = faults.world { bucket = { profile = "ceph", endpoint = store.endpoint, bucket = store:make_bucket("direct"),
      access_key = store.access_key, secret_key = store.secret_key } }
    path = world:file("source", 17 * MiB + 4321)
  end)

  teardown(function() support.cleanup() end)

  before_each(function() world.store_relay:clear() end)

  local function put(name)
    return world:put(path, { "--endpoint", world.store_relay.endpoint, "--profile", "ceph", "--region", "us-east-1",
      "--part-size", "5MiB", "--threshold", "5MiB", "--name", name }, "s3://direct")
  end

  it("sends a damaged part again where the ETag is an MD5", function()
    world.store_relay:rules { { method = "PUT", match = "partNumber=2", times = 1, flip = 100 } }
    local run = put("checked")
    assert.equal(0, run.code, run.text)
    assert.equal("md5", run.result.compared)
    assert.equal(core.crc32c_file(path), core.crc32c((world.provider:get { key = "checked", max = 20 * MiB })))
  end)

  it("says that nothing was compared where the store answers neither checksum nor MD5", function()
    local small = world:file("small", 100000)
    world.store_relay:rules { { method = "PUT", forward = true, status = 200,
      headers = { ETag = '"an-id-of-its-own"' } },
      { method = "HEAD", status = 200, headers = { ETag = '"an-id-of-its-own"' } } }
    local run = world:put(small, { "--endpoint", world.store_relay.endpoint, "--profile", "generic", "--region",
      "us-east-1", "--name", "opaque" }, "s3://direct")
    assert.equal(0, run.code, run.text)
    assert.equal("none", run.result.compared)
    assert.is_falsy(run.result.whole_checked)
  end)
end)

local core = require "longshore.core"
local errors = require "longshore.errors"
local fake = require "spec.uploader.fake"
local support = require "spec.support"

local function xml(code, message)
  return ("<Error><Code>%s</Code><Message>%s</Message></Error>"):format(code, message or "")
end

describe("an upload", function()
  after_each(support.cleanup)

  it("sends the parts, checkpoints them and completes with the whole CRC32C", function()
    local w = fake.new()
    local path, bytes = w.file("a.bin", 95)
    local result = assert(w.uploader():put { path = path })
    assert.equal(bytes, w.uploads.upl_1.object)
    assert.equal(core.crc32c(bytes), result.crc32c)
    assert.equal("a.bin", result.name)
    assert.equal(95, result.bytes)
    assert.equal("fil_upl_1", result.file_id)
    assert.equal(10, result.sent_parts)
    assert.equal(0, result.resumed_parts)
    assert.same({ crc32c = 10, md5 = 0, none = 0 }, result.checks)
    assert.equal("crc32c", result.compared)
    assert.is_true(result.whole_checked)
    assert.is_true(w.engine.peak <= 2)
  end)

  it("works for 0 bytes, 1 byte, an exact multiple and one more", function()
    for _, size in ipairs { 0, 1, 10, 20, 21 } do
      local w = fake.new()
      local path, bytes = w.file("a", size)
      local result = assert(w.uploader():put { path = path })
      assert.equal(bytes, w.uploads.upl_1.object)
      assert.equal(size, result.bytes)
      assert.equal(math.max(1, math.ceil(size / 10)), result.parts)
      assert.equal(core.crc32c(bytes), result.crc32c)
    end
  end)

  describe("asks for URLs just in time:", function()
    it("no more than a window", function()
      local w = fake.new { urls_at_start = true }
      local most = 0
      local path = w.file("a", 1000)
      local up = w.uploader { window = 16 }
      local held = require("longshore.uploader.targets")
      w.on_put = function()
        most = math.max(most, w.current.targets.count)
      end
      local new = held.new
      held.new = function(options)
        w.current = w.current or {}
        w.current.targets = new(options)
        return w.current.targets
      end
      finally(function() held.new = new end)
      assert(up:put { path = path })
      assert.equal(16, most)
      for _, numbers in ipairs(w.signed) do assert.is_true(#numbers <= 16) end
    end)

    it("replaces one that is about to end", function()
      local w = fake.new { url_life = 40, seconds_per_part = 7, part_size = 10 }
      local path, bytes = w.file("a", 300)
      local result = assert(w.uploader():put { path = path })
      assert.equal(bytes, w.uploads.upl_1.object)
      assert.equal(30, #w.puts)
      assert.equal(0, result.retries)
      for _, put in ipairs(w.puts) do assert.is_true(put.expires > put.at) end
    end)

    it("takes a fresh one after a 403 that says expired, without counting a retry", function()
      local w = fake.new()
      local path, bytes = w.file("a", 40)
      w.on_put = function(put)
        if put.number == 3 and not w.refused then
          w.refused = put.job.url
          return { status = 403, body = xml("AccessDenied", "Request has expired") }
        end
      end
      local result = assert(w.uploader():put { path = path })
      assert.equal(bytes, w.uploads.upl_1.object)
      assert.equal(0, result.retries)
      assert.same({ 1, 1, 2, 1 }, w.counts())
    end)

    it("takes a fresh one when the clock jumped past the expiry", function()
      local w = fake.new { url_life = 1000 }
      local path, bytes = w.file("a", 60)
      w.on_put = function(put)
        if put.number == 4 and not w.jumped then
          w.jumped = true
          w.clock.advance(2000)
          return { status = 403, body = xml("AccessDenied") }
        end
      end
      assert(w.uploader():put { path = path })
      assert.equal(bytes, w.uploads.upl_1.object)
    end)

    it("fails when a fresh one is refused as well", function()
      local w = fake.new()
      local path = w.file("a", 40)
      w.on_put = function() return { status = 403, body = xml("AccessDenied", "Request has expired") } end
      local result, err = w.uploader { parallel = 1 }:put { path = path }
      assert.is_nil(result)
      assert.equal("expired", err.code)
      assert.same({ 2 }, w.counts())
    end)

    it("fails at once for a 403 before the expiry", function()
      local w = fake.new()
      local path = w.file("a", 10)
      w.on_put = function() return { status = 403, body = xml("AccessDenied", "no") } end
      local _, err = w.uploader():put { path = path }
      assert.equal("forbidden", err.code)
      assert.equal(1, #w.puts)
    end)

    it("names the wrong clock", function()
      local w = fake.new()
      local path = w.file("a", 10)
      w.on_put = function()
        return { status = 403, body = xml("RequestTimeTooSkewed"),
          headers = { date = "Wed, 15 Nov 2023 00:00:00 GMT" } }
      end
      local _, err = w.uploader():put { path = path }
      assert.truthy(tostring(err):find("clock of this machine is %d+ minutes behind"))
    end)

    it("says so when the service gives no fresh ones", function()
      local w = fake.new { capabilities = { batch = 0 }, url_life = 20, seconds_per_part = 7 }
      local path = w.file("a", 100)
      local _, err = w.uploader():put { path = path }
      assert.equal("expired", err.code)
      assert.truthy(err.message:find("no fresh ones", 1, true))
    end)
  end)

  describe("repeats", function()
    it("after 5xx, 408, cut connections and time-outs", function()
      local w = fake.new()
      local path, bytes = w.file("a", 60)
      local troubles = {
        { status = 500 }, { status = 408 }, { status = 400, body = xml("RequestTimeout") },
        { error = errors.new("network", "cut", { retryable = true }) },
        { error = errors.new("timeout", "stalled", { retryable = true }) }, { status = 502 },
      }
      w.on_put = function(put)
        local trouble = troubles[put.number]
        troubles[put.number] = nil
        return trouble
      end
      local result = assert(w.uploader():put { path = path })
      assert.equal(bytes, w.uploads.upl_1.object)
      assert.equal(6, result.retries)
      assert.same({ 2, 2, 2, 2, 2, 2 }, w.counts())
    end)

    it("not after a 4xx", function()
      for _, status in ipairs { 400, 401, 404, 405, 411, 412, 413 } do
        local w = fake.new()
        w.on_put = function() return { status = status } end
        local path = w.file("a", 10)
        local result, err = w.uploader():put { path = path }
        assert.is_nil(result)
        assert.equal(status, err.status)
        assert.equal(1, #w.puts)
      end
    end)

    it("no more often than it may, and says how often", function()
      local w = fake.new()
      w.on_put = function() return { status = 500, body = xml("InternalError") } end
      local path = w.file("a", 10)
      local _, err = w.uploader { attempts = 4, journal = w.folder .. "/j" }:put { path = path }
      assert.equal(4, #w.puts)
      assert.truthy(err.message:find("4 attempts", 1, true))
      assert.is_true(err.resumable)
      assert.same({}, w.aborted)
    end)

    it("within a budget for the whole endpoint", function()
      local w = fake.new()
      w.on_put = function() return { status = 500 } end
      local path = w.file("a", 100)
      local _, err = w.uploader { attempts = 50, gate = { budget = 5, random = function() return 0 end } }
        :put { path = path }
      assert.is_true(#w.puts <= 7)
      assert.truthy(err.message:find("too many", 1, true))
    end)

    it("through a storm of 503, slower, one request at a time", function()
      local w = fake.new { seconds_per_part = 0.1 }
      local path, bytes = w.file("a", 400)
      local storm, open = 30, 0
      w.on_put = function()
        if storm > 0 then
          storm = storm - 1
          open = math.max(open, w.engine.open)
          if storm == 10 then open = 0 end
          return { status = 503, body = xml("SlowDown") }
        end
      end
      local result = assert(w.uploader { parallel = 8, attempts = 20 }:put { path = path })
      assert.equal(bytes, w.uploads.upl_1.object)
      assert.equal(30, result.retries)
      assert.is_true(open <= 1)
      assert.equal(8, w.engine.peak)
    end)

    it("not before Retry-After is over", function()
      local w = fake.new()
      local path = w.file("a", 10)
      w.on_put = function()
        if #w.puts == 1 then return { status = 503, headers = { ["retry-after"] = "77" } } end
      end
      assert(w.uploader():put { path = path })
      assert.is_true(w.puts[2].at - w.puts[1].at >= 77)
    end)
  end)

  describe("checks what arrived:", function()
    it("bytes damaged on the way are sent again", function()
      local w = fake.new()
      local path, bytes = w.file("a", 50)
      w.damage = function(put)
        if put.number == 2 and not w.damaged then
          w.damaged = true
          return "X" .. put.data:sub(2)
        end
        return put.data
      end
      local result = assert(w.uploader():put { path = path })
      assert.equal(bytes, w.uploads.upl_1.object)
      assert.equal(1, result.retries)
      assert.is_true(w.puts[#w.puts].job.checksum)
    end)

    it("on a new connection", function()
      local w = fake.new()
      local path = w.file("a", 10)
      w.damage = function(put) return #w.puts == 1 and "damaged!!!" or put.data end
      assert(w.uploader():put { path = path })
      assert.is_nil(w.puts[1].job.fresh)
      assert.is_true(w.puts[2].job.fresh)
    end)

    it("bytes damaged each time are an error, not an object", function()
      local w = fake.new()
      local path = w.file("a", 50)
      w.damage = function(put) return "X" .. put.data:sub(2) end
      local result, err = w.uploader():put { path = path }
      assert.is_nil(result)
      assert.equal("integrity", err.code)
      assert.same({}, w.completed)
    end)

    it("by MD5 where the store answers no CRC32C", function()
      local w = fake.new { checksums = "md5" }
      local path, bytes = w.file("a", 50)
      w.damage = function(put)
        return #w.puts == 2 and "X" .. put.data:sub(2) or put.data
      end
      local result = assert(w.uploader():put { path = path })
      assert.equal(bytes, w.uploads.upl_1.object)
      assert.equal(1, result.retries)
      assert.equal("md5", result.compared)
    end)

    it("by nothing where the store answers neither, and says so", function()
      local w = fake.new { checksums = "none", crc32c = false }
      local path = w.file("a", 50)
      local result = assert(w.uploader():put { path = path })
      assert.equal("none", result.compared)
      assert.same({ crc32c = 0, md5 = 0, none = 5 }, result.checks)
      assert.is_false(result.whole_checked)
    end)

    it("by MD5 where nobody knows what the ETag is, as soon as one proves it", function()
      local w = fake.new { checksums = "md5", etag = "maybe" }
      local path, bytes = w.file("a", 50)
      w.damage = function(put) return #w.puts == 3 and "X" .. put.data:sub(2) or put.data end
      local result = assert(w.uploader():put { path = path })
      assert.equal(bytes, w.uploads.upl_1.object)
      assert.equal("md5", result.compared)
      assert.equal(1, result.retries)
    end)

    it("and takes an ETag that is no MD5 for none, after one part sent again", function()
      local w = fake.new { checksums = "md5", etag = "maybe" }
      local path = w.file("a", 50)
      w.on_put = function(put)
        local upload = w.uploads.upl_1
        local etag = '"' .. core.hex(core.md5("salt" .. put.number)) .. '"'
        upload.stored[put.number] = { data = put.data, etag = etag }
        return { status = 200, headers = { etag = etag } }
      end
      local result = assert(w.uploader { parallel = 1 }:put { path = path })
      assert.equal("none", result.compared)
      assert.same({ 2, 1, 1, 1, 1 }, w.counts())
    end)

    it("an answer without an ETag is an error that says what may be wrong", function()
      local w = fake.new()
      local path = w.file("a", 50)
      w.on_put = function() return { status = 200 } end
      local _, err = w.uploader():put { path = path }
      assert.truthy(err.message:find("ETag", 1, true))
      assert.is_true(#w.puts <= 2)
    end)

    it("a whole object that differs is an error", function()
      local w = fake.new()
      local path = w.file("a", 50)
      w.on_complete = function() return { crc32c = 1 } end
      local _, err = w.uploader():put { path = path }
      assert.equal("integrity", err.code)
    end)
  end)

  describe("a source that changes", function()
    it("while it is sent is an error, and the upload is aborted", function()
      local w = fake.new()
      local path = w.file("a", 50)
      w.on_put = function(put)
        if put.number == 5 then support.write_file(path, "something else") end
      end
      local result, err = w.uploader { journal = w.folder .. "/j" }:put { path = path }
      assert.is_nil(result)
      assert.equal("changed", err.code)
      assert.same({ "upl_1" }, w.aborted)
      assert.same({}, w.completed)
      assert.is_nil(err.resumable)
    end)

    it("as the engine notices it, too", function()
      local w = fake.new()
      local path = w.file("a", 50)
      w.on_put = function() return { error = errors.new("changed", "the file became shorter") } end
      local _, err = w.uploader():put { path = path }
      assert.equal("changed", err.code)
      assert.same({ "upl_1" }, w.aborted)
    end)

    it("is held to its size and time by the engine", function()
      local w = fake.new()
      local path = w.file("a", 50)
      assert(w.uploader():put { path = path })
      local file = w.puts[1].job.body
      assert.equal(50, file.size)
      assert.equal(core.file_stat(path).mtime_ns, file.mtime_ns)
    end)
  end)

  describe("checkpoints", function()
    it("come in batches and never hold up a part", function()
      local w = fake.new()
      local path = w.file("a", 200)
      assert(w.uploader():put { path = path })
      local seen = 0
      for _, batch in ipairs(w.checkpoints) do seen = seen + #batch end
      assert.is_true(seen > 0 and seen <= 20)
    end)

    it("are not made of the last part: it goes with complete", function()
      local w = fake.new()
      assert(w.uploader():put { path = (w.file("one", 5)) })
      assert.same({}, w.checkpoints)
      assert(w.uploader { parallel = 1 }:put { path = (w.file("three", 30)) })
      for _, batch in ipairs(w.checkpoints) do
        for _, part in ipairs(batch) do assert.is_true(part.number < 3) end
      end
    end)

    it("that fail are repeated with the next part and stop nothing", function()
      local w = fake.new()
      local path, bytes = w.file("a", 100)
      local calls = 0
      w.on_checkpoint = function()
        calls = calls + 1
        if calls < 3 then return errors.fail("unavailable", "no", { retryable = true }) end
        return true
      end
      assert(w.uploader():put { path = path })
      assert.equal(bytes, w.uploads.upl_1.object)
      assert.is_true(#w.checkpoints > 0)
    end)

    it("that are refused stop nothing", function()
      local w = fake.new()
      local path, bytes = w.file("a", 100)
      w.on_checkpoint = function() return errors.fail("conflict", "late") end
      assert(w.uploader():put { path = path })
      assert.equal(bytes, w.uploads.upl_1.object)
    end)
  end)

  it("needs no checkpoint, no fresh URLs, no abort and no ETag from a driver", function()
    local w = fake.new { capabilities = { batch = 0, checkpoint = 0, token = "none" }, url_life = 1e6 }
    w.driver.urls, w.driver.checkpoint, w.driver.abort = nil, nil, nil
    w.driver.complete = function() return {} end
    w.on_put = function() return { status = 201 } end
    local path = w.file("a", 50)
    local result = assert(w.uploader():put { path = path })
    assert.equal("none", result.compared)
  end)

  it("sends one part after another where the service wants that", function()
    local w = fake.new { capabilities = { ordered = true } }
    local path, bytes = w.file("a", 80)
    assert(w.uploader { parallel = 4 }:put { path = path })
    assert.equal(bytes, w.uploads.upl_1.object)
    assert.equal(1, w.engine.peak)
    for i, put in ipairs(w.puts) do assert.equal(i, put.number) end
  end)

  it("sends the rest of a part where the service has its beginning", function()
    local w = fake.new { capabilities = { ordered = true, reask = true, token = "none" } }
    local path, bytes = w.file("a", 30)
    local failed
    w.on_put = function(put)
      if put.number == 2 and not failed then
        failed = true
        return { error = errors.new("network", "cut", { retryable = true }), sent = 4 }
      end
    end
    w.on_urls = function(session, parts)
      if failed and parts[1].number == 2 then
        return { { url = "http://store/" .. session.id .. "/2?e=9999999999", offset = 14, length = 6 } }
      end
    end
    w.on_complete = function() return {} end
    local result = assert(w.uploader():put { path = path })
    assert.equal(bytes:sub(15, 20), w.puts[3].data)
    assert.equal(core.crc32c(bytes), result.crc32c)
    assert.same({ crc32c = 2, md5 = 0, none = 1 }, result.checks)
  end)

  it("lets a driver read the answers itself", function()
    local w = fake.new()
    local path = w.file("a", 20)
    w.on_put = function() return { status = 308 } end
    w.driver.answer = function(_, _, part, event)
      if event.status == 308 then return true, "t" .. part.number end
    end
    w.on_complete = function(_, parts) return { tokens = parts[1].token .. parts[2].token } end
    local result = assert(w.uploader():put { path = path })
    assert.equal("t1t2", result.tokens)
  end)

  it("refuses a plan that does not make up the file, and aborts it", function()
    local w = fake.new()
    local path = w.file("a", 50)
    local start = w.driver.start
    w.driver.start = function(...)
      local session = start(...)
      table.remove(session.parts, 3)
      return session
    end
    local _, err = w.uploader():put { path = path }
    assert.equal("store", err.code)
    assert.truthy(err.message:find("plan", 1, true))
    assert.equal(0, #w.puts)
    assert.same({ "upl_1" }, w.aborted)
  end)

  it("of what is no file is an error that names it", function()
    local w = fake.new()
    for _, path in ipairs { w.folder .. "/missing", w.folder, "/dev/null" } do
      local result, err = w.uploader():put { path = path }
      assert.is_nil(result)
      assert.truthy(tostring(err):find(path, 1, true))
    end
    assert.equal(0, w.last)
  end)

  it("stops its other parts when one fails for good", function()
    local w = fake.new { seconds_per_part = 100 }
    local path = w.file("a", 200)
    w.on_put = function(put)
      if put.number == 3 then return { status = 413, body = xml("EntityTooLarge"), after = 1 } end
    end
    local began = w.clock.now()
    local _, err = w.uploader { parallel = 4 }:put { path = path }
    assert.equal("too_large", err.code)
    assert.is_true(w.clock.now() - began < 10)
    assert.same({ "upl_1" }, w.aborted)
    -- no part may arrive after the abort
    assert.equal(0, w.open_at_abort)
  end)

  it("of 5 GiB and a byte counts every byte once", function()
    local w = fake.new { part_size = 16 * 1024 * 1024 }
    local path = w.folder .. "/sparse"
    support.run("truncate -s 5368709121 " .. path)
    -- CRC32C of n zeros, from that of 1 MiB of them.
    local function zeros(n)
      local crc, block, size = 0, core.crc32c(("\0"):rep(1024 * 1024)), 1024 * 1024
      for _ = 1, math.floor(n / size) do crc = core.crc32c_combine(crc, block, size) end
      local rest = n % size
      return core.crc32c_combine(crc, core.crc32c(("\0"):rep(rest)), rest)
    end
    -- An engine that does not read 5 GiB.
    local lengths, last_offset = 0, 0
    w.engine.add = function(self, job)
      self.last = self.last + 1
      lengths, last_offset = lengths + job.body.length, math.max(last_offset, job.body.offset)
      local crc = zeros(job.body.length)
      self.jobs[#self.jobs + 1] = { id = self.last, at = w.clock.now() + 1, crc = crc, sent = job.body.length }
      return self.last
    end
    w.engine.step = function(self)
      w.clock.advance(1)
      local events = {}
      for i, job in ipairs(self.jobs) do
        events[i] = { type = "done", id = job.id, status = 200, sent = job.sent, crc32c = job.crc, body = "",
          headers = { etag = '"x"', ["x-amz-checksum-crc32c"] = core.crc32c_base64(job.crc) } }
      end
      self.jobs = {}
      return events
    end
    w.on_complete = function(_, parts, crc)
      w.parts, w.crc = parts, crc
      return {}
    end
    local result = assert(w.uploader():put { path = path })
    assert.equal(5368709121, lengths)
    assert.equal(5368709120, last_offset)
    assert.equal(321, #w.parts)
    assert.equal(5368709121, result.bytes)
    assert.equal(5368709121, result.sent_bytes)
    assert.equal(zeros(5368709121), w.crc)
    assert.equal("5368709121", ("%.0f"):format(result.bytes))
  end)

  it("that the store has no room for is an error at once, to be resumed when there is", function()
    local w = fake.new()
    local path = w.file("a", 50)
    w.on_put = function() return { status = 507, body = xml("InsufficientStorage", "full") } end
    local _, err = w.uploader { journal = w.folder .. "/j" }:put { path = path }
    assert.equal("quota", err.code)
    assert.is_true(err.resumable)
    assert.is_true(#w.puts <= 2)
  end)
end)

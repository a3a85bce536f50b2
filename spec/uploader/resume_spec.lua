local core = require "longshore.core"
local errors = require "longshore.errors"
local fake = require "spec.uploader.fake"
local support = require "spec.support"

describe("resuming", function()
  after_each(support.cleanup)

  -- An uploader that is interrupted when `w.stop` is true.
  local function uploader(w, more)
    local options = { journal = w.folder .. "/journal", interrupted = function() return w.stop end }
    for k, v in pairs(more or {}) do options[k] = v end
    return w.uploader(options)
  end

  local function interrupted_after(w, path, n, more)
    w.on_put = function(put)
      if put.number > n then w.stop = true end
    end
    local result, err = uploader(w, more):put { path = path }
    assert.is_nil(result)
    assert.is_true(err.interrupted)
    assert.is_true(err.resumable)
    w.stop, w.on_put = false, function() end
    w.sent_before = #w.puts
    w.puts = {}
    return err
  end

  it("sends only what is missing", function()
    local w = fake.new()
    local path, bytes = w.file("a", 95)
    interrupted_after(w, path, 6, { parallel = 1 })
    local result = assert(uploader(w):put { path = path })
    assert.equal(bytes, w.uploads.upl_1.object)
    assert.equal(core.crc32c(bytes), result.crc32c)
    assert.equal(6, result.resumed_parts)
    assert.same({ crc32c = 10, md5 = 0, none = 0 }, result.checks)
    assert.equal(4, result.sent_parts)
    assert.equal(35, result.sent_bytes)
    assert.equal(4, #w.puts)
    assert.equal(1, w.last)
  end)

  it("never sends a part again that was recorded, whatever the moment", function()
    for n = 0, 9 do
      local w = fake.new()
      local path, bytes = w.file("a", 100)
      interrupted_after(w, path, n, { parallel = 3 })
      local recorded = {}
      for _, batch in ipairs(w.checkpoints) do
        for _, part in ipairs(batch) do recorded[part.number] = true end
      end
      assert(uploader(w):put { path = path })
      assert.equal(bytes, w.uploads.upl_1.object)
      for _, put in ipairs(w.puts) do assert.is_nil(recorded[put.number]) end
    end
  end)

  it("checkpoints what the store has and the service does not know of", function()
    local w = fake.new()
    local path = w.file("a", 100)
    w.on_checkpoint = function() return errors.fail("unavailable", "no", { retryable = true }) end
    interrupted_after(w, path, 6, { parallel = 1 })
    w.on_checkpoint = nil
    w.checkpoints = {}
    assert(uploader(w):put { path = path })
    local recorded = {}
    for _, batch in ipairs(w.checkpoints) do
      for _, part in ipairs(batch) do recorded[part.number] = true end
    end
    for n = 1, 6 do assert.is_true(recorded[n]) end
  end)

  it("leaves no journal behind after success", function()
    local w = fake.new()
    local path = w.file("a", 100)
    interrupted_after(w, path, 5)
    local journal = require "longshore.uploader.journal"
    assert.equal(1, #journal.list(w.folder .. "/journal"))
    assert(uploader(w):put { path = path })
    assert.same({}, journal.list(w.folder .. "/journal"))
  end)

  it("starts over when the source has changed, aborts the old one and says so", function()
    local w = fake.new()
    local path = w.file("a", 100)
    interrupted_after(w, path, 5)
    local bytes = ("new"):rep(40)
    support.write_file(path, bytes)
    local result = assert(uploader(w):put { path = path })
    assert.same({ "upl_1" }, w.aborted)
    assert.equal(bytes, w.uploads.upl_2.object)
    assert.equal(0, result.resumed_parts)
    assert.truthy(w.notes():find("has changed", 1, true))
  end)

  it("starts over when asked to", function()
    local w = fake.new()
    local path, bytes = w.file("a", 100)
    interrupted_after(w, path, 5)
    assert(uploader(w, { restart = true }):put { path = path })
    assert.same({ "upl_1" }, w.aborted)
    assert.equal(bytes, w.uploads.upl_2.object)
  end)

  it("starts over when the upload is gone at the service", function()
    local w = fake.new()
    local path, bytes = w.file("a", 100)
    interrupted_after(w, path, 5)
    w.uploads = {}
    local result = assert(uploader(w):put { path = path })
    assert.equal(bytes, w.uploads.upl_2.object)
    assert.equal(0, result.resumed_parts)
  end)

  it("starts over when the store has forgotten it meanwhile", function()
    local w = fake.new()
    local path, bytes = w.file("a", 100)
    interrupted_after(w, path, 5)
    w.on_put = function(put)
      if put.id == "upl_1" then
        w.uploads.upl_1 = nil
        return { status = 404, body = "<Error><Code>NoSuchUpload</Code></Error>" }
      end
    end
    assert(uploader(w):put { path = path })
    assert.equal(bytes, w.uploads.upl_2.object)
    assert.truthy(w.notes():find("gone", 1, true))
  end)

  it("computes the checksum of parts that another one sent", function()
    local w = fake.new()
    local path, bytes = w.file("a", 100)
    interrupted_after(w, path, 5)
    local start = w.driver.start
    w.driver.start = function(...)
      local session = start(...)
      for _, part in pairs(session.have) do part.crc32c = nil end
      return session
    end
    local result = assert(uploader(w):put { path = path })
    assert.equal(core.crc32c(bytes), result.crc32c)
    assert.is_true(result.resumed_parts > 0)
  end)

  it("compares what was sent with the file again, when asked to", function()
    local w = fake.new()
    local path = w.file("a", 100)
    interrupted_after(w, path, 6, { parallel = 1 })
    -- A change that neither size, time nor inode tell of.
    local stat = core.file_stat(path)
    local file = assert(io.open(path, "r+b"))
    file:seek("set", 35)
    file:write("unnoticed")
    file:close()
    local real = core.file_stat
    core.file_stat = function(p) return p == path and stat or real(p) end
    finally(function() core.file_stat = real end)
    local result = assert(uploader(w, { recheck = true }):put { path = path })
    assert.equal(support.read_file(path), w.uploads.upl_1.object)
    assert.equal(core.crc32c(support.read_file(path)), result.crc32c)
    local sent = w.counts()
    assert.equal(1, sent[4])
    assert.equal(1, sent[5])
    assert.is_nil(sent[3])
  end)

  it("takes an upload that turns out to be complete for what it is", function()
    local w = fake.new()
    local path = w.file("a", 100)
    w.on_complete = function()
      w.stop = true
      return errors.fail("network", "the answer was lost", { retryable = true })
    end
    local _, err = uploader(w):put { path = path }
    assert.is_true(err.resumable)
    w.stop = false
    w.driver.start = function(_, _, saved)
      return { id = saved.id, state = {}, parts = {}, completed = { file_id = "fil_1" }, resumed = true }
    end
    local puts = #w.puts
    local result = assert(uploader(w):put { path = path })
    assert.is_true(result.already)
    assert.equal("fil_1", result.file_id)
    assert.equal(puts, #w.puts)
  end)

  it("is refused while another process is at it", function()
    local w = fake.new()
    local path = w.file("a", 100)
    local up = uploader(w)
    w.on_put = function(put)
      if put.number == 2 then
        w.on_put = function() end
        w.second, w.second_err = uploader(w):put { path = path }
      end
    end
    assert(up:put { path = path })
    assert.is_nil(w.second)
    assert.equal("busy", w.second_err.code)
  end)

  it("is possible after failures that may pass, not after others", function()
    local w = fake.new()
    local path = w.file("a", 100)
    w.on_put = function() return { status = 503 } end
    local _, err = uploader(w, { attempts = 2 }):put { path = path }
    assert.is_true(err.resumable)
    assert.same({}, w.aborted)
    w.on_put = function() return { status = 400, body = "<Error><Code>EntityTooLarge</Code></Error>" } end
    _, err = uploader(w, { attempts = 2 }):put { path = path }
    assert.is_nil(err.resumable)
    assert.same({ "upl_1" }, w.aborted)
  end)

  it("keeps no URL and no signature in the journal", function()
    local w = fake.new { urls_at_start = true }
    local path = w.file("a", 100)
    interrupted_after(w, path, 5)
    local _, text = support.run("cat " .. w.folder .. "/journal/*")
    assert.truthy(text:find("upl_1", 1, true))
    assert.falsy(text:find("http://store", 1, true))
  end)

  it("is not promised without a journal", function()
    local w = fake.new()
    local path = w.file("a", 100)
    w.on_put = function(put) if put.number > 5 then w.stop = true end end
    local _, err = uploader(w, { journal = false }):put { path = path }
    assert.is_true(err.interrupted)
    assert.is_nil(err.resumable)
  end)
end)

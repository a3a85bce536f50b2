local support = require "spec.support"
local worlds = require "spec.support.broker"

local ANN = worlds.actor()
local BODY = "0123456789"
local DAY = 86400

describe("broker: the janitor", function()
  teardown(support.cleanup)

  it("has nothing to do where nothing is stale", function()
    local w = worlds.new()
    local upload, parts = w:upload(BODY)
    w:upload(BODY, { filename = "b" })
    assert(w.broker:complete(ANN, upload.id, { parts = parts }))
    local report = w.broker:janitor()
    for name, n in pairs(report) do
      if type(n) == "number" then assert.equal(0, n, name) end
    end
    assert.same({ 1, 1 }, { w.provider:left() })
  end)

  it("expires uploads at their deadline, at the store too", function()
    local w = worlds.new()
    local upload = w:upload(BODY)
    w.clock.advance(7 * DAY - 1)
    assert.equal(0, w.broker:janitor().expired)
    w.clock.advance(1)
    local report = w.broker:janitor()
    assert.equal(1, report.expired)
    assert.equal(0, report.errors)
    assert.same({ 0, 0 }, { w.provider:left() })
    assert.equal("expired", assert(w.broker:upload(ANN, upload.id)).state)
    assert.equal("not_found", select(2, w.broker:file(ANN, upload.file_id)).code)
    assert.equal(0, w.broker:janitor().expired)
  end)

  it("leaves the store's failures to its next runs, later each time, and tells of them", function()
    local w = worlds.new()
    w:upload(BODY)
    w.clock.advance(8 * DAY)
    w.provider:fault("abort_multipart", { code = "unavailable", times = 3 })
    local report = w.broker:janitor()
    assert.equal(1, report.expired)
    assert.equal(1, report.pending)
    assert.equal(0, w.broker:janitor().aborted) -- not yet due
    w.clock.advance(30)
    report = w.broker:janitor()
    assert.equal(1, report.errors)
    assert.truthy(report.messages[1]:find("abort_multipart", 1, true))
    w.clock.advance(59)
    assert.equal(0, w.broker:janitor().errors) -- 60 s this time
    w.clock.advance(1)
    assert.equal(1, w.broker:janitor().errors)
    w.clock.advance(120)
    assert.equal(1, w.broker:janitor().aborted)
    assert.same({ 0, 0 }, { w.provider:left() })
  end)

  it("finishes a complete that was cut short, once its lease is over", function()
    local w = worlds.new()
    local upload, parts = w:upload(BODY)
    w.provider:fault("complete_multipart", { raise = true, when = "after" })
    assert.has_error(function()
      w.broker:complete(ANN, upload.id, { parts = parts, crc32c = worlds.crc32c(BODY) })
    end)
    w.clock.advance(119)
    assert.equal(0, w.broker:janitor().finished)
    w.clock.advance(1)
    local report = w.broker:janitor()
    assert.equal(1, report.finished)
    local file = assert(w.broker:file(ANN, upload.file_id))
    assert.equal("registered", file.state)
    assert.same({ "size", "crc32c" }, file.checks)
  end)

  it("opens a complete again that cannot be finished, and expires it in the same run when its time is over", function()
    local w = worlds.new()
    local upload, parts = w:upload(BODY)
    w.provider:fault("list_parts", { raise = true })
    assert.has_error(function() w.broker:complete(ANN, upload.id, { parts = parts }) end)
    w.provider.uploads["mpu-1"].parts[3] = nil
    w.clock.advance(300)
    local report = w.broker:janitor()
    assert.equal(1, report.reopened)
    assert.equal("uploading", assert(w.broker:upload(ANN, upload.id)).state)
    w:put(assert(w.broker:part_urls(ANN, upload.id, { 3 })), BODY)
    assert(w.broker:complete(ANN, upload.id, { parts = parts }))
  end)

  it("fails a complete whose checksum turns out wrong", function()
    local w = worlds.new()
    local upload, parts = w:upload(BODY)
    w.provider:fault("list_parts", { raise = true })
    assert.has_error(function() w.broker:complete(ANN, upload.id, { parts = parts, crc32c = 1 }) end)
    w.clock.advance(300)
    assert.equal(1, w.broker:janitor().failed)
    assert.equal("corrupt", assert(w.broker:file(ANN, upload.file_id)).state)
    assert.same({ 0, 0 }, { w.provider:left() })
  end)

  it("undoes what never got past its start, after the grace", function()
    local w = worlds.new()
    w.provider:fault("create_multipart", { raise = true, when = "after" })
    assert.has_error(function() w:initiate(BODY) end)
    assert.same({ 0, 1 }, { w.provider:left() })
    w.clock.advance(899)
    assert.equal(0, w.broker:janitor().expired)
    w.clock.advance(1)
    assert.equal(1, w.broker:janitor().expired)
    assert.same({ 0, 0 }, { w.provider:left() })
  end)

  it("gives up an upload that starts too late for it", function()
    -- The store takes longer to start the upload than the janitor waits.
    local w = worlds.new()
    w.provider.hook = function(op)
      if op ~= "create_multipart" then return end
      w.provider.hook = nil
      w.clock.advance(1000)
      assert.equal(1, w.broker:janitor().expired)
    end
    local _, err = w:initiate(BODY)
    assert.equal("unavailable", err.code)
    assert.is_true(err.retryable)
    w:sweep()
    assert.same({ 0, 0 }, { w.provider:left() })
  end)

  it("removes what a repeated start left beside the upload, not the upload", function()
    local w = worlds.new()
    w.provider.tries = 2
    local upload, parts = w:upload(BODY)
    w.provider.uploads["stray"] = { key = upload.key, parts = {} }
    w.provider.uploads["other"] = { key = upload.key .. "x", parts = {} }
    assert.equal(0, w.broker:janitor().cleaned)
    w.clock.advance(900)
    assert.equal(1, w.broker:janitor().cleaned)
    assert.is_nil(w.provider.uploads["stray"])
    assert.truthy(w.provider.uploads["other"])
    assert(w.broker:complete(ANN, upload.id, { parts = parts }))
  end)

  it("only counts in a dry run", function()
    local w = worlds.new()
    w:upload(BODY)
    w.provider:fault("create_multipart", { raise = true, when = "after" })
    pcall(w.initiate, w, BODY, { filename = "b" })
    w.clock.advance(8 * DAY)
    local report = w.broker:janitor { dry_run = true }
    assert.equal(2, report.expired)
    assert.is_true(report.dry_run)
    assert.same({ 0, 2 }, { w.provider:left() })
    assert.equal(2, w.broker:janitor().expired)
  end)

  it("takes no more than it is told to, and the rest the next time", function()
    local w = worlds.new()
    for i = 1, 5 do w:initiate(BODY, { filename = "f" .. i }) end
    w.clock.advance(8 * DAY)
    assert.equal(2, w.broker:janitor({ limit = 2 }).expired)
    assert.equal(3, w.broker:janitor().expired)
    assert.same({ 0, 0 }, { w.provider:left() })
  end)

  it("purges final rows after they were kept long enough; files stay", function()
    local w = worlds.new { broker = { keep_seconds = 10 * DAY } }
    local upload, parts = w:upload(BODY)
    local file = assert(w.broker:complete(ANN, upload.id, { parts = parts }))
    local dropped = assert(w:initiate(BODY, { filename = "b" }))
    assert(w.broker:abort(ANN, dropped.id))
    w.clock.advance(9 * DAY)
    assert.equal(0, w.broker:janitor().purged)
    assert.equal("already_completed", select(2, w.broker:complete(ANN, upload.id, {})).reason)
    w.clock.advance(DAY)
    assert.equal(2, w.broker:janitor().purged)
    assert.equal("not_found", select(2, w.broker:complete(ANN, upload.id, {})).code)
    assert.equal("registered", assert(w.broker:file(ANN, file.id)).state)
    assert(w.broker:delete_file(ANN, file.id))
    w.clock.advance(10 * DAY)
    assert.equal(1, w.broker:janitor().purged)
    assert.equal("not_found", select(2, w.store:file(file.id)).code)
  end)

  it("divides the work when two run at once", function()
    local w = worlds.new()
    for i = 1, 6 do w:initiate(BODY, { filename = "f" .. i }) end
    for i = 1, 4 do
      local upload, parts = w:upload(BODY, { filename = "c" .. i })
      w.provider:fault("complete_multipart", { raise = true, when = i % 2 == 0 and "after" or "before" })
      pcall(w.broker.complete, w.broker, ANN, upload.id, { parts = parts })
    end
    w.clock.advance(8 * DAY)
    local store = assert(require("longshore.store").open { path = w.path, synchronous = "OFF" })
    local rival, theirs = w:new_broker(store), { expired = 0, finished = 0 }
    local inside = false
    w.provider.hook = function()
      if inside then return end
      inside = true -- the other janitor runs between any two calls of this one
      local report = rival:janitor { limit = 1 }
      theirs.expired, theirs.finished = theirs.expired + report.expired, theirs.finished + report.finished
      inside = false
    end
    local ours = w.broker:janitor()
    w.provider.hook = nil
    store:close()
    assert.equal(6, ours.expired + theirs.expired)
    assert.equal(4, ours.finished + theirs.finished)
    assert.truthy(ours.expired + ours.finished > 0 and theirs.expired + theirs.finished > 0)
    w:sweep()
    assert.same({ 4, 0 }, { w.provider:left() })
  end)

  it("goes on when the bucket of an old row is not configured any more", function()
    local w = worlds.new()
    local upload = w:upload(BODY)
    w:upload(BODY, { filename = "b" })
    w.clock.advance(8 * DAY)
    local gone = require("longshore.broker").new { store = w.store, providers = {}, clock = w.clock }
    local report = gone:janitor()
    assert.equal(2, report.expired)
    assert.equal("expiring", assert(w.store:upload(upload.id)).state)
    assert.equal(2, report.pending)
    w:sweep() -- configured again
    assert.same({ 0, 0 }, { w.provider:left() })
  end)
end)

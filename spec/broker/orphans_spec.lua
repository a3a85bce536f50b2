local support = require "spec.support"
local worlds = require "spec.support.broker"

local ANN = worlds.actor()
local BODY = "0123456789"

describe("broker: orphans", function()
  teardown(support.cleanup)

  -- A store with a finished file, a running upload, and things of others.
  local function new(options)
    local w = worlds.new(options)
    local upload, parts = w:upload(BODY, { filename = "finished" })
    w.file = assert(w.broker:complete(ANN, upload.id, { parts = parts }))
    w.running = w:upload(BODY, { filename = "running" })
    local other = { body = "x", metadata = {}, etag = "e", modified = 0 }
    w.provider.objects["somebody/else's"] = other
    w.provider.objects["newton/acme/fil_" .. ("a"):rep(26)] = other -- like ours, without a mark
    w.provider.uploads["theirs"] = { key = "somebody/else's", parts = {}, initiated = 0 }
    return w
  end

  -- The database comes from a backup that knows nothing of these.
  local function forget(w)
    for _, statement in ipairs { "DELETE FROM parts", "DELETE FROM uploads", "DELETE FROM files" } do
      assert(w.store.db:exec(statement))
    end
  end

  it("are none while the database knows everything, however old", function()
    local w = new()
    w.clock.advance(5 * 86400)
    assert(w:initiate(BODY, { filename = "running", resume = true }))
    w.clock.advance(5 * 86400)
    local report = w.broker:orphans { older_than = 0 }
    assert.same({ 0, 0, 0 }, { report.uploads, report.objects, report.errors })
    assert.same({ 3, 2 }, { w.provider:left() })
  end)

  it("are removed when they are old, and nothing else is", function()
    for _, layout in ipairs { "{service}/{organization}/{file_id}", "{upload_id}" } do
      local w = new { policy = { layout = layout } }
      forget(w)
      w.clock.advance(7 * 86400)
      assert.equal(0, w.broker:orphans().objects) -- not yet old enough
      w.clock.advance(86400)
      local report = w.broker:orphans { dry_run = true }
      assert.same({ 1, 1 }, { report.objects, report.uploads })
      assert.same({ 3, 2 }, { w.provider:left() })
      report = w.broker:orphans { page = 1 }
      assert.same({ 1, 1, 0 }, { report.objects, report.uploads, report.errors })
      assert.same({ 2, 1 }, { w.provider:left() })
      assert.truthy(w.provider.objects["somebody/else's"])
      assert.truthy(w.provider.uploads["theirs"])
    end
  end)

  it("are not what a deleted file still has a row for", function()
    local w = new()
    w.provider:fault("delete", { code = "unavailable" })
    assert(w.broker:delete_file(ANN, w.file.id))
    local report = w.broker:orphans { older_than = 0 }
    assert.same({ 0, 0 }, { report.objects, report.uploads })
    w.clock.advance(60)
    w.broker:janitor()
    assert.same({ 2, 2 }, { w.provider:left() })
  end)

  it("include a second multipart upload at a running one's key", function()
    local w = new()
    w.provider.uploads["stray"] = { key = w.running.key, parts = {}, initiated = 0 }
    assert.equal(1, w.broker:orphans({ older_than = 0 }).uploads)
    assert.is_nil(w.provider.uploads["stray"])
    assert(w.broker:part_urls(ANN, w.running.id))
  end)

  it("stay when the store fails, which is told", function()
    local w = new()
    forget(w)
    w.clock.advance(8 * 86400)
    w.provider:fault("head", { code = "unavailable", times = 2 })
    w.provider:fault("abort_multipart", { code = "unavailable" })
    local report = w.broker:orphans()
    assert.equal(3, report.errors)
    assert.equal(3, #report.messages)
    w.provider:fault("list", { code = "unavailable" })
    assert.equal(1, w.broker:orphans().errors)
    assert.equal(1, w.broker:orphans().objects)
    assert.same({ 2, 1 }, { w.provider:left() })
  end)
end)

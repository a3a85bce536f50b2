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

  -- Where keys end in the upload's id, only the file's row knows the object then.
  for _, layout in ipairs { "{service}/{organization}/{file_id}", "{upload_id}", "x/{user}/{upload_id}" } do
    it("are none when the uploads of finished files were forgotten long ago; layout " .. layout, function()
      local w = worlds.new { policy = { layout = layout } }
      local upload, parts = w:upload(BODY, { filename = "finished" })
      local file = assert(w.broker:complete(ANN, upload.id, { parts = parts }))
      for _ = 1, 60 do
        w.clock.advance(86400)
        w.broker:janitor()
      end
      assert.equal("not_found", select(2, w.store:upload(upload.id)).code)
      local report = w.broker:orphans { older_than = 0 }
      assert.same({ 0, 0, 0 }, { report.uploads, report.objects, report.errors })
      assert.same({ 1, 0 }, { w.provider:left() })
      assert(w.broker:download(ANN, file.id))
      -- What a deleted one leaves is its cleanup's.
      w.provider:fault("delete", { code = "unavailable", times = 9 })
      assert(w.broker:delete_file(ANN, file.id))
      assert.equal(0, w.broker:orphans({ older_than = 0 }).objects)
    end)
  end

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

  it("are not what a job stages under a name that looks like ours", function()
    local w = new()
    for _, above in ipairs { "", "the/prefix/of/another/name/" } do
      local key = above .. "staging/0b0e7c1e-93bd-4f55-a4a1-62d2a7d3a111/fil_" .. ("a"):rep(26)
      w.provider.uploads["job"] = { key = key, parts = {}, initiated = 0 }
      assert.equal(0, w.broker:orphans({ older_than = 0 }).uploads)
      assert.truthy(w.provider.uploads["job"])
    end
  end)

  -- Two buckets of the configuration may be one at the store, one below the other's prefix.
  it("are not what another name of the same bucket has", function()
    for _, prefix in ipairs { "archive/", "" } do
      local clock = require("longshore.clock").fixed(1700000000)
      local store = require("spec.support.fake_provider").new { clock = clock }
      local w = worlds.new { clock = clock, provider = store,
        providers = { default = store, archive = store:below(prefix, "archive") } }
      local limits = { service = "cognite", provider = "archive", link_seconds = 604800, max_put = 9, of_record = 5 }
      local upload, parts = w:upload(BODY, { filename = "finished", provider = "archive" })
      assert(w.broker:complete(ANN, upload.id, { parts = parts }))
      w:upload(BODY, { filename = "running", provider = "archive" })
      local record, grant = assert(w.broker:create_record(ANN, { name = "a.txt", fields = {} }, limits))
      assert.equal(200, (store:client_put(grant.url, "hello")))
      clock.advance(1)
      assert(w.broker:records(ANN, { { id = record.id } }))
      assert(w.broker:create_record(ANN, { name = "b.txt", fields = {}, parts = 2 }, limits))
      local objects, uploads = store:left()
      local report = w.broker:orphans { older_than = 0 }
      assert.same({ 0, 0, 0 }, { report.uploads, report.objects, report.errors })
      assert.same({ objects, uploads }, { store:left() })
    end
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

  describe("of records", function()
    local WEEK = 7 * 86400
    local LIMITS = { service = "cognite", provider = "default", link_seconds = WEEK, max_put = 100, of_record = 5 }

    local function create(w, more)
      local request = { name = "a.txt", fields = {} }
      for k, v in pairs(more or {}) do request[k] = v end
      return assert(w.broker:create_record(ANN, request, LIMITS))
    end

    local function put(w, url, body)
      assert.equal(200, (w.provider:client_put(url, body)))
      w.clock.advance(1)
    end

    -- One with content of one PUT, one with content of parts, one whose bytes have
    -- come and were not looked at, one that has begun its parts, one without any.
    local function records(w)
      local single, grant = create(w)
      put(w, grant.url, "hello")
      assert(w.broker:records(ANN, { { id = single.id } }))
      local whole, parts = create(w, { parts = 2 })
      for i, url in ipairs(parts.urls) do put(w, url, i == 1 and "first." or "second") end
      assert(w.broker:complete_record(ANN, { id = whole.id }, parts.upload_id))
      local fresh, unseen = create(w)
      put(w, unseen.url, "unseen")
      local _, begun = create(w, { parts = 2 })
      put(w, begun.urls[1], "first.")
      create(w)
      return { single, whole }, fresh
    end

    local function read(w, record)
      local links = assert(w.broker:record_downloads(ANN, { { id = record.id } }, 30,
        function() return "text/plain" end))
      local object = w.provider.objects[links[1].url:match("^http://store.test/(.+)$")]
      return object and object.body
    end

    for _, layout in ipairs { "{service}/{organization}/{file_id}", "{upload_id}", "x/{user}/{upload_id}" } do
      it("are none while the database knows them, however old; layout " .. layout, function()
        local w = worlds.new { policy = { layout = layout } }
        local done, fresh = records(w)
        local objects, uploads = w.provider:left()
        local report = w.broker:orphans { older_than = 0 }
        assert.same({ 0, 0, 0 }, { report.uploads, report.objects, report.errors })
        assert.same({ objects, uploads }, { w.provider:left() })
        assert.same({ "hello", "first.second", "unseen" },
          { read(w, done[1]), read(w, done[2]), read(w, fresh) })
        -- Nor when their deliveries are long over, and purged.
        for _ = 1, 60 do
          w.clock.advance(86400)
          w.broker:janitor()
        end
        assert.same({}, w.store:open_deliveries { done[1].id, done[2].id })
        report = w.broker:orphans { older_than = 0 }
        assert.same({ 0, 0 }, { report.objects, report.errors })
        assert.same({ "hello", "first.second", "unseen" },
          { read(w, done[1]), read(w, done[2]), read(w, fresh) })
      end)
    end

    it("are removed when the database knows nothing of them, and they are old", function()
      local w = worlds.new()
      records(w)
      local other = { body = "x", metadata = {}, etag = "e", modified = 0 }
      local id = "dlv_" .. ("a"):rep(26)
      for _, key in ipairs { "x/" .. id, id .. "/other", "a/" .. id .. "/parts/x", id .. "x/staging",
        -- The end of parts bears a mark; this has none.
        "cognite/acme/" .. id .. "/parts" } do
        w.provider.objects[key] = other
      end
      for _, name in ipairs { "parts", "uploads", "deliveries", "records", "cleanups" } do
        assert(w.store.db:exec("DELETE FROM " .. name))
      end
      w.clock.advance(7 * 86400)
      assert.same({ 8, 1 }, { w.provider:left() })
      assert.equal(0, w.broker:orphans().objects)
      w.clock.advance(86400)
      local report = w.broker:orphans()
      assert.same({ 3, 1, 0 }, { report.objects, report.uploads, report.errors })
      assert.same({ 5, 0 }, { w.provider:left() })
    end)

    it("are not what a cleanup will remove", function()
      local w = worlds.new()
      local record, grant = create(w)
      put(w, grant.url, "hello")
      assert(w.broker:records(ANN, { { id = record.id } }))
      w.provider:fault("delete", { code = "unavailable", times = 99 })
      assert(w.broker:delete_records(ANN, { { id = record.id } }))
      assert.equal(0, w.broker:orphans({ older_than = 0 }).objects)
    end)
  end)
end)

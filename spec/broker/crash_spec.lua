-- The process dies before or after every call to the store and to the provider.
-- Afterwards either the client repeats what it did or the janitor alone comes
-- by; both must end in a final state, with no object nobody owns.
local support = require "spec.support"
local crash = require "spec.support.crash"
local worlds = require "spec.support.broker"

local ANN = worlds.actor()
local BODY = "0123456789"
local FINAL = { completed = true, aborted = true, expired = true, failed = true }

-- No row lies and nothing is left over.
local function assert_clean(w, where)
  local objects, uploads = w.provider:left()
  assert.equal(0, uploads, where .. ": multipart uploads left")
  local files = assert(w.store:files { tenant = "default", organization = "acme" })
  local registered = 0
  for _, file in ipairs(files) do
    assert.are_not.equal("uploading", file.state, where)
    if file.state == "registered" then
      registered = registered + 1
      local object = assert(w.provider.objects[file.key], where .. ": a registered file has no object")
      assert.equal(file.size, #object.body, where)
      assert.equal(BODY, object.body, where)
    end
  end
  assert.equal(registered, objects, where .. ": objects nobody owns")
  for state in pairs(w.store:count_uploads()) do
    assert.is_true(FINAL[state] or false, ("%s: an upload stays in %s"):format(where, state))
  end
  assert.same({}, w.store:count_cleanups(), where)
  return registered
end

-- What a client does from the start to the end; conflicts tell it that it is done.
local function upload_all(w, broker, fields)
  local request = { service = "newton", filename = "a.bin", content_type = "video/mp4", size = #BODY, resume = true }
  for k, v in pairs(fields or {}) do request[k] = v end
  local upload, err = broker:initiate(ANN, request)
  if not upload then return nil, err end
  local urls
  urls, err = broker:part_urls(ANN, upload.id)
  if not urls then return nil, err end
  local parts = w:put(urls, BODY)
  local ok
  ok, err = broker:checkpoint(ANN, upload.id, parts)
  if not ok then return nil, err end
  return broker:complete(ANN, upload.id, { crc32c = worlds.crc32c(BODY) })
end

describe("after a death", function()
  local path
  setup(function() path = support.tmpdir() end)
  teardown(support.cleanup)

  local number = 0
  local function new_world(options)
    number = number + 1
    options = options or {}
    options.path = ("%s/%d.db"):format(path, number)
    local w = worlds.new(options)
    return w
  end
  local function done(w)
    w.store:close()
    return w
  end

  it("anywhere in an upload, the client's repeating finishes it", function()
    local places = crash.every(function(die_at)
      local w = new_world()
      local broker = crash.arm(w, die_at)
      crash.dies(function() upload_all(w, broker) end)
      crash.disarm(w)
      local where = tostring(w.died)
      local file, err = upload_all(w, w.broker)
      if not file then
        assert.equal("name_taken", err.reason, where .. ": " .. tostring(err))
        file = assert(w.broker:file(ANN, err.file_id), where)
      end
      assert.equal("registered", file.state)
      assert.equal(worlds.crc32c(BODY), file.crc32c)
      w.clock.advance(8 * 86400)
      w:sweep()
      assert.equal(1, assert_clean(w, where))
      return done(w)
    end)
    assert.truthy(places > 25)
  end)

  it("anywhere in an upload, the janitor alone leaves it finished or gone", function()
    crash.every(function(die_at)
      local w = new_world()
      local broker = crash.arm(w, die_at)
      crash.dies(function() upload_all(w, broker) end)
      crash.disarm(w)
      w.clock.advance(8 * 86400)
      w:sweep()
      local finished = assert_clean(w, tostring(w.died))
      -- What began to complete and was all there is finished, not thrown away.
      if w.died and (w.died:find("complete_multipart") or w.died:find("finish_complete")) then
        assert.equal(1, finished, w.died)
      end
      return done(w)
    end)
  end)

  it("anywhere in a complete, repeating only the complete finishes it", function()
    crash.every(function(die_at)
      local w = new_world()
      local upload, parts = w:upload(BODY)
      local broker = crash.arm(w, die_at)
      local request = { parts = parts, crc32c = worlds.crc32c(BODY) }
      crash.dies(function() broker:complete(ANN, upload.id, request) end)
      crash.disarm(w)
      local file, err = w.broker:complete(ANN, upload.id, request)
      if not file then
        assert.equal("already_completed", err.reason, w.died)
        file = assert(w.broker:file(ANN, err.file_id))
      end
      assert.same({ "size", "crc32c" }, file.checks)
      w.clock.advance(8 * 86400)
      w:sweep()
      assert.equal(1, assert_clean(w, tostring(w.died)))
      return done(w)
    end)
  end)

  it("anywhere in a complete with a wrong checksum, the file ends corrupt and its bytes go", function()
    for _, repeating in ipairs { true, false } do
      crash.every(function(die_at)
        local w = new_world()
        local upload, parts = w:upload(BODY)
        local broker = crash.arm(w, die_at)
        local request = { parts = parts, crc32c = worlds.crc32c("something else") }
        crash.dies(function() broker:complete(ANN, upload.id, request) end)
        crash.disarm(w)
        if repeating then
          local file, err = w.broker:complete(ANN, upload.id, request)
          assert.is_nil(file)
          assert.truthy(err.code == "integrity" or err.reason == "failed", tostring(err))
        end
        w.clock.advance(8 * 86400)
        w:sweep()
        assert.equal(0, assert_clean(w, tostring(w.died)))
        local file = w.store:file(upload.file_id)
        -- Before anything was written down the upload just expires.
        assert.truthy((file and file.state == "corrupt") or w.died == "before store:upload"
          or w.died == "after store:upload" or w.died:find("store:parts") or w.died == "before store:begin_complete",
          w.died)
        return done(w)
      end)
    end
  end)

  it("anywhere in a complete that finds a part missing, sending it and completing again works", function()
    crash.every(function(die_at)
      local w = new_world()
      local upload, parts = w:upload(BODY)
      w.provider.uploads["mpu-1"].parts[2] = nil
      local broker = crash.arm(w, die_at)
      crash.dies(function() broker:complete(ANN, upload.id, { parts = parts }) end)
      crash.disarm(w)
      local file, err = w.broker:complete(ANN, upload.id, { parts = parts })
      assert.is_nil(file)
      assert.equal("invalid", err.code)
      w:put(assert(w.broker:part_urls(ANN, upload.id, { 2 })), BODY)
      assert(w.broker:complete(ANN, upload.id, { parts = parts }))
      w.clock.advance(8 * 86400)
      w:sweep()
      assert.equal(1, assert_clean(w, tostring(w.died)))
      return done(w)
    end)
  end)

  it("anywhere in an abort, the upload ends aborted or expired", function()
    for _, repeating in ipairs { true, false } do
      crash.every(function(die_at)
        local w = new_world()
        local upload = w:upload(BODY)
        local broker = crash.arm(w, die_at)
        crash.dies(function() broker:abort(ANN, upload.id) end)
        crash.disarm(w)
        if repeating then assert.is_true(w.broker:abort(ANN, upload.id)) end
        w.clock.advance(8 * 86400)
        w:sweep()
        assert.equal(0, assert_clean(w, tostring(w.died)))
        local state = assert(w.store:upload(upload.id)).state
        assert.truthy(state == "aborted" or not repeating and state == "expired", state)
        return done(w)
      end)
    end
  end)

  it("anywhere in a deletion, the object goes", function()
    for _, repeating in ipairs { true, false } do
      crash.every(function(die_at)
        local w = new_world()
        local file = assert(upload_all(w, w.broker))
        local broker = crash.arm(w, die_at)
        crash.dies(function() broker:delete_file(ANN, file.id) end)
        crash.disarm(w)
        if repeating then
          local ok, err = w.broker:delete_file(ANN, file.id)
          assert.truthy(ok or err.code == "not_found")
        end
        w.clock.advance(86400)
        w:sweep()
        local left = assert_clean(w, tostring(w.died))
        assert.truthy(left == 0 or not repeating)
        return done(w)
      end)
    end
  end)

  it("anywhere in an ingest that replaces, readers have the whole old or the whole new file", function()
    local spool = support.write_file(support.tmpdir() .. "/spool", "head" .. BODY .. "tail")
    crash.every(function(die_at)
      local w = new_world()
      local old = assert(upload_all(w, w.broker))
      local broker = crash.arm(w, die_at)
      local request = { service = "newton", filename = "a.bin", content_type = "video/mp4",
        file = { path = spool, offset = 4, length = #BODY } }
      crash.dies(function() broker:ingest(ANN, request) end)
      crash.disarm(w)
      local seen = assert(w.broker:file_by_name(ANN, { service = "newton", filename = "a.bin" }))
      assert.equal("registered", seen.state, w.died)
      local row = assert(w.store:file(seen.id))
      assert.equal(BODY, w.provider.objects[row.key].body)
      local new = assert(w.broker:ingest(ANN, request))
      assert.are_not.equal(old.id, new.id)
      w.clock.advance(8 * 86400)
      w:sweep()
      assert.equal(1, assert_clean(w, tostring(w.died)))
      return done(w)
    end)
  end)

  it("of the janitor itself, the next janitor finishes", function()
    crash.every(function(die_at)
      local w = new_world()
      -- One of each kind of stale thing.
      w:upload(BODY, { filename = "left lying" })
      local cut, parts = w:upload(BODY, { filename = "cut short" })
      w.provider:fault("complete_multipart", { raise = true, when = "after" })
      pcall(w.broker.complete, w.broker, ANN, cut.id, { parts = parts })
      w.provider:fault("create_multipart", { raise = true, when = "after" })
      pcall(w.initiate, w, BODY, { filename = "never started" })
      w.provider:fault("abort_multipart", { code = "unavailable" })
      w.broker:abort(ANN, assert(w:initiate(BODY, { filename = "aborted badly" })).id)
      w.clock.advance(8 * 86400)
      local broker = crash.arm(w, die_at)
      crash.dies(function() broker:janitor() end)
      crash.disarm(w)
      w:sweep()
      assert.equal(1, assert_clean(w, tostring(w.died)))
      return done(w)
    end)
  end)
end)

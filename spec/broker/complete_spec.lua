local support = require "spec.support"
local crash = require "spec.support.crash"
local worlds = require "spec.support.broker"

local ANN = worlds.actor()
local BODY = "0123456789"
local CRC = worlds.crc32c(BODY)

describe("broker: completing", function()
  teardown(support.cleanup)

  local w, upload, parts
  local function fresh(options)
    w = worlds.new(options)
    upload, parts = w:upload(BODY)
  end
  before_each(function() fresh() end)

  local function state() return assert(w.store:upload(upload.id)).state end

  it("registers the file with what was checked", function()
    local file = assert(w.broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC }))
    assert.equal(upload.file_id, file.id)
    assert.equal("registered", file.state)
    assert.equal("a.bin", file.filename)
    assert.equal("video/mp4", file.content_type)
    assert.equal(10, file.size)
    assert.equal(CRC, file.crc32c)
    assert.same({ "size", "crc32c" }, file.checks)
    assert.truthy(file.etag:find("-3$"))
    assert.equal(BODY, w.provider.objects[upload.key].body)
    assert.equal("video/mp4", w.provider.objects[upload.key].content_type)
    assert.same(file, w.broker:file(ANN, file.id))
  end)

  it("does not claim a checksum that nobody announced", function()
    local file = assert(w.broker:complete(ANN, upload.id, { parts = parts }))
    assert.same({ "size" }, file.checks)
    assert.equal(CRC, file.crc32c) -- the store's own, for who wants to compare
  end)

  it("takes recorded and listed parts together, listed twice, in any order", function()
    assert(w.broker:checkpoint(ANN, upload.id, { parts[1], parts[2] }))
    assert(w.broker:complete(ANN, upload.id, { parts = { parts[3], parts[1], parts[3] } }))
  end)

  it("takes an empty list when everything is recorded", function()
    assert(w.broker:checkpoint(ANN, upload.id, parts))
    assert(w.broker:complete(ANN, upload.id, { parts = {} }))
  end)

  it("wants a token for every part, and leaves the upload running", function()
    local _, err = w.broker:complete(ANN, upload.id, { parts = { parts[1], parts[3] } })
    assert.equal("invalid", err.code)
    assert.truthy(err.message:find("part 2", 1, true))
    assert.equal("uploading", state())
    assert.same({ 0, 1 }, { w.provider:left() })
    assert(w.broker:complete(ANN, upload.id, { parts = parts }))
  end)

  it("needs no tokens where the service has none", function()
    local other = assert(w:initiate(BODY, { filename = "b", requires_tokens = false }))
    local urls = assert(w.broker:part_urls(ANN, other.id))
    w:put(urls, BODY)
    assert(w.broker:complete(ANN, other.id, {}))
  end)

  it("refuses parts that are not there, too long, too short or others than said", function()
    local stored = w.provider.uploads["mpu-1"].parts
    local right = stored[2]
    for _, wrong in ipairs { { nil, "not in the store" }, { { body = "456", etag = right.etag }, "3 bytes" },
      { { body = "45678", etag = right.etag }, "5 bytes" }, { { body = "abcd", etag = "other" }, "token" } } do
      stored[2] = wrong[1]
      local file, err = w.broker:complete(ANN, upload.id, { parts = parts })
      assert.is_nil(file)
      assert.equal("invalid", err.code)
      assert.equal("parts", err.field)
      assert.truthy(err.message:find("part 2", 1, true))
      assert.truthy(err.message:find(wrong[2], 1, true), err.message)
      assert.equal("uploading", state())
    end
    stored[2] = right
    assert(w.broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC }))
  end)

  it("finds a wrong checksum before the object is made: the file is corrupt, the bytes go", function()
    local _, err = w.broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC + 1 })
    assert.equal("integrity", err.code)
    assert.truthy(err.message:find(require("longshore.core").crc32c_base64(CRC), 1, true))
    for _, call in ipairs(w.provider.calls) do assert.are_not.equal("complete_multipart", call) end
    assert.same({ 0, 0 }, { w.provider:left() })
    assert.equal("failed", state())
    assert.equal("corrupt", assert(w.broker:file(ANN, upload.file_id)).state)
    assert.equal("state", select(2, w.broker:download(ANN, upload.file_id)).code)
    _, err = w.broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC })
    assert.equal("conflict", err.code)
    assert.equal("failed", err.reason)
    assert.is_true(w.broker:abort(ANN, upload.id))
    -- The name is free; the corrupt file can be deleted.
    assert(w:initiate(BODY))
    assert(w.broker:delete_file(ANN, upload.file_id))
    assert.equal("not_found", select(2, w.broker:file(ANN, upload.file_id)).code)
  end)

  it("finds bytes that changed while the store assembled them", function()
    w.provider.damage = function(body) return body:sub(1, -2) .. "X" end
    local _, err = w.broker:complete(ANN, upload.id, { parts = parts })
    assert.equal("integrity", err.code)
    assert.equal("failed", state())
    assert.same({ 0, 0 }, { w.provider:left() })
  end)

  it("compares with the object where the store lists no checksums of parts", function()
    fresh { profile = { lists_crc32c = false } }
    local file = assert(w.broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC }))
    assert.equal(CRC, file.crc32c)
    assert.same({ "size", "crc32c" }, file.checks)
    local other, other_parts = w:upload(BODY, { filename = "b" })
    local _, err = w.broker:complete(ANN, other.id, { parts = other_parts, crc32c = CRC + 1 })
    assert.equal("integrity", err.code)
    assert.equal("corrupt", assert(w.broker:file(ANN, other.file_id)).state)
    assert.same({ 1, 0 }, { w.provider:left() })
  end)

  it("asks the object for its checksum where the answer to complete has none", function()
    fresh { profile = { lists_crc32c = false } }
    w.provider.quiet_complete = true
    local file = assert(w.broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC }))
    assert.equal(CRC, file.crc32c)
    local other, other_parts = w:upload(BODY, { filename = "b" })
    w.provider:fault("head", { code = "unavailable" })
    local _, err = w.broker:complete(ANN, other.id, { parts = other_parts, crc32c = CRC + 1 })
    assert.equal("unavailable", err.code)
    _, err = w.broker:complete(ANN, other.id, { parts = other_parts, crc32c = CRC + 1 })
    assert.equal("integrity", err.code)
    assert.same({ 1, 0 }, { w.provider:left() })
  end)

  it("refuses a checksum where the algorithm is none", function()
    fresh { profile = { checksum_of_unannounced = false, lists_crc32c = false } }
    local _, err = w.broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC })
    assert.equal("invalid", err.code)
    assert.equal("crc32c", err.field)
    assert.equal("uploading", state())
    local file = assert(w.broker:complete(ANN, upload.id, { parts = parts }))
    assert.same({ "size" }, file.checks)
    assert.is_nil(file.crc32c)
  end)

  it("does not pass a checksum that a promising store then cannot show", function()
    fresh()
    w.provider.profile.lists_crc32c = false
    w.provider.profile.checksum_of_unannounced = nil -- answers nothing any more
    local _, err = w.broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC })
    assert.equal("integrity", err.code)
    assert.equal("failed", state())
    assert.same({ 0, 0 }, { w.provider:left() })
  end)

  it("refuses a checksum that is none", function()
    for _, bad in ipairs { -1, 4294967296, 1.5, "yZRlqg==", 0 / 0 } do
      local _, err = w.broker:complete(ANN, upload.id, { parts = parts, crc32c = bad })
      assert.equal("invalid", err.code)
    end
    assert.equal("uploading", state())
  end)

  it("is not for after the deadline", function()
    w.clock.advance(7 * 86400)
    assert.equal("expired", select(2, w.broker:complete(ANN, upload.id, { parts = parts })).code)
  end)

  it("says already completed, with the file, ever after", function()
    local file = assert(w.broker:complete(ANN, upload.id, { parts = parts }))
    for _ = 1, 2 do
      local _, err = w.broker:complete(ANN, upload.id, { parts = parts })
      assert.equal("conflict", err.code)
      assert.equal("already_completed", err.reason)
      assert.equal(file.id, err.file_id)
    end
  end)

  it("recognises its object when the answer was lost", function()
    w.provider:fault("complete_multipart", { code = "network", when = "after" })
    local file = assert(w.broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC }))
    assert.equal(CRC, file.crc32c)
  end)

  it("does not take another's object for its own", function()
    w.provider:fault("complete_multipart", { code = "network" })
    w.provider.objects[upload.key] = { body = BODY, etag = "x", metadata = {}, marker = "upl_other" }
    local _, err = w.broker:complete(ANN, upload.id, { parts = parts })
    assert.equal("network", err.code)
    assert.equal("completing", state())
  end)

  it("answers unavailable when the store is away, and works when repeated", function()
    for _, op in ipairs { "list_parts", "complete_multipart" } do
      w.provider:fault(op, { code = "unavailable" })
      local _, err = w.broker:complete(ANN, upload.id, { parts = parts })
      assert.equal("unavailable", err.code)
      assert.is_true(err.retryable)
      assert.equal("completing", state())
    end
    assert(w.broker:complete(ANN, upload.id, { parts = parts }))
  end)

  it("answers unavailable when neither complete nor look is answered, and works when repeated", function()
    w.provider:fault("complete_multipart", { code = "timeout", when = "after" })
    w.provider:fault("head", { code = "timeout" })
    local _, err = w.broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC })
    assert.equal("timeout", err.code)
    local file = assert(w.broker:complete(ANN, upload.id, {}))
    assert.same({ "size", "crc32c" }, file.checks)
  end)

  it("goes back to uploading when the store refuses for good, without an object", function()
    w.provider:fault("complete_multipart", { code = "invalid", retryable = false, store_code = "InvalidPart" })
    local _, err = w.broker:complete(ANN, upload.id, { parts = parts })
    assert.equal("store", err.code)
    assert.equal("InvalidPart", err.store_code)
    assert.equal("uploading", state())
    assert(w.broker:complete(ANN, upload.id, { parts = parts }))
  end)

  it("says when the store has lost the upload, and lets the client start again", function()
    w.provider.uploads = {}
    local _, err = w.broker:complete(ANN, upload.id, { parts = parts })
    assert.equal("expired", err.code)
    assert.equal("lost", err.reason)
    assert.equal("not_found", select(2, w.broker:file(ANN, upload.file_id)).code)
    assert(w:initiate(BODY, { resume = true }))
  end)

  it("goes on with another's checksum only if it is the same", function()
    w.provider:fault("list_parts", { code = "unavailable" })
    assert.is_nil((w.broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC })))
    local _, err = w.broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC + 1 })
    assert.equal("conflict", err.code)
    assert.is_true(err.retryable)
    assert(w.broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC }))
  end)

  it("makes an empty file of one empty part", function()
    local empty = assert(w:initiate("", { filename = "empty" }))
    assert.equal(1, empty.part_count)
    local urls = assert(w.broker:part_urls(ANN, empty.id))
    assert.equal(1, #urls)
    assert.equal(0, urls[1].length)
    local tokens = w:put(urls, "")
    local file = assert(w.broker:complete(ANN, empty.id, { parts = tokens, crc32c = 0 }))
    assert.equal(0, file.size)
    assert.equal(0, file.crc32c)
    assert.equal("", w.provider.objects[empty.key].body)
  end)

  it("makes a file of one part, and no URL can rewrite it", function()
    local one = assert(w:initiate("abcd", { filename = "one" }))
    local urls = assert(w.broker:part_urls(ANN, one.id))
    local tokens = w:put(urls, "abcd")
    assert(w.broker:complete(ANN, one.id, { parts = tokens }))
    assert.equal(404, w.provider:client_put(urls[1].url, "evil"))
    assert.equal("abcd", w.provider.objects[one.key].body)
  end)
end)

describe("broker: two at once", function()
  local path
  setup(function() path = support.tmpdir() end)
  teardown(support.cleanup)

  local number = 0
  -- Another process: its own connection to the same database, the same store.
  local function rival_of(w)
    local store = assert(require("longshore.store").open { path = w.path, synchronous = "OFF" })
    local calls, provider = {}, w.provider
    local quiet = setmetatable({}, { __index = function(_, name)
      local value = provider[name]
      if type(value) ~= "function" then return value end
      return function(_, ...)
        calls[#calls + 1] = name
        return value(provider, ...)
      end
    end })
    return require("longshore.broker").new {
      store = store, providers = { default = quiet }, clock = w.clock, policy = w.broker.policy,
    }, store
  end

  -- `second(rival, upload, parts)` happens at every place of the first's complete.
  local function everywhere(second, check)
    crash.every(function(at)
      number = number + 1
      local notified = 0
      local w = worlds.new { path = ("%s/%d.db"):format(path, number),
        rules = { { after_complete = function() notified = notified + 1 end } } }
      local upload, parts = w:upload(BODY)
      local rival, store = rival_of(w)
      local answer = {}
      local broker = crash.arm(w, at, function() answer.b, answer.b_err = second(rival, upload, parts) end)
      answer.a, answer.a_err = broker:complete(ANN, upload.id, { parts = parts, crc32c = CRC })
      crash.disarm(w)
      if at > 0 then check(w, upload, answer, notified) end
      w.clock.advance(8 * 86400)
      w:sweep()
      local objects, uploads = w.provider:left()
      assert.equal(0, uploads, w.died)
      local file = w.store:file(upload.file_id)
      assert.equal(file and file.state == "registered" and 1 or 0, objects, w.died)
      store:close()
      w.store:close()
      return w
    end)
  end

  it("completing: one wins, the other gets the same answer or already completed", function()
    everywhere(function(rival, upload, parts)
      return rival:complete(ANN, upload.id, { parts = parts, crc32c = CRC })
    end, function(w, upload, answer, notified)
      assert.equal(1, notified, w.died)
      local file = assert(w.broker:file(ANN, upload.file_id))
      assert.equal("registered", file.state)
      for _, side in ipairs { "a", "b" } do
        if answer[side] then
          assert.same(file, answer[side], w.died)
        else
          assert.equal("already_completed", answer[side .. "_err"].reason, w.died)
        end
      end
      assert.truthy(answer.a or answer.b)
    end)
  end)

  it("completing with different checksums: never both, and never the wrong one", function()
    everywhere(function(rival, upload, parts)
      return rival:complete(ANN, upload.id, { parts = parts, crc32c = CRC + 1 })
    end, function(w, upload, answer)
      assert.is_nil(answer.b, w.died)
      local state = assert(w.broker:file(ANN, upload.file_id)).state
      assert.equal(answer.a and "registered" or "corrupt", state, w.died)
    end)
  end)

  it("completing and aborting: either, never half", function()
    everywhere(function(rival, upload)
      return rival:abort(ANN, upload.id)
    end, function(w, upload, answer)
      local file = w.broker:file(ANN, upload.file_id)
      if answer.b then -- aborted, or there was nothing to abort any more
        assert.is_nil(answer.a, w.died)
        assert.is_nil(file, w.died)
      else
        assert.truthy(answer.a, w.died)
        assert.equal("registered", file.state, w.died)
      end
    end)
  end)

  it("completing and the janitor: the file is registered", function()
    everywhere(function(rival)
      return rival:janitor { now = 1700000000 + 3600 } -- every lease is over
    end, function(w, upload, answer)
      assert.equal("registered", assert(w.broker:file(ANN, upload.file_id)).state, w.died)
      assert.truthy(answer.a or answer.a_err.reason == "already_completed", w.died)
    end)
  end)

  it("completing and the deadline's janitor: finished or expired, as whoever was first", function()
    everywhere(function(rival)
      return rival:janitor { now = 1700000000 + 8 * 86400 }
    end, function(w, upload, answer)
      local file = w.broker:file(ANN, upload.file_id)
      if answer.a then
        assert.equal("registered", file.state, w.died)
      else
        assert.truthy(file == nil or answer.a_err.reason == "already_completed", w.died)
      end
    end)
  end)

  it("completing and deleting the file: deleted is deleted", function()
    everywhere(function(rival, upload)
      return rival:delete_file(ANN, upload.file_id)
    end, function(w, upload, answer)
      local file = w.broker:file(ANN, upload.file_id)
      if answer.b then assert.is_nil(file, w.died) else assert.truthy(file, w.died) end
    end)
  end)

  it("completing and recording parts: what is recorded late changes nothing", function()
    everywhere(function(rival, upload)
      return rival:checkpoint(ANN, upload.id, { { number = 1, token = "wrong" } })
    end, function(w, upload, answer)
      if answer.a then
        assert.equal("registered", assert(w.broker:file(ANN, upload.file_id)).state, w.died)
      else
        -- It came before: the token it left is not the part's.
        assert.equal("invalid", answer.a_err.code, w.died)
      end
    end)
  end)
end)

local support = require "spec.support"
local worlds = require "spec.support.broker"

local ANN = worlds.actor()
local BODY = "0123456789"

describe("broker: files", function()
  teardown(support.cleanup)

  local w
  before_each(function() w = worlds.new() end)

  local function finished(name, fields)
    local request = { filename = name }
    for k, v in pairs(fields or {}) do request[k] = v end
    local upload, parts = w:upload(BODY, request)
    return assert(w.broker:complete(ANN, upload.id, { parts = parts }))
  end

  it("are downloaded by a URL of their own name and type", function()
    local file = finished "report.mp4"
    local link = assert(w.broker:download(ANN, file.id))
    assert.equal("http://store.test/newton/acme/" .. file.id, link.url)
    assert.equal(w.clock.now() + 900, link.expires_at)
  end)

  it("are not downloaded before they are finished", function()
    local upload = w:upload(BODY)
    local _, err = w.broker:download(ANN, upload.file_id)
    assert.equal("state", err.code)
    assert.equal("uploading", err.state)
  end)

  it("are listed oldest first, in pages, by service and type", function()
    for i = 1, 3 do
      finished("f" .. i, { content_type = i == 2 and "text/csv" or nil })
      w.clock.advance(1)
    end
    finished("other", { service = "athena" })
    local list, total = w.broker:files(ANN, { service = "newton" })
    assert.equal(3, total)
    assert.same({ "f1", "f2", "f3" }, { list[1].filename, list[2].filename, list[3].filename })
    list, total = w.broker:files(ANN, { service = "newton", offset = 1, limit = 1 })
    assert.equal(3, total)
    assert.equal(1, #list)
    assert.equal("f2", list[1].filename)
    list = w.broker:files(ANN, { content_type = "text/csv" })
    assert.equal("f2", list[1].filename)
    assert.equal(4, select(2, w.broker:files(ANN)))
    for _, bad in ipairs { { offset = -1 }, { limit = 1.5 }, { limit = "x" } } do
      assert.equal("invalid", select(2, w.broker:files(ANN, bad)).code)
    end
  end)

  it("are summed when finished", function()
    finished "a"
    w.clock.advance(5)
    finished "b"
    w:upload(BODY, { filename = "c" })
    assert.same({ files = 2, bytes = 20, updated_at = w.clock.now() }, w.broker:usage(ANN, { service = "newton" }))
    assert.same({ files = 0, bytes = 0 }, w.broker:usage(ANN, { service = "athena" }))
  end)

  it("are found by name, the finished one first", function()
    local _, err = w.broker:file_by_name(ANN, { service = "newton", filename = "a" })
    assert.equal("not_found", err.code)
    local first = w:upload(BODY, { filename = "a" })
    assert.equal(first.file_id, assert(w.broker:file_by_name(ANN, { service = "newton", filename = "a" })).id)
    local file = finished "a"
    w.clock.advance(1)
    assert.equal(file.id, assert(w.broker:file_by_name(ANN, { service = "newton", filename = "a" })).id)
    assert.equal("invalid", select(2, w.broker:file_by_name(ANN, { service = "newton", filename = "a\0" })).code)
  end)

  it("are deleted with their object, and their name is free", function()
    local file = finished "a"
    assert.is_true(w.broker:delete_file(ANN, file.id))
    assert.same({ 0, 0 }, { w.provider:left() })
    for _, operation in ipairs { "file", "download", "delete_file" } do
      assert.equal("not_found", select(2, w.broker[operation](w.broker, ANN, file.id)).code)
    end
    assert.equal(0, select(2, w.broker:files(ANN)))
    finished "a"
  end)

  it("are out of sight at once when the store is away; the janitor removes the object", function()
    local file = finished "a"
    w.provider:fault("delete", { code = "unavailable" })
    assert.is_true(w.broker:delete_file(ANN, file.id))
    assert.equal("not_found", select(2, w.broker:file(ANN, file.id)).code)
    assert.same({ 1, 0 }, { w.provider:left() })
    w:sweep()
    assert.same({ 0, 0 }, { w.provider:left() })
  end)

  it("are not deleted while they are uploaded", function()
    local upload = w:upload(BODY)
    local _, err = w.broker:delete_file(ANN, upload.file_id)
    assert.equal("conflict", err.code)
    assert.same({ 0, 1 }, { w.provider:left() })
  end)

  it("tell nothing of keys or buckets", function()
    local file = finished "a"
    assert.is_nil(file.key)
    assert.is_nil(file.provider)
    assert.is_nil(file.unique_name)
  end)
end)

describe("broker: ingest", function()
  teardown(support.cleanup)

  local w, spool
  before_each(function()
    w = worlds.new()
    spool = support.write_file(support.tmpdir() .. "/spool", "head" .. BODY .. "tail")
  end)

  local function request(fields)
    local r = { service = "newton", filename = "a.bin", content_type = "text/csv",
      file = { path = spool, offset = 4, length = #BODY } }
    for k, v in pairs(fields or {}) do r[k] = v end
    return r
  end

  it("brings the range of a file to the store in parts, checked", function()
    local file = assert(w.broker:ingest(ANN, request()))
    assert.equal("registered", file.state)
    assert.equal(10, file.size)
    assert.equal("text/csv", file.content_type)
    assert.same({ "size", "crc32c" }, file.checks)
    local row = assert(w.store:file(file.id))
    assert.equal(BODY, w.provider.objects[row.key].body)
  end)

  it("takes the whole file, and an empty one", function()
    local file = assert(w.broker:ingest(ANN, request { file = { path = spool } }))
    assert.equal(18, file.size)
    file = assert(w.broker:ingest(ANN, request { filename = "empty", file = { path = spool, offset = 18 } }))
    assert.equal(0, file.size)
  end)

  it("replaces a finished file of the name, and only when it is finished itself", function()
    local old = assert(w.broker:ingest(ANN, request()))
    w.provider:fault("put_part", { code = "unavailable" })
    local _, err = w.broker:ingest(ANN, request())
    assert.equal("unavailable", err.code)
    assert.equal("registered", assert(w.broker:file(ANN, old.id)).state)
    local new = assert(w.broker:ingest(ANN, request { file = { path = spool } }))
    assert.equal("not_found", select(2, w.broker:file(ANN, old.id)).code)
    assert.equal(new.id, assert(w.broker:file_by_name(ANN, { service = "newton", filename = "a.bin" })).id)
    w:sweep()
    assert.same({ 1, 0 }, { w.provider:left() })
  end)

  it("keeps or refuses where the caller says so", function()
    local old = assert(w.broker:ingest(ANN, request()))
    local _, err = w.broker:ingest(ANN, request { if_exists = "refuse" })
    assert.equal("name_taken", err.reason)
    assert(w.broker:ingest(ANN, request { if_exists = "keep" }))
    assert.equal("registered", assert(w.broker:file(ANN, old.id)).state)
  end)

  it("finds bytes that changed on the way", function()
    w.provider.corrupt = function(body) return body:upper():gsub("5", "6") end
    local _, err = w.broker:ingest(ANN, request())
    assert.equal("integrity", err.code)
    w.provider.profile.lists_crc32c = false -- found at the end then
    _, err = w.broker:ingest(ANN, request())
    assert.equal("integrity", err.code)
    w:sweep()
    assert.same({ 0, 0 }, { w.provider:left() })
    assert.equal(0, w.broker:usage(ANN).files)
  end)

  it("refuses ranges that the file does not have, and files that are not there", function()
    for _, file in ipairs { { path = spool, offset = 19 }, { path = spool, offset = 10, length = 9 },
      { path = spool, offset = -1 }, { path = spool, length = -1 } } do
      assert.equal("invalid", select(2, w.broker:ingest(ANN, request { file = file })).code)
    end
    assert.is_nil((w.broker:ingest(ANN, request { file = { path = spool .. "x" } })))
    assert.same({}, w.store:count_uploads())
  end)

  it("passes the policy as any upload", function()
    local _, err = w.broker:ingest(worlds.actor { rights = { read = true } }, request())
    assert.equal("forbidden", err.code)
    w = worlds.new { policy = { max_size = 9 } }
    _, err = w.broker:ingest(ANN, request())
    assert.equal("too_large", err.code)
  end)
end)

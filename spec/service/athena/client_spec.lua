-- The athena driver against answers made for it: the shapes that services differ in, and
-- what it makes of refusals and lost answers.
local client = require "longshore.service.athena.client"
local clocks = require "longshore.clock"
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"
local support = require "spec.support"

local MiB = 1048576
local CATALOG = "0b7c9f4e-1111-4222-8333-444455556666"
local FILE = "11111111-2222-4333-8444-555555555555"

local function answer(status, value)
  return { status = status, headers = { ["content-type"] = "application/json" }, body = json.encode(value) }
end

local function good(data) return answer(200, { status = "success", message = "ok", data = data }) end

local function granted(upload, file)
  local grant = { url = "https://s/put", expires_at = "2024-01-02T03:04:05Z", expires_at_epoch_seconds = 1704164645,
    expires_in = 60 }
  for k, v in pairs(upload or {}) do grant[k] = v end
  return good { file = file or { id = FILE }, upload = grant }
end

-- A driver whose calls are answered from a list for each; the calls are kept.
local function world(answers, options)
  local w = { calls = {}, notes = {}, clock = clocks.fixed(1704164000) }
  local settings = { url = "https://files.example", token = "session", client = "north", catalog = CATALOG }
  for k, v in pairs(options or {}) do settings[k] = v or nil end
  w.driver = assert(client.new(settings))
  w.driver:attach {
    clock = w.clock, note = function(text) w.notes[#w.notes + 1] = text end,
    transport = function(request)
      local name = request.method .. " " .. request.url:match("/storage(.*)$")
      w.calls[#w.calls + 1] = { name = name, headers = request.headers, retry = request.retry,
        body = request.body and json.decode(request.body) }
      local list = answers[name] or error("not expected: " .. name)
      local response = #list > 1 and table.remove(list, 1) or list[1]
      if response.code then return nil, response end
      return response
    end,
  }
  return w
end

local SMALL = { name = "dir/a.txt", size = 5, content_type = "text/plain", path = "/nowhere" }
local LARGE = { name = "b.bin", size = 33 * MiB, content_type = "video/mp4", path = "/nowhere" }
local URL, CREATE, LIST = "POST /files/upload-url", "POST /multipart/create", "POST /multipart/list-parts"
local COMPLETE, CONFIRM = "POST /multipart/complete", "POST /files/" .. FILE .. "/confirm-upload"

describe("the athena driver", function()
  after_each(support.cleanup)

  it("refuses options that can be no good, and shows no token", function()
    for field, value in pairs { token = "", url = "ftp://x", catalog = "7", visibility = "world", client = "a\nb",
      key = "a b" } do
      local options = { url = "https://files.example", token = "very-secret", [field] = value }
      local driver, err = client.new(options)
      assert.is_nil(driver)
      assert.equal(field, err.field)
      assert.is_nil(tostring(err):find("very-secret", 1, true))
    end
    local driver = client.new { url = "https://files.example/storage/", token = "very-secret" }
    assert.is_nil(tostring(driver):find("very-secret", 1, true))
    assert.equal("https://files.example/storage/DEFAULT_CLIENT/", driver.destination)
  end)

  it("says who it is, and what the file is", function()
    local w = world({ [URL] = { granted { headers = { ["x-amz-server-side-encryption"] = "AES256" } } } },
      { key = "api-key", prefix = "up/", bucket = "more", visibility = "public" })
    local session = assert(w.driver:start(SMALL))
    local call = w.calls[1]
    assert.same({ "north", "session", "api-key" }, { call.headers["X-Athena-Client"],
      call.headers["X-Athena-Auth-Session-Token"], call.headers["X-Athena-Key"] })
    assert.same({ s3_id = CATALOG, bucket = "more", storage_key = "up/dir/a.txt", name = "a.txt",
      original_name = "a.txt", content_type = "text/plain", mime_type = "text/plain", size_bytes = 5,
      visibility = "public", public = true }, call.body)
    assert.same({ { number = 1, offset = 0, length = 5, url = "https://s/put", expires_at = 1704164645,
      headers = { ["x-amz-server-side-encryption"] = "AES256", ["Content-Type"] = "text/plain" } } }, session.parts)
    assert.is_nil(session.state)
    -- a fresh URL is the same call with the file's id
    local again = assert(w.driver:urls(session, session.parts))
    assert.equal(FILE, w.calls[2].body.file_id)
    assert.equal("https://s/put", again[1].url)
  end)

  it("finds the only catalog, and asks where there are more", function()
    local one = { ["GET /catalogs"] = { answer(200, { data = json.array { { id = CATALOG, is_active = true },
      { id = "x", is_active = false } } }) }, [URL] = { granted() } }
    assert(world(one, { catalog = false }).driver:start(SMALL))
    for n, words in pairs { [0] = "no catalog", [2] = "2 catalogs" } do
      local list = json.array()
      for i = 1, n do list[i] = { id = CATALOG, is_active = true } end
      local session, err = world({ ["GET /catalogs"] = { answer(200, { data = list }) } }, { catalog = false })
        .driver:start(SMALL)
      assert.is_nil(session)
      assert.equal("catalog", err.field)
      assert.matches(words, err.message)
    end
  end)

  it("plans parts of 8 MiB, and more where there would be too many", function()
    for _, spelling in ipairs { "upload_id", "uploadId" } do
      local w = world { [URL] = { granted() }, [CREATE] = { good { [spelling] = "mpu" } } }
      local session = assert(w.driver:start(LARGE))
      assert.equal("mpu", session.id)
      assert.equal(5, #session.parts)
      assert.same({ 8 * MiB, 32 * MiB, MiB }, { session.part_size, session.parts[5].offset, session.parts[5].length })
      assert.same({ file_id = FILE, content_type = "video/mp4" }, w.calls[2].body)
      assert.is_nil(session.parts[1].url)
    end
    local w = world { [URL] = { granted() }, [CREATE] = { good { upload_id = "mpu" } } }
    local session = assert(w.driver:start { name = "x", size = 200 * 1024 * MiB, content_type = "a/b" })
    assert.is_true(#session.parts <= 10000)
  end)

  it("asks for one part's URL at a time", function()
    local w = world { ["POST /multipart/sign-part"] = { good { url = "https://s/7", headers = { A = "b", C = 7 },
      expires_at = "2024-01-02T03:04:05Z" } } }
    local list = assert(w.driver:urls({ id = "mpu", file_id = FILE }, { { number = 7 } }))
    assert.same({ file_id = FILE, upload_id = "mpu", part_number = 7 }, w.calls[1].body)
    assert.same({ { url = "https://s/7", headers = { A = "b" }, expires_at = 1704164645 } }, list)
  end)

  it("resumes with what journal and store agree on", function()
    local saved = { id = "mpu", state = { file_id = FILE, part_size = 8 * MiB, size = LARGE.size }, parts = {} }
    for number = 1, 4 do
      saved.parts[number] = { offset = (number - 1) * 8 * MiB, length = 8 * MiB, token = ('"e%d"'):format(number),
        crc32c = number }
    end
    local w = world { [LIST] = { good { parts = json.array { { part_number = 1, etag = '"e1"', size_bytes = 8 * MiB },
      { part_number = 2, etag = "e2" }, { part_number = 3, etag = '"other"', size_bytes = 8 * MiB },
      { part_number = 4, etag = '"e4"', size_bytes = 7 }, { part_number = 5, etag = '"e5"' } } } } }
    local session = assert(w.driver:start(LARGE, saved))
    assert.is_true(session.resumed)
    assert.same({ [1] = 1, [2] = 2 }, { [1] = session.have[1].crc32c, [2] = session.have[2].crc32c })
    local numbers = {}
    for i, part in ipairs(session.parts) do numbers[i] = part.number end
    assert.same({ 3, 4, 5 }, numbers)
    -- gone: from the start
    w = world { [LIST] = { answer(404, { status = "error", message = "no such upload" }) }, [URL] = { granted() },
      [CREATE] = { good { upload_id = "new" } } }
    session = assert(w.driver:start(LARGE, saved))
    assert.same({ "new", false, 1 }, { session.id, session.resumed, #session.notes })
    -- away: not from the start
    w = world { [LIST] = { answer(503, { message = "later" }) } }
    local none, err = w.driver:start(LARGE, saved)
    assert.is_nil(none)
    assert.equal(503, err.status)
    -- of another size, or broken: from the start
    for _, state in ipairs { { file_id = FILE, part_size = 8 * MiB, size = 1 }, {},
      { file_id = "a/b", size = LARGE.size, part_size = 1 } } do
      w = world { [URL] = { granted() }, [CREATE] = { good { upload_id = "new" } } }
      assert.equal("new", assert(w.driver:start(LARGE, { id = "mpu", state = state, parts = {} })).id)
    end
  end)

  it("confirms with size and SHA-256, where it can", function()
    local path = support.write_file(support.tmpdir() .. "/a", "hello")
    local source = { name = "a", size = 5, content_type = "text/plain", path = path }
    local session = { single = true, file_id = FILE, id = FILE, source = source }
    local w = world { [CONFIRM] = { good { file = { id = FILE, status = "available" } } } }
    assert.equal(FILE, assert(w.driver:complete(session)).file_id)
    assert.same({ size_bytes = 5, checksum_sha256 = core.hex(core.sha256("hello")) }, w.calls[1].body)
    w = world { [CONFIRM] = { answer(405, { message = "no" }) } }
    assert.equal(FILE, assert(w.driver:complete(session)).file_id)
    assert.equal(1, #w.notes)
    w = world { [CONFIRM] = { answer(409, { status = "error", code = "integrity", message = "another SHA-256" }) } }
    local result, err = w.driver:complete(session)
    assert.is_nil(result)
    assert.equal("integrity", err.code)
  end)

  it("sends the ETags as they came, and recognises a completion whose answer was lost", function()
    local parts = { { number = 1, token = '"a"', length = 5 }, { number = 2, token = "b", length = 6 } }
    local session = { id = "mpu", file_id = FILE }
    local w = world { [COMPLETE] = { good { file = { id = FILE, size_bytes = 11 } } } }
    assert.equal(FILE, assert(w.driver:complete(session, parts)).file_id)
    assert.same({ { part_number = 1, etag = '"a"' }, { part_number = 2, etag = "b" } }, w.calls[1].body.parts)
    w = world { [COMPLETE] = { good { file = { id = FILE, size_bytes = 7 } } } }
    assert.equal("integrity", select(2, w.driver:complete(session, parts)).code)
    local lost = answer(404, { message = "no such upload" })
    lost.doubtful = true
    local there = { id = FILE, size_bytes = 11, status = "available", updated_at = "2024-01-02T02:53:21Z" }
    w = world { [COMPLETE] = { lost }, ["GET /files/" .. FILE] = { good { file = there } } }
    assert.equal(FILE, assert(w.driver:complete(session, parts)).file_id)
    for _, change in ipairs { { size_bytes = 12 }, { status = "failed" }, { updated_at = "2023-01-01T00:00:00Z" } } do
      local file = {}
      for k, v in pairs(there) do file[k] = v end
      for k, v in pairs(change) do file[k] = v end
      w = world { [COMPLETE] = { lost }, ["GET /files/" .. FILE] = { good { file = file } } }
      local result, err = w.driver:complete(session, parts)
      assert.is_nil(result)
      assert.is_true(err.gone)
    end
  end)

  it("aborts what is given up, from the journal too; gone is aborted", function()
    local session = { id = "mpu", state = { file_id = FILE } }
    for _, reply in ipairs { good {}, answer(404, { message = "x" }), answer(409, { message = "x" }) } do
      local w = world { ["POST /multipart/abort"] = { reply } }
      assert.is_true(w.driver:abort(session))
      assert.same({ file_id = FILE, upload_id = "mpu" }, w.calls[1].body)
    end
    assert.is_nil((world { ["POST /multipart/abort"] = { answer(503, { message = "x" }) } }.driver:abort(session)))
    assert.is_true(world({}).driver:abort { id = FILE, single = true })
  end)

  it("reads every shape of an error, and takes no nonsense for an answer", function()
    for _, case in ipairs {
      { answer(403, { status = "error", message = "not yours", error = "x" }), "not yours", "forbidden" },
      { answer(400, { error = "bad client routing" }), "bad client routing", "invalid" },
      { answer(409, { details = "constraint" }), "constraint", "conflict" },
      { { status = 504, headers = {}, body = "<html>" }, "504", "unavailable" },
      { answer(201, { status = "success" }), "no data", "store" },
      { answer(201, json.array {}), "no data", "store" },
      { { status = 201, headers = {}, body = "{" }, "not JSON", "store" },
      { good { file = { id = FILE } }, "no file or no URL", "store" },
      { granted(nil, { id = "a/b?c" }), "no file or no URL", "store" },
      { errors.new("network", "gone"), "gone", "network" },
    } do
      local session, err = world { [URL] = { case[1] } }.driver:start(SMALL)
      assert.is_nil(session)
      assert.equal(case[3], err.code)
      assert(err.message:find(case[2], 1, true), err.message)
    end
    local session, err = world({}).driver:start { name = "\255", size = 1, content_type = "a/b" }
    assert.is_nil(session)
    assert.equal("name", err.field)
  end)

  it("says where a file can be read", function()
    local w = world { ["GET /files/" .. FILE] = { good { file = { name = "a.txt", size_bytes = 5 } } },
      ["GET /files/" .. FILE .. "/url?purpose=download"] = { good { url = "https://s/get",
        expires_at = "2024-01-02T03:04:05Z" } } }
    assert.same({ url = "https://s/get", name = "a.txt", size = 5, expires_at = 1704164645 }, w.driver:download(FILE))
    assert.equal("id", select(2, w.driver:download "a?b").field)
  end)
end)

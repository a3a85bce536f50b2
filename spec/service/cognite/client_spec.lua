-- The cognite driver against a service that is told what to answer, in the shapes
-- of the real one (Azure and AWS links, Google's sessions), also the wrong ones.
local client = require "longshore.service.cognite.client"
local clocks = require "longshore.clock"
local core = require "longshore.core"
local drivers = require "longshore.uploader.driver"
local json = require "longshore.json"
local support = require "spec.support"

local BASE = "https://westeurope.cognitedata.com/api/v1/projects/harbour"
local PLAIN = "https://store.example/container/blob?sig=secret"
local SESSION = "https://westeurope.cognitedata.com/v1/files/gcs_proxy/bucket/object?uploadType=resumable&upload_id=abc"
local MiB = 1048576

local function answer(status, value, headers)
  return { status = status, headers = headers or {}, body = value and json.encode(value) or "" }
end

-- A driver whose calls are answered from {"METHOD /path" = {response...}}; the last
-- response of a name is repeated.
local function world(answers, options)
  local self = { calls = {}, notes = {}, clock = clocks.fixed(1700000000) }
  local given = { url = BASE, token = "key123" }
  for k, v in pairs(options or {}) do given[k] = v end
  self.driver = drivers.check(assert(client.new(given)))
  self.driver:attach {
    clock = self.clock, note = function(text) self.notes[#self.notes + 1] = text end,
    transport = function(request)
      local path = request.url:match("^" .. BASE:gsub("%p", "%%%0") .. "/files(.*)$")
      local name = request.method .. " " .. (path or "session")
      self.calls[#self.calls + 1] = { name = name, headers = request.headers, retry = request.retry,
        body = path and request.body and json.decode(request.body) }
      local list = assert(answers[name], name)
      local n = 0
      for _, call in ipairs(self.calls) do n = n + (call.name == name and 1 or 0) end
      return list[math.min(n, #list)]
    end,
  }
  return self
end

local START = "POST ?overwrite=false"

local function started(url, more)
  local file = { id = 9007199254740991, name = "n", uploaded = false, uploadUrl = url }
  for k, v in pairs(more or {}) do file[k] = v end
  return answer(201, file)
end

describe("the cognite driver", function()
  local path
  setup(function()
    path = support.tmpdir() .. "/source"
    support.write_file(path, ("0123456789abcdef"):rep(65536)) -- 1 MiB
  end)
  teardown(support.cleanup)

  local function source(size)
    return { name = "n.bin", size = size or MiB, content_type = "text/x", path = path, metadata = { a = "b" } }
  end

  it("wants a project's URL and a token", function()
    for _, url in ipairs { BASE, BASE .. "/", BASE .. "/files", BASE .. "/files/" } do
      assert.equal(BASE .. "/files", assert(client.new { url = url, token = "t" }).destination)
    end
    for _, bad in ipairs { { url = "https://x" }, { url = "https://x/api/v1" }, { url = "https://x/api/v1/projects/" },
      { url = "ftp://x/api/v1/projects/p" }, { overwrite = true }, { directory = "relative" } } do
      local given = { url = BASE, token = "t" }
      for k, v in pairs(bad) do given[k] = v end
      local driver, err = client.new(given)
      assert.is_nil(driver)
      assert.is_truthy(err.field)
    end
    assert.equal("unauthenticated", select(2, client.new { url = BASE }).code)
  end)

  it("starts with what the file is, once, and sends one PUT without the token", function()
    local w = world({ [START] = { started(PLAIN) } }, { external_id = "e", directory = "/d" })
    local session = assert(w.driver:start(source()))
    assert.same({ name = "n.bin", externalId = "e", directory = "/d", mimeType = "text/x", metadata = { a = "b" } },
      w.calls[1].body)
    assert.equal("Bearer key123", w.calls[1].headers.Authorization)
    assert.equal("refused", w.calls[1].retry)
    assert.same({ { number = 1, offset = 0, length = MiB, url = PLAIN, headers = { ["Content-Type"] = "text/x" } } },
      session.parts)
    assert.equal("9007199254740991", session.id)
    local again = world({ ["POST ?overwrite=true"] = { started(PLAIN) } }, { external_id = "e", overwrite = true })
    assert(again.driver:start(source()))
    assert.equal("safe", again.calls[1].retry) -- the same entry, however often
  end)

  it("reads wrapped answers and relative links", function()
    local w = world { [START] = { answer(201, { items = json.array { { id = 5, uploadUrl = "/upload/here?x" } } }) } }
    assert.equal("https://westeurope.cognitedata.com/upload/here?x", assert(w.driver:start(source())).parts[1].url)
    for _, bad in ipairs { { id = 5 }, { uploadUrl = PLAIN }, { id = "5", uploadUrl = PLAIN },
      { id = 5, uploadUrl = "file:///etc/passwd" } } do
      local _, err = world({ [START] = { answer(201, bad) } }).driver:start(source())
      assert.equal("store", err.code)
    end
  end)

  it("asks for links of parts above the threshold, and for as many as are allowed", function()
    local urls = json.array { "https://s/1", "https://s/2", "https://s/3" }
    local w = world({ [START] = { started(PLAIN) },
      ["POST /multiuploadlink?parts=3"] = { answer(201, { items = json.array {
      { id = 9007199254740991, uploadId = "U", uploadUrls = urls } } }) },
      ["POST /completemultipartupload"] = { answer(200, {}) },
      ["POST /byids"] = { answer(200, { items = json.array { { id = 1, uploaded = false } } }),
        answer(200, { items = json.array { { id = 1, uploaded = true, uploadedTime = 5 } } }) },
    }, { threshold = 5 * MiB, part_size = 10 * MiB })
    local session = assert(w.driver:start(source(25 * MiB)))
    assert.equal(3, #session.parts)
    assert.equal(5 * MiB, session.parts[3].length)
    assert.same({}, session.parts[3].headers)
    local result = assert(w.driver:complete(session))
    assert.same({ id = 9007199254740991, uploadId = "U" }, w.calls[3].body)
    assert.equal("uploaded", result.file_status)
    assert.equal("9007199254740991", result.file_id)
    local huge = world { ["POST /initmultipartupload?overwrite=false&parts=250"] = { answer(400, {}) } }
    local _, err = huge.driver:start(source(970 * 1024 * MiB))
    assert.equal(400, err.status)
    _, err = huge.driver:start(source(980 * 1024 * MiB))
    assert.equal("too_large", err.code)
  end)

  it("waits until an overwritten file is uploaded anew", function()
    local function file(time)
      return answer(200, { items = json.array { { id = 1, uploaded = true, uploadedTime = time } } })
    end
    local w = world({ ["POST ?overwrite=true"] = { started(PLAIN, { uploaded = true, uploadedTime = 5 }) },
      ["POST /byids"] = { file(5), file(5), file(6) } }, { external_id = "e", overwrite = true })
    local session = assert(w.driver:start(source()))
    assert(w.driver:complete(session))
    assert.equal(4, #w.calls)
    -- a service that does not change the time of upload is believed after a while
    w = world({ ["POST ?overwrite=true"] = { started(PLAIN, { uploaded = true, uploadedTime = 5 }) },
      ["POST /byids"] = { file(5) } }, { external_id = "e", overwrite = true })
    assert(w.driver:complete(assert(w.driver:start(source()))))
  end)

  it("says so when the token may not look, and when the service never notices", function()
    local w = world { [START] = { started(PLAIN) }, ["POST /byids"] = { answer(403, { error = { code = 403,
      message = "no" } }) } }
    assert.equal("sent", assert(w.driver:complete(assert(w.driver:start(source())))).file_status)
    assert.matches("may not read", w.notes[1])
    w = world { [START] = { started(PLAIN) }, ["POST /byids"] = { answer(200, { items = json.array {
      { id = 1, uploaded = false } } }) } }
    local _, err = w.driver:complete(assert(w.driver:start(source())))
    assert.equal("timeout", err.code)
  end)

  it("asks for a fresh link when one is refused, of one PUT only", function()
    local w = world { [START] = { started(PLAIN) }, ["POST /uploadlink"] = { answer(201, { items = json.array {
      { id = 5, uploadUrl = PLAIN .. "2" } } }) } }
    local session = assert(w.driver:start(source()))
    assert.equal(PLAIN, w.driver:urls(session, { session.parts[1] })[1].url)
    w.driver:answer(session, session.parts[1], { status = 403, headers = {} })
    assert.equal(PLAIN .. "2", w.driver:urls(session, { session.parts[1] })[1].url)
    assert.equal(2, #w.calls)
  end)

  describe("in a session", function()
    local Q = 256 * 1024

    local function begin(answers, saved)
      answers[START] = answers[START] or { started(SESSION) }
      local w = world(answers, { part_size = Q })
      return w, assert(w.driver:start(source(), saved))
    end

    local function event(status, headers, body, sent)
      return { type = "done", status = status, headers = headers or {}, body = body or "", sent = sent or Q,
        crc32c = 1 }
    end

    it("sends chunks in order, each with its range and checksum", function()
      local w, session = begin {}
      assert.is_true(session.ordered)
      assert.equal(4, #session.parts)
      local list = assert(w.driver:urls(session, { session.parts[1], session.parts[2] }))
      assert.equal(SESSION, list[1].url)
      assert.equal("bytes 0-262143/1048576", list[1].headers["Content-Range"])
      assert.equal("bytes 262144-524287/1048576", list[2].headers["Content-Range"])
      assert.equal(core.crc32c_base64(core.crc32c(support.read_file(path):sub(1, Q))),
        list[1].headers["X-Longshore-Crc32c"])
      assert.is_nil(list[1].headers.Authorization)
      assert.equal(1, #w.calls)
    end)

    it("asks where to go on when it does not know, and sends the rest", function()
      local w, session = begin { ["PUT session"] = { answer(308, nil, { range = "bytes=0-299999" }),
        answer(308, nil, { range = "bytes=0-524287" }), answer(410), answer(308) } }
      session.stored = nil
      local target = w.driver:urls(session, { session.parts[2] })[1]
      assert.equal("bytes */1048576", w.calls[2].headers["Content-Range"])
      assert.equal("bytes 300000-524287/1048576", target.headers["Content-Range"])
      assert.same({ 300000, 224288 }, { target.offset, target.length })
      target = w.driver:urls(session, { session.parts[2] })[1] -- all of it arrived
      assert.same({ 524288, 0, "bytes */1048576" }, { target.offset, target.length, target.headers["Content-Range"] })
      local _, err = w.driver:urls(session, { session.parts[3] })
      assert.is_true(err.gone)
      _, err = w.driver:urls(session, { session.parts[3] }) -- it has nothing any more
      assert.is_true(err.gone)
    end)

    it("reads every answer to a chunk", function()
      local w, session = begin {}
      local first, last = session.parts[1], session.parts[4]
      assert.is_true(w.driver:answer(session, first, event(308, { range = "bytes=0-262143" })))
      local _, err = w.driver:answer(session, first, event(308, { range = "bytes=0-99" }))
      assert.equal("transient", err.kind)
      _, err = w.driver:answer(session, first, event(308))
      assert.equal("transient", err.kind)
      _, err = w.driver:answer(session, first, event(200))
      assert.equal("fatal", err.kind)
      for _, status in ipairs { 404, 410 } do
        _, err = w.driver:answer(session, first, event(status))
        assert.equal("gone", err.kind)
      end
      assert.is_nil((w.driver:answer(session, first, event(503))))
      _, err = w.driver:answer(session, first, event(308, { range = "bytes=0-262143",
        ["x-amz-checksum-crc32c"] = core.crc32c_base64(2) }))
      assert.equal("integrity", err.code)
      local done = event(200, { ["x-goog-hash"] = "crc32c=" .. core.crc32c_base64(77) .. ",md5=x", etag = "whole" })
      assert.is_true(w.driver:answer(session, last, done))
      assert.equal(77, session.crc32c)
      assert.is_nil(done.headers["x-goog-hash"] or done.headers.etag) -- not of this chunk
    end)

    it("hands the store's checksum of the whole on, so that a damaged object is no success", function()
      local w, session = begin { ["POST /byids"] = { answer(200, { items = json.array {
        { id = 1, uploaded = true, uploadedTime = 1 } } }) } }
      w.driver:answer(session, session.parts[4], event(200, {}, json.encode { crc32c = core.crc32c_base64(99) }))
      assert.equal(99, w.driver:complete(session).crc32c)
    end)

    it("goes on where an earlier process stopped", function()
      local saved = { id = "5", part_size = Q, state = { file = 5, kind = "session", url = SESSION, created = true },
        parts = { [1] = { number = 1, offset = 0, length = Q, crc32c = 11 } } }
      local w, session = begin({ ["PUT session"] = { answer(308, nil, { range = "bytes=0-600000" }) } }, saved)
      assert.is_true(session.resumed)
      assert.equal(11, session.have[1].crc32c)
      assert.is_nil(session.have[2].crc32c) -- not in the journal: read from the file again
      assert.equal(2, #session.parts)
      local target = w.driver:urls(session, { session.parts[1] })[1]
      assert.equal(600001, target.offset)
      assert.equal(1, #w.calls)
    end)

    it("finds that an earlier process had sent everything", function()
      local saved = { id = "5", part_size = Q, state = { file = 5, kind = "session", url = SESSION }, parts = {} }
      local _, session = begin({ ["PUT session"] = { answer(200, {}) } }, saved)
      assert.equal(0, #session.parts)
      assert.equal(4, #session.have)
    end)

    it("brings the bytes to the same entry when the session is gone; to a new one when the entry is, too", function()
      local saved = { id = "5", part_size = Q, state = { file = 5, kind = "session", url = SESSION, created = true },
        parts = {} }
      local w, session = begin({ ["PUT session"] = { answer(404) }, ["POST /uploadlink"] = { answer(201, { items =
        json.array { { id = 5, uploadUrl = SESSION .. "2" } } }) } }, saved)
      assert.equal("5", session.id)
      assert.is_false(session.resumed)
      assert.equal(SESSION .. "2", session.url)
      assert.same({ { id = 5 } }, w.calls[2].body.items)
      w, session = begin({ ["PUT session"] = { answer(404) }, ["POST /uploadlink"] = { answer(400, { error = {
        code = 400, message = "unknown", missing = json.array { { id = 5 } } } }) } }, saved)
      assert.equal("9007199254740991", session.id)
      assert.equal(3, #w.calls)
    end)

    it("gives up by cancelling, and deletes an entry that it made and that has nothing", function()
      local function file(uploaded) return answer(200, { items = json.array { { id = 1, uploaded = uploaded } } }) end
      local w, session = begin { ["DELETE session"] = { answer(499) }, ["POST /byids"] = { file(false) },
        ["POST /delete"] = { answer(200, {}) } }
      assert.is_true(w.driver:abort(session))
      assert.equal("POST /delete", w.calls[4].name)
      w, session = begin { ["DELETE session"] = { answer(404) }, ["POST /byids"] = { file(true) } }
      assert.is_true(w.driver:abort(session)) -- what has content stays
      session.state.created = false
      w.calls = {}
      assert.is_true(w.driver:abort(session))
      assert.equal(1, #w.calls)
    end)
  end)

  it("reads back by id and by external id", function()
    for id, reference in pairs { ["123"] = { id = 123 }, ["plan 7"] = { externalId = "plan 7" } } do
      local w = world { ["POST /byids"] = { answer(200, { items = json.array { { id = 123, name = "plan.pdf" } } }) },
        ["POST /downloadlink?extendedExpiration=true"] = { answer(200, { items = json.array {
          { id = 123, downloadUrl = PLAIN } } }) } }
      assert.same({ url = PLAIN, headers = {}, name = "plan.pdf" }, w.driver:download(id))
      assert.same({ reference }, w.calls[1].body.items)
    end
  end)
end)

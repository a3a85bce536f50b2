-- The newton driver against a service that is a function: what it sends, what
-- it makes of answers, whatever the service's habits.
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"
local newton = require "longshore.service.newton.client"

describe("the newton client", function()
  local driver, asked, answers

  before_each(function()
    driver = assert(newton.new { url = "http://broker:8080", token = "ls_secret" })
    asked, answers = {}, {}
    driver:attach {
      transport = function(request)
        asked[#asked + 1] = { method = request.method, path = request.url:match("^http://broker:8080(.*)$"),
          body = request.body and json.decode(request.body), headers = request.headers, retry = request.retry,
          raw = request.body }
        local answer = table.remove(answers, 1) or error("no answer for " .. request.url)
        if answer.failed then return nil, answer.failed end
        return { status = answer[1], headers = answer.headers or {},
          body = type(answer[2]) == "string" and answer[2] or json.encode(answer[2] or json.object()) }
      end,
    }
  end)

  local source = { path = "/x", name = "a.mp4", size = 25, content_type = "video/mp4" }

  local function part(number, offset, length)
    return { part_number = number, url = "http://store/" .. number, offset = offset, length = length,
      expires_at = "2030-01-01T00:00:00Z" }
  end

  local function initiated(more)
    local reply = { upload_id = "upl_1", file_uid = "fil_1", file_name = "a.mp4", total_bytes = 25, num_parts = 3,
      part_size = 10, integrity_algorithm = "crc32c", is_resume = false,
      parts = json.array { part(1, 0, 10), part(2, 10, 10), part(3, 20, 5) } }
    for k, v in pairs(more or {}) do reply[k] = v end
    return { 200, reply }
  end

  local function saved(parts)
    return { id = "upl_1", part_size = 10, parts = parts or {}, state = { file_id = "fil_1", integrity = "crc32c",
      plan = { first = 1, part_size = 10, count = 3, size = 25 } } }
  end

  local function done(number, offset, length)
    return { number = number, offset = offset, length = length, token = '"e' .. number .. '"', crc32c = number }
  end

  it("initiates with name, type and size, and the token", function()
    answers = { initiated() }
    local session = assert(driver:start(source))
    assert.equal("/v0.5/files/uploads/initiate", asked[1].path)
    assert.same({ filename = "a.mp4", file_type = "video/mp4", num_bytes = 25 }, asked[1].body)
    assert.equal("Bearer ls_secret", asked[1].headers.Authorization)
    assert.equal("upl_1", session.id)
    assert.equal("fil_1", session.file_id)
    assert.equal("crc32c", session.integrity)
    assert.is_false(session.resumed)
    assert.equal(3, #session.parts)
    assert.equal(1893456000, session.parts[1].expires_at)
    assert.same({ file_id = "fil_1", integrity = "crc32c",
      plan = { first = 1, part_size = 10, count = 3, size = 25 } }, session.state)
  end)

  it("takes integers beyond 32 bits and sends them as integers", function()
    answers = { initiated { parts = json.array { part(1, 0, 9007199254740991) } } }
    local big = { name = "b", size = 9007199254740991, content_type = "x/y" }
    assert(driver:start(big))
    assert.truthy(asked[1].raw:find('"num_bytes":9007199254740991', 1, true))
  end)

  it("keeps the service's numbers, from 0 as well", function()
    answers = { initiated { parts = json.array { part(0, 0, 10), part(1, 10, 10), part(2, 20, 5) } } }
    local session = assert(driver:start(source))
    assert.equal(0, session.parts[1].number)
    assert.equal(0, session.state.plan.first)
    answers = { { 200, { parts = json.array { part(2, 20, 5), part(0, 0, 10) } } } }
    local list = assert(driver:urls(session, { session.parts[3], session.parts[1] }))
    assert.same({ 2, 0 }, asked[2].body.part_numbers)
    assert.equal("http://store/2", list[1].url)
  end)

  it("keeps parts of unequal sizes", function()
    answers = { initiated { parts = json.array { part(5, 0, 3), part(7, 3, 2), part(9, 5, 20) } } }
    local session = assert(driver:start(source))
    answers = { initiated { is_resume = true, parts = json.array { part(9, 5, 20) } } }
    local again = assert(driver:start(source, { id = "upl_1", state = json.decode(json.encode(session.state)),
      parts = { [5] = done(5, 0, 3) } }))
    assert.equal(7, again.parts[1].number)
    assert.equal(2, again.parts[1].length)
    assert.equal(9, again.parts[2].number)
    assert.equal(0, again.have[5].offset)
  end)

  it("works out offset and length where the service gives none", function()
    answers = { initiated { parts = json.array { { part_number = 1, url = "u" }, { part_number = 2, url = "u" },
      { part_number = 3, url = "u" } } } }
    local session = assert(driver:start(source))
    assert.equal(20, session.parts[3].offset)
    assert.equal(5, session.parts[3].length)
    answers = { initiated { part_size = false, parts = json.array { { part_number = 1, url = "u" } } } }
    local nothing, err = driver:start(source)
    assert.is_nil(nothing)
    assert.equal("store", err.code)
  end)

  it("refuses answers that it cannot work with", function()
    for _, reply in ipairs { { 200, "[]" }, { 200, "3" }, { 200, "{}" }, { 200, "<html>" }, { 200, "" },
      initiated { upload_id = 7 }, initiated { parts = "x" }, initiated { parts = json.array { { part_number = "1",
      url = "u" } } }, initiated { parts = json.array { { part_number = 1 } } },
      initiated { parts = json.array { { part_number = -1, url = "u" } } } } do
      answers = { reply }
      local session, err = driver:start(source)
      assert.is_nil(session)
      assert.equal("store", err.code)
    end
  end)

  describe("resuming", function()
    it("asks for the upload by name and knows it by its id", function()
      answers = { initiated { is_resume = true, parts = json.array { part(3, 20, 5) } } }
      local session = assert(driver:start(source, saved { [1] = done(1, 0, 10), [2] = done(2, 10, 10) }))
      assert.is_true(asked[1].body.resume_if_started)
      assert.is_true(session.resumed)
      assert.equal(1, #session.parts)
      assert.equal(3, session.parts[1].number)
      assert.equal("http://store/3", session.parts[1].url)
      assert.equal(1, session.have[1].crc32c)
      assert.is_nil(session.have[1].unrecorded)
    end)

    it("records again what the service lost track of, without sending it", function()
      answers = { initiated { is_resume = true, parts = json.array { part(2, 10, 10), part(3, 20, 5) } } }
      local session = assert(driver:start(source, saved { [1] = done(1, 0, 10), [2] = done(2, 10, 10) }))
      assert.is_true(session.have[2].unrecorded)
      assert.equal(1, #session.parts)
    end)

    it("sends what only the service claims to have", function()
      answers = { initiated { is_resume = true, parts = json.array { part(3, 20, 5) } } }
      local session = assert(driver:start(source, saved { [1] = done(1, 0, 10) }))
      assert.equal(2, session.parts[1].number)
      assert.equal(10, session.parts[1].offset)
      assert.is_nil(session.parts[1].url)
      assert.equal(3, session.parts[2].number)
    end)

    it("keeps to its own upload when another of the same name is going on", function()
      answers = { initiated { upload_id = "upl_other", is_resume = true },
        { 200, { parts = json.array { part(1, 0, 10) } } } }
      local session = assert(driver:start(source, saved { [1] = done(1, 0, 10) }))
      assert.equal("/v0.5/files/uploads/upl_1/parts/urls", asked[2].path)
      assert.equal("upl_1", session.id)
      assert.equal(2, #session.parts)
      assert.is_true(session.have[1].unrecorded)
    end)

    it("begins anew when its upload is gone, leaving another's alone", function()
      answers = { initiated { upload_id = "upl_other", is_resume = true }, { 404 }, { 404 },
        initiated { upload_id = "upl_new" } }
      local session = assert(driver:start(source, saved { [1] = done(1, 0, 10) }))
      assert.equal("upl_new", session.id)
      assert.is_false(session.resumed)
      assert.is_nil(asked[4].body.resume_if_started)
      assert.same({}, session.have)
      assert.truthy(session.notes[1]:find("gone", 1, true))
    end)

    it("takes a fresh upload that the service began instead", function()
      answers = { initiated { upload_id = "upl_new", is_resume = false }, { 404 }, { 404 } }
      local session = assert(driver:start(source, saved()))
      assert.equal("upl_new", session.id)
      assert.equal(3, #asked)
    end)

    it("finds that the upload was completed", function()
      answers = { { 409, { errors = json.array { { code = "conflict", message = "exists" } } } }, { 409 },
        { 200, { file_uid = "fil_1", num_bytes = 25, file_status = "FILE_STATUS_REGISTERED" } } }
      local session = assert(driver:start(source, saved()))
      assert.equal("fil_1", session.completed.file_id)
      assert.equal("/v0.5/files/metadata/fil_1", asked[3].path)
    end)

    it("does not take another file, size or state for its own", function()
      for _, file in ipairs { { file_uid = "fil_2", num_bytes = 25, file_status = "FILE_STATUS_REGISTERED" },
        { file_uid = "fil_1", num_bytes = 24, file_status = "FILE_STATUS_REGISTERED" },
        { file_uid = "fil_1", num_bytes = 25, file_status = "FILE_STATUS_CORRUPT" } } do
        answers = { { 409 }, { 409 }, { 200, file } }
        local session, err = driver:start(source, saved())
        assert.is_nil(session)
        assert.equal("conflict", err.code)
      end
    end)

    it("distrusts a plan that the service has changed", function()
      answers = { initiated { is_resume = true, parts = json.array { part(2, 8, 8) } }, { 404 },
        initiated { upload_id = "upl_new" } }
      local session = assert(driver:start(source, saved { [1] = done(1, 0, 10) }))
      assert.equal("upl_new", session.id)
    end)

    it("ignores a journal that is not one of its own", function()
      for _, state in ipairs { {}, { plan = {} }, { plan = { first = 1, part_size = 10, count = 3, size = 24 } },
        { plan = { first = 1.5, part_size = 10, count = 3, size = 25 } }, { plan = { parts = { 1 }, size = 25 } } } do
        answers = { initiated() }
        local session = assert(driver:start(source, { id = "upl_1", state = state, parts = {} }))
        assert.is_false(session.resumed)
      end
    end)

    it("passes on what may pass", function()
      answers = { { 503 } }
      local session, err = driver:start(source, saved())
      assert.is_nil(session)
      assert.is_true(err.retryable)
      answers = { { failed = errors.new("network", "cut", { retryable = true }) } }
      session, err = driver:start(source, saved())
      assert.is_nil(session)
      assert.equal("network", err.code)
    end)
  end)

  it("asks for URLs in order and checks that it got them", function()
    local session = { id = "upl_1" }
    for _, reply in ipairs { { part(1, 0, 10) }, { part(2, 10, 10), part(1, 0, 10) }, {} } do
      answers = { { 200, { parts = json.array(reply) } } }
      local list, err = driver:urls(session, { { number = 1 }, { number = 2 } })
      assert.is_nil(list)
      assert.equal("store", err.code)
    end
    answers = { { 404 } }
    local _, err = driver:urls(session, { { number = 1 } })
    assert.is_true(err.gone)
  end)

  it("checkpoints tokens as received", function()
    answers = { { 200, { num_checkpointed = 1 } } }
    assert.is_true(driver:checkpoint({ id = "upl_1" }, { { number = 1, token = '"abc"' } }))
    assert.same({ parts = { { part_number = 1, part_token = '"abc"' } } }, asked[1].body)
    assert.equal("safe", asked[1].retry)
  end)

  describe("completing", function()
    local session = { id = "upl_1", file_id = "fil_1" }
    local parts = { { number = 1, token = '"a"', length = 20 }, { number = 2, length = 5 } }

    it("sends the tokens it has and the checksum", function()
      answers = { { 200, { file_uid = "fil_1", file_name = "a.mp4", num_bytes = 25, file_status = "Registered",
        file_attributes = { crc32c = core.crc32c_base64(77) } } } }
      local result = assert(driver:complete(session, parts, 77))
      assert.same({ parts = { { part_number = 1, part_token = '"a"' } },
        integrity_checksum = core.crc32c_base64(77) }, asked[1].body)
      assert.equal("fil_1", result.file_id)
      assert.equal(77, result.crc32c)
      answers = { { 200, { file_uid = "fil_1" } } }
      assert(driver:complete(session, {}, nil))
      assert.equal('{"parts":[]}', asked[2].raw)
    end)

    it("is a success when an earlier answer was lost", function()
      for _, status in ipairs { 404, 409 } do
        answers = { { status },
          { 200, { file_uid = "fil_1", num_bytes = 25, file_status = "FILE_STATUS_REGISTERED" } } }
        assert.equal("fil_1", assert(driver:complete(session, parts, 77)).file_id)
      end
    end)

    it("is none when the file is somebody else's or not there", function()
      answers = { { 409 }, { 404 } }
      local result, err = driver:complete(session, parts, 77)
      assert.is_nil(result)
      assert.equal("conflict", err.code)
      answers = { { 404 }, { 404 } }
      result, err = driver:complete(session, parts, 77)
      assert.is_nil(result)
      assert.is_true(err.gone)
    end)

    it("says that the file is corrupt", function()
      for _, list in ipairs {
        { { 400, { errors = json.array { { code = "integrity_check_failed", message = "differs" } } } }, { 404 } },
        { { 400, { errors = json.array { { code = "other", message = "bad" } } } },
          { 200, { file_uid = "fil_1", num_bytes = 25, file_status = "FILE_STATUS_CORRUPT" } } },
        { { 200, { file_uid = "fil_1", file_status = "Corrupt" } } },
        { { 200, { file_uid = "fil_1", num_bytes = 24, file_status = "Registered" } } } } do
        answers = list
        local result, err = driver:complete(session, parts, 77)
        assert.is_nil(result)
        assert.equal("integrity", err.code)
      end
    end)
  end)

  it("aborts; what is gone or complete is aborted", function()
    for _, status in ipairs { 200, 404, 409 } do
      answers = { { status, status == 200 and "" or nil } }
      assert.is_true(driver:abort { id = "upl_1" })
      assert.equal("{}", asked[#asked].raw)
    end
    answers = { { 500 } }
    assert.is_nil((driver:abort { id = "upl_1" }))
  end)

  it("escapes ids in paths", function()
    answers = { { 200 } }
    driver:abort { id = "upl-1/../x" }
    assert.equal("/v0.5/files/uploads/upl-1%2F..%2Fx/abort", asked[1].path)
  end)

  it("reads errors of every shape", function()
    local shapes = {
      { 400, { errors = json.array { { code = "invalid_file_type", message = "not that", suggestion = "this",
        error_uid = "err-1" }, { message = "nor that" } } }, "not that (this); nor that" },
      { 400, { detail = "plain words" }, "plain words" },
      { 422, { detail = json.array { { loc = json.array { "body", "size" }, msg = "missing" } } },
        "body.size: missing" },
      { 403, { error = { code = 403, message = "nested" } }, "nested" },
      { 403, { error = "just a string" }, "just a string" },
      { 404, { message = "message" }, "message" },
    }
    for _, shape in ipairs(shapes) do
      answers = { { shape[1], shape[2] } }
      local session, err = driver:start(source)
      assert.is_nil(session)
      assert.equal(shape[1], err.status)
      assert.truthy(err.message:find(shape[3], 1, true), err.message)
    end
    answers = { { 400, shapes[1][2] } }
    local _, err = driver:start(source)
    assert.equal("invalid_file_type", err.service_code)
    assert.equal("err-1", err.request_id)
    for _, body in ipairs { "", "<html>oops</html>", "[1,2]", "null", '"x"', '{"errors":7}', "\0\255" } do
      answers = { { 502, body } }
      _, err = driver:start(source)
      assert.equal(502, err.status)
      assert.is_true(err.retryable)
    end
  end)

  it("shows no token, and repeats none that a service echoes", function()
    assert.falsy(tostring(driver):find("ls_secret", 1, true))
    answers = { { 401, { detail = "Bearer ls_secret is wrong" } } }
    local _, err = driver:start(source)
    assert.equal("unauthenticated", err.code)
    assert.falsy(tostring(err):find("ls_secret", 1, true))
  end)

  it("needs a name in UTF-8", function()
    local session, err = driver:start { name = "a\255", size = 1, content_type = "x/y" }
    assert.is_nil(session)
    assert.equal("invalid", err.code)
    assert.equal(0, #asked)
  end)

  it("takes a URL with or without the API's path, and refuses what is none", function()
    assert.equal("http://h:1/v0.5", newton.new({ url = "http://h:1/", token = "t" }).destination)
    assert.equal("https://h/v0.5", newton.new({ url = "HTTPS://h", token = "t" }).destination)
    assert.equal("https://h/base/v0.5", newton.new({ url = "https://h/base/v0.5/", token = "t" }).destination)
    assert.equal("https://h/uploads/v0.5", newton.new({ url = "https://h/uploads", token = "t" }).destination)
    assert.equal("https://h/v0.6", newton.new({ url = "https://h/v0.6", token = "t" }).destination)
    for _, url in ipairs { "", "h", "ftp://h", "http://", "http://u:p@h", "http://h/?x", "http://h/a b" } do
      local nothing, err = newton.new { url = url, token = "t" }
      assert.is_nil(nothing)
      assert.equal("url", err.field)
    end
    for _, token in ipairs { "", "a b", "a\nb", "\195\188" } do
      assert.is_nil((newton.new { url = "http://h", token = token }))
    end
    local _, err = newton.new { url = "http://h" }
    assert.equal("token", err.field)
  end)
end)

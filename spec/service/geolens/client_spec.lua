-- The geolens driver against a service that is told what to answer, in the
-- shapes of the real one, also the clumsy and the broken ones.
local client = require "longshore.service.geolens.client"
local clocks = require "longshore.clock"
local drivers = require "longshore.uploader.driver"
local json = require "longshore.json"

local DATASET = "0f8fad5b-d9cb-469f-a165-70867728950e"
local JOB = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
local URL = "https://store.example/b/staging/x?X-Amz-Date=20240102T030405Z&X-Amz-Expires=3599&X-Amz-Signature=ab"

local function problem(status, detail)
  return { status = status, headers = { ["content-type"] = "application/problem+json" },
    body = json.encode { type = "about:blank", title = "T", status = status, detail = detail } }
end

local function answer(status, value)
  return { status = status, headers = {}, body = json.encode(value) }
end

-- A driver whose calls are answered from a list of {"METHOD /path", response...};
-- the last response of a path is repeated.
local function world(answers, options)
  local self = { calls = {}, notes = {}, clock = clocks.fixed(1704164700) }
  local given = { url = "https://geo.example", token = "key123", dataset = DATASET }
  for k, v in pairs(options or {}) do given[k] = v or nil end
  self.driver = drivers.check(assert(client.new(given)))
  self.driver:attach {
    clock = self.clock, note = function(text) self.notes[#self.notes + 1] = text end,
    transport = function(request)
      local path = request.url:match("^https://geo%.example/api(.*)$")
      local name = request.method .. " " .. tostring(path)
      self.calls[#self.calls + 1] = { name = name, headers = request.headers, body = request.body
        and json.decode(request.body), retry = request.retry }
      local list = assert(answers[name], name)
      local n = 0
      for _, call in ipairs(self.calls) do n = n + (call.name == name and 1 or 0) end
      local given_answer = list[math.min(n, #list)]
      if type(given_answer) == "function" then return given_answer(request) end
      return given_answer
    end,
  }
  return self
end

local START = ("POST /datasets/%s/reupload/presigned"):format(DATASET)
local COMPLETE = ("%s/%s/complete"):format(START, JOB)
local COMMIT = ("POST /datasets/%s/reupload/%s/commit"):format(DATASET, JOB)
local POLL = "GET /jobs/" .. JOB
local ACCEPTED = { job_id = JOB, status = "pending", message = "ok" }

local function started(urls, part_size)
  return answer(201, { job_id = JOB, urls = json.array(urls), s3_key = "staging/x",
    upload_id = part_size and "mpu" or json.null, part_size = part_size or json.null })
end

local function job(status, fields)
  local value = { id = JOB, status = status, dataset_id = DATASET, error_message = json.null }
  for k, v in pairs(fields or {}) do value[k] = v end
  return answer(200, value)
end

local SOURCE = { name = "dir/piers.csv", size = 25, content_type = "text/csv", path = "/tmp/x" }
local PARTS = { { number = 1, token = '"e1"', length = 10 }, { number = 2, token = '"e2"', length = 15 } }

-- Completes with these answers.
local function completing(answers, options)
  local w = world(answers, options)
  local session = { id = JOB, filename = "piers.csv", single = false }
  return w, w.driver:complete(session, PARTS)
end

describe("the geolens driver", function()
  it("finds the API, and the dataset, in a URL", function()
    for url, want in pairs {
      ["https://geo.example"] = "https://geo.example/api/ingest",
      ["https://geo.example/"] = "https://geo.example/api/ingest",
      ["https://geo.example/api/"] = "https://geo.example/api/ingest",
      ["https://geo.example/maps"] = "https://geo.example/maps/api/ingest",
      ["https://geo.example/maps/api"] = "https://geo.example/maps/api/ingest",
      ["https://geo.example/datasets/" .. DATASET] = ("https://geo.example/api/datasets/%s"):format(DATASET),
      ["https://geo.example/api/datasets/" .. DATASET:upper()] =
        ("https://geo.example/api/datasets/%s"):format(DATASET),
      ["https://geo.example/api/datasets/" .. DATASET .. "/reupload"] =
        ("https://geo.example/api/datasets/%s"):format(DATASET),
    } do
      assert.equal(want, assert(client.new { url = url, token = "x" }).destination)
    end
    for _, url in ipairs { "ftp://geo.example", "https://geo.example/datasets/7", "https://geo.example/datasets/../x",
      "https://geo.example/datasets/" .. DATASET .. "/other", "https://u:p@geo.example", "https://geo.example/?a=b" } do
      local driver, err = client.new { url = url, token = "x" }
      assert.is_nil(driver)
      assert.equal("url", err.field)
    end
  end)

  it("refuses options that do not go together", function()
    for field, options in pairs {
      token = { token = "" }, dataset = { dataset = "7" }, visibility = { visibility = "world" },
      title = { dataset = DATASET, title = "x" },
    } do
      options.url, options.token = "https://geo.example", options.token or "x"
      local driver, err = client.new(options)
      assert.is_nil(driver)
      assert.equal(field, err.field)
    end
    local driver, err = client.new { url = "https://geo.example/datasets/" .. DATASET, token = "x", dataset = JOB }
    assert.is_nil(driver)
    assert.equal("dataset", err.field)
    driver, err = client.new { url = "https://geo.example", token = "se cret\n" }
    assert.is_nil(driver)
    assert.is_nil(tostring(err):find("cret", 1, true))
  end)

  it("sends a session token as one, anything else as an API key", function()
    for token, header in pairs { ["eyJhbGciOi.eyJzdWIi.c2ln-_"] = "Authorization", ["ls_abc_def"] = "X-Api-Key",
      ["eyJnot.a-jwt"] = "X-Api-Key" } do
      local w = world({ [START] = { started { URL } } }, { token = token })
      assert(w.driver:start(SOURCE))
      local headers = w.calls[1].headers
      assert.equal(header == "Authorization" and "Bearer " .. token or token, headers[header])
      assert.is_nil(headers[header == "Authorization" and "X-Api-Key" or "Authorization"])
    end
  end)

  it("plans one PUT with the declared type and the URL's end", function()
    local w = world { [START] = { started { URL } } }
    local session = assert(w.driver:start(SOURCE))
    assert.same({ filename = "piers.csv", file_size = 25, content_type = "text/csv" }, w.calls[1].body)
    assert.equal("safe", w.calls[1].retry)
    assert.same({ { number = 1, offset = 0, length = 25, url = URL, headers = { ["Content-Type"] = "text/csv" },
      expires_at = 1704164645 + 3599 } }, session.parts)
    assert.is_nil(session.state)
  end)

  it("plans the parts as the service divides the file, without any header", function()
    local w = world { [START] = { started({ "https://s/1", "https://s/2", "https://s/3" }, 10) } }
    local session = assert(w.driver:start(SOURCE))
    assert.same({
      { number = 1, offset = 0, length = 10, url = "https://s/1" },
      { number = 2, offset = 10, length = 10, url = "https://s/2" },
      { number = 3, offset = 20, length = 5, url = "https://s/3" },
    }, session.parts)
    assert.equal(10, session.part_size)
  end)

  it("takes no plan that does not fit the file", function()
    for _, reply in ipairs {
      started({ URL, URL }), started({ URL, URL }, 10), started({ URL }, 0), started({ URL }, -5),
      started({ URL }, 2.5), started({}), started { 7 }, answer(201, { urls = json.array { URL } }),
      answer(201, { job_id = "a/b", urls = {} }), answer(201, json.array {}),
      { status = 201, headers = {}, body = "<html>" }, { status = 201, headers = {}, body = "" },
    } do
      local w = world { [START] = { reply } }
      local session, err = w.driver:start(SOURCE)
      assert.is_nil(session)
      assert.equal("store", err.code)
    end
  end)

  it("refuses an empty file and a broken name before asking", function()
    local w = world {}
    for _, change in ipairs { { size = 0 }, { name = "\255.csv" } } do
      local source = { name = "a.csv", size = 1, content_type = "text/csv" }
      for k, v in pairs(change) do source[k] = v end
      local session, err = w.driver:start(source)
      assert.is_nil(session)
      assert.equal("invalid", err.code)
    end
    assert.equal(0, #w.calls)
  end)

  it("reads every shape of an error", function()
    for _, case in ipairs {
      { problem(422, "body.file_size: too small"), "body.file_size: too small", "invalid" },
      { problem(422, json.array { { loc = json.array { "body", "file_size" }, msg = "too small", type = "x" } }),
        "body.file_size: too small", "invalid" },
      { problem(409, { code = "origin_changed", message = "moved" }), "moved", "conflict" },
      { answer(404, { detail = "Dataset not found" }), "Dataset not found", "not_found" },
      { { status = 413, headers = {}, body = "<html>too large</html>" }, "413", "too_large" },
      { problem(401, "Not authenticated"), "Not authenticated", "unauthenticated" },
    } do
      local w = world { [START] = { case[1] } }
      local session, err = w.driver:start(SOURCE)
      assert.is_nil(session)
      assert.matches(case[2], err.message)
      assert.equal(case[3], err.code)
    end
  end)

  it("completes with the ETags as they came, commits, and waits for the job", function()
    local w, result = completing { [COMPLETE] = { answer(200, ACCEPTED) }, [COMMIT] = { answer(202, ACCEPTED) },
      [POLL] = { job "pending", job "running", job "complete" } }
    assert.equal(DATASET, result.file_id)
    assert.equal(JOB, result.job_id)
    assert.equal(("https://geo.example/api/datasets/%s"):format(DATASET), result.location)
    assert.same({ parts = { { etag = '"e1"', part_number = 1 }, { etag = '"e2"', part_number = 2 } } },
      w.calls[1].body)
    assert.same({}, w.calls[2].body)
    assert.equal(5, #w.calls)
    assert.is_true(w.clock.now() > 1704164700)
  end)

  it("completes a single PUT with an empty list", function()
    local w = world { [COMPLETE] = { answer(200, ACCEPTED) }, [COMMIT] = { answer(202, ACCEPTED) },
      [POLL] = { job "complete" } }
    assert(w.driver:complete({ id = JOB, filename = "a.csv", single = true }, { { number = 1, token = '"e"' } }))
    assert.is_true(json.is_array(w.calls[1].body.parts))
    assert.equal(0, #w.calls[1].body.parts)
  end)

  it("names a new dataset after its file, or as told", function()
    local answers = {
      [("POST /ingest/upload/presigned/%s/complete"):format(JOB)] = { answer(200, ACCEPTED) },
      ["POST /ingest/commit/" .. JOB] = { answer(202, ACCEPTED) }, [POLL] = { job "complete" },
    }
    local w, result = completing(answers, { dataset = false })
    assert.same({ title = "piers" }, w.calls[2].body)
    assert.equal(DATASET, result.file_id)
    w = completing(answers, { dataset = false, title = "Piers", summary = "s", visibility = "public", srid = 25832,
      layer = "l" })
    assert.same({ title = "Piers", summary = "s", visibility = "public", srid_override = 25832, layer_name = "l" },
      w.calls[2].body)
  end)

  it("takes a lost answer for what it was", function()
    local doubtful = problem(400, "whatever it says")
    doubtful.doubtful = true
    local busy = problem(409, "This upload is being completed by another request.")
    busy.doubtful = true
    for _, answers in ipairs {
      { [COMPLETE] = { problem(400, "Upload already completed for this job") }, [COMMIT] = { answer(202, ACCEPTED) } },
      { [COMPLETE] = { doubtful }, [COMMIT] = { answer(202, ACCEPTED) } },
      { [COMPLETE] = { busy, busy, answer(200, ACCEPTED) }, [COMMIT] = { answer(202, ACCEPTED) } },
      { [COMPLETE] = { answer(200, ACCEPTED) }, [COMMIT] = { problem(400, "Job already processed") } },
      { [COMPLETE] = { answer(200, ACCEPTED) }, [COMMIT] = { doubtful } },
    } do
      answers[POLL] = { job "complete" }
      local _, result, err = completing(answers)
      assert.is_truthy(result, tostring(err))
    end
    -- the answer to complete was lost, but it had been refused
    local _, result, err = completing { [COMPLETE] = { doubtful },
      [COMMIT] = { problem(400, "Job has no file_path and no source_url") } }
    assert.is_nil(result)
    assert.matches("whatever it says", err.message)
  end)

  it("waits for a busy dataset, and not for ever", function()
    local busy = problem(409, { code = "dataset_busy", message = "A refresh is already running" })
    local w, result = completing { [COMPLETE] = { answer(200, ACCEPTED) },
      [COMMIT] = { busy, busy, answer(202, ACCEPTED) }, [POLL] = { job "complete" } }
    assert.is_truthy(result)
    assert.equal(1, #w.notes)
    local err
    w, result, err = completing { [COMPLETE] = { answer(200, ACCEPTED) }, [COMMIT] = { busy } }
    assert.is_nil(result)
    assert.equal("conflict", err.code)
    assert.is_true(w.clock.now() - 1704164700 >= 1800)
  end)

  it("fails for good when the service refuses the content or the job fails", function()
    local _, result, err = completing { [COMPLETE] = { problem(422, "File content detected as '.pdf'") } }
    assert.is_nil(result)
    assert.is_true(err.gone)
    assert.matches("detected as", err.message)
    for _, status in ipairs { "failed", "cancelled" } do
      _, result, err = completing { [COMPLETE] = { answer(200, ACCEPTED) }, [COMMIT] = { answer(202, ACCEPTED) },
        [POLL] = { job(status, { error_message = "ogr2ogr: no layer" }) } }
      assert.is_nil(result)
      assert.is_true(err.gone)
      assert.matches("ogr2ogr: no layer", err.message)
    end
    _, result, err = completing { [COMPLETE] = { problem(502, "Upload completion failed") } }
    assert.is_nil(result)
    assert.is_nil(err.gone)
  end)

  it("does not wait for a job for ever", function()
    local w, result, err = completing { [COMPLETE] = { answer(200, ACCEPTED) }, [COMMIT] = { answer(202, ACCEPTED) },
      [POLL] = { job "running" } }
    assert.is_nil(result)
    assert.equal("timeout", err.code)
    assert.matches(JOB, err.message, 1, true)
    assert.is_true(#w.calls < 2500)
  end)

  it("shows no token", function()
    local w = world({}, { token = "very-secret" })
    assert.is_nil(tostring(w.driver):find("very-secret", 1, true))
    assert.is_nil(w.driver.destination:find("very-secret", 1, true))
  end)
end)

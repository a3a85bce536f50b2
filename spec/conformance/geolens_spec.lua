-- The geolens service as it is served: real nginx, real disk store. Requests have
-- the official web client's shape (what fetch sends for frontend/src/api of
-- version 1.14, in its order), also where it is clumsy; `longshore put` is proven
-- against the same server with faults in between.
local apps = require "spec.service.geolens.app"
local core = require "longshore.core"
local http = require "spec.support.http"
local json = require "longshore.json"
local relay = require "spec.support.relay"
local serve = require "spec.support.serve"
local stores = require "longshore.store"
local support = require "spec.support"
local tokens = require "longshore.broker.tokens"

local shape, refused = apps.shape, apps.refused
local ORIGIN = "https://geolens.example"
local NOBODY = "00000000-0000-4000-8000-000000000000"

-- What a browser adds to every fetch.
local BROWSER = {
  Accept = "*/*", ["Accept-Language"] = "en-GB,en;q=0.9", ["Accept-Encoding"] = "gzip, deflate, br", Origin = ORIGIN,
  Referer = ORIGIN .. "/", ["Sec-Fetch-Dest"] = "empty", ["Sec-Fetch-Mode"] = "cors", ["Sec-Fetch-Site"] = "cross-site",
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
}

local function browser(more)
  local headers = {}
  for name, value in pairs(BROWSER) do headers[name] = value end
  for name, value in pairs(more or {}) do headers[name] = value end
  return headers
end

-- Rows that differ, so that no two parts are alike.
local function table_of(bytes, tag)
  local rows, size = { "id,name,depth\n" }, 14
  local i = 0
  while size < bytes do
    i = i + 1
    rows[#rows + 1] = ("%d,%s pier %d,%d.5\n"):format(i, tag or "north", i * 7919 % 10007, i % 30)
    size = size + #rows[#rows]
  end
  return table.concat(rows):sub(1, bytes - 1) .. "\n"
end

describe("the geolens service, served", function()
  local server, doors, token, bob, foreign

  local function make_token(user, organization)
    local store = assert(stores.open { type = "sqlite", path = server.data .. "/longshore.db" })
    local made = assert(tokens.new({ store = store }):create { user = user, organization = organization,
      rights = { "read", "upload" } })
    store:close()
    return made.token
  end

  setup(function()
    local store_port = support.free_port()
    doors = { store = relay.start { target = "127.0.0.1:" .. store_port } }
    server = serve.start { store_port = store_port, config = ([[return {
      diskstore = { public_endpoint = %q, fsync = false },
      services = { geolens = { threshold = 1 * MiB, part_size = 5 * MiB, max_size = 40 * MiB } },
      cors = { origins = { %q } } }]]):format(doors.store.endpoint, ORIGIN) }
    doors.broker = relay.start { target = "127.0.0.1:" .. server.port }
    token = server.token
    bob, foreign = make_token("bob", "default"), make_token("eve", "other")
  end)
  teardown(function()
    for _, door in pairs(doors) do door:stop() end -- their connections would be waited for
    server:stop()
    support.cleanup()
  end)
  before_each(function()
    doors.store:clear()
    doors.broker:clear()
  end)

  -- A call as apiFetch makes it.
  local function api(method, path, value, more)
    more = more or {}
    local headers = browser { Authorization = more.token ~= false and "Bearer " .. (more.token or token) or nil }
    local body
    if value ~= nil then
      headers["Content-Type"] = "application/json"
      body = type(value) == "string" and value or json.encode(value)
    end
    for name, text in pairs(more.headers or {}) do headers[name] = text end
    local response = assert(http.request { method = method, url = server.url .. "/api" .. path, headers = headers,
      body = body })
    if response.body:find("^%s*[{%[]") then response.json = assert(json.decode(response.body)) end
    return response
  end

  -- fetch(url, { method: 'PUT', body: file }): no token; a File brings its type.
  local function put(url, body, kind)
    return assert(http.request { method = "PUT", url = url, body = body,
      headers = browser { ["Content-Type"] = kind } })
  end

  -- reuploadPresigned and uploadPresigned of the web client.
  local function web_upload(dataset, name, body, kind)
    local started = shape(api("POST", dataset and ("/datasets/%s/reupload/presigned"):format(dataset)
      or "/ingest/upload/presigned", { filename = name, file_size = #body, content_type = kind }), 201,
      "PresignedUploadResponse")
    local parts = json.array {}
    if #started.urls == 1 and started.upload_id == json.null then
      assert.equal(200, put(started.urls[1], body, kind).status)
    else
      for i, url in ipairs(started.urls) do
        local answer = put(url, body:sub((i - 1) * started.part_size + 1, i * started.part_size))
        assert.equal(200, answer.status, answer.body)
        assert.matches("ETag", answer.headers["access-control-expose-headers"])
        assert.equal("*", answer.headers["access-control-allow-origin"])
        parts[i] = { etag = answer.headers.etag, part_number = i }
      end
    end
    shape(api("POST", dataset and ("/datasets/%s/reupload/presigned/%s/complete"):format(dataset, started.job_id)
      or ("/ingest/upload/presigned/%s/complete"):format(started.job_id), { parts = parts }), 200, "UploadResponse")
    return started.job_id, started
  end

  local function wait_for(job)
    return assert(support.wait_until(function()
      local found = shape(api("GET", "/jobs/" .. job), 200, "JobStatusResponse")
      return found.status ~= "pending" and found.status ~= "running" and found
    end, 60))
  end

  local function new_dataset(body, visibility)
    local job = web_upload(nil, "piers.csv", body or "id\n1\n", "text/csv")
    shape(api("POST", "/ingest/commit/" .. job, { title = "Piers", visibility = visibility or "private" }), 202,
      "CommitResponse")
    return wait_for(job).dataset_id
  end

  local function content(dataset, as)
    local link = api("GET", ("/datasets/%s/download"):format(dataset), nil, { token = as })
    assert.equal(302, link.status)
    local answer = assert(http.request { url = link.headers.location })
    assert.equal(200, answer.status)
    return answer.body
  end

  it("carries the web client's re-upload in one PUT", function()
    local dataset = new_dataset()
    local body = table_of(20000)
    local job, started = web_upload(dataset, "North piers.csv", body, "text/csv")
    assert.equal(("staging/%s/North_piers.csv"):format(job), started.s3_key)
    local base = ("/datasets/%s/reupload/%s"):format(dataset, job)
    local preview = shape(api("POST", base .. "/preview"), 200, "ReuploadPreviewResponse")
    assert.same({ "id", "name", "depth" },
      { preview.columns[1].name, preview.columns[2].name, preview.columns[3].name })
    assert.equal(preview.feature_count - 1, preview.schema_diff.row_count_delta)
    shape(api("POST", base .. "/commit", { srid_override = json.null }), 202, "CommitResponse")
    assert.equal("complete", wait_for(job).status)
    assert.equal(body, content(dataset))
  end)

  it("carries the web client's re-upload in parts", function()
    local dataset = new_dataset()
    local body = table_of(10 * 1048576 + 5)
    local job, started = web_upload(dataset, "piers.csv", body, "text/csv")
    assert.equal(3, #started.urls)
    assert.equal(5 * 1048576, started.part_size)
    shape(api("POST", ("/datasets/%s/reupload/%s/commit"):format(dataset, job), { srid_override = 4326 }), 202,
      "CommitResponse")
    assert.equal("complete", wait_for(job).status)
    assert.equal(core.crc32c(body), core.crc32c(content(dataset)))
  end)

  it("carries the web client's form", function()
    local dataset = new_dataset()
    local body = table_of(1500000)
    local boundary = "----WebKitFormBoundaryR7xq3LQb6bA0vX1z"
    local form = ('--%s\r\nContent-Disposition: form-data; name="file"; filename="piers.csv"\r\n'
      .. "Content-Type: text/csv\r\n\r\n%s\r\n--%s--\r\n"):format(boundary, body, boundary)
    local answer = api("POST", ("/datasets/%s/reupload"):format(dataset), form,
      { headers = { ["Content-Type"] = "multipart/form-data; boundary=" .. boundary } })
    local job = shape(answer, 201, "UploadResponse").job_id
    shape(api("POST", ("/datasets/%s/reupload/%s/commit"):format(dataset, job), {}), 202, "CommitResponse")
    assert.equal(body, content(dataset))
    answer = api("POST", "/ingest/upload", (form:gsub("piers%.csv", "piers.tif", 1)),
      { headers = { ["Content-Type"] = "multipart/form-data; boundary=" .. boundary } })
    refused(answer, 422, "detected as")
  end)

  it("lets the store refuse what was not declared, and lets a browser ask first", function()
    local body = table_of(5000)
    local started = api("POST", "/ingest/upload/presigned",
      { filename = "piers.csv", file_size = #body, content_type = "text/csv" }).json
    local url = started.urls[1]
    assert.equal(403, put(url, body, "application/json").status)
    assert.equal(403, put(url, body).status)
    assert.equal(403, put(url, body .. "x", "text/csv").status)
    local asked = assert(http.request { method = "OPTIONS", url = url, headers = browser {
      ["Access-Control-Request-Method"] = "PUT", ["Access-Control-Request-Headers"] = "content-type" } })
    assert.equal(200, asked.status)
    assert.equal(200, put(url, body, "text/csv").status)
    -- a file whose type the browser does not know
    started = api("POST", "/ingest/upload/presigned", { filename = "piers.csv", file_size = #body }).json
    assert.equal(200, put(started.urls[1], body).status)
    assert.equal(200, put(started.urls[1], body, "application/octet-stream").status)
    asked = assert(http.request { method = "OPTIONS", url = server.url .. "/api/ingest/upload/presigned",
      headers = browser { ["Access-Control-Request-Method"] = "POST",
        ["Access-Control-Request-Headers"] = "authorization,content-type" } })
    assert.equal(200, asked.status)
    assert.equal(ORIGIN, asked.headers["access-control-allow-origin"])
  end)

  it("gives every reader the whole old or the whole new content", function()
    local old, new = table_of(300000, "old"), table_of(400000, "new")
    local dataset = new_dataset(old)
    local before = api("GET", ("/datasets/%s/download"):format(dataset)).headers.location
    local job = web_upload(dataset, "piers.csv", new, "text/csv")
    assert.equal(old, content(dataset))
    api("POST", ("/datasets/%s/reupload/%s/commit"):format(dataset, job), {})
    assert.equal(new, content(dataset))
    assert.equal(old, http.request { url = before }.body)
  end)

  it("does not let a PUT URL change what was checked", function()
    local dataset, body = new_dataset(), table_of(4000)
    local job, started = web_upload(dataset, "piers.csv", body, "text/csv")
    assert.equal(200, put(started.urls[1], ("\0"):rep(#body), "text/csv").status)
    refused(api("POST", ("/datasets/%s/reupload/presigned/%s/complete"):format(dataset, job),
      { parts = json.array {} }), 400, "already completed")
    api("POST", ("/datasets/%s/reupload/%s/commit"):format(dataset, job), {})
    assert.equal(body, content(dataset))
  end)

  it("refuses content that is not what its name says", function()
    local dataset = new_dataset()
    for name, body in pairs { ["a.gpkg"] = "SQLite format 4\0", ["a.zip"] = "GIF89a", ["a.xlsx"] = "x,y\n1,2\n",
      ["a.json"] = "id,name\n", ["a.geojson"] = "<html>", ["a.csv"] = "%PDF-1.7", ["a.parquet"] = "PAR1 and no end" } do
      local started = api("POST", ("/datasets/%s/reupload/presigned"):format(dataset),
        { filename = name, file_size = #body }).json
      assert.equal(200, put(started.urls[1], body, "application/octet-stream").status)
      refused(api("POST", ("/datasets/%s/reupload/presigned/%s/complete"):format(dataset, started.job_id), {}), 422,
        "extension")
      local job = shape(api("GET", "/jobs/" .. started.job_id), 200, "JobStatusResponse")
      assert.equal("failed", job.status)
      assert.matches("extension", job.error_message)
    end
    assert.equal("id\n1\n", content(dataset))
  end)

  it("keeps everything from every wrong identity", function()
    local private, shared = new_dataset(), new_dataset(nil, "internal")
    local job = web_upload(private, "piers.csv", "id\n1\n", "text/csv")
    local function every(dataset)
      local base = ("/datasets/%s/reupload"):format(dataset)
      return {
        { "POST", base .. "/presigned", { filename = "a.csv", file_size = 5 } },
        { "POST", ("%s/presigned/%s/complete"):format(base, job), { parts = json.array {} } },
        { "POST", ("%s/%s/preview"):format(base, job) }, { "POST", ("%s/%s/commit"):format(base, job), {} },
        { "GET", "/datasets/" .. dataset }, { "GET", ("/datasets/%s/download"):format(dataset) },
      }
    end
    local own = { { "GET", "/jobs/" .. job }, { "POST", "/ingest/preview/" .. job },
      { "POST", "/ingest/commit/" .. job, { title = "x" } },
      { "POST", ("/ingest/upload/presigned/%s/complete"):format(job), {} } }
    local function try(list, as, status)
      for _, a in ipairs(list) do refused(api(a[1], a[2], a[3], { token = as }), status) end
    end
    for _, list in ipairs { every(private), every(shared), own } do
      try(list, false, 401)
      try(list, "ls_wrong", 401)
      try(list, token .. "x", 401)
      try(list, foreign, 404)
    end
    try(every(private), bob, 404)
    try(own, bob, 404)
    for i, a in ipairs(every(shared)) do
      local answer = api(a[1], a[2], a[3], { token = bob })
      if i <= 4 then refused(answer, 403) else assert.is_true(answer.status < 400) end
    end
    assert.equal("id\n1\n", content(shared, bob))
    assert.equal(200, api("GET", "/jobs/" .. job, nil, { token = false, headers = { ["X-Api-Key"] = token } }).status)
    assert.equal(200, api("GET", ("/jobs/%s?api_key=%s"):format(job, token), nil, { token = false }).status)
  end)

  it("answers whatever comes with a problem, never with a 500", function()
    local job = web_upload(nil, "piers.csv", "id\n1\n", "text/csv")
    local paths = { "/ingest/upload/presigned", ("/ingest/upload/presigned/%s/complete"):format(job),
      "/ingest/commit/" .. job, "/ingest/preview/" .. job, ("/datasets/%s/reupload/presigned"):format(NOBODY),
      "/ingest/upload", "/nothing" }
    for _, path in ipairs(paths) do
      for _, body in ipairs { "", "{", "null", "[]", '"x"', "\0\255", ("["):rep(1000), ('{"a":'):rep(200),
        '{"filename":"\\u0000","file_size":-1}', '{"filename":"a.csv","file_size":1e999}',
        '{"filename":"a.csv","file_size":9007199254740993}', '{"parts":[{"etag":null}]}', '{"title":{}}' } do
        local answer = api("POST", path, body)
        assert.is_true(answer.status < 500, path .. " " .. body .. answer.body)
        if answer.status >= 400 and path ~= "/nothing" then refused(answer, answer.status) end
      end
    end
    for _, target in ipairs { "/jobs/%00", "/jobs/..%2f", "/jobs/" .. ("x"):rep(5000), "/datasets/%ff" } do
      local answer = api("GET", target)
      assert.is_true(answer.status >= 400 and answer.status < 500)
    end
    local huge = '{"filename":"' .. ("x"):rep(11 * 1048576) .. '"}'
    refused(api("POST", "/ingest/upload/presigned", huge), 413)
  end)

  it("serves its OpenAPI document", function()
    local answer = assert(http.request { url = server.url .. "/openapi.json" })
    assert.equal(200, answer.status)
    assert.is_truthy(json.decode(answer.body).paths["/api/datasets/{dataset_id}/reupload/presigned"])
  end)

  describe("with longshore put", function()
    local folder

    setup(function() folder = support.tmpdir() end)

    local function longshore(file, url, more)
      local code, out = support.run(("cd %s && LONGSHORE_TOKEN=%s XDG_STATE_HOME=%s %s put --service geolens --json "
        .. "%s %s %s"):format(folder, token, folder, support.root .. "/build/bin/longshore", more or "", file, url))
      local result, events = nil, {}
      for line in out:gmatch("[^\n]+") do
        local event = json.decode(line)
        if type(event) == "table" then
          events[#events + 1] = event
          if event.event == "result" then result = event end
        end
      end
      return code, result, out, events
    end

    local function file(name, body)
      support.write_file(folder .. "/" .. name, body)
      return name
    end

    it("makes a dataset and replaces its content, small and in parts", function()
      local small, large = table_of(1000), table_of(10 * 1048576 + 3, "big")
      local code, result, out = longshore(file("small.csv", small), server.url, "--title Piers --visibility internal")
      assert.equal(0, code, out)
      assert.equal("crc32c", result.compared)
      local dataset = result.file_id
      local found = api("GET", "/datasets/" .. dataset).json
      assert.equal("Piers", found.title)
      assert.equal("internal", found.visibility)
      assert.equal(small, content(dataset))
      code, result, out = longshore(file("large.csv", large), ("%s/datasets/%s"):format(server.url, dataset))
      assert.equal(0, code, out)
      assert.equal(dataset, result.file_id)
      assert.equal(3, result.parts)
      assert.equal(core.crc32c(large), core.crc32c(content(dataset)))
      code = longshore("small.csv", server.url .. "/api", "--dataset " .. dataset)
      assert.equal(0, code)
      assert.equal(small, content(dataset))
      local puts = 0
      for _, entry in ipairs(doors.store:log()) do
        local head = entry.head:lower()
        if entry.method == "PUT" then
          puts = puts + 1
          assert.is_nil(head:find("authorization:", 1, true))
          assert.is_nil(head:find("x-api-key:", 1, true))
          assert.equal(entry.target:find("partNumber", 1, true) == nil, head:find("content%-type: text/csv") ~= nil)
        end
      end
      assert.equal(5, puts)
    end)

    it("ends with identical bytes whatever happens on the way", function()
      local large, small = table_of(5 * 1048576 + 777777, "faults"), table_of(1048577, "small")
      file("large.csv", large)
      file("small.csv", small)
      local dataset = new_dataset()
      for title, case in pairs {
        ["a cut connection"] = { store = { { method = "PUT", times = 2, cut = 1000000 } } },
        ["a flipped bit"] = { store = { { method = "PUT", times = 1, flip = 4000000 } } },
        ["a storm of 503"] = { store = { { method = "PUT", times = 4, status = 503,
          body = "<Error><Code>SlowDown</Code></Error>" } } },
        ["a lost answer to a part"] = { store = { { method = "PUT", times = 1, drop = true } } },
        ["a lost answer to complete"] = { broker = { { match = "/complete", times = 1, drop = true } } },
        ["a 502 for complete that was done"] = { broker = { { match = "/complete", times = 1, status = 502,
          forward = true, body = '{"detail":"Storage service unavailable"}' } } },
        ["a lost answer to commit"] = { broker = { { match = "/commit", times = 1, drop = true } } },
        ["a lost answer to the start"] = { broker = { { match = "/presigned", times = 1, drop = true } } },
        ["a 503 for the job"] = { broker = { { match = "/jobs/", times = 2, status = 503, body = "busy" } } },
        ["a busy dataset"] = { broker = { { match = "/commit", times = 1, status = 409,
          body = '{"detail":{"code":"dataset_busy","message":"A refresh is running"}}' } } },
      } do
        doors.store:clear()
        doors.broker:clear()
        doors.store:rules(case.store or {})
        doors.broker:rules(case.broker or {})
        local body = case.store and large or small
        local code, result, out = longshore(case.store and "large.csv" or "small.csv",
          ("%s/datasets/%s"):format(doors.broker.endpoint, dataset))
        assert.equal(0, code, title .. ": " .. out)
        assert.equal(dataset, result.file_id, title)
        doors.store:clear()
        assert.equal(core.crc32c(body), core.crc32c(content(dataset)), title)
        local version = api("GET", "/datasets/" .. dataset).json.version
        assert.equal(0, (longshore(file("reset.csv", "id\n1\n"), ("%s/datasets/%s"):format(server.url, dataset))))
        assert.equal(version + 1, api("GET", "/datasets/" .. dataset).json.version)
      end
    end)

    it("fails clearly, and leaves the content, when the service refuses", function()
      local dataset = new_dataset()
      local url = ("%s/datasets/%s"):format(server.url, dataset)
      local function fails(name, at, pattern, more)
        local code, result, out = longshore(name, at, more)
        assert.equal(1, code, out)
        assert.is_false(result.ok)
        assert.matches(pattern, result.error.message)
        assert.is_nil(result.error.message:find(token, 1, true))
      end
      fails(file("a.exe", "x"), url, "%.exe")
      fails(file("a.gpkg", "not sqlite"), url, "detected as")
      fails(file("broken.json", '{"a":'), url, "ends in the middle")
      fails(file("empty.csv", ""), url, "empty")
      fails("a.exe", ("%s/datasets/%s"):format(server.url, NOBODY), "Dataset not found")
      doors.store:rules { { method = "PUT", status = 403, body = "<Error><Code>AccessDenied</Code>"
        .. "<Message>Request has expired</Message></Error>" } }
      fails(file("late.csv", "id\n1\n"), url, "expired")
      assert.equal("id\n1\n", content(dataset))
    end)

    it("knows wrong usage", function()
      file("u.csv", "id\n1\n")
      for _, more in ipairs { "--dataset nonsense", "--visibility world",
        ("--dataset %s --title x"):format(NOBODY) } do
        assert.equal(2, (longshore("u.csv", server.url, more)))
      end
      assert.equal(2, (longshore("u.csv", server.url .. "/datasets/7")))
      local code = support.run(("cd %s && LONGSHORE_TOKEN=x %s put --title x u.csv %s"):format(folder,
        support.root .. "/build/bin/longshore", server.url))
      assert.equal(2, code)
    end)
  end)
end)

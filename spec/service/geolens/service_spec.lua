-- The geolens service in a plain script: its shapes, statuses and identities.
local apps = require "spec.service.geolens.app"
local json = require "longshore.json"
local support = require "spec.support"

local refused, shape = apps.refused, apps.shape
local CSV = "id,name\n1,north pier\n2,south pier\n"
local NOBODY = "00000000-0000-4000-8000-000000000000"

describe("the geolens service, in a plain script", function()
  local app

  local function send(...) return app:send(...) end

  local function start(dataset, fields, more)
    local body = { filename = "piers.csv", file_size = #CSV, content_type = "text/csv" }
    for name, value in pairs(fields or {}) do body[name] = value end
    return send("POST", dataset and ("datasets/%s/reupload/presigned"):format(dataset) or "ingest/upload/presigned",
      body, more)
  end

  local function finish(dataset, job, parts, more)
    return send("POST", dataset and ("datasets/%s/reupload/presigned/%s/complete"):format(dataset, job)
      or ("ingest/upload/presigned/%s/complete"):format(job), { parts = parts or json.array {} }, more)
  end

  before_each(function() app = apps.new() end)
  after_each(support.cleanup)

  describe("a replacement", function()
    it("goes from start to the new content, every answer in the published shape", function()
      local dataset = app:new_dataset()
      local started = shape(start(dataset), 201, "PresignedUploadResponse")
      assert.equal(json.null, started.upload_id)
      assert.equal(json.null, started.part_size)
      assert.equal(("staging/%s/piers.csv"):format(started.job_id), started.s3_key)
      local waiting = shape(send("GET", "jobs/" .. started.job_id), 200, "JobStatusResponse")
      assert.equal("pending", waiting.status)
      assert.equal(dataset, waiting.dataset_id)
      assert.equal(json.null, waiting.started_at)
      assert.is_true(json.is_array(waiting.warnings))
      app:put(started, CSV, "text/csv")
      local done = shape(finish(dataset, started.job_id), 200, "UploadResponse")
      assert.same({ job_id = started.job_id, status = "pending", message = "File uploaded for re-upload preview" },
        done)
      local path = ("datasets/%s/reupload/%s"):format(dataset, started.job_id)
      local preview = shape(send("POST", path .. "/preview"), 200, "ReuploadPreviewResponse")
      assert.equal("piers.csv", preview.source_filename)
      assert.equal(2, preview.feature_count)
      assert.same({ { id = 1, name = "north pier" }, { id = 2, name = "south pier" } }, preview.sample_rows)
      assert.same({ columns_added = { { name = "name", type = "String" } }, columns_removed = {}, type_changes = {},
        row_count_old = 1, row_count_new = 2, row_count_delta = 1 }, preview.schema_diff)
      shape(send("POST", path .. "/preview", "null"), 200, "ReuploadPreviewResponse")
      local committed = shape(send("POST", path .. "/commit", { srid_override = json.null }), 202, "CommitResponse")
      assert.equal("pending", committed.status)
      local job = shape(send("GET", "jobs/" .. started.job_id), 200, "JobStatusResponse")
      assert.equal("complete", job.status)
      assert.equal(2, job.rows_processed)
      assert.equal(1, job.progress)
      assert.equal("complete", job.current_step)
      assert.is_false(job.can_retry)
      local after = shape(send("GET", "datasets/" .. dataset), 200, "DatasetResponse")
      assert.equal("piers.csv", after.source_filename)
      assert.equal(2, after.version)
      local link = send("GET", ("datasets/%s/download"):format(dataset))
      assert.equal(302, link.status)
      local key = link.headers.location:match("store%.test/(.*)$")
      assert.equal(CSV, app.world.provider.objects[key].body)
    end)

    it("goes in parts above the threshold", function()
      local dataset = app:new_dataset()
      local body = CSV:rep(6)
      local started = shape(start(dataset, { file_size = #body }), 201, "PresignedUploadResponse")
      assert.equal(40, started.part_size)
      assert.equal(math.ceil(#body / 40), #started.urls)
      assert.equal("string", type(started.upload_id))
      local parts = app:put(started, body)
      shape(finish(dataset, started.job_id, parts), 200, "UploadResponse")
      refused(finish(dataset, started.job_id, parts), 400, "already completed")
    end)
  end)

  it("signs a type only where one was declared", function()
    local body = { filename = "piers.csv", file_size = #CSV }
    local started = shape(send("POST", "ingest/upload/presigned", body), 201, "PresignedUploadResponse")
    assert.equal(200, (app.world.provider:client_put(started.urls[1], CSV)))
    shape(finish(nil, started.job_id), 200, "UploadResponse")
    assert.equal("application/octet-stream", app.world.store:job(started.job_id).content_type)
    body.content_type = "application/octet-stream"
    started = shape(send("POST", "ingest/upload/presigned", body), 201, "PresignedUploadResponse")
    assert.equal(403, (app.world.provider:client_put(started.urls[1], CSV)))
  end)

  it("takes a form, in one request", function()
    local dataset = app:new_dataset()
    local form = ("--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"piers.csv\"\r\n"
      .. "Content-Type: text/csv\r\n\r\n%s\r\n--xyz--\r\n"):format(CSV)
    local headers = { ["content-type"] = "multipart/form-data; boundary=xyz" }
    for _, path in ipairs { ("datasets/%s/reupload"):format(dataset), "ingest/upload" } do
      local answer = shape(send("POST", path, form, { headers = headers }), 201, "UploadResponse")
      local job = app.world.store:job(answer.job_id)
      assert.equal(CSV, app.world.provider.objects[job.key].body)
    end
    refused(send("POST", "ingest/upload", (form:gsub("piers%.csv", "piers.exe")), { headers = headers }), 400)
    refused(send("POST", "ingest/upload", (form:gsub("piers%.csv", "piers.gpkg")), { headers = headers }), 422,
      "detected as")
    refused(send("POST", "ingest/upload", (form:gsub("; filename=\"piers%.csv\"", "")), { headers = headers }), 422,
      "body%.file: ")
    refused(send("POST", "ingest/upload", "{}", { headers = { ["content-type"] = "application/json" } }), 415)
  end)

  it("makes a new dataset with what the commit says", function()
    local started = start().json
    app:put(started, CSV, "text/csv")
    shape(finish(nil, started.job_id), 200, "UploadResponse")
    local preview = shape(send("POST", "ingest/preview/" .. started.job_id), 200, "PreviewResponse")
    assert.equal(json.null, preview.layers)
    shape(send("POST", "ingest/preview/" .. started.job_id .. "?layer_name=piers"), 200, "PreviewResponse")
    refused(send("POST", "ingest/preview/" .. started.job_id .. "?layer_name=docks"), 422, "docks")
    refused(send("POST", "ingest/commit/" .. started.job_id, {}), 422, "^body%.title: is required$")
    shape(send("POST", "ingest/commit/" .. started.job_id,
      { title = "Piers", summary = "All\nof them", visibility = "internal", srid_override = 4326 }), 202,
      "CommitResponse")
    local job = shape(send("GET", "jobs/" .. started.job_id), 200, "JobStatusResponse")
    local dataset = shape(send("GET", "datasets/" .. job.dataset_id), 200, "DatasetResponse")
    assert.equal("internal", dataset.visibility)
    assert.equal("All\nof them", dataset.summary)
    assert.equal(4326, dataset.srid)
    assert.equal("table", dataset.record_type)
  end)

  it("tells what may be uploaded", function()
    local found = shape(send("GET", "ingest/upload/config"), 200, "UploadConfigResponse")
    assert.same({ presigned_uploads = true, presigned_threshold_bytes = 100, max_file_size_bytes = 1000,
      allowed_extensions = ".zip,.gpkg,.geojson,.json,.csv,.tif,.tiff,.xlsx,.xls,.parquet",
      remaining_dataset_quota = json.null }, found)
    app = apps.new { quota_datasets = 3, extensions = { ".csv" } }
    app:new_dataset()
    found = shape(send("GET", "ingest/upload/config"), 200, "UploadConfigResponse")
    assert.equal(2, found.remaining_dataset_quota)
    assert.equal(".csv", found.allowed_extensions)
  end)

  describe("an error", function()
    it("has the status that the service lists", function()
      local dataset = app:new_dataset()
      refused(start(NOBODY), 404, "^Dataset not found$")
      refused(start(dataset, { filename = "a.tif" }), 400)
      refused(start(dataset, { filename = "a.vrt" }), 400)
      refused(start(dataset, { filename = "a.exe" }), 400, "%.exe")
      refused(start(dataset, { file_size = 1001 }), 422, "exceeds the maximum")
      refused(send("GET", "jobs/" .. NOBODY), 404, "^Job not found$")
      refused(finish(dataset, NOBODY), 404, "^Reupload job not found$")
      local started = start(dataset).json
      refused(finish(dataset, started.job_id), 400, "not found in storage")
      refused(send("POST", ("datasets/%s/reupload/%s/preview"):format(dataset, started.job_id)), 400)
      refused(send("POST", ("datasets/%s/reupload/%s/commit"):format(dataset, started.job_id), {}), 400)
      app.world.provider:fault("sign_put", {})
      refused(start(dataset), 502, "^Storage service unavailable$")
      local parted = start(dataset, { file_size = 200 }).json
      refused(finish(dataset, parted.job_id), 400, "at least one")
      parted = start(dataset, { file_size = 200 }).json
      local parts = app:put(parted, ("a,b\n"):rep(50))
      parts[1].etag = "bad"
      refused(finish(dataset, parted.job_id, parts), 502, "try again")
      refused(send("POST", ("datasets/%s/reupload/service/preview"):format(dataset)), 400, "remote")
      app.config.services.geolens.quota_bytes = 20
      refused(start(dataset), 413, "quota")
      app.config.services.geolens.quota_bytes = nil
      app.config.services.geolens.quota_datasets = 1
      refused(start(), 422, "quota")
    end)

    it("of the window is 409, of a busy dataset 409 with a code", function()
      local dataset = app:new_dataset()
      local create = app.world.provider.create_multipart
      app.world.provider.create_multipart = function(...)
        app.world.clock.advance(3550)
        return create(...)
      end
      refused(start(dataset, { file_size = 200 }), 409, "window")
      app.world.provider.create_multipart = create
      local started = start(dataset).json
      app:put(started, CSV, "text/csv")
      finish(dataset, started.job_id)
      assert(app.world.store.db:exec("UPDATE datasets SET busy_job = 'x' WHERE id = ?", dataset))
      local detail = refused(send("POST", ("datasets/%s/reupload/%s/commit"):format(dataset, started.job_id), {}), 409)
      assert.equal("dataset_busy", detail.code)
      assert.equal("string", type(detail.message))
    end)

    it("of validation names every field, as one string or as a list", function()
      local body = { filename = "", file_size = "5", content_type = ("x"):rep(256) }
      local detail = refused(send("POST", "ingest/upload/presigned", body), 422)
      assert.equal("body.content_type: at most 255 characters are allowed, got 256; "
        .. "body.file_size: an integer is expected, got string; body.filename: must not be empty", detail)
      app = apps.new { validation = "list" }
      detail = refused(send("POST", "ingest/upload/presigned", body), 422)
      assert.is_true(json.is_array(detail))
      assert.same({ loc = { "body", "file_size" }, msg = "an integer is expected, got string", type = "type_error" },
        detail[2])
      detail = refused(send("POST", ("ingest/upload/presigned/%s/complete"):format(NOBODY),
        { parts = { { etag = 1, part_number = 0 } } }), 422)
      assert.same({ "body", "parts", 0, "etag" }, detail[1].loc)
      assert.same({ "body", "parts", 0, "part_number" }, detail[2].loc)
      detail = refused(send("POST", "ingest/upload/presigned", "{"), 422)
      assert.equal("body", detail[1].loc[1])
    end)

    it("of a path's id is 422 and names it", function()
      refused(send("GET", "jobs/7"), 422, "^path%.job_id: must be a valid UUID$")
      refused(start("nope"), 422, "^path%.dataset_id: ")
      refused(send("GET", "datasets/..%2f.."), 422, "^path%.dataset_id: ")
    end)

    it("has a problem for unknown paths and methods too", function()
      refused(send("GET", "datasets/x/y/z/w"), 404)
      local answer = send("DELETE", "jobs/" .. NOBODY)
      refused(answer, 405)
      assert.equal("GET, HEAD, OPTIONS", answer.headers.allow)
    end)

    it("never shows what is inside", function()
      app.world.broker.job = function() error("secret inside") end
      local detail = refused(send("GET", "jobs/" .. NOBODY), 500)
      assert.equal("Internal server error", detail)
    end)
  end)

  describe("tokens", function()
    it("stand in Authorization, in X-Api-Key, or in the legacy query", function()
      local dataset = app:new_dataset()
      local path = "datasets/" .. dataset
      assert.equal(200, send("GET", path).status)
      assert.equal(200, send("GET", path, nil, { token = false, headers = { ["x-api-key"] = "ann-acme" } }).status)
      assert.equal(200, send("GET", path .. "?api_key=ann-acme", nil, { token = false }).status)
      for _, more in ipairs { {}, { headers = { ["x-api-key"] = "" } }, { headers = { ["x-api-key"] = "a b" } },
        { headers = { authorization = "Basic xyz", ["x-api-key"] = "ann-acme" } },
        { headers = { authorization = "Bearer ?" } } } do
        more.token = false
        local answer = send("GET", path, nil, more)
        refused(answer, 401)
        assert.truthy(answer.headers["www-authenticate"])
      end
    end)

    it("are asked for before the body is read, and rights before that", function()
      refused(send("POST", "ingest/upload/presigned", "{", { token = false }), 401)
      refused(send("POST", "ingest/upload/presigned", "{", { token = "ann-acme-read" }), 403)
      refused(send("GET", "jobs/" .. NOBODY, nil, { token = "ann-acme-read" }), 403)
      refused(send("GET", "datasets/" .. NOBODY, nil, { token = "ann-acme-upload" }), 403)
      refused(send("GET", "jobs/" .. NOBODY, nil, { token = "ann-acme-upload" }), 404)
      assert.equal(200, send("GET", "ingest/upload/config", nil, { token = "ann-acme-upload" }).status)
    end)
  end)

  it("keeps every operation from every wrong identity", function()
    local private, shared = app:new_dataset(), app:new_dataset(nil, { visibility = "internal" })
    local jobs = {}
    for _, dataset in ipairs { private, shared } do
      local started = start(dataset).json
      app:put(started, CSV, "text/csv")
      jobs[dataset] = started.job_id
    end
    local new = start().json
    app:put(new, CSV, "text/csv")
    local form = { headers = { ["content-type"] = "multipart/form-data; boundary=xyz" } }
    local form_body = "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\nid\n1\n"
      .. "\r\n--xyz--\r\n"
    local function attempts(dataset)
      local job = jobs[dataset]
      local base = ("datasets/%s/reupload"):format(dataset)
      return {
        { "POST", base .. "/presigned", { filename = "a.csv", file_size = 5 } },
        { "POST", ("%s/presigned/%s/complete"):format(base, job), { parts = json.array {} } },
        { "POST", ("%s/%s/preview"):format(base, job) },
        { "POST", ("%s/%s/commit"):format(base, job), {} },
        { "POST", base, form_body, form },
      }
    end
    local function own(job)
      return {
        { "GET", "jobs/" .. job }, { "POST", "ingest/preview/" .. job },
        { "POST", ("ingest/upload/presigned/%s/complete"):format(job), { parts = json.array {} } },
        { "POST", "ingest/commit/" .. job, { title = "x" } },
      }
    end
    local function try(list, token, status)
      for _, a in ipairs(list) do
        local more = { token = token, headers = a[4] and a[4].headers }
        refused(send(a[1], a[2], a[3], more), status)
      end
    end
    local every = {}
    for _, list in ipairs { attempts(private), attempts(shared), own(jobs[private]), own(new.job_id) } do
      for _, a in ipairs(list) do every[#every + 1] = a end
    end
    for _, dataset in ipairs { private, shared } do
      every[#every + 1] = { "GET", "datasets/" .. dataset }
      every[#every + 1] = { "GET", ("datasets/%s/download"):format(dataset) }
    end
    try(every, false, 401)
    try(every, "!", 401)
    try(every, "ann-acme-delete", 403)
    for _, token in ipairs { "ann-other", "eve-other-read+upload+delete+admin" } do try(every, token, 404) end
    try(attempts(private), "bob-acme", 404)
    try(attempts(shared), "bob-acme", 403)
    try(own(jobs[private]), "bob-acme", 404)
    try(own(new.job_id), "bob-acme", 404)
    refused(send("GET", "datasets/" .. private, nil, { token = "bob-acme" }), 404)
    assert.equal(200, send("GET", "datasets/" .. shared, nil, { token = "bob-acme" }).status)
    -- and nothing of it had any effect
    for _, dataset in ipairs { private, shared } do
      shape(finish(dataset, jobs[dataset]), 200, "UploadResponse")
      assert.equal(1, send("GET", "datasets/" .. dataset).json.version)
    end
    shape(finish(nil, new.job_id), 200, "UploadResponse")
  end)

  it("answers fuzzed bodies, ids and queries with a problem, never with a 500", function()
    local dataset = app:new_dataset()
    local started = start(dataset).json
    local seed = 20261120
    local function random(n)
      seed = (seed * 16807) % 2147483647
      return seed % n
    end
    local scraps = { json.null, true, false, 0, -1, 1.5, 1e300, 9007199254740993, "", "a.csv", ("x"):rep(3000), "\0",
      "\255\254", "../..", json.array {}, {}, json.array { 1, "x" }, { a = { b = {} } }, "2024-01-01",
      json.array { { etag = "x", part_number = 1 } } }
    local names = { "filename", "file_size", "content_type", "parts", "etag", "part_number", "layer_name",
      "srid_override", "token", "title", "summary", "visibility", "x_column", "temporal_start" }
    local base = ("datasets/%s/reupload"):format(dataset)
    local paths = { base .. "/presigned", ("%s/presigned/%s/complete"):format(base, started.job_id),
      ("%s/%s/preview"):format(base, started.job_id), ("%s/%s/commit"):format(base, started.job_id), base,
      "ingest/upload/presigned", "ingest/upload", "ingest/preview/" .. started.job_id,
      "ingest/commit/" .. started.job_id, ("ingest/upload/presigned/%s/complete"):format(started.job_id) }
    local texts = { "", "{", "[]", "null", "1", '"x"', "{}", ("["):rep(500), '{"a":' , "\255", "a=b",
      '{"filename":"\\u0000"}', '{"filename":"\\ud800","file_size":1}', "--xyz", "--xyz--", "--xyz\r\n\r\n" }
    local kinds = { "application/json", "text/plain", "multipart/form-data; boundary=xyz", "multipart/form-data", "" }
    for _ = 1, 1500 do
      local path = paths[1 + random(#paths)]
      local value
      if random(3) == 0 then
        value = texts[1 + random(#texts)]
      else
        local object = {}
        for _ = 1, random(6) do
          local scrap = scraps[1 + random(#scraps)]
          object[names[1 + random(#names)]] = scrap
        end
        local ok, text = pcall(json.encode, object)
        value = ok and text or "{}"
      end
      local kind = kinds[1 + random(#kinds)]
      if random(10) < 7 then kind = "application/json" end
      local response = send("POST", path .. (random(5) == 0 and "?layer_name=%00%ff&api_key=" or ""), value,
        { headers = { ["content-type"] = kind ~= "" and kind or nil } })
      assert.is_true(response.status < 500, ("%s %s: %d %s"):format(path, value, response.status, response.body))
      if response.status >= 400 then refused(response, response.status) end
    end
  end)

  it("has its settings checked", function()
    local config = require "longshore.config"
    for field, value in pairs { window = 59, threshold = -1, part_size = 1000, max_size = 6e9, validation = "both",
      quota_bytes = 0, commit_seconds = 0, colour = "red" } do
      local checked, err = config.check { services = { geolens = { [field] = value } } }
      assert.is_nil(checked, field)
      assert.matches("services%.geolens%." .. field, err.message)
    end
    assert.is_nil((config.check { services = { geolens = { extensions = { ".exe" } } } }))
    app = apps.new { enabled = false }
    assert.equal(404, send("GET", "ingest/upload/config").status)
  end)

  it("answers a browser's preflight for any of its headers", function()
    local answer = send("OPTIONS", "ingest/upload/presigned", nil, { token = false, headers = {
      origin = "https://app.example", ["access-control-request-method"] = "POST",
      ["access-control-request-headers"] = "authorization,content-type,x-api-key" } })
    assert.equal(200, answer.status)
    assert.equal("authorization,content-type,x-api-key", answer.headers["access-control-allow-headers"])
  end)
end)

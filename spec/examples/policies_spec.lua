-- The example policies, as they stand in their files and in the README, before the
-- real broker; and through a service where somebody without a token comes.
local config = require "longshore.config"
local fake = require "spec.support.fake_provider"
local json = require "longshore.json"
local service = require "longshore.service"
local support = require "spec.support"
local worlds = require "spec.support.broker"

local PDF, PNG = "%PDF-1.7 body", "\137PNG\r\n\26\nbody"

local function path(name) return ("%s/spec/examples/policies/%s.lua"):format(support.root, name) end

describe("the example policy", function()
  local w

  local function start(name, options)
    options = options or {}
    options.policy = { file = path(name), part_size = 8 * 1024 * 1024, fetch = options.fetch }
    w = worlds.new(options)
    return w
  end
  after_each(support.cleanup)

  local function refused(code, ok, err, field)
    assert.is_nil(ok)
    assert.equal(code, err.code, tostring(err))
    if field then assert.equal(field, err.field) end
    for _, line in ipairs(w.logged) do assert.are_not.equal("policy failed", line.message, line.fields.reason) end
    return err
  end

  -- Uploads and completes.
  local function store(body, fields)
    local upload, parts = w:upload(body, fields)
    local file, err = w.broker:complete(w.actor or worlds.actor(), upload.id, { parts = parts })
    return file, err, upload
  end

  it("drop_box: anybody may leave a file, and nothing more", function()
    start "drop_box"
    local app = assert(service.new(assert(config.check { data = support.tmpdir() }), { broker = w.broker,
      tokens = { verify = function() return nil, require("longshore.errors").new("unauthenticated", "no") end } }))
    local function send(method, target, body, headers)
      headers = headers or {}
      headers["content-type"] = body and "application/json"
      local response = app:handle { method = method, target = "/v0.5/files/" .. target, headers = headers,
        remote_addr = "203.0.113.9", body = body and json.encode(body) }
      return response.status, response.body and json.decode(response.body)
    end
    local function leave(filename, fields, headers)
      local body = { filename = filename, file_type = "application/pdf", num_bytes = #PDF }
      for k, v in pairs(fields or {}) do body[k] = v end
      return send("POST", "uploads/initiate", body, headers)
    end
    local status, answer = leave("hello.pdf")
    assert.equal(200, status, json.encode(answer))
    local row = assert(w.store:upload(answer.upload_id))
    assert.equal("dropbox", row.organization)
    assert.equal("anonymous", row.user)
    assert.equal(w.clock.now() + 3600, row.deadline)
    assert.equal(403, (leave("hello.pdf", { resume_if_started = true })))
    assert.equal(401, (leave("hello.pdf", nil, { authorization = "Bearer ls_wrong" })))
    assert.equal(415, (leave("evil.html")))
    assert.equal(415, (leave("evil.html.pdf")))
    assert.equal(403, (send("GET", "metadata")))
    for _ = 1, 9 do status = leave("more.pdf") end
    assert.equal(429, status)
  end)

  it("drop_box: a program in a file's clothes fails", function()
    start "drop_box"
    local file, err, upload = store("MZ\144\0program", { content_type = "application/x-thing" })
    refused("unsupported", file, err)
    assert.equal("failed", assert(w.store:upload(upload.id)).state)
    file, err = store("<html>", { content_type = "image/png", filename = "b.png" })
    refused("integrity", file, err)
    assert.truthy(store(PNG, { content_type = "image/png", filename = "b.png" }))
    w:sweep()
    assert.same({ 1, 0 }, { w.provider:left() })
  end)

  it("tenants: each has its bucket and its key, others have none", function()
    local clock = require("longshore.clock").fixed(1700000000)
    local providers = { acme = fake.new { clock = clock }, umbrella = fake.new { clock = clock } }
    start("tenants", { clock = clock, providers = providers })
    w.actor = worlds.actor { tenant = "umbrella", organization = "red" }
    local upload = assert(w:initiate("x", { filename = "Report.CSV" }))
    assert.equal("umbrella", upload.provider)
    assert.equal(("red/2023/11/%s.csv"):format(upload.file_id), upload.key)
    local _, started = next(providers.umbrella.uploads)
    assert.equal("alias/umbrella-uploads", started.headers["x-amz-server-side-encryption-aws-kms-key-id"])
    assert.is_nil((next(providers.acme.uploads)))
    w.actor = worlds.actor { tenant = "nobody" }
    refused("forbidden", w:initiate("x"))
    w.actor = worlds.actor { tenant = "acme" }
    for i = 1, 20 do assert(w:initiate("x", { filename = i .. ".bin" })) end
    assert.equal("quota", refused("quota", w:initiate("x", { filename = "21.bin" })).reason)
  end)

  it("media: editors, authors and guests have sizes of their own", function()
    start("media", { profile = { max_part = 5 * 2 ^ 30, max_parts = 10000, max_object = 5 * 2 ^ 40 } })
    local GiB = 1073741824
    local function as(user, size, content_type)
      w.actor = worlds.actor { user = user }
      return w.broker:initiate(w.actor, { service = "newton", filename = user .. size, size = size,
        content_type = content_type or "video/mp4" })
    end
    local upload = assert(as("mara", 40 * GiB))
    assert.equal(w.clock.now() + 6 * 3600 + 40 * 600, upload.deadline)
    refused("too_large", as("mara", 51 * GiB))
    assert(as("priya", GiB))
    refused("too_large", as("priya", 3 * GiB))
    refused("unsupported", as("guest", 1000))
    assert(as("guest", 1000, "image/png"))
    refused("unsupported", as("mara", 10, "application/zip"))
    local classes = {}
    for _, started in pairs(w.provider.uploads) do
      classes[started.headers["x-amz-storage-class"]] = started.headers["x-amz-tagging"]
    end
    assert.equal("site=media&user=mara", classes.INTELLIGENT_TIERING)
    assert.truthy(classes.STANDARD)
  end)

  it("media: bytes that the janitor notices are judged as whose upload they are", function()
    local steps = require "spec.policy.service_steps"
    local rule = require("longshore.policy.file").open { path = path "media" }
    for user, state in pairs { mara = "available", guest = "failed" } do
      w = steps.world { rule, { before_complete = function(context) assert(context.actor == nil) end } }
      local before = worlds.actor { user = user }
      local entry = assert(w.broker:upload_urls(before, { { catalog = steps.catalog, key = "a.mp4",
        content_type = "image/png" } }))[1] -- and no size
      w.provider.profile.max_put = 1e9
      w.provider:client_put(entry.upload.url, PNG .. ("x"):rep(21 * 1024 * 1024))
      w:sweep()
      assert.equal(state, w.store:managed_file(entry.file.id).status, user)
    end
  end)

  it("dataset: replaced by who saw the version and has an approved change", function()
    local answer, asked = { state = "approved", dataset = "rivers.csv" }, {}
    start("dataset", { fetch = { "https://changes.example/api/" }, transport = function(request)
      asked[#asked + 1] = request.url
      if not answer then return nil, require("longshore.errors").new("network", "away") end
      return { status = 200, headers = { ["content-type"] = "application/json" }, body = json.encode(answer) }
    end })
    local function replace(body, metadata)
      return w:initiate(body, { filename = "rivers.csv", content_type = "text/csv", metadata = metadata })
    end
    refused("invalid", select(1, replace("a", {})), select(2, replace("a", {})), "metadata.change")
    local first = assert(store("v1", { filename = "rivers.csv", content_type = "text/csv",
      metadata = { change = "CH-1" } }))
    assert.same({}, asked)
    refused("conflict", replace("v2", { change = "CH-2" }))
    refused("conflict", replace("v2", { change = "CH-2", if_match = "other" }))
    answer = { state = "draft", dataset = "rivers.csv" }
    refused("forbidden", replace("v2", { change = "CH-2", if_match = first.etag }))
    answer = nil
    assert.is_true(refused("unavailable", replace("v2", { change = "CH-2", if_match = first.etag })).retryable)
    answer = { state = "approved", dataset = "rivers.csv" }
    local second = assert(store("v2", { filename = "rivers.csv", content_type = "text/csv",
      metadata = { change = "CH-2", if_match = first.etag } }))
    assert.equal("https://changes.example/api/CH-2", asked[#asked])
    refused("not_found", w.broker:file(worlds.actor(), first.id))
    assert.equal(second.id, assert(w.broker:file_by_name(worlds.actor(), { service = "newton",
      filename = "rivers.csv" })).id)
  end)

  it("dataset: of two that replace the same version, one does", function()
    start("dataset", { fetch = { "https://changes.example/api/" }, transport = function()
      return { status = 200, headers = { ["content-type"] = "application/json" },
        body = '{"state":"approved","dataset":"a.csv"}' }
    end })
    local fields = { filename = "a.csv", content_type = "text/csv", metadata = { change = "CH-1" } }
    fields.metadata.if_match = assert(store("v1", fields)).etag
    local one, one_parts = w:upload("v2", fields)
    local two, two_parts = w:upload("v3", fields)
    assert(w.broker:complete(worlds.actor(), one.id, { parts = one_parts }))
    refused("conflict", w.broker:complete(worlds.actor(), two.id, { parts = two_parts }))
    w:sweep()
    assert.same({ 1, 0 }, { w.provider:left() })
  end)

  it("worm: written once, and kept for its years", function()
    start "worm"
    local fields = { filename = "invoice 7.pdf", content_type = "application/pdf",
      metadata = { kind = "invoice", reference = "7" } }
    local file = assert(store(PDF, fields))
    local _, object = next(w.provider.objects)
    assert.equal("COMPLIANCE", object.headers["x-amz-object-lock-mode"])
    assert.equal("2030-11-12T22:13:00Z", object.headers["x-amz-object-lock-retain-until-date"])
    assert.equal("name_taken", refused("conflict", w:initiate(PDF, fields)).reason)
    assert.truthy(refused("forbidden", w.broker:delete_file(worlds.actor(), file.id)).message:find("3660 more days"))
    w.clock.advance(10 * 366 * 86400)
    assert(w.broker:delete_file(worlds.actor(), file.id))
    local steps = require "spec.policy.service_steps"
    w = steps.world { require("longshore.policy.file").open { path = path "worm" } }
    local record, grant = assert(w.broker:create_record(steps.actor, { name = "7.pdf", fields = {} },
      steps.merged(steps.cognite, { content_type = "application/pdf", metadata = fields.metadata })))
    assert(grant.url)
    refused("forbidden", w.broker:change_records(steps.actor, { { reference = { id = record.id },
      change = function()
        return { fields = { mimeType = "application/pdf", metadata = { kind = "report", reference = "7" } } }
      end } }))
    refused("invalid", select(1, w:initiate(PDF, { filename = "b", content_type = "application/pdf",
      metadata = { kind = "joke", reference = "8" } })), select(2, w:initiate(PDF, { filename = "b",
      content_type = "application/pdf", metadata = { kind = "joke", reference = "8" } })), "metadata.kind")
  end)

  it("ci: main's artefacts stay, others give way", function()
    start "ci"
    local function build(branch, body)
      return store(body, { filename = "app.tar", content_type = "application/x-tar",
        metadata = { project = "app", branch = branch, commit = "c0ffee" } })
    end
    local first = assert(build("feature", "1"))
    local second = assert(build("feature", "2"))
    refused("not_found", w.broker:file(worlds.actor(), first.id))
    assert(w.broker:delete_file(worlds.actor(), second.id))
    local kept = assert(build("main", "3"))
    local upload = w:initiate("4", { filename = "app.tar", content_type = "application/x-tar",
      metadata = { project = "app", branch = "main", commit = "c0ffee" } })
    assert.is_nil(upload)
    refused("forbidden", w.broker:delete_file(worlds.actor(), kept.id))
    -- Nor does a branch's of the same name take its place.
    refused("conflict", w:initiate("5", { filename = "app.tar", content_type = "application/x-tar",
      metadata = { project = "app", branch = "feature", commit = "c0ffee" } }))
    assert(w.broker:delete_file(worlds.actor { rights = { admin = true } }, kept.id))
  end)

  it("ci: a branch that began before main had finished does not replace main's", function()
    start "ci"
    local function begin(branch, body)
      return w:upload(body, { filename = "app.tar", content_type = "application/x-tar",
        metadata = { project = "app", branch = branch, commit = "c0ffee" } })
    end
    local late, late_parts = begin("feature", "1")
    local main, main_parts = begin("main", "2")
    local kept = assert(w.broker:complete(worlds.actor(), main.id, { parts = main_parts }))
    refused("conflict", w.broker:complete(worlds.actor(), late.id, { parts = late_parts }))
    assert(w.broker:file(worlds.actor(), kept.id))
  end)

  it("is shown in the README as it is", function()
    local readme = support.read_file(support.root .. "/README.md")
    for _, name in ipairs { "drop_box", "tenants", "media", "dataset", "worm", "ci" } do
      assert.truthy(readme:find(support.read_file(path(name)), 1, true), name .. " is not in the README")
    end
  end)
end)

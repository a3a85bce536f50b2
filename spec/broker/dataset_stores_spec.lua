-- Datasets and their jobs on real stores, over HTTP: the disk store and a Ceph gateway.
local support = require "spec.support"
local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local policy = require "longshore.policy"
local rgw = require "spec.support.rgw"
local s3 = require "longshore.provider.s3"
local stores = require "longshore.store"
local transports = require "longshore.http.transport"

local PART = 1024
local ANN = { user = "ann", organization = "acme", tenant = "default",
  rights = { read = true, upload = true, delete = true } }
local SMALL = "id,name\n1,north\n2,south\n"
local LARGE = "id,name\n" .. ("3,a pier of which there are many\n"):rep(100)

local limits = { provider = "default", max_size = 1e6, threshold = PART, part_size = PART, window = 3600,
  commit_seconds = 86400, extensions = { ".csv" } }

local function contract(start, profile)
  local place, provider, store, broker, send, time

  setup(function()
    place = start()
    send = transports.new { proxy = "" }
    provider = assert(s3.new {
      profile = { base = profile, min_part = PART }, endpoint = place.endpoint, region = place.region,
      bucket = place.bucket, prefix = "dataset-spec/", access_key = place.access_key, secret_key = place.secret_key,
      transport = send,
    })
    store = assert(stores.open { type = "sqlite", path = support.tmpdir() .. "/longshore.db" })
    time = { offset = 0, now = function() return core.now() + time.offset end, sleep = core.sleep }
    broker = require("longshore.broker").new { store = store, providers = { default = provider }, clock = time,
      policy = assert(policy.new()) }
  end)
  teardown(function()
    store:close()
    support.cleanup()
  end)

  local function put(url, body, kind)
    return assert(send { method = "PUT", url = url, body = body, headers = { ["Content-Type"] = kind } })
  end

  local function uploaded(body, dataset)
    local job, urls = broker:start_job(ANN, { dataset_id = dataset, filename = "piers.csv", size = #body,
      content_type = "text/csv", signs_type = true }, limits)
    assert(job, urls)
    local parts = {}
    for i, url in ipairs(urls) do
      local single = not job.provider_upload_id
      local answer = put(url, single and body or body:sub((i - 1) * PART + 1, i * PART), single and "text/csv" or nil)
      assert.equal(200, answer.status, answer.body)
      parts[i] = { number = i, etag = answer.headers.etag }
    end
    local done = assert(broker:complete_job(ANN, { job_id = job.id, dataset_id = dataset,
      parts = job.provider_upload_id and parts or {} }, limits))
    return done, urls
  end

  local function commit(job)
    local after = assert(broker:commit_job(ANN, { job_id = job.id, dataset_id = job.dataset_id,
      options = { title = "Piers", visibility = "private" } }, limits))
    assert.equal("complete", after.status, after.error)
    return after.dataset_id
  end

  local function content(id)
    return assert(send { url = assert(broker:download_dataset(ANN, id)).url }).body
  end

  it("replaces content, in one PUT and in parts, and leaves nothing behind", function()
    local dataset = commit((uploaded(SMALL)))
    assert.equal(SMALL, content(dataset))
    assert.equal(dataset, commit((uploaded(LARGE, dataset))))
    assert.equal(LARGE, content(dataset))
    local found = assert(broker:dataset(ANN, dataset))
    assert.equal(100, found.feature_count)
    assert.equal(2, found.version)
    uploaded(SMALL, dataset) -- never committed
    assert(broker:start_job(ANN, { filename = "a.csv", size = #LARGE, content_type = "text/csv" }, limits))
    time.offset = time.offset + 2 * 86400
    for _ = 1, 3 do
      local report = broker:janitor()
      assert.equal(0, report.errors, table.concat(report.messages, "\n"))
    end
    time.offset = 0
    assert.equal(1, #assert(provider:list { prefix = "" }))
    assert.equal(0, #assert(provider:list_uploads { prefix = "" }))
    assert.equal(LARGE, content(dataset))
  end)

  it("holds a PUT to the declared length and type, and a part to its length", function()
    local request = { filename = "a.csv", size = #SMALL, content_type = "text/csv", signs_type = true }
    local job, urls = broker:start_job(ANN, request, limits)
    assert.equal(403, put(urls[1], SMALL, "text/plain").status)
    assert.equal(403, put(urls[1], SMALL .. "x", "text/csv").status)
    assert.equal(200, put(urls[1], SMALL, "text/csv").status)
    assert(broker:complete_job(ANN, { job_id = job.id, parts = {} }, limits))
    request.signs_type = false
    job, urls = broker:start_job(ANN, request, limits)
    assert.equal(403, put(urls[1], SMALL .. "x").status)
    assert.equal(200, put(urls[1], SMALL).status)
    assert.equal(200, put(urls[1], SMALL, "text/plain").status)
    local done = assert(broker:complete_job(ANN, { job_id = job.id, parts = {} }, limits))
    assert.equal("text/csv", assert(provider:head { key = done.key }).content_type)
    local _, more = broker:start_job(ANN, { filename = "a.csv", size = #LARGE, content_type = "text/csv" }, limits)
    assert.equal(403, put(more[1], LARGE:sub(1, PART - 1)).status)
    assert.equal(200, put(more[1], LARGE:sub(1, PART)).status)
  end)

  it("checks a copy that a PUT URL cannot change", function()
    local job, urls = uploaded(SMALL)
    assert.equal(200, put(urls[1], ("x"):rep(#SMALL), "text/csv").status)
    assert.equal(SMALL, content(commit(job)))
  end)

  it("aborts parts that the store refuses", function()
    local job, urls = broker:start_job(ANN, { filename = "a.csv", size = #LARGE, content_type = "text/csv" }, limits)
    assert.equal(200, put(urls[1], LARGE:sub(1, PART)).status)
    local done, err = broker:complete_job(ANN, { job_id = job.id,
      parts = { { number = 1, etag = ("0"):rep(32) } } }, limits)
    assert.is_nil(done)
    assert.equal("store", err.code)
    for _, upload in ipairs(provider:list_uploads { prefix = "" }) do
      assert.are_not.equal(job.provider_upload_id, upload.upload_id)
    end
  end)
end

describe("datasets on the disk store", function()
  contract(function() return diskstore.start { min_part = PART } end, "diskstore")
end)

describe("datasets on Ceph", function()
  contract(function() return rgw.start { min_part = PART } end, "ceph")
end)

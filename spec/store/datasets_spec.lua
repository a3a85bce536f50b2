-- What every implementation of the store holds of datasets and jobs. See
-- longshore.store.datasets.
local postgres = require "spec.support.postgres"
local stores = require "longshore.store"
local support = require "spec.support"

local OWNER = { tenant = "default", organization = "acme" }
local T = 1700000000.125

local counter = 0
local function id()
  counter = counter + 1
  return ("00000000-0000-4000-8000-%012d"):format(counter)
end

local function merged(row, fields)
  for k, v in pairs(fields or {}) do row[k] = v end
  return row
end

local function cleanup(fields)
  return merged({ id = "cln_" .. id(), provider = "default", key = "k", kind = "delete", due = T, attempts = 0,
    created_at = T }, fields)
end

local function dataset_row(fields)
  return merged({ id = id(), tenant = "default", organization = "acme", user = "ann", title = "Piers",
    visibility = "private", record_type = "table", filename = "a.csv", size = 100, provider = "default", key = "old",
    version = 1, created_at = T, updated_at = T }, fields)
end

local function job_row(fields)
  return merged({ id = id(), tenant = "default", organization = "acme", user = "ann", workflow = "reupload",
    origin = "presigned", filename = "b.csv", content_type = "text/csv", size = 7, provider = "default",
    staging_key = "staging/x", content_key = "geolens/x", status = "pending", deadline = T + 100, lease = 0,
    window_ends = T + 100, created_at = T, updated_at = T }, fields)
end

local function contract(open)
  local store, second

  setup(function() store, second = open() end)
  teardown(function()
    store:close()
    second:close()
  end)

  local function dataset(fields)
    local row = dataset_row(fields)
    assert(store:create_dataset(row))
    return row
  end

  local function job(fields)
    local row = job_row(fields)
    assert(store:create_job(row, cleanup { id = "cln_" .. row.id, kind = "staging", due = T + 1e6 }))
    return row
  end

  -- A job with content.
  local function bound(fields)
    local row = job(fields)
    local unbound = cleanup { due = T + 1e6 }
    assert(store:add_cleanup(unbound))
    assert.is_true(store:bind_job(row.id, { key = "new", etag = "e", crc32c = 4294967295, deadline = T + 200, now = T,
      cleanup = unbound.id }))
    return assert(store:job(row.id)), unbound.id
  end

  local function running(fields)
    local row = bound(fields)
    assert.is_true(store:begin_commit(row, { now = T, deadline = T + 300, options = "{}" }))
    return assert(store:job(row.id))
  end

  local function exists(cleanup_id)
    for _, row in ipairs(store:due_cleanups(T + 1e9, 100000)) do
      if row.id == cleanup_id then return row end
    end
  end

  it("gives back what it was given, to its owner only", function()
    local row = dataset_row { size = 9007199254740991, title = "Ünï 文 ' ? $1", summary = "", feature_count = 5368709120,
      srid = 25832, columns = '[{"name":"a","type":"Real"}]', crc32c = 4294967295, layer_name = "l", busy_job = "b",
      geometry_type = "Point", temporal_start = "2024", temporal_end = "2025", etag = "e", content_type = "text/csv" }
    assert(store:create_dataset(row))
    assert.same(row, second:dataset(row.id))
    assert.same(row, second:dataset(row.id, OWNER))
    local j = job { provider_upload_id = "m", part_size = 5368709120, part_count = 3, key = "k", etag = "e", crc32c = 1,
      dataset_id = row.id, layer_name = "l", srid = 1, options = "{}", current_step = "queued", rows_processed = 4,
      error = "e", warning = "w", started_at = T, completed_at = T }
    assert.same(j, second:job(j.id, OWNER))
    local others = { { tenant = "default", organization = "other" }, { tenant = "x", organization = "acme" } }
    for _, other in ipairs(others) do
      assert.equal("not_found", select(2, store:dataset(row.id, other)).code)
      assert.equal("not_found", select(2, store:job(j.id, other)).code)
    end
    assert.equal("not_found", select(2, store:job("nope")).code)
  end)

  it("counts what an owner has", function()
    local who = { tenant = "default", organization = "acme", user = "uma" }
    assert.same({ datasets = 0, bytes = 0 }, store:dataset_usage(who))
    dataset { user = "uma", size = 4503599627370496 }
    dataset { user = "uma", size = 4503599627370495 }
    dataset { user = "uma", organization = "other" }
    assert.same({ datasets = 2, bytes = 9007199254740991 }, store:dataset_usage(who))
  end)

  it("writes a job and its cleanup together, or neither", function()
    local row = job()
    assert.is_truthy(exists("cln_" .. row.id))
    local again = job_row()
    local _, err = store:create_job(again, cleanup { id = "cln_" .. row.id })
    assert.equal("conflict", err.code)
    assert.equal("not_found", select(2, store:job(again.id)).code)
  end)

  it("tells the cleanup of the multipart upload", function()
    local row = job()
    local started = { provider_upload_id = "mpu", part_size = 4, part_count = 2, cleanup = "cln_" .. row.id, now = T }
    assert.is_true(store:start_job(row.id, started))
    assert.equal("mpu", exists("cln_" .. row.id).provider_upload_id)
    assert.equal("mpu", second:job(row.id).provider_upload_id)
    assert.is_true(store:fail_job(row, { error = "e", now = T }))
    assert.is_false(store:start_job(row.id, started))
  end)

  it("leases a job that waits for its bytes to one at a time", function()
    local row = job()
    assert.is_true(store:lease_job(row.id, { now = T, lease = T + 10 }))
    assert.is_false(second:lease_job(row.id, { now = T + 9, lease = T + 20 }))
    assert.is_false(second:release_job(row.id, T + 11))
    assert.is_true(second:lease_job(row.id, { now = T + 10, lease = T + 20 }))
    assert.is_false(store:release_job(row.id, T + 10))
    assert.is_true(second:release_job(row.id, T + 20))
    assert.is_true(store:lease_job(row.id, { now = T, lease = T + 10 }))
    assert.is_false(store:lease_job(bound().id, { now = T, lease = T + 10 }))
  end)

  it("binds content once, and drops the cleanup that would have removed it", function()
    local row, cleanup_id = bound()
    assert.is_nil(exists(cleanup_id))
    assert.equal("new", row.key)
    assert.equal(4294967295, row.crc32c)
    assert.equal(T + 200, row.deadline)
    local other = cleanup { due = T + 1e6 }
    assert(store:add_cleanup(other))
    assert.is_false(second:bind_job(row.id, { key = "other", deadline = T, now = T, cleanup = other.id }))
    assert.is_truthy(exists(other.id))
    assert.equal("new", store:job(row.id).key)
    local failed = job()
    assert.is_true(store:fail_job(failed, { error = "e", now = T }))
    assert.is_false(store:bind_job(failed.id, { key = "k", deadline = T, now = T, cleanup = other.id }))
  end)

  it("fails a job once, with its cleanup, and only in the state that was meant", function()
    local row = bound()
    assert.is_false(store:fail_job(row, { error = "e", now = T, bound = false }))
    local undo = cleanup()
    row.deadline = T + 1
    assert.is_false(store:fail_job(row, { error = "e", now = T, stale = true, cleanup = undo }))
    assert.is_nil(exists(undo.id))
    row.deadline = T + 200
    assert.is_true(store:fail_job(row, { error = "e", now = T, stale = true, cleanup = undo }))
    assert.is_truthy(exists(undo.id))
    assert.is_false(second:fail_job(row, { error = "other", now = T }))
    local after = store:job(row.id)
    assert.equal("failed", after.status)
    assert.equal("e", after.error)
    assert.equal(T, after.completed_at)
  end)

  it("begins one commit of a dataset at a time", function()
    local row = dataset()
    local first, other = bound { dataset_id = row.id }, bound { dataset_id = row.id }
    local begin = { now = T, deadline = T + 300, layer_name = "l", srid = 4326, options = "{}" }
    assert.is_false(store:begin_commit(job(), begin))
    assert.is_true(store:begin_commit(first, begin))
    assert.is_false(second:begin_commit(first, begin))
    local ok, err = second:begin_commit(other, begin)
    assert.is_nil(ok)
    assert.equal("dataset_busy", err.reason)
    assert.equal("pending", store:job(other.id).status)
    assert.equal(first.id, store:dataset(row.id).busy_job)
    assert.is_true(store:fail_job(first, { error = "e", now = T }))
    assert.is_nil(store:dataset(row.id).busy_job)
    assert.is_true(second:begin_commit(other, begin))
  end)

  it("lets one worker at a running job", function()
    local row = running()
    assert.is_true(store:claim_job(row, T + 400))
    assert.is_false(second:claim_job(row, T + 400))
    assert.is_true(store:step_job(row.id, { current_step = "validating", rows_processed = 3, now = T }))
    assert.equal("validating", second:job(row.id).current_step)
    assert.is_false(store:step_job(job().id, { current_step = "validating", now = T }))
  end)

  it("swaps a dataset's content in one step, and queues the old object", function()
    local row = dataset()
    local j = running { dataset_id = row.id }
    local old
    local finish = { now = T + 1, rows_processed = 2, warning = "w",
      dataset = { filename = "b.csv", size = 7, provider = "default", key = "new", etag = "e", srid = 4326 },
      cleanup = function(before)
        old = cleanup { key = before.key }
        return old
      end }
    assert.is_true(store:finish_commit(j, finish))
    local after = second:dataset(row.id)
    assert.same({ "new", 7, 2, "b.csv", 4326, T + 1 },
      { after.key, after.size, after.version, after.filename, after.srid, after.updated_at })
    assert.is_nil(after.busy_job)
    assert.equal("old", exists(old.id).key)
    local done = second:job(j.id)
    assert.same({ "complete", "w", 2, "complete" },
      { done.status, done.warning, done.rows_processed, done.current_step })
    assert.is_false(second:finish_commit(j, finish))
    assert.equal(2, store:dataset(row.id).version)
    assert.is_false(store:fail_job(j, { error = "e", now = T }))
  end)

  it("changes nothing when a quota or a missing dataset forbids the swap", function()
    local who = { user = "quinn" }
    local row = dataset(who)
    local j = running { dataset_id = row.id, user = "quinn" }
    local content = { filename = "b.csv", size = 107, provider = "default", key = "new" }
    local function no_cleanup() error("no cleanup") end
    local ok, err = store:finish_commit(j, { now = T, quota_bytes = 106, dataset = content, cleanup = no_cleanup })
    assert.is_nil(ok)
    assert.equal("quota", err.reason)
    assert.equal("old", store:dataset(row.id).key)
    assert.equal("running", store:job(j.id).status)
    assert.is_true(store:finish_commit(j, { now = T, quota_bytes = 107, dataset = content,
      cleanup = function() return cleanup() end }))
    local lost = running { dataset_id = nil }
    lost.dataset_id = id()
    ok, err = store:finish_commit(lost, { now = T, dataset = content, cleanup = no_cleanup })
    assert.is_nil(ok)
    assert.equal("dataset", err.reason)
    assert.equal("running", store:job(lost.id).status)
  end)

  it("makes a new dataset within its owner's quotas", function()
    local function create(limits)
      local j = running { workflow = "ingest", user = "nina" }
      local row = dataset_row { user = "nina", size = 60 }
      return j, row, store:finish_create(j, merged({ now = T, dataset = row }, limits))
    end
    local j, row, ok = create { quota_bytes = 60, quota_datasets = 1 }
    assert.is_true(ok)
    assert.same(row, second:dataset(row.id))
    assert.equal(row.id, second:job(j.id).dataset_id)
    local err, none
    j, row, ok, err = create { quota_datasets = 1 }
    assert.is_nil(ok)
    assert.equal("quota_datasets", err.reason)
    assert.equal("not_found", select(2, store:dataset(row.id)).code)
    assert.equal("running", store:job(j.id).status)
    j, none, ok, err = create { quota_bytes = 119 }
    assert.equal("running", store:job(j.id).status)
    assert.is_truthy(none)
    assert.is_nil(ok)
    assert.equal("quota", err.reason)
  end)

  it("lists stale jobs oldest first, purges final ones, counts all", function()
    local late, early = job { deadline = 2000 }, job { deadline = 1000 }
    local r = running()
    assert.is_true(store:claim_job(r, 1500))
    local list = {}
    for i, row in ipairs(store:stale_jobs(2000, 10)) do list[i] = row.id end
    assert.same({ early.id, r.id, late.id }, list)
    assert.equal(1, #store:stale_jobs(2000, 1))
    assert.is_true(store:fail_job(early, { error = "e", now = 3000 }))
    assert.is_true(store:fail_job(late, { error = "e", now = 4000 }))
    assert.equal(1, store:purge_jobs(3000, 10))
    assert.equal("not_found", select(2, store:job(early.id)).code)
    assert.is_truthy(store:job(late.id))
    assert.is_true(store:count_jobs().failed >= 1)
  end)
end

describe("datasets in the SQLite store", function()
  contract(function()
    local path = support.tmpdir() .. "/longshore.db"
    local options = { type = "sqlite", path = path, synchronous = "OFF" }
    return assert(stores.open(options)), assert(stores.open(options))
  end)
  teardown(support.cleanup)
end)

describe("datasets in the PostgreSQL store", function()
  contract(function()
    local server = assert(postgres.start(), "PostgreSQL is missing: make deps")
    local options = server.options()
    return assert(stores.open(options)), assert(stores.open(options))
  end)
  teardown(support.cleanup)
end)

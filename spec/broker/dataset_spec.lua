local support = require "spec.support"
local json = require "longshore.json"
local worlds = require "spec.support.broker"

local CSV = "id,name\n1,north pier\n2,south pier\n"
local KEY_OF_NAME = "^staging/%x+%-%x+%-4%x+%-[89ab]%x+%-%x+/piers%.csv$"

local limits = {
  provider = "default", max_size = 1000, threshold = 100, part_size = 40, window = 3600, commit_seconds = 86400,
  extensions = { ".zip", ".gpkg", ".geojson", ".json", ".csv", ".tif", ".tiff", ".xlsx", ".xls", ".parquet" },
}

local function with(changes)
  local new = {}
  for k, v in pairs(limits) do new[k] = v end
  for k, v in pairs(changes or {}) do new[k] = v end
  return new
end

local world, ann, bob, admin, stranger

local function owner_of(actor)
  return { user = actor.user, organization = actor.organization, tenant = actor.tenant }
end

-- A dataset with content, as a commit would have left it.
local function dataset(fields)
  local now = world.clock.now()
  local row = {
    id = require("longshore.broker.uuid").new(), title = "Piers", visibility = "private",
    record_type = "vector_dataset", filename = "old.csv", content_type = "text/csv", size = 9, provider = "default",
    key = "geolens/acme/old", etag = "x", columns = '[{"name":"id","type":"Integer"}]', feature_count = 1,
    version = 1, created_at = now, updated_at = now,
  }
  for k, v in pairs(owner_of(ann)) do row[k] = v end
  for k, v in pairs(fields or {}) do row[k] = v end
  world.provider.objects[row.key] = { body = "id\n1\n", etag = "x", metadata = {} }
  assert(world.store:create_dataset(row))
  return row
end

local function start(request, changes, actor)
  local r = { filename = "piers.csv", size = #CSV, content_type = "text/csv", signs_type = true }
  for k, v in pairs(request or {}) do r[k] = v end
  return world.broker:start_job(actor or ann, r, with(changes))
end

local function put(job, urls, body, content_type)
  local parts = {}
  local size = job.part_size or #body
  for i, url in ipairs(urls) do
    local status, etag = world.provider:client_put(url, body:sub((i - 1) * size + 1, i * size),
      not job.provider_upload_id and (content_type or "text/csv") or nil)
    assert(status == 200, status)
    parts[i] = { number = i, etag = etag }
  end
  return job.provider_upload_id and parts or {}
end

local function complete(job, parts, changes, actor)
  return world.broker:complete_job(actor or ann, { job_id = job.id, dataset_id = job.dataset_id, parts = parts },
    with(changes))
end

local function commit(job, request, changes, actor)
  local r = { job_id = job.id, dataset_id = job.dataset_id, options = { title = "Piers", visibility = "private" } }
  for k, v in pairs(request or {}) do r[k] = v end
  return world.broker:commit_job(actor or ann, r, with(changes))
end

-- Everything up to a job with content.
local function uploaded(request, body, changes)
  body = body or CSV
  local r = { size = #body }
  for k, v in pairs(request or {}) do r[k] = v end
  local job, urls = start(r, changes)
  assert(job, urls)
  return assert(complete(job, put(job, urls, body), changes))
end

local function refused(code, reason, ...)
  local value, err = ...
  assert.is_nil(value)
  assert.are.equal(code, err.code, tostring(err))
  if reason then assert.are.equal(reason, err.reason) end
  return err
end

local function keys_under(prefix)
  local n = 0
  for key in pairs(world.provider.objects) do
    if key:sub(1, #prefix) == prefix then n = n + 1 end
  end
  return n
end

local function content_of(id)
  local row = assert(world.store:dataset(id))
  return world.provider.objects[row.key].body, row
end

describe("datasets and their jobs", function()
  before_each(function()
    world = worlds.new { profile = { max_put = 1e6, max_part = 1e6, max_object = 1e6 } }
    ann = worlds.actor()
    bob = worlds.actor { user = "bob" }
    admin = worlds.actor { user = "root", rights = { admin = true } }
    stranger = worlds.actor { organization = "other" }
  end)
  after_each(support.cleanup)

  describe("start", function()
    it("signs one PUT up to the threshold, for the declared length and type", function()
      local job, urls = start { dataset_id = dataset().id }
      assert.are.equal(1, #urls)
      assert.is_nil(job.provider_upload_id)
      assert.is_nil(job.part_size)
      assert.matches(KEY_OF_NAME, job.staging_key)
      local grant = world.provider.urls[urls[1]]
      assert.are.equal(#CSV, grant.length)
      assert.are.equal("text/csv", grant.content_type)
      assert.are.equal(job.staging_key, grant.key)
      assert.are.equal(403, (world.provider:client_put(urls[1], CSV, "application/json")))
      assert.are.equal(403, (world.provider:client_put(urls[1], CSV .. "x", "text/csv")))
    end)

    it("signs no type that was not declared, and keeps the one that stands for it", function()
      local job, urls = start { content_type = "application/octet-stream", signs_type = false }
      assert.is_nil(world.provider.urls[urls[1]].content_type)
      assert.are.equal(200, (world.provider:client_put(urls[1], CSV)))
      local done = assert(complete(job, {}))
      assert.are.equal("application/octet-stream", done.content_type)
    end)

    it("signs parts above it, each for its length and none for a type", function()
      local job, urls = start { size = 101 }
      assert.are.equal(3, #urls)
      assert.are.equal(40, job.part_size)
      local lengths = {}
      for i, url in ipairs(urls) do
        local grant = world.provider.urls[url]
        lengths[i] = grant.length
        assert.is_nil(grant.content_type)
        assert.are.equal(job.provider_upload_id, grant.upload_id)
      end
      assert.are.same({ 40, 40, 21 }, lengths)
      assert.is_nil((start { size = 100 }).provider_upload_id)
    end)

    it("ends all URLs at one moment, the window after the job's creation", function()
      local original = world.provider.create_multipart
      world.provider.create_multipart = function(...)
        world.clock.advance(7) -- a slow store
        return original(...)
      end
      local began = world.clock.now()
      local _, urls = start { size = 500 }
      for _, url in ipairs(urls) do
        assert.are.equal(began + 3600, world.provider.urls[url].expires_at)
      end
    end)

    it("refuses to sign with less than a minute of the window left, and leaves nothing", function()
      local original = world.provider.create_multipart
      world.provider.create_multipart = function(...)
        world.clock.advance(3541)
        return original(...)
      end
      refused("conflict", "window", start { size = 500 })
      local _, uploads = world.provider:left()
      assert.are.equal(0, uploads)
      assert.are.same({ failed = 1 }, world.store:count_jobs())
    end)

    it("lets a rule shorten URLs, never lengthen the window", function()
      world = worlds.new { rules = { { before_sign = function() return { url_seconds = 300 } end } } }
      local _, urls = start()
      assert.are.equal(world.clock.now() + 300, world.provider.urls[urls[1]].expires_at)
      world = worlds.new { rules = { { before_sign = function() return { url_seconds = 90000 } end } } }
      _, urls = start()
      assert.are.equal(world.clock.now() + 3600, world.provider.urls[urls[1]].expires_at)
    end)

    it("checks in the service's order: dataset, owner, type, extension, size, quota", function()
      local mine = dataset { record_type = "raster_dataset", size = 9 }
      local bad = { dataset_id = mine.id, filename = "a.exe", size = 2000 }
      local tight = { quota_bytes = 10, extensions = { ".csv" } }
      refused("not_found", nil, start(bad, tight, bob))
      assert(world.store:create_dataset((function()
        local row = {}
        for k, v in pairs(mine) do row[k] = v end
        row.id, row.visibility = "00000000-0000-4000-8000-000000000001", "internal"
        return row
      end)()))
      bad.dataset_id = "00000000-0000-4000-8000-000000000001"
      refused("forbidden", nil, start(bad, tight, bob))
      refused("unsupported", "type", start(bad, tight))
      bad.filename = "a.tif"
      refused("unsupported", "extension", start(bad, tight))
      tight.extensions = limits.extensions
      refused("too_large", nil, start(bad, tight))
      bad.size = 900
      refused("quota", "bytes", start(bad, tight))
      bad.size = 1
      assert.is_truthy(start(bad, { quota_bytes = 18 }))
    end)

    it("refuses what cannot take the dataset's place", function()
      for kind, names in pairs {
        vector_dataset = { "a.tif", "a.tiff", "a.vrt" }, ["table"] = { "a.TIF", "a.vrt" },
        raster_dataset = { "a.csv", "a.gpkg", "a.vrt", "a" }, vrt_dataset = { "a.tif", "a.csv", "a.vrt" },
      } do
        local row = dataset { record_type = kind }
        for _, name in ipairs(names) do
          refused("unsupported", "type", start { dataset_id = row.id, filename = name })
        end
      end
      refused("unsupported", "type", start { filename = "a.vrt" })
      refused("unsupported", "extension", start { filename = "a.sh" })
      refused("unsupported", "extension", start { filename = "csv" })
    end)

    it("counts a quota with the replaced content taken off, and datasets only for new ones", function()
      local row = dataset { size = 600 }
      assert.is_truthy(start({ dataset_id = row.id, size = 700 }, { quota_bytes = 700, quota_datasets = 1 }))
      refused("quota", "bytes", start({ size = 101 }, { quota_bytes = 700 }))
      refused("quota", "datasets", start({ size = 1 }, { quota_bytes = 700, quota_datasets = 1 }))
      assert.is_truthy(start({ size = 100 }, { quota_bytes = 700, quota_datasets = 2 }))
      assert.is_truthy(start({ size = 900 }, { quota_bytes = 900, quota_datasets = 1 }, bob))
    end)

    it("charges the owner when an administrator replaces the content", function()
      local row = dataset { size = 600 }
      refused("quota", "bytes", start({ dataset_id = row.id, size = 701 }, { quota_bytes = 700 }, admin))
    end)

    it("answers a store's failure with one of the store, aborts, and ends the job", function()
      for _, op in ipairs { "create_multipart", "sign_parts" } do
        world.provider:fault(op, { code = "unavailable" })
        refused("store", nil, start { size = 500 })
      end
      world.provider:fault("sign_put", { code = "unavailable" })
      refused("store", nil, start())
      local objects, uploads = world.provider:left()
      assert.are.equal(0, objects + uploads)
      assert.are.same({ failed = 3 }, world.store:count_jobs())
    end)

    it("undoes a multipart upload whose answer was lost", function()
      world.provider:fault("create_multipart", { when = "after" })
      refused("store", nil, start { size = 500 })
      local _, uploads = world.provider:left()
      assert.are.equal(1, uploads)
      world:sweep()
      _, uploads = world.provider:left()
      assert.are.equal(0, uploads)
    end)

    it("makes keys of safe characters only", function()
      for name, last in pairs {
        ["../../etc/passwd.csv"] = "__.._etc_passwd.csv", ["a b+ü.csv"] = "a_b___.csv", ["..csv.csv"] = "_csv.csv",
        [("x"):rep(250) .. ".csv"] = ("x"):rep(116) .. ".csv",
      } do
        local job = assert(start { filename = name })
        assert.are.equal(last, job.staging_key:match("([^/]*)$"))
        assert.is_true(require("longshore.policy.keys").is_safe(job.staging_key))
        assert.are.equal(name, job.filename)
      end
    end)

    it("asks the policy", function()
      world = worlds.new { rules = { { before_initiate = function(context)
        if context.filename == "no.csv" then return false, "not this one" end
        return { key = "elsewhere/" .. context.upload_id }
      end } } }
      refused("forbidden", nil, start { filename = "no.csv" })
      local job = uploaded()
      assert.matches("^elsewhere/" .. job.id:gsub("%-", "%%-") .. "/", job.key)
      refused("forbidden", nil, start({}, nil, worlds.actor { rights = { read = true } }))
    end)
  end)

  describe("complete", function()
    it("binds the job to a copy that no URL names, and empties the staging key", function()
      local job, urls = start { dataset_id = dataset().id }
      put(job, urls, CSV)
      local done = assert(complete(job, {}))
      assert.are.equal("pending", done.status)
      assert.are.equal(CSV, world.provider.objects[done.key].body)
      assert.matches("^geolens/acme/" .. job.dataset_id:gsub("%-", "%%-") .. "/%w+$", done.key)
      assert.are.equal(0, keys_under("staging/"))
      put(job, urls, CSV:upper())
      assert.are.equal(CSV, world.provider.objects[done.key].body)
    end)

    it("assembles parts from quoted or bare ETags in any order, listed twice or not readable", function()
      local body = CSV:rep(10)
      for _, change in ipairs {
        function(parts) return parts end,
        function(parts) for _, p in ipairs(parts) do p.etag = p.etag:gsub('"', "") end return parts end,
        function(parts) for _, p in ipairs(parts) do p.etag = "" end return parts end,
        function(parts)
          local back = {}
          for i = #parts, 1, -1 do back[#back + 1] = parts[i] end
          back[#back + 1] = { number = parts[1].number, etag = parts[1].etag:gsub('"', "") }
          return back
        end,
      } do
        local job, urls = start { size = #body }
        local done = assert(complete(job, change(put(job, urls, body))))
        assert.are.equal(body, world.provider.objects[done.key].body)
      end
    end)

    it("is one-shot", function()
      local job, urls = start()
      put(job, urls, CSV)
      assert(complete(job, {}))
      refused("state", "completed", complete(job, {}))
      put(job, urls, CSV)
      refused("state", "completed", complete(job, {}))
    end)

    it("aborts and refuses when a multipart upload comes without parts", function()
      local job, urls = start { size = 200 }
      put(job, urls, ("a,b\n"):rep(50))
      refused("state", "parts", complete(job, {}))
      local _, uploads = world.provider:left()
      assert.are.equal(0, uploads)
    end)

    it("aborts when the store refuses the parts", function()
      local job, urls = start { size = 200 }
      local parts = put(job, urls, ("a,b\n"):rep(50))
      parts[2].etag = '"00000000000000000000000000000000"'
      refused("store", nil, complete(job, parts))
      local _, uploads = world.provider:left()
      assert.are.equal(0, uploads)
    end)

    it("does not abort, and may be repeated, when the store cannot be reached", function()
      local body = ("a,b\n"):rep(50)
      for _, fault in ipairs {
        { "complete_multipart", { when = "before" } }, { "complete_multipart", { when = "after" } },
        { "head", {} }, { "copy", {} }, { "copy", { when = "after" } }, { "get", {} },
      } do
        local job, urls = start { size = #body }
        local parts = put(job, urls, body)
        world.provider:fault(fault[1], fault[2])
        local done, err = complete(job, parts)
        if not done then
          assert.are.equal("store", err.code)
          done = assert(complete(job, parts))
        end
        assert.are.equal(body, world.provider.objects[done.key].body)
      end
      world:sweep()
      assert.are.equal(0, keys_under("staging/"))
    end)

    it("needs no parts when it is repeated after the object was assembled", function()
      local body = ("a,b\n"):rep(50)
      local job, urls = start { size = #body }
      local parts = put(job, urls, body)
      world.provider:fault("copy", {})
      refused("store", nil, complete(job, parts))
      assert.is_truthy(complete(job, {}))
    end)

    it("keeps the staged bytes and says so when nothing has arrived", function()
      local job = start()
      refused("state", "missing", complete(job, {}))
      local urls
      job, urls = start()
      put(job, urls, CSV)
      assert(complete(job, {}))
    end)

    it("fails a replacement whose size, or whose content, is not what was declared", function()
      local row = dataset()
      local job, urls = start { dataset_id = row.id, size = 200 }
      local parts = put(job, urls, ("a,b\n"):rep(50))
      parts[5] = nil
      assert.matches("160 bytes.*200 bytes", refused("integrity", "size", complete(job, parts)).message)
      refused("state", "failed", complete(job, parts))
      assert.are.equal("failed", world.broker:job(ann, job.id).status)
      local body = "\0\1\2 not text"
      job, urls = start { dataset_id = row.id, size = #body }
      put(job, urls, body)
      assert.matches("detected as 'unknown'", refused("integrity", nil, complete(job, {})).message)
      local failed = world.broker:job(ann, job.id)
      assert.are.equal("failed", failed.status)
      assert.matches("detected as", failed.error)
      assert.are.equal(0, keys_under("staging/"))
      assert.are.equal(1, keys_under("geolens/"))
    end)

    it("lets a new dataset's upload try again with better bytes", function()
      local body = "\0\1\2" .. ("x"):rep(#CSV - 3)
      local job, urls = start { size = #CSV }
      put(job, urls, body)
      refused("integrity", nil, complete(job, {}))
      put(job, urls, CSV)
      assert(complete(job, {}))
    end)

    it("refuses what is over the maximum before copying it", function()
      local job, urls = start { dataset_id = dataset().id }
      put(job, urls, CSV)
      local copies = 0
      world.provider.hook = function(op) if op == "copy" then copies = copies + 1 end end
      refused("too_large", nil, complete(job, {}, { max_size = 5 }))
      assert.are.equal(0, copies)
      assert.are.equal(0, keys_under("staging/"))
    end)

    it("asks the quota again, and does not fail the job for it", function()
      local job, urls = start { dataset_id = dataset().id }
      put(job, urls, CSV)
      refused("quota", "bytes", complete(job, {}, { quota_bytes = 5 }))
      assert.are.equal("pending", world.broker:job(ann, job.id).status)
      assert.are.equal(0, keys_under("staging/"))
    end)

    it("checks the frozen copy: bytes that are swapped in between do not get in", function()
      local row = dataset()
      local job, urls = start { dataset_id = row.id }
      put(job, urls, CSV)
      world.provider.after = function(op)
        if op == "copy" then put(job, urls, ("\0"):rep(#CSV)) end
      end
      local done = assert(complete(job, {}))
      assert.are.equal(CSV, world.provider.objects[done.key].body)
    end)

    it("may run many times at once: one wins, the others say that it is completed", function()
      local body = ("a,b\n"):rep(50)
      for _, where in ipairs { "complete_multipart", "copy", "get", "delete" } do
        local job, urls = start { size = #body }
        local parts = put(job, urls, body)
        local inner, inner_err
        world.provider.hook = function(op)
          if op == where and not inner and not inner_err then
            inner_err = "running"
            inner, inner_err = world:new_broker():complete_job(ann, { job_id = job.id, parts = parts }, with())
          end
        end
        local outer, outer_err = complete(job, parts)
        world.provider.hook = nil
        local winner = inner or outer
        assert.is_truthy(winner, where)
        assert.is_true((inner == nil) ~= (outer == nil), where)
        local loser = (not inner and inner_err) or outer_err
        assert.are.equal(where == "complete_multipart" and "completing" or "completed", loser.reason,
          where .. tostring(loser))
        assert.are.equal(body, world.provider.objects[winner.key].body)
      end
      world:sweep()
      assert.are.equal(0, keys_under("staging/"))
    end)

    it("waits while another assembles the parts, and takes over from one that died", function()
      local body = ("a,b\n"):rep(50)
      local job, urls = start { size = #body }
      local parts = put(job, urls, body)
      world.provider:fault("complete_multipart", { raise = true, when = "after" })
      assert.is_false(pcall(complete, job, parts))
      assert(complete(job, {})) -- the object is there: nothing to wait for
      job, urls = start { size = #body }
      parts = put(job, urls, body)
      world.provider:fault("complete_multipart", { raise = true })
      assert.is_false(pcall(complete, job, parts))
      local began = world.clock.now()
      local err = refused("conflict", "completing", complete(job, parts))
      assert.are.equal(5, err.retry_after)
      assert.is_true(world.clock.now() - began >= 30)
      world.clock.advance(90)
      assert(complete(job, parts))
      -- a store that refuses the second while the first is under way does no harm
      job, urls = start { size = #body }
      parts = put(job, urls, body)
      local second
      world.provider.hook = function(op)
        if op == "complete_multipart" and not second then
          second = true
          local wrong = { { number = 1, etag = "wrong" } }
          second = select(2, world:new_broker():complete_job(ann, { job_id = job.id, parts = wrong }, with()))
        end
      end
      assert(complete(job, parts))
      assert.are.equal("completing", second.reason)
    end)

    it("tells the policy how a job ended", function()
      local told = {}
      local function note(name)
        return function(context) told[#told + 1] = name .. ":" .. (context.file and context.file.size or "none") end
      end
      world = worlds.new { rules = { { after_complete = note "complete", after_fail = note "fail",
        after_expire = note "expire" } } }
      assert(commit(uploaded()))
      local job, urls = start { filename = "a.json", size = 5 }
      put(job, urls, "{\"a\":")
      assert(complete(job, {}))
      assert(commit(job))
      job = start()
      world.clock.advance(4000)
      world.broker:job(ann, job.id)
      assert.are.same({ ("complete:%d"):format(#CSV), "fail:none", "expire:none" }, told)
    end)

    it("leaves no object behind when the process dies at any call of the store", function()
      for _, op in ipairs { "head", "copy", "get", "delete" } do
        for _, when in ipairs { "before", "after" } do
          local job, urls = start()
          put(job, urls, CSV)
          world.provider:fault(op, { raise = true, when = when })
          pcall(complete, job, {})
          local again = complete(job, {})
          local now = world.broker:job(ann, job.id)
          assert.is_truthy(again or now.key, op .. when)
          assert.are.equal(CSV, world.provider.objects[now.key].body)
        end
      end
      world:sweep()
      world.clock.advance(90000)
      world:sweep()
      assert.are.equal(0, (world.provider:left()))
    end)

    it("is possible after the window while nothing has ended the job, and not after that", function()
      local job, urls = start()
      put(job, urls, CSV)
      world.clock.advance(3700)
      assert(complete(job, {}))
      job, urls = start()
      put(job, urls, CSV)
      world.clock.advance(3700)
      assert.are.equal("failed", world.broker:job(ann, job.id).status)
      refused("state", "failed", complete(job, {}))
    end)
  end)

  it("reach an end when the process dies at any call of the database, and leave nothing behind", function()
    local body = ("a,b\n"):rep(50)
    local operations = { "create_job", "start_job", "lease_job", "release_job", "add_cleanup", "bind_job",
      "begin_commit", "step_job", "finish_commit", "job", "dataset" }
    for _, operation in ipairs(operations) do
      for _, when in ipairs { "before", "after" } do
        local row = dataset { key = ("geolens/acme/%s-%s"):format(operation, when) }
        local real, died = world.store[operation], false
        world.store[operation] = function(...)
          if died then return real(...) end
          died = true
          if when == "after" then real(...) end
          error("the process died", 0)
        end
        -- What a client does: the last call again, or from the start.
        local function try(fn, ...)
          local ok, value, err = pcall(fn, ...)
          if ok then return value, err end
          return fn(...)
        end
        local job, urls = try(start, { dataset_id = row.id, size = #body })
        local parts = put(job, urls, body)
        local done, err = try(complete, job, parts)
        if not done and err.reason == "completing" then
          world.clock.advance(90)
          done = complete(job, parts)
        end
        if not done then assert.is_truthy(world.store:job(job.id).key, operation .. when) end
        try(commit, job)
        world.store[operation] = nil
        assert.is_true(died, operation)
        world.clock.advance(301)
        assert.are.equal("complete", world.broker:job(ann, job.id).status, operation .. when)
        assert.are.equal(body, (content_of(row.id)), operation .. when)
      end
    end
    world.clock.advance(90000)
    world:sweep()
    local objects, uploads = world.provider:left()
    assert.are.equal(2 * #operations, objects)
    assert.are.equal(0, uploads)
  end)

  describe("the direct form", function()
    local function ingest(text, request, changes, actor)
      local r = { filename = "piers.csv", content_type = "text/csv", text = text,
        read = function(first, last) return text:sub(first + 1, last + 1) end }
      for k, v in pairs(request or {}) do r[k] = v end
      return world.broker:ingest_job(actor or ann, r, with(changes))
    end

    it("stores a form's file at once, from memory or from a file", function()
      local job = assert(ingest(CSV, { dataset_id = dataset().id }))
      assert.are.equal(CSV, world.provider.objects[job.key].body)
      local path = support.write_file(support.tmpdir() .. "/f", "xx" .. CSV .. "yy")
      job = assert(ingest(CSV, { text = false, file = { path = path, offset = 2, length = #CSV } }))
      assert.are.equal(CSV, world.provider.objects[job.key].body)
      refused("state", "origin", complete(job, {}))
    end)

    it("checks as the presigned door does, and keeps a record of refused content", function()
      refused("unsupported", "extension", ingest(CSV, { filename = "a.exe" }))
      refused("too_large", nil, ingest(CSV, nil, { max_size = 3 }))
      refused("quota", "bytes", ingest(CSV, nil, { quota_bytes = 3 }))
      refused("not_found", nil, ingest(CSV, { dataset_id = dataset().id }, nil, bob))
      refused("integrity", nil, ingest("\0\1\2"))
      refused("integrity", nil, ingest(""))
      assert.are.same({ failed = 2 }, world.store:count_jobs())
      world.provider:fault("put", {})
      refused("store", nil, ingest(CSV))
      assert.are.same({ failed = 3 }, world.store:count_jobs())
    end)
  end)

  describe("commit", function()
    it("makes a new dataset of the first content", function()
      local job = uploaded()
      local after = assert(commit(job, { options = { title = "Piers", summary = "All", visibility = "public" },
        srid = 25832 }))
      assert.are.equal("complete", after.status)
      local row = assert(world.broker:dataset(ann, after.dataset_id))
      assert.are.equal("table", row.record_type)
      assert.are.same({ { name = "id", type = "Integer" }, { name = "name", type = "String" } }, row.columns)
      assert.are.equal(2, row.feature_count)
      assert.are.equal(25832, row.srid)
      assert.are.equal("public", row.visibility)
      assert.are.equal(1, row.version)
      assert.are.equal(CSV, (content_of(after.dataset_id)))
      refused("state", "processed", commit(job))
    end)

    it("knows what kind a new dataset is", function()
      local geo = '{"type":"FeatureCollection","features":[{"type":"Feature","properties":{},"geometry":'
        .. '{"type":"Point","coordinates":[1,2]}}]}'
      for name, case in pairs {
        ["a.geojson"] = { geo, "vector_dataset" }, ["a.json"] = { geo, "vector_dataset" },
        ["b.json"] = { '[{"a":1}]', "table" }, ["a.tif"] = { "II*\0\8\0\0\0", "raster_dataset" },
        ["a.gpkg"] = { "SQLite format 3\0", "vector_dataset" }, ["a.xlsx"] = { "PK\3\4xl", "table" },
      } do
        local job, urls = start({ filename = name, size = #case[1] }, { threshold = 1000 })
        put(job, urls, case[1])
        assert(complete(job, {}))
        local after = assert(commit(job))
        assert.are.equal(case[2], world.store:dataset(after.dataset_id).record_type, name)
      end
      local after = assert(commit(uploaded(), { options = { title = "t", visibility = "private", x_column = "id" } }))
      assert.are.equal("vector_dataset", world.store:dataset(after.dataset_id).record_type)
    end)

    it("swaps the content of a dataset; the old object stays until its downloads have ended", function()
      local row = dataset()
      local job = uploaded { dataset_id = row.id }
      local link = assert(world.broker:download_dataset(ann, row.id))
      assert.matches("geolens/acme/old", link.url)
      assert.are.equal("complete", assert(commit(job, { layer_name = "piers" })).status)
      local body, after = content_of(row.id)
      assert.are.equal(CSV, body)
      assert.are.equal(2, after.version)
      assert.are.equal("piers.csv", after.filename)
      assert.are.equal("Piers", after.title)
      assert.is_nil(after.busy_job)
      world.broker:janitor()
      assert.is_truthy(world.provider.objects[row.key])
      world.clock.advance(901 + 3600)
      world.broker:janitor()
      assert.is_nil(world.provider.objects[row.key])
      assert.are.equal(CSV, (content_of(row.id)))
    end)

    it("needs the bytes first", function()
      local job = start()
      refused("state", "unbound", commit(job))
    end)

    it("is refused while another job replaces the dataset's content, and changes nothing", function()
      local row = dataset()
      local first, second = uploaded { dataset_id = row.id }, uploaded({ dataset_id = row.id }, CSV .. "3,x\n")
      local err
      world.provider.hook = function(op)
        if op == "get" and not err then
          err = true
          err = select(2, world:new_broker():commit_job(ann, { job_id = second.id, dataset_id = row.id }, with()))
        end
      end
      assert(commit(first))
      world.provider.hook = nil
      assert.are.equal("conflict", err.code)
      assert.are.equal("dataset_busy", err.detail.code)
      assert.are.equal("pending", world.broker:job(ann, second.id).status)
      assert.are.equal("complete", assert(commit(second)).status)
      assert.are.equal(CSV .. "3,x\n", (content_of(row.id)))
    end)

    it("fails the job, and keeps the content, when the file's JSON is broken or the file is gone", function()
      local row = dataset()
      local broken = '{"type":"FeatureCollection","features":['
      local job, urls = start { dataset_id = row.id, filename = "a.geojson", size = #broken }
      put(job, urls, broken)
      assert(complete(job, {}))
      local after = assert(commit(job))
      assert.are.equal("failed", after.status)
      assert.matches("ends in the middle", after.error)
      job = uploaded { dataset_id = row.id }
      world.provider.objects[job.key] = nil
      assert.are.equal("failed", assert(commit(job)).status)
      for _, change in ipairs { { etag = "another" }, { body = "id\n" } } do
        job = uploaded { dataset_id = row.id }
        for k, v in pairs(change) do world.provider.objects[job.key][k] = v end
        assert.are.equal("failed", assert(commit(job)).status)
      end
      assert.are.equal("id\n1\n", (content_of(row.id)))
      assert.are.equal("complete", assert(commit(uploaded { dataset_id = row.id })).status)
    end)

    it("is finished by a poll, or by the janitor, when the store was away or the process died", function()
      for _, case in ipairs { { "head" }, { "get" }, { "head", true }, { "get", true } } do
        for _, who in ipairs { "poll", "janitor" } do
          local row = dataset()
          local job = uploaded { dataset_id = row.id }
          world.provider:fault(case[1], { raise = case[2] })
          pcall(commit, job)
          assert.are.equal("running", world.store:job(job.id).status)
          assert.are.equal("id\n1\n", (content_of(row.id)))
          assert.are.equal("running", world.broker:job(ann, job.id).status)
          world.clock.advance(301)
          if who == "poll" then world.broker:job(ann, job.id) else world.broker:janitor() end
          assert.are.equal("complete", world.store:job(job.id).status)
          assert.are.equal(CSV, (content_of(row.id)))
        end
      end
    end)

    it("gives up on a store that stays away for an hour", function()
      local row = dataset()
      local job = uploaded { dataset_id = row.id }
      world.provider:fault("head", { times = 1000 })
      assert(commit(job))
      for _ = 1, 20 do
        world.clock.advance(400)
        world.broker:job(ann, job.id)
      end
      assert.are.equal("failed", world.store:job(job.id).status)
      assert.is_nil(world.store:dataset(row.id).busy_job)
    end)

    it("holds the quota at the swap too", function()
      local row = dataset { size = 9 }
      local job = uploaded { dataset_id = row.id }
      assert.are.equal("failed", assert(commit(job, nil, { quota_bytes = 10 })).status)
      local a, b = uploaded(), uploaded()
      assert.are.equal("complete", assert(commit(a, nil, { quota_datasets = 2 })).status)
      refused("quota", "datasets", commit(b, nil, { quota_datasets = 2 }))
      assert.are.equal("pending", world.store:job(b.id).status)
      refused("quota", "bytes", commit(b, nil, { quota_bytes = 50 }))
    end)
  end)

  describe("preview", function()
    it("shows the content and what would change", function()
      local row = dataset { layer_name = "chosen" }
      local job = uploaded { dataset_id = row.id }
      local found = assert(world.broker:preview_job(ann, { job_id = job.id, dataset_id = row.id }))
      assert.are.equal(2, found.feature_count)
      assert.are.same({ { name = "name", type = "String" } }, found.difference.columns_added)
      assert.are.equal(1, found.difference.row_count_delta)
      assert.are.equal("chosen", found.previous_layer)
      assert.is_truthy(world.broker:preview_job(ann, { job_id = job.id, dataset_id = row.id, layer_name = "piers" }))
      refused("integrity", "layer", world.broker:preview_job(ann, { job_id = job.id, dataset_id = row.id,
        layer_name = "docks" }))
    end)

    it("knows no rows of a format that it does not read", function()
      local job, urls = start { filename = "a.gpkg", size = 16 }
      put(job, urls, "SQLite format 3\0")
      assert(complete(job, {}))
      local found = assert(world.broker:preview_job(ann, { job_id = job.id }))
      assert.are.equal(json.null, found.feature_count)
      assert.are.same({}, found.columns)
      assert.is_nil(found.difference)
    end)

    it("refuses rasters, jobs without content, done jobs and broken files", function()
      local raster = dataset { record_type = "raster_dataset" }
      local job, urls = start { dataset_id = raster.id, filename = "a.tif", size = 8 }
      put(job, urls, "II*\0\8\0\0\0")
      assert(complete(job, {}))
      refused("state", "raster", world.broker:preview_job(ann, { job_id = job.id, dataset_id = raster.id }))
      job = start()
      refused("state", "unbound", world.broker:preview_job(ann, { job_id = job.id }))
      job = uploaded()
      assert(commit(job))
      refused("state", "processed", world.broker:preview_job(ann, { job_id = job.id }))
      job, urls = start { filename = "a.json", size = 5 }
      put(job, urls, "{\"a\":")
      assert(complete(job, {}))
      refused("integrity", "content", world.broker:preview_job(ann, { job_id = job.id }))
      world.provider:fault("get", {})
      refused("store", nil, world.broker:preview_job(ann, { job_id = job.id }))
    end)
  end)

  describe("the end of jobs", function()
    it("comes after the window without bytes, and a day without a commit, by poll or janitor", function()
      for _, who in ipairs { "poll", "janitor" } do
        local empty, full = start(), uploaded()
        world.clock.advance(3599)
        if who == "janitor" then world.broker:janitor() end
        assert.are.equal("pending", world.broker:job(ann, empty.id).status)
        world.clock.advance(1)
        if who == "janitor" then world.broker:janitor() end
        local job = who == "poll" and world.broker:job(ann, empty.id) or world.store:job(empty.id)
        assert.are.equal("failed", job.status)
        assert.matches("not completed", job.error)
        assert.are.equal("pending", world.broker:job(ann, full.id).status)
        world.clock.advance(86400 - 3600)
        if who == "janitor" then world.broker:janitor() end
        job = who == "poll" and world.broker:job(ann, full.id) or world.store:job(full.id)
        assert.are.equal("failed", job.status)
        assert.matches("not committed", job.error)
        world:sweep()
        assert.are.equal(0, (world.provider:left()))
      end
    end)

    it("leaves what is on its way alone, until the window and an hour have passed", function()
      local body = ("a,b\n"):rep(50)
      local single, urls = start()
      put(single, urls, CSV)
      local parted, part_urls = start { size = #body }
      local parts = put(parted, part_urls, body)
      world.clock.advance(3599)
      assert.are.equal(0, world.broker:janitor().cleaned)
      assert(complete(single, {}))
      assert(complete(parted, parts))
    end)

    it("removes what is put through a URL after complete", function()
      local job, urls = start()
      put(job, urls, CSV)
      local done = assert(complete(job, {}))
      put(job, urls, CSV)
      assert.are.equal(1, keys_under("staging/"))
      world.clock.advance(7300)
      world.broker:janitor()
      assert.are.equal(0, keys_under("staging/"))
      assert.is_truthy(world.provider.objects[done.key])
    end)

    it("says in a dry run what would end, and ends nothing", function()
      start()
      world.clock.advance(3601)
      assert.are.equal(1, world.broker:janitor({ dry_run = true }).failed)
      assert.are.same({ pending = 1 }, world.store:count_jobs())
    end)

    it("forgets jobs after a month", function()
      start()
      world.clock.advance(3601)
      world.broker:janitor()
      assert.are.same({ failed = 1 }, world.store:count_jobs())
      world.clock.advance(31 * 86400)
      world.broker:janitor()
      assert.are.same({}, world.store:count_jobs())
    end)
  end)

  describe("identities", function()
    it("keep jobs and datasets of others out of reach, whatever the operation", function()
      local row = dataset()
      local shared = dataset { visibility = "internal", key = "geolens/acme/shared" }
      local job, urls = start { dataset_id = row.id }
      put(job, urls, CSV)
      local new = uploaded()
      local b = world.broker
      local tries = {
        function(a, id) return b:start_job(a, { dataset_id = id, filename = "a.csv", size = 5, content_type = "x/y" },
          with()) end,
        function(a, id) return b:complete_job(a, { dataset_id = id, job_id = job.id, parts = {} }, with()) end,
        function(a, id) return b:preview_job(a, { dataset_id = id, job_id = job.id }) end,
        function(a, id) return b:commit_job(a, { dataset_id = id, job_id = job.id }, with()) end,
        function(a, id) return b:ingest_job(a, { dataset_id = id, filename = "a.csv", text = CSV,
          read = function() end, content_type = "x/y" }, with()) end,
      }
      local readers = {
        function(a, id) return b:dataset(a, id) end, function(a, id) return b:download_dataset(a, id) end,
      }
      local other_tenant = worlds.actor { tenant = "other" }
      local foreign_admin = worlds.actor { organization = "other", rights = { admin = true } }
      for _, actor in ipairs { stranger, other_tenant, foreign_admin } do
        for _, try in ipairs(tries) do
          refused("not_found", nil, try(actor, row.id))
          refused("not_found", nil, try(actor, shared.id))
        end
        for _, try in ipairs(readers) do
          refused("not_found", nil, try(actor, row.id))
          refused("not_found", nil, try(actor, shared.id))
        end
      end
      for _, try in ipairs(tries) do
        refused("not_found", nil, try(bob, row.id))
        refused("forbidden", nil, try(bob, shared.id))
      end
      for _, try in ipairs(readers) do
        refused("not_found", nil, try(bob, row.id))
        assert.is_truthy(try(bob, shared.id))
        assert.is_truthy(try(admin, row.id))
      end
      for _, actor in ipairs { stranger, other_tenant, bob } do
        for _, id in ipairs { job.id, new.id } do refused("not_found", nil, b:job(actor, id)) end
        refused("not_found", nil, b:complete_job(actor, { job_id = new.id, parts = {} }, with()))
        refused("not_found", nil, b:preview_job(actor, { job_id = new.id }))
        refused("not_found", nil, b:commit_job(actor, { job_id = new.id, options = {} }, with()))
      end
      -- an administrator sees a job, but it is bound to who began it
      assert.is_truthy(b:job(admin, job.id))
      refused("not_found", nil, b:complete_job(admin, { dataset_id = row.id, job_id = job.id, parts = {} }, with()))
      assert(complete(job, {}))
    end)

    it("bind a job to its dataset and its workflow", function()
      local one, two = dataset(), dataset { key = "geolens/acme/two" }
      local job = uploaded { dataset_id = one.id }
      local new = uploaded()
      local b = world.broker
      refused("not_found", nil, b:commit_job(ann, { job_id = job.id, dataset_id = two.id }, with()))
      refused("not_found", nil, b:preview_job(ann, { job_id = job.id, dataset_id = two.id }))
      refused("not_found", nil, b:commit_job(ann, { job_id = job.id, options = {} }, with()))
      refused("not_found", nil, b:commit_job(ann, { job_id = new.id, dataset_id = one.id }, with()))
      refused("not_found", nil, b:complete_job(ann, { job_id = new.id, dataset_id = one.id, parts = {} }, with()))
    end)
  end)
end)

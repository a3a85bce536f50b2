-- What a policy rewrites takes effect at every service; what a service's API fixes is
-- an error that names hook and field.
local all = require "spec.policy.service_steps"
local rules = require "longshore.policy.rules"
local support = require "spec.support"
local ANN = all.actor
local BODY = all.body
local SERVICES = all.services
local COGNITE = all.cognite
local GEOLENS = all.geolens
local steps = all.steps
local merged = all.merged
local upload = all.upload
local failures = all.failures
local w

local function world(...)
  w = all.world(...)
  return w
end

describe("at every service", function()
  after_each(support.cleanup)

  describe("the rewrite of", function()
    -- A world where one rule rewrites, and an upload in it.
    local function rewritten(service, fields, start)
      world { { before_initiate = function(context)
        return fields.fn and fields.fn(context) or fields
      end } }
      local file, err = upload(service, start)
      if not file then
        for _, line in ipairs(failures()) do error(("%s %s"):format(tostring(line.field), line.reason)) end
        error(tostring(type(err) == "table" and (err.message or err.status) or err))
      end
      return file
    end

    local function refused_by_contract(service, field, value)
      world { { before_initiate = function() return { [field] = value } end } }
      local started, err = steps[service].start()
      assert.is_nil(started)
      assert.same({ "internal", "before_initiate" }, { err.code, err.hook })
      assert.equal(field, failures()[1].field)
      assert.truthy(failures()[1].reason:find(service, 1, true))
      assert.same({ 0, 0 }, { w.provider:left() })
    end

    describe("metadata that changes later, at cognite", function()
      local function to(metadata, mime)
        return function(record)
          record.fields.metadata, record.fields.mimeType = metadata, mime or record.fields.mimeType
          return { fields = record.fields }
        end
      end
      local function change(file, ...)
        local list, err = w.broker:change_records(ANN, { { reference = { id = file.id }, change = to(...) } },
          COGNITE.check)
        return list and list[1], err
      end

      it("counts as it does at the beginning", function()
        local seen
        world { rules.metadata { fields = { kind = { required = true, one_of = { "a", "b" } } } },
          { before_initiate = function(context)
            seen = context
            if context.operation == "update_file" and context.metadata.kind == "b" then
              return { metadata = { kind = "b", by = "policy" }, content_type = "text/plain" }
            end
          end } }
        local file = assert(upload("cognite", { metadata = { kind = "a" } }))
        local ok, err = change(file, { kind = "c" })
        assert.is_nil(ok)
        assert.same({ "invalid", "metadata.kind" }, { err.code, err.field })
        assert.is_nil((change(file, nil)))
        assert.same({ kind = "a" }, steps.cognite.file(file).metadata)
        local changed = assert(change(file, { kind = "b" }))
        assert.same({ "update_file", "cognite", false, "a" }, { seen.operation, seen.service, seen.resume,
          seen.file.metadata.kind })
        assert.same({ { kind = "b", by = "policy" }, "text/plain" }, { changed.metadata, changed.content_type })
        seen = nil
        assert(w.broker:change_records(ANN, { { reference = { id = file.id }, change = function(record)
          record.fields.source = "elsewhere"
          return { fields = record.fields, external_id = "x" }
        end } }))
        assert.is_nil(seen) -- nothing that it has a word on
        assert.same({ kind = "b", by = "policy" }, steps.cognite.file(file).metadata)
      end)

      it("is decided on as it will be, whoever is quicker", function()
        local quicker, asked = nil, {}
        world { { before_initiate = function(context)
          if context.operation ~= "update_file" then return end
          asked[#asked + 1] = context.metadata.n
          if quicker then
            local act = quicker
            quicker = nil
            act()
          end
          if context.metadata.n > 2 then return false, "enough" end
        end } }
        local file = assert(upload("cognite", { metadata = { n = 0 } }))
        local function more()
          return w.broker:change_records(ANN, { { reference = { id = file.id }, change = function(record)
            record.fields.metadata.n = record.fields.metadata.n + 1
            return { fields = record.fields }
          end } })
        end
        quicker = function() assert(more()) end
        assert(more())
        assert.same({ 1, 1, 2 }, asked)
        assert.equal(2, steps.cognite.file(file).metadata.n)
        assert.equal("enough", select(2, more()).message)
      end)

      it("is one thing of each file in a request", function()
        world {}
        local file = assert(upload "cognite")
        local _, err = w.broker:change_records(ANN, { { reference = { id = file.id }, change = to { a = "1" } },
          { reference = { id = file.id }, change = to { a = "2" } } })
        assert.equal("invalid", err.code)
      end)
    end)

    for _, service in ipairs(SERVICES) do
      it("key and provider: " .. service, function()
        if service == "athena" then
          refused_by_contract(service, "key", "vault/x")
          return refused_by_contract(service, "provider", "other")
        end
        local file = rewritten(service, { fn = function(c) return { key = "vault/" .. c.upload_id } end })
        assert.truthy(steps[service].object(file))
        local found
        for key in pairs(w.provider.objects) do found = found or key:find("^vault/") end
        assert.truthy(found)
        world { { before_initiate = function() return { provider = "other" } end } }
        assert(steps[service].start())
        assert.same({ 0, 0 }, { w.provider:left() })
      end)

      it("content type and metadata: " .. service, function()
        local fields = { content_type = "text/plain", metadata = { by = "policy" } }
        if service == "geolens" then
          refused_by_contract(service, "metadata", fields.metadata)
          fields.metadata = nil
        end
        local file = assert(steps[service].file(rewritten(service, fields)))
        assert.equal("text/plain", file.content_type)
        if fields.metadata then assert.same({ by = "policy" }, file.metadata) end
      end)

      it("headers and tags: " .. service, function()
        local file = rewritten(service, { headers = { ["x-amz-storage-class"] = "GLACIER" }, tags = { site = "a b" } })
        local headers = steps[service].object(file).headers or {}
        assert.same({ "GLACIER", "site=a%20b" }, { headers["x-amz-storage-class"], headers["x-amz-tagging"] })
      end)

      it("upload_seconds: " .. service, function()
        world { { before_initiate = function() return { upload_seconds = 90 } end } }
        local started = assert(steps[service].start())
        local ends = service == "newton" and started.deadline or service == "athena" and started.upload.expires_at
          or service == "cognite" and started.grant.expires_at or started.job.window_ends
        if service == "geolens" then ends = w.store:job(started.id).window_ends end
        assert.is_true(ends <= w.clock.now() + 90, tostring(ends - w.clock.now()))
      end)

      if service == "cognite" then
        it("upload_seconds, of a link that is asked for again", function()
          local closed, resumed = false, {}
          world { { before_initiate = function(context)
            resumed[#resumed + 1] = context.resume
            if closed then return false, "closed" end
            return { upload_seconds = 90 }
          end } }
          local limits = merged(COGNITE, { sessions = false })
          local started = assert(steps.cognite.start())
          w.clock.advance(30)
          local _, grant = assert(w.broker:record_link(ANN, { id = started.id }, limits))
          assert.equal(w.clock.now() + 90, grant.expires_at)
          assert.same({ false, true }, resumed)
          closed = true
          assert.equal("forbidden", select(2, w.broker:record_link(ANN, { id = started.id }, limits)).code)
        end)
      end

      it("url_seconds: " .. service, function()
        world { { before_sign = function() return { url_seconds = 33 } end } }
        local started = assert(steps[service].start())
        local url = service == "athena" and started.upload.url or service == "cognite" and started.grant.url
          or service == "geolens" and started.urls[1]
        if service == "newton" then url = assert(w.broker:part_urls(ANN, started.id))[1].url end
        assert.equal(w.clock.now() + 33, w.provider.urls[url].expires_at)
      end)

      it("max_running, over all services: " .. service, function()
        world { { before_initiate = function() return { max_running = 1 } end } }
        local other = service == "cognite" and "geolens" or "cognite"
        assert(steps[other].start())
        local started, err = steps[service].start()
        assert.is_nil(started)
        assert.same({ "quota", "too_many_uploads" }, { err.code, err.reason })
      end)

      it("if_exists and replaces: " .. service, function()
        -- newton's is in spec/policy/file_spec and the examples: a filename, not an identity of the client's.
        if service == "newton" then return end
        local answer = {}
        world { { before_initiate = function(context, host)
          answer.current = context.current
          answer.found = host.find { service = context.service, filename = context.filename }
          return answer.fn and answer.fn(context) or nil
        end } }
        local again = {
          athena = function() return steps.athena.start() end,
          cognite = function()
            return steps.cognite.start { external_id = "x", overwrite = function(record)
              return { name = record.name, fields = record.fields }
            end }
          end,
          geolens = function(file) return steps.geolens.start { dataset_id = file.id } end,
        }
        local file = assert(upload(service, service == "cognite" and { external_id = "x" } or nil))
        assert.is_nil(answer.current)
        for _, mode in ipairs { "refuse", "keep" } do
          answer.fn = function() return { if_exists = mode } end
          local started, err = again[service](file)
          assert.is_nil(started, mode)
          assert.equal("conflict", err.code)
          assert.equal(type(file.id) == "number" and ("%.0f"):format(file.id) or file.id, answer.current.id)
          assert.same(answer.current, answer.found)
        end
        answer.fn = function() return { if_exists = "replace", replaces = "another" } end
        assert.equal("replaced", select(2, again[service](file)).reason)
        local seen
        answer.fn = function(context)
          seen = context.current.etag
          return { if_exists = "replace", replaces = context.current.id }
        end
        local one = assert(again[service](file))
        assert.is_string(seen)
        if service ~= "athena" then -- (the store replaces what lies at a key)
          local two = assert(again[service](file))
          steps[service].send(one)
          assert(steps[service].finish(one, {}))
          steps[service].send(two)
          local second = steps[service].finish(two, {})
          local now = steps[service].file(file)
          if service == "geolens" then assert.is_nil(second) end
          assert.is_true(now.version == nil or now.version == 2)
          assert.equal(BODY, steps[service].object(now).body)
        end
        assert.same({}, failures())
      end)
    end

    it("if_exists at athena: a URL that writes once, where the store can", function()
      world { { before_initiate = function() return { if_exists = "refuse" } end } }
      local entry = assert(steps.athena.start())
      assert.equal("*", entry.upload.headers and entry.upload.headers["if-none-match"]
        or w.provider.signed["if-none-match"])
    end)

    it("if_exists at cognite: replace, though the request did not say so", function()
      world { { before_initiate = function() return { if_exists = "replace" } end } }
      local first = assert(upload("cognite", { external_id = "x" }))
      local started = assert(steps.cognite.start { external_id = "x", becomes = function(record)
        return { name = "new", fields = record.fields }
      end })
      assert.equal(first.id, started.id)
      assert.is_nil((steps.cognite.start { external_id = "x" })) -- nobody says what it would become
    end)

    it("part_size at geolens", function()
      world { { before_initiate = function() return { part_size = 60 } end } }
      local job = assert(w.broker:start_job(ANN, { filename = "a.csv", size = 150, content_type = "text/csv" },
        GEOLENS))
      assert.same({ 60, 3 }, { job.part_size, job.part_count })
    end)

    it("metadata that the service cannot keep is an error", function()
      world { { before_initiate = function() return { content_type = "text/plain", metadata = { 1, 2 } } end } }
      local limits = merged(COGNITE, { check = function()
        return require("longshore.errors").fail("invalid", "metadata: text expected", { field = "metadata" })
      end })
      local record, err = w.broker:create_record(ANN, { name = "a", fields = {} }, limits)
      assert.is_nil(record)
      assert.same({ "internal", "before_initiate" }, { err.code, err.hook })
      assert.equal("metadata", failures()[1].field)
    end)
  end)
end)

-- Every hook of the contract, at every service: called where it applies, with the
-- fields that are documented; what it refuses does not happen.
local all = require "spec.policy.service_steps"
local contract = require "longshore.policy.contract"
local fake = require "spec.support.fake_provider"
local json = require "longshore.json"
local policies = require "longshore.policy"
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

  -- operation -> the hooks that it asks, as a set, for each service.
  local MOMENTS = {
    newton = {
      upload = "authorize before_initiate before_sign before_complete before_register after_complete",
      download = "authorize before_download", delete = "authorize before_delete after_delete",
      abort = "authorize before_abort after_abort", expire = "after_expire",
    },
    athena = {
      upload = "authorize before_initiate before_sign before_complete before_register after_complete",
      parts = "authorize before_initiate before_sign before_complete before_register after_complete",
      ingest = "authorize before_initiate before_complete before_register after_complete",
      download = "authorize before_download", delete = "authorize before_delete after_delete",
      restore = "authorize before_initiate", move = "authorize before_initiate",
      purge = "authorize before_delete", confirm = "authorize before_initiate",
      show = "authorize before_visibility", show_new = "authorize before_initiate before_sign before_visibility",
      abort = "authorize before_abort after_abort", expire = "after_expire", vanish = "authorize after_fail",
    },
    cognite = {
      upload = "authorize before_initiate before_sign before_complete before_register after_complete",
      parts = "authorize before_initiate before_sign before_complete before_register after_complete",
      update = "authorize before_initiate",
      link = "authorize before_initiate before_sign", link_again = "authorize before_initiate before_sign",
      download = "authorize before_download", delete = "authorize before_delete after_delete", expire = "after_expire",
    },
    geolens = {
      upload = "authorize before_initiate before_sign before_complete before_register after_complete",
      ingest = "authorize before_initiate before_complete before_register",
      show_new = "authorize before_initiate before_sign before_complete before_register before_visibility "
        .. "after_complete",
      download = "authorize before_download", expire = "after_expire",
      broken = "authorize before_initiate before_sign before_complete before_register after_fail",
    },
  }

  local run = {}
  for _, service in ipairs(SERVICES) do run[service] = { upload = function() assert(upload(service)) end } end

  -- What is done before the hooks are counted, and then.
  local function with_file(service, act)
    return { before = function() return assert(upload(service)) end, act = act }
  end
  run.newton.download = with_file("newton", function(file) assert(w.broker:download(ANN, file.id)) end)
  run.newton.delete = with_file("newton", function(file) assert(w.broker:delete_file(ANN, file.id)) end)
  run.newton.abort = { before = function() return assert(steps.newton.start()) end,
    act = function(started) assert(w.broker:abort(ANN, started.id)) end }
  run.newton.expire = { before = function() steps.newton.start() end, act = function()
    w.clock.advance(8000)
    w.broker:janitor()
  end }

  local function multipart()
    local entry = assert(steps.athena.start())
    local started = assert(w.broker:create_managed_upload(ANN, entry.file.id, {}))
    return entry.file.id, started.id
  end
  run.athena.parts = function()
    local file_id, id = multipart()
    local grant = assert(w.broker:sign_managed_part(ANN, file_id, id, 1))
    local _, etag = w.provider:client_put(grant.url, BODY)
    assert(w.broker:complete_managed_upload(ANN, file_id, id, { { number = 1, token = etag } }))
  end
  run.athena.ingest = { before = function() return assert(steps.athena.start()).file end, act = function(file)
    assert(w.broker:ingest_managed(ANN, file.id, { text = BODY, length = #BODY, content_type = "text/csv" }))
  end }
  run.athena.download = with_file("athena", function(file) assert(w.broker:managed_url(ANN, file.id, "read")) end)
  run.athena.delete = with_file("athena", function(file) assert(w.broker:delete_managed(ANN, { file.id })) end)
  run.athena.restore = { before = function()
    local file = assert(upload "athena")
    assert(w.broker:delete_managed(ANN, { file.id }))
    return file
  end, act = function(file) assert(w.broker:restore_managed(ANN, file.id)) end }
  run.athena.purge = { before = run.athena.restore.before,
    act = function(file) assert(w.broker:purge_managed(ANN, file.id)) end }
  run.athena.move = with_file("athena", function(file)
    assert(w.broker:move_managed(ANN, { file.id }, { key = "b.csv" }))
  end)
  run.athena.confirm = with_file("athena", function(file)
    assert(w.broker:confirm_managed(ANN, file.id, { content_type = "text/plain" }))
  end)
  run.athena.show = with_file("athena", function(file) assert(w.broker:show_managed(ANN, { file.id }, "public")) end)
  run.athena.show_new = function() assert(steps.athena.start { visibility = "public" }) end
  run.athena.abort = { before = function() return { multipart() } end,
    act = function(ids) assert(w.broker:abort_managed_upload(ANN, ids[1], ids[2])) end }
  run.athena.expire = { before = function() steps.athena.start() end, act = function()
    w.clock.advance(20000)
    w.broker:janitor()
  end }
  run.athena.vanish = with_file("athena", function(file)
    w.provider.objects["m/" .. file.key] = nil
    w.broker:managed_file(ANN, file.id)
  end)

  run.cognite.parts = function()
    local record, grant = assert(w.broker:create_record(ANN, { name = "p", fields = {}, parts = 1 }, COGNITE))
    w.provider:client_put(grant.urls[1], BODY)
    assert(w.broker:complete_record(ANN, { id = record.id }, grant.upload_id))
  end
  run.cognite.link_again = { before = function() return assert(steps.cognite.start()) end, act = function(started)
    assert(w.broker:record_link(ANN, { id = started.id }, merged(COGNITE, { sessions = false })))
  end }
  run.cognite.link = with_file("cognite", function(file)
    assert(w.broker:record_link(ANN, { id = file.id }, merged(COGNITE, { sessions = false })))
  end)
  run.cognite.update = with_file("cognite", function(file)
    assert(w.broker:change_records(ANN, { { reference = { id = file.id }, change = function(record)
      record.fields.metadata = { a = "b" }
      return { fields = record.fields }
    end } }))
  end)
  run.cognite.download = with_file("cognite", function(file)
    assert(w.broker:record_downloads(ANN, { { id = file.id } }, 30, function() return "text/csv" end))
  end)
  run.cognite.delete = with_file("cognite", function(file)
    assert(w.broker:delete_records(ANN, { { id = file.id } }))
  end)
  run.cognite.expire = { before = function() steps.cognite.start() end, act = function()
    w.clock.advance(604800 + 3600)
    w.broker:janitor()
  end }

  run.geolens.ingest = function()
    assert(w.broker:ingest_job(ANN, { filename = "a.csv", content_type = "text/csv", text = BODY,
      read = function(first, last) return BODY:sub(first + 1, last + 1) end }, GEOLENS))
  end
  run.geolens.show_new = function()
    local started = assert(steps.geolens.start())
    steps.geolens.send(started)
    assert(steps.geolens.finish(started, nil, "public"))
  end
  run.geolens.download = with_file("geolens", function(file) assert(w.broker:download_dataset(ANN, file.id)) end)
  run.geolens.expire = { before = function() steps.geolens.start() end, act = function()
    w.clock.advance(4000)
    w.broker:janitor()
  end }
  run.geolens.broken = function()
    local started = assert(steps.geolens.start())
    steps.geolens.send(started)
    assert(w.broker:complete_job(ANN, { job_id = started.id, parts = {} }, GEOLENS))
    w.provider.objects[w.store:job(started.id).key] = nil
    assert(w.broker:commit_job(ANN, { job_id = started.id, options = { title = "t", visibility = "private" } },
      GEOLENS))
  end

  local OPTIONAL = { metadata = true, max_size = true, part_size = true, quotas = true, headers = true, tags = true,
    client_key = true, current = true, size = true, crc32c = true, content_type = true, file = true }

  for _, service in ipairs(SERVICES) do
    for operation, expected in pairs(MOMENTS[service]) do
      it(("%s: %s asks what it should, and shows what is documented"):format(service, operation), function()
        local seen -- set when it matters
        local spy = { name = "spy" }
        for name, hook in pairs(contract.hooks) do
          spy[name] = function(context)
            if seen then seen[name] = true end
            for _, field in ipairs(hook.sees) do
              assert(context[field] ~= nil or OPTIONAL[field], ("%s does not show %s"):format(name, field))
            end
            for what, fields in pairs { upload = contract.upload_fields, file = contract.file_fields } do
              for _, field in ipairs(context[what] and fields or {}) do
                assert(context[what][field] ~= nil, ("%s: %s has no %s"):format(name, what, field))
                assert(field ~= "service" or context[what].service == service, context[what].service)
              end
            end
            assert(context.service == nil or context.service == service, context.service)
          end
        end
        world { spy }
        local one = run[service][operation]
        if type(one) == "function" then one = { act = one } end
        local given = one.before and one.before()
        seen = {}
        one.act(given)
        for _, fields in ipairs(failures()) do error(("%s: %s"):format(fields.hook, fields.reason)) end
        local wanted = {}
        for name in expected:gmatch("%S+") do wanted[name] = true end
        assert.same(wanted, seen)
        assert.same({}, assert(w.store:count_events()))
      end)
    end

    it(service .. ": what a hook refuses does not happen", function()
      for _, hook in ipairs { "authorize", "before_initiate", "before_sign", "before_complete", "before_register" } do
        local told = {}
        world { { [hook] = function() return false, { code = "forbidden", message = "never" } end,
          after_fail = function(context) told[#told + 1] = context end,
          after_complete = function() error "told of success" end } }
        local file = upload(service)
        assert.is_nil(file, hook)
        assert.same({}, failures())
        w:sweep()
        w.clock.advance(8 * 86400)
        w:sweep()
        assert.same({ 0, 0 }, { w.provider:left() }, hook)
        if hook == "before_register" and service ~= "geolens" then -- (whose job waits for better bytes)
          assert.equal(1, #told)
          assert.equal("failed", told[1].upload.state)
        end
      end
    end)

    it(service .. ": content that cannot be judged yet waits, and nobody sees it", function()
      for _, how in ipairs { "away", "bug" } do
        local ready = false
        world { { before_register = function(_, host)
          assert(host.head(3) == "a,b")
          assert(host.url(60):find("^http"))
          if ready then return true end
          if how == "bug" then error "a bug" end
          return false, { code = "unavailable", retryable = true, message = "the scanner is away" }
        end } }
        local step = steps[service]
        local started = assert(step.start())
        local parts = step.send(started)
        assert.is_nil((step.finish(started, parts)))
        ready = true
        if service == "newton" then
          assert(w.broker:complete(ANN, started.id, { parts = parts }))
        else
          assert(step.finish(started, parts))
        end
      end
    end)
  end

  it("rules.by tells services apart, in every hook", function()
    local told = {}
    local function of(service)
      local rule = {}
      for hook in pairs(contract.hooks) do
        rule[hook] = function(context)
          told[#told + 1] = hook
          assert.equal(service, context.service, hook)
        end
      end
      return rule
    end
    world { rules.by(function(context) return context.service end, { newton = of "newton", athena = of "athena",
      cognite = of "cognite", geolens = of "geolens" }) } -- and nothing `otherwise`
    for _, service in ipairs(SERVICES) do
      local before = #told
      assert(upload(service))
      assert.is_true(#told - before >= 6)
    end
    assert.same({}, failures())
  end)

  it("a client with a database of its own has its own hosts, and leaves the others theirs", function()
    local asked
    local rule = { before_initiate = function(_, host) asked = { host.fetch { url = "https://a.example/" } } end }
    local shared = assert(policies.new { rules = { rule }, fetch = { "https://a.example/" } })
    local function broker(path, transport)
      return require("longshore.broker").new { policy = shared, providers = { default = fake.new {} },
        store = assert(require("longshore.store").open { path = support.tmpdir() .. path, synchronous = "OFF" }),
        transport = transport }
    end
    local one = broker("/1.db", function() return { status = 201, headers = {}, body = "" } end)
    local two = broker "/2.db"
    local request = { service = "newton", filename = "a", content_type = "a/b", size = 1 }
    assert(one:initiate(ANN, request))
    assert.equal(201, asked[1].status)
    assert(two:initiate(ANN, request))
    assert.equal("unavailable", asked[2].code)
    assert(one:initiate(ANN, { service = "newton", filename = "b", content_type = "a/b", size = 1 }))
    assert.equal(201, asked[1].status)
  end)

  it("webhooks and hooks are shown JSON that can be read again", function()
    local told = {}
    world { { after_complete = function(context) told[#told + 1] = context end } }
    for _, service in ipairs(SERVICES) do assert(upload(service)) end
    assert.equal(4, #told)
    for _, context in ipairs(told) do
      assert.truthy(json.encode(context.file))
      assert.equal(#BODY, context.file.size)
      assert.equal("completed", context.upload.state)
    end
  end)
end)

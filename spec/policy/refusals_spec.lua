-- What a hook refuses, a client reads: its status and its message, in the words of
-- each service, over whatever request the hook stands in the way of.
local apps = { athena = require "spec.service.athena.app", cognite = require "spec.service.cognite.app",
  geolens = require "spec.service.geolens.app" }
local config = require "longshore.config"
local json = require "longshore.json"
local rules = require "longshore.policy.rules"
local service = require "longshore.service"
local support = require "spec.support"
local worlds = require "spec.support.broker"

local CSV = "id\n1\n"
local NONE = json.array {}

local sends = {}

-- newton, whose requests are these alone.
apps.newton = { new = function()
  local one = { world = worlds.new() }
  local settings = assert(config.check { data = support.tmpdir(), services = { newton = {} } })
  one.app = assert(service.new(settings, { broker = one.world.broker,
    tokens = { verify = function() return worlds.actor() end } }))
  function one:send(method, path, value)
    local response = self.app:handle { method = method, target = "/v0.5/files/" .. path, headers = {
      authorization = "Bearer x", ["content-type"] = value and "application/json" },
      body = value and json.encode(value) }
    if response.body and response.body:find("^{") then response.json = assert(json.decode(response.body)) end
    return response
  end
  return one
end }

function sends.newton(app)
  local steps, upload, parts = {}, nil, {}
  function steps.initiate()
    local response = app:send("POST", "uploads/initiate",
      { filename = "a.csv", file_type = "text/csv", num_bytes = #CSV })
    upload = response.json
    return response
  end
  function steps.put()
    for i, part in ipairs(upload.parts) do
      local _, etag = app.world.provider:client_put(part.url, CSV:sub(part.offset + 1, part.offset + part.length))
      parts[i] = { part_number = part.part_number, part_token = etag }
    end
  end
  function steps.complete()
    return app:send("POST", "uploads/" .. upload.upload_id .. "/complete", { parts = parts })
  end
  function steps.abort() return app:send("POST", "uploads/" .. upload.upload_id .. "/abort", {}) end
  function steps.download() return app:send("GET", "download/a.csv") end
  function steps.delete() return app:send("DELETE", "delete/a.csv") end
  return steps
end

function sends.athena(app)
  local steps, made = {}, nil
  function steps.initiate()
    local response = app:send("POST", "files/upload-url", apps.athena.request("a.csv", { size_bytes = #CSV }))
    made = response.status == 201 and response.json.data or nil
    return response
  end
  function steps.put() assert(app.world.provider:client_put(made.upload.url, CSV) == 200) end
  function steps.download() return app:send("GET", ("files/%s/url?purpose=download"):format(made.file.id)) end
  function steps.show()
    return app:send("POST", ("files/%s/visibility"):format(made.file.id), { visibility = "public" })
  end
  function steps.delete() return app:send("DELETE", "files/" .. made.file.id) end
  return steps
end

function sends.cognite(app)
  local steps, made = {}, nil
  function steps.initiate()
    local response = app:send("", { name = "a.csv" })
    made = response.json
    return response
  end
  function steps.put()
    assert(app.world.provider:client_put(made.uploadUrl, CSV) == 200)
    app.world.clock.advance(1)
  end
  function steps.download() return app:send("/downloadlink", { items = { { id = made.id } } }) end
  function steps.delete() return app:send("/delete", { items = { { id = made.id } } }) end
  return steps
end

function sends.geolens(app)
  local steps, started = {}, nil
  function steps.initiate()
    local response = app:send("POST", "ingest/upload/presigned",
      { filename = "a.csv", file_size = #CSV, content_type = "text/csv" })
    started = response.json
    return response
  end
  function steps.put() app:put(started, CSV, "text/csv") end
  function steps.complete()
    return app:send("POST", ("ingest/upload/presigned/%s/complete"):format(started.job_id), { parts = NONE })
  end
  function steps.commit() return app:send("POST", "ingest/commit/" .. started.job_id, { title = "A" }) end
  function steps.download()
    local job = app:send("GET", "jobs/" .. started.job_id).json
    return app:send("GET", ("datasets/%s/download"):format(job.dataset_id))
  end
  return steps
end

-- service -> hook -> the step that it stands before, after those that are done.
local MOMENTS = {
  newton = { authenticate = "initiate", authorize = "initiate", before_initiate = "initiate", before_sign = "initiate",
    before_complete = "complete", before_register = "complete", before_abort = "abort", before_download = "download",
    before_delete = "delete" },
  athena = { authenticate = "initiate", authorize = "initiate", before_initiate = "initiate", before_sign = "initiate",
    before_download = "download", before_visibility = "show", before_delete = "delete" },
  cognite = { authenticate = "initiate", authorize = "initiate", before_initiate = "initiate",
    before_sign = "initiate", before_download = "download", before_delete = "delete" },
  geolens = { authenticate = "initiate", authorize = "initiate", before_initiate = "initiate",
    before_sign = "initiate", before_complete = "complete", before_register = "complete",
    before_download = "download" },
}
local BEFORE = {
  initiate = {}, complete = { "initiate", "put" }, abort = { "initiate" },
  download = { "initiate", "put", "complete", "commit" }, delete = { "initiate", "put", "complete" },
  show = { "initiate", "put" },
}

-- What the client is told: status, message, and the code where the service has words for it.
local TOLD = {
  newton = function(body) return body.errors[1].message, body.errors[1].code end,
  athena = function(body) return body.message, body.code end,
  cognite = function(body) return body.error.message, nil, body.error.code end,
  geolens = function(body) return body.detail, nil, body.status end,
}

describe("a refusal by a policy", function()
  after_each(support.cleanup)

  -- A service where one hook answers this from now on.
  local function asked(name, hook, answer)
    local app = apps[name].new()
    local on = false
    local policy = app.world.broker.policy
    table.insert(policy.policies, { [hook] = function() if on then return false, answer end end })
    local steps, last = sends[name](app), MOMENTS[name][hook]
    for _, step in ipairs(BEFORE[last]) do
      local response = steps[step] and steps[step]()
      assert.is_true(response == nil or response.status < 300, response and response.body)
    end
    on = true
    return steps[last](), app, steps
  end

  for name, hooks in pairs(MOMENTS) do
    for hook in pairs(hooks) do
      it(("%s: of %s has its own status, code and message"):format(name, hook), function()
        local response = asked(name, hook, { code = "licence", status = 451, message = "no licence for this" })
        assert.equal(451, response.status)
        local message, code, status = TOLD[name](response.json)
        assert.equal("no licence for this", message)
        assert.equal("licence", code or "licence")
        assert.equal(451, status or 451)
      end)
    end

    it(name .. ": with nothing said is 403; one that can be repeated says when", function()
      local response = asked(name, "before_initiate", { message = "not you" })
      assert.same({ 403, "not you" }, { response.status, (TOLD[name](response.json)) })
      response = asked(name, "before_initiate", { code = "moonphase" })
      assert.same({ 403, "the policy does not allow this" }, { response.status, (TOLD[name](response.json)) })
      response = asked(name, "before_initiate", { code = "unavailable", retry_after = 7.2, message = "later" })
      assert.same({ 503, "8", "later" }, { response.status, response.headers["retry-after"],
        (TOLD[name](response.json)) })
    end)

    it(name .. ": that is none tells the client nothing of it", function()
      local response = asked(name, "before_initiate", { status = 200, message = "secret thoughts" })
      assert.equal(500, response.status)
      assert.is_nil(response.body:find("secret", 1, true))
    end)
  end

  it("is what somebody without a token meets, unless authenticate says at that service who it is", function()
    for name, send in pairs {
      newton = function(app)
        return app.app:handle { method = "POST", target = "/v0.5/files/uploads/initiate",
          headers = { ["content-type"] = "application/json" },
          body = json.encode { filename = "a.csv", file_type = "text/csv", num_bytes = #CSV } }
      end,
      athena = function(app)
        return app:send("POST", "files/upload-url", apps.athena.request("a.csv", { size_bytes = #CSV }),
          { token = false })
      end,
      cognite = function(app) return app:send("", { name = "a.csv" }, { token = false }) end,
      geolens = function(app)
        return app:send("POST", "ingest/upload/presigned", { filename = "a.csv", file_size = #CSV,
          content_type = "text/csv" }, { token = false })
      end,
    } do
      local app = apps[name].new()
      assert.equal(401, send(app).status, name)
      local actor
      table.insert(app.world.broker.policy.policies, rules.anonymous { organization = "box",
        tenant = name == "athena" and "north" or name == "cognite" and "harbour" or "default",
        services = { name } })
      table.insert(app.world.broker.policy.policies, { before_initiate = function(context) actor = context.actor end })
      local response = send(app)
      assert.is_true(response.status < 300, name .. ": " .. response.body)
      assert.same({ "anonymous", "box", { upload = true } }, { actor.user, actor.organization, actor.rights })
      assert.equal("table", type(actor.client))
    end
  end)

  it("of a ready-made rule has the status that it says", function()
    local app = apps.newton.new()
    table.insert(app.world.broker.policy.policies, rules.overwrite "if-match")
    local steps = sends.newton(app)
    steps.initiate()
    steps.put()
    assert.equal(200, steps.complete().status)
    assert.equal(412, steps.initiate().status)
  end)
end)

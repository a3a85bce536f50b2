-- What a sandboxed hook gets out of its host, when it asks for what it should not have.
local all = require "spec.policy.service_steps"
local support = require "spec.support"
local worlds = require "spec.support.broker"

describe("a sandboxed hook's host", function()
  after_each(support.cleanup)

  local w

  -- What a hook's body answered; what was logged of it when it failed.
  local function ask(body, options)
    options = options or {}
    local path = support.write_file(support.tmpdir() .. "/p.lua", [[return { before_initiate = function(context, host)
      local function body() ]] .. body .. [[ end
      return { metadata = { answer = body() } } end }]])
    options.policy = { file = path, fetch = { "http://127.0.0.1/", "http://127.0.0.1:1" } }
    w = worlds.new(options)
    local upload, err = w:initiate("x", { filename = "asked" })
    if not upload then
      assert.equal("internal", err.code)
      return nil, w.logged[1].fields.reason
    end
    local file = assert(w.store:file(upload.file_id))
    return require("longshore.json").decode(file.metadata).answer
  end

  it("sends texts, and no file of the broker's machine", function()
    local secret = support.write_file(support.tmpdir() .. "/secret", "the secret")
    local sent = {}
    local function transport(request)
      sent[#sent + 1] = request
      return { status = 200, headers = {}, body = "" }
    end
    for _, way in ipairs { ("body = { path = %q, offset = 0, length = 10 }"):format(secret),
      ("method = 'PUT', body = { path = %q }"):format(secret), "body = {}", "body = 5", "method = {}", "method = 5",
      "headers = 'x'" } do
      local answer, why = ask("local r = host.fetch { url = 'http://127.0.0.1/', " .. way .. " } return r.status",
        { transport = transport })
      assert.is_nil(answer, way)
      assert.truthy(why:find("host.fetch: .*%l+: a %l+ expected"), way .. ": " .. why)
    end
    assert.same({}, sent)
    assert.equal(200, ask("return host.fetch { url = 'http://127.0.0.1/', body = 'text' }.status",
      { transport = transport }))
    assert.equal("text", sent[1].body)
  end)

  it("answers what is too large to hand over with an error that a hook can catch", function()
    local json = require "longshore.json"
    local lists = {}
    for i = 1, 450000 do lists[i] = json.array() end
    local function transport()
      return { status = 200, headers = { ["content-type"] = "application/json" }, body = json.encode(lists) }
    end
    local answer = ask([[local seen = {}
      for i = 1, 3 do
        local ok, why = pcall(host.fetch, { url = 'http://127.0.0.1/' })
        seen[i] = tostring(ok) .. tostring(why)
      end
      return seen]], { transport = transport })
    for i = 1, 3 do assert.truthy(answer[i]:find("^false.*host.fetch: the answer is too large$"), answer[i]) end
    local nothing, why = ask("return host.fetch { url = 'http://127.0.0.1/' }", { transport = transport })
    assert.is_nil(nothing)
    assert.truthy(why:find("the answer is too large", 1, true), why)
  end)

  it("finds files of the service at hand, unless it names another", function()
    local found
    w = all.world { { before_initiate = function(context, host)
      found = { host.find { filename = context.filename },
        (host.find { filename = context.filename, service = "cognite" }) }
      return { if_exists = "replace" }
    end } }
    local file = assert(all.upload "newton")
    assert(all.steps.newton.start())
    assert.equal(file.id, found[1].id)
    assert.is_nil(found[2])
    local answer, why = ask "return host.find { filename = 'a', service = {} }"
    assert.is_nil(answer)
    assert.truthy(why:find("service: a text expected", 1, true), why)
    assert.is_nil(why:find("SELECT", 1, true))
  end)
end)

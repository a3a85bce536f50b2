-- What a policy rewrites reaches a service only as the contract has it: anything else is the policy's mistake, named
-- by hook and field, at every service, and leaves nothing behind.
local all = require "spec.policy.service_steps"
local json = require "longshore.json"
local support = require "spec.support"

describe("a rewrite", function()
  after_each(support.cleanup)

  local circle, w = {}, nil
  circle.within = { circle }

  local NO_DATA = { circle, { f = print }, { n = 0 / 0 }, { n = math.huge }, { deep = { { n = -math.huge } } },
    { 1, 2 }, { 1, 2, x = 3 }, { [1.5] = 1 }, { [true] = 1 }, { list = { 1, nil, 3 } }, json.array(),
    json.null, "x", 5 }

  local BAD = {
    metadata = NO_DATA,
    key = { "", "/a/{id}", "{id}/", "a//{id}", "../{id}", "a/./{id}", "{id} b", "{id}?x", "{id}\n", "\252/{id}",
      ("x"):rep(1024) .. "{id}", 5, {}, true,
      "shared", "shared/by/all" }, -- one object of several uploads
    provider = { "", "nowhere", "a\nb", "a\255b", 5, {} },
    content_type = { "", "video", "video/", "/mp4", "a b/c", "video/mp4\nx: y", "video/mp4;\0", "vid\195\188/mp4",
      "video/\255", "video/mp4; name=\255", ("x/"):rep(200), 5, {} },
    part_size = { 0, -1, 1.5, 0 / 0, math.huge, 2 ^ 53, "5", {} },
    upload_seconds = { 0, -1, 1.5, 0 / 0, math.huge, 315360001, "5", {} },
    max_running = { 0, -1, 1.5, 0 / 0, math.huge, "5" },
    if_exists = { "", "overwrite", true, {} },
    replaces = { "", ("x"):rep(65), 5, {} },
    quotas = { "x", { scope = "user", bytes = 1 }, { { bytes = 1 } }, { { scope = "all", bytes = 1 } },
      { { scope = "user", byte = 1 } }, { { scope = "user", bytes = -1 } }, { { scope = "user", bytes = 0 / 0 } },
      { { scope = "user", bytes = math.huge } }, { [2] = { scope = "user", bytes = 1 } },
      { { scope = "user", bytes = 1 }, user = { bytes = 1 } }, { 5 } },
    headers = { "x", { "no-store" }, { ["content-type"] = "a/b" }, { ["Cache-Control"] = "x" },
      { ["cache-control"] = "a\r\nb: c" }, { ["cache-control"] = "" }, { ["cache-control"] = " " },
      { ["cache-control"] = "x " }, { ["cache-control"] = 5 }, { ["content-disposition"] = "\195\188" },
      { ["cache-control"] = ("x"):rep(1025) } },
    tags = { "x", { "a" }, { a = 1 }, { a = "b\n" }, { ["a\0"] = "b" }, { a = "\195\188" }, { [""] = "a" },
      { [("x"):rep(129)] = "a" }, { a = ("x"):rep(257) } },
  }

  local function start(service, rule, policy)
    w = all.world({ rule }, { policy = policy })
    local called, started, err = pcall(all.steps[service].start)
    assert.is_true(called, tostring(started))
    return started, err
  end

  for _, service in ipairs(all.services) do
    it("that is none is a mistake of the policy, with hook and field: " .. service, function()
      for field, values in pairs(BAD) do
        for i, value in ipairs(values) do
          local what = ("%s %d: %s"):format(field, i, tostring(value))
          local started, err = start(service, { name = "mine", before_initiate = function(context)
            if type(value) == "string" then value = value:gsub("{id}", context.upload_id) end
            return { [field] = value }
          end })
          assert.is_nil(started, what)
          assert.equal("internal", err.code, what)
          assert.is_nil(err.message:find(field, 1, true), what) -- not the client's business
          local failed = all.failures()
          assert.equal(1, #failed, what)
          assert.same({ "before_initiate", field }, { failed[1].hook, failed[1].field }, what)
          assert.same({ 0, 0 }, { w.provider:left() }, what)
          support.cleanup()
        end
      end
    end)
  end

  it("may be what a service keeps: names, lists, null, deep tables", function()
    local metadata = { a = { 1, 2, { b = json.null } }, empty = json.array(), t = {}, n = 1.5, yes = true }
    for _, service in ipairs { "newton", "athena", "cognite" } do
      assert(start(service, { before_initiate = function() return { metadata = metadata } end }), service)
    end
    for _, content_type in ipairs { "text/plain", "text/plain; charset=utf-8", "application/vnd.x+json",
      'a/b ; x="y z"' } do
      assert(start("newton", { before_initiate = function() return { content_type = content_type } end }))
    end
    assert(start("newton", { before_initiate = function() return { quotas = {}, tags = {}, headers = {} } end }))
  end)

  it("of a key needs the file's id or the upload's: from a file too", function()
    local path = support.write_file(support.tmpdir() .. "/p.lua", [[return { before_initiate = function(context)
      return { key = "in/" .. (context.filename == "own" and context.file_id or "common") } end }]])
    w = all.world({}, { policy = { file = path } })
    assert(all.steps.newton.start { filename = "own" })
    local _, err = all.steps.newton.start { filename = "other" }
    assert.equal("internal", err.code)
    assert.truthy(all.failures()[1].reason:find("key: a key of its own (with context.file_id", 1, true))
  end)

  it("of what a URL to read says is checked, too", function()
    for field, values in pairs { url_seconds = { 0, -1, 1.5, 0 / 0, 604801, "5" },
      filename = { "", "a\nb", "a\255", 5, ("x"):rep(1025) }, content_type = { "html", "a/b\nx", "\255/a", 5 } } do
      for i, value in ipairs(values) do
        w = all.world { { before_download = function() return { [field] = value } end } }
        local file = assert(all.upload "newton")
        local grant, err = w.broker:download(all.actor, file.id)
        assert.is_nil(grant, field .. i)
        assert.equal("internal", err.code)
        assert.same({ "before_download", field }, { all.failures()[1].hook, all.failures()[1].field })
        support.cleanup()
      end
    end
  end)

  it("of the actor is data, of UTF-8", function()
    local chain = require "longshore.policy.chain"
    local function ask(fields)
      local logged
      local policy = chain.new({ { authenticate = function()
        local actor = { user = "u", organization = "o", tenant = "t", rights = {} }
        for name, value in pairs(fields) do actor[name] = value end
        return { actor = actor }
      end } }, function(_, _, what) logged = what end)
      return policy:decide("authenticate", {}), logged
    end
    assert(ask { client = { address = "::1" }, principal = { groups = { "a" } } })
    for _, bad in ipairs { { client = circle }, { client = { f = print } }, { principal = { 0 / 0 } },
      { user = "\255" }, { organization = "a\0" }, { tenant = "" }, { rights = { root = true } },
      { rights = { read = 1 } },
      { rate = { requests = 0, seconds = 1 } }, { colour = "red" } } do
      local decision, logged = ask(bad)
      assert.is_nil(decision, (next(bad)))
      assert.same({ "authenticate", "actor" }, { logged.hook, logged.field })
    end
  end)

  it("changes nothing of what was shown, however deep", function()
    local metadata = { a = { b = { c = { d = 1 } } } }
    w = all.world { { before_initiate = function(context) context.metadata.a.b.c.d = 2 end } }
    assert(all.steps.newton.start { metadata = metadata })
    assert.equal(1, metadata.a.b.c.d)
  end)
end)

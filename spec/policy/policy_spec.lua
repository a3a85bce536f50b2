local support = require "spec.support"
local chain = require "longshore.policy.chain"
local contract = require "longshore.policy.contract"
local keys = require "longshore.policy.keys"
local policy = require "longshore.policy"
local worlds = require "spec.support.broker"

local ANN = worlds.actor()

describe("policy: keys", function()
  it("are made of safe characters only, whatever the names", function()
    for _, name in ipairs { "acme", "A-b_9", "", "a b", "../..", "a/b", "ü", "\0", "_x", ".", "..", ("x"):rep(65),
      "%2e%2e", "a\nb", "~", "-" } do
      local word = keys.word(name)
      assert.is_true(keys.is_safe(word), word)
      assert.is_nil(word:find("/", 1, true))
      assert.is_true(keys.is_safe(keys.make("{service}/{organization}/{file_id}",
        { service = "newton", organization = name, file_id = "fil_x" })))
    end
  end)

  it("keep plain names and tell all others apart", function()
    assert.equal("acme", keys.word "acme")
    assert.equal("A-b_9", keys.word "A-b_9")
    local seen = {}
    for _, name in ipairs { "a b", "a_b", "a-b", "A b", "_a", "a  b", keys.word "a b", ("x"):rep(64), ("x"):rep(65) } do
      local word = keys.word(name)
      assert.is_nil(seen[word], name)
      seen[word] = name
    end
  end)

  it("that could do harm are recognised", function()
    for _, good in ipairs { "a", "a/b.c", "a-b_~/.x/..y", ("k"):rep(1024) } do assert.is_true(keys.is_safe(good)) end
    for _, bad in ipairs { "", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a b", "a+b", "a%2fb", "ü", "a\0",
      "a?b", "a#b", "a\\b", ("k"):rep(1025), 7, false } do
      assert.is_false(keys.is_safe(bad), tostring(bad))
    end
  end)

  it("come from layouts that give each upload its own", function()
    assert.is_true(keys.check_layout "{tenant}/{organization}/{user}/{upload_id}")
    for layout, why in pairs {
      ["{service}/{organization}"] = "share", ["{name}/{file_id}"] = "{name}", ["a b/{file_id}"] = "only",
      ["/{file_id}"] = "only", ["../{file_id}"] = "only", ["{file_id"] = "share",
    } do
      local ok, text = keys.check_layout(layout)
      assert.is_nil(ok)
      assert.truthy(text:find(why, 1, true), text)
    end
  end)
end)

describe("policy: options", function()
  it("have defaults", function()
    local p = assert(policy.new())
    assert.equal(250e9, p.settings.max_size)
    assert.equal(3600, p.settings.url_seconds)
    assert.equal(604800, p.settings.upload_seconds)
  end)

  it("are named when they are wrong", function()
    for field, value in pairs { max_size = -1, url_seconds = 604801, upload_seconds = 0, part_size = 1.5,
      download_seconds = "1h", layout = "{organization}", colour = "red", ["limits.instruction"] = 5000,
      ["limits.memory"] = "16M", ["limits.instructions"] = 1.5, ["limits.seconds"] = 0 / 0, ["limits.waiting"] = -1,
      ["fetch.1"] = "example.com", ["fetch.1 "] = "ftp://a.example/", ["fetch.1  "] = "https://",
      ["fetch.1   "] = "https://a.example/?x", ["fetch.1    "] = 5,
      ["fetch.1     "] = "https://u:p@a.example/" } do
      local option, nested = field:match("^(%l+)%.([%w_]+)")
      if option then value = { [tonumber(nested) or nested] = value } end
      field = field:match("%S+")
      local p, err = policy.new { [option or field] = value }
      assert.is_nil(p)
      assert.equal("invalid", err.code)
      assert.equal(field, err.field)
    end
  end)

  it("refuse rules that are none at once", function()
    assert.has_error(function() policy.new { rules = { { before_breakfast = function() end } } } end)
    assert.has_error(function() policy.new { rules = { { before_sign = true } } } end)
    assert.has_error(function() policy.new { rules = { function() end } } end)
  end)
end)

describe("policy: a chain", function()
  local logged
  local function new(...)
    logged = {}
    return chain.new({ ... }, function(level, message, fields)
      logged[#logged + 1] = { level = level, message = message, fields = fields }
    end)
  end

  it("asks in order, each seeing what was rewritten before it", function()
    local seen = {}
    local c = new(
      { before_initiate = function(x) seen[1] = x.key return { key = "b" } end },
      { before_initiate = function(x) seen[2] = x.key return true end },
      { before_initiate = function(x) seen[3] = x.key return { key = "c", part_size = 5 } end },
      { before_sign = function() error "not asked" end },
      { before_initiate = function(x) seen[4] = x.key end })
    local decision = assert(c:decide("before_initiate", { actor = ANN, key = "a" }))
    assert.same({ "a", "b", "b", "c" }, seen)
    assert.equal("c", decision.key)
    assert.equal(5, decision.part_size)
  end)

  it("stops at the first that refuses, with its words", function()
    local c = new({ before_delete = function() return false, { code = "quota", message = "full", status = 402,
      retry_after = 9 } end }, { before_delete = function() error "not asked" end })
    local ok, err = c:decide("before_delete", { actor = ANN })
    assert.is_nil(ok)
    assert.equal("quota", err.code)
    assert.equal("full", err.message)
    assert.equal(402, err.status)
    assert.equal(9, err.retry_after)
    assert.equal("before_delete", err.hook)
    for _, hook in ipairs { function() return false end, function() return false, "no" end,
      function() return nil, "no" end } do
      err = select(2, new({ before_delete = hook }):decide("before_delete", { actor = ANN }))
      assert.equal("forbidden", err.code)
    end
  end)

  it("shows a client's own words in a refusal without control characters, and not for ever", function()
    for _, reason in ipairs { "a\nb\0c", { message = "a\nb\0c", field = "metadata.x\r" } } do
      local _, err = new({ before_delete = function() return false, reason end }):decide("before_delete", {})
      assert.equal("a b c", err.message)
      assert.is_true(err.field == nil or err.field == "metadata.x ")
    end
    local _, err = new({ before_delete = function() return false, ("\195\164"):rep(5000) end })
      :decide("before_delete", {})
    assert.equal(2001, #err.message)
    _, err = new({ before_delete = function() return false, "x" .. ("\195\164"):rep(5000) end })
      :decide("before_delete", {})
    assert.equal("x" .. ("\195\164"):rep(999) .. "...", err.message)
  end)

  it("takes a refusal for a mistake in the policy that says what none can, and names the field", function()
    for field, values in pairs {
      status = { 200, 302, 600, 404.5, "404", 0 / 0 }, code = { "internal", "no spaces", "", 7, ("x"):rep(65), "a\nb" },
      message = { 7, {}, false }, retry_after = { "9", -1, 1e300, math.huge, 0 / 0 }, retryable = { "no", 1 },
      nonsense = { 1 }, detail = { {} }, problems = { "x" }, refused = { false }, hook = { "x" },
    } do
      for _, value in ipairs(values) do
        logged = {}
        local ok, err = new({ name = "mine", before_delete = function() return false, { [field] = value } end })
          :decide("before_delete", {})
        assert.is_nil(ok)
        assert.same({ "internal", "before_delete" }, { err.code, err.hook })
        assert.is_nil(err.refused)
        assert.same({ "before_delete", "mine", field },
          { logged[1].fields.hook, logged[1].fields.policy, logged[1].fields.field })
      end
    end
  end)

  it("lets nothing be rewritten but what the contract lists, of the right kind", function()
    for field, value in pairs { actor = {}, size = 1, upload_id = "upl_x", key = "../x", part_size = 0,
      upload_seconds = "7d", content_type = "a\nb", provider = "", nonsense = 1 } do
      local ok, err = new({ name = "mine", before_initiate = function() return { [field] = value } end })
        :decide("before_initiate", { actor = ANN })
      assert.is_nil(ok)
      assert.equal("internal", err.code)
      assert.equal("before_initiate", err.hook)
      assert.is_nil(err.message:find(field, 1, true)) -- the client learns nothing of it
      assert.truthy(logged[1].fields.reason:find(field, 1, true))
      assert.equal("mine", logged[1].fields.policy)
    end
    assert.equal("internal", select(2, new({ before_delete = function() return { file = 1 } end })
      :decide("before_delete", { actor = ANN })).code)
    assert.equal("internal", select(2, new({ before_delete = function() return "yes" end })
      :decide("before_delete", { actor = ANN })).code)
  end)

  it("refuses when a hook breaks, and logs why", function()
    local _, err = new({ before_delete = function() error("secret detail") end })
      :decide("before_delete", { actor = ANN })
    assert.equal("internal", err.code)
    assert.is_nil(tostring(err):find("secret detail", 1, true))
    assert.truthy(logged[1].fields.reason:find("secret detail", 1, true))
  end)

  it("gives each hook a copy: nothing is changed behind the contract's back", function()
    local context = { actor = worlds.actor(), file = { id = "f" }, metadata = { a = 1 } }
    assert(new({ before_initiate = function(x)
      x.actor.rights.admin, x.actor.organization, x.file.id, x.metadata.a, x.key = true, "evil", "g", 2, "k"
    end }):decide("before_initiate", context))
    assert.is_nil(context.actor.rights.admin)
    assert.equal("acme", context.actor.organization)
    assert.equal("f", context.file.id)
    assert.equal(1, context.metadata.a)
    assert.is_nil(context.key)
  end)

  it("tells everybody afterwards, whatever they do", function()
    local told = 0
    local c = new({ after_complete = function() told = told + 1 error "x" end },
      { after_complete = function() told = told + 1 return false end })
    c:notify("after_complete", { actor = ANN })
    assert.equal(2, told)
    assert.equal(1, #logged)
  end)

  it("has hooks that are documented: what they see, what they may rewrite", function()
    for name, hook in pairs(contract.hooks) do
      assert.equal("table", type(hook.sees), name)
      assert.equal(name:find("^after_") ~= nil, hook.after == true, name)
      if hook.after then assert.is_nil(hook.rewrites) end
    end
  end)
end)

describe("policy: the broker", function()
  teardown(support.cleanup)

  local BODY = "0123456789"

  -- Which hook each call asks, with what it shows.
  it("asks before everything and tells afterwards", function()
    local asked = {}
    local spy = { name = "spy" }
    for name in pairs(contract.hooks) do
      spy[name] = function(context)
        asked[#asked + 1] = name
        for _, field in ipairs(contract.hooks[name].sees) do
          local optional = ({ metadata = true, max_size = true, part_size = true, quotas = true, headers = true,
            tags = true, client_key = true, current = true, file = true })[field]
          assert(context[field] ~= nil or optional, name .. " does not show " .. field)
        end
        assert(context.actor or name == "after_expire" or context.upload, name)
      end
    end
    local w = worlds.new { rules = { spy } }
    local function during(fn)
      asked = {}
      fn()
      for _, line in ipairs(w.logged) do assert.are_not.equal("policy failed", line.message, line.fields.reason) end
      return asked
    end
    local upload, parts, file
    assert.same({ "authorize", "before_initiate", "authorize", "before_sign" },
      during(function() upload, parts = w:upload(BODY) end))
    assert.same({ "authorize" }, during(function() w.broker:checkpoint(ANN, upload.id, parts) end))
    assert.same({ "authorize", "before_initiate" }, during(function() w:initiate(BODY, { resume = true }) end))
    assert.same({ "authorize", "before_complete", "before_register", "after_complete" }, during(function()
      file = assert(w.broker:complete(ANN, upload.id, { parts = parts }))
    end))
    assert.same({ "authorize", "before_download" }, during(function() w.broker:download(ANN, file.id) end))
    assert.same({ "authorize", "before_delete", "after_delete" }, during(function()
      w.broker:delete_file(ANN, file.id)
    end))
    upload = w:upload(BODY)
    assert.same({ "authorize", "before_abort", "after_abort" }, during(function() w.broker:abort(ANN, upload.id) end))
    w:upload(BODY)
    w.clock.advance(8 * 86400)
    assert.same({ "after_expire" }, during(function() w.broker:janitor() end))
    upload, parts = w:upload(BODY)
    assert.same({ "authorize", "after_fail" }, during(function()
      w.broker:complete(ANN, upload.id, { parts = parts, crc32c = 1 })
    end))
  end)

  it("does nothing that is refused", function()
    local refuse = {}
    local rule = {}
    for _, name in ipairs { "authorize", "before_initiate", "before_sign", "before_complete", "before_abort",
      "before_download", "before_delete" } do
      rule[name] = function()
        if refuse[name] then return false, { code = "forbidden", message = "not " .. name } end
      end
    end
    local w = worlds.new { rules = { rule } }
    local function refused(name, call)
      refuse[name] = true
      local ok, err = call()
      refuse[name] = nil
      assert.is_nil(ok)
      assert.equal("not " .. name, err.message)
    end
    for _, name in ipairs { "authorize", "before_initiate" } do
      refused(name, function() return w:initiate(BODY) end)
    end
    assert.same({}, w.store:count_uploads())
    assert.same({}, w.provider.calls)
    local upload, parts = w:upload(BODY)
    local signed = w.provider.counter
    refused("before_sign", function() return w.broker:part_urls(ANN, upload.id) end)
    assert.equal(signed, w.provider.counter)
    refused("before_abort", function() return w.broker:abort(ANN, upload.id) end)
    refused("before_complete", function() return w.broker:complete(ANN, upload.id, { parts = parts }) end)
    assert.equal("uploading", assert(w.broker:upload(ANN, upload.id)).state)
    assert.same({ 0, 1 }, { w.provider:left() })
    local file = assert(w.broker:complete(ANN, upload.id, { parts = parts }))
    refused("before_download", function() return w.broker:download(ANN, file.id) end)
    refused("before_delete", function() return w.broker:delete_file(ANN, file.id) end)
    refused("authorize", function() return w.broker:files(ANN) end)
    assert.equal("registered", assert(w.broker:file(ANN, file.id)).state)
  end)

  it("does as is rewritten", function()
    local w = worlds.new { rules = { {
      before_initiate = function(x)
        return { key = "vault/" .. x.file_id, content_type = "text/plain", part_size = 5, upload_seconds = 60,
          metadata = { by = x.actor.user } }
      end,
      before_sign = function() return { url_seconds = 30 } end,
      before_download = function() return { url_seconds = 5, filename = "safe.txt" } end,
    } } }
    local upload, parts = w:upload(BODY)
    assert.equal("vault/" .. upload.file_id, upload.key)
    assert.equal(2, upload.part_count)
    assert.equal(w.clock.now() + 60, upload.deadline)
    local urls = assert(w.broker:part_urls(ANN, upload.id))
    assert.equal(w.clock.now() + 30, urls[1].expires_at)
    local file = assert(w.broker:complete(ANN, upload.id, { parts = parts }))
    assert.equal("text/plain", file.content_type)
    assert.same({ by = "ann" }, file.metadata)
    assert.equal(w.clock.now() + 5, assert(w.broker:download(ANN, file.id)).expires_at)
  end)

  it("lays keys out as told", function()
    local w = worlds.new { policy = { layout = "{tenant}/{user}/{upload_id}" } }
    w.actor = worlds.actor { user = "Ann / Müller", tenant = "t1" }
    local upload = assert(w:initiate(BODY))
    assert.truthy(upload.key:find("^t1/_[0-9a-f]+/" .. upload.id .. "$"))
  end)
end)

local cli = require "spec.cli.support"
local json = require "longshore.json"
local support = require "spec.support"

describe("longshore policy", function()
  local folder
  setup(function() folder = support.tmpdir() end)
  teardown(support.cleanup)

  local function write(name, text) return support.write_file(folder .. "/" .. name, text) end

  local POLICY = [[
    local rules = require "longshore.policy.rules"
    return rules.chain { name = "mine", rules.size { max = 10 }, rules.rate { limit = 1 }, rules.hours {},
      { before_delete = function() return false, "never" end, after_abort = function() error "x" end,
        before_abort = function() while true do end end } }]]

  it("explains what a policy does", function()
    local path = write("p.lua", POLICY)
    local code, out = cli.run("policy", "check", path)
    assert.equal(0, code)
    for _, part in ipairs { "mine: in the sandbox", "0 bytes to 10 bytes", "before_delete", "after_abort" } do
      assert.truthy(out:find(part, 1, true), out)
    end
    code, out = cli.run("policy", "check", path, "--json")
    assert.equal(0, code)
    local described = assert(json.decode(out))
    assert.same(json.array { "after_abort", "before_abort", "before_complete", "before_delete", "before_initiate" },
      described.hooks)
    assert.equal("mine", described.name)
  end)

  it("names what keeps a policy from loading", function()
    for text, part in pairs { ["return {"] = "bad.lua:1",
      ["return { hook = function() end }"] = 'no hook "hook" (there are after_abort, after_complete',
      ["local rules = require 'longshore.policy.rules' return rules.size { maximum = 1 }"] = "maximum",
      ["return { name = os.getenv 'HOME' }"] = "os" } do
      local code, _, err = cli.run("policy", "check", write("bad.lua", text))
      assert.equal(1, code)
      assert.truthy(err:find(part, 1, true), err)
    end
    assert.equal(1, (cli.run("policy", "check", folder .. "/missing.lua")))
    assert.equal(2, (cli.run("policy", "check")))
    assert.equal(0, (cli.run("policy", "check", "--trusted", write("t.lua", "return { name = tostring(os.time()) }"))))
  end)

  it("runs cases: request in, decision out", function()
    local path = write("p.lua", POLICY)
    local cases = write("cases.lua", [[return {
      { name = "small", now = "2026-01-05T12:00:00Z", context = { size = 5 }, expect = { allow = true } },
      { name = "large", context = { size = 1 * KiB },
        expect = { refuse = "too_large", message = "10 bytes", field = "size" } },
      { name = "often", context = { size = 5 }, host = { take = 3 }, expect = { refuse = "rate_limited" } },
      { name = "at night", now = "2026-01-05T02:00:00Z", context = { size = 5 }, expect = { refuse = "forbidden" } },
      { name = "kept", hook = "before_delete", expect = { refuse = true } },
    }]])
    local code, out = cli.run("policy", "test", path, cases)
    assert.equal(0, code, out)
    assert.truthy(out:find("5 cases, 0 failed", 1, true), out)
  end)

  it("says which case came out otherwise", function()
    local path = write("p.lua", POLICY)
    local cases = write("cases.json", [=[[
      {"name": "large", "context": {"size": 5000}, "expect": {"allow": true}},
      {"name": "kept", "hook": "before_delete", "expect": {"refuse": "quota"}},
      {"name": "broken is not refused", "hook": "before_abort", "expect": {"refuse": true}},
      {"name": "told", "hook": "after_abort", "expect": {"allow": true}},
      {"name": "rewrites", "now": "2026-01-05T12:00:00Z", "context": {"size": 5}, "expect": {"rewrites": {"key": "k"}}},
      {"name": "fine", "hook": "before_delete", "expect": {"refuse": "forbidden", "message": "never"}}]]=])
    local code, out = cli.run("policy", "test", path, cases, "--json")
    assert.equal(1, code)
    local seen = {}
    for line in out:gmatch("[^\n]+") do
      local result = assert(json.decode(line))
      seen[result.name] = result
    end
    for _, name in ipairs { "large", "kept", "broken is not refused", "told", "rewrites" } do
      assert.is_false(seen[name].ok, name)
    end
    assert.is_true(seen.fine.ok)
    assert.truthy(seen["broken is not refused"].got:find("instructions", 1, true))
    code, out = cli.run("policy", "test", path, cases)
    assert.equal(1, code)
    assert.truthy(out:find("FAILED  large", 1, true), out)
    assert.truthy(out:find("6 cases, 5 failed", 1, true), out)
  end)

  it("says which line of a policy has an option that no rule has, or a value that none can have", function()
    for text, part in pairs {
      ["rules.siez { max = 5 }"] = 'there is no rule "siez"', ["rules.size { maxx = 5 }"] = 'no option "maxx"',
      ["rules.size { max = '5' }"] = "max: a whole number", ["rules.size {}"] = "max, min or announced is missing",
      ["rules.size { min = 2, max = 1 }"] = "min is more than max", ["rules.size(5)"] = "a table of options",
      ["rules.count { user = -1 }"] = "user: a whole number", ["rules.quota {}"] = "user or organization is missing",
      ["rules.quota { user = { bytes = 1.5 } }"] = "bytes: a whole number",
      ["rules.quota { user = {} }"] = "bytes, files or running is missing",
      ["rules.quota { user = { byte = 1 } }"] = 'no option "byte"',
      ["rules.rate { limit = 0 }"] = "limit: a number above 0",
      ["rules.rate { limit = 1, by = 'moon' }"] = "by: one of",
      ["rules.rate { limit = 1, seconds = 1e9 }"] = "at most a year", ["rules.rate {}"] = "limit",
      ["rules.expiry { url = -5 }"] = "url: a number above 0", ["rules.expiry { per_gib = 5 }"] = "upload is missing",
      ["rules.expiry { clients = { { upload = 5 } } }"] = "agent is missing",
      ["rules.hours { days = 'mon' }"] = "days: a list", ["rules.hours { days = { 'monday' } }"] = "days: mon",
      ["rules.hours { from = '8' }"] = "from: a time", ["rules.hours { zone = 'Europe/Berlin' }"] = "zone: ",
      ["rules.types { allow = { image = true } }"] = "allow: a list",
      ["rules.types { deny = { 'image' } }"] = '"image"',
      ["rules.types { allow = {} }"] = "allow: a list", ["rules.types {}"] = "allow or deny is missing",
      ["rules.extensions { allow = { 'tar.gz' } }"] = '"tar.gz"',
      ["rules.extensions { deny = { 1 } }"] = "deny: a list",
      ["rules.magic { strct = true }"] = 'no option "strct"', ["rules.antivirus {}"] = "url",
      ["rules.antivirus { url = 'http://a/', larger = 'alow' }"] = "larger: one of",
      ["rules.metadata { fields = { a = { requird = true } } }"] = 'metadata: a: there is no option "requird"',
      ["rules.metadata { fields = { a = { type = 'strin' } } }"] = "type: one of",
      ["rules.metadata { fields = { a = { pattern = '[a' } } }"] = "no pattern",
      ["rules.metadata { fields = { 'a' } }"] = "by name",
      ["rules.key 'a b/{file_id}'"] = "rules.key", ["rules.key '../{file_id}'"] = "rules.key",
      ["rules.key 'a/{file_id'"] = "rules.key",
      ["rules.key '{user}'"] = "{file_id}", ["rules.key '{colour}'"] = "{colour}",
      ["rules.bucket {}"] = "buckets is missing", ["rules.bucket { by = 'moon', buckets = {} }"] = "by: one of",
      ["rules.bucket { buckets = { 'a' } }"] = "the name of a bucket", ["rules.overwrite 'never'"] = "rules.overwrite",
      ["rules.storage_class {}"] = "a list expected",
      ["rules.storage_class { { class = 'X', lager = 5 } }"] = '"lager"',
      ["rules.encryption { algorithm = 'AES' }"] = "algorithm: one of",
      ["rules.encryption { algorithm = 'AES256', key = 'k' }"] = "no keys of one's own",
      ["rules.lock { days = 0 }"] = "days", ["rules.lock { days = 1, mode = 'SOFT' }"] = "mode: one of",
      ["rules.tags { set = { a = 1 } }"] = "rules.tags: set",
      ["rules.tags { actor = { 'rights' } }"] = "rules.tags: actor",
      ["rules.addresses { allow = { 'localhost' } }"] = '"localhost"', ["rules.addresses {}"] = "is missing",
      ["rules.anonymous {}"] = "organization is missing",
      ["rules.anonymous { organization = 'a', rights = { 'uplaod' } }"] = '"uplaod"',
      ["rules.anonymous { organization = 'a', services = { 'news' } }"] = '"news"', ["rules.forbid {}"] = "is missing",
      ["rules.forbid { uploads = true }"] = '"uploads"', ["rules.by('user', {})"] = "rules.by",
    } do
      local code, out, err = cli.run("policy", "check",
        write("wrong.lua", "local rules = require 'longshore.policy.rules'\nreturn {\n  " .. text .. ",\n}\n"))
      assert.equal(1, code, text .. "\n" .. out)
      assert.truthy(err:find("wrong.lua:3: ", 1, true), text .. "\n" .. err)
      assert.truthy(err:find(part, 1, true), text .. "\n" .. err)
    end
  end)

  it("does not take a hole in a list for its end", function()
    for _, list in ipairs { "rules.size { max = 1 }, nil, rules.types { allow = { 'a/b' } }", "[3] = rules.magic()",
      "[0] = rules.magic()", "[1.5] = rules.magic()" } do
      local code, _, err = cli.run("policy", "check",
        write("wrong.lua", "local rules = require 'longshore.policy.rules' return { " .. list .. " }"))
      assert.equal(1, code)
      assert.truthy(err:find("a table of hooks expected, got a nil", 1, true), err)
    end
  end)

  it("takes a file as an editor of Windows writes it", function()
    local text = "\239\187\191return {\r\n  name = 'ü',\r\n}\r\n"
    assert.equal(0, (cli.run("policy", "check", write("windows.lua", text))))
  end)

  it("names a folder, and a text that is no Lua", function()
    for path, part in pairs { [folder] = "directory", [write("bin.lua", "\255\254")] = "bin.lua:1",
      [write("bc.lua", "\27Lua")] = "bc.lua: bytecode", [write("e.lua", "")] = "e.lua: a policy is a table of hooks",
      [write("loop.lua", "while true do end")] = "loop.lua: stopped: out of instructions",
      [write("name.lua", "return { name = 5 }")] = "name: a text" } do
      local code, _, err = cli.run("policy", "check", path)
      assert.equal(1, code)
      assert.truthy(err:lower():find(part:lower(), 1, true), err)
    end
  end)

  it("shows the service of what a case is about", function()
    local path = write("p.lua", "return { before_sign = function(c) return false, c.service end }")
    local cases = write("c.lua", [[return {
      { hook = "before_sign", expect = { message = "newton" } },
      { hook = "before_sign", context = { upload = { service = "athena" } }, expect = { message = "athena" } },
      { hook = "before_sign", context = { service = "cognite" }, expect = { message = "cognite" } } }]])
    local code, out = cli.run("policy", "test", path, cases)
    assert.equal(0, code, out)
  end)

  it("tests the status and the field of a refusal", function()
    local path = write("p.lua", [[return { before_delete = function()
      return false, { code = "licence", status = 451, field = "file", message = "no licence" } end }]])
    for expect, code in pairs { ["status = 451"] = 0, ["status = 403"] = 1, ["field = 'file', refuse = 'licence'"] = 0,
      ["field = 'name'"] = 1, ["allow = false"] = 0, ["allow = true"] = 1, ["message = 'licence'"] = 0,
      ["refuse = false"] = 1 } do
      local cases = write("c.lua", "return { { hook = 'before_delete', expect = { " .. expect .. " } } }")
      local got, out, err = cli.run("policy", "test", path, cases)
      assert.equal(code, got, expect .. out .. err)
    end
  end)

  it("names a mistake in the cases", function()
    local path = write("p.lua", POLICY)
    for text, part in pairs {
      ["return { { name = 'n', expect = { refused = true } } }"] = 'case 1 (n): expect: there is no field "refused"',
      ["return { { expect = { refuse = 7 } } }"] = "refuse: a boolean or a string expected, got a number",
      ["return { { expect = { allow = true, refuse = true } } }"] = "not both",
      ["return { { expect = { rewrites = { kee = 1 } } } }"] = 'before_initiate rewrites no "kee"',
      ["return { { hook = 'before_delete', expect = { rewrites = { key = 'k' } } } }"] =
        'before_delete rewrites no "key"',
      ["return { { context = { siez = 1 }, expect = {} } }"] = 'before_initiate sees no "siez"',
      ["return { { host = { tale = 1 }, expect = {} } }"] = 'host: there is no field "tale"',
      ["return { { host = { take = {} }, expect = {} } }"] = "host: take: a number expected",
      ["return { { now = 'noon', expect = {} } }"] = "now: a time",
      ["return { { expect = {} }, 5 }"] = "case 2: a table expected",
      ["return { { expect = {} }, nil, { expect = {} } }"] = "case", -- a hole, whatever # says of it
      ["return { expect = {} }"] = "a list of cases", ["return 5"] = "a list of cases",
      ["return { { expect = {} }, name = 'x' }"] = 'not a field "name"',
      ["return (nil).x"] = "cases.lua:1: attempt to index",
      ["return { { expect = 1 } }"] = "expect: a table expected, got a number",
    } do
      local code, _, err = cli.run("policy", "test", path, write("cases.lua", text))
      assert.equal(1, code, text)
      assert.truthy(err:find(part, 1, true), text .. "\n" .. err)
      assert.truthy(err:find("cases.lua", 1, true), err)
    end
    for text, part in pairs { ["{"] = "cases.json", ["[1]"] = "case 1", ["null"] = "cases.json",
      ['[{"expect": null}]'] = "case 1", ['[{"expect": {"allow": null}}]'] = "case 1" } do
      local code, _, err = cli.run("policy", "test", path, write("cases.json", text))
      assert.equal(1, code, text)
      assert.truthy(err:find(part, 1, true), text .. "\n" .. err)
    end
    assert.equal(1, (cli.run("policy", "test", path, folder)))
    assert.equal(1, (cli.run("policy", "test", path, folder .. "/none.lua")))
    assert.equal(2, (cli.run("policy", "test", path)))
    for text, part in pairs { ["return {}"] = "a list of cases", ["return { { expect = {}, hok = 1 } }"] = "hok",
      ["return { { hook = 'x', expect = {} } }"] = '"x"', ["return { { } }"] = "expect", ["os.exit()"] = "os",
      ["return {"] = "cases.lua" } do
      local code, _, err = cli.run("policy", "test", path, write("cases.lua", text))
      assert.equal(1, code)
      assert.truthy(err:find(part, 1, true), err)
    end
  end)
end)

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
    for text, part in pairs { ["return {"] = "bad.lua:1", ["return { hook = function() end }"] = "hook",
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

  it("names a mistake in the cases", function()
    local path = write("p.lua", POLICY)
    for text, part in pairs { ["return {}"] = "a list of cases", ["return { { expect = {}, hok = 1 } }"] = "hok",
      ["return { { hook = 'x', expect = {} } }"] = '"x"', ["return { { } }"] = "expect", ["os.exit()"] = "os",
      ["return {"] = "cases.lua" } do
      local code, _, err = cli.run("policy", "test", path, write("cases.lua", text))
      assert.equal(1, code)
      assert.truthy(err:find(part, 1, true), err)
    end
  end)
end)

-- The sandbox's own libraries: as elsewhere where they can be, and nobody's to change.
local marks = require "longshore.json.marks"
local sandbox = require "longshore.policy.sandbox"

describe("in the sandbox", function()
  local HOST = { echo = function(value) return value end, double = function(value) return value .. value end }

  local function new(body, modules)
    return assert(sandbox.new { name = "p", modules = modules, services = { "echo", "double" },
      text = "return { before_sign = function(context, host) " .. body .. " end }" })
  end

  local function run(body, context, modules)
    local ok, value, reason = new(body, modules):call("before_sign", context or {}, HOST)
    return ok, value, reason
  end

  it("random numbers are others in each state", function()
    local seen = {}
    for _ = 1, 5 do
      local ok, value = run "return { n = math.random(2 ^ 31 - 1) .. '-' .. math.random(2 ^ 31 - 1) }"
      assert.is_true(ok)
      assert.is_nil(seen[value.n])
      seen[value.n] = true
    end
  end)

  it("a replacement may ask the host", function()
    for body, expected in pairs {
      ["(('a b'):gsub('%w', function(c) return host.double(c) end))"] = "aa bb",
      ["(('a=1, b=2'):gsub('(%w)=(%d)', function(k, v) return host.double(v) .. k end))"] = "11a, 22b",
      ["(('abc'):gsub('()', function(at) return host.double(at) end))"] = "11a22b33c44",
      ["(('abc'):gsub('%w', function(c) if c == 'b' then return host.double(c) end end))"] = "abbc",
      ["(('abc'):gsub('%w', function(c) return c ~= 'b' and host.double(c) end, 2))"] = "aabc",
      ["select(2, ('abc'):gsub('%w', host.double)) .. ''"] = "3",
    } do
      assert.same({ true, { v = expected } }, { run("return { v = " .. body .. " }") }, body)
    end
    local _, err = run "return { v = (('a'):gsub('a', function() return {} end)) }"
    assert.truthy(err.message:find("invalid replacement value", 1, true))
    _, err = run "return { v = (('a'):gsub('a', function() error('mine', 0) end)) }"
    assert.equal("mine", err.message)
  end)

  it("nobody changes what all hooks have, by rawset neither", function()
    local box = new [[
      local tried = {}
      for _, t in ipairs { string, table, math, host } do
        tried[#tried + 1] = pcall(rawset, t, "find", 1) or pcall(function() t.find = 1 end)
      end
      local own = setmetatable({}, { __newindex = error })
      rawset(own, "x", 1)
      return { tried = tried, own = own.x, there = string.find == 1 or host.find == 1 }]]
    for _ = 1, 2 do
      assert.same({ true, { tried = { false, false, false, false }, own = 1, there = false } },
        { box:call("before_sign", {}, HOST) })
    end
  end)

  it("modules that require each other are told so; one that failed can be tried again", function()
    local asked = 0
    local function modules(name)
      asked = asked + 1
      if name == "fails" then return asked == 1 and "error 'away'" or "return { ok = true }" end
      return ({ a = "return require 'b'", b = "return require 'a'" })[name]
    end
    local _, err = run("require 'a'", nil, modules)
    assert.equal("error", err.code)
    assert.truthy(err.message:find('module "a" requires itself', 1, true), err.message)
    asked = 0
    assert.same({ true, { false, true } }, { run([[return { (pcall(require, 'fails')), require('fails').ok }]], nil,
      modules) })
  end)

  it("an error has some words, not a megabyte of them", function()
    local _, err = run "error('why ' .. ('x'):rep(1000000))"
    assert.equal("error", err.code)
    assert.truthy(err.message:find("^p:1: why xxx.*%.%.%.$"))
    assert.is_true(#err.message < 1100)
  end)

  it("data may be nested as deep as JSON has it", function()
    local deep = {}
    local inner = deep
    for _ = 1, marks.max_depth do
      inner.x = {}
      inner = inner.x
    end
    local ok, back = run("return { m = host.echo(context.metadata) }", { metadata = deep })
    assert.is_true(ok, tostring(back))
    assert.same(deep, back.m)
  end)

  it("what looks like an anchor to gmatch is none, and takes no longer for it", function()
    local body = [[local n = 0
      for _ in context.s:gmatch("^.-x") do n = n + 1 end
      return { n = n }]]
    local _, err = run(body, { s = ("^"):rep(4900) })
    assert.equal("instructions", err.code)
  end)
end)

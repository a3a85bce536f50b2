-- The patterns of the sandbox are those of the C library, step for step.
local patterns = require "longshore.policy.sandbox.pattern"

describe("the sandbox's patterns", function()
  local ITEMS = { "a", "b", "%a", "[ab]", "[^a]", ".", "%d", "(", ")", "()", "%b()", "%f[%w]", "%1", "x", "[%]a]", "%%",
    "[a-b]", "^", "$", "[", "%" }
  local SUFFIXES = { "", "", "", "*", "+", "-", "?" }

  local seed
  before_each(function() seed = 7 end)
  local function random(n)
    seed = (seed * 16807) % 2147483647
    return seed % n + 1
  end

  local function random_case()
    local p = random(5) == 1 and "^" or ""
    for _ = 1, random(5) do p = p .. ITEMS[random(#ITEMS)] .. SUFFIXES[random(#SUFFIXES)] end
    local s = ""
    for _ = 1, random(10) - 1 do
      local at = random(9)
      s = s .. ("ab1 ()x%]"):sub(at, at)
    end
    return s, p
  end

  local function results(fn, ...)
    local function pack(ok, ...)
      if not ok then return "error" end
      local list = {}
      for i = 1, select("#", ...) do list[i] = tostring((select(i, ...))) end
      return table.concat(list, "|")
    end
    return pack(pcall(fn, ...))
  end

  local function collected(gmatch)
    return function(s, p)
      local list = {}
      for a, b in gmatch(s, p) do list[#list + 1] = tostring(a) .. tostring(b) end
      return table.concat(list, ";")
    end
  end

  for name, more in pairs { find = { 1, 3, -2 }, match = { 1, 2, -1 }, gsub = { "<%0>", "%1", "", 7 } } do
    it("agree with string." .. name, function()
      for _ = 1, 4000 do
        local s, p = random_case()
        for _, extra in ipairs(more) do
          assert.equal(results(string[name], s, p, extra), results(patterns[name], s, p, extra),
            ("%q %q %s"):format(s, p, tostring(extra)))
        end
      end
    end)
  end

  it("agree with string.gmatch", function()
    for _ = 1, 4000 do
      local s, p = random_case()
      if p:sub(1, 1) ~= "^" then
        assert.equal(results(collected(string.gmatch), s, p), results(collected(patterns.gmatch), s, p),
          ("%q %q"):format(s, p))
      end
    end
  end)

  it("replace by tables and functions, and so many times", function()
    for _, repl in ipairs { { a = "1", b = false }, function(c) return c == "a" and "2" or nil end } do
      assert.equal(("abcab"):gsub("%w", repl), (patterns.gsub("abcab", "%w", repl)))
    end
    assert.same({ "xxb", 2 }, { patterns.gsub("aab", "%w", "x", 2) })
    assert.has_error(function() patterns.gsub("a", "a", function() return {} end) end)
  end)
end)

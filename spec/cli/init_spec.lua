local cli = require "longshore.cli"
local common = require "longshore.cli.common"
local errors = require "longshore.errors"

describe("the longshore command", function()
  local out, err, saved

  before_each(function()
    out, err = {}, {}
    saved = { common.out, common.err, package.loaded["longshore.cli.put"] }
    common.out = function(text) out[#out + 1] = text end
    common.err = function(text) err[#err + 1] = text end
  end)

  after_each(function()
    common.out, common.err = saved[1], saved[2]
    package.loaded["longshore.cli.put"] = saved[3]
  end)

  local function run(...)
    local code = cli.run({ ... })
    return code, table.concat(out), table.concat(err)
  end

  local function command(run_it, configure)
    package.loaded["longshore.cli.put"] = {
      summary = "test",
      configure = configure or function(parser)
        parser:argument("file")
        parser:option("--size"):convert(common.size)
      end,
      run = run_it,
    }
  end

  it("names the command of a command whose usage was wrong", function()
    for _, words in ipairs { { "token", "create", "--expires", "x" }, { "policy", "check" } } do
      local name = words[1] .. " " .. words[2]
      local code, _, said = run(words[1], words[2], words[3], words[4])
      assert.equal(2, code)
      assert.truthy(said:find("longshore " .. name .. ": ", 1, true), said)
      assert.truthy(said:find("(see longshore " .. name .. " --help)", 1, true), said)
    end
    local _, _, said = run("token", "lst")
    assert.truthy(said:find("(see longshore token --help)", 1, true), said)
  end)

  it("lists its commands on stdout when asked, on stderr with code 2 when not", function()
    local code, o, e = run("--help")
    assert.equal(0, code)
    assert.equal("", e)
    for _, c in ipairs(cli.commands) do assert.truthy(o:find("  " .. c[1], 1, true)) end
    out = {}
    code, o, e = run()
    assert.equal(2, code)
    assert.equal("", o)
    assert.truthy(e:find("Usage:", 1, true))
  end)

  it("answers 2 for a command that does not exist, and names it", function()
    local code, o, e = run("shovel", "x")
    assert.equal(2, code)
    assert.equal("", o)
    assert.truthy(e:find('"shovel"', 1, true))
  end)

  it("gives the parsed words to the command and passes its code on", function()
    local seen
    command(function(args) seen = args return 3 end)
    local code = run("put", "a b", "--size", "8MiB")
    assert.equal(3, code)
    assert.equal("a b", seen.file)
    assert.equal(8388608, seen.size)
  end)

  it("prints help of a command and exits 0", function()
    command(function() error("must not run") end)
    local code, o, e = run("put", "--help")
    assert.equal(0, code)
    assert.truthy(o:find("longshore put", 1, true))
    assert.equal("", e)
    out = {}
    code, o = run("help", "put")
    assert.equal(0, code)
    assert.truthy(o:find("--size", 1, true))
  end)

  it("answers 2 with the usage for a wrong option, a missing argument, a bad value", function()
    command(function() error("must not run") end)
    for _, words in ipairs { { "put" }, { "put", "a", "--nope" }, { "put", "a", "--size", "big" } } do
      err = {}
      local code, o, e = run(common.unpack(words))
      assert.equal(2, code)
      assert.equal("", o)
      assert.truthy(e:find("Usage: longshore put", 1, true))
    end
    assert.truthy(table.concat(err):find('"big" is not a size', 1, true))
  end)

  it("answers 2 when the command says that its words make no sense", function()
    command(function() common.usage("one URL is missing") end)
    local code, _, e = run("put", "a")
    assert.equal(2, code)
    assert.truthy(e:find("one URL is missing", 1, true))
  end)

  it("prints a command's error without secrets and answers 1", function()
    command(function()
      return errors.fail("forbidden", "no: http://h/k?X-Amz-Signature=abcdef&x=1")
    end)
    local code, _, e = run("put", "a")
    assert.equal(1, code)
    assert.truthy(e:find("forbidden", 1, true))
    assert.falsy(e:find("abcdef", 1, true))
  end)

  it("calls a crash a bug and answers 1", function()
    command(function() error("boom") end)
    local code, _, e = run("put", "a")
    assert.equal(1, code)
    assert.truthy(e:find("bug in longshore", 1, true))
    assert.truthy(e:find("boom", 1, true))
  end)

  it("does not call Ctrl-C a bug", function()
    command(function() error("interrupted!") end) -- as Lua's own command raises it, wherever it was
    local code, _, e = run("put", "a")
    assert.equal(3, code)
    assert.equal("longshore put: interrupted\n", e)
  end)

  it("loads no command but the one asked for", function()
    package.loaded["longshore.cli.put"] = nil
    run("--help")
    assert.is_nil(package.loaded["longshore.cli.put"])
  end)
end)

describe("the help of every command", function()
  -- An argparse parser that only keeps what it is given.
  local function texts(command)
    local parser = setmetatable({}, { __index = function(self) return function() return self end end,
      __call = function(self) return self end })
    local epilog
    rawset(parser, "epilog", function(self, text) epilog = text return self end)
    command.configure(parser)
    return command.summary, epilog
  end

  for _, c in ipairs(cli.commands) do
    it("fits the terminal as it was written: " .. c[1], function()
      local printed, saved = {}, common.out
      common.out = function(text) printed[#printed + 1] = text end
      local code = cli.run { c[1], "--help" }
      common.out = saved
      assert.equal(0, code)
      local help = "\n" .. table.concat(printed) .. "\n"
      for line in help:gmatch "[^\n]*" do assert.is_true(#line <= 81, line) end
      local summary, epilog = texts(require("longshore.cli." .. c[1]))
      for line in (summary .. "\n" .. epilog):gmatch "[^\n]+" do
        assert.truthy(help:find("\n" .. line .. "\n", 1, true), line)
      end
      assert.truthy(epilog:find("Exit codes: 0", 1, true))
      assert.truthy(epilog:find("Examples:\n", 1, true))
    end)
  end
end)

describe("what a terminal gets", function()
  it("has no control characters of a name", function()
    assert.equal("a?[31m?b?c\195\188 ~", common.printable "a\27[31m\nb\194\155c\195\188 ~")
    assert.equal("?", common.printable "\0")
  end)
end)

describe("sizes, durations and numbers on the command line", function()
  it("are read with their units", function()
    assert.equal(1048576, common.size("1048576"))
    assert.equal(8388608, common.size("8MiB"))
    assert.equal(8388608, common.size("8m"))
    assert.equal(10000000, common.size("10MB"))
    assert.equal(1610612736, common.size("1.5G"))
    assert.equal(900, common.duration("900"))
    assert.equal(900, common.duration("15m"))
    assert.equal(604800, common.duration("7d"))
    assert.equal(10000, common.integer(1, 10000)("10000"))
  end)

  it("are whole numbers also after a fraction", function()
    assert.equal("1610612736", ("%s"):format(common.size("1.5G")))
  end)

  it("are refused with an example", function()
    for _, text in ipairs { "", "-1", "1x", "x", "1e3", "99999999TiB", "0x10" } do
      local value, why = common.size(text)
      assert.is_nil(value)
      assert.truthy(why:find("8MiB", 1, true))
      assert.is_nil((common.duration(text)))
    end
    for _, text in ipairs { "0", "10001", "1.5", "-1", "" } do
      assert.is_nil((common.integer(1, 10000)(text)))
    end
  end)
end)

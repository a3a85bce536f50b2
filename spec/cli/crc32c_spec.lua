local cli = require "spec.cli.support"
local json = require "longshore.json"
local support = require "spec.support"

describe("longshore crc32c", function()
  local dir, path

  before_each(function()
    dir = support.tmpdir()
    path = support.write_file(dir .. "/digits", "123456789")
  end)
  after_each(support.cleanup)

  it("prints checksum and name", function()
    local code, out = cli.run("crc32c", path)
    assert.equal(0, code)
    assert.equal("e3069283  " .. path .. "\n", out)
  end)

  it("prints the form that stores use", function()
    local _, out = cli.run("crc32c", "-b", path)
    assert.equal("4waSgw==  " .. path .. "\n", out)
  end)

  it("knows the empty file", function()
    local _, out = cli.run("crc32c", support.write_file(dir .. "/empty", ""))
    assert.equal("00000000", out:sub(1, 8))
  end)

  it("takes a range, the last byte included", function()
    support.write_file(dir .. "/more", "ab123456789cd")
    local _, out = cli.run("crc32c", "--range", "2-10", dir .. "/more")
    assert.equal("e3069283", out:sub(1, 8))
    _, out = cli.run("crc32c", "--range", "2-", support.write_file(dir .. "/tail", "ab123456789"))
    assert.equal("e3069283", out:sub(1, 8))
  end)

  it("refuses a range that is none, or that the file has not", function()
    for _, range in ipairs { "", "5", "9-2", "-5", "a-b", "0-99999999999999999999" } do
      assert.equal(2, (cli.run("crc32c", "--range", range, path)))
    end
    local code, _, err = cli.run("crc32c", "--range", "0-9", path)
    assert.equal(1, code)
    assert.truthy(err:find("no bytes 0-9", 1, true))
  end)

  it("goes on after a file that cannot be read, and answers 1", function()
    local code, out, err = cli.run("crc32c", dir .. "/missing", path)
    assert.equal(1, code)
    assert.truthy(out:find("e3069283", 1, true))
    assert.truthy(err:find("missing", 1, true))
  end)

  it("gives JSON", function()
    local _, out = cli.run("crc32c", "--json", path)
    assert.same({ name = path, ok = true, bytes = 9, crc32c = "4waSgw==", hex = "e3069283" }, json.decode(out))
  end)

  it("checks what it printed, in either form", function()
    for _, form in ipairs { {}, { "-b" } } do
      local _, list = cli.run("crc32c", path, form[1])
      local file = support.write_file(dir .. "/list", list)
      local code, out = cli.run("crc32c", "--check", file)
      assert.equal(0, code)
      assert.equal(path .. ": OK\n", out)
    end
  end)

  it("says which file differs, which is missing, which line is none", function()
    local list = support.write_file(dir .. "/list", ("00000000  %s\ne3069283  %s/gone\nrubbish\n"):format(path, dir))
    local code, out, err = cli.run("crc32c", "--check", list)
    assert.equal(1, code)
    assert.truthy(out:find(path .. ": FAILED\n", 1, true))
    assert.truthy(out:find("gone: FAILED (cannot be read)", 1, true))
    assert.truthy(err:find("line 3", 1, true))
    assert.truthy(err:find("3 lines are not right", 1, true))
    assert.equal(1, (cli.run("crc32c", "--check", dir .. "/nolist")))
  end)

  it("keeps a line for each file, whatever its name is", function()
    local odd = support.write_file(dir .. "/two\nlines \\n\r", "123456789")
    local code, list = cli.run("crc32c", odd, path)
    assert.equal(0, code)
    assert.equal(("\\e3069283  %s/two\\nlines \\\\n\\r\ne3069283  %s\n"):format(dir, path), list)
    local out
    code, out = cli.run("crc32c", "--check", support.write_file(dir .. "/list", list))
    assert.equal(0, code, out)
    assert.equal(("\\%s/two\\nlines \\\\n\\r: OK\n%s: OK\n"):format(dir, path), out)
    -- Lists of before, and of others, have backslashes as they are.
    local plain = support.write_file(dir .. "/back\\nslash", "123456789")
    assert.equal(0, (cli.run("crc32c", "--check", support.write_file(dir .. "/list", "e3069283  " .. plain .. "\n"))))
  end)

  it("does not call right what has nothing in it, or is no list", function()
    local function refused(list, ...)
      local code, _, err = cli.run("crc32c", "--check", list)
      assert.equal(1, code)
      for _, expected in ipairs { ... } do assert.truthy(err:find(expected, 1, true), err) end
      return err
    end
    refused(support.write_file(dir .. "/empty", ""), dir .. "/empty: there is no checksum in it")
    refused(dir, dir .. ": Is a directory")
    local err = refused(support.write_file(dir .. "/noise", ("noise\n"):rep(1000)), "noise, line 1:",
      "1000 lines are not right")
    assert.is_true(#err < 1000, "a line of complaint for each line")
  end)

  it("does not take for empty what cannot be read", function()
    local code, out = support.run(("cd %s && build/bin/longshore crc32c - < %s"):format(support.root,
      support.quote(dir)))
    assert.equal(1, code)
    assert.truthy(out:find("longshore crc32c: -: Is a directory", 1, true), out)
  end)

  it("reads standard input", function()
    for _, words in ipairs { "printf 123456789 | build/bin/longshore crc32c -",
      "printf ab123456789cd | build/bin/longshore crc32c --range 2-10 -" } do
      local code, out = support.run(("cd %s && %s"):format(support.root, words))
      assert.equal(0, code)
      assert.equal("e3069283  -\n", out)
    end
  end)
end)

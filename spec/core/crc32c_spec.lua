local core = require "longshore.core"
local support = require "spec.support"

-- A deterministic, incompressible enough text.
local function bytes(n)
  local out, x = {}, 12345
  for i = 1, n do
    x = (x * 1103 + 12289) % 65521
    out[i] = string.char(x % 256)
  end
  return table.concat(out)
end

describe("longshore.core CRC32C", function()
  teardown(function()
    core.crc32c_use(nil)
    support.cleanup()
  end)

  local data = bytes(5000)

  it("gives the published values, with every implementation", function()
    local names = core.crc32c_implementations()
    assert.equal("portable", names[#names])
    for _, name in ipairs(names) do
      core.crc32c_use(name)
      assert.equal(0xe3069283, core.crc32c("123456789"))
      assert.equal(0x8a9136aa, core.crc32c(("\0"):rep(32)))
      assert.equal(0, core.crc32c(""))
    end
    core.crc32c_use(nil)
  end)

  it("refuses an implementation that is not here", function()
    assert.has_error(function() core.crc32c_use("abacus") end)
  end)

  it("continues from what came before, split anywhere", function()
    local whole = core.crc32c(data)
    for at = 0, #data, 97 do
      assert.equal(whole, core.crc32c(data:sub(at + 1), core.crc32c(data:sub(1, at))))
    end
  end)

  it("combines parts to the whole, for the same and for other lengths", function()
    local whole = core.crc32c(data)
    for at = 0, #data, 89 do
      local a, b = data:sub(1, at), data:sub(at + 1)
      assert.equal(whole, core.crc32c_combine(core.crc32c(a), core.crc32c(b), #b))
      assert.equal(whole, core.crc32c_combine(core.crc32c(a), core.crc32c(b), #b))
    end
    assert.equal(7, core.crc32c_combine(7, 0, 0))
  end)

  it("streams through an object that can be reset", function()
    local stream = core.crc32c_new()
    assert.equal(0, stream:value())
    for i = 1, #data, 611 do
      assert.equal(stream, stream:update(data:sub(i, i + 610)))
    end
    assert.equal(core.crc32c(data), stream:value())
    assert.equal(#data, stream:length())
    assert.equal(core.crc32c_base64(core.crc32c(data)), stream:base64())
    assert.equal(0, stream:reset():value())
    assert.equal(0, stream:length())
    assert.has_error(function() stream.update({}, "x") end)
  end)

  it("reads and writes the Base64 form that stores use", function()
    assert.equal("yZRlqg==", core.crc32c_base64(core.crc32c("hello world")))
    assert.equal(core.crc32c("hello world"), core.crc32c_from_base64("yZRlqg=="))
    assert.equal("AAAAAA==", core.crc32c_base64(0))
    assert.equal(0xffffffff, core.crc32c_from_base64("/////w=="))
    for _, bad in ipairs { "", "yZRlqg", "yZRlqg=", "yZRlqh==", "yZRlqgA=", "yZRl qg==", "yZRl!g==", "yZRlqgAA" } do
      local crc, err = core.crc32c_from_base64(bad)
      assert.is_nil(crc)
      assert.equal("invalid", err.code)
    end
  end)

  it("refuses a CRC that is no 32-bit integer", function()
    for _, bad in ipairs { -1, 2 ^ 32, 1.5, "7", 0 / 0 } do
      assert.has_error(function() core.crc32c("x", bad) end)
      assert.has_error(function() core.crc32c_combine(bad, 0, 0) end)
      assert.has_error(function() core.crc32c_base64(bad) end)
    end
    assert.has_error(function() core.crc32c_combine(0, 0, -1) end)
    assert.has_error(function() core.crc32c_combine(0, 0, 2 ^ 53 + 2) end)
    assert.has_no.errors(function() core.crc32c_combine(0, 0, 2 ^ 53) end)
    local tointeger, least = rawget(math, "tointeger"), rawget(math, "mininteger")
    if tointeger then -- as a double this would be 2^53
      assert.has_error(function() core.crc32c_combine(0, 0, tointeger(2 ^ 53) + 1) end)
      assert.has_error(function() core.crc32c_combine(0, 0, least) end)
    end
  end)

  describe("of a file", function()
    local path

    setup(function()
      path = support.write_file(support.tmpdir() .. "/f", data)
    end)

    it("covers all of it, or the range asked for", function()
      local crc, n = core.crc32c_file(path)
      assert.equal(core.crc32c(data), crc)
      assert.equal(#data, n)
      crc, n = core.crc32c_file(path, { offset = 100, length = 321 })
      assert.equal(core.crc32c(data:sub(101, 421)), crc)
      assert.equal(321, n)
    end)

    it("tells how many bytes there were where the file is shorter", function()
      local crc, n = core.crc32c_file(path, { offset = 4000, length = 9999 })
      assert.equal(core.crc32c(data:sub(4001)), crc)
      assert.equal(1000, n)
      crc, n = core.crc32c_file(path, { offset = 6000 })
      assert.equal(0, crc)
      assert.equal(0, n)
    end)

    it("is the same by any number of threads, of any range", function()
      local large = path .. ".large"
      local block = bytes(65521)
      support.write_file(large, block:rep(200)) -- 12.5 MiB
      local whole = block:rep(200)
      local ranges = { { 0, nil }, { 1, 9000001 }, { 5, 5 }, { 12000000, nil }, { 0, 20000000 }, { 13104199, 9 } }
      for threads = 1, 7 do
        for _, range in ipairs(ranges) do
          local want = whole:sub(range[1] + 1, range[2] and range[1] + range[2])
          local crc, n = core.crc32c_file(large, { offset = range[1], length = range[2], threads = threads })
          assert.equal(core.crc32c(want), crc)
          assert.equal(#want, n)
        end
      end
      assert.equal(core.crc32c(whole), (core.crc32c_file(large)))
      for _, bad in ipairs { 0, 65, 1.5, "2" } do
        assert.has_error(function() core.crc32c_file(large, { threads = bad }) end)
      end
    end)

    it("reads what has no length to its end", function()
      local crc, n = core.crc32c_file("/dev/null", { threads = 4 })
      assert.equal(0, crc)
      assert.equal(0, n)
      assert.equal(1000, select(2, core.crc32c_file("/dev/zero", { length = 1000 })))
    end)

    it("answers an error for what cannot be read", function()
      local crc, err = core.crc32c_file(path .. ".missing")
      assert.is_nil(crc)
      assert.equal("not_found", err.code)
      crc, err = core.crc32c_file("/")
      assert.is_nil(crc)
      assert.equal("io", err.code)
      assert.has_error(function() core.crc32c_file("a\0b") end)
      assert.has_error(function() core.crc32c_file(path, { offset = -1 }) end)
      assert.has_error(function() core.crc32c_file(path, { length = 1.5 }) end)
      assert.error_matches(function() core.crc32c_file(path, { ofset = 1 }) end, "unknown option: ofset")
      assert.error_matches(function() core.digest_file(path, { sha265 = true }) end, "unknown option: sha265")
    end)
  end)
end)

local core = require "longshore.core"
local support = require "spec.support"

local all_bytes = {}
for i = 0, 255 do all_bytes[i + 1] = string.char(i) end
all_bytes = table.concat(all_bytes)

describe("longshore.core digests", function()
  teardown(support.cleanup)

  it("gives the published values", function()
    assert.equal("d41d8cd98f00b204e9800998ecf8427e", core.hex(core.md5("")))
    assert.equal("900150983cd24fb0d6963f7d28e17f72", core.hex(core.md5("abc")))
    assert.equal("a9993e364706816aba3e25717850c26c9cd0d89d", core.hex(core.sha1("abc")))
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", core.hex(core.sha256("abc")))
    assert.equal("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
      core.hex(core.hmac_sha256("Jefe", "what do ya want for nothing?")))
  end)

  it("reads a file once for all of them", function()
    local data = all_bytes:rep(5000)
    local path = support.write_file(support.tmpdir() .. "/f", data)
    local d = core.digest_file(path, { md5 = true, sha1 = true, sha256 = true, crc32c = true })
    assert.same({ bytes = #data, md5 = core.md5(data), sha1 = core.sha1(data), sha256 = core.sha256(data),
      crc32c = core.crc32c(data) }, d)
    d = core.digest_file(path, { offset = 3, length = 70000, md5 = true })
    assert.same({ bytes = 70000, md5 = core.md5(data:sub(4, 70003)) }, d)
    assert.same({ bytes = #data - 5 }, core.digest_file(path, { offset = 5 }))
    assert.same({ bytes = 0, crc32c = 0 }, core.digest_file(path, { offset = #data + 1, crc32c = true }))
    local none, err = core.digest_file(path .. "x", { md5 = true })
    assert.is_nil(none)
    assert.equal("not_found", err.code)
    assert.equal("number", type(err.errno))
  end)

  it("compares in constant time what is equal and what is not", function()
    assert.is_true(core.equal("", ""))
    assert.is_true(core.equal("a\0b", "a\0b"))
    assert.is_false(core.equal("a\0b", "a\0c"))
    assert.is_false(core.equal("a", "ab"))
  end)
end)

describe("longshore.core text forms", function()
  it("writes and reads hexadecimal", function()
    assert.equal("00ff10", core.hex("\0\255\16"))
    assert.equal(all_bytes, core.unhex(core.hex(all_bytes)))
    assert.equal("\171", core.unhex("Ab"))
    for _, bad in ipairs { "0", "0g", "+1", " 1" } do
      local s, err = core.unhex(bad)
      assert.is_nil(s)
      assert.equal("invalid", err.code)
    end
  end)

  it("writes and reads Base64, one text for each string", function()
    for n = 0, 66 do
      local s = all_bytes:sub(-n - 1, -2)
      assert.equal(s, core.unbase64(core.base64(s)))
      assert.equal(s, core.unbase64url(core.base64url(s)))
      assert.is_nil(core.base64url(s):find("[^%w_-]"))
    end
    assert.equal("Zm9vYg==", core.base64("foob"))
    assert.equal("Zm9vYg", core.base64url("foob"))
    assert.equal("foob", core.unbase64url("Zm9vYg=="))
    assert.equal("+/8=", core.base64("\251\255"))
    assert.equal("-_8", core.base64url("\251\255"))
    for _, bad in ipairs { "Z", "Zm9vYg", "Zm9vYg=", "Zm9vYh==", "Zm9=", "=", "====", "Zm9v\n",
      "Zm9vYg==Zm9v", "-_8=" } do
      assert.is_nil((core.unbase64(bad)), bad)
    end
    for _, bad in ipairs { "Z", "Zm9vYg=", "Zm9vYh", "+/8", "Zm9v====" } do
      assert.is_nil((core.unbase64url(bad)), bad)
    end
  end)

  it("percent-encodes by S3's rules", function()
    local bare = "ABCXYZabcxyz0189-._~"
    assert.equal(bare, core.uri_encode(bare))
    assert.equal("%20%2F%2B%25%21%27%28%29%2A%C3%BC%00%7F%FF", core.uri_encode(" /+%!'()*\195\188\0\127\255"))
    assert.equal("a//b/../c%20d", core.uri_encode("a//b/../c d", true))
    assert.equal("", core.uri_encode(""))
  end)

  it("decodes what it encoded, and refuses a broken escape", function()
    assert.equal(all_bytes, core.uri_decode(core.uri_encode(all_bytes)))
    assert.equal(all_bytes, core.uri_decode(core.uri_encode(all_bytes, true)))
    assert.equal("a+b", core.uri_decode("a+b"))
    assert.equal("a b+", core.uri_decode("a+b%2b", true))
    for _, bad in ipairs { "%", "%a", "a%zz", "%0", "%%20", "% 20" } do
      local s, err = core.uri_decode(bad)
      assert.is_nil(s)
      assert.equal("invalid", err.code)
    end
  end)
end)

describe("longshore.core files", function()
  teardown(support.cleanup)

  it("tells what a path is", function()
    local dir = support.tmpdir()
    local path = support.write_file(dir .. "/f", "12345")
    local stat = core.file_stat(path)
    assert.equal(5, stat.size)
    assert.equal("file", stat.type)
    assert.is_truthy(stat.mtime_ns:match("^%d+$"))
    assert.is_true(math.abs(tonumber(stat.mtime_ns) / 1e9 - core.now()) < 60)
    assert.equal(stat.inode, core.file_stat(path).inode)
    support.write_file(dir .. "/g", "x")
    assert.not_equal(stat.inode, core.file_stat(dir .. "/g").inode)
    assert.equal("directory", core.file_stat(dir).type)
    assert.equal("other", core.file_stat("/dev/null").type)
    local none, err = core.file_stat(path .. "/under")
    assert.is_nil(none)
    assert.equal("not_found", err.code)
    assert.is_truthy(tostring(err):find(path, 1, true))
  end)

  it("makes files and folders durable", function()
    local dir = support.tmpdir()
    assert.is_true(core.fsync(support.write_file(dir .. "/f", "x")))
    assert.is_true(core.fsync(dir))
    local ok, err = core.fsync(dir .. "/missing")
    assert.is_nil(ok)
    assert.equal("not_found", err.code)
  end)

  it("say how much room a file system has", function()
    local free = assert(core.disk_free("/tmp"))
    assert.equal(free, math.floor(free))
    assert.is_true(free > 0 and free < 2 ^ 53)
    local none, err = core.disk_free("/nowhere/at/all")
    assert.is_nil(none)
    assert.equal("not_found", err.code)
    assert.has_error(function() core.disk_free("a\0b") end)
  end)
end)

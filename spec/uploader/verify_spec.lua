local core = require "longshore.core"
local verify = require "longshore.uploader.verify"

describe("comparing what arrived", function()
  local data = "the bytes of a part"
  local md5 = core.md5(data)

  local function check(headers, more)
    local facts = { crc32c = core.crc32c(data), headers = headers, etag = "md5", known = {}, seen = {},
      md5 = function() return md5 end }
    for k, v in pairs(more or {}) do facts[k] = v end
    return verify.part(facts)
  end

  local good, bad = core.crc32c_base64(core.crc32c(data)), core.crc32c_base64(1)
  local quoted = '"' .. core.hex(md5) .. '"'
  local other = '"' .. ("0"):rep(32) .. '"'

  it("uses the store's CRC32C first, S3's or Google's", function()
    assert.equal("crc32c", check { ["x-amz-checksum-crc32c"] = good, etag = other })
    assert.equal("crc32c", check { ["x-goog-hash"] = "crc32c=" .. good .. ", md5=abc==" })
    for _, headers in ipairs { { ["x-amz-checksum-crc32c"] = bad, etag = quoted },
      { ["x-goog-hash"] = "md5=abc==,crc32c=" .. bad } } do
      local compared, err = check(headers)
      assert.is_nil(compared)
      assert.equal("integrity", err.code)
      assert.is_true(err.retryable)
    end
  end)

  it("else the MD5, where the ETag is one", function()
    assert.equal("md5", check { etag = quoted })
    assert.equal("md5", check { etag = quoted:upper() })
    assert.equal("integrity", select(2, check { etag = other }).code)
  end)

  it("else nothing", function()
    assert.equal("none", check({ etag = other }, { etag = "opaque" }))
    assert.equal("none", check { etag = '"d41d8cd98f00b204e9800998ecf8427e-3"' })
    assert.equal("none", check { etag = '"0x8DC"' })
    assert.equal("none", check {})
  end)

  it("does not take the ETag of encrypted objects for an MD5", function()
    assert.equal("none", check { etag = other, ["x-amz-server-side-encryption"] = "aws:kms" })
    assert.equal("none", check { etag = other, ["x-amz-server-side-encryption-customer-algorithm"] = "AES256" })
    assert.equal("integrity", select(2, check { etag = other, ["x-amz-server-side-encryption"] = "AES256" }).code)
  end)

  it("learns from equality what the ETag is", function()
    local known = {}
    assert.equal("md5", check({ etag = quoted }, { etag = "maybe", known = known }))
    assert.equal("md5", known.etag)
    assert.is_nil((check({ etag = other }, { etag = "maybe", known = known, seen = { "x" } })))
  end)

  it("asks for a second try before it believes that the ETag is none", function()
    local known, seen = {}, {}
    assert.is_nil((check({ etag = other }, { etag = "maybe", known = known, seen = seen })))
    assert.equal("none", check({ etag = other }, { etag = "maybe", known = known, seen = seen }))
    assert.equal("opaque", known.etag)
    assert.equal("none", check({ etag = other }, { etag = "maybe", known = known }))
  end)

  it("does not say that bytes arrived when they cannot be read again", function()
    local compared, err = check({ etag = quoted }, { md5 = function() return nil, { code = "io" } end })
    assert.is_nil(compared)
    assert.equal("io", err.code)
  end)

  it("strips quotes and weakness of ETags", function()
    assert.equal("abc", verify.bare_etag '"abc"')
    assert.equal("abc", verify.bare_etag "abc")
    assert.equal("abc", verify.bare_etag ' W/"abc" ')
    assert.is_nil(verify.bare_etag '""')
    assert.is_nil(verify.bare_etag(nil))
  end)
end)

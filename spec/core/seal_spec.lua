-- Sealed secrets, and SHA-256 as a stream.
local core = require "longshore.core"

describe("longshore.core.seal", function()
  local key = ("k"):rep(32)

  it("gives back what was sealed, with the same key and context only", function()
    for _, text in ipairs { "", "s", "secret\0with\255bytes", ("x"):rep(70000) } do
      local sealed = core.seal(key, text, "catalog 7")
      assert.equal(#text + 28, #sealed)
      assert.equal(text, core.open(key, sealed, "catalog 7"))
      for _, try in ipairs { { ("K"):rep(32), sealed, "catalog 7" }, { key, sealed, "catalog 8" }, { key, sealed },
        { key, sealed:sub(1, -2), "catalog 7" }, { key, sealed .. "x", "catalog 7" } } do
        local opened, err = core.open(try[1], try[2], try[3])
        assert.is_nil(opened)
        assert.equal("integrity", err.code)
        assert.is_nil(tostring(err):find("secret", 1, true))
      end
    end
  end)

  it("never seals alike, and shows nothing of the text", function()
    local a, b = core.seal(key, "secret"), core.seal(key, "secret")
    assert.not_equal(a, b)
    assert.is_nil(a:find("secret", 1, true))
  end)

  it("refuses what can be no key, and what is too long", function()
    assert.has_error(function() core.seal("short", "x") end)
    assert.has_error(function() core.open("short", "x") end)
    assert.equal("integrity", select(2, core.open(key, "short")).code)
    assert.equal("too_large", select(2, core.seal(key, ("x"):rep(1048577))).code)
    assert.equal("too_large", select(2, core.open(key, ("x"):rep(1048577 + 28))).code)
  end)
end)

describe("longshore.core.sha256_new", function()
  it("is the digest of all that came, however it was cut", function()
    local text = core.random(4000)
    for _, cut in ipairs { 0, 1, 63, 64, 65, 3999, 4000 } do
      local stream = core.sha256_new():update(text:sub(1, cut))
      assert.equal(core.sha256(text:sub(1, cut)), stream:value())
      assert.equal(core.sha256(text), stream:update(text:sub(cut + 1)):value())
      assert.equal(core.sha256(text), stream:value())
    end
    assert.has_error(function() core.sha256_new().update(io.stdout, "x") end)
  end)
end)

local errors = require "longshore.errors"

describe("longshore.errors", function()
  it("prints one line without signatures or tokens", function()
    local err = errors.new("store",
      "PUT http://h/b/k?X-Amz-Credential=AKID%2F1&X-Amz-Signature=abcdef0123 said 403\nBearer abc.def-123 x",
      { request_id = "r1" })
    local line = tostring(err)
    assert.is_nil(line:find("\n"))
    assert.is_nil(line:find("abcdef0123", 1, true))
    assert.is_nil(line:find("AKID", 1, true))
    assert.is_nil(line:find("abc.def-123", 1, true))
    assert.truthy(line:find("request r1", 1, true))
  end)

  it("leaves out what a signed URL has, and only that", function()
    local url = "PUT /k?X-Amz-Credential=AK%2F1&x-amz-signature=abc&X-Amz-Security-Token=TOK&partNumber=1"
    assert.equal("PUT /k?X-Amz-Credential=...&x-amz-signature=...&X-Amz-Security-Token=...&partNumber=1",
      errors.redact(url))
    assert.equal("/u?upload_id=...&a=1 /a?sig=... 1", errors.redact "/u?upload_id=xyz&a=1 /a?sig=abc 1")
    assert.equal("Credential=x, Signature=...", errors.redact "Credential=x, Signature=0123456789abcdef")
    assert.equal("signature=... bearer ...", errors.redact "signature=0123456789 bearer abc")
    for _, text in ipairs { "a signature of parts=3", "upload_id=upl_1", "who bears it", "50 % & more?" } do
      assert.equal(text, errors.redact(text))
    end
  end)

  it("makes one line of many, for a log", function()
    assert.equal("a b c", errors.one_line "a\nb\r\n\tc")
    assert.equal("a Bearer ... ", errors.one_line "a Bearer abc\n")
    assert.equal("a b", errors.one_line "a b")
  end)

  it("prints no token of ours, wherever it stands", function()
    local token = "ls_" .. ("a2"):rep(8) .. "_" .. ("b3"):rep(16)
    local line = tostring(errors.new("invalid", ('{"key":"%s"} and ls_files_of_mine'):format(token)))
    assert.equal('invalid: {"key":"ls_a2a2a2a2a2a2a2a2_..."} and ls_files_of_mine', line)
  end)

  it("leaves a URL's path out, wherever it stands", function()
    local url = "https://h.example:1/services/KEY?q=1"
    assert.equal("a (https://h.example:1/...) and https://h.example:1/...?x",
      errors.without_path("a (https://h.example:1/services/KEY) and https://h.example:1/services/KEY?x", url))
    for _, bare in ipairs { "https://h.example", "https://h.example/", "https://h.example?KEY", "nonsense" } do
      assert.equal("at " .. bare, errors.without_path("at " .. bare, bare))
    end
  end)

  it("knows its own, and turns anything else into one", function()
    assert.is_true(errors.is(errors.new("io", "x")))
    assert.is_false(errors.is({ code = "io" }))
    local err = errors.from("boom")
    assert.equal("internal", err.code)
    assert.equal("boom", err.message)
    assert.equal(err, errors.from(err))
  end)
end)

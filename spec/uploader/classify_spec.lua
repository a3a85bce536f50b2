local classify = require "longshore.uploader.classify"

local function answer(status, code, message, headers)
  local body = ""
  if code then
    body = ('<?xml version="1.0"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>'):format(code, message or "")
  end
  return { status = status, headers = headers or {}, body = body }
end

describe("what an answer means", function()
  local function kind(a, expires_at, now) return (classify.answer(a, expires_at, now)) end

  it("is decided by the status", function()
    local table_of = {
      [200] = "ok", [201] = "ok", [408] = "transient", [429] = "throttled", [503] = "throttled",
      [500] = "transient", [502] = "transient", [504] = "transient",
      [301] = "fatal", [307] = "fatal", [400] = "fatal", [401] = "fatal", [404] = "fatal", [405] = "fatal",
      [409] = "fatal", [411] = "fatal", [412] = "fatal", [413] = "fatal", [422] = "fatal", [501] = "fatal",
      [507] = "fatal",
    }
    for status, expected in pairs(table_of) do
      assert.equal(expected, kind(answer(status)), status)
    end
  end)

  it("is decided by the error code where there is one", function()
    local rows = {
      { 503, "SlowDown", "throttled" }, { 200 + 200, "RequestTimeout", "transient" },
      { 400, "IncompleteBody", "transient" }, { 500, "InternalError", "transient" },
      { 400, "BadDigest", "corrupted" }, { 400, "XAmzContentChecksumMismatch", "corrupted" },
      { 404, "NoSuchUpload", "gone" }, { 404, "NoSuchBucket", "fatal" }, { 404, "NoSuchKey", "fatal" },
      { 409, "OperationAborted", "transient" }, { 409, "BucketAlreadyExists", "fatal" },
      { 403, "RequestTimeTooSkewed", "skewed" }, { 400, "ExpiredToken", "expired" },
      { 400, "EntityTooSmall", "fatal" }, { 400, "EntityTooLarge", "fatal" }, { 400, "InvalidPart", "fatal" },
    }
    for _, row in ipairs(rows) do
      assert.equal(row[3], kind(answer(row[1], row[2])), row[2])
    end
  end)

  describe("for a 403", function()
    it("is expired when the store says so", function()
      assert.equal("expired", kind(answer(403, "AccessDenied", "Request has expired"), 2000, 1000))
    end)

    it("is expired when it came after the known expiry, by the store's own clock", function()
      local late = { date = "Wed, 21 Oct 2015 07:28:00 GMT" }
      assert.equal("expired", kind(answer(403, "AccessDenied", "", late), 1445412480 - 1, 0))
      assert.equal("fatal", kind(answer(403, "AccessDenied", "", late), 1445412480 + 60, 9e9))
      assert.equal("expired", kind(answer(403, "AccessDenied"), 1000, 1001))
    end)

    it("is expired when nobody knows the expiry", function()
      assert.equal("expired", kind(answer(403, "AccessDenied"), nil, 1000))
    end)

    it("is skewed when the URL lies in the store's future", function()
      assert.equal("skewed", kind(answer(403, "AccessDenied", "Request is not yet valid"), 2000, 1000))
      assert.equal("skewed", kind(answer(403, "AccessDenied", "Request is not valid yet"), 2000, 1000))
    end)

    it("is final before the expiry and for a wrong signature", function()
      assert.equal("fatal", kind(answer(403, "AccessDenied"), 2000, 1000))
      assert.equal("fatal", kind(answer(403, "SignatureDoesNotMatch"), 1000, 2000))
      assert.equal("fatal", kind(answer(403, "InvalidAccessKeyId"), nil, 2000))
    end)
  end)

  it("is expired for a 400 that mentions TokenExpired", function()
    assert.equal("expired", kind { status = 400, headers = {}, body = '{"e":"TokenExpired"}' })
  end)

  it("carries the store's words, code and request id in the error", function()
    local k, err = classify.answer(answer(403, "SignatureDoesNotMatch", "a &lt;b&gt; &amp; c", {
      ["x-amz-request-id"] = "R1" }))
    assert.equal("fatal", k)
    assert.equal("forbidden", err.code)
    assert.equal(403, err.status)
    assert.equal("SignatureDoesNotMatch", err.store_code)
    assert.equal("R1", err.request_id)
    assert.truthy(tostring(err):find("a <b> & c", 1, true))
    assert.is_nil(err.retryable)
    assert.is_true(select(2, classify.answer(answer(503))).retryable)
  end)

  it("reads Retry-After as seconds and as a date", function()
    assert.equal(7, classify.retry_after { ["retry-after"] = "7" })
    assert.equal(60, classify.retry_after { ["retry-after"] = "Wed, 21 Oct 2015 07:29:00 GMT",
      date = "Wed, 21 Oct 2015 07:28:00 GMT" })
    assert.is_nil(classify.retry_after {})
    assert.is_nil(classify.retry_after { ["retry-after"] = "soon" })
    assert.equal(3, select(2, classify.answer(answer(503, "SlowDown", "", { ["retry-after"] = "3" }))).retry_after)
  end)

  it("is no crash for a body that is no document", function()
    for _, body in ipairs { "", "<", "<Error><Code>", ("<Code>"):rep(1000), "\0\255" } do
      assert.equal("fatal", (classify.answer { status = 418, headers = {}, body = body }))
    end
  end)
end)

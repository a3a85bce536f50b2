-- What stores do when they do not do what they should: scripted answers.
local clock = require "longshore.clock"
local core = require "longshore.core"
local errors = require "longshore.errors"
local plan = require "longshore.plan"
local profiles = require "longshore.provider.profiles"
local s3 = require "longshore.provider.s3"

local NOW = 1767225600 -- 2026-01-01T00:00:00Z
local SECRET = "the-secret-of-the-spec"
local TOKEN = "the-session-token-of-the-spec"

local function http_date(t)
  return os.date("!%a, %d %b %Y %H:%M:%S GMT", t)
end

-- A transport that answers from a list (the last answer repeats) and keeps the
-- requests. An answer is a response, a function of the request, or an error.
local function scripted(answers)
  local seen = {}
  return function(request)
    seen[#seen + 1] = request
    local answer = answers[math.min(#seen, #answers)]
    if type(answer) == "function" then answer = answer(request) end
    if errors.is(answer) then return nil, answer end
    return { status = answer.status or 200, headers = answer.headers or {}, body = answer.body or "" }
  end, seen
end

local function fault(status, code, more)
  return { status = status, headers = { ["x-amz-request-id"] = "REQ1" },
    body = ("<?xml version='1.0'?>\n<Error><Code>%s</Code><Message>says the store</Message>%s</Error>")
      :format(code, more or "") }
end

local function document(name, inside)
  return { body = ('<?xml version="1.0" encoding="UTF-8"?>\n<%s xmlns="%s">%s</%s>')
    :format(name, "http://s3.amazonaws.com/doc/2006-03-01/", inside or "", name) }
end

local function provider(answers, changes)
  local transport, seen = scripted(answers)
  local time = clock.fixed(NOW)
  local slept = {}
  time.sleep = function(s) slept[#slept + 1] = s end
  local o = { profile = "aws", region = "eu-west-1", bucket = "bucket", access_key = "AKID", secret_key = SECRET,
    session_token = TOKEN, transport = transport, clock = time, random = function() return 1 end }
  for k, v in pairs(changes or {}) do o[k] = v end
  if changes and changes.credentials then o.access_key, o.secret_key, o.session_token = nil, nil, nil end
  return assert(s3.new(o)), seen, slept, time
end

local ETAG = ("a"):rep(32)
local parts = { { number = 1, etag = ETAG }, { number = 2, etag = '"' .. ETAG .. '"' } }
local done = document("CompleteMultipartUploadResult", "<ETag>&quot;e-2&quot;</ETag>")
local still_there = document("ListPartsResult", "<IsTruncated>false</IsTruncated>")

local function complete(p, more)
  local o = { key = "k", upload_id = "u", parts = parts }
  for k, v in pairs(more or {}) do o[k] = v end
  return p:complete_multipart(o)
end

describe("longshore.provider.s3 with a store that", function()
  describe("completes", function()
    it("with an error inside a 200 is asked again", function()
      for _, code in ipairs { "InternalError", "SlowDown" } do
        local p, seen, slept = provider { fault(200, code), still_there, done }
        assert.equal("e-2", assert(complete(p)).etag)
        assert.equal(3, #seen)
        assert.equal(1, #slept)
      end
    end)

    it("with any other error inside a 200 is not", function()
      local p, seen = provider { fault(200, "InvalidPart") }
      local result, err = complete(p)
      assert.is_nil(result)
      assert.equal("invalid", err.code)
      assert.equal("InvalidPart", err.store_code)
      assert.equal("REQ1", err.request_id)
      assert.equal(1, #seen)
    end)

    it("with white space before, between and after the declaration is understood", function()
      local body = (" "):rep(5000) .. '<?xml version="1.0"?>' .. ("\n "):rep(5000)
        .. "<CompleteMultipartUploadResult><ETag>e-2</ETag></CompleteMultipartUploadResult>\n\n"
      assert.equal("e-2", assert(complete((provider { { body = body } }))).etag)
    end)

    it("with an empty, cut or foreign answer has not succeeded", function()
      for _, body in ipairs { "", "   ", "<CompleteMultipartUploadResult><ETag>e", "<html></html>", "{}",
        "<Other/>" } do
        local p = provider({ { body = body } }, { attempts = 2 })
        local result, err = complete(p)
        assert.is_nil(result)
        assert.equal("unavailable", err.code)
        assert.is_true(err.retryable)
      end
    end)

    it("and then no longer knows the upload is taken at its object, if that is ours", function()
      local md5s = core.unhex(ETAG) .. core.unhex(ETAG)
      local ours = core.hex(core.md5(md5s)) .. "-2"
      local lost = errors.new("network", "the connection broke", { retryable = true })
      local function head(etag, marker)
        return { headers = { ["content-length"] = "7", etag = '"' .. etag .. '"',
          ["x-amz-meta-longshore-upload"] = marker } }
      end
      local function attempt(object, more, profile)
        local p, seen = provider({ lost, fault(404, "NoSuchUpload"), object }, { profile = profile })
        local result, err = complete(p, more)
        assert.equal("HEAD", seen[#seen].method)
        return result, err
      end
      assert.is_true(assert(attempt(head(ours))).recovered)
      assert.is_true(assert(attempt(head("x-2", "upl_1"), { marker = "upl_1", size = 7 })).recovered)
      assert.equal("not_found", select(2, attempt(head("x-2", "upl_1"), { marker = "upl_1", size = 8 })).code)
      assert.equal("not_found", select(2, attempt(head("x-2", "upl_2"), { marker = "upl_1", size = 7 })).code)
      assert.equal("not_found", select(2, attempt(head("x-2"))).code)
      assert.equal("not_found", select(2, attempt({ status = 404 })).code)
      -- Where an ETag is no MD5, an equal one proves nothing.
      assert.equal("not_found", select(2, attempt(head(ours), nil, { base = "aws", etag_is_md5 = false })).code)
    end)

    it("never hears of a list that is not 1..n", function()
      local p, seen = provider { done }
      for _, bad in ipairs { {}, { { number = 2, etag = ETAG } }, { { number = 1, etag = ETAG }, { number = 3,
        etag = ETAG } },
        { { number = 1, etag = ETAG }, { number = 1, etag = ETAG } }, { { number = 1 } }, { { etag = ETAG } },
        { { number = 1, etag = 'a"b' } }, { { number = 1.5, etag = ETAG } }, { { number = 0, etag = ETAG } } } do
        local result, err = p:complete_multipart { key = "k", upload_id = "u", parts = bad }
        assert.is_nil(result)
        assert.equal("invalid", err.code)
        assert.equal("parts", err.field)
      end
      assert.equal(0, #seen)
    end)

    it("gets 10,000 parts in one body, in order, escaped", function()
      local many = {}
      for i = 10000, 1, -1 do many[#many + 1] = { number = i, etag = ("<%d>"):format(i) } end
      local p, seen = provider { done }
      local start = os.clock()
      assert(p:complete_multipart { key = "k", upload_id = "u", parts = many })
      assert.is_true(os.clock() - start < 4)
      local numbers = 0
      for number, etag in seen[1].body:gmatch("<PartNumber>(%d+)</PartNumber><ETag>&quot;&lt;(%d+)&gt;&quot;</ETag>") do
        numbers = numbers + 1
        assert.equal(numbers, tonumber(number))
        assert.equal(number, etag)
      end
      assert.equal(10000, numbers)
    end)
  end)

  describe("lists", function()
    local function page(first, last, truncated)
      local out = { ("<IsTruncated>%s</IsTruncated><NextPartNumberMarker>%d</NextPartNumberMarker>"):format(
        tostring(truncated), last) }
      for i = first, last do
        out[#out + 1] = ("<Part><PartNumber>%d</PartNumber><ETag>&quot;%s&quot;</ETag><Size>5368709120</Size>" ..
          "<ChecksumCRC32C>yZRlqg==</ChecksumCRC32C></Part>"):format(i, ETAG)
      end
      return document("ListPartsResult", table.concat(out))
    end

    it("1001 parts over two pages", function()
      local p, seen = provider { page(1, 1000, true), page(1001, 1001, false) }
      local list = assert(p:list_parts { key = "k", upload_id = "u" })
      assert.equal(1001, #list)
      assert.equal("5368709120", ("%d"):format(list[1001].size))
      assert.equal(0xc99465aa, list[1].crc32c)
      assert.truthy(seen[2].url:find("part-number-marker=1000", 1, true))
    end)

    it("the same page for ever is stopped", function()
      local p, seen = provider { page(1, 2, true) }
      local list, err = p:list_parts { key = "k", upload_id = "u" }
      assert.is_nil(list)
      assert.equal("unavailable", err.code)
      assert.is_true(#seen <= 3)
      p, seen = provider { document("ListBucketResult", "<IsTruncated>true</IsTruncated>") }
      assert.equal("unavailable", select(2, p:list()).code)
      assert.equal(1, #seen)
    end)

    it("parts without a number, ETag or size is not believed", function()
      for _, inside in ipairs { "<Part><ETag>x</ETag><Size>1</Size></Part>",
        "<Part><PartNumber>1</PartNumber><Size>1</Size></Part>",
        "<Part><PartNumber>1</PartNumber><ETag>x</ETag><Size>-1</Size></Part>",
        "<Part><PartNumber>1</PartNumber><ETag>x</ETag><Size>99999999999999999999</Size></Part>",
        "<Part><PartNumber>1e3</PartNumber><ETag>x</ETag><Size>1</Size></Part>" } do
        local p = provider { document("ListPartsResult", "<IsTruncated>false</IsTruncated>" .. inside) }
        local list, err = p:list_parts { key = "k", upload_id = "u" }
        assert.is_nil(list)
        assert.equal("unavailable", err.code)
      end
    end)

    it("with XML that is broken, foreign or hostile is an error, never an empty list", function()
      for _, body in ipairs { "", "<ListPartsResult>", "<ListBucketResult></ListBucketResult>",
        '<!DOCTYPE x [<!ENTITY a "b">]><ListPartsResult>&a;</ListPartsResult>',
        "<ListPartsResult>" .. ("<a>"):rep(1000), "<ListPartsResult>" .. ("<a/>"):rep(200000) .. "</ListPartsResult>",
        "<ListPartsResult>" .. ("x"):rep(9 * 1024 * 1024) .. "</ListPartsResult>" } do
        local p = provider({ { body = body } }, { attempts = 2 })
        local list, err = p:list_parts { key = "k", upload_id = "u" }
        assert.is_nil(list)
        assert.equal("unavailable", err.code)
        assert.is_true(#tostring(err) < 600)
      end
    end)

    it("encoded keys and foreign ones gives ours, decoded, below the prefix", function()
      local p = provider({ document("ListBucketResult",
        "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>" ..
        "<Contents><Key>pre/a%20b%2Bc+d%C3%BC%0A</Key><Size>1</Size><ETag>&quot;x&quot;</ETag>" ..
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>" ..
        "<Contents><Key>other</Key><Size>1</Size></Contents>") }, { prefix = "pre/" })
      local list = assert(p:list())
      assert.equal(1, #list)
      assert.same({ key = "a b+c d\195\188\n", size = 1, etag = "x", modified = NOW }, list[1])
    end)
  end)

  describe("is overloaded", function()
    it("is asked again after growing pauses, and no more than agreed", function()
      local p, seen, slept = provider { fault(503, "SlowDown") }
      local result, err = p:head { key = "k" }
      assert.is_nil(result)
      assert.equal("busy", err.code)
      assert.is_true(err.retryable)
      assert.equal(5, err.tries)
      assert.equal(5, #seen)
      assert.same({ 0.2, 0.4, 0.8, 1.6 }, slept)
    end)

    it("then works", function()
      local p, seen = provider { fault(503, "SlowDown"), fault(500, "InternalError"), { status = 429 },
        { status = 204 } }
      assert.is_true(p:delete { key = "k" })
      assert.equal(4, #seen)
    end)

    it("is left alone for as long as it asks, within reason", function()
      local answer = fault(503, "SlowDown")
      answer.headers["retry-after"] = "7"
      local p, _, slept = provider { answer, { status = 204 } }
      assert(p:delete { key = "k" })
      assert.same({ 7.2 }, slept)
      answer.headers["retry-after"] = "86400"
      p, _, slept = provider { answer, { status = 204 } }
      assert(p:delete { key = "k" })
      assert.same({ 60.2 }, slept)
    end)

    it("is not met by everybody at the same moment", function()
      local p, _, slept = provider({ fault(503, "SlowDown") }, { random = function() return 0.25 end })
      p:head { key = "k" }
      assert.same({ 0.05, 0.1, 0.2, 0.4 }, slept)
    end)

    it("or breaks the connection is asked again; what cannot be repeated is not", function()
      local p, seen = provider { errors.new("network", "broken", { retryable = true }), { status = 204 } }
      assert.is_true(p:delete { key = "k" })
      assert.equal(2, #seen)
      p, seen = provider { errors.new("changed", "the file changed"), { status = 200 } }
      assert.equal("changed", select(2, p:put { key = "k", file = { path = "/x" } }).code)
      assert.equal(1, #seen)
      p, seen = provider { errors.new("tls", "a wrong certificate"), { status = 200 } }
      assert.equal("tls", select(2, p:head { key = "k" }).code)
      assert.equal(1, #seen)
    end)
  end)

  it("says that the region is another one is quoted", function()
    for _, answer in ipairs {
      fault(400, "AuthorizationHeaderMalformed", "<Region>us-west-2</Region>"),
      { status = 301, headers = { ["x-amz-bucket-region"] = "us-west-2" } },
      { status = 400, headers = { ["x-amz-bucket-region"] = "us-west-2" } },
    } do
      local p, seen = provider { answer }
      local _, err = p:head { key = "k" }
      assert.equal("invalid", err.code)
      assert.equal("region", err.field)
      assert.equal("us-west-2", err.region)
      assert.truthy(err.message:find("us%-west%-2"))
      assert.truthy(err.message:find("eu%-west%-1"))
      assert.equal(1, #seen)
    end
    local _, err = provider({ fault(301, "PermanentRedirect", "<Endpoint>x.example</Endpoint>") }):list()
    assert.equal("endpoint", err.field)
    assert.truthy(err.message:find("x.example", 1, true))
  end)

  describe("has another time", function()
    local function skewed(seconds, code)
      local answer = fault(403, code or "RequestTimeTooSkewed")
      answer.headers.date = http_date(NOW + seconds)
      return answer
    end
    local function stamp(request) return request.headers["x-amz-date"] end

    it("is followed once it says so, once and for good", function()
      local p, seen = provider { skewed(3600), { status = 204, headers = { date = http_date(NOW + 3600) } } }
      assert.is_true(p:delete { key = "k" })
      assert.equal(2, #seen)
      assert.equal("20260101T000000Z", stamp(seen[1]))
      assert.equal("20260101T010000Z", stamp(seen[2]))
      assert(p:delete { key = "k" })
      assert.equal("20260101T010000Z", stamp(seen[3]))
      assert.truthy(assert(p:sign_get { key = "k" }).url:find("X-Amz-Date=20260101T010000Z", 1, true))
      assert.equal(NOW + 3600, p:sign_get({ key = "k", expires = 3600 }).expires_at)
    end)

    it("and refuses for ever is not asked for ever; the error says which clock is off", function()
      local p, seen = provider { skewed(-7200) }
      local _, err = p:delete { key = "k" }
      assert.equal("forbidden", err.code)
      assert.truthy(tostring(err):find("the clock here is 7200 s ahead of the store's", 1, true))
      assert.equal(2, #seen)
    end)

    it("is not followed for seconds, nor where that is not wanted", function()
      local p, seen = provider { { status = 204, headers = { date = http_date(NOW + 4) } } }
      p:delete { key = "k" }
      p:delete { key = "k" }
      assert.equal(stamp(seen[1]), stamp(seen[2]))
      p, seen = provider({ skewed(3600) }, { learn_clock = false })
      assert.is_nil((p:delete { key = "k" }))
      assert.equal(1, #seen)
    end)

    it("without a Date is believed in its error document", function()
      local p, seen = provider {
        fault(403, "RequestTimeTooSkewed", "<ServerTime>2026-01-01T02:00:00Z</ServerTime>"), { status = 204 } }
      assert.is_true(p:delete { key = "k" })
      assert.equal("20260101T020000Z", stamp(seen[2]))
    end)

    it("and takes long to answer is not thought to be off", function()
      local time
      local p, _, _, fixed = provider { function()
        time.advance(120)
        return { status = 204, headers = { date = http_date(NOW + 3) } }
      end }
      time = fixed
      p:delete { key = "k" }
      assert.equal(0, p.client.offset)
    end)
  end)

  describe("takes temporary credentials", function()
    local function keys(seconds)
      return function() return { access_key = "A", secret_key = SECRET, session_token = TOKEN,
        expires_at = NOW + seconds } end
    end

    it("gets no URL that would outlive them, and the caller hears of it", function()
      local p = provider({ { status = 204 } }, { credentials = keys(1000) })
      local signed = assert(p:sign_get { key = "k", expires = 3600 })
      assert.equal(970, signed.expires)
      assert.equal(NOW + 970, signed.expires_at)
      assert.is_true(signed.clamped)
      assert.truthy(signed.url:find("X-Amz-Expires=970", 1, true))
      signed = assert(p:sign_part { key = "k", upload_id = "u", number = 1, expires = 900 })
      assert.is_nil(signed.clamped)
      for _, seconds in ipairs { 30.5, 20, -5 } do
        assert.equal("expired", select(2, provider({ {} },
          { credentials = keys(seconds) }):sign_get { key = "k" }).code)
      end
    end)

    it("gets signatures with new ones before the old end", function()
      local time, calls = nil, 0
      local p, _, _, fixed = provider({ { status = 204 } }, { credentials = function()
        calls = calls + 1
        return { access_key = "A" .. calls, secret_key = SECRET, expires_at = (time and time.now() or NOW) + 1000 }
      end })
      time = fixed
      assert.truthy(p:sign_get({ key = "k" }).url:find("X-Amz-Credential=A1%2F", 1, true))
      time.advance(800)
      assert.truthy(p:sign_get({ key = "k" }).url:find("X-Amz-Credential=A2%2F", 1, true))
      assert.equal(2, calls)
    end)
  end)

  it("has no secret in any error, URL of ours, or printed provider", function()
    local lost = errors.new("network", "cannot connect", { retryable = true })
    for _, answer in ipairs { fault(403, "SignatureDoesNotMatch", "<StringToSign>x</StringToSign>"), lost,
      { status = 500 } } do
      local p, seen = provider { answer }
      local _, err = p:put { key = "k", body = "x" }
      for _, text in ipairs { tostring(err), tostring(p), tostring(p.client), seen[1].url } do
        assert.is_nil(text:find(SECRET, 1, true))
        assert.is_nil(text:find(TOKEN, 1, true))
        assert.is_nil(text:find(seen[1].headers.authorization:match("Signature=(%x+)"), 1, true))
      end
    end
    -- Not even by walking through what a provider holds.
    local function walk(t, seen)
      if seen[t] then return end
      seen[t] = true
      for k, v in pairs(t) do
        assert.are_not.equal(SECRET, v)
        assert.are_not.equal(TOKEN, v)
        if type(v) == "table" then walk(v, seen) end
        if type(k) == "table" then walk(k, seen) end
      end
    end
    walk((provider { {} }), {})
  end)

  it("answers with a checksum other than that of what was sent has stored something else", function()
    local p = provider { { headers = { etag = '"x"', ["x-amz-checksum-crc32c"] = "yZRlqg==" } } }
    assert.equal("integrity", select(2, p:put { key = "k", body = "abc" }).code)
    local good = core.crc32c_base64(core.crc32c("abc"))
    p = provider { { headers = { etag = '"x"', ["x-amz-checksum-crc32c"] = good } } }
    assert.equal("crc32c", assert(p:put { key = "k", body = "abc" }).check)
    p = provider({ { headers = { ["x-goog-hash"] = "crc32c=" .. good .. ",md5=x" } } }, { profile = "gcs" })
    assert.equal("crc32c", assert(p:put { key = "k", body = "abc" }).check)
    p = provider { { headers = { etag = '"' .. ETAG .. '"' } } }
    assert.equal("integrity", select(2, p:put { key = "k", body = "abc" }).code)
    -- A checksum of checksums says nothing about the whole.
    p = provider { { headers = { ["content-length"] = "3", ["x-amz-checksum-crc32c"] = good,
      ["x-amz-checksum-type"] = "COMPOSITE" } } }
    assert.is_nil(assert(p:head { key = "k" }).crc32c)
    p = provider { { headers = { ["content-length"] = "3", ["x-amz-checksum-crc32c"] = good .. "-2" } } }
    assert.is_nil(assert(p:head { key = "k" }).crc32c)
  end)

  it("cut an object short has not sent it", function()
    local p = provider { { headers = { ["content-length"] = "10" }, body = "abc" } }
    local _, err = p:get { key = "k" }
    assert.equal("network", err.code)
    p = provider { { status = 200, body = "all of it" } }
    assert.equal("unavailable", select(2, p:get { key = "k", first = 2 }).code)
  end)

  it("lost the answer to a conditional PUT kept the object if it is ours", function()
    local lost = errors.new("network", "broken", { retryable = true })
    local ours = { headers = { ["content-length"] = "3", etag = '"' .. core.hex(core.md5("abc")) .. '"' } }
    assert.truthy(provider({ lost, fault(412, "PreconditionFailed"), ours }):put { key = "k", body = "abc",
      if_none_match = true })
    local theirs = { headers = { ["content-length"] = "3", etag = '"' .. ETAG .. '"' } }
    assert.equal("conflict", select(2, provider({ lost, fault(412, "PreconditionFailed"), theirs }):put {
      key = "k", body = "abc", if_none_match = true }).code)
    assert.equal("conflict", select(2, provider({ fault(412, "PreconditionFailed"), ours }):put {
      key = "k", body = "abc", if_none_match = true }).code)
  end)

  it("keeps receiving parts after an abort is told again until none is left", function()
    local one = document("ListPartsResult", "<IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber>" ..
      "<ETag>x</ETag><Size>1</Size></Part>")
    local gone = fault(404, "NoSuchUpload")
    local p, seen = provider { { status = 204 }, one, { status = 204 }, gone }
    assert.is_true(p:abort_multipart { key = "k", upload_id = "u", until_empty = true })
    assert.equal(4, #seen)
    p = provider { function(request) return request.method == "DELETE" and { status = 204 } or one end }
    local _, err = p:abort_multipart { key = "k", upload_id = "u", until_empty = true, rounds = 3 }
    assert.equal("busy", err.code)
    assert.is_true(provider({ gone }):abort_multipart { key = "k", upload_id = "u" })
    assert.equal("forbidden", select(2, provider({ fault(403, "AccessDenied") }):abort_multipart { key = "k",
      upload_id = "u" }).code)
  end)

  it("fails on a copy inside a 200 has not copied", function()
    local head = { headers = { ["content-length"] = "3", etag = '"x"' } }
    local p = provider({ head, fault(200, "InternalError") }, { attempts = 1 })
    assert.equal("unavailable", select(2, p:copy { from = "a", to = "b" }).code)
    local copied = document("CopyObjectResult", "<ETag>&quot;y&quot;</ETag>")
    local q, seen = provider { head, fault(200, "InternalError"), copied }
    assert.equal("y", assert(q:copy { from = "a b/\195\188", to = "b" }).etag)
    assert.equal("/bucket/a%20b/%C3%BC", seen[2].headers["x-amz-copy-source"])
    assert.equal('"x"', seen[2].headers["x-amz-copy-source-if-match"])
  end)

  it("fails in the middle of a copy in parts is left without an upload", function()
    local head = { headers = { ["content-length"] = "3", etag = '"x"' } }
    local aborted
    local p = provider({ function(request)
      if request.method == "HEAD" then return head end
      if request.method == "DELETE" then aborted = true return { status = 204 } end
      if request.method == "POST" then
        return document("InitiateMultipartUploadResult", "<UploadId>u1</UploadId>")
      end
      if request.url:find("partNumber=2", 1, true) then return fault(403, "AccessDenied") end
      return document("CopyPartResult", "<ETag>&quot;y&quot;</ETag>")
    end }, { profile = { base = "aws", max_copy = 1, min_part = 1 } })
    assert.equal("forbidden", select(2, p:copy { from = "a", to = "b" }).code)
    assert.is_true(aborted)
  end)

  it("maps every code that matters", function()
    for store_code, want in pairs {
      NoSuchUpload = "not_found", NoSuchKey = "not_found", AccessDenied = "forbidden", EntityTooSmall = "invalid",
      InvalidPartOrder = "invalid", EntityTooLarge = "too_large", BadDigest = "integrity", QuotaExceeded = "quota",
      PreconditionFailed = "conflict", NotImplemented = "unsupported", ExpiredToken = "expired", Unheard = "invalid",
    } do
      local status = want == "not_found" and 404 or 400
      local _, err = provider({ fault(status, store_code) }):list()
      assert.equal(want, err.code, store_code)
      assert.equal(store_code, err.store_code)
      assert.is_nil(err.retryable)
      assert.equal("REQ1", err.request_id)
    end
    assert.equal("quota", select(2, provider({ { status = 507 } }):head { key = "k" }).code)
    assert.equal("expired", select(2, provider({ { status = 403,
      body = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>" } }):list()).code)
  end)

  it("is never asked with a checksum of an unknown body, nor with one moved into the query", function()
    local p, seen = provider { document("InitiateMultipartUploadResult", "<UploadId>u</UploadId>") }
    assert(p:create_multipart { key = "k" })
    for name in pairs(seen[1].headers) do
      assert.is_nil(name:find("checksum", 1, true))
      assert.is_nil(name:find("acl", 1, true))
    end
    local signed = assert(p:sign_put { key = "k", length = 3, headers = { ["x-amz-checksum-crc32c"] = "yZRlqg==" } })
    assert.equal("yZRlqg==", signed.headers["x-amz-checksum-crc32c"])
    assert.is_nil(signed.url:lower():find("checksum-crc32c=", 1, true))
    assert.truthy(signed.url:find("X-Amz-SignedHeaders=content-length%3Bhost%3Bx-amz-checksum-crc32c", 1, true))
    for _, plain in ipairs(assert(p:sign_parts { key = "k", upload_id = "u", parts = { { number = 1 }, { number = 2,
      length = 5 } } })) do
      assert.is_nil(plain.url:lower():find("checksum", 1, true))
      assert.same({}, plain.headers)
    end
  end)
end)

describe("longshore.provider.s3 of", function()
  for _, name in ipairs(profiles.names) do
    it(name .. " refuses early what the store refuses late", function()
      local p, seen = provider({ {} }, { profile = name, account = "acc", region = profiles.get(name).region,
        endpoint = not profiles.get(name).endpoint and "http://127.0.0.1:1" or nil })
      local profile = p.profile
      local function code(method, o)
        o.key = "k"
        local _, err = p[method](p, o)
        return err and err.code
      end
      assert.is_nil(code("sign_part", { upload_id = "u", number = profile.max_parts, length = profile.max_part }))
      assert.equal("invalid", code("sign_part", { upload_id = "u", number = profile.max_parts + 1 }))
      assert.equal("invalid", code("sign_part", { upload_id = "u", number = 0 }))
      assert.equal("invalid", code("sign_part", { upload_id = "u", number = 1.5 }))
      assert.equal("invalid", code("sign_part", { upload_id = "u", number = 1, length = -1 }))
      assert.equal("too_large", code("sign_part", { upload_id = "u", number = 1, length = profile.max_part + 1 }))
      assert.is_nil(code("sign_put", { length = profile.max_put }))
      assert.equal("too_large", code("sign_put", { length = profile.max_put + 1 }))
      for _, expires in ipairs { 0, -1, 1.5, profile.max_expires + 1, 0 / 0, "60" } do
        assert.equal("invalid", code("sign_get", { expires = expires }))
      end
      assert.is_nil(code("sign_get", { expires = 1 }))
      assert.is_nil(code("sign_get", { expires = profile.max_expires }))
      assert.equal("too_large", code("create_multipart", { metadata = { a = ("x"):rep(profile.max_metadata) } }))
      if not profile.conditional_put then
        assert.equal("unsupported", code("put", { body = "", if_none_match = true }))
      end
      if not profile.conditional_complete then
        assert.equal("unsupported", code("complete_multipart", { upload_id = "u", parts = parts,
          if_none_match = true }))
      end
      if not profile.bucket_cors then assert.equal("unsupported", select(2, p:set_cors { origins = { "*" } }).code) end
      if not profile.lifecycle_abort then assert.equal("unsupported", select(2, p:set_lifecycle()).code) end
      assert.equal(0, #seen)
    end)
  end

  for _, name in ipairs(profiles.names) do
    it(name .. " has room for a plan of every size up to the largest object", function()
      local row = profiles.get(name)
      local function planned(size)
        return plan.parts { size = size, part_size = 8 * 2 ^ 20, min_part = row.min_part, max_part = row.max_part,
          max_parts = row.max_parts, max_object = row.max_object, equal = row.equal_parts }
      end
      for _, size in ipairs { 0, 1, row.min_part - 1, row.min_part, row.min_part + 1, row.min_part * row.max_parts - 1,
        row.min_part * row.max_parts, row.min_part * row.max_parts + 1, 250 * 10 ^ 9, row.max_object - 1,
          row.max_object } do
        local made = assert(planned(size))
        assert.is_true(made.count >= 1 and made.count <= row.max_parts)
        assert.is_true(made.part_size <= row.max_part)
        assert.is_true(made.count == 1 or made.part_size >= row.min_part)
        assert.equal(size, made.part_size * (made.count - 1) + made.last_length)
      end
      assert.equal("too_large", select(2, planned(row.max_object + 1)).code)
    end)
  end

  it("wrong options says which", function()
    local function field(changes)
      local o = { profile = "ceph", endpoint = "http://h.example", bucket = "bucket", access_key = "A",
        secret_key = "S",
        transport = function() end }
      for k, v in pairs(changes) do
        if v == "nil" then o[k] = nil else o[k] = v end
      end
      local p, err = s3.new(o)
      assert.is_nil(p)
      assert.equal("invalid", err.code)
      return err.field
    end
    for _, case in ipairs {
      { "profile", { profile = "nope" } }, { "region", { region = "a b" } }, { "bucket", { bucket = "a/b" } },
      { "bucket", { bucket = "" } }, { "bucket", { bucket = ".." } }, { "bucket", { bucket = "nil" } },
      { "prefix", { prefix = 1 } }, { "endpoint", { endpoint = "h.example" } }, { "endpoint", { endpoint = "nil" } },
      { "public_endpoint", { public_endpoint = "x" } }, { "access_key", { access_key = "nil" } },
      { "secret_key", { secret_key = "" } }, { "secret_key", { secret_key = "a\n" } }, { "metadata_rule",
        { metadata_rule = "x" } },
      { "account", { profile = "r2", endpoint = "nil" } }, { "credentials", { credentials = {} } },
    } do
      assert.equal(case[1], field(case[2]))
    end
    assert.has_error(function() s3.new() end)
  end)

  it("every vendor has the host its documents name", function()
    local function url(profile, more)
      local o = { profile = profile, bucket = "bucket", access_key = "A", secret_key = "S", transport = function() end }
      for k, v in pairs(more or {}) do o[k] = v end
      return assert(assert(s3.new(o)):sign_get { key = "k" }).url:match("^(.-)%?")
    end
    assert.equal("https://bucket.s3.us-east-1.amazonaws.com/k", url("aws"))
    assert.equal("https://bucket.s3.eu-west-1.amazonaws.com/k", url("aws", { region = "eu-west-1" }))
    assert.equal("https://bucket.s3.cn-north-1.amazonaws.com.cn/k", url("aws", { region = "cn-north-1" }))
    assert.equal("https://s3.us-east-1.amazonaws.com/my.bucket/k", url("aws", { bucket = "my.bucket" }))
    assert.equal("https://s3.us-east-1.amazonaws.com/bucket/k", url("aws", { path_style = true }))
    assert.equal("https://acc.r2.cloudflarestorage.com/bucket/k", url("r2", { account = "acc" }))
    assert.equal("https://storage.googleapis.com/bucket/k", url("gcs"))
    assert.equal("https://bucket.s3.us-west-004.backblazeb2.com/k", url("b2"))
    assert.equal("https://bucket.s3.us-east-1.wasabisys.com/k", url("wasabi"))
    assert.equal("https://bucket.nyc3.digitaloceanspaces.com/k", url("digitalocean"))
    assert.equal("https://bucket.s3.fr-par.scw.cloud/k", url("scaleway"))
    assert.equal("https://gateway.storjshare.io/bucket/k", url("storj"))
    assert.equal("http://[::1]:9000/bucket/k", url("minio", { endpoint = "http://[::1]:9000" }))
    assert.equal("https://h.example/s3/v1/bucket/k", url("generic", { endpoint = "https://h.example:443/s3/v1/" }))
    assert.equal("https://bucket.pub.example/p/k", url("generic", { endpoint = "http://10.0.0.1:7480",
      path_style = false,
      public_endpoint = "https://pub.example/p" }))
  end)

  it("keys refuses those that no store takes", function()
    local p = provider { {} }
    for _, bad in ipairs { "", ("x"):rep(1025), "a\0b" } do
      assert.equal("key", select(2, p:head { key = bad }).field)
      assert.equal("key", select(2, p:sign_put { key = bad }).field)
    end
    assert.has_error(function() p:head {} end)
    assert.has_error(function() p:put { key = "k" } end)
    assert.has_error(function() p:list_parts { key = "k" } end)
  end)

  it("headers refuses what would break out of them", function()
    local p, seen = provider { {} }
    assert.equal("invalid", select(2, p:put { key = "k", body = "", content_type = "a\r\nX: y" }).code)
    assert.equal("invalid", select(2, p:create_multipart { key = "k", content_disposition = "a\nb" }).code)
    assert.equal("invalid", select(2, p:sign_put { key = "k", content_type = "a\nb" }).code)
    assert.equal("invalid", select(2, p:sign_put { key = "k", headers = { ["a b"] = "c" } }).code)
    assert.equal("metadata", select(2, p:put { key = "k", body = "", metadata = { ["longshore-upload"] = "x" } }).field)
    assert.equal(0, #seen)
  end)
end)

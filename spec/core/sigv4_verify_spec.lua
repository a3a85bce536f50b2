-- What a verifier must refuse, and with which code; and what it must put up
-- with in requests as HTTP servers hand them over.
local core = require "longshore.core"

local SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
local TIME = 1767225600 -- 20260101T000000Z
local HOST = "store.example.com"
local EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

local signer = core.signer { access_key = "AKID", secret_key = SECRET, region = "us-east-1" }

local function options(fields)
  local out = { secret_key = SECRET, region = "us-east-1", now = TIME }
  for k, v in pairs(fields or {}) do out[k] = v end
  return out
end

local function copy(t)
  local out = {}
  for k, v in pairs(t) do out[k] = v end
  return out
end

-- A request in query form; `fields` go to the signer.
local function presigned(fields, headers)
  local request = { method = "PUT", host = HOST, path = "/bucket/a key", expires = 600, time = TIME }
  for k, v in pairs(fields or {}) do request[k] = v end
  local url = assert(signer:presign(request))
  local received = { method = request.method, target = url:match("^https://[^/]+(.*)$"), headers = { host = HOST } }
  for k, v in pairs(request.headers or {}) do received.headers[k] = v end
  for k, v in pairs(headers or {}) do received.headers[k] = v end
  return received
end

-- A request in header form.
local function signed(fields, headers)
  local request = { method = "PUT", host = HOST, path = "/bucket/a key", time = TIME }
  for k, v in pairs(fields or {}) do request[k] = v end
  local own, target = assert((request.signer or signer):sign(request))
  local received = { method = request.method, target = target, headers = own }
  received.headers.host = HOST
  for k, v in pairs(request.headers or {}) do received.headers[k] = v end
  for k, v in pairs(headers or {}) do received.headers[k] = v end
  return received
end

local function refused(code, request, opts, field)
  local ok, err = core.sigv4_verify(request, opts or options())
  assert.is_nil(ok)
  assert.equal(code, err.code, tostring(err))
  if field then assert.equal(field, err.field) end
  assert.is_nil(tostring(err):find(SECRET, 1, true))
  return err
end

local function accepted(request, opts)
  local ok, err = core.sigv4_verify(request, opts or options())
  assert.is_true(ok, tostring(err) .. "\n" .. tostring(err and err.canonical_request))
end

-- Replaces in the target; the pattern must be there.
local function with_target(request, pattern, replacement)
  local out = copy(request)
  local n
  out.target, n = request.target:gsub(pattern, replacement)
  assert(n > 0, "nothing replaced")
  return out
end

local function with_authorization(pattern, replacement)
  local request = signed()
  local n
  request.headers.authorization, n = request.headers.authorization:gsub(pattern, replacement)
  assert(n > 0, "nothing replaced")
  return request
end

describe("longshore.core.sigv4_verify", function()
  it("accepts what was signed, in both forms", function()
    accepted(presigned())
    accepted(signed())
    accepted(signed({ payload_hash = "UNSIGNED-PAYLOAD" }))
    accepted(signed({ payload_hash = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" }))
    accepted(presigned(), { secret_key = SECRET, now = TIME })
  end)

  it("says who signed", function()
    assert.same({
      form = "query", access_key = "AKID", date = "20260101", time = TIME, region = "us-east-1", service = "s3",
      signed_headers = { "content-length", "host" }, expires = 600, payload_hash = "UNSIGNED-PAYLOAD",
    }, core.sigv4_parse(presigned { headers = { ["content-length"] = 5 } }))
    assert.same({
      form = "header", access_key = "AKID", date = "20260101", time = TIME, region = "us-east-1", service = "s3",
      signed_headers = { "host", "x-amz-content-sha256", "x-amz-date" }, payload_hash = EMPTY,
    }, core.sigv4_parse(signed()))
  end)

  it("knows a request that is not signed", function()
    local request = { method = "GET", target = "/bucket/key?x-id=1", headers = { host = HOST } }
    assert.same({ form = "none" }, core.sigv4_parse(request))
    refused("unauthenticated", request)
  end)

  describe("time", function()
    it("of a presigned URL: from a little before its signing to its expiry", function()
      local request = presigned()
      for _, now in ipairs { TIME - 900, TIME, TIME + 600 } do accepted(request, options { now = now }) end
      refused("expired", request, options { now = TIME + 601 })
      refused("skewed", request, options { now = TIME - 901 })
      accepted(request, options { now = TIME - 5, skew = 5 })
      refused("skewed", request, options { now = TIME - 6, skew = 5 })
      local err = refused("expired", request, options { now = TIME + 5000 })
      assert.equal(TIME, err.request_time)
      assert.equal(TIME + 5000, err.server_time)
    end)

    it("of a signed request: the clocks may be 15 minutes apart", function()
      local request = signed()
      for _, now in ipairs { TIME - 900, TIME + 900 } do accepted(request, options { now = now }) end
      for _, now in ipairs { TIME - 901, TIME + 901 } do refused("skewed", request, options { now = now }) end
    end)

    it("that a URL may live: a second to a week", function()
      accepted(presigned { expires = 1 })
      accepted(presigned { expires = 604800 }, options { now = TIME + 604800 })
      for _, bad in ipairs { "0", "604801", "-1", "", "6e2", "1.5", "+60", " 60", "4294967356", "00000060" } do
        refused("malformed", with_target(presigned(), "X%-Amz%-Expires=600", "X-Amz-Expires=" .. bad), nil,
          "X-Amz-Expires")
      end
    end)
  end)

  describe("scope", function()
    it("must be the store's region and service, and the date's day", function()
      refused("scope", presigned(), options { region = "eu-west-1" }, "region")
      refused("scope", signed(), options { region = "eu-west-1" }, "region")
      refused("scope", presigned(), options { service = "sts" }, "service")
      accepted(presigned(), options { region = "" })
      refused("scope", with_target(presigned(), "%%2F20260101%%2F", "%%2F20260102%%2F"))
      refused("scope", with_authorization("/20260101/", "/20251231/"))
    end)

    it("must have its five parts", function()
      for _, bad in ipairs { "AKID", "AKID%2F20260101%2Fus-east-1%2Fs3", "%2F20260101%2Fus-east-1%2Fs3%2Faws4_request",
        "AKID%2F20260101%2Fus-east-1%2Fs3%2Faws4_reques", "AKID%2F2026010%2Fus-east-1%2Fs3%2Faws4_request", "",
        "A%0AKID%2F20260101%2Fus-east-1%2Fs3%2Faws4_request" } do
        refused("malformed", with_target(presigned(), "(X%-Amz%-Credential=)[^&]+", "%1" .. bad:gsub("%%", "%%%%")),
          nil, "X-Amz-Credential")
      end
    end)

    it("may have an access key with slashes", function()
      local odd = core.signer { access_key = "a/b/c", secret_key = SECRET, region = "us-east-1" }
      local request = signed { signer = odd }
      assert.equal("a/b/c", core.sigv4_parse(request).access_key)
      accepted(request)
    end)
  end)

  describe("session tokens", function()
    local temporary = core.signer { access_key = "AKID", secret_key = SECRET, session_token = "tok/en+=",
      region = "us-east-1" }

    it("are needed where the credential has one, and only there", function()
      local request = signed { signer = temporary }
      assert.equal("tok/en+=", core.sigv4_parse(request).session_token)
      accepted(request, options { session_token = "tok/en+=" })
      refused("token", request, options { session_token = "another" })
      refused("token", request)
      refused("token", signed(), options { session_token = "tok/en+=" })
      local url = temporary:presign { method = "GET", host = HOST, path = "/b", expires = 60, time = TIME }
      local received = { method = "GET", target = url:match("^https://[^/]+(.*)$"), headers = { host = HOST } }
      accepted(received, options { session_token = "tok/en+=" })
      refused("token", received)
    end)
  end)

  describe("headers", function()
    it("that were signed must be there, as they were", function()
      local request = presigned { headers = { ["content-type"] = "text/plain", ["content-length"] = 5 } }
      accepted(request)
      request.headers["content-type"] = "text/html"
      refused("signature_mismatch", request)
      request.headers["content-type"] = nil
      refused("missing_header", request, nil, "content-type")
    end)

    it("may have other white space, and come as numbers, lists and in any case", function()
      accepted(presigned({ headers = { ["x-amz-meta-a"] = "a b", ["content-length"] = 5 } },
        { ["x-amz-meta-a"] = " \ta  b ", ["content-length"] = 5 }))
      local request = presigned { headers = { ["x-amz-meta-a"] = { "1", "2" } } }
      request.headers["x-amz-meta-a"] = nil
      request.headers["X-Amz-Meta-A"] = { "1", " 2" }
      accepted(request)
      request.headers["X-Amz-Meta-A"] = { "2", "1" }
      refused("signature_mismatch", request)
      request.headers["X-Amz-Meta-A"] = "1,2"
      accepted(request)
    end)

    it("that change what is stored must be signed", function()
      for _, name in ipairs { "x-amz-acl", "x-amz-meta-a", "X-Amz-Copy-Source", "x-amz-tagging", "x-amz-zzz" } do
        local request = presigned(nil, { [name] = "v" })
        refused("unsigned_header", request, nil, name:lower())
        accepted(request, options { allow_unsigned = true })
        refused("unsigned_header", signed(nil, { [name] = "v" }), nil, name:lower())
      end
    end)

    it("of other kinds may be added", function()
      accepted(presigned(nil, { ["user-agent"] = "x", ["content-type"] = "a/b", ["x-amzn-trace-id"] = "1",
        ["content-length"] = "5", accept = "*/*", zeta = "1" }))
    end)

    it("may name the hash that was signed without being listed", function()
      local url = signer:presign { method = "PUT", host = HOST, path = "/b/k", expires = 60, time = TIME }
      local request = { method = "PUT", target = url:match("^https://[^/]+(.*)$"),
        headers = { host = HOST, ["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD" } }
      accepted(request)
      request.headers["x-amz-content-sha256"] = EMPTY
      refused("signature_mismatch", request)
    end)

    it("must include host among the signed ones", function()
      refused("unsigned_header", with_target(presigned { headers = { ["content-length"] = 5 } },
        "content%-length%%3Bhost", "content-length"), nil, "host")
      refused("unsigned_header", with_authorization("host;", ""), nil, "host")
    end)

    it("must be listed in order, in lower case, each once", function()
      for _, bad in ipairs { "host%3Bcontent-length", "content-length%3Bhost%3Bhost", "Content-Length%3Bhost", "",
        "content-length%3B%3Bhost", "content-length%3Bhost%3B", "content-length host", "%0Ahost" } do
        refused("malformed", with_target(presigned { headers = { ["content-length"] = 5 } },
          "content%-length%%3Bhost", (bad:gsub("%%", "%%%%"))), nil, "X-Amz-SignedHeaders")
      end
    end)

    it("cannot smuggle a line into what is signed", function()
      refused("malformed", presigned({ headers = { ["content-type"] = "a" } }, { ["content-type"] = "a\nhost:b" }))
      refused("signature_mismatch", presigned({ headers = { ["content-type"] = "a" } }, { ["content-type"] = "a\tb" }))
    end)
  end)

  describe("the Authorization header", function()
    it("may be spaced as clients do", function()
      accepted(with_authorization(", ", ","))
      accepted(with_authorization(", ", " ,  "))
      accepted(with_authorization("^(%S+) (.*), (SignedHeaders=.*), (Signature=.*)$", "%1 %4, %3, %2"))
    end)

    it("must have its three parts, each once", function()
      for _, row in ipairs {
        { "Credential=[^,]+, ", "" }, { "SignedHeaders=[^,]+, ", "" }, { ", Signature=.*", "" }, { "Signature=", "" },
        { ", Signature", ", Signature=1, Signature" }, { "$", ", More=1" }, { "$", "," },
        { "Credential=", "credential=" },
      } do
        refused("malformed", with_authorization(row[1], row[2]), nil, "authorization")
      end
      local request = signed()
      request.headers.authorization = { request.headers.authorization, request.headers.authorization }
      refused("malformed", request, nil, "authorization")
    end)

    it("must be of the one kind that is supported", function()
      for _, bad in ipairs { "AWS AKID:sig", "Basic dXNlcjpwYXNz", "Bearer ls_x", "", "AWS4-HMAC-SHA256",
        "AWS4-ECDSA-P256-SHA256 Credential=a/20260101/s3/aws4_request, SignedHeaders=host, Signature=00" } do
        refused("unsupported", signed(nil, { authorization = bad }), nil, "authorization")
      end
    end)

    it("needs the date and the payload's hash beside it", function()
      local request = signed()
      request.headers["x-amz-date"] = nil
      refused("missing_header", request, nil, "x-amz-date")
      request = signed()
      request.headers["x-amz-content-sha256"] = nil
      refused("missing_header", request, nil, "x-amz-content-sha256")
      for _, bad in ipairs { "", EMPTY:upper(), EMPTY:sub(2), "unsigned-payload", "STREAMING-\1", EMPTY .. "0" } do
        refused("malformed", signed(nil, { ["x-amz-content-sha256"] = bad }), nil, "x-amz-content-sha256")
      end
      for _, bad in ipairs { "20260101T000000", "20260101T000000z", "20261301T000000Z", "20260230T000000Z",
        "20260101T240000Z", "20260101T006000Z", "Thu, 01 Jan 2026 00:00:00 GMT", "", "19691231T235959Z" } do
        refused("malformed", signed(nil, { ["x-amz-date"] = bad }), nil, "x-amz-date")
      end
      refused("malformed", signed(nil, { ["x-amz-date"] = { "20260101T000000Z", "20260101T000000Z" } }))
    end)

    it("takes the date from Date where there is no x-amz-date", function()
      -- As a client without the x-amz-date header signs it.
      local canonical = table.concat({ "GET", "/", "", "date:Thu, 01 Jan 2026 00:00:00 GMT", "host:" .. HOST,
        "x-amz-content-sha256:" .. EMPTY, "", "date;host;x-amz-content-sha256", EMPTY }, "\n")
      local to_sign = table.concat({ "AWS4-HMAC-SHA256", "20260101T000000Z", "20260101/us-east-1/s3/aws4_request",
        core.hex(core.sha256(canonical)) }, "\n")
      local key = "AWS4" .. SECRET
      for _, step in ipairs { "20260101", "us-east-1", "s3", "aws4_request" } do key = core.hmac_sha256(key, step) end
      accepted { method = "GET", target = "/", headers = {
        host = HOST, date = "Thu, 01 Jan 2026 00:00:00 GMT", ["x-amz-content-sha256"] = EMPTY,
        authorization = "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/s3/aws4_request, " ..
          "SignedHeaders=date;host;x-amz-content-sha256, Signature=" .. core.hex(core.hmac_sha256(key, to_sign)),
      } }
    end)
  end)

  describe("a presigned URL", function()
    it("needs all its parameters, each once", function()
      for _, name in ipairs { "Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature" } do
        local request = presigned()
        local pattern = "X%-Amz%-" .. name .. "=[^&]*"
        refused("malformed", with_target(request, pattern, ""), nil, "X-Amz-" .. name)
        refused("malformed", with_target(request, "(" .. pattern .. ")", "%1&%1"), nil, "X-Amz-" .. name)
      end
      refused("unsupported", with_target(presigned(), "AWS4%-HMAC%-SHA256", "AWS4-HMAC-SHA1"))
      refused("malformed", with_target(presigned(), "X%-Amz%-Date=[^&]*", "X-Amz-Date=20260101"), nil, "X-Amz-Date")
    end)

    it("has a signature of 64 digits in lower case", function()
      for _, bad in ipairs { "", "0", ("0"):rep(63), ("0"):rep(65), ("A"):rep(64), ("g"):rep(64) } do
        refused("malformed", with_target(presigned(), "(X%-Amz%-Signature=).*", "%1" .. bad), nil, "X-Amz-Signature")
      end
      refused("signature_mismatch", with_target(presigned(), "(X%-Amz%-Signature=).*", "%1" .. ("0"):rep(64)))
    end)

    it("is not used together with the header", function()
      local request = presigned(nil, { authorization = signed().headers.authorization })
      refused("malformed", request, nil, "authorization")
    end)

    it("means the same in any order, and with a plus or %20 for a space", function()
      local request = presigned { query = { prefix = "a b" } }
      accepted(with_target(request, "a%%20b", "a+b"))
      local head, tail = request.target:match("^([^?]+%?)(.*)$")
      local parts = {}
      for part in tail:gmatch("[^&]+") do table.insert(parts, 1, part) end
      local turned = copy(request)
      turned.target = head .. table.concat(parts, "&&")
      accepted(turned)
    end)

    it("means the same however the client encoded it", function()
      local request = presigned { path = "/bucket/it's (a) ~test~", query = { prefix = "x/y" } }
      accepted(request)
      accepted(with_target(request, "%%27", "'"))
      accepted(with_target(request, "%%28a%%29", "(a)"))
      accepted(with_target(request, "~", "%%7e"))
      accepted(with_target(request, "bucket", "b%%75cket"))
      accepted(with_target(request, "x%%2Fy", "x/y"))
      refused("signature_mismatch", with_target(request, "%%20", "+")) -- a plus in the path is a plus
    end)

    it("keeps its path as it is", function()
      for _, path in ipairs { "/b//a///b", "/b/../x", "/b/./x", "/", "/b/", "/b/%2e%2e/x", "/b/+", "/b/%", "/b/~" } do
        accepted(presigned { path = path })
      end
      refused("signature_mismatch", with_target(presigned { path = "/b//x" }, "//", "/"))
      refused("signature_mismatch", with_target(presigned { path = "/b/../x" }, "/b/%.%./x", "/x"))
    end)

    it("may carry the payload's hash as a parameter", function()
      local request = presigned { query = { ["X-Amz-Content-Sha256"] = "UNSIGNED-PAYLOAD" } }
      accepted(request)
      assert.equal("UNSIGNED-PAYLOAD", core.sigv4_parse(request).payload_hash)
    end)

    it("may repeat a parameter of another name", function()
      accepted(presigned { query = { a = { "2", "1", "" } } })
      refused("signature_mismatch", with_target(presigned { query = { a = { "2", "1" } } }, "&a=1", ""))
    end)
  end)

  it("refuses a target that is none", function()
    for _, bad in ipairs { "", "x", "?a=b", "http://h/x", "*", "/%", "/%zz", "/a?b=%1", "/a?%=1" } do
      local request = signed()
      request.target = bad
      refused("malformed", request)
    end
    local request = signed()
    request.method = "P UT"
    refused("malformed", request)
  end)

  it("refuses a head that is too large", function()
    local request = presigned()
    request.target = request.target .. "&a=" .. ("x"):rep(5000000)
    refused("malformed", request)
    request = presigned(nil, { zeta = ("x"):rep(2000000) })
    refused("malformed", request)
    accepted(presigned())
  end)

  it("stays quick with thousands of parameters and headers", function()
    local query, headers = {}, {}
    for i = 1, 3000 do
      query[i] = ("p%d=%d"):format(i * 7919 % 3001, i)
      headers["h" .. i] = "v"
    end
    local request = presigned(nil, headers)
    request.target = request.target .. "&" .. table.concat(query, "&")
    local begun = os.clock()
    refused("signature_mismatch", request)
    assert.is_true(os.clock() - begun < 0.5)
  end)

  it("shows on a mismatch what was signed here, so that it can be explained", function()
    local request = presigned { path = "/b/k" }
    request.method = "GET"
    local err = refused("signature_mismatch", request)
    assert.is_truthy(err.canonical_request:find("^GET\n/b/k\nX%-Amz%-Algorithm=.*\nhost:store.example.com\n\nhost\n" ..
      "UNSIGNED%-PAYLOAD$"))
    assert.equal("AWS4-HMAC-SHA256\n20260101T000000Z\n20260101/us-east-1/s3/aws4_request\n" ..
      core.hex(core.sha256(err.canonical_request)), err.string_to_sign)
    refused("signature_mismatch", presigned(), options { secret_key = SECRET .. "x" })
  end)

  it("keeps derived keys apart", function()
    for i = 1, 40 do
      local secret = "secret" .. i % 12
      local region = "r" .. i % 3
      local s = core.signer { access_key = "AKID", secret_key = secret, region = region }
      local request = signed { signer = s }
      accepted(request, options { secret_key = secret, region = region })
      refused("signature_mismatch", request, options { secret_key = secret .. "x", region = region })
    end
    local long = ("x"):rep(300)
    local s = core.signer { access_key = "AKID", secret_key = long, region = "us-east-1" }
    accepted(signed { signer = s }, options { secret_key = long })
    refused("signature_mismatch", signed { signer = s }, options { secret_key = long .. "x" })
  end)

  it("raises for a programmer's mistake", function()
    local good = presigned()
    for _, bad in ipairs { { target = 5 }, { method = true }, { headers = "x" }, { headers = { host = {{}} } },
      { headers = { "x" } }, { headers = { host = false } } } do
      local request = copy(good)
      for k, v in pairs(bad) do request[k] = v end
      assert.has_error(function() core.sigv4_verify(request, options()) end)
      assert.has_error(function() core.sigv4_parse(request) end)
    end
    assert.has_error(function() core.sigv4_verify(good) end)
    assert.has_error(function() core.sigv4_verify(good, {}) end)
    for name, bad in pairs { now = "x", skew = -1, region = 5, secret_key = 5, session_token = true } do
      assert.has_error(function() core.sigv4_verify(good, options { [name] = bad }) end)
    end
  end)
end)

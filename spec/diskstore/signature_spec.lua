-- Who may ask, and what a signature grants: every refusal by its code.
local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local support = require "spec.support"

describe("the disk store verifies", function()
  local store

  setup(function()
    store = diskstore.start { credentials = {
      { access_key = "DISKSTOREACCESS", secret_key = "disk+store/secret=" },
      { access_key = "SECOND", secret_key = "another secret" },
    }, cors = { origins = { "https://app.example.com" } } }
    assert.equal(200, store:send { method = "PUT", path = "/longshore/a key", body = "content" }.status)
  end)

  teardown(support.cleanup)

  local function code_of(answer)
    return answer.body:match("<Code>(.-)</Code>")
  end

  local function refused(status, code, request)
    local answer = assert(store:send(request))
    assert.equal(code, code_of(answer))
    assert.equal(status, answer.status)
    assert.equal(answer.headers["x-amz-request-id"], answer.body:match("<RequestId>(.-)</RequestId>"))
    return answer
  end

  it("what is signed rightly, in headers and in the query, for every credential it has", function()
    for _, more in ipairs { {}, { key = "SECOND", secret = "another secret" } } do
      for _, presign in ipairs { false, 60 } do
        local answer = store:send { path = "/longshore/a key", presign = presign or nil,
          key = more.key, secret = more.secret }
        assert.equal("content", answer.body)
      end
    end
  end)

  for _, presign in ipairs { false, 300 } do
    local form = presign and "query" or "header"
    local expires = presign or nil

    it("and refuses a wrong secret (" .. form .. " form), showing no secret", function()
      local answer = refused(403, "SignatureDoesNotMatch",
        { path = "/longshore/a key", secret = "wrong", presign = expires })
      assert.truthy(answer.body:find("<StringToSign>AWS4-HMAC-SHA256", 1, true))
      assert.falsy(answer.body:find("disk+store", 1, true))
    end)

    it("and refuses an unknown access key (" .. form .. " form)", function()
      refused(403, "InvalidAccessKeyId", { path = "/longshore/a key", key = "NOBODY", presign = expires })
    end)

    it("and refuses another key, method, query or signed header than was signed (" .. form .. " form)", function()
      for _, change in ipairs {
        function(_, target) return (target:gsub("a%%20key", "b%%20key")) end,
        function(_, target) return target .. (target:find("?", 1, true) and "&" or "?") .. "partNumber=1" end,
        function(headers) headers["content-type"] = "text/html" end,
        function(headers) headers["x-amz-meta-note"] = "changed" end,
      } do
        refused(403, "SignatureDoesNotMatch", { path = "/longshore/a key", presign = expires, change = change,
          headers = { ["content-type"] = "text/plain", ["x-amz-meta-note"] = "signed" } })
      end
      refused(403, "SignatureDoesNotMatch", { path = "/longshore/a key", presign = expires, send_as = "DELETE" })
    end)

    it("and refuses the scope of another region or service (" .. form .. " form)", function()
      refused(400, presign and "AuthorizationQueryParametersError" or "AuthorizationHeaderMalformed",
        { path = "/longshore/a key", region = "eu-west-9", presign = expires })
    end)

    it("and refuses an x-amz-* header that was not signed (" .. form .. " form)", function()
      refused(403, "AccessDenied", { method = "PUT", path = "/longshore/a key", body = "x", presign = expires,
        unsigned = { ["x-amz-meta-extra"] = "1" } })
      assert.equal("content", store:send { path = "/longshore/a key" }.body)
    end)

    it("and tolerates other headers that were not signed (" .. form .. " form)", function()
      assert.equal(200, store:send { path = "/longshore/a key", presign = expires,
        unsigned = { ["user-agent"] = "x", ["x-forwarded-for"] = "1.2.3.4" } }.status)
    end)
  end

  it("the time: expired, not yet valid, too far off", function()
    local now = core.now()
    local answer = refused(403, "AccessDenied", { path = "/longshore/a key", presign = 60, time = now - 120 })
    assert.truthy(answer.body:find("Request has expired", 1, true))
    answer = refused(403, "AccessDenied", { path = "/longshore/a key", presign = 60, time = now + 3600 })
    assert.truthy(answer.body:find("not yet valid", 1, true))
    assert.equal(200, store:send { path = "/longshore/a key", presign = 60, time = now + 300 }.status)
    refused(403, "RequestTimeTooSkewed", { path = "/longshore/a key", time = now - 3600 })
    refused(403, "RequestTimeTooSkewed", { path = "/longshore/a key", time = now + 3600 })
    assert.equal(200, store:send { path = "/longshore/a key", time = now - 600 }.status)
  end)

  it("an expiry of at most a week", function()
    refused(400, "AuthorizationQueryParametersError", { path = "/longshore/a key", presign = 60,
      change = function(_, target) return (target:gsub("X%-Amz%-Expires=60", "X-Amz-Expires=604801")) end })
  end)

  it("that there is a signature at all, and of the right kind", function()
    refused(403, "AccessDenied", { path = "/longshore/a key", anonymous = true })
    refused(400, "InvalidRequest", { path = "/longshore/a key", anonymous = true,
      headers = { authorization = "AWS KEY:c2lnbmF0dXJl" } })
    refused(400, "InvalidRequest", { path = "/longshore/a key", anonymous = true,
      query = { AWSAccessKeyId = "K", Signature = "x", Expires = "1" } })
    refused(400, "AuthorizationHeaderMalformed", { path = "/longshore/a key",
      change = function(headers) headers.authorization = "AWS4-HMAC-SHA256 nonsense" end })
  end)

  it("the payload's hash against the body, before anything becomes visible", function()
    local hash = core.hex(core.sha256("announced"))
    refused(400, "XAmzContentSHA256Mismatch", { method = "PUT", path = "/longshore/other", body = "different",
      payload_hash = hash })
    refused(404, "NoSuchKey", { path = "/longshore/other" })
    assert.equal(200, store:send { method = "PUT", path = "/longshore/other", body = "announced",
      payload_hash = hash }.status)
    assert.equal(200, store:send { method = "PUT", path = "/longshore/other", body = "anything",
      payload_hash = "UNSIGNED-PAYLOAD" }.status)
    refused(400, "XAmzContentSHA256Mismatch", { method = "POST", path = "/longshore", query = { delete = true },
      body = "<Delete><Object><Key>other</Key></Object></Delete>", payload_hash = hash })
    assert.equal("anything", store:send { path = "/longshore/other" }.body)
  end)

  it("a hash that was signed into a URL as well", function()
    local hash = core.hex(core.sha256("right"))
    for form, fields in pairs { header = { headers = { ["x-amz-content-sha256"] = hash } },
      parameter = { query = { ["X-Amz-Content-Sha256"] = hash } } } do
      local request = { method = "PUT", path = "/longshore/hashed-" .. form, presign = 60, query = fields.query,
        headers = fields.headers }
      request.body = "wrong"
      refused(400, "XAmzContentSHA256Mismatch", request)
      refused(404, "NoSuchKey", { path = request.path })
      request.body = "right"
      assert.equal(200, store:send(request).status)
    end
  end)

  it("a length that was signed", function()
    local request = { method = "PUT", path = "/longshore/length", body = "12345", presign = 60,
      headers = { ["content-length"] = "5" } }
    assert.equal(200, store:send(request).status)
    request.body, request.change = "123456", function(headers) headers["content-length"] = "6" end
    refused(403, "SignatureDoesNotMatch", request)
  end)

  it("nothing of a preflight, which it answers for configured origins only", function()
    local function preflight(origin)
      return store:raw(("OPTIONS /longshore/a%%20key HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: %s\r\n"
        .. "access-control-request-method: PUT\r\naccess-control-request-headers: content-type, x-amz-date\r\n\r\n")
        :format(origin))
    end
    local answer = preflight("https://app.example.com")
    assert.equal(200, answer.status)
    assert.equal("https://app.example.com", answer.headers["access-control-allow-origin"])
    assert.truthy(answer.headers["access-control-allow-methods"]:find("PUT", 1, true))
    assert.equal("content-type, x-amz-date", answer.headers["access-control-allow-headers"])
    answer = preflight("https://evil.example.com")
    assert.equal(403, answer.status)
    assert.is_nil(answer.headers["access-control-allow-origin"])
    -- ETag and checksum can be read by the page, in refusals the error too.
    answer = store:send { path = "/longshore/a key", unsigned = { origin = "https://app.example.com" } }
    assert.equal("https://app.example.com", answer.headers["access-control-allow-origin"])
    assert.truthy(answer.headers["access-control-expose-headers"]:find("ETag", 1, true))
    assert.truthy(answer.headers["access-control-expose-headers"]:find("x-amz-checksum-crc32c", 1, true))
    answer = store:send { path = "/longshore/a key", secret = "wrong",
      unsigned = { origin = "https://app.example.com" } }
    assert.equal(403, answer.status)
    assert.equal("https://app.example.com", answer.headers["access-control-allow-origin"])
    answer = store:send { path = "/longshore/a key", unsigned = { origin = "https://evil.example.com" } }
    assert.is_nil(answer.headers["access-control-allow-origin"])
  end)

  it("and leaves no signature, token or secret in its log", function()
    store:send { path = "/longshore/a key", secret = "wrong", presign = 60 }
    local log = store:log()
    assert.falsy(log:find("X-Amz-Signature=%x%x%x"))
    assert.falsy(log:find("disk+store", 1, true))
  end)
end)

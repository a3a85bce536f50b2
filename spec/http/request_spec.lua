local request = require "longshore.http.request"
local auth = require "longshore.http.auth"
local cors = require "longshore.http.cors"
local json = require "longshore.json"
local response = require "longshore.http.response"

describe("a request", function()
  it("is made complete from a target", function()
    local r = request.new { method = "GET", target = "/a%2Fb?x=1&y=a%20b+c&x=2&z" }
    assert.equal("/a%2Fb", r.path)
    assert.same({ x = "1", y = "a b c", z = "" }, r.query)
    assert.truthy(r.id:find("^req_[a-z2-7]+$"))
    assert.equal(30, #r.id)
  end)

  it("survives malformed escapes in the query", function()
    assert.same({ a = "%zz", ["%"] = "1" }, request.parse_query("a=%zz&%=1&&"))
  end)

  it("reads media types with parameters", function()
    local kind, params = request.media_type('Text/CSV ; Charset="a;\\"b" ;x=y')
    assert.equal("text/csv", kind)
    assert.same({ charset = 'a;"b', x = "y" }, params)
    assert.is_nil((request.media_type(nil)))
    assert.is_nil((request.media_type("  ")))
    assert.equal("a/b", (request.media_type('a/b; x="unclosed')))
  end)
end)

describe("bearer tokens", function()
  it("are read from the Authorization header", function()
    assert.equal("ls_abc-1._~+/=", auth.bearer_token { authorization = "Bearer ls_abc-1._~+/=" })
    assert.equal("x", auth.bearer_token { authorization = "bearer  x" })
  end)

  it("are refused in any other form", function()
    for _, value in ipairs { "", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "Bearer a, Bearer b", "ls_abc",
      "Bearer a\0b", "Bearer " .. ("x"):rep(5000) } do
      local token, err = auth.bearer_token { authorization = value }
      assert.is_nil(token)
      assert.equal("unauthenticated", err.code)
      assert.is_nil(err.message:find("abc", 1, true))
    end
    assert.is_nil((auth.bearer_token {}))
  end)

  it("carry rights; admin has them all", function()
    assert.is_true(auth.allow({ rights = { read = true } }, "read"))
    assert.is_true(auth.allow({ rights = { admin = true } }, "delete"))
    assert.is_true(auth.allow({ rights = {} }, nil))
    local ok, err = auth.allow({ rights = { read = true } }, "upload")
    assert.is_nil(ok)
    assert.equal("forbidden", err.code)
  end)
end)

describe("CORS", function()
  local rules = cors.new { origins = { "https://app.example" }, max_age = 60 }

  local function preflight(origin, headers)
    return { method = "OPTIONS", headers = {
      origin = origin, ["access-control-request-method"] = "POST", ["access-control-request-headers"] = headers,
    } }
  end

  it("answers a preflight of a configured origin", function()
    local request_table = preflight("https://app.example", "authorization, content-type")
    assert.is_true(rules:is_preflight(request_table))
    local headers = rules:preflight(request_table, { "OPTIONS", "POST" })
    assert.equal("https://app.example", headers["access-control-allow-origin"])
    assert.equal("OPTIONS, POST", headers["access-control-allow-methods"])
    assert.equal("authorization, content-type", headers["access-control-allow-headers"])
    assert.equal("60", headers["access-control-max-age"])
  end)

  it("refuses others, and look-alikes", function()
    for _, origin in ipairs { "https://evil.example", "https://app.example.evil", "http://app.example", "null", "" } do
      local headers, err = rules:preflight(preflight(origin), { "POST" })
      assert.is_nil(headers)
      assert.equal("forbidden", err.code)
    end
  end)

  it("does not reflect header names that are none", function()
    local headers = rules:preflight(preflight("https://app.example", "x\r\nset-cookie: a"), { "POST" })
    assert.is_nil(headers["access-control-allow-headers"])
  end)

  it("exposes ETag on answers, and varies by origin", function()
    local headers = {}
    rules:decorate({ headers = { origin = "https://app.example" } }, headers)
    assert.equal("https://app.example", headers["access-control-allow-origin"])
    assert.truthy(headers["access-control-expose-headers"]:find("ETag", 1, true))
    assert.equal("Origin", headers.vary)
    headers = {}
    rules:decorate({ headers = { origin = "https://evil.example" } }, headers)
    assert.same({ vary = "Origin" }, headers)
  end)

  it("stays out of the way when nothing is configured", function()
    local headers = {}
    cors.new({ origins = {} }):decorate({ headers = { origin = "https://a.example" } }, headers)
    assert.same({}, headers)
  end)

  it("allows all with a star", function()
    local headers = {}
    cors.new({ origins = { "*" } }):decorate({ headers = { origin = "https://a.example" } }, headers)
    assert.equal("*", headers["access-control-allow-origin"])
  end)
end)

describe("a response", function()
  it("writes times as RFC 3339", function()
    assert.equal("2026-01-02T03:04:05Z", response.rfc3339(1767323045.9))
    assert.equal("2026-01-02T03:04:05Z", response.moment(1767323045.9))
    assert.equal(json.null, response.moment(nil))
  end)

  it("sends on without letting anybody keep it", function()
    local r = response.redirect("http://x/y")
    assert.equal(302, r.status)
    assert.equal("http://x/y", r.headers.location)
    assert.equal("no-store", r.headers["cache-control"])
  end)
end)

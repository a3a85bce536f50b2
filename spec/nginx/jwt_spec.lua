-- Web tokens of every algorithm under a running `longshore serve`; those that
-- confuse one with another are nobody's.
local core = require "longshore.core"
local http = require "spec.support.http"
local jwt = require "spec.support.jwt"
local serve = require "spec.support.serve"
local support = require "spec.support"

describe("web tokens under longshore serve", function()
  local issuer, server

  setup(function()
    issuer = jwt.issuer()
    server = serve.start { config = ([[return {
      broker = { threads = 2, janitor_seconds = 0 },
      auth = { jwt = { issuer = "https://id.example", audience = "longshore", keys = {
        { kid = "hs", algorithm = "HS256", secret = %q },
        { kid = "rsa", algorithm = "RS256", pem = file %q },
        { kid = "ec", algorithm = "ES256", pem = file %q },
        { kid = "ed", algorithm = "EdDSA", pem = file %q },
      } } },
    }]]):format(jwt.SECRET, issuer.folder .. "/rsa.pem", issuer.folder .. "/ec.pem", issuer.folder .. "/ed.pem") }
  end)
  teardown(support.cleanup)

  local function claims(more)
    local given = { sub = "ann", org = "acme", scope = "read upload", exp = math.floor(core.now()) + 300,
      iss = "https://id.example", aud = "longshore" }
    for name, value in pairs(more or {}) do given[name] = value end
    return given
  end

  local names = 0
  local function initiate(token)
    names = names + 1
    return http.call("POST", server.url .. "/v0.5/files/uploads/initiate", token,
      { filename = "j" .. names, file_type = "a/b", num_bytes = 5 })
  end

  local kids = { HS256 = "hs", RS256 = "rsa", ES256 = "ec", EdDSA = "ed" }

  for alg, kid in pairs(kids) do
    it("of " .. alg .. " are taken, with the rights they have and for as long as they say", function()
      for _, header in ipairs { { alg = alg, kid = kid }, { alg = alg } } do
        local answer = initiate(issuer:token(claims(), header))
        assert.equal(200, answer.status, answer.body)
      end
      assert.equal(403, initiate(issuer:token(claims { scope = "read" }, { alg = alg, kid = kid })).status)
      local late = initiate(issuer:token(claims { exp = math.floor(core.now()) - 3600 }, { alg = alg, kid = kid }))
      assert.equal(401, late.status)
      assert.truthy(late.body:find("expired", 1, true), late.body)
    end)

    it("of " .. alg .. " under another algorithm's name or key are refused", function()
      for other, other_kid in pairs(kids) do
        if other ~= alg then
          -- Signed rightly, by a key of ours; what the header says decides nothing.
          assert.equal(401, initiate(issuer:token(claims(), { alg = other, kid = kid }, alg)).status)
          assert.equal(401, initiate(issuer:token(claims(), { alg = alg, kid = other_kid }, alg)).status)
          assert.equal(401, initiate(issuer:token(claims(), { alg = other }, alg)).status)
        end
      end
      assert.equal(401, initiate(issuer:token(claims(), { alg = "none", kid = kid }, alg)).status)
    end)
  end

  it("whose secret is a public key, or that nobody has signed, are refused", function()
    for _, name in ipairs { "rsa", "ec", "ed" } do
      local public = issuer:pem(name)
      for _, secret in ipairs { public, (public:gsub("%s+$", "")) } do
        for _, header in ipairs { { alg = "HS256" }, { alg = "HS256", kid = name }, { alg = "HS256", kid = "hs" } } do
          assert.equal(401, initiate(issuer:token(claims(), header, "HS256", secret)).status)
        end
      end
    end
    local token = issuer:token(claims(), { alg = "RS256", kid = "rsa" })
    local body = token:match("%.([^.]+)%.")
    for _, alg in ipairs { "none", "None", "NONE", "" } do
      local head = core.base64url(('{"alg":"%s"}'):format(alg))
      for _, signature in ipairs { "", core.base64url "x", token:match("[^.]+$") } do
        assert.equal(401, initiate(("%s.%s.%s"):format(head, body, signature)).status)
      end
    end
    -- Keys that are nobody's here, though of the right kind.
    issuer:openssl "genrsa -out stranger.key 2048"
    assert.equal(401, initiate(issuer:token(claims(), { alg = "RS256", kid = "rsa" }, "RS256", "stranger")).status)
  end)
end)

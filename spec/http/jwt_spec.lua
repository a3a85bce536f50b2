-- JSON web tokens; the signatures are made by the openssl command (spec.support.jwt).
local clock = require "longshore.clock"
local config = require "longshore.config"
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"
local jwks = require "longshore.http.jwks"
local jwt = require "longshore.http.jwt"
local signing = require "spec.support.jwt"
local support = require "spec.support"

local NOW = 1700000000

describe("web tokens", function()
  local issuer_keys, dir, time

  setup(function()
    issuer_keys = signing.issuer()
    dir = issuer_keys.folder
  end)
  teardown(support.cleanup)
  before_each(function() time = clock.fixed(NOW) end)

  local SECRET = signing.SECRET

  local function pem(name) return issuer_keys:pem(name) end

  local function token(...) return issuer_keys:token(...) end

  local function key_set(names) return issuer_keys:key_set(names) end

  local function good(more)
    local claims = { sub = "ann", org = "acme", scope = "openid upload longshore:read", exp = NOW + 300,
      iss = "https://id.example", aud = "longshore" }
    for name, value in pairs(more or {}) do claims[name] = value ~= "none" and value or nil end
    return claims
  end

  local function check(more)
    local options = { keys = { { algorithm = "HS256", secret = SECRET } }, issuer = "https://id.example",
      audience = "longshore", skew = 60, user = "sub", organization = "org", rights = "scope" }
    for name, value in pairs(more or {}) do options[name] = value end
    if options.keys == "none" then options.keys = nil end
    return options
  end

  local function new(more, parts)
    parts = parts or {}
    parts.clock = parts.clock or time
    return assert(jwt.new(check(more), parts))
  end

  local function refused(tokens, text, reason)
    local actor, err = tokens:verify(text)
    assert.is_nil(actor)
    assert.equal("unauthenticated", err.code)
    if reason then assert.equal(reason, err.reason) end
    assert.is_nil(tostring(err):find(text, 1, true))
    return err
  end

  it("makes an actor of each kind of key, and of no other", function()
    local kinds = { HS256 = { secret = SECRET }, RS256 = { pem = pem "rsa" }, ES256 = { pem = pem "ec" },
      EdDSA = { pem = pem "ed" } }
    for alg, key in pairs(kinds) do
      key.algorithm = alg
      local tokens = new { keys = { key } }
      local text = token(good(), { alg = alg })
      assert.is_true(tokens:is(text))
      local actor = assert(tokens:verify(text))
      assert.same({ user = "ann", organization = "acme", tenant = "default", via = "jwt",
        rights = { upload = true, read = true }, token_id = actor.token_id }, actor)
      assert.is_nil(text:find(actor.token_id, 1, true))
      for other in pairs(kinds) do
        if other ~= alg then refused(tokens, token(good(), { alg = other })) end
      end
      -- One bit of each part.
      for part in text:gmatch("[^.]+") do
        local at = text:find(part, 1, true) + math.floor(#part / 2)
        local flipped = text:sub(at, at) == "A" and "B" or "A"
        refused(tokens, text:sub(1, at - 1) .. flipped .. text:sub(at + 1))
      end
    end
    assert.is_false(new():is("ls_aaaaaaaaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"))
  end)

  it("takes the algorithm from the key, whatever the token says", function()
    -- The classic: the public key as the secret of an HMAC.
    local public = pem "rsa"
    local tokens = new { keys = { { algorithm = "RS256", pem = public } } }
    refused(tokens, token(good(), { alg = "HS256" }, "HS256", public))
    refused(tokens, token(good(), { alg = "RS256" }, "HS256", public))
    refused(tokens, token(good(), { alg = "none" }, "HS256"))
    local data = core.base64url('{"alg":"none"}') .. "." .. core.base64url(json.encode(good()))
    assert.is_nil((new():verify(data .. ".")))
    refused(new(), data .. "." .. core.base64url("x"))
    -- A right signature under a header that names another algorithm.
    refused(new(), token(good(), { alg = "RS256" }, "HS256"))
    refused(new(), token(good(), { alg = "HS256", crit = json.array { "b64" } }))
    refused(new(), token(good(), { typ = "JWT" }, "HS256"))
  end)

  it("verifies the example of RFC 8037, and not a longer signature", function()
    local key = assert(core.jws_key { algorithm = "EdDSA",
      x = core.unbase64url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo") })
    local data = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    local signature = core.unbase64url(
      "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
    assert.is_true(key:verify(data, signature))
    for _, wrong in ipairs { signature .. "\0", signature:sub(1, 63), "", signature:gsub("^.", "x") } do
      local ok, err = key:verify(data, wrong)
      assert.is_nil(ok)
      assert.equal("signature_mismatch", err.code)
    end
    assert.equal("EdDSA", key:algorithm())
    assert.is_nil(tostring(key):find("0x", 1, true))
  end)

  it("checks expiry, not-before and issue with the clock's skew", function()
    local tokens = new()
    local text = token(good { exp = NOW + 10, nbf = NOW - 5 })
    assert(tokens:verify(text))
    time.advance(69)
    assert(tokens:verify(text))
    time.advance(1)
    refused(tokens, text, "expired")
    time.advance(-70)
    assert(tokens:verify(token(good { nbf = NOW + 60 })))
    refused(tokens, token(good { nbf = NOW + 61 }), "early")
    refused(tokens, token(good { iat = NOW + 61 }), "early")
    refused(tokens, token(good { exp = "none" }))
    refused(tokens, token(good { exp = "never" }))
    refused(tokens, token(good { exp = json.null }))
  end)

  it("checks issuer and audience", function()
    local tokens = new()
    refused(tokens, token(good { iss = "https://id.example.evil" }))
    refused(tokens, token(good { iss = "none" }))
    refused(tokens, token(good { aud = "other" }))
    refused(tokens, token(good { aud = "none" }))
    refused(tokens, token(good { aud = json.array { "a", "b" } }))
    assert(tokens:verify(token(good { aud = json.array { "a", "longshore" } })))
  end)

  it("takes names only from claims that are names, and no right that is none", function()
    for _, value in ipairs { "none", "", 5, json.null, "a\nb", ("x"):rep(256), json.array { "acme" } } do
      refused(new(), token(good { org = value }))
    end
    refused(new { tenant = "tid" }, token(good()))
    assert.equal("t1", assert(new { tenant = "tid" }:verify(token(good { tid = "t1" }))).tenant)
    assert.same({}, assert(new():verify(token(good { scope = "none" }))).rights)
    assert.same({ delete = true },
      assert(new():verify(token(good { scope = json.array { "delete", "root", 7 } }))).rights)
  end)

  it("never raises on malformed tokens", function()
    local tokens = new()
    for _, text in ipairs { "", "a", "a.b", "a.b.c", "..", "a.b.c.d", "e30.e30.e30", "e30=.e30.AA", "!.!.!",
      core.base64url("[1]") .. ".e30.AA", core.base64url('{"alg":5}') .. ".e30.AA",
      core.base64url('{"alg":"HS256","kid":{}}') .. ".e30.AA", ("x"):rep(4000) .. ".e30.AA" } do
      assert.is_nil((tokens:verify(text)))
    end
    -- Signed, but no claims.
    local data = core.base64url '{"alg":"HS256"}' .. "." .. core.base64url "[]"
    refused(tokens, data .. "." .. core.base64url(core.hmac_sha256(SECRET, data)))
  end)

  it("refuses keys that are too weak or of another kind, naming the key", function()
    for _, row in ipairs {
      { { algorithm = "HS256", secret = ("s"):rep(31) }, "at least 32 bytes" },
      { { algorithm = "RS256", pem = pem "weak" }, "at least 2048 bits" },
      { { algorithm = "ES256", pem = pem "p384" }, "not one for ES256" },
      { { algorithm = "ES256", pem = pem "rsa" }, "not one for ES256" },
      { { algorithm = "EdDSA", pem = pem "ec" }, "not one for EdDSA" },
      { { algorithm = "RS256", pem = "nonsense" }, "not a public key" },
      { { algorithm = "RS256", secret = SECRET }, "public key" },
      { { algorithm = "HS256", pem = pem "rsa" }, "takes a secret" },
    } do
      local tokens, err = jwt.new(check { keys = { row[1] } }, { clock = time })
      assert.is_nil(tokens)
      assert.equal("auth.jwt.keys[1]", err.field)
      assert.truthy(err.message:find(row[2], 1, true), err.message)
    end
    assert.has_error(function() core.jws_key { algorithm = "none" } end)
    assert.has_error(function() core.jws_key { algorithm = "RS256" } end)
    for _, given in ipairs { { algorithm = "RS256", n = ("\255"):rep(256), e = "\1" },
      { algorithm = "RS256", n = ("\255"):rep(256), e = "\2" }, { algorithm = "RS256", n = "", e = "\3" },
      { algorithm = "ES256", x = ("\1"):rep(32), y = ("\2"):rep(32) }, { algorithm = "ES256", x = "a", y = "b" },
      { algorithm = "EdDSA", x = "short" } } do
      local key, err = core.jws_key(given)
      assert.is_nil(key)
      assert.equal("invalid", err.code)
    end
  end)

  it("takes no key with a password, and asks nobody for it", function()
    local out = support.tmpdir()
    assert.equal(0, (support.run(("cd %s && openssl genrsa -traditional -aes128 -passout pass:1234 -out a 2048 && " ..
      "openssl genrsa -aes128 -passout pass:1234 -out b 2048 && sed 's/RSA PRIVATE/PUBLIC/' a > c"):format(out))))
    local script = support.write_file(out .. "/read.lua", [[
      local core = require "longshore.core"
      for _, name in ipairs { "a", "b", "c" } do
        local f = io.open(arg[1] .. "/" .. name)
        print(core.jws_key { algorithm = "RS256", pem = f:read "*a" })
      end
      print(io.read "*l")]])
    local code, text = support.run(("echo 1234 | setsid -w %s %s %s"):format(support.lua, script, out))
    assert.same({ 0, ("nil\tinvalid: this is not a public key\n"):rep(3) .. "1234\n" }, { code, text })
  end)

  -- A transport that counts, with an answer that can be changed.
  local function issuer(text)
    local self = { text = text, calls = 0, status = 200 }
    function self.transport()
      self.calls = self.calls + 1
      if self.down then return errors.fail("network", "no route") end
      return { status = self.status, headers = {}, body = self.text }
    end
    return self
  end

  local function remote(source, more, cache)
    local options = { keys = "none", jwks = "https://id.example/keys", algorithms = { "RS256", "ES256", "EdDSA" },
      cache_seconds = 600 }
    for name, value in pairs(more or {}) do options[name] = value end
    return new(options, { transport = source.transport, cache = cache })
  end

  it("finds keys in a set, by kid and without, and fetches it once", function()
    local source = issuer(key_set { "rsa", "ec", "ed" })
    local tokens = remote(source)
    for alg, name in pairs { RS256 = "rsa", ES256 = "ec", EdDSA = "ed" } do
      assert(tokens:verify(token(good(), { alg = alg, kid = name })))
      assert(tokens:verify(token(good(), { alg = alg })))
      refused(tokens, token(good(), { alg = alg, kid = name == "rsa" and "ec" or "rsa" }))
    end
    assert.equal(1, source.calls)
    time.advance(599)
    assert(tokens:verify(token(good { exp = NOW + 9999 }, { alg = "RS256", kid = "rsa" })))
    assert.equal(1, source.calls)
    time.advance(2)
    assert(tokens:verify(token(good { exp = NOW + 9999 }, { alg = "RS256", kid = "rsa" })))
    assert.equal(2, source.calls)
  end)

  it("allows only the algorithms that are configured, and no shared secret from a set", function()
    local source = issuer(key_set { "rsa", "ec" })
    local tokens = remote(source, { algorithms = { "ES256" } })
    assert(tokens:verify(token(good(), { alg = "ES256", kid = "ec" })))
    refused(tokens, token(good(), { alg = "RS256", kid = "rsa" }))
    source = issuer(json.encode { keys = json.array { { kty = "oct", k = core.base64url(SECRET), alg = "HS256" } } })
    refused(remote(source), token(good(), { alg = "HS256" }))
    local other = json.decode(key_set { "rsa" })
    other.keys[1].use = "enc"
    refused(remote(issuer(json.encode(other))), token(good(), { alg = "RS256", kid = "rsa" }))
  end)

  it("looks again for a key it does not know, but not at everybody's whim", function()
    local source = issuer(key_set { "rsa" })
    local tokens = remote(source)
    assert(tokens:verify(token(good(), { alg = "RS256", kid = "rsa" })))
    time.advance(11)
    source.text = key_set { "rsa", "ed" }
    assert(tokens:verify(token(good(), { alg = "EdDSA", kid = "ed" })))
    assert.equal(2, source.calls)
    for _ = 1, 20 do refused(tokens, token(good(), { alg = "EdDSA", kid = "nobody" })) end
    assert.equal(2, source.calls)
  end)

  it("goes on with the old set while the issuer is away, and says so when there is none", function()
    local source = issuer(key_set { "rsa" })
    local tokens = remote(source)
    local text = token(good { exp = NOW + 99999 }, { alg = "RS256", kid = "rsa" })
    assert(tokens:verify(text))
    source.down = true
    time.advance(700)
    assert(tokens:verify(text))
    source.down, source.text = nil, "<html>"
    time.advance(700)
    assert(tokens:verify(text))
    time.advance(6000)
    local actor, err = tokens:verify(text)
    assert.is_nil(actor)
    assert.equal("unavailable", err.code)
    assert.is_true(err.retryable)
  end)

  it("has nobody wait for an issuer that is known to be away", function()
    local source, cache = issuer(key_set { "rsa" }), jwks.memory(time)
    local tokens, text = remote(source, nil, cache), token(good(), { alg = "RS256", kid = "rsa" })
    local function seconds(expected)
      local before = time.now()
      local actor, err = tokens:verify(text)
      assert.is_nil(actor)
      assert.equal(expected, err.code)
      return time.now() - before
    end
    -- Somebody else asks for the first time: that is worth waiting for.
    assert.is_true(cache.claim("jwks:turn:https://id.example/keys", 10))
    assert.is_true(seconds "unavailable" > 4)
    time.advance(10)
    source.down = true
    for _ = 1, 20 do assert.equal(0, seconds "unavailable") end
    assert.equal(1, source.calls)
    time.advance(11)
    assert.equal(0, seconds "unavailable")
    assert.equal(2, source.calls)
    source.down = nil
    time.advance(11)
    assert(tokens:verify(text))
  end)

  it("finds keys in a set beside keys of the configuration, which are asked first", function()
    local source = issuer(key_set { "rsa", "ec" })
    for _, kid in ipairs { false, "hs" } do
      local tokens = remote(source, { keys = { { kid = kid or nil, algorithm = "HS256", secret = SECRET } } })
      source.calls = 0
      assert(tokens:verify(token(good(), { alg = "HS256" })))
      refused(tokens, (token(good(), { alg = "HS256" }):gsub("....$", "AAAA")))
      assert.equal(0, source.calls)
      assert(tokens:verify(token(good(), { alg = "RS256", kid = "rsa" })))
      assert(tokens:verify(token(good(), { alg = "ES256" })))
    end
  end)

  it("knows a token by what was signed, however the signature is written", function()
    local tokens = remote(issuer(key_set { "ec" }))
    local text = token(good(), { alg = "ES256", kid = "ec" })
    local head, bytes = text:match("^(.*)%."), core.unbase64url(text:match("[^.]*$"))
    -- s and n - s are as good as one another.
    local order = ("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"):gsub("..", function(hex)
      return string.char(tonumber(hex, 16))
    end)
    local twin, borrow = {}, 0
    for i = 32, 1, -1 do
      local digit = order:byte(i) - bytes:byte(32 + i) - borrow
      borrow = digit < 0 and 1 or 0
      twin[i] = string.char(digit % 256)
    end
    local other = head .. "." .. core.base64url(bytes:sub(1, 32) .. table.concat(twin))
    assert.is_true(other ~= text)
    assert.equal(assert(tokens:verify(text)).token_id, assert(tokens:verify(other)).token_id)
  end)

  it("shares the set among all that share the cache", function()
    local source, cache = issuer(key_set { "rsa" }), jwks.memory(time)
    local first, second = remote(source, nil, cache), remote(source, nil, cache)
    local text = token(good(), { alg = "RS256", kid = "rsa" })
    assert(first:verify(text))
    assert(second:verify(text))
    assert.equal(1, source.calls)
  end)

  it("reads a set from a file, and takes no plain http", function()
    support.write_file(dir .. "/keys.json", key_set { "ed" })
    local tokens = new { keys = "none", jwks = dir .. "/keys.json" }
    assert(tokens:verify(token(good(), { alg = "EdDSA", kid = "ed" })))
    local none, err = jwt.new(check { keys = "none", jwks = "http://id.example/keys" }, { clock = time })
    assert.is_nil(none)
    assert.equal("auth.jwt.jwks", err.field)
  end)

  it("is configured in the broker's file", function()
    local path = support.write_file(dir .. "/longshore.lua", [[return { diskstore = { enabled = false },
      buckets = { default = { bucket = "abc", region = "us-east-1", access_key = "a", secret_key = "b" } },
      auth = { jwt = { issuer = "https://id.example", audience = "longshore", jwks = "keys.json",
        keys = { { kid = "a", algorithm = "RS256", pem = file "rsa.pem" } } } } }]])
    local loaded = assert(config.load(path))
    assert.equal(dir .. "/keys.json", loaded.auth.jwt.jwks)
    assert.equal(60, loaded.auth.jwt.skew)
    local again = assert(config.load(support.write_file(dir .. "/again.lua", config.serialize(loaded))))
    assert.equal(loaded.auth.jwt.keys[1].pem, again.auth.jwt.keys[1].pem)
    local tokens = assert(jwt.new(again.auth.jwt, { clock = time }))
    assert(tokens:verify(token(good(), { alg = "RS256", kid = "a" })))
  end)
end)

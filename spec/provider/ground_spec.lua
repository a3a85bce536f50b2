-- The provider's small parts: addresses, metadata, credentials, profiles,
-- documents.
local address = require "longshore.provider.address"
local clock = require "longshore.clock"
local credentials = require "longshore.provider.credentials"
local documents = require "longshore.provider.documents"
local errors = require "longshore.errors"
local json = require "longshore.json"
local metadata = require "longshore.provider.metadata"
local profiles = require "longshore.provider.profiles"
local support = require "spec.support"
local xml = require "longshore.provider.xml"

describe("longshore.provider.address", function()
  local function host(text)
    local endpoint = assert(address.parse(text))
    return endpoint.host, endpoint.prefix
  end

  it("names a port only when it is not the scheme's own", function()
    assert.equal("s3.example.com", (host("https://s3.example.com")))
    assert.equal("s3.example.com", (host("https://S3.Example.com:443/")))
    assert.equal("s3.example.com", (host("http://s3.example.com:80")))
    assert.equal("s3.example.com:80", (host("https://s3.example.com:80")))
    assert.equal("127.0.0.1:9000", (host("http://127.0.0.1:9000")))
    assert.equal("127.0.0.1", (host("http://127.0.0.1")))
  end)

  it("keeps IPv6 in brackets and a path in front", function()
    assert.equal("[::1]:9000", (host("http://[::1]:9000")))
    assert.equal("[2001:db8::1]", (host("https://[2001:DB8::1]:443")))
    local _, prefix = host("https://x.example/storage/v1/s3/")
    assert.equal("/storage/v1/s3", prefix)
  end)

  it("refuses what is no endpoint", function()
    for _, bad in ipairs { "", "s3.example.com", "ftp://x", "http://", "http://:80", "http://h:0", "http://h:65536",
      "http://h:x",
      "http://h:", "http://::1:9000", "http://[::1", "http://[x]", "http://a b", "http://u:p@h", "http://h/?a=b",
        "http://h/#x",
      "http://h\n", "http://h_\195\188" } do
      local endpoint, err = address.parse(bad)
      assert.is_nil(endpoint, bad)
      assert.equal("invalid", err.code)
      assert.equal("endpoint", err.field)
    end
  end)

  it("puts the bucket into the host only where that works", function()
    local function needs(url, bucket, wish)
      return address.needs_path(assert(address.parse(url)), bucket, wish)
    end
    assert.is_false(needs("https://s3.amazonaws.com", "bucket"))
    assert.is_true(needs("https://s3.amazonaws.com", "my.bucket"))
    assert.is_false(needs("http://s3.amazonaws.com", "my.bucket"))
    assert.is_true(needs("https://s3.amazonaws.com", "Bucket"))
    assert.is_true(needs("https://s3.amazonaws.com", "a_b"))
    assert.is_true(needs("https://s3.amazonaws.com", "ab"))
    assert.is_true(needs("https://s3.amazonaws.com", "1.2.3.4"))
    assert.is_true(needs("http://127.0.0.1:9000", "bucket"))
    assert.is_true(needs("http://[::1]:9000", "bucket"))
    assert.is_true(needs("http://localhost:9000", "bucket"))
    assert.is_true(needs("https://s3.amazonaws.com", "bucket", true))
    assert.is_false(needs("http://localhost:9000", "bucket", false))
    assert.is_false(needs("https://s3.amazonaws.com", "bucket", "auto"))
  end)

  it("builds the root of the keys", function()
    local endpoint = address.parse("https://h.example:8443/p")
    assert.same({ scheme = "https", host = "h.example:8443", root = "/p/b/" }, address.bucket(endpoint, "b", true))
    assert.same({ scheme = "https", host = "b.h.example:8443", root = "/p/" }, address.bucket(endpoint, "b", false))
  end)
end)

describe("longshore.provider.metadata", function()
  local awkward = { plain = "abc def", umlaut = "gr\195\188\195\159e", ship = "\240\159\154\162", spaces = "  a  b  ",
    percent = "100% %41",
    word = "=?UTF-8?B?YQ==?=", empty = "", one = " ", equals = "a=b?c", long = ("\226\130\172"):rep(300),
      tilde = "~!@#" }

  for _, rule in ipairs { "rfc2047", "percent" } do
    it("survives " .. rule .. " as plain ASCII without doubled spaces", function()
      local headers = assert(metadata.headers(awkward, { rule = rule }))
      for name, value in pairs(headers) do
        assert.is_nil(value:find("[^\32-\126]"), name)
        assert.is_nil(value:find("  ", 1, true), name)
        assert.is_nil(value:find("^ "), name)
        assert.is_nil(value:find(" $"), name)
      end
      assert.same(awkward, metadata.read(headers, rule))
    end)
  end

  it("leaves plain values alone under rfc2047, so that other programs read them", function()
    assert.equal("100% sure", metadata.headers({ A = "100% sure" }, {})["x-amz-meta-a"])
  end)

  it("reads what others write: Q encoding, words with spaces between", function()
    assert.same({ a = "gr\195\188n x" },
      metadata.read({ ["x-amz-meta-a"] = "=?utf-8?Q?gr=C3=BCn_?= =?UTF-8?B?eA==?=" }))
  end)

  it("is refused where a header would change it", function()
    local function code(meta, options)
      local headers, err = metadata.headers(meta, options or {})
      assert.is_nil(headers)
      assert.equal("metadata", err.field)
      return err.code
    end
    assert.equal("invalid", code({ a = "x\ny" }))
    assert.equal("invalid", code({ a = "x\0" }))
    assert.equal("invalid", code({ a = "\255" }))
    assert.equal("invalid", code({ ["a b"] = "x" }))
    assert.equal("invalid", code({ [""] = "x" }))
    assert.equal("invalid", code({ ["a:b"] = "x" }))
    assert.equal("invalid", code({ a = 1 }))
    assert.equal("invalid", code({ [1] = "x" }))
    assert.equal("invalid", code({ a = "x", A = "y" }))
    assert.equal("invalid", code({ a = "\195\188" }, { rule = "refuse" }))
    assert.equal("invalid", code({ a = "x  y" }, { rule = "refuse" }))
    assert.equal("too_large", code({ a = ("x"):rep(2048) }, { limit = 2048 }))
    assert.truthy(metadata.headers({ a = ("x"):rep(2047) }, { limit = 2048 }))
  end)

  it("names a file for the browser in ASCII and in UTF-8", function()
    assert.equal('attachment; filename="a b.csv"', metadata.disposition("a b.csv"))
    assert.equal("attachment; filename=\"__ _x_.txt\"; filename*=UTF-8''%C3%BC%20%22x%22.txt",
      metadata.disposition("\195\188 \"x\".txt"))
    assert.is_nil(metadata.disposition("a\r\nX: y"):find("[\r\n]"))
  end)
end)

describe("longshore.provider.credentials", function()
  local function keys(n, expires_at)
    return { access_key = "AK" .. n, secret_key = "SK", expires_at = expires_at }
  end

  it("asks a source once for keys that live for ever", function()
    local calls = 0
    local get = credentials.new(function() calls = calls + 1 return keys(1) end, clock.fixed(1000))
    local first = assert(get())
    assert.equal(first, get())
    assert.equal(1, calls)
  end)

  it("renews ahead of the end, once, and keeps the same table until then", function()
    local now, calls = clock.fixed(1000), 0
    local get = credentials.new(function() calls = calls + 1 return keys(calls, now.now() + 3600) end, now)
    local first = assert(get())
    now.advance(3200)
    assert.equal(first, get())
    now.advance(150)
    local second = assert(get())
    assert.equal("AK2", second.access_key)
    assert.equal(second, get())
    assert.equal(2, calls)
  end)

  it("lives on with the old keys while they last, and does not press a failing source", function()
    local now, calls, broken = clock.fixed(1000), 0, false
    local get = credentials.new(function()
      calls = calls + 1
      if broken then error("secret-of-the-source") end
      return keys(calls, now.now() + 1000)
    end, now)
    assert(get())
    broken = true
    now.advance(800)
    assert.equal("AK1", assert(get()).access_key)
    assert.equal("AK1", assert(get()).access_key)
    assert.equal(2, calls)
    now.advance(16)
    assert(get())
    assert.equal(3, calls)
    now.advance(300)
    local none, err = get()
    assert.is_nil(none)
    assert.equal("unavailable", err.code)
    assert.is_true(err.retryable)
    broken = false
    now.advance(16)
    assert.equal("AK5", assert(get()).access_key)
  end)

  it("lets one caller renew while the others use what is held", function()
    local now, calls = clock.fixed(1000), 0
    local get
    get = credentials.new(function()
      calls = calls + 1
      if calls == 2 then assert.equal("AK1", get().access_key) end
      return keys(calls, now.now() + 1000)
    end, now)
    get()
    now.advance(800)
    assert.equal("AK2", get().access_key)
    assert.equal(2, calls)
  end)

  it("does not wait for ever for a renewal that never ends", function()
    local now = clock.fixed(1000)
    local get, inner
    get = credentials.new(function()
      inner = select(2, get())
      return nil, errors.new("unavailable", "down")
    end, now)
    assert.is_nil((get()))
    assert.equal("unavailable", inner.code)
  end)

  it("takes an ISO date and refuses half keys", function()
    local now = clock.fixed(1000)
    assert.equal(1709251199, credentials.new(function() return keys(1, "2024-02-29T23:59:59Z") end, now)().expires_at)
    for _, bad in ipairs { {}, { access_key = "a" }, { access_key = "a", secret_key = "" }, { access_key = "a b",
      secret_key = "x" },
      { access_key = "a", secret_key = "x", session_token = 1 }, { access_key = "a", secret_key = "x",
        expires_at = "soon" } } do
      assert.equal("unavailable", select(2, credentials.new(function() return bad end, now)()).code)
    end
  end)

  it("reads the environment and Amazon's file", function()
    local env = { AWS_ACCESS_KEY_ID = "A", AWS_SECRET_ACCESS_KEY = "S", AWS_SESSION_TOKEN = "T" }
    assert.same({ access_key = "A", secret_key = "S", session_token = "T" },
      credentials.new(credentials.environment(function(n) return env[n] end), clock.fixed(0))())
    env.AWS_SECRET_ACCESS_KEY = nil
    assert.is_nil((credentials.environment(function(n) return env[n] end)()))
    local path = support.write_file(support.tmpdir() .. "/credentials",
      "[default]\naws_access_key_id = A1\naws_secret_access_key=S1\n" ..
      "# c\n[other]\naws_access_key_id=A2\naws_secret_access_key=S2=\naws_session_token=T2\n")
    assert.equal("A1", credentials.file(path)().access_key)
    assert.same({ access_key = "A2", secret_key = "S2=", session_token = "T2" }, credentials.file(path, "other")())
    assert.equal("invalid", select(2, credentials.file(path, "none")()).code)
    assert.equal("io", select(2, credentials.file(path .. "x")()).code)
    support.cleanup()
  end)
end)

describe("longshore.provider.profiles", function()
  it("has every field in every row, of the same kind", function()
    local fields = { min_part = "number", max_part = "number", max_parts = "number", max_object = "number",
      max_put = "number",
      max_copy = "number", max_metadata = "number", max_expires = "number", equal_parts = "boolean",
        etag_is_md5 = "boolean",
      lists_crc32c = "boolean", checksum_mode = "boolean", checksum_kinds = "table", post_policy = "boolean",
      conditional_put = "boolean", conditional_complete = "boolean", location_constraint = "boolean",
        lifecycle_abort = "boolean",
      bucket_cors = "boolean", complete_repeats = "boolean", sessions = "boolean", encryption = "table",
      uploads_encoded = "boolean",
        region = "string",
        title = "string", api = "string",
        name = "string" }
    assert.equal(12, #profiles.names)
    for _, name in ipairs(profiles.names) do
      local row = profiles.get(name)
      for field, kind in pairs(fields) do
        assert.equal(kind, type(row[field]), name .. "." .. field)
      end
      for field in pairs(row) do
        assert.truthy(fields[field] or field == "endpoint" or field == "path_style"
          or field == "checksum_of_unannounced", name .. "." .. field)
      end
      assert.is_true(row.min_part <= row.max_part and row.max_part <= row.max_object, name)
      assert.is_true(row.max_object <= row.max_parts * row.max_part, name .. ": the object does not fit into its parts")
      assert.is_true(row.max_expires <= 604800)
    end
  end)

  it("gives a copy, and rows with changes of one's own", function()
    profiles.get("aws").max_parts = 1
    assert.equal(10000, profiles.get("aws").max_parts)
    local own = profiles.get { base = "aws", etag_is_md5 = false }
    assert.is_false(own.etag_is_md5)
    assert.equal("aws", own.name)
    assert.is_nil(profiles.get("nope"))
    assert.is_nil(profiles.get { base = "nope" })
  end)

  it("knows the limits that the vendors publish", function()
    assert.equal(10000 * 5 * 2 ^ 30, profiles.get("aws").max_object)
    assert.equal(1000, profiles.get("scaleway").max_parts)
    assert.equal(64 * 2 ^ 20, profiles.get("storj").min_part)
    assert.is_true(profiles.get("r2").equal_parts)
    assert.is_nil(profiles.get("r2").checksum_kinds.crc32c.full)
    assert.equal("crc32c", profiles.get("diskstore").checksum_of_unannounced)
    assert.equal("crc32c", profiles.get("gcs").checksum_of_unannounced)
    assert.is_nil(profiles.get("ceph").checksum_of_unannounced)
    assert.is_nil(profiles.get("aws").checksum_of_unannounced)
  end)
end)

describe("longshore.provider.documents", function()
  it("makes CORS rules that let a page put parts and read their ETags, as XML and JSON", function()
    local made = assert(documents.cors { origins = { "https://app.example", "http://localhost:*" } })
    local rule = assert(xml.read(made.xml)):first("CORSRule")
    assert.equal("https://app.example", rule:get("AllowedOrigin"))
    assert.equal(2, #rule:all("AllowedOrigin"))
    assert.equal("ETag", rule:get("ExposeHeader"))
    assert.equal("3600", rule:get("MaxAgeSeconds"))
    local same = assert(json.decode(made.json)).CORSRules[1]
    assert.same({ "https://app.example", "http://localhost:*" }, { same.AllowedOrigins[1], same.AllowedOrigins[2] })
    assert.equal("PUT", same.AllowedMethods[3])
  end)

  it("refuses origins that no browser sends and other mistakes", function()
    for _, bad in ipairs { {}, { origins = {} }, { origins = "x" }, { origins = { "app.example" } },
      { origins = { "https://a/b" } },
      { origins = { "https://*.*" } }, { origins = { "*" }, methods = { "PATCH" } }, { origins = { "*" },
        max_age = -1 },
      { origins = { "*" }, max_age = 1.5 }, { origins = { "*" }, expose = { "\1" } } } do
      local made, err = documents.cors(bad)
      assert.is_nil(made)
      assert.equal("invalid", err.code)
      assert.is_string(err.field)
    end
  end)

  it("makes lifecycle rules for abandoned uploads and a trash folder", function()
    local made = assert(documents.lifecycle { prefix = "up/<1>", abort_days = 3, trash_prefix = "trash/",
      trash_days = 30 })
    local rules = assert(xml.read(made.xml)):all("Rule")
    assert.equal("up/<1>", rules[1]:first("Filter"):get("Prefix"))
    assert.equal("3", rules[1]:first("AbortIncompleteMultipartUpload"):get("DaysAfterInitiation"))
    assert.is_nil(rules[1]:first("Expiration"))
    assert.equal("30", rules[2]:first("Expiration"):get("Days"))
    assert.equal(30, assert(json.decode(made.json)).Rules[2].Expiration.Days)
  end)

  it("never makes a rule that would empty the bucket", function()
    for _, bad in ipairs { { trash_prefix = "", trash_days = 1 }, { trash_days = 1 }, { trash_prefix = "t/" },
      { abort_days = 0 },
      { abort_days = "7" }, { prefix = "\255" } } do
      assert.equal("invalid", select(2, documents.lifecycle(bad)).code)
    end
  end)
end)

-- SigV4 against botocore and awscrt, AWS's published examples, and everything
-- that a verifier must refuse.
local core = require "longshore.core"
local support = require "spec.support"

-- How many random requests, and how many parts; fewer for the runs under
-- valgrind and with an aggressive collector.
local CASES = tonumber(os.getenv("LONGSHORE_CASES")) or 4000
local PARTS = math.min(10000, 100 * CASES)

local EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
local TIME = 1369353600 -- 20130524T000000Z

local function aws_signer()
  return core.signer {
    access_key = "AKIAIOSFODNN7EXAMPLE", secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", region = "us-east-1",
  }
end

local function unhex(s)
  return s == "-" and "" or assert(core.unhex(s))
end

local function pairs_of(s)
  local out = {}
  if s == "-" then return out end
  for name, value in s:gmatch("([^=,]+)=([^,]+)") do
    name, value = unhex(name), unhex(value)
    out[name] = out[name] or {}
    table.insert(out[name], value)
  end
  return out
end

local FIELDS = { "kind", "method", "scheme", "host", "path", "query", "headers", "access", "secret", "token", "region",
  "hash", "time", "expires", "result" }

local function oracle(seed, count)
  local cases = {}
  local p = assert(io.popen(("/usr/bin/python3 %s/spec/core/sigv4_oracle.py %d %d"):format(support.root, seed, count)))
  for line in p:lines() do
    local case, i = {}, 0
    for field in (line .. "\t"):gmatch("([^\t]*)\t") do
      i = i + 1
      case[FIELDS[i]] = field
    end
    for _, name in ipairs { "path", "access", "secret", "token", "result" } do case[name] = unhex(case[name]) end
    case.query, case.headers = pairs_of(case.query), pairs_of(case.headers)
    case.time, case.expires = tonumber(case.time), tonumber(case.expires)
    if case.token == "" then case.token = nil end
    cases[#cases + 1] = case
  end
  p:close()
  return cases
end

local function encode_query(query)
  local out = {}
  for name, values in pairs(query) do
    for _, value in ipairs(values) do
      out[#out + 1] = core.uri_encode(name) .. "=" .. core.uri_encode(value)
    end
  end
  return table.concat(out, "&")
end

-- What the verifier gets when the oracle's client sends its request.
local function received(case)
  local request = { method = case.method, headers = { host = case.host } }
  for name, values in pairs(case.headers) do request.headers[name] = values end
  if case.kind:find("query") then
    request.target = case.result
    return request
  end
  local query = encode_query(case.query)
  request.target = core.uri_encode(case.path, true) .. (query ~= "" and "?" .. query or "")
  request.headers.authorization = case.result
  request.headers["x-amz-date"] = os.date("!%Y%m%dT%H%M%SZ", case.time)
  request.headers["x-amz-content-sha256"] = case.hash
  request.headers["x-amz-security-token"] = case.token
  return request
end

local function expected(case)
  return { secret_key = case.secret, session_token = case.token, region = case.region, now = case.time + 5 }
end

local function our_signature(case)
  local signer = core.signer {
    access_key = case.access, secret_key = case.secret, session_token = case.token, region = case.region,
  }
  local request = { method = case.method, scheme = case.scheme, host = case.host, path = case.path,
    query = case.query, headers = case.headers, time = case.time, expires = case.expires, payload_hash = case.hash }
  if case.kind:find("query") then
    local url = assert(signer:presign(request))
    return url, url:match("&X%-Amz%-Signature=(%x+)$")
  end
  local headers, target = assert(signer:sign(request))
  return target, headers.authorization:match("Signature=(%x+)$"), headers
end

describe("longshore.core SigV4", function()
  teardown(support.cleanup)

  describe("signs AWS's published examples", function()
    local host = "examplebucket.s3.amazonaws.com"

    it("GET object with a range", function()
      local headers, target = aws_signer():sign {
        method = "GET", host = host, path = "/test.txt", headers = { range = "bytes=0-9" }, time = TIME,
      }
      assert.equal("/test.txt", target)
      assert.same({
        ["x-amz-date"] = "20130524T000000Z", ["x-amz-content-sha256"] = EMPTY,
        authorization = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, " ..
          "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, " ..
          "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
      }, headers)
    end)

    it("PUT object", function()
      local headers, target = aws_signer():sign {
        method = "PUT", host = host, path = "/test$file.text", time = TIME, body = "Welcome to Amazon S3.",
        headers = { date = "Fri, 24 May 2013 00:00:00 GMT", ["x-amz-storage-class"] = "REDUCED_REDUNDANCY" },
      }
      assert.equal("/test%24file.text", target)
      assert.equal("98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        headers.authorization:match("Signature=(%x+)$"))
    end)

    it("GET bucket lifecycle and list objects", function()
      local headers, target = aws_signer():sign {
        method = "GET", host = host, path = "/", query = { lifecycle = true }, time = TIME,
      }
      assert.equal("/?lifecycle=", target)
      assert.equal("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        headers.authorization:match("Signature=(%x+)$"))
      headers, target = aws_signer():sign {
        method = "GET", host = host, path = "/", query = { ["max-keys"] = 2, prefix = "J" }, time = TIME,
      }
      assert.equal("/?max-keys=2&prefix=J", target)
      assert.equal("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        headers.authorization:match("Signature=(%x+)$"))
    end)

    it("a presigned GET", function()
      assert.equal("https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256" ..
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request" ..
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host" ..
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
        aws_signer():presign { method = "GET", host = host, path = "/test.txt", expires = 86400, time = TIME })
    end)
  end)

  describe("agrees with botocore and awscrt", function()
    local cases = oracle(os.getenv("LONGSHORE_SEED") or 20260101, CASES)

    it("has a full set of cases to compare", function()
      assert.equal(CASES, #cases)
    end)

    it("in what it signs", function()
      for i, case in ipairs(cases) do
        local _, signature = our_signature(case)
        local theirs = case.result:match("Signature=(%x+)$")
        if signature ~= theirs then
          local _, err = core.sigv4_verify(received(case), expected(case))
          error(("case %d (%s): %s\n%s"):format(i, case.kind, tostring(err), tostring(err and err.canonical_request)))
        end
      end
    end)

    it("in what it accepts", function()
      for i, case in ipairs(cases) do
        local ok, err = core.sigv4_verify(received(case), expected(case))
        if not ok then
          error(("case %d (%s): %s\n%s"):format(i, case.kind, tostring(err), tostring(err.canonical_request)))
        end
      end
    end)

    it("and reads who signed", function()
      for _, case in ipairs(cases) do
        local auth = assert(core.sigv4_parse(received(case)))
        assert.equal(case.kind:match("%a+$"), auth.form)
        assert.equal(case.access, auth.access_key)
        assert.equal(case.region, auth.region)
        assert.equal("s3", auth.service)
        assert.equal(case.time, auth.time)
        assert.equal(os.date("!%Y%m%d", case.time), auth.date)
        assert.equal(case.token, auth.session_token)
        assert.equal(case.hash, auth.payload_hash)
        assert.equal(auth.form == "query" and case.expires or nil, auth.expires)
      end
    end)

    -- One byte elsewhere, and the signature must not fit. (The case of an
    -- escape's digits is no difference: %2f and %2F are the same path. An
    -- Authorization header that names another key is looked up as that key.)
    it("but refuses every request with one byte changed", function()
      local letters = "abcxyzABCXYZ0123456789"
      local function mutate(s, n)
        local at = n % #s + 1
        local k = n % #letters + 1
        local old, new = s:sub(at, at), letters:sub(k, k)
        if old:lower() == new:lower() then return nil end
        return s:sub(1, at - 1) .. new .. s:sub(at + 1)
      end
      local tried = 0
      for i, case in ipairs(cases) do
        for _, what in ipairs { "target", "method", "secret", "header" } do
          local request, want = received(case), expected(case)
          local before = core.sigv4_parse(request)
          local changed
          local n = i * 7919 + #case.result
          if what == "target" or what == "method" then
            changed = mutate(request[what], n)
            request[what] = changed or request[what]
          elseif what == "secret" then
            changed = mutate(want.secret_key, n)
            want.secret_key = changed or want.secret_key
          else
            local names = {}
            for name in pairs(request.headers) do names[#names + 1] = name end
            table.sort(names)
            local name = names[n % #names + 1]
            local value = request.headers[name]
            if type(value) == "table" then value = value[1] end
            changed = value ~= "" and mutate(value, n)
            request.headers[name] = changed or value
          end
          if changed then
            tried = tried + 1
            local ok, err = core.sigv4_verify(request, want)
            if not ok then
              assert.is_string(err.code)
            elseif core.sigv4_parse(request).access_key == case.access then
              error(("case %d (%s): accepted a changed %s: %s"):format(i, before.form, what, changed))
            end
          end
        end
      end
      assert.is_true(tried > 2.5 * CASES)
    end)
  end)

  describe("signs runs of parts", function()
    local function check(run, numbers)
      local signer = aws_signer()
      local urls = assert(signer:presign_parts(run))
      assert.equal(#numbers, #urls)
      for i, part in ipairs(numbers) do
        local query = { partNumber = part.number, uploadId = run.upload_id }
        for k, v in pairs(run.query or {}) do query[k] = v end
        local headers = { ["content-length"] = part.length }
        for k, v in pairs(run.headers or {}) do headers[k] = v end
        assert.equal(assert(signer:presign {
          method = "PUT", scheme = run.scheme, host = run.host, path = run.path, query = query, headers = headers,
          expires = run.expires, time = run.time,
        }), urls[i])
      end
      local json = assert(signer:presign_parts_json(run))
      assert.equal(#urls == 0 and "[]" or '["' .. table.concat(urls, '","') .. '"]', json)
      run.pieces = true
      local pieces = assert(signer:presign_parts_json(run))
      run.pieces = nil
      for _, piece in ipairs(pieces) do assert.is_true(#piece < 98304) end
      assert.equal(json, table.concat(pieces))
    end

    local function run_of(fields)
      local run = { host = "s3.example.com", path = "/bucket/a b+\195\188", upload_id = "2~abc/+=", expires = 900,
        time = TIME }
      for k, v in pairs(fields) do run[k] = v end
      return run
    end

    it("of every size, like one presigned URL for each", function()
      for count = 0, 9 do
        local numbers = {}
        for i = 1, count do numbers[i] = { number = i } end
        check(run_of { count = count }, numbers)
      end
    end)

    it("with lengths signed, and another one for the last part", function()
      local numbers = {}
      for i = 1, 13 do numbers[i] = { number = 94 + i, length = i < 13 and 8388608 or 7 } end
      check(run_of { first = 95, count = 13, length = 8388608, last_length = 7 }, numbers)
      for i = 1, 13 do numbers[i].length = 5368709120 end
      check(run_of { first = 95, count = 13, length = 5368709120 }, numbers)
    end)

    it("given as a list in any order, with and without lengths", function()
      local list = {
        { number = 10000, length = 1 }, { number = 1, length = 5368709120 }, { number = 5 }, { number = 6 },
        { number = 77, length = 0 }, { number = 9 }, { number = 10 }, { number = 11 }, { number = 12 }, { number = 13 },
        { number = 13 },
      }
      check(run_of { parts = list }, list)
      check(run_of { parts = {} }, {})
    end)

    it("with further parameters on both sides of partNumber, and headers", function()
      local list = { { number = 1, length = 10 }, { number = 2, length = 100 }, { number = 3, length = 1000 } }
      check(run_of {
        parts = list, scheme = "http", query = { a = "1", ["p"] = "x y", zz = { "2", "1" }, ["X-Zebra"] = true },
        headers = { ["content-type"] = "a  b", ["x-amz-meta-n"] = { "1", "2" }, zeta = "", abc = "1",
          ["x-amz-content-sha256"] = EMPTY },
      }, list)
      -- Short enough that nothing common fills a block, or exactly one.
      for n = 1, 130 do
        check(run_of { path = "/" .. ("k"):rep(n), count = 1, upload_id = "u" }, { { number = 1 } })
      end
    end)

    it("without repeating a signature or looking at the clock of another run", function()
      local signer = aws_signer()
      local seen = {}
      for day = 0, 3 do
        local urls = signer:presign_parts(run_of { count = 100, time = TIME + day * 43200 })
        for _, url in ipairs(urls) do
          local signature = url:match("&X%-Amz%-Signature=(%x+)$")
          assert.is_nil(seen[signature])
          seen[signature] = true
          assert.is_true(core.sigv4_verify({ method = "PUT", target = url:match("^https://[^/]+(.*)$"),
            headers = { host = "s3.example.com" } }, { secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            now = TIME + day * 43200 }))
        end
      end
    end)

    it("one call for each URL, from a run that stands alone", function()
      local signer = aws_signer()
      for _, lengths in ipairs { false, true } do
        local run = assert(signer:parts(run_of { lengths = lengths }))
        local want = signer:presign_parts(run_of { first = 8, count = 5, length = lengths and 77 or nil })
        signer:presign { method = "GET", host = "h", path = "/other", expires = 1, time = TIME + 1 }
        collectgarbage()
        for i = 5, 1, -1 do
          assert.equal(want[i], run:url(7 + i, lengths and 77 or nil))
        end
        assert.has_error(function() run:url(0) end)
        assert.has_error(function() run:url(2 ^ 31) end)
        assert.has_error(function() run:url() end)
        assert.has_error(function() run:url(1, not lengths and 5 or nil) end)
        assert.has_error(function() run.url(signer, 1) end)
        assert.equal("longshore.run", tostring(run))
      end
      local run, err = signer:parts(run_of { expires = 0 })
      assert.is_nil(run)
      assert.equal("invalid", err.code)
      assert.has_error(function() signer:parts {} end)
    end)

    it("as many as an upload has, each a URL that verifies, by every implementation", function()
      finally(function() core.sha256_use(nil) end)
      local signer = aws_signer()
      local run = run_of { count = PARTS, length = 8388608, last_length = 5 }
      local want
      for _, name in ipairs(core.sha256_implementations()) do
        core.sha256_use(name)
        local urls = signer:presign_parts(run)
        want = want or urls
        assert.same(want, urls)
        run.pieces = name == "openssl"
        local json = signer:presign_parts_json(run)
        assert.equal('["' .. table.concat(want, '","') .. '"]', run.pieces and table.concat(json) or json)
      end
      for i, url in ipairs(want) do
        assert(core.sigv4_verify({ method = "PUT", target = url:match("^https://[^/]+(.*)$"),
          headers = { host = "s3.example.com", ["content-length"] = i < PARTS and 8388608 or 5 } },
          { secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", now = TIME }))
      end
      assert.has_error(function() core.sha256_use("abacus") end)
    end)

    it("many at once, and leaves the collector as it was", function()
      local function running()
        return collectgarbage("isrunning")
      end
      local signer = aws_signer()
      collectgarbage()
      for _, stopped in ipairs { false, true } do
        if stopped then collectgarbage("stop") end
        finally(function() collectgarbage("restart") end)
        for _, n in ipairs { 1, 3000 } do
          assert.equal(n, #signer:presign_parts(run_of { count = n }))
          assert.equal(not stopped, running())
          assert.is_nil((signer:presign_parts(run_of { count = n, expires = 0 })))
          local ok, err = pcall(function() signer:presign_parts(run_of { count = n, upload_id = 5 }) end)
          assert.is_false(ok)
          assert.truthy(err:find("sigv4_spec.lua:%d+: .*upload_id"), err)
          assert.equal(not stopped, running())
        end
      end
      collectgarbage("restart")
      -- (What other specs hold counts twice: the collector waits until the heap has doubled.)
      collectgarbage()
      local base, most = collectgarbage("count"), 0
      for _ = 1, 200 do
        signer:presign_parts(run_of { count = 3000 })
        most = math.max(most, collectgarbage("count"))
      end
      local bound = 2.5 * base + 16384
      assert.is_true(most < bound, ("%.0f KiB of %.0f"):format(most, bound))
    end)

    it("but not what only the run itself may say", function()
      for _, bad in ipairs {
        { count = 1, query = { partNumber = 1 } }, { count = 1, headers = { ["content-length"] = 1 } },
        { count = 1, expires = 0 }, { count = 1, path = "no slash" },
      } do
        local urls, err = aws_signer():presign_parts(run_of(bad))
        assert.is_nil(urls)
        assert.equal("invalid", err.code)
        assert.is_string(err.field)
      end
      for _, bad in ipairs {
        {}, { count = -1 }, { count = 1.5 }, { count = 1, first = 0 }, { count = 1, last_length = 5 },
        { parts = { 1 } }, { parts = { {} } }, { parts = { { number = 0 } } },
        { parts = { { number = 1, length = -1 } } },
        { parts = "x" }, { count = 1, length = 2 ^ 53 + 2 }, { count = 1, upload_id = 5 },
      } do
        assert.has_error(function() aws_signer():presign_parts(run_of(bad)) end)
      end
    end)
  end)

  describe("the signer", function()
    local function presign(fields)
      local request = { method = "GET", host = "h", path = "/b/k", expires = 60, time = TIME }
      for k, v in pairs(fields) do request[k] = v end
      return aws_signer():presign(request)
    end

    it("names the host as clients send it", function()
      local plain = presign { host = "s3.example.com" }
      assert.equal(plain, presign { host = "S3.Example.COM" })
      assert.equal(plain, presign { host = "s3.example.com:443" })
      assert.not_equal(plain, presign { host = "s3.example.com:80" })
      assert.equal("http://s3.example.com/b/k", presign { scheme = "http", host = "s3.example.com:80" }:match("^[^?]+"))
      assert.equal("https://[::1]:9000/b/k", presign { host = "[::1]:9000" }:match("^[^?]+"))
    end)

    it("signs the payload's hash that a header or a parameter gives", function()
      local hash = core.hex(core.sha256("hello"))
      local function verify(fields, sent)
        local url = assert(presign(fields))
        local headers = { host = "h", ["x-amz-content-sha256"] = sent }
        local request = { method = "GET", target = url:match("^https://h(.*)"), headers = headers }
        return core.sigv4_verify(request, { secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", now = TIME }), url
      end
      local ok, url = verify({ headers = { ["X-Amz-Content-Sha256"] = hash } }, hash)
      assert.is_true(ok)
      assert.is_truthy(url:find("SignedHeaders=host%3Bx-amz-content-sha256&", 1, true))
      assert.is_nil((verify({ headers = { ["x-amz-content-sha256"] = hash } }, EMPTY)))
      assert.is_nil((verify({ headers = { ["x-amz-content-sha256"] = hash } }, "UNSIGNED-PAYLOAD")))
      assert.is_true((verify { query = { ["X-Amz-Content-Sha256"] = hash } }))
      assert.is_true((verify({ query = { ["X-Amz-Content-Sha256"] = hash } }, hash)))
      assert.is_nil((verify({ query = { ["X-Amz-Content-Sha256"] = hash } }, EMPTY)))
      assert.is_true((verify({ headers = { ["x-amz-content-sha256"] = "STREAMING-UNSIGNED-PAYLOAD-TRAILER" } },
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER")))
      for _, bad in ipairs { "", hash:sub(2), hash .. "0", hash:upper(), "g" .. hash:sub(2), "STREAMING-",
        "STREAMING-a b", "STREAMING-a%2B", { hash, hash } } do
        for _, fields in ipairs { { headers = { ["x-amz-content-sha256"] = bad } },
          { query = { ["X-Amz-Content-Sha256"] = bad } } } do
          local refused, err = presign(fields)
          assert.is_nil(refused)
          assert.equal("x-amz-content-sha256", err.field)
        end
      end
    end)

    it("takes numbers, lists and true as values", function()
      local url = presign { query = { n = 5368709120, l = { "b", "a" }, t = true } }
      assert.is_truthy(url:find("&l=a&l=b&n=5368709120&t=&X%-Amz%-Signature="))
    end)

    it("puts the signature last", function()
      assert.is_truthy(presign { query = { zzz = "1", ["~"] = "2" } }:find("&zzz=1&~=2&X%-Amz%-Signature=%x+$"))
    end)

    it("signs for now when no time is given", function()
      local url = aws_signer():presign { method = "GET", host = "h", path = "/k", expires = 60 }
      local request = { method = "GET", target = url:match("^https://h(.*)"), headers = { host = "h" } }
      assert.is_true(core.sigv4_verify(request, {
        secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
      }))
    end)

    it("answers an error for what cannot be signed", function()
      for field, bad in pairs {
        method = "G T", scheme = "ftp", path = "k", expires = 604801, time = 1e12, host = "a/b",
      } do
        local url, err = presign { [field] = bad }
        assert.is_nil(url)
        assert.equal("invalid", err.code)
        assert.equal(field, err.field)
      end
      for _, bad in ipairs {
        { host = "" }, { host = "a b" }, { host = "a\r\nb" }, { host = "u@h" }, { expires = 0 }, { path = "" },
        { headers = { ["x\n"] = "1" } }, { headers = { [""] = "1" } }, { headers = { x = "a\r\nb" } },
        { headers = { x = "a\0b" } }, { headers = { host = "h" } }, { headers = { Authorization = "x" } },
        { query = { ["X-Amz-Signature"] = "1" } }, { query = { ["X-Amz-Expires"] = "1" } }, { method = "" },
        { headers = { ["x-amz-content-sha256"] = "" } }, { headers = { ["x-amz-content-sha256"] = "a b" } },
        { headers = { ["x-amz-content-sha256"] = { EMPTY, EMPTY } } },
        { query = { ["X-Amz-Content-Sha256"] = { EMPTY, EMPTY } } }, { query = { ["X-Amz-Content-Sha256"] = "a/b" } },
        { query = { ["X-Amz-Content-Sha256"] = EMPTY }, headers = { ["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD" } },
      } do
        local url, err = presign(bad)
        assert.is_nil(url)
        assert.equal("invalid", err.code)
      end
      local headers, err = aws_signer():sign {
        method = "GET", host = "h", path = "/", headers = { ["x-amz-date"] = "1" },
      }
      assert.is_nil(headers)
      assert.equal("headers", err.field)
      headers, err = aws_signer():sign { method = "GET", host = "h", path = "/", payload_hash = "a\nb" }
      assert.is_nil(headers)
      assert.equal("payload_hash", err.field)
      for _, field in ipairs { "access_key", "region", "service" } do
        local o = { access_key = "a", secret_key = "b", region = "r", service = "s" }
        o[field] = "a\r\nX-Forged: 1"
        headers, err = core.signer(o):sign { method = "GET", host = "h", path = "/" }
        assert.is_nil(headers)
        assert.equal("invalid", err.code)
      end
      headers, err = presign { headers = { x = ("y"):rep(1100000) } }
      assert.is_nil(headers)
      assert.equal("too_large", err.code)
    end)

    it("raises for a programmer's mistake", function()
      for _, bad in ipairs {
        { method = 5 }, { host = true }, { path = {} }, { expires = "60" }, { expires = 1.5 }, { time = "now" },
        { query = "a=b" }, { query = { "a" } }, { query = { a = false } }, { query = { a = { {} } } },
        { query = { a = 1.5 } }, { headers = { [1] = "x" } }, { time = -1 }, { time = 0 / 0 },
      } do
        assert.has_error(function() presign(bad) end)
      end
      assert.has_error(function() aws_signer():presign() end)
      assert.has_error(function() aws_signer():presign { method = "GET", host = "h", path = "/" } end)
      assert.has_error(function() core.signer { access_key = "a", secret_key = "b" } end)
      assert.has_error(function() core.signer { access_key = "a", region = "r" } end)
      assert.has_error(function() core.signer { access_key = 1, secret_key = "b", region = "r" } end)
      assert.has_error(function() aws_signer().presign({}, {}) end)
      -- Misspelt, it would not be sent: every request would be refused, far from here.
      assert.error_matches(function()
        core.signer { access_key = "a", secret_key = "b", region = "r", sesion_token = "t" }
      end, "unknown option: sesion_token")
    end)

    it("does not ask metatables, whose strings nobody would keep", function()
      local request = setmetatable({ method = "GET", host = "h", expires = 60, time = TIME }, {
        __index = function(_, name) return "/" .. name end,
      })
      assert.has_error(function() aws_signer():presign(request) end)
      -- Nor could these take away what was read before.
      local function plain(t)
        return setmetatable(t, { __index = function() error "asked" end })
      end
      local signer = core.signer(plain { access_key = "a", secret_key = "b", region = "r" })
      local url = signer:presign(plain { method = "GET", host = "h", path = "/b/k", expires = 60, time = TIME })
      local parts = { host = "h", path = "/b/k", expires = 60, time = TIME, parts = { plain { number = 1 } } }
      assert.equal(1, #signer:presign_parts(plain(parts)))
      local request_line = { method = "GET", target = url:match("^https://h(.*)"), headers = { host = "h" } }
      assert.is_true(core.sigv4_verify(plain(request_line), plain { secret_key = "b", now = TIME }))
      assert.equal(10, core.plan(plain { size = 100, part_size = 10 }).count)
    end)

    it("goes on after an error as if nothing had happened", function()
      local signer = aws_signer()
      local request = { method = "GET", host = "h", path = "/k", expires = 60, time = TIME }
      local want = signer:presign(request)
      assert.is_nil((signer:presign { method = "GET", host = "h", path = "/k", expires = 60, time = TIME,
        headers = { x = ("y"):rep(1100000) } }))
      assert.is_false(pcall(signer.presign, signer, { method = "GET", host = "h", path = "/k", expires = 60,
        query = { a = {} , b = { {} } } }))
      assert.equal(want, signer:presign(request))
    end)

    it("shows no secret", function()
      local signer = core.signer { access_key = "AK", secret_key = "hushhush", session_token = "tokentoken",
        region = "r" }
      assert.is_nil(tostring(signer):find("hush"))
      assert.is_nil(tostring(signer):find("token"))
      assert.equal("locked", getmetatable(signer))
    end)
  end)
end)

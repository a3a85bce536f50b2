local cli = require "spec.cli.support"
local core = require "longshore.core"
local json = require "longshore.json"

describe("longshore presign", function()
  local getenv = os.getenv
  local env

  before_each(function()
    env = { AWS_ACCESS_KEY_ID = "AKIDEXAMPLE", AWS_SECRET_ACCESS_KEY = "wJalrXUtnFEMI" }
    os.getenv = function(name) return env[name] end -- luacheck: ignore 122
  end)
  after_each(function() os.getenv = getenv end) -- luacheck: ignore 122

  local function verify(url, method, headers)
    local scheme, host, target = url:match("^(%a+)://([^/]+)(.*)$")
    headers = headers or {}
    headers.host = host
    return core.sigv4_verify({ method = method, target = target, headers = headers },
      { secret_key = "wJalrXUtnFEMI", now = core.now(), skew = 900, session_token = env.AWS_SESSION_TOKEN }), scheme
  end

  it("signs a URL that the other side accepts", function()
    local code, out, err = cli.run("presign", "GET", "s3://bucket/a b/ü+%", "--endpoint", "http://127.0.0.1:9000")
    assert.equal(0, code)
    assert.equal("", err)
    local url = out:gsub("\n$", "")
    assert.truthy(url:find("http://127.0.0.1:9000/bucket/a%20b/%C3%BC%2B%25?", 1, true))
    assert.truthy(url:find("X%-Amz%-Expires=3600"))
    assert.is_truthy(verify(url, "GET"))
    assert.is_falsy(verify(url, "PUT"))
  end)

  it("signs headers and the length, and lists the headers to send", function()
    local _, out = cli.run("presign", "put", "s3://bucket/k", "--header", "Content-Type: text/csv", "--length", "5GiB",
      "--expires", "15m", "--json")
    local answer = json.decode(out)
    assert.equal("PUT", answer.method)
    assert.same({ ["Content-Type"] = "text/csv" }, answer.headers)
    assert.is_true(math.abs(answer.expires_at - core.now() - 900) < 60)
    assert.truthy(answer.url:find("X-Amz-SignedHeaders=content-length%3Bcontent-type%3Bhost", 1, true))
    assert.is_truthy(verify(answer.url, "PUT", { ["content-type"] = "text/csv", ["content-length"] = "5368709120" }))
    assert.is_falsy(verify(answer.url, "PUT", { ["content-type"] = "text/csv", ["content-length"] = "5" }))
  end)

  it("signs further query parameters", function()
    local _, out = cli.run("presign", "GET", "s3://bucket/k", "--query", "response-content-type=text/plain; x=1")
    local url = out:gsub("\n$", "")
    assert.truthy(url:find("response-content-type=text%2Fplain%3B%20x%3D1", 1, true))
    assert.is_truthy(verify(url, "GET"))
  end)

  it("signs one part, and a run of parts", function()
    local _, out = cli.run("presign", "PUT", "s3://bucket/k", "--upload-id", "U1", "--part", "9998", "--count", "3")
    local n = 9998
    for url in out:gmatch("[^\n]+") do
      assert.truthy(url:find("partNumber=" .. n .. "&uploadId=U1", 1, true))
      assert.is_truthy(verify(url, "PUT"))
      n = n + 1
    end
    assert.equal(10001, n)
  end)

  it("carries a session token", function()
    env.AWS_SESSION_TOKEN = "tok/en+=="
    local _, out = cli.run("presign", "GET", "s3://bucket/k")
    local url = out:gsub("\n$", "")
    assert.truthy(url:find("X-Amz-Security-Token=tok%2Fen%2B%3D%3D", 1, true))
    assert.is_truthy(verify(url, "GET"))
  end)

  it("uses the environment's endpoint and region, and the store's own", function()
    local _, out = cli.run("presign", "GET", "s3://bucket/k", "--region", "eu-west-1")
    assert.truthy(out:find("https://bucket.s3.eu-west-1.amazonaws.com/k?", 1, true))
    env.AWS_ENDPOINT_URL, env.AWS_REGION = "https://store.example.com", "moon-1"
    _, out = cli.run("presign", "GET", "s3://bucket/k")
    assert.truthy(out:find("https://store.example.com/bucket/k?", 1, true))
    assert.truthy(out:find("moon-1", 1, true))
  end)

  it("prints no secret", function()
    local _, out, err = cli.run("presign", "GET", "s3://bucket/k")
    assert.falsy((out .. err):find("wJalr", 1, true))
  end)

  it("answers 2 for what makes no sense, and says what is expected", function()
    local bad = {
      { "FETCH", "s3://b-b/k" }, { "GET", "http://x/k" }, { "GET", "s3://" },
      -- An empty variable behind the slash, say: that would be the bucket itself.
      { "DELETE", "s3://b-b/" }, { "PUT", "s3://b-b" }, { "POST", "s3://b-b/" },
      { "GET", "s3://b-b/k", "--expires", "8d" },
      { "GET", "s3://b-b/k", "--expires", "0" }, { "GET", "s3://b-b/k", "--length", "5" },
      { "GET", "s3://b-b/k", "--part", "1", "--upload-id", "x" }, { "PUT", "s3://b-b/k", "--part", "1" },
      { "PUT", "s3://b-b/k", "--part", "0", "--upload-id", "x" }, { "PUT", "s3://b-b/k", "--count", "2" },
      { "PUT", "s3://b-b/k", "--part", "9999", "--count", "3", "--upload-id", "x" },
      { "PUT", "s3://b-b/k", "--header", "nothing" }, { "GET", "s3://b-b/k", "--query", "nothing" },
      { "GET", "s3://b-b/k", "--profile", "nothing" }, { "GET", "s3://b-b/k", "--endpoint", "nothing" },
    }
    for _, words in ipairs(bad) do
      local code, out, err = cli.run("presign", words[1], words[2], words[3], words[4], words[5], words[6], words[7],
        words[8])
      assert.equal(2, code, table.concat(words, " "))
      assert.equal("", out)
      assert.truthy(err:find("longshore presign", 1, true))
    end
    env.AWS_ACCESS_KEY_ID = nil
    local code, _, err = cli.run("presign", "GET", "s3://bucket/k")
    assert.equal(2, code)
    assert.truthy(err:find("AWS_ACCESS_KEY_ID", 1, true))
  end)

  it("needs neither nginx nor a database", function()
    for name in pairs(package.loaded) do
      if name:find("^longshore%.nginx") or name:find("^longshore%.store") then package.loaded[name] = nil end
    end
    cli.run("presign", "GET", "s3://bucket/k")
    for name in pairs(package.loaded) do
      assert.falsy(name:find("^longshore%.nginx") or name:find("^longshore%.store") or name:find("^longshore%.broker"))
    end
  end)
end)

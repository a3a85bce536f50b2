-- What a bucket's configuration makes of a provider.
local config = require "longshore.config"
local errors = require "longshore.errors"
local providers = require "longshore.service.providers"
local support = require "spec.support"

describe("a configured bucket", function()
  local dir, seen, answer, time
  setup(function() dir = support.tmpdir() end)
  teardown(support.cleanup)
  before_each(function()
    seen, answer = {}, { status = 200, headers = { ["content-length"] = "0" }, body = "" }
    time = { at = 1767225600 }
    function time.now() return time.at end
    function time.sleep(seconds) time.at = time.at + seconds end
  end)

  local function transport(request)
    seen[#seen + 1] = request
    if type(answer) == "function" then return answer(request) end
    return answer
  end

  local function load(fields)
    return config.load(support.write_file(dir .. "/c.lua", ([[return { diskstore = { enabled = false }, buckets = {
      default = { region = "eu-west-1", bucket = "abc", %s } } }]]):format(fields)))
  end

  local function open(fields)
    local loaded = assert(load(fields))
    -- As nginx reads it.
    loaded = assert(config.load(support.write_file(dir .. "/again.lua", config.serialize(loaded))))
    return assert(providers.build(loaded, providers.maker { clock = time, transport = transport })).default
  end

  local function key_of(request)
    return request.headers.authorization:match("Credential=(%w+)/")
  end

  it("may have its keys from a file that returns a function, asked again before they end", function()
    support.write_file(dir .. "/keys.lua", [[
      local count = 0
      return function()
        count = count + 1
        return { access_key = "AK" .. count, secret_key = "s", session_token = "t",
          expires_at = 1767225600 + 600 * count }
      end]])
    local provider = open 'credentials = "keys.lua"'
    assert(provider:head { key = "k" })
    assert.equal("AK1", key_of(seen[1]))
    assert.equal("t", seen[1].headers["x-amz-security-token"])
    time.at = time.at + 200
    assert(provider:head { key = "k" })
    assert.equal("AK1", key_of(seen[2]))
    time.at = time.at + 200
    assert(provider:head { key = "k" })
    assert.equal("AK2", key_of(seen[3]))
  end)

  it("says what is wrong with that file", function()
    local _, err = load 'credentials = "missing.lua"'
    assert.equal("buckets.default.credentials", err.field)
    for text, words in pairs { ["return {}"] = "must return a function", ["return ("] = "unexpected",
      ["return function() return nil, 'no role' end"] = "no role",
      ["return function() return { access_key = 'a' } end"] = "secret_key is missing",
      ["error 'my own words'"] = "my own words" } do
      support.write_file(dir .. "/keys.lua", text)
      local found
      found, err = open('credentials = "keys.lua"'):head { key = "k" }
      assert.is_nil(found)
      assert.truthy(tostring(err):find(words, 1, true), tostring(err))
      assert.equal(0, #seen)
    end
  end)

  it("waits for an answer as long as it says, and does not try again after that", function()
    local keys = 'access_key = "a", secret_key = "b"'
    for fields, seconds in pairs { [keys] = 15, [keys .. ", timeout = 3"] = 3 } do
      seen = {}
      answer = function(request)
        time.at = time.at + request.timeout
        return errors.fail("timeout", "nobody answers", { retryable = true })
      end
      local provider = open(fields)
      local _, err = provider:head { key = "k" }
      assert.equal("timeout", err.code)
      assert.equal(seconds, seen[1].timeout)
      assert.equal(1, #seen)
      -- What fails at once is tried again.
      seen = {}
      answer = function() return errors.fail("network", "refused", { retryable = true }) end
      _, err = provider:head { key = "k" }
      assert.equal("network", err.code)
      assert.equal(5, #seen)
    end
  end)

  it("may say how metadata is written", function()
    local provider = open 'access_key = "a", secret_key = "b", metadata_rule = "percent"'
    answer = { status = 200, headers = {}, body = "<InitiateMultipartUploadResult><UploadId>u</UploadId>"
      .. "</InitiateMultipartUploadResult>" }
    assert(provider:create_multipart { key = "k", metadata = { name = "ü" } })
    assert.equal("%C3%BC", seen[1].headers["x-amz-meta-name"])
    local _, err = load 'access_key = "a", secret_key = "b", metadata_rule = "none"'
    assert.equal("buckets.default.metadata_rule", err.field)
  end)
end)

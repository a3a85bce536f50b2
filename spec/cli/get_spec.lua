local cli = require "spec.cli.support"
local diskstore = require "spec.support.diskstore"
local support = require "spec.support"

describe("longshore get", function()
  local getenv = os.getenv
  local env, folder, store

  setup(function() store = diskstore.start() end)
  before_each(function()
    env = { HOME = "/nowhere", AWS_ACCESS_KEY_ID = store.access_key, AWS_SECRET_ACCESS_KEY = store.secret_key,
      AWS_ENDPOINT_URL = store.endpoint }
    os.getenv = function(name) return env[name] end -- luacheck: ignore 122
    folder = support.tmpdir()
  end)
  after_each(function() os.getenv = getenv end) -- luacheck: ignore 122
  teardown(support.cleanup)

  local function stored(bytes)
    support.write_file(folder .. "/a.txt", bytes)
    assert.equal(0, (cli.run("put", "--no-journal", folder .. "/a.txt", "s3://" .. store.bucket .. "/x")))
    return "s3://" .. store.bucket .. "/x/a.txt"
  end

  it("writes to a path, or into a folder by the object's name", function()
    local object = stored "hello"
    assert.equal(0, (cli.run("get", object, "-o", folder .. "/b.txt")))
    assert.equal("hello", support.read_file(folder .. "/b.txt"))
    assert(os.execute("mkdir " .. folder .. "/in"))
    assert.equal(0, (cli.run("get", object, "-o", folder .. "/in")))
    assert.equal("hello", support.read_file(folder .. "/in/a.txt"))
  end)

  it("replaces a file with --force only, and says so", function()
    local object = stored "hello"
    assert(os.execute("mkdir " .. folder .. "/in"))
    support.write_file(folder .. "/in/a.txt", "other")
    local code, _, err = cli.run("get", object, "-o", folder .. "/in/")
    assert.equal(1, code)
    assert.truthy(err:find("--force", 1, true), err)
    assert.equal("other", support.read_file(folder .. "/in/a.txt"))
    assert.equal(0, (cli.run("get", object, "-f", "-o", folder .. "/in/")))
    assert.equal("hello", support.read_file(folder .. "/in/a.txt"))
  end)

  it("names what is not there", function()
    local code, _, err = cli.run("get", "s3://" .. store.bucket .. "/no/such.txt", "-o", folder .. "/b.txt")
    assert.equal(1, code)
    assert.truthy(err:find("there is no object such.txt", 1, true), err)
  end)

  it("answers 2 and names the mistake in an option, or in a service's URL", function()
    local function refused(expected, ...)
      local code, out, err = cli.run("get", ...)
      assert.equal(2, code, err)
      assert.equal("", out)
      assert.truthy(err:find(expected, 1, true), err)
    end
    refused('--endpoint: "h:1": it must begin', "s3://b/k", "--endpoint", "h:1")
    refused("/api/v1/projects/PROJECT", "12", "http://h", "--service", "cognite", "--token", "t")
    refused("a token is needed", "fil_1", "http://h")
    refused("broker's URL", "fil_1")
    refused("standard output", "s3://b/k", "-o", "-")
  end)

  it("asks whether the URL is right where something else answers", function()
    local code, _, err = cli.run("get", "fil_1", store.endpoint, "--token", "t", "-o", folder .. "/b.txt")
    assert.equal(1, code)
    assert.truthy(err:find("is the URL right?", 1, true), err)
  end)
end)

local cli = require "spec.cli.support"
local json = require "longshore.json"
local relay = require "spec.support.relay"
local serve = require "spec.support.serve"
local support = require "spec.support"

describe("longshore status", function()
  local getenv = os.getenv
  local env, server, folder

  setup(function()
    server = serve.start()
    folder = support.tmpdir()
  end)
  teardown(support.cleanup)

  before_each(function()
    env = { HOME = folder, LONGSHORE_TOKEN = server.token }
    os.getenv = function(name) return env[name] end -- luacheck: ignore 122
  end)
  after_each(function() os.getenv = getenv end) -- luacheck: ignore 122

  it("shows what a broker holds", function()
    local code, out = cli.run("status", server.url)
    assert.equal(0, code)
    assert.truthy(out:find("0 files, 0 B", 1, true))
    assert.equal(0, (cli.run("put", support.write_file(folder .. "/a.txt", "hello"), server.url)))
    code, out = cli.run("status", server.url)
    assert.equal(0, code)
    assert.truthy(out:find("1 file, 5 B", 1, true))
    assert.truthy(out:find("registered +5 B  fil_%w+  a.txt"))
    code, out = cli.run("status", server.url, "--files", "0")
    assert.equal(0, code)
    assert.falsy(out:find("a.txt", 1, true))
    assert.falsy(out:find("more", 1, true))
    assert.equal(0, (cli.run("put", support.write_file(folder .. "/b.txt", "hello"), server.url)))
    code, out = cli.run("status", server.url, "--files", "1")
    assert.equal(0, code)
    assert.truthy(out:find("a.txt\n  and 1 file more, later ones (--files N)\n", 1, true), out)
    local info = json.decode((select(2, cli.run("status", server.url, "--json"))))
    assert.equal(2, info.num_files)
    assert.equal("a.txt", info.files[1].file_id)
  end)

  it("takes the token from a file, as put and get do", function()
    env.LONGSHORE_TOKEN = nil
    local path = support.write_file(folder .. "/token", server.token .. "\n")
    assert.equal(0, (cli.run("status", server.url, "--token-file", path)))
    local code, _, err = cli.run("status", server.url)
    assert.equal(2, code)
    assert.truthy(err:find("--token, --token-file or LONGSHORE_TOKEN", 1, true), err)
  end)

  it("answers 1 where nobody answers, or refuses", function()
    local code, out, err = cli.run("status", "http://127.0.0.1:1")
    assert.equal(1, code)
    assert.equal("", out)
    assert.truthy(err:find("no connection", 1, true))
    env.LONGSHORE_TOKEN = "ls_wrong"
    code, out, err = cli.run("status", server.url)
    assert.equal("", out)
    assert.equal(1, code)
    assert.truthy(err:find("401", 1, true))
    assert.falsy(err:find("ls_wrong", 1, true))
  end)

  it("says what helps where a certificate is not known, as put and get do", function()
    local way = relay.start { tls = true, target = server.url }
    local file = support.write_file(folder .. "/tls.txt", "hello")
    for _, words in ipairs { { "status", way.endpoint }, { "put", file, way.endpoint },
      { "get", "x", way.endpoint } } do
      local code, _, err = cli.run(words[1], words[2], words[3])
      assert.equal(1, code)
      assert.truthy(err:find("was refused.*%(%-%-ca%-file names a certificate to trust%)"), err)
    end
    assert.equal(0, (cli.run("status", way.endpoint, "--ca-file", way.ca_file)))
  end)

  it("answers 2 for words that make no sense", function()
    assert.equal(2, (cli.run("status")))
    assert.equal(2, (cli.run("status", "s3://bucket")))
    assert.equal(2, (cli.run("status", "--local", server.url)))
    env.LONGSHORE_TOKEN = nil
    assert.equal(2, (cli.run("status", server.url)))
  end)

  it("shows that nothing was interrupted here", function()
    local code, out = cli.run("status", "--local")
    assert.equal(0, code)
    assert.equal("no interrupted uploads\n", out)
  end)
end)

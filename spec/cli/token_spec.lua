local support = require "spec.support"
local cli = require "spec.cli.support"
local json = require "longshore.json"

describe("longshore token", function()
  local data
  setup(function() data = support.tmpdir() end)
  teardown(support.cleanup)

  local function run(...) return cli.run("token", ...) end

  it("makes a token that the broker's database knows", function()
    local code, out, err = run("create", "--data", data, "--user", "ci", "--organization", "acme", "--rights",
      "upload,read", "--expires", "12h", "--label", "build")
    assert.equal(0, code)
    local token = out:match("^(ls_[a-z2-7]+_[a-z2-7]+)\n$")
    assert.truthy(token, out)
    assert.is_nil(err:find(token, 1, true))
    local store = assert(require("longshore.store").open { path = data .. "/longshore.db" })
    local actor = assert(require("longshore.broker.tokens").new({ store = store }):verify(token))
    store:close()
    assert.equal("ci", actor.user)
    assert.same({ upload = true, read = true }, actor.rights)
  end)

  it("prints JSON for programs, and lists without secrets", function()
    local code, out = run("create", "--data", data, "--json")
    assert.equal(0, code)
    local made = assert(json.decode(out))
    assert.truthy(made.token)
    code, out = run("list", "--data", data, "--json")
    assert.equal(0, code)
    assert.is_nil(out:find(made.token:match("_([a-z2-7]+)$"), 1, true))
    local list = assert(json.decode(out))
    assert.is_true(json.is_array(list))
    assert.equal(made.id, list[#list].id)
    assert.same(json.array { "read", "upload", "delete" }, list[#list].rights)
    code, out = run("list", "--data", data)
    assert.equal(0, code)
    assert.truthy(out:find("^ID%s+STATE"))
    assert.truthy(out:find(made.id .. "  active", 1, true))
  end)

  it("takes a rate, and shows it", function()
    for given, shown in pairs { ["600/1m"] = "600/60s", ["10/s"] = "10/1s", ["5/30"] = "5/30s",
      ["1/1d"] = "1/86400s" } do
      local code, out = run("create", "--data", data, "--rate", given, "--json")
      assert.equal(0, code)
      local id = json.decode(out).id
      code, out = run("list", "--data", data)
      assert.equal(0, code)
      assert.truthy(out:match(id .. "[^\n]*"):find(" " .. shown, 1, true), out)
    end
    for _, wrong in ipairs { "0/1m", "5", "5/", "/1m", "5/0", "5/2d", "x/1m", "5/1x", "9999999999/1m" } do
      local code, _, err = run("create", "--data", data, "--rate", wrong)
      assert.equal(2, code)
      assert.truthy(err:find(wrong, 1, true) and err:find("600/1m", 1, true), err)
    end
  end)

  it("revokes, and says which it does not know", function()
    local _, out = run("create", "--data", data, "--json")
    local id = json.decode(out).id
    local code, text, err = run("revoke", id, "tok_aaaaaaaaaaaaaaaa", "--data", data)
    assert.equal(1, code)
    assert.equal(id .. " is revoked\n", text)
    assert.truthy(err:find("tok_aaaaaaaaaaaaaaaa", 1, true))
    _, out = run("list", "--data", data)
    assert.truthy(out:find(id .. "  revoked", 1, true))
  end)

  it("takes a wrong value for wrong usage", function()
    assert.equal(2, (run("create", "--data", data, "--rights", "fly")))
    assert.equal(2, (run("create", "--data", data, "--expires", "soon")))
    assert.equal(2, (run("create", "--data", data, "--user", "")))
    assert.equal(2, (run()))
    assert.equal(2, (run("forge")))
    assert.equal(2, (run("revoke", "--data", data)))
  end)

  it("makes no database in a wrong place", function()
    local wrong = data .. "/none"
    for _, action in ipairs { { "create" }, { "list" }, { "revoke", "tok_x" } } do
      action[#action + 1] = "--data"
      action[#action + 1] = wrong
      local code, _, err = run((table.unpack or unpack)(action)) -- luacheck: ignore
      assert.equal(1, code)
      assert.truthy(err:find(wrong, 1, true))
      assert.truthy(err:find("--data", 1, true))
    end
    assert.is_nil(require("lfs").attributes(wrong))
  end)

  local as_root = require("luv").getuid() == 0 and it or pending

  as_root("is made by root as the user whose folder it is, and follows none of that user's links", function()
    local dir, tree = support.tmpdir(), support.public_tree()
    support.run(("chmod 755 %s && install -d -o nobody -g nogroup -m 700 %s/data %s/bad && ln -s %s/victim "
      .. "%s/bad/longshore.db"):format(dir, dir, dir, dir, dir))
    local function create(where)
      return support.run(("cd %s && LUA_PATH='%s/lua/?.lua;%s/lua/?/init.lua;;' LUA_CPATH='%s/build/%s/?.so;;' %s "
        .. "%s/lua/longshore/cli/main.lua token create --data %s 2>&1"):format(dir, tree, tree, tree, support.lua,
        support.lua, tree, where))
    end
    local code, out = create(dir .. "/data")
    assert.equal(0, code, out)
    local _, others = support.run("find " .. dir .. "/data ! -user nobody")
    assert.equal("", others)
    code, out = create(dir .. "/bad")
    assert.equal(1, code, out)
    local _, victim = support.run("ls " .. dir)
    assert.is_nil(victim:find("victim", 1, true), victim)
  end)
end)

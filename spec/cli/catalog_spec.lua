-- `longshore catalog` on a database of its own; and that what it made works at once.
local cli = require "spec.cli.support"
local json = require "longshore.json"
local stores = require "longshore.store"
local support = require "spec.support"

describe("longshore catalog", function()
  local folder, file
  before_each(function()
    folder = support.tmpdir()
    file = support.write_file(folder .. "/longshore.lua", ([[return { data = %q, services = { athena = {
      clients = { north = { bucket = "default" }, south = {} }, default_client = "north",
      keys = { { id = "k1", key = "%s" } } } } }]]):format(folder, ("ab"):rep(32)))
  end)
  after_each(support.cleanup)

  local KEYS = "AWS_ACCESS_KEY_ID=AKID AWS_SECRET_ACCESS_KEY=not-so-secret "

  local function catalog(words, env)
    return support.run(("%s build/bin/longshore catalog %s --config %s"):format(env or "", words, file))
  end

  local CREATE = "create --client south --name main --bucket south-files --endpoint https://s3.example.com "
    .. "--region eu-1 --profile minio --prefix in --also south-more"

  it("makes, lists, changes, rotates and removes", function()
    local code, out = catalog(CREATE, KEYS)
    assert.equal(0, code, out)
    local id = out:match("^(%x+%-%x+%-%x+%-%x+%-%x+)%s*$")
    assert.is_truthy(id, out)
    code, out = catalog("list --client south --json")
    assert.equal(0, code)
    local list = json.decode(out)
    assert.equal(1, #list)
    assert.same({ id, "main", "south-files", "in/", "minio", true, "AKID" }, { list[1].id, list[1].name, list[1].bucket,
      list[1].prefix, list[1].profile, list[1].active, list[1].access_key })
    assert.equal("south-more", list[1].buckets[1])
    assert.is_nil(out:find("not-so-secret", 1, true))
    code, out = catalog("list --client south")
    assert.equal(0, code)
    assert.matches("active%s+main%s+south%-files/in/", out)
    assert.equal(0, (catalog(("update --client south %s --active no --name spare"):format(id))))
    local store = assert(stores.open { type = "sqlite", path = folder .. "/longshore.db" })
    local before = store:catalog(id)
    assert.is_false(before.active)
    assert.equal(0, (catalog(("update --client south %s --rotate"):format(id), KEYS)))
    local after = store:catalog(id)
    assert.not_equal(before.secret, after.secret)
    assert.is_truthy(after.rotated_at)
    store:close()
    code, out = catalog(("delete --client north %s"):format(id))
    assert.equal(1, code)
    assert.matches("no such catalog", out)
    assert.equal(0, (catalog(("delete --client south %s"):format(id))))
    code, out = catalog "list --client south"
    assert.equal(0, code)
    assert.matches("no catalogs", out)
  end)

  it("shows the one that comes with the configuration, and leaves it alone", function()
    local code, out = catalog "list --json"
    assert.equal(1, code) -- there is no database yet
    assert.matches("no broker's database", out)
    assert.equal(0, (catalog(CREATE, KEYS)))
    code, out = catalog "list --json"
    assert.equal(0, code)
    local list = json.decode(out)
    assert.same({ "configured", "athena/north/" }, { list[1].name, list[1].prefix })
    code, out = catalog(("delete %s"):format(list[1].id))
    assert.equal(1, code)
    assert.matches("comes with the configuration", out)
  end)

  it("refuses what would be shared, and wrong usage", function()
    assert.equal(0, (catalog(CREATE, KEYS)))
    local code, out = catalog(CREATE, KEYS)
    assert.equal(1, code)
    assert.matches("shared", out)
    assert.is_nil(out:find("not-so-secret", 1, true))
    assert.equal(2, (catalog("create --client south --name x", KEYS)))
    assert.equal(2, (catalog(CREATE, "AWS_ACCESS_KEY_ID= AWS_SECRET_ACCESS_KEY= ")))
    assert.equal(2, (catalog("list --client nobody")))
    assert.equal(2, (cli.run("catalog")))
  end)
end)

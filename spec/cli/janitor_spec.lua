local support = require "spec.support"
local cli = require "spec.cli.support"
local json = require "longshore.json"

describe("longshore janitor", function()
  local data, config
  setup(function()
    data = support.tmpdir()
    -- A store that nobody serves: what is due there fails, and says so.
    config = support.write_file(data .. "/c.lua", ([[return { data = %q, diskstore = { enabled = false },
      buckets = { default = { profile = "ceph", endpoint = "http://127.0.0.1:%d", region = "us-east-1",
        bucket = "b", access_key = "a", secret_key = "s" } } }]]):format(data, support.free_port()))
  end)
  teardown(support.cleanup)

  local function store() return assert(require("longshore.store").open { path = data .. "/longshore.db" }) end

  it("does not make a database where there is none", function()
    local code, _, err = cli.run("janitor", "--config", config)
    assert.equal(1, code)
    assert.truthy(err:find("--data", 1, true))
    assert.is_nil(require("lfs").attributes(data .. "/longshore.db"))
  end)

  it("says when there is nothing to do", function()
    store():close()
    local code, out = cli.run("janitor", "--config", config)
    assert.equal(0, code)
    assert.equal("nothing to do\n", out)
  end)

  it("counts in a dry run what is due, and does it otherwise", function()
    local s = store()
    local row = { id = "upl_" .. ("a"):rep(26), file_id = "fil_" .. ("a"):rep(26), tenant = "t", organization = "o",
      user = "u", service = "newton", provider = "elsewhere", key = "k", filename = "f", integrity = "none",
      signs_length = true, requires_tokens = true, if_exists = "keep", state = "uploading", deadline = 1,
      lease = 0, created_at = 1, updated_at = 1 }
    assert(s:create_upload(row))
    local code, out = cli.run("janitor", "--config", config, "--dry-run")
    assert.equal(0, code)
    assert.equal("due: 1 expired\n", out)
    code, out = cli.run("janitor", "--config", config, "--json")
    assert.equal(0, code)
    local report = assert(json.decode(out))
    assert.equal(1, report.expired)
    assert.equal(1, report.pending) -- the bucket is not configured: it stays to be undone
    assert.is_true(json.is_array(report.messages))
    assert.equal("expiring", assert(s:upload(row.id)).state)
    s:close()
  end)

  it("exits with 1 and the reason when something could not be done", function()
    local s = store()
    s.db:exec("UPDATE cleanups SET due = 0")
    s:close()
    local code, out, err = cli.run("janitor", "--config", config)
    assert.equal(1, code)
    assert.equal("nothing to do; 1 cleanup for later\n", out)
    assert.truthy(err:find("elsewhere", 1, true))
  end)

  it("wants sensible numbers", function()
    assert.equal(2, (cli.run("janitor", "--limit", "0")))
    assert.equal(2, (cli.run("janitor", "--every", "0")))
    assert.equal(2, (cli.run("janitor", "--every", "often")))
  end)

  it("goes on until it is interrupted", function()
    store():close()
    local out = support.tmpdir() .. "/out"
    local process = support.spawn(support.root .. "/build/bin/longshore", { stdout = out,
      args = { "janitor", "--config", config, "--every", "1h" } })
    assert.truthy(support.wait_until(function() return (support.read_file(out) or ""):find "\n" end, 10))
    process:kill "sigint"
    assert.equal(3, process:wait(5))
    assert.truthy(support.read_file(out):find("longshore janitor: interrupted\n$"), support.read_file(out))
  end)
end)

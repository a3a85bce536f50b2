local cli = require "spec.cli.support"
local diskstore = require "spec.support.diskstore"
local json = require "longshore.json"
local relay = require "spec.support.relay"
local support = require "spec.support"

describe("longshore put", function()
  local getenv = os.getenv
  local env, folder

  before_each(function()
    env = { HOME = "/nowhere" }
    os.getenv = function(name) return env[name] end -- luacheck: ignore 122
    folder = support.tmpdir()
    support.write_file(folder .. "/a.txt", "hello")
    support.write_file(folder .. "/b.txt", "world!")
  end)
  after_each(function() os.getenv = getenv end) -- luacheck: ignore 122
  teardown(support.cleanup)

  describe("answers 2, sends nothing and says what is expected:", function()
    local function refused(expected, ...)
      local code, out, err = cli.run("put", ...)
      assert.equal(2, code, err)
      assert.equal("", out)
      assert.truthy(err:find(expected, 1, true), err)
    end

    it("without a file or a place", function()
      refused("FILE... URL", folder .. "/a.txt")
      refused("FILE... URL")
    end)

    it("for a place that is none", function()
      refused("http://", folder .. "/a.txt", "ftp://x")
      refused("http://", folder .. "/a.txt", folder .. "/b.txt")
      refused("URL", folder .. "/a.txt", "http://h/?x=1", "--token", "t")
      refused("password", folder .. "/a.txt", "http://u:p@h", "--token", "t")
    end)

    it("without token or credentials", function()
      refused("LONGSHORE_TOKEN", folder .. "/a.txt", "http://h")
      refused("AWS_ACCESS_KEY_ID", folder .. "/a.txt", "s3://bucket")
      refused("/empty: there is no token in its first line", folder .. "/a.txt", "http://h", "--token-file",
        support.write_file(folder .. "/empty", "\nls_x\n"))
      refused(folder .. ": Is a directory", folder .. "/a.txt", "http://h", "--token-file", folder)
      refused("no such file", (folder .. "/a.txt"), "http://h", "--token-file", "/no such file")
    end)

    it("for options that do not go together", function()
      env.AWS_ACCESS_KEY_ID, env.AWS_SECRET_ACCESS_KEY = "a", "b"
      refused("--token", folder .. "/a.txt", "s3://bucket", "--token", "t")
      refused("--part-size", folder .. "/a.txt", "http://h", "--token", "t", "--part-size", "8MiB")
      refused("--journal", folder .. "/a.txt", "http://h", "--token", "t", "--journal", "x", "--no-journal")
      refused("--name", folder .. "/a.txt", folder .. "/b.txt", "http://h", "--token", "t", "--name", "x")
      refused("--name: the name is empty", folder .. "/a.txt", "http://h", "--token", "t", "--name", "")
      refused("--metadata", folder .. "/a.txt", "s3://bucket", "--metadata", "x")
      refused("profile", folder .. "/a.txt", "s3://bucket", "--profile", "x")
      refused("8MiB", folder .. "/a.txt", "s3://bucket", "--part-size", "x")
      refused('--endpoint: "h:9000": it must begin with', folder .. "/a.txt", "s3://bucket", "--endpoint", "h:9000")
      refused("1 to 256", folder .. "/a.txt", "http://h", "--token", "t", "-j", "0")
    end)

    it("for two files that would have one name", function()
      support.run("mkdir " .. folder .. "/d && cp " .. folder .. "/a.txt " .. folder .. "/d")
      refused("both", folder .. "/a.txt", folder .. "/d/a.txt", "http://h", "--token", "t")
    end)

    it("for standard input", function()
      refused("standard input", "-", "http://h", "--token", "t")
    end)

    it("without a home for the journal", function()
      env.HOME = nil
      local code, _, err = cli.run("put", folder .. "/a.txt", "http://127.0.0.1:1", "--token", "t")
      assert.equal(1, code)
      assert.truthy(err:find("--no-journal", 1, true))
    end)
  end)

  it("names the file that is not there, and answers 1", function()
    local code, out, err = cli.run("put", folder .. "/missing", "http://127.0.0.1:1", "--token", "t", "--no-journal")
    assert.equal(1, code)
    assert.equal("", out)
    assert.truthy(err:find("missing", 1, true))
  end)

  it("says that nobody answers, and how to go on", function()
    local code, _, err = cli.run("put", folder .. "/a.txt", "http://127.0.0.1:1", "--token", "t", "--no-journal",
      "--attempts", "2")
    assert.equal(1, code)
    assert.truthy(err:find("no connection", 1, true))
    assert.falsy(err:find("--help", 1, true))
  end)

  describe("to a bucket", function()
    local store, way

    setup(function()
      store = diskstore.start()
      way = relay.start { target = store.endpoint }
    end)

    before_each(function()
      way:clear()
      env.AWS_ACCESS_KEY_ID, env.AWS_SECRET_ACCESS_KEY = store.access_key, store.secret_key
      env.AWS_ENDPOINT_URL = way.endpoint
    end)

    local function put(...) return cli.run("put", "--journal", folder .. "/journal", ...) end
    local function read(key)
      return store:send { path = "/" .. store.bucket .. "/" .. key }
    end

    -- Runs the command as a process; its environment, its exit code and output.
    local function shell(words, before)
      return support.run(("cd %s && %s AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s AWS_ENDPOINT_URL=%s %s"):format(
        support.root, before or "", store.access_key, store.secret_key, way.endpoint,
        (words:gsub("^put", "build/bin/longshore put --journal " .. folder .. "/journal"))))
    end

    it("prints a line per file: what, how much, where, what was compared", function()
      local code, out, err = put(folder .. "/a.txt", folder .. "/b.txt", "s3://" .. store.bucket .. "/p", "-j", "1")
      assert.equal(0, code)
      assert.equal(2, select(2, out:gsub("\n", "\n")))
      assert.truthy(out:find("a.txt  5 B  crc32c mnG7TA==  ", 1, true))
      assert.truthy(out:find("(crc32c compared; whole file confirmed)", 1, true))
      assert.truthy(err:find("2 done, 0 failed", 1, true))
      assert.equal("world!", read("p/b.txt").body)
    end)

    it("gives JSON lines only, on stdout only", function()
      local code, out, err = put("--json", folder .. "/a.txt", folder .. "/nix", "s3://" .. store.bucket)
      assert.equal(1, code)
      assert.equal("", err)
      local kinds = {}
      for line in out:gmatch("[^\n]+") do
        local event = assert(json.decode(line))
        kinds[event.event] = event
        if event.event == "result" and event.ok then
          assert.equal("mnG7TA==", event.crc32c)
          assert.equal(5, event.bytes)
          assert.equal("crc32c", event.compared)
        elseif event.event == "result" then
          assert.equal("not_found", event.error.code)
        end
      end
      assert.equal(1, kinds.summary.exit_code)
      assert.is_table(kinds.begin)
    end)

    it("prints nothing when quiet, but failures", function()
      local code, out, err = put("-q", folder .. "/a.txt", "s3://" .. store.bucket)
      assert.equal(0, code)
      assert.equal("", out .. err)
      code, out, err = put("-q", folder .. "/nix", "s3://" .. store.bucket)
      assert.equal(1, code)
      assert.equal("", out)
      assert.truthy(err:find("nix", 1, true))
    end)

    it("says why a part was sent again when verbose, and not else", function()
      way:rules { { method = "PUT", times = 1, status = 500 } }
      local _, _, err = put("-v", folder .. "/a.txt", "s3://" .. store.bucket)
      assert.truthy(err:find("a.txt: part 1 is sent again", 1, true))
      way:rules { { method = "PUT", times = 1, status = 500 } }
      _, _, err = put(folder .. "/a.txt", "s3://" .. store.bucket)
      assert.equal("", err)
    end)

    it("says that nothing was compared where the store answers no checksum", function()
      way:rules { { method = "PUT", status = 200, headers = { ETag = '"opaque"' }, forward = true } }
      local code, out = put(folder .. "/a.txt", "s3://" .. store.bucket)
      assert.equal(0, code)
      assert.truthy(out:find("nothing compared", 1, true))
    end)

    it("draws a bar on a terminal and plain lines without one", function()
      support.run("head -c 3000000 /dev/zero > " .. folder .. "/big")
      local words = "put " .. folder .. "/big s3://" .. store.bucket
      local code, out = shell(words)
      assert.equal(0, code, out)
      assert.falsy(out:find("[\r\27]"))
      -- util-linux's script gives it a terminal
      local inside = support.write_file(folder .. "/run.sh", ("stty cols 100 2>/dev/null; cd %s; %s\n"):format(
        support.root, ("AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s AWS_ENDPOINT_URL=%s %s"):format(store.access_key,
        store.secret_key, way.endpoint,
        (words:gsub("^put", "build/bin/longshore put --no-journal --limit-rate 1MiB")))))
      code, out = support.run(("TERM=xterm script -qec 'sh %s' /dev/null </dev/null"):format(inside))
      assert.equal(0, code, out)
      local last, frames = 0, 0
      for percent in out:gmatch("\r%[[#%.]+%] +(%d+) %%") do
        percent = tonumber(percent)
        assert.is_true(percent >= last and percent <= 100)
        last, frames = percent, frames + 1
      end
      assert.is_true(frames >= 3, out)
      assert.truthy(out:find("parts 0/1", 1, true))
      assert.truthy(out:find("left", 1, true))
      assert.truthy(out:find("crc32c compared", 1, true))
    end)

    it("takes the name, the type and the metadata that it is given", function()
      assert.equal(0, (put(folder .. "/a.txt", "s3://" .. store.bucket .. "/x", "--name", "other/name", "--type", "x/y",
        "--metadata", "colour=light = blue")))
      local answer = read("x/other/name")
      assert.equal("hello", answer.body)
      assert.equal("x/y", answer.headers["content-type"])
      assert.equal("light = blue", answer.headers["x-amz-meta-colour"])
    end)

    it("says so when a folder has no files", function()
      assert(os.execute("mkdir -p " .. folder .. "/empty"))
      local code, out, err = put(folder .. "/empty", "s3://" .. store.bucket)
      assert.equal(0, code)
      assert.equal("", out)
      assert.truthy(err:find("no files in it", 1, true), err)
    end)

    it("names what is in a folder by the slash", function()
      support.run(("mkdir -p %s/d/e && cp %s/a.txt %s/d/e"):format(folder, folder, folder))
      assert.equal(0, (put(folder .. "/d", "s3://" .. store.bucket .. "/1")))
      assert.equal(0, (put(folder .. "/d/", "s3://" .. store.bucket .. "/2/")))
      assert.equal(200, read("1/d/e/a.txt").status)
      assert.equal(200, read("2/e/a.txt").status)
    end)

    it("replaces nothing with --no-clobber", function()
      assert.equal(0, (put(folder .. "/a.txt", "s3://" .. store.bucket .. "/keep")))
      support.write_file(folder .. "/a.txt", "new")
      local code, _, err = put("--no-clobber", folder .. "/a.txt", "s3://" .. store.bucket .. "/keep")
      assert.equal(1, code)
      assert.truthy(err:find("exists already", 1, true))
      assert.equal("hello", read("keep/a.txt").body)
    end)

    it("shows what can be resumed, and resumes it after kill -9", function()
      support.run("head -c 60000000 /dev/zero > " .. folder .. "/big")
      way:rules { { method = "PUT", skip = 3, hold_answer = true } } -- it goes no further than that
      local p = support.spawn("/bin/sh", { args = { "-c", ("exec build/bin/longshore put --journal %s/journal -j 1 "
        .. "--part-size 5MiB %s/big s3://%s/r"):format(folder, folder, store.bucket) },
        cwd = support.root, env = { "AWS_ACCESS_KEY_ID=" .. store.access_key,
        "AWS_SECRET_ACCESS_KEY=" .. store.secret_key, "AWS_ENDPOINT_URL=" .. way.endpoint } })
      assert.truthy(support.wait_until(function()
        local _, text = support.run("cat " .. folder .. "/journal/*.journal 2>/dev/null")
        return select(2, text:gsub('"t":"part"', "")) >= 2
      end, 60))
      p:kill("sigkill")
      p:wait()
      local code, out = cli.run("status", "--local", "--journal", folder .. "/journal")
      assert.equal(0, code)
      assert.truthy(out:find(folder .. "/big", 1, true))
      assert.truthy(out:find("of 57.2 MiB in", 1, true))
      way:clear()
      code, out = put(folder .. "/big", "s3://" .. store.bucket .. "/r")
      assert.equal(0, code)
      assert.truthy(out:find("resumed, %d+ of 12 parts were there"))
      local sent = 0
      for _, entry in ipairs((way:log())) do
        if entry.method == "PUT" then sent = sent + 1 end
      end
      assert.is_true(sent <= 10)
      code, out = cli.run("status", "--local", "--journal", folder .. "/journal")
      assert.equal(0, code)
      assert.truthy(out:find("no interrupted", 1, true))
    end)
  end)
end)

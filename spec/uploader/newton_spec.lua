-- The uploader through a broker, as people run it: `longshore serve`, `longshore
-- put`, and what happens to them on the way.
local core = require "longshore.core"
local json = require "longshore.json"
local newton = require "longshore.service.newton.client"
local relay = require "spec.support.relay"
local serve = require "spec.support.serve"
local support = require "spec.support"
local uploader = require "longshore.uploader"

local MiB = 1024 * 1024

describe("uploading through a broker", function()
  local server, way, folder, count = nil, nil, nil, 0

  local function config(more)
    return ([[return {
      diskstore = { public_endpoint = %q, fsync = false },
      services = { newton = { part_size = 5 * MiB } },
      %s
    }]]):format(way.endpoint, more or "")
  end

  setup(function()
    way = relay.start { target = "127.0.0.1:1" }
    server = serve.start { config = config() }
    way:target("127.0.0.1:" .. server.store_port)
  end)
  teardown(support.cleanup)

  before_each(function()
    way:clear()
    folder = support.tmpdir()
  end)

  -- A file of pseudo-random bytes under a name of its own.
  local function file(size)
    count = count + 1
    local path = ("%s/file%d.bin"):format(folder, count)
    support.run(("openssl enc -aes-128-ctr -K %032x -iv 0 -nosalt -in /dev/zero 2>/dev/null | head -c %.0f > %s")
      :format(count + 1, size, path))
    return path, "file" .. count .. ".bin"
  end

  local function same(name, path)
    local code, out = support.run(("curl -sLf -H 'Authorization: Bearer %s' %s/v0.5/files/download/%s | cmp - %s")
      :format(server.token, server.url, name, path))
    assert.equal(0, code, out)
  end

  local function put(path, options)
    local settings = { driver = assert(newton.new { url = server.url, token = server.token }),
      journal = folder .. "/journal", gate = { base = 0.05, cap = 0.3 }, attempts = 30 }
    for k, v in pairs(options or {}) do settings[k] = v end
    local notes = {}
    local given = settings.on_event
    settings.on_event = function(event)
      if event.type == "note" then notes[#notes + 1] = event.text end
      if given then given(event) end
    end
    local up = assert(uploader.new(settings))
    local result, err = up:put { path = path }
    up:close()
    return result, err, table.concat(notes, "\n")
  end

  -- PUTs by part, as the relay has seen them.
  local function part_puts()
    local parts = {}
    for _, entry in ipairs((way:log())) do
      local n = entry.method == "PUT" and tonumber(entry.target:match("partNumber=(%d+)"))
      if n then parts[n] = (parts[n] or 0) + 1 end
    end
    return parts
  end

  -- Starts `longshore put` as a process of its own.
  local function command(path, more)
    local args = { support.root .. "/lua/longshore/cli/main.lua", "put", path, server.url,
      "--journal", folder .. "/journal" }
    for _, word in ipairs(more or {}) do args[#args + 1] = word end
    return support.spawn(support.lua, { args = args, stdout = folder .. "/out", env = {
      "LONGSHORE_TOKEN=" .. server.token } })
  end

  local function output() return support.read_file(folder .. "/out") or "" end

  -- The parts that the journal knows, by number.
  local function journaled()
    local _, text = support.run("cat " .. folder .. "/journal/*.journal 2>/dev/null")
    local parts = {}
    for n in text:gmatch('"n":(%d+)') do parts[tonumber(n)] = true end
    return parts
  end

  -- Starts an upload of five parts, some of which are done; the fourth waits for other rules.
  local function half_way(path)
    way:rules { { method = "PUT", match = "partNumber=4", hold = true } }
    local p = command(path, { "-j", "1" })
    assert(support.wait_until(function() return next(journaled()) end, 60), output())
    return p
  end

  it("stores and confirms files of every awkward size", function()
    for _, size in ipairs { 0, 1, 5 * MiB, 5 * MiB + 1, 10 * MiB } do
      local path, name = file(size)
      local result = assert(put(path))
      same(name, path)
      assert.equal("crc32c", result.compared)
      assert.is_true(result.whole_checked)
      assert.equal(core.crc32c_file(path), result.crc32c)
      assert.truthy(result.file_id:find("^fil_"))
    end
  end)

  it("says that a name is taken", function()
    local path = file(10)
    assert(put(path))
    local result, err = put(path)
    assert.is_nil(result)
    assert.equal("conflict", err.code)
  end)

  it("resumes after kill -9 at any moment; no part that was journaled is sent again", function()
    local path, name = file(42 * MiB)
    way:rules { { method = "PUT", match = "partNumber=9", hold = true } }
    local first = command(path, { "--limit-rate", "25MiB", "-j", "2" })
    for _, parts in ipairs { 2, 5 } do
      support.wait_until(function()
        local n = 0
        for _ in pairs(journaled()) do n = n + 1 end
        return n >= parts or not first:alive()
      end, 20)
      assert.is_true(first:alive(), output())
      first:kill("sigkill")
      first:wait()
      local known, before = journaled(), part_puts()
      first = command(path, { "--limit-rate", "25MiB", "-j", "2" })
      support.wait_until(function() return not first:alive() or #part_puts() >= 7 end, 10)
      local after = part_puts()
      for n in pairs(known) do assert.equal(before[n], after[n]) end
    end
    way:rules {}
    assert.equal(0, first:wait(120), output())
    assert.truthy(output():find("resumed", 1, true))
    same(name, path)
  end)

  it("ends with code 3 on SIGINT and SIGTERM and says how to go on", function()
    for _, signal in ipairs { "sigint", "sigterm" } do
      local path, name = file(21 * MiB)
      local p = half_way(path)
      p:kill(signal)
      assert.equal(3, p:wait(60))
      way:rules {}
      assert.truthy(output():find("same command again resumes", 1, true))
      p = command(path)
      assert.equal(0, p:wait(120), output())
      same(name, path)
      os.remove(folder .. "/out")
    end
  end)

  it("is done by one process at a time", function()
    local path, name = file(21 * MiB)
    local first = half_way(path)
    local code, out = support.run(("LONGSHORE_TOKEN=%s %s %s/lua/longshore/cli/main.lua put %s %s --journal %s/journal")
      :format(server.token, support.lua, support.root, path, server.url, folder))
    assert.equal(1, code)
    assert.truthy(out:find("another process", 1, true))
    way:rules {}
    assert.equal(0, first:wait(120), output())
    same(name, path)
  end)

  it("starts over with a file that changed since, and says so", function()
    local path, name = file(21 * MiB)
    local p = half_way(path)
    p:kill("sigkill")
    p:wait()
    way:rules {}
    support.run("printf more >> " .. path)
    local result, _, notes = put(path)
    assert.equal(0, result.resumed_parts)
    assert.truthy(notes:find("has changed", 1, true))
    same(name, path)
  end)

  it("sends a damaged part again", function()
    local path, name = file(12 * MiB)
    way:rules { { method = "PUT", match = "partNumber=2", times = 1, flip = 4 * MiB } }
    local result = assert(put(path))
    assert.equal(1, result.retries)
    same(name, path)
  end)

  it("gets through cut connections and 503s", function()
    local path, name = file(32 * MiB)
    way:rules {
      { method = "PUT", match = "partNumber=1&", times = 2, cut = 3 * MiB },
      { method = "PUT", match = "partNumber=2&", times = 1, cut = 0, reset = true },
      { method = "PUT", times = 8, status = 503, body = "<Error><Code>SlowDown</Code></Error>" },
    }
    local result = assert(put(path))
    assert.is_true(result.retries >= 8)
    same(name, path)
  end)

  it("goes on when the broker dies and comes back", function()
    local path, name = file(42 * MiB)
    local killed, restarted
    local result, err = put(path, { engine = { rate_limit = 30 * MiB }, on_event = function(event)
      if event.type == "part" and not killed then
        killed = true
        server:kill()
      elseif killed and not restarted and event.type == "retry" then
        restarted = true
        server:start()
      end
    end })
    assert.is_table(result, tostring(err))
    assert.is_true(killed and restarted)
    same(name, path)
  end)

  it("uses fresh URLs when the first ones have expired", function()
    server:stop()
    server.config = support.write_file(support.tmpdir() .. "/c.lua", config "policy = { url_seconds = 5 },")
    server:start()
    local path, name = file(31 * MiB)
    local result = assert(put(path, { engine = { rate_limit = 4 * MiB }, parallel = 2 }))
    assert.equal(7, result.sent_parts)
    assert.is_true(result.seconds > 7)
    same(name, path)
    for _, entry in ipairs((way:log())) do assert.not_equal(403, entry.status) end
  end)

  it("uploads folders with a result for each file, and failures as data", function()
    support.run(("mkdir -p %s/d/sub/deep && cd %s/d && for i in $(seq 60); do echo $i > f$i; done; "
      .. ": > empty; mv f7 sub/deep/; mkfifo pipe; ln -s sub link; ln -s f8 filelink"):format(folder, folder))
    local p = command(folder .. "/d", { "--json" })
    assert.equal(1, p:wait(60), output())
    local names, failed, summary = {}, {}, nil
    for line in output():gmatch("[^\n]+") do
      local event = assert(json.decode(line))
      if event.event == "result" then
        if event.ok then names[event.name] = event else failed[event.name] = event end
      end
      if event.event == "summary" then summary = event end
    end
    for i = 1, 60 do
      if i ~= 7 then assert.equal(#tostring(i) + 1, names["d/f" .. i].bytes) end
    end
    assert.equal(0, names["d/empty"].bytes)
    assert.is_table(names["d/sub/deep/f7"])
    assert.is_table(names["d/filelink"])
    assert.truthy(failed["d/pipe"].error.message:find("not a regular file", 1, true))
    assert.truthy(failed["d/link"].error.message:find("not followed", 1, true))
    assert.same({ done = 62, failed = 2, interrupted = 0, exit_code = 1 }, { done = summary.done,
      failed = summary.failed, interrupted = summary.interrupted, exit_code = summary.exit_code })
  end)

  it("needs less than 64 MiB, whatever the size", function()
    local path = folder .. "/sparse.bin"
    support.run("truncate -s 300M " .. path)
    local p = command(path)
    local peak = 0
    while p:alive() do
      local status = support.read_file(("/proc/%d/status"):format(p.pid)) or ""
      peak = math.max(peak, tonumber(status:match("VmHWM:%s*(%d+)")) or 0)
      core.sleep(0.02)
    end
    assert.equal(0, p:wait(1), output())
    assert.is_true(peak > 1024 and peak < 64 * 1024, peak .. " KiB")
  end)

  it("leaks no token and no signature into what it prints and keeps", function()
    local path = file(11 * MiB)
    way:rules { { method = "PUT", times = 2, status = 503 }, { method = "PUT", times = 1, status = 400,
      body = "<Error><Code>IncompleteBody</Code></Error>" } }
    local p = command(path, { "--verbose" })
    assert.equal(0, p:wait(120), output())
    local _, kept = support.run("cat " .. folder .. "/out; cat " .. folder .. "/journal/*")
    assert.falsy(kept:find(server.token, 1, true))
    assert.falsy(kept:find("Signature=%x"))
  end)
end)

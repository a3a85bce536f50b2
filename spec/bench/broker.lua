-- The running broker beside @uppy/companion, under the same load in the same
-- run, over the same store.
--
--   lua5.4 spec/bench/broker.lua [SECONDS [ROUNDS]]        (make bench-broker)
--
-- Each case alternates the two, ROUNDS times (5) of SECONDS (3) each, with 64 connections; the figure
-- is the median of the rounds, the ratio the median of the pairs' ratios. The
-- broker is what `longshore serve` starts, with one nginx worker and four threads,
-- authentication, policy, SQLite (synchronous=NORMAL) and both logs on; Companion is what its documentation has, which
-- checks no token and keeps nothing. Writes build/bench/broker.json.
local core = require "longshore.core"
local http = require "spec.support.http"
local json = require "longshore.json"
local nginx = require "spec.support.nginx"
local serve = require "spec.support.serve"
local socket = require "socket"
local support = require "spec.support"

local seconds, rounds = tonumber(arg[1] or 3), tonumber(arg[2] or 5)
local CONNECTIONS = 64

local function start_store(folder)
  local port = support.free_port()
  local text = support.read_file(support.root .. "/spec/bench/broker/store.conf")
    :gsub("@MODULES@ @PORT@", ""):gsub("@MODULES@", function() return nginx.modules() end):gsub("@PORT@", port)
  support.write_file(folder .. "/store.conf", text)
  support.spawn("/usr/sbin/nginx", { args = { "-p", folder .. "/", "-c", "store.conf", "-e", "store.log" } })
  assert(support.wait_port(port, 10), support.read_file(folder .. "/store.log"))
  return "http://127.0.0.1:" .. port
end

local function start_companion(folder, endpoint)
  local code, out = support.run(support.quote(support.root .. "/spec/tools/npm.sh")
    .. " companion @uppy/companion@6.2.2 express@4.21.2")
  assert(code == 0, out)
  local modules, port = out:match("([^\n]+)%s*$"), support.free_port()
  support.spawn("node", { args = { support.root .. "/spec/bench/broker/companion.mjs", modules, tostring(port),
    endpoint }, stdout = folder .. "/companion.log" })
  assert(support.wait_port(port, 30), support.read_file(folder .. "/companion.log"))
  return "http://127.0.0.1:" .. port
end

-- What a policy author writes: allowed file types, a key of one's own, shorter URLs for guests.
local HOOKS = [[
local types = { ["video/mp4"] = true, ["image/png"] = true }
return {
  before_initiate = function(context)
    if not types[context.content_type] then return false, "no such files here" end
    return { key = ("media/%s/%s"):format(context.actor.organization, context.upload_id) }
  end,
  before_sign = function(context)
    if context.actor.user == "guest" then return { url_seconds = 60 } end
  end,
}
]]

local function start_broker(endpoint, hooks)
  local log = support.tmpdir()
  local file = hooks and ("file = %q,"):format(support.write_file(log .. "/policy.lua", HOOKS)) or ""
  return serve.start { config = ([[return {
    broker = { workers = 1, threads = 4 }, diskstore = { enabled = false }, store = { synchronous = "NORMAL" },
    buckets = { default = { profile = "generic", bucket = "longshore", region = "us-east-1", endpoint = %q,
      path_style = true, access_key = "AKBENCH", secret_key = "secret-of-the-benchmark" } },
    log = { access = %q, audit = %q, format = "json" },
    policy = { %s max_running = 9007199254740991 },
  }]]):format(endpoint, log .. "/access.log", log .. "/audit.log", file) }
end

-- Starts per second of nothing but their requests to the store.
local function bare_starts(endpoint)
  local root = support.root
  local code, out = support.run(("LUA_PATH='%s/lua/?.lua;%s/lua/?/init.lua;;' LUA_CPATH='%s/build/luajit/?.so;;' "
    .. "luajit %s/spec/bench/broker/starts.lua %s %d %d"):format(root, root, root, root, endpoint, seconds,
    CONNECTIONS))
  return assert(code == 0 and tonumber(out), out)
end

-- One load of wrk: {rate=, p99= (ms), failed=}.
local function load_with(script, url, folder)
  local path = support.write_file(folder .. "/load.lua", script .. [[

done = function(summary, latency, requests)
  io.write(("RESULT %d %d %d %d\n"):format(summary.requests, summary.duration, latency:percentile(99),
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout))
end]])
  local code, out = support.run(("wrk -t1 -c%d -d%ds --timeout 20s -s %s '%s'"):format(CONNECTIONS, seconds, path,
    url))
  local requests, took, p99, failed = out:match("RESULT (%d+) (%d+) (%d+) (%d+)")
  assert(code == 0 and requests, out)
  return { rate = requests / (took / 1e6), p99 = p99 / 1000, failed = tonumber(failed) }
end

local function median(list)
  table.sort(list)
  local n = #list
  return n % 2 == 1 and list[(n + 1) / 2] or (list[n / 2] + list[n / 2 + 1]) / 2
end

local function numbers(count)
  local list = {}
  for i = 1, count do list[i] = i end
  return table.concat(list, ",")
end

local function main()
  local folder = support.tmpdir()
  local endpoint = start_store(folder)
  local broker, hooked = start_broker(endpoint), start_broker(endpoint, true)
  local companion = start_companion(folder, endpoint)
  local started = http.call("POST", companion .. "/s3/multipart", nil,
    { filename = "bench", type = "video/mp4", metadata = json.object {} })
  assert(started.status == 200, started.body)
  local key, id = started.json.key, started.json.uploadId
  assert(key and id, started.body)

  local function head(server)
    return ([[
wrk.headers["Authorization"] = "Bearer %s"
wrk.headers["Content-Type"] = "application/json"
wrk.method = "POST"
]]):format(server.token)
  end
  local function sign(server, count)
    local upload = http.call("POST", server.url .. "/v0.5/files/uploads/initiate", server.token,
      { filename = "bench", file_type = "video/mp4", num_bytes = 16 * 1024 * 1024 * 200 })
    assert(upload.status == 200, upload.body)
    local script = head(server) .. ("wrk.body = '{\"part_numbers\":[%s]}'"):format(numbers(count))
    local url = ("%s/v0.5/files/uploads/%s/parts/urls"):format(server.url, upload.json.upload_id)
    return function() return script, url end
  end
  -- Names are new each time; Companion keeps no names.
  local function start(server)
    local script = head(server) .. ([[
local n, run = 0, %q
request = function()
  n = n + 1
  return wrk.format(nil, nil, nil,
    ('{"filename":"%%s-%%d","file_type":"video/mp4","num_bytes":5000000}'):format(run, n))
end]])
    return function()
      return script:format(core.hex(core.random(6))), server.url .. "/v0.5/files/uploads/initiate"
    end
  end

  local function peer_one() return "", ("%s/s3/multipart/%s/1?key=%s"):format(companion, id, core.uri_encode(key)) end
  local function peer_batch()
    return "", ("%s/s3/multipart/%s/batch?key=%s&partNumbers=%s"):format(companion, id, core.uri_encode(key),
      numbers(100))
  end
  local function peer_start()
    return [[
wrk.headers["Content-Type"] = "application/json"
wrk.method = "POST"
wrk.body = '{"filename":"bench","type":"video/mp4","metadata":{}}']], companion .. "/s3/multipart"
  end

  local cases = {
    { case = "sign one part", goal = 25, ours = sign(broker, 1), peer = peer_one,
      limit = "nginx's event loop: HTTP, Lua and two logs, one request at a time" },
    { case = "sign one part, policy with hooks", goal = 25, ours = sign(hooked, 1), peer = peer_one,
      limit = "the event loop, and the way to a thread and back (shared with others)" },
    { case = "sign a batch of 100 parts", goal = 150, ours = sign(broker, 100), peer = peer_batch,
      limit = "the event loop: signing 100 URLs, and sending 50 KB of JSON" },
    { case = "sign a batch of 100 parts, policy with hooks", goal = 150, ours = sign(hooked, 100), peer = peer_batch,
      limit = "the event loop: their copy from the thread, and sending 50 KB of JSON" },
    { case = "start an upload", goal = 15, ours = start(broker), peer = peer_start,
      limit = "a signed request to the store and its answer, two transactions of SQLite (shared with others), Lua" },
    { case = "start an upload, policy with hooks", goal = 15, ours = start(hooked), peer = peer_start,
      limit = "as without hooks, and the sandbox twice" },
  }
  local rows = {}
  for _, case in ipairs(cases) do
    local ours, peer = { rate = {}, p99 = {} }, { rate = {}, p99 = {} }
    local ratios, failed = {}, 0
    for i = 1, rounds do
      local script, url = case.ours()
      local a = load_with(script, url, folder)
      script, url = case.peer()
      local b = load_with(script, url, folder)
      -- On a machine that is busy with something else a round may see nothing.
      for _ = 1, 3 do
        if b.rate > 0 then break end
        b = load_with(script, url, folder)
      end
      assert(b.rate > 0 and b.failed == 0, "companion answered nothing; the machine is too busy")
      failed = failed + a.failed
      ours.rate[i], ours.p99[i], peer.rate[i], peer.p99[i] = a.rate, a.p99, b.rate, b.p99
      ratios[i] = a.rate / b.rate
    end
    local ratio = median(ratios)
    local p99, peer_p99 = median(ours.p99), median(peer.p99)
    rows[#rows + 1] = { case = case.case, ours = median(ours.rate), peer = median(peer.rate), unit = "requests/s",
      peer_name = "@uppy/companion 6.2.2", ratio = ratio, goal = case.goal, met = ratio >= case.goal and failed == 0,
      limit = case.limit, failed = failed }
    rows[#rows + 1] = { case = case.case .. ", p99", ours = p99, peer = peer_p99, unit = "ms",
      peer_name = "@uppy/companion 6.2.2", ratio = p99 / peer_p99, goal = 1, met = p99 <= peer_p99 }
  end
  -- What the store and the engine leave a start, beside the last case's Companion.
  local last, bare = rows[#rows - 1], {}
  for i = 1, rounds do bare[i] = bare_starts(endpoint) end
  local rate = median(bare)
  rows[#rows + 1] = { case = "start: its request to the store alone", ours = rate, peer = last.peer,
    unit = "requests/s", peer_name = last.peer_name, ratio = rate / last.peer,
    limit = "one core of requests, without a database, an answer of ours, or any other load" }
  for _, row in ipairs(rows) do
    print(("%-48s %10.1f %-10s %10.1f  %6.2fx  %s"):format(row.case, row.ours, row.unit, row.peer,
      row.ratio, row.goal and ("goal %s %s %s"):format(row.unit == "ms" and "<=" or ">=", row.goal,
      row.met and "met" or "NOT MET") or ""))
  end
  os.execute("mkdir -p " .. support.quote(support.root .. "/build/bench"))
  support.write_file(support.root .. "/build/bench/broker.json", json.encode(json.array(rows)) .. "\n")
end

local ok, why = pcall(main)
support.cleanup()
socket.sleep(0)
if not ok then error(why, 0) end

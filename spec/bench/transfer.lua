-- The transfer benchmark: our engine against curl --parallel, aws-cli (CRT),
-- rclone and s3cmd, to a discarding sink; and our uploader on links.
--
--   spec/tools/bench.sh transfer [short] [verify curl small threads aws others links]
--
-- Each comparison is made of pairs, one run of ours and one of the peer's, one
-- after the other, the files re-read before each; the ratio is the median of
-- the pairs' ratios. Client and sink are held to a core of their own, except
-- where threads are compared. Before anything is timed a verifying run has the
-- sink hash every byte. Results: a table, and build/bench/transfer.json.
local links = require "spec.bench.links"
local relay = require "spec.support.relay"
local report = require "spec.bench.report"
local support = require "spec.support"

local chosen, SHORT = {}, false
for _, word in ipairs(arg) do
  if word == "short" then SHORT = true else chosen[word] = true end
end
local SIZE = (SHORT and 256 or 1024) * 1048576
local PART = 64 * 1048576
local SMALL, SMALL_COUNT = 65536, SHORT and 1000 or 10000
local PAIRS = SHORT and 3 or 7

local dir = os.getenv "BENCH_DIR" or support.root .. "/build/bench/data"
local results = report.new("transfer")

local function sh(command)
  local code, out = support.run(command)
  assert(code == 0, command .. "\n" .. out)
  return out
end

local function has(program) return (support.run("command -v " .. program)) == 0 end

local median = report.median

local function note(...) io.stderr:write(string.format(...), "\n") end

-- Less is better in every row here.
local function add(case, ours, peer, unit, peer_name, ratio, goal)
  local row = { case = case, ours = ours, peer = peer, unit = unit, peer_name = peer_name, ratio = ratio, goal = goal,
    less = true }
  results.row(row)
  note("%-46s %11s %11s  %-30s %6.2f  %s", case, report.value(ours, unit), report.value(peer, unit), peer_name, ratio,
    goal and ("goal %.2f  %s"):format(goal, row.met and "met" or "NOT MET") or "")
end

-- --- files ---

local function prepare()
  sh("mkdir -p " .. support.quote(dir))
  local function want(name, size, make)
    if sh(("stat -c %%s %s/%s 2>/dev/null || echo none"):format(dir, name)):match("%d+") ~= tostring(size) then
      sh(make)
    end
  end
  want("file", SIZE, ("dd if=/dev/urandom of=%s/file bs=1M count=%d status=none"):format(dir, SIZE // 1048576))
  for i = 0, 3 do
    want("quarter" .. i, SIZE // 4, ("dd if=%s/file of=%s/quarter%d bs=1M skip=%d count=%d status=none"):format(dir,
      dir, i, i * (SIZE // 4 // 1048576), SIZE // 4 // 1048576))
  end
  want("small", SMALL * SMALL_COUNT, ("dd if=/dev/urandom of=%s/small bs=1M count=%d iflag=fullblock,count_bytes "
    .. "status=none && rm -rf %s/pieces && mkdir %s/pieces && split -b %d -a 5 -d %s/small %s/pieces/p"):format(dir,
    SMALL * SMALL_COUNT, dir, dir, SMALL, dir, dir))
end

-- --- the sink ---

local cores = tonumber(sh("nproc"):match("%d+"))
local pin_client = cores > 1 and { "taskset", "-c", "0" } or {}
local sink_program = links.programs()
local ca, cert, key = relay.certificate(support.tmpdir(), "IP:127.77.0.1")

local function start_sink(options, address, ports, free)
  ports = ports or { support.free_port(), support.free_port() }
  local args = { "-c", "1", sink_program, "--address", address or "127.0.0.1", "--port", tostring(ports[1]),
    "--tls-port", tostring(ports[2]), "--cert", cert, "--key", key }
  if free or cores < 2 then args[2] = "0-" .. cores - 1 end
  for _, word in ipairs(options or {}) do args[#args + 1] = word end
  local process = support.spawn("taskset", { args = args })
  local url = ("http://%s:%d/_count"):format(address or "127.0.0.1", ports[1])
  if not support.wait_until(function() return support.run("curl -s -o /dev/null " .. url) == 0 end, 5) then
    return nil
  end
  return {
    http = ("http://%s:%d"):format(address or "127.0.0.1", ports[1]),
    https = ("https://%s:%d"):format(address or "127.0.0.1", ports[2]),
    bytes = function() return tonumber(sh("curl -s " .. url):match("^%d+ (%d+)")) end,
    stop = function() process:kill("sigkill") process:wait(5) end,
  }
end

-- --- runs ---

-- Re-reads the files, runs the command, returns {wall, cpu, rss in MiB}.
local function measure(files, command, env, free)
  sh("cat " .. files .. " > /dev/null")
  local words = { env and "env " .. env or "", "/usr/bin/python3", support.root .. "/spec/bench/measure.py" }
  for _, word in ipairs(free and {} or pin_client) do words[#words + 1] = word end
  words[#words + 1] = command
  local p = io.popen("cd " .. dir .. " && " .. table.concat(words, " ") .. " 2>" .. dir .. "/stderr")
  local out = p:read("*a")
  p:close()
  local wall, cpu, rss, code = out:match("(%S+) (%S+) (%S+) (%S+)%s*$")
  assert(code == "0", ("%s ended with %s: %s"):format(command, code, support.read_file(dir .. "/stderr")))
  return { wall = tonumber(wall), cpu = tonumber(cpu), rss = tonumber(rss) / 1024 }
end

local lua_env = ("LUA_PATH='%s/lua/?.lua;%s/lua/?/init.lua;;' LUA_CPATH='%s/build/luajit/?.so;;'"):format(support.root,
  support.root, support.root)

local function ours(base, options)
  options = options or {}
  local files = options.files or { dir .. "/" .. (options.file or "file") }
  local command = ("luajit %s/spec/bench/upload.lua %s/bench/k %s %d %d %d %d %d %s"):format(support.root, base,
    table.concat(files, ","), options.part or PART, options.connections or 4, options.threads or 1,
    options.buffer or 0, options.checksum == false and 0 or 1, ca)
  return function() return measure(table.concat(files, " "), command, lua_env, options.free) end
end

local function curl_parallel(base, names, connections, free)
  local lines = {}
  for i, name in ipairs(names) do
    if i > 1 then lines[#lines + 1] = "next" end
    lines[#lines + 1] = ('url = "%s/bench/k?partNumber=%d&uploadId=x"'):format(base, i)
    lines[#lines + 1] = ('upload-file = "%s"'):format(name)
    lines[#lines + 1] = ('cacert = "%s"'):format(ca)
    lines[#lines + 1] = 'output = "/dev/null"'
  end
  local config = support.write_file(("%s/curl.%d.%s"):format(dir, #names, base:match("^%a+")),
    table.concat(lines, "\n") .. "\n")
  local files = #names > 10 and dir .. "/pieces/*" or table.concat(names, " ")
  return function()
    return measure(files, ("curl -s --parallel --parallel-max %d -K %s"):format(connections, config), nil, free)
  end
end

-- The same parts in a plain loop of pread, CRC32C and send: libcurl and Lua cannot cost less than nothing.
local function plain(base, names, connections)
  local files = table.concat(names, " ")
  local command = ("%s/build/bench/transfer_core %s %d %d %s"):format(support.root, base:match("%d+$"), connections,
    PART, files)
  return function() return measure(files, command) end
end

-- Alternating pairs. Returns the medians of each side and of the ratios.
local function pairs_of(n, one, other)
  local wall, cpu, a, b = {}, {}, { wall = {}, cpu = {}, rss = {} }, { wall = {}, cpu = {}, rss = {} }
  for i = 1, n do
    local x, y
    if i % 2 == 1 then
      x = one()
      y = other()
    else
      y = other()
      x = one()
    end
    wall[i], cpu[i] = x.wall / y.wall, x.cpu / y.cpu
    for _, k in ipairs { "wall", "cpu", "rss" } do
      a[k][i], b[k][i] = x[k], y[k]
    end
  end
  local function medians(t) return { wall = median(t.wall), cpu = median(t.cpu), rss = median(t.rss) } end
  return { ours = medians(a), peer = medians(b), wall = median(wall), cpu = median(cpu) }
end

local function compare(case, pairs_count, one, other, peer_name, goal, cpu_goal)
  one()
  other()
  local r = pairs_of(pairs_count, one, other)
  add(case .. ": wall", r.ours.wall, r.peer.wall, "s", peer_name, r.wall, goal)
  local gib = SIZE / 2 ^ 30
  if cpu_goal then
    add(case .. ": CPU", r.ours.cpu / gib, r.peer.cpu / gib, "s/GiB", peer_name, r.cpu, cpu_goal)
  end
  return r
end

-- --- verifying ---

local function verify()
  local sink = assert(start_sink { "--hash" })
  local function check(base, file, part, threads)
    local out = sh(("%s luajit %s/spec/bench/upload.lua %s/bench/k %s/%s %d 4 %d 0 1 %s verify"):format(lua_env,
      support.root, base, dir, file, part, threads, ca))
    local parts, total = 0, 0
    for offset, length, sha in out:gmatch("(%d+) (%d+) (%x+)\n") do
      parts, total = parts + 1, total + length
      if part > 1048576 or parts % 50 == 0 then
        local want = sh(("dd if=%s/%s iflag=skip_bytes,count_bytes skip=%d count=%d bs=1M status=none"):format(
          dir, file, offset, length) .. " | sha256sum")
        assert(want:sub(1, 64) == sha, "the sink has other bytes at " .. offset)
      end
    end
    assert(total == (file == "file" and SIZE or SMALL * SMALL_COUNT), "not every byte was sent")
    return parts
  end
  local n = 0
  for _, base in ipairs { sink.http, sink.https } do
    for _, threads in ipairs { 1, 2 } do
      n = n + check(base, "file", PART, threads) + check(base, "small", SMALL, threads)
    end
  end
  -- The CRC32C that the engine computed on the way, against an independent one.
  local out = sh(("%s luajit %s/spec/bench/upload.lua %s/bench/k %s/file %d 4 1 0 1"):format(lua_env, support.root,
    sink.http, dir, PART))
  local independent = sh(([[/usr/bin/python3 -c '
from awscrt import checksums
crc = 0
with open("%s/file", "rb") as f:
    while True:
        data = f.read(1 << 22)
        if not data:
            break
        crc = checksums.crc32c(data, crc)
print("%%08x" %% crc)']]):format(dir))
  assert(out:match("%d+%s+(%x+)") == independent:match("%x+"), "the CRC32C is wrong: " .. out .. independent)
  sink.stop()
  note("verified: %d parts hashed by the sink, CRC32C as awscrt's", n)
end

-- --- the peers ---

-- The file in four, for those who send whole files only.
local function in_quarters()
  local quarters = {}
  for i = 0, 3 do quarters[#quarters + 1] = dir .. "/quarter" .. i end
  return quarters
end

local function curl_cases()
  local sink = assert(start_sink { "--drop" })
  local quarters = in_quarters()
  -- curl sends whole files only. Ours sends the parts of the same ones: how a
  -- file lies in the page cache makes more of a difference than the client.
  local r = compare("HTTP, 64 MiB parts", PAIRS, ours(sink.http, { files = quarters }),
    curl_parallel(sink.http, quarters, 4), "curl --parallel", 0.75, 1)
  compare("HTTP, the same in a bare C loop", PAIRS, plain(sink.http, quarters, 4),
    curl_parallel(sink.http, quarters, 4), "curl --parallel")
  add("HTTP: peak memory, 4 connections", r.ours.rss, 24, "MiB", "(limit)", r.ours.rss / 24, 1)
  r = compare("HTTPS, 64 MiB parts", PAIRS, ours(sink.https, { files = quarters }),
    curl_parallel(sink.https, quarters, 4), "curl --parallel", 0.95, 1)
  add("HTTPS: peak memory, 4 connections", r.ours.rss, 24, "MiB", "(limit)", r.ours.rss / 24, 1)
  local huge = ours(sink.https, { part = SIZE })()
  add("HTTPS: peak memory, one part of the whole file", huge.rss, 24, "MiB", "(limit)", huge.rss / 24, 1)
  sink.stop()
end

local function small_cases()
  local sink = assert(start_sink { "--drop" })
  local pieces = {}
  for i = 0, SMALL_COUNT - 1 do pieces[#pieces + 1] = ("%s/pieces/p%05d"):format(dir, i) end
  compare(("HTTP, %d parts of 64 KiB"):format(SMALL_COUNT), SHORT and 3 or 5,
    ours(sink.http, { file = "small", part = SMALL }), curl_parallel(sink.http, pieces, 4), "curl --parallel", 1 / 1.5)
  sink.stop()
end

local function thread_cases()
  local sink = assert(start_sink({ "--drop" }, nil, nil, true))
  local r = pairs_of(PAIRS, ours(sink.https, { threads = 2, free = true }), ours(sink.https, { free = true }))
  add("HTTPS, 2 threads: wall, nothing pinned", r.ours.wall, r.peer.wall, "s", "ours, 1 thread", r.wall, 1)
  r = pairs_of(PAIRS, ours(sink.http, { threads = 2, free = true }), ours(sink.http, { free = true }))
  add("HTTP, 2 threads: wall, nothing pinned", r.ours.wall, r.peer.wall, "s", "ours, 1 thread", r.wall, 1)
  local quarters = in_quarters()
  r = pairs_of(PAIRS, ours(sink.http, { files = quarters, threads = 2, free = true }),
    curl_parallel(sink.http, quarters, 4, true))
  add("HTTP, 2 threads and curl: wall, nothing pinned", r.ours.wall, r.peer.wall, "s", "curl --parallel", r.wall,
    0.75)
  sink.stop()
end

local function aws_cases()
  if not has("/usr/bin/aws") then return note("aws-cli is not installed: left out") end
  -- With CRT it ignores the port of an endpoint: the standard ones, on a
  -- loopback address of our own.
  local sink = start_sink({}, "127.77.0.1", { 80, 443 })
  if not sink then return note("ports 80 and 443 of 127.77.0.1 cannot be had (root?): aws-cli with CRT left out") end
  support.write_file(dir .. "/aws", [[
[default]
region = us-east-1
s3 =
  preferred_transfer_client = crt
  multipart_chunksize = 64MB
  multipart_threshold = 64MB
  addressing_style = path
]])
  local env = ("AWS_CONFIG_FILE=%s/aws AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_ACCESS_KEY_ID=a "
    .. "AWS_SECRET_ACCESS_KEY=b AWS_EC2_METADATA_DISABLED=true"):format(dir)
  for _, case in ipairs { { "HTTP", "http://127.77.0.1", 0.25, "" }, { "HTTPS", "https://127.77.0.1", 0.35,
    " --no-verify-ssl" } } do
    local function peer()
      return measure(dir .. "/file", ("/usr/bin/aws s3 cp --quiet %s/file s3://bench/k --endpoint-url %s%s"):format(dir,
        case[2], case[4]), env)
    end
    local before = sink.bytes()
    local ok, why = pcall(peer)
    if not ok then
      note("aws-cli over %s failed, left out: %s", case[1], tostring(why))
    elseif sink.bytes() - before < SIZE then
      note("aws-cli over %s sent too little, left out", case[1])
    else
      compare(case[1] .. ", whole process", SHORT and 2 or 3, ours(case[2]), peer, "aws-cli v2 (CRT)", case[3])
    end
  end
  sink.stop()
end

local function other_cases()
  local sink = assert(start_sink())
  if has("rclone") then
    local peer = function()
      return measure(dir .. "/file", ("rclone copyto %s/file :s3:bench/k --s3-provider Other --s3-access-key-id a "
        .. "--s3-secret-access-key b --s3-endpoint %s --s3-chunk-size 64M --s3-upload-concurrency 4 "
        .. "--s3-no-check-bucket --s3-no-head --ignore-times --config /dev/null"):format(dir, sink.http),
        "-u AWS_CA_BUNDLE")
    end
    compare("HTTP, whole process", 2, ours(sink.http), peer, "rclone", 1)
  end
  sink.stop()
  sink = assert(start_sink { "--md5" })
  if has("s3cmd") then
    local peer = function()
      return measure(dir .. "/file", ("s3cmd -q -c /dev/null --access_key=a --secret_key=b --no-ssl --host=%s "
        .. "--host-bucket=%s --multipart-chunk-size-mb=64 put %s/file s3://bench/k"):format(sink.http:sub(8),
        sink.http:sub(8), dir))
    end
    compare("HTTP, whole process (sink computes MD5)", 2, ours(sink.http), peer, "s3cmd", 1)
  end
  sink.stop()
end

-- --- links ---

local LINKS = {
  { name = "fat and long", rate = "400mbit", link = { "--delay", "40", "--window", "262144" }, size = 320 },
  { name = "thin and sick", rate = "100mbit", size = 100,
    link = { "--delay", "15", "--jitter", "10", "--window", "262144", "--accidents", "30000000" } },
  { name = "a store that takes 6 at once", rate = "400mbit", link = { "--delay", "10", "--window", "131072" },
    sink = { "--busy", "6" }, size = 260 },
}

local function link_cases()
  local why = links.unavailable()
  if why then return note("links left out: %s", why) end
  for _, case in ipairs(LINKS) do
    local net = links.open(case.rate)
    local size = case.size // (SHORT and 4 or 1)
    sh(("head -c %d %s/file > %s/linked"):format(size * 1000000, dir, dir))
    local function run(parallel, limit)
      local endpoint = net:serve { link = case.link, sink = case.sink }
      local seconds, err = net:send(endpoint, dir .. "/linked", 4 * 1048576, parallel, 2, limit)
      net:stop()
      return seconds, err
    end
    local best, number = math.huge, nil
    for _, n in ipairs { 16, 6, 4, 2 } do
      -- (One that takes longer than the best so far is not waited for.)
      local seconds = run(n, best == math.huge and 120 or best + 0.5)
      if seconds and seconds < best then best, number = seconds, n end
    end
    local seconds, err = run("auto", 120)
    assert(seconds, err)
    add("link, " .. case.name .. ": wall, adaptive", seconds, best, "s",
      ("fixed at %d (best of 2 4 6 16)"):format(number), seconds / best, 1.1)
    net:close()
  end
end

local ok, why = xpcall(function()
  prepare()
  for _, step in ipairs { { "verify", verify }, { "curl", curl_cases }, { "small", small_cases },
    { "threads", thread_cases }, { "aws", aws_cases }, { "others", other_cases }, { "links", link_cases } } do
    if not next(chosen) or chosen[step[1]] then step[2]() end
  end
end, debug.traceback)
support.cleanup()
if not ok then error(why, 0) end

results.finish()

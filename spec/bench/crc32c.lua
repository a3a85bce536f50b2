-- The CRC32C benchmark: ours against ISA-L, awscrt and python3-crc32c (and
-- Google's where the system has it), by sizes; a whole file against reading
-- alone; combining. Every CRC is compared.
local core = require "longshore.core"
local report = require "spec.bench.report"

local dir = (os.getenv("BUILD") or "build") .. "/bench"
local big = dir .. "/crc32c.data"
local MiB = 1048576
local SIZE = 1024 * MiB

-- Memory for the largest buffer: two GiB where the machine has them to spare.
local free = 0
for line in io.lines("/proc/meminfo") do
  free = tonumber(line:match("^MemAvailable:%s+(%d+)")) or free
end
local most = math.min(2048, math.floor(free / 1024 / 4)) * MiB

local stat = core.file_stat(big)
if not stat or stat.size ~= SIZE then
  assert(os.execute(("head -c %d /dev/urandom > %s"):format(SIZE, big)))
end
-- The first pass over a file is slower than any other.
assert(core.crc32c_file(big))

local found = {}
local p = assert(io.popen(("%s/crc32c_core %s %d 2>&1; echo 'exit|'$?'|0|0'"):format(dir, big, most)))
local out = {}
for line in p:lines() do
  out[#out + 1] = line
  local case, ours, peer, ratio = line:match("^([^|]+)|([^|]+)|([^|]+)|([^|]+)$")
  if case then found[case] = { ours = tonumber(ours), peer = tonumber(peer), ratio = tonumber(ratio) } end
end
p:close()
if found.exit.ours ~= 0 then error(table.concat(out, "\n"), 0) end

local crc = found["file crc"].ours
assert(crc == core.crc32c_file(big), "Lua and C differ")
local theirs = report.measure("/usr/bin/python3 spec/bench/crc32c_peers.py " .. big)
assert(theirs.crc == crc, "awscrt has another CRC")
print("1 GiB of random bytes: the same CRC from Lua, C, awscrt and python3-crc32c; of every size: the same as ISA-L's")

local r = report.new("crc32c")
local function name(n)
  if n >= 1024 * MiB then return ("%.3g GiB"):format(n / 1024 / MiB) end
  if n >= MiB then return ("%d MiB"):format(n / MiB) end
  if n >= 1024 then return ("%d KiB"):format(n / 1024) end
  return n .. " B"
end
local function row(case, key, peer_name, goal, less, unit)
  local f = found[key]
  r.row { case = case, ours = f.ours, peer = f.peer, ratio = f.ratio, unit = unit or "GB/s", peer_name = peer_name,
    goal = goal, less = less }
end
for _, n in ipairs { 64, 256, 1024, 4096, 65536, MiB, 64 * MiB, most } do
  local goal = n == 64 and 1.5 or n >= 4096 and 0.95 or nil
  row(name(n), ("isal %d"):format(n), "ISA-L", goal)
end
for _, n in ipairs { 64, 4096, MiB, most } do
  local key = ("google %d"):format(n)
  if found[key] then row(name(n), key, "Google crc32c") end
end
for _, path in ipairs(core.crc32c_implementations()) do
  row("1 MiB by " .. path, ("path_%s %d"):format(path, MiB), "ISA-L")
end
for _, peer in ipairs { { "awscrt", "awscrt" }, { "python", "python3-crc32c (Adler's)" } } do
  r.row { case = "64 MiB", ours = found[("isal %d"):format(64 * MiB)].ours, peer = theirs[peer[1]], unit = "GB/s",
    peer_name = peer[2] }
end
row("whole file, as by default", "file default", "pread of 1 MiB alone, wall time", 0.9)
row("whole file, one thread", "file one thread", "pread of 1 MiB alone", 0.9)
row("whole file, two threads", "file two threads", "one thread, wall time", 1.8)
row("whole file, two threads", "file two bare", "pread alone, two threads")
row("pread alone, two threads", "bare two threads", "pread alone, one thread")
row("combine, any length", "combine any", "(nanoseconds)", 30, true, "ns")
row("combine, same length again", "combine same", "(nanoseconds)", 10, true, "ns")
r.finish()

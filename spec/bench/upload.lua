-- The benchmark's uploader: files in parts over one engine, nothing else.
--   upload.lua URL FILE[,FILE...] PART_SIZE CONNECTIONS THREADS BUFFER (0: default) CHECKSUM [CA_FILE [verify]]
-- Prints "parts crc32c peak_rss_kib". With `verify` each part's x-sha256, as
-- the sink computed it, goes to stdout as "offset length sha256".
local core = require "longshore.core"

local unpack = rawget(_G, "unpack") or rawget(table, "unpack")
local url, names, part, connections, threads, buffer, checksum, ca_file, verify = unpack(arg)
part = tonumber(part)
local engine = assert(core.engine {
  connections = tonumber(connections), threads = tonumber(threads),
  buffer = tonumber(buffer) > 0 and tonumber(buffer) or nil,
  ca_file = ca_file ~= "" and ca_file or nil, proxy = "",
})

-- Every part of every file, one after another.
local next_part = coroutine.wrap(function()
  for path in names:gmatch("[^,]+") do
    local stat = assert(core.file_stat(path))
    for offset = 0, stat.size - 1, part do
      coroutine.yield(path, stat, offset, math.min(part, stat.size - offset))
    end
  end
end)

local added, ended, parts, crcs = 0, 0, {}, {}
local function add()
  local path, stat, offset, length = next_part()
  if not path then return false end
  added = added + 1
  local id = assert(engine:add {
    method = "PUT", url = ("%s?partNumber=%d&uploadId=x"):format(url, added), checksum = checksum == "1",
    body = { path = path, offset = offset, length = length, size = stat.size, mtime_ns = stat.mtime_ns },
  })
  parts[id] = { number = added, offset = offset, length = length }
  return true
end

local more = true
while more and added < 64 do more = add() end
while ended < added do
  for _, event in ipairs(engine:step(1)) do
    if event.type ~= "progress" then
      assert(event.type == "done" and event.status == 200, tostring(event.error))
      local p = parts[event.id]
      parts[event.id] = nil
      crcs[p.number] = { event.crc32c, p.length }
      ended = ended + 1
      if verify then
        print(("%.0f %.0f %s"):format(p.offset, p.length, event.headers["x-sha256"]))
      end
      if more then more = add() end
    end
  end
end
engine:close()

local crc = 0
if checksum == "1" then
  for i = 1, added do crc = core.crc32c_combine(crc, crcs[i][1], crcs[i][2]) end
end
local rss
for line in io.lines("/proc/self/status") do
  rss = line:match("^VmHWM:%s*(%d+)") or rss
end
if not verify then print(added, ("%08x"):format(crc), rss) end

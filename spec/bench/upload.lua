-- The benchmark's uploader: a file in parts over one engine, nothing else.
--   upload.lua URL FILE PART_SIZE CONNECTIONS THREADS BUFFER (0: default) CHECKSUM [CA_FILE [verify]]
-- Prints "parts crc32c peak_rss_kib". With `verify` each part's x-sha256, as
-- the sink computed it, goes to stdout as "offset length sha256".
local core = require "longshore.core"

local unpack = rawget(_G, "unpack") or rawget(table, "unpack")
local url, path, part, connections, threads, buffer, checksum, ca_file, verify = unpack(arg)
part = tonumber(part)
local stat = assert(core.file_stat(path))
local engine = assert(core.engine {
  connections = tonumber(connections), threads = tonumber(threads),
  buffer = tonumber(buffer) > 0 and tonumber(buffer) or nil,
  ca_file = ca_file ~= "" and ca_file or nil, proxy = "",
})

local count = math.ceil(stat.size / part)
local added, ended, parts = 0, 0, {}
local function add()
  local offset = added * part
  added = added + 1
  local length = math.min(part, stat.size - offset)
  local id = assert(engine:add {
    method = "PUT", url = ("%s?partNumber=%d&uploadId=x"):format(url, added), checksum = checksum == "1",
    body = { path = path, offset = offset, length = length, size = stat.size, mtime_ns = stat.mtime_ns },
  })
  parts[id] = { number = added, offset = offset, length = length }
end

while added < count and added < 64 do add() end
local crcs = {}
while ended < count do
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
      if added < count then add() end
    end
  end
end
engine:close()

local crc = 0
if checksum == "1" then
  for i = 1, count do crc = core.crc32c_combine(crc, crcs[i][1], crcs[i][2]) end
end
local rss
for line in io.lines("/proc/self/status") do
  rss = line:match("^VmHWM:%s*(%d+)") or rss
end
if not verify then print(count, ("%08x"):format(crc), rss) end

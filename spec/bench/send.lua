-- One file to a bucket through the uploader, timed.
--   send.lua ENDPOINT FILE PART_SIZE PARALLEL|auto STALL_SECONDS [CA_FILE]
-- Prints "seconds retries".
local core = require "longshore.core"
local s3 = require "longshore.uploader.s3"
local uploader = require "longshore.uploader"

local endpoint, path, part_size, parallel, stall, ca_file = arg[1], arg[2], arg[3], arg[4], arg[5], arg[6]
local retries = 0
local up = assert(uploader.new {
  driver = assert(s3.new { url = "s3://bench/up", endpoint = endpoint, region = "us-east-1",
    profile = { base = "aws", min_part = 1, etag_is_md5 = false }, path_style = true, access_key = "a",
    secret_key = "b", part_size = tonumber(part_size), threshold = 1024 }),
  parallel = parallel ~= "auto" and tonumber(parallel) or nil,
  engine = { connections = 40, stall_seconds = tonumber(stall), stall_bytes = 1024, ca_file = ca_file, proxy = "" },
  flights = { window = 2 }, attempts = 50, gate = { base = 0.2, budget = 1000 },
  on_event = function(event)
    if event.type == "retry" then
      retries = retries + 1
      if os.getenv "TRACE" then io.stderr:write(tostring(event.error), "\n") end
    end
  end,
})
local before = core.monotonic()
local result, err = up:put { path = path }
local seconds = core.monotonic() - before
up:close()
if not result then
  io.stderr:write(tostring(err), "\n")
  os.exit(1)
end
print(("%.3f %d"):format(seconds, retries))

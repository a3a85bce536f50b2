-- What starting uploads leaves to the store: the signed requests to the store alone, over the same engine, as many
-- at once as the load has connections, with nothing asked before and nothing kept after. Prints requests per second.
--
--   luajit spec/bench/broker/starts.lua ENDPOINT SECONDS AT_ONCE
local core = require "longshore.core"

local endpoint, seconds, at_once = arg[1], tonumber(arg[2]), tonumber(arg[3])
local signer = core.signer { access_key = "AKBENCH", secret_key = "secret-of-the-benchmark", region = "us-east-1" }
local engine = assert(core.engine { connections = at_once })
local n, done = 0, 0

local function add()
  n = n + 1
  assert(engine:add { method = "POST", body = "", timeout = 10, stall_seconds = 0, url = signer:presign {
    method = "POST", scheme = "http", host = endpoint:match("^http://(.*)$"), path = "/longshore/bench-" .. n,
    query = { uploads = "" }, expires = 60, time = os.time() } })
end

for _ = 1, at_once do add() end
local began = core.monotonic()
repeat
  for _, event in ipairs(engine:step(0.1)) do
    if event.type ~= "progress" then
      assert(event.status == 200 and event.body:find("<UploadId>", 1, true), event.type)
      done = done + 1
      add()
    end
  end
until core.monotonic() - began >= seconds
print(("%.1f"):format(done / (core.monotonic() - began)))

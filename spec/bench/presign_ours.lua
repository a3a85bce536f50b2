-- presign_ours.lua FILE: signs parts of one object in every way there is,
-- prints "case nanoseconds of CPU for each URL", checks that all ways agree
-- and writes the URLs to FILE for an independent signer to check.
local core = require "longshore.core"

local jit = rawget(_G, "jit")
local name = jit and "luajit" or "lua54"
local COUNT, ROUNDS = 10000, 7

local host = "bucket.s3.us-east-1.amazonaws.com"
local path = "/" .. ("k"):rep(60)
local upload_id = ("u"):rep(133)
local signer = core.signer {
  access_key = "AKIAIOSFODNN7EXAMPLE", secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", region = "us-east-1",
}
-- Another second each time: nobody signs the same URLs twice.
local time = 1767225600
local function run(count, fields)
  time = time + 1
  local out = { host = host, path = path, upload_id = upload_id, expires = 900, time = time, count = count }
  for k, v in pairs(fields or {}) do out[k] = v end
  return out
end

local function each_table(count)
  for _ = 1, COUNT / count do assert(signer:presign_parts(run(count))) end
end
local function each_json(count, pieces)
  for _ = 1, COUNT / count do assert(signer:presign_parts_json(run(count, { pieces = pieces }))) end
end

local received = { method = "PUT", headers = { host = host } }
local expected = { secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", region = "us-east-1" }

local cases = {
  { "table10000", function() each_table(10000) end },
  { "table100", function() each_table(100) end },
  { "json10000", function() each_json(10000) end },
  { "json100", function() each_json(100) end },
  { "pieces10000", function() each_json(10000, true) end },
  { "call", function()
    local parts = signer:parts(run())
    for i = 1, COUNT do parts:url(i) end
  end },
  { "presign", function()
    time = time + 1
    for i = 1, COUNT do
      signer:presign { method = "PUT", host = host, path = path, query = { partNumber = i, uploadId = upload_id },
        expires = 900, time = time }
    end
  end },
  { "verify", function()
    for _ = 1, COUNT do assert(core.sigv4_verify(received, expected)) end
  end },
  -- What a string as long as the one text of all URLs takes, whose bytes are there already.
  { "text10000", function(text) return #text:sub(2) end,
    function() return signer:presign_parts_json(run(COUNT)) end },
}

local url = signer:presign_parts(run(1))[1]
received.target = url:match("^https://[^/]+(.*)$")
expected.now = time

local function measure(case)
  collectgarbage() -- no case pays for the one before
  local given = case[3] and case[3]()
  local begun = os.clock()
  case[2](given)
  return (os.clock() - begun) / COUNT * 1e9
end

local best = {}
for _ = 1, ROUNDS do
  for _, case in ipairs(cases) do
    best[case[1]] = math.min(best[case[1]] or math.huge, measure(case))
  end
end
for _, case in ipairs(cases) do
  print(("%s_%s %.2f"):format(name, case[1], best[case[1]]))
end

local final = run(COUNT)
local urls = signer:presign_parts(final)
local text = '["' .. table.concat(urls, '","') .. '"]'
assert(signer:presign_parts_json(final) == text, "the JSON form differs")
final.pieces = true
assert(table.concat(signer:presign_parts_json(final)) == text, "the pieces differ")
local parts = signer:parts(final)
local f = assert(io.open(arg[1], "w"))
for i, one in ipairs(urls) do
  assert(parts:url(i) == one, "the single call differs")
  assert(signer:presign { method = "PUT", host = host, path = path, query = { partNumber = i, uploadId = upload_id },
    expires = 900, time = final.time } == one, "the general call differs")
  f:write(one, "\n")
end
f:close()

-- The presigning benchmark: ours and the peers in turn, CPU time for each URL,
-- one core. Every URL is checked: ours by awscrt, the peers' by our verifier.
local core = require "longshore.core"
local report = require "spec.bench.report"

local build = os.getenv("BUILD") or "build"
local dir = build .. "/bench"
local ROUNDS = 3

local function lua(which, out)
  return ("LUA_CPATH='%s/%s/?.so;;' %s spec/bench/presign_ours.lua %s/%s.urls"):format(build, which, which, dir, out)
end

-- The AWS SDK wants Node 20; an older system gets one from npm.
local function output(command)
  local p = io.popen(command .. " 2>&1")
  local text = p:read("*a")
  return p:close() and text:match("([^\n]+)\n?$"), text
end
local node = "node"
local packages = "aws4@1.13.2 minio@8.0.7 @aws-sdk/client-s3@3 @aws-sdk/s3-request-presigner@3"
local old = (tonumber((output("node --version") or ""):match("^v(%d+)")) or 0) < 20
local folder, text = output("spec/tools/npm.sh presign " .. packages .. (old and " node@22" or ""))
if folder and old then node = folder .. "/node_modules/.bin/node" end

local commands = {
  lua("lua5.4", "lua54"), lua("luajit", "luajit"),
  ("/usr/bin/python3 spec/bench/presign_peers.py time %s/python.urls"):format(dir),
  dir .. "/presign_core",
}
if folder then
  table.insert(commands, (node .. " spec/bench/presign_peers.mjs %s %s/node.urls"):format(folder, dir))
else
  print("npm gave no peers: " .. text)
end
local ns = report.alternate(commands, ROUNDS)

-- Checking.
for _, which in ipairs { "lua54", "luajit" } do
  local checked = report.measure(("/usr/bin/python3 spec/bench/presign_peers.py check %s/%s.urls"):format(dir, which))
  assert(checked.checked == 10000, "not all URLs were checked")
  print(("%s: 10000 URLs, each with the signature that awscrt makes"):format(which))
end
for _, which in ipairs { "python", folder and "node" or nil } do
  local n = 0
  for url in io.lines(("%s/%s.urls"):format(dir, which)) do
    local host, target = url:match("^https://([^/]+)(.*)$")
    assert(core.sigv4_verify({ method = "PUT", target = target, headers = { host = host } },
      { secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", region = "us-east-1" }))
    n = n + 1
  end
  print(("%s: %d URLs of the peers, each accepted by our verifier"):format(which, n))
end

local r = report.new("presign")
local function rate(case, ours, peer, peer_name, goal)
  if ns[peer] then
    r.row { case = case, ours = 1e9 / ns[ours], peer = 1e9 / ns[peer], unit = "URLs/s", peer_name = peer_name,
      goal = goal }
  end
end
local function cost(case, ours, peer, peer_name, goal)
  r.row { case = case, ours = ns[ours], peer = ns[peer], unit = "ns", peer_name = peer_name, goal = goal, less = true }
end

for _, l in ipairs { { "LuaJIT", "luajit", 60 }, { "Lua 5.4", "lua54", 45 } } do
  local title, name, json_goal = l[1], l[2], l[3]
  rate("table of 10,000, " .. title, name .. "_table10000", "awscrt", "awscrt", 60)
  rate("table of 10,000, " .. title, name .. "_table10000", "boto3", "boto3", 500)
  rate("JSON of 100, " .. title, name .. "_json100", "awscrt", "awscrt", json_goal)
  rate("JSON of 10,000 in pieces, " .. title, name .. "_pieces10000", "awscrt", "awscrt", json_goal)
  rate("JSON of 10,000 in one text, " .. title, name .. "_json10000", "awscrt", "awscrt", json_goal)
  rate("one call per URL, " .. title, name .. "_call", "awscrt", "awscrt", 20)
  rate("one call, anything, " .. title, name .. "_presign", "awscrt", "awscrt")
  cost("table, 10,000 against 100, " .. title, name .. "_table10000", name .. "_table100", "ours, of 100", 1.2)
  cost("verifying, " .. title, name .. "_verify", name .. "_presign", "signing anything", 2)
end
-- What the one text costs there before anything is signed.
rate("JSON of 10,000 in one text, LuaJIT", "luajit_json10000", "luajit_text10000", "a string as long, alone")
for _, path in ipairs(core.sha256_implementations()) do
  -- Seven blocks for each URL: four of the canonical request, three of HMAC.
  r.row { case = "C core, " .. path, ours = 1e9 / ns[path .. "_run10000"], peer = 1e9 / (7 * ns[path .. "_bound"]),
    unit = "URLs/s", peer_name = "its SHA-256 alone", goal = 0.6 }
end
for _, peer in ipairs { "aws4", "minio", "aws-sdk" } do
  rate("table of 10,000, LuaJIT", "luajit_table10000", peer, peer == "aws-sdk" and "@aws-sdk presigner" or peer)
end
r.finish()

-- A throwaway disk store for specs: nginx on 127.0.0.1, a folder under /tmp.
--
--   local store = diskstore.start { min_part = 1024 }
--   store.endpoint, .port, .access_key, .secret_key, .region, .bucket, .folder
--   store:send { method = "PUT", path = "/longshore/a key", body = "..." }   -- signed; see below
--   store:stop()        -- as a service manager would
--   store:kill()        -- kill -9 of every process of it
--   store:restart()     -- after either; same folder, same port
--   store:log()         -- nginx's error log so far
--
-- Options: folder, port, region, credentials, buckets, min_part (bytes; here
-- 1, S3's own is 5 MiB), fsync (here false), and all of the configuration's
-- `diskstore`; `env`, lines for nginx's environment. Stopped by support.cleanup().
local core = require "longshore.core"
local socket = require "socket"
local support = require "spec.support"
local uv = require "luv"

local _M = {}

local methods = {}
local mt = { __index = methods }

local function children_of(pid)
  local text = support.read_file(("/proc/%d/task/%d/children"):format(pid, pid)) or ""
  local list = {}
  for child in text:gmatch("%d+") do list[#list + 1] = tonumber(child) end
  return list
end

function methods:launch()
  -- setpriv becomes nginx, which goes down with this process however that ends.
  self.process = support.spawn("/usr/bin/setpriv", {
    args = { "--pdeathsig", "TERM", self.host.binary, "-p", self.run .. "/", "-c", self.run .. "/nginx.conf",
      "-e", self.run .. "/error.log" },
    stdout = self.run .. "/error.log", env = self.env,
  })
  local up = support.wait_until(function()
    if not self.process:alive() then return true end
    return support.run(("curl -skf --noproxy '*' -m 5 -o /dev/null %s/-/health"):format(self.endpoint)) == 0
  end, 60)
  if not up or not self.process:alive() then
    error("the disk store does not start:\n" .. self:log())
  end
  return self
end

methods.restart = methods.launch

function methods:log()
  return support.read_file(self.run .. "/error.log") or ""
end

--- Process ids of nginx: master first.
function methods:pids()
  local pids = children_of(self.process.pid)
  table.insert(pids, 1, self.process.pid)
  return pids
end

function methods:stop()
  self.process:kill("sigterm")
  if not self.process:wait(40) then error("the disk store does not stop") end
end

function methods:kill()
  for _, pid in ipairs(self:pids()) do uv.kill(pid, "sigkill") end
  self.process:wait(60)
  -- The port is free once the last worker is gone.
  support.wait_until(function()
    local s = socket.bind("127.0.0.1", self.port)
    if s then s:close() return true end
  end, 30)
end

--- The sum of the resident memory of its processes, in KiB.
function methods:resident()
  local sum = 0
  for _, pid in ipairs(self:pids()) do
    local status = support.read_file(("/proc/%d/status"):format(pid)) or ""
    sum = sum + tonumber(status:match("VmRSS:%s*(%d+)") or 0)
  end
  return sum
end

-- Reads an answer from a socket.
local function receive(s, method)
  local line, why = s:receive("*l")
  if not line then return nil, why end
  local answer = { status = tonumber(line:match("^HTTP/%d%.%d (%d+)")), headers = {} }
  while true do
    line, why = s:receive("*l")
    if not line then return nil, why end
    if line == "" then break end
    local name, value = line:match("^([^:]+):%s*(.-)%s*$")
    answer.headers[name:lower()] = value
  end
  local length = tonumber(answer.headers["content-length"])
  if method == "HEAD" or answer.status == 204 or answer.status == 304 then
    answer.body = ""
  elseif length then
    local body, err, partial = s:receive(length)
    answer.body, answer.cut = body or partial, err
  else
    answer.body = s:receive("*a")
  end
  return answer
end

--- Sends bytes as they are and gives the socket, its answer not yet read.
function methods:open(bytes)
  local s = assert(socket.connect("127.0.0.1", self.port))
  s:settimeout(60)
  local _, why = s:send(bytes)
  return s, why
end

--- Reads the answer from a socket of `open` and closes it: {status, headers,
-- body}, or nil and why.
function methods.answer(_, s, method)
  local answer, why = receive(s, method)
  s:close()
  return answer, why
end

--- Sends bytes as they are and reads one answer.
function methods:raw(bytes, method)
  local s, why = self:open(bytes)
  local answer, err = self:answer(s, method)
  return answer, err or why
end

--- Sends a signed request: method, path (as the signer takes it: not encoded),
-- query, headers, body; `unsigned` sends more headers that are not signed,
-- `key`/`secret`/`region`/`time` sign as somebody else, `anonymous` not at all,
-- `presign` (seconds) signs in the query, `change(headers, target)` may tamper,
-- `send_as` sends with another method than was signed, `announce` (bytes) a
-- body that does not follow, `after(headers)` gives a body that knows the
-- signature.
function methods:send(request)
  return self:raw(self:bytes(request), request.method)
end

--- The bytes of such a request.
function methods:bytes(request)
  local method, body = request.method or "GET", request.body or ""
  local host = ("127.0.0.1:%d"):format(self.port)
  local signer = core.signer {
    access_key = request.key or self.access_key, secret_key = request.secret or self.secret_key,
    region = request.region or self.region, service = "s3",
  }
  local headers = {}
  for name, value in pairs(request.headers or {}) do headers[name:lower()] = value end
  local sends_body = method == "PUT" or method == "POST"
  local time = request.time or core.now()
  local target, signed
  if request.anonymous then
    target = core.uri_encode(request.path, true)
    local pairs_of = {}
    for k, v in pairs(request.query or {}) do
      pairs_of[#pairs_of + 1] = v == true and k or core.uri_encode(k) .. "=" .. core.uri_encode(v)
    end
    if pairs_of[1] then target = target .. "?" .. table.concat(pairs_of, "&") end
    signed = headers
  elseif request.presign then
    local url = assert(signer:presign { method = method, scheme = "http", host = host, path = request.path,
      query = request.query, headers = headers, expires = request.presign, time = math.floor(time) })
    target = url:match("^http://[^/]+(/.*)$")
    signed = headers
  else
    local hash = request.payload_hash or core.hex(core.sha256(body))
    signed, target = signer:sign { method = method, host = host, path = request.path, query = request.query,
      headers = headers, payload_hash = hash, time = math.floor(time) }
    assert(signed, target)
    for name, value in pairs(headers) do signed[name] = signed[name] or value end
    signed["x-amz-content-sha256"] = signed["x-amz-content-sha256"] or hash
  end
  local out = {}
  for name, value in pairs(signed) do out[name] = value end
  for name, value in pairs(request.unsigned or {}) do out[name:lower()] = value end
  if sends_body and not out["content-length"] and not out["transfer-encoding"] then
    out["content-length"] = ("%.0f"):format(request.announce or #body)
  end
  if request.after then
    body = request.after(out)
    out["content-length"] = ("%d"):format(#body)
  end
  if request.change then target = request.change(out, target) or target end
  local lines = { ("%s %s HTTP/1.1"):format(request.send_as or method, target), "host: " .. host,
    "connection: " .. (request.connection or "close") }
  for name, value in pairs(out) do
    if name ~= "host" then lines[#lines + 1] = name .. ": " .. value end
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (sends_body and body or "")
end

--- Starts one. See the head of the file for the options.
function _M.start(options)
  options = options or {}
  local given = {}
  for name, value in pairs(options) do given[name] = value end
  given.env = nil
  given.folder = options.folder or support.tmpdir() .. "/objects"
  local run = support.tmpdir()
  local port = options.port or support.free_port()
  given.port, given.log_level = nil, nil
  given.listen = ("127.0.0.1:%d"):format(port)
  given.credentials = options.credentials or { { access_key = "DISKSTOREACCESS", secret_key = "disk+store/secret=" } }
  given.buckets = options.buckets or { "longshore" }
  if given.fsync == nil then given.fsync = false end
  given.min_part = options.min_part or 1
  local config = assert(require("longshore.config").check({ data = run, diskstore = given,
    log = { level = options.log_level or "warn" } }))
  assert(os.execute("mkdir -p '" .. config.diskstore.folder .. "'"))
  local host = assert(require("longshore.cli.serve.host").find(config))
  support.write_file(run .. "/config.lua", require("longshore.config").serialize(config))
  host.folder, host.config = run, run .. "/config.lua"
  host.user = uv.getuid() == 0 and "root" or nil
  local conf = require("longshore.nginx.conf_diskstore").render(config, host)
  support.write_file(run .. "/nginx.conf", conf)
  local self = setmetatable({
    port = port, endpoint = ("%s://127.0.0.1:%d"):format(given.tls and "https" or "http", port),
    region = config.diskstore.region, bucket = given.buckets[1], folder = config.diskstore.folder, run = run,
    access_key = given.credentials[1].access_key, secret_key = given.credentials[1].secret_key,
    host = host, config = config, env = options.env,
  }, mt)
  return self:launch()
end

--- A client of one that runs elsewhere, for a process of its own: only `send`
-- and `raw`. Takes port, access_key, secret_key, region.
function _M.client(where)
  return setmetatable(where, mt)
end

local plain_methods = {}
local plain_mt = { __index = plain_methods }

--- Does a request without HTTP: method, target (raw), headers, body. Returns
-- the response (its body whole, wherever the bytes are), or nil and the fault.
function plain_methods:call(method, target, headers, body)
  local op, why = require("longshore.diskstore.request").parse(method, target, headers or {})
  if not op then return nil, why end
  if body and body ~= "" then
    op.spooled = self.folder .. "/spool/" .. core.hex(core.random(8))
    support.write_file(op.spooled, body)
  end
  op.length = #(body or "")
  local response
  response, why = self.store:handle(op)
  if op.spooled then os.remove(op.spooled) end
  if not response then return nil, why end
  local range = response.range or { first = 0, last = (response.length or 0) - 1 }
  if response.file then
    response.body = support.read_file(self.folder .. "/" .. response.file):sub(range.first + 1, range.last + 1)
  elseif response.parts then
    local pieces, at = {}, range.first
    while at <= range.last do
      pieces[#pieces + 1] = assert(self.store:read(response.parts, at, range.last - at + 1))
      at = at + #pieces[#pieces]
    end
    response.body = table.concat(pieces)
  end
  return response
end

--- A store in a folder under /tmp without nginx: {store=, folder=, call()}.
-- Options are those of longshore.diskstore.new, with durable=false, min_part=1
-- and the bucket "longshore".
function _M.plain(options)
  local given = { folder = support.tmpdir() .. "/objects", durable = false, min_part = 1 }
  for name, value in pairs(options or {}) do given[name] = value end
  local store = require("longshore.diskstore").new(given)
  assert(store:prepare { "longshore" })
  return setmetatable({ store = store, folder = given.folder }, plain_mt)
end

return _M

-- Starts spec/support/relay.py, the relay that breaks HTTP on purpose (its
-- head comment lists the rules), and talks to it.
--
--   local relay = require "spec.support.relay"
--   local r = relay.start{ target = "127.0.0.1:9000" }   -- no target: answers itself
--   r:rules{ { method = "PUT", match = "partNumber=2", times = 1, cut = 1000 } }
--   ... use r.endpoint ("http://127.0.0.1:port") ...
--   for _, entry in ipairs(r:log()) do print(entry.method, entry.target, entry.status) end
--   r:stop()
--
-- With tls = true it speaks TLS with a certificate for 127.0.0.1 and
-- localhost, signed by the private CA r.ca_file.
local cjson = require "cjson"
local socket = require "socket"
local support = require "spec.support"

local _M = {}

local methods = {}
local mt = { __index = methods }

--- Makes a private CA and a certificate of it in a folder; `more` are further
-- names for it ("IP:10.0.0.1").
-- @return paths: ca, cert, key
function _M.certificate(dir, more)
  local script = [[
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem \
      -days 2 -subj '/CN=longshore spec CA' 2>/dev/null &&
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out csr.pem \
      -subj '/CN=127.0.0.1' 2>/dev/null &&
    echo 'subjectAltName=IP:127.0.0.1,DNS:localhost,MORE' | sed 's/,$//' > ext &&
    openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext \
      -out cert.pem 2>/dev/null]]
  local code, out = support.run("cd " .. support.quote(dir) .. " && " .. script:gsub("MORE", more or ""))
  assert(code == 0, out)
  return dir .. "/ca.pem", dir .. "/cert.pem", dir .. "/key.pem"
end

function _M.start(options)
  options = options or {}
  local port, control = support.free_port(), support.free_port()
  local args = { support.root .. "/spec/support/relay.py", "--port", tostring(port), "--control", tostring(control) }
  local function add(name, value)
    args[#args + 1] = name
    args[#args + 1] = value
  end
  if options.target then add("--target", (options.target:gsub("^https?://", ""))) end
  local self = setmetatable({ port = port }, mt)
  if options.tls then
    local ca, cert, key = _M.certificate(support.tmpdir())
    self.ca_file = ca
    add("--cert", cert)
    add("--key", key)
  end
  self.endpoint = (options.tls and "https" or "http") .. "://127.0.0.1:" .. port
  self.log_file = os.tmpname()
  support.defer(function() os.remove(self.log_file) end)
  self.process = support.spawn("/usr/bin/python3", { args = args, stdout = self.log_file })
  if not support.wait_port(control, 60) then
    error("the relay did not start: " .. tostring(support.read_file(self.log_file)))
  end
  self.control = assert(socket.connect("127.0.0.1", control))
  support.defer(function() self.control:close() end)
  return self
end

local function ask(self, command)
  assert(self.control:send(cjson.encode(command) .. "\n"))
  local line = assert(self.control:receive("*l"))
  local reply = cjson.decode(line)
  assert(not reply.error, reply.error)
  return reply
end

--- Replaces the rules (a list); none removes all.
function methods:rules(rules)
  rules = rules or {}
  if #rules == 0 then
    assert(self.control:send('{"op":"rules","rules":[]}\n'))
    assert(self.control:receive("*l"))
  else
    ask(self, { op = "rules", rules = rules })
  end
end

--- What came so far: a list of requests, and the number of connections.
function methods:log()
  local reply = ask(self, { op = "log" })
  return reply.log, reply.connections
end

--- Forgets rules and log.
function methods:clear()
  self:rules {}
  ask(self, { op = "clear" })
end

--- Another target ("host:port") for connections from now on.
function methods:target(target)
  ask(self, { op = "target", target = target })
end

--- Waits until every client has ended its connections and nothing of what they
-- sent is on its way any more: what the target has now is all that it gets.
function methods:settle()
  assert(support.wait_until(function() return ask(self, { op = "open" }).open == 0 end, 30),
    "clients are still connected")
end

function methods:stop()
  self.process:kill("sigkill")
  self.process:wait(60)
end

return _M

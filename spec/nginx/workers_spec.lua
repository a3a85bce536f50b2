-- What several nginx workers share: rates, a key set; and what each bounds.
local http = require "spec.support.http"
local mounted = require "spec.support.mounted"
local json = require "longshore.json"
local jwt = require "spec.support.jwt"
local nginx = require "spec.support.nginx"
local relay = require "spec.support.relay"
local socket = require "socket"
local stores = require "longshore.store"
local support = require "spec.support"

describe("several nginx workers", function()
  local store, between, issuer, host, folder, config_path

  -- An nginx of so many workers, and a connection to each of them; `change` is of its lines.
  local function start(workers, change)
    local lines = mounted.blocks(config_path)
    local port = support.free_port()
    lines.main = ("worker_processes %d;\n"):format(workers) .. lines.main
    -- (The kernel deals connections out by their port.)
    lines.server = lines.server .. ([[
      listen 127.0.0.1:%d reuseport;
      location = /pid { content_by_lua_block { ngx.say(ngx.worker.pid()) } }]]):format(port)
    if change then change(lines) end
    local server = nginx.start(lines)
    local connections, known = {}, {}
    local function connect()
      local connection = assert(socket.connect("127.0.0.1", port))
      connection:settimeout(60)
      return connection
    end
    assert(support.wait_until(function()
      local connection = connect()
      connection:send "GET /pid HTTP/1.1\r\nHost: x\r\n\r\n"
      local pid = assert(http.read(connection, "GET")).body
      if known[pid] then
        connection:close()
      else
        known[pid] = true
        connections[#connections + 1] = connection
      end
      return #connections == workers
    end, 60))
    return server, connections, connect
  end

  local function send(connection, token, method, path, body)
    connection:send(("%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
      .. "Content-Length: %d\r\n\r\n%s"):format(method or "GET", path or "/v0.5/files/info", token, #(body or ""),
      body or ""))
  end

  local function ask(connection, token, ...)
    send(connection, token, ...)
    return assert(http.read(connection, "GET"))
  end

  setup(function()
    store = require("spec.support.diskstore").start()
    between = relay.start { target = "127.0.0.1:" .. store.port }
    issuer = jwt.issuer()
    -- It answers the key set, and counts who asks for it.
    host = relay.start()
    folder = support.tmpdir()
    assert(os.execute("mkdir -p " .. folder .. "/data/spool"))
    config_path = support.write_file(folder .. "/longshore.lua", ([[return {
      data = "data", diskstore = { enabled = false },
      broker = { threads = 2, queue = 2, queue_seconds = 60, janitor_seconds = 0, rate = { requests = 1000 } },
      auth = { jwt = { issuer = "https://id.example", audience = "longshore", jwks = %q } },
      buckets = { default = { profile = "diskstore", bucket = "longshore", region = "us-east-1", endpoint = %q,
        public_endpoint = %q, access_key = %q, secret_key = %q, timeout = 60 } },
    }]]):format(host.endpoint .. "/keys", between.endpoint, store.endpoint, store.access_key, store.secret_key))
  end)
  teardown(support.cleanup)
  before_each(function() between:rules {} end)

  local function token(more) return mounted.token(config_path, more) end

  local names = 0
  -- Sends the beginning of an upload, which waits for the store; its answer is read later.
  local function begin(connect, key)
    names = names + 1
    local connection = connect()
    send(connection, key, "POST", "/v0.5/files/uploads/initiate",
      json.encode { filename = "w" .. names, file_type = "a/b", num_bytes = 5 })
    return function()
      local answer = assert(http.read(connection, "POST"))
      connection:close()
      return answer
    end, connection
  end

  local function uploads()
    local opened = assert(stores.open { path = folder .. "/data/longshore.db" })
    local counts = assert(opened:count_uploads())
    opened:close()
    local total = 0
    for _, count in pairs(counts) do total = total + count end
    return total
  end

  local function metrics(server)
    return http.request { url = server.url .. "/metrics" }.body
  end

  it("count a token's own rate together", function()
    local server, connections = start(3)
    local slow, other = token "--rate 5/1h", token()
    local counts = {}
    for i = 1, 15 do
      local answer = ask(connections[i % 3 + 1], slow)
      counts[answer.status] = (counts[answer.status] or 0) + 1
      if answer.status == 429 then
        assert.truthy(answer.body:find("more than 5 times in 3600 s", 1, true), answer.body)
        assert.truthy(tonumber(answer.headers["retry-after"]) >= 1)
      end
      assert.equal(200, ask(connections[i % 3 + 1], other).status)
    end
    assert.same({ [200] = 5, [429] = 10 }, counts)
    server:stop()
  end)

  it("remember how often a token has asked, however much else comes and goes", function()
    local server, connections = start(1, function(lines)
      lines.server = lines.server .. [[ location = /fill { content_by_lua_block {
        for i = 1, 9000 do ngx.shared.longshore:set("row:" .. i, ("x"):rep(1100), 2) end } }]]
    end)
    local slow = token "--rate 2/1h"
    for _ = 1, 2 do assert.equal(200, ask(connections[1], slow).status) end
    assert.equal(429, ask(connections[1], slow).status)
    assert.equal(200, http.request { url = server.url .. "/fill" }.status)
    assert.equal(429, ask(connections[1], slow).status)
    server:stop()
  end)

  it("fetch a key set once for all of them", function()
    local began = socket.gettime()
    host:clear()
    host:rules { { status = 200, body = issuer:key_set { "rsa", "ec" }, delay_answer = 0.6 } }
    local server, connections, connect = start(3)
    local claims = { sub = "ann", org = "acme", scope = "read upload", exp = os.time() + 300,
      iss = "https://id.example", aud = "longshore" }
    local tokens = { issuer:token(claims, { alg = "RS256", kid = "rsa" }), issuer:token(claims, { alg = "ES256",
      kid = "ec" }) }
    -- At once: two on each worker, as many as have a thread.
    for _ = 1, 3 do connections[#connections + 1] = connect() end
    for i, connection in ipairs(connections) do send(connection, tokens[i % 2 + 1]) end
    for _, connection in ipairs(connections) do
      local answer = assert(http.read(connection, "GET"))
      assert.equal(200, answer.status, answer.body .. server:log())
    end
    -- And later, on each.
    for i = 1, 12 do assert.equal(200, ask(connections[i % 3 + 1], tokens[i % 2 + 1]).status) end
    assert.equal(1, #host:log())
    -- Nobody's key is asked for by one, and not again soon.
    for i = 1, 6 do
      local unknown = issuer:token(claims, { alg = "EdDSA", kid = "ed" })
      assert.equal(401, ask(connections[i % 3 + 1], unknown).status)
    end
    assert.truthy(#host:log() <= 2 + (socket.gettime() - began) / 10, #host:log())
    server:stop()
  end)

  it("queue what has no thread, send the rest away, and lose nothing of either", function()
    local gauge = 'longshore_calls{pool="requests",worker="0",state="%s"} %d\n'
    local server, _, connect = start(1)
    local key, before = token(), uploads()
    between:clear()
    between:rules { { method = "POST", match = "uploads", hold_answer = true } }
    local slow, rest = {}, {}
    for i = 1, 2 do slow[i] = begin(connect, key) end
    assert.truthy(support.wait_until(function() return #between:log() == 2 end, 30))
    for i = 3, 4 do slow[i] = begin(connect, key) end
    assert.truthy(support.wait_until(function()
      return metrics(server):find(gauge:format("waiting", 2), 1, true)
    end, 30, 0.1), metrics(server))
    for i = 1, 5 do rest[i] = begin(connect, key) end
    for _, answer in ipairs(rest) do
      local refused = answer()
      assert.equal(503, refused.status, refused.body)
      assert.equal("1", refused.headers["retry-after"])
      assert.truthy(refused.body:find("too many requests are waiting", 1, true), refused.body)
    end
    assert.truthy(support.wait_until(function()
      local text = metrics(server)
      return text:find(gauge:format("running", 2), 1, true) and text:find(gauge:format("waiting", 2), 1, true)
    end, 30, 0.1), metrics(server))
    between:rules {}
    for _, answer in ipairs(slow) do assert.equal(200, answer().status) end
    assert.equal(before + 4, uploads())
    local text = metrics(server)
    assert.truthy(text:find("longshore_refused_total 5\n", 1, true), text)
    assert.truthy(support.wait_until(function()
      text = metrics(server)
      return text:find(gauge:format("running", 0), 1, true) and text:find(gauge:format("waiting", 0), 1, true)
    end, 30, 0.1), text)
    server:stop()
  end)

  it("say which line has too few Lua states, when to come again, and lose nothing", function()
    local server, _, connect = start(1, function(lines)
      local count
      lines.http, count = lines.http:gsub("lua_worker_thread_vm_pool_size %d+;", "lua_worker_thread_vm_pool_size 1;")
      assert.equal(1, count)
    end)
    local key, before = token(), uploads()
    -- The watch borrows it now and then; who meets that comes again.
    local function until_taken(try)
      local answer
      assert(support.wait_until(function()
        answer = try()
        return answer
      end, 30, 0.1))
      return answer
    end
    between:clear()
    between:rules { { method = "POST", match = "uploads", hold_answer = true } }
    local first = until_taken(function()
      local asked, connection = begin(connect, key)
      return support.wait_until(function()
        return #between:log() == 1 or socket.select({ connection }, nil, 0)[1]
      end, 30) and #between:log() == 1 and asked
    end)
    local second = begin(connect, key)()
    between:rules {}
    assert.equal(503, second.status, second.body)
    assert.truthy(tonumber(second.headers["retry-after"]) >= 1)
    assert.truthy(second.body:find("lua_worker_thread_vm_pool_size 8;", 1, true), second.body)
    assert.equal(200, first().status)
    until_taken(function() return begin(connect, key)().status == 200 end)
    assert.equal(before + 2, uploads())
    server:stop()
  end)
end)

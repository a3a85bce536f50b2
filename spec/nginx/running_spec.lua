-- A mounted broker over days: what it counts and logs, its limits, its folder and
-- configuration, reloads and stops.
local http = require "spec.support.http"
local json = require "longshore.json"
local mounted = require "spec.support.mounted"
local nginx = require "spec.support.nginx"
local socket = require "socket"
local support = require "spec.support"

local quote = support.quote

-- What Prometheus' own client finds wrong; it reads histograms and labels.
local function prometheus_finds(folder, text)
  local _, out = support.run(("/usr/bin/python3 %s/spec/support/prometheus.py %s"):format(quote(support.root),
    quote(support.write_file(folder .. "/metrics.txt", text))))
  return out
end

describe("the broker in an nginx that runs", function()
  local w

  setup(function() w = mounted.world() end)
  teardown(support.cleanup)
  before_each(function() w.between:rules {} end)

  it("says in the log that its folder is missing, to others where to look, and is ready when it is there", function()
    local server = nginx.start(w:blocks("", w:changed("missing", '"data"', '"later/data"')))
    local function ready() return http.request { url = server.url .. "/readyz" } end
    assert.truthy(support.wait_until(function() return ready().body:find("error log", 1, true) end, 30))
    local answer = ready()
    assert.equal(503, answer.status)
    assert.truthy(answer.body:find('"readiness:"', 1, true), answer.body)
    -- Anybody may ask.
    assert.is_nil(answer.body:find(w.folder, 1, true), answer.body)
    assert.is_nil(answer.body:find("later", 1, true), answer.body)
    assert.truthy(server:log():find("%[error%][^\n]*readiness: [^\n]*later/data[^\n]*make that folder"))
    assert(os.execute("mkdir -p " .. quote(w.folder .. "/later/data")))
    assert.truthy(support.wait_until(function() return ready().status == 200 end, 30))
    assert.truthy(server:log():find("readiness: the database answers again", 1, true))
  end)

  it("keeps the configuration that it was started with, until it is told to reload", function()
    local path, text = w.folder .. "/changing.lua", support.read_file(w.config)
    support.write_file(path, text)
    local server, key = nginx.start(w:blocks("", path)), w:token()
    -- Nothing was asked of most threads yet: they meet the file as it is now.
    support.write_file(path, "return { brokr = {} }")
    local sockets, body = {}, json.encode { filename = "kept", file_type = "a/b", num_bytes = 5 }
    w.between:rules { { delay = 0.3 } }
    for i = 1, 6 do
      sockets[i] = assert(socket.connect("127.0.0.1", server.port))
      sockets[i]:settimeout(20)
      sockets[i]:send(("POST /v0.5/files/uploads/initiate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        .. "Authorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s")
        :format(key, #body, body))
    end
    for _, client in ipairs(sockets) do
      local answer = http.read(client, "POST")
      assert.equal(200, answer.status, answer.body)
      client:close()
    end
    w.between:rules {}
    -- A reload with a mistake changes nothing.
    server.process:kill("sighup")
    assert.truthy(support.wait_until(function() return server:log():find("brokr: is not a known key", 1, true) end, 30))
    assert.equal(200, http.call("GET", server.url .. "/v0.5/files/info", key).status)
    support.write_file(path, (text:gsub("return {", "return { policy = { max_size = 3 },", 1)))
    server:reload()
    assert.truthy(support.wait_until(function()
      return http.call("POST", server.url .. "/v0.5/files/uploads/initiate", key, body).status == 413
    end, 20, 1)) -- (so seldom that the limit is not met)
  end)

  it("limits how often a token asks, not how often others do", function()
    local server = nginx.start(w:blocks())
    local eager, other = w:token(), w:token()
    local statuses = {}
    for _ = 1, 500 do
      local answer = http.call("GET", server.url .. "/v0.5/files/info", eager)
      statuses[answer.status] = (statuses[answer.status] or 0) + 1
      if answer.status == 429 then
        assert.truthy(tonumber(answer.headers["retry-after"]) >= 1)
        assert.equal("rate_limited", answer.json.errors[1].code)
        break
      end
    end
    -- (The window may turn meanwhile.)
    assert.truthy(statuses[429] == 1 and statuses[200] >= 40, json.encode { statuses[200], statuses[429] })
    assert.equal(200, http.call("GET", server.url .. "/v0.5/files/info", other).status)
  end)

  it("counts, says whether it is ready, and logs who did what under one request id", function()
    os.remove(w.audit)
    w.between:rules {}
    local server = nginx.start(w:blocks())
    local key = w:token()
    local started = w:upload(server.url, key)
    http.call("GET", server.url .. "/v0.5/files/info", key)
    assert.equal("ok\n", http.request { url = server.url .. "/healthz" }.body)
    assert.truthy(support.wait_until(function()
      return http.request { url = server.url .. "/readyz" }.status == 200
    end, 30))
    local text = http.request { url = server.url .. "/metrics" }.body
    for _, line in ipairs {
      'longshore_requests_total{operation="newton.initiate",status="200"} 1\n',
      'longshore_request_seconds_count{operation="newton.complete"} 1\n',
      'longshore_request_seconds_bucket{operation="newton.initiate",le="+Inf"} 1\n',
      'longshore_uploaded_bytes_total{service="newton"} 5\n',
      'longshore_hooks_total{hook="before_initiate",outcome="allowed"} 1\n',
      "# TYPE longshore_request_seconds histogram\n",
    } do
      assert.truthy(text:find(line, 1, true), line .. "\n" .. text)
    end
    assert.truthy(text:find('longshore_store_requests_total{bucket="default",outcome="ok"} %d'), text)
    assert.equal("", prometheus_finds(w.folder, text))
    -- The logs are written within a second.
    assert.truthy(support.wait_until(function()
      return (support.read_file(w.access) or ""):find('"operation":"newton.info","status":200', 1, true)
        and (support.read_file(w.audit) or ""):find("\n.*\n")
    end, 30))
    local lines = {}
    for line in support.read_file(w.audit):gmatch("[^\n]+") do
      lines[#lines + 1] = assert(json.decode(line))
    end
    assert.equal(2, #lines)
    assert.equal("newton.initiate", lines[1].operation)
    assert.equal("newton.complete", lines[2].operation)
    assert.equal("upload_id=" .. started.json.upload_id, lines[2].target)
    assert.equal("ann", lines[1].user)
    assert.equal(started.headers["x-request-id"], lines[1].request_id)
    assert.truthy(lines[1].token:find("^tok_"))
  end)

  it("logs JSON in UTF-8 whatever a request has in it", function()
    os.remove(w.access)
    os.remove(w.audit)
    local server, key = nginx.start(w:blocks()), w:token()
    local odd = { "a\255\254\128", "caf\233", "caf\195\169", "%ff%fe%22%5c%0a%01", "%7f%c2%85%e2%80%a8", "\226\130",
      ("%E2%82%AC"):rep(80), "a b=c%20d%3De\"\\", "\237\160\128", "\240\159\152\128", ("\195\169"):rep(600) }
    for i, path in ipairs(odd) do
      local target = "/v0.5/files/delete/" .. path:gsub(" ", "%%20")
      local answer = http.raw(server.port, ("DELETE %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: %s\r\n"
        .. "Authorization: Bearer %s\r\n\r\n"):format(target, path, key))
      assert.truthy(answer.status == 404 or answer.status == 400, i)
    end
    -- (The access log's lines are written together, within a second; and by a worker that ends.)
    server:stop()
    local function lines(path)
      local list = {}
      for line in support.read_file(path):gmatch("[^\n]+") do
        assert.is_nil(json.bad_utf8(line), line)
        list[#list + 1] = assert(json.decode(line))
      end
      assert.equal(#odd, #list)
      return list
    end
    local access, audit = lines(w.access), lines(w.audit)
    assert.equal("/v0.5/files/delete/a...", access[1].path)
    assert.equal("/v0.5/files/delete/caf\195\169", access[3].path)
    assert.equal("/v0.5/files/delete/\240\159\152\128", access[10].path)
    assert.equal("file_id=caf%E9", audit[2].target)
    assert.equal("file_id=caf%C3%A9", audit[3].target)
    assert.equal("file_id=a%20b%3Dc%20d%3De%22%5C", audit[8].target)
  end)

  it("hands the request's id to the object store", function()
    local listener = assert(socket.bind("127.0.0.1", 0))
    local _, port = listener:getsockname()
    local path = w:changed("other", 'endpoint = "' .. w.between.endpoint, 'endpoint = "http://127.0.0.1:' .. port)
    local server, key = nginx.start(w:blocks("", path)), w:token()
    local body = json.encode { filename = "id", file_type = "a/b", num_bytes = 5 }
    local client = assert(socket.connect("127.0.0.1", server.port))
    client:settimeout(20)
    client:send(("POST /v0.5/files/uploads/initiate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
      .. "Authorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s")
      :format(key, #body, body))
    -- It is refused, and looks whether something was left behind.
    local ids = {}
    listener:settimeout(0.2)
    while not socket.select({ client }, nil, 0)[1] do
      local accepted = listener:accept()
      if accepted then
        accepted:settimeout(5)
        local line = accepted:receive("*l")
        while line and line ~= "" do
          ids[#ids + 1] = line:lower():match("^x%-request%-id: (%S+)")
          line = accepted:receive("*l")
        end
        accepted:send("HTTP/1.1 403 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        accepted:close()
      end
    end
    listener:close()
    local answer = http.read(client, "POST")
    client:close()
    assert.equal(502, answer.status, answer.body)
    assert.truthy(#ids >= 1)
    for _, id in ipairs(ids) do assert.equal(answer.headers["x-request-id"], id) end
  end)

  it("reloads and stops without losing a request in flight", function()
    local server, key = nginx.start(w:blocks()), w:token()
    for _, how in ipairs { "reload", "stop" } do
      w.between:rules { { method = "POST", match = "uploads", delay_answer = 1.2 } }
      w.names = w.names + 1
      local body = json.encode { filename = "r" .. w.names, file_type = "a/b", num_bytes = 5 }
      local client = assert(socket.connect("127.0.0.1", server.port))
      client:settimeout(20)
      client:send(("POST /v0.5/files/uploads/initiate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
        .. "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"):format(key, #body, body))
      http.taken(server.port)
      server[how](server)
      local answer = http.read(client, "POST")
      client:close()
      assert.equal(200, answer and answer.status, how .. "\n" .. server:log())
      w.between:rules {}
      if how == "reload" then
        assert.equal(200, http.call("GET", server.url .. "/v0.5/files/info", key).status)
      end
    end
  end)
end)

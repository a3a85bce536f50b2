-- The three blocks of `longshore nginx-conf`, pasted into a stock nginx.
local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local http = require "spec.support.http"
local json = require "longshore.json"
local nginx = require "spec.support.nginx"
local relay = require "spec.support.relay"
local socket = require "socket"
local support = require "spec.support"

local quote = support.quote

-- What Prometheus' own client finds wrong; it reads histograms and labels.
local function prometheus_finds(folder, text)
  local _, out = support.run(("/usr/bin/python3 %s/spec/support/prometheus.py %s"):format(quote(support.root),
    quote(support.write_file(folder .. "/metrics.txt", text))))
  return out
end

describe("the broker mounted in a stock nginx", function()
  local store, between, config_path, folder

  local function longshore(arguments)
    local code, out = support.run(("LONGSHORE_LUA=%s %s/build/bin/longshore %s"):format(support.lua,
      quote(support.root), arguments))
    assert.equal(0, code, out)
    return out
  end

  local function blocks(arguments)
    local found = {}
    for _, name in ipairs { "main", "http", "server" } do
      found[name] = longshore(("nginx-conf --config %s --block %s %s"):format(quote(config_path), name,
        arguments or ""))
    end
    return found
  end

  local function token(more)
    return longshore(("token create --config %s --user ann --organization acme %s"):format(quote(config_path),
      more or "")):match("ls_[%w_]+")
  end

  setup(function()
    store = diskstore.start()
    between = relay.start { target = "127.0.0.1:" .. store.port }
    folder = support.tmpdir()
    assert(os.execute("mkdir -p " .. folder .. "/data/spool"))
    config_path = support.write_file(folder .. "/longshore.lua", ([[return {
      -- (nginx keeps the environment from its workers.)
      data = env "PATH" and "data", diskstore = { enabled = false }, cors = { origins = { "https://app.example" } },
      broker = { threads = 2, public_url = "http://up.example/uploads",
        rate = { requests = 40, seconds = 60 }, janitor_seconds = 0 },
      log = { access = %q, format = "json", audit = %q },
      buckets = { default = { profile = "diskstore", bucket = "longshore", region = "us-east-1", endpoint = %q,
        public_endpoint = %q, access_key = %q, secret_key = %q } },
    }]]):format(folder .. "/access.log", folder .. "/audit.log", between.endpoint, store.endpoint, store.access_key,
      store.secret_key))
  end)
  teardown(support.cleanup)
  before_each(function() between:rules {} end)

  local names = 0
  local function initiate(base, key)
    names = names + 1
    return http.call("POST", base .. "/v0.5/files/uploads/initiate", key,
      { filename = "n" .. names, file_type = "a/b", num_bytes = 5 })
  end

  local function upload(base, key)
    local started = initiate(base, key)
    assert.equal(200, started.status, started.body)
    local part = started.json.parts[1]
    local put = http.request { method = "PUT", url = part.url, body = "hello" }
    assert.equal(200, put.status, put.body)
    local done = http.call("POST", ("%s/v0.5/files/uploads/%s/complete"):format(base, started.json.upload_id), key,
      { parts = { { part_number = 1, part_token = put.headers.etag } } })
    assert.equal(200, done.status, done.body)
    return started, done
  end

  it("works as pasted, below a prefix, beside another application", function()
    local lines = blocks "--prefix /uploads --service newton"
    lines.server = lines.server .. [[
      location / { content_by_lua_block { ngx.say("another application") } }]]
    local server = nginx.start(lines)
    local key = token()
    upload(server.url .. "/uploads", key)
    assert.equal("another application\n", http.request { url = server.url .. "/v0.5/files/info" }.body)
    assert.equal(200, http.call("GET", server.url .. "/uploads/v0.5/files/info", key).status)
    assert.equal(401, http.call("GET", server.url .. "/uploads/v0.5/files/info", "ls_no").status)
    -- Another service is enabled, but not mounted.
    local other = http.call("POST", server.url .. "/uploads/api/ingest/upload/init", key, {})
    assert.equal(404, other.status, other.body)
    -- A form goes through a tunnel's location, spooled by nginx.
    local form = '--x\r\ncontent-disposition: form-data; name="file"; filename="f.bin"\r\ncontent-type: '
      .. "application/octet-stream\r\n\r\n" .. ("y"):rep(300000) .. "\r\n--x--\r\n"
    local sent = http.request { method = "POST", url = server.url .. "/uploads/v0.5/files", body = form,
      headers = { Authorization = "Bearer " .. key, ["Content-Type"] = "multipart/form-data; boundary=x" } }
    assert.equal(200, sent.status, sent.body)
  end)

  it("is found below its prefix by our own commands", function()
    local server = nginx.start(blocks "--prefix /uploads")
    local key, file = token(), support.write_file(folder .. "/below.csv", "a,b\n1,2\n")
    for _, service in ipairs { "newton", "athena", "geolens" } do
      longshore(("put --service %s --token %s %s %s/uploads"):format(service, key, quote(file), server.url))
    end
    longshore(("put --service cognite --token %s %s %s/uploads/api/v1/projects/default"):format(key, quote(file),
      server.url))
    assert.truthy(longshore(("status --token %s %s/uploads"):format(key, server.url)):find("below.csv", 1, true))
  end)

  it("answers what nginx itself refuses in the services' shapes, for a browser too", function()
    local server = nginx.start(blocks "--prefix /uploads")
    for path, shape in pairs {
      ["/v0.5/files/uploads/initiate"] = '^{"errors":%[{',
      ["/api/v1/projects/default/files/list"] = '^{"error":{',
      ["/api/jobs/x"] = '"title":"Payload Too Large"',
    } do
      local answer = http.request { method = "POST", url = server.url .. "/uploads" .. path,
        body = ("x"):rep(9 * 2 ^ 20), headers = { Origin = "https://app.example" } }
      assert.equal(413, answer.status, path)
      assert.truthy(answer.body:find(shape), answer.body)
      assert.equal("https://app.example", answer.headers["access-control-allow-origin"])
      assert.truthy(answer.headers["x-request-id"])
    end
  end)

  it("says in the services' shapes what the host's own limits refuse", function()
    for status, code in pairs { [503] = "service_busy", [429] = "rate_limited" } do
      local lines = blocks "--prefix /uploads"
      lines.http = lines.http .. "limit_req_zone $host zone=few:1m rate=1r/m;"
      lines.server = lines.server:gsub("location /uploads/ {",
        "%0 limit_req zone=few; limit_req_status " .. status .. ";")
      local server = nginx.start(lines)
      assert.equal(401, http.request({ url = server.url .. "/uploads/v0.5/files/info" }).status)
      local answer = http.request { url = server.url .. "/uploads/v0.5/files/info" }
      assert.equal(status, answer.status, answer.body)
      assert.truthy(answer.body:find('"code":"' .. code, 1, true), answer.body)
      assert.truthy(tonumber(answer.headers["retry-after"]))
    end
  end)

  it("takes the host's own authentication, as data", function()
    local lines = blocks [[--prefix /up --actor '{ user = ngx.var.http_x_user, organization = "acme",
      rights = { ngx.var.http_x_right or "upload" } }']]
    local server = nginx.start(lines)
    local function call(user, right)
      names = names + 1
      return http.call("POST", server.url .. "/up/v0.5/files/uploads/initiate", nil,
        { filename = "h" .. names, file_type = "a/b", num_bytes = 5 }, { ["X-User"] = user, ["X-Right"] = right })
    end
    assert.equal(200, call("bob").status)
    assert.equal(403, call("bob", "read").status)
    -- A mistake of the host's is the host's error, and grants nothing.
    assert.equal(500, call(nil).status)
    assert.equal(500, call("bob", "everything").status)
    assert.truthy(server:log():find("actor.user: a text of 1 to 255 characters expected", 1, true))
    assert.truthy(server:log():find('there is no right "everything"', 1, true))
  end)

  it("names the line that is missing", function()
    local lines = blocks()
    local function without(block, pattern)
      local changed = { main = lines.main, http = lines.http, server = lines.server }
      local count
      changed[block], count = changed[block]:gsub("[^\n]*" .. pattern .. "[^\n]*\n", "")
      assert.equal(1, count, pattern)
      local server = nginx.start(changed)
      local key = token()
      local answer = http.call("GET", server.url .. "/v0.5/files/info", key)
      assert.equal(503, answer.status, answer.body)
      local health = http.request { url = server.url .. "/healthz" }
      server:stop()
      return answer.json.errors[1].message, health
    end
    local message, health = without("http", "init_by_lua_block")
    assert.truthy(message:find('add `init_by_lua_block { require("longshore.nginx").setup', 1, true), message)
    assert.truthy(message:find("http context", 1, true))
    assert.equal(503, health.status)
    assert.truthy(health.body:find("init_by_lua_block", 1, true))
    message = without("http", "init_worker_by_lua_block")
    assert.truthy(message:find('init_worker_by_lua_block { require("longshore.nginx").start() }', 1, true), message)
    message = without("http", "lua_shared_dict longshore ")
    assert.truthy(message:find("lua_shared_dict longshore 8m;", 1, true), message)
    message = without("http", "lua_shared_dict longshore_metrics ")
    assert.truthy(message:find("lua_shared_dict longshore_metrics 2m;", 1, true), message)
    message = without("http", "lua_shared_dict longshore_rates ")
    assert.truthy(message:find("lua_shared_dict longshore_rates 4m;", 1, true), message)
    message = without("main", "thread_pool longshore ")
    assert.truthy(message:find("thread_pool longshore threads=2 max_queue=65536;", 1, true), message)
    assert.truthy(message:find("main context", 1, true))
  end)

  it("says that its folder is missing, and is ready when it is there", function()
    local path, before = folder .. "/missing.lua", config_path
    support.write_file(path, (support.read_file(config_path):gsub('"data"', '"later/data"')))
    config_path = path
    local server = nginx.start(blocks())
    config_path = before
    local function ready() return http.request { url = server.url .. "/readyz" } end
    assert.truthy(support.wait_until(function() return ready().body:find("make that folder", 1, true) end, 10))
    assert.equal(503, ready().status)
    assert.truthy(server:log():find("%[error%][^\n]*readiness: [^\n]*later/data"))
    assert(os.execute("mkdir -p " .. quote(folder .. "/later/data")))
    assert.truthy(support.wait_until(function() return ready().status == 200 end, 15))
    assert.truthy(server:log():find("readiness: the database answers again", 1, true))
  end)

  it("keeps the configuration that it was started with, until it is told to reload", function()
    local path, before, text = folder .. "/changing.lua", config_path, support.read_file(config_path)
    support.write_file(path, text)
    config_path = path
    local server, key = nginx.start(blocks()), token()
    config_path = before
    -- Nothing was asked of most threads yet: they meet the file as it is now.
    support.write_file(path, "return { brokr = {} }")
    local sockets, body = {}, json.encode { filename = "kept", file_type = "a/b", num_bytes = 5 }
    between:rules { { delay = 0.3 } }
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
    between:rules {}
    -- A reload with a mistake changes nothing.
    server.process:kill("sighup")
    assert.truthy(support.wait_until(function() return server:log():find("brokr: is not a known key", 1, true) end, 10))
    assert.equal(200, http.call("GET", server.url .. "/v0.5/files/info", key).status)
    support.write_file(path, (text:gsub("return {", "return { policy = { max_size = 3 },", 1)))
    server:reload()
    assert.truthy(support.wait_until(function()
      return http.call("POST", server.url .. "/v0.5/files/uploads/initiate", key, body).status == 413
    end, 10))
  end)

  it("needs none of the lines for bodies and logs", function()
    local lines = blocks()
    lines.server = lines.server:gsub("[^\n]*client_body_buffer_size[^\n]*\n", ""):gsub("[^\n]*access_log[^\n]*\n", "")
    lines.http = lines.http:gsub("[^\n]*log_format[^\n]*\n", ""):gsub("map [^\n]*\n", "")
    local server = nginx.start(lines)
    local key = token()
    local parts = {}
    for i = 1, 2000 do parts[i] = { part_number = 1, part_token = ("x"):rep(30) } end
    local upload_id = initiate(server.url, key).json.upload_id
    local body = json.encode { parts = parts }
    assert.truthy(#body > 65536)
    local answer = http.call("POST", ("%s/v0.5/files/uploads/%s/parts/checkpoint"):format(server.url, upload_id), key,
      body)
    assert.equal(200, answer.status, answer.body)
    assert.equal(1, answer.json.num_checkpointed)
  end)

  it("limits how often a token asks, not how often others do", function()
    local server = nginx.start(blocks())
    local eager, other = token(), token()
    local statuses = {}
    for _ = 1, 50 do
      local answer = http.call("GET", server.url .. "/v0.5/files/info", eager)
      statuses[answer.status] = (statuses[answer.status] or 0) + 1
      if answer.status == 429 then
        assert.truthy(tonumber(answer.headers["retry-after"]) >= 1)
        assert.equal("rate_limited", answer.json.errors[1].code)
      end
    end
    -- (The window may turn meanwhile.)
    assert.truthy(statuses[429] >= 1 and statuses[200] >= 40, json.encode { statuses[200], statuses[429] })
    assert.equal(200, http.call("GET", server.url .. "/v0.5/files/info", other).status)
  end)

  it("counts, says whether it is ready, and logs who did what under one request id", function()
    os.remove(folder .. "/audit.log")
    between:rules {}
    local server = nginx.start(blocks())
    local key = token()
    local started = upload(server.url, key)
    http.call("GET", server.url .. "/v0.5/files/info", key)
    assert.equal("ok\n", http.request { url = server.url .. "/healthz" }.body)
    assert.truthy(support.wait_until(function()
      return http.request { url = server.url .. "/readyz" }.status == 200
    end, 10))
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
    assert.equal("", prometheus_finds(folder, text))
    -- The logs are written within a second.
    assert.truthy(support.wait_until(function()
      return (support.read_file(folder .. "/access.log") or ""):find('"operation":"newton.info","status":200', 1, true)
        and (support.read_file(folder .. "/audit.log") or ""):find("\n.*\n")
    end, 5))
    local lines = {}
    for line in support.read_file(folder .. "/audit.log"):gmatch("[^\n]+") do
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

  it("hands the request's id to the object store", function()
    local listener = assert(socket.bind("127.0.0.1", 0))
    local _, port = listener:getsockname()
    local path = support.write_file(folder .. "/other.lua", (support.read_file(config_path)
      :gsub('endpoint = "' .. between.endpoint:gsub("%p", "%%%0"), 'endpoint = "http://127.0.0.1:' .. port, 1)))
    local before = config_path
    config_path = path
    local server, key = nginx.start(blocks()), token()
    config_path = before
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
    local server, key = nginx.start(blocks()), token()
    for _, how in ipairs { "reload", "stop" } do
      between:rules { { method = "POST", match = "uploads", delay_answer = 1.2 } }
      names = names + 1
      local body = json.encode { filename = "r" .. names, file_type = "a/b", num_bytes = 5 }
      local client = assert(socket.connect("127.0.0.1", server.port))
      client:settimeout(20)
      client:send(("POST /v0.5/files/uploads/initiate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
        .. "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"):format(key, #body, body))
      socket.sleep(0.3)
      server[how](server)
      local started = core.monotonic()
      local answer = http.read(client, "POST")
      client:close()
      assert.equal(200, answer and answer.status, how .. "\n" .. server:log())
      assert.truthy(core.monotonic() - started < 5)
      between:rules {}
      if how == "reload" then
        assert.equal(200, http.call("GET", server.url .. "/v0.5/files/info", key).status)
      end
    end
  end)
end)

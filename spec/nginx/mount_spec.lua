-- The three blocks of `longshore nginx-conf`, pasted into a stock nginx.
local http = require "spec.support.http"
local json = require "longshore.json"
local mounted = require "spec.support.mounted"
local nginx = require "spec.support.nginx"
local socket = require "socket"
local support = require "spec.support"

local quote = support.quote

describe("the broker mounted in a stock nginx", function()
  local w

  setup(function() w = mounted.world() end)
  teardown(support.cleanup)
  before_each(function() w.between:rules {} end)

  it("works as pasted, below a prefix, beside another application", function()
    local lines = w:blocks "--prefix /uploads --service newton"
    lines.server = lines.server .. [[
      location / { content_by_lua_block { ngx.say("another application") } }]]
    local server = nginx.start(lines)
    local key = w:token()
    w:upload(server.url .. "/uploads", key)
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

  it("keeps its paths from another application's locations by suffix", function()
    local lines = w:blocks "--prefix /uploads"
    for _, order in ipairs { "before", "after" } do
      local other = "location ~* \\.(jpg|php)$ { return 418; }\nlocation ~ upload$ { return 418; }\n"
      local server = nginx.start { main = lines.main, http = lines.http,
        server = order == "before" and other .. lines.server or lines.server .. other }
      local key = w:token()
      assert.equal(418, http.request({ url = server.url .. "/photo.jpg" }).status)
      assert.equal(404, http.call("GET", server.url .. "/uploads/v0.5/files/metadata/photo.jpg", key).status)
      assert.equal(422, http.call("GET", server.url .. "/uploads/api/jobs/x.php", key).status)
      -- A tunnel takes more than other routes do.
      local sent = http.request { method = "PUT", url = server.url .. "/uploads/storage/files/fil_x/upload",
        body = ("x"):rep(9 * 2 ^ 20), headers = { Authorization = "Bearer " .. key, ["X-Athena-Client"] = "default" } }
      assert.equal(404, sent.status, sent.body)
      assert.truthy(sent.headers["x-request-id"])
    end
  end)

  it("is found below its prefix by our own commands", function()
    local server = nginx.start(w:blocks "--prefix /uploads")
    local key, file = w:token(), support.write_file(w.folder .. "/below.csv", "a,b\n1,2\n")
    for _, service in ipairs { "newton", "athena", "geolens" } do
      mounted.longshore(("put --service %s --token %s %s %s/uploads"):format(service, key, quote(file), server.url))
    end
    mounted.longshore(("put --service cognite --token %s %s %s/uploads/api/v1/projects/default"):format(key,
      quote(file), server.url))
    local status = mounted.longshore(("status --token %s %s/uploads"):format(key, server.url))
    assert.truthy(status:find("below.csv", 1, true), status)
  end)

  it("answers what nginx itself refuses in the services' shapes, for a browser too", function()
    local server = nginx.start(w:blocks "--prefix /uploads")
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
      -- In chunks, of which nobody knew how many would come.
      answer = http.raw(server.port, ("POST /uploads%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
        .. "Transfer-Encoding: chunked\r\n\r\n"):format(path, w:token())
        .. ("%x\r\n%s\r\n"):format(65536, ("x"):rep(65536)):rep(144) .. "0\r\n\r\n")
      if path ~= "/api/jobs/x" then
        assert.equal(413, answer.status, path)
        assert.truthy(answer.body:find(shape), answer.body)
      end
    end
  end)

  it("tells who asks first that a body is not wanted before it is sent", function()
    local server, key = nginx.start(w:blocks "--prefix /uploads"), w:token()
    local function first_line(path, authorization)
      local client = assert(socket.connect("127.0.0.1", server.port))
      client:settimeout(10)
      client:send(("POST /uploads%s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 200000\r\n"
        .. "Content-Type: multipart/form-data; boundary=x\r\nAuthorization: Bearer %s\r\n\r\n"):format(path,
        authorization))
      local line = client:receive("*l")
      client:close()
      return line
    end
    assert.equal("HTTP/1.1 401 Unauthorized", first_line("/v0.5/files", "ls_wrong"))
    assert.equal("HTTP/1.1 401 Unauthorized", first_line("/v0.5/files/uploads/initiate", "ls_wrong"))
    assert.equal("HTTP/1.1 404 Not Found", first_line("/v0.5/nothing", key))
    assert.equal("HTTP/1.1 100 Continue", first_line("/v0.5/files", key))
  end)

  it("says in the services' shapes what the host's own limits refuse", function()
    for status, code in pairs { [503] = "service_busy", [429] = "rate_limited" } do
      local lines = w:blocks "--prefix /uploads"
      lines.http = lines.http .. "limit_req_zone $host zone=few:1m rate=1r/m;"
      lines.server = lines.server:gsub("location %^~ /uploads/ {",
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
    local lines = w:blocks [[--prefix /up --actor '{ user = ngx.var.http_x_user, organization = "acme",
      rights = { ngx.var.http_x_right or "upload" } }']]
    local server = nginx.start(lines)
    local function call(user, right)
      w.names = w.names + 1
      return http.call("POST", server.url .. "/up/v0.5/files/uploads/initiate", nil,
        { filename = "h" .. w.names, file_type = "a/b", num_bytes = 5 }, { ["X-User"] = user, ["X-Right"] = right })
    end
    assert.equal(200, call("bob").status)
    assert.equal(403, call("bob", "read").status)
    -- A mistake of the host's is the host's error, and grants nothing.
    assert.equal(500, call(nil).status)
    assert.equal(500, call("b\255b").status)
    assert.equal(500, call("bob", "everything").status)
    assert.truthy(server:log():find("actor.user: a text of 1 to 255 characters in UTF-8 expected", 1, true))
    assert.truthy(server:log():find('there is no right "everything"', 1, true))
  end)

  it("names the line that is missing", function()
    local lines = w:blocks()
    local function without(block, pattern)
      local changed = { main = lines.main, http = lines.http, server = lines.server }
      local count
      changed[block], count = changed[block]:gsub("[^\n]*" .. pattern .. "[^\n]*\n", "")
      assert.equal(1, count, pattern)
      local server = nginx.start(changed)
      local key = w:token()
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

  it("names the line that is missing for what runs by itself, before it is felt", function()
    local lines = w:blocks()
    for _, name in ipairs { "janitor", "outbox", "watch" } do
      local line = lines.main:match("thread_pool longshore_" .. name .. " [^\n]*")
      local changed = { main = lines.main:gsub(line:gsub("%p", "%%%0"), ""), http = lines.http, server = lines.server }
      local server, answer = nginx.start(changed), nil
      assert.truthy(support.wait_until(function()
        answer = http.request { url = server.url .. "/readyz" }
        return answer.body:find(line, 1, true)
      end, 20), answer.body)
      assert.equal(503, answer.status)
      server:stop()
    end
  end)

  it("takes no memory for a body over HTTP/2 from who may not send it, length or not", function()
    local lines = w:blocks "--prefix /uploads"
    local port = support.free_port()
    lines.server = ("listen 127.0.0.1:%d http2;\n"):format(port) .. lines.server
    nginx.start(lines)
    local key = w:token()
    local function frame(kind, flags, stream, payload)
      return ("\0%s%s%s%s\0\0\0%s%s"):format(string.char(math.floor(#payload / 256)), string.char(#payload % 256),
        string.char(kind), string.char(flags), string.char(stream), payload)
    end
    -- The fields of the answer to a request whose body comes only then, and not if `body` is nil.
    local function ask(method, path, authorization, body)
      local fields = {}
      for _, field in ipairs { { ":method", method }, { ":scheme", "http" }, { ":path", "/uploads" .. path },
        { ":authority", "x" }, { "authorization", "Bearer " .. authorization },
        { "content-type", "application/json" } } do
        fields[#fields + 1] = "\0" .. string.char(#field[1]) .. field[1] .. string.char(#field[2]) .. field[2]
      end
      local client = assert(socket.connect("127.0.0.1", port))
      client:settimeout(5)
      client:send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" .. frame(4, 0, 0, "") .. frame(1, 4, 1, table.concat(fields))
        .. (body and frame(0, 1, 1, body) or ""))
      while true do
        local head = client:receive(9)
        if not head then return nil end
        local payload = client:receive(head:byte(2) * 256 + head:byte(3))
        if head:byte(4) == 1 then
          client:close()
          return payload
        end
      end
    end
    for _, method in ipairs { "POST", "GET" } do
      local answer = ask(method, "/v0.5/files/info", "ls_wrong")
      assert.truthy(answer and (answer:find("401", 1, true) or answer:find("405", 1, true)), method)
    end
    assert.truthy((ask("POST", "/v0.5/files/uploads/initiate", "ls_wrong") or ""):find("401", 1, true))
    -- (The eighth field of HTTP/2's table is :status 200.)
    assert.equal(136, ask("POST", "/v0.5/files/uploads/initiate", key,
      '{"filename":"h2","file_type":"a/b","num_bytes":5}'):byte(1))
  end)

  it("needs none of the lines for bodies and logs", function()
    local lines = w:blocks()
    lines.server = lines.server:gsub("[^\n]*client_body_buffer_size[^\n]*\n", ""):gsub("[^\n]*access_log[^\n]*\n", "")
    lines.http = lines.http:gsub("[^\n]*log_format[^\n]*\n", ""):gsub("map [^\n]*\n", "")
    local server = nginx.start(lines)
    local key = w:token()
    local parts = {}
    for i = 1, 2000 do parts[i] = { part_number = 1, part_token = ("x"):rep(30) } end
    local upload_id = w:initiate(server.url, key).json.upload_id
    local body = json.encode { parts = parts }
    assert.truthy(#body > 65536)
    local answer = http.call("POST", ("%s/v0.5/files/uploads/%s/parts/checkpoint"):format(server.url, upload_id), key,
      body)
    assert.equal(200, answer.status, answer.body)
    assert.equal(1, answer.json.num_checkpointed)
  end)
end)

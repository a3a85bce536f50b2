-- The broker inside nginx: what the event loop does around the worker threads.
local http = require "spec.support.http"
local json = require "longshore.json"
local longshore = require "longshore"
local relay = require "spec.support.relay"
local serve = require "spec.support.serve"
local socket = require "socket"
local support = require "spec.support"

describe("the broker in nginx", function()
  local server, between

  setup(function()
    local store_port = support.free_port()
    between = relay.start { target = "127.0.0.1:" .. store_port }
    server = serve.start { store_port = store_port, config = ([[return {
      broker = { threads = 2, queue = 1, queue_seconds = 3, janitor_seconds = 0, max_body = 256 * KiB },
      cors = { origins = { "https://app.example" } },
      diskstore = { credentials = { { access_key = "AKSPEC", secret_key = "secret-of-the-spec" } } },
      buckets = { default = { profile = "diskstore", bucket = "longshore", region = "us-east-1",
        endpoint = %q, public_endpoint = "http://127.0.0.1:%d",
        access_key = "AKSPEC", secret_key = "secret-of-the-spec", timeout = 60 } },
    }]]):format(between.endpoint, store_port) }
  end)
  teardown(support.cleanup)
  before_each(function() between:rules {} end)

  local function refused(response, status, code)
    assert.equal(status, response.status, response.body)
    assert.equal("application/json", response.headers["content-type"])
    assert.truthy(response.headers["x-request-id"])
    local first = assert(json.decode(response.body)).errors[1]
    assert.truthy(first.error_uid:find("^err%-"))
    if code then assert.equal(code, first.code) end
    return response
  end

  local function post(path, value)
    return http.call("POST", server.url .. "/v0.5/files/" .. path, server.token, value)
  end

  local names = 0
  local function initiate_body()
    names = names + 1
    return json.encode { filename = "n" .. names, file_type = "a/b", num_bytes = 10 }
  end

  -- Sends a request and does not wait for its answer.
  local function begin(method, path, body)
    local connection = assert(socket.connect("127.0.0.1", server.port))
    connection:settimeout(60)
    connection:send(("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"
      .. "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"):format(method, path, server.token,
      #(body or ""), body or ""))
    return function()
      local response = http.read(connection, method)
      connection:close()
      return response
    end
  end

  -- So many starts of uploads, each in a thread of its own until there are other rules.
  local function hold(count)
    between:clear()
    between:rules { { method = "POST", match = "uploads", hold_answer = true } }
    local answers = {}
    for i = 1, count do answers[i] = begin("POST", "/v0.5/files/uploads/initiate", initiate_body()) end
    assert.truthy(support.wait_until(function() return #between:log() == count end, 30))
    return answers
  end

  it("answers what nginx itself refuses in the service's shape", function()
    for _, bytes in ipairs {
      "GET /a/../../x HTTP/1.1\r\nHost: x\r\n\r\n", "GET /%2e%2e/%2e%2e/x HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", "nonsense\r\n\r\n", "GET /x HTTP/1.1\r\n\r\n",
      "GET /x HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
      "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      "GET /x HTTP/1.1\r\nHost: x\r\nX: " .. ("y"):rep(20000) .. "\r\n\r\n",
    } do
      refused(http.raw(server.port, bytes), 400, "invalid_parameter")
    end
    refused(http.raw(server.port, "GET /" .. ("x"):rep(20000) .. " HTTP/1.1\r\nHost: x\r\n\r\n"), 414)
    refused(http.raw(server.port, "TRACE /x HTTP/1.1\r\nHost: x\r\n\r\n"), 405)
  end)

  it("bounds bodies, announced or in chunks, and lets a browser read the refusal", function()
    local response = refused(http.request { method = "POST", url = server.url .. "/v0.5/files/uploads/initiate",
      headers = { Origin = "https://app.example" }, body = ("x"):rep(300 * 1024) }, 413, "request_too_large")
    assert.equal("https://app.example", response.headers["access-control-allow-origin"])
    local chunk = ("%x\r\n%s\r\n"):format(65536, ("x"):rep(65536)):rep(5) .. "0\r\n\r\n"
    refused(http.raw(server.port, "POST /v0.5/files/uploads/initiate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
      .. server.token .. "\r\nTransfer-Encoding: chunked\r\n\r\n" .. chunk), 413, "request_too_large")
  end)

  it("takes no memory for the body of who may not send it", function()
    local function head(token, path, length)
      local connection = assert(socket.connect("127.0.0.1", server.port))
      connection:settimeout(30)
      connection:send(("POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"
        .. "Content-Type: application/json\r\n%s\r\n\r\n"):format(path, token, length))
      local response = http.read(connection, "POST")
      connection:close()
      return response
    end
    local complete = "/v0.5/files/uploads/upl_x/complete"
    for _, length in ipairs { "Content-Length: 200000", "Transfer-Encoding: chunked" } do
      refused(head("ls_wrong", complete, length), 401)
      refused(head(server.token, "/nothing/here", length), 404)
    end
  end)

  it("keeps a connection for several requests, in chunks or with a length", function()
    local connection = assert(socket.connect("127.0.0.1", server.port))
    connection:settimeout(10)
    local head = ("Host: x\r\nAuthorization: Bearer %s\r\n"):format(server.token)
    for _ = 1, 3 do
      connection:send("GET /v0.5/files/info HTTP/1.1\r\n" .. head .. "\r\n")
      assert.equal(200, http.read(connection, "GET").status)
      connection:send("HEAD /v0.5/files/info HTTP/1.1\r\n" .. head .. "\r\n")
      assert.equal(200, http.read(connection, "HEAD").status)
      local body = initiate_body()
      connection:send("POST /v0.5/files/uploads/initiate HTTP/1.1\r\n" .. head .. "Transfer-Encoding: chunked\r\n\r\n"
        .. ("%x\r\n%s\r\n0\r\n\r\n"):format(#body, body))
      assert.equal(200, http.read(connection, "POST").status)
    end
    connection:close()
  end)

  it("handles as many as it has threads, queues some, and sends the rest away with Retry-After", function()
    local held = hold(2)
    local queued = begin("GET", "/v0.5/files/info")
    http.taken(server.port)
    local response = refused(begin("GET", "/v0.5/files/info")(), 503, "service_busy")
    assert.truthy(response.body:find("too many requests are waiting", 1, true), response.body) -- said at once
    assert.equal("1", response.headers["retry-after"])
    -- The event loop is free all the while.
    refused(http.raw(server.port, "GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n"), 400)
    -- Who waits too long in the queue is sent away too.
    response = refused(queued(), 503, "service_busy")
    assert.truthy(response.body:find("waited too long", 1, true), response.body)
    between:rules {}
    for _, answer in ipairs(held) do assert.equal(200, answer().status) end
    for _ = 1, 5 do assert.equal(200, begin("GET", "/v0.5/files/info")().status) end
  end)

  it("answers others while one call waits for the store", function()
    local slow = hold(1)[1]
    for _ = 1, 10 do assert.equal(200, begin("GET", "/v0.5/files/info")().status) end
    between:rules {}
    assert.equal(200, slow().status)
  end)

  it("says that the store is away, in its own words, and recovers", function()
    between:rules { { status = 403, body = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>" } }
    refused(post("uploads/initiate", initiate_body()), 502, "storage_error")
    between:rules {}
    assert.equal(200, post("uploads/initiate", initiate_body()).status)
  end)
end)

describe("the broker's janitor in nginx", function()
  teardown(support.cleanup)

  it("runs by itself", function()
    local SECONDS = 3
    local server = serve.start { config = ([[return {
      broker = { janitor_seconds = 1 }, policy = { upload_seconds = %d },
      diskstore = { credentials = { { access_key = "AKSPEC", secret_key = "secret-of-the-spec" } } },
    }]]):format(SECONDS) }
    local function post(path, value)
      return http.call("POST", server.url .. "/v0.5/files/" .. path, server.token, value)
    end
    local began = socket.gettime()
    local upload = post("uploads/initiate", { filename = "n", file_type = "a/b", num_bytes = 10 }).json
    local path = "uploads/" .. upload.upload_id .. "/parts/urls"
    local first = post(path, { part_numbers = { 1 } })
    if socket.gettime() < began + SECONDS then assert.equal(200, first.status, first.body) end
    assert.truthy(support.wait_until(function()
      return post(path, { part_numbers = { 1 } }).status ~= 200
    end, 30, 0.2))
    assert.truthy(support.wait_until(function()
      return support.read_file(server.log):find("janitor [^\n]*expired=%d*[1-9]")
    end, 30, 0.2) or error(support.read_file(server.log)))
    -- At the store it is gone as well.
    local bucket = assert(longshore.bucket { endpoint = server.store_url, bucket = "longshore", profile = "diskstore",
      region = "us-east-1", access_key = "AKSPEC", secret_key = "secret-of-the-spec" })
    assert.truthy(support.wait_until(function()
      for _, left in ipairs(assert(bucket:list_uploads {})) do
        if left.key:find(upload.file_uid, 1, true) then return false end
      end
      return true
    end, 30, 0.2))
    assert.are_not.equal(200, http.request({ method = "PUT", url = upload.parts[1].url, body = ("x"):rep(10) }).status)
  end)
end)

describe("the broker before a store that hangs", function()
  teardown(support.cleanup)

  it("gives up, says so, and has its threads again", function()
    local store_port = support.free_port()
    local between = relay.start { target = "127.0.0.1:" .. store_port }
    local server = serve.start { store_port = store_port, config = ([[return {
      broker = { threads = 2, queue = 8, janitor_seconds = 0 },
      diskstore = { credentials = { { access_key = "AKSPEC", secret_key = "secret-of-the-spec" } } },
      buckets = { default = { profile = "diskstore", bucket = "longshore", region = "us-east-1", endpoint = %q,
        access_key = "AKSPEC", secret_key = "secret-of-the-spec", timeout = 1 } },
    }]]):format(between.endpoint) }
    between:rules { { method = "POST", match = "uploads", hold_answer = true } }
    local connections = {}
    for i = 1, 4 do
      local body = json.encode { filename = "h" .. i, file_type = "a/b", num_bytes = 10 }
      connections[i] = assert(socket.connect("127.0.0.1", server.port))
      connections[i]:settimeout(60)
      connections[i]:send(("POST /v0.5/files/uploads/initiate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
        .. "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"):format(server.token, #body, body))
    end
    for _, connection in ipairs(connections) do
      local answer = assert(http.read(connection, "POST"))
      assert.equal(504, answer.status, answer.body)
      connection:close()
    end
    between:rules {}
    -- (A store that is slow for a second is one that hangs, here.)
    assert.truthy(support.wait_until(function()
      return http.call("POST", server.url .. "/v0.5/files/uploads/initiate", server.token,
        { filename = "after", file_type = "a/b", num_bytes = 10 }).status == 200
    end, 30))
    server:stop()
  end)
end)

describe("the broker with TLS", function()
  teardown(support.cleanup)

  it("serves https on both ports, and tells plain http so", function()
    local ca, cert, key = relay.certificate(support.tmpdir())
    local tls = ("{ certificate = %q, key = %q }"):format(cert, key)
    local server = serve.start {
      config = ("return { broker = { tls = %s }, diskstore = { tls = %s } }"):format(tls, tls),
    }
    local curl = ("curl -sS --cacert %s -H 'Authorization: Bearer %s' "):format(ca, server.token)
    local code, text = support.run(curl .. "-H 'Content-Type: application/json' "
      .. "-d '{\"filename\":\"a\",\"file_type\":\"a/b\",\"num_bytes\":3}' "
      .. ("https://127.0.0.1:%d/v0.5/files/uploads/initiate"):format(server.port))
    assert.equal(0, code, text)
    local url = assert(json.decode(text)).parts[1].url
    assert.truthy(url:find("^https://127%.0%.0%.1:" .. server.store_port), url)
    code, text = support.run(("curl -sS --cacert %s -o /dev/null -w '%%{http_code}' -X PUT --data-binary abc %s")
      :format(ca, support.quote(url)))
    assert.equal(0, code, text)
    assert.equal("200", text)
    local response = http.request { url = server.url .. "/v0.5/files/info" }
    assert.equal(400, response.status)
    assert.truthy(response.body:find("https only", 1, true))
  end)
end)

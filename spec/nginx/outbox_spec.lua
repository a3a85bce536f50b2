-- Webhooks out of a running nginx: soon, and none waits for another.
local http = require "spec.support.http"
local json = require "longshore.json"
local nginx = require "spec.support.nginx"
local serve = require "spec.support.serve"
local socket = require "socket"
local support = require "spec.support"

describe("the outbox in nginx", function()
  local server, receiver, hanging, hung

  -- Answers one delivery; its event.
  local function take()
    receiver:settimeout(30)
    local connection, why = receiver:accept()
    if not connection then return nil, why end
    connection:settimeout(30)
    local length
    repeat
      local line = assert(connection:receive("*l"))
      length = line:lower():match("^content%-length:%s*(%d+)") or length
    until line == ""
    local body = assert(connection:receive(tonumber(length)))
    connection:send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    connection:close()
    return assert(json.decode(body))
  end

  local function abort(name)
    local started = http.call("POST", server.url .. "/v0.5/files/uploads/initiate", server.token,
      { filename = name, file_type = "a/b", num_bytes = 10 })
    assert.equal(200, started.status, started.body)
    local id = started.json.upload_id
    local answer = http.call("POST", ("%s/v0.5/files/uploads/%s/abort"):format(server.url, id), server.token)
    assert.is_true(answer.status < 300, answer.body)
    return id
  end

  setup(function()
    receiver, hanging = assert(socket.bind("127.0.0.1", 0)), assert(socket.bind("127.0.0.1", 0))
    local function hook(name, listener)
      local _, port = listener:getsockname()
      return ("{ name = %q, url = 'http://127.0.0.1:%d/', secret = 'a secret of the spec', timeout = 60, "
        .. "hooks = { 'after_abort' } }"):format(name, port)
    end
    -- The janitor never comes: the timer alone tells.
    server = serve.start { config = ([[return { broker = { threads = 2, janitor_seconds = 0 },
      policy = { webhooks = { %s, %s } } }]]):format(hook("away", hanging), hook("index", receiver)) }
  end)
  teardown(function()
    receiver:close()
    hanging:close()
    support.cleanup()
  end)

  it("tells a webhook while another one hangs, again and again", function()
    for i = 1, 4 do
      local id = abort("f" .. i)
      local event = assert(take())
      assert.equal("after_abort", event.hook)
      assert.equal(id, event.upload.id)
      if not hung then
        hanging:settimeout(30)
        hung = assert(hanging:accept())
      end
    end
    -- That one waits for its first answer still.
    repeat
      hung:settimeout(0)
      local line, why = hung:receive "*l"
      assert.is_true(line ~= nil or why == "timeout", why)
    until not line
  end)

  it("tells as many as have come, at once", function()
    local wanted, MANY = {}, 20
    for i = 1, MANY do wanted[abort("many" .. i)] = true end
    local started = socket.gettime()
    for _ = 1, MANY do wanted[assert(take()).upload.id] = nil end
    assert.is_nil(next(wanted))
    assert.truthy(socket.gettime() - started < MANY - 5, socket.gettime() - started) -- not one a second
  end)

  it("counts what was told, and what could not be", function()
    hung:close()
    assert.truthy(support.wait_until(function()
      local text = http.request { url = server.url .. "/metrics" }.body
      return text:find('longshore_deliveries_total{outcome="told"} %d') and
        text:find('longshore_deliveries_total{outcome="failed"} %d')
    end, 60, 0.2))
  end)
end)

describe("gauges by label", function()
  teardown(support.cleanup)

  it("are gone with what they counted, and other families stay", function()
    local server = nginx.start { http = nginx.paths() .. "lua_shared_dict longshore_metrics 1m;", server = [[
      location / { content_by_lua_block {
        local metrics, values = require "longshore.nginx.metrics", {}
        for name, count in (ngx.var.args or ""):gmatch("([^=&]+)=(%d+)") do values[name] = tonumber(count) end
        metrics.set("longshore_ready", "", 1)
        metrics.replace("longshore_uploads", "state", values)
        ngx.print(metrics.render()) } }]] }
    local function uploads(arguments)
      local text, found = http.request { url = server.url .. "/?" .. arguments }.body, {}
      assert.truthy(text:find("longshore_ready 1\n", 1, true), text)
      for state, count in text:gmatch('longshore_uploads{state="([^"]+)"} (%d+)') do found[state] = tonumber(count) end
      return found
    end
    assert.same({ uploading = 3, completed = 1 }, uploads "uploading=3&completed=1")
    assert.same({ completed = 4 }, uploads "completed=4")
    assert.same({}, uploads "")
  end)
end)

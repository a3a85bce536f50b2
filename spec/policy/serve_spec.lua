-- A policy file under a running `longshore serve`: in the sandbox inside nginx's
-- worker threads, changed under load, running away, telling others.
local http = require "spec.support.http"
local json = require "longshore.json"
local parallel = require "spec.policy.parallel"
local serve = require "spec.support.serve"
local socket = require "socket"
local support = require "spec.support"
local webhook = require "longshore.policy.webhook"

describe("a policy under longshore serve", function()
  local SECRET = "a secret of the spec"
  local server, path, receiver

  local function write(body)
    support.write_file(path .. ".new", ([[local rules = require "longshore.policy.rules"
      return rules.chain { rules.anonymous { organization = "box" }, rules.rate { limit = 100000 },
        { before_initiate = function(context) %s end } }]]):format(body))
    assert(os.rename(path .. ".new", path))
  end

  setup(function()
    path = support.tmpdir() .. "/policy.lua"
    assert.equal(0, (support.run("chmod 755 " .. path:match("^(.*)/"))))
    write "return { tags = nil, metadata = { version = 1 } }"
    receiver = assert(socket.bind("127.0.0.1", 0))
    local _, port = receiver:getsockname()
    server = serve.start { config = ([[return {
      broker = { threads = 2, janitor_seconds = 1 },
      policy = { file = %q, limits = { instructions = 200000 },
        webhooks = { { name = "index", url = "http://127.0.0.1:%d/hook", secret = %q,
          hooks = { "after_abort" } } } },
    }]]):format(path, port, SECRET) }
  end)
  teardown(function()
    receiver:close()
    support.cleanup()
  end)

  local LOOKED = 1.1 -- seconds after which each thread has looked at the file

  local names = 0
  local function initiate(token, name)
    names = names + 1
    return http.call("POST", server.url .. "/v0.5/files/uploads/initiate", token or server.token,
      json.encode { filename = name or "n" .. names, file_type = "a/b", num_bytes = 10 })
  end

  it("decides, also for those without a token", function()
    local response = initiate()
    assert.equal(200, response.status, response.body)
    response = http.call("POST", server.url .. "/v0.5/files/uploads/initiate", nil,
      json.encode { filename = "anonymous", file_type = "a/b", num_bytes = 10 })
    assert.equal(200, response.status, response.body)
    assert.equal(401, initiate("ls_" .. ("a"):rep(16) .. "_" .. ("b"):rep(32)).status)
  end)

  it("changes without dropping a request", function()
    local seen, bad = {}, 0
    local function ask()
      local response = initiate(nil, "probe" .. names)
      socket.sleep(0.01)
      local code = response.status
      seen["s" .. code] = (seen["s" .. code] or 0) + 1
      if code ~= 200 and code ~= 403 then bad = bad + 1 end
      return code
    end
    for round = 1, 2 do
      write(round == 1 and "return false, 'closed'" or "return true")
      local expected = round == 1 and 403 or 200
      local known = socket.gettime() + LOOKED
      while socket.gettime() < known do ask() end
      for _ = 1, 10 do assert.equal(expected, ask()) end
    end
    assert.equal(0, bad, json.encode(seen))
    write "return {"
    local stop = socket.gettime() + 2.2
    while socket.gettime() < stop do assert.equal(200, ask()) end
    write "return true"
    assert.truthy(support.read_file(server.log):find("the old one stays", 1, true)
      or (support.run("grep -rq 'the old one stays' " .. support.quote(server.data))) == 0)
  end)

  it("changes under load, for the better and for the worse, and drops nothing", function()
    local template = [[return { before_initiate = function(context) return { key = "v%d/" .. context.file_id } end }]]
    support.write_file(path .. ".new", template:format(0))
    assert(os.rename(path .. ".new", path))
    assert.is_true(support.wait_until(function() -- each thread's VM has it
      socket.sleep(0.6)
      for _ = 1, 20 do
        local response = initiate()
        if response.status ~= 200 or not response.body:find("/v0/fil_", 1, true) then return false end
      end
      return true
    end, 60))
    local started = parallel.together("load_process.lua", 5, { path = path, template = template, seconds = 7,
      url = server.url, token = server.token })
    assert.is_true(started > 100, started)
    assert.is_true(support.wait_until(function() return not initiate().body:find("/v[01]/fil_") end, 30))
    write "return true"
  end)

  it("that runs away refuses that request, and the others are served", function()
    write [[if context.filename:sub(1, 3) == "run" then while true do pcall(function() while true do end end) end end]]
    socket.sleep(LOOKED)
    for _ = 1, 7 do
      local started = socket.gettime()
      assert.equal(500, initiate(nil, "run" .. names).status)
      assert.equal(200, initiate().status)
      assert.is_true(socket.gettime() - started < 15)
    end
    write "return true"
  end)

  it("tells a webhook, signed", function()
    assert.is_true(support.wait_until(function() return initiate().status == 200 end, 60))
    local upload = assert(json.decode(initiate().body))
    local response = http.call("POST", ("%s/v0.5/files/uploads/%s/abort"):format(server.url, upload.upload_id),
      server.token)
    assert.is_true(response.status < 300, response.body)
    receiver:settimeout(60)
    local connection = assert(receiver:accept())
    connection:settimeout(30)
    local headers, line = {}, assert(connection:receive("*l"))
    assert.equal("POST /hook HTTP/1.1", line)
    repeat
      line = assert(connection:receive("*l"))
      local name, value = line:match("^([^:]+):%s*(.-)%s*$")
      if name then headers[name:lower()] = value end
    until line == ""
    local body = assert(connection:receive(tonumber(headers["content-length"])))
    connection:send("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
    connection:close()
    assert.is_true(webhook.verify(SECRET, headers, body))
    local event = assert(json.decode(body))
    assert.equal("after_abort", event.hook)
    assert.equal(upload.upload_id, event.upload.id)
  end)
end)

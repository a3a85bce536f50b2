-- What the event loop answers by itself, and what takes that back. See longshore.nginx.near.
local dates = require "longshore.dates"
local http = require "spec.support.http"
local mounted = require "spec.support.mounted"
local serve = require "spec.support.serve"
local socket = require "socket"
local stores = require "longshore.store"
local support = require "spec.support"

local quote = support.quote
local SECONDS = 2
local RECHECK = 1 -- seconds after which each thread has looked at the policy's file

describe("URLs for parts from the event loop", function()
  local server, folder, policy

  setup(function()
    folder = support.tmpdir()
    policy = support.write_file(folder .. "/policy.lua", "return {}\n")
    server = serve.start { config = ([[return {
      broker = { threads = 2, cache_seconds = %d, janitor_seconds = 0 }, policy = { file = %q, upload_seconds = 600 },
      log = { access = %q, audit = %q, format = "json", buffered = false },
    }]]):format(SECONDS, policy, folder .. "/access.log", folder .. "/audit.log") }
  end)
  teardown(support.cleanup)

  local function post(path, body, token)
    return http.call("POST", server.url .. "/v0.5/files/uploads/" .. path, token or server.token, body)
  end

  local names = 0
  local function initiate(token)
    names = names + 1
    local response = post("initiate", { filename = "n" .. names, file_type = "a/b", num_bytes = 40 * 1024 * 1024 },
      token)
    assert.equal(200, response.status, response.body)
    return response.json.upload_id
  end

  local function urls(id, token)
    return post(id .. "/parts/urls", { part_numbers = { 1, 3, 2 } }, token)
  end

  local function near() return server:counter "longshore_near_total" end

  -- Asks until the event loop answers; that answer.
  local function warm(id, token)
    return support.wait_until(function()
      local before = near()
      local response = urls(id, token)
      assert.equal(200, response.status, response.body)
      return near() > before and response
    end, 30)
  end

  -- What another process on this database does, without a word to this nginx.
  local function elsewhere(change)
    local store = assert(stores.open { type = "sqlite", path = server.data .. "/longshore.db" })
    local ok, err = change(store)
    store:close()
    assert.is_true(ok, tostring(err))
  end

  local until_status = http.until_status

  -- A new policy, which no thread is behind with.
  local function change(text)
    support.write_file(policy, text)
    socket.sleep(RECHECK + 0.1)
  end

  it("are those that a thread gives", function()
    local id = initiate()
    local first = urls(id)
    assert.equal(200, first.status, first.body)
    assert.equal(0, near())
    local second = assert(warm(id))
    assert.equal(3, #second.json.parts)
    for i, part in ipairs(second.json.parts) do
      local other = first.json.parts[i]
      assert.same({ other.part_number, other.offset, other.length },
        { part.part_number, part.offset, part.length })
      assert.equal(other.url:match("^[^?]*"), part.url:match("^[^?]*"))
    end
    assert.truthy(second.headers["x-request-id"])
    local put = http.request { method = "PUT", url = second.json.parts[3].url,
      body = ("x"):rep(second.json.parts[3].length) }
    assert.equal(200, put.status, put.body)
  end)

  it("are for an upload's owner only", function()
    local id = initiate()
    assert.truthy(warm(id))
    for _, whose in ipairs { "--organization other", "--tenant other" } do
      local token = mounted.longshore(("token create --data %s --user eve %s"):format(quote(server.data), whose))
        :match("ls_[%w_]+")
      assert.equal(404, urls(id, token).status)
      assert.equal(404, urls(id, token).status)
    end
    assert.equal(401, urls(id, "ls_aaaaaaaaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").status)
    assert.equal(401, urls(id, server.token:sub(1, -2) .. (server.token:sub(-1) == "a" and "b" or "a")).status)
    assert.equal(200, urls(id).status)
  end)

  it("end with the answer to abort", function()
    for _ = 1, 20 do
      local id = initiate()
      urls(id)
      assert.equal(200, urls(id).status)
      assert.equal(200, post(id .. "/abort").status)
      assert.equal(404, urls(id).status)
    end
  end)

  it("end with the answer to complete", function()
    local id = initiate()
    local parts = {}
    for i, part in ipairs(post(id .. "/parts/urls", { part_numbers = { 1, 2, 3 } }).json.parts) do
      local put = http.request { method = "PUT", url = part.url, body = ("x"):rep(part.length) }
      parts[i] = { part_number = i, part_token = put.headers.etag }
    end
    assert.truthy(warm(id))
    local done = post(id .. "/complete", { parts = parts })
    assert.equal(200, done.status, done.body)
    assert.equal(409, urls(id).status)
  end)

  it("go on after a checkpoint", function()
    local id = initiate()
    assert.truthy(warm(id))
    assert.equal(200, post(id .. "/parts/checkpoint", { parts = { { part_number = 1, part_token = "x" } } }).status)
    assert.truthy(warm(id))
  end)

  it("end soon after a token was revoked elsewhere", function()
    local out = mounted.longshore(("token create --data %s --user ann --json"):format(quote(server.data)))
    local token, id = out:match("ls_[%w_]+"), out:match("tok_%w+")
    local upload = initiate(token)
    assert.truthy(warm(upload, token))
    mounted.longshore(("token revoke --data %s %s"):format(quote(server.data), id))
    until_status(401, function() return urls(upload, token) end, SECONDS)
  end)

  -- (What ends only when it is known by the event loop ends in time on a slow machine as well.)
  local LEFT = SECONDS + 2

  it("end with a token's time", function()
    local out = mounted.longshore(("token create --data %s --user ann --expires 1h --json"):format(quote(server.data)))
    local token, token_id = out:match("ls_[%w_]+"), out:match("tok_%w+")
    local id = initiate(token)
    assert.truthy(warm(id, token))
    elsewhere(function(store)
      return store.db:exec("UPDATE tokens SET expires_at = ?i WHERE id = ?",
        math.floor((socket.gettime() + LEFT) * 1000), token_id) == 1
    end)
    until_status(401, function() return urls(id, token) end, LEFT)
    assert.equal(200, urls(id).status)
  end)

  it("end soon after an upload was aborted elsewhere, however often they are asked for", function()
    local id = initiate()
    assert.truthy(warm(id))
    elsewhere(function(store)
      local row = assert(store:upload(id))
      return store:begin_undo(id, { from = { "uploading" }, to = "aborting", now = socket.gettime(),
        cleanup = { id = "cln_" .. id:sub(5), kind = "undo", upload_id = id, provider = row.provider, key = row.key,
          due = socket.gettime() + 600, attempts = 0, created_at = socket.gettime() } })
    end)
    until_status(404, function() return urls(id) end, SECONDS)
  end)

  it("are for as long as an upload has that was extended elsewhere", function()
    local id = initiate()
    local first = urls(id).json.parts[1].expires_at
    assert.truthy(warm(id))
    elsewhere(function(store) return store:extend_upload(id, socket.gettime() + 300, socket.gettime()) end)
    local changed = socket.gettime()
    assert.truthy(support.wait_until(function()
      local asked = socket.gettime()
      if urls(id).json.parts[1].expires_at < first then return true end
      assert.is_true(asked - changed < SECONDS + 0.2)
    end, 30))
  end)

  it("are counted and logged like those from a thread", function()
    local id = initiate()
    assert.truthy(warm(id))
    local function requests()
      return server:counter 'longshore_requests_total{operation="newton.part_urls",status="200"}'
    end
    -- (Now and then a thread answers, which reads the rows anew.)
    local before, counted, asked = near(), requests(), 0
    assert.truthy(support.wait_until(function()
      asked = asked + 1
      assert.equal(200, urls(id).status)
      return near() >= before + 5
    end, 30))
    assert.is_true(near() <= before + asked)
    assert.equal(counted + asked, requests())
    local last = assert(warm(id)).headers["x-request-id"]
    for _, name in ipairs { "access", "audit" } do
      local line
      support.wait_until(function()
        line = support.read_file(folder .. "/" .. name .. ".log"):match("[^\n]*" .. last .. "[^\n]*\n")
        return line
      end, 30)
      assert.truthy(line, name)
      for _, word in ipairs { "newton.part_urls", "admin", "200" } do
        assert.truthy(line:find(word, 1, true), line)
      end
    end
    assert.truthy(support.read_file(folder .. "/audit.log"):find(id, 1, true))
  end)

  it("count against a token's rate once each", function()
    local token = mounted.longshore(("token create --data %s --user rae --rate 6/1h"):format(quote(server.data)))
      :match("ls_[%w_]+")
    local id = initiate(token)
    for _ = 1, 5 do assert.equal(200, urls(id, token).status) end
    assert.equal(429, urls(id, token).status)
  end)

  it("end with an upload's time", function()
    local id = initiate()
    assert.truthy(warm(id))
    elsewhere(function(store) return store:extend_upload(id, socket.gettime() + LEFT, socket.gettime()) end)
    until_status(409, function() return urls(id) end, LEFT)
  end)

  it("are left to the threads where a rule has a say in them", function()
    local id = initiate()
    change [[local rules = require "longshore.policy.rules"
return { rules.expiry { url = 33 } }]]
    -- Whether they are for as long as the rule says; the time is in whole seconds.
    local function ruled()
      local asked = socket.gettime()
      local expires = dates.parse_time(urls(id).json.parts[1].expires_at) - 33
      return expires > asked - 2 and expires < socket.gettime() + 2
    end
    assert.truthy(support.wait_until(ruled, 30))
    local before = near()
    for _ = 1, 3 do assert.is_true(ruled()) end
    assert.equal(before, near())
    change "return {}\n"
    assert.truthy(warm(id))
  end)

  it("are left to the threads where a policy may take another actor for the host's", function()
    local near_room = require "longshore.nginx.near"
    local function takes(file, actor)
      return near_room.takes({ broker = { cache_seconds = 2 }, config = { policy = { file = file } } }, { near = true },
        { body = "{}", actor = actor })
    end
    assert.is_true(takes(nil, nil))
    assert.is_true(takes("policy.lua", nil))
    assert.is_true(takes(nil, { user = "ann" }))
    assert.is_false(takes("policy.lua", { user = "ann" }))
  end)

  it("are left to the threads while the policy has a say in them", function()
    local id = initiate()
    assert.truthy(warm(id))
    for _, hook in ipairs { "before_sign", "authorize", "authenticate" } do
      change(([[return { %s = function(context)
        if context.operation ~= "initiate" and not (context.path or ""):find("initiate") then
          return false, "closed today" end
      end }]]):format(hook))
      until_status(403, function() return urls(id) end, SECONDS)
      local before = near()
      for _ = 1, 3 do assert.equal(403, urls(id).status) end
      assert.equal(before, near())
      change "return {}\n"
      until_status(200, function() return urls(id) end, SECONDS)
      assert.truthy(warm(id))
    end
  end)
end)

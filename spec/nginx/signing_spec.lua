-- Parts of uploads that nginx has signed in threads, because the policy has a say in them: many that come together
-- share one, from rows that were read a moment ago. See longshore.nginx.batches and longshore.nginx.near.
local burst = require "spec.support.burst"
local dates = require "longshore.dates"
local http = require "spec.support.http"
local mounted = require "spec.support.mounted"
local relay = require "spec.support.relay"
local serve = require "spec.support.serve"
local socket = require "socket"
local stores = require "longshore.store"
local support = require "spec.support"

local quote = support.quote
local MANY, SECONDS = 40, 2

describe("parts that come together to be signed by a policy's leave", function()
  local server, between

  setup(function()
    local store_port = support.free_port()
    between = relay.start { target = "127.0.0.1:" .. store_port }
    local policy = support.write_file(support.tmpdir() .. "/policy.lua", [[return {
      before_sign = function(context)
        local name = context.upload.filename
        -- (A start asks for 1, 2 and 3.)
        if name:find("^refused") and context.numbers[2] ~= 2 then return false, "not this one" end
        if name:find("^slow") then for _ = 1, 400000 do end end
        if name:find("^short") then return { url_seconds = 33 } end
        if name:find("^count") then return { url_seconds = 1000 * #context.numbers } end
      end }]])
    server = serve.start { store_port = store_port, config = ([[return {
      broker = { threads = 2, queue = 100, cache_seconds = %d, janitor_seconds = 0 }, policy = { file = %q },
      diskstore = { credentials = { { access_key = "AKSPEC", secret_key = "secret-of-the-spec" } } },
      buckets = { default = { profile = "diskstore", bucket = "longshore", region = "us-east-1", endpoint = %q,
        access_key = "AKSPEC", secret_key = "secret-of-the-spec", timeout = 60 } },
    }]]):format(SECONDS, policy, between.endpoint) }
  end)
  teardown(support.cleanup)

  local names = 0
  local function initiate(prefix)
    names = names + 1
    local answer = http.call("POST", server.url .. "/v0.5/files/uploads/initiate", server.token,
      { filename = prefix .. names, file_type = "a/b", num_bytes = 40 * 1024 * 1024 })
    assert.equal(200, answer.status, answer.body)
    return answer.json.upload_id
  end

  local function path(id) return ("/v0.5/files/uploads/%s/parts/urls"):format(id) end

  local function urls(id, token)
    return http.call("POST", server.url .. path(id), token or server.token, { part_numbers = { 1 } })
  end

  local function new_token(options)
    return mounted.longshore(("token create --data %s %s"):format(quote(server.data), options)):match("ls_[%w_]+")
  end

  it("each get their own answer", function()
    local ids = { plain = initiate "plain", refused = initiate "refused", short = initiate "short",
      count = initiate "count", nobodys = "upl_" .. ("a"):rep(26) }
    local other = new_token "--user eve --organization other"
    local kinds = { "plain", "refused", "short", "count", "nobodys", "plain" }
    local paths, bodies, tokens, requests = {}, {}, {}, {}
    for i = 1, MANY do
      paths[i] = path(ids[kinds[i % #kinds + 1]])
      bodies[i] = { part_numbers = i % 2 == 0 and { 1, 3, 2 } or { 2 } }
      tokens[i] = i % 8 == 0 and other or nil
    end
    local before = server:counter "longshore_together_total"
    local wanted = { plain = 200, refused = 403, short = 200, count = 200, nobodys = 404 }
    -- Two starts of uploads that keep both threads, until the others have come.
    between:clear()
    between:rules { { method = "POST", hold_answer = true } }
    local first = {}
    for i = 1, 2 do
      first[i] = burst.send(server, "/v0.5/files/uploads/initiate",
        { filename = "first" .. i, file_type = "a/b", num_bytes = 5 })
    end
    assert.truthy(support.wait_until(function() return #between:log() == 2 end, 30))
    local function come()
      http.taken(server.port)
      between:rules {}
    end
    for _ = 1, 3 do -- the first read the rows, the others have them
      for i, answer in ipairs(burst.all(server, paths, bodies, tokens, come)) do
        local kind = kinds[i % #kinds + 1]
        assert.equal(tokens[i] and 404 or wanted[kind], answer.status, answer.body)
        assert.is_nil(requests[answer.headers["x-request-id"]])
        requests[answer.headers["x-request-id"]] = true
        if answer.status == 200 then
          local numbers = {}
          for n, part in ipairs(answer.json.parts) do numbers[n] = part.part_number end
          assert.same(bodies[i].part_numbers, numbers)
          local left = dates.parse_time(answer.json.parts[1].expires_at) - socket.gettime()
          if kind == "short" then assert.near(33, left, 30) end
          if kind == "count" then assert.near(1000 * #numbers, left, 30) end
        end
      end
    end
    for _, connection in ipairs(first) do
      assert.equal(200, http.read(connection, "POST").status)
      connection:close()
    end
    assert.is_true(server:counter "longshore_together_total" > before)
    assert.equal(0, server:counter "longshore_near_total")
  end)

  it("count against a token's rate once each, those too that a slow hook keeps from company", function()
    local token, id = new_token "--user rae --rate 15/1h", initiate "slow"
    local paths, bodies, tokens, counts = {}, {}, {}, {}
    for i = 1, MANY do paths[i], bodies[i], tokens[i] = path(id), { part_numbers = { 1 } }, token end
    for _, answer in ipairs(burst.all(server, paths, bodies, tokens)) do
      counts[answer.status] = (counts[answer.status] or 0) + 1
    end
    assert.same({ [200] = 15, [429] = MANY - 15 }, counts)
  end)

  it("end with the answer to abort", function()
    for _ = 1, 10 do
      local id = initiate "plain"
      assert.equal(200, urls(id).status)
      assert.equal(200, urls(id).status)
      assert.equal(200, http.call("POST", server.url .. "/v0.5/files/uploads/" .. id .. "/abort", server.token).status)
      assert.equal(404, urls(id).status)
    end
  end)

  it("end soon after a token was revoked, or the upload aborted, elsewhere", function()
    local out = mounted.longshore(("token create --data %s --user ann --json"):format(quote(server.data)))
    local token, token_id = out:match("ls_[%w_]+"), out:match("tok_%w+")
    local id, aborted = initiate "plain", initiate "plain"
    assert.equal(200, urls(id, token).status)
    assert.equal(200, urls(aborted).status)
    local store = assert(stores.open { type = "sqlite", path = server.data .. "/longshore.db" })
    local now = socket.gettime()
    assert.is_true(store:revoke_token(token_id, now))
    assert.is_true(store:begin_undo(aborted, { from = { "uploading" }, to = "aborting", now = now,
      cleanup = { id = "cln_" .. aborted:sub(5), kind = "undo", upload_id = aborted, provider = "default", key = "k",
        due = now + 600, attempts = 0, created_at = now } }))
    store:close()
    local changed = socket.gettime()
    for status, ask in pairs { [401] = function() return urls(id, token) end,
      [404] = function() return urls(aborted) end } do
      http.until_status(status, ask, SECONDS + changed - socket.gettime())
    end
  end)
end)

-- No secret comes out: a server that logs all it can is used rightly and
-- wrongly, and everything it wrote and answered is searched.
local core = require "longshore.core"
local http = require "spec.support.http"
local json = require "longshore.json"
local lfs = require "lfs"
local relay = require "spec.support.relay"
local serve = require "spec.support.serve"
local support = require "spec.support"

local SECRET, JWT_SECRET = "store-secret-of-the-redaction-spec", ("jwt-secret-of-the-redaction-spec"):rep(2)

describe("a server that is used rightly and wrongly", function()
  teardown(support.cleanup)

  it("writes and answers nothing that could be used", function()
    local folder, store_port = support.tmpdir(), support.free_port()
    local between = relay.start { target = "127.0.0.1:" .. store_port }
    local server = serve.start { store_port = store_port, config = ([[return {
      broker = { threads = 2, janitor_seconds = 1, rate = { requests = 200, seconds = 60 } },
      diskstore = { credentials = { { access_key = "AKSPEC", secret_key = %q } } },
      buckets = { default = { profile = "diskstore", bucket = "longshore", region = "us-east-1", endpoint = %q,
        public_endpoint = "http://127.0.0.1:%d", access_key = "AKSPEC", secret_key = %q } },
      auth = { jwt = { issuer = "i", audience = "a", keys = { { algorithm = "HS256", secret = %q } } } },
      log = { level = "debug", access = %q, format = "json", audit = %q },
    }]]):format(SECRET, between.endpoint, store_port, SECRET, JWT_SECRET, folder .. "/access.log",
      folder .. "/audit.log") }
    local secrets = { SECRET, JWT_SECRET, server.token, server.token:match("_([^_]+)$") }
    local said = {}
    local function say(response)
      said[#said + 1] = response.body or ""
      for name, value in pairs(response.headers) do said[#said + 1] = name .. ": " .. value end
      return response
    end
    local names = 0
    local function initiate(token)
      names = names + 1
      return http.call("POST", server.url .. "/v0.5/files/uploads/initiate", token,
        { filename = "r" .. names, file_type = "a/b", num_bytes = 5 })
    end
    local function jwt(secret, org)
      local data = core.base64url '{"alg":"HS256"}' .. "." .. core.base64url(json.encode { iss = "i", aud = "a",
        sub = "ann", org = org, scope = "upload read delete", exp = math.floor(core.now()) + 600 })
      return data .. "." .. core.base64url(core.hmac_sha256(secret, data))
    end
    -- Rightly. (These answers hand out URLs; who asked may have them.)
    local web = jwt(JWT_SECRET, "acme")
    secrets[#secrets + 1] = web
    secrets[#secrets + 1] = web:match("[^.]+$")
    for _, token in ipairs { server.token, web } do
      local started = initiate(token)
      assert.equal(200, started.status, started.body)
      local url = started.json.parts[1].url
      secrets[#secrets + 1] = url:match("X%-Amz%-Signature=(%x+)")
      local put = say(http.request { method = "PUT", url = url, body = "hello" })
      assert.equal(200, put.status)
      -- Wrongly: other bytes, another object, an expired or a broken signature.
      say(http.request { method = "PUT", url = url, body = "hello, longer" })
      say(http.request { method = "GET", url = url })
      say(http.request { method = "PUT", url = (url:gsub("longshore/", "longshore/x", 1)), body = "hello" })
      say(http.request { method = "PUT", url = (url:gsub("Expires=%d+", "Expires=1")), body = "hello" })
      say(http.request { method = "PUT", url = server.url .. url:match("^http://[^/]+(.*)$"), body = "hello" })
      say(http.call("POST", ("%s/v0.5/files/uploads/%s/complete"):format(server.url, started.json.upload_id), token,
        { parts = { { part_number = 1, part_token = put.headers.etag } } }))
      local file = http.call("GET", server.url .. "/v0.5/files/download/" .. started.json.file_uid, token)
      assert.equal(302, file.status, file.body)
      secrets[#secrets + 1] = file.headers.location:match("X%-Amz%-Signature=(%x+)")
    end
    -- Tokens that are not valid, and in the wrong place.
    for _, bad in ipairs { jwt(("x"):rep(64), "acme"), jwt(JWT_SECRET, ""),
      server.token:sub(1, -2) .. (server.token:find("a$") and "b" or "a") } do
      secrets[#secrets + 1] = bad
      assert.equal(401, say(http.call("GET", server.url .. "/v0.5/files/info", bad)).status)
    end
    say(http.request { url = server.url .. "/v0.5/files/info?token=" .. server.token })
    say(http.request { url = server.url .. "/v0.5/files/info", headers = { Authorization = "Basic " .. server.token } })
    say(http.call("POST", server.url .. "/v0.5/files/uploads/initiate", server.token, "{ not json " .. server.token))
    say(http.raw(server.port, "GET /%00?token=" .. server.token .. " HTTP/1.1\r\nHost: x\r\n\r\n"))
    -- The store fails in several ways.
    for _, rule in ipairs { { status = 403, body = "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message>"
      .. "</Error>" }, { status = 400, body = "nonsense" }, { cut_answer = 10 } } do
      between:rules { rule }
      say(initiate(server.token))
    end
    between:rules {}
    say(http.request { url = server.url .. "/metrics" })
    say(http.request { url = server.url .. "/readyz" })
    assert.equal(0, server:stop())

    local places = { said = table.concat(said, "\n"), log = support.read_file(server.log),
      access = support.read_file(folder .. "/access.log"), audit = support.read_file(folder .. "/audit.log") }
    -- (The configuration that nginx reads and the first token are 0600, and what they are for.)
    local function collect(path)
      for name in lfs.dir(path) do
        local below = path .. "/" .. name
        local mode = lfs.attributes(below, "mode")
        if name ~= "." and name ~= ".." and name ~= "objects" then
          if mode == "directory" then
            collect(below)
          elseif mode == "file" and name ~= "token" and name ~= "config.lua" and name ~= "diskstore-credentials" then
            places[below] = support.read_file(below)
          end
        end
      end
    end
    collect(server.data)
    assert.truthy(#places.log > 1000 and #places.access > 1000 and #places.audit > 500)
    assert.truthy(#secrets >= 13)
    -- What may be there is there: the search looks where things are written.
    assert.truthy(places.access:find('"organization":"acme"', 1, true))
    assert.truthy(places.audit:find('"operation":"newton.complete"', 1, true))
    assert.truthy(places[server.data .. "/longshore.db"] or places[server.data .. "/longshore.db-wal"])
    for place, text in pairs(places) do
      for i, secret in ipairs(secrets) do
        local at = text:find(secret, 1, true)
        assert.is_nil(at, at and ("secret %d is in %s: %s"):format(i, place, text:sub(math.max(1, at - 200), at + 20)))
      end
    end
    assert.equal("rw-------", lfs.attributes(server.data .. "/run/config.lua", "permissions"))
    assert.equal("rw-------", lfs.attributes(server.data .. "/token", "permissions"))
  end)
end)

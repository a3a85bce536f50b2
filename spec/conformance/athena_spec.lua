-- The athena service as it is served: real nginx, real disk store. Requests are those of the
-- official SDK (xylex-group/athena-js 5.2.0) as they were recorded: its headers, its order of calls,
-- its omissions; `longshore put` and `get` are proven against the same server with faults in between.
local apps = require "spec.service.athena.app"
local areas = require "longshore.config.areas"
local core = require "longshore.core"
local http = require "spec.support.http"
local json = require "longshore.json"
local relay = require "spec.support.relay"
local serve = require "spec.support.serve"
local stores = require "longshore.store"
local support = require "spec.support"
local tokens = require "longshore.broker.tokens"

local shape, refused = apps.shape, apps.refused
local MiB = 1048576
local CATALOG = areas.catalog_id "north"
local NOBODY = "00000000-0000-4000-8000-000000000000"

-- What the SDK sends with every call (in its order, apart from what differs by caller).
local SDK = {
  "accept: */*", "accept-language: *", "sec-fetch-mode: cors", "user-agent: node",
  "accept-encoding: gzip, deflate", "x-athena-sdk: xylex-group/athena 5.2.0", "x-strip-nulls: true",
}

local function bytes(n, tag)
  return ((tag or "athena") .. core.hex(core.random(61))):rep(math.ceil(n / 128)):sub(1, n)
end

describe("the athena service, served", function()
  local server, doors, token, people

  local function make_token(user, organization, tenant, rights)
    local store = assert(stores.open { type = "sqlite", path = server.data .. "/longshore.db" })
    local made = assert(tokens.new({ store = store }):create { user = user, organization = organization,
      tenant = tenant, rights = rights or { "read", "upload", "delete" } })
    store:close()
    return made.token
  end

  setup(function()
    local store_port = support.free_port()
    doors = { store = relay.start { target = "127.0.0.1:" .. store_port } }
    server = serve.start { store_port = store_port, config = ([[return {
      diskstore = { public_endpoint = %q, fsync = false, buckets = { "longshore", "other-files", "third-files" } },
      services = { athena = {
        clients = { north = { bucket = "default" }, south = { bucket = "default" } }, default_client = "north",
        keys = { { id = "k1", key = %q } }, max_batch = 5, tunnel_max = 8 * MiB,
        trusted_addresses = { "127.0.0.1" } } },
      cors = { origins = { "https://app.example" } } }]]):format(doors.store.endpoint, apps.KEY) }
    doors.broker = relay.start { target = "127.0.0.1:" .. server.port }
    token = make_token("ann", "acme", "north")
    people = {
      bob = make_token("bob", "acme", "north"), eve = make_token("eve", "other", "north"),
      south = make_token("ann", "acme", "south"), admin = make_token("root", "acme", "north", { "admin" }),
      reader = make_token("ann", "acme", "north", { "read" }), key = make_token("app", "acme", "north", { "upload" }),
    }
  end)
  teardown(function()
    for _, door in pairs(doors) do door:stop() end -- their connections would be waited for
    server:stop()
    support.cleanup()
  end)
  before_each(function()
    doors.store:clear()
    doors.broker:clear()
  end)

  -- A call as the SDK's gateway client makes it: the session in three places.
  local function call(method, path, value, more)
    more = more or {}
    local headers = {}
    for i, line in ipairs(SDK) do headers[i] = line end
    local as = more.token
    if as == nil then as = token end
    if as then
      headers[#headers + 1] = "cookie: theme=dark; athena-auth.session-token=" .. as
      headers[#headers + 1] = "x-athena-auth-session-token: " .. as
      headers[#headers + 1] = "x-athena-auth-bearer-token: " .. as
    end
    if more.client ~= false then headers[#headers + 1] = "x-athena-client: " .. (more.client or "north") end
    local body
    if value ~= nil then
      body = type(value) == "string" and value or json.encode(value)
      headers[#headers + 1] = "content-type: application/json"
    end
    for _, line in ipairs(more.headers or {}) do headers[#headers + 1] = line end
    local response = assert(http.request { method = method, url = server.url .. "/storage/" .. path, headers = headers,
      body = body })
    if response.body:find("^%s*[{%[]") then response.json = assert(json.decode(response.body)) end
    return response
  end

  -- putUploadBody: upload.headers, then Content-Type from the source; no session.
  local function put(upload, body, kind)
    local headers = { "accept: */*", "user-agent: node" }
    for name, value in pairs(upload.headers or {}) do headers[#headers + 1] = name .. ": " .. value end
    if kind then headers[#headers + 1] = "content-type: " .. kind end
    return assert(http.request { method = "PUT", url = upload.url, body = body, headers = headers })
  end

  local function request(key, body, more)
    local name = key:match("[^/]*$")
    local r = { s3_id = CATALOG, storage_key = key, name = name, original_name = name, mime_type = "text/plain",
      content_type = "text/plain", size_bytes = body and #body or nil }
    for k, v in pairs(more or {}) do r[k] = v end
    return r
  end

  local function sdk_upload(key, body, more, as)
    local answer = call("POST", "files/upload-url", request(key, body, more), as)
    assert.equal(201, answer.status, answer.body)
    local data = answer.json.data
    assert.equal(200, put(data.upload, body, "text/plain").status)
    return data.file.id, data
  end

  local function content(id, as)
    local answer = call("GET", ("files/%s/url?purpose=read"):format(id), nil, as)
    assert.equal(200, answer.status, answer.body)
    local got = assert(http.request { url = answer.json.data.url })
    assert.equal(200, got.status, got.body)
    return got.body, got
  end

  it("carries the SDK's upload of one file, which nobody confirms", function()
    local body = bytes(20000)
    local before = os.time()
    local id, data = sdk_upload("notes/one.txt", body)
    assert.is_nil(data.file.deleted_at) -- x-strip-nulls
    assert.equal("presigned", data.file.status)
    assert.equal("upload", data.upload.purpose)
    assert.equal(data.upload.expires_at_epoch_seconds, math.floor(data.upload.expires_at_epoch_seconds))
    assert.equal(data.upload.expires_at, os.date("!%Y-%m-%dT%H:%M:%SZ", data.upload.expires_at_epoch_seconds))
    local signed = data.upload.expires_at_epoch_seconds - data.upload.expires_in
    assert.is_true(signed >= before - 1 and signed <= os.time() + 1)
    local file = shape(call("GET", "files/" .. id, nil, { headers = { "x-strip-nulls: false" } }), 200, "File").file
    assert.equal("available", file.status)
    assert.equal(#body, file.size_bytes)
    assert.equal(body, (content(id)))
  end)

  it("carries the SDK's upload of several files, in the order of the request", function()
    local bodies, files = {}, json.array()
    for i = 1, 4 do
      bodies[i] = bytes(100 * i, "file" .. i)
      files[i] = request(("many/%d.txt"):format(5 - i), bodies[i])
    end
    local answer = call("POST", "files/upload-urls", { files = files })
    assert.equal(201, answer.status, answer.body)
    for i, entry in ipairs(answer.json.data.files) do
      assert.equal(files[i].storage_key, entry.file.storage_key)
      assert.equal(200, put(entry.upload, bodies[i], "text/plain").status)
    end
    for i, entry in ipairs(answer.json.data.files) do assert.equal(bodies[i], (content(entry.file.id))) end
    local list = call("POST", "files/list", { s3_id = CATALOG, prefix = "many/" }).json.data
    assert.equal(4, list.count)
  end)

  it("carries the SDK's multipart upload, part by part, with the ETags as they came", function()
    local body = bytes(11 * MiB)
    local data = call("POST", "files/upload-url", request("big/file.bin", body)).json.data
    local id = data.file.id
    local created = call("POST", "multipart/create", { file_id = id, content_type = "application/octet-stream" })
    assert.equal(200, created.status, created.body)
    local upload_id, parts = created.json.data.upload_id, json.array()
    for number = 1, 3 do
      local signed = call("POST", "multipart/sign-part", { file_id = id, upload_id = upload_id, part_number = number })
      assert.equal(200, signed.status, signed.body)
      local answer = put(signed.json.data, body:sub((number - 1) * 5 * MiB + 1, number * 5 * MiB))
      assert.equal(200, answer.status)
      assert.matches('^".+"$', answer.headers.etag)
      parts[number] = { part_number = number, etag = answer.headers.etag }
    end
    local listed = shape(call("POST", "multipart/list-parts", { file_id = id, upload_id = upload_id }), 200, "Parts")
    assert.same({ parts[1].etag, parts[2].etag, 5 * MiB, MiB },
      { listed.parts[1].etag, listed.parts[2].etag, listed.parts[1].size_bytes, listed.parts[3].size_bytes })
    local done = call("POST", "multipart/complete", { file_id = id, upload_id = upload_id, parts = parts })
    assert.equal(200, done.status, done.body)
    assert.equal("available", done.json.data.file.status)
    assert.equal(core.crc32c(body), core.crc32c((content(id))))
    -- a repeated complete is the same success; nothing is left to abort
    assert.equal(200, call("POST", "multipart/complete", { file_id = id, upload_id = upload_id, parts = parts }).status)
    refused(call("POST", "multipart/abort", { file_id = id, upload_id = upload_id }), 409)
  end)

  it("aborts as the SDK does after a failed part", function()
    local data = call("POST", "files/upload-url", request("big/aborted.bin")).json.data
    local upload_id = call("POST", "multipart/create", { file_id = data.file.id }).json.data.upload_id
    local named = { file_id = data.file.id, upload_id = upload_id }
    local signed = call("POST", "multipart/sign-part", { file_id = data.file.id, upload_id = upload_id,
      part_number = 1 }).json.data
    assert.equal(200, put(signed, bytes(1000)).status)
    assert.equal(200, call("POST", "multipart/abort", named).status)
    assert.equal(200, call("POST", "multipart/abort", named).status)
    assert.equal(404, put(signed, bytes(1000)).status)
    for _, path in ipairs { "list-parts", "complete" } do
      local r = { file_id = data.file.id, upload_id = upload_id,
        parts = json.array { { part_number = 1, etag = '"x"' } } }
      refused(call("POST", "multipart/" .. path, r), 404)
    end
  end)

  it("takes raw bytes through the tunnel, spooled and not in memory", function()
    local id = call("POST", "files/upload-url", request("tunnel/a.bin")).json.data.file.id
    for _, body in ipairs { bytes(6 * MiB), "", bytes(300) } do
      local answer = assert(http.request { method = "PUT", url = ("%s/storage/files/%s/upload"):format(server.url, id),
        headers = { "x-athena-client: north", "x-athena-auth-session-token: " .. token,
          "content-type: image/png" }, body = body })
      answer.json = json.decode(answer.body)
      local file = shape(answer, 200, "File").file
      assert.equal(#body, file.size_bytes)
      assert.equal("image/png", file.mime_type)
      assert.equal(core.hex(core.sha256(body)), file.checksum_sha256)
      local got, answered = content(id)
      assert.equal(core.crc32c(body), core.crc32c(got))
      assert.equal("image/png", answered.headers["content-type"])
    end
    -- who may not, or sends too much, is told before the body is read
    local function tunnel(headers, length)
      local lines = { ("PUT /storage/files/%s/upload HTTP/1.1"):format(id), "Host: x", "Connection: close",
        "x-athena-client: north", "Content-Length: " .. length }
      for _, line in ipairs(headers) do lines[#lines + 1] = line end
      return http.raw(server.port, table.concat(lines, "\r\n") .. "\r\n\r\n")
    end
    assert.equal(401, tunnel({}, 1000).status)
    assert.equal(403, tunnel({ "x-athena-auth-session-token: " .. people.reader }, 1000).status)
    assert.equal(413, tunnel({ "x-athena-auth-session-token: " .. token }, 9 * MiB).status)
    assert.equal(300, call("GET", "files/" .. id).json.data.file.size_bytes)
  end)

  it("asks who is there before it reads the body, and says so in its own shape", function()
    for _, body in ipairs { "{broken", "", "[]", ("x"):rep(100000) } do
      refused(call("POST", "files/upload-url", body, { token = false }), 401)
      refused(call("POST", "files/upload-url", body, { client = false }), 400, "X%-Athena%-Client")
      refused(call("POST", "files/upload-url", body, { token = people.reader }), 403)
      refused(call("POST", "files/upload-url", body), 400)
    end
    refused(call("POST", "files/upload-url", request "x", { client = "nowhere" }), 400, "no such client")
    refused(call("POST", "files/upload-url", request "x", { client = "south" }), 400, "no such client")
    refused(call("GET", "nothing/here"), 404)
    refused(call("PUT", "files/list"), 405)
  end)

  it("finds the session in header, cookie of both spellings, and bearer", function()
    for _, line in ipairs { "x-athena-auth-session-token: %s", "x-athena-auth-bearer-token: %s",
      "cookie: athena-auth.session-token=%s", "cookie: a=b; athena-auth.session_token=%s; c=d",
      "authorization: Bearer %s" } do
      local answer = call("POST", "files/list", { s3_id = CATALOG },
        { token = false, headers = { line:format(token) } })
      assert.equal(200, answer.status, line)
    end
    -- DEFAULT_CLIENT, as the SDK says when nobody told it
    assert.equal(200, call("POST", "files/list", { s3_id = CATALOG }, { client = "DEFAULT_CLIENT" }).status)
    -- a key narrows what a session may
    local key = { "x-athena-key: " .. people.key }
    assert.equal(201, call("POST", "files/upload-url", request "key/a", { headers = key }).status)
    refused(call("POST", "files/list", { s3_id = CATALOG }, { headers = key }), 403, "key has not the right")
    refused(call("POST", "files/list", { s3_id = CATALOG }, { headers = { "x-athena-key: nonsense" } }), 401)
    refused(call("POST", "files/list", { s3_id = CATALOG }, { token = false, headers = key }), 401)
    -- trusted headers, from a configured address
    local trusted = { "x-user-id: ann", "x-organization-id: acme" }
    assert.equal(200, call("POST", "files/list", { s3_id = CATALOG }, { token = false, headers = trusted }).status)
  end)

  it("hands the same URL out again while it is young, from nginx's memory", function()
    local first = call("POST", "files/upload-url", request("cache/a.txt", "12345")).json.data.upload
    assert.is_false(first.cache_hit)
    assert.equal("none", first.cache_layer)
    local second = call("POST", "files/upload-url", request("cache/a.txt", "12345")).json.data.upload
    assert.is_true(second.cache_hit)
    assert.equal("memory", second.cache_layer)
    assert.equal(first.url, second.url)
    assert.equal(first.expires_at, second.expires_at)
    local third = call("POST", "files/upload-url", request("cache/a.txt", "123456")).json.data.upload
    assert.is_false(third.cache_hit)
  end)

  it("lets a browser's page upload and read ETag", function()
    local data = call("POST", "files/upload-url", request("cors/a.txt", "hello"), { headers = {
      "origin: https://app.example" } })
    assert.equal("https://app.example", data.headers["access-control-allow-origin"])
    local answer = assert(http.request { method = "PUT", url = data.json.data.upload.url, body = "hello",
      headers = { "origin: https://app.example", "content-type: text/plain" } })
    assert.equal(200, answer.status)
    assert.matches("ETag", answer.headers["access-control-expose-headers"])
  end)

  it("has catalogs of its own for each client, their secrets sealed", function()
    local function catalogs(more) return call("GET", "catalogs", nil, more).json.data end
    assert.equal(1, #catalogs())
    local r = { name = "more", endpoint = server.store_url, region = "us-east-1", bucket = "other-files",
      provider = "diskstore", force_path_style = true, default_prefix = "n/", access_key_id = "x", secret_key = "y" }
    local credentials = support.read_file(server.data .. "/diskstore-credentials")
    r.access_key_id, r.secret_key = credentials:match("access_key=(%S+)"), credentials:match("secret_key=(%S+)")
    refused(call("POST", "catalogs", r), 403)
    local admin = { token = people.admin, headers = { "x-strip-nulls: false" } }
    local made = call("POST", "catalogs", r, admin)
    local catalog = shape(made, 201, "Catalog")
    assert.is_nil(made.body:find(r.secret_key, 1, true))
    refused(call("POST", "catalogs", r, admin), 409, "shared with another")
    r.default_prefix = "n/deeper/"
    refused(call("POST", "catalogs", r, admin), 409, "shared with another")
    r.bucket, r.default_prefix = "longshore", ""
    refused(call("POST", "catalogs", r, admin), 409, "shared with another")
    shape(call("GET", "credentials", nil, admin), 200, "Credentials")
    refused(call("GET", "credentials"), 403)
    assert.equal(2, #catalogs())
    assert.equal(1, #catalogs { token = people.south, client = "south" })
    -- nothing in clear in the database
    local function lines_with(word)
      return tonumber((select(2, support.run(("cat %s/longshore.db* | grep -ac %s"):format(server.data, word)))))
    end
    assert.is_true(lines_with(r.access_key_id) > 0)
    assert.equal(0, lines_with(r.secret_key))
    -- and it works
    local body = bytes(5000)
    local id = sdk_upload("in/another.txt", body, { s3_id = catalog.id })
    assert.equal(body, (content(id)))
    refused(call("DELETE", "catalogs/" .. catalog.id, nil, admin), 409, "1 files")
    -- a file may move to another bucket of its catalog, and only there
    refused(call("PATCH", "files/" .. id, { storage_key = "b.txt", bucket = "third-files" }), 400, "bucket")
    assert.equal(200, call("PATCH", "catalogs/" .. catalog.id, { buckets = json.array { "third-files" } }, admin)
      .status)
    local moved = call("PATCH", "files/" .. id, { storage_key = "b.txt", bucket = "third-files" })
    assert.equal(200, moved.status, moved.body)
    assert.equal("third-files", moved.json.data.file.bucket)
    assert.equal(body, (content(id)))
    assert.equal(200, call("DELETE", "files/" .. id).status)
    assert.equal(200, call("POST", "files/" .. id .. "/restore").status)
    assert.equal(body, (content(id)))
    refused(call("POST", "files/upload-url", request("x", "y", { s3_id = catalog.id }),
      { token = people.south, client = "south" }), 404)
    refused(call("POST", "files/upload-url", request("x", "y", { bucket = "longshore", s3_id = catalog.id })), 400,
      "bucket")
  end)

  it("keeps every operation from every wrong identity", function()
    local body = bytes(200)
    local id = sdk_upload("mine/a.txt", body)
    local upload_id = call("POST", "multipart/create", { file_id = id }).json.data.upload_id
    local part = { file_id = id, upload_id = upload_id, part_number = 1 }
    local named = { file_id = id, upload_id = upload_id }
    local ids = json.array { id }
    local operations = {
      { "POST", "files/upload-url", request("mine/a.txt", body), stranger = 403 },
      { "POST", "files/upload-url", request("mine/a.txt", body, { file_id = id }) },
      { "POST", "files/upload-urls", { files = json.array { request("mine/new.txt", "x"),
        request("mine/a.txt", body) } }, stranger = 403 },
      { "POST", "files/" .. id .. "/confirm-upload", {} },
      { "POST", "files/" .. id .. "/visibility", { public = true } },
      { "PATCH", "files/" .. id .. "/visibility", { visibility = "public" } },
      { "POST", "files/visibility-many", { file_ids = ids, public = true } },
      { "GET", "files/" .. id }, { "GET", "files/" .. id .. "/url" }, { "GET", "files/" .. id .. "/proxy" },
      { "PATCH", "files/" .. id, { storage_key = "stolen" } },
      { "POST", "files/update-many", { file_ids = ids, storage_key = "stolen/" } },
      { "DELETE", "files/" .. id }, { "POST", "files/delete-many", { file_ids = ids } },
      { "POST", "files/" .. id .. "/restore" }, { "DELETE", "files/" .. id .. "/purge" },
      { "PUT", "files/" .. id .. "/upload", "raw" },
      { "POST", "multipart/create", { file_id = id } }, { "POST", "multipart/sign-part", part },
      { "POST", "multipart/list-parts", named }, { "POST", "multipart/abort", named },
      { "POST", "multipart/complete", { file_id = id, upload_id = upload_id,
        parts = json.array { { part_number = 1, etag = '"x"' } } } },
    }
    for _, op in ipairs(operations) do
      local what = op[1] .. " " .. op[2]
      local function is(status, more)
        local answer = call(op[1], op[2], op[3], more)
        assert.equal(status, answer.status, what .. ": " .. answer.body)
        assert.equal("error", answer.json.status)
      end
      is(401, { token = false })
      is(401, { token = "ls_" .. ("a"):rep(16) .. "_" .. ("b"):rep(32) })
      is(400, { client = "south" })
      is(401, { headers = { "x-athena-key: " .. people.south } })
      is(op.stranger or 404, { token = people.bob })
      is(op.stranger or 404, { token = people.eve })
      -- The same user of the same organization, at another client: another world.
      local south = call(op[1], op[2], op[3], { token = people.south, client = "south" })
      assert.equal(404, south.status, what)
    end
    assert.equal(0, call("POST", "files/list", { s3_id = CATALOG, prefix = "mine/" }, { token = people.eve })
      .json.data.count)
    refused(call("POST", "files/list", { s3_id = CATALOG }, { token = people.south, client = "south" }), 404)
    assert.equal(0, call("POST", "files/search", { query = "a.txt" }, { token = people.south, client = "south" })
      .json.data.total)
    -- nothing has happened
    local file = call("GET", "files/" .. id).json.data.file
    assert.equal("mine/a.txt", file.storage_key)
    assert.equal("private", file.visibility)
    assert.equal(body, (content(id)))
    assert.equal(1, call("POST", "files/list", { s3_id = CATALOG, prefix = "mine/" }).json.data.count)
    -- what is shown to others may be read, not changed
    assert.equal(200, call("POST", "files/" .. id .. "/visibility", { visibility = "organization" }).status)
    assert.equal(body, (content(id, { token = people.bob })))
    refused(call("GET", "files/" .. id, nil, { token = people.eve }), 404)
    refused(call("DELETE", "files/" .. id, nil, { token = people.bob }), 403)
    assert.equal(200, call("POST", "files/" .. id .. "/visibility", { public = true }).status)
    assert.equal(body, (content(id, { token = people.eve })))
    refused(call("PATCH", "files/" .. id, { storage_key = "x" }, { token = people.eve }), 403)
  end)

  it("gives a key to one of many who ask at the same moment", function()
    local folder = support.tmpdir()
    for round = 1, 3 do
      local body = json.encode(request(("race/%d"):format(round)))
      local lines = {}
      for i = 1, 12 do
        lines[i] = ("curl -s -o %s/%d -w '%%{http_code}' -H 'content-type: application/json' "
          .. "-H 'x-athena-client: north' -H 'x-athena-auth-session-token: %s' -d %s "
          .. "%s/storage/files/upload-url > %s/%d.status &"):format(folder, i, i % 2 == 0 and token or people.bob,
          support.quote(body), server.url, folder, i)
      end
      support.run(table.concat(lines, "\n") .. "\nwait")
      local winners, ids = {}, {}
      for i = 1, 12 do
        local status = support.read_file(("%s/%d.status"):format(folder, i))
        local answer = json.decode(support.read_file(("%s/%d"):format(folder, i)))
        assert.is_true(status == "201" or status == "403", status)
        if status == "201" then
          winners[i % 2] = true
          ids[answer.data.file.id] = true
        end
      end
      assert.is_true((winners[0] == nil) ~= (winners[1] == nil))
      local first = next(ids)
      assert.is_nil((next(ids, first)))
    end
  end)

  it("answers no body with a 500", function()
    local id = sdk_upload("fuzz/a.txt", "fuzz")
    local words = { "null", "true", "-1", "1e400", '""', '"x"', "[]", "{}", "[[]]", '{"a":1}', '"\\u0000"', '"\\ud800"',
      "9007199254740993", "1.5", '"' .. ("k"):rep(2000) .. '"', ("[%q]"):format(id), ("%q"):format(id),
      ("%q"):format(CATALOG), '"../../x"', '"/a"', '"a//b"', "[null]", '[{"part_number":1,"etag":"x"}]' }
    local fields = { "s3_id", "storage_key", "bucket", "name", "size_bytes", "file_id", "file_ids", "files", "metadata",
      "visibility", "public", "upload_id", "part_number", "parts", "checksum_sha256", "content_type", "sse", "prefix",
      "query", "limit", "kms_key_id", "bucket_key_enabled" }
    local paths = { "files/upload-url", "files/upload-urls", "files/" .. id .. "/confirm-upload",
      "files/" .. id .. "/visibility", "files/visibility-many", "files/list", "files/search", "files/delete-many",
      "files/update-many", "multipart/create", "multipart/sign-part", "multipart/list-parts", "multipart/complete",
      "multipart/abort", "catalogs" }
    local seed = 7
    local function pick(list)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return list[seed % #list + 1]
    end
    local sent = 0
    for _, path in ipairs(paths) do
      for _ = 1, 14 do
        local pairs_of = { ('"s3_id":%q'):format(CATALOG), ('"storage_key":"fuzz/%d"'):format(sent) }
        for i = 1, 3 do pairs_of[i] = ('"%s":%s'):format(pick(fields), pick(words)) end
        local body = "{" .. table.concat(pairs_of, ",") .. "}"
        if sent % 7 == 0 then body = body:sub(1, -2) end
        if sent % 11 == 0 then body = pick(words) end
        local answer = call("POST", path, body, { token = people.admin })
        assert.is_true(answer.status < 500, path .. " " .. body .. ": " .. answer.body)
        sent = sent + 1
      end
    end
    assert.is_true(call("GET", "files/%00%ff/url").status < 500)
    refused(call("GET", "files/" .. id .. "/url?purpose=steal"), 400)
    refused(call("GET", "files/" .. NOBODY), 404)
  end)

  ---------------------------------------------------------------------------
  describe("longshore put and get", function()
    local folder

    setup(function() folder = support.tmpdir() end)

    local function longshore(command, words, more)
      more = more or {}
      local options = more.options or "--client north" .. (command == "put" and " --catalog " .. CATALOG or "")
      local line = ("cd %s && XDG_STATE_HOME=%s/state LONGSHORE_TOKEN=%s %s %s --service athena %s %s --json"):format(
        folder, folder, more.token or token, support.root .. "/build/bin/longshore", command, options, words)
      local code, out = support.run(line)
      local result
      for text in out:gmatch("[^\n]+") do
        local event = text:find("^{") and json.decode(text)
        if event and event.event == "result" then result = event end
      end
      return code, result, out
    end

    local function round_trip(name, body, more)
      support.write_file(folder .. "/" .. name, body)
      local code, result, out = longshore("put", ("%s %s"):format(name, doors.broker.endpoint), more)
      assert.equal(0, code, out)
      doors.store:rules {}
      doors.broker:rules {}
      os.remove(folder .. "/back")
      local got, _, why = longshore("get", ("%s %s -o back"):format(result.file_id, doors.broker.endpoint), more)
      assert.equal(0, got, why)
      assert.equal(core.crc32c(body), core.crc32c(assert(support.read_file(folder .. "/back"))))
      return result, out
    end

    it("brings small and large files there and back", function()
      round_trip("small.txt", bytes(1000))
      round_trip("empty.txt", "")
      local result = round_trip("large.bin", bytes(33 * MiB))
      assert.equal(5, result.parts)
      assert.equal("crc32c", result.compared)
      -- a client's only catalog need not be named
      round_trip("south.txt", bytes(3000), { token = people.south, options = "--client south" })
    end)

    it("brings identical bytes through whatever goes wrong on the way", function()
      local small, large = bytes(40000, "s"), bytes(33 * MiB, "l")
      for title, case in pairs {
        ["503 for the PUT"] = { store = { { method = "PUT", times = 2, status = 503 } } },
        ["a cut PUT"] = { store = { { method = "PUT", times = 1, cut = 1000 } } },
        ["an expired URL"] = { store = { { method = "PUT", times = 1, status = 403,
          body = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>" } } },
        ["a damaged PUT"] = { store = { { method = "PUT", times = 1, flip = 500 } } },
        ["a lost answer to upload-url"] = { broker = { { match = "/upload-url", times = 1, drop = true } } },
        ["a lost answer to confirm"] = { broker = { { match = "/confirm-upload", times = 1, drop = true } } },
        ["503 for confirm"] = { broker = { { match = "/confirm-upload", times = 1, status = 503 } } },
        ["no confirm at all"] = { broker = { { match = "/confirm-upload", times = 1, status = 405 } } },
        ["a part cut"] = { large = true, store = { { method = "PUT", match = "partNumber=2", times = 1,
          cut = 70000 } } },
        ["a part expired"] = { large = true, store = { { method = "PUT", match = "partNumber=3", times = 1,
          status = 403,
          body = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>" } } },
        ["a part damaged"] = { large = true, store = { { method = "PUT", match = "partNumber=4", times = 1,
          flip = 9 } } },
        ["a lost answer to create"] = { large = true, broker = { { match = "/multipart/create", times = 1,
          drop = true } } },
        ["502 for sign-part"] = { large = true, broker = { { match = "/sign-part", times = 2, status = 502 } } },
        ["a lost answer to complete"] = { large = true, broker = { { match = "/multipart/complete", times = 1,
          drop = true } } },
        ["a 502 for complete that was done"] = { large = true, broker = { { match = "/multipart/complete", times = 1,
          status = 502, forward = true, body = "{}" } } },
      } do
        doors.store:clear()
        doors.broker:clear()
        doors.store:rules(case.store or {})
        doors.broker:rules(case.broker or {})
        local ok, why = pcall(round_trip, case.large and "l.bin" or "s.bin", case.large and large or small)
        assert(ok, title .. ": " .. tostring(why))
      end
    end)

    it("resumes by list-parts after kill -9, and sends only what is missing", function()
      local body = bytes(48 * MiB, "r")
      support.write_file(folder .. "/resume.bin", body)
      local log = folder .. "/put.log"
      doors.store:rules { { method = "PUT", skip = 3, hold_answer = true } } -- it goes no further than that
      local process = support.spawn("/bin/sh", { cwd = folder, stdout = log, args = { "-c",
        ("exec %s put --service athena --client north --catalog %s --json -j 1 resume.bin %s")
          :format(support.root .. "/build/bin/longshore", CATALOG, doors.broker.endpoint) },
        env = { "XDG_STATE_HOME=" .. folder .. "/state", "LONGSHORE_TOKEN=" .. token } })
      assert(support.wait_until(function()
        local _, text = support.run(("cat %s/state/longshore/*.journal %s/state/longshore/*/*.journal 2>/dev/null")
          :format(folder, folder))
        return select(2, text:gsub('"t":"part"', "")) >= 2
      end, 60), support.read_file(log))
      process:kill("sigkill")
      process:wait()
      doors.store:rules {}
      local code, result, out = longshore("put", "resume.bin " .. doors.broker.endpoint)
      assert.equal(0, code, out)
      assert.equal(6, result.parts)
      assert.is_true(result.resumed_parts >= 2, out)
      assert.equal(6, result.resumed_parts + result.sent_parts)
      assert.equal(0, (longshore("get", ("%s %s -o resumed"):format(result.file_id, doors.broker.endpoint))))
      assert.equal(core.crc32c(body), core.crc32c(support.read_file(folder .. "/resumed")))
    end)

    it("fails clearly, and aborts what it gives up", function()
      support.write_file(folder .. "/refused.bin", bytes(33 * MiB))
      doors.store:rules { { method = "PUT", match = "partNumber=2", status = 400,
        body = "<Error><Code>InvalidArgument</Code><Message>no</Message></Error>" } }
      local code, result, out = longshore("put", "refused.bin " .. doors.broker.endpoint)
      assert.equal(1, code, out)
      assert.is_false(result.ok)
      assert.is_nil(out:find(token, 1, true))
      doors.store:rules {}
      code, result = longshore("put", "refused.bin " .. doors.broker.endpoint, { token = people.reader })
      assert.equal(1, code)
      assert.matches("403", result.error.message)
      local function usage(options)
        assert.equal(2, (longshore("put", "refused.bin " .. doors.broker.endpoint, { options = options })))
      end
      usage "--client north --catalog nonsense"
      usage("--client north --dataset " .. NOBODY)
      code = longshore("get", ("%s %s -o nobody"):format(NOBODY, doors.broker.endpoint))
      assert.equal(1, code)
    end)
  end)
end)

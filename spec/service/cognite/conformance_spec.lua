-- The cognite service as it is served: real nginx, real disk store, a relay that
-- breaks HTTP between. Requests have the Python SDK's recorded shape (8.13: always
-- in parts, small files too); `longshore put` is proven with faults in between, and
-- killed. The JavaScript SDK itself runs in sdk_spec.lua.
local apps = require "spec.service.cognite.app"
local core = require "longshore.core"
local http = require "spec.support.http"
local json = require "longshore.json"
local relay = require "spec.support.relay"
local serve = require "spec.support.serve"
local support = require "spec.support"

local shape, refused = apps.shape, apps.refused
local MiB = 1048576

local function bytes(n, seed)
  local block = {}
  for i = 1, 4096 do block[i] = string.char((i * 131 + seed * 17 + math.floor(i / 7)) % 256) end
  local text = table.concat(block)
  local pieces, size = {}, 0
  while size < n do
    pieces[#pieces + 1] = ("%08d"):format(#pieces) .. text
    size = size + #pieces[#pieces]
  end
  return table.concat(pieces):sub(1, n)
end

for _, kind in ipairs { "put", "resumable" } do
describe(("the cognite service, served (upload = %q)"):format(kind), function()
  local server, doors, folder

  setup(function()
    local store_port = support.free_port()
    doors = { store = relay.start { target = "127.0.0.1:" .. store_port } }
    server = serve.start { store_port = store_port, config = ([[return {
      broker = { janitor_seconds = 1 },
      diskstore = { public_endpoint = %q, fsync = false }, services = { cognite = { upload = %q } } }]])
      :format(doors.store.endpoint, kind) }
    doors.broker = relay.start { target = "127.0.0.1:" .. server.port }
    folder = support.tmpdir()
  end)
  teardown(function()
    for _, door in pairs(doors) do door:stop() end
    server:stop()
    support.cleanup()
  end)
  before_each(function()
    doors.store:clear()
    doors.broker:clear()
  end)

  -- A call with the headers of cognite-sdk-python.
  local function api(path, value, more)
    local headers = { Accept = "*/*", ["Accept-Encoding"] = "gzip, deflate", ["Content-Type"] = "application/json",
      ["User-Agent"] = "CognitePythonSDK:8.13.0/CPython:3.12.3 (Linux-6.8.0;Final)",
      ["x-cdp-sdk"] = "CognitePythonSDK:8.13.0", ["x-cdp-app"] = "spec", ["cdf-version"] = "",
      Authorization = "Bearer " .. (more and more.token or server.token) }
    local response = assert(http.request { method = "POST", headers = headers, body = json.encode(value),
      url = server.url .. "/api/v1/projects/default/files" .. path })
    if response.body:find("^%s*[{%[]") then response.json = assert(json.decode(response.body)) end
    return response
  end

  -- httpx: PUT with Content-Length, no token; Content-Type on the single form only.
  local function put(url, body, content_type)
    return http.request { method = "PUT", url = url, body = body, headers = { Accept = "*/*",
      ["Content-Type"] = content_type, ["User-Agent"] = "python-httpx/0.27", ["Accept-Encoding"] = "gzip, deflate" } }
  end

  local function items(...) return { items = json.array { ... } } end

  local function content(reference)
    local links = shape(api("/downloadlink?extendedExpiration=true", items(reference)), 200, "DownloadLinks")
    local response = http.request { url = links.items[1].downloadUrl }
    assert.equal(200, response.status)
    return response.body
  end

  describe("takes what the Python SDK sends:", function()
    it("upload, always in parts", function()
      for _, body in ipairs { "", "small", bytes(6 * MiB, 1) } do
        local half = #body > 5 * MiB and 5 * MiB or #body
        local pieces = { body:sub(1, half), #body > half and body:sub(half + 1) or nil }
        local started = shape(api(("/initmultipartupload?overwrite=false&parts=%d"):format(#pieces),
          { name = "a.bin", mimeType = "application/x-spec", metadata = { made = "by python" } }), 201, "FileWithUrls")
        for i, piece in ipairs(pieces) do assert.equal(200, put(started.uploadUrls[i], piece).status) end
        assert.equal(200, api("/completemultipartupload", { id = started.id, uploadId = started.uploadId }).status)
        local found = shape(api("/byids", { items = json.array { { id = started.id } }, ignoreUnknownIds = false }),
          200, "Files").items[1]
        assert.is_true(found.uploaded)
        assert.equal(body, content { id = started.id })
      end
    end)

    it("upload_bytes, a single PUT with its type", function()
      local started = shape(api("?overwrite=false", { name = "b.txt", mimeType = "text/plain", externalId = "b" }), 201,
        "FileWithUrl")
      assert.equal(200, put(started.uploadUrl, "bytes", "text/plain").status)
      assert.equal("bytes", content { externalId = "b" })
      refused(api("?overwrite=false", { name = "b.txt", externalId = "b" }), 409)
      local again = shape(api("?overwrite=true", { name = "b2.txt", externalId = "b" }), 201, "FileWithUrl")
      assert.equal(started.id, again.id)
      assert.equal("bytes", content { externalId = "b" })
      -- The Rust and Java SDKs send this header, too.
      assert.equal(200, http.request({ method = "PUT", url = again.uploadUrl, body = "other bytes",
        headers = { ["Content-Type"] = "text/plain", ["X-Upload-Content-Type"] = "text/plain" } }).status)
      assert.equal("other bytes", content { externalId = "b" })
    end)

    it("upload_content_bytes and multipart_upload_content_session, by fresh links", function()
      local started = shape(api("?overwrite=false", { name = "c", externalId = "c" }), 201, "FileWithUrl")
      local link = shape(api("/uploadlink", items { externalId = "c" }), 201, "UploadLink").items[1]
      assert.equal(started.id, link.id)
      assert.equal(200, put(link.uploadUrl, "content").status)
      assert.equal("content", content { externalId = "c" })
      local links = shape(api("/multiuploadlink?parts=1", items { id = started.id }), 201, "UploadLinks").items[1]
      assert.equal(200, put(links.uploadUrls[1], "in a part").status)
      assert.equal("content", content { externalId = "c" })
      assert.equal(200, api("/completemultipartupload", { externalId = "c", uploadId = links.uploadId }).status)
      assert.equal("in a part", content { externalId = "c" })
    end)
  end)

  it("has the janitor notice what nobody asks for", function()
    local started = shape(api("", { name = "unwatched" }), 201, "FileWithUrl")
    assert.equal(200, put(started.uploadUrl, "x").status)
    -- the first look is after a minute; the database says when
    local store = assert(require("longshore.store").open { type = "sqlite", path = server.data .. "/longshore.db" })
    assert(store.db:exec("UPDATE deliveries SET look_at = 0"))
    local row = support.wait_until(function()
      local found = assert(store:find_records({ tenant = "default", organization = "default" },
        { { id = started.id } }))
      return found[1] and found[1].key and found[1]
    end, 60)
    store:close()
    assert.equal(1, assert(row).size)
  end)

  it("hands out ids that are exact and tell nothing of others", function()
    local seen, low = {}, 0
    for _ = 1, 30 do
      local response = api("", { name = "n" })
      local id = response.body:match('"id":(%d+)[,}]')
      assert.is_nil(seen[id])
      seen[id] = true
      assert.is_true(tonumber(id) <= 9007199254740991)
      if tonumber(id) < 2 ^ 50 then low = low + 1 end
      local found = api("/byids", assert(json.decode(('{"items":[{"id":%s}]}'):format(id))))
      assert.matches('"id":' .. id .. "[,}]", found.body)
    end
    assert.is_true(low < 15)
  end)

  describe("takes longshore put", function()
    local project
    local names = 0

    local function file(body)
      names = names + 1
      local path = ("%s/f%d.bin"):format(folder, names)
      support.write_file(path, body)
      return path
    end

    local function command(words)
      return ("cd %s && XDG_STATE_HOME=%s/state LONGSHORE_TOKEN=%s %s %s/lua/longshore/cli/main.lua %s"):format(folder,
        folder, server.token, support.lua, support.quote(support.root), words)
    end

    -- In the background, in a process that can be killed.
    local function background(words, log)
      return support.spawn("/bin/bash", { args = { "-c", (command(words):gsub("&& ", "&& exec env ", 1)) },
        stdout = log })
    end

    local function longshore(words)
      local code, out = support.run(command(words) .. " 2>&1")
      local result
      for line in out:gmatch("[^\n]+") do
        local event = line:find("^{") and json.decode(line)
        if event and event.event == "result" then result = event end
      end
      return code, result, out
    end

    before_each(function() project = doors.broker.endpoint .. "/api/v1/projects/default" end)

    local function upload(path, more)
      return longshore(("put --service cognite --json %s %s %s"):format(more or "", path, project))
    end

    it("of any size, reads it back, and sends no token to the store", function()
      for _, size in ipairs { 0, 1, 300000, 17 * MiB + 5 } do
        local path = file(bytes(size, 3))
        local code, result, out = upload(path, "--type application/x-spec --directory /d --metadata a=b")
        assert.equal(0, code, out)
        assert.equal("uploaded", result.file_status)
        assert.equal("crc32c", result.compared)
        local code_back, out_back = support.run(command(("get --service cognite %s %s -o %s.back -f"):format(
          result.file_id, project, path)) .. " 2>&1")
        assert.equal(0, code_back, out_back)
        assert.equal(core.crc32c_file(path), core.crc32c_file(path .. ".back"))
        local found = api("/byids", items { id = tonumber(result.file_id) }).json.items[1]
        assert.same({ "/d", "application/x-spec", "b" }, { found.directory, found.mimeType, found.metadata.a })
      end
      for _, entry in ipairs(doors.store:log()) do
        assert.is_nil(entry.head:lower():find("\nauthorization: bearer", 1, true))
      end
    end)

    it("with an external id: refused when taken, replaced with --overwrite", function()
      local path = file "first"
      assert.equal(0, (upload(path, "--external-id e")))
      local code, _, out = upload(path, "--external-id e")
      assert.equal(1, code)
      assert.matches("exists already", out)
      code, _, out = upload(file "second", "--external-id e --overwrite")
      assert.equal(0, code, out)
      assert.equal("second", content { externalId = "e" })
      assert.equal(2, (upload(path, "--overwrite")))
      assert.equal(2, (longshore(("put --service cognite %s %s"):format(path, server.url))))
      assert.equal(2, (longshore(("put --external-id e %s %s"):format(path, server.url))))
    end)

    it("ends with identical bytes whatever happens on the way", function()
      local small, large = bytes(400000, 5), bytes(17 * MiB + 12345, 7)
      local cases = {
        { "a storm of 503", "store", { method = "PUT", times = 4, status = 503 } },
        { "a cut connection", "store", { method = "PUT", times = 2, cut = 100000 } },
        { "a lost answer to the bytes", "store", { method = "PUT", times = 1, drop = true } },
        { "a flipped bit", "store", { method = "PUT", times = 1, flip = 200000 } },
        { "a 500 after the bytes", "store", { method = "PUT", times = 1, status = 500, forward = true } },
        { "an expired link", "store", { method = "PUT", times = 1, status = 403,
          body = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>" }, "put" },
        { "a busy byids", "broker", { match = "/byids", times = 2, status = 503, body = "busy" } },
        { "a throttled start", "broker", { match = "overwrite", times = 1, status = 429,
          body = '{"error":{"code":429,"message":"later"}}' } },
        { "a lost answer to byids", "broker", { match = "/byids", times = 1, drop = true } },
      }
      for _, case in ipairs(cases) do
        if not case[4] or case[4] == kind then
          local body = kind == "resumable" and case[2] == "store" and large or small
          doors.store:clear()
          doors.broker:clear()
          doors[case[2]]:rules { case[3] }
          local code, result, out = upload(file(body))
          assert.equal(0, code, case[1] .. ": " .. out)
          doors.store:clear()
          assert.equal(core.crc32c(body), core.crc32c(content { id = tonumber(result.file_id) }), case[1])
        end
      end
    end)

    it("in parts, with faults of store and service", function()
      local body = bytes(66 * MiB + 1, 9)
      if kind == "resumable" then return end -- there everything goes to sessions
      local path = file(body)
      for _, case in ipairs {
        { "a lost answer to complete", { match = "completemultipart", times = 1, drop = true } },
        { "a 503 to complete that was done", { match = "completemultipart", times = 1, status = 503, forward = true } },
      } do
        doors.store:rules { { method = "PUT", match = "partNumber=2", times = 1, cut = 3000000 },
          { method = "PUT", match = "partNumber=3", times = 2, status = 503 },
          { method = "PUT", match = "partNumber=1&", times = 1, drop = true } }
        doors.broker:rules { case[2] }
        local code, result, out = upload(path)
        assert.equal(0, code, case[1] .. ": " .. out)
        doors.store:clear()
        assert.equal(core.crc32c(body), core.crc32c(content { id = tonumber(result.file_id) }), case[1])
      end
    end)

    it("again after a kill -9: the same entry, and of a session only what is missing", function()
      local body = bytes(70 * MiB, 11)
      local path = file(body)
      local words = ("put --service cognite --json %s %s"):format(path, project)
      doors.store:rules { { method = "PUT", skip = 3, hold_answer = true } } -- it goes no further than that
      local process = background(words, folder .. "/killed.log")
      assert(support.wait_until(function()
        local done = 0
        for _, entry in ipairs(doors.store:log()) do
          if entry.method == "PUT" and entry.status ~= 0 and entry.length > MiB then done = done + 1 end
        end
        return done >= 2
      end, 60))
      process:kill("sigkill")
      process:wait(5)
      local _, modes = support.run(("stat -c %%a %s/state/longshore/uploads/*.journal"):format(folder))
      assert.equal("600", (modes:gsub("%s+", "")))
      local id = assert((support.read_file(folder .. "/killed.log") or ""):match('"upload_id":"(%d+)"'))
      doors.store:clear()
      local code, result, out = upload(path)
      assert.equal(0, code, out)
      assert.equal(id, result.file_id)
      if kind == "resumable" then
        assert.is_true(result.resumed_parts >= 2, out)
        assert.is_true(result.sent_bytes <= #body - 2 * 16 * MiB, out)
      end
      assert.equal(core.crc32c(body), core.crc32c(content { id = tonumber(id) }))
    end)

    it("starts over when the session is gone, with the same entry", function()
      if kind ~= "resumable" then return end
      local body = bytes(40 * MiB, 13)
      local path = file(body)
      local words = ("put --service cognite --json %s %s"):format(path, project)
      doors.store:rules { { method = "PUT", skip = 2, hold_answer = true } }
      local process = background(words, folder .. "/gone.log")
      local target
      assert(support.wait_until(function()
        for _, entry in ipairs(doors.store:log()) do
          if entry.method == "PUT" and entry.status == 308 and entry.length > MiB then target = entry.target end
        end
        return target
      end, 60))
      process:kill("sigkill")
      process:wait(5)
      doors.store:rules {}
      assert.equal(499, http.request({ method = "DELETE", url = doors.store.endpoint .. target }).status)
      local code, result, out = upload(path)
      assert.equal(0, code, out)
      assert.equal(support.read_file(folder .. "/gone.log"):match('"upload_id":"(%d+)"'), result.file_id)
      assert.equal(core.crc32c(body), core.crc32c(content { id = tonumber(result.file_id) }))
    end)
  end)
end)
end

-- The running newton service, real nginx and real disk store, driven over HTTP
-- with requests as official clients send them, and with wrong ones.
local core = require "longshore.core"
local http = require "spec.support.http"
local json = require "longshore.json"
local serve = require "spec.support.serve"
local support = require "spec.support"

local MiB = 1048576

describe("newton over HTTP", function()
  local server, tokens, other, tenant, reader

  setup(function()
    server = serve.start { config = "return { broker = { janitor_seconds = 0 }, "
      .. "services = { newton = { part_size = 5 * MiB, form_max = 8 * MiB } } }" }
    local store = assert(require("longshore.store").open { type = "sqlite", path = server.data .. "/longshore.db" })
    tokens = require("longshore.broker.tokens").new { store = store }
    other = assert(tokens:create { user = "eve", organization = "other" }).token
    tenant = assert(tokens:create { user = "eve", organization = "default", tenant = "other" }).token
    reader = assert(tokens:create { user = "rob", organization = "default", rights = { "read" } }).token
    store:close()
  end)
  teardown(support.cleanup)

  local function call(method, path, value, token, more)
    return http.call(method, server.url .. "/v0.5/files/" .. path, token == nil and server.token or token or nil, value,
      more)
  end

  local function refused(response, status, code)
    assert.equal(status, response.status, response.body)
    assert.equal("application/json", response.headers["content-type"])
    assert.truthy(response.headers["x-request-id"])
    local list = response.json.errors
    assert.truthy(json.is_array(list) and #list >= 1)
    for _, entry in ipairs(list) do
      assert.truthy(entry.error_uid:find("^err%-"))
      assert.equal("string", type(entry.message))
      assert.equal("string", type(entry.code))
    end
    if code then assert.equal(code, list[1].code) end
  end

  local counter = 0
  local function initiate(size, fields)
    counter = counter + 1
    local body = { filename = "file-" .. counter .. ".bin", file_type = "application/octet-stream", num_bytes = size }
    for name, value in pairs(fields or {}) do body[name] = value end
    local response = call("POST", "uploads/initiate", body)
    assert.equal(200, response.status, response.body)
    return response.json
  end

  local function put(part, content, headers)
    local response = http.request { method = "PUT", url = part.url, headers = headers,
      body = content:sub(part.offset + 1, part.offset + part.length) }
    assert.equal(200, response.status, response.body)
    return response.headers.etag
  end

  local function download(id)
    local response = call("GET", "download/" .. id)
    assert.equal(302, response.status)
    return http.request({ url = response.headers.location }).body
  end

  -- What the database says, to compare: nothing may have changed.
  local function snapshot()
    local code, text = support.run(("sqlite3 -cmd '.timeout 5000' %s "
      .. "'select * from uploads; select * from files; select * from parts;'")
      :format(support.quote(server.data .. "/longshore.db")))
    assert.equal(0, code, text)
    return text
  end

  -- A request to the letter, as the Python client's library writes it.
  local function python(method, path, body, content_type)
    local lines = { method .. " /v0.5/files/" .. path .. " HTTP/1.1", "Host: 127.0.0.1:" .. server.port,
      "User-Agent: python-requests/2.32.3", "Accept-Encoding: gzip, deflate", "Accept: */*", "Connection: keep-alive",
      "Authorization: Bearer " .. server.token }
    if content_type then lines[#lines + 1] = "Content-Type: " .. content_type end
    if body or method == "POST" then lines[#lines + 1] = "Content-Length: " .. #(body or "") end
    local response = assert(http.raw(server.port, table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")))
    if response.body:find("^[%[{]") then response.json = assert(json.decode(response.body)) end
    return response
  end

  it("serves the official Python client's upload, request by request", function()
    local content = core.random(4096):rep(1600) -- 6.25 MiB: two parts
    local response = python("POST", "uploads/initiate",
      ('{"filename": "py.csv", "file_type": "text/csv", "num_bytes": %d}'):format(#content), "application/json")
    assert.equal(200, response.status)
    local upload = response.json
    assert.equal(2, upload.num_parts)
    local done = {}
    for i, part in ipairs(upload.parts) do
      -- PUT: no Content-Type, no Authorization, Content-Length twice nowhere.
      local etag = put(part, content, { "User-Agent: python-requests/2.32.3", "Accept-Encoding: gzip, deflate",
        "Accept: */*" })
      assert.truthy(etag:find('^".+"$'))
      done[i] = ('{"part_number": %d, "part_token": %s}'):format(part.part_number, json.encode(etag))
    end
    -- One part's checkpoint arrives in time, the other one after complete.
    response = python("POST", "uploads/" .. upload.upload_id .. "/parts/checkpoint", '{"parts": [' .. done[2] .. "]}",
      "application/json")
    assert.equal(200, response.status)
    assert.equal(1, response.json.num_checkpointed)
    response = python("POST", "uploads/" .. upload.upload_id .. "/complete",
      '{"parts": [' .. table.concat(done, ", ") .. "]}", "application/json")
    assert.equal(200, response.status)
    assert.equal("Registered", response.json.file_status)
    assert.equal("py.csv", response.json.file_name)
    assert.equal(upload.file_uid, response.json.file_uid)
    response = python("POST", "uploads/" .. upload.upload_id .. "/parts/checkpoint", '{"parts": [' .. done[1] .. "]}",
      "application/json")
    refused(response, 409)
    response = python("POST", "uploads/" .. upload.upload_id .. "/abort", "{}", "application/json")
    refused(response, 409)
    assert.equal(core.crc32c(content), core.crc32c(download "py.csv"))
  end)

  it("gives up as the Python client does after an error: 200 and {}", function()
    local upload = initiate(10)
    local response = python("POST", "uploads/" .. upload.upload_id .. "/abort", "{}", "application/json")
    assert.equal(200, response.status)
    assert.equal("{}", response.body)
    response = python("POST", "uploads/" .. initiate(10).upload_id .. "/abort")
    assert.equal(200, response.status)
  end)

  it("serves the official shell example: strategy, bare tokens, curl's Content-Type", function()
    local content = core.random(1000)
    local upload = initiate(#content)
    assert.equal("multipart", upload.strategy)
    local path = support.write_file(support.tmpdir() .. "/part", content)
    local _, headers = support.run(("curl -s -X PUT --data-binary @%s -D - -o /dev/null %s"):format(path,
      support.quote(upload.parts[1].url)))
    local etag = headers:match("[Ee][Tt]ag: (%S+)"):gsub('"', "")
    local response = call("POST", "uploads/" .. upload.upload_id .. "/complete",
      { parts = { { part_number = 1, part_token = etag } } })
    assert.equal(200, response.status)
    assert.equal(content, download(upload.file_uid))
  end)

  it("resumes where a client stopped, and proves the whole", function()
    local content = core.random(4096):rep(3200) -- 12.5 MiB: three parts
    local upload = initiate(#content)
    local etag = put(upload.parts[2], content)
    call("POST", "uploads/" .. upload.upload_id .. "/parts/checkpoint",
      { parts = { { part_number = 2, part_token = etag } } })
    local again = initiate(#content, { filename = upload.file_name, resume_if_started = true })
    assert.is_true(again.is_resume)
    assert.equal(upload.upload_id, again.upload_id)
    assert.equal(2, #again.parts)
    local parts = {}
    for i, part in ipairs(again.parts) do
      parts[i] = { part_number = part.part_number, part_token = put(part, content) }
    end
    local response = call("POST", "uploads/" .. upload.upload_id .. "/complete",
      { parts = parts, integrity_checksum = core.crc32c_base64(core.crc32c(content)) })
    assert.equal(200, response.status, response.body)
    assert.equal(core.crc32c(content), core.crc32c(download(upload.file_uid)))
    assert.equal(core.crc32c_base64(core.crc32c(content)),
      call("GET", "metadata/" .. upload.file_uid).json.file_attributes.crc32c)
  end)

  it("marks a file Corrupt whose checksum differs", function()
    local content = core.random(100)
    local upload = initiate(#content)
    local parts = { { part_number = 1, part_token = put(upload.parts[1], content) } }
    refused(call("POST", "uploads/" .. upload.upload_id .. "/complete",
      { parts = parts, integrity_checksum = "AAAAAA==" }), 400, "integrity_check_failed")
    assert.equal("FILE_STATUS_CORRUPT", call("GET", "metadata/" .. upload.file_uid).json.file_status)
    refused(call("GET", "download/" .. upload.file_uid), 400)
  end)

  it("signs each URL for its part's length and nothing else", function()
    local content = core.random(1000)
    local upload = initiate(#content)
    local url = upload.parts[1].url
    local response = http.request { method = "PUT", url = url, body = content .. "x" }
    assert.equal(403, response.status)
    response = http.request { method = "PUT", url = url:gsub("partNumber=1", "partNumber=2"), body = content }
    assert.equal(403, response.status)
    response = http.request { method = "GET", url = url }
    assert.equal(403, response.status)
    put(upload.parts[1], content)
  end)

  it("takes files by form, from curl, and replaces by name", function()
    local folder = support.tmpdir()
    local content = core.random(4096):rep(1500)
    support.write_file(folder .. "/form.bin", content)
    local command = ("curl -s -H 'Authorization: Bearer %s' -F 'file=@%s/form.bin;type=text/csv' %s/v0.5/files"):format(
      server.token, folder, server.url)
    local _, text = support.run(command)
    local first = assert(json.decode(text))
    assert.is_true(first.is_valid)
    assert.equal("form.bin", first.file_id)
    assert.equal(core.crc32c(content), core.crc32c(download "form.bin"))
    support.write_file(folder .. "/form.bin", "new")
    _, text = support.run(command)
    assert.are_not.equal(first.file_uid, json.decode(text).file_uid)
    assert.equal("new", download "form.bin")
    refused(call("GET", "metadata/" .. first.file_uid), 404, "file_not_found")
    _, text = support.run(command:gsub("file=@", "form.bin=@"):gsub("%-F", "-H 'Transfer-Encoding: chunked' -F"))
    assert.is_true(json.decode(text).is_valid)
    support.write_file(folder .. "/form.b64", core.base64(content):gsub(("."):rep(76), "%0\n"))
    _, text = support.run(("curl -s -H 'Authorization: Bearer %s' -F 'file=@%s/form.b64;filename=b64.bin' "
      .. "%s/v0.5/files/base64"):format(server.token, folder, server.url))
    assert.equal("b64.bin", json.decode(text).file_id)
    assert.equal(core.crc32c(content), core.crc32c(download "b64.bin"))
    -- Nothing is left of the spooled bodies.
    assert.truthy(support.wait_until(function()
      local _, left = support.run("ls " .. support.quote(server.data .. "/spool"))
      return left == ""
    end, 30))
  end)

  it("refuses forms without a token before their bytes, and those that are too large", function()
    local before = snapshot()
    local head = "POST /v0.5/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    local response = http.raw(server.port, head .. "Content-Length: 8000000\r\n\r\n--b\r\n")
    response.json = json.decode(response.body)
    refused(response, 401, "unauthorized")
    response = http.raw(server.port, head .. "Authorization: Bearer " .. server.token
      .. "\r\nContent-Length: 9999999999\r\n\r\n--b\r\n")
    response.json = json.decode(response.body)
    refused(response, 413, "request_too_large")
    assert.equal(before, snapshot())
  end)

  it("lists, sums and deletes", function()
    local usage = call("GET", "info").json
    local upload = initiate(3)
    local parts = { { part_number = 1, part_token = put(upload.parts[1], "abc") } }
    assert.equal(200, call("POST", "uploads/" .. upload.upload_id .. "/complete", { parts = parts }).status)
    local now = call("GET", "info").json
    assert.equal(usage.num_files + 1, now.num_files)
    assert.equal(usage.num_bytes + 3, now.num_bytes)
    local list = call("GET", "metadata?shard_index=-1&max_items_per_shard=-1").json
    assert.equal(upload.file_uid, list[#list].file_uid)
    assert.equal(1, #call("GET", "metadata?shard_index=0&max_items_per_shard=1").json)
    local response = call("DELETE", "delete/" .. upload.file_name)
    assert.equal(200, response.status)
    assert.is_true(response.json.is_valid)
    refused(call("GET", "metadata/" .. upload.file_uid), 404, "file_not_found")
  end)

  it("takes a zero-byte file", function()
    local upload = initiate(0)
    assert.equal(1, #upload.parts)
    local parts = { { part_number = 1, part_token = put(upload.parts[1], "") } }
    local response = call("POST", "uploads/" .. upload.upload_id .. "/complete",
      { parts = parts, integrity_checksum = "AAAAAA==" })
    assert.equal(200, response.status, response.body)
    assert.equal("", download(upload.file_uid))
  end)

  it("answers bad input at every endpoint in its own shape, and changes nothing", function()
    local upload = initiate(11 * MiB)
    local path = "uploads/" .. upload.upload_id
    local before = snapshot()
    local endpoints = { "uploads/initiate", path .. "/parts/urls", path .. "/parts/checkpoint", path .. "/complete" }
    local bodies = {
      "", "{", "nonsense", "[]", "null", "5", '"text"', "\0", "\255", "{}{}", '{"parts":', ("["):rep(5000),
      '{"parts":{},"part_numbers":{},"filename":{},"file_type":{},"num_bytes":{}}',
      '{"parts":"x","part_numbers":"x","filename":5,"file_type":5,"num_bytes":"x"}',
      '{"parts":[null],"part_numbers":[null],"filename":"a","file_type":"a/b","num_bytes":null}',
      '{"parts":[{"part_number":-1,"part_token":"x"}],"part_numbers":[-1],"filename":"a","file_type":"a/b",'
        .. '"num_bytes":-1}',
      '{"parts":[{"part_number":1e300,"part_token":"x"}],"part_numbers":[1e300],"filename":"a","file_type":"a/b",'
        .. '"num_bytes":1e300}',
      '{"parts":[{"part_number":9007199254740993,"part_token":"x"}],"part_numbers":[9007199254740993],"filename":"a",'
        .. '"file_type":"a/b","num_bytes":9007199254740993}',
      '{"parts":[{"part_number":4,"part_token":"x"}],"part_numbers":[4],"filename":"a\\u0000","file_type":"a/b",'
        .. '"num_bytes":1}',
      '{"parts":[{"part_number":1,"part_token":"a\\u0000b"}],"part_numbers":[0],"filename":"a\\u001f",'
        .. '"file_type":"a/b","num_bytes":1}',
      '{"parts":[{"part_number":1,"part_token":""}],"part_numbers":[1.5],"filename":"","file_type":"a/b",'
        .. '"num_bytes":1.5}',
      '{"parts":[{"part_number":true,"part_token":[]}],"part_numbers":[true],"filename":"a","file_type":"nope",'
        .. '"num_bytes":true}',
      '{"parts":[{"part_number":"1","part_token":"x"}],"integrity_checksum":"??","part_numbers":["1"],"filename":"a",'
        .. '"file_type":"a/b\\r\\nX: y","num_bytes":1}',
    }
    for _, endpoint in ipairs(endpoints) do
      for _, body in ipairs(bodies) do
        refused(call("POST", endpoint, body), 400)
      end
      refused(call("POST", endpoint, "{}", "ls_wrong_token"), 401, "unauthorized")
      refused(call("POST", endpoint, "{}", false), 401, "unauthorized")
      refused(call("POST", endpoint, "{}", reader), 403, "forbidden")
      refused(call("GET", endpoint), 405, "method_not_allowed")
      refused(call("POST", endpoint, "{}", nil, { ["Content-Type"] = "text/plain" }), 415, "unsupported_media_type")
    end
    refused(call("POST", "uploads/initiate", '{"x":"' .. ("x"):rep(9 * MiB) .. '"}'), 413, "request_too_large")
    assert.equal(before, snapshot())
  end)

  it("takes a body of 10,000 parts in its stride", function()
    local upload = initiate(11 * MiB)
    local before = snapshot()
    local parts = {}
    for i = 1, 10000 do parts[i] = { part_number = i, part_token = '"d41d8cd98f00b204e9800998ecf8427e"' } end
    refused(call("POST", "uploads/" .. upload.upload_id .. "/complete", { parts = parts }), 400)
    refused(call("POST", "uploads/" .. upload.upload_id .. "/parts/checkpoint", { parts = parts }), 400)
    assert.equal(before, snapshot())
  end)

  it("hides every upload and file from other organizations and tenants", function()
    local content = "secret"
    local upload = initiate(#content)
    local parts = { { part_number = 1, part_token = put(upload.parts[1], content) } }
    local path = "uploads/" .. upload.upload_id
    local before = snapshot()
    for _, stranger in ipairs { other, tenant } do
      refused(call("POST", path .. "/parts/urls", { part_numbers = { 1 } }, stranger), 404, "upload_not_found")
      refused(call("POST", path .. "/parts/checkpoint", { parts = parts }, stranger), 404, "upload_not_found")
      refused(call("POST", path .. "/complete", { parts = parts }, stranger), 404, "upload_not_found")
      refused(call("POST", path .. "/abort", "{}", stranger), 404, "upload_not_found")
    end
    assert.equal(before, snapshot())
    assert.equal(200, call("POST", path .. "/complete", { parts = parts }).status)
    before = snapshot()
    for _, id in ipairs { upload.file_uid, upload.file_name } do
      for _, stranger in ipairs { other, tenant } do
        refused(call("GET", "metadata/" .. id, nil, stranger), 404, "file_not_found")
        refused(call("GET", "download/" .. id, nil, stranger), 404, "file_not_found")
        refused(call("DELETE", "delete/" .. id, nil, stranger), 404, "file_not_found")
      end
      refused(call("DELETE", "delete/" .. id, nil, reader), 403, "forbidden")
    end
    for _, stranger in ipairs { other, tenant } do
      assert.same({}, call("GET", "metadata", nil, stranger).json)
      assert.equal(0, call("GET", "info", nil, stranger).json.num_bytes)
    end
    assert.equal(before, snapshot())
    assert.equal(200, call("GET", "metadata/" .. upload.file_uid, nil, reader).status)
  end)

  it("answers odd ids and paths with 404 or 400, never 500", function()
    for _, id in ipairs { "%00", "%0a", "%ff", "..", "%2e%2e%2fx", "upl_", "'", "%27--", ("x"):rep(3000), "%", "%zz",
      "*" } do
      for _, path in ipairs { "uploads/" .. id .. "/abort", "uploads/" .. id .. "/complete" } do
        local response = call("POST", path, "{}")
        assert.truthy(response.status == 404 or response.status == 400, response.status .. " " .. path)
        refused(response, response.status)
      end
      for _, path in ipairs { "metadata/" .. id, "download/" .. id } do
        local response = call("GET", path)
        assert.truthy(response.status == 404 or response.status == 400, response.status .. " " .. path)
        refused(response, response.status)
      end
    end
  end)

  it("never answers 204 or 422, and never wrote a secret into its log", function()
    local log = support.read_file(server.log)
    assert.truthy(log:find("broker info POST /v0.5/files/uploads/initiate 200 ", 1, true))
    assert.is_nil(log:match("broker info %u+ %S+ 204 [^\n]*"))
    assert.is_nil(log:match("broker info %u+ %S+ 422 [^\n]*"))
    assert.is_nil(log:match("broker info %u+ %S+ 5%d%d [^\n]*"))
    -- nginx says so itself when a body is too large.
    for line in log:gmatch("broker error ([^\n]*)") do
      assert.truthy(line:find("client intended to send", 1, true), line)
    end
    for _, secret in ipairs { server.token, other, tenant, reader,
      support.read_file(server.data .. "/diskstore-credentials"):match("secret_key=(%S+)") } do
      assert.is_nil(log:find(secret, 1, true))
    end
    assert.is_nil(log:find("X-Amz-Signature=%x"))
  end)
end)

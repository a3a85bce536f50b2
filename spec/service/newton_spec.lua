-- The newton service in a plain script: real broker, store in memory, no nginx.
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"
local services = require "spec.support.service"
local support = require "spec.support"
local worlds = require "spec.support.broker"

local PREFIX = "/v0.5/files/"

-- What each call answers, as the OpenAPI document says.
local SHAPES = {
  { "POST ^uploads/initiate$", "Upload" }, { "POST ^uploads/[^/]+/parts/urls$", "Parts" },
  { "POST ^uploads/[^/]+/parts/checkpoint$", "Checkpoint" }, { "POST ^uploads/[^/]+/complete$", "Completed" },
  { "POST ^uploads/[^/]+/abort$", "Nothing" }, { "GET ^info$", "Info" }, { "GET ^metadata/.", "Metadata" },
  { "GET ^metadata$", "MetadataList" }, { "GET ^metadata%?", "MetadataList" }, { "DELETE ^delete/.", "Reference" },
}
local shape = services.shapes(require "longshore.service.newton.answers")

describe("the newton service, in a plain script", function()
  local world, app, tokens

  local function actor_of(token)
    local user, organization = token:match("^(%w+)%-(%w+)")
    return services.actor(user, organization, "default", token:match("%-%w+%-(.*)$"))
  end

  local function start(newton, options)
    world = worlds.new(options)
    tokens = { verify = function(_, token) return actor_of(token) end }
    app = services.app(world, { newton = newton or {} }, actor_of, { tokens = tokens })
  end

  before_each(function() start() end)
  after_each(support.cleanup)

  local function send(method, path, value, more)
    more = more or {}
    local headers = { authorization = "Bearer " .. (more.token or "ann-acme") }
    if more.token == false then headers.authorization = nil end
    local request = { method = method, target = (more.prefix or PREFIX) .. path, headers = headers }
    local response = services.send(app, request, value, more.headers)
    for _, entry in ipairs(SHAPES) do
      local verb, pattern = entry[1]:match("^(%u+) (.*)$")
      if verb == method and path:find(pattern) and response.status == 200 then shape(response, 200, entry[2]) end
    end
    if response.json and response.status >= 400 then shape(response, response.status, "Errors") end
    return response
  end

  -- An error in the service's shape, and nothing else.
  local function refused(response, status, code)
    assert.equal(status, response.status)
    assert.truthy(response.json, response.body)
    local list = response.json.errors
    assert.is_true(json.is_array(list))
    assert.truthy(#list >= 1)
    for _, entry in ipairs(list) do
      assert.equal("string", type(entry.code))
      assert.equal("string", type(entry.message))
      assert.truthy(entry.error_uid:find("^err%-%x+%-%x+%-%x+%-%x+%-%x+"))
    end
    if code then assert.equal(code, list[1].code) end
    return list
  end

  local function initiate(fields, more)
    local body = { filename = "a.bin", file_type = "video/mp4", num_bytes = 10 }
    for name, value in pairs(fields or {}) do body[name] = value end
    return send("POST", "uploads/initiate", body, more)
  end

  local function put_all(upload, content)
    local parts = {}
    for i, part in ipairs(upload.parts) do
      local status, etag = world.provider:client_put(part.url, content:sub(part.offset + 1, part.offset + part.length))
      assert.equal(200, status)
      parts[i] = { part_number = part.part_number, part_token = '"' .. etag:gsub('"', "") .. '"' }
    end
    return parts
  end

  local CONTENT = "0123456789"

  it("starts an upload in the service's shape", function()
    local response = initiate()
    assert.equal(200, response.status)
    local upload = response.json
    assert.truthy(upload.upload_id:find("^upl_[a-z2-7]+$"))
    assert.truthy(upload.file_uid:find("^fil_[a-z2-7]+$"))
    assert.equal("a.bin", upload.file_name)
    assert.equal(10, upload.total_bytes)
    assert.equal(3, upload.num_parts)
    assert.equal(4, upload.part_size)
    assert.equal("crc32c", upload.integrity_algorithm)
    assert.equal("multipart", upload.strategy)
    assert.is_false(upload.is_resume)
    assert.equal(3, #upload.parts)
    assert.same({ 1, 8, 2 }, { upload.parts[1].part_number, upload.parts[3].offset, upload.parts[3].length })
    assert.truthy(upload.parts[1].expires_at:find("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$"))
    assert.equal("no-store", response.headers["cache-control"])
    assert.truthy(response.headers["x-request-id"]:find("^req_"))
  end)

  it("goes from initiate to download", function()
    local upload = initiate().json
    local parts = put_all(upload, CONTENT)
    local response = send("POST", "uploads/" .. upload.upload_id .. "/parts/checkpoint", { parts = { parts[1] } })
    assert.equal(200, response.status)
    assert.equal(1, response.json.num_checkpointed)
    response = send("POST", "uploads/" .. upload.upload_id .. "/complete",
      { parts = parts, integrity_checksum = core.crc32c_base64(core.crc32c(CONTENT)) })
    assert.equal(200, response.status)
    assert.equal("Registered", response.json.file_status)
    assert.equal(upload.file_uid, response.json.file_uid)
    assert.equal(10, response.json.num_bytes)
    assert.equal("table", type(response.json.file_attributes))

    response = send("GET", "metadata/" .. upload.file_uid)
    assert.equal("FILE_STATUS_REGISTERED", response.json.file_status)
    assert.equal("a.bin", response.json.file_id)
    assert.is_true(response.json.is_valid)
    response = send("GET", "download/a.bin")
    assert.equal(302, response.status)
    assert.truthy(response.headers.location)
    response = send("GET", "info")
    assert.same({ 1, 10, 0 }, { response.json.num_files, response.json.num_bytes, response.json.num_ingested })

    response = send("DELETE", "delete/a.bin")
    assert.equal(200, response.status)
    assert.same({ is_valid = true, file_id = "a.bin", file_uid = upload.file_uid }, response.json)
    refused(send("GET", "metadata/a.bin"), 404, "file_not_found")
  end)

  it("takes tokens bare or quoted, a part twice, and an empty list when all is checkpointed", function()
    local upload = initiate().json
    local parts = put_all(upload, CONTENT)
    parts[4] = { part_number = 1, part_token = parts[1].part_token:gsub('"', "") }
    assert.equal(200, send("POST", "uploads/" .. upload.upload_id .. "/parts/checkpoint", { parts = parts }).status)
    local response = send("POST", "uploads/" .. upload.upload_id .. "/complete", { parts = json.array {} })
    assert.equal(200, response.status)
    response = send("POST", "uploads/" .. upload.upload_id .. "/complete", {})
    refused(response, 409, "conflict")
  end)

  it("answers a checkpoint after complete harmlessly", function()
    local upload = initiate().json
    local parts = put_all(upload, CONTENT)
    assert.equal(200, send("POST", "uploads/" .. upload.upload_id .. "/complete", { parts = parts }).status)
    refused(send("POST", "uploads/" .. upload.upload_id .. "/parts/checkpoint", { parts = { parts[2] } }), 409)
    assert.equal("FILE_STATUS_REGISTERED", send("GET", "metadata/a.bin").json.file_status)
    refused(send("POST", "uploads/" .. upload.upload_id .. "/abort", "{}"), 409)
    assert.equal("FILE_STATUS_REGISTERED", send("GET", "metadata/a.bin").json.file_status)
  end)

  it("aborts with 200 and an empty object, with {} or nothing as body", function()
    for _, body in ipairs { "{}", "" } do
      local upload = initiate().json
      local response = send("POST", "uploads/" .. upload.upload_id .. "/abort", body)
      assert.equal(200, response.status)
      assert.equal("{}", response.body)
      refused(send("POST", "uploads/" .. upload.upload_id .. "/parts/urls", { part_numbers = { 1 } }), 404,
        "upload_not_found")
    end
  end)

  it("resumes by name, with the parts that are missing", function()
    local upload = initiate().json
    local parts = put_all(upload, CONTENT)
    send("POST", "uploads/" .. upload.upload_id .. "/parts/checkpoint", { parts = { parts[2] } })
    local again = initiate({ resume_if_started = true }).json
    assert.equal(upload.upload_id, again.upload_id)
    assert.is_true(again.is_resume)
    assert.equal(3, again.num_parts)
    assert.equal(10, again.total_bytes)
    assert.same({ 1, 3 }, { again.parts[1].part_number, again.parts[2].part_number })
    assert.equal(2, #again.parts)
    refused(initiate { resume_if_started = true, num_bytes = 11 }, 409, "conflict")
    refused(initiate { resume_if_started = true, file_type = "text/csv" }, 409, "conflict")
    local other = initiate({ filename = "b.bin", resume_if_started = true }).json
    assert.is_false(other.is_resume)
  end)

  it("lists an empty array of parts when a resumed upload lacks none", function()
    local upload = initiate().json
    local parts = put_all(upload, CONTENT)
    send("POST", "uploads/" .. upload.upload_id .. "/parts/checkpoint", { parts = parts })
    local response = initiate { resume_if_started = true }
    assert.truthy(response.body:find('"parts":[]', 1, true))
  end)

  it("gives fresh URLs in the order asked for, repeats included", function()
    local upload = initiate().json
    local response = send("POST", "uploads/" .. upload.upload_id .. "/parts/urls", { part_numbers = { 3, 1, 3 } })
    assert.equal(200, response.status)
    local numbers = {}
    for i, part in ipairs(response.json.parts) do numbers[i] = part.part_number end
    assert.same({ 3, 1, 3 }, numbers)
    assert.equal(response.json.parts[1].url, response.json.parts[3].url)
    refused(send("POST", "uploads/" .. upload.upload_id .. "/parts/urls", { part_numbers = { 4 } }), 400)
  end)

  it("refuses a name that a finished file has", function()
    local upload = initiate().json
    send("POST", "uploads/" .. upload.upload_id .. "/complete", { parts = put_all(upload, CONTENT) })
    refused(initiate(), 409, "conflict")
  end)

  it("marks the file Corrupt when the checksum differs", function()
    local upload = initiate().json
    local parts = put_all(upload, CONTENT)
    refused(send("POST", "uploads/" .. upload.upload_id .. "/complete",
      { parts = parts, integrity_checksum = core.crc32c_base64(1) }), 400, "integrity_check_failed")
    local response = send("GET", "metadata/" .. upload.file_uid)
    assert.equal("FILE_STATUS_CORRUPT", response.json.file_status)
    assert.is_false(response.json.is_valid)
    refused(send("GET", "download/" .. upload.file_uid), 400)
  end)

  it("refuses a checksum where the store reports none", function()
    start(nil, { profile = { checksum_of_unannounced = false, lists_crc32c = false } })
    local upload = initiate().json
    assert.equal("none", upload.integrity_algorithm)
    local parts = put_all(upload, CONTENT)
    refused(send("POST", "uploads/" .. upload.upload_id .. "/complete",
      { parts = parts, integrity_checksum = core.crc32c_base64(core.crc32c(CONTENT)) }), 400)
    assert.equal(200, send("POST", "uploads/" .. upload.upload_id .. "/complete", { parts = parts }).status)
  end)

  it("pages through the metadata", function()
    for i = 1, 5 do
      world.clock.advance(1)
      local upload = initiate({ filename = ("f%d"):format(i), file_type = i == 3 and "text/csv" or "video/mp4" }).json
      send("POST", "uploads/" .. upload.upload_id .. "/complete", { parts = put_all(upload, CONTENT) })
    end
    local function names(query)
      local list = {}
      for i, file in ipairs(send("GET", "metadata" .. query).json) do list[i] = file.file_id end
      return table.concat(list, " ")
    end
    assert.equal("f1 f2 f3 f4 f5", names "?shard_index=-1&max_items_per_shard=-1")
    assert.equal("f1 f2 f3 f4 f5", names "")
    assert.equal("f3 f4", names "?shard_index=1&max_items_per_shard=2")
    assert.equal("f3", names "?file_type=text%2Fcsv")
    assert.equal("[]", send("GET", "metadata?shard_index=9&max_items_per_shard=1000").body)
    for _, query in ipairs { "?shard_index=-2", "?shard_index=x", "?max_items_per_shard=1001",
      "?max_items_per_shard=0", "?shard_index=1.5", "?shard_index=99999999999999999999" } do
      refused(send("GET", "metadata" .. query), 400, "invalid_parameter")
    end
  end)

  it("finds files whose names need encoding", function()
    local name = "a b+c%/ü?.txt"
    local upload = initiate({ filename = name }).json
    send("POST", "uploads/" .. upload.upload_id .. "/complete", { parts = put_all(upload, CONTENT) })
    local response = send("GET", "metadata/" .. core.uri_encode(name))
    assert.equal(name, response.json.file_id)
  end)

  describe("the form doors", function()
    local TYPE = "multipart/form-data; boundary=XyZ"

    local function form(content, filename, kind)
      return ('--XyZ\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\nContent-Type: %s\r\n\r\n')
        :format(filename or "form.txt", kind or "text/plain") .. content .. "\r\n--XyZ--\r\n"
    end

    local function post(body, path, headers)
      return send("POST", path or "", body,
        { prefix = "/v0.5/files", headers = headers or { ["content-type"] = TYPE } })
    end

    it("store a file and name it by its name", function()
      local response = post(form "hello")
      assert.equal(200, response.status)
      assert.is_true(response.json.is_valid)
      assert.equal("form.txt", response.json.file_id)
      assert.truthy(response.json.file_uid:find("^fil_"))
      local file = send("GET", "metadata/form.txt").json
      assert.equal(5, file.num_bytes)
      assert.equal("text/plain", file.file_type)
    end)

    it("replace the file of the same name", function()
      local first = post(form "hello").json.file_uid
      local second = post(form "other content").json.file_uid
      assert.are_not.equal(first, second)
      assert.equal(second, send("GET", "metadata/form.txt").json.file_uid)
      assert.equal(13, send("GET", "info").json.num_bytes)
      refused(send("GET", "metadata/" .. first), 404)
    end)

    it("decode base64, over chunks and line ends", function()
      local content = core.random(4096):rep(20)
      local text = core.base64(content):gsub(("."):rep(76), "%0\r\n")
      local response = post(form(text, "b.bin", "application/octet-stream"), "/base64")
      assert.equal(200, response.status)
      assert.equal(#content, send("GET", "metadata/b.bin").json.num_bytes)
      assert.equal(core.crc32c_base64(core.crc32c(content)),
        send("GET", "metadata/b.bin").json.file_attributes.crc32c)
      for _, bad in ipairs { "a", "abc$", "====", "YQ==YQ==", ("YWFh"):rep(30000) .. "!" } do
        refused(post(form(bad), "/base64"), 400, "invalid_parameter")
      end
    end)

    it("take an empty file", function()
      assert.equal(200, post(form "").status)
      assert.equal(0, send("GET", "metadata/form.txt").json.num_bytes)
    end)

    it("refuse what is no form, and change nothing", function()
      refused(post(form "x", "", { ["content-type"] = "text/plain" }), 415, "unsupported_media_type")
      refused(post("{}", "", { ["content-type"] = "application/json" }), 415)
      refused(post("--XyZ--", nil), 400)
      refused(post(form("x", ""), nil), 400)
      refused(post(form("x", "a\1b"), nil), 400)
      refused(post(form("x", ".."), nil), 400)
      refused(post(form("x", "a", "nonsense"), nil), 400, "invalid_file_type")
      refused(post('--XyZ\r\nContent-Disposition: form-data; name="note"\r\n\r\nx\r\n--XyZ--\r\n'), 400,
        "missing_parameter")
      assert.equal(0, send("GET", "info").json.num_files)
    end)

    it("refuse what is larger than the limit", function()
      start { form_max = 100 }
      refused(post(form(("x"):rep(101))), 413, "invalid_file_size")
      assert.equal(200, post(form(("x"):rep(100))).status)
    end)
  end)

  it("refuses bad bodies with the service's shape, and changes nothing", function()
    local cases = {
      "", "{", "[]", "null", "true", '"x"', "5", "{}", '{"filename":"a"}', "\0", "\255\254", "{}{}",
      '{"filename":1,"file_type":"a/b","num_bytes":1}',
      '{"filename":null,"file_type":"a/b","num_bytes":1}',
      '{"filename":"","file_type":"a/b","num_bytes":1}',
      '{"filename":"a\\u0000b","file_type":"a/b","num_bytes":1}',
      '{"filename":"a\\nb","file_type":"a/b","num_bytes":1}',
      '{"filename":"..","file_type":"a/b","num_bytes":1}',
      '{"filename":"' .. ("x"):rep(1025) .. '","file_type":"a/b","num_bytes":1}',
      '{"filename":{"a":1},"file_type":"a/b","num_bytes":1}',
      '{"filename":"a","file_type":"nonsense","num_bytes":1}',
      '{"filename":"a","file_type":"a/b\\u0000","num_bytes":1}',
      '{"filename":"a","file_type":5,"num_bytes":1}',
      '{"filename":"a","file_type":"a/b"}',
      '{"filename":"a","file_type":"a/b","num_bytes":-1}',
      '{"filename":"a","file_type":"a/b","num_bytes":1.5}',
      '{"filename":"a","file_type":"a/b","num_bytes":"1"}',
      '{"filename":"a","file_type":"a/b","num_bytes":null}',
      '{"filename":"a","file_type":"a/b","num_bytes":[]}',
      '{"filename":"a","file_type":"a/b","num_bytes":1e400}',
      '{"filename":"a","file_type":"a/b","num_bytes":9007199254740993}',
      '{"filename":"a","file_type":"a/b","num_bytes":1,"resume_if_started":"yes"}',
      ("["):rep(100000),
    }
    for _, body in ipairs(cases) do
      refused(send("POST", "uploads/initiate", body, { headers = { ["content-type"] = "application/json" } }), 400)
    end
    refused(initiate { num_bytes = 250000000001 }, 413, "invalid_file_size")
    assert.same({}, world.provider.calls)
    assert.equal(0, #send("GET", "metadata").json)
  end)

  it("names each missing field", function()
    local list = refused(send("POST", "uploads/initiate", "{}"), 400, "missing_parameter")
    assert.equal(3, #list)
    assert.are_not.equal(list[1].error_uid, list[2].error_uid)
  end)

  it("refuses bad part lists, and changes nothing", function()
    local upload = initiate().json
    local path = "uploads/" .. upload.upload_id
    local many = {}
    for i = 1, 20001 do many[i] = { part_number = 1, part_token = "x" } end
    for _, parts in ipairs {
      '"x"', "{}", "5", "[1]", "[null]", "[[]]", "[{}]", '[{"part_number":1}]', '[{"part_token":"x"}]',
      '[{"part_number":"1","part_token":"x"}]', '[{"part_number":0,"part_token":"x"}]',
      '[{"part_number":-1,"part_token":"x"}]', '[{"part_number":10001,"part_token":"x"}]',
      '[{"part_number":4,"part_token":"x"}]', '[{"part_number":1.5,"part_token":"x"}]',
      '[{"part_number":1,"part_token":""}]', '[{"part_number":1,"part_token":"\\"\\""}]',
      '[{"part_number":1,"part_token":5}]', '[{"part_number":1,"part_token":"a\\u0000"}]',
      '[{"part_number":1,"part_token":"' .. ("x"):rep(300) .. '"}]',
      '[{"part_number":1,"part_token":"a"},{"part_number":1,"part_token":"b"}]',
      json.encode(many),
    } do
      local body = '{"parts":' .. parts .. "}"
      refused(send("POST", path .. "/parts/checkpoint", body), 400)
      refused(send("POST", path .. "/complete", body), 400)
    end
    refused(send("POST", path .. "/parts/checkpoint", "{}"), 400, "missing_parameter")
    for _, numbers in ipairs { "[]", "[0]", "[4]", '["1"]', "[1.5]", "{}", "null", "[null]" } do
      refused(send("POST", path .. "/parts/urls", '{"part_numbers":' .. numbers .. "}"), 400)
    end
    for _, checksum in ipairs { '""', '"x"', "5", '"AAAA"', '"AAAAAAAAAAAA"', '"!!!!!!!!"' } do
      refused(send("POST", path .. "/complete", '{"parts":[],"integrity_checksum":' .. checksum .. "}"), 400)
    end
    -- A hole in the list is refused too, and the upload goes on.
    local parts = put_all(upload, CONTENT)
    refused(send("POST", path .. "/complete", { parts = { parts[1], parts[3] } }), 400)
    assert.equal(200, send("POST", path .. "/complete", { parts = parts }).status)
  end)

  it("takes a body with 10,000 parts", function()
    start(nil, { profile = { max_parts = 10000 } })
    local upload = initiate({ num_bytes = 40000 }).json
    assert.equal(10000, upload.num_parts)
    local parts = {}
    for i = 1, 10000 do
      parts[i] = { part_number = i, part_token = '"0123456789abcdef0123456789abcdef"' }
    end
    local response = send("POST", "uploads/" .. upload.upload_id .. "/parts/checkpoint", { parts = parts })
    assert.equal(200, response.status)
    assert.equal(10000, response.json.num_checkpointed)
  end)

  it("knows uploads only by their id", function()
    for _, id in ipairs { "upl_aaaaaaaaaaaaaaaaaaaaaaaaaa", "x", "%00", "upl_%27%20OR%201", "..", ("a"):rep(5000),
      "%zz" } do
      for _, call in ipairs { { "parts/urls", { part_numbers = { 1 } } }, { "abort", "{}" }, { "complete", {} },
        { "parts/checkpoint", { parts = json.array {} } } } do
        local response = send("POST", "uploads/" .. id .. "/" .. call[1], call[2])
        assert.truthy(response.status == 404 or response.status == 400)
        refused(response, response.status)
      end
    end
    for _, id in ipairs { "fil_aaaaaaaaaaaaaaaaaaaaaaaaaa", "nothing", "%00", "%0a", ("a"):rep(5000), "%ff" } do
      refused(send("GET", "metadata/" .. id), 404, "file_not_found")
      refused(send("GET", "download/" .. id), 404, "file_not_found")
      refused(send("DELETE", "delete/" .. id), 404, "file_not_found")
    end
  end)

  it("keeps organizations apart, and users' rights", function()
    local upload = initiate().json
    local parts = put_all(upload, CONTENT)
    local path = "uploads/" .. upload.upload_id
    local calls = {
      { "POST", path .. "/parts/urls", { part_numbers = { 1 } } }, { "POST", path .. "/abort", "{}" },
      { "POST", path .. "/parts/checkpoint", { parts = parts } }, { "POST", path .. "/complete", { parts = parts } },
    }
    for _, call in ipairs(calls) do
      refused(send(call[1], call[2], call[3], { token = "eve-other" }), 404, "upload_not_found")
      refused(send(call[1], call[2], call[3], { token = "eve-acme-read" }), 403, "forbidden")
      refused(send(call[1], call[2], call[3], { token = "wrong" }), 401, "unauthorized")
      refused(send(call[1], call[2], call[3], { token = false }), 401, "unauthorized")
    end
    assert.equal(200, send("POST", path .. "/complete", { parts = parts }).status)
    for _, call in ipairs { { "GET", "metadata/" }, { "GET", "download/" }, { "DELETE", "delete/" } } do
      for _, id in ipairs { "a.bin", upload.file_uid } do
        refused(send(call[1], call[2] .. id, nil, { token = "eve-other" }), 404, "file_not_found")
      end
    end
    assert.equal(0, #send("GET", "metadata", nil, { token = "eve-other" }).json)
    assert.equal(0, send("GET", "info", nil, { token = "eve-other" }).json.num_files)
    refused(send("DELETE", "delete/a.bin", nil, { token = "eve-acme-read" }), 403, "forbidden")
    assert.equal(200, send("GET", "metadata/a.bin", nil, { token = "bob-acme" }).status)
  end)

  it("asks for a token before it reads a body", function()
    refused(send("POST", "uploads/initiate", "{broken", { token = false }), 401)
    local response = send("POST", "uploads/initiate", "{broken", { token = false })
    assert.equal('Bearer realm="longshore"', response.headers["www-authenticate"])
  end)

  it("answers wrong methods, paths and content types", function()
    local response = send("PUT", "uploads/initiate")
    refused(response, 405, "method_not_allowed")
    assert.equal("OPTIONS, POST", response.headers.allow)
    refused(send("GET", "nothing/here"), 404, "NOT_FOUND")
    refused(send("GET", "", nil, { prefix = "/elsewhere" }), 404)
    refused(send("POST", "uploads/initiate", "{}", { headers = { ["content-type"] = "text/plain" } }), 415)
    refused(send("POST", "uploads/initiate", { a = 1 }, { headers = { ["content-encoding"] = "gzip" } }), 415)
    refused(send("POST", "uploads/initiate", '{"x":"' .. ("x"):rep(8388608) .. '"}'), 413, "request_too_large")
    refused(app:admit { method = "POST", target = "/v0.5/files/uploads/initiate",
      headers = { authorization = "Bearer ann-acme", ["content-length"] = "99999999" } } and send("GET", "x"), 404)
  end)

  it("answers HEAD without a body, and OPTIONS with the methods", function()
    local response = send("HEAD", "info")
    assert.equal(200, response.status)
    assert.equal("", response.body)
    assert.truthy(tonumber(response.headers["content-length"]) > 2)
    response = send("OPTIONS", "info", nil, { token = false })
    assert.equal(200, response.status)
    assert.equal("GET, HEAD, OPTIONS", response.headers.allow)
  end)

  it("answers a preflight on every path before it asks for a token", function()
    for _, path in ipairs { "uploads/initiate", "uploads/x/parts/urls", "metadata/x", "delete/x" } do
      local response = send("OPTIONS", path, nil, { token = false, headers = { origin = "https://app.example",
        ["access-control-request-method"] = "POST" } })
      assert.equal(200, response.status)
      assert.equal("https://app.example", response.headers["access-control-allow-origin"])
    end
    local response = send("GET", "info", nil, { token = false, headers = { origin = "https://app.example" } })
    assert.equal("https://app.example", response.headers["access-control-allow-origin"])
    refused(send("OPTIONS", "info", nil, { headers = { origin = "https://evil.example",
      ["access-control-request-method"] = "POST" } }), 403)
  end)

  it("hides what went wrong inside, and logs it with the id that the client got", function()
    app.broker = setmetatable({ usage = function() error("the password is hunter2 Bearer abc.def") end },
      { __index = world.broker })
    local response = send("GET", "info")
    local list = refused(response, 500, "internal_error")
    assert.is_nil(response.body:find("hunter2", 1, true))
    local line = world.logged[#world.logged]
    assert.equal("error", line.level)
    assert.equal(list[1].error_uid, line.fields.error_id)
    assert.equal(response.headers["x-request-id"], line.fields.request_id)
    assert.truthy(line.fields.trace)
    assert.is_nil(line.fields.trace:find("abc.def", 1, true))

    for code, status in pairs { database = 503, store = 502, network = 502, timeout = 504, busy = 503, quota = 403,
      rate_limited = 429 } do
      app.broker = setmetatable({ usage = function()
        return errors.fail(code, "details of 10.1.2.3", { status = 418 })
      end }, { __index = world.broker })
      response = send("GET", "info")
      refused(response, status)
      if status >= 500 and code ~= "busy" then assert.is_nil(response.body:find("10.1.2.3", 1, true)) end
      if status == 503 then assert.equal("1", response.headers["retry-after"]) end
    end
  end)

  it("counts a request that was admitted first once", function()
    local asked = 0
    app.limit = function()
      asked = asked + 1
      return true
    end
    local request = { method = "POST", target = PREFIX .. "uploads/initiate",
      headers = { authorization = "Bearer ann-acme", ["content-type"] = "application/json" } }
    assert.is_nil(app:admit(request))
    request.admitted, request.body = true, json.encode { filename = "f", file_type = "a/b", num_bytes = 5 }
    assert.equal(200, app:handle(request).status)
    assert.equal(1, asked)
  end)

  it("limits the types to those configured", function()
    start { file_types = { "text/csv", "video/mp4" } }
    assert.equal(200, initiate().status)
    assert.equal(200, initiate({ filename = "b", file_type = "Text/CSV; charset=utf-8" }).status)
    local list = refused(initiate { filename = "c", file_type = "image/png" }, 400, "invalid_file_type")
    assert.truthy(list[1].suggestion:find("video/mp4", 1, true))
  end)

  it("takes an actor from a host that has authenticated", function()
    local response = app:handle { method = "GET", target = "/v0.5/files/info", actor = worlds.actor() }
    assert.equal(200, response.status)
  end)
end)

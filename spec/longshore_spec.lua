-- The public face, as a script uses it: over a real disk store, without nginx
-- for the broker.
local diskstore = require "spec.support.diskstore"
local http = require "spec.support.http"
local longshore = require "longshore"
local serve = require "spec.support.serve"
local support = require "spec.support"

describe("longshore, from a script", function()
  local store

  setup(function() store = diskstore.start {} end)
  teardown(support.cleanup)

  local function settings(more)
    local options = { endpoint = store.endpoint, region = store.region, profile = "diskstore",
      access_key = store.access_key, secret_key = store.secret_key }
    for name, value in pairs(more) do options[name] = value end
    return options
  end

  it("loads nothing before it is used", function()
    local code, text = support.run(support.lua .. [[ -e 'require "longshore"; local n = 0
      for name in pairs(package.loaded) do if name:find("^longshore%.") then n = n + 1 end end print(n)']])
    assert.equal(0, code, text)
    assert.equal("0\n", text)
    assert.is_nil(longshore.nonsense)
    assert.equal(require "longshore.errors", longshore.errors)
  end)

  it("presigns a PUT and a GET that the store accepts", function()
    local url, grant = assert(longshore.presign(settings { method = "PUT", length = 5,
      url = ("s3://%s/a b/ü+"):format(store.bucket) }))
    assert.equal(url, grant.url)
    assert.equal(200, http.request({ method = "PUT", url = url, body = "hello" }).status)
    assert.equal(403, http.request({ method = "PUT", url = url, body = "hello!" }).status)
    url = assert(longshore.presign(settings { bucket = store.bucket, key = "a b/ü+" }))
    assert.equal("hello", http.request({ url = url }).body)
  end)

  it("says what is wrong with the options", function()
    assert.has_error(function() longshore.presign { url = "bucket/key" } end)
    assert.has_error(function() longshore.upload { to = "x" } end)
    -- Told of where the call is, not in the library.
    for name, call in pairs { upload = { path = "x", to = "http://h" }, download = { id = "x", from = "http://h" },
      presign = { url = "s3://b/k" } } do
      call.paralel = 4
      local ok, why = pcall(function() longshore[name](call) end)
      assert.is_false(ok)
      assert.truthy(why:find("longshore_spec%.lua:%d+: " .. name .. ': there is no option "paralel"$'), why)
    end
    local function raises(expected, name, options)
      local ok, why = pcall(function() longshore[name](options) end)
      assert.is_false(ok, name .. " takes " .. expected)
      assert.truthy(why:find("longshore_spec%.lua:%d+: ") and why:find(": " .. expected, 1, true), why)
    end
    local function with(options, more)
      local all = {}
      for _, from in ipairs { options, more } do
        for name, value in pairs(from) do all[name] = value end
      end
      return all
    end
    -- Each wrong type, with the name of what has it.
    local object = { url = "s3://b/k", access_key = "a", secret_key = "s" }
    local file = { path = "x", to = "http://127.0.0.1:1", token = "t" }
    local back = { id = "x", from = "http://127.0.0.1:1", token = "t" }
    for name, cases in pairs {
      presign = { object, { url = 5, method = 5, expires = "900", length = "5", headers = "x", query = "x",
        endpoint = 5, access_key = 5, session_token = 5, path_style = "yes", clock = 5,
        credentials = "x", profile = 5 } },
      upload = { file, { path = 5, to = 5, token = 5, name = 5, content_type = 5, metadata = "x",
        parallel = "4", attempts = "x", journal = 5, restart = 1, on_event = "x", interrupted = true,
        engine = "x" } },
      download = { back, { id = 5, from = 5, path = 5, overwrite = "yes", on_progress = 5, parallel = "a" } },
    } do
      for option, wrong in pairs(cases[2]) do
        raises(("%s: %s: "):format(name, option), name, with(cases[1], { [option] = wrong }))
      end
      raises(name .. ": a table of options expected, got nil", name)
      raises(name .. ": a table of options expected, got string", name, "s3://b/k")
    end
    raises("bucket: a table of options expected", "bucket")
    raises("app: the path of a configuration or a table expected", "app", 5)
    for expected, call in pairs {
      ["options: table expected"] = function() longshore.uploader.new() end,
      ["request: table expected"] = function() require("longshore.http.request").new() end,
      ["headers: table expected"] = function() require("longshore.policy.webhook").verify("secret") end,
      ["secret: string expected"] = function() require("longshore.policy.webhook").verify(nil, {}, "") end,
    } do
      assert.error_matches(call, expected)
    end
    -- What is missing, and what is said twice, or to one who does not listen.
    raises("presign: bucket: ", "presign", {})
    raises("presign: key: ", "presign", { bucket = "b", access_key = "a", secret_key = "s" })
    raises("presign: url, or bucket and key", "presign", with(object, { bucket = "b" }))
    raises("presign: headers: names are expected", "presign", with(object, { headers = { "x" } }))
    raises("upload: path: ", "upload", { to = "http://h" })
    raises("upload: to: ", "upload", { path = "x" })
    raises("download: id: ", "download", { from = "http://h" })
    raises("download: from: ", "download", { id = "x" })
    raises("upload: service: ", "upload", with(file, { service = "foo" }))
    raises("upload: service: ", "upload", { path = "x", to = "s3://b", service = "newton" })
    raises("upload: dataset: for geolens, and here it is newton", "upload", with(file, { dataset = "x" }))
    raises("upload: token: for athena, cognite, geolens, newton,", "upload",
      { path = "x", to = "s3://b", token = "t" })

    for _, service in ipairs { "newton", "geolens", "athena" } do
      local _, why = longshore.upload { path = "x", to = "http://h", service = service }
      assert.equal("unauthenticated: a token is needed", tostring(why))
      assert.equal("token", why.field)
    end
    local url, err = longshore.presign(settings { url = "s3://bucket/key", expires = 700000 })
    assert.is_nil(url)
    assert.equal("invalid", err.code)
    url, err = longshore.presign { url = "s3://bucket/key", endpoint = store.endpoint }
    assert.is_nil(url)
    assert.equal("access_key", err.field)
  end)

  it("computes CRC32C of strings, in pieces, and of files", function()
    local path = support.write_file(support.tmpdir() .. "/f", "123456789")
    assert.equal(3808858755, longshore.crc32c("123456789"))
    assert.equal(3808858755, longshore.crc32c("6789", longshore.crc32c("12345")))
    assert.equal(3808858755, (longshore.crc32c_file(path)))
    assert.equal("4waSgw==", longshore.crc32c_base64(3808858755))
  end)

  it("uploads to a bucket", function()
    local path = support.write_file(support.tmpdir() .. "/f.bin", ("x"):rep(100000))
    local result = assert(longshore.upload(settings { path = path, to = ("s3://%s/in"):format(store.bucket) }))
    assert.equal(100000, result.bytes)
    local url = assert(longshore.presign(settings { url = ("s3://%s/in/f.bin"):format(store.bucket) }))
    assert.equal(100000, #http.request({ url = url }).body)
  end)

  it("uploads to a broker", function()
    local server = serve.start()
    local path = support.write_file(support.tmpdir() .. "/f.bin", ("y"):rep(100000))
    local result = assert(longshore.upload { path = path, to = server.url, token = server.token })
    assert.equal("crc32c", result.compared)
    assert.equal(longshore.crc32c(("y"):rep(100000)), result.crc32c)
    local _, err = longshore.upload { path = path, to = server.url, token = "ls_wrong" }
    assert.equal("unauthenticated", err.code)
    _, err = longshore.upload { path = path, to = server.url, token = server.token, name = "other.bin",
      interrupted = function() return true end }
    assert.is_true(err.interrupted)
    -- and back, whichever API it speaks
    for _, service in ipairs { "newton", "athena" } do
      result = assert(longshore.upload { path = path, name = service .. ".bin", to = server.url, token = server.token,
        service = service })
      local back = assert(longshore.download { id = result.file_id, from = server.url, token = server.token,
        service = service, path = path .. service })
      assert.equal(100000, back.bytes)
      assert.equal(("y"):rep(100000), support.read_file(path .. service))
    end
    _, err = longshore.download { id = result.file_id, from = server.url, token = server.token, service = "athena",
      path = path }
    assert.equal("conflict", err.code)
    assert.has_error(function() longshore.download { from = "http://x" } end)
    assert.has_error(function() longshore.upload { path = path, to = "http://x", service = "../x" } end)
  end)

  it("is a broker without nginx", function()
    local data = support.tmpdir()
    local app = assert(longshore.app { data = data, diskstore = { enabled = false },
      buckets = { default = settings { bucket = store.bucket } } })
    local token = assert(app.tokens:create { user = "ann", organization = "acme" }).token
    local actor = assert(app.tokens:verify(token))
    local content = ("z"):rep(300)
    local upload = assert(app.broker:initiate(actor, { service = "newton", filename = "z", content_type = "a/b",
      size = #content }))
    local parts = {}
    for i, part in ipairs(assert(app.broker:part_urls(actor, upload.id))) do
      local answer = http.request { method = "PUT", url = part.url,
        body = content:sub(part.offset + 1, part.offset + part.length) }
      parts[i] = { number = part.number, token = answer.headers.etag }
    end
    local file = assert(app.broker:complete(actor, upload.id, { parts = parts, crc32c = longshore.crc32c(content) }))
    assert.equal("registered", file.state)
    -- And the same over HTTP's shapes.
    local response = app:handle { method = "GET", target = "/v0.5/files/metadata/z",
      headers = { authorization = "Bearer " .. token } }
    assert.equal(200, response.status)
    assert.equal(file.id, longshore.json.decode(response.body).file_uid)
    response = app:handle { method = "GET", target = "/v0.5/files/download/z",
      headers = { authorization = "Bearer " .. token } }
    assert.equal(content, http.request({ url = response.headers.location }).body)
    app:close()
    -- The folder alone means the broker that serves from it, wherever that has its database.
    assert(os.execute("mkdir -p " .. data .. "/run"))
    local served = assert(longshore.config.check({ data = data, diskstore = { enabled = false },
      store = { path = "elsewhere.db" }, policy = { max_size = 7 }, buckets = { default = { bucket = "abc",
      region = "us-east-1", access_key = "a", secret_key = "b" } } }, data))
    support.write_file(data .. "/run/config.lua", longshore.config.serialize(served))
    app = assert(longshore.app { data = data })
    assert.equal(data .. "/elsewhere.db", app.config.store.path)
    assert.equal(7, app.config.policy.max_size)
    app:close()
    app = assert(longshore.app { data = data, diskstore = { enabled = false }, buckets = served.buckets })
    assert.equal(data .. "/longshore.db", app.config.store.path)
    app:close()
    local _, err = longshore.app { borker = {} }
    assert.equal("borker", err.field)
  end)
end)

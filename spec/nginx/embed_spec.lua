-- The README's examples for handlers of one's own, run as they stand there (but
-- for paths); and the broker inline, with a store and a transport that yield.
local cjson = require "cjson"
local core = require "longshore.core"
local http = require "spec.support.http"
local mounted = require "spec.support.mounted"
local nginx = require "spec.support.nginx"
local serve = require "spec.support.serve"
local support = require "spec.support"

describe("inside handlers of one's own", function()
  local server, folder, data
  local blocks = {}

  local function block_with(text)
    for _, block in ipairs(blocks) do
      if block:find(text, 1, true) then return block end
    end
    error("no block contains " .. text)
  end

  setup(function()
    for block in support.read_file(support.root .. "/README.md"):gmatch("```nginx\n(.-)```") do
      blocks[#blocks + 1] = block
    end
    folder = support.tmpdir()
    assert(os.execute(("cd %s && mkdir -p srv/files srv/export data/spool logs"):format(folder)))
    data = core.random(4000):rep(25)
    support.write_file(folder .. "/srv/files/a b.bin", data)
    support.write_file(folder .. "/srv/export/a.bin", data)
    local host = serve.start()
    local config = support.write_file(folder .. "/longshore.lua", ([[return { data = %q, broker = { threads = 2 },
      diskstore = { listen = "127.0.0.1:%d" }, policy = { max_size = 1000000 } }]]):format(host.data, host.store_port))
    local lines = mounted.blocks(config)
    lines.http = lines.http .. "\nlog_format crc '$uri $body_crc32c';\n"
    local function place(block)
      return (block:gsub("root /srv;", ("root %s/srv;"):format(folder)))
    end
    local credentials = support.read_file(host.data .. "/diskstore-credentials")
    local bucket = block_with "proxy_pass $object":gsub("127%.0%.0%.1:9000", "127.0.0.1:" .. host.store_port)
      :gsub("BUCKET%-KEY", (credentials:match "access_key=(%S+)")):gsub("BUCKET%-SECRET",
        (credentials:match "secret_key=(%S+)"))
    lines.server = bucket .. place(block_with "location ^~ /files/") .. place(block_with "crc32c_new"):gsub("root ",
      ("access_log %s/crc.log crc; root "):format(folder), 1) .. block_with '"initiate"'
      .. block_with "/upload-url" .. [[
      location = /named { content_by_lua_block {
        local actor = { user = "ann", organization = "acme" }
        ngx.print(require("longshore.nginx").call("upload", actor, ngx.var.args).filename) } }
      location = /tick { content_by_lua_block { ngx.sleep(0.05) ngx.say("tick") } }
      location = /nothing { content_by_lua_block {
        local ok, why = pcall(require("longshore.nginx").call, "initiate", { user = "ann" }, {})
        local result, err = require("longshore.nginx").call("janitor", { user = "ann", organization = "acme" })
        ngx.say(tostring(ok), " ", tostring(why), "\n", tostring(result), " ", tostring(err)) } }]]
    lines.folder = folder
    server = nginx.start(lines)
  end)
  teardown(support.cleanup)

  it("signs", function()
    local url = http.request { url = server.url .. "/upload-url" }.body
    local target = url:match("^https://s3%.example%.com(/%S+)%s*$")
    assert.is_true(core.sigv4_verify({ method = "PUT", target = target, headers = { host = "s3.example.com" } },
      { secret_key = "not-so-secret", now = core.now(), region = "us-east-1" }))
  end)

  it("guards files: presigned requests pass, and no others", function()
    local function sign(options)
      local given = { method = "GET", scheme = "http", host = "127.0.0.1:" .. server.port, path = "/files/a b.bin",
        expires = 60, time = math.floor(core.now()) }
      for name, value in pairs(options or {}) do given[name] = value end
      local signer = core.signer { access_key = given.key or "AKIDEXAMPLE", region = given.region or "us-east-1",
        secret_key = given.secret or "not-so-secret" }
      return assert(signer:presign { method = given.method, scheme = given.scheme, host = given.host,
        path = given.path, expires = given.expires, time = given.time })
    end
    local answer = http.request { url = sign() }
    assert.equal(200, answer.status)
    assert.equal(data, answer.body)
    local function refused(url, why, method)
      local got = http.request { url = url, method = method }
      assert.equal(403, got.status)
      if why then assert.equal(why, got.headers["x-longshore-refused"]) end
    end
    refused(server.url .. "/files/a%20b.bin", "forbidden")
    refused(sign { secret = "other" }, "signature_mismatch")
    refused(sign { key = "OTHER" }, "forbidden")
    refused(sign { region = "eu-west-1" }, "scope")
    refused(sign { time = math.floor(core.now()) - 120 }, "expired")
    refused(sign(), "signature_mismatch", "DELETE")
    refused((sign():gsub("a%%20b", "a%%20c")), "signature_mismatch")
    refused(sign() .. "&more=1", "signature_mismatch")
    refused((sign():gsub("X%-Amz%-Signature=%x", "X-Amz-Signature=z")))
    -- What nginx makes of the path is the file of the signed path, or nothing.
    assert.equal(404, http.request({ url = sign { path = "/files/none" } }).status)
  end)

  it("guards a bucket, whose own key clients never see", function()
    local signer = core.signer { access_key = "AKIDEXAMPLE", secret_key = "not-so-secret", region = "us-east-1" }
    local function sign(method, key)
      return signer:presign { method = method, scheme = "http", host = "127.0.0.1:" .. server.port,
        path = "/longshore/guarded/" .. key, expires = 60, time = math.floor(core.now()) }
    end
    for _, key in ipairs { "plain", "with space+plus%25 and ü (1)!" } do
      assert.equal(404, http.request({ url = sign("GET", key) }).status)
      local put = http.request { method = "PUT", url = sign("PUT", key), body = data }
      assert.equal(200, put.status, put.body)
      local got = http.request { url = sign("GET", key) }
      assert.equal(200, got.status)
      assert.equal(data, got.body)
      local part = http.request { url = sign("GET", key), headers = { Range = "bytes=10-19" } }
      assert.equal(data:sub(11, 20), part.body)
      assert.equal(403, http.request({ method = "PUT", url = sign("GET", key), body = "other" }).status)
    end
    -- What was signed is what is written, not what nginx makes of it.
    for i, key in ipairs { "x/y", "x//y", "x/z/../y", "x/./y" } do
      assert.equal(200, http.request({ method = "PUT", url = sign("PUT", key), body = "body " .. i }).status, key)
    end
    for i, key in ipairs { "x/y", "x//y", "x/z/../y", "x/./y" } do
      assert.equal("body " .. i, http.request({ url = sign("GET", key) }).body, key)
    end
    -- Signed in its headers, it would reach the bucket with two signatures.
    local target = "/longshore/guarded/plain"
    local signed = signer:sign { method = "GET", host = "127.0.0.1:" .. server.port, path = target,
      time = math.floor(core.now()) }
    assert.equal(403, http.request({ url = server.url .. target, headers = signed }).status)
    assert.equal(403, http.request({ url = server.url .. "/longshore/guarded/plain" }).status)
    assert.equal(data, http.request({ url = sign("GET", "plain") }).body)
  end)

  it("computes the CRC32C of a body on its way out", function()
    local answer = http.request { url = server.url .. "/export/a.bin" }
    assert.equal(data, answer.body)
    assert.truthy(support.wait_until(function()
      return (support.read_file(folder .. "/crc.log") or ""):find("/export/a.bin "
        .. core.crc32c_base64(core.crc32c(data)), 1, true)
    end, 30))
  end)

  it("starts an upload in a handler", function()
    local answer = http.request { url = server.url .. "/start?name=a.bin&size=100000" }
    assert.equal(201, answer.status, answer.body)
    local started = cjson.decode(answer.body)
    assert.truthy(started.id:find("^upl_"))
    local put = http.request { method = "PUT", url = started.parts[1].url, body = data }
    assert.equal(200, put.status, put.body)
    local large = http.request { url = server.url .. "/start?name=b.bin&size=1000001" }
    assert.equal(413, large.status)
    assert.truthy(cjson.decode(large.body).error:find("at most 1000000", 1, true))
    assert.equal(400, http.request({ url = server.url .. "/start" }).status)
    for _, odd in ipairs { "name=%00&size=5", "name=%ff&size=5", "name&size=5", "name=a&name=b&size=5",
      "name=a&size=-1", "name=a&size=1.5", "name=a&size=1e99", "name=a&size=nan" } do
      local refused = http.request { url = server.url .. "/start?" .. odd }
      assert.equal(400, refused.status, odd .. " " .. refused.body)
    end
    local spaced = http.request { url = server.url .. "/start?name=a%20b%2B%C3%A9.bin&size=5" }
    assert.equal(201, spaced.status, spaced.body)
    local named = http.request { url = server.url .. "/named?" .. cjson.decode(spaced.body).id }
    assert.equal("a b+\195\169.bin", named.body)
    local text = http.request({ url = server.url .. "/nothing" }).body
    assert.truthy(text:find("false [^\n]*actor%.organization"), text)
    assert.truthy(text:find('no method "janitor"', 1, true), text)
  end)
end)

describe("the broker inline", function()
  teardown(support.cleanup)

  it("runs in the handler, with a store and a transport that yield, and says which part may not", function()
    local store = require("spec.support.diskstore").start()
    local folder = support.tmpdir()
    assert(os.execute("mkdir -p " .. folder .. "/spool"))
    local config = support.write_file(folder .. "/longshore.lua", ([[return {
      data = %q, diskstore = { enabled = false },
      buckets = { default = { profile = "diskstore", bucket = "longshore", region = "us-east-1", endpoint = %q,
        access_key = %q, secret_key = %q } } }]]):format(folder, store.endpoint, store.access_key, store.secret_key))
    local function start(which)
      return nginx.start {
        http = nginx.paths() .. ([[
          lua_shared_dict longshore 1m; lua_shared_dict longshore_metrics 1m; lua_shared_dict longshore_rates 1m;
          init_by_lua_block { require("longshore.nginx").setup { config = %q, inline = function()
            return require("spec.nginx.inline_parts").%s() end } }
          init_worker_by_lua_block { require("longshore.nginx").start() }]]):format(config, which),
        server = [[
          location / { client_body_buffer_size 1m; content_by_lua_block { require("longshore.nginx").handle {
            actor = { user = "ann", organization = "acme" } } } }
          location = /file { content_by_lua_block {
            local file, err = require("longshore.nginx").call("file_by_name", { user = "ann", organization = "acme" },
              { service = "newton", filename = "inline.bin" })
            ngx.say(file and file.state or tostring(err)) } }
          location = /nothing { content_by_lua_block {
            local result, err = require("longshore.nginx").call("janitor", { user = "ann", organization = "acme" })
            ngx.say(tostring(result), " ", tostring(err), " ", tostring(ngx.ctx.longshore_request)) } }]],
      }
    end
    local server = start "good"
    local function call(path, value)
      return http.call("POST", server.url .. "/v0.5/files/uploads/" .. path, nil, value)
    end
    local started = call("initiate", { filename = "inline.bin", file_type = "a/b", num_bytes = 6 })
    assert.equal(200, started.status, started.body .. server:log())
    local put = http.request { method = "PUT", url = started.json.parts[1].url, body = "inline" }
    assert.equal(200, put.status)
    local done = call(started.json.upload_id .. "/complete",
      { parts = { { part_number = 1, part_token = put.headers.etag } } })
    assert.equal(200, done.status, done.body .. server:log())
    assert.equal("registered\n", http.request({ url = server.url .. "/file" }).body)
    -- As in a thread: a mistake is an error and no exception, and the request has an id for the store.
    local text = http.request({ url = server.url .. "/nothing" }).body
    assert.truthy(text:find('^nil internal: [^\n]*no method "janitor"[^\n]* req_%w+\n'), text)
    assert.truthy(server:log():find('a bug: [^\n]*no method "janitor"[^\n]* request_id=req_'))
    -- A form would pass through.
    assert.equal(200, http.call("GET", server.url .. "/v0.5/files/info").status)
    assert.truthy(http.request({ method = "POST", url = server.url .. "/v0.5/files", body = "x",
      headers = { ["Content-Type"] = "multipart/form-data; boundary=x" } }).status >= 400)
    server:stop()
    for which, what in pairs { blocking_store = "the store must declare", blocking_transport = "the transport must" } do
      local other = start(which)
      assert.equal(500, http.call("GET", other.url .. "/v0.5/files/info").status)
      assert.truthy(other:log():find(what, 1, true), other:log())
      other:stop()
    end
  end)
end)

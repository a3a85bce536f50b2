-- Resumable sessions of the disk store: chunks, questions, the end; who may, until
-- when; and a death at every change of the disk.
local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local files = require "longshore.diskstore.files"
local fronts = require "longshore.diskstore.front"
local json = require "longshore.json"
local lfs = require "lfs"
local s3 = require "longshore.provider.s3"
local sessions = require "longshore.sessions"
local support = require "spec.support"

local Q = 256 * 1024
local KEYS = { access_key = "AK", secret_key = "secret" }

describe("resumable sessions of the disk store", function()
  local plain, front, time
  after_each(support.cleanup)

  local function new(options)
    time = { at = 1700000000, now = function() return time.at end }
    local given = { clock = time }
    for k, v in pairs(options or {}) do given[k] = v end
    plain = diskstore.plain(given)
    front = fronts.new { credentials = { KEYS }, region = "us-east-1", max_body = 10 * Q, clock = time }
  end

  local function session(key, more)
    local o = { access_key = KEYS.access_key, secret_key = KEYS.secret_key, bucket = "longshore",
      key = key or "a key/ü", expires_at = time.at + 1000 }
    for k, v in pairs(more or {}) do o[k] = v end
    return sessions.target(o.bucket, o.key, sessions.new_id(o))
  end

  -- A request as nginx would bring it: the gate first.
  local function call(method, target, range, body, more)
    local headers = { ["content-range"] = range, ["content-length"] = body and tostring(#body) or nil }
    for k, v in pairs(more or {}) do headers[k] = v end
    local op, why = front:admit { method = method, target = target, headers = headers }
    if not op then return { status = why.status, code = why.code } end
    local path
    if body and body ~= "" then
      path = plain.folder .. "/spool/" .. core.hex(core.random(8))
      support.write_file(path, body)
      op.spooled = path
    end
    local response
    response, why = plain.store:handle(op)
    if path then os.remove(path) end
    if not response then return { status = why.status, code = why.code, cause = why.cause } end
    return response
  end

  local function put(target, range, body) return call("PUT", target, range, body or "") end

  local function chunk(target, first, body, total)
    return put(target, ("bytes %d-%d/%s"):format(first, first + #body - 1, total or "*"), body)
  end

  local function get(key)
    local response = plain:call("GET", "/longshore/" .. core.uri_encode(key or "a key/ü", true))
    return response and (response.body or "")
  end

  it("take chunks in order; the object is there after the last byte, not before", function()
    new()
    local target = session()
    local a, b, c = ("a"):rep(Q), ("b"):rep(2 * Q), "end"
    local response = chunk(target, 0, a)
    assert.equal(308, response.status)
    assert.equal("bytes=0-" .. Q - 1, response.headers.range)
    assert.equal(core.crc32c_base64(core.crc32c(a)), response.headers["x-amz-checksum-crc32c"])
    assert.equal("bytes=0-" .. 3 * Q - 1, chunk(target, Q, b).headers.range)
    assert.is_nil(get())
    response = chunk(target, 3 * Q, c, 3 * Q + 3)
    assert.equal(200, response.status)
    local told = assert(json.decode(response.body))
    assert.equal(core.crc32c_base64(core.crc32c(a .. b .. c)), told.crc32c)
    assert.equal(("%d"):format(3 * Q + 3), told.size)
    assert.equal(a .. b .. c, get())
  end)

  it("answer where they are", function()
    new()
    local target = session()
    assert.is_nil(put(target, "bytes */*").headers.range)
    assert.equal(308, put(target, "bytes */1000000").status)
    chunk(target, 0, ("a"):rep(Q))
    assert.equal("bytes=0-" .. Q - 1, put(target, "bytes */*").headers.range)
    assert.equal("bytes=0-" .. Q - 1, put(target, "bytes */1000000").headers.range)
    assert.equal(200, put(target, "bytes */" .. Q).status) -- that was all
    assert.equal(Q, #get())
    assert.equal(200, put(target, "bytes */*").status)
    assert.equal(200, chunk(target, 0, "again", 5).status)
  end)

  it("take whole bodies and empty ones", function()
    new()
    assert.equal(200, call("PUT", session "one", nil, "whole").status)
    assert.equal("whole", get "one")
    assert.equal(200, call("PUT", session "none", nil, "").status)
    assert.equal("", get "none")
    assert.equal(200, put(session "zero", "bytes */0").status)
    assert.equal("", get "zero")
    local target = session "mixed"
    chunk(target, 0, ("a"):rep(Q))
    assert.equal(200, call("PUT", target, nil, "all of it").status)
    assert.equal("all of it", get "mixed")
  end)

  it("pass over what was sent again, and keep nothing that leaves a gap", function()
    new()
    local target = session()
    local a, b = ("a"):rep(Q), ("b"):rep(Q)
    chunk(target, 0, a)
    assert.equal("bytes=0-" .. Q - 1, chunk(target, 0, a).headers.range)
    assert.equal("bytes=0-" .. Q - 1, chunk(target, 2 * Q, b).headers.range)
    assert.equal("bytes=0-" .. 2 * Q - 1, chunk(target, 0, a .. b).headers.range)
    assert.equal(200, chunk(target, 2 * Q - 1, "bc", 2 * Q + 1).status)
    assert.equal(a .. b .. "c", get())
  end)

  it("refuse bytes that arrive damaged, when the client says what they are, and keep none", function()
    new()
    local target, a = session(), ("a"):rep(Q)
    local sum = { ["x-longshore-crc32c"] = core.crc32c_base64(core.crc32c(a)) }
    local range = ("bytes 0-%d/*"):format(Q - 1)
    assert.equal("BadDigest", call("PUT", target, range, ("b"):rep(Q), sum).code)
    assert.is_nil(put(target, "bytes */*").headers.range)
    assert.equal("BadDigest", call("PUT", target, nil, ("b"):rep(Q), sum).code)
    assert.equal(308, call("PUT", target, range, a, sum).status)
  end)

  it("refuse what does not fit", function()
    new()
    local target = session()
    local function refused(status, code, response)
      assert.equal(status, response.status)
      assert.equal(code, response.code)
    end
    refused(400, "InvalidArgument", chunk(target, 0, ("a"):rep(Q + 1)))
    refused(400, "InvalidArgument", chunk(target, 0, ("a"):rep(Q - 1), 5 * Q))
    refused(400, "InvalidArgument", put(target, "bytes 0-4/5", "four"))
    refused(400, "InvalidArgument", put(target, "bytes 5-4/9", ""))
    refused(400, "InvalidArgument", put(target, "bytes 0-9/5", ("a"):rep(10)))
    refused(400, "InvalidArgument", put(target, "bytes */5", "x"))
    for _, range in ipairs { "bytes", "bytes 0-3", "0-3/4", "bytes a-b/c", "bytes */", "bytes -1-3/4",
      "bytes 0-3/99999999999999999999" } do
      refused(400, "InvalidArgument", put(target, range, "four"))
    end
    refused(400, "EntityTooLarge", put(target, "bytes */" .. 10 * Q + 1))
    refused(400, "EntityTooLarge", chunk(session("small", { max_size = 3 }), 0, "four", 4))
    refused(400, "EntityTooLarge", call("PUT", session("small", { max_size = 3 }), nil, "four"))
    refused(411, "MissingContentLength", call("PUT", target))
    refused(405, "MethodNotAllowed", call("GET", target))
    chunk(target, 0, ("a"):rep(Q), 3 * Q)
    refused(400, "InvalidArgument", chunk(target, Q, ("a"):rep(Q), 2 * Q)) -- another total
    refused(400, "InvalidArgument", put(target, "bytes */5"))
    assert.equal(308, put(target, "bytes */*").status)
  end)

  it("are bound to one key, one secret and one time", function()
    new()
    local target = session "mine"
    local id = target:match("upload_id=(.+)$")
    for _, wrong in ipairs {
      sessions.target("longshore", "other", id), sessions.target("other-bucket", "mine", id),
      sessions.target("longshore", "mine", id:gsub("^.", "x")), sessions.target("longshore", "mine", id .. "x"),
      (target:gsub("%.(%d+)%.", function(n) return ("." .. tonumber(n) + 1 .. ".") end, 1)),
      (target:gsub("upload_id=.*", "")), (target:gsub("upload_id=.*", "upload_id=")),
      session("mine", { secret_key = "guessed" }), session("mine", { access_key = "BK" }),
    } do
      local response = chunk(wrong, 0, "x", 1)
      assert.equal(404, response.status, wrong)
      assert.equal(404, call("DELETE", wrong).status)
    end
    assert.equal(308, chunk(target, 0, ("a"):rep(Q)).status)
    time.at = time.at + 1000
    assert.equal(410, put(target, "bytes */*").status)
    assert.is_nil(get "mine")
    assert.are_not.equal(session "mine", session "mine") -- nobody can know the next one
  end)

  it("do not take a bucket's place: v1 is no bucket", function()
    new()
    local _, _, why = require("longshore.diskstore.request").split("/v1/files")
    assert.equal("InvalidBucketName", why.code)
    local response = call("PUT", session("k", { bucket = "nowhere" }), nil, "x")
    assert.equal(404, response.status)
  end)

  it("end by a cancel, for good; an object stays", function()
    new()
    local target = session "c"
    chunk(target, 0, ("a"):rep(Q))
    assert.equal(499, call("DELETE", target).status)
    assert.equal(410, put(target, "bytes */*").status)
    assert.equal(410, chunk(target, 0, ("a"):rep(Q)).status)
    assert.equal(410, call("DELETE", target).status)
    local _, left = support.run(("find %s/data -type f"):format(plain.folder))
    assert.equal("", left)
    target = session "d"
    call("PUT", target, nil, "done")
    assert.equal(204, call("DELETE", target).status)
    assert.equal("done", get "d")
  end)

  it("leave nothing when their time is over", function()
    new()
    local running, target = session "one", session "two"
    chunk(running, 0, ("a"):rep(Q))
    chunk(target, 0, ("a"):rep(Q))
    chunk(target, Q, "end", Q + 3)
    call("DELETE", session "three")
    plain.store:sweep { grace = 0, stale = 0 }
    assert.equal("bytes=0-" .. Q - 1, put(running, "bytes */*").headers.range)
    time.at = time.at + 5000
    plain.store:sweep { grace = 0, stale = 0 }
    local left = {}
    for _, name in ipairs(assert(files.list(plain.folder .. "/sessions"))) do left[#left + 1] = name end
    assert.same({}, left)
    assert.equal(Q + 3, #get "two")
    local _, data = support.run(("find %s/data -name '0*' -type f | wc -l"):format(plain.folder))
    assert.equal(2, tonumber(data)) -- the chunks of the object
  end)

  -- Wherever the process dies, the session goes on from what it says it has.
  it("go on after a death at any change of the disk", function()
    local system = os -- luacheck: ignore
    local real_rename, real_fsync = system.rename, core.fsync
    local function restore() system.rename, core.fsync = real_rename, real_fsync end -- luacheck: ignore
    finally(restore)
    local a, b = ("a"):rep(Q), ("b"):rep(Q)
    local die_at, died = 0
    repeat
      die_at = die_at + 1
      core.fsync = function() return true end
      new { durable = true }
      local target, count = session(), 0
      died = false
      local function place(fn)
        local function here()
          count = count + 1
          if count == die_at then
            died = true
            error("dead", 0)
          end
        end
        return function(...)
          here()
          local x, y = fn(...)
          here()
          return x, y
        end
      end
      system.rename = place(real_rename) -- luacheck: ignore
      core.fsync = place(function() return true end)
      pcall(function()
        chunk(target, 0, a)
        chunk(target, Q, b)
        chunk(target, 2 * Q, "end", 2 * Q + 3)
      end)
      restore()
      core.fsync = function() return true end
      local whole = a .. b .. "end"
      local body = get()
      assert.is_true(body == nil or body == whole)
      for _ = 1, 5 do
        local now = put(target, "bytes */" .. #whole)
        if now.status == 200 then break end
        assert.equal(308, now.status, tostring(now.cause))
        local stored = tonumber((now.headers.range or "bytes=0--1"):match("%-(%-?%d+)$")) + 1
        chunk(target, stored, whole:sub(stored + 1, math.min(#whole, stored + Q)), #whole)
      end
      assert.equal(whole, get(), "death at " .. die_at)
      time.at = time.at + 100000
      plain.store:sweep { grace = -1, stale = -1 }
      local _, rest = support.run(("cd %s && find pending trash sessions spool -type f"):format(plain.folder))
      assert.equal("", rest, "death at " .. die_at)
    until not died
    assert.is_true(die_at > 20)
  end)

  it("are signed by the provider, for stores that have them", function()
    local function provider(profile)
      return assert(s3.new { profile = profile, endpoint = "http://127.0.0.1:9", bucket = "longshore",
        region = "us-east-1", access_key = "AK", secret_key = "secret", transport = function() end, path_style = true,
        clock = { now = function() return 1700000000 end } })
    end
    local grant = assert(provider("diskstore"):sign_session { key = "a/b c", expires = 60, max_size = 5 })
    assert.equal(1700000060, grant.expires_at)
    local id = grant.url:match("^http://127%.0%.0%.1:9/v1/files/gcs_proxy/longshore/a/b%%20c%?uploadType=resumable"
      .. "&upload_id=(%S+)$")
    local found = assert(sessions.verify(id, "longshore", "a/b c", function() return "secret" end))
    assert.equal(1700000060, found.expires_at)
    assert.equal(5, found.max_size)
    local _, err = provider("ceph"):sign_session { key = "a" }
    assert.equal("unsupported", err.code)
    assert.is_nil(require("longshore.errors").redact("at " .. grant.url):find(id, 1, true))
  end)

  it("are served: over HTTP, across origins, through a kill -9", function()
    local store = diskstore.start { cors = { origins = { "https://app.example" } } }
    local id = sessions.new_id { access_key = store.access_key, secret_key = store.secret_key, bucket = store.bucket,
      key = "served", expires_at = core.now() + 1000 }
    local target = sessions.target(store.bucket, "served", id)
    local function raw(method, headers, body)
      local lines = { method .. " " .. target .. " HTTP/1.1", "Host: 127.0.0.1:" .. store.port, "Connection: close",
        "Origin: https://app.example" }
      for _, line in ipairs(headers) do lines[#lines + 1] = line end
      if body then lines[#lines + 1] = "Content-Length: " .. #body end
      return store:raw(table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or ""), method)
    end
    local preflight = raw("OPTIONS", { "Access-Control-Request-Method: PUT",
      "Access-Control-Request-Headers: content-range, content-type" })
    assert.equal(200, preflight.status)
    assert.equal("content-range, content-type", preflight.headers["access-control-allow-headers"])
    local answer = raw("PUT", { ("Content-Range: bytes 0-%d/*"):format(Q - 1) }, ("a"):rep(Q))
    assert.equal(308, answer.status)
    assert.equal("bytes=0-" .. Q - 1, answer.headers.range)
    assert.matches("%f[%w]Range%f[%W]", answer.headers["access-control-expose-headers"])
    store:kill()
    store:restart()
    assert.equal("bytes=0-" .. Q - 1, raw("PUT", { "Content-Range: bytes */*" }, "").headers.range)
    assert.equal(200, raw("PUT", { ("Content-Range: bytes %d-%d/%d"):format(Q, Q + 2, Q + 3),
      "Content-Type: text/plain" }, "end").status)
    assert.equal(("a"):rep(Q) .. "end", store:send({ path = "/" .. store.bucket .. "/served" }).body)
    assert.equal(204, raw("DELETE", {}).status)
    id = sessions.new_id { access_key = store.access_key, secret_key = store.secret_key, bucket = store.bucket,
      key = "served", expires_at = core.now() + 1000 }
    target = sessions.target(store.bucket, "served", id)
    assert.equal(499, raw("DELETE", {}).status)
    assert.equal(400, store:send({ method = "PUT", path = "/v1" }).status)
    assert.is_nil(store:log():find(id, 1, true))
    assert.is_truthy(lfs.attributes(store.folder, "mode"))
  end)
end)

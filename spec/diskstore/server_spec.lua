-- What only the server can show: limits before the body, nginx's own refusals,
-- many at once, memory, a full disk.
local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local lfs = require "lfs"
local support = require "spec.support"
local uv = require "luv"

local function code_of(answer)
  return answer.body:match("<Code>(.-)</Code>")
end

describe("the disk store's server", function()
  local store
  setup(function() store = diskstore.start { max_body = 1000000, workers = 2, log_level = "debug" } end)
  teardown(support.cleanup)

  it("refuses before the body is sent: too large, no length, no bucket, no upload, a condition", function()
    store:send { method = "PUT", path = "/longshore/there", body = "x" }
    for code, request in pairs {
      EntityTooLarge = { path = "/longshore/k", announce = 1000001 },
      NoSuchBucket = { path = "/nobucket/k", announce = 1000 },
      NoSuchUpload = { path = "/longshore/k", announce = 1000,
        query = { uploadId = ("a"):rep(32), partNumber = "1" } },
      PreconditionFailed = { path = "/longshore/there", announce = 1000, headers = { ["if-none-match"] = "*" } },
      SignatureDoesNotMatch = { path = "/longshore/k", announce = 1000, secret = "wrong" },
      NotImplemented = { path = "/longshore/k", announce = 1000, headers = { ["x-amz-tagging"] = "a=b" } },
      MissingContentLength = { path = "/longshore/k", unsigned = { ["transfer-encoding"] = "chunked" } },
    } do
      request.method = "PUT"
      request.payload_hash = "UNSIGNED-PAYLOAD"
      request.unsigned = request.unsigned or { expect = "100-continue" }
      local answer = assert(store:send(request))
      assert.equal(code, code_of(answer))
    end
  end)

  it("asks for the body with 100 Continue when all is well", function()
    local s = store:open(store:bytes { method = "PUT", path = "/longshore/asked", payload_hash = "UNSIGNED-PAYLOAD",
      announce = 5, unsigned = { expect = "100-continue" } })
    assert.equal("HTTP/1.1 100 Continue", s:receive("*l"))
    assert.equal("", s:receive("*l"))
    s:send("12345")
    assert.equal(200, store:answer(s).status)
    assert.equal("12345", store:send({ path = "/longshore/asked" }).body)
  end)

  it("stores nothing of a body that breaks off", function()
    local s = store:open(store:bytes { method = "PUT", path = "/longshore/broken", payload_hash = "UNSIGNED-PAYLOAD",
      announce = 5000, body = ("x"):rep(4000) })
    core.sleep(0.05)
    s:close()
    assert.equal(404, store:send({ path = "/longshore/broken" }).status)
    assert.truthy(support.wait_until(function()
      local _, out = support.run("find " .. store.folder .. "/spool -type f")
      return out:gsub("%s", "") == ""
    end, 20))
  end)

  it("gives what nginx itself refuses S3's shape", function()
    local function raw(head)
      return assert(store:raw(head .. "\r\nhost: x\r\nconnection: close\r\n\r\n"))
    end
    local long = ("x"):rep(20000)
    for _, row in ipairs {
      { 400, "BadRequest", "GET /b/../../x HTTP/1.1" }, { 400, "BadRequest", "GET /b/%2E%2E/%2e%2e/x HTTP/1.1" },
      { 400, "BadRequest", "GET /b/%00 HTTP/1.1" }, { 400, "BadRequest", "GET /b/%zz HTTP/1.1" },
      { 400, "BadRequest", "nonsense" }, { 414, "RequestURITooLong", "GET /" .. long .. " HTTP/1.1" },
      { 400, "HeadersTooLarge", "GET / HTTP/1.1\r\nx: " .. long },
      { 400, "BadRequest", "PUT /longshore/k HTTP/1.1\r\ncontent-length: many" },
      { 400, "BadRequest", "PUT /longshore/k HTTP/1.1\r\ncontent-length: 99999999999999999999999999" },
      { 405, "MethodNotAllowed", "TRACE /longshore/k HTTP/1.1" },
    } do
      local answer = raw(row[3])
      assert.equal(row[1], answer.status)
      assert.equal(row[2], code_of(answer))
      assert.equal("application/xml", answer.headers["content-type"])
      assert.equal(answer.headers["x-amz-request-id"], answer.body:match("<RequestId>(.-)<"))
    end
    -- (A refusal is a redirect within nginx, which makes a GET of its method.)
    assert.truthy(store:log():find("PUT /longshore/k: BadRequest", 1, true), store:log())
    -- No location of nginx's own can be reached from outside.
    assert.equal(403, raw("GET /.longshore-refused HTTP/1.1").status == 404 and 403
      or raw("GET /.longshore-refused HTTP/1.1").status)
    assert.equal(405, store:send({ method = "PATCH", path = "/longshore/k" }).status)
  end)

  it("answers its health without a signature, where no bucket can be", function()
    local answer = store:raw("GET /-/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert.equal(200, answer.status)
    assert.equal("ok\n", answer.body)
    assert.equal("InvalidBucketName", code_of(store:send { method = "PUT", path = "/-/health", body = "" }))
  end)

  it("keeps a connection through answers and refusals", function()
    local bytes = {}
    for i = 1, 20 do
      bytes[i] = store:bytes { method = "PUT", path = "/longshore/kept", body = "body " .. i, connection = "keep-alive",
        secret = i % 3 == 0 and "wrong" or nil }
    end
    local s = store:open(table.concat(bytes))
    for i = 1, 20 do
      local line = s:receive("*l")
      assert.equal(i % 3 == 0 and "403" or "200", line:match("^HTTP/1.1 (%d+)"))
      local length
      repeat
        line = s:receive("*l")
        length = tonumber(line:lower():match("^content%-length: (%d+)")) or length
      until line == ""
      if length > 0 then s:receive(length) end
    end
    s:close()
    assert.equal("body 20", store:send({ path = "/longshore/kept" }).body)
  end)

  it("lets one of many writers to a key win whole", function()
    local sockets, bodies = {}, {}
    for i = 1, 24 do
      bodies[core.hex(core.md5(("%02d"):format(i):rep(10000 + i)))] = true
      sockets[i] = store:open(store:bytes { method = "PUT", path = "/longshore/contested",
        body = ("%02d"):format(i):rep(10000 + i) })
      if i % 6 == 0 then
        local answer = store:send { path = "/longshore/contested" }
        if answer.status == 200 then
          local md5 = core.hex(core.md5(answer.body))
          assert.equal('"' .. md5 .. '"', answer.headers.etag)
          assert.is_true(bodies[md5])
        end
      end
    end
    for i = 1, 24 do assert.equal(200, store:answer(sockets[i]).status) end
    local answer = store:send { path = "/longshore/contested" }
    assert.is_true(bodies[core.hex(core.md5(answer.body))])
    assert.equal('"' .. core.hex(core.md5(answer.body)) .. '"', answer.headers.etag)
  end)

  it("lets one of many create a key, with If-None-Match", function()
    local sockets, made = {}, {}
    for i = 1, 16 do
      sockets[i] = store:open(store:bytes { method = "PUT", path = "/longshore/created", body = "writer " .. i,
        headers = { ["if-none-match"] = "*" } })
    end
    for i = 1, 16 do
      local status = store:answer(sockets[i]).status
      if status == 200 then made[#made + 1] = i else assert.equal(412, status) end
    end
    assert.equal(1, #made)
    assert.equal("writer " .. made[1], store:send({ path = "/longshore/created" }).body)
  end)

  it("lets exactly one of Complete and Abort win, and all of many Completes have one answer", function()
    local won = { complete = 0, abort = 0 }
    for round = 1, 20 do
      local path = "/longshore/race-" .. round
      local id = store:send({ method = "POST", path = path, query = { uploads = true } }).body:match("<UploadId>(.-)<")
      local list = ""
      for number = 1, 2 do
        local etag = store:send({ method = "PUT", path = path, body = "part" .. number,
          query = { uploadId = id, partNumber = tostring(number) } }).headers.etag
        list = list .. ("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>"):format(number, etag)
      end
      local complete = store:bytes { method = "POST", path = path, query = { uploadId = id },
        body = "<CompleteMultipartUpload>" .. list .. "</CompleteMultipartUpload>" }
      local abort = store:bytes { method = "DELETE", path = path, query = { uploadId = id } }
      local first = round % 2 == 0 and abort or complete
      local a, b, c = store:open(first), store:open(first == abort and complete or abort), store:open(complete)
      a, b, c = store:answer(a), store:answer(b), store:answer(c)
      local done, aborted = first == abort and b or a, first == abort and a or b
      local object = store:send { path = path }
      if aborted.status == 204 then
        won.abort = won.abort + 1
        assert.equal(404, object.status)
        assert.equal("NoSuchUpload", code_of(done))
        assert.equal("NoSuchUpload", code_of(c))
      else
        won.complete = won.complete + 1
        assert.equal(404, aborted.status)
        assert.equal("part1part2", object.body)
        assert.equal(200, done.status)
        assert.equal(200, c.status)
        assert.equal(done.body, c.body)
      end
    end
    assert.equal(20, won.complete + won.abort)
  end)
end)

-- The server is the same whatever runs this file; this takes long, and runs once.
if not rawget(_G, "jit") then return end

describe("the disk store under pressure", function()
  after_each(support.cleanup)

  it("answers 503 SlowDown with Retry-After when its queue is full, and waits for no lock in the event loop", function()
    local store = diskstore.start { threads = 1, queue = 2, queue_seconds = 1 }
    local lock = assert(core.lock_file(store.folder .. "/buckets/longshore/lock", "exclusive"))
    local sockets = {}
    for i = 1, 6 do
      sockets[i] = store:open(store:bytes { method = "PUT", path = "/longshore/k" .. i, body = "x" })
      core.sleep(0.05) -- that they arrive in this order
    end
    -- One works (and waits for the lock), two are in the queue, three are sent away at once.
    local refused = 0
    for i = 4, 6 do
      local answer = store:answer(sockets[i])
      assert.equal("SlowDown", code_of(answer))
      assert.equal("1", answer.headers["retry-after"])
      refused = refused + 1
    end
    assert.equal(3, refused)
    -- Whoever waited for the lock would wait for ever.
    assert.equal(200, store:raw("GET /-/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").status)
    -- Those in the queue do not wait for ever.
    for i = 2, 3 do assert.equal("SlowDown", code_of(store:answer(sockets[i]))) end
    lock:close()
    assert.equal(200, store:answer(sockets[1]).status)
    assert.equal(200, store:send({ method = "PUT", path = "/longshore/after", body = "x" }).status)
  end)

  it("waits in the event loop neither for the disk's writes nor for what room it has", function()
    local folder = support.tmpdir()
    local code, out = support.run(("cc -O1 -shared -fPIC -o %s/slow.so %s/spec/nginx/slow_disk.c -ldl"):format(folder,
      support.root))
    assert.equal(0, code, out)
    local store = diskstore.start { fsync = true, threads = 2,
      env = { ("LD_PRELOAD=%s/slow.so"):format(folder), ("SLOW_DISK=%s/slow"):format(folder) } }
    assert.equal(200, store:send({ method = "PUT", path = "/longshore/before", body = "x" }).status)
    -- Each thing that is asked of the disk takes until the next turn, which comes only when requests
    -- that need no disk (they are refused by their signature) were answered meanwhile.
    local function turn(n)
      assert(uv.fs_symlink("turn " .. n, folder .. "/next"))
      assert(uv.fs_rename(folder .. "/next", folder .. "/slow"))
    end
    turn(0)
    local sockets = {}
    for n = 1, 8 do
      sockets[n] = store:open(store:bytes { method = "PUT", path = "/longshore/k" .. n, body = "x" })
    end
    for n = 1, 60 do
      core.sleep(0.02)
      for _ = 1, 2 do assert.equal(403, store:send({ path = "/longshore/before", secret = "wrong" }).status) end
      turn(n)
    end
    os.remove(folder .. "/slow")
    for _, s in ipairs(sockets) do assert.equal(200, store:answer(s).status) end
  end)

  -- An object of parts with `size` bytes, by curl: no part of it in this process.
  -- Its presigned URL and its CRC32C.
  local function big(store, folder, size, count)
    support.run(("head -c %d /dev/urandom > %s/part"):format(size / count, folder))
    local path = "/longshore/big"
    local id = store:send({ method = "POST", path = path, query = { uploads = true } }).body:match("<UploadId>(.-)<")
    local signer = core.signer { access_key = store.access_key, secret_key = store.secret_key, region = store.region }
    local list = ""
    for number = 1, count do
      local url = signer:presign { method = "PUT", scheme = "http", host = "127.0.0.1:" .. store.port, path = path,
        query = { uploadId = id, partNumber = tostring(number) }, expires = 600, time = math.floor(core.now()) }
      local _, out = support.run(("curl -s --noproxy '*' -D - -o /dev/null -T %s/part '%s'"):format(folder, url))
      list = list .. ("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>"):format(number,
        out:lower():match("etag: (%S+)"))
    end
    local answer = store:send { method = "POST", path = path, query = { uploadId = id },
      body = "<CompleteMultipartUpload>" .. list .. "</CompleteMultipartUpload>" }
    assert.equal(200, answer.status)
    return signer:presign { method = "GET", scheme = "http", host = "127.0.0.1:" .. store.port, path = path,
      expires = 600, time = math.floor(core.now()) }, answer.body:match("<ChecksumCRC32C>(.-)<")
  end

  it("takes and gives 256 MiB without growing with it, also to a client that reads slowly", function()
    local store = diskstore.start()
    local folder = support.tmpdir()
    local function fetch(url, crc)
      assert.equal(0, (support.run(("curl -s --noproxy '*' -o %s/back '%s'"):format(folder, url))))
      assert.equal(crc, core.crc32c_base64((core.crc32c_file(folder .. "/back"))))
    end
    -- One after the other, every thread has its buffers then.
    for _ = 1, 10 do store:send { method = "PUT", path = "/longshore/warm", body = ("x"):rep(1500000) } end
    for _ = 1, 3 do fetch(big(store, folder, 16 * 1024 * 1024, 2)) end
    local before = store:resident()
    local url, crc = big(store, folder, 256 * 1024 * 1024, 4)
    local after_put = store:resident()
    fetch(url, crc)
    local after_get = store:resident()
    support.run("rm " .. folder .. "/back")
    -- Eight readers that take the first bytes and then nothing.
    local sockets = {}
    for i = 1, 8 do
      sockets[i] = store:open(("GET %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n"):format(
        url:match("^http://[^/]+(.*)$"), store.port))
      assert.equal("HTTP/1.1 200 OK", sockets[i]:receive("*l"))
    end
    core.sleep(0.5)
    local with_readers = store:resident()
    for i = 1, 8 do sockets[i]:close() end
    print(("nginx RSS KiB: %d after 16 MiB in and out, %d after 256 MiB in, %d after them out, "
      .. "%d with 8 stalled readers"):format(before, after_put, after_get, with_readers))
    assert.is_true(after_put - before < 16 * 1024)
    assert.is_true(after_get - before < 24 * 1024)
    assert.is_true(with_readers - before < 48 * 1024)
  end)

  it("goes on giving an object of parts that is deleted meanwhile", function()
    local store = diskstore.start { grace_seconds = 0, sweep_seconds = 1 }
    local folder = support.tmpdir()
    local url, crc = big(store, folder, 64 * 1024 * 1024, 8)
    local reader = support.spawn("/bin/sh", { args = { "-c", ("curl -s --noproxy '*' --limit-rate 20M -o %s/back '%s'")
      :format(folder, url) } })
    assert(support.wait_until(function() return (lfs.attributes(folder .. "/back", "size") or 0) > 0 end, 30))
    assert.equal(204, store:send({ method = "DELETE", path = "/longshore/big" }).status)
    assert.equal(0, reader:wait(120))
    assert.equal(crc, core.crc32c_base64((core.crc32c_file(folder .. "/back"))))
  end)

  it("says so when the disk is full, shows nothing of what did not fit, and goes on when there is room", function()
    local folder = support.tmpdir()
    if support.run(("mount -t tmpfs -o size=24m none %s"):format(folder)) ~= 0 then
      return pending("a small file system cannot be mounted here")
    end
    support.defer(function() support.run("umount -l " .. folder) end)
    local store = diskstore.start { folder = folder .. "/objects" }
    assert.equal(200, store:send({ method = "PUT", path = "/longshore/first", body = ("x"):rep(9000000) }).status)
    local answer = store:send { method = "PUT", path = "/longshore/second", body = ("y"):rep(20000000) }
    assert.is_true(answer.status == 507 or answer.status == 500)
    assert.truthy(({ InsufficientStorage = 1, InternalError = 1 })[code_of(answer)])
    assert.equal(404, store:send({ path = "/longshore/second" }).status)
    assert.equal(200, store:send({ path = "/longshore/first" }).status)
    -- Full to the last block: documents do not fit either.
    support.run(("head -c 30000000 /dev/zero > %s/fill"):format(folder))
    answer = store:send { method = "PUT", path = "/longshore/third", body = "" }
    assert.equal("InsufficientStorage", code_of(answer))
    assert.equal(507, answer.status)
    answer = store:send { method = "POST", path = "/longshore/third", query = { uploads = true } }
    assert.equal("InsufficientStorage", code_of(answer))
    assert.equal(404, store:send({ path = "/longshore/third" }).status)
    os.remove(folder .. "/fill")
    assert.equal(200, store:send({ method = "PUT", path = "/longshore/third", body = "fits" }).status)
    -- (nginx removes a body when it has answered.)
    assert(support.wait_until(function()
      local _, out = support.run(("cd %s/objects && find spool pending trash -type f"):format(folder))
      return out:gsub("%s", "") == ""
    end, 20))
    store:stop()
  end)
end)

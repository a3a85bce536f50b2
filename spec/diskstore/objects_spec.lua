-- Objects over HTTP: bytes, headers, conditions, ranges, checksums, copies.
local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local support = require "spec.support"

describe("the disk store's objects", function()
  local store

  setup(function() store = diskstore.start { buckets = { "longshore", "second" } } end)
  teardown(support.cleanup)

  local function code_of(answer)
    return answer.body:match("<Code>(.-)</Code>")
  end

  local function put(path, body, headers)
    return assert(store:send { method = "PUT", path = path, body = body, headers = headers })
  end

  local function get(path, headers, query)
    return assert(store:send { path = path, headers = headers, query = query })
  end

  it("come back byte for byte, with MD5 as ETag and CRC32C, at every size around the buffers", function()
    for _, size in ipairs { 0, 1, 4095, 4096, 262143, 262144, 262145, 3000000 } do
      local body = core.random(1000):rep(math.ceil(size / 1000)):sub(1, size)
      local answer = put("/longshore/sized", body)
      assert.equal(200, answer.status)
      assert.equal('"' .. core.hex(core.md5(body)) .. '"', answer.headers.etag)
      assert.equal(core.crc32c_base64(core.crc32c(body)), answer.headers["x-amz-checksum-crc32c"])
      answer = get("/longshore/sized")
      assert.is_true(answer.body == body)
      assert.equal(core.crc32c_base64(core.crc32c(body)), answer.headers["x-amz-checksum-crc32c"])
      local head = store:send { method = "HEAD", path = "/longshore/sized" }
      assert.equal(("%d"):format(size), head.headers["content-length"])
      assert.equal(answer.headers.etag, head.headers.etag)
    end
  end)

  it("have any key: every byte, a//b, ../x, trailing slashes, 1024 bytes", function()
    local bytes = {}
    for i = 1, 255 do bytes[#bytes + 1] = string.char(i) end
    local keys = { table.concat(bytes), "a//b", "a/b", "/a", "../x", "../../etc/passwd", "..", ".", "dir/", "dir", "//",
      "%2e%2e/x", "+ %~", ("x"):rep(1024), ("\255"):rep(1024), "data/00/x", "FORMAT", "con" }
    for i, key in ipairs(keys) do
      -- nginx itself refuses a path that climbs above its root.
      if key ~= "../../etc/passwd" then assert.equal(200, put("/longshore/" .. key, "body " .. i).status) end
    end
    assert.equal(400, put("/longshore/../../etc/passwd", "x").status)
    for i, key in ipairs(keys) do
      if key ~= "../../etc/passwd" then assert.equal("body " .. i, get("/longshore/" .. key).body) end
    end
    local answer = put("/longshore/" .. ("x"):rep(1025), "x")
    assert.equal("KeyTooLongError", code_of(answer))
    -- Nothing but the store's own folders has come to be.
    local _, out = support.run("ls -A " .. store.folder)
    assert.equal(".preparing\nFORMAT\nbuckets\ndata\nlocks\npending\nsessions\nspool\ntrash", (out:gsub("%s+$", "")))
    local _, stray = support.run("ls -A " .. store.folder .. "/.. " .. store.folder .. "/buckets")
    assert.falsy(stray:find("etc", 1, true))
  end)

  it("keep content headers and metadata byte for byte", function()
    local headers = {
      ["content-type"] = "text/x-thing; charset=utf-8", ["content-disposition"] = 'attachment; filename="ü \\" x.txt"',
      ["content-encoding"] = "gzip", ["content-language"] = "de", ["cache-control"] = "max-age=3, private",
      expires = "Thu, 01 Dec 1994 16:00:00 GMT", ["x-amz-meta-note"] = "café \t two  blanks",
      ["x-amz-meta-snake_case"] = "1", ["x-amz-meta-dotted.name"] = "2", ["x-amz-meta-empty"] = "",
    }
    assert.equal(200, put("/longshore/kept", "x", headers).status)
    for _, method in ipairs { "GET", "HEAD" } do
      local answer = store:send { method = method, path = "/longshore/kept" }
      for name, value in pairs(headers) do assert.equal(value, answer.headers[name]) end
    end
    assert.equal("binary/octet-stream", (function()
      put("/longshore/plain", "x")
      return get("/longshore/plain").headers["content-type"]
    end)())
    assert.equal(200, put("/longshore/kept", "x", { ["x-amz-meta-long"] = ("v"):rep(2048 - #"long") }).status)
    local answer = put("/longshore/kept", "x", { ["x-amz-meta-long"] = ("v"):rep(2049 - #"long") })
    assert.equal("MetadataTooLarge", code_of(answer))
    answer = put("/longshore/kept", "x", { ["content-disposition"] = ("v"):rep(9000) })
    assert.equal("MetadataTooLarge", code_of(answer))
  end)

  it("answer with what response-* in a signed query says", function()
    put("/longshore/override", "x", { ["content-type"] = "text/plain" })
    for _, presign in ipairs { false, 60 } do
      local answer = store:send { path = "/longshore/override", presign = presign or nil, query = {
        ["response-content-disposition"] = "attachment; filename*=UTF-8''%C3%BC.txt",
        ["response-content-type"] = "image/png", ["response-cache-control"] = "no-cache" } }
      assert.equal("attachment; filename*=UTF-8''%C3%BC.txt", answer.headers["content-disposition"])
      assert.equal("image/png", answer.headers["content-type"])
      assert.equal("no-cache", answer.headers["cache-control"])
    end
    local answer = get("/longshore/override", nil, { ["response-content-type"] = "a\r\nx-evil: 1" })
    assert.equal("InvalidArgument", code_of(answer))
  end)

  it("are read in ranges", function()
    local body = core.random(1000):rep(100)
    put("/longshore/ranged", body)
    for range, part in pairs {
      ["bytes=0-0"] = { 0, 0 }, ["bytes=5-9"] = { 5, 9 }, ["bytes=99990-"] = { 99990, 99999 },
      ["bytes=-7"] = { 99993, 99999 }, ["bytes=99999-200000"] = { 99999, 99999 }, ["bytes=-200000"] = { 0, 99999 },
      ["bytes=0-99999"] = { 0, 99999 },
    } do
      local answer = get("/longshore/ranged", { range = range })
      assert.equal(206, answer.status)
      assert.equal(("bytes %d-%d/100000"):format(part[1], part[2]), answer.headers["content-range"])
      assert.is_true(answer.body == body:sub(part[1] + 1, part[2] + 1))
      assert.is_nil(answer.headers["x-amz-checksum-crc32c"])
    end
    for _, range in ipairs { "bytes=100000-", "bytes=-0", "bytes=100001-100002" } do
      local answer = get("/longshore/ranged", { range = range })
      assert.equal(416, answer.status)
      assert.equal("InvalidRange", code_of(answer))
      assert.equal("bytes */100000", answer.headers["content-range"])
    end
    -- What is no single range is no range.
    for _, range in ipairs { "bytes=9-5", "bytes=1-2,4-5", "lines=1-2", "bytes=", "bytes=a-b" } do
      local answer = get("/longshore/ranged", { range = range })
      assert.equal(200, answer.status)
      assert.equal(100000, #answer.body)
    end
    local etag = '"' .. core.hex(core.md5(body)) .. '"'
    assert.equal(206, get("/longshore/ranged", { range = "bytes=0-1", ["if-range"] = etag }).status)
    assert.equal(200, get("/longshore/ranged", { range = "bytes=0-1", ["if-range"] = '"other"' }).status)
    put("/longshore/empty", "")
    assert.equal(416, get("/longshore/empty", { range = "bytes=0-0" }).status)
    assert.equal(200, get("/longshore/empty").status)
  end)

  it("are read on conditions", function()
    put("/longshore/conditions", "x")
    local etag = '"' .. core.hex(core.md5("x")) .. '"'
    local past, future = "Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 06 Nov 2099 08:49:37 GMT"
    for _, row in ipairs {
      { 200, { ["if-match"] = etag } }, { 200, { ["if-match"] = "*" } },
      { 200, { ["if-match"] = '"a", ' .. etag } }, { 412, { ["if-match"] = '"other"' } },
      { 304, { ["if-none-match"] = etag } }, { 304, { ["if-none-match"] = "*" } },
      { 304, { ["if-none-match"] = "W/" .. etag } }, { 200, { ["if-none-match"] = '"other"' } },
      { 200, { ["if-modified-since"] = past } }, { 304, { ["if-modified-since"] = future } },
      { 412, { ["if-unmodified-since"] = past } }, { 200, { ["if-unmodified-since"] = future } },
      { 200, { ["if-match"] = etag, ["if-unmodified-since"] = past } },
      { 200, { ["if-none-match"] = '"other"', ["if-modified-since"] = future } },
      { 200, { ["if-modified-since"] = "yesterday" } },
    } do
      for _, method in ipairs { "GET", "HEAD" } do
        local answer = store:send { method = method, path = "/longshore/conditions", headers = row[2] }
        assert.equal(row[1], answer.status)
        if row[1] == 304 then assert.equal(etag, answer.headers.etag) end
      end
    end
  end)

  it("are written on conditions", function()
    assert.equal(200, put("/longshore/once", "first", { ["if-none-match"] = "*" }).status)
    local answer = put("/longshore/once", "second", { ["if-none-match"] = "*" })
    assert.equal(412, answer.status)
    assert.equal("PreconditionFailed", code_of(answer))
    assert.equal("first", get("/longshore/once").body)
    local etag = '"' .. core.hex(core.md5("first")) .. '"'
    assert.equal(412, put("/longshore/once", "third", { ["if-match"] = '"other"' }).status)
    assert.equal(200, put("/longshore/once", "third", { ["if-match"] = etag }).status)
    assert.equal("third", get("/longshore/once").body)
    assert.equal(404, put("/longshore/nothing", "x", { ["if-match"] = etag }).status)
  end)

  it("are verified by whatever checksum the client sends, and refused by one unknown", function()
    local sums = {
      ["content-md5"] = core.base64(core.md5("123456789")), ["x-amz-checksum-crc32c"] = "4waSgw==",
      ["x-amz-checksum-crc32"] = "y/Q5Jg==", ["x-amz-checksum-crc64nvme"] = "rosUhgp5mIg=",
      ["x-amz-checksum-sha1"] = core.base64(core.sha1("123456789")),
      ["x-amz-checksum-sha256"] = core.base64(core.sha256("123456789")),
    }
    for name, value in pairs(sums) do
      local answer = put("/longshore/summed", "123456789", { [name] = value })
      assert.equal(200, answer.status)
      if name ~= "content-md5" then assert.equal(value, answer.headers[name]) end
      if name ~= "content-md5" then assert.equal(value, get("/longshore/summed").headers[name]) end
      answer = put("/longshore/refused", "123456780", { [name] = value })
      assert.equal("BadDigest", code_of(answer))
      answer = put("/longshore/refused", "123456789", { [name] = "AAA" })
      assert.truthy(({ InvalidDigest = 1, InvalidRequest = 1 })[code_of(answer)])
    end
    assert.equal(501, put("/longshore/refused", "x", { ["x-amz-checksum-md17"] = "AAAA" }).status)
    assert.equal(400, put("/longshore/refused", "x", { ["x-amz-trailer"] = "x-amz-checksum-crc32" }).status)
    assert.equal(404, get("/longshore/refused").status)
  end)

  it("are not taken with what this store has not: ACLs, encryption, tags, classes, locks", function()
    for name, row in pairs {
      ["x-amz-acl"] = { "public-read", "AccessControlListNotSupported" },
      ["x-amz-grant-read"] = { "id=x", "AccessControlListNotSupported" },
      ["x-amz-server-side-encryption"] = { "AES256", "NotImplemented" },
      ["x-amz-tagging"] = { "a=b", "NotImplemented" },
      ["x-amz-storage-class"] = { "GLACIER", "InvalidStorageClass" },
      ["x-amz-object-lock-mode"] = { "GOVERNANCE", "NotImplemented" },
    } do
      assert.equal(row[2], code_of(put("/longshore/refused", "x", { [name] = row[1] })))
    end
    assert.equal(404, get("/longshore/refused").status)
    assert.equal(200, put("/longshore/private", "x", { ["x-amz-acl"] = "private" }).status)
    for _, name in ipairs { "retention", "legal-hold", "tagging", "versionId", "torrent", "restore" } do
      local answer = store:send { method = "PUT", path = "/longshore/private", query = { [name] = "1" }, body = "no" }
      assert.equal("NotImplemented", code_of(answer))
    end
    assert.equal("x", get("/longshore/private").body)
  end)

  it("are copied with their metadata, or with new, on conditions, without reading the bytes again", function()
    put("/longshore/source é", "bytes", { ["x-amz-meta-a"] = "1", ["content-type"] = "text/a" })
    local from = "longshore/source%20%C3%A9"
    assert.equal(200, put("/second/copy", nil, { ["x-amz-copy-source"] = from }).status)
    local answer = get("/second/copy")
    assert.equal("bytes", answer.body)
    assert.equal("1", answer.headers["x-amz-meta-a"])
    answer = put("/second/new", nil, { ["x-amz-copy-source"] = "/" .. from, ["x-amz-metadata-directive"] = "REPLACE",
      ["x-amz-meta-b"] = "2" })
    assert.equal(200, answer.status)
    answer = get("/second/new")
    assert.is_nil(answer.headers["x-amz-meta-a"])
    assert.equal("2", answer.headers["x-amz-meta-b"])
    local etag = core.hex(core.md5("bytes"))
    for _, row in ipairs {
      { 412, { ["x-amz-copy-source-if-match"] = "x" } }, { 412, { ["x-amz-copy-source-if-none-match"] = etag } },
      { 200, { ["x-amz-copy-source-if-match"] = etag } }, { 412, { ["if-none-match"] = "*" } },
      { 400, { ["x-amz-metadata-directive"] = "MAYBE" } },
    } do
      row[2]["x-amz-copy-source"] = from
      assert.equal(row[1], put("/second/copy", nil, row[2]).status)
    end
    assert.equal(404, put("/second/copy", nil, { ["x-amz-copy-source"] = "longshore/none" }).status)
    assert.equal(404, put("/second/copy", nil, { ["x-amz-copy-source"] = "nobucket/none" }).status)
    assert.equal(400, put("/second/copy", nil, { ["x-amz-copy-source"] = "../x" }).status)
    assert.equal(400, put("/second/copy", nil, { ["x-amz-copy-source"] = "second/copy" }).status)
    -- The copy lives on when the source goes.
    store:send { method = "DELETE", path = "/longshore/source é" }
    assert.equal("bytes", get("/second/copy").body)
  end)

  it("go when deleted, once or again, and many at a time", function()
    put("/longshore/gone", "x")
    for _ = 1, 2 do assert.equal(204, store:send({ method = "DELETE", path = "/longshore/gone" }).status) end
    assert.equal(404, get("/longshore/gone").status)
    put("/longshore/m&1", "x")
    put("/longshore/m2", "x")
    local answer = store:send { method = "POST", path = "/longshore", query = { delete = true },
      body = "<Delete><Object><Key>m&amp;1</Key></Object><Object><Key>m2</Key></Object>"
        .. "<Object><Key>never</Key></Object></Delete>" }
    assert.equal(200, answer.status)
    assert.truthy(answer.body:find("<Deleted><Key>m&amp;1</Key></Deleted>", 1, true))
    assert.equal(404, get("/longshore/m2").status)
    for _, bad in ipairs { "", "<Delete>", "<Delete></Delete>", "<Other/>", "no xml", "<!DOCTYPE x []><Delete/>",
      "<Delete><Object><Key></Key></Object></Delete>" } do
      answer = store:send { method = "POST", path = "/longshore", query = { delete = true }, body = bad }
      assert.equal("MalformedXML", code_of(answer))
    end
    assert.equal("NoSuchBucket", code_of(store:send { method = "POST", path = "/nobucket", query = { delete = true },
      body = "<Delete><Object><Key>x</Key></Object></Delete>" }))
  end)

  it("need a bucket, whose name has the right form and is not reserved", function()
    assert.equal("NoSuchBucket", code_of(put("/nobucket/x", "x")))
    assert.equal("NoSuchBucket", code_of(get("/nobucket/x")))
    for _, name in ipairs { "v1", "ab", "Upper", "under_score", "-x-", "a..b", "127.0.0.1", ("x"):rep(64), "%2e%2e" } do
      assert.equal("InvalidBucketName", code_of(put("/" .. name .. "/x", "x")))
    end
  end)
end)

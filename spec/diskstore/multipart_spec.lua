-- Multipart uploads: what is checked, what exactly one may win, what remains.
local blob = require "longshore.diskstore.blob"
local core = require "longshore.core"
local files = require "longshore.diskstore.files"
local diskstore = require "spec.support.diskstore"
local support = require "spec.support"

describe("multipart uploads of the disk store", function()
  local plain
  after_each(support.cleanup)

  local function new(options) plain = diskstore.plain(options) end

  local function create(key, headers)
    return assert(plain:call("POST", "/longshore/" .. key .. "?uploads", headers)).body:match("<UploadId>(.-)<")
  end

  local function part(key, id, number, body, headers)
    local response, why = plain:call("PUT", ("/longshore/%s?partNumber=%d&uploadId=%s"):format(key, number, id),
      headers, body)
    return response and response.headers.etag, why, response
  end

  local function document(list)
    local pieces = {}
    for _, p in ipairs(list) do
      pieces[#pieces + 1] = ("<Part><PartNumber>%s</PartNumber><ETag>%s</ETag>%s</Part>"):format(p[1], p[2], p[3] or "")
    end
    return '<?xml version="1.0"?><CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
      .. table.concat(pieces) .. "</CompleteMultipartUpload>"
  end

  local function complete(key, id, list, headers)
    return plain:call("POST", ("/longshore/%s?uploadId=%s"):format(key, id), headers, document(list))
  end

  it("become one object: bytes in order, MD5 of MD5s, CRC32C of the whole, kept headers", function()
    new()
    local id = create("k", { ["content-type"] = "video/x", ["x-amz-meta-a"] = "1" })
    local bodies, list, sums = {}, {}, {}
    for number = 7, 1, -1 do
      bodies[number] = core.random(1000):rep(number)
      list[number] = { number, part("k", id, number, bodies[number]) }
      sums[number] = core.md5(bodies[number])
    end
    local whole = table.concat(bodies)
    local etag = core.hex(core.md5(table.concat(sums))) .. "-7"
    local answer = assert(complete("k", id, list))
    assert.truthy(answer.body:find("&quot;" .. etag .. "&quot;", 1, true))
    assert.equal(core.crc32c_base64(core.crc32c(whole)), answer.body:match("<ChecksumCRC32C>(.-)<"))
    local got = plain:call("GET", "/longshore/k")
    assert.is_true(got.body == whole)
    assert.equal('"' .. etag .. '"', got.headers.etag)
    assert.equal("video/x", got.headers["content-type"])
    assert.equal("1", got.headers["x-amz-meta-a"])
    assert.equal(core.crc32c_base64(core.crc32c(whole)), got.headers["x-amz-checksum-crc32c"])
    -- Ranges across every border, and single parts.
    for _, r in ipairs { { 0, 0 }, { 999, 1000 }, { 500, 27999 }, { 2999, 3001 }, { 27999, 27999 }, { 1000, 2999 } } do
      got = plain:call("GET", "/longshore/k", { range = ("bytes=%d-%d"):format(r[1], r[2]) })
      assert.is_true(got.body == whole:sub(r[1] + 1, r[2] + 1))
    end
    got = plain:call("GET", "/longshore/k?partNumber=3")
    assert.is_true(got.body == bodies[3])
    assert.equal("7", got.headers["x-amz-mp-parts-count"])
    local _, why = plain:call("GET", "/longshore/k?partNumber=8")
    assert.equal("InvalidRange", why.code)
  end)

  it("take the part that was sent last, also when the clock was set back", function()
    new()
    local id = create("k")
    local clock, now = plain.store.clock, 1700000000
    plain.store.clock = { now = function() return now end }
    part("k", id, 1, "first")
    now = now - 3600
    part("k", id, 1, "second")
    local etag = part("k", id, 1, "third")
    plain.store.clock = clock
    assert(complete("k", id, { { 1, etag } }))
    assert.equal("third", plain:call("GET", "/longshore/k").body)
  end)

  it("may skip numbers, repeat a part, leave parts out, end with an empty one, be of one part", function()
    new()
    local id = create("k")
    part("k", id, 5, "old")
    local five = part("k", id, 5, "five")
    local nine = part("k", id, 9, "nine")
    part("k", id, 7, "not wanted")
    local last = part("k", id, 10000, "")
    local _, out = support.run("find " .. plain.folder .. "/data -type f -name '0000[5-9]-*' | wc -l")
    assert.equal("3", out:match("%d+"))
    assert(complete("k", id, { { 5, five }, { 9, nine }, { 10000, last } }))
    assert.equal("fivenine", plain:call("GET", "/longshore/k").body)
    _, out = support.run("find " .. plain.folder .. "/data -type f -name '00007-*' | wc -l")
    assert.equal("0", out:match("%d+"))
    id = create("single")
    assert(complete("single", id, { { 1, part("single", id, 1, "alone") } }))
    local got = plain:call("GET", "/longshore/single")
    assert.equal("alone", got.body)
    assert.equal(core.hex(core.md5(core.md5("alone"))) .. "-1", got.headers.etag:sub(2, -2))
    id = create("nothing")
    assert(complete("nothing", id, { { 1, part("nothing", id, 1, "") } }))
    assert.equal(0, plain:call("HEAD", "/longshore/nothing").length)
  end)

  it("are listed in pages that fit together, at 1,001 parts", function()
    new()
    local id = create("k")
    for number = 1, 1001 do part("k", id, number, "x" .. number) end
    local seen, marker = {}, 0
    repeat
      local body = assert(plain:call("GET", ("/longshore/k?uploadId=%s&part-number-marker=%d"):format(id, marker))).body
      for number, etag, size, crc in body:gmatch("<Part><PartNumber>(%d+)</PartNumber><LastModified>.-</LastModified>"
        .. "<ETag>&quot;(.-)&quot;</ETag><Size>(%d+)</Size><ChecksumCRC32C>(.-)</ChecksumCRC32C>") do
        local text = "x" .. number
        seen[#seen + 1] = tonumber(number)
        assert.equal(core.hex(core.md5(text)), etag)
        assert.equal(#text, tonumber(size))
        assert.equal(core.crc32c_base64(core.crc32c(text)), crc)
      end
      marker = tonumber(body:match("<NextPartNumberMarker>(%d+)<"))
      local more = body:match("<IsTruncated>(.-)<") == "true"
    until not more
    assert.equal(1001, #seen)
    for i = 1, 1001 do assert.equal(i, seen[i]) end
    local body = plain:call("GET", ("/longshore/k?uploadId=%s&max-parts=10&part-number-marker=5"):format(id)).body
    assert.equal("6", body:match("<PartNumber>(%d+)"))
    assert.truthy(body:find("<IsTruncated>true<", 1, true))
  end)

  it("are not completed with what is wrong, and can be completed afterwards", function()
    new { min_part = 10 }
    local id = create("k")
    local one, two = part("k", id, 1, ("a"):rep(10)), part("k", id, 2, "short")
    local three = part("k", id, 3, "end")
    local crc = "<ChecksumCRC32C>%s</ChecksumCRC32C>"
    for _, row in ipairs {
      { "InvalidPart", { { 1, one }, { 4, three } } }, { "InvalidPart", { { 1, '"' .. ("0"):rep(32) .. '"' } } },
      { "InvalidPart", { { 1, one, crc:format("AAAAAA==") } } }, { "InvalidPartOrder", { { 2, two }, { 1, one } } },
      { "InvalidPartOrder", { { 1, one }, { 1, one } } },
      { "EntityTooSmall", { { 1, one }, { 2, two }, { 3, three } } },
      { "InvalidArgument", { { 0, one } } }, { "InvalidArgument", { { 10001, one } } },
      { "MalformedXML", {} }, { "MalformedXML", { { "x", one } } }, { "MalformedXML", { { "-1", one } } },
      { "BadDigest", { { 1, one } }, { ["x-amz-checksum-crc32c"] = "AAAAAA==" } },
      { "InvalidRequest", { { 1, one } }, { ["x-amz-mp-object-size"] = "11" } },
      { "NotImplemented", { { 1, one } }, { ["x-amz-checksum-sha256"] = "AAAA" } },
    } do
      local _, why = complete("k", id, row[2], row[3])
      assert.equal(row[1], why.code)
    end
    for _, bad in ipairs { "", "<CompleteMultipartUpload>", "text", "<Other><Part/></Other>" } do
      local _, why = plain:call("POST", "/longshore/k?uploadId=" .. id, {}, bad)
      assert.equal("MalformedXML", why.code)
    end
    local _, why = plain:call("GET", "/longshore/k")
    assert.equal("NoSuchKey", why.code)
    assert(complete("k", id, { { 1, one, crc:format(core.crc32c_base64(core.crc32c(("a"):rep(10)))) }, { 3, three } },
      { ["x-amz-checksum-crc32c"] = core.crc32c_base64(core.crc32c(("a"):rep(10) .. "end")),
        ["x-amz-mp-object-size"] = "13" }))
    assert.equal(("a"):rep(10) .. "end", plain:call("GET", "/longshore/k").body)
  end)

  it("give the same answer when Complete is repeated, and are gone for all else", function()
    new()
    local id = create("k")
    local list = { { 1, part("k", id, 1, "x") }, { 2, part("k", id, 2, "y") } }
    local first = assert(complete("k", id, list))
    assert.equal(first.body, assert(complete("k", id, list)).body)
    local _, why = part("k", id, 3, "late")
    assert.equal("NoSuchUpload", why.code)
    for _, method in ipairs { "GET", "DELETE" } do
      _, why = plain:call(method, "/longshore/k?uploadId=" .. id)
      assert.equal("NoSuchUpload", why.code)
    end
    assert.equal("xy", plain:call("GET", "/longshore/k").body)
    -- Once the object is another one, the upload is unknown.
    plain:call("PUT", "/longshore/k", {}, "other")
    _, why = complete("k", id, list)
    assert.equal("NoSuchUpload", why.code)
    assert.equal("other", plain:call("GET", "/longshore/k").body)
  end)

  it("are bound to their key and bucket, and their ids are taken for nothing else", function()
    new()
    local id = create("k")
    local _, why = part("other", id, 1, "x")
    assert.equal("NoSuchUpload", why.code)
    for _, bad in ipairs { "../../x", ("f"):rep(32), ("g"):rep(32), "", id:upper(), id .. "0" } do
      _, why = plain:call("PUT", "/longshore/k?partNumber=1&uploadId=" .. core.uri_encode(bad), {}, "x")
      assert.equal(bad == id:upper() and bad == id and "" or "NoSuchUpload", why.code)
    end
    for _, number in ipairs { "0", "10001", "x", "1.5", "-1", "99999999999999999999" } do
      _, why = plain:call("PUT", "/longshore/k?partNumber=" .. number .. "&uploadId=" .. id, {}, "x")
      assert.equal("InvalidArgument", why.code)
    end
    _, why = plain:call("POST", "/nobucket/k?uploads")
    assert.equal("NoSuchBucket", why.code)
  end)

  it("verify each part, and a wrong one replaces nothing", function()
    new()
    local id = create("k")
    local etag = part("k", id, 1, "right")
    local _, why = part("k", id, 1, "wrong", { ["content-md5"] = core.base64(core.md5("right")) })
    assert.equal("BadDigest", why.code)
    assert(complete("k", id, { { 1, etag } }))
    assert.equal("right", plain:call("GET", "/longshore/k").body)
  end)

  it("respect If-None-Match and If-Match at Complete, and stay open when it fails", function()
    new()
    plain:call("PUT", "/longshore/k", {}, "first")
    local id = create("k")
    local list = { { 1, part("k", id, 1, "second") } }
    local _, why = complete("k", id, list, { ["if-none-match"] = "*" })
    assert.equal("PreconditionFailed", why.code)
    assert.equal("first", plain:call("GET", "/longshore/k").body)
    assert(complete("k", id, list, { ["if-match"] = core.hex(core.md5("first")) }))
    assert.equal("second", plain:call("GET", "/longshore/k").body)
  end)

  it("take parts by copying, whole or a range, of plain objects and of parts", function()
    new()
    plain:call("PUT", "/longshore/one", {}, "0123456789")
    local id = create("src")
    assert(complete("src", id, { { 1, part("src", id, 1, "abcde") }, { 2, part("src", id, 2, "fghij") } }))
    id = create("k")
    local list = {}
    for i, row in ipairs { { "one" }, { "one", "bytes=2-4" }, { "src" }, { "src", "bytes=3-6" } } do
      local response = assert(plain:call("PUT", ("/longshore/k?partNumber=%d&uploadId=%s"):format(i, id),
        { ["x-amz-copy-source"] = "/longshore/" .. row[1], ["x-amz-copy-source-range"] = row[2] }))
      list[i] = { i, response.body:match("<ETag>&quot;(.-)&quot;") }
    end
    for _, range in ipairs { "bytes=5-10", "bytes=4-2", "2-4", "bytes=-3" } do
      local _, why = plain:call("PUT", ("/longshore/k?partNumber=9&uploadId=%s"):format(id),
        { ["x-amz-copy-source"] = "/longshore/one", ["x-amz-copy-source-range"] = range })
      assert.truthy(why.code == "InvalidRange" or why.code == "InvalidArgument")
    end
    assert(complete("k", id, list))
    assert.equal("0123456789234abcdefghijdefg", plain:call("GET", "/longshore/k").body)
    -- A copy of an object of parts shares the bytes and outlives it.
    assert(plain:call("PUT", "/longshore/copied", { ["x-amz-copy-source"] = "longshore/k" }))
    plain:call("DELETE", "/longshore/k")
    plain.store:sweep { grace = 0 }
    assert.equal("0123456789234abcdefghijdefg", plain:call("GET", "/longshore/copied").body)
  end)

  it("leave nothing behind when aborted, or replaced, or deleted", function()
    new()
    local id = create("k")
    part("k", id, 1, "x")
    assert.equal(204, plain:call("DELETE", "/longshore/k?uploadId=" .. id).status)
    local _, why = part("k", id, 1, "x")
    assert.equal("NoSuchUpload", why.code)
    id = create("k")
    assert(complete("k", id, { { 1, part("k", id, 1, "x") }, { 2, part("k", id, 2, "y") } }))
    plain:call("PUT", "/longshore/k", {}, "z")
    plain:call("DELETE", "/longshore/k")
    plain.store:sweep { grace = 0 }
    local _, out = support.run(("cd %s && find data pending trash spool -type f -o -mindepth 3 -type d"):format(
      plain.folder))
    assert.equal("", (out:gsub("%s", "")))
  end)

  it("of 10,000 parts complete with a few seconds of work", function()
    new()
    local id = create("k")
    -- The parts are put there as UploadPart does, without its fourteen system calls for each.
    local folder, list, body = plain.store.layout:data(id), {}, ("x"):rep(16)
    local row = { size = 16, md5 = core.md5(body), crc32c = core.crc32c(body) }
    for group = 0, 99 do assert(files.make_folder(("%s/%02d"):format(folder, group))) end
    for number = 1, 10000 do
      row.number = number
      local name = blob.part_name(row, core.now())
      assert(files.write(folder .. "/" .. blob.group(number) .. "/" .. name, body))
      list[number] = { number, core.hex(row.md5) }
    end
    -- This process's own time: a busy machine is not the store's fault.
    local start, work = core.monotonic(), os.clock()
    assert(complete("k", id, list))
    work = os.clock() - work
    print(("Complete of 10,000 parts: %.3f s, %.3f s of CPU"):format(core.monotonic() - start, work))
    assert.is_true(work < 4)
    assert.equal(160000, plain:call("HEAD", "/longshore/k").length)
    local got = plain:call("GET", "/longshore/k", { range = "bytes=79990-80020" })
    assert.equal(("x"):rep(31), got.body)
  end)
end)

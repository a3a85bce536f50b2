-- Bodies in chunks: decoded and verified, or refused; never stored as they came.
local chunked = require "longshore.diskstore.chunked"
local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local support = require "spec.support"

local SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
local UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

describe("longshore.diskstore.chunked", function()
  after_each(support.cleanup)

  -- The example of AWS's documentation, "signature calculations ... multiple chunks".
  local signatures = {
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
  }
  local body = ("10000;chunk-signature=%s\r\n%s\r\n400;chunk-signature=%s\r\n%s\r\n0;chunk-signature=%s\r\n\r\n")
    :format(signatures[1], ("a"):rep(65536), signatures[2], ("a"):rep(1024), signatures[3])

  local function decode(text, length, hash)
    local folder = support.tmpdir()
    support.write_file(folder .. "/in", text)
    local kind = chunked.kind(hash or SIGNED)
    local chain = kind.signed and chunked.chain("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
      { date = "20130524", region = "us-east-1", service = "s3" }, "20130524T000000Z",
      "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9") or nil
    local trailers, why = chunked.decode(folder .. "/in", folder .. "/out",
      { kind = kind, length = length, chain = chain })
    return trailers and support.read_file(folder .. "/out"), why or trailers, support.read_file(folder .. "/out")
  end

  it("decodes and verifies the published example", function()
    assert.equal(("a"):rep(66560), (decode(body, 66560)))
  end)

  it("refuses any change of a byte, a signature, a length, and leaves no file", function()
    for _, row in ipairs {
      { "SignatureDoesNotMatch", (body:gsub("aaa\r\n0;", "aab\r\n0;")), 66560 },
      { "SignatureDoesNotMatch", (body:gsub(signatures[2], signatures[1])), 66560 },
      { "SignatureDoesNotMatch", (body:gsub(signatures[3], signatures[1])), 66560 },
      { "IncompleteBody", body, 66559 }, { "IncompleteBody", body, 66561 },
      { "IncompleteBody", body:sub(1, 65000), 66560 }, { "IncompleteBody", body:sub(1, 65700), 66560 },
      { "IncompleteBody", body:sub(1, -90), 66560 }, { "IncompleteBody", ("a"):rep(66560), 66560 },
      { "IncompleteBody", "10000\r\n" .. ("a"):rep(65536) .. "\r\n0\r\n\r\n", 65536 }, { "IncompleteBody", "", 0 },
      { "IncompleteBody", "fffffffffffffff;chunk-signature=" .. signatures[1] .. "\r\n", 66560 },
      { "IncompleteBody", ("x"):rep(5000), 66560 },
    } do
      local got, why, left = decode(row[2], row[3])
      assert.is_nil(got)
      assert.equal(row[1], why.code)
      assert.is_nil(left)
    end
  end)

  it("decodes unsigned chunks with trailers", function()
    local got, trailers = decode("5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n", 11,
      UNSIGNED_TRAILER)
    assert.equal("hello world", got)
    assert.equal("DUoRhQ==", trailers["x-amz-checksum-crc32"])
    assert.equal("hello", (decode("5\r\nhello\r\n0\r\n\r\n", 5, UNSIGNED_TRAILER)))
    assert.equal("hello", (decode("5\r\nhello\r\n0\r\n", 5, UNSIGNED_TRAILER)))
    for _, bad in ipairs { "5\r\nhello!\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nnonsense\r\n\r\n", "5\r\nhello\r\n",
      "-5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\na:1\r\na:2\r\n\r\n" } do
      assert.is_nil((decode(bad, 5, UNSIGNED_TRAILER)))
    end
  end)
end)

describe("the disk store, given a body in chunks,", function()
  local store
  setup(function() store = diskstore.start() end)
  teardown(support.cleanup)

  local function code_of(answer)
    return answer.body:match("<Code>(.-)</Code>")
  end

  -- Sends `pieces` in chunks; signs them after the request unless `sign` is false.
  local function put(path, pieces, options)
    options = options or {}
    local length = #table.concat(pieces)
    local headers = { ["x-amz-decoded-content-length"] = ("%d"):format(options.length or length),
      ["content-encoding"] = options.encoding or "aws-chunked", ["x-amz-trailer"] = options.trailer }
    local hash = options.hash or SIGNED
    return store:send { method = "PUT", path = path, headers = headers, payload_hash = hash, body = "",
      query = options.query, announce = 0, after = function(sent)
        local out = {}
        if hash:find("UNSIGNED") then
          for i, piece in ipairs(pieces) do out[i] = ("%x\r\n%s\r\n"):format(#piece, piece) end
          return table.concat(out) .. "0\r\n" .. (options.trailers or "") .. "\r\n"
        end
        local day, stamp = sent["x-amz-date"]:sub(1, 8), sent["x-amz-date"]
        local key, scope = "AWS4" .. store.secret_key, day .. "/us-east-1/s3/aws4_request"
        for _, step in ipairs { day, "us-east-1", "s3", "aws4_request" } do key = core.hmac_sha256(key, step) end
        local previous = sent.authorization:match("Signature=(%x+)")
        local function sign(kind, ...)
          previous = core.hex(core.hmac_sha256(key, table.concat({ "AWS4-HMAC-SHA256-" .. kind, stamp, scope, previous,
            ... }, "\n")))
          return previous
        end
        local empty = core.hex(core.sha256(""))
        for i = 1, #pieces + 1 do
          local piece = pieces[i] or ""
          out[i] = ("%x;chunk-signature=%s\r\n%s%s"):format(#piece,
            sign("PAYLOAD", empty, core.hex(core.sha256(piece))), piece, pieces[i] and "\r\n" or "")
        end
        local tail = ""
        if options.trailers then
          tail = options.trailers .. "x-amz-trailer-signature:"
            .. sign("TRAILER", core.hex(core.sha256((options.trailers:gsub("\r", ""))))) .. "\r\n"
        end
        return table.concat(out) .. tail .. "\r\n"
      end }
  end

  it("stores what they say, with its own checksums, and drops the encoding's name", function()
    local pieces = { core.random(4096):rep(20), core.random(1000), "x" }
    local whole = table.concat(pieces)
    assert.equal(200, put("/longshore/signed", pieces, { encoding = "aws-chunked,gzip" }).status)
    local answer = store:send { path = "/longshore/signed" }
    assert.is_true(answer.body == whole)
    assert.equal('"' .. core.hex(core.md5(whole)) .. '"', answer.headers.etag)
    assert.equal("gzip", answer.headers["content-encoding"])
    assert.equal(200, put("/longshore/empty", {}).status)
    assert.equal("", store:send({ path = "/longshore/empty" }).body)
  end)

  it("verifies the checksum in the trailer, signed or not", function()
    local sum = core.crc32c_base64(core.crc32c("hello world"))
    for _, hash in ipairs { UNSIGNED_TRAILER, SIGNED .. "-TRAILER" } do
      local options = { hash = hash, trailer = "x-amz-checksum-crc32c",
        trailers = "x-amz-checksum-crc32c:" .. sum .. "\r\n" }
      assert.equal(200, put("/longshore/trailed", { "hello ", "world" }, options).status)
      local answer = store:send { path = "/longshore/trailed" }
      assert.equal("hello world", answer.body)
      assert.is_nil(answer.headers["content-encoding"])
      assert.equal("BadDigest", code_of(put("/longshore/wrong", { "hello", "world" }, options)))
      options.trailers = nil
      assert.truthy(({ IncompleteBody = 1, SignatureDoesNotMatch = 1 })[code_of(put("/longshore/wrong",
        { "hello world" }, options))])
    end
    assert.equal(404, store:send({ path = "/longshore/wrong" }).status)
  end)

  it("takes parts in chunks", function()
    local id = store:send({ method = "POST", path = "/longshore/parts", query = { uploads = true } }).body
      :match("<UploadId>(.-)<")
    local answer = put("/longshore/parts", { "hello ", "world" }, { query = { uploadId = id, partNumber = "1" } })
    assert.equal('"' .. core.hex(core.md5("hello world")) .. '"', answer.headers.etag)
  end)

  it("refuses other kinds, wrong lengths and chunks where there are none", function()
    assert.equal(501, put("/longshore/wrong", { "x" }, { hash = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD" }).status)
    assert.equal("IncompleteBody", code_of(put("/longshore/wrong", { "hello" }, { length = 4 })))
    assert.equal("IncompleteBody", code_of(put("/longshore/wrong", { "hello" }, { length = 6 })))
    assert.equal("EntityTooLarge", code_of(put("/longshore/wrong", { "hello" }, { length = 6 * 2 ^ 30 })))
    assert.equal("InvalidRequest", code_of(store:send { method = "PUT", path = "/longshore/wrong", body = "x",
      headers = { ["content-encoding"] = "aws-chunked" } }))
    assert.equal("NotImplemented", code_of(put("/longshore/wrong", { "x" },
      { hash = UNSIGNED_TRAILER, trailer = "x-amz-meta-late", trailers = "x-amz-meta-late:1\r\n" })))
    assert.equal(404, store:send({ path = "/longshore/wrong" }).status)
    -- (nginx removes a body when it has answered.)
    assert(support.wait_until(function()
      local _, out = support.run("find " .. store.folder .. "/spool -type f")
      return out:gsub("%s", "") == ""
    end, 20))
  end)
end)

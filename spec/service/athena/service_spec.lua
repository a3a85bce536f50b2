-- The athena service over the store in memory: time, owners, batches, faults.
local apps = require "spec.service.athena.app"
local config = require "longshore.config"
local core = require "longshore.core"
local json = require "longshore.json"
local support = require "spec.support"

local shape, refused, request = apps.shape, apps.refused, apps.request
local BOB = { token = "bob-acme-north" }
local EVE = { token = "eve-other-north" }
local ADMIN = { token = "root-acme-north-admin" }

describe("athena:", function()
  local a, provider, clock
  before_each(function()
    a = apps.new { max_size = 1000, max_batch = 4, trash_seconds = 86400, checksum_max = 500 }
    provider, clock = a.world.provider, a.world.clock
  end)
  after_each(support.cleanup)

  local function object(key) return provider.objects["athena/north/" .. key] end
  local function get(id, more) return a:send("GET", "files/" .. id, nil, more) end
  local function file(id, more) return shape(get(id, more), 200, "File").file end
  local function post(path, value, more) return a:send("POST", path, value, more) end
  local function janitor(seconds)
    if seconds then clock.advance(seconds) end
    local report = a.app:janitor()
    assert.equal(0, report.errors, table.concat(report.messages, "; "))
    return report
  end

  it("validates every field in one place, and names it", function()
    for field, values in pairs {
      s3_id = { "x", 7, json.null, "00000000-0000-4000-8000-00000000000" },
      storage_key = { "", "/a", "a/", "a//b", "./a", "a/../b", "a\nb", ".trash/x", ("k"):rep(1100), json.null, 7,
        "a/fil_" .. ("a"):rep(26), "upl_" .. ("b"):rep(26),
        "dlv_" .. ("c"):rep(26) .. "/staging" },
      size_bytes = { -1, 1.5, "7", 2 ^ 53 }, content_type = { "nonsense", "text/plain\n" }, mime_type = { "x" },
      visibility = { "secret", 1 }, public = { "yes" }, metadata = { "x", json.array { 1 }, { a = ("x"):rep(70000) } },
      file_id = { "x" }, bucket = { "", "elsewhere" }, server_side_encryption = { "rot13", "aws:kms:dsse" },
      kms_key_id = { "a b" }, bucket_key_enabled = { "yes", true },
    } do
      for _, value in ipairs(values) do
        local r = request("v/a", { [field] = value })
        if value == json.null then r[field] = nil end
        local message = refused(post("files/upload-url", r), 400)
        local name = field == "kms_key_id" and "kms_key_id" or field
        assert(message:find(name, 1, true), field .. ": " .. message)
      end
    end
    assert.equal(0, (provider:left()))
    -- contradictions between two spellings
    refused(post("files/upload-url", request("v/a", { sse = "AES256", server_side_encryption = "aws:kms" })), 400)
    -- null is absent
    shape(post("files/upload-url", request("v/a", { bucket = json.null, metadata = json.null, public = json.null })),
      201, "Upload")
  end)

  it("lets the configuration allow segments that proxies rewrite", function()
    local b = apps.new { dot_segments = true }
    for _, key in ipairs { "a//b", "./a", "a/../b" } do
      shape(b:send("POST", "files/upload-url", request(key)), 201, "Upload")
    end
    refused(b:send("POST", "files/upload-url", request "/a"), 400)
  end)

  it("keeps what the request says, and updates only what the next one says", function()
    local metadata = { a = 1, b = json.array {}, c = { d = json.null }, n = 9007199254740991 }
    local made = shape(post("files/upload-url", request("k/a.tar.gz", { name = "A", original_name = "ä.gz",
      resource_id = "r1", visibility = "organization", metadata = metadata, size_bytes = 5 })), 201, "Upload").file
    assert.same({ "A", "ä.gz", "r1", "organization", 5, "gz", "k", "presigned" }, { made.name, made.original_name,
      made.resource_id, made.visibility, made.size_bytes, made.extension, made.prefix_path, made.status })
    assert.equal(json.encode(metadata.n), json.encode(made.metadata.n))
    local again = shape(post("files/upload-url", request("k/a.tar.gz", { name = "B" })), 201, "Upload").file
    assert.equal(made.id, again.id)
    assert.same({ "B", "ä.gz", "r1", "organization" }, { again.name, again.original_name, again.resource_id,
      again.visibility })
    assert.equal(json.null, again.metadata.c.d)
    local stripped = post("files/upload-url", request("k/a.tar.gz"), { headers = { ["x-strip-nulls"] = "true" } })
    assert.is_nil(stripped.json.data.file.deleted_at)
    assert.equal(json.null, stripped.json.data.file.metadata.c.d)
  end)

  it("signs the announced length, and no type", function()
    local data = shape(post("files/upload-url", request("l/a", { size_bytes = 5 })), 201, "Upload")
    assert.equal(403, (provider:client_put(data.upload.url, "1234")))
    assert.equal(200, (provider:client_put(data.upload.url, "12345", "any/thing")))
    refused(post("files/upload-url", request("l/b", { size_bytes = 1001 })), 400, "at most 1000")
  end)

  it("lets only the owner overwrite, and nobody an object without a row", function()
    local first = a:upload("o/a", "hello", { visibility = "public" })
    for _, who in ipairs { BOB, EVE, ADMIN } do
      refused(post("files/upload-url", request("o/a"), who), 403)
      refused(post("files/upload-url", request("o/a", { file_id = first.id }), who), 403)
    end
    provider.objects["athena/north/o/stray"] = { body = "x", etag = "e" }
    refused(post("files/upload-url", request("o/stray")), 403)
    local second = a:upload("o/a", "world")
    assert.equal(first.id, second.id)
    assert.equal("world", a:content(first.id))
    refused(post("files/upload-url", request("o/other", { file_id = first.id })), 409)
    refused(post("files/upload-url", request("o/a", { file_id = "00000000-0000-4000-8000-000000000000" })), 404)
  end)

  it("does a batch as a whole or not at all", function()
    a:upload("b/bobs", "x", nil, BOB)
    local function batch(...) return { files = json.array { ... } } end
    refused(post("files/upload-urls", batch(request "b/1", request "b/bobs", request "b/2")), 403)
    refused(post("files/upload-urls", batch(request "b/1", request "b/1")), 400, "twice")
    refused(post("files/upload-urls", batch(request "b/1", request "b/../2")), 400, "files%[1%]")
    refused(post("files/upload-urls", batch(request "b/1", request("b/2", { s3_id = apps.SOUTH }))), 404)
    refused(post("files/upload-urls", batch(request "1", request "2", request "3", request "4", request "5")), 400,
      "at most 4")
    refused(post("files/upload-urls", batch()), 400)
    assert.equal(0, post("files/list", { s3_id = apps.CATALOG }).json.data.count)
    local data = shape(post("files/upload-urls", batch(request "b/3", request "b/1", request "b/2")), 201, "Uploads")
    assert.same({ "b/3", "b/1", "b/2" }, { data.files[1].file.storage_key, data.files[2].upload.storage_key,
      data.files[3].file.storage_key })
  end)

  it("notices bytes that nobody confirms: on read, in a list, and by the janitor", function()
    local read, listed, swept = a:upload("n/read", "1"), a:upload("n/listed", "22"), a:upload("n/swept", "333")
    assert.equal("available", file(read.id).status)
    for _, entry in ipairs(post("files/list", { s3_id = apps.CATALOG, prefix = "n/li" }).json.data.files) do
      assert.same({ listed.id, "available", 2 }, { entry.id, entry.status, entry.size_bytes })
    end
    janitor(61)
    assert.equal("available", a.world.store:managed_file(swept.id).status)
    -- settled when the last URL and its grace are over: no more looks then
    janitor(3601)
    janitor(3600)
    local calls = #provider.calls
    assert.equal(3, file(swept.id).size_bytes)
    assert.equal(calls, #provider.calls)
    assert.is_nil(a.world.store:managed_file(swept.id).due)
  end)

  it("sees content that a living URL has replaced, and removes what is too large", function()
    local made, upload = a:upload("r/a", "first", { size_bytes = json.null })
    assert.equal(5, file(made.id).size_bytes)
    provider:client_put(upload.url, "second!")
    assert.equal(7, file(made.id).size_bytes)
    assert.equal("second!", a:content(made.id))
    provider:client_put(upload.url, ("x"):rep(1001))
    assert.equal("failed", file(made.id).status)
    assert.is_nil(object "r/a")
    assert.equal(409, select(2, a:content(made.id)).status)
    provider:client_put(upload.url, "third")
    assert.equal("available", file(made.id).status)
    -- vanished behind our back
    provider.objects["athena/north/r/a"] = nil
    assert.equal("failed", file(made.id).status)
  end)

  it("forgets what never came, and frees the key", function()
    local made = shape(post("files/upload-url", request "f/a"), 201, "Upload").file
    refused(post("files/upload-url", request "f/a", BOB), 403)
    janitor(3601)
    refused(post("files/upload-url", request "f/a", BOB), 403)
    local report = janitor(3601)
    assert.equal(1, report.expired)
    refused(get(made.id), 404)
    shape(post("files/upload-url", request "f/a", BOB), 201, "Upload")
    refused(post("files/upload-url", request("f/a", { file_id = made.id })), 404)
  end)

  it("checks what is confirmed", function()
    local body = "hello, quay"
    local sum = core.hex(core.sha256(body))
    local made = shape(post("files/upload-url", request "c/a"), 201, "Upload")
    local path = ("files/%s/confirm-upload"):format(made.file.id)
    refused(post(path, {}), 409, "no bytes")
    provider:client_put(made.upload.url, body)
    refused(post(path, { checksum_sha256 = "abc" }), 400, "SHA%-256")
    refused(post(path, { size_bytes = 3 }), 409, "11 bytes have arrived")
    assert.equal("failed", file(made.file.id).status)
    refused(a:send("GET", "files/" .. made.file.id .. "/url"), 409)
    refused(post(path, { checksum_sha256 = ("0"):rep(64) }), 409, "another SHA")
    local done = shape(post(path, { checksum_sha256 = sum:upper(), size_bytes = #body, content_type = "text/css",
      metadata = { a = 1 } }), 200, "File").file
    assert.same({ "available", sum, "text/css", 1 }, { done.status, done.checksum_sha256, done.mime_type,
      done.metadata.a })
    shape(post(path, { checksum_sha256 = core.base64(core.sha256(body)) }), 200, "File")
    shape(post(path), 200, "File")
    -- other bytes, other sum
    provider:client_put(made.upload.url, "HELLO, QUAY")
    assert.equal(json.null, file(made.file.id).checksum_sha256)
    refused(post(path, { checksum_sha256 = sum }), 409)
    provider:client_put(made.upload.url, ("x"):rep(600))
    refused(post(path, { checksum_sha256 = sum }), 400, "at most 500")
  end)

  it("reads for the checksum in pieces, and notices a change in between", function()
    local body = ("0123456789abcdef"):rep(30)
    local made = a:upload("c/pieces", body)
    local path = ("files/%s/confirm-upload"):format(made.id)
    file(made.id)
    provider.after = function(op)
      if op == "get" then provider.objects["athena/north/c/pieces"] = { body = body:upper(), etag = "new" } end
    end
    refused(post(path, { checksum_sha256 = core.hex(core.sha256(body:upper() .. "x")) }), 409)
    provider.after = nil
    shape(post(path, { checksum_sha256 = core.hex(core.sha256(body:upper())) }), 200, "File")
  end)

  it("gives a URL again while it is young, and says so truly", function()
    local first = shape(post("files/upload-url", request "u/a"), 201, "Upload").upload
    clock.advance(1000)
    local second = shape(post("files/upload-url", request "u/a"), 201, "Upload").upload
    assert.same({ true, "database", first.url, 2600 }, { second.cache_hit, second.cache_layer, second.url,
      second.expires_in })
    assert.equal(first.expires_at_epoch_seconds, second.expires_at_epoch_seconds)
    for field, value in pairs { size_bytes = 3, content_type = "a/b", sse = "AES256" } do
      local other = shape(post("files/upload-url", request("u/a", { [field] = value })), 201, "Upload").upload
      assert.same({ false, "none" }, { other.cache_hit, other.cache_layer })
    end
    clock.advance(801) -- the second half of its life
    local third = shape(post("files/upload-url", request "u/a"), 201, "Upload").upload
    assert.is_false(third.cache_hit)
    assert.not_equal(first.url, third.url)
    assert.equal(3600, third.expires_in)
    -- URLs to read, too, until the file has changed
    provider:client_put(third.url, "one")
    local id = third.file_id
    local function url(purpose)
      return shape(a:send("GET", ("files/%s/url?purpose=%s"):format(id, purpose or "read")), 200, "SignedUrl")
    end
    assert.is_false(url().cache_hit)
    assert.is_true(url().cache_hit)
    assert.is_false(url("download").cache_hit)
    assert.equal("stream", url("stream").purpose)
    provider:client_put(third.url, "two")
    assert.is_false(url().cache_hit)
    assert.equal(200, a:send("PATCH", "files/" .. id, { storage_key = "u/moved" }).status)
    assert.is_false(url().cache_hit)
    janitor(7300)
    assert.is_nil((a.world.store:cached_url("x", 0)))
  end)

  it("uses the host's memory where there is one", function()
    local memory = {}
    local b = apps.new({}, { cache = { get = function(k) return memory[k] end, claim = function() return true end,
      set = function(k, text, seconds)
        memory[k] = text
        assert.is_true(seconds <= 3600)
      end } })
    assert.is_false(b:send("POST", "files/upload-url", request "m").json.data.upload.cache_hit)
    local hit = shape(b:send("POST", "files/upload-url", request "m"), 201, "Upload").upload
    assert.same({ true, "memory" }, { hit.cache_hit, hit.cache_layer })
  end)

  it("passes encryption on as headers, where the store can", function()
    local seen
    provider.hook = function(op, r) if op == "sign_put" or op == "create_multipart" then seen = r.headers end end
    local data = shape(post("files/upload-url", request("e/a", { server_side_encryption = "aws:kms",
      ssekms_key_id = "arn:aws:kms:x", bucket_key_enabled = true })), 201, "Upload")
    local want = { ["x-amz-server-side-encryption"] = "aws:kms",
      ["x-amz-server-side-encryption-aws-kms-key-id"] = "arn:aws:kms:x",
      ["x-amz-server-side-encryption-bucket-key-enabled"] = "true" }
    assert.same(want, seen)
    seen = nil
    shape(post("multipart/create", { file_id = data.file.id }), 200, "MultipartCreated")
    assert.same(want, seen)
    shape(post("multipart/create", { file_id = data.file.id, sse = "AES256" }), 200, "MultipartCreated")
    assert.same({ ["x-amz-server-side-encryption"] = "AES256" }, seen)
    refused(post("files/upload-url", request("e/b", { sse = "AES256", kms_key_id = "k" })), 400)
    refused(post("files/upload-url", request("e/b", { sse = "aws:kms:dsse" })), 400, "the fake store does not")
  end)

  it("moves a file to its new key, and its old URLs lead nowhere", function()
    local made, upload = a:upload("p/a.txt", "cargo")
    local moved = shape(a:send("PATCH", "files/" .. made.id, { storage_key = "q/b.txt" }), 200, "File").file
    assert.same({ "q/b.txt", "q", "available", made.id },
      { moved.storage_key, moved.prefix_path, moved.status, moved.id })
    assert.equal("cargo", a:content(made.id))
    assert.is_nil(object "p/a.txt")
    -- a PUT to the old key, with a URL that is still alive, reaches nobody: not even the next owner of the key
    refused(post("files/upload-url", request "p/a.txt", BOB), 403)
    provider:client_put(upload.url, "wrong")
    assert.equal("cargo", a:content(made.id))
    janitor(7300)
    janitor()
    assert.is_nil(object "p/a.txt")
    a:upload("p/a.txt", "bob's", nil, BOB)
    -- and what is taken stays
    refused(a:send("PATCH", "files/" .. made.id, { storage_key = "p/a.txt" }), 409)
    provider.objects["athena/north/stray"] = { body = "x", etag = "e" }
    refused(a:send("PATCH", "files/" .. made.id, { storage_key = "stray" }), 403)
    refused(a:send("PATCH", "files/" .. made.id, { storage_key = "a/../b" }), 400)
    refused(a:send("PATCH", "files/" .. made.id, { storage_key = "z", bucket = "elsewhere" }), 400)
    assert.equal("q/b.txt", file(made.id).storage_key)
    -- to itself: nothing happens
    shape(a:send("PATCH", "files/" .. made.id, { storage_key = "q/b.txt" }), 200, "File")
    -- a file without bytes stays where it is
    local empty = shape(post("files/upload-url", request "p/empty"), 201, "Upload").file
    refused(a:send("PATCH", "files/" .. empty.id, { storage_key = "p/new" }), 409)
  end)

  it("puts many files into a folder, and many into the trash", function()
    local one, two = a:upload("s/one.txt", "1"), a:upload("s/two.txt", "2")
    local ids = json.array { one.id, two.id }
    refused(post("files/update-many", { file_ids = ids, storage_key = "t" }), 400, "folder")
    local moved = shape(post("files/update-many", { file_ids = ids, storage_key = "t/u/" }), 200, "Files")
    assert.same({ "t/u/one.txt", "t/u/two.txt", 2 }, { moved.files[1].storage_key, moved.files[2].storage_key,
      moved.count })
    local bobs = a:upload("s/bobs", "b", { visibility = "public" }, BOB)
    refused(post("files/delete-many", { file_ids = json.array { one.id, bobs.id } }), 403)
    refused(post("files/visibility-many", { file_ids = json.array { one.id, bobs.id }, public = true }), 403)
    assert.equal("private", file(one.id).visibility)
    local shown = shape(post("files/visibility-many", { file_ids = ids, visibility = "organization" }), 200, "Files")
    assert.same({ 2, one.id, "organization" }, { shown.count, shown.files[1].id, shown.files[2].visibility })
    assert.equal(2, shape(post("files/delete-many", { file_ids = ids }), 200, "Files").count)
    refused(get(one.id), 404)
    refused(post("files/delete-many", { file_ids = ids }), 404)
  end)

  it("keeps deleted files in the trash, brings them back, and empties it in time", function()
    local made = a:upload("d/a.txt", "precious")
    local gone = shape(a:send("DELETE", "files/" .. made.id), 200, "File").file
    assert.equal("soft_deleted", gone.status)
    assert.not_equal(json.null, gone.deleted_at)
    assert.is_nil(object "d/a.txt")
    for _, path in ipairs { "", "/url", "/proxy" } do refused(a:send("GET", "files/" .. made.id .. path), 404) end
    refused(a:send("DELETE", "files/" .. made.id), 404)
    refused(post("multipart/create", { file_id = made.id }), 404)
    assert.equal(0, post("files/list", { s3_id = apps.CATALOG }).json.data.count)
    refused(post("files/" .. made.id .. "/restore", nil, BOB), 404)
    local back = shape(post("files/" .. made.id .. "/restore"), 200, "File").file
    assert.same({ "available", json.null, "d/a.txt" }, { back.status, back.deleted_at, back.storage_key })
    assert.equal("precious", a:content(made.id))
    refused(post("files/" .. made.id .. "/restore"), 409, "not deleted")
    -- the key is the owner's again at once, another file's restore has to wait
    a:send("DELETE", "files/" .. made.id)
    local new = a:upload("d/a.txt", "newer")
    assert.not_equal(made.id, new.id)
    refused(post("files/" .. made.id .. "/restore"), 409, "another file's")
    a:send("DELETE", "files/" .. new.id)
    shape(post("files/" .. made.id .. "/restore"), 200, "File")
    assert.equal("precious", a:content(made.id))
    a:send("DELETE", "files/" .. made.id)
    janitor(86401)
    janitor(7200)
    refused(post("files/" .. made.id .. "/restore"), 404)
    assert.equal(0, (provider:left()))
  end)

  it("purges from the trash, or straight away", function()
    local one, two = a:upload("g/one", "1"), a:upload("g/two", "2")
    a:send("DELETE", "files/" .. one.id)
    assert.equal("purged", shape(a:send("DELETE", "files/" .. one.id .. "/purge"), 200, "File").file.status)
    assert.equal("purged", shape(a:send("DELETE", "files/" .. two.id .. "/purge"), 200, "File").file.status)
    assert.equal(0, (provider:left()))
    refused(a:send("DELETE", "files/" .. one.id .. "/purge"), 404)
    refused(post("files/" .. one.id .. "/restore"), 404)
    a.app:janitor()
    clock.advance(7300)
    janitor()
    assert.equal(0, a.world.store:count_managed(apps.CATALOG))
  end)

  it("frees a key only when the last URL to it has ended", function()
    local made, upload = a:upload("h/a", "mine")
    a:send("DELETE", "files/" .. made.id .. "/purge")
    refused(post("files/upload-url", request "h/a", BOB), 403)
    provider:client_put(upload.url, "late")
    janitor(3700)
    refused(post("files/upload-url", request "h/a", BOB), 403)
    janitor(3600)
    assert.is_nil(object "h/a")
    shape(post("files/upload-url", request "h/a", BOB), 201, "Upload")
  end)

  it("goes on, whatever call it died in, and loses no byte", function()
    for _, step in ipairs { "copy", "delete" } do
      for _, when in ipairs { "before", "after" } do
        for _, how in ipairs { "delete", "restore", "move" } do
          local key = ("x/%s-%s-%s"):format(step, when, how)
          local made = a:upload(key, key)
          if how == "restore" then a:send("DELETE", "files/" .. made.id) end
          clock.advance(7300)
          provider:fault(step, { when = when, raise = true })
          local answer
          if how == "delete" then answer = a:send("DELETE", "files/" .. made.id)
          elseif how == "restore" then answer = post("files/" .. made.id .. "/restore")
          else answer = a:send("PATCH", "files/" .. made.id, { storage_key = key .. "-new" }) end
          assert.equal(500, answer.status)
          janitor(901)
          janitor(1)
          if how == "delete" then
            refused(get(made.id), 404)
            shape(post("files/" .. made.id .. "/restore"), 200, "File")
          end
          assert.equal(key, a:content(made.id), key)
          assert.equal(how == "move" and key .. "-new" or key, file(made.id).storage_key)
          -- nothing is left but this one object
          local left = {}
          for name in pairs(provider.objects) do if name:find(key, 1, true) then left[#left + 1] = name end end
          assert.equal(1, #left, table.concat(left, " "))
        end
      end
    end
    for name in pairs(provider.objects) do assert.is_nil(name:find("trash", 1, true), name) end
  end)

  it("takes bytes from the host, and finds them after a death behind the PUT", function()
    local made = a:upload("i/a", "first", { size_bytes = json.null })
    file(made.id)
    janitor(7300)
    assert.is_nil(a.world.store:managed_file(made.id).due)
    local function tunnel(body, more)
      more = more or { headers = { ["content-type"] = "a/b" } }
      return a:send("PUT", ("files/%s/upload"):format(made.id), body, more)
    end
    local stored = shape(tunnel "second", 200, "File").file
    assert.same({ 6, "a/b", core.hex(core.sha256("second")), "available" }, { stored.size_bytes, stored.mime_type,
      stored.checksum_sha256, stored.status })
    refused(tunnel("x", BOB), 404)
    refused(tunnel(("x"):rep(1001)), 400, "at most 1000")
    refused(tunnel("x", { headers = { ["content-type"] = "nonsense" } }), 400)
    assert.equal("second", a:content(made.id))
    janitor(1)
    assert.is_nil(a.world.store:managed_file(made.id).due)
    provider:fault("put", { when = "after", raise = true })
    assert.equal(500, tunnel("third!!").status)
    janitor(301)
    assert.equal(7, file(made.id).size_bytes)
    assert.equal("third!!", a:content(made.id))
    -- what was announced is what must come
    local small = shape(post("files/upload-url", request("i/b", { size_bytes = 3 })), 201, "Upload").file
    refused(a:send("PUT", ("files/%s/upload"):format(small.id), "1234"), 400, "3 bytes were announced")
  end)

  it("answers 503 while a database is away", function()
    local south = a.config.services.athena.clients.south.store
    south.path = south.path .. "/not/a/folder.db"
    refused(a:send("POST", "files/list", { s3_id = apps.SOUTH }, { token = "ann-acme-south" }), 503)
    a.world.store.db.lost = true
    a.world.store.db.dialect.connect = function() return nil, "unable to open database file" end
    refused(get "00000000-0000-4000-8000-000000000000", 503)
  end)

  it("answers 503 and 504 while the store is away, and changes nothing", function()
    local made = a:upload("w/a", "here")
    for code, status in pairs { unavailable = 503, network = 503, timeout = 504, busy = 503, forbidden = 503 } do
      provider:fault("head", { code = code, times = 99 })
      refused(post("files/upload-url", request "w/new"), status)
      refused(get(made.id), status)
      provider:fault("head", { times = 0 })
      provider:fault("create_multipart", { code = code })
      refused(post("multipart/create", { file_id = made.id }), status)
    end
    assert.equal(1, post("files/list", { s3_id = apps.CATALOG, prefix = "w/" }).json.data.count)
    assert.equal("here", a:content(made.id))
    -- a bucket that is not there says nothing of what was in it
    provider:fault("head", { code = "not_found", store_code = "NoSuchBucket" })
    refused(get(made.id), 503)
    assert.equal("available", file(made.id).status)
  end)

  describe("multipart", function()
    local function begin(key, fields)
      local made = shape(post("files/upload-url", request(key, fields)), 201, "Upload").file
      return made.id, shape(post("multipart/create", { file_id = made.id }), 200, "MultipartCreated").upload_id
    end

    local function send(id, upload_id, number, body)
      local grant = shape(post("multipart/sign-part", { file_id = id, upload_id = upload_id, part_number = number }),
        200, "PartUrl")
      local status, etag = provider:client_put(grant.url, body)
      assert.equal(200, status)
      return { part_number = number, etag = etag }
    end

    local function complete(id, upload_id, ...)
      return post("multipart/complete", { file_id = id, upload_id = upload_id, parts = json.array { ... } })
    end

    it("assembles what arrived, and what was announced only", function()
      local id, upload_id = begin("m/a", { size_bytes = 8 })
      assert.equal("uploading", file(id).status)
      local one, two = send(id, upload_id, 1, "1234"), send(id, upload_id, 2, "5678")
      refused(complete(id, upload_id, one), 409, "size_bytes")
      refused(complete(id, upload_id, two), 400, "without gaps")
      refused(complete(id, upload_id, one, { part_number = 2, etag = '"other"' }), 400, "another ETag")
      refused(complete(id, upload_id, one, two, { part_number = 3, etag = '"x"' }), 400, "not arrived")
      local done = shape(complete(id, upload_id, two, one), 200, "File").file
      assert.same({ "available", 8 }, { done.status, done.size_bytes })
      assert.equal("12345678", a:content(id))
      shape(complete(id, upload_id, one, two), 200, "File")
      refused(post("multipart/sign-part", { file_id = id, upload_id = upload_id, part_number = 3 }), 409)
    end)

    it("keeps the old content readable until the new is whole", function()
      local made = a:upload("m/over", "old content")
      local id = file(made.id).id
      local upload_id = shape(post("multipart/create", { file_id = id }), 200, "MultipartCreated").upload_id
      local part = send(id, upload_id, 1, "new content")
      assert.equal("old content", a:content(id))
      shape(complete(id, upload_id, part), 200, "File")
      assert.equal("new content", a:content(id))
    end)

    it("refuses parts that are too many bytes, and removes them", function()
      local id, upload_id = begin "m/large"
      local parts = { send(id, upload_id, 1, ("x"):rep(600)), send(id, upload_id, 2, ("y"):rep(600)) }
      refused(complete(id, upload_id, (table.unpack or unpack)(parts)), 400, "at most 1000") -- luacheck: ignore
      assert.same({ 0, 0 }, { provider:left() })
    end)

    it("is its beginner's, and bound to its file", function()
      local id, upload_id = begin "m/mine"
      local other = begin "m/other"
      refused(post("multipart/sign-part", { file_id = other, upload_id = upload_id, part_number = 1 }), 404)
      shape(post("files/" .. id .. "/visibility", { public = true }), 200, "File")
      for _, who in ipairs { BOB, EVE, ADMIN } do
        refused(post("multipart/sign-part", { file_id = id, upload_id = upload_id, part_number = 1 }, who), 403)
        refused(post("multipart/create", { file_id = id }, who), 403)
      end
      refused(post("multipart/sign-part", { file_id = id, upload_id = upload_id, part_number = 10001 }), 400)
      -- not through another service's door either
      local answer = a.app:handle { method = "POST", target = "/v0.5/files/uploads/" .. upload_id .. "/complete",
        headers = { authorization = "Bearer ann-acme-north", ["content-type"] = "application/json" },
        body = '{"parts":[]}' }
      assert.equal(404, answer.status)
      send(id, upload_id, 1, "data")
    end)

    it("ends with its time, with delete, and with a move; nothing stays at the store", function()
      local id, upload_id = begin "m/old"
      send(id, upload_id, 1, "abcd")
      janitor(7 * 86400 + 1)
      refused(complete(id, upload_id, { part_number = 1, etag = '"x"' }), 404) -- the file was abandoned, too
      local made = a:upload("m/del", "bytes")
      file(made.id)
      upload_id = shape(post("multipart/create", { file_id = made.id }), 200, "MultipartCreated").upload_id
      send(made.id, upload_id, 1, "abcd")
      shape(a:send("PATCH", "files/" .. made.id, { storage_key = "m/moved" }), 200, "File")
      refused(complete(made.id, upload_id, { part_number = 1, etag = '"x"' }), 404)
      upload_id = shape(post("multipart/create", { file_id = made.id }), 200, "MultipartCreated").upload_id
      shape(a:send("DELETE", "files/" .. made.id), 200, "File")
      refused(complete(made.id, upload_id, { part_number = 1, etag = '"x"' }), 404)
      assert.equal(0, select(2, provider:left()))
    end)

    it("goes on after a death in complete", function()
      for _, op in ipairs { "list_parts", "complete_multipart" } do
        for _, when in ipairs { "before", "after" } do
          local key = "m/death-" .. op .. when
          local id, upload_id = begin(key)
          local part = send(id, upload_id, 1, key)
          provider:fault(op, { when = when, raise = true })
          assert.equal(500, complete(id, upload_id, part).status)
          local report = janitor(121)
          assert.equal(1, report.finished)
          assert.equal(key, a:content(id))
          shape(complete(id, upload_id, part), 200, "File")
        end
      end
    end)
  end)

  describe("clients and catalogs", function()
    local fields = { name = "more", endpoint = "https://s3.example.com", region = "eu-1", bucket = "files-a",
      buckets = json.array { "files-b" }, provider = "minio", default_prefix = "p", access_key_id = "AK",
      secret_key = "very-secret", session_token = "token-secret" }

    local function catalog(changes, more)
      local r = {}
      for k, v in pairs(fields) do r[k] = v end
      for k, v in pairs(changes or {}) do r[k] = v end
      return post("catalogs", r, more or ADMIN)
    end

    it("keeps every client's files in a database and a catalog of its own", function()
      local made = a:upload("same/key", "north")
      local south = { token = "ann-acme-south" }
      local theirs = a:upload("same/key", "south", { s3_id = apps.SOUTH }, south)
      assert.equal("north", a:content(made.id))
      assert.equal("south", a:content(theirs.id, south))
      refused(get(made.id, south), 404)
      refused(get(theirs.id), 404)
      assert.is_truthy(support.read_file(a.config.data .. "/athena-south.db"))
      -- and the janitor sees to all of them
      clock.advance(61)
      a.app:janitor()
      assert.equal("available", shape(get(theirs.id, south), 200, "File").file.status)
    end)

    it("makes, changes and removes catalogs; secrets go in and never out", function()
      local made = shape(catalog(), 201, "Catalog")
      assert.same({ "minio", "p/", "files-a" }, { made.provider, made.default_prefix, made.bucket })
      assert.is_nil(json.encode(made):find("secret", 1, true))
      local list = shape(a:send("GET", "catalogs", nil, BOB), 200, "Catalogs")
      assert.equal(2, #list)
      local credentials = a:send("GET", "credentials", nil, ADMIN)
      assert.equal("AK", shape(credentials, 200, "Credentials")[1].access_key)
      assert.is_nil(credentials.body:find("secret", 1, true))
      local row = a.world.store:catalog(made.id)
      assert.is_nil((core.unbase64(row.secret)):find("secret", 1, true))

      local data = shape(post("files/upload-url", request("c/a", { s3_id = made.id, bucket = "files-b" })), 201,
        "Upload")
      assert.equal("very-secret", a.made["files-b"].options.secret_key)
      assert.equal("token-secret", a.made["files-b"].options.session_token)
      assert.matches("^http://store.test/p/c/a%?", data.upload.url)
      refused(post("files/upload-url", request("c/a", { s3_id = made.id, bucket = "files-c" })), 400, "bucket")

      local path = "catalogs/" .. made.id
      refused(a:send("PATCH", path, { name = "n" }, BOB), 403)
      refused(a:send("DELETE", path, nil, BOB), 403)
      refused(a:send("PATCH", path, { bucket = "files-z" }, ADMIN), 409, "1 files")
      refused(a:send("PATCH", path, { buckets = json.array {} }, ADMIN), 409, "1 files")
      refused(a:send("DELETE", path, nil, ADMIN), 409)
      local changed = shape(a:send("PATCH", path, { name = "n", secret_key = "rotated-secret", is_active = false,
        session_token = json.null }, ADMIN), 200, "Catalog")
      assert.same({ "n", false }, { changed.name, changed.is_active })
      assert.not_equal(json.null, a:send("GET", "credentials", nil, ADMIN).json.data[1].rotated_at)
      refused(post("files/upload-url", request("c/b", { s3_id = made.id })), 409, "not active")
      shape(a:send("PATCH", path, { is_active = true }, ADMIN), 200, "Catalog")
      shape(post("files/upload-url", request("c/b", { s3_id = made.id })), 201, "Upload")
      assert.equal("rotated-secret", a.made["files-a"].options.secret_key)
      assert.is_nil(a.made["files-a"].options.session_token)
      refused(a:send("DELETE", "catalogs/" .. apps.CATALOG, nil, ADMIN), 409, "configuration")
      refused(a:send("PATCH", "catalogs/" .. apps.CATALOG, { name = "x" }, ADMIN), 409, "configuration")
      refused(a:send("DELETE", path, nil, { token = "root-acme-south-admin" }), 404)
    end)

    it("lets no two catalogs or services share a bucket and a prefix", function()
      shape(catalog(), 201, "Catalog")
      for _, changes in ipairs { {}, { default_prefix = "p/deeper" }, { default_prefix = "" }, { bucket = "files-b" },
        { bucket = "other", buckets = json.array { "files-a" } } } do
        refused(catalog(changes), 409, "shared")
        refused(catalog(changes, { token = "root-acme-south-admin" }), 409, "shared")
      end
      shape(catalog { default_prefix = "pq" }, 201, "Catalog")
      shape(catalog { endpoint = "https://s3.other.com" }, 201, "Catalog")
      local own = a.config.buckets.default
      for _, prefix in ipairs { "", "athena", "athena/north", "athena/south/x", "newton", "geolens/x", "staging",
        "cognite" } do
        refused(catalog { endpoint = own.endpoint, bucket = own.bucket, provider = "diskstore",
          default_prefix = prefix }, 409, "shared")
      end
      for _, bad in ipairs { "/a", "a//b", "a/../b", "." } do refused(catalog { default_prefix = bad }, 400) end
    end)

    it("leaves alone a catalog that the configuration has grown into since", function()
      local made = shape(catalog(), 201, "Catalog")
      local row = a.world.store:catalog(made.id)
      local keeper = require("longshore.broker.catalogs").new { store = a.world.store, clock = clock,
        keys = { { id = "k1", key = apps.KEY } }, make_provider = function() return {} end,
        areas = { { owner = "services.newton", bucket = "files-b", prefix = "p/x/",
          place = require("longshore.config.areas").place(row.endpoint, row.profile) } } }
      local _, err = keeper:provider("s3:" .. made.id .. "/files-a")
      assert.equal("unavailable", err.code)
      assert.matches("services.newton", err.message)
    end)

    it("opens secrets with older keys, and seals with the newest", function()
      local made = shape(catalog(), 201, "Catalog")
      local row = a.world.store:catalog(made.id)
      assert.equal("k1", row.seal_id)
      local catalogs = require "longshore.broker.catalogs"
      local function keeper(keys)
        return catalogs.new { store = a.world.store, clock = clock, keys = keys, areas = {},
          make_provider = function(options) return { options = options } end, in_use = function() return 0 end }
      end
      local old, new = { id = "k1", key = apps.KEY }, { id = "k2", key = ("f"):rep(64) }
      local name = catalogs.provider_name(made.id, "files-a")
      local both = keeper { new, old }
      assert.equal("very-secret", both:provider(name).options.secret_key)
      local admin = { user = "root", organization = "acme", tenant = "north", rights = { admin = true } }
      assert(both:update(admin, made.id, { name = "sealed anew" }))
      assert.equal("k2", a.world.store:catalog(made.id).seal_id)
      assert.equal("very-secret", keeper { new }:provider(name).options.secret_key)
      local provider_, err = keeper { old }:provider(name)
      assert.is_nil(provider_)
      assert.equal("unavailable", err.code)
      assert.is_nil(tostring(err):find("secret-", 1, true))
      local none = select(2, keeper({}):create(admin, { name = "x", bucket = "bbb", access_key = "a",
        secret_key = "s" }))
      assert.matches("services.athena.keys", none.message)
    end)
  end)

  it("takes the deprecated headers from trusted addresses only", function()
    local b = apps.new { trusted_addresses = { "192.0.2.1" } }
    local headers = { ["x-user-id"] = "ann", ["x-organization-id"] = "acme" }
    local r = { s3_id = apps.CATALOG }
    refused(b:send("POST", "files/list", r, { token = false, headers = headers }), 401)
    assert.equal(200, b:send("POST", "files/list", r, { token = false, headers = headers,
      remote = "192.0.2.1" }).status)
    refused(b:send("POST", "files/list", r, { token = false, headers = { ["x-user-id"] = "ann" },
      remote = "192.0.2.1" }), 401)
    refused(b:send("GET", "credentials", nil, { token = false, headers = headers, remote = "192.0.2.1" }), 403)
    -- a session goes before them
    local made = b:upload("t/a", "x")
    refused(b:send("GET", "files/" .. made.id, nil, { token = "bob-acme-north", headers = headers,
      remote = "192.0.2.1" }), 404)
  end)

  it("refuses a configuration in which clients or services would meet", function()
    local function check(athena, more)
      local given = { data = support.tmpdir(), services = { athena = athena } }
      for k, v in pairs(more or {}) do given[k] = v end
      return select(2, config.check(given))
    end
    assert.is_nil(check {})
    for field, case in pairs {
      ["services.athena.default_client"] = { { default_client = "x", clients = { y = {} } } },
      ["services.athena.clients.n.bucket"] = { { clients = { n = { bucket = "nope" } } } },
      ["services.athena.clients.n.store"] = { { clients = { n = { store = { path = "longshore.db" } } } } },
      ["services.athena.keys[1].key"] = { { keys = { { id = "k", key = "short" } } } },
      ["services.athena.trusted_addresses[1]"] = { { trusted_addresses = { "example.com" } } },
    } do
      local more = case[2]
      if field == "services.athena.clients.n.store" then
        local folder = support.tmpdir()
        case[1].clients.n.store.path = folder .. "/longshore.db"
        more = { data = folder }
      end
      local err = check(case[1], more)
      assert.is_truthy(err, field)
      assert.equal(field, err.field)
    end
    -- a bucket whose prefix reaches into another service's
    local err = check({ clients = { n = { bucket = "deep" } } }, { buckets = {
      default = { bucket = "one", endpoint = "http://s:1", access_key = "a", secret_key = "b", prefix = "athena/n/x/" },
      deep = { bucket = "one", endpoint = "http://s:1", access_key = "a", secret_key = "b" } } })
    assert.matches("would keep its objects with", err.message)
  end)
end)

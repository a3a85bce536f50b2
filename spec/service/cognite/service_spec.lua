-- The cognite service: shapes, limits, errors, who may what. What it does over
-- HTTP is in conformance_spec.lua and sdk_spec.lua.
local apps = require "spec.service.cognite.app"
local config = require "longshore.config"
local json = require "longshore.json"
local support = require "spec.support"

local shape, refused = apps.shape, apps.refused

local function items(...) return { items = json.array { ... } } end

describe("the cognite service", function()
  local app
  before_each(function() app = apps.new() end)
  after_each(support.cleanup)

  it("answers in the shapes that the SDKs read", function()
    local file = shape(app:send("", { name = "a" }), 201, "FileWithUrl")
    shape(app:send("/", { name = "a" }), 201, "FileWithUrl")
    local parts = shape(app:send("/initmultipartupload?parts=3", { name = "a" }), 201, "FileWithUrls")
    assert.equal(3, #parts.uploadUrls)
    local link = shape(app:send("/uploadlink", items { id = file.id }), 201, "UploadLink")
    assert.equal(link.uploadUrl, link.items[1].uploadUrl)
    local links = shape(app:send("/multiuploadlink?parts=250", items { id = file.id }), 201, "UploadLinks")
    assert.equal(250, #links.items[1].uploadUrls)
    assert.are_not.equal(parts.uploadId, links.items[1].uploadId)
    app.world.provider:client_put(link.uploadUrl, "x")
    shape(app:send("/byids", items { id = file.id }), 200, "Files")
    shape(app:send("/list", {}), 200, "FilePage")
    shape(app:send("/update", items { id = file.id, update = {} }), 200, "Files")
    shape(app:send("/downloadlink", items { id = file.id }), 200, "DownloadLinks")
    app.world.provider:client_put(parts.uploadUrls[1], "aaaa")
    app.world.provider:client_put(parts.uploadUrls[2], "bbbb")
    app.world.provider:client_put(parts.uploadUrls[3], "c")
    local done = app:send("/completemultipartupload", { id = parts.id, uploadId = parts.uploadId })
    assert.equal("{}", done.body)
    shape(done, 200, "Nothing")
    assert.equal("{}", app:send("/delete", items { id = file.id }).body)
  end)

  it("gives links a week, and downloads 30 seconds or an hour", function()
    local file = app:file()
    local now = app.world.clock.now()
    local grants = app.world.provider.urls
    assert.is_true(math.abs(grants[file.uploadUrl].expires_at - now - 604800) < 3)
    local seconds = {}
    app.world.provider.hook = function(op, request)
      if op == "sign_get" then seconds[#seconds + 1] = request.expires end
    end
    app:send("/downloadlink", items { id = file.id })
    app:send("/downloadlink?extendedExpiration=true", items { id = file.id })
    assert.same({ 30, 3600 }, seconds)
  end)

  describe("checks fields", function()
    local function tries(field, good, bad)
      for _, value in ipairs(good) do
        local body = { name = "a" }
        body[field] = value
        local response = app:send("", body)
        assert.equal(201, response.status, field .. ": " .. response.body)
      end
      for _, value in ipairs(bad) do
        local body = { name = "a" }
        body[field] = value
        refused(app:send("", body), 400, field)
      end
    end

    local function text(field, max)
      it(("%s: at most %d characters"):format(field, max), function()
        local prefix = field == "directory" and "/" or "x"
        tries(field, { prefix .. ("y"):rep(max - 1), prefix .. ("é"):rep(max - 1) },
          { prefix .. ("y"):rep(max), 5, true, json.array {}, json.object {}, "a\0b" })
        refused(app:send("", ('{"name":"a","%s":"%s\255"}'):format(field, prefix)), 400)
      end)
    end
    text("name", 256)
    text("externalId", 255)
    text("directory", 512)
    text("source", 128)
    text("mimeType", 256)

    it("name is required; directory begins with /", function()
      refused(app:send("", {}), 400, "name")
      refused(app:send("", { name = "" }), 400, "name")
      refused(app:send("", { name = json.null }), 400, "name")
      refused(app:send("", { name = "a", directory = "a/b" }), 400, "directory")
    end)

    it("metadata: 256 pairs; 128 bytes a key, 10240 a value and all together", function()
      local function map(n, key, value)
        local m = {}
        for i = 1, n do m[("%03d"):format(i) .. (key or "")] = value or "" end
        return m
      end
      tries("metadata", { json.object {}, map(256), { [("k"):rep(128)] = "v" }, { k = ("v"):rep(10239) },
        { ["ключ"] = "line\nline" } },
        { map(257), { [("k"):rep(129)] = "v" }, { [("é"):rep(65)] = "v" }, { k = ("v"):rep(10240) },
          { a = ("v"):rep(6000), b = ("v"):rep(6000) }, { k = ("é"):rep(5121) }, { k = 1 }, { k = json.null },
          json.array { "a" }, "x" })
    end)

    it("ids: 1 to 2^53-1, exact on the wire", function()
      tries("dataSetId", { 1, 9007199254740991 }, { 0, -1, 1.5, "1", 9007199254740992, 1e300 })
      local file = shape(app:send("", '{"name":"a","dataSetId":9007199254740991,"assetIds":[4503599627370497]}'),
        201, "FileWithUrl")
      local body = app:send("/byids", items { id = file.id }).body
      assert.matches('"dataSetId":9007199254740991', body, 1, true)
      assert.matches('"assetIds":%[4503599627370497%]', body)
      assert.matches(('"id":%.0f[,}]'):format(file.id), body)
    end)

    it("assetIds 1 to 1000, securityCategories 100, labels 10 and unique", function()
      local function numbers(n)
        local list = {}
        for i = 1, n do list[i] = i end
        return json.array(list)
      end
      local function labels(n)
        local list = {}
        for i = 1, n do list[i] = { externalId = "l" .. i } end
        return json.array(list)
      end
      tries("assetIds", { numbers(1), numbers(1000) },
        { numbers(0), numbers(1001), json.array { 1, 1 }, json.array { 0 } })
      tries("securityCategories", { numbers(0), numbers(100) }, { numbers(101), json.array { "1" } })
      tries("labels", { labels(10) }, { labels(11), json.array { { externalId = "a" }, { externalId = "a" } },
        json.array { {} }, json.array { "a" }, json.array { { externalId = ("x"):rep(256) } } })
    end)

    it("times: milliseconds, not before 1970", function()
      tries("sourceCreatedTime", { 0, 1700000000123 }, { -1, 1.5, "2020-01-01" })
      tries("sourceModifiedTime", { 0 }, { -1 })
    end)

    it("geoLocation: a Feature of a known shape", function()
      local function feature(kind, coordinates, more)
        local f = { type = "Feature", geometry = { type = kind, coordinates = coordinates } }
        for k, v in pairs(more or {}) do f[k] = v end
        return f
      end
      local A = json.array
      local p, q, r = A { 1, 2 }, A { 3, 4.5 }, A { 5, 6, 7 }
      local ring = A { p, q, r, p }
      tries("geoLocation", {
        feature("Point", p), feature("MultiPoint", A { p, q }), feature("LineString", A { p, q }),
        feature("MultiLineString", A { A { p, q } }), feature("Polygon", A { ring }),
        feature("MultiPolygon", A { A { ring } }), feature("Point", p, { properties = { a = 1 } }),
        feature("Point", p, { properties = json.null }),
      }, {
        feature("Circle", p), feature("Point", A { 1 }), feature("Point", A { "1", "2" }),
        feature("LineString", A { p }), A { p }, "Point",
        feature("Polygon", A { A { p, q, p } }), feature("Polygon", A { A { p, q, r, q } }), feature("Point", nil),
        feature("Point", p, { properties = 5 }), { type = "Point", coordinates = p }, { type = "Feature" },
        feature("GeometryCollection", A {}),
      })
    end)

    it("nothing of what only the service says: uploaded has no effect", function()
      local file = shape(app:send("", { name = "a", uploaded = true, id = 5, uploadedTime = 7, createdTime = 1,
        nonsense = true }), 201, "FileWithUrl")
      assert.is_false(file.uploaded)
      assert.are_not.equal(5, file.id)
      assert.is_nil(file.uploadedTime)
    end)

    it("query: overwrite is true or false, parts 1 to 250 and required", function()
      refused(app:send("?overwrite=perhaps", { name = "a" }), 400, "overwrite")
      for _, query in ipairs { "", "?parts=0", "?parts=251", "?parts=x", "?parts=1.5", "?parts=-1", "?parts=" } do
        refused(app:send("/initmultipartupload" .. query, { name = "a" }), 400, "parts")
        refused(app:send("/multiuploadlink" .. query, items { id = 1 }), 400, "parts")
      end
      refused(app:send("/downloadlink?extendedExpiration=1", items { id = 1 }), 400, "extendedExpiration")
    end)

    it("references: exactly one of id, externalId and instanceId; one for a link, at most 1000 elsewhere", function()
      local instance = { space = "s", externalId = "x" }
      for _, path in ipairs { "/uploadlink", "/multiuploadlink?parts=1", "/byids", "/delete", "/downloadlink" } do
        refused(app:send(path, items {}), 400, "one of id, externalId or instanceId")
        refused(app:send(path, items { id = 1, externalId = "x" }), 400, "only one")
        refused(app:send(path, items { externalId = "x", instanceId = instance }), 400, "only one")
        refused(app:send(path, items { id = 0 }), 400, "id")
        refused(app:send(path, items { instanceId = { space = "s" } }), 400, "externalId")
        refused(app:send(path, { items = json.array {} }), 400, "items")
        refused(app:send(path, {}), 400, "items")
        local missing = refused(app:send(path, items { instanceId = instance }), 400).missing
        assert.same({ { instanceId = instance } }, missing)
      end
      for _, path in ipairs { "/uploadlink", "/multiuploadlink?parts=1" } do
        refused(app:send(path, items({ id = 1 }, { id = 2 })), 400, "items")
      end
      local many = {}
      for i = 1, 1001 do many[i] = { id = i } end
      refused(app:send("/byids", { items = json.array(many) }), 400, "items")
      many[1001] = nil
      assert.equal(1000, #refused(app:send("/byids", { items = json.array(many) }), 400).missing)
      refused(app:send("/completemultipartupload", { id = 1 }), 400, "uploadId")
      refused(app:send("/completemultipartupload", { uploadId = "x" }), 400, "one of id")
    end)
  end)

  it("lists what is missing, and what stands twice", function()
    local file = app:file { externalId = "x" }
    local err = refused(app:send("/byids", items({ id = file.id }, { id = 7 }, { externalId = "y" })), 400)
    assert.same({ { id = 7 }, { externalId = "y" } }, err.missing)
    local found = shape(app:send("/byids", { items = json.array { { id = 7 }, { id = file.id } },
      ignoreUnknownIds = true }), 200, "Files")
    assert.equal(1, #found.items)
    err = refused(app:send("/delete", items({ id = 7 }, { id = file.id }, { id = 7 })), 400, "twice")
    assert.same({ { id = 7 } }, err.duplicated)
    assert.same({ { id = 9 } }, refused(app:send("/completemultipartupload", { id = 9, uploadId = "u" }), 400).missing)
    assert.same({ { externalId = "x" } }, refused(app:send("", { name = "b", externalId = "x" }), 409).duplicated)
    assert.same({ { externalId = "x" } },
      refused(app:send("/initmultipartupload?parts=1", { name = "b", externalId = "x" }), 409).duplicated)
    local empty = shape(app:send("", { name = "e" }), 201, "FileWithUrl")
    assert.same({ { id = empty.id } }, refused(app:send("/downloadlink", items { id = empty.id }), 400).missing)
  end)

  it("names the parts that are missing and completes when they are there", function()
    local started = shape(app:send("/initmultipartupload?parts=2", { name = "a", externalId = "x" }), 201,
      "FileWithUrls")
    local body = { externalId = "x", uploadId = started.uploadId }
    app.world.provider:client_put(started.uploadUrls[1], "aaaa")
    refused(app:send("/completemultipartupload", body), 400, "parts 2 have not been uploaded")
    refused(app:send("/completemultipartupload", { externalId = "x", uploadId = "wrong" }), 400, "uploadId")
    app.world.provider:client_put(started.uploadUrls[2], "b")
    assert.equal(200, app:send("/completemultipartupload", body).status)
    assert.equal(200, app:send("/completemultipartupload", body).status)
    assert.is_true(app:send("/byids", items { externalId = "x" }).json.items[1].uploaded)
  end)

  it("updates fields by set, setNull, add and remove, within the limits", function()
    local file = app:file { externalId = "x", metadata = { a = "1", b = "2" }, assetIds = json.array { 1, 2 },
      labels = json.array { { externalId = "l" } }, source = "s" }
    local function update(change, status, pattern)
      local response = app:send("/update", items { id = file.id, update = change })
      if status then return refused(response, status, pattern) end
      return shape(response, 200, "Files").items[1]
    end
    local changed = update { metadata = { add = { c = "3", a = "0" }, remove = json.array { "b" } },
      assetIds = { add = json.array { 2, 3 }, remove = json.array { 1 } }, source = { setNull = true },
      labels = { add = json.array { { externalId = "m" } }, remove = json.array { { externalId = "l" } } },
      directory = { set = "/d" }, externalId = { set = "y" }, sourceModifiedTime = { set = 5 } }
    assert.same({ a = "0", c = "3" }, changed.metadata)
    assert.same({ 2, 3 }, changed.assetIds)
    assert.same({ { externalId = "m" } }, changed.labels)
    assert.same({ nil, "/d", "y", 5 }, { changed.source, changed.directory, changed.externalId,
      changed.sourceModifiedTime })
    assert.same({ "z" }, (function(m) local k = {} for n in pairs(m) do k[#k + 1] = n end return k end)(
      update({ metadata = { set = { z = "1" } } }).metadata))
    assert.is_nil(update({ externalId = { setNull = true } }).externalId)
    update({ source = { set = "a", setNull = true } }, 400, "set")
    update({ source = {} }, 400, "set")
    update({ source = { set = ("x"):rep(129) } }, 400, "source")
    update({ metadata = { set = {}, add = {} } }, 400, "metadata")
    update({ metadata = { add = { big = ("x"):rep(10235) } } }, nil)
    update({ metadata = { add = { more = "12345" } } }, 400, "metadata")
    update({ nonsense = { set = 1 } }, 400, "nonsense")
    refused(app:send("/update", items { id = 5, update = {} }), 400)
    local other = app:file { externalId = "taken" }
    assert.same({ { externalId = "taken" } }, update({ externalId = { set = "taken" } }, 409).duplicated)
    assert.is_number(other.id)
  end)

  it("lists by every filter, in pages and partitions", function()
    local a = app:file({ name = "a", directory = "/x/y", mimeType = "text/plain", source = "s", externalId = "ext-1",
      metadata = { k = "v", l = "w" }, assetIds = json.array { 1, 2 }, dataSetId = 9, sourceCreatedTime = 100,
      labels = json.array { { externalId = "l1" }, { externalId = "l2" } } })
    local b = shape(app:send("", { name = "b" }), 201, "FileWithUrl")
    local function ids(body)
      local list = {}
      for _, file in ipairs(shape(app:send("/list", body), 200, "FilePage").items) do list[#list + 1] = file.id end
      return list
    end
    assert.same({ a.id, b.id }, ids {})
    for _, filter in ipairs {
      { name = "a" }, { directoryPrefix = "/x" }, { mimeType = "text/plain" }, { source = "s" },
      { externalIdPrefix = "ext" }, { metadata = { k = "v" } }, { assetIds = json.array { 2, 5 } },
      { dataSetIds = json.array { { id = 9 } } }, { uploaded = true }, { sourceCreatedTime = { min = 100, max = 100 } },
      { labels = { containsAny = json.array { { externalId = "l2" }, { externalId = "q" } } } },
      { labels = { containsAll = json.array { { externalId = "l2" }, { externalId = "l1" } } } },
      { uploadedTime = { min = 1 } },
    } do
      assert.same({ a.id }, ids { filter = filter }, json.encode(filter))
    end
    for _, filter in ipairs { { name = "A" }, { metadata = { k = "w" } }, { assetIds = json.array { 3 } },
      { createdTime = { max = 1 } }, { labels = { containsAll = json.array { { externalId = "l3" } } } } } do
      assert.same({}, ids { filter = filter }, json.encode(filter))
    end
    assert.same({ b.id }, ids { filter = { uploaded = false } })
    refused(app:send("/list", { filter = { geoLocation = {} } }), 400, "geoLocation")
    refused(app:send("/list", { filter = { nam = "a" } }), 400, "nam")
    local first = shape(app:send("/list", { limit = 1 }), 200, "FilePage")
    assert.same({ b.id }, ids { limit = 1, cursor = first.nextCursor })
    refused(app:send("/list", { cursor = "bm9uc2Vuc2U" }), 400, "cursor")
    refused(app:send("/list", { limit = 0 }), 400, "limit")
    refused(app:send("/list", { limit = 1001 }), 400, "limit")
    refused(app:send("/list", { partition = "3/2" }), 400, "partition")
    local one, two = ids { partition = "1/2" }, ids { partition = "2/2" }
    assert.equal(2, #one + #two)
  end)

  describe("to whom", function()
    local calls = {
      { "", { name = "a" } }, { "/", { name = "a" } }, { "/initmultipartupload?parts=1", { name = "a" } },
      { "/uploadlink", "ref" }, { "/multiuploadlink?parts=1", "ref" }, { "/completemultipartupload", "complete" },
      { "/byids", "ref" }, { "/list", {} }, { "/update", "update" }, { "/delete", "ref" }, { "/downloadlink", "ref" },
    }
    local file, parts

    local function body_of(call)
      if call[2] == "ref" then return items { id = file.id } end
      if call[2] == "complete" then return { id = parts.id, uploadId = parts.uploadId } end
      if call[2] == "update" then return items { id = file.id, update = { source = { set = "s" } } } end
      return call[2]
    end

    before_each(function()
      file = app:file()
      parts = shape(app:send("/initmultipartupload?parts=1", { name = "p" }), 201, "FileWithUrls")
    end)

    it("without a token: 401, before the body is read", function()
      for _, call in ipairs(calls) do
        refused(app:send(call[1], "{broken", { token = false }), 401)
        refused(app:send(call[1], "{broken", { token = "wrong" }), 401)
      end
    end)

    it("of another project: 403, the same whether project and file exist or not", function()
      for _, call in ipairs(calls) do
        local one = refused(app:send(call[1], body_of(call), { token = "eve-acme-quay" }), 403)
        local two = refused(app:send(call[1], body_of(call), { token = "eve-acme-quay", project = "nowhere" }), 403)
        local three = refused(app:send(call[1], "{broken", { token = "eve-acme-quay" }), 403)
        assert.same(one, two)
        assert.same(one, three)
        assert.is_nil(one.missing)
      end
      assert.is_true(app:send("/byids", items { id = file.id }).json.items[1].uploaded)
    end)

    it("of another project or organization: its own files only", function()
      for _, who in ipairs { { token = "eve-acme-quay", project = "quay" }, { token = "eve-other" } } do
        for _, call in ipairs(calls) do
          local response = app:send(call[1], body_of(call), who)
          if call[2] == "ref" or call[2] == "complete" or call[2] == "update" then
            assert.equal(1, #refused(response, 400).missing, call[1])
          elseif call[1] == "/list" then
            for _, found in ipairs(response.json.items) do
              assert.are_not.equal(file.id, found.id)
              assert.are_not.equal(parts.id, found.id)
            end
          else
            assert.equal(201, response.status)
          end
        end
      end
      assert.is_nil(app:send("/byids", items { id = file.id }).json.items[1].source)
    end)

    it("without the right: 403", function()
      local needs = { ["/byids"] = "read", ["/list"] = "read", ["/downloadlink"] = "read", ["/delete"] = "delete" }
      for _, call in ipairs(calls) do
        for _, right in ipairs { "read", "upload", "delete" } do
          local status = app:send(call[1], body_of(call), { token = "ann-acme-harbour-" .. right }).status
          assert.equal(right ~= (needs[call[1]] or "upload"), status == 403, call[1] .. " with " .. right)
        end
        file = app:file()
      end
    end)
  end)

  it("answers preflights of configured origins", function()
    local response = app:send("", nil, { method = "OPTIONS", token = false, headers = { origin = "https://app.example",
      ["access-control-request-method"] = "POST", ["access-control-request-headers"] = "cdf-version, x-cdp-app" } })
    assert.equal(200, response.status)
    assert.equal("cdf-version, x-cdp-app", response.headers["access-control-allow-headers"])
  end)

  it("refuses what is no JSON, no object, too large or another method", function()
    refused(app:send("", "{"), 400, "JSON")
    refused(app:send("", "[]"), 400)
    refused(app:send("", ""), 400)
    refused(app:send("", "x", { headers = { ["content-type"] = "text/plain" } }), 415)
    refused(app:send("", '{"name":"' .. ("x"):rep(9 * 1048576) .. '"}'), 413)
    refused(app:send("", nil, { method = "DELETE" }), 405)
    refused(app:send("/nothing", {}), 404)
  end)

  it("has resumable links only where the bucket takes sessions", function()
    local function check(profile)
      return require("longshore.service").check(assert(config.check { data = support.tmpdir(),
        services = { cognite = { upload = "resumable" } }, buckets = { default = { profile = profile, bucket = "b",
          region = "eu-west-1", endpoint = "https://s3.example", access_key = "a", secret_key = "s" } } }))
    end
    assert.is_true(check "diskstore")
    local ok, err = check "aws"
    assert.is_nil(ok)
    assert.equal("services.cognite.upload", err.field)
  end)

  it("keeps links shorter when the policy wants it", function()
    app.world.broker.policy = assert(require("longshore.policy").new { rules = {
      { before_sign = function() return { url_seconds = 60 } end,
        before_download = function() return { url_seconds = 5 } end } } })
    local file = app:file()
    local grant = app.world.provider.urls[file.uploadUrl]
    assert.is_true(grant.expires_at - app.world.clock.now() <= 60)
    local seconds
    app.world.provider.hook = function(op, request) if op == "sign_get" then seconds = request.expires end end
    app:send("/downloadlink?extendedExpiration=true", items { id = file.id })
    assert.equal(5, seconds)
  end)

  it("never fails by itself, whatever the body", function()
    local file = app:file { externalId = "x" }
    local seeds = { '{"name":"a"}', ('{"items":[{"id":%.0f}]}'):format(file.id), '{"items":[{"externalId":"x"}]}',
      ('{"items":[{"id":%.0f,"update":{"metadata":{"add":{"a":"b"}},"labels":{"set":[{"externalId":"l"}]}}}]}'):format(
        file.id), '{"filter":{"labels":{"containsAny":[{"externalId":"l"}]},"createdTime":{"min":1}},"limit":5}',
      '{"name":"a","geoLocation":{"type":"Feature","geometry":{"type":"Polygon",'
        .. '"coordinates":[[[1,2],[3,4],[5,6],[1,2]]]}}}',
      '{"id":1,"uploadId":"dlv_aaaaaaaaaaaaaaaaaaaaaaaaaa"}' }
    local words = { "null", "true", "[]", "{}", '""', "1e999", "-1", "9007199254740993", '"\\u0000"', "[[[[]]]]",
      '{"a":null}', "1.5", '"x"' }
    local random = 12345
    local function pick(n)
      random = (random * 1103515245 + 12345) % 2147483648
      return random % n + 1
    end
    local paths = { "", "/initmultipartupload?parts=2", "/uploadlink", "/multiuploadlink?parts=1", "/byids", "/list",
      "/update", "/delete", "/downloadlink", "/completemultipartupload" }
    for round = 1, 600 do
      local text = seeds[pick(#seeds)]
      for _ = 1, pick(3) do
        local kind = pick(3)
        local at = pick(#text)
        if kind == 1 then
          text = text:sub(1, at - 1) .. words[pick(#words)] .. text:sub(at + pick(4))
        elseif kind == 2 then -- a value becomes another
          local n, target = 0, pick(6)
          text = text:gsub('[%d%.]+', function(number)
            n = n + 1
            if n == target then return words[pick(#words)] end
            return number
          end)
        else
          text = text:gsub('"[^"]*"([,}%]])', function(rest) return words[pick(#words)] .. rest end, 1)
        end
      end
      local path = paths[pick(#paths)]
      local response = app:send(path, text)
      assert.is_true(response.status < 500, ("%d: %s %s: %s"):format(round, path, text, response.body))
    end
  end)
end)

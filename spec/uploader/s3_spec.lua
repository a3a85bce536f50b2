-- The bucket driver against real stores: the disk store, with a relay that
-- breaks things in between, and Ceph.
local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local provider = require "longshore.provider.s3"
local relay = require "spec.support.relay"
local rgw = require "spec.support.rgw"
local s3 = require "longshore.uploader.s3"
local support = require "spec.support"
local uploader = require "longshore.uploader"

local KiB = 1024

describe("uploading to a bucket", function()
  local store, way, folder

  setup(function()
    store = diskstore.start { min_part = 1 }
    way = relay.start { target = store.endpoint }
  end)
  teardown(support.cleanup)

  before_each(function()
    way:clear()
    folder = support.tmpdir()
  end)

  local function new_driver(more, where)
    where = where or store
    local options = {
      url = "s3://" .. where.bucket .. "/up", endpoint = way and where == store and way.endpoint or where.endpoint,
      region = where.region, profile = { base = "diskstore", min_part = 1 },
      access_key = where.access_key, secret_key = where.secret_key, part_size = 100 * KiB, threshold = 64 * KiB,
    }
    for k, v in pairs(more or {}) do options[k] = v end
    return assert(s3.new(options))
  end

  local function reader(where)
    where = where or store
    return assert(provider.new { profile = { base = "diskstore", min_part = 1 }, endpoint = where.endpoint,
      region = where.region, bucket = where.bucket, prefix = "up/", access_key = where.access_key,
      secret_key = where.secret_key })
  end

  local function stored(key, where) return reader(where):get { key = key, max = 64 * 1024 * KiB } end

  local function file(name, size)
    local bytes, left = {}, size
    while left > 0 do
      local n = math.min(4096, left)
      bytes[#bytes + 1] = core.random(n)
      left = left - n
    end
    local data = table.concat(bytes)
    return support.write_file(folder .. "/" .. name, data), data
  end

  local function put(item, options, driver_options)
    local settings = { driver = new_driver(driver_options), journal = folder .. "/journal",
      gate = { base = 0.01, cap = 0.05 } }
    for k, v in pairs(options or {}) do settings[k] = v end
    local events = {}
    settings.on_event = function(event) events[#events + 1] = event end
    local up = assert(uploader.new(settings))
    local result, err = up:put(type(item) == "string" and { path = item } or item)
    up:close()
    return result, err, events
  end

  local function notes(events)
    local list = {}
    for _, event in ipairs(events) do
      if event.type == "note" then list[#list + 1] = event.text end
    end
    return table.concat(list, "\n")
  end

  local function puts()
    local count, parts = 0, {}
    for _, entry in ipairs((way:log())) do
      if entry.method == "PUT" then
        count = count + 1
        local n = tonumber(entry.target:match("partNumber=(%d+)"))
        if n then parts[n] = (parts[n] or 0) + 1 end
      end
    end
    return count, parts
  end

  it("stores files of every awkward size, bit for bit", function()
    for _, size in ipairs { 0, 1, 64 * KiB, 64 * KiB + 1, 100 * KiB, 100 * KiB + 1, 300 * KiB, 300 * KiB + 1 } do
      local path, data = file("f" .. size, size)
      local result = assert(put(path))
      assert.equal(data, stored("f" .. size))
      assert.equal(size, result.bytes)
      assert.equal(core.crc32c(data), result.crc32c)
      assert.equal("crc32c", result.compared)
      assert.is_true(result.whole_checked)
      assert.equal(math.max(1, size <= 64 * KiB and 1 or math.ceil(size / (100 * KiB))), result.parts)
    end
  end)

  it("stores it under any name", function()
    local path, data = file("f", 70 * KiB)
    for _, name in ipairs { "a b+c", "\195\188/\226\130\172", "a//b", "%41~!*'()", "x/../y", "q?a=b&c#d" } do
      assert(put { path = path, name = name })
      assert.equal(data, stored(name))
    end
  end)

  it("keeps content type and metadata, of both kinds of upload", function()
    for _, size in ipairs { 10, 200 * KiB } do
      local path = file("m.csv", size)
      assert(put { path = path, metadata = { colour = "blue" } })
      local found = assert(reader():head { key = "m.csv" })
      assert.equal("text/csv", found.content_type)
      assert.equal("blue", found.metadata.colour)
    end
  end)

  it("sends a part again that was damaged on the way", function()
    local path, data = file("f", 500 * KiB)
    way:rules { { method = "PUT", match = "partNumber=3", times = 1, flip = 70000 } }
    local result = assert(put(path))
    assert.equal(data, stored("f"))
    assert.equal(1, result.retries)
    local _, parts = puts()
    assert.same({ 1, 1, 2, 1, 1 }, parts)
  end)

  it("makes no object of bytes that are damaged each time", function()
    local path = file("f-damaged", 30 * KiB)
    way:rules { { method = "PUT", flip = 1000 } }
    local result, err = put(path)
    assert.is_nil(result)
    assert.equal("integrity", err.code)
    path = file("g-damaged", 300 * KiB)
    result, err = put(path)
    assert.is_nil(result)
    assert.equal("integrity", err.code)
    assert.is_nil((reader():head { key = "g-damaged" }))
  end)

  it("survives cut connections, resets and stalls", function()
    local path, data = file("f", 500 * KiB)
    way:rules {
      { method = "PUT", match = "partNumber=1&", times = 1, cut = 50000 },
      { method = "PUT", match = "partNumber=2&", times = 1, cut = 0, reset = true },
      { method = "PUT", match = "partNumber=3&", times = 1, stall = 1000 },
      { method = "PUT", match = "partNumber=4&", times = 1, drop = true },
    }
    local result = assert(put(path, { engine = { stall_seconds = 2, stall_bytes = 1 } }))
    assert.equal(data, stored("f"))
    -- curl itself repeats a request on a connection that was kept and had died.
    assert.is_true(result.retries >= 3)
  end)

  it("survives a storm of 503, with Retry-After", function()
    local path, data = file("f", 800 * KiB)
    way:rules { { method = "PUT", times = 12, status = 503, early = true, headers = { ["Retry-After"] = "0" },
      body = "<Error><Code>SlowDown</Code></Error>" } }
    local result = assert(put(path))
    assert.equal(data, stored("f"))
    assert.is_true(result.retries > 0)
  end)

  it("signs again what expired while it waited", function()
    local path, data = file("f", 600 * KiB)
    -- URLs live 6 s, the way takes longer than that: two parts every 2.5 s, so
    -- that each has some seconds left when it begins.
    local result = assert(put(path, { engine = { rate_limit = 80 * KiB }, parallel = 2 }, { expires = 6 }))
    assert.equal(data, stored("f"))
    assert.equal(0, result.retries)
    local dates = {}
    for _, entry in ipairs((way:log())) do
      assert.not_equal(403, entry.status)
      if entry.method == "PUT" then dates[entry.target:match("X%-Amz%-Date=(%w+)")] = true end
    end
    assert.is_string(next(dates, (next(dates))))
  end)

  it("signs again when the store says expired", function()
    local path, data = file("f", 300 * KiB)
    way:rules { { method = "PUT", match = "partNumber=2", times = 1, status = 403,
      body = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>" } }
    assert(put(path))
    assert.equal(data, stored("f"))
  end)

  it("recognises its object when the answer to Complete is lost", function()
    for _, rule in ipairs { { method = "POST", match = "uploadId=", times = 1, drop = true },
      { method = "POST", match = "uploadId=", times = 1, status = 200, forward = true,
        body = "<Error><Code>InternalError</Code></Error>" } } do
      local path, data = file("lost", 300 * KiB)
      way:rules { rule }
      assert(put(path))
      assert.equal(data, stored("lost"))
    end
  end)

  it("works with a wrong clock, both ways", function()
    for _, off in ipairs { -3600, 3600, 86400 } do
      local clock = { now = function() return core.now() + off end, sleep = core.sleep }
      local path, data = file("clock", 300 * KiB)
      assert(put(path, { clock = clock }))
      assert.equal(data, stored("clock"))
      path, data = file("clock1", 3 * KiB)
      assert(put(path, { clock = clock }))
      assert.equal(data, stored("clock1"))
    end
  end)

  it("says what is wrong with keys and buckets", function()
    local path = file("f", 10)
    local result, err = put(path, nil, { secret_key = "wrong" })
    assert.is_nil(result)
    assert.equal("forbidden", err.code)
    assert.truthy(tostring(err):find("SignatureDoesNotMatch", 1, true))
    assert.falsy(tostring(err):find("X%-Amz%-Signature=%x"))
    for _, size in ipairs { 10, 200 * KiB } do
      result, err = put((file("b", size)), nil, { url = "s3://nowhere" })
      assert.is_nil(result)
      assert.equal("not_found", err.code)
    end
  end)

  it("replaces nothing when asked not to", function()
    for _, size in ipairs { 100, 200 * KiB } do
      local name = "keep" .. size
      local path, data = file(name, size)
      assert(put(path, nil, { no_clobber = true }))
      assert.equal(data, stored(name))
      path = file(name, size)
      local result, err = put(path, nil, { no_clobber = true })
      assert.is_nil(result)
      assert.equal("conflict", err.code)
      assert.equal(data, stored(name))
    end
  end)

  it("leaves the object alone that another writer made meanwhile, when asked to", function()
    for _, size in ipairs { 100, 200 * KiB } do
      local name = "race" .. size
      local path = file(name, size)
      local driver = new_driver { no_clobber = true }
      local start = driver.start
      driver.start = function(...)
        local session, err = start(...)
        assert(reader():put { key = name, body = "the other's" })
        return session, err
      end
      local up = assert(uploader.new { driver = driver })
      local result, err = up:put { path = path }
      up:close()
      assert.is_nil(result)
      assert.equal("conflict", err.code)
      assert.equal("the other's", stored(name))
    end
  end)

  describe("and resuming", function()
    local function unfinished(key)
      local list = {}
      for _, upload in ipairs(assert(reader():list_uploads {})) do
        if upload.key == key then list[#list + 1] = upload end
      end
      return list
    end

    after_each(function()
      for _, upload in ipairs(unfinished("r")) do reader():abort_multipart(upload) end
    end)

    -- Uploads until so many PUTs have come, then stops.
    local function interrupted(path, after, options)
      local stop
      local settings = { interrupted = function()
        if not stop and (puts()) >= after then stop = true end
        return stop
      end, engine = { rate_limit = 800 * KiB } }
      for k, v in pairs(options or {}) do settings[k] = v end
      local result, err = put(path, settings)
      assert.is_nil(result)
      assert.is_true(err.resumable)
      way:settle()
      way:clear()
    end

    it("sends only what the bucket lacks", function()
      local path, data = file("r", 900 * KiB)
      interrupted(path, 5)
      local there = assert(reader():list_parts(unfinished("r")[1]))
      local result = assert(put(path))
      assert.equal(data, stored("r"))
      assert.equal(#there, result.resumed_parts)
      assert.is_true(#there > 0)
      local _, parts = puts()
      for _, part in ipairs(there) do assert.is_nil(parts[part.number]) end
      assert.same({}, unfinished("r"))
    end)

    it("takes parts that the journal does not know by their checksum", function()
      local path, data = file("r", 900 * KiB)
      interrupted(path, 5)
      local _, name = support.run("ls " .. folder .. "/journal/*.journal")
      name = name:gsub("%s+$", "")
      local text = support.read_file(name)
      -- all parts lost, another byte in one of those that the bucket has
      support.write_file(name, (text:gsub("[^\n]*\"t\":\"part\"[^\n]*\n", "")))
      local upload = unfinished("r")[1]
      local there = assert(reader():list_parts(upload))
      assert(reader():put_part { key = upload.key, upload_id = upload.upload_id, number = there[1].number,
        body = ("x"):rep(100 * KiB) })
      local result = assert(put(path))
      assert.equal(data, stored("r"))
      assert.equal(#there - 1, result.resumed_parts)
    end)

    it("sends a part again that somebody replaced in the bucket", function()
      local path, data = file("r", 900 * KiB)
      interrupted(path, 5)
      local upload = unfinished("r")[1]
      local there = assert(reader():list_parts(upload))
      assert(reader():put_part { key = upload.key, upload_id = upload.upload_id, number = there[1].number,
        body = ("x"):rep(100 * KiB) })
      assert(put(path))
      assert.equal(data, stored("r"))
    end)

    it("starts over when somebody aborted it", function()
      local path, data = file("r", 900 * KiB)
      interrupted(path, 5)
      local upload = unfinished("r")[1]
      assert(reader():abort_multipart(upload))
      local result, _, events = put(path)
      assert.equal(0, result.resumed_parts)
      assert.equal(data, stored("r"))
      assert.truthy(notes(events):find("gone", 1, true))
    end)

    it("aborts the old upload when the file has changed", function()
      interrupted((file("r", 900 * KiB)), 5)
      local path, data = file("r", 800 * KiB)
      local _, _, events = put(path)
      assert.equal(data, stored("r"))
      assert.same({}, unfinished("r"))
      assert.truthy(notes(events):find("changed", 1, true))
    end)

    it("finds an upload that was completed just before the kill", function()
      local path, data = file("r", 300 * KiB)
      way:rules { { method = "POST", match = "uploadId=", forward = true, status = 418 } }
      local result, err = put(path)
      assert.is_nil(result)
      assert.is_true(err.resumable)
      way:clear()
      result = assert(put(path))
      assert.is_true(result.already)
      assert.equal(data, stored("r"))
      assert.equal(0, (puts()))
    end)
  end)

  describe("in Ceph", function()
    local ceph
    setup(function() ceph = rgw.start() end)

    local function ceph_put(path, more, options)
      local driver_options = { url = "s3://" .. ceph.bucket .. "/up", endpoint = ceph.endpoint, region = ceph.region,
        access_key = ceph.access_key, secret_key = ceph.secret_key,
        profile = { base = "ceph", min_part = 1024 } }
      for k, v in pairs(more or {}) do driver_options[k] = v end
      return put(path, options, driver_options)
    end

    it("stores files, compared by MD5", function()
      for _, size in ipairs { 0, 10, 300 * KiB + 5 } do
        local path, data = file("c" .. size, size)
        local result = assert(ceph_put(path))
        assert.equal(data, stored("c" .. size, ceph))
        assert.equal("md5", result.compared)
      end
    end)

    it("finds out by itself that the ETag is an MD5, where it knows nothing of the store", function()
      local path, data = file("c", 300 * KiB)
      local result = assert(ceph_put(path, { profile = { base = "generic", min_part = 1024 } }))
      assert.equal(data, stored("c", ceph))
      assert.equal("md5", result.compared)
    end)

    it("notices damage on the way", function()
      local path, data = file("c", 300 * KiB)
      way:target((ceph.endpoint:gsub("^http://", "")))
      finally(function() way:target((store.endpoint:gsub("^http://", ""))) end)
      -- (One part damaged twice in the same way would look like an ETag that is no MD5.)
      way:rules { { method = "PUT", match = "partNumber=1&", times = 1, flip = 99 },
        { method = "PUT", match = "partNumber=2&", times = 1, flip = 99 } }
      local result = assert(ceph_put(path, { endpoint = way.endpoint,
        profile = { base = "generic", min_part = 1024 } }))
      assert.equal(data, stored("c", ceph))
      assert.equal(2, result.retries)
    end)

    it("signs again what expired", function()
      local path, data = file("c", 600 * KiB)
      assert(ceph_put(path, { expires = 6 }, { engine = { rate_limit = 80 * KiB }, parallel = 2 }))
      assert.equal(data, stored("c", ceph))
    end)

    it("aborts what can come to nothing", function()
      local path = file("gone", 300 * KiB)
      local driver = new_driver { url = "s3://" .. ceph.bucket .. "/up", endpoint = ceph.endpoint,
        region = ceph.region, access_key = ceph.access_key, secret_key = ceph.secret_key,
        profile = { base = "ceph", min_part = 1024 } }
      local up = assert(uploader.new { driver = driver, on_event = function(event)
        if event.type == "part" then support.write_file(path, "other") end
      end })
      local result, err = up:put { path = path }
      up:close()
      assert.is_nil(result)
      assert.equal("changed", err.code)
      for _, upload in ipairs(assert(reader(ceph):list_uploads {})) do assert.not_equal("gone", upload.key) end
    end)
  end)
end)

describe("the URL of a bucket", function()
  it("is bucket and prefix", function()
    assert.same({ "b", "" }, { s3.parse_url "s3://b" })
    assert.same({ "b", "" }, { s3.parse_url "s3://b/" })
    assert.same({ "b-1.c", "p/" }, { s3.parse_url "s3://b-1.c/p" })
    assert.same({ "b", "p/q/" }, { s3.parse_url "s3://b/p/q/" })
    for _, url in ipairs { "s3://", "s3:///p", "http://b", "s3://b?x/", "" } do
      local bucket, err = s3.parse_url(url)
      assert.is_nil(bucket)
      assert.equal("url", err.field)
    end
  end)

  it("tells the kind of store by its host", function()
    assert.equal("aws", s3.profile_of(nil))
    assert.equal("aws", s3.profile_of "https://s3.eu-west-1.amazonaws.com")
    assert.equal("r2", s3.profile_of "https://0123.r2.cloudflarestorage.com")
    assert.equal("gcs", s3.profile_of "https://storage.googleapis.com")
    assert.equal("generic", s3.profile_of "http://127.0.0.1:9000")
    assert.equal("generic", s3.profile_of "https://amazonaws.com.example.org")
  end)
end)

-- The broker on real stores, over HTTP: the disk store and a Ceph gateway.
local support = require "spec.support"
local diskstore = require "spec.support.diskstore"
local rgw = require "spec.support.rgw"
local core = require "longshore.core"
local json = require "longshore.json"
local postgres = require "spec.support.postgres"
local policy = require "longshore.policy"
local s3 = require "longshore.provider.s3"
local stores = require "longshore.store"
local transports = require "longshore.http.transport"

local PART = 1024
local ANN = { user = "ann", organization = "acme", tenant = "default",
  rights = { read = true, upload = true, delete = true } }
local BODY = core.random(PART) .. core.random(PART) .. core.random(100)

local function contract(start, profile, database)
  local place, provider, store, broker, send, time, where
  setup(function()
    place = start()
    send = transports.new { proxy = "" }
    provider = assert(s3.new {
      profile = { base = profile, min_part = PART }, endpoint = place.endpoint, region = place.region,
      bucket = place.bucket, prefix = "broker-spec/", access_key = place.access_key, secret_key = place.secret_key,
      transport = send,
    })
    where = database and database() or { type = "sqlite", path = support.tmpdir() .. "/longshore.db" }
    store = assert(stores.open(where))
    time = { offset = 0, now = function() return core.now() + time.offset end, sleep = core.sleep }
    broker = require("longshore.broker").new {
      store = store, providers = { default = provider }, clock = time,
      policy = assert(policy.new { part_size = PART }),
    }
  end)
  teardown(function()
    store:close()
    support.cleanup()
  end)

  local function put(url, body)
    local response = assert(send { method = "PUT", url = url, body = body })
    return response.status, response.headers.etag
  end

  local function upload(name, body, fields)
    local request = { service = "newton", filename = name, content_type = "video/mp4", size = #body }
    for k, v in pairs(fields or {}) do request[k] = v end
    local row = assert(broker:initiate(ANN, request))
    local parts, urls = {}, assert(broker:part_urls(ANN, row.id))
    for i, part in ipairs(urls) do
      local status, etag = put(part.url, body:sub(part.offset + 1, part.offset + part.length))
      assert.equal(200, status)
      parts[i] = { number = part.number, token = etag }
    end
    return row, parts, urls
  end

  local function read(file_id)
    local link = assert(broker:download(ANN, file_id))
    return assert(send { method = "GET", url = link.url })
  end

  local function left()
    return #assert(provider:list { prefix = "" }), #assert(provider:list_uploads { prefix = "" })
  end

  local function crc_of(row, body)
    return row.integrity == "crc32c" and core.crc32c(body) or nil
  end

  it("takes a file in parts and gives it back", function()
    local row, parts = upload("Bericht ü.mp4", BODY)
    assert.equal(3, #parts)
    local file = assert(broker:complete(ANN, row.id, { parts = parts, crc32c = crc_of(row, BODY) }))
    assert.same(row.integrity == "crc32c" and { "size", "crc32c" } or { "size" }, file.checks)
    assert.equal(#BODY, file.size)
    local response = read(file.id)
    assert.equal(200, response.status)
    assert.equal(BODY, response.body)
    assert.equal("video/mp4", response.headers["content-type"])
    assert.truthy(response.headers["content-disposition"]:find("Bericht", 1, true))
    assert.equal(row.id, assert(provider:head { key = row.key }).marker)
  end)

  it("takes an empty file and one of a single byte", function()
    for _, body in ipairs { "", "x" } do
      local row, parts = upload("small " .. #body, body)
      assert.equal(1, #parts)
      local file = assert(broker:complete(ANN, row.id, { parts = parts, crc32c = crc_of(row, body) }))
      assert.equal(#body, file.size)
      assert.equal(body, read(file.id).body)
    end
  end)

  it("signs a part's URL for its length, its number and no longer than it is wanted", function()
    local row, _, urls = upload("signed", BODY)
    assert.equal(403, (put(urls[1].url, BODY:sub(1, PART - 1))))
    assert.equal(403, (put((urls[1].url:gsub("partNumber=1", "partNumber=2")), BODY:sub(1, PART))))
    local forged = urls[1].url:gsub("(X%-Amz%-Signature=)(.)", function(name, digit)
      return name .. (digit == "0" and "1" or "0")
    end)
    assert.equal(403, (put(forged, BODY:sub(1, PART))))
    assert(broker:abort(ANN, row.id))
  end)

  it("lets no URL change a finished file", function()
    local row, parts, urls = upload("finished", BODY)
    local file = assert(broker:complete(ANN, row.id, { parts = parts }))
    assert.equal(404, (put(urls[1].url, ("e"):rep(PART))))
    assert.equal(BODY, read(file.id).body)
  end)

  it("leaves nothing of an aborted upload", function()
    local _, before = left()
    local row, _, urls = upload("aborted", BODY)
    assert.equal(before + 1, select(2, left()))
    assert(broker:abort(ANN, row.id))
    assert.equal(before, select(2, left()))
    assert.equal(404, (put(urls[1].url, BODY:sub(1, PART))))
  end)

  it("finds a part that was sent again with other bytes", function()
    local row, parts, urls = upload("changed", BODY)
    assert.equal(200, (put(urls[2].url, ("e"):rep(PART))))
    local _, err = broker:complete(ANN, row.id, { parts = parts })
    assert.equal("invalid", err.code)
    assert.truthy(err.message:find("part 2", 1, true))
    assert.equal(200, (put(urls[2].url, BODY:sub(PART + 1, 2 * PART))))
    assert(broker:complete(ANN, row.id, { parts = parts }))
  end)

  it("resumes with what is missing, as the store confirms", function()
    local row, parts = upload("resumed", BODY)
    assert.equal(3, broker:checkpoint(ANN, row.id, { parts[1], { number = 2, token = "not its ETag" }, parts[3] }))
    local again, info = assert(broker:initiate(ANN, { service = "newton", filename = "resumed",
      content_type = "video/mp4", size = #BODY, resume = true }))
    assert.is_true(info.is_resume)
    local urls = assert(broker:part_urls(ANN, again.id))
    assert.equal(1, #urls)
    assert.equal(2, urls[1].number)
    assert(broker:complete(ANN, row.id, { parts = { parts[2] } }))
  end)

  it("recognises what it finished before it died", function()
    local row, parts = upload("died", BODY)
    local finish = store.finish_complete
    store.finish_complete = function() error("died", 0) end
    assert.has_error(function() broker:complete(ANN, row.id, { parts = parts, crc32c = crc_of(row, BODY) }) end)
    store.finish_complete = finish
    local file = assert(broker:complete(ANN, row.id, { crc32c = crc_of(row, BODY) }))
    assert.equal(BODY, read(file.id).body)
  end)

  it("brings a spooled file to the store, in place of the old one", function()
    local spool = support.write_file(support.tmpdir() .. "/spool", "head" .. BODY .. "tail")
    local request = { service = "newton", filename = "form", content_type = "text/csv",
      file = { path = spool, offset = 4, length = #BODY } }
    local old = assert(broker:ingest(ANN, request))
    assert.equal(BODY, read(old.id).body)
    request.file = { path = spool, offset = 0, length = 0 }
    local new = assert(broker:ingest(ANN, request))
    assert.equal("", read(new.id).body)
    assert.equal("not_found", select(2, broker:file(ANN, old.id)).code)
  end)

  it("deletes the object with the file", function()
    local row, parts = upload("deleted", BODY)
    local file = assert(broker:complete(ANN, row.id, { parts = parts }))
    assert(broker:delete_file(ANN, file.id))
    assert.equal("not_found", select(2, provider:head { key = row.key }).code)
  end)

  it("finds out when the store has lost an upload", function()
    local row, parts = upload("lost", BODY)
    for _, running in ipairs(assert(provider:list_uploads { prefix = row.key })) do
      assert(provider:abort_multipart(running))
    end
    local _, err = broker:complete(ANN, row.id, { parts = parts })
    assert.equal("lost", err.reason)
  end)

  -- Runs several processes at once; what each printed.
  local function processes(n, settings)
    local folder = support.tmpdir()
    local file = support.write_file(folder .. "/settings.lua", ([[
      return {
        store = require("longshore.json").decode(%q), part_size = %d, start_at = %.3f,
        action = %q, upload_id = %q, now = %s,
        actor = { user = "ann", organization = "acme", tenant = "default",
          rights = { upload = true } },
        request = { parts = require("longshore.json").decode(%q) },
        provider = function(transport)
          return { profile = { base = %q, min_part = %d }, endpoint = %q, region = %q, bucket = %q,
            prefix = "broker-spec/", access_key = %q, secret_key = %q, transport = transport }
        end,
      }]]):format(json.encode(where), PART, core.now() + 0.3, settings.action, settings.upload_id or "",
      settings.now or "nil",
      json.encode(json.array(settings.parts or {})), profile, PART, place.endpoint, place.region, place.bucket,
      place.access_key, place.secret_key))
    local running, said = {}, {}
    for i = 1, n do
      running[i] = support.spawn(support.lua, { args = { support.root .. "/spec/broker/process.lua", file },
        stdout = folder .. "/out" .. i })
    end
    for i = 1, n do
      assert.equal(0, running[i]:wait(120), support.read_file(folder .. "/out" .. i))
      said[i] = support.read_file(folder .. "/out" .. i):gsub("%s+$", "")
    end
    return said
  end

  it("is completed by one of many processes, and none says otherwise", function()
    local row, parts = upload("raced", BODY)
    local files = 0
    for _, line in ipairs(processes(4, { action = "complete", upload_id = row.id, parts = parts })) do
      if line == "file " .. row.file_id then files = files + 1 else assert.equal("error already_completed", line) end
    end
    assert.truthy(files >= 1)
    assert.equal(BODY, read(row.file_id).body)
  end)

  it("is cleaned by janitors in many processes, each stale upload by one", function()
    for i = 1, 6 do upload("stale " .. i, BODY) end
    for i = 1, 2 do
      local row, parts = upload("cut short " .. i, BODY)
      local finish = store.finish_complete
      store.finish_complete = function() error("died", 0) end
      pcall(broker.complete, broker, ANN, row.id, { parts = parts })
      store.finish_complete = finish
    end
    local open = store:count_uploads()
    local expired, finished = 0, 0
    for _, line in ipairs(processes(3, { action = "janitor", now = ("%.0f"):format(core.now() + 8 * 86400) })) do
      local e, f, errors = line:match("^(%d+) (%d+) (%d+)$")
      assert.equal("0", errors, line)
      expired, finished = expired + tonumber(e), finished + tonumber(f)
    end
    assert.equal(open.uploading, expired)
    assert.equal(open.completing, finished)
    time.offset = 9 * 86400
    broker:janitor()
    time.offset = 0
    local counts = store:count_uploads()
    assert.is_nil(counts.uploading or counts.completing or counts.expiring or counts.aborting)
    local objects, uploads = left()
    assert.equal(0, uploads)
    assert.equal(select(2, broker:files(ANN)), objects)
  end)
end

describe("broker on the disk store", function()
  contract(function() return diskstore.start { min_part = PART } end, "diskstore")
end)

describe("broker on Ceph", function()
  contract(function() return rgw.start { min_part = PART } end, "ceph")
end)

describe("broker on PostgreSQL", function()
  contract(function() return diskstore.start { min_part = PART } end, "diskstore", function()
    return assert(postgres.start(), "PostgreSQL is missing: make deps").options()
  end)
end)


-- Records on real stores, over HTTP: the disk store and a Ceph gateway.
local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local policy = require "longshore.policy"
local rgw = require "spec.support.rgw"
local s3 = require "longshore.provider.s3"
local stores = require "longshore.store"
local support = require "spec.support"
local transports = require "longshore.http.transport"

local PART = 1024
local ANN = { user = "ann", organization = "acme", tenant = "harbour",
  rights = { read = true, upload = true, delete = true } }
local LIMITS = { service = "cognite", provider = "default", link_seconds = 604800, max_put = 1e6 }
local BODY = ("a pier of which there are many\n"):rep(100)

local function contract(start, profile)
  local provider, store, broker, send, time

  setup(function()
    local place = start()
    send = transports.new { proxy = "" }
    provider = assert(s3.new {
      profile = { base = profile, min_part = PART }, endpoint = place.endpoint, region = place.region,
      bucket = place.bucket, prefix = "record-spec/", access_key = place.access_key, secret_key = place.secret_key,
      transport = send,
    })
    store = assert(stores.open { type = "sqlite", path = support.tmpdir() .. "/longshore.db" })
    time = { offset = 0, now = function() return core.now() + time.offset end, sleep = core.sleep }
    broker = require("longshore.broker").new { store = store, providers = { default = provider }, clock = time,
      policy = assert(policy.new()) }
  end)
  teardown(function()
    store:close()
    support.cleanup()
  end)

  local function put(url, body)
    assert.equal(200, assert(send { method = "PUT", url = url, body = body }).status)
  end

  local function read(reference)
    local links = assert(broker:record_downloads(ANN, { reference }, 30, function() return "text/plain" end))
    return assert(send { method = "GET", url = links[1].url }).body
  end

  it("notices, replaces by a PUT and by parts, completes again, deletes; nothing is left", function()
    local record, grant = assert(broker:create_record(ANN, { name = "a", external_id = "x", fields = {} }, LIMITS))
    put(grant.url, BODY)
    assert.equal(BODY, read { external_id = "x" })
    put(grant.url, "an afterthought") -- taken by a later look
    local again = { name = "b", external_id = "x", parts = 2, overwrite = function()
      return { name = "b", fields = {} }
    end }
    local _, parts = assert(broker:create_record(ANN, again, LIMITS))
    put(parts.urls[2], "end")
    local _, err = broker:complete_record(ANN, { id = record.id }, parts.upload_id)
    assert.same({ 1 }, err.parts)
    put(parts.urls[1], BODY)
    core.sleep(1.1) -- stores tell the time in seconds
    assert.is_true(broker:complete_record(ANN, { id = record.id }, parts.upload_id))
    assert.is_true(broker:complete_record(ANN, { id = record.id }, parts.upload_id))
    assert.equal(BODY .. "end", read { external_id = "x" })
    time.offset = time.offset + 4000
    broker:janitor()
    assert.equal(BODY .. "end", read { external_id = "x" }) -- the afterthought came before
    assert.is_true(broker:delete_records(ANN, { { id = record.id } }))
    for _ = 1, 4 do
      time.offset = time.offset + 700000
      broker:janitor()
    end
    time.offset = 0
    assert.same({}, { (provider:list {})[1], provider:list_uploads {}[1] })
    assert.same({}, store:count_cleanups())
  end)

  it("keeps content when a completion is cut off between the store and the row", function()
    local record, grant = assert(broker:create_record(ANN, { name = "c", fields = {}, parts = 1 }, LIMITS))
    put(grant.urls[1], BODY)
    local bind = store.bind_delivery
    store.bind_delivery = function() return nil, require("longshore.errors").new("unavailable", "cut off") end
    local _, err = broker:complete_record(ANN, { id = record.id }, grant.upload_id)
    store.bind_delivery = bind
    assert.equal("unavailable", err.code)
    broker:janitor()
    assert.equal(BODY, read { id = record.id })
  end)
end

describe("records on the disk store", function()
  contract(function() return diskstore.start { min_part = PART } end, "diskstore")
end)

describe("records on a Ceph gateway", function()
  contract(function() return rgw.start { min_part = PART } end, "ceph")
end)

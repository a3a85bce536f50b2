-- The official JavaScript SDK (@cognite/sdk, from npm) against `longshore serve`:
-- real nginx, real disk store. The relays between them show what was sent, and
-- break some of it.
local json = require "longshore.json"
local relay = require "spec.support.relay"
local serve = require "spec.support.serve"
local stores = require "longshore.store"
local support = require "spec.support"
local tokens = require "longshore.broker.tokens"

local SDK = "@cognite/sdk@10.5.0"

for _, kind in ipairs { "put", "resumable" } do
describe(("the official SDK (upload = %q)"):format(kind), function()
  local server, doors, folder

  setup(function()
    local code, out = support.run(support.root .. "/spec/tools/npm.sh cognite " .. SDK)
    assert(code == 0, out)
    folder = out:match("([^\n]+)%s*$")
    local store_port = support.free_port()
    doors = { store = relay.start { target = "127.0.0.1:" .. store_port } }
    server = serve.start { store_port = store_port, config = ([[return {
      diskstore = { public_endpoint = %q, fsync = false }, services = { cognite = { upload = %q } } }]])
      :format(doors.store.endpoint, kind) }
    doors.broker = relay.start { target = "127.0.0.1:" .. server.port }
  end)
  teardown(function()
    for _, door in pairs(doors) do door:stop() end
    server:stop()
    support.cleanup()
  end)
  before_each(function()
    doors.store:clear()
    doors.broker:clear()
  end)

  local function run(scenario, project, token)
    local q = support.quote
    local code, out = support.run(("cd %s && SDK=%s BASE=%s PROJECT=%s TOKEN=%s node %s %s"):format(q(folder),
      q(folder), doors.broker.endpoint, project or "default", token or server.token,
      q(support.root .. "/spec/service/cognite/sdk.mjs"), scenario))
    assert(code == 0, out)
    return assert(json.decode(assert(out:match("FOUND (%b{})") or out:match("FOUND (null)"), out)))
  end

  it("uploads strings, Buffers and ArrayBuffers and sees them acknowledged, after a 401 and a token", function()
    local found = run "forms"
    for _, name in ipairs { "string", "buffer", "arrayBuffer" } do
      assert.same({ uploaded = true, hasTime = true, safe = true, same = true, type = "text/plain" }, found[name],
        name)
    end
    assert.is_true(found.asked >= 1)
    local log = doors.broker:log()
    assert.equal(401, log[1].status)
    assert.falsy(log[1].head:lower():find("\nauthorization:", 1, true))
    assert.equal("/api/v1/projects/default/files/?overwrite=false", log[2].target)
    assert.equal(201, log[2].status)
    for _, entry in ipairs(doors.store:log()) do -- the store is another origin: no token reaches it
      assert.falsy(entry.head:lower():find("\nauthorization:", 1, true))
    end
  end)

  it("keeps every field and every date, lists by filter, updates", function()
    local found = run "fields"
    assert.is_true(found.dates)
    local same = found.same
    assert.same({ one = "1", ["ключ"] = "значение" }, same.metadata)
    assert.same({ 1, 9007199254740991 }, same.assetIds)
    assert.equal(9007199254740990, same.dataSetId)
    assert.same({ { externalId = "L" } }, same.labels)
    assert.same({ type = "Point", coordinates = { 10.5, 59.25 } }, same.geoLocation.geometry)
    assert.equal(json.null, same.geoLocation.properties.deep.a[2])
    assert.same({ same.id }, found.listed)
    local updated = found.updated
    assert.same({ two = "2", ["ключ"] = "значение" }, updated.metadata)
    assert.is_nil(updated.source)
    assert.equal("/c", updated.directory)
    assert.same({ 9007199254740991, 7 }, updated.assetIds)
  end)

  it("starts without content and takes it later, by the link", function()
    local found = run "manual"
    assert.equal(kind == "resumable", found.url:find("/v1/files/gcs_proxy/", 1, true) ~= nil)
    assert.is_false(found.before)
    assert.equal(400, found.nothing.status)
    assert.equal(200, found.put)
    assert.is_true(found.after)
    assert.equal("later", found.body)
  end)

  it("overwrites: metadata as a whole, assetIds only when sent, the old content until the new is there", function()
    local found = run "overwrite"
    assert.equal(409, found.refused.status)
    assert.same({ { externalId = "over" } }, found.refused.duplicated)
    assert.equal(found.first.id, found.started.id)
    assert.equal("v2", found.between.name)
    assert.same({ c = "3" }, found.between.metadata)
    assert.same({ 1, 2 }, found.between.assetIds)
    assert.is_true(found.between.uploaded)
    assert.equal("old content", found.old)
    assert.same({ d = "4" }, found.last.metadata)
    assert.equal("new content", found.body)
  end)

  it("uploads parts in any order, from 0, and completes by itself", function()
    local found = run "multipart"
    assert.same({ { 0, 1, 2 }, { 1 } }, found.progress)
    assert.is_true(found.finished and found.flat and found.same)
    assert.equal(3, found.links)
    assert.equal("application/x-spec", found.type)
    assert.is_truthy(found.late)
    for _, entry in ipairs(doors.store:log()) do
      if entry.method == "PUT" then
        assert.falsy(entry.head:lower():find("\nauthorization:", 1, true))
      end
    end
  end)

  it("replaces content by parts", function()
    local found = run "replaceByParts"
    assert.equal("old", found.old)
    assert.equal(5 * 1048576 + 4, found.size)
    assert.equal("tail", found.tail)
  end)

  it("reads errors with their lists", function()
    local found = run "mistakes"
    assert.equal(400, found.unknown.status)
    assert.same({ { id = 1 }, { externalId = "nobody" } }, found.unknown.missing)
    assert.same({}, found.ignored)
    assert.matches("name", found.name.message)
    assert.matches("parts", found.parts.message)
    assert.same({}, found.gone)
    assert.equal(400, found.after.status)
  end)

  it("pages through lists", function()
    local found = run "pages"
    assert.equal(7, #found.ids)
    assert.equal(7, found.unique)
    assert.equal("page0", found.ids[1])
  end)

  it("gets its bytes through when the store is busy and the service throttles", function()
    doors.store:rules { { method = "PUT", status = 503, times = 2 } }
    doors.broker:rules { { match = "overwrite", status = 429, times = 1,
      body = '{"error":{"code":429,"message":"slow down"}}', headers = { ["Content-Type"] = "application/json" } } }
    assert.is_true(run("retries").same)
    doors.store:rules { { method = "PUT", status = 500, times = 1 } }
    local found = run "partRetries"
    assert.is_true(found.finished)
    assert.equal(5 * 1048576 + 10, found.size)
  end)

  it("is told nothing of a project that is not the token's", function()
    local store = assert(stores.open { type = "sqlite", path = server.data .. "/longshore.db" })
    local made = assert(tokens.new({ store = store }):create { user = "eve", organization = "default",
      tenant = "elsewhere" })
    store:close()
    local there, nowhere = run("forbidden", "default", made.token), run("forbidden", "nowhere", made.token)
    assert.equal(403, there.status)
    there.message, nowhere.message = there.message:gsub("%S*req_%S*", ""), nowhere.message:gsub("%S*req_%S*", "")
    assert.same(there, nowhere)
  end)
end)
end

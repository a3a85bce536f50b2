-- A crash at any instant: what is visible is old or new and whole, and what is
-- left behind goes. First at every single step, in this process; then kill -9
-- of nginx at random moments under load.
local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local lfs = require "lfs"
local support = require "spec.support"

-- The functions through which the store changes the disk.
local steps = {
  { os, "rename" }, { os, "remove" }, { io, "open" }, { lfs, "link" }, { lfs, "mkdir" }, { lfs, "rmdir" },
  { core, "fsync" },
}

-- Runs fn until its n-th step on the disk and leaves it there for ever, as a
-- crash does. Returns whether it came to its end before.
local function crash_at(n, fn)
  local originals, count = {}, 0
  for i, step in ipairs(steps) do
    local module, name = step[1], step[2]
    originals[i] = module[name]
    module[name] = function(...)
      if name ~= "open" or (select(2, ...) or "r"):find("[wa+]") then
        count = count + 1
        if count == n then coroutine.yield("crash") end
      end
      return originals[i](...)
    end
  end
  local thread = coroutine.create(fn)
  local ok, what = coroutine.resume(thread)
  for i, step in ipairs(steps) do step[1][step[2]] = originals[i] end
  assert(ok, what)
  -- A dead process holds no locks.
  local ended = coroutine.status(thread) == "dead"
  thread = nil -- luacheck: ignore
  collectgarbage()
  collectgarbage()
  return ended
end

describe("a crash of the disk store", function()
  after_each(support.cleanup)

  -- Every file in data/ belongs to a visible object or an open upload, and every one of those is there.
  local function assert_nothing_left(folder)
    local wanted = {}
    local _, docs = support.run(("cat /dev/null $(find %s/buckets -path '*/objects/*' -type f -o -path '*/uploads/*' "
      .. "-type f) | grep '^id '"):format(folder))
    for id in docs:gmatch("id (%x+)") do wanted[id] = true end
    local _, found = support.run(("cd %s/data && find . -mindepth 2 -maxdepth 2"):format(folder))
    for id in found:gmatch("%./%x%x/(%x+)") do assert.is_true(wanted[id], "left in data: " .. id) end
    local _, rest = support.run(("cd %s && find pending trash spool -mindepth 1"):format(folder))
    assert.equal("", (rest:gsub("%s", "")))
  end

  -- Tries one operation with a crash at every step of it, each time with
  -- another key: prepare(plain, key) -> state, operation(plain, key, state),
  -- check(plain, key, state, ended).
  local function every_step(prepare, operation, check)
    local fsync = core.fsync
    -- Every fsync is a step, but this disk need not wait for it.
    core.fsync = function() return true end -- luacheck: ignore
    finally(function() core.fsync = fsync end) -- luacheck: ignore
    local plain = diskstore.plain { durable = true }
    for n = 1, 60 do
      local key = ("k%02d"):format(n)
      local state = prepare(plain, key)
      local ended = crash_at(n, function() operation(plain, key, state) end)
      -- A new process: nothing is remembered.
      plain.store = require("longshore.diskstore").new { folder = plain.folder, durable = true, min_part = 1 }
      check(plain, key, state, ended)
      plain.store:sweep { grace = 0, stale = 0 }
      check(plain, key, state, ended)
      assert_nothing_left(plain.folder)
      -- And the operation can be done again.
      operation(plain, key, state)
      check(plain, key, state, true)
      plain.store:sweep { grace = 0, stale = 0 }
      check(plain, key, state, true)
      assert_nothing_left(plain.folder)
      if ended then return n - 1 end
    end
    error("more steps than a spec should take")
  end

  local function body_of(plain, key)
    local response, why = plain:call("GET", "/longshore/" .. key)
    if not response then
      assert.equal("NoSuchKey", why.code)
      return nil
    end
    local listed = plain:call("GET", "/longshore?prefix=" .. key).body
    assert.truthy(listed:find("<Key>" .. key .. "</Key>", 1, true))
    return response.body
  end

  local function one_of(plain, key, ended, before, after)
    local body = body_of(plain, key)
    if ended then
      assert.equal(after, body)
    else
      assert.is_true(body == before or body == after, tostring(body))
    end
  end

  local function put(plain, key, body, headers)
    return plain:call("PUT", "/longshore/" .. key, headers, body)
  end

  local function put_old(plain, key) assert(put(plain, key, "old")) end

  it("in PutObject, new or replacing, shows the old object or the new one", function()
    local function put_new(plain, key) put(plain, key, "new") end
    local count = every_step(function() end, put_new, function(plain, key, _, ended)
      one_of(plain, key, ended, nil, "new")
    end)
    assert.is_true(count > 8)
    every_step(put_old, put_new, function(plain, key, _, ended) one_of(plain, key, ended, "old", "new") end)
  end)

  it("in DeleteObject shows the object or none", function()
    every_step(put_old, function(plain, key) plain:call("DELETE", "/longshore/" .. key) end,
      function(plain, key, _, ended) one_of(plain, key, ended, "old", nil) end)
  end)

  local function start_upload(plain, key)
    local path = "/longshore/" .. key
    local id = plain:call("POST", path .. "?uploads").body:match("<UploadId>(.-)<")
    local list = ""
    for number = 1, 2 do
      local etag = plain:call("PUT", ("%s?partNumber=%d&uploadId=%s"):format(path, number, id), {},
        "part" .. number).headers.etag
      list = list .. ("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>"):format(number, etag)
    end
    return { id = id, body = "<CompleteMultipartUpload>" .. list .. "</CompleteMultipartUpload>",
      path = path .. "?uploadId=" .. id }
  end

  it("in CopyObject, of a file and of parts, shows the old object or the copy", function()
    for source, bytes in pairs { file = "bytes", parts = "part1part2" } do
      every_step(function(plain, key)
        put(plain, "file", "bytes")
        local upload = start_upload(plain, "parts")
        assert(plain:call("POST", upload.path, {}, upload.body))
        put_old(plain, key)
        plain.store:sweep { grace = 0 }
      end, function(plain, key)
        put(plain, key, nil, { ["x-amz-copy-source"] = "longshore/" .. source })
      end, function(plain, key, _, ended) one_of(plain, key, ended, "old", bytes) end)
    end
  end)

  it("in Complete shows the old object or the new one, and Complete can be repeated", function()
    every_step(function(plain, key)
      put_old(plain, key)
      return start_upload(plain, key)
    end, function(plain, _, upload)
      assert(plain:call("POST", upload.path, {}, upload.body))
    end, function(plain, key, _, ended) one_of(plain, key, ended, "old", "part1part2") end)
  end)

  it("in Abort leaves the upload or nothing of it, and never an object", function()
    every_step(start_upload, function(plain, _, upload) plain:call("DELETE", upload.path) end,
      function(plain, key, upload, ended)
        assert.is_nil(body_of(plain, key))
        local _, why = plain:call("GET", upload.path)
        if ended then assert.equal("NoSuchUpload", why.code) end
      end)
  end)

  it("in UploadPart leaves the old part or the new one", function()
    every_step(start_upload, function(plain, _, upload)
      plain:call("PUT", upload.path .. "&partNumber=1", {}, "again")
    end, function(plain, _, upload, ended)
      local body = plain:call("GET", upload.path).body
      local etag = body:match("<PartNumber>1</PartNumber>.-<ETag>&quot;(.-)&quot;")
      local old, new = core.hex(core.md5("part1")), core.hex(core.md5("again"))
      assert.is_true(etag == new or not ended and etag == old)
    end)
  end)

  it("in CreateBucket and CreateMultipartUpload leaves all or nothing", function()
    every_step(function() end, function(plain, key)
      plain:call("PUT", "/" .. key)
      plain:call("PUT", "/" .. key .. "/k", {}, "x")
    end, function(plain, key, _, ended)
      local response, why = plain:call("GET", "/" .. key)
      assert.is_true(response ~= nil or why.code == "NoSuchBucket")
      if ended then assert.truthy(response.body:find("<Key>k</Key>", 1, true)) end
    end)
    every_step(function() end, function(plain, key) plain:call("POST", "/longshore/" .. key .. "?uploads") end,
      function(plain) assert(plain:call("GET", "/longshore?uploads")) end)
  end)

  -- The server is the same whatever runs this file; this takes long, and runs once.
  local once = rawget(_G, "jit") and it or function() end

  once("by kill -9 at ten random moments under load loses nothing that was answered", function()
    local store = diskstore.start { fsync = false }
    local folder = support.tmpdir()
    local script = folder .. "/writer.lua"
    -- Puts versions of its keys, every third one in parts; writes down what was answered.
    support.write_file(script, ([[
      local core = require "longshore.core"
      local store = require("spec.support.diskstore").client { port = %d, access_key = %q, secret_key = %q,
        region = "us-east-1" }
      local name = arg[1]
      local log = io.open(%q .. "/" .. name, "w")
      local function body(key, version)
        local text = ("%%s %%d "):format(key, version)
        return text .. core.hex(core.sha256(text)):rep(version %% 50 * 40)
      end
      local function put(key, version)
        local path, text = "/longshore/" .. key, body(key, version)
        if version %% 3 > 0 then
          local answer = store:send { method = "PUT", path = path, body = text }
          return answer and answer.status == 200
        end
        local answer = store:send { method = "POST", path = path, query = { uploads = true } }
        local id = answer and answer.body and answer.body:match("<UploadId>(.-)<")
        if not id then return false end
        local list, half = "", math.floor(#text / 2)
        for number, piece in ipairs { text:sub(1, half), text:sub(half + 1) } do
          answer = store:send { method = "PUT", path = path, body = piece,
            query = { uploadId = id, partNumber = tostring(number) } }
          if not answer or answer.status ~= 200 then return false end
          list = list .. ("<Part><PartNumber>%%d</PartNumber><ETag>%%s</ETag></Part>"):format(number,
            answer.headers.etag)
        end
        answer = store:send { method = "POST", path = path, query = { uploadId = id },
          body = "<CompleteMultipartUpload>" .. list .. "</CompleteMultipartUpload>" }
        return answer and answer.status == 200
      end
      for version = 1, 1e9 do
        local key = name .. "-" .. version %% 4
        local called, ok = pcall(put, key, version)
        if called and ok then
          log:write(key, " ", version, "\n")
          log:flush()
        else
          core.sleep(0.01)
        end
      end
    ]]):format(store.port, store.access_key, store.secret_key, folder))
    local writers = {}
    for i = 1, 3 do writers[i] = support.spawn(support.lua, { args = { script, "w" .. i } }) end

    local function answered()
      local newest = {}
      for i = 1, 3 do
        for key, version in (support.read_file(folder .. "/w" .. i) or ""):gmatch("(%S+) (%d+)\n") do
          newest[key] = tonumber(version)
        end
      end
      return newest
    end

    local function check(newest)
      for key, version in pairs(newest) do
        local answer = store:send { path = "/longshore/" .. key }
        assert.equal(200, answer.status)
        local name, now = answer.body:match("^(%S+) (%d+) ")
        assert.equal(key, name)
        assert.is_true(tonumber(now) >= version)
        local text = ("%s %s "):format(name, now)
        assert.is_true(answer.body == text .. core.hex(core.sha256(text)):rep(tonumber(now) % 50 * 40))
      end
    end

    assert(support.wait_until(function() return next(answered()) end))
    for _ = 1, 10 do
      core.sleep(0.05 + core.random(1):byte() / 1000)
      store:kill()
      local newest = answered()
      store:restart()
      check(newest)
    end
    for i = 1, 3 do writers[i]:kill("sigkill") writers[i]:wait(60) end
    check(answered())
    -- Open uploads are the client's to abort; the rest is the janitor's.
    local body = store:send({ path = "/longshore", query = { uploads = true } }).body
    for key, id in body:gmatch("<Upload><Key>(.-)</Key><UploadId>(.-)</UploadId>") do
      local answer = store:send { method = "DELETE", path = "/longshore/" .. key, query = { uploadId = id } }
      -- 404: a writer's last Complete was still under way when it was killed.
      assert.is_true(answer.status == 204 or answer.status == 404)
    end
    store:stop()
    require("longshore.diskstore").new({ folder = store.folder }):sweep { grace = 0, stale = 0 }
    assert_nothing_left(store.folder)
    assert.is_true(next(answered()) ~= nil)
  end)

  it("leaves what the next start clears away at once, without waiting for it to become stale", function()
    local store = diskstore.start()
    store:kill()
    support.write_file(store.folder .. "/spool/0000000042", ("x"):rep(1000))
    support.write_file(store.folder .. "/pending/" .. ("a"):rep(32) .. ".put", "longshore obj")
    support.write_file(store.folder .. "/data/aa/" .. ("a"):rep(32), "half")
    core.sleep(0.05)
    store:restart()
    assert.truthy(support.wait_until(function()
      local _, out = support.run(("cd %s && find spool pending data -type f"):format(store.folder))
      return out:gsub("%s", "") == ""
    end, 20))
  end)

  it("keeps what was begun in the second of the start, after it", function()
    local plain = diskstore.plain()
    local spooled = plain.store.layout:spool() .. "/0000000042"
    -- Early in a second: the start and the file after it both fall into it.
    support.wait_until(function() return core.now() % 1 < 0.3 end, 2, 0.01)
    local started = core.now()
    core.sleep(0.1)
    support.write_file(spooled, "on its way")
    plain.store:sweep { dead_before = started }
    assert.equal("on its way", support.read_file(spooled))
    plain.store:sweep { dead_before = core.now() + 1 }
    assert.is_nil(support.read_file(spooled))
  end)
end)

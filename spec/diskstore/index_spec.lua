-- The keys of a bucket in order: a small index against a plain list.
local core = require "longshore.core"
local files = require "longshore.diskstore.files"
local index = require "longshore.diskstore.index"
local support = require "spec.support"

describe("longshore.diskstore.index", function()
  after_each(support.cleanup)

  -- Shards of a few keys, so that they are written anew and cut all the time.
  local function small()
    local folder = support.tmpdir() .. "/index"
    local idx = index.new(folder, { log_bytes = 200, shard_bytes = 400 })
    assert(idx:create())
    return idx, folder
  end

  local function all(idx, from)
    local cursor, keys = idx:cursor(from or ""), {}
    for key in cursor.next do keys[#keys + 1] = key end
    return keys
  end

  local function sorted(set)
    local keys = {}
    for key in pairs(set) do keys[#keys + 1] = key end
    table.sort(keys)
    return keys
  end

  local function random_key()
    local n = core.random(1):byte() % 12 + 1
    return (core.random(n):gsub("%z", "x"))
  end

  it("gives the keys in byte order whatever order they came in, through many shards", function()
    local idx, folder = small()
    local model = {}
    for i = 1, 1500 do
      local key = random_key()
      if i % 5 == 0 and next(model) then
        key = next(model)
        model[key] = nil
        assert(idx:remove(key))
      else
        model[key] = true
        assert(idx:add(key))
      end
    end
    assert.same(sorted(model), all(idx))
    assert.is_true(#idx:read_map() > 5)
    -- No shard is left over from an earlier writing.
    assert.equal(#idx:read_map() + 2, #files.list(folder))
    -- From anywhere, and skipping forward.
    for _ = 1, 50 do
      local from = random_key()
      local expected = {}
      for _, key in ipairs(sorted(model)) do
        if key >= from then expected[#expected + 1] = key end
      end
      assert.same(expected, all(idx, from))
      local cursor = idx:cursor("")
      cursor.next()
      cursor:seek(from)
      -- The first key was taken: seeking it again, or before it, changes nothing.
      local then_first
      if from > sorted(model)[1] then then_first = expected[1] else then_first = sorted(model)[2] end
      assert.equal(then_first, cursor.next())
    end
  end)

  it("shrinks when keys go, down to one empty shard", function()
    local idx = small()
    local keys = {}
    for i = 1, 300 do keys[i] = ("key-%04d"):format(i) assert(idx:add(keys[i])) end
    for i = 1, 300 do assert(idx:remove(keys[i])) end
    -- The shards that hold nothing go when they are next written anew.
    for i = 1, 300 do assert(idx:add(keys[i])) assert(idx:remove(keys[i])) end
    assert.same({}, all(idx))
    assert.is_true(#idx:read_map() < 25)
  end)

  it("is read while it changes", function()
    local idx = small()
    for i = 1, 200 do assert(idx:add(("stay-%04d"):format(i))) end
    local cursor, seen = idx:cursor(""), {}
    for i = 1, 200 do
      seen[i] = cursor.next()
      -- Everything around the cursor is cut and written anew.
      for k = 1, 4 do assert(idx:add(("zz-%d-%d"):format(i, k))) end
      assert(idx:add(("stay-%04d-x"):format(i)))
      assert(idx:remove(("stay-%04d-x"):format(i)))
    end
    for i = 1, 200 do assert.equal(("stay-%04d"):format(i), seen[i]) end
  end)

  it("reads over a line that a crash has cut, and does not lose the next one", function()
    local idx, folder = small()
    assert(idx:add("a"))
    local path = folder .. "/" .. idx:read_map()[1].name
    local f = io.open(path, "ab")
    f:write("+hal")
    f:close()
    assert(idx:add("b"))
    local keys = all(idx)
    assert.equal("a", keys[1])
    assert.equal("b", keys[2])
  end)

  it("does not take a key away for a line that was cut", function()
    local idx, folder = small()
    assert(idx:add("ab"))
    assert(idx:add("abc"))
    local f = io.open(folder .. "/" .. idx:read_map()[1].name, "ab")
    f:write("-ab") -- of "-abc"
    f:close()
    assert.same({ "ab", "abc" }, all(idx))
    assert(idx:add("b"))
    assert.same({ "ab", "abc", "b" }, all(idx))
    assert(idx:remove("abc"))
    assert.same({ "ab", "b" }, all(idx))
  end)

  it("is made anew at the start when its map is lost", function()
    local plain = require("spec.support.diskstore").plain()
    local keys = {}
    for i = 1, 300 do
      keys[i] = ("%03d "):format(i) .. ("k"):rep(i)
      assert(plain:call("PUT", "/longshore/" .. core.uri_encode(keys[i]), {}, "x"))
    end
    local folder = plain.store.layout:index("longshore")
    for _, damage in ipairs { "", false } do
      if damage then support.write_file(folder .. "/map", damage) else os.remove(folder .. "/map") end
      local _, why = plain:call("GET", "/longshore")
      assert.equal("InternalError", why.code)
      assert(plain.store:prepare())
      local found = {}
      for key in plain:call("GET", "/longshore?max-keys=1000").body:gmatch("<Key>(.-)</Key>") do
        found[#found + 1] = key
      end
      assert.same(keys, found)
      assert.equal(#plain.store:index("longshore"):read_map() + 2, #files.list(folder))
    end
  end)

  it("takes writers side by side, in processes of their own", function()
    local idx, folder = small()
    local script = support.tmpdir() .. "/writer.lua"
    support.write_file(script, ([[
      local idx = require("longshore.diskstore.index").new(%q, { log_bytes = 200, shard_bytes = 400 })
      for i = 1, 120 do assert(idx:add(("%%s-%%03d"):format(arg[1], i))) end
      for i = 1, 120, 2 do assert(idx:remove(("%%s-%%03d"):format(arg[1], i))) end
    ]]):format(folder))
    local writers = {}
    for i = 1, 4 do writers[i] = support.spawn(support.lua, { args = { script, "writer" .. i } }) end
    for i = 1, 4 do assert.equal(0, writers[i]:wait(120)) end
    local expected = {}
    for i = 1, 4 do
      for k = 2, 120, 2 do expected[#expected + 1] = ("writer%d-%03d"):format(i, k) end
    end
    assert.same(expected, all(idx))
  end)
end)

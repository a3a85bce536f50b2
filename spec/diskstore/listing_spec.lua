-- ListObjects v1 and v2 against a model, page by page; uploads as well.
local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local support = require "spec.support"

describe("listing the disk store", function()
  local store
  before_each(function() store = diskstore.plain() end)
  after_each(support.cleanup)

  local function put(key)
    assert(store:call("PUT", "/longshore/" .. core.uri_encode(key, true), {}, "x"))
  end

  local function decode(text)
    return (core.uri_decode(text))
  end

  -- One page: keys and prefixes in the order of the answer, and how to go on.
  local function page(query)
    local response = assert(store:call("GET", "/longshore?encoding-type=url&" .. query))
    local keys, prefixes = {}, {}
    for key in response.body:gmatch("<Contents><Key>(.-)</Key>") do keys[#keys + 1] = decode(key) end
    for prefix in response.body:gmatch("<CommonPrefixes><Prefix>(.-)</Prefix>") do
      prefixes[#prefixes + 1] = decode(prefix)
    end
    return keys, prefixes, response.body
  end

  -- All pages of one listing.
  local function walk(query, v2, size)
    local keys, prefixes, pages, more = {}, {}, 0, ""
    repeat
      local k, p, body = page(query .. (v2 and "&list-type=2" or "") .. "&max-keys=" .. size .. more)
      assert.is_true(#k + #p <= size)
      for _, key in ipairs(k) do keys[#keys + 1] = key end
      for _, prefix in ipairs(p) do prefixes[#prefixes + 1] = prefix end
      pages = pages + 1
      if v2 then
        assert.equal(tostring(#k + #p), body:match("<KeyCount>(%d+)<"))
        local token = body:match("<NextContinuationToken>(.-)<")
        more = token and "&continuation-token=" .. token
      else
        local marker = body:match("<NextMarker>(.-)<")
        more = marker and "&marker=" .. marker
      end
      assert.equal(more and "true" or "false", body:match("<IsTruncated>(.-)<"))
    until not more or pages > 1000
    return keys, prefixes
  end

  local function model(all, prefix, delimiter)
    local keys, prefixes, seen = {}, {}, {}
    for _, key in ipairs(all) do
      if key:sub(1, #prefix) == prefix then
        local _, stop
        if delimiter ~= "" then _, stop = key:find(delimiter, #prefix + 1, true) end
        if not stop then
          keys[#keys + 1] = key
        elseif not seen[key:sub(1, stop)] then
          seen[key:sub(1, stop)] = true
          prefixes[#prefixes + 1] = key:sub(1, stop)
        end
      end
    end
    return keys, prefixes
  end

  it("gives what a plain list gives: any prefix, any delimiter, any page size, v1 and v2", function()
    local letters, set, all = { "a", "b", "/", "é", "\255", " ", "+" }, {}, {}
    for _ = 1, 150 do
      local key = {}
      for i = 1, core.random(1):byte() % 6 + 1 do key[i] = letters[core.random(1):byte() % #letters + 1] end
      set[table.concat(key)] = true
    end
    for key in pairs(set) do
      put(key)
      all[#all + 1] = key
    end
    table.sort(all)
    for _, prefix in ipairs { "", "a", "a/", "/", "é", "b b", "nothing", "\255" } do
      for _, delimiter in ipairs { "", "/", "a", "//", "\255" } do
        local keys, prefixes = model(all, prefix, delimiter)
        local query = ("prefix=%s&delimiter=%s"):format(core.uri_encode(prefix), core.uri_encode(delimiter))
        for _, size in ipairs { 1, 3, 1000 } do
          for _, v2 in ipairs { true, false } do
            local k, p = walk(query, v2, size)
            assert.same(keys, k)
            assert.same(prefixes, p)
          end
        end
      end
    end
  end)

  it("begins after start-after or a marker", function()
    for _, key in ipairs { "a", "b", "c/1", "c/2", "d" } do put(key) end
    assert.same({ "b", "c/1", "c/2", "d" }, (page("list-type=2&start-after=a")))
    assert.same({ "c/1", "c/2", "d" }, (page("marker=bb")))
    local keys, prefixes = page("delimiter=/&marker=c/")
    assert.same({ "d" }, keys)
    assert.same({}, prefixes)
    keys, prefixes = page("delimiter=/&marker=c/1")
    assert.same({ "d" }, keys)
    assert.same({ "c/" }, prefixes)
    assert.same({}, (page("list-type=2&start-after=zzz")))
    assert.same({}, (page("max-keys=0")))
  end)

  it("no longer shows what is gone, and says what an object is", function()
    put("a")
    put("b")
    assert(store:call("DELETE", "/longshore/a"))
    local keys, _, body = page("")
    assert.same({ "b" }, keys)
    assert.truthy(body:find('<ETag>&quot;' .. core.hex(core.md5("x")) .. '&quot;</ETag>', 1, true))
    assert.truthy(body:find("<Size>1</Size>", 1, true))
    assert.truthy(body:match("<LastModified>%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ</LastModified>"))
  end)

  it("writes keys as XML can have them, where no encoding is asked for", function()
    put("a&b<c>\"'")
    put("\1bad\255utf8")
    local body = store:call("GET", "/longshore").body
    assert.truthy(body:find("<Key>a&amp;b&lt;c&gt;&quot;&#39;</Key>", 1, true))
    assert.truthy(body:find("<Key>&#1;bad\239\191\189utf8</Key>", 1, true))
  end)

  it("refuses what it does not understand", function()
    for query, code in pairs {
      ["max-keys=x"] = "InvalidArgument", ["max-keys=-1"] = "InvalidArgument", ["list-type=3"] = "InvalidArgument",
      ["encoding-type=base64"] = "InvalidArgument", ["list-type=2&continuation-token=zz"] = "InvalidArgument",
      ["versions"] = "NotImplemented", ["prefix=%zz"] = "InvalidURI",
    } do
      local _, why = store:call("GET", "/longshore?" .. query)
      assert.equal(code, why.code)
    end
    local _, why = store:call("GET", "/nobucket")
    assert.equal("NoSuchBucket", why.code)
    assert.truthy(store:call("GET", "/longshore?max-keys=100000").body:find("<MaxKeys>1000</MaxKeys>", 1, true))
  end)

  it("shows a key that was added and never appeared to nobody", function()
    assert(store.store:index("longshore"):add("ghost"))
    put("real")
    assert.same({ "real" }, (page("")))
    local _, why = store:call("DELETE", "/longshore")
    assert.equal("BucketNotEmpty", why.code)
    store:call("DELETE", "/longshore/real")
    assert.equal(204, store:call("DELETE", "/longshore").status)
  end)

  it("pages through open uploads by key and age, with delimiter", function()
    local ids = {}
    for _, key in ipairs { "b", "a", "b", "c/1", "c/2", "d" } do
      local id = store:call("POST", "/longshore/" .. key .. "?uploads").body:match("<UploadId>(.-)<")
      ids[#ids + 1] = { key = key, id = id }
    end
    local function uploads(query)
      local body = assert(store:call("GET", "/longshore?uploads&" .. query)).body
      local found = {}
      for key, id in body:gmatch("<Upload><Key>(.-)</Key><UploadId>(.-)</UploadId>") do
        found[#found + 1] = key .. " " .. id
      end
      return found, body
    end
    local function name(i) return ids[i].key .. " " .. ids[i].id end
    local expected = { name(2), name(1), name(3), name(4), name(5), name(6) }
    assert.same(expected, (uploads("")))
    local found, more = {}, ""
    repeat
      local some, body = uploads("max-uploads=2" .. more)
      for _, one in ipairs(some) do found[#found + 1] = one end
      local key, id = body:match("<NextKeyMarker>(.-)</NextKeyMarker><NextUploadIdMarker>(.-)</NextUploadIdMarker>")
      more = key and ("&key-marker=%s&upload-id-marker=%s"):format(key, id)
    until not more
    assert.same(expected, found)
    assert.same({ name(4), name(5) }, (uploads("prefix=c")))
    local some, body = uploads("delimiter=/")
    assert.same({ name(2), name(1), name(3), name(6) }, some)
    assert.truthy(body:find("<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes>", 1, true))
    assert.same({ name(4), name(5), name(6) }, (uploads("key-marker=b")))
  end)
end)

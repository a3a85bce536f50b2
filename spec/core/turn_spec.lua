-- Turns between threads of a process; here of one thread, as Lua has no more.
-- What threads make of it is seen where SQLite is written by many.
local core = require "longshore.core"

describe("a turn", function()
  it("is one for each name, whoever asks for it", function()
    local first, second, other = core.turn "spec a", core.turn "spec a", core.turn "spec b"
    assert.is_true(first:enter(0))
    assert.is_false(second:enter(0))
    assert.is_true(other:enter(0))
    first:leave()
    assert.is_true(second:enter(0))
    second:leave()
    other:leave()
  end)

  it("waits as long as it is told, and no longer", function()
    local first, second = core.turn "spec wait", core.turn "spec wait"
    assert.is_true(first:enter(1))
    local started = core.monotonic()
    assert.is_false(second:enter(0.15))
    local took = core.monotonic() - started
    assert.truthy(took >= 0.14 and took < 10, took)
    first:leave()
  end)

  it("is left once, by who entered", function()
    local first, second = core.turn "spec once", core.turn "spec once"
    assert.is_true(first:enter(0))
    second:leave()
    assert.is_false(second:enter(0))
    assert.has_error(function() first:enter(0) end)
    first:leave()
    first:leave()
    assert.is_true(second:enter(0))
    second:leave()
    assert.has_error(function() first:enter(-1) end)
    assert.has_error(function() core.turn() end)
    assert.equal("longshore.turn (free)", tostring(first))
  end)
end)

describe("a text that is its own JSON", function()
  it("is printable ASCII without quote and backslash", function()
    assert.is_true(core.is_plain "")
    for byte = 0, 255 do
      local want = byte >= 32 and byte < 127 and byte ~= 34 and byte ~= 92
      local c = string.char(byte)
      for _, text in ipairs { c, "0123456" .. c, "01234567" .. c .. "x" } do
        assert.equal(want, core.is_plain(text), byte)
      end
    end
  end)
end)

describe("a text's UTF-8", function()
  it("is told from what is not, at any place", function()
    for _, good in ipairs { "", "a", "ä", "\224\160\128", "\237\159\191", "\238\128\128", "\240\144\128\128",
      "\244\143\191\191", ("x"):rep(100), "a\0b" } do
      assert.is_nil(core.utf8_bad(good), good)
      assert.is_nil(core.utf8_bad("01234567" .. good .. "ab"))
    end
    for _, bad in ipairs { "\128", "\192\128", "\193\191", "\195", "\195(", "\224\159\191", "\237\160\128",
      "\240\143\191\191", "\244\144\128\128", "\245\128\128\128", "\255", "\226\130", "\226\130x" } do
      assert.equal(1, core.utf8_bad(bad), bad)
      assert.equal("1", tostring(core.utf8_bad(bad)))
      assert.equal(11, core.utf8_bad("0123456789" .. bad .. "ab"))
      assert.equal(3, core.utf8_bad("\255\255" .. bad, 3))
    end
    assert.is_nil(core.utf8_bad("\255", 2))
    assert.is_nil(core.utf8_bad("\255", 100))
    assert.has_error(function() core.utf8_bad("a", 0) end)
    assert.has_error(function() core.utf8_bad() end)
  end)

  it("is what Lua takes for it, where it has a word for that", function()
    local length = utf8 and utf8.len -- luacheck: ignore
    local random = core.random(4096):rep(4) .. core.random(4096)
    for i = 1, 20000, 7 do
      -- (Mostly heads and tails, so that many are near to being right.)
      local text = random:sub(i, i + 6):gsub(".", function(c)
        local n = c:byte()
        return string.char(n < 140 and 128 + n % 64 or n)
      end)
      local good, at = true, nil
      if length then good, at = length(text) end
      local bad = core.utf8_bad(text)
      if length then assert.equal(not good and at or nil, bad) end
      assert.equal(not bad, core.utf8_bad(text .. "a") == nil)
    end
  end)
end)

describe("presigned parts as text", function()
  it("have the shape that was asked for, and the URLs of the list", function()
    local json = require "longshore.json"
    local signer = core.signer { access_key = "a", secret_key = "b", region = "r" }
    local options = { scheme = "http", host = "h", path = "/b/k", upload_id = "u", first = 1, count = 700, length = 10,
      last_length = 3, expires = 60, time = 1700000000 }
    local urls = signer:presign_parts(options)
    options.part_size, options.shape = 10, '{"n":%n,"o":%o,"l":%l,"u":"%u","p":"%%"}'
    local text = signer:presign_parts_json(options)
    local list = assert(json.decode(text))
    assert.equal(700, #list)
    for i, part in ipairs(list) do
      assert.same({ n = i, o = (i - 1) * 10, l = i == 700 and 3 or 10, u = urls[i], p = "%" }, part)
    end
    options.pieces = true
    local pieces = signer:presign_parts_json(options)
    assert.truthy(#pieces > 1)
    assert.equal(text, table.concat(pieces))
    options.pieces, options.count = nil, 0
    assert.equal("[]", signer:presign_parts_json(options))
    options.count, options.shape = 1, "%"
    assert.equal("[]", signer:presign_parts_json(options))
    options.shape, options.length, options.last_length = "[%l]", nil, nil
    assert.equal("[[null]]", signer:presign_parts_json(options))
  end)
end)

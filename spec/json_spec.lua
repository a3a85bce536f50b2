local json = require "longshore.json"
local cjson = require "cjson"

local math_type = rawget(math, "type")

local function round(text)
  return json.encode(assert(json.decode(text)), { sorted = true })
end

describe("longshore.json", function()
  describe("numbers", function()
    it("keeps integers to 2^53 exact", function()
      for _, text in ipairs { "0", "-1", "2147483648", "5368709120", "4503599627370496",
        "9007199254740991", "-9007199254740991", "9007199254740992" } do
        assert.equal(text, round(text))
      end
    end)

    it("gives Lua 5.4 integers, also for 1.0 and 1e3", function()
      local t = json.decode("[1, 1.0, 1e3, 9007199254740991, 0.5, -0]")
      if math_type then
        for i, kind in ipairs { "integer", "integer", "integer", "integer", "float", "integer" } do
          assert.equal(kind, math_type(t[i]))
        end
        assert.equal("9007199254740991", tostring(t[4]))
      end
      assert.equal("[1,1,1000,9007199254740991,0.5,0]", json.encode(t))
    end)

    it("keeps every double, in the fewest digits", function()
      assert.equal(10.123456789012345, json.decode("10.123456789012345"))
      assert.equal(10.123456789012345, json.decode(json.encode(10.123456789012345)))
      for text, want in pairs { ["0.1"] = "0.1", ["1.5"] = "1.5", ["-2.5e-3"] = "-0.0025",
        ["1.7976931348623157e308"] = "1.7976931348623157e+308", ["5e-324"] = "5e-324",
        ["0.30000000000000004"] = "0.30000000000000004" } do
        assert.equal(want, round(text))
      end
      local x = 0.1234
      for _ = 1, 2000 do
        x = (x * 7919.31 + 0.17) % 1 * 10 ^ (x * 40 % 37 - 18)
        assert.equal(x, json.decode(json.encode(x)))
        x = x % 1
      end
    end)

    it("takes the nearest double beyond 2^53, alike on both Luas", function()
      assert.equal(9007199254740994, json.decode("9007199254740993.9"))
      assert.equal("9.223372036854776e+18", round("9223372036854775807"))
    end)

    it("reads exponents of any length", function()
      assert.equal(0, json.decode "1e-999999999999")
      assert.equal(0, json.decode "0.0e999999999999")
      local value, err = json.decode "5e999999999999"
      assert.is_nil(value)
      assert.matches("too large", err.message)
    end)

    it("refuses what no double holds and what is no JSON number", function()
      for _, bad in ipairs { "1e400", "-1e400", "01", "-", "+1", ".5", "1.", "1e", "1e+", "0x10", "NaN",
        "Infinity", "-Infinity", "1_000", "--1", "1.5.2" } do
        local value, err = json.decode(bad)
        assert.is_nil(value, bad)
        assert.equal("invalid", err.code, bad)
      end
    end)
  end)

  describe("arrays, objects, null", function()
    it("stay what they were", function()
      local text = '{"a":[],"b":{},"c":[[],{}],"d":null,"e":[null],"f":[1,[]]}'
      assert.equal(text, round(text))
    end)

    it("are not disturbed by brackets inside strings", function()
      local text = '{"[]":"[]","a":["[ ]","{}","\\"[]\\""]}'
      assert.equal(text, round(text))
    end)

    it("can be told apart and marked", function()
      assert.is_true(json.is_array(json.decode("[]")))
      assert.is_false(json.is_array(json.decode("{}")))
      assert.is_false(json.is_array("[]"))
      assert.equal("[]", json.encode(json.array()))
      assert.equal("{}", json.encode({}))
      assert.equal("{}", json.encode(json.object({})))
      assert.equal("[1]", json.encode({ 1 }))
    end)

    it("have null where a field has no value", function()
      assert.equal('[null,false,"",0]', json.encode { json.optional(nil), json.optional(false), json.optional "",
        json.optional(0) })
    end)

    it("have null as lua-cjson's null, also at the top", function()
      assert.equal(cjson.null, json.null)
      assert.equal(json.null, json.decode("null"))
      assert.is_false(json.decode("false"))
    end)

    it("let the last of equal keys win", function()
      assert.equal(2, json.decode('{"a":1,"a":2}').a)
      assert.equal(2, json.decode('{"a":1,"\\u0061":2}').a)
    end)

    it("can be written in byte order of the keys and with indentation", function()
      assert.equal('{"B":1,"a":2,"aa":3}', json.encode({ a = 2, aa = 3, B = 1 }, { sorted = true }))
      assert.equal('{\n  "a": [\n    1\n  ],\n  "b": {}\n}', json.encode({ b = {}, a = { 1 } }, { indent = "  " }))
    end)
  end)

  describe("strings", function()
    it("survive with every byte that UTF-8 allows", function()
      for c = 0, 127 do
        local s = "x" .. string.char(c) .. "y"
        assert.equal(s, json.decode(json.encode(s)))
        assert.equal(s, cjson.decode(json.encode({ s }))[1])
      end
      local s = "gr\195\188\195\159e \226\130\172 \240\159\154\162"
      assert.equal(s, json.decode(json.encode(s)))
    end)

    it("know the escapes and surrogate pairs", function()
      assert.equal('"\\/\b\f\n\r\t\195\188\240\159\154\162\0z',
        json.decode('"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00fc\\ud83d\\udea2\\u0000z"'))
    end)

    it("are refused with half surrogates, raw control characters, unknown escapes", function()
      for _, bad in ipairs { '"\\ud83d"', '"\\udea2\\ud83d"', '"\\ud83dx"', '"\\ud83d\\u0041"', '"a\nb"', '"a\0b"',
        '"\\x"', '"\\u12"', '"abc', '"abc\\', '"\\' } do
        local value, err = json.decode(bad)
        assert.is_nil(value, bad)
        assert.equal("invalid", err.code)
        assert.is_number(err.position)
      end
    end)

    it("are refused when they are not UTF-8, with the position", function()
      for text, position in pairs { ['"\255"'] = 2, ['"\195"'] = 2, ['"ab\192\175"'] = 4, ['"\237\160\128"'] = 2,
        ['"\244\144\128\128"'] = 2, ['{"\195\188":"\128"}'] = 8 } do
        local value, err = json.decode(text)
        assert.is_nil(value)
        assert.equal(position, err.position)
        assert.truthy(err.message:find("UTF%-8"))
      end
    end)

    it("are written as UTF-8 whatever they hold", function()
      assert.equal('"a\239\191\189b\195\188\239\191\189"', json.encode("a\255b\195\188\195"))
    end)
  end)

  describe("broken text", function()
    it("is refused with the position of the fault", function()
      for text, position in pairs { [""] = 1, ["  "] = 3, ["{"] = 2, ["[1,"] = 4, ["[1,]"] = 4, ["[1 2]"] = 4,
        ['{"a" 1}'] = 6, ['{"a":1,}'] = 8, ["{a:1}"] = 2, ["tru"] = 1, ["nul"] = 1, ["[1]]"] = 4, ["1 // c"] = 3,
        ["{}\0{}"] = 3, ["'a'"] = 1, ["\239\187\191{}"] = 1 } do
        local value, err = json.decode(text)
        assert.is_nil(value, text)
        assert.equal("invalid", err.code)
        assert.equal(position, err.position, text)
      end
    end)

    it("is refused when nested deeper than 128 or longer than allowed", function()
      assert.truthy(json.decode(("["):rep(128) .. ("]"):rep(128)))
      local _, err = json.decode(("["):rep(129) .. ("]"):rep(129))
      assert.equal("invalid", err.code)
      _, err = json.decode(('{"a":'):rep(100000))
      assert.equal("invalid", err.code)
      _, err = json.decode("[1,2]", { max_bytes = 4 })
      assert.equal("too_large", err.code)
      assert.truthy(json.decode("[1,2]", { max_bytes = 5 }))
    end)

    it("never gets through when a valid text is cut or a byte is changed into a bracket", function()
      local text = '{"a":[1,2.5,"x\\n\195\188",{"b":null}],"c":true}'
      for i = 1, #text - 1 do
        assert.is_nil((json.decode(text:sub(1, i))))
      end
      for i = 1, #text do
        json.decode(text:sub(1, i - 1) .. "]" .. text:sub(i + 1))
        json.decode(text:sub(1, i - 1) .. "\\" .. text:sub(i + 1))
      end
    end)
  end)

  it("raises on what has no JSON form", function()
    local loop = {}
    loop.loop = loop
    for _, bad in ipairs { { print }, { 0 / 0 }, { 1 / 0 }, { -1 / 0 }, { 1, a = 2 }, { [1.5] = 1 }, { [true] = 1 },
      { 1, nil, 3 }, { [2] = 1 }, json.array({ a = 1 }), json.object({ 1 }), loop, { [0] = 1 },
      { coroutine.create(print) } } do
      assert.has_error(function() json.encode(bad) end)
    end
    assert.has_error(function() json.encode(nil) end)
    assert.has_error(function() json.decode(nil) end)
  end)

  it("reads and writes a body of 10,000 parts in well under a second", function()
    local parts = {}
    for i = 1, 10000 do
      parts[i] = { part_number = i, part_token = ('"%032x"'):format(i), extra = json.array() }
    end
    local start = os.clock()
    local text = json.encode({ parts = parts })
    local back = assert(json.decode(text))
    assert.is_true(os.clock() - start < 1)
    assert.equal(10000, #back.parts)
    assert.equal(parts[10000].part_token, back.parts[10000].part_token)
    assert.is_true(json.is_array(back.parts[1].extra))
  end)
end)

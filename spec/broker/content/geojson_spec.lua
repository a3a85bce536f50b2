local geojson = require "longshore.broker.content.geojson"
local json = require "longshore.json"
local source = require "longshore.broker.content.source"

local function preview(text, options)
  local read, size = source.of_string(text)
  local whole = assert(geojson.preview(read, size, options))
  for chunk = 1, 5 do
    local with = { chunk = chunk }
    for k, v in pairs(options or {}) do with[k] = v end
    local pieces = assert(geojson.preview(read, size, with))
    assert.are.same(whole, pieces)
  end
  return whole
end

local function names(found)
  local list = {}
  for i, column in ipairs(found.columns) do list[i] = column.name .. ":" .. column.type end
  return table.concat(list, " ")
end

local function feature(properties, geometry)
  return ('{"type":"Feature","id":7,"properties":%s,"geometry":%s}'):format(properties, geometry or "null")
end

local function collection(features, extra)
  return '{"type":"FeatureCollection"' .. (extra or "") .. ',"features":[' .. table.concat(features, ",\n") .. "]}"
end

local POINT = '{"type":"Point","coordinates":[9.99,53.55]}'

describe("the preview of GeoJSON", function()
  it("reads columns, types, geometry, count and a sample of five", function()
    local list = {}
    for i = 1, 8 do
      local properties = '{"id":%d,"name":"pier \\"%d\\"","depth":%s,"open":true,"tags":{"a":[1,{}]},"at":"2024-01-01"}'
      list[i] = feature(properties:format(i, i, i / 2 + 0.25), POINT)
    end
    local found = preview(collection(list))
    assert.are.equal("id:Integer name:String depth:Real open:Boolean tags:JSON at:Date", names(found))
    assert.are.equal(8, found.rows)
    assert.are.equal("Point", found.geometry)
    assert.are.equal(4326, found.crs)
    assert.are.equal(5, #found.sample)
    assert.are.same(
      { id = 1, name = 'pier "1"', depth = 0.75, open = true, tags = { a = { 1, {} } }, at = "2024-01-01" },
      json.decode(json.encode(found.sample[1])))
    assert.is_nil(found.problem)
  end)

  it("reads members in any order", function()
    local found = preview('{"features":[{"geometry":' .. POINT .. ',"properties":{"a":1},"type":"Feature"}],'
      .. '"name":"harbours","crs":{"properties":{"name":"EPSG:25832"},"type":"name"},"type":"FeatureCollection"}')
    assert.are.equal("a:Integer", names(found))
    assert.are.equal(25832, found.crs)
    assert.are.equal("harbours", found.name)
    assert.are.equal(1, found.rows)
  end)

  it("knows the spellings of a coordinate system", function()
    for text, number in pairs {
      ['{"type":"name","properties":{"name":"urn:ogc:def:crs:EPSG::3857"}}'] = 3857,
      ['{"type":"name","properties":{"name":"urn:ogc:def:crs:EPSG:6.9:31467"}}'] = 31467,
      ['{"type":"name","properties":{"name":"urn:ogc:def:crs:OGC:1.3:CRS84"}}'] = 4326,
      ['{"type":"name","properties":{"name":"http://www.opengis.net/def/crs/EPSG/0/2056"}}'] = 2056,
      ['{"type":"EPSG","properties":{"code":4258}}'] = 4258,
    } do
      assert.are.equal(number, preview(collection({ feature("{}") }, ',"crs":' .. text)).crs)
    end
    for _, text in ipairs { "null", '"x"', "{}", '{"properties":{"name":"EPSG:99999999"}}',
      '{"properties":{"code":1.5}}', '{"properties":{"name":"EPSG:0"}}' } do
      assert.is_nil(preview(collection({ feature("{}") }, ',"crs":' .. text)).crs)
    end
  end)

  it("merges columns and types over all features; what is missing is null", function()
    local found = preview(collection {
      feature('{"a":1,"b":null}'), feature('{"a":2147483648,"c":"x"}'), feature('{"a":1.5,"c":3,"b":false}'),
      feature("null"),
    })
    assert.are.equal("a:Real b:Boolean c:String", names(found))
    assert.are.equal(4, found.rows)
    assert.are.same({ a = 1, b = json.null, c = json.null }, found.sample[1])
    assert.are.same({ a = json.null, b = json.null, c = json.null }, found.sample[4])
  end)

  it("merges geometry types", function()
    local function with(...)
      local list = {}
      for i, kind in ipairs { ... } do
        list[i] = feature("{}", kind == "null" and "null" or ('{"coordinates":[[1,[2]]],"type":"%s"}'):format(kind))
      end
      return preview(collection(list)).geometry
    end
    assert.are.equal("Polygon", with("Polygon", "null", "Polygon"))
    assert.are.equal("MultiPolygon", with("Polygon", "MultiPolygon", "Polygon"))
    assert.are.equal("Geometry", with("Point", "LineString"))
    assert.are.equal("GeometryCollection", with("GeometryCollection"))
    assert.is_nil(with("null"))
    assert.is_nil(with("Banana"))
  end)

  it("reads a feature, a geometry, rows of plain objects, and features line by line", function()
    local one = preview(feature('{"a":1}', POINT))
    assert.are.equal(1, one.rows)
    assert.are.equal("Point", one.geometry)
    local bare = preview(POINT)
    assert.are.equal(1, bare.rows)
    assert.are.equal("Point", bare.geometry)
    assert.are.same({}, bare.columns)
    local rows = preview('[{"a":1},{"a":"x","b":[]}]')
    assert.are.equal("a:String b:JSON", names(rows))
    assert.are.equal(2, rows.rows)
    assert.is_nil(rows.crs)
    local lines = preview("\30" .. feature('{"a":1}', POINT) .. "\n\30" .. feature('{"a":2}', POINT) .. "\n")
    assert.are.equal(2, lines.rows)
    assert.are.equal("Point", lines.geometry)
    assert.are.equal(2, #lines.sample)
  end)

  it("reads an empty collection and JSON that is something else", function()
    local empty = preview(collection {})
    assert.are.equal(0, empty.rows)
    assert.are.same({}, empty.columns)
    local other = preview('{"type":"Topology","objects":{"a":[1]}}')
    assert.are.same({}, other.columns)
    assert.is_nil(other.geometry)
    assert.is_nil(other.crs)
  end)

  it("undoes escapes, and shows what is no character as U+FFFD", function()
    local found = preview(collection {
      feature('{"a":"\\u00e9\\ud83d\\ude00 \\\\ud83d \\n\\/","b":"\\ud83d!","c\\u0041":"\255","d":"\\\\"}'),
    })
    assert.are.same({ a = "é😀 \\ud83d \n/", b = "\239\191\189!", cA = "\239\191\189", d = "\\" }, found.sample[1])
  end)

  it("keeps integers that a double would change as text", function()
    local found = preview(collection { feature('{"n":9007199254740993,"m":9007199254740991,"x":1e400}') })
    assert.are.equal("n:Integer64 m:Integer64 x:Real", names(found))
    assert.are.same({ n = "9007199254740993", m = 9007199254740991, x = "1e400" }, found.sample[1])
  end)

  it("drops a byte order mark", function()
    assert.are.equal(1, preview("\239\187\191" .. collection { feature('{"a":1}') }).rows)
  end)

  it("knows no count for a file longer than it reads, and calls it no problem", function()
    local list = {}
    for i = 1, 200 do list[i] = feature(('{"id":%d}'):format(i), POINT) end
    local read, size = source.of_string(collection(list))
    local found = geojson.preview(read, size, { scan = 700, chunk = 64 })
    assert.is_nil(found.rows)
    assert.is_nil(found.problem)
    assert.are.equal("id:Integer", names(found))
    assert.are.equal("Point", found.geometry)
    assert.are.equal(5, #found.sample)
  end)

  it("never reads beyond its bound, whatever the size", function()
    local highest, head = 0, '{"type":"FeatureCollection","features":['
    local unit = feature('{"a":1}', POINT) .. ","
    local endless = head .. unit:rep(6000)
    assert(geojson.preview(function(first, last)
      highest = math.max(highest, last)
      return endless:sub(first + 1, last + 1)
    end, 5 * 2 ^ 40, { scan = 262144, chunk = 65536 }))
    assert.are.equal(262143, highest)
  end)

  it("names what is wrong with a broken file, and where", function()
    for text, pattern in pairs {
      [collection({ feature("{}") }):sub(1, -3)] = "ends in the middle",
      ['{"a"'] = "ends in the middle",
      ['{"a":1,}'] = "not valid JSON near byte 7",
      ['{"a" 1}'] = "not valid JSON",
      ["[1 2]"] = "not valid JSON",
      ['{"a":[}'] = "not valid JSON",
      ['{"features":[{"properties":{"a":tru}}]}'] = "not valid JSON",
      ['{"features":[{"properties":{"a":"\\x"}}]}'] = "not valid JSON",
      ['{"features":[{"properties":{"a":"\\u12"}}]}'] = "not valid JSON",
      ["[1]]"] = "not valid JSON",
      ["{} x"] = "not valid JSON",
      ["[,]"] = "not valid JSON",
    } do
      local found = preview(text)
      assert.is_truthy(found.problem, text)
      assert.matches(pattern, found.problem)
    end
  end)

  it("survives hostile files: deep nesting, huge strings, numbers and keys, thousands of columns", function()
    local deep = 200000
    for _, pair in ipairs { { "[", "]" }, { '{"a":', "}" } } do
      assert.matches("too deeply", geojson.preview(source.of_string(pair[1]:rep(deep) .. pair[2]:rep(deep))).problem)
      local inside = collection { feature('{"a":' .. pair[1]:rep(deep) .. "1" .. pair[2]:rep(deep) .. "}") }
      assert.matches("too deeply", geojson.preview(source.of_string(inside)).problem)
    end
    local nested = collection { feature('{"a":' .. ("["):rep(900) .. ("]"):rep(900) .. "}") }
    assert.are.equal("a:JSON", names(geojson.preview(source.of_string(nested))))
    local long = '{"' .. ("k"):rep(1e5) .. '":"' .. ("v"):rep(1e6) .. '","o":["' .. ("w"):rep(1e5) .. '"]}'
    long = collection { feature(long) }
    local found = assert(geojson.preview(source.of_string(long)))
    assert.are.equal(geojson.MAX_NAME, #found.columns[1].name)
    assert.is_true(#found.sample[1][found.columns[1].name] <= geojson.MAX_VALUE + 3)
    assert.are.equal("…", found.sample[1].o)
    assert.matches("not valid", geojson.preview(source.of_string("[" .. ("1"):rep(1e5) .. "]")).problem)
    local many = {}
    for i = 1, 3000 do many[i] = ('"c%d":%d'):format(i, i) end
    found = geojson.preview(source.of_string(collection { feature("{" .. table.concat(many, ",") .. "}") }))
    assert.are.equal(geojson.MAX_COLUMNS, #found.columns)
    assert.matches("columns", found.warnings[1])
  end)

  it("cuts a long text at a whole escape and a whole character", function()
    for pad = 0, 12 do
      local text = ("x"):rep(geojson.MAX_VALUE - 8 + pad) .. "\\ud83d\\ude00é" .. ("y"):rep(50)
      local found = preview(collection { feature('{"a":"' .. text .. '"}') })
      assert.is_nil(found.problem)
      assert.is_truthy(json.decode(json.encode(found.sample)))
    end
  end)

  it("reads random and mutilated bytes without failing; what it shows is valid JSON", function()
    local seed = 11
    local function random(n)
      seed = (seed * 16807) % 2147483647
      return seed % n
    end
    local good = collection({ feature('{"a":1,"b":"x\\u00e9","c":{"d":[1,"]"]}}', POINT), feature('{"a":-2.5e3}') },
      ',"crs":{"type":"name","properties":{"name":"EPSG:3857"}}')
    for _ = 1, 400 do
      local bytes = good
      for _ = 1, 1 + random(4) do
        local at = random(#bytes)
        local pick = random(3)
        local sign = ('{}[]",:\\'):sub(1 + random(8)):sub(1, 1)
        local new = pick == 0 and "" or pick == 1 and string.char(random(256)) or sign
        bytes = bytes:sub(1, at) .. new .. bytes:sub(at + 2)
      end
      local read, size = source.of_string(bytes)
      local found = assert(geojson.preview(read, size, { chunk = 1 + random(60) }))
      assert.is_truthy(json.encode(found.sample) and json.encode(found.columns))
    end
  end)

  it("hands on what reading failed with", function()
    local ok, err = geojson.preview(function() return nil, { code = "store" } end, 10)
    assert.is_nil(ok)
    assert.are.equal("store", err.code)
  end)
end)

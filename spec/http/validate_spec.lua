local json = require "longshore.json"
local validate = require "longshore.http.validate"

local function rejected(rule, value, field)
  local clean, err = validate.check(rule, value, field)
  assert.is_nil(clean)
  assert.equal("invalid", err.code)
  return err
end

describe("validating fields", function()
  local rule = { type = "object", fields = {
    name = { type = "string", required = true, min_bytes = 1, max_bytes = 8 },
    size = { type = "integer", required = true, min = 0, code = "invalid_file_size" },
    resume = { type = "boolean", default = false },
    parts = { type = "array", max_items = 3, items = { type = "object", fields = {
      number = { type = "integer", required = true, min = 1, max = 10 },
    } } },
  } }

  it("gives back known fields only, with defaults, integers exact", function()
    local clean = validate.check(rule, json.decode('{"name":"a","size":9007199254740991,"other":[1,{}]}'))
    assert.same({ name = "a", size = 9007199254740991, resume = false }, clean)
    assert.equal("9007199254740991", ("%d"):format(clean.size))
  end)

  it("names the field that is missing, and all of them", function()
    local err = rejected(rule, json.decode("{}"))
    assert.equal("name", err.field)
    assert.equal("missing", err.reason)
    assert.equal("name: is required", err.message)
    assert.equal(2, #err.problems)
    assert.equal("size", err.problems[2].field)
    assert.equal("invalid_file_size", err.problems[2].code)
  end)

  it("names an entry of an array by its place", function()
    local err = rejected(rule, json.decode('{"name":"a","size":1,"parts":[{"number":1},{"number":11}]}'))
    assert.equal("parts[1].number", err.field)
    assert.equal("range", err.reason)
  end)

  it("refuses values of another type", function()
    for _, body in ipairs {
      '{"name":1,"size":1}', '{"name":null,"size":1}', '{"name":["a"],"size":1}', '{"name":{},"size":1}',
      '{"name":true,"size":1}',
    } do
      assert.equal("name", rejected(rule, json.decode(body)).field)
    end
    for _, size in ipairs { '"1"', "1.5", "true", "[]", "{}", "null", "1e300", "9007199254740992", "-1" } do
      local err = rejected(rule, json.decode('{"name":"a","size":' .. size .. "}"))
      assert.equal("size", err.field)
    end
    assert.equal("resume", rejected(rule, json.decode('{"name":"a","size":1,"resume":"yes"}')).field)
    assert.equal("parts", rejected(rule, json.decode('{"name":"a","size":1,"parts":{}}')).field)
    assert.equal("parts[0]", rejected(rule, json.decode('{"name":"a","size":1,"parts":[null]}')).field)
    assert.equal("", rejected(rule, json.decode("[]")).field)
    assert.equal("", rejected(rule, "text").field)
    assert.equal("", rejected(rule, json.null).field)
  end)

  it("takes null for an optional field as absent", function()
    assert.is_false(validate.check(rule, json.decode('{"name":"a","size":1,"resume":null}')).resume)
  end)

  it("keeps null where the rule says so", function()
    local clean = validate.check({ type = "object", fields = { a = { type = "string", nullable = true } } },
      json.decode('{"a":null}'))
    assert.equal(json.null, clean.a)
  end)

  it("counts bytes and characters apart", function()
    local text = "äöü"
    assert.equal(3, validate.characters(text))
    assert.equal(text, validate.check({ type = "string", max_chars = 3 }, text))
    assert.equal(text, validate.check({ type = "string", max_bytes = 6 }, text))
    assert.equal("length", rejected({ type = "string", max_chars = 2 }, text).reason)
    assert.equal("length", rejected({ type = "string", max_bytes = 5 }, text).reason)
    assert.equal("length", rejected({ type = "string", min_chars = 4 }, text).reason)
  end)

  it("refuses NUL, control characters and broken UTF-8", function()
    for _, text in ipairs { "a\0b", "\1", "a\nb", "\127", "\255", "\192\128", "a\237\160\128" } do
      assert.equal("characters", rejected({ type = "string" }, text).reason)
    end
    assert.equal("a\nb\tc", validate.check({ type = "string", text = true }, "a\nb\tc"))
    assert.equal("characters", rejected({ type = "string", text = true }, "a\0b").reason)
  end)

  it("checks patterns, enums and own functions", function()
    assert.equal("format", rejected({ type = "string", pattern = "^%a+$", says = "letters only" }, "a1").reason)
    assert.equal("value", rejected({ type = "string", enum = { "a", "b" } }, "c").reason)
    local err = rejected({ type = "integer", check = function(n) return n ~= 7, "not seven" end }, 7, "n")
    assert.equal("n: not seven", err.message)
  end)

  it("bounds maps in pairs and in bytes", function()
    local map = { type = "map", values = { type = "string", max_bytes = 4 }, keys = { type = "string", max_bytes = 3 },
      max_pairs = 2, max_bytes = 8 }
    assert.same({ a = "b" }, validate.check(map, { a = "b" }))
    rejected(map, { a = "1", b = "2", c = "3" })
    rejected(map, { abcd = "1" })
    rejected(map, { a = "12345" })
    rejected(map, { abc = "1234", abd = "1234" })
    rejected(map, { a = 1 })
    rejected(map, json.decode("[]"))
  end)

  it("refuses unknown fields where the rule wants that", function()
    local err = rejected({ type = "object", unknown = "refuse", fields = {} }, { ["x\0y"] = 1 })
    assert.equal("unknown", err.reason)
    assert.is_nil(err.message:find("%z"))
  end)

  it("stops at eight problems of a body with thousands", function()
    local list = {}
    for i = 1, 10000 do list[i] = { number = -i } end
    local err = rejected({ type = "array", items = rule.fields.parts.items }, json.array(list), "parts")
    assert.equal(8, #err.problems)
  end)

  it("reads integers and booleans from strings", function()
    local query = { type = "object", fields = {
      n = { type = "integer", min = -1, default = -1 }, on = { type = "boolean" },
    } }
    assert.same({ n = 5, on = true }, validate.check_strings(query, { n = "5", on = "true" }))
    assert.same({ n = -1 }, validate.check_strings(query, {}))
    for _, text in ipairs { "", "x", "1.5", "0x10", " 1", "1e3", "99999999999999999999" } do
      assert.is_nil((validate.check_strings(query, { n = text })))
    end
  end)
end)

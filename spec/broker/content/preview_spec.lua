local json = require "longshore.json"
local preview = require "longshore.broker.content.preview"
local source = require "longshore.broker.content.source"
local text = require "longshore.broker.content.text"
local types = require "longshore.broker.content.types"

describe("the preview of a file", function()
  it("has every field for CSV", function()
    local found = preview.look("piers.csv", source.of_string("id\n1\n"))
    assert.are.same({ columns = { { name = "id", type = "Integer" } }, crs = json.null, geometry_type = json.null,
      feature_count = 1, sample_rows = { { id = 1 } }, layer_name = "piers", warnings = {} }, found)
  end)

  it("takes GeoJSON's own name for the layer", function()
    local found = preview.look("x.GeoJSON",
      source.of_string('{"type":"FeatureCollection","name":"n","features":[]}'))
    assert.are.equal("n", found.layer_name)
    assert.are.equal(0, found.feature_count)
    assert.are.equal(4326, found.crs)
  end)

  it("is null or empty for other formats, without reading a byte", function()
    for _, name in ipairs { "a.gpkg", "a.tif", "a.xlsx", "a.zip", "a.parquet", "a.xls" } do
      local found = preview.look(name, function() error("read") end, 1e9)
      assert.are.equal("[]", json.encode(found.columns))
      assert.are.equal("[]", json.encode(found.sample_rows))
      assert.are.equal(json.null, found.feature_count)
      assert.are.equal(json.null, found.geometry_type)
      assert.are.equal("a", found.layer_name)
    end
  end)
end)

describe("the difference between two schemas", function()
  local old = { { name = "id", type = "Integer" }, { name = "Name", type = "String" },
    { name = "gone", type = "Real" } }
  local new = { { name = "ID", type = "integer" }, { name = "name", type = "Date" }, { name = "b", type = "Real" },
    { name = "a", type = "JSON" } }

  it("lists added, removed and changed columns by name, without case", function()
    assert.are.same({
      columns_added = { { name = "a", type = "JSON" }, { name = "b", type = "Real" } },
      columns_removed = { { name = "gone", type = "Real" } },
      type_changes = { { name = "name", old_type = "String", new_type = "Date" } },
      row_count_old = 10, row_count_new = 7, row_count_delta = -3,
    }, types.difference(old, new, 10, 7))
  end)

  it("is empty for the same schema, and arrays stay arrays", function()
    local diff = types.difference(old, old, 1, 1)
    assert.are.equal("[]", json.encode(diff.columns_added))
    assert.are.equal("[]", json.encode(diff.columns_removed))
    assert.are.equal("[]", json.encode(diff.type_changes))
    assert.are.equal(0, diff.row_count_delta)
  end)

  it("compares types by meaning", function()
    local kept = { { name = "a", type = "character varying" }, { name = "b", type = "bigint" } }
    local diff = types.difference(kept, { { name = "a", type = "String" }, { name = "b", type = "Integer64" } })
    assert.are.same({}, diff.type_changes)
  end)

  it("says null for unknown counts and counts them as nothing", function()
    local diff = types.difference(nil, new, nil, 7)
    assert.are.equal(json.null, diff.row_count_old)
    assert.are.equal(7, diff.row_count_delta)
    assert.are.equal(4, #diff.columns_added)
    assert.are.equal(-4, types.difference(old, new, 4, nil).row_count_delta)
  end)
end)

describe("text of unknown quality", function()
  it("keeps valid UTF-8 and replaces each byte that is none", function()
    for _, good in ipairs { "", "abc", "é", "€", "😀", "\0", "\244\143\191\191", "\239\191\191" } do
      assert.are.equal(good, (text.utf8(good)))
    end
    local bad = "\239\191\189"
    for input, want in pairs {
      ["\128"] = bad, ["a\255b"] = "a" .. bad .. "b", ["\192\175"] = bad .. bad, ["\195"] = bad,
      ["\237\160\128"] = bad:rep(3), ["\244\144\128\128"] = bad:rep(4), ["\240\159\152"] = bad:rep(3),
      ["é\128é"] = "é" .. bad .. "é", ["\224\128\128"] = bad:rep(3), ["\245\128"] = bad:rep(2),
    } do
      assert.are.equal(want, (text.utf8(input)))
    end
  end)

  it("cuts between characters", function()
    assert.are.equal("é", text.cut("éé", 3))
    assert.are.equal("é…", text.cut("éé", 2, "…"))
    assert.are.equal("", text.cut("😀", 3))
    assert.are.equal("😀", text.cut("😀", 4))
  end)
end)

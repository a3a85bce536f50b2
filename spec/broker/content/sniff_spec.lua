local sniff = require "longshore.broker.content.sniff"
local source = require "longshore.broker.content.source"
local errors = require "longshore.errors"

local TEXT = "id,name\n1,harbour\n"
local GOOD = {
  [".zip"] = { "PK\3\4 and more", "PK\5\6" .. ("\0"):rep(18), "PK\7\8PK\3\4" },
  [".xlsx"] = { "PK\3\4[Content_Types].xml" },
  [".gpkg"] = { "SQLite format 3\0" .. ("\0"):rep(84) },
  [".tif"] = { "II*\0\8\0\0\0", "MM\0*\0\0\0\8", "II+\0\8\0\0\0\16\0\0\0\0\0\0\0", "MM\0+\0\8\0\0\0\0\0\0\0\0\0\16" },
  [".tiff"] = { "II*\0\8\0\0\0" },
  [".xls"] = { "\208\207\17\224\161\177\26\225 rest", "\9\4\6\0\0\0\16\0" },
  [".parquet"] = { "PAR1\0\0\0\0PAR1", "PAR1" .. ("x"):rep(20000) .. "PAR1" },
  [".json"] = { "{}", " \n[1]", "\239\187\191{\"a\":1}", "\30{}" },
  [".geojson"] = { "{\"type\":\"Feature\"}" },
  [".csv"] = { TEXT, "\239\187\191" .. TEXT, "latin\n\233t\233\n", "{just text}" },
}

local function check(name, data)
  return sniff.check(name, source.of_string(data))
end

describe("the check of first bytes", function()
  for _, extension in ipairs(sniff.EXTENSIONS) do
    it("takes what " .. extension .. " files begin with", function()
      for _, data in ipairs(GOOD[extension]) do
        assert.is_true(check("a" .. extension, data))
        assert.is_true(check("A.B" .. extension:upper(), data))
      end
    end)

    it("refuses every other kind of content under " .. extension, function()
      local mine = {}
      for _, data in ipairs(GOOD[extension]) do mine[sniff.detect(data)] = true end
      local refused = 0
      for _, other in ipairs(sniff.EXTENSIONS) do
        local data = GOOD[other][1]
        if not mine[sniff.detect(data)] and not (extension == ".csv" and other:find("json")) then
          local ok, err = check("a" .. extension, data)
          assert.is_nil(ok, extension .. " took " .. other)
          assert.are.equal("integrity", err.code)
          assert.matches("extension is '" .. extension:gsub("%.", "%%.") .. "'", err.message)
          refused = refused + 1
        end
      end
      assert.is_true(refused >= 5)
    end)

    it("refuses an empty file and noise named " .. extension, function()
      local _, empty = check("a" .. extension, "")
      assert.matches("empty", empty.message)
      for _, data in ipairs { "\0", "\0\1\2\3\4\5\6\7\8\9\10\11\12", "%PDF-1.7 text only", "\137PNG\r\n\26\n",
        "<!DOCTYPE html><p>404", "\31\139\8\0" } do
        local ok, err = check("a" .. extension, data)
        assert.is_nil(ok)
        assert.are.equal("integrity", err.code)
      end
    end)
  end

  it("refuses a Parquet file that was cut short, and one too small to be one", function()
    local _, err = check("a.parquet", "PAR1" .. ("x"):rep(9000))
    assert.matches("truncated", err.message)
    assert.is_nil(check("a.parquet", "PAR1PAR1"))
  end)

  it("refuses a TIFF that ends in its header", function()
    assert.is_nil(check("a.tif", "II*\0\8\0\0"))
    assert.is_true(check("a.tif", "II*\0\8\0\0\0"))
  end)

  it("reads 8192 bytes, and the tail of Parquet, and nothing else", function()
    local asked = {}
    local function read(first, last)
      asked[#asked + 1] = first .. "-" .. last
      return first == 0 and "PAR1" .. ("x"):rep(last - 3) or "PAR1"
    end
    assert.is_true(sniff.check("a.parquet", read, 5368709120))
    assert.are.same({ "0-8191", "5368709116-5368709119" }, asked)
  end)

  it("judges text by all of the first 8192 bytes, not by what follows", function()
    assert.is_nil(check("a.csv", TEXT .. ("x"):rep(8000) .. "\0"))
    assert.is_true(check("a.csv", TEXT .. ("x"):rep(8192) .. "\0"))
  end)

  it("hands on what reading failed with, and holds a reader to its range", function()
    local broken = errors.new("store", "no such object")
    local ok, err = sniff.check("a.csv", function() return nil, broken end, 10)
    assert.is_nil(ok)
    assert.are.equal(broken, err)
    ok, err = sniff.check("a.csv", function() return "abc" end, 10)
    assert.is_nil(ok)
    assert.are.equal("io", err.code)
  end)

  it("does not know other extensions, nor names without one", function()
    for _, name in ipairs { "a.exe", "a", ".csv", "a.csv.sh", "dir.csv/a", "" } do
      local ok, err = check(name, TEXT)
      assert.is_nil(ok)
      assert.are.equal("integrity", err.code)
    end
  end)
end)

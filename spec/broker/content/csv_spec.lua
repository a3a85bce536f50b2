local csv = require "longshore.broker.content.csv"
local json = require "longshore.json"
local source = require "longshore.broker.content.source"

-- Every text is read whole and in chunks of every small size: where a chunk
-- ends must not show.
local function preview(text, options)
  local read, size = source.of_string(text)
  local whole = assert(csv.preview(read, size, options))
  for chunk = 1, 7 do
    local with = { chunk = chunk }
    for k, v in pairs(options or {}) do with[k] = v end
    assert.are.same(whole, assert(csv.preview(read, size, with)))
  end
  return whole
end

local function names(found)
  local list = {}
  for i, column in ipairs(found.columns) do list[i] = column.name .. ":" .. column.type end
  return table.concat(list, " ")
end

describe("the preview of CSV", function()
  it("reads header, types, rows and a sample of five", function()
    local rows = { "id,name,depth,open,since" }
    for i = 1, 7 do rows[#rows + 1] = i .. ",pier " .. i .. "," .. i / 2 .. ",true,2024-01-0" .. i end
    local found = preview(table.concat(rows, "\n") .. "\n")
    assert.are.equal("id:Integer name:String depth:Real open:Boolean since:Date", names(found))
    assert.are.equal(7, found.rows)
    assert.are.equal(5, #found.sample)
    assert.are.same({ id = 1, name = "pier 1", depth = 0.5, open = true, since = "2024-01-01" }, found.sample[1])
    assert.are.same({}, found.warnings)
  end)

  it("finds the delimiter", function()
    for _, d in ipairs { ",", ";", "\t", "|" } do
      local found = preview(("a%sb%sc\n1%s2%s3\n4%s5%s6\n"):format(d, d, d, d, d, d))
      assert.are.equal(d, found.delimiter)
      assert.are.equal("a:Integer b:Integer c:Integer", names(found))
    end
  end)

  it("is not misled by commas in semicolon files and in quotes", function()
    local found = preview('place;cost\n"Kiel, North";1,50\n"Bremen";2,75\n"a;b";3,00\n')
    assert.are.equal(";", found.delimiter)
    assert.are.equal(3, found.rows)
    assert.are.equal("Kiel, North", found.sample[1].place)
  end)

  it("obeys Excel's sep line", function()
    local found = preview("sep=|\r\na,b|c\r\n1,2|3\r\n")
    assert.are.equal("|", found.delimiter)
    assert.are.equal("a,b:String c:Integer", names(found))
    assert.are.equal(1, found.rows)
  end)

  it("reads quotes: doubled ones, line breaks, delimiters, text behind them", function()
    local found = preview('a,b\n"say ""hi""","two\r\nlines, one field"\n"x"y,""\n')
    assert.are.equal(2, found.rows)
    assert.are.same({ a = 'say "hi"', b = "two\r\nlines, one field" }, found.sample[1])
    assert.are.same({ a = "xy", b = json.null }, found.sample[2])
  end)

  it("ends records at LF, CRLF and CR, skips empty lines, needs no last line end", function()
    for _, eol in ipairs { "\n", "\r\n", "\r" } do
      local found = preview(table.concat({ "a,b", "1,2", "", "3,4" }, eol))
      assert.are.equal(2, found.rows)
      assert.are.same({ a = 3, b = 4 }, found.sample[2])
    end
  end)

  it("drops a byte order mark and leading blank lines", function()
    local found = preview("\239\187\191\n\nid,n\n1,2\n")
    assert.are.equal("id:Integer n:Integer", names(found))
    assert.are.equal(1, found.rows)
  end)

  it("makes up names where there is no header, and makes them distinct", function()
    local found = preview("1,a,2.5\n2,b,3.5\n")
    assert.is_false(found.header)
    assert.are.equal("field_1:Integer field_2:String field_3:Real", names(found))
    assert.are.equal(2, found.rows)
    assert.are.equal("a:Integer A_2:Integer field_3:Integer a_3:Integer", names(preview("a,A,,a\n1,2,3,4\n")))
  end)

  it("types a column by all its values, and keeps codes and huge numbers text", function()
    local found = preview("a,b,c,d,e,f,g\n1,01234,9007199254740993,1,,12:30,2024-02-30x\n"
      .. "2147483648,5,12345678901234567890,x,,13:00:01,y\n")
    assert.are.equal("a:Integer64 b:String c:String d:String e:String f:Time g:String", names(found))
    assert.are.equal("9007199254740993", found.sample[1].c)
    assert.are.equal(json.null, found.sample[1].e)
    local big = preview("n\n9007199254740993\n5\n")
    assert.are.equal("n:Integer64", names(big))
    assert.are.equal("9007199254740993", big.sample[1].n)
    assert.are.equal(5, big.sample[2].n)
  end)

  it("merges numbers, dates and moments to what holds both", function()
    assert.are.equal("a:Real b:DateTime c:String",
      names(preview("a,b,c\n1,2024-01-01,1\n2.5e3,2024-01-01T10:00:00Z,true\n")))
  end)

  it("shows bytes that are not UTF-8 as U+FFFD and says so", function()
    local found = preview("name,n\nM\252nchen,1\nZ\195\188rich,2\n\237\160\128,3\n")
    assert.are.equal("M\239\191\189nchen", found.sample[1].name)
    assert.are.equal("Zürich", found.sample[2].name)
    assert.are.equal(("\239\191\189"):rep(3), found.sample[3].name)
    assert.matches("not UTF%-8", found.warnings[1])
    assert.is_truthy(json.encode(found.sample))
  end)

  it("takes ragged rows and says so", function()
    local found = preview("a,b\n1\n1,2,3\n1,2\n")
    assert.are.equal(3, found.rows)
    assert.are.equal(json.null, found.sample[1].b)
    assert.matches("as many fields", found.warnings[1])
  end)

  it("has no count, and no half row, for a file longer than it reads", function()
    local lines = { "id,v" }
    for i = 1, 1000 do lines[#lines + 1] = i .. ",12345678" end
    local read, size = source.of_string(table.concat(lines, "\n"))
    local found = csv.preview(read, size, { scan = 30, chunk = 8 })
    assert.is_nil(found.rows)
    assert.are.same({ { id = 1, v = 12345678 }, { id = 2, v = 12345678 } }, found.sample)
    assert.are.same({}, found.warnings)
  end)

  it("never reads beyond its bound, whatever the size", function()
    local highest = 0
    local found = assert(csv.preview(function(first, last)
      highest = math.max(highest, last)
      return ("1,2,3,4,5,6,7\n"):rep(math.ceil((last - first + 1) / 14)):sub(1, last - first + 1)
    end, 5 * 2 ^ 40, { scan = 262144, chunk = 65536 }))
    assert.are.equal(262143, highest)
    assert.are.equal(7, #found.columns)
    assert.is_nil(found.rows)
  end)

  it("survives hostile files: an open quote, one huge field, thousands of columns, only delimiters", function()
    local found = preview('a,b\n1,"never closed\n2,3\n')
    assert.matches("not closed", found.warnings[1])
    assert.are.equal(1, found.rows)
    local read, size = source.of_string(("x"):rep(3e5))
    assert.are.equal(255, #csv.preview(read, size).columns[1].name)
    read, size = source.of_string("a\n\"" .. ("y"):rep(3e5) .. "\"\n")
    assert.are.equal(csv.MAX_FIELD, #csv.preview(read, size).sample[1].a)
    read, size = source.of_string(("c,"):rep(5000) .. "\n" .. ("1,"):rep(5000) .. "\n")
    found = csv.preview(read, size)
    assert.are.equal(csv.MAX_COLUMNS, #found.columns)
    assert.matches("5001 columns", found.warnings[1])
    assert.are.equal(1, found.rows)
    assert.are.equal(4, #preview(",,,\n,,,\n").columns)
    assert.are.same({}, preview("\n\n\n").columns)
    assert.are.equal(0, preview("a,b\n").rows)
  end)

  it("reads random bytes without failing, and what it shows is valid JSON", function()
    local seed = 7
    local function random(n)
      seed = (seed * 16807) % 2147483647
      return seed % n
    end
    for _ = 1, 150 do
      local bytes = {}
      for i = 1, random(200) do
        local pick = random(8)
        bytes[i] = pick == 0 and '"' or pick == 1 and "," or pick == 2 and "\n" or string.char(random(256))
      end
      local read, size = source.of_string(table.concat(bytes))
      local found = assert(csv.preview(read, size, { chunk = 1 + random(50) }))
      assert.is_truthy(json.encode(found.sample) and json.encode(found.columns))
    end
  end)

  it("hands on what reading failed with", function()
    local ok, err = csv.preview(function() return nil, { code = "store" } end, 10)
    assert.is_nil(ok)
    assert.are.equal("store", err.code)
  end)
end)

local form = require "longshore.http.form"
local support = require "spec.support"

local TYPE = "multipart/form-data; boundary=XyZ"

local function body(...)
  local out = {}
  for _, part in ipairs { ... } do
    out[#out + 1] = "--XyZ\r\n" .. part[1] .. "\r\n\r\n" .. part[2] .. "\r\n"
  end
  return table.concat(out) .. "--XyZ--\r\n"
end

local FILE = 'Content-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain'

local function broken(text, content_type)
  local parts, err = form.parse({ text = text }, content_type or TYPE)
  assert.is_nil(parts)
  return err
end

describe("reading a form", function()
  teardown(support.cleanup)

  it("finds the parts where they lie", function()
    local text = body({ 'Content-Disposition: form-data; name="note"', "hello" }, { FILE, "line\r\n--Xy\r\nend" })
    local parts = assert(form.parse({ text = text }, TYPE))
    assert.equal(2, #parts)
    assert.equal("hello", parts[1].value)
    assert.equal("note", parts[1].name)
    local file = form.file_part(parts)
    assert.equal("a.txt", file.filename)
    assert.equal("text/plain", file.content_type)
    assert.equal("line\r\n--Xy\r\nend", text:sub(file.offset + 1, file.offset + file.length))
    assert.is_nil(file.value)
  end)

  it("takes empty files, a preamble, and padding after a boundary", function()
    local text = "ignored\r\n" .. body({ FILE, "" }):gsub("%-%-XyZ\r\n", "--XyZ \t\r\n")
    local parts = assert(form.parse({ text = text }, TYPE))
    assert.equal(0, parts[1].length)
  end)

  it("prefers the part named file, else the first that has a file name", function()
    local other = 'Content-Disposition: form-data; name="other"; filename="b"'
    assert.equal("a.txt", form.file_part(form.parse({ text = body({ other, "1" }, { FILE, "2" }) }, TYPE)).filename)
    assert.equal("b", form.file_part(form.parse({ text = body({ other, "1" }) }, TYPE)).filename)
    local plain = body({ 'content-disposition: form-data; name="x"', "1" })
    assert.is_nil(form.file_part(form.parse({ text = plain }, TYPE)))
  end)

  it("reads names as clients write them", function()
    local function name_of(disposition)
      local parts = assert(form.parse({ text = body({ "Content-Disposition: form-data; " .. disposition, "" }) }, TYPE))
      return parts[1].filename
    end
    assert.equal('a"b.txt', name_of [[name="file"; filename="a\"b.txt"]])
    assert.equal('a"b.txt', name_of [[name="file"; filename="a%22b.txt"]])
    assert.equal("100%.txt", name_of [[name="file"; filename="100%.txt"]])
    assert.equal("a;b=c.txt", name_of [[name="file"; filename="a;b=c.txt"]])
    assert.equal("ü.txt", name_of [[name="file"; filename="x"; filename*=UTF-8''%C3%BC.txt]])
    assert.equal("plain", name_of [[name=file; filename=plain]])
  end)

  it("works on a file, in chunks, wherever a boundary falls", function()
    local path = support.tmpdir() .. "/body"
    for _, size in ipairs { 65536 - 120, 65536 - 100, 65536, 200000, 65536 * 2 - 113 } do
      local content = ("x\r\n--Xy"):rep(math.floor(size / 7)) .. ("y"):rep(size % 7)
      for shift = 0, 12 do
        local text = body({ FILE, content .. ("z"):rep(shift) }, { 'Content-Disposition: form-data; name="t"', "last" })
        support.write_file(path, text)
        local parts = assert(form.parse({ path = path }, TYPE))
        assert.equal(2, #parts)
        assert.equal(content .. ("z"):rep(shift), text:sub(parts[1].offset + 1, parts[1].offset + parts[1].length))
        assert.equal("last", parts[2].value)
      end
    end
  end)

  it("refuses other content types with 415", function()
    for _, kind in ipairs { "application/json", "text/plain", "multipart/mixed; boundary=XyZ" } do
      assert.equal(415, broken(body({ FILE, "" }), kind).status)
    end
    local parts, err = form.parse({ text = "" }, nil)
    assert.is_nil(parts)
    assert.equal(415, err.status)
  end)

  it("refuses what is broken or cut off", function()
    local whole = body({ FILE, "content" })
    for _, text in ipairs {
      "", "nothing", "--XyZ", "--XyZ\r\n", whole:sub(1, -12), whole:sub(1, 40), "--XyZjunk\r\n",
      body({ "no colon here", "x" }), body({ "Content-Disposition: attachment", "x" }),
      body({ 'Content-Disposition: form-data; filename="x"', "x" }),
      "--XyZ\r\n" .. ("h: v\r\n"):rep(5000) .. "\r\n\r\n--XyZ--",
    } do
      local err = broken(text)
      assert.equal("invalid", err.code)
    end
    assert.equal("invalid", broken(whole, "multipart/form-data").code)
    assert.equal("invalid", broken(whole, 'multipart/form-data; boundary=""').code)
    local many = {}
    for i = 1, 101 do many[i] = { 'Content-Disposition: form-data; name="x"', "" } end
    assert.equal("invalid", broken(body((table.unpack or unpack)(many))).code) -- luacheck: ignore 113 143
  end)

  it("says so when the spooled file is gone", function()
    local parts, err = form.parse({ path = "/nonexistent/body" }, TYPE)
    assert.is_nil(parts)
    assert.equal("io", err.code)
  end)
end)

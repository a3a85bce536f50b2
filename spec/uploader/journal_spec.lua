local clocks = require "longshore.clock"
local journal = require "longshore.uploader.journal"
local lfs = require "lfs"
local support = require "spec.support"

describe("the journal", function()
  local folder, clock

  before_each(function()
    folder = support.tmpdir()
    clock = clocks.fixed(1700000000)
  end)
  after_each(support.cleanup)

  local function open(more)
    local options = { folder = folder, driver = "fake", destination = "http://h", name = "a", path = "/data/a",
      source = { size = 100, mtime_ns = "1700000000000000001", inode = "7" }, clock = clock }
    for k, v in pairs(more or {}) do options[k] = v end
    return journal.open(options)
  end

  local session = { id = "upl_1", state = { plan = "x" }, part_size = 10 }
  local function part(n)
    return { number = n, offset = (n - 1) * 10, length = 10, token = '"e' .. n .. '"', crc32c = n, check = "md5" }
  end

  local function file()
    for name in lfs.dir(folder) do
      if name:match("%.journal$") then return folder .. "/" .. name end
    end
  end

  it("gives back the session and the parts to the next process", function()
    local j = open()
    assert.is_nil(j.saved)
    j:session(session)
    j:part(part(1))
    j:part(part(3))
    j:close()
    j = open()
    assert.equal("upl_1", j.saved.id)
    assert.same({ plan = "x" }, j.saved.state)
    assert.equal(10, j.saved.part_size)
    assert.same(part(1), j.saved.parts[1])
    assert.is_nil(j.saved.parts[2])
    assert.same(part(3), j.saved.parts[3])
    assert.is_nil(j.note)
  end)

  it("has every record after a kill, without being closed", function()
    local j = open()
    j:session(session)
    for n = 1, 5 do j:part(part(n)) end
    j.unlock()
    assert.equal(5, #open().saved.parts)
  end)

  it("is gone when the upload has ended", function()
    local j = open()
    j:session(session)
    j:finish()
    assert.is_nil(file())
    assert.is_nil(open().saved)
  end)

  it("is bound to the place, the name, the path and the driver", function()
    local j = open()
    j:session(session)
    j:close()
    for _, other in ipairs { { destination = "http://i" }, { name = "b" }, { path = "/data/b" }, { driver = "s3" } } do
      local k = open(other)
      assert.is_nil(k.saved)
      k:close()
    end
  end)

  it("does not depend on how the path is written", function()
    assert.equal("/a/b/c", journal.absolute("/a//b/./c"))
    assert.equal(lfs.currentdir() .. "/x", journal.absolute("./x"))
  end)

  it("is stale when the source has another size, time or inode", function()
    for _, source in ipairs { { size = 101, mtime_ns = "1700000000000000001", inode = "7" },
      { size = 100, mtime_ns = "1700000000000000002", inode = "7" },
      { size = 100, mtime_ns = "1700000000000000001", inode = "8" } } do
      local j = open()
      j:session(session)
      j:close()
      j = open { source = source }
      assert.is_nil(j.saved)
      assert.equal("upl_1", j.stale.id)
      assert.truthy(j.note:find("changed", 1, true))
      j:close()
    end
  end)

  it("forgets the parts of an earlier session", function()
    local j = open()
    j:session(session)
    j:part(part(1))
    j:session { id = "upl_2", state = {} }
    j:close()
    j = open()
    assert.equal("upl_2", j.saved.id)
    assert.same({}, j.saved.parts)
  end)

  it("skips lines that a crash or a disk has damaged", function()
    local j = open()
    j:session(session)
    for n = 1, 4 do j:part(part(n)) end
    j:close()
    local text = support.read_file(file())
    -- a torn end
    support.write_file(file(), text:sub(1, -8))
    j = open()
    assert.is_nil(j.saved.parts[4])
    assert.is_truthy(j.saved.parts[3])
    j:part(part(4))
    j:close()
    j = open()
    assert.is_truthy(j.saved.parts[4])
    j:close()
    -- a flipped digit in the third part
    text = support.read_file(file())
    support.write_file(file(), (text:gsub('"n":3', '"n":2')))
    j = open()
    assert.is_nil(j.saved.parts[3])
    assert.same(part(2), j.saved.parts[2])
  end)

  it("is ignored, with a note, when nothing in it can be used", function()
    local j = open()
    j:session(session)
    j:close()
    for _, text in ipairs { "rubbish", "\0\0\0\0", "{}\n", ("x"):rep(3000000), "00000000 {}\n" } do
      support.write_file(file(), text)
      local k = open()
      assert.is_nil(k.saved)
      assert.truthy(k.note:find("cannot be read", 1, true))
      k:close()
    end
    local core = require "longshore.core"
    local future = '{"t":"start","v":99}'
    support.write_file(file(), ("%08x %s\n"):format(core.crc32c(future), future))
    local k = open()
    assert.is_nil(k.saved)
    assert.truthy(k.note:find("format 99", 1, true))
  end)

  it("starts anew in a damaged file", function()
    local j = open()
    j:session(session)
    j:close()
    support.write_file(file(), "rubbish without end of line")
    j = open()
    j:session(session)
    j:part(part(1))
    j:close()
    assert.same(part(1), open().saved.parts[1])
  end)

  it("is for one process at a time", function()
    local j = open()
    local other, err = open()
    assert.is_nil(other)
    assert.equal("busy", err.code)
    j:close()
    assert.is_truthy(open())
  end)

  it("is for one process at a time, also between processes, until it dies", function()
    local script = support.write_file(folder .. "/hold.lua", ([[
      local journal = require "longshore.uploader.journal"
      local core = require "longshore.core"
      local clock = require("longshore.clock").system
      local j, err = journal.open { folder = %q, driver = "fake", destination = "http://h", name = "a",
        path = "/data/a", source = { size = 100, mtime_ns = "1", inode = "7" }, clock = clock }
      local f = io.open(%q, "w")
      f:write(j and "held" or err.code)
      f:close()
      core.sleep(60)
    ]]):format(folder, folder .. "/state"))
    local p = support.spawn(support.lua, { args = { script } })
    assert.equal("held", support.wait_until(function()
      local text = support.read_file(folder .. "/state")
      return text ~= "" and text
    end))
    local other, err = open()
    assert.is_nil(other)
    assert.equal("busy", err.code)
    assert(open { name = "another" }):close()
    p:kill("sigkill")
    p:wait()
    assert.is_truthy(open())
  end)

  it("keeps any path and says what can be resumed", function()
    local path = "/data/\195\164 %41\255\n/a"
    local j = open { path = path, name = "n\255" }
    j:session(session)
    j:part(part(1))
    j:part(part(2))
    j:close()
    local list = journal.list(folder)
    assert.equal(1, #list)
    assert.equal(path, list[1].path)
    assert.equal("n\255", list[1].name)
    assert.equal(20, list[1].bytes)
    assert.equal(2, list[1].parts)
    assert.equal(100, list[1].size)
    assert.equal("http://h", list[1].destination)
    assert.same({}, journal.list(folder .. "/missing"))
  end)

  it("lives where XDG says", function()
    local function env(values) return function(name) return values[name] end end
    assert.equal("/s/longshore/uploads", journal.folder(nil, env { XDG_STATE_HOME = "/s", HOME = "/h" }))
    assert.equal("/h/.local/state/longshore/uploads", journal.folder(nil, env { HOME = "/h" }))
    assert.equal("/h/.local/state/longshore/uploads", journal.folder(nil, env { XDG_STATE_HOME = "rel", HOME = "/h" }))
    assert.equal("/x", journal.folder("/x", env {}))
    local none, err = journal.folder(nil, env {})
    assert.is_nil(none)
    assert.truthy(err.message:find("--journal", 1, true))
  end)

  it("that cannot be written breaks quietly", function()
    local j = open()
    j.file_path = folder .. "/missing/x.journal"
    j:session(session)
    j:part(part(1))
    assert.is_string(j.broken)
    j:close()
  end)

  it("makes its folder, and says which it cannot make", function()
    local j = assert(open { folder = folder .. "/a/b/c" })
    j:close()
    local none, err = open { folder = "/proc/longshore" }
    assert.is_nil(none)
    assert.truthy(tostring(err):find("/proc/longshore", 1, true))
  end)
end)

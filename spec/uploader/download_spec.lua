-- Reading back: a file arrives whole and checked, or not at all.
local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local download = require "longshore.uploader.download"
local relay = require "spec.support.relay"
local s3 = require "longshore.uploader.s3"
local support = require "spec.support"
local uploader = require "longshore.uploader"

local MiB = 1024 * 1024

describe("reading a file back", function()
  local store, way, folder

  setup(function()
    store = diskstore.start { min_part = 1 }
    way = relay.start { target = store.endpoint }
  end)
  teardown(support.cleanup)

  before_each(function()
    way:clear()
    folder = support.tmpdir()
  end)

  local function new(endpoint, more)
    local options = { url = "s3://" .. store.bucket .. "/down", endpoint = endpoint or way.endpoint,
      region = store.region, profile = { base = "diskstore", min_part = 1 }, access_key = store.access_key,
      secret_key = store.secret_key, part_size = 5 * MiB, threshold = MiB }
    for k, v in pairs(more or {}) do options[k] = v end
    local driver = assert(s3.new(options))
    return assert(uploader.new { driver = driver, gate = { base = 0.01, cap = 0.05 } }), driver
  end

  local function put(name, size)
    local block = core.random(4096)
    local data = block:rep(math.floor(size / 4096)) .. block:sub(1, size % 4096)
    local path = support.write_file(folder .. "/" .. name, data)
    local up = new(store.endpoint)
    local result = assert(up:put { path = path, name = name })
    up:close()
    return path, result
  end

  local function get(item)
    local up, driver = new()
    if item.change then item.change(driver) end
    local result, err = up:get(item)
    up:close()
    return result, err
  end

  local function nothing_at(path)
    assert.is_nil((core.file_stat(path)))
    assert.is_nil((core.file_stat(path .. ".longshore-part")))
  end

  it("brings files of every kind of size back identical, in ranges", function()
    for _, size in ipairs { 0, 1, 16 * MiB, 16 * MiB + 1, 40 * MiB + 17 } do
      local path, sent = put("f" .. size, size)
      local seen = 0
      local result = assert(get { id = "f" .. size, path = path .. ".back", on_progress = function(received)
        assert.is_true(received >= 0 and received <= size)
        seen = math.max(seen, received)
      end })
      assert.equal(size, result.bytes)
      assert.equal(size, seen)
      assert.equal(sent.crc32c, result.crc32c)
      assert.equal("crc32c", result.compared)
      assert.equal(0, (support.run(("cmp %s %s.back"):format(path, path))))
      os.remove(path)
      os.remove(path .. ".back")
    end
  end)

  it("asks again for a range that was cut or refused, and for nothing else", function()
    local path = put("cut", 40 * MiB)
    way:rules {
      { method = "GET", match = "/cut", times = 1, cut_answer = 100000 },
      { method = "GET", match = "/cut", times = 1, status = 503 },
    }
    assert(get { id = "cut", path = path .. ".back" })
    assert.equal(0, (support.run(("cmp %s %s.back"):format(path, path))))
  end)

  it("does not put bytes into place whose CRC32C is not the file's", function()
    local path = put("wrong", 3 * MiB)
    local result, err = get { id = "wrong", path = path .. ".back", change = function(driver)
      local original = driver.download
      driver.download = function(self, id)
        local target, why = original(self, id)
        if target then target.crc32c = 12345 end
        return target, why
      end
    end }
    assert.is_nil(result)
    assert.equal("integrity", err.code)
    nothing_at(path .. ".back")
  end)

  it("refuses a size that is not the one the service knows", function()
    local path = put("size", 3 * MiB)
    local result, err = get { id = "size", path = path .. ".back", change = function(driver)
      local original = driver.download
      driver.download = function(self, id)
        local target, why = original(self, id)
        if target then target.size = 99 end
        return target, why
      end
    end }
    assert.is_nil(result)
    assert.equal("integrity", err.code)
    nothing_at(path .. ".back")
  end)

  it("notices that the object was replaced between two ranges", function()
    local path = put("moving", 40 * MiB)
    local replaced
    local result, err = get { id = "moving", path = path .. ".back", on_progress = function(received)
      if not replaced and received >= 16 * MiB then
        replaced = true
        local up = new(store.endpoint)
        support.write_file(folder .. "/other", ("x"):rep(40 * MiB))
        assert(up:put { path = folder .. "/other", name = "moving" })
        up:close()
      end
    end }
    assert.is_true(replaced)
    -- Ranges that were under way may all have been of the old version.
    if result then
      assert.equal(0, (support.run(("cmp %s %s.back"):format(path, path))))
    else
      assert.equal("changed", err.code)
      nothing_at(path .. ".back")
    end
  end)

  it("keeps what is there, unless told to replace it", function()
    local path = put("kept", 1000)
    support.write_file(path .. ".back", "mine")
    local result, err = get { id = "kept", path = path .. ".back" }
    assert.is_nil(result)
    assert.equal("conflict", err.code)
    assert.equal("mine", support.read_file(path .. ".back"))
    assert(get { id = "kept", path = path .. ".back", overwrite = true })
    assert.equal(0, (support.run(("cmp %s %s.back"):format(path, path))))
  end)

  it("replaces regular files only: no device, pipe or socket, whoever asks", function()
    put("kept", 1000)
    local pipe = folder .. "/pipe"
    assert.equal(0, (support.run("mkfifo " .. pipe)))
    local result, err = get { id = "kept", path = pipe, overwrite = true }
    assert.is_nil(result)
    assert.equal("invalid", err.code)
    assert.truthy(err.message:find(pipe .. " is a device, pipe or socket", 1, true), err.message)
    assert.equal("other", core.file_stat(pipe).type)
    assert.is_nil((core.file_stat(pipe .. ".longshore-part")))
  end)

  it("writes where a link points, and leaves the link", function()
    local path = put("kept", 1000)
    assert.equal(0, (support.run(("cd %s && mkdir in && echo mine >in/there && ln -s in/there one && ln -s one two")
      :format(folder))))
    assert.equal(folder .. "/two", assert(get { id = "kept", path = folder .. "/two", overwrite = true }).path)
    assert.equal(0, (support.run(("cd %s && test -L two && test -L one && ! test -L in/there && cmp %s in/there")
      :format(folder, path))))
  end)

  it("says that there is no such object, and leaves nothing", function()
    local result, err = get { id = "absent", path = folder .. "/absent" }
    assert.is_nil(result)
    assert.equal("not_found", err.code)
    nothing_at(folder .. "/absent")
  end)

  it("takes no path from a server's name", function()
    assert.equal("x", download.safe_name("../../x"))
    assert.equal("passwd", download.safe_name("/etc/passwd"))
    assert.equal("c.txt", download.safe_name("a\\b\\c.txt"))
    for _, bad in ipairs { "..", ".", "", "a/..", "x\0y", "/" } do assert.is_nil(download.safe_name(bad)) end
    assert.is_nil(download.safe_name(nil))
  end)
end)

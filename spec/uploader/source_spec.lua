local core = require "longshore.core"
local sources = require "longshore.uploader.source"
local support = require "spec.support"

describe("sources", function()
  local dir

  before_each(function()
    dir = support.tmpdir()
    support.run(("cd %s && mkdir -p a/b empty && echo 1 > a/1 && echo 2 > a/b/2 && echo 3 > top && ln -s a loop && "
      .. "ln -s ../../a a/b/up && ln -s top link && ln -s nowhere dangling"):format(dir))
  end)
  after_each(support.cleanup)

  local function names(paths)
    local list = {}
    for i, item in ipairs(sources.expand(paths)) do list[i] = item.name .. (item.error and "!" or "") end
    return list
  end

  it("go by their own name", function()
    assert.same({ "top", "1" }, names { dir .. "/top", dir .. "/a/1" })
  end)

  it("in a folder go with the folder's name, or without it after a slash", function()
    assert.same({ "a/1", "a/b/2", "a/b/up!" }, names { dir .. "/a" })
    assert.same({ "1", "b/2", "b/up!" }, names { dir .. "/a/" })
    assert.same({ "1", "b/2", "b/up!" }, names { dir .. "/a/." })
    assert.same({}, names { dir .. "/empty" })
  end)

  it("are in order of their bytes, whatever the file system's is", function()
    support.run(("cd %s/empty && touch b a C 10 9"):format(dir))
    assert.same({ "10", "9", "C", "a", "b" }, names { dir .. "/empty/" })
  end)

  it("are followed through links to files, not to folders below", function()
    assert.same({ "link" }, names { dir .. "/link" })
    assert.same({ "loop/1", "loop/b/2", "loop/b/up!" }, names { dir .. "/loop" })
  end)

  it("that are not there or no files are errors when opened", function()
    for path, why in pairs { [dir .. "/missing"] = "No such file", [dir .. "/dangling"] = "No such file",
      [dir] = "folder", ["/dev/null"] = "not a regular file" } do
      local source, err = sources.open(path)
      assert.is_nil(source)
      assert.truthy(err.message:find(why, 1, true), err.message)
      assert.truthy(err.message:find(path, 1, true))
    end
  end)

  it("notice each change", function()
    local path = dir .. "/top"
    local source = assert(sources.open(path))
    assert.is_true(sources.unchanged(source))
    support.run("printf x >> " .. path)
    local ok, err = sources.unchanged(source)
    assert.is_nil(ok)
    assert.equal("changed", err.code)
    source = assert(sources.open(path))
    support.run("touch -d '2001-01-01 00:00:00.123456789' " .. path)
    assert.is_nil((sources.unchanged(source)))
    source = assert(sources.open(path))
    support.run(("cp -p %s %s.new && mv %s.new %s"):format(path, path, path, path))
    assert.is_nil((sources.unchanged(source)))
    source = assert(sources.open(path))
    os.remove(path)
    ok, err = sources.unchanged(source)
    assert.is_nil(ok)
    assert.truthy(err.message:find("disappeared", 1, true))
  end)

  it("keep sizes beyond 4 GiB exact", function()
    support.run("truncate -s 5368709121 " .. dir .. "/sparse")
    assert.equal(5368709121, assert(sources.open(dir .. "/sparse")).size)
    assert.equal("string", type(core.file_stat(dir .. "/sparse").mtime_ns))
  end)

  it("have a content type by their ending", function()
    assert.equal("video/mp4", sources.content_type "a/b.MP4")
    assert.equal("application/gzip", sources.content_type "x.tar.gz")
    assert.equal("application/octet-stream", sources.content_type "Makefile")
    assert.equal("application/octet-stream", sources.content_type "x.unknownending")
    assert.equal("application/octet-stream", sources.content_type "")
  end)
end)

-- What a user of luarocks gets: both Luas, the module, the Lua files and the
-- command, from a copy of the sources and nothing else.
local support = require "spec.support"
local quote = support.quote

describe("make install", function()
  teardown(support.cleanup)

  it("installs below DESTDIR what will stand in PREFIX", function()
    local folder = support.tmpdir()
    local code, out = support.run(("cd %s && make install DESTDIR=%s PREFIX=/opt/longshore"):format(quote(support.root),
      quote(folder)))
    assert.equal(0, code, out)
    local to = folder .. "/opt/longshore"
    for _, path in ipairs { "/lib/lua/5.4/longshore/core.so", "/lib/lua/5.1/longshore/core.so",
      "/share/lua/5.4/longshore/init.lua", "/share/lua/5.1/longshore/init.lua" } do
      assert.truthy(support.read_file(to .. path), path)
    end
    local command = support.read_file(to .. "/bin/longshore")
    assert.truthy(command:find("/opt/longshore/share/lua/5.4/longshore/cli/main.lua", 1, true), command)
    assert.is_nil(command:find(folder, 1, true))
    -- A prefix of one's own works where it is, from any folder.
    code, out = support.run(("cd %s && make install PREFIX=%s && cd / && env -u LUA_PATH -u LUA_CPATH %s --version")
      :format(quote(support.root), quote(folder .. "/own"), quote(folder .. "/own/bin/longshore")))
    assert.equal(0, code, out)
  end)

  it("says how Lua finds what is not in its way, and leaves nothing of an older one", function()
    local prefix = support.tmpdir()
    local install = ("cd %s && make install PREFIX=%s"):format(quote(support.root), quote(prefix))
    local code, out = support.run(install)
    assert.equal(0, code, out)
    local stale = support.write_file(prefix .. "/share/lua/5.4/longshore/stale.lua", "")
    code, out = support.run(install)
    assert.equal(0, code, out)
    assert.is_nil(support.read_file(stale))
    local lines = out:match(support.lua == "luajit" and "LuaJIT:(.*)$" or "Lua 5.4:(.*)LuaJIT:")
    code, out = support.run(("%s\ncd / && %s -e 'print(require(\"longshore\").crc32c \"123456789\")'"):format(lines,
      support.lua))
    assert.equal(0, code, out)
    assert.truthy(out:find("3808858755", 1, true), out)
  end)
end)

describe("the rockspec", function()
  local source, config

  setup(function()
    source = support.tmpdir()
    assert.equal(0, (support.run(("cd %s && cp -R Makefile longshore-scm-1.rockspec src lua %s/")
      :format(quote(support.root), quote(source)))))
    config = support.write_file(source .. "/config.lua", [[
      rocks_provided = { ["lua-cjson"] = "2.1.0-1", luafilesystem = "1.8.0-1", argparse = "0.7.1-1",
        luv = "1.44.2-0" }
      rocks_servers = {}
    ]])
  end)
  teardown(support.cleanup)

  local function make(version, extra)
    local tree = source .. "/tree" .. version
    local code, out = support.run(("cd %s && env -u LUA_PATH -u LUA_CPATH LUAROCKS_CONFIG=%s CFLAGS=-O0 "
      .. "luarocks --lua-version=%s make --tree=%s %s longshore-scm-1.rockspec")
      :format(quote(source), quote(config), version, quote(tree), extra or ""))
    assert.equal(0, code, out)
    return tree
  end

  it("passes luarocks lint", function()
    local code, out = support.run(("cd %s && luarocks lint longshore-scm-1.rockspec"):format(quote(source)))
    assert.equal(0, code, out)
  end)

  if support.lua == "lua5.4" then
    it("installs the module and the command for Lua 5.4", function()
      local tree = make("5.4")
      local code, out = support.run(("cd / && env -u LUA_PATH -u LUA_CPATH %s/bin/longshore --version")
        :format(quote(tree)))
      assert.equal(0, code, out)
      code, out = support.run(("cd / && printf 123456789 > %s/digits && "
        .. "env -u LUA_PATH -u LUA_CPATH %s/bin/longshore crc32c --base64 %s/digits")
        :format(quote(source), quote(tree), quote(source)))
      assert.equal(0, code, out)
      assert.truthy(out:find("4waSgw==", 1, true), out)
    end)
  else
    it("installs the module for LuaJIT", function()
      local tree = make("5.1", "LUA_INCDIR=/usr/include/luajit-2.1")
      local code, out = support.run(("cd / && "
        .. "env LUA_PATH='%s/share/lua/5.1/?.lua;;' LUA_CPATH='%s/lib/lua/5.1/?.so;;' "
        .. "luajit -e 'print((\"%%08x\"):format(require(\"longshore.core\").crc32c(\"123456789\")))'")
        :format(tree, tree))
      assert.equal(0, code, out)
      assert.truthy(out:find("e3069283", 1, true), out)
    end)
  end
end)

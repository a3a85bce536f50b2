-- The ways out of a sandbox, each shut, on both Luas: what a hook may reach, what it
-- may use up, and that a stop stops.
local core = require "longshore.core"
local sandbox = require "longshore.policy.sandbox"
local support = require "spec.support"

describe("the sandbox", function()
  local LIMITS = { instructions = 300000, seconds = 0.5, memory = 4 * 1024 * 1024 }

  local function new(text, options)
    options = options or {}
    return sandbox.new { text = text, name = "p", limits = options.limits or LIMITS, modules = options.modules,
      services = { "now", "boom", "echo" } }
  end

  local function unwrap(ok, value, reason)
    if type(value) == "table" and value.wrapped then value = value.v end
    return ok, value, reason
  end

  -- A policy whose one hook has this body, which may answer anything.
  local function hook(body, options)
    local box = assert(new(([[return { before_sign = function(context, host)
      local function body(context, host) %s end
      local v, why = body(context, host)
      if v == false and why then return false, why end
      return { wrapped = true, v = v }
    end }]]):gsub("%%s", function() return body end, 1), options))
    return { call = function(_, ...) return unwrap(box:call(...)) end }
  end

  local HOST = { now = function() return 42 end, boom = function() error "x" end,
    echo = function(value) return value end }

  local function call(body, context, options)
    local started = core.monotonic()
    local ok, value, reason = hook(body, options):call("before_sign", context or {}, HOST)
    assert.is_true(core.monotonic() - started < 20, "took too long")
    return ok, value, reason
  end

  local function stopped(code, body, options)
    local ok, err = call(body, nil, options)
    assert.is_nil(ok, body)
    if code then assert.equal(code, err.code, body .. ": " .. tostring(err)) end
    return err
  end

  describe("runs", function()
    it("what policies are made of", function()
      assert.same({ true, { key = "a/42" } }, { call("return { key = context.a .. '/' .. host.now() }", { a = "a" }) })
      assert.same({ true, false, "no" }, { call "return false, 'no'" })
      assert.same({ true, "3-2-1" }, { call [[local t = { 1, 3, 2 } table.sort(t, function(a, b) return a > b end)
        return table.concat(t, "-")]] })
      assert.same({ true, "b=1" }, { call "return (('a=1'):gsub('a', 'b'))" })
      assert.same({ true, true }, { call [[local ok, e = pcall(error, { code = 1 }) return not ok and e.code == 1]] })
      assert.same({ true, "seen: 1" }, { call [[local _, e = xpcall(function() error("1", 0) end,
        function(m) return "seen: " .. m end) return e]] })
      assert.same({ true, 6 }, { call "local s = 0 for _, v in ipairs { 1, 2, 3 } do s = s + v end return s" })
    end)

    it("with state of its own, from call to call", function()
      local box = hook "n = (n or 0) + 1 return n"
      for i = 1, 3 do assert.same({ true, i }, { box:call("before_sign", {}, HOST) }) end
    end)

    it("on copies: values are what they were, arrays and null too", function()
      local json = require "longshore.json"
      local value = { text = "a\0b", list = json.array { 1, 2 }, empty = json.array(), none = json.null,
        deep = { { x = 1.5 } }, big = 9007199254740991, yes = true }
      local _, back = call("context.text = context.text return host.echo(context)", value)
      assert.same(value, back)
      assert.is_true(json.is_array(back.list))
      assert.is_true(json.is_array(back.empty))
      assert.equal('{"big":9007199254740991}', json.encode { big = back.big })
      assert.equal("a\0b", value.text)
    end)
  end)

  describe("lets nobody reach", function()
    for _, name in ipairs { "io", "os", "debug", "ffi", "jit", "package", "coroutine", "load", "loadstring",
      "loadfile", "dofile", "collectgarbage", "getfenv", "setfenv", "newproxy", "module", "print", "bit",
      "string.dump", "table.move", "table.foreach", "math.randomseed" } do
      it(name, function()
        assert.same({ true, true }, { call("return " .. name .. " == nil") })
      end)
    end

    it("modules but the rules and those it is given", function()
      for _, name in ipairs { "os", "io", "ffi", "jit", "longshore.core", "longshore.broker", "lfs", "../x",
        "longshore.policy.rules.../../x", "longshore.policy.file" } do
        assert.truthy(stopped("error", ("require %q"):format(name)).message:find("not allowed", 1, true))
      end
      assert.same({ true, 7 }, { call("return require 'mine'.seven", nil, { modules = function(name)
        return name == "mine" and "return { seven = 7 }" or nil
      end }) })
      local _, twice = call("return require 'mine' == require 'mine'", nil,
        { modules = function() return "return {}" end })
      assert.is_true(twice)
    end)

    it("bytecode", function()
      local box, err = new(string.dump(function() return {} end))
      assert.is_nil(box)
      assert.truthy(err.message:find("bytecode", 1, true))
      assert.truthy(stopped("error", "require 'mine'", { modules = function() return string.dump(function() end) end })
        .message:find("bytecode", 1, true))
    end)

    it("the libraries of the prelude, to change them", function()
      for _, body in ipairs { "string.find = nil", "table.concat = nil", "host.now = nil", "math.huge = 1" } do
        stopped("error", body)
      end
      assert.same({ true, true }, { call "return getmetatable('') == nil" })
      assert.same({ true, true }, { call "return not pcall(setmetatable, 'x', {})" })
      assert.same({ true, "1" }, { call "rawset(_G, 'tostring', nil) return ('%d'):format(1)" })
    end)

    if rawget(_G, "jit") then
      it("ffi by a number of it, which LuaJIT's parser makes", function()
        assert.same({ true, "1LL nil nil" }, { call [[return tostring(1LL) .. " " .. tostring(getmetatable(1LL))
          .. " " .. tostring(ffi)]] })
        for _, body in ipairs { "return 1LL", "return (1LL).x", "host.echo(1i)", "setmetatable(1LL, {})",
          "return ('x'):rep(1LL)", "return unpack({}, 1LL, 2LL)", "require 'ffi'" } do
          stopped("error", body)
        end
        stopped(nil, "local n = 2ULL while true do n = n ^ 0xffffffffffffULL end")
      end)
    end

    it("the host by anything but data", function()
      stopped("error", "return print or function() end")
      stopped("error", "local t = {} t.t = t return t")
      stopped("error", "return { [{}] = 1 }")
      stopped("error", "host.echo(function() end)")
      assert.truthy(stopped("error", "host.boom()").message:find("host.boom", 1, true))
    end)
  end)

  describe("stops what runs away", function()
    local LOOP = "while true do end"
    local ways = {
      ["a loop"] = LOOP,
      ["a loop that the compiler would take"] = "local n = 0 for i = 1, 1e18 do n = n + i end return n",
      ["behind pcall"] = "pcall(function() " .. LOOP .. " end) return true",
      ["behind pcall, again and again"] = "while true do pcall(function() " .. LOOP .. " end) end",
      ["behind nested pcalls"] = "local function f() return pcall(f) end while true do f() end",
      ["in a tree of pcalls"] = "local function f() pcall(f) f() end f()",
      ["in the handler of xpcall"] = "return xpcall(error, function() " .. LOOP .. " end)",
      ["in a handler of the stop itself"] = ("xpcall(function() %s end, function() %s end)"):format(LOOP, LOOP),
      ["in a metamethod"] = "return setmetatable({}, { __index = function() " .. LOOP .. " end }).x",
      ["in __tostring"] = "return tostring(setmetatable({}, { __tostring = function() " .. LOOP .. " end }))",
      ["in a comparison"] = "table.sort({ 1, 2, 3 }, function() " .. LOOP .. " end)",
      ["in a replacement"] = "return (('x'):gsub('x', function() " .. LOOP .. " end))",
      ["in a backtracking pattern"] = "return ('a'):rep(40):find(('.-'):rep(20) .. 'b')",
      ["in a backtracking match"] = "return ('a'):rep(40):match(('a*'):rep(20) .. 'b')",
      ["in a backtracking gsub"] = "return (('a'):rep(40):gsub(('a?'):rep(30) .. 'b', ''))",
      ["in a backtracking gmatch"] = "for _ in ('a'):rep(40):gmatch(('.*'):rep(20) .. 'b') do end",
      ["in find through a table"] = "return string.find(('a'):rep(40), ('.-'):rep(20) .. 'b')",
      ["in a plain search of long texts"] = "local s = ('a'):rep(200000) "
        .. "while true do s:find(s:sub(2) .. 'b', 1, true) end",
      ["in rep of nothing"] = "while true do string.rep('', 1e15) end",
      ["in rep of much"] = "return ('x'):rep(1e12)",
      ["in a table of a claimed length"] = "while true do pcall(table.insert, setmetatable({}, "
        .. "{ __len = function() return 1e15 end, __metatable = false }), 1, 1) end",
      ["in recursion"] = "local function f() return 1 + f() end return f()",
      ["by questions"] = "while true do host.now() end",
      ["between questions"] = "for i = 1, 99 do host.now() for j = 1, 50000 do end end",
      ["in a chain of calls without an end"] = "local t = setmetatable({}, {}) getmetatable(t).__call = t return t()",
      ["in a call that is a table's"] = "local t = {} return setmetatable(t, { __call = t })()",
      ["in a sort without an order"] = "local t = {} for i = 1, 5000 do t[i] = i end "
        .. "while true do table.sort(t, function() return true end) end",
      ["in a sort by a function of the library"] = "local t = {} for i = 1, 5000 do t[i] = i end "
        .. "while true do table.sort(t, rawequal) end",
      ["in a search for a long text"] = "local s = ('a'):rep(400000) "
        .. "while true do s:find(('a'):rep(200000) .. 'b') end",
      ["in %q of long texts"] = "local s = ('\0'):rep(100000) while true do ('%q'):format(s) end",
      ["in a comparison of long texts"] = "local s = ('a'):rep(500000) local a, b = s .. '1', s .. '2' "
        .. "while a < b do end",
    }
    if not rawget(_G, "jit") then
      ways["in <close>"] = "local x <close> = setmetatable({}, { __close = function() " .. LOOP .. " end }) " .. LOOP
      ways["in <close> behind pcall"] = "while true do pcall(function() local x <close> = setmetatable({}, "
        .. "{ __close = function() " .. LOOP .. " end }) " .. LOOP .. " end) end"
    end
    for name, body in pairs(ways) do
      it(name, function() stopped(nil, body) end)
    end

    it("and names what ran out", function()
      stopped("instructions", LOOP)
      stopped("instructions", "while true do pcall(function() " .. LOOP .. " end) end")
      stopped("calls", "local function f() return 1 + f() end return f()")
      stopped("time", LOOP, { limits = { instructions = 1e14, seconds = 0.05 } })
      stopped("memory", "local t = {} for i = 1, 1e9 do t[i] = 'x' .. i end",
        { limits = { memory = 2 * 1024 * 1024, instructions = 1e9, seconds = 10 } })
    end)

    it("and not what stood still with all of the machine", function()
      local folder = support.tmpdir()
      local script = support.write_file(folder .. "/still.lua", [[
        local box = assert(require("longshore.policy.sandbox").new { name = "p", limits = { instructions = 1e12,
          seconds = 2 }, text = "return { before_sign = function() for _ = 1, 2e7 do end return { v = 1 } end }" })
        local pid = require("luv").os_getpid()
        os.execute(("(sleep 0.05; kill -STOP %d; sleep 2.5; kill -CONT %d) &"):format(pid, pid))
        print(tostring(box:call("before_sign", {}, {})))]])
      local code, out = support.run(("%s %s"):format(support.lua, support.quote(script)))
      support.cleanup()
      assert.same({ 0, "true\n" }, { code, out })
    end)

    it("that eats memory, caught or not", function()
      local limits = { memory = 2 * 1024 * 1024, instructions = 2000000, seconds = 2 }
      for _, body in ipairs { "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = {} end",
        "while true do pcall(function() local s = 'x' while true do s = s .. s end end) end" } do
        stopped(nil, body, { limits = limits })
      end
      local box = hook("kept = kept or {} kept[#kept + 1] = ('x'):rep(100000) .. #kept return #kept",
        { limits = limits })
      local ok
      for _ = 1, 100 do ok = ok ~= nil and box:call("before_sign", {}, HOST) or nil end
      assert.is_nil(ok)
      assert.same({ true, 1 }, { box:call("before_sign", {}, HOST) }) -- a fresh state
    end)

    it("already while it is loaded", function()
      local box, err = new(LOOP .. " return {}")
      assert.is_nil(box)
      assert.equal("instructions", err.code)
      assert.is_nil((new "this is not Lua"))
      assert.is_nil((new "return 7"))
      assert.is_nil((new "return { before_sign = 7 }"))
    end)

    it("and refuses finalizers, which no hook could stop, and weak tables, which keep the collector busy", function()
      for _, name in ipairs { "__gc", "__mode" } do
        local body = ("setmetatable({}, { %s = 'k' })"):format(name)
        assert.truthy(stopped("error", body).message:find(name, 1, true))
        -- Nor when they come later.
        assert.same({ true, 1 }, { call(([[local mt = {}
          local t = setmetatable({}, mt)
          mt.%s = %s
          t = nil
          for i = 1, 20000 do local s = "x" .. i end
          return 1]]):format(name, name == "__gc" and "function() while true do end end" or "'k'")) })
      end
    end)

    it("while it is parsed", function()
      for _, text in ipairs { "local a = x return a" .. (" or a"):rep(200000),
        "local a if a then a = 1 " .. ("elseif a then "):rep(70000) .. " end return {}" } do
        local started = core.monotonic()
        local box, err = new(text)
        assert.is_nil(box)
        assert.truthy(err.code == "time" or err.code == "error", err.code)
        assert.is_true(core.monotonic() - started < 20, "took too long")
      end
    end)

    it("that waits for its host without an end", function()
      local box = new [[return { before_sign = function(_, host)
        for i = 1, 500 do pcall(host.boom) end
      end }]]
      box.limits = { waiting = 0.2 }
      local started = core.monotonic()
      local ok, err = box:call("before_sign", {}, { boom = function() core.sleep(0.05) end })
      assert.is_nil(ok)
      assert.equal("time", err.code)
      assert.is_true(core.monotonic() - started < 20)
    end)

    it("and harms nothing else: the next call has a fresh state, the host is as before", function()
      local box = hook("n = (n or 0) + 1 if context.run then while true do end end return n")
      assert.same({ true, 1 }, { box:call("before_sign", {}, HOST) })
      assert.same({ true, 2 }, { box:call("before_sign", {}, HOST) })
      assert.is_nil((box:call("before_sign", { run = true }, HOST)))
      assert.same({ true, 1 }, { box:call("before_sign", {}, HOST) })
      local n = 0
      for i = 1, 1e6 do n = n + i end -- no hook of the sandbox counts here
      assert.equal(500000500000, n)
    end)

    it("and begins anew after each kind of stop", function()
      for _, body in ipairs { "while true do end", "while true do host.now() end",
        "local function f() return 1 + f() end f()", "local t = {} while true do t[#t + 1] = {} end" } do
        local box = hook("n = (n or 0) + 1 if context.run then " .. body .. " end return n")
        assert.same({ true, 1 }, { box:call("before_sign", {}, HOST) })
        assert.is_nil((box:call("before_sign", { run = true }, HOST)))
        assert.same({ true, 1 }, { box:call("before_sign", {}, HOST) }, body)
      end
    end)

    it("and an error is only an error: the state stays", function()
      local box = hook("n = (n or 0) + 1 if n == 2 then error('odd') end return n")
      assert.same({ true, 1 }, { box:call("before_sign", {}, HOST) })
      assert.equal("error", select(2, box:call("before_sign", {}, HOST)).code)
      assert.same({ true, 3 }, { box:call("before_sign", {}, HOST) })
    end)
  end)

  it("has metatables as they are elsewhere", function()
    assert.same({ true, "8 C x C nil 7" }, { call [[
      local Class = { __tostring = function(self) return "C" end, __call = function(_, n) return n + 1 end }
      Class.__index = Class
      function Class.name() return "x" end
      local one = setmetatable({}, Class)
      function Class.later() return tostring(setmetatable({}, getmetatable(one))) end
      local bare = setmetatable(setmetatable({}, Class), nil)
      assert(getmetatable(one) == Class and getmetatable(bare) == nil)
      local closed = setmetatable({}, { __metatable = "no" })
      assert(getmetatable(closed) == "no" and not pcall(setmetatable, closed, {}))
      return table.concat({ one(7), tostring(one), one.name(), one.later(), tostring(bare.name),
        setmetatable({}, { __index = function(_, k) return k end })[7] }, " ")
    ]] })
  end)

  it("sorts as elsewhere", function()
    local list = {}
    for i = 1, 500 do list[i] = (i * 7919) % 263 end
    local sorted = { (table.unpack or unpack)(list) } -- luacheck: ignore
    table.sort(sorted)
    assert.same({ true, sorted }, { call("table.sort(context.list) return context.list", { list = list }) })
    table.sort(sorted, function(a, b) return a > b end)
    assert.same({ true, sorted }, { call("table.sort(context.list, function(a, b) return a > b end) "
      .. "return context.list", { list = list }) })
    assert.same({ true, { "a", "b" } }, { call("local t = { 'b', 'a' } table.sort(t) return t") })
    assert.same({ true, {} }, { call("local t = {} table.sort(t) return t") })
    stopped("error", "table.sort { 1, 'x' }")
    stopped("error", "table.sort({ 2, 1 }, 7)")
  end)

  it("asks its host within pcall, and many times", function()
    assert.same({ true, 420 },
      { call "local n = 0 for _ = 1, 10 do pcall(function() n = n + host.now() end) end return n" })
  end)

  it("harms no call that waits in its host meanwhile, and begins anew for the next", function()
    local body = [[n = (n or 0) + 1
      if context.run then %s end
      local before = n
      host.echo("wait")
      return { before, n }]]
    for _, way in ipairs { "while true do end", "while true do host.now() end",
      "pcall(function() while true do end end) host.now()", "local function f() return 1 + f() end f()",
      "local s = 'x' while true do s = s .. s end" } do
      local box = hook((body:gsub("%%s", function() return way end)))
      local values = {}
      local function inner() return box:call("before_sign", { run = true }, HOST) end
      local ok, value = box:call("before_sign", {}, { echo = function()
        for i = 1, 2 do
          local done, err = inner()
          assert.is_nil(done, way)
          values[i] = err.code
        end
        return "x"
      end })
      assert.is_true(ok, way .. ": " .. tostring(value))
      assert.equal(1, value[1])
      assert.are_not.equal("error", values[1])
      assert.same({ true, { 1, 1 } }, { box:call("before_sign", {}, HOST) }, way)
    end
  end)

  it("may wait in its host while another call runs", function()
    local box = hook "return host.echo(context.name)"
    local seen = {}
    local ok, value = box:call("before_sign", { name = "outer" }, { echo = function(name)
      seen[#seen + 1] = select(2, box:call("before_sign", { name = "inner" }, HOST))
      return name
    end })
    assert.same({ true, "outer" }, { ok, value })
    assert.same({ "inner" }, seen)
  end)
end)

describe("the sandbox of the core", function()
  it("names a limit that is none", function()
    for _, bad in ipairs { { memory = 1 }, { instructions = 0 }, { seconds = 0 }, { colour = 1 } } do
      bad.text = "return function() end"
      assert.has_error(function() core.sandbox(bad) end)
    end
    assert.has_error(function() core.sandbox {} end)
  end)

  it("is closed once and for all", function()
    local box = assert(core.sandbox { text = "return function(...) return ... end" })
    assert.same({ "done", 1, nil, "x" }, { box:run(nil, 1, nil, "x") })
    assert.is_true(box:memory() > 0)
    box:close()
    box:close()
    assert.has_error(function() box:run(nil) end)
  end)

  it("lets those end that wait when another is stopped, and then closes", function()
    local box = assert(core.sandbox { text = [[return function(what)
      if what == "run" then while true do end end
      return coroutine.yield(what)
    end]], instructions = 10000 })
    local ids = {}
    for i = 1, 3 do ids[i] = select(2, box:run(nil, "wait")) end
    for _ = 1, 2 do assert.equal("instructions", select(2, box:run(nil, "run")).code) end
    assert.same({ "done", 7 }, { box:run(ids[1], 7) })
    box:drop(ids[2])
    assert.has_error(function() box:drop(ids[2]) end)
    assert.is_nil((box:run(ids[2], 7)))
    assert.same({ "done", 8 }, { box:run(ids[3], 8) })
    assert.has_error(function() box:run(nil, "wait") end) -- closed
    local other = assert(core.sandbox { text = "return function(...) return coroutine.yield(...) end" })
    other:drop(select(2, other:run(nil, 1)))
    assert.has_error(function() other:run(nil) end)
  end)

  it("goes on only with what is waiting", function()
    local box = assert(core.sandbox { text = "return function() return coroutine.yield('q') end" })
    local kind, id, question = box:run(nil)
    assert.same({ "ask", "q" }, { kind, question })
    assert.same({ "done", 7 }, { box:run(id, 7) })
    for _, none in ipairs { id, 1, 2, 99 } do
      local ok, err = box:run(none, 7)
      assert.is_nil(ok)
      assert.equal("error", err.code)
    end
    assert.has_error(function() box:run("x") end)
  end)

  it("begins each run anew, whatever became of those before and of those that wait", function()
    local box = assert(core.sandbox { instructions = 10000, text = [[
    local function down(n) return n == 0 and 0 or 1 + down(n - 1) end
    return function(what, n, ...)
      assert(select("#", ...) == 0)
      if what == "wait" then return coroutine.yield(n) + n end
      if what == "deep" then return down(n) end
      for _ = 1, n do end
      if what == "fail" then error("no") end
      return what, n
    end]] })
    for i = 1, 20 do
      -- (More than half of the instructions each.)
      assert.same({ "done", "count", 5000 + i }, { box:run(nil, "count", 5000 + i) })
      local _, id, asked = box:run(nil, "wait", i)
      assert.equal(i, asked)
      assert.same({ "done", "count", i }, { box:run(nil, "count", i) })
      assert.is_nil((box:run(nil, "fail", i)))
      local _, other = box:run(nil, "wait", i)
      assert.not_equal(id, other)
      assert.same({ "done", 2 * i }, { box:run(id, i) })
      assert.has_error(function() box:drop(id) end)
      assert.same({ "done", 200 }, { box:run(nil, "deep", 200) })
      assert.same({ "done", 3 * i }, { box:run(other, 2 * i) })
    end
  end)

  -- LuaJIT's own functions and its calls do not survive an allocation that fails: they write
  -- behind the end of the stack, or over what is alive.
  it("stops what needs more memory than there is, wherever it needs it", function()
    local names = {}
    for i = 1, 180 do names[i] = "a" .. i end
    local box
    for seed = 0, 9 do
      for _, need in ipairs { "f(300) .. big .. n", "big .. n", "big:rep(20)",
        "('abc'):upper() .. string.char(65 + n % 9)", "(big .. n):sub(2)",
        "(big .. n):upper()", "tostring(n + 0.5) .. tostring(-n)",
        "{ n, n }", "table.concat({ big, n })" } do
        box = assert(core.sandbox { memory = 600 * 1024 + seed * 8, instructions = 1e9, seconds = 60,
          text = ([[local held, n, big = {}, 0, ("x"):rep(30000)
            local function f(n) if n == 0 then return 0 end local %s = n local b = f(n - 1) + 1 return b, a1 end
            local function fill() while true do n = n + 1 held[#held + 1] = %s end end
            return function()
              for i = 1, 20 do pcall(fill) end
              return "not stopped"
            end]]):format(table.concat(names, ", "), need) })
        local ok, err = box:run(nil)
        if rawget(_G, "jit") then
          assert.same({ nil, "memory" }, { ok, type(err) == "table" and err.code or err })
        end
        box:close()
      end
    end
  end)

  it("runs a thousand times and more without growing", function()
    local box = assert(core.sandbox { text = "return function(t) return { t } end", memory = 1024 * 1024 })
    for _ = 1, 20000 do assert.equal("done", (box:run(nil, { a = { 1, 2, 3 } }))) end
    assert.is_true(box:memory() < 1024 * 1024)
  end)
end)

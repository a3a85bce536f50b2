-- The ready-made rules where sizes, names, types and addresses are odd, or just at the limit; and options that could
-- only fail later, named when the policy loads.
local chain = require "longshore.policy.chain"
local rules = require "longshore.policy.rules"
local support = require "spec.support"
local worlds = require "spec.support.broker"

describe("policy: a rule at its edges", function()
  local START = "before_initiate"

  local function ask(rule, hook, context)
    local broken
    local asked = chain.new({ rules.chain { rule } }, function(_, _, fields) broken = fields.reason end)
    asked = asked:attach(function() return { now = function() return 1767614400 end } end)
    local all = { actor = worlds.actor(), service = "newton", filename = "a.bin", content_type = "video/mp4",
      size = 100, file_id = "fil_1", upload_id = "upl_1" }
    for name, value in pairs(context) do all[name] = value end
    local decision, err = asked:decide(hook, all)
    assert.is_nil(broken, broken)
    return decision, err
  end

  it("size: says sizes apart that are one byte apart", function()
    for limit, words in pairs { [1048576] = "1048577 bytes; at most 1048576 are",
      [100] = "101 bytes; at most 100 bytes", [5 * 1073741824] = "5368709121 bytes; at most 5368709120" } do
      local rule = rules.size { max = limit }
      assert(ask(rule, START, { size = limit }))
      for _, hook in ipairs { START, "before_complete" } do
        local _, err = ask(rule, hook, { size = limit + 1 })
        assert.truthy(err.message:find(words:match("^%S+ bytes"), 1, true), err.message)
        assert.truthy(err.message:find(words:match("; (.*)"), 1, true), err.message)
      end
    end
    local _, err = ask(rules.size { min = 1048576 }, START, { size = 1048575 })
    assert.truthy(err.message:find("1024 KiB; at least 1 MiB", 1, true) or err.message:find("1048575", 1, true))
    _, err = ask(rules.size { max = 1048576 }, START, { size = 3 * 1048576 })
    assert.truthy(err.message:find("3 MiB; at most 1 MiB", 1, true))
  end)

  it("size: at least so much, of what nobody announced, too", function()
    local rule = rules.size { min = 1 }
    assert(ask(rule, "before_complete", { size = 1 }))
    local _, err = ask(rule, "before_complete", { size = 0 })
    assert.same({ "invalid", "size" }, { err.code, err.field })
  end)

  it("extensions: what is behind the last dot must be allowed, however it is written", function()
    local rule = rules.extensions { allow = { "jpg", "gz" } }
    for _, good in ipairs { "a.jpg", "a.JPG", "a.tar.gz", "a.jpg.", "a.jpg. ", "README", ".bashrc", "name.", "a.b/c",
      "a.exe/b.jpg", "a.exe\\b.jpg", "..", "" } do
      assert.truthy((ask(rule, START, { filename = good })), good)
    end
    for _, bad in ipairs { "a.php", "a.php ", "a.php.", "a.php . .", "a.php::$DATA", "a.\195\188", "a.jp g", "a.jpg;1",
      "a.jpg\194\160", "a.\239\189\138pg", "a.jpg.php", "x/a.php", "x\\a.php", ".a.php", "a.~", "a.jpg~" } do
      local _, err = ask(rule, START, { filename = bad })
      assert.equal("unsupported", err and err.code, bad)
    end
  end)

  it("extensions: none of a name may be denied, with nothing behind it", function()
    local rule = rules.extensions { deny = { "php", "htaccess" } }
    for _, good in ipairs { "php", "a.php5", "a.phpx.txt", "x.php/a.txt", "a.txt" } do
      assert.truthy((ask(rule, START, { filename = good })), good)
    end
    for _, bad in ipairs { "a.php", "a.PhP", "a.php.", "a.php ", "a.php. .", "a.php.jpg", "a.php;.jpg", "a.php::$DATA",
      "a.php\194\160", ".php", ".htaccess", ".htaccess.txt", "x/a.php" } do
      local _, err = ask(rule, START, { filename = bad })
      assert.equal("unsupported", err and err.code, bad)
    end
  end)

  it("types: a file that says none", function()
    local _, err = ask(rules.types { allow = { "image/*" } }, START, { content_type = "" })
    assert.same({ "unsupported", "files must say their type" }, { err.code, err.message })
  end)

  it("addresses: a network of IPv6 has nothing of IPv4, and an address in IPv6's form is IPv4", function()
    local function from(options, address)
      return (ask(rules.addresses(options), "authorize",
        { actor = worlds.actor { client = { address = address } } })) ~= nil
    end
    for _, case in ipairs {
      { { allow = { "::/0" } }, "10.1.2.3", false }, { { deny = { "::/0" } }, "10.1.2.3", true },
      { { deny = { "::/0" } }, "2001:db8::1", false }, { { deny = { "::/0" } }, "::ffff:10.1.2.3", true },
      { { deny = { "0.0.0.0/0" } }, "::ffff:10.1.2.3", false }, { { deny = { "0.0.0.0/0" } }, "::1", true },
      { { allow = { "10.0.0.0/8" } }, "::ffff:a01:203", true },
      { { allow = { "::ffff:10.0.0.0/104" } }, "10.1.2.3", true },
      { { deny = { "fe80::/10" } }, "fe80::1%eth0", false }, { { allow = { "fe80::/10" } }, "fe80::1%eth0", true },
      { { allow = { "10.0.0.0/31" } }, "10.0.0.1", true }, { { allow = { "10.0.0.0/31" } }, "10.0.0.2", false },
      { { allow = { "2001:db8::/33" } }, "2001:db8:8000::", false }, { { allow = { "::" } }, "::", true },
      { { allow = { "0.0.0.0/0" } }, "unix:", false }, { { deny = { "0.0.0.0/0", "::/0" } }, "unix:", true },
    } do
      assert.equal(case[3], from(case[1], case[2]), (case[1].allow or case[1].deny)[1] .. " " .. case[2])
    end
    for _, bad in ipairs { "1::2::3", ":::", "fe80::12345", "1:::2", "::g", "1:2:3:4:5:6:7" } do
      assert.has_error(function() rules.addresses { allow = { bad } } end)
    end
  end)

  it("expiry: never longer than the contract allows", function()
    local decision = assert(ask(rules.expiry { upload = 10, per_gib = 1e9, max = 1e9 }, START, { size = 2 ^ 31 }))
    assert.equal(315360000, decision.upload_seconds)
    assert.equal(604800, assert(ask(rules.expiry { url = 1e9 }, "before_sign", {})).url_seconds)
    assert.equal(1, assert(ask(rules.expiry { upload = 0.4 }, START, {})).upload_seconds)
  end)

  it("rate: two of them count apart, unless they have one name", function()
    local function started(names)
      local w = worlds.new { rules = { rules.chain { rules.rate { limit = 5, seconds = 60, name = names },
        rules.rate { limit = 20, seconds = 3600, name = names } } } }
      local count = 0
      for i = 1, 40 do
        if i % 10 == 1 then w.clock.advance(61) end
        if w:initiate("x", { filename = "f" .. i }) then count = count + 1 end
      end
      support.cleanup()
      return count
    end
    assert.equal(20, started())
    assert.is_true(started "one" < 20)
  end)

  it("metadata: texts have a least length, too", function()
    local rule = rules.metadata { fields = { a = { min = 2, max = 3 } } }
    for value, good in pairs { a = false, ab = true, abc = true, abcd = false, ["\195\188"] = true } do
      assert.equal(good, (ask(rule, START, { metadata = { a = value } })) ~= nil, value)
    end
  end)

  it("names options that could only fail later", function()
    local ten, eleven = {}, {}
    for i = 1, 11 do
      eleven["t" .. i] = "v"
      if i > 1 then ten["t" .. i] = "v" end
    end
    for part, make in pairs {
      ["at most 10 tags"] = function() rules.tags { set = eleven } end,
      ["10 tags"] = function() rules.tags { set = ten, actor = { "user" } } end,
      ["letters"] = function() rules.tags { set = { a = ("x"):rep(257) } } end,
      ["name of a tag"] = function() rules.tags { metadata = { "a!" } } end,
      ["cannot be"] = function() rules.tags { set = { [""] = "x" } } end,
      ["1 to 36500"] = function() rules.lock { days = 36501 } end,
      ["class"] = function() rules.storage_class { { class = "A\nB" } } end,
      ["no type"] = function() rules.storage_class { { class = "A", type = "video" } } end,
      ["acme: the name of a key"] = function() rules.encryption { keys = { acme = 5 } } end,
      ["key: the name"] = function() rules.encryption { key = "" } end,
      ["too long"] = function() rules.key(("a"):rep(1000) .. "/{file_id}") end,
      ["of texts only"] = function() rules.metadata { fields = { a = { type = "number", pattern = "%d" } } } end,
      ["min is more"] = function() rules.metadata { fields = { a = { min = 2, max = 1 } } } end,
      ["one_of: a list"] = function() rules.metadata { fields = { a = { one_of = {} } } } end,
    } do
      local ok, why = pcall(make)
      assert.is_false(ok, part)
      assert.truthy(tostring(why):find(part, 1, true), part .. ": " .. tostring(why))
      assert.truthy(tostring(why):find("rules_edges_spec.lua:", 1, true), why) -- the line of the mistake
    end
  end)
end)

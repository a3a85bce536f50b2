-- Each ready-made rule by itself, outside of the sandbox; that they run inside it too
-- is in spec/examples.
local chain = require "longshore.policy.chain"
local rules = require "longshore.policy.rules"
local dates = require "longshore.dates"
local support = require "spec.support"
local util = require "longshore.policy.rules.util"
local worlds = require "spec.support.broker"

local NOON = 1767614400 -- Monday, 2026-01-05 12:00 UTC

-- Seconds east of Greenwich of many moments, by the C library's reading of the same text.
local function by_the_c_library(zone, moments)
  local _, out = support.run(("printf '@%%s\\n' %s | TZ=%s date -f - +%%z"):format(table.concat(moments, " "),
    support.quote(zone)))
  local list = {}
  for sign, h, m in out:gmatch("([+-])(%d%d)(%d%d)") do
    list[#list + 1] = (h * 3600 + m * 60) * (sign == "-" and -1 or 1)
  end
  return list
end

describe("policy: rules", function()
  local now, broken
  before_each(function() now, broken = NOON, nil end)

  -- Asks one rule; the decision, or nil, err.
  local function ask(rule, hook, context, host)
    local asked = chain.new({ rules.chain { rule } }, function(_, _, fields) broken = fields.reason end)
    asked = asked:attach(function()
      local functions = { now = function() return now end, word = require("longshore.policy.keys").word,
        log = function() end }
      for name, fn in pairs(host or {}) do functions[name] = fn end
      return functions
    end)
    local all = { actor = worlds.actor { client = { address = "10.1.2.3", agent = "curl/8" } }, service = "newton",
      filename = "a.bin", content_type = "video/mp4", size = 100, file_id = "fil_1", upload_id = "upl_1",
      upload = { content_type = "image/png", size = 100, filename = "a.png", file_id = "fil_1" } }
    for k, v in pairs(context or {}) do
      if v == "none" then all[k] = nil else all[k] = v end
    end
    local decision, err = asked:decide(hook, all)
    assert.is_nil(broken, broken)
    return decision, err
  end

  local function allowed(...) return (assert(ask(...))) end

  local function refused(code, ...)
    local decision, err = ask(...)
    assert.is_nil(decision)
    assert.equal(code, err.code)
    return err
  end

  local START = "before_initiate"

  it("size: at most, at least, announced, and what arrived", function()
    local rule = rules.size { max = 100, min = 10, announced = true }
    allowed(rule, START)
    allowed(rule, START, { size = 10 })
    assert.equal("size", refused("too_large", rule, START, { size = 101 }).field)
    refused("invalid", rule, START, { size = 9 })
    refused("invalid", rule, START, { size = "none" })
    allowed(rules.size { max = 1 }, START, { size = "none" })
    refused("too_large", rule, "before_complete", { size = 101 })
    allowed(rule, "before_complete", { size = 100 })
  end)

  it("quota and count: hand limits to the store, added up", function()
    local decision = allowed(rules.chain { rules.quota { user = { bytes = 5, running = 2 } },
      rules.count { organization = 7 } }, START)
    assert.same({ { scope = "user", bytes = 5, running = 2 }, { scope = "organization", files = 7 } }, decision.quotas)
    assert.equal(5, allowed(rules.quota { user = { bytes = 5 } }, START, { size = "none" }).quotas[1].bytes)
    allowed(rules.count { user = 5 }, START, { size = "none" })
  end)

  it("rate: counts by user, organization, address or all", function()
    local taken
    local function take(request)
      taken = request
      return 0
    end
    for by, key in pairs { user = "user\ndefault\nacme\nann", organization = "organization\ndefault\nacme",
      address = "address\n10.1.2.3", all = "all\n" } do
      allowed(rules.rate { limit = 3, seconds = 9, by = by }, START, nil, { take = take })
      assert.same({ name = START .. " 3 9", key = key, limit = 3, seconds = 9 }, taken)
    end
    local err = refused("rate_limited", rules.rate { limit = 3 }, START, nil, { take = function() return 4.2 end })
    assert.equal(4.2, err.retry_after)
    assert.equal(429, err.status)
    allowed(rules.rate { limit = 3, hook = "before_download" }, START)
  end)

  it("expiry: by size and by client", function()
    local rule = rules.expiry { upload = 100, per_gib = 50, max = 220, url = 60, download = 30,
      clients = { { agent = "curl/", url = 5 }, { agent = "slow", upload = 1000 } } }
    assert.equal(200, allowed(rule, START, { size = 2 * 1073741824 }).upload_seconds)
    assert.equal(220, allowed(rule, START, { size = 9 * 1073741824 }).upload_seconds)
    assert.equal(5, allowed(rule, "before_sign").url_seconds)
    local slow = worlds.actor { client = { agent = "slow/1" } }
    assert.equal(60, allowed(rule, "before_sign", { actor = slow }).url_seconds)
    assert.equal(220, allowed(rule, START, { actor = slow }).upload_seconds)
    assert.equal(60, allowed(rule, "before_sign", { actor = "none" }).url_seconds)
    assert.equal(30, allowed(rule, "before_download").url_seconds)
  end)

  it("hours: of the day and the week, in a zone, over midnight", function()
    local function at(rule, time, extra)
      now = time
      return (ask(rule, START, extra)) ~= nil
    end
    local office = rules.hours { from = "08:00", to = "18:00" }
    assert.is_true(at(office, NOON))
    assert.is_true(at(office, NOON - 4 * 3600))
    assert.is_false(at(office, NOON - 4 * 3600 - 1))
    assert.is_false(at(office, NOON + 6 * 3600))
    assert.is_false(at(office, NOON - 86400)) -- Sunday
    assert.is_true(at(office, NOON - 86400, { resume = true }))
    local east = rules.hours { from = "08:00", to = "18:00", zone = "+09:00" }
    assert.is_false(at(east, NOON))
    assert.is_true(at(east, NOON - 4 * 3600))
    local night = rules.hours { from = "22:00", to = "06:00", days = { "mon" } }
    assert.is_true(at(night, NOON + 11 * 3600))
    assert.is_true(at(night, NOON + 17 * 3600))  -- Tuesday morning, of Monday's night
    assert.is_false(at(night, NOON - 7 * 3600))  -- Monday morning, of Sunday's
  end)

  it("hours: in a zone with summer time, as POSIX writes it", function()
    for _, zone in ipairs { "CET-1CEST,M3.5.0,M10.5.0/3", "EST5EDT,M3.2.0,M11.1.0", "AEST-10AEDT,M10.1.0,M4.1.0/3",
      "IST-5:30", "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "WET0WEST,M3.5.0/1,M10.5.0" } do
      local offset, moments = util.offset(zone), {}
      for at = 1767225600, 1767225600 + 2 * 366 * 86400, 9 * 1800 do moments[#moments + 1] = at end
      local expected = by_the_c_library(zone, moments)
      assert.equal(#moments, #expected)
      for i, at in ipairs(moments) do assert.equal(expected[i], offset(at), ("%s at %d"):format(zone, at)) end
    end
    local rule = rules.hours { from = "08:00", to = "18:00", zone = "CET-1CEST,M3.5.0,M10.5.0/3" }
    for at, open in pairs { ["2026-03-27T06:59:59Z"] = false, ["2026-03-27T07:00:00Z"] = true, -- Friday, winter
      ["2026-03-30T05:59:59Z"] = false, ["2026-03-30T06:00:00Z"] = true,                       -- Monday, summer
      ["2026-10-23T15:59:59Z"] = true, ["2026-10-23T16:00:00Z"] = false,                       -- Friday, summer
      ["2026-10-26T16:59:59Z"] = true, ["2026-10-26T17:00:00Z"] = false } do                   -- Monday, winter
      now = dates.parse_time(at)
      assert.equal(open, (ask(rule, START)) ~= nil, at)
    end
    for _, bad in ipairs { "Europe/Berlin", "+25:00", "+01:75", "CET", "CET-1CEST", "CET-1CEST,M13.5.0,M10.5.0",
      "CET-1CEST,M3.6.0,M10.5.0", "CET-1CEST,M3.5.7,M10.5.0", "CET-1CEST,J60,J300", "", "CET-99" } do
      assert.has_error(function() rules.hours { zone = bad } end)
    end
    for _, bad in ipairs { "24:01", "25:00", "8", "08:60", "-1:00" } do
      assert.has_error(function() rules.hours { from = bad } end)
    end
  end)

  it("hours: to the end of the day, around the clock", function()
    local late = rules.hours { from = "20:00", to = "24:00", days = { "mon" } }
    now = NOON + 12 * 3600 - 1
    assert.is_truthy((ask(late, START)))
    now = NOON + 12 * 3600 -- Tuesday begins
    assert.is_nil((ask(late, START)))
    local whole = rules.hours { from = "00:00", to = "24:00", days = { "mon" } }
    now = NOON - 12 * 3600
    assert.is_truthy((ask(whole, START)))
  end)

  it("types: exact, by kind, whatever their parameters and case", function()
    local rule = rules.types { allow = { "video/*", "Image/PNG" }, deny = { "video/x-evil" } }
    for _, good in ipairs { "video/mp4", "VIDEO/MP4; codecs=x", "image/png" } do
      allowed(rule, START, { content_type = good })
    end
    for _, bad in ipairs { "image/jpeg", "video/x-evil", "videos/mp4", "application/video/mp4" } do
      assert.equal(415, refused("unsupported", rule, START, { content_type = bad }).status)
    end
  end)

  it("extensions: the last is asked for, none may be denied", function()
    local rule = rules.extensions { allow = { "jpg", "tar", "gz" }, deny = { "php" }, none = false }
    for _, good in ipairs { "a.jpg", "A.JPG", "a.b.jpg", "x.tar.gz", "dir.php5/a.jpg" } do
      allowed(rule, START, { filename = good })
    end
    for _, bad in ipairs { "a.png", "a", "a.php", "a.php.jpg", "a.PHP.jpg", "a." } do
      refused("unsupported", rule, START, { filename = bad })
    end
    allowed(rules.extensions { deny = { "php" } }, START, { filename = "README" })
    -- A name is what a client says; where it names the key, that is what others see.
    for _, key in ipairs { "x/evil.php", "evil.php.jpg", "x/noextension" } do
      refused("unsupported", rule, START, { filename = "a.jpg", client_key = key })
    end
    allowed(rule, START, { filename = "a.jpg", client_key = "x/b.jpg" })
  end)

  it("magic: looks at what arrived", function()
    local function check(options, content_type, head)
      return ask(rules.magic(options), "before_register", { upload = { content_type = content_type } },
        { head = function() return head end })
    end
    for content_type, head in pairs { ["image/png"] = "\137PNG\r\n\26\n", ["image/jpeg; q=1"] = "\255\216\255\224",
      ["image/webp"] = "RIFF....WEBP", ["video/mp4"] = "....ftypisom",
      ["application/x-tar"] = ("\0"):rep(257) .. "ustar",
      ["text/plain"] = "anything", ["application/pdf"] = "%PDF-1.4" } do
      assert(check(nil, content_type, head))
    end
    assert.equal("integrity", select(2, check(nil, "image/png", "\255\216\255")).code)
    assert.equal("integrity", select(2, check(nil, "image/png", "")).code)
    assert.equal("unsupported", select(2, check(nil, "text/plain", "\127ELF...")).code)
    assert(check({ programs = true }, "text/plain", "\127ELF..."))
    assert.equal("unsupported", select(2, check({ strict = true }, "text/plain", "x")).code)
    local err = refused("unavailable", rules.magic(), "before_register", nil,
      { head = function() return nil, { code = "network", message = "away" } end })
    assert.is_true(err.retryable)
  end)

  it("antivirus: clean, infected, away, too large", function()
    local asked
    local function check(options, answer, context)
      options.url = "https://av.example/scan"
      return ask(rules.antivirus(options), "before_register", context, {
        url = function() return "https://store/x?sig" end,
        fetch = function(request)
          asked = request
          return answer, answer == nil and { code = "network", message = "away" } or nil
        end,
      })
    end
    assert(check({}, { status = 200, json = { clean = true } }))
    assert.equal("https://store/x?sig", asked.json.url)
    assert.equal("fil_1", asked.json.file_id)
    local _, err = check({}, { status = 200, json = { clean = false, reason = "EICAR" } })
    assert.equal("integrity", err.code)
    assert.equal("infected", err.reason)
    assert.truthy(err.message:find("EICAR", 1, true))
    for _, answer in ipairs { { status = 500 }, { status = 200 }, { status = 200, json = { clean = "yes" } },
      { status = 200, json = {} }, { status = 404, json = { clean = true } } } do
      _, err = check({}, answer)
      assert.is_true(err.retryable)
    end
    assert.is_true(select(2, check({}, nil)).retryable)
    assert.equal("too_large", select(2, check({ max_size = 10 }, nil)).code)
    assert(check({ max_size = 10, larger = "allow" }, nil))
  end)

  it("key: a template of safe words", function()
    local rule = rules.key "{organization}/{year}/{month}/{day}/{user}-{file_id}.{extension}"
    assert.equal("acme/2026/01/05/ann-fil_1.bin", allowed(rule, START).key)
    assert.equal("acme/2026/01/05/ann-fil_1.jpeg", allowed(rule, START, { filename = "x.JPEG" }).key)
    for _, filename in ipairs { "x.a/b", "x.ü", "x", "x." .. ("y"):rep(40), "../../x.%2e" } do
      assert.truthy(allowed(rule, START, { filename = filename }).key:find("^acme/2026/01/05/ann%-fil_1%.%w+$"))
    end
    local key = allowed(rule, START, { actor = worlds.actor { organization = "../etc", user = "a/b" } }).key
    assert.truthy(key:find("^_%x+/2026/01/05/_%x+%-fil_1%.bin$"), key)
    assert.is_nil(allowed(rule, START, { client_key = "k" }).key) -- the client's own stands
    assert.has_error(function() rules.key "{organization}/{name}" end)
    assert.has_error(function() rules.key "{organization}/x" end)
  end)

  it("bucket: by tenant, or refused", function()
    local rule = rules.bucket { buckets = { default = "one" } }
    assert.equal("one", allowed(rule, START).provider)
    refused("forbidden", rule, START, { actor = worlds.actor { tenant = "t" } })
    assert.equal("two", allowed(rules.bucket { by = "user", buckets = {}, otherwise = "two" }, START).provider)
    assert.is_nil(allowed(rule, START, { client_key = "k" }).provider) -- the client's own stands
    refused("forbidden", rule, START, { actor = worlds.actor { tenant = "t" }, client_key = "k" })
  end)

  it("overwrite: the four modes", function()
    assert.equal("replace", allowed(rules.overwrite "replace", START).if_exists)
    assert.equal("refuse", allowed(rules.overwrite "keep", START).if_exists)
    assert.equal("keep", allowed(rules.overwrite "new-key", START).if_exists)
    local rule = rules.overwrite "if-match"
    local there = { find = function() return { id = "fil_9", etag = "abc" } end }
    local nothing = { find = function() return nil, { code = "not_found" } end }
    assert.equal("refuse", allowed(rule, START, nil, nothing).if_exists)
    local decision = allowed(rule, START, { metadata = { if_match = '"abc"' } }, there)
    assert.equal("replace", decision.if_exists)
    assert.equal("fil_9", decision.replaces)
    assert.equal(412, refused("conflict", rule, START, { metadata = { if_match = "abd" } }, there).status)
    refused("conflict", rule, START, nil, there)
  end)

  it("addresses: networks of both kinds", function()
    local rule = rules.addresses { allow = { "10.0.0.0/8", "192.0.2.7", "2001:db8::/33", "::1" },
      deny = { "10.9.0.0/16" } }
    local function from(address)
      return (ask(rule, "authorize", { actor = worlds.actor { client = { address = address } } })) ~= nil
    end
    for _, good in ipairs { "10.0.0.1", "10.255.255.255", "192.0.2.7", "2001:db8::1", "2001:db8:7fff:ffff::", "::1",
      "0:0:0:0:0:0:0:1", "::ffff:10.0.0.1" } do
      assert.is_true(from(good), good)
    end
    for _, bad in ipairs { "11.0.0.1", "192.0.2.8", "10.9.1.1", "2001:db8:8000::", "::2", "", "x", "10.0.0",
      "10.0.0.256", "1:2:3:4:5:6:7:8:9", "::1::", "10.0.0.0/8" } do
      assert.is_false(from(bad), bad)
    end
    refused("forbidden", rule, "authorize", { actor = worlds.actor() })
    allowed(rules.addresses { deny = { "10.0.0.0/8" } }, "authorize", { actor = worlds.actor() })
    assert.has_error(function() rules.addresses { allow = { "10.0.0.0/33" } } end)
    assert.has_error(function() rules.addresses { allow = { "localhost" } } end)
  end)

  it("anonymous: only who shows no token", function()
    local rule = rules.anonymous { organization = "box", rights = { "upload" }, services = { "newton" } }
    local decision = allowed(rule, "authenticate", { actor = "none" })
    assert.same({ user = "anonymous", organization = "box", tenant = "default", rights = { upload = true } },
      decision.actor)
    assert.equal("ann", allowed(rule, "authenticate").actor.user)
    assert.is_nil(allowed(rule, "authenticate", { actor = "none", token = true }).actor)
    assert.is_nil(allowed(rule, "authenticate", { actor = "none", service = "athena" }).actor)
  end)

  it("forbid: what is listed", function()
    local rule = rules.forbid { delete = true, visibility = true }
    refused("forbidden", rule, "before_delete")
    refused("forbidden", rule, "before_visibility")
    allowed(rule, "before_download")
  end)

  it("by: one of several rules", function()
    local rule = rules.by(function(context) return context.actor.user end,
      { ann = rules.size { max = 10 },
        bob = rules.chain { rules.size { max = 1000 }, rules.types { allow = { "a/b" } } } })
    refused("too_large", rule, START)
    refused("unsupported", rule, START, { actor = worlds.actor { user = "bob" } })
    refused("forbidden", rule, START, { actor = worlds.actor { user = "eve" } })
  end)

  it("storage_class, encryption, lock: headers, joined", function()
    local both = rules.chain { rules.storage_class { { class = "GLACIER", larger_than = 50, type = "video/*" },
      { class = "STANDARD" } }, rules.encryption { key = "k1" }, rules.lock { days = 30, mode = "GOVERNANCE" } }
    assert.same({ ["x-amz-storage-class"] = "GLACIER", ["x-amz-server-side-encryption"] = "aws:kms",
      ["x-amz-server-side-encryption-aws-kms-key-id"] = "k1", ["x-amz-object-lock-mode"] = "GOVERNANCE",
      ["x-amz-object-lock-retain-until-date"] = "2026-02-04T12:00:00Z" }, allowed(both, START).headers)
    assert.equal("STANDARD", allowed(both, START, { size = 50 }).headers["x-amz-storage-class"])
    assert.equal("GLACIER", allowed(both, START, { content_type = "Video/MP4; codecs=x" })
      .headers["x-amz-storage-class"])
    for _, bad in ipairs { { days = 1, mode = "FOREVER" }, {}, { days = 0 }, { days = -1 } } do
      assert.has_error(function() rules.lock(bad) end)
    end
    refused("forbidden", rules.encryption { keys = { other = "k" } }, START)
  end)

  it("tags: fixed, of the metadata and of the actor", function()
    assert.same({ a = "1", project = "x", organization = "acme" }, allowed(rules.tags { set = { a = "1" },
      metadata = { "project", "missing" }, actor = { "organization" } }, START, { metadata = { project = "x" } }).tags)
  end)

  it("tags: a client's value that cannot be one is refused, a name is made to fit", function()
    local rule = rules.tags { metadata = { "project" }, actor = { "user" } }
    for _, bad in ipairs { "a&b", "ü", ("x"):rep(257), "a\nb" } do
      assert.equal("metadata.project", refused("invalid", rule, START, { metadata = { project = bad } }).field)
    end
    assert.same({ user = "M_ller_Co" }, allowed(rule, START,
      { actor = worlds.actor { user = "M\252ller&Co" }, metadata = {} }).tags)
    assert.has_error(function() rules.tags { actor = { "rights" } } end)
  end)

  it("metadata: a schema", function()
    local rule = rules.metadata { other = false, fields = {
      project = { required = true, pattern = "^%w+$", max = 8 }, count = { type = "integer", min = 1, max = 5 },
      kind = { one_of = { "a", "b" } }, yes = { type = "boolean" } } }
    allowed(rule, START, { metadata = { project = "x1", count = 3, kind = "b", yes = false } })
    allowed(rule, START, { resume = true })
    for field, metadata in pairs { project = {}, count = { project = "x", count = 1.5 },
      kind = { project = "x", kind = "c" }, yes = { project = "x", yes = "true" },
      more = { project = "x", more = 1 } } do
      assert.equal("metadata." .. field, refused("invalid", rule, START, { metadata = metadata }).field)
    end
    for _, bad in ipairs { "a b", "123456789", 5 } do
      refused("invalid", rule, START, { metadata = { project = bad } })
    end
    refused("invalid", rule, START, { metadata = { project = "x", count = 6 } })
  end)

  it("name a mistake in their options when they are made", function()
    for name, options in pairs { size = { maximum = 1 }, quota = { user = { byte = 1 } }, rate = {},
      types = { allow = "x" }, hours = { from = "8" }, expiry = { clients = { {} } }, antivirus = {}, anonymous = {},
      overwrite = "x", storage_class = {}, metadata = { field = {} }, bucket = { by = 1 } } do
      local ok, why = pcall(rules[name], options)
      assert.is_false(ok)
      assert.truthy(why:find("rules." .. name, 1, true), why)
    end
  end)

  it("a chain has after-hooks told all, and fails when one did", function()
    local told = 0
    local policy = rules.chain { { after_abort = function() told = told + 1 error("x", 0) end },
      { after_abort = function() told = told + 1 end } }
    assert.has_error(function() policy.after_abort {} end)
    assert.equal(2, told)
    assert.has_error(function() rules.chain { 7 } end)
    assert.has_error(function() rules.chain { { before_sign = true } } end)
  end)
end)

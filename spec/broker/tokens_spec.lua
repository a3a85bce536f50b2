local support = require "spec.support"
local clock = require "longshore.clock"
local stores = require "longshore.store"
local tokens = require "longshore.broker.tokens"

describe("tokens", function()
  local time, store, keeper, path
  setup(function()
    path = support.tmpdir() .. "/t.db"
    time = clock.fixed(1700000000)
    store = assert(stores.open { path = path, synchronous = "OFF" })
    keeper = tokens.new { store = store, clock = time }
  end)
  teardown(function()
    store:close()
    support.cleanup()
  end)

  local function create(fields)
    local options = { user = "ann", organization = "acme" }
    for k, v in pairs(fields or {}) do options[k] = v end
    return keeper:create(options)
  end

  it("stand for the actor they were made for", function()
    local made = assert(create { tenant = "t1", rights = { "read", "upload", "read" }, label = "ci" })
    assert.truthy(made.token:find("^ls_[a-z2-7]+_[a-z2-7]+$"))
    assert.equal(52, #made.token)
    local actor = assert(keeper:verify(made.token))
    assert.equal("ann", actor.user)
    assert.equal("acme", actor.organization)
    assert.equal("t1", actor.tenant)
    assert.same({ read = true, upload = true }, actor.rights)
    assert.equal("token", actor.via)
  end)

  it("may read, upload and delete by default, in the default tenant, for ever", function()
    local actor = assert(keeper:verify(assert(create()).token))
    assert.equal("default", actor.tenant)
    assert.same({ read = true, upload = true, delete = true }, actor.rights)
    time.advance(50 * 365 * 86400)
    assert(keeper:verify(assert(create()).token))
  end)

  it("are kept only as a hash", function()
    local made = assert(create())
    local secret = made.token:match("_([a-z2-7]+)$")
    store.db:exec("PRAGMA wal_checkpoint(TRUNCATE)")
    for _, suffix in ipairs { "", "-wal" } do
      local data = support.read_file(path .. suffix) or ""
      assert.is_nil(data:find(secret, 1, true))
      assert.is_nil(data:find(made.token, 1, true))
    end
    for _, row in ipairs(assert(keeper:list())) do
      assert.is_nil(row.hash)
      for _, value in pairs(row) do assert.is_nil(tostring(value):find(secret, 1, true)) end
    end
  end)

  it("are refused in the same words, whatever is wrong", function()
    local made = assert(create())
    local id, secret = made.token:match("^ls_([a-z2-7]+)_([a-z2-7]+)$")
    local other = assert(create()).token
    local wrong = {
      "", "x", "Bearer " .. made.token, made.token .. "a", made.token:sub(1, -2), made.token:upper(),
      "ls_" .. id .. "_" .. ("a"):rep(32), "ls_" .. ("a"):rep(16) .. "_" .. secret,
      "ls_" .. id .. "_" .. other:match("_([a-z2-7]+)$"), made.id, made.token:gsub("_", "-"), "ls_' OR 1=1 --",
      made.token:sub(1, 51) .. "\0",
    }
    for _, token in ipairs(wrong) do
      local actor, err = keeper:verify(token)
      assert.is_nil(actor)
      assert.equal("unauthenticated", err.code)
      assert.equal("the token is not valid", err.message)
    end
    assert.equal("unauthenticated", select(2, keeper:verify(nil)).code)
    assert.equal("unauthenticated", select(2, keeper:verify({})).code)
  end)

  it("end when their time is over", function()
    local made = assert(create { expires_in = 60 })
    assert.equal(time.now() + 60, made.expires_at)
    time.advance(59)
    assert(keeper:verify(made.token))
    time.advance(1)
    local _, err = keeper:verify(made.token)
    assert.equal("unauthenticated", err.code)
    assert.equal("expired", err.reason)
  end)

  it("end at once when they are revoked, for other processes too", function()
    local made = assert(create())
    local second = assert(stores.open { path = path, synchronous = "OFF" })
    local other = tokens.new { store = second, clock = time }
    assert(other:verify(made.token))
    assert(keeper:revoke(made.id))
    assert(keeper:revoke(made.id))
    assert.equal("the token is not valid", select(2, other:verify(made.token)).message)
    second:close()
    for _, bad in ipairs { "tok_aaaaaaaaaaaaaaaa", "tok_", "x", made.token } do
      assert.equal("not_found", select(2, keeper:revoke(bad)).code)
    end
  end)

  it("may have a rate of their own", function()
    local made = assert(create { rate = { requests = 600, seconds = 60 } })
    assert.same({ requests = 600, seconds = 60 }, assert(keeper:verify(made.token)).rate)
    assert.is_nil(assert(keeper:verify(assert(create()).token)).rate)
    for _, row in ipairs(assert(keeper:list())) do
      if row.id == made.id then assert.same({ requests = 600, seconds = 60 }, row.rate) end
      assert.is_nil(row.rate_requests)
    end
  end)

  it("are listed with their state", function()
    local active, revoked = assert(create { label = "one" }), assert(create())
    local expired = assert(create { expires_in = 1 })
    assert(keeper:revoke(revoked.id))
    time.advance(2)
    local states = {}
    for _, row in ipairs(assert(keeper:list())) do states[row.id] = row.state end
    assert.same({ "active", "revoked", "expired" }, { states[active.id], states[revoked.id], states[expired.id] })
  end)

  it("are not made of nonsense", function()
    for _, case in ipairs {
      { { user = "" }, "user" }, { { user = 7 }, "user" }, { { organization = "a\nb" }, "organization" },
      { { tenant = "\255" }, "tenant" }, { { rights = {} }, "rights" }, { { rights = { "fly" } }, "rights" },
      { { rights = "read" }, "rights" }, { { expires_in = 0 }, "expires_in" }, { { expires_in = 1.5 }, "expires_in" },
      { { expires_in = 1e12 }, "expires_in" }, { { label = ("x"):rep(256) }, "label" },
      { { rate = {} }, "rate" }, { { rate = 5 }, "rate" }, { { rate = { requests = 0, seconds = 1 } }, "rate" },
      { { rate = { requests = 1.5, seconds = 1 } }, "rate" }, { { rate = { requests = 1, seconds = 86401 } }, "rate" },
    } do
      local made, err = create(case[1])
      assert.is_nil(made)
      assert.equal("invalid", err.code)
      assert.equal(case[2], err.field)
    end
    assert.equal("user", select(2, keeper:create { organization = "acme" }).field)
  end)
end)

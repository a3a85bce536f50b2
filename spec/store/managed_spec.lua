-- Managed files, their places, and catalogs: every store keeps the same contract.
local stores = require "longshore.store"
local support = require "spec.support"
local postgres = require "spec.support.postgres"

local T = 1700000000

local function row(id, fields)
  local r = { id = id, tenant = "north", organization = "acme", user = "ann", catalog = "cat", bucket = "b",
    provider = "s3:cat/b", key = "k/" .. id, name = id, visibility = "private", status = "presigned", generation = 0,
    version = 1, watch_until = T, created_at = T, updated_at = T }
  for k, v in pairs(fields or {}) do r[k] = v end
  return r
end

local function catalog(id, fields)
  local r = { id = id, tenant = "north", name = id, profile = "aws", bucket = "b", prefix = "", access_key = "AK",
    secret = "sealed", seal_id = "k1", active = true, version = 1, created_at = T, updated_at = T }
  for k, v in pairs(fields or {}) do r[k] = v end
  return r
end

local function fine() return true end

local server
local kinds = {
  sqlite = function() return { type = "sqlite", path = support.tmpdir() .. "/db", synchronous = "OFF" } end,
  postgres = function()
    server = server or postgres.start()
    return server and server.options()
  end,
}

for _, kind in ipairs { "sqlite", "postgres" } do
  describe("managed files on " .. kind, function()
    local store
    setup(function()
      local options = kinds[kind]()
      if options then store = assert(stores.open(options)) end
    end)
    teardown(function()
      if store then store:close() end
      server = nil
      support.cleanup()
    end)

    local function case(title, fn)
      it(title, function()
        if not store then return pending("PostgreSQL is not installed") end
        fn()
      end)
    end

    case("gives a place to one file, whatever the organization", function()
      assert(store:write_managed { { insert = row "a1", claim = "b/a1" } })
      local ok, err = store:write_managed { { insert = row("a2", { organization = "other" }), claim = "b/a1" } }
      assert.is_nil(ok)
      assert.equal("conflict", err.code)
      assert.equal("claimed", err.reason)
      assert.equal("not_found", select(2, store:managed_file "a2").code)
      assert.equal("a1", store:managed_at("b/a1").id)
      assert.equal("not_found", select(2, store:managed_at "b/nothing").code)
      assert.equal("a1", store:claimant "b/a1")
      assert(store:write_managed { { id = "a1", version = 1, fields = { status = "purged" }, release = "b/a1" } })
      assert.is_nil((store:claimant "b/a1"))
      assert(store:write_managed { { insert = row("a2", { organization = "other" }), claim = "b/a1" } })
      -- a release by who has not the place frees nothing
      assert(store:write_managed { { id = "a1", version = 2, fields = {}, release = "b/a1" } })
      assert.equal("a2", store:claimant "b/a1")
      -- held by somebody who empties it, while the row is as it was read
      assert.is_false(store:hold_place("b/a1", "a2", 2, "cln"))
      assert.is_false(store:hold_place("b/a1", "a1", 3, "cln"))
      assert.is_true(store:hold_place("b/a1", "a2", 1, "cln"))
      assert.equal("claimed", select(2, store:write_managed { { id = "a2", version = 1, fields = {},
        claim = "b/a1" } }).reason)
      assert(store:free_place("b/a1", "a2"))
      assert.equal("cln", store:claimant "b/a1")
      assert(store:free_place("b/a1", "cln"))
      assert.is_nil((store:claimant "b/a1"))
    end)

    case("writes all changes or none", function()
      assert(store:write_managed { { insert = row "w1" }, { insert = row "w2", claim = "b/w2" } })
      for _, last in ipairs { { id = "w2", version = 7, fields = { name = "x" } },
        { insert = row "w4", claim = "b/w2" }, { id = "w2", version = 1, fields = {},
          upload = { id = "upl_no", from = { "completing" }, to = "completed", now = T } } } do
        local ok, err = store:write_managed { { id = "w1", version = 1, fields = { name = "changed" } },
          { insert = row "w3" }, last }
        assert.is_nil(ok)
        assert.equal("conflict", err.code)
        assert.equal("w1", store:managed_file("w1").name)
        assert.equal("not_found", select(2, store:managed_file "w3").code)
      end
      assert(store:write_managed { { id = "w1", version = 1, fields = { name = "new", size = 2 ^ 40 } },
        { id = "w2", version = 1, fields = { due = T + 5.5 } } })
      local w1 = store:managed_file "w1"
      assert.equal("new", w1.name)
      assert.equal(2 ^ 40, w1.size)
      assert.equal(2, w1.version)
      assert.equal(T + 5.5, store:managed_file("w2").due)
    end)

    case("lists what a user may see, by key", function()
      local changes = {}
      for id, fields in pairs {
        l1 = {}, l2 = { visibility = "organization", user = "bob" }, l3 = { user = "bob" },
        l4 = { organization = "other", visibility = "public" },
        l5 = { organization = "other", visibility = "organization" },
        l6 = { tenant = "south", visibility = "public" }, l7 = { status = "soft_deleted" },
        l8 = { status = "abandoned" },
        l9 = { key = "käse/%_!", name = "100%_Käse!" },
      } do
        fields.catalog = "list"
        changes[#changes + 1] = { insert = row(id, fields) }
      end
      assert(store:write_managed(changes))
      local function ids(query)
        for k, v in pairs { tenant = "north", organization = "acme", user = "ann", limit = 100, catalog = "list" } do
          if query[k] == nil then query[k] = v end
        end
        local list, total = assert(store:managed_files(query))
        local words = {}
        for i, r in ipairs(list) do words[i] = r.id end
        return table.concat(words, " "), total
      end
      assert.equal("l1 l2 l4 l9", (ids {}))
      assert.equal("l2 l3 l4", (ids { user = "bob" }))
      assert.equal("l1 l2 l3 l4 l9", (ids { all = true }))
      assert.equal("l4 l5", (ids { organization = "other", user = "eve" }))
      assert.equal("l6", (ids { tenant = "south" }))
      assert.equal("l1", (ids { prefix = "k/l1" }))
      assert.equal("l9", (ids { prefix = "käse/" }))
      assert.equal("", (ids { prefix = "K/" }))
      assert.equal("l9", (ids { text = "100%_" }))
      assert.equal("", (ids { text = "1_0" }))
      local page, total = ids { limit = 2, offset = 1 }
      assert.equal("l2 l4", page)
      assert.equal(4, total)
      assert.equal(8, store:count_managed "list")
      assert.equal(0, store:count_managed("list", "another"))
    end)

    case("names what is due, and purges what is over", function()
      assert(store:write_managed { { insert = row("d1", { due = T + 2 }) }, { insert = row("d2", { due = T + 1 }) },
        { insert = row("d3", { status = "purged" }) }, { insert = row("d4", { status = "purged" }), claim = "b/d4" } })
      local due = store:due_managed(T + 2, 10)
      assert.equal("d2 d1", due[1].id .. " " .. due[2].id)
      assert.equal(0, #store:due_managed(T, 10))
      store:purge_managed(T + 1, 100)
      assert.equal("not_found", select(2, store:managed_file "d3").code)
      assert.is_truthy(store:managed_file "d4")
    end)

    case("keeps URLs until they end", function()
      assert.is_nil((store:cached_url("u1", T)))
      assert(store:cache_url { id = "u1", file_id = "f", url = "http://a", expires_at = T + 10 })
      assert(store:cache_url { id = "u1", file_id = "f", url = "http://b", headers = "{}", expires_at = T + 20 })
      assert.equal("http://b", store:cached_url("u1", T + 19).url)
      assert.is_nil((store:cached_url("u1", T + 20)))
      assert(store:cache_url { id = "u2", file_id = "g", url = "http://c", expires_at = T + 20 })
      assert(store:forget_urls "f")
      assert.is_nil((store:cached_url("u1", T)))
      assert.equal(1, store:purge_urls(T + 20))
    end)

    case("makes and changes catalogs one at a time, as far as the check allows", function()
      assert(store:create_catalog(catalog("c1", { path_style = false, buckets = { "x", "y" } }), fine))
      local seen
      local ok, err = store:create_catalog(catalog "c2", function(others, mine)
        seen = others[1].id .. " " .. mine.id
        return nil, require("longshore.errors").new("conflict", "no")
      end)
      assert.is_nil(ok)
      assert.equal("no", err.message)
      assert.equal("c1 c2", seen)
      assert.equal("not_found", select(2, store:catalog "c2").code)
      local c1 = store:catalog("c1", "north")
      assert.is_false(c1.path_style)
      assert.same({ "x", "y" }, c1.buckets)
      assert.equal("not_found", select(2, store:catalog("c1", "south")).code)
      assert.equal("not_found", select(2, store:update_catalog("c1", "south", { name = "n" }, fine)).code)
      local new = assert(store:update_catalog("c1", "north", { name = "n", active = false }, fine))
      assert.equal("n", new.name)
      assert.is_false(new.active)
      assert.equal(2, new.version)
      assert(store:create_catalog(catalog("c3", { tenant = "south" }), fine))
      assert.equal(1, #store:catalogs "north")
      assert.equal(2, #store:catalogs())
      assert.equal("not_found", select(2, store:delete_catalog("c3", "north")).code)
      assert(store:delete_catalog("c3", "south"))
      assert.equal(1, #store:catalogs())
    end)
  end)
end

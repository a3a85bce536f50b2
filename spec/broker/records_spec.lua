-- Records: bytes that arrive unannounced, parts, overwriting, what is gone when,
-- and a death at every call of the database and the store.
local support = require "spec.support"
local crash = require "spec.support.crash"
local ids = require "longshore.broker.ids"
local worlds = require "spec.support.broker"

local ANN = worlds.actor()
local WEEK = 604800
local LIMITS = { service = "cognite", provider = "default", link_seconds = WEEK, max_put = 100, of_record = 5 }

local function text_plain() return "text/plain" end

describe("records", function()
  local w
  before_each(function() w = worlds.new() end)
  after_each(support.cleanup)

  local function create(more, broker)
    local request = { name = "a.txt", fields = {} }
    for k, v in pairs(more or {}) do request[k] = v end
    return (broker or w.broker):create_record(ANN, request, LIMITS)
  end

  local function again(fields, parts)
    return create { external_id = "x", parts = parts, overwrite = function() return { name = "b.txt",
      fields = fields or {} } end }
  end

  local function put(url, body)
    local status = w.provider:client_put(url, body)
    assert.equal(200, status)
    w.clock.advance(1)
  end

  local function look(reference)
    local list, err = w.broker:records(ANN, { reference })
    return list and list[1], err
  end

  -- What a reader gets, or nil.
  local function read(reference)
    local links, err = w.broker:record_downloads(ANN, { reference }, 30, text_plain)
    if not links then return nil, err end
    local object = w.provider.objects[links[1].url:match("^http://store.test/(.+)$")]
    return object and object.body or "NO OBJECT"
  end

  local function objects() return (w.provider:left()) end

  it("are there before their bytes, and have them when they are looked at", function()
    local record, grant = assert(create())
    assert.is_true(record.id >= 1 and record.id < 2 ^ 53)
    assert.is_false(look({ id = record.id }).uploaded)
    local _, err = read { id = record.id }
    assert.equal("state", err.code)
    assert.same({ { id = record.id } }, err.missing)
    put(grant.url, "hello")
    local found = look { id = record.id }
    assert.is_true(found.uploaded)
    assert.equal(5, found.size)
    assert.is_truthy(found.uploaded_at)
    assert.equal("hello", read { id = record.id })
    assert.equal(1, objects()) -- the original is gone
  end)

  it("get their bytes from the janitor when nobody looks", function()
    local record, grant = assert(create())
    put(grant.url, "hello")
    w.clock.advance(120)
    assert.equal(1, w.broker:janitor().finished)
    assert.equal("hello", assert(w.store:find_records(ANN, { { id = record.id } })[1].key)
      and w.provider.objects[w.store:find_records(ANN, { { id = record.id } })[1].key].body)
    assert.equal(0, w.broker:janitor().finished)
  end)

  it("never point to a key that a URL can write to", function()
    local record, grant = assert(create())
    put(grant.url, "first")
    assert.equal("first", read { id = record.id })
    w.provider:client_put(grant.url, "forged")
    local row = w.store:find_records(ANN, { { id = record.id } })[1]
    assert.equal("first", w.provider.objects[row.key].body)
  end)

  it("take a second PUT to the same URL within the janitor's time, once", function()
    local record, grant = assert(create())
    put(grant.url, "first")
    assert.equal("first", read { id = record.id })
    put(grant.url, "second")
    w.clock.advance(4000)
    w.broker:janitor()
    assert.equal("second", read { id = record.id })
    w.clock.advance(8000)
    w.broker:janitor()
    assert.equal(1, objects())
  end)

  it("throw away what is larger than one PUT may be, and keep the URL", function()
    local record, grant = assert(create())
    put(grant.url, ("x"):rep(101))
    assert.is_false(look({ id = record.id }).uploaded)
    assert.equal(0, objects())
    put(grant.url, ("x"):rep(100))
    assert.is_true(look({ id = record.id }).uploaded)
  end)

  it("are not hidden by a store that does not answer", function()
    local record, grant = assert(create { external_id = "x" })
    put(grant.url, "old")
    assert.equal("old", read { id = record.id })
    local _, fresh = assert(again())
    put(fresh.url, "new")
    w.provider:fault("head", { code = "unavailable", times = 1 })
    assert.equal("old", read { id = record.id })
    assert.equal("new", read { id = record.id })
  end)

  it("are overwritten at once in their fields, in their content when it is all there", function()
    local record, grant = assert(create { external_id = "x", fields = { source = "s" } })
    put(grant.url, "old")
    assert.equal("old", read { external_id = "x" })
    local _, err = create { external_id = "x" }
    assert.equal("conflict", err.code)
    assert.same({ { external_id = "x" } }, err.duplicated)
    local changed, fresh = assert(again { source = "t" })
    assert.equal(record.id, changed.id)
    assert.equal("t", look({ external_id = "x" }).fields.source)
    assert.equal("old", read { external_id = "x" })
    put(fresh.url, "new")
    assert.equal("new", read { external_id = "x" })
    assert.equal(2, objects()) -- whoever reads the old one has time to end
    w:sweep()
    assert.equal(1, objects())
    assert.equal("new", read { external_id = "x" })
  end)

  it("have the content that came last, whichever URL it came by", function()
    local _, first = assert(create { external_id = "x" })
    local _, second = assert(again())
    put(second.url, "second")
    put(first.url, "first, but later")
    assert.equal("first, but later", read { external_id = "x" })
    local _, third = assert(again())
    put(third.url, "third")
    put(second.url, "second again") -- not looked for at once: it was used
    assert.equal("third", read { external_id = "x" })
    w.clock.advance(4000)
    w.broker:janitor()
    assert.equal("second again", read { external_id = "x" })
  end)

  it("do not fall back to bytes that are older than their content", function()
    local _, first = assert(create { external_id = "x" })
    local _, second = assert(again(nil, 1))
    w.provider:client_put(first.url, "older")
    w.clock.advance(5)
    put(second.urls[1], "newer")
    w.provider:fault("head", { code = "unavailable", times = 1 }) -- so that the first is not noticed yet
    assert.is_true(w.broker:complete_record(ANN, { external_id = "x" }, second.upload_id))
    assert.equal("newer", read { external_id = "x" })
    w:sweep()
    assert.equal("newer", read { external_id = "x" })
    assert.equal(1, objects())
  end)

  describe("in parts", function()
    it("are completed once all parts are there; nothing is lost before", function()
      local record, grant = assert(create { parts = 3 })
      local reference = { id = record.id }
      assert.equal(3, #grant.urls)
      put(grant.urls[1], "aaaa")
      put(grant.urls[3], "c")
      local _, err = w.broker:complete_record(ANN, reference, grant.upload_id)
      assert.equal("invalid", err.code)
      assert.same({ 2 }, err.parts)
      put(grant.urls[2], "bb")
      _, err = w.broker:complete_record(ANN, reference, grant.upload_id)
      assert.matches("part 2 has 2 bytes", err.message)
      put(grant.urls[2], "bbbb")
      assert.is_true(w.broker:complete_record(ANN, reference, grant.upload_id))
      assert.equal("aaaabbbbc", read(reference))
      assert.is_true(w.broker:complete_record(ANN, reference, grant.upload_id)) -- again
      w:sweep()
      assert.equal("aaaabbbbc", read(reference))
    end)

    it("take a fresh set of links; the earlier set can still be completed", function()
      local record, grant = assert(create { parts = 1 })
      local reference = { id = record.id }
      put(grant.urls[1], "one")
      local _, fresh = assert(w.broker:record_parts(ANN, reference, 2, LIMITS))
      local _, err = w.broker:complete_record(ANN, reference, fresh.upload_id)
      assert.same({ 1, 2 }, err.parts)
      assert.is_true(w.broker:complete_record(ANN, reference, grant.upload_id))
      assert.equal("one", read(reference))
    end)

    it("belong to one record and one upload", function()
      local record, grant = assert(create { parts = 1 })
      local other = assert(create { parts = 1 })
      put(grant.urls[1], "one")
      for _, id in ipairs { ids.new("dlv_"), "nonsense", "", grant.upload_id } do
        local _, err = w.broker:complete_record(ANN, { id = other.id }, id)
        assert.equal("invalid", err.code)
        assert.equal("uploadId", err.field)
      end
      assert.is_true(w.broker:complete_record(ANN, { id = record.id }, grant.upload_id))
    end)

    it("survive a lost answer of the store, and a store that refuses", function()
      local record, grant = assert(create { parts = 1 })
      put(grant.urls[1], "one")
      w.provider:fault("complete_multipart", { when = "after", code = "network" })
      local _, err = w.broker:complete_record(ANN, { id = record.id }, grant.upload_id)
      assert.equal("network", err.code)
      assert.is_true(w.broker:complete_record(ANN, { id = record.id }, grant.upload_id))
      assert.equal("one", read { id = record.id })
      local second, again_grant = assert(create { parts = 1 })
      put(again_grant.urls[1], "two")
      w.provider:fault("complete_multipart", { code = "invalid", store_code = "InvalidPart", retryable = false })
      _, err = w.broker:complete_record(ANN, { id = second.id }, again_grant.upload_id)
      assert.equal("invalid", err.code)
      assert.is_true(w.broker:complete_record(ANN, { id = second.id }, again_grant.upload_id))
    end)

    it("are finished by the janitor when nobody asks again", function()
      local record, grant = assert(create { parts = 1 })
      put(grant.urls[1], "one")
      w.provider:fault("complete_multipart", { when = "after", code = "network" })
      w.broker:complete_record(ANN, { id = record.id }, grant.upload_id)
      w.broker:janitor()
      assert.is_true(look({ id = record.id }).uploaded)
    end)

    it("are refused when one record has too many running uploads", function()
      local record = assert(create { parts = 1 })
      for _ = 1, 4 do assert(w.broker:record_parts(ANN, { id = record.id }, 1, LIMITS)) end
      local _, err = w.broker:record_parts(ANN, { id = record.id }, 1, LIMITS)
      assert.equal("quota", err.code)
    end)
  end)

  describe("without bytes", function()
    it("are gone when their last URL has ended, and their external id is free", function()
      local record = assert(create { external_id = "x" })
      w.clock.advance(WEEK - 1)
      assert.is_truthy(look { id = record.id })
      w.clock.advance(2)
      local _, err = look { id = record.id }
      assert.equal("not_found", err.code)
      local second = assert(create { external_id = "x" })
      assert.are_not.equal(record.id, second.id)
    end)

    it("are removed by the janitor", function()
      assert(create { parts = 2 })
      w.clock.advance(WEEK + 1000)
      assert.equal(1, w.broker:janitor().expired)
      w:sweep()
      local _, uploads = w.provider:left()
      assert.equal(0, uploads)
      assert.same({}, w.store:count_cleanups())
    end)

    it("live as long as a fresh link", function()
      local record, grant = assert(create())
      w.clock.advance(WEEK - 10)
      local _, fresh = assert(w.broker:record_link(ANN, { id = record.id }, LIMITS))
      w.clock.advance(100)
      assert.equal(403, (w.provider:client_put(grant.url, "x")))
      put(fresh.url, "hello")
      assert.equal("hello", read { id = record.id })
    end)

    it("take bytes that arrived at the last moment", function()
      local record, grant = assert(create())
      w.clock.advance(WEEK - 1)
      assert.equal(200, (w.provider:client_put(grant.url, "late")))
      w.clock.advance(500)
      assert.is_true(look({ id = record.id }).uploaded)
      local other, late = assert(create())
      w.clock.advance(WEEK - 1)
      assert.equal(200, (w.provider:client_put(late.url, "late")))
      w.clock.advance(50000) -- nobody was there for hours
      w.broker:janitor()
      assert.equal("late", read { id = other.id })
    end)
  end)

  it("extend a link that was not used instead of opening another upload", function()
    local record, grant = assert(create())
    local _, fresh = assert(w.broker:record_link(ANN, { id = record.id }, LIMITS))
    assert.equal(grant.url:match("^[^?]+"), fresh.url:match("^[^?]+"))
    put(fresh.url, "one")
    assert.equal("one", read { id = record.id })
    local _, third = assert(w.broker:record_link(ANN, { id = record.id }, LIMITS))
    assert.are_not.equal(grant.url:match("^[^?]+"), third.url:match("^[^?]+"))
  end)

  it("are deleted with their content and all that is open, all or none", function()
    local record, grant = assert(create { parts = 1 })
    local other, link = assert(create())
    put(grant.urls[1], "part")
    put(link.url, "whole")
    assert.equal("whole", read { id = other.id })
    local _, fresh = assert(w.broker:record_link(ANN, { id = other.id }, LIMITS))
    local _, err = w.broker:delete_records(ANN, { { id = record.id }, { id = 5 }, { id = other.id } })
    assert.same({ { id = 5 } }, err.missing)
    assert.is_truthy(look { id = record.id })
    assert.is_true(w.broker:delete_records(ANN, { { id = record.id }, { id = 5 }, { id = other.id } }, true))
    assert.equal(0, objects())
    w.provider:client_put(fresh.url, "afterwards") -- the URL still works; what it brings goes
    w.clock.advance(WEEK)
    w:sweep()
    assert.equal(0, objects())
    assert.same({}, w.store:count_cleanups())
  end)

  it("leave nothing behind when the store does not begin an upload", function()
    w.provider:fault("create_multipart", { code = "unavailable" })
    local _, err = create { parts = 1, external_id = "x" }
    assert.equal("unavailable", err.code)
    assert(create { parts = 1, external_id = "x" }) -- the external id is free
  end)

  it("change all or none", function()
    local one = assert(create { external_id = "one" })
    local two = assert(create { external_id = "two" })
    local function to(id) return function() return { external_id = id } end end
    local _, err = w.broker:change_records(ANN, {
      { reference = { id = one.id }, change = to "three" }, { reference = { id = two.id }, change = to "three" } })
    assert.equal("conflict", err.code)
    assert.same({ { external_id = "three" } }, err.duplicated)
    assert.is_truthy(look { external_id = "one" })
    local changed = assert(w.broker:change_records(ANN, {
      { reference = { id = one.id }, change = to(false) },
      { reference = { external_id = "two" }, change = to "one" },
    }))
    assert.is_nil(changed[1].external_id)
    assert.equal("one", changed[2].external_id)
  end)

  it("are listed in pages, oldest first, each once", function()
    local all = {}
    for i = 1, 7 do
      all[i] = assert(create { name = "n" .. i }).id
      w.clock.advance(0.001)
    end
    local seen, after = {}, nil
    repeat
      local page
      page, after = w.broker:list_records(ANN, { limit = 2, after = after, accept = function(record)
        return record.name ~= "n3"
      end })
      for _, record in ipairs(page) do seen[#seen + 1] = record.id end
    until not after
    table.remove(all, 3)
    assert.same(all, seen)
  end)

  it("are nobody else's", function()
    local record, grant = assert(create { external_id = "x", parts = 1 })
    put(grant.urls[1], "one")
    local strangers = { worlds.actor { organization = "other" }, worlds.actor { tenant = "other" } }
    for _, eve in ipairs(strangers) do
      for _, reference in ipairs { { id = record.id }, { external_id = "x" } } do
        for name, call in pairs {
          records = function() return w.broker:records(eve, { reference }) end,
          link = function() return w.broker:record_link(eve, reference, LIMITS) end,
          parts = function() return w.broker:record_parts(eve, reference, 1, LIMITS) end,
          complete = function() return w.broker:complete_record(eve, reference, grant.upload_id) end,
          delete = function() return w.broker:delete_records(eve, { reference }) end,
          downloads = function() return w.broker:record_downloads(eve, { reference }, 30, text_plain) end,
          change = function()
            return w.broker:change_records(eve, { { reference = reference, change = function() return {} end } })
          end,
        } do
          local found, err = call()
          assert.is_nil(found, name)
          assert.same({ reference }, err.missing, name)
        end
      end
      assert.same({}, (w.broker:list_records(eve, { limit = 10, accept = function() return true end })))
      -- the external id is theirs to take
      assert(w.broker:create_record(eve, { name = "n", external_id = "x", fields = {} }, LIMITS))
    end
    for _, right in ipairs { "read", "upload", "delete" } do
      local weak = worlds.actor { rights = { [right] = true } }
      local _, err = w.broker:records(weak, { { id = record.id } })
      assert.equal(right ~= "read", err ~= nil)
      _, err = w.broker:delete_records(weak, { { id = 5 } })
      assert.equal(right ~= "delete" and "forbidden" or "not_found", err.code)
      _, err = w.broker:record_link(weak, { id = 5 }, LIMITS)
      assert.equal(right ~= "upload" and "forbidden" or "not_found", err.code)
    end
  end)

  it("ask the policy, which may refuse bytes that arrived", function()
    w = worlds.new { rules = { { before_complete = function(context)
      if context.size > 4 then return false, "too much" end
    end } } }
    local record, grant = assert(create())
    put(grant.url, "12345")
    assert.is_false(look({ id = record.id }).uploaded)
    assert.equal(0, objects())
    put(grant.url, "1234")
    assert.is_true(look({ id = record.id }).uploaded)
  end)

  describe("when another process is quicker", function()
    local function everywhere(act, finally)
      local path, number = support.tmpdir(), 0
      crash.every(function(at)
        number = number + 1
        w = worlds.new { path = ("%s/%d.db"):format(path, number) }
        local single, link = assert(create())
        local record, grant = assert(create { parts = 1 })
        put(link.url, "single")
        put(grant.urls[1], "parts")
        local broker = crash.arm(w, at, function() act(single, record, grant) end)
        broker:records(ANN, { { id = single.id } })
        broker:complete_record(ANN, { id = record.id }, grant.upload_id)
        crash.disarm(w)
        w:sweep()
        w.clock.advance(2 * WEEK)
        w:sweep()
        finally(single, record)
        assert.same({}, w.store:count_cleanups(), w.died)
        return w
      end)
    end

    it("anywhere with the same, both come to the same end", function()
      everywhere(function(single, record, grant)
        assert(w.broker:records(ANN, { { id = single.id } }))
        local ok, err = w.broker:complete_record(ANN, { id = record.id }, grant.upload_id)
        assert(ok or err.reason == "completing", err)
      end, function(single, record)
        assert.equal("single", read { id = single.id }, w.died)
        assert.equal("parts", read { id = record.id }, w.died)
        assert.equal(2, objects(), w.died)
      end)
    end)

    it("anywhere with deleting, nothing is left over", function()
      everywhere(function(single, record)
        assert(w.broker:delete_records(ANN, { { id = single.id }, { id = record.id } }))
      end, function()
        if not w.died then return end -- the first run only counts
        local left, uploads = w.provider:left()
        assert.equal(0, left, w.died)
        assert.equal(0, uploads, w.died)
      end)
    end)
  end)

  describe("after a death", function()
    -- Old content is there; new content comes, by one PUT or by parts. Wherever the process dies,
    -- readers get the old or the new, and in the end only that is left.
    for _, case in ipairs { { "one PUT" }, { "parts", 2 } } do
      it("anywhere in replacing content by " .. case[1] .. ", old or new is read and nothing is left over", function()
        local path, number = support.tmpdir(), 0
        local places = crash.every(function(die_at)
          number = number + 1
          w = worlds.new { path = ("%s/%d.db"):format(path, number) }
          local _, grant = assert(create { external_id = "x" })
          put(grant.url, "old")
          assert.equal("old", read { external_id = "x" })
          local broker = crash.arm(w, die_at)
          crash.dies(function()
            local record, fresh = create({ external_id = "x", parts = case[2], overwrite = function()
              return { name = "b", fields = {} }
            end }, broker)
            assert(record, fresh)
            if fresh.url then
              put(fresh.url, "new!")
              broker:records(ANN, { { id = record.id } })
            else
              put(fresh.urls[1], "new!")
              put(fresh.urls[2], "")
              assert(broker:complete_record(ANN, { id = record.id }, fresh.upload_id))
            end
          end)
          crash.disarm(w)
          local first = read { external_id = "x" }
          assert.is_true(first == "old" or first == "new!", ("%s: %s"):format(tostring(w.died), tostring(first)))
          w.clock.advance(200) -- leases end
          w.broker:janitor()
          local settled = read { external_id = "x" }
          assert.is_true(settled == "new!" or settled == first, w.died)
          w.clock.advance(WEEK)
          w:sweep()
          w.clock.advance(WEEK)
          w:sweep()
          assert.equal(settled, read { external_id = "x" }, w.died)
          local left, uploads = w.provider:left()
          assert.equal(1, left, w.died)
          assert.equal(0, uploads, w.died)
          assert.same({}, w.store:count_cleanups(), w.died)
          return w
        end)
        assert.is_true(places > 20)
      end)
    end

    it("anywhere in a new record, it is whole or gone", function()
      local path, number = support.tmpdir(), 0
      crash.every(function(die_at)
        number = number + 1
        w = worlds.new { path = ("%s/%d.db"):format(path, number) }
        local broker = crash.arm(w, die_at)
        crash.dies(function()
          local record, grant = assert(create({ external_id = "x", parts = 1 }, broker))
          put(grant.urls[1], "bytes")
          assert(broker:complete_record(ANN, { id = record.id }, grant.upload_id))
        end)
        crash.disarm(w)
        w.clock.advance(2 * WEEK)
        w:sweep()
        w.clock.advance(WEEK)
        w:sweep()
        local body = read { external_id = "x" }
        local left, uploads = w.provider:left()
        assert.equal(body and 1 or 0, left, w.died)
        assert.is_true(body == nil or body == "bytes", w.died)
        assert.equal(0, uploads, w.died)
        assert.same({}, w.store:count_cleanups(), w.died)
        return w
      end)
    end)
  end)
end)

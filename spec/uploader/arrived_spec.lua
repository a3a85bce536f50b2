local errors = require "longshore.errors"
local fake = require "spec.uploader.fake"
local journals = require "longshore.uploader.journal"
local lfs = require "lfs"
local support = require "spec.support"

describe("a command of several files, given again", function()
  after_each(support.cleanup)

  local w, items

  before_each(function()
    w = fake.new { part_size = 100 }
    items = {}
    for i, name in ipairs { "a", "b", "c" } do items[i] = { path = w.file(name, 100 + i), name = "set/" .. name } end
  end)

  local function put(more)
    local options = { journal = w.folder .. "/journal", parallel = 1, interrupted = function() return w.stop end }
    for k, v in pairs(more or {}) do options[k] = v end
    local up = w.uploader(options)
    local list = {}
    for i, item in ipairs(items) do list[i] = { path = item.path, name = item.name } end
    local outcomes = up:put_many(list)
    up:close()
    return outcomes
  end

  -- Everything but c arrives.
  local function broken()
    w.on_complete = function(session)
      if w.uploads[session.id].name == "set/c" then return errors.fail("forbidden", "not you") end
    end
    local outcomes = put()
    assert.truthy(outcomes[1].result)
    assert.equal("forbidden", outcomes[3].err.code)
    w.on_complete = nil
    w.puts, w.completed = {}, {}
  end

  local function journal_files()
    local n = 0
    for name in lfs.dir(w.folder .. "/journal") do
      if name:find("%.journal$") then n = n + 1 end
    end
    return n
  end

  it("sends only the files that had not arrived, and answers the others' results", function()
    broken()
    assert.equal(1, #journals.list(w.folder .. "/journal"))
    local outcomes = put()
    assert.equal(0, #w.puts)
    assert.same({ "upl_3" }, w.completed)
    for i = 1, 2 do
      local result = outcomes[i].result
      assert.is_true(result.already)
      assert.equal("fil_upl_" .. i, result.file_id)
      assert.equal(100 + i, result.bytes)
      assert.equal("crc32c", result.compared)
      assert.equal(0, result.sent_bytes)
    end
    assert.is_nil(outcomes[3].result.already)
    assert.equal(0, journal_files())
  end)

  it("sends everything again once all had arrived", function()
    put()
    w.puts = {}
    put()
    assert.equal(6, #w.puts)
  end)

  it("sends none again when it was killed before it could say that all had arrived", function()
    for n = 3, 1, -1 do
      items = { items[1], items[2], items[3] }
      items[n + 1] = nil
      local journal, seen = w.folder .. "/journal", 0
      local up = w.uploader { journal = journal, parallel = 1 }
      up:put_many(items, function()
        seen = seen + 1
        if seen == n then support.run(("cp -r %s %s.kept"):format(journal, journal)) end
      end)
      up:close()
      assert.equal(0, journal_files())
      support.run(("rm -r %s; mv %s.kept %s"):format(journal, journal, journal))
      w.puts = {}
      for _, outcome in ipairs(put()) do assert.is_true(outcome.result.already) end
      assert.equal(0, #w.puts)
      assert.equal(0, journal_files())
    end
  end)

  it("remembers through an interruption, which an unfinished one of it follows", function()
    w.on_put = function() if w.completed[1] then w.stop = true end end
    local outcomes = put()
    assert.truthy(outcomes[1].result)
    assert.is_true(outcomes[2].err.interrupted)
    w.stop, w.on_put = false, function() end
    outcomes = put()
    assert.is_true(outcomes[1].result.already)
    assert.is_nil(outcomes[2].result.already)
    assert.truthy(outcomes[3].result)
  end)

  it("sends a file again that has changed since, that is asked for anew, or that is not there any more", function()
    broken()
    w.file("a", 200)
    local outcomes = put()
    assert.is_nil(outcomes[1].result.already)
    assert.is_true(outcomes[2].result.already)
    assert.same({}, w.aborted)

    broken()
    outcomes = put { restart = true }
    assert.is_nil(outcomes[1].result.already)

    broken()
    w.driver.download = function(_, id)
      if id:find "upl_%d+" and w.gone then return errors.fail("not_found", "no such file") end
      return { url = "http://store/x", size = w.size }
    end
    w.size = 7
    outcomes = put()
    assert.is_nil(outcomes[1].result.already)
    assert.truthy(w.notes():find("not there any more", 1, true))

    broken()
    w.gone = true
    assert.is_nil(put()[1].result.already)
  end)

  it("believes what it remembers where the service may not be asked, for a week", function()
    broken()
    w.driver.download = function() return errors.fail("forbidden", "no right to read") end
    w.on_complete = function(session)
      if w.uploads[session.id].name == "set/c" then return errors.fail("forbidden", "not you") end
    end
    assert.is_true(put()[1].result.already)
    w.clock.advance(8 * 86400)
    assert.is_nil(put()[1].result.already)
  end)

  it("leaves nothing behind of a file alone", function()
    local up = w.uploader { journal = w.folder .. "/journal" }
    assert(up:put { path = items[1].path })
    up:close()
    assert.equal(0, journal_files())
  end)
end)

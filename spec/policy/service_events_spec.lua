-- After-events are written in the transaction of the change that they tell of, at every
-- service: without the one there is not the other, and a process that dies behind it
-- leaves an event that is told later.
local all = require "spec.policy.service_steps"
local support = require "spec.support"
local ANN, BODY, COGNITE, GEOLENS = all.actor, all.body, all.cognite, all.geolens
local steps, upload = all.steps, all.upload

describe("the outbox of every service", function()
  after_each(support.cleanup)

  local w, told

  -- A world where one hook listens.
  local function world(hook, more)
    told = {}
    local rule = { [hook] = function(context) told[#told + 1] = context end }
    for name, fn in pairs(more or {}) do rule[name] = fn end
    w = all.world { rule }
    return w
  end

  local function complete_geolens(id) return w.broker:complete_job(ANN, { job_id = id, parts = {} }, GEOLENS) end

  local function commit_geolens(id)
    return w.broker:commit_job(ANN, { job_id = id, options = { title = "t", visibility = "private" } }, GEOLENS)
  end

  local function multipart(finish)
    local entry = assert(steps.athena.start())
    local started = assert(w.broker:create_managed_upload(ANN, entry.file.id, {}))
    local grant = assert(w.broker:sign_managed_part(ANN, entry.file.id, started.id, 1))
    local _, etag = w.provider:client_put(grant.url, BODY)
    return function() return finish(entry.file.id, started.id, { { number = 1, token = etag } }) end
  end

  -- hook, what comes before, and what makes the change; it may be made again. `done`: whether the change
  -- has been made, as the store says.
  local changes = {
    ["newton: complete"] = { "after_complete", function()
      local started = assert(steps.newton.start())
      local parts = steps.newton.send(started)
      return function()
        w.clock.advance(400)
        return steps.newton.finish(started, parts)
      end, function() return w.store:upload(started.id).state == "completed" end
    end },
    ["newton: bytes that are refused"] = { "after_fail", function()
      local started = assert(steps.newton.start())
      local parts = steps.newton.send(started)
      return function()
        w.clock.advance(400)
        return steps.newton.finish(started, parts)
      end, function() return w.store:upload(started.id).state == "failed" end
    end, { before_register = function() return false, "never" end } },
    ["newton: delete"] = { "after_delete", function()
      local file = assert(upload "newton")
      return function() return w.broker:delete_file(ANN, file.id) end,
        function()
          local row = w.store:file(file.id)
          return row == nil or row.state ~= "registered"
        end
    end },
    ["newton: abort"] = { "after_abort", function()
      local started = assert(steps.newton.start())
      return function()
        w.clock.advance(400)
        w.broker:abort(ANN, started.id)
        return w.broker:janitor()
      end, function() return w.store:upload(started.id).state == "aborted" end
    end },
    ["newton: what never came"] = { "after_expire", function()
      local started = assert(steps.newton.start())
      w.clock.advance(8000)
      return function()
        w.clock.advance(400)
        return w.broker:janitor()
      end, function() return w.store:upload(started.id).state == "expired" end
    end },
    ["athena: bytes that are noticed"] = { "after_complete", function()
      local entry = assert(steps.athena.start())
      steps.athena.send(entry)
      return function() return w.broker:managed_file(ANN, entry.file.id) end,
        function() return w.store:managed_file(entry.file.id).status == "available" end
    end },
    ["athena: parts"] = { "after_complete", function()
      local upload_id, file_id
      local act = multipart(function(file, id, parts)
        file_id, upload_id = file, id
        return w.broker:complete_managed_upload(ANN, file, id, parts)
      end)
      return act, function()
        return w.store:managed_file(file_id).status == "available" or w.store:upload(upload_id).state == "completed"
      end
    end },
    ["athena: bytes through the broker"] = { "after_complete", function()
      local entry = assert(steps.athena.start())
      return function()
        return w.broker:ingest_managed(ANN, entry.file.id, { text = BODY, length = #BODY, content_type = "text/csv" })
      end, function() return w.store:managed_file(entry.file.id).status == "available" end
    end },
    ["athena: delete"] = { "after_delete", function()
      local file = assert(upload "athena")
      return function() return w.broker:delete_managed(ANN, { file.id }) end,
        function() return w.store:managed_file(file.id).status ~= "available" end
    end },
    ["athena: abort"] = { "after_abort", function()
      local file_id, id
      local act = multipart(function(file, one)
        file_id, id = file, one
        return w.broker:abort_managed_upload(ANN, file, one)
      end)
      return act, function() return file_id ~= nil and w.store:upload(id).state ~= "uploading" end
    end },
    ["athena: a file that vanished"] = { "after_fail", function()
      local file = assert(upload "athena")
      w.provider.objects["m/" .. file.key] = nil
      return function() return w.broker:managed_file(ANN, file.id) end,
        function() return w.store:managed_file(file.id).status == "failed" end
    end },
    ["athena: what never came"] = { "after_expire", function()
      local entry = assert(steps.athena.start())
      w.clock.advance(20000)
      return function()
        w.clock.advance(400)
        return w.broker:janitor()
      end, function() return w.store:managed_file(entry.file.id).status == "abandoned" end
    end },
    ["cognite: bytes that are noticed"] = { "after_complete", function()
      local started = assert(steps.cognite.start())
      steps.cognite.send(started)
      return function() return w.broker:records(ANN, { { id = started.id } }) end,
        function() return w.store:find_records(ANN, { { id = started.id } })[1].key ~= nil end
    end },
    ["cognite: parts"] = { "after_complete", function()
      local record, grant = assert(w.broker:create_record(ANN, { name = "p", fields = {}, parts = 1 }, COGNITE))
      w.provider:client_put(grant.urls[1], BODY)
      return function()
        w.clock.advance(200)
        return w.broker:complete_record(ANN, { id = record.id }, grant.upload_id)
      end, function() return w.store:find_records(ANN, { { id = record.id } })[1].key ~= nil end
    end },
    ["cognite: bytes that are refused"] = { "after_fail", function()
      local started = assert(steps.cognite.start())
      steps.cognite.send(started)
      return function() return w.broker:records(ANN, { { id = started.id } }) end,
        function() return (w.provider:left()) == 0 end
    end, { before_register = function() return false, "never" end } },
    ["cognite: delete"] = { "after_delete", function()
      local file = assert(upload "cognite")
      return function() return w.broker:delete_records(ANN, { { id = file.id } }) end,
        function() return w.store:find_records(ANN, { { id = file.id } })[1] == nil end
    end },
    ["cognite: what never came"] = { "after_expire", function()
      local started = assert(steps.cognite.start())
      w.clock.advance(604800 + 901)
      return function()
        w.clock.advance(120)
        return w.broker:janitor()
      end, function()
        local open = w.store:due_deliveries(w.clock.now() + 1e6, 9)
        return open[1] == nil or w.store:find_records(ANN, { { id = started.id } })[1] == nil
      end
    end },
    ["geolens: a commit"] = { "after_complete", function()
      local started = assert(steps.geolens.start())
      steps.geolens.send(started)
      assert(complete_geolens(started.id))
      return function()
        if w.store:job(started.id).status == "pending" then return commit_geolens(started.id) end
        w.clock.advance(400)
        return w.broker:job(ANN, started.id)
      end, function() return w.store:job(started.id).status == "complete" end
    end },
    ["geolens: a commit that fails"] = { "after_fail", function()
      local started = assert(steps.geolens.start())
      steps.geolens.send(started)
      assert(complete_geolens(started.id))
      w.provider.objects[w.store:job(started.id).key] = nil
      return function()
        if w.store:job(started.id).status == "pending" then return commit_geolens(started.id) end
        w.clock.advance(400)
        return w.broker:job(ANN, started.id)
      end, function() return w.store:job(started.id).status == "failed" end
    end },
    ["geolens: what never came"] = { "after_expire", function()
      local started = assert(steps.geolens.start())
      w.clock.advance(4000)
      return function() return w.broker:job(ANN, started.id) end,
        function() return w.store:job(started.id).status == "failed" end
    end },
  }

  for name, change in pairs(changes) do
    it("makes no change that it cannot tell of: " .. name, function()
      world(change[1], change[3])
      local act, done = change[2]()
      told = {} -- of what led here
      assert(w.store.db:exec "ALTER TABLE events RENAME TO events_away")
      pcall(act)
      assert.is_false(done(), "changed without its event")
      assert.same({}, told)
      assert(w.store.db:exec "ALTER TABLE events_away RENAME TO events")
      act()
      assert.is_true(done())
      assert.equal(1, #told)
      assert.same({}, assert(w.store:count_events()))
    end)

    it("tells later what a dead process did not: " .. name, function()
      world(change[1], change[3])
      local act, done = change[2]()
      told = {}
      local deliver = w.broker.deliver
      w.broker.deliver = function() error("killed", 0) end
      pcall(act)
      assert.is_true(done() or name == "cognite: bytes that are refused")
      assert.same({}, told)
      assert.same({ policy = 1 }, assert(w.store:count_events()))
      w.broker.deliver = deliver
      w.clock.advance(130)
      w.broker:deliver_due()
      assert.equal(1, #told)
      if name == "athena: bytes through the broker" then return end -- again is other content
      act()
      assert.equal(1, #told, "told of the same change twice")
    end)
  end
end)

-- Quotas count the files of all services together: none is a way around another.
local all = require "spec.policy.service_steps"
local support = require "spec.support"
local ANN = all.actor
local CATALOG = all.catalog
local BODY = all.body
local SERVICES = all.services
local steps = all.steps
local upload = all.upload
local w

local function world(...)
  w = all.world(...)
  return w
end

describe("at every service", function()
  after_each(support.cleanup)

  describe("quotas", function()
    local function quota(fields) return { { before_initiate = function() return { quotas = { fields } } end } } end

    for _, full in ipairs(SERVICES) do
      for _, service in ipairs(SERVICES) do
        it(("of %s cannot be passed by %s"):format(full, service), function()
          for _, limit in ipairs { { files = 1 }, { bytes = #BODY + 3 } } do
            limit.scope = "user"
            world(quota(limit))
            assert(upload(full))
            local fields = full == service and ({ newton = { filename = "b" }, athena = { key = "b" } })[service]
            local file, err = upload(service, fields)
            assert.is_nil(file)
            if err.code then assert.equal("quota", err.code) end -- (bytes that nobody announced just go)
            w.clock.advance(86400 * 9)
            w:sweep()
            assert.same({ 1, 0 }, { w.provider:left() })
            w.actor = nil
          end
        end)
      end
    end

    it("let the trash go, and count what comes out of it", function()
      world(quota { scope = "organization", files = 1 })
      local file = assert(upload "athena")
      assert(w.broker:delete_managed(ANN, { file.id }))
      assert(upload "newton")
      assert.equal("quota", select(2, w.broker:restore_managed(ANN, file.id)).code)
    end)

    it("count a batch of URLs together", function()
      world(quota { scope = "user", files = 2 })
      local many = {}
      for i = 1, 3 do many[i] = { catalog = CATALOG, key = "k" .. i, size = 1 } end
      local list, err = w.broker:upload_urls(ANN, many)
      assert.is_nil(list)
      assert.equal("quota", err.code)
      assert.same({}, (w.store:managed_files { tenant = "default", organization = "acme", user = "ann", limit = 9 }))
      many[3] = nil
      assert(w.broker:upload_urls(ANN, many))
    end)

    -- A file that waits for its bytes is counted, and so is its upload of parts: as one, however many ask at once.
    it("cannot be overrun by uploads of parts that are begun at the same moment", function()
      for _, rules in ipairs { quota { scope = "user", running = 2 },
        { { before_initiate = function() return { max_running = 2 } end } } } do
        world(rules)
        local entry = assert(steps.athena.start())
        w.provider.hook = function(op)
          if op ~= "create_multipart" then return end
          w.provider.hook = nil
          assert(w.broker:create_managed_upload(ANN, entry.file.id, {}))
          for _ = 1, 3 do
            assert.equal("quota", select(2, w.broker:create_managed_upload(ANN, entry.file.id, {})).code)
          end
        end
        assert(w.broker:create_managed_upload(ANN, entry.file.id, {}))
        assert.equal("quota", select(2, w.broker:create_managed_upload(ANN, entry.file.id, {})).code)
      end
    end)

    -- What is left of it at a store that is away is the janitor's.
    it("let go of what was given up, whether the store hears of it or not", function()
      world(quota { scope = "user", files = 1, bytes = #BODY })
      local started = assert(steps.newton.start())
      assert.equal("quota", select(2, steps.newton.start { filename = "b" }).code)
      w.provider:fault("abort_multipart", { code = "unavailable", times = 99 })
      assert(w.broker:abort(ANN, started.id))
      assert(steps.newton.start { filename = "b" })
      w.clock.advance(8000)
      w.broker:janitor()
      w.provider:fault("create_multipart", { code = "unavailable" })
      assert.is_nil((steps.newton.start { filename = "c" }))
      assert(steps.newton.start { filename = "c" })
    end)

    it("let go of what was announced for a file that failed", function()
      local refused = true
      local rules = quota { scope = "user", bytes = #BODY }
      rules[2] = { before_register = function() if refused then return false, "infected" end end }
      world(rules)
      assert.is_nil((upload "athena"))
      refused = false
      w.clock.advance(86400 * 9)
      w:sweep()
      assert(upload "newton")
    end)

    it("let go of what was announced for a file that has content, and did not come", function()
      world(quota { scope = "user", bytes = 100 })
      assert(upload "athena")
      assert(steps.athena.start { size = 100 })
      assert.equal("quota", select(2, upload "newton").code)
      w.clock.advance(86400 * 9)
      w:sweep()
      assert(upload "newton")
    end)

    it("keep what was announced for parts that are on their way", function()
      world(quota { scope = "user", bytes = 100 }, { policy = { upload_seconds = 20 * 86400 } })
      local entry = assert(steps.athena.start { size = 100 })
      local parts = assert(w.broker:create_managed_upload(ANN, entry.file.id, {}))
      w.clock.advance(86400 * 9)
      w:sweep()
      assert.equal("quota", select(2, upload "newton").code)
      assert(w.broker:abort_managed_upload(ANN, entry.file.id, parts.id))
      w.clock.advance(86400)
      w:sweep()
      assert(upload "newton")
    end)

    it("count running uploads of all", function()
      world(quota { scope = "user", running = 2 })
      assert(steps.cognite.start())
      local entry = assert(steps.athena.start())
      assert.equal("quota", select(2, steps.newton.start()).code)
      assert.equal("quota", select(2, steps.geolens.start()).code)
      assert(w.broker:create_managed_upload(ANN, entry.file.id, {})) -- that file is counted already
    end)
  end)
end)

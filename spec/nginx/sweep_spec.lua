-- When the disk store's nginx takes what is older than itself for dead.
local fake_ngx = require "spec.support.fake_ngx"
local support = require "spec.support"

describe("the disk store's janitor in nginx", function()
  after_each(support.cleanup)

  -- Sweeps, as many as there are reports, false for one that failed; what each was told of the dead.
  local function sweeps(reports, shared)
    local folder, told = support.tmpdir(), {}
    local path = support.write_file(folder .. "/longshore.lua",
      "return { data = '.', diskstore = { credentials = { { access_key = 'AK', secret_key = 'secret' } } } }\n")
    local turn
    fake_ngx({
      now = function() return 1700000000 end, log = function() end, worker = { id = function() return 0 end },
      thread = { spawn = function() end, kill = function() end },
      timer = { at = function(_, fn, self)
        if self.disk then turn = function() fn(false, self) end end
        return 1
      end, every = function() return 1 end },
      shared = { longshore_diskstore = {
        add = function(_, key, value)
          if shared[key] ~= nil then return false end
          shared[key] = value
          return true
        end,
        get = function(_, key) return shared[key] end,
        set = function(_, key, value) shared[key] = value end,
      } },
      run_worker_thread = function(_, _, _, _, _, limits)
        told[#told + 1] = limits.dead_before or false
        local report = reports[#told]
        if not report then return false, "the disk is gone" end
        return true, report
      end,
    }, function()
      local room = require "longshore.nginx.diskstore"
      room.setup { config = path }
      room.start()
      for _ = 1, #reports do turn() end
    end)
    return told
  end

  -- Later a clock that was set back would have new files look older.
  it("looks for the dead once, when it begins", function()
    local good = { removed = 3, kept = 1, errors = 0 }
    local shared = {}
    assert.same({ 1700000000, false, false }, sweeps({ good, good, good }, shared))
    assert.same({ false }, sweeps({ good }, shared)) -- a reload
  end)

  it("looks again where it could not remove everything", function()
    local good, bad = { removed = 3, kept = 1, errors = 0 }, { removed = 3, kept = 1, errors = 1 }
    assert.same({ 1700000000, 1700000000, 1700000000, false }, sweeps({ false, bad, good, good }, {}))
  end)
end)

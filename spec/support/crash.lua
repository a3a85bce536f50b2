-- Dying at a chosen moment: every call to the store and to the provider is a
-- place where the process may end, before it or right after it.
--
--   crash.every(function(die_at) ... end): runs the function with die_at = 0
--   (nothing happens, places are counted) and then with each place in turn.
--
-- A world from spec.support.broker is armed with `crash.arm(w, die_at)`; it
-- answers a broker that dies there. `crash.dies(fn)` runs what may die. With
-- `crash.arm(w, at, act)` it does not die there: `act` happens, as if another
-- process were quicker.
local _M = {}

local DEATH = {}

-- A store whose every operation is two places.
local function mortal_store(store, place)
  return setmetatable({}, {
    __index = function(_, name)
      local operation = store[name]
      if type(operation) ~= "function" then return operation end
      return function(_, ...)
        place("before store:" .. name)
        local a, b, c = operation(store, ...)
        place("after store:" .. name)
        return a, b, c
      end
    end,
  })
end

function _M.arm(w, at, act)
  local count, acting = 0, false
  local function place(name)
    if acting then return end
    count = count + 1
    w.places = count
    if count == at then
      w.died = name
      if not act then error(DEATH, 0) end
      acting = true
      act()
      acting = false
    end
  end
  w.provider.hook = function(op) place("before provider:" .. op) end
  w.provider.after = function(op) place("after provider:" .. op) end
  return w:new_broker(mortal_store(w.store, place))
end

--- No more dying: what runs from here on runs in a new process.
function _M.disarm(w)
  w.provider.hook, w.provider.after = nil, nil
end

--- Runs `fn`; true when it died, false when it lived.
function _M.dies(fn)
  local ok, why = pcall(fn)
  if not ok and why ~= DEATH then error(why, 0) end
  return not ok
end

--- Runs `scenario(die_at)` for every place; it returns the world it used.
-- Returns how many places there were.
function _M.every(scenario)
  local places = scenario(0).places
  assert(places and places > 0, "no place to die at")
  for die_at = 1, places do
    local w = scenario(die_at)
    assert(w.died or w.places < die_at, "did not die at place " .. die_at)
  end
  return places
end

return _M

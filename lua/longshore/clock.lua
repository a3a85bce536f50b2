--- Time as a dependency: whatever needs the time takes a clock.
--
-- A clock is a table with `now()`, seconds since 1970 (UTC) as a number with a
-- fraction, and `sleep(seconds)`. Tests inject a `fixed` one.
--
-- Room: shared ground, no I/O in `require`.
-- @module longshore.clock
local core = require "longshore.core"

local _M = {}

--- The system's clock.
_M.system = {
  now = core.now,
  sleep = core.sleep,
}

--- A clock that stands still until it is told to move.
-- `clock.set(t)` and `clock.advance(seconds)` move it; `sleep` advances it.
-- @tparam number start seconds since 1970
-- @treturn table clock
function _M.fixed(start)
  assert(type(start) == "number", "start: number expected")
  local at = start
  local clock = {}
  function clock.now() return at end
  function clock.set(t) at = t end
  function clock.advance(seconds) at = at + seconds end
  clock.sleep = clock.advance
  return clock
end

return _M

--- How often a token may ask: so many requests in so many seconds, counted in a
-- sliding window of two halves (the last window counts for the share of it that
-- the sliding one still covers).
--
-- The counter is injected: nginx's threads and workers share one, a script has
-- its own. Room: http. No I/O.
-- @module longshore.http.limit
local errors = require "longshore.errors"

local _M = {}

--- A counter for one process.
-- @treturn function `add(key, by, seconds) -> value`: adds to a key that is forgotten after so many seconds
function _M.memory(clock)
  local values, ends, size = {}, {}, 0
  return function(key, by, seconds)
    local now = clock.now()
    if size > 10000 then
      for name, till in pairs(ends) do
        if till <= now then values[name], ends[name], size = nil, nil, size - 1 end
      end
    end
    if not ends[key] then size = size + 1 end
    if not ends[key] or ends[key] <= now then values[key], ends[key] = 0, now + seconds end
    values[key] = values[key] + by
    return values[key]
  end
end

--- Makes a limiter. An actor's own `rate` comes before the one for all.
-- @tparam table options `rate` (`{ requests =, seconds = }`; default: no limit), `clock`, `add` (a counter like that of
-- `memory`)
-- @treturn function allow(actor) -> true | nil, err (rate_limited, with retry_after)
function _M.new(options)
  local rate, clock = options.rate, options.clock
  assert(not rate or rate.requests >= 1 and rate.seconds >= 1, "rate: requests and seconds expected")
  local add = options.add or _M.memory(clock)
  return function(actor)
    local own = actor.rate or rate
    if not own then return true end
    local requests, seconds = own.requests, own.seconds
    local who = actor.token_id or ("%s\n%s\n%s"):format(actor.tenant, actor.organization, actor.user)
    local now = clock.now()
    local window = math.floor(now / seconds)
    local past = (now - window * seconds) / seconds
    local key = ("rate:%s:%.0f"):format(who, window)
    local current = add(key, 1, 2 * seconds)
    local before = add(("rate:%s:%.0f"):format(who, window - 1), 0, 2 * seconds)
    if current + before * (1 - past) <= requests then return true end
    -- Who is sent away is not counted, and so not kept out for ever by asking.
    add(key, -1, 2 * seconds)
    return errors.fail("rate_limited", ("this token asks more than %d times in %d s"):format(requests, seconds),
      { retry_after = math.max(1, math.ceil((1 - past) * seconds)) })
  end
end

return _M

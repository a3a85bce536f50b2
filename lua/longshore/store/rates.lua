--- The store's operations on rates: how often something was done lately. See
-- `longshore.store` for the contract.
--
-- One number for each name: the time at which everything that was taken is paid
-- for, when `limit` are paid for in `seconds`. Taking moves it on by one payment;
-- it may be ahead of now by at most `limit` payments. One statement does both, so
-- that however many take at once, no more than the limit get any.
--
-- Room: store.
-- @module longshore.store.rates
local rows = require "longshore.store.rows"

local _M = {}

-- Microseconds, so that many in a short time have exact payments.
local function micro(seconds) return rows.milliseconds(seconds * 1000) end

function _M.take_rate(self, name, rate)
  local now, window = micro(rate.now), micro(rate.seconds)
  local step = rows.milliseconds(math.max(1, math.floor(window / rate.limit)) / 1000)
  local answer, err = self.db:query([[INSERT INTO rates (name, paid_until) VALUES (?, ?i)
    ON CONFLICT (name) DO UPDATE SET paid_until =
      CASE WHEN rates.paid_until > ?i THEN rates.paid_until ELSE ?i END + ?i
    WHERE rates.paid_until + ?i <= ?i RETURNING name]],
    name, now + step, now, now, step, step, now + window)
  if not answer then return nil, err end
  if answer[1] then return 0 end
  answer, err = self.db:query("SELECT CAST(paid_until AS TEXT) FROM rates WHERE name = ?", name)
  if not answer then return nil, err end
  local paid_until = tonumber(answer[1] and answer[1][1] or now)
  return math.max(0.001, (paid_until + step - now - window) / 1e6)
end

function _M.purge_rates(self, before)
  return self.db:exec("DELETE FROM rates WHERE paid_until < ?i", micro(before))
end

return _M

--- Which parts under way are so slow, compared with the others to the same
-- endpoint, that sending them again on a fresh connection is the shorter way.
--
-- A connection can be caught on a bad path or a sick server while its
-- neighbours fly: then a part holds up the whole file. (A connection on which
-- next to nothing moves is ended by the engine's own watchdog, alone as it may
-- be.) A part is called slow when, over some seconds, it carried less than an
-- eighth of what the others carried at the median, and when what is left of it
-- would take three times as long as all of it at their speed. Where all are
-- slow, nobody is.
--
-- A state machine: it is told what moved and when.
--
-- Room: uploader, no I/O.
-- @module longshore.uploader.flights
local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.flights" }

--- Makes the flights of one endpoint.
-- @tparam[opt] table options `window`: seconds over which speed is measured (5)
-- @treturn flights
function _M.new(options)
  local window = options and options.window or 5
  assert(type(window) == "number" and window > 0, "window: seconds expected")
  return setmetatable({ window = window, under_way = {}, checked = -math.huge }, mt)
end

--- A part begins to be sent.
-- @tparam number now
-- @tparam number length
-- @treturn table flight
function methods:begin(now, length)
  local flight = { length = length, sent = 0, mark_at = now, mark_sent = 0 }
  self.under_way[flight] = true
  return flight
end

--- A part has been sent, or has failed.
function methods:finish(flight)
  self.under_way[flight] = nil
end

--- So much of a part is sent.
function methods.moved(_, flight, sent)
  flight.sent = sent
end

-- Speeds over the window that has just passed; nil for who is too young.
local function measure(flights, now)
  local speeds = {}
  for flight in pairs(flights.under_way) do
    local passed = now - flight.mark_at
    if passed >= flights.window then
      flight.speed = (flight.sent - flight.mark_sent) / passed
      flight.mark_at, flight.mark_sent = now, flight.sent
      speeds[#speeds + 1] = flight.speed
    elseif flight.speed then
      speeds[#speeds + 1] = flight.speed
    end
  end
  table.sort(speeds)
  return speeds
end

--- The parts to send again. Cheap to call often.
-- @tparam number now
-- @treturn table list of flights; each is named once
function methods:slow(now)
  local found = {}
  if now - self.checked < self.window / 5 then return found end
  self.checked = now
  local speeds = measure(self, now)
  if #speeds < 3 then return found end
  local median = speeds[math.floor(#speeds / 2) + 1]
  for flight in pairs(self.under_way) do
    local speed = flight.speed
    if speed and not flight.named and speed < median / 8
      and (flight.length - flight.sent) * median > 3 * flight.length * speed then
      flight.named = true
      found[#found + 1] = flight
    end
  end
  return found
end

return _M

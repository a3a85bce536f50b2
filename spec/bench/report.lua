-- What the benchmarks share: running programs, medians, the table that is
-- printed and the file that is written.
local json = require "longshore.json"

local _M = {}

--- Runs a command; its lines of the form "name number" become a table. Raises
-- with all of its output when it fails.
function _M.measure(command)
  local p = assert(io.popen(command .. " 2>&1; echo exit $?"))
  local out, values = {}, {}
  for line in p:lines() do
    out[#out + 1] = line
    local name, value = line:match("^(%S+) ([%d.]+)$")
    if name then values[name] = tonumber(value) end
  end
  p:close()
  if values.exit ~= 0 then
    error(command .. "\n" .. table.concat(out, "\n"), 0)
  end
  values.exit = nil
  return values
end

--- The median of a list.
function _M.median(list)
  local sorted = {}
  for i, v in ipairs(list) do sorted[i] = v end
  table.sort(sorted)
  local n = #sorted
  if n % 2 == 1 then return sorted[(n + 1) / 2] end
  return (sorted[n / 2] + sorted[n / 2 + 1]) / 2
end

--- Runs several commands in turn, `rounds` times, so that whatever else the
-- machine does touches all of them; the median of each value they print.
function _M.alternate(commands, rounds)
  local seen, result = {}, {}
  for _ = 1, rounds do
    for _, command in ipairs(commands) do
      for name, value in pairs(_M.measure(command)) do
        seen[name] = seen[name] or {}
        table.insert(seen[name], value)
      end
    end
  end
  for name, list in pairs(seen) do result[name] = _M.median(list) end
  return result
end

local function grouped(v)
  local text = ("%.0f"):format(v)
  while true do
    local n
    text, n = text:gsub("^(%d+)(%d%d%d)", "%1,%2")
    if n == 0 then return text end
  end
end

-- How many places behind the point a unit is worth.
local places = { ["GB/s"] = 1, MiB = 1, ms = 0, s = 2, ["s/GiB"] = 3 }

--- A figure with its unit, as people read it.
function _M.value(v, unit)
  if unit:find("^%a+s/s$") then -- URLs/s, requests/s
    return v >= 1e6 and ("%.2f M/s"):format(v / 1e6) or grouped(v) .. "/s"
  end
  if unit == "ns" then return v >= 100 and grouped(v) .. " ns" or ("%.1f ns"):format(v) end
  return ("%." .. (places[unit] or 3) .. "f %s"):format(v, unit)
end

--- A report. row{case=, ours=, peer=, peer_name=, unit=, goal=nil, less=nil}:
-- the ratio (ours / peer, unless it is given as the median of pairs) must reach
-- the goal, or with `less` stay below it. A missed goal is told and written down,
-- but is no failure: a benchmark fails for a wrong result only.
function _M.new(name)
  local rows, self = {}, {}

  function self.row(row)
    row.ratio = row.ratio or row.ours / row.peer
    if row.goal then
      if row.less then row.met = row.ratio <= row.goal else row.met = row.ratio >= row.goal end
    end
    rows[#rows + 1] = row
  end

  --- Prints the table and writes build/bench/NAME.json.
  function self.finish()
    local list, missed = {}, 0
    print(("\n%-46s %11s %11s  %-30s %8s  %s"):format(name, "ours", "peer", "peer", "ratio", "goal"))
    for i, row in ipairs(rows) do
      local goal = ""
      if row.goal then
        goal = ("%s %.4g %s"):format(row.less and "<=" or ">=", row.goal, row.met and "met" or "NOT MET")
        if not row.met then missed = missed + 1 end
      end
      print(("%-46s %11s %11s  %-30s %8.4g  %s"):format(row.case, _M.value(row.ours, row.unit),
        _M.value(row.peer, row.unit), row.peer_name, row.ratio, goal))
      list[i] = {
        case = row.case, ours = row.ours, peer = row.peer, unit = row.unit, peer_name = row.peer_name,
        ratio = row.ratio, goal = row.goal or json.null, met = row.met == nil and json.null or row.met,
        less_is_better = row.less and true or false,
      }
    end
    local path = ("%s/bench/%s.json"):format(os.getenv("BUILD") or "build", name)
    local f = assert(io.open(path, "w"))
    f:write(json.encode(json.array(list)), "\n")
    f:close()
    print(("%s; written to %s"):format(missed == 0 and "every goal is met" or missed .. " NOT MET", path))
  end

  return self
end

return _M

--- Counters of all workers and their threads in one shared dictionary, and their
-- text as Prometheus reads it.
--
-- A key is the sample's name and labels as they are printed, so that nothing has
-- to be put together but when something is counted. Counting is one atomic
-- addition in shared memory and never waits; without the dictionary it does nothing.
-- An nginx worker gathers what its handlers count and adds it once a second; what
-- other workers counted is seen that late. A thread gathers for as long as it handles several requests.
--
-- Room: nginx.
-- @module longshore.nginx.metrics
local blocks = require "longshore.nginx.blocks"

local _M = {}

-- Upper bounds of the buckets, in seconds.
local BOUNDS = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10 }

local families = {
  { "longshore_requests_total", "counter", "Requests answered, by operation and status." },
  { "longshore_request_seconds", "histogram", "Time from the request's first byte to its answer, by operation." },
  { "longshore_received_bytes_total", "counter", "Bytes of requests, by operation." },
  { "longshore_sent_bytes_total", "counter", "Bytes of answers, by operation." },
  { "longshore_errors_total", "counter", "Requests that failed, by the error's code." },
  { "longshore_refused_total", "counter", "Requests sent away because too many were there already." },
  { "longshore_together_total", "counter", "Requests that shared a thread with others." },
  { "longshore_near_total", "counter", "Requests answered from rows that were read a moment ago, without a thread." },
  { "longshore_rate_limited_total", "counter", "Requests sent away because their token asked too often." },
  { "longshore_calls", "gauge", "Calls in worker threads or waiting for one, by pool and nginx worker." },
  { "longshore_store_requests_total", "counter", "Requests to object stores, by bucket and outcome." },
  { "longshore_store_seconds", "histogram", "Time of requests to object stores, by bucket." },
  { "longshore_store_sent_bytes_total", "counter", "Bytes of bodies sent to object stores, by bucket." },
  { "longshore_store_received_bytes_total", "counter", "Bytes of bodies read from object stores, by bucket." },
  { "longshore_hooks_total", "counter", "Decisions of the policy, by hook and outcome." },
  { "longshore_hook_seconds", "histogram", "Time of the policy's decisions, by hook." },
  { "longshore_uploads", "gauge", "Uploads in the database, by state." },
  { "longshore_cleanups", "gauge", "Cleanups that wait to be done, by kind." },
  { "longshore_events", "gauge", "After-hooks that wait to be delivered, by target." },
  { "longshore_deliveries_total", "counter", "Deliveries of after-hooks that were due, by outcome." },
  { "longshore_uploaded_bytes_total", "counter", "Bytes of files that were completed, by service." },
  { "longshore_ready", "gauge", "1 while the database answers." },
  { "longshore_janitor_total", "counter", "What the janitor did." },
}

local function dictionary()
  return ngx.shared[blocks.counters]
end

local function escape(value)
  return (tostring(value):gsub('[\\"\n]', { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }))
end

--- Labels as they are printed.
-- @tparam {string,...} pairs name, value, name, value ...
-- @treturn string
function _M.labels(pairs)
  local words = {}
  for i = 1, #pairs, 2 do words[#words + 1] = ('%s="%s"'):format(pairs[i], escape(pairs[i + 1])) end
  return table.concat(words, ",")
end

-- What `make` makes of two strings, made once: names, operations, buckets and hooks are few.
local function once(make)
  local all = {}
  return function(first, second)
    local known = all[first]
    if not known then
      known = {}
      all[first] = known
    end
    local made = known[second]
    if not made then
      made = make(first, second)
      known[second] = made
    end
    return made
  end
end

local label_of = once(function(name, value) return _M.labels { name, value } end)
local key_of = once(function(name, labels) return name .. "{" .. labels .. "}" end)

-- The keys of a histogram's samples.
local keys_of = once(function(name, labels)
  local keys = { sum = name .. "_sum{" .. labels .. "}" }
  for i = 1, #BOUNDS + 1 do keys[i] = ("%s_bucket{%s|%02d}"):format(name, labels, i) end
  return keys
end)

--- One label as it is printed; for names that have few values.
-- @tparam string name
-- @tparam string value
-- @treturn string
function _M.label(name, value)
  return label_of(name, value)
end

-- What was counted here and not yet added; nil where it is added at once.
local gathered

local function add(key, by)
  if gathered then
    gathered[key] = (gathered[key] or 0) + by
    return
  end
  local dict = dictionary()
  if dict then dict:incr(key, by, 0) end
end

--- Adds what was gathered.
function _M.flush()
  local dict = dictionary()
  if not gathered or not dict then return end
  local all = gathered
  gathered = {}
  for key, by in pairs(all) do dict:incr(key, by, 0) end
end

--- From now on counts are gathered: whoever calls this calls `flush` every second, and in the end; or `settle` soon.
function _M.gather()
  gathered = gathered or {}
end

--- Adds what was gathered; from now on counts are added at once.
function _M.settle()
  _M.flush()
  gathered = nil
end

--- Adds to a counter.
-- @tparam string name
-- @tparam string labels of `labels`
-- @tparam[opt=1] number by
function _M.count(name, labels, by)
  add(key_of(name, labels), by or 1)
end

--- Sets a gauge.
-- @tparam string name
-- @tparam string labels
-- @tparam number value
function _M.set(name, labels, value)
  local dict = dictionary()
  if dict then dict:set(key_of(name, labels), value) end
end

--- Sets a family of gauges that differ in one label; those that have no value any more are gone.
-- @tparam string name
-- @tparam string label
-- @tparam table values of the label to numbers
function _M.replace(name, label, values)
  local dict, head = dictionary(), name .. "{"
  if not dict then return end
  local kept = {}
  for value, number in pairs(values) do
    local key = head .. _M.labels { label, value } .. "}"
    kept[key] = true
    dict:set(key, number)
  end
  for _, key in ipairs(dict:get_keys(0)) do
    if key:sub(1, #head) == head and not kept[key] then dict:delete(key) end
  end
end

--- Adds an observation to a histogram.
-- @tparam string name
-- @tparam string labels
-- @tparam number seconds
function _M.observe(name, labels, seconds)
  local i = 1
  while BOUNDS[i] and seconds > BOUNDS[i] do i = i + 1 end
  local keys = keys_of(name, labels)
  -- Each observation is in one bucket here; `render` adds them up.
  add(keys[i], 1)
  add(keys.sum, seconds)
end

--- Counts an answered request.
-- @tparam string operation
-- @tparam number status
-- @tparam number seconds
-- @tparam number received bytes
-- @tparam number sent bytes
function _M.request(operation, status, seconds, received, sent)
  local labels = label_of("operation", operation)
  _M.count("longshore_requests_total", labels .. ',status="' .. status .. '"')
  _M.observe("longshore_request_seconds", labels, seconds)
  _M.count("longshore_received_bytes_total", labels, received)
  _M.count("longshore_sent_bytes_total", labels, sent)
end

local function number(value)
  if value % 1 == 0 and math.abs(value) < 2 ^ 53 then return ("%.0f"):format(value) end
  return ("%.6f"):format(value)
end

-- The samples of a histogram: buckets added up, then sum and count.
local function histogram(lines, name, buckets, sums)
  local sorted = {}
  for labels in pairs(buckets) do sorted[#sorted + 1] = labels end
  table.sort(sorted)
  for _, labels in ipairs(sorted) do
    local total, comma = 0, labels == "" and "" or ","
    for i = 1, #BOUNDS + 1 do
      total = total + (buckets[labels][i] or 0)
      lines[#lines + 1] = ('%s_bucket{%s%sle="%s"} %s'):format(name, labels, comma,
        BOUNDS[i] and tostring(BOUNDS[i]) or "+Inf", number(total))
    end
    lines[#lines + 1] = ("%s_sum{%s} %s"):format(name, labels, number(sums[labels] or 0))
    lines[#lines + 1] = ("%s_count{%s} %s"):format(name, labels, number(total))
  end
end

--- Everything that was counted, as text.
-- @treturn string
function _M.render()
  _M.flush()
  local dict, plain, buckets, sums = dictionary(), {}, {}, {}
  for _, key in ipairs(dict and dict:get_keys(0) or {}) do
    local value = dict:get(key)
    local name, labels = key:match("^([%w_]+){(.*)}$")
    if value and name then
      local base, kind = name:match("^(.*_seconds)_(%a+)$")
      if kind == "bucket" then
        local rest, i = labels:match("^(.*)|(%d+)$")
        buckets[base] = buckets[base] or {}
        buckets[base][rest] = buckets[base][rest] or {}
        buckets[base][rest][tonumber(i)] = value
      elseif kind == "sum" then
        sums[base] = sums[base] or {}
        sums[base][labels] = value
      else
        plain[name] = plain[name] or {}
        table.insert(plain[name], ("%s%s %s"):format(name, labels == "" and "" or "{" .. labels .. "}", number(value)))
      end
    end
  end
  local lines = {}
  for _, family in ipairs(families) do
    local name, kind, help = family[1], family[2], family[3]
    if plain[name] or buckets[name] then
      lines[#lines + 1] = ("# HELP %s %s"):format(name, help)
      lines[#lines + 1] = ("# TYPE %s %s"):format(name, kind)
      if buckets[name] then histogram(lines, name, buckets[name], sums[name] or {}) end
      table.sort(plain[name] or {})
      for _, line in ipairs(plain[name] or {}) do lines[#lines + 1] = line end
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

return _M

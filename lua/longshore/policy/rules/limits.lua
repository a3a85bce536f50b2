--- Rules of how much, how often and when.
--
-- Room: policy, no I/O. Runs inside the sandbox too.
-- @module longshore.policy.rules.limits
local util = require "longshore.policy.rules.util"

local _M = {}

-- Two sizes for people: in bytes where both would read the same.
local function both(size, limit)
  local a, b = util.bytes(size), util.bytes(limit)
  if a ~= b then return a, b end
  return ("%.0f bytes"):format(size), ("%.0f"):format(limit)
end

--- Sizes of a file, as announced and as it arrived.
-- @tparam table options `max`, `min` (bytes), `announced` (refuse an upload that does not say its size)
function _M.size(options)
  util.options("size", options, { max = "whole", min = "whole", announced = "boolean" }, "max, min or announced")
  local min = options.min or 0
  if options.max and min > options.max then error("rules.size: min is more than max", 2) end
  return {
    about = ("a file has %s to %s"):format(util.bytes(min), options.max and util.bytes(options.max) or "any size"),
    before_initiate = function(context)
      local size = context.size
      if not size then
        if options.announced then
          return false, { code = "invalid", field = "size", message = "the size must be announced" }
        end
        return true
      end
      if options.max and size > options.max then
        return false, { code = "too_large", field = "size", limit = options.max,
          message = ("the file has %s; at most %s are allowed"):format(both(size, options.max)) }
      elseif size < min then
        return false, { code = "invalid", field = "size",
          message = ("the file has %s; at least %s are expected"):format(both(size, min)) }
      end
    end,
    before_complete = function(context)
      local size = context.size
      if options.max and size and size > options.max then
        return false, { code = "too_large", field = "size", limit = options.max,
          message = ("%s arrived; at most %s are allowed"):format(both(size, options.max)) }
      elseif size and size < min then
        return false, { code = "invalid", field = "size",
          message = ("%s arrived; at least %s are expected"):format(both(size, min)) }
      end
    end,
  }
end

local LIMITS = { bytes = "whole", files = "whole", running = "whole" }

--- Quotas of a user and of an organization: finished and running files count, in
-- the transaction that starts an upload, so parallel requests cannot overrun them.
-- Files of all services count together; one that replaces another counts beside it until it is there. What is
-- aborted, expired or deleted counts no longer. An upload that does not say its size (cognite's never do) begins
-- while there is any room, and its bytes are counted when they are there: too many are removed.
-- `rules.size { announced = true }` refuses such uploads.
-- @tparam table options `user` and `organization`, each with `bytes`, `files`, `running`
function _M.quota(options)
  util.options("quota", options, { user = "table", organization = "table" }, "user or organization")
  local about = {}
  for _, scope in ipairs { "user", "organization" } do
    local limits = options[scope] or {}
    util.options("quota", limits, LIMITS, options[scope] and scope .. ": bytes, files or running")
    for _, name in ipairs { "bytes", "files", "running" } do
      if limits[name] then
        about[#about + 1] = ("each %s: %s"):format(scope, name == "bytes" and util.bytes(limits[name])
          or ("%.0f %s"):format(limits[name], name == "running" and "uploads at a time" or "files"))
      end
    end
  end
  return {
    about = "quotas: " .. table.concat(about, ", "),
    before_initiate = function(context)
      local quotas = util.copy(context.quotas)
      for _, scope in ipairs { "user", "organization" } do
        if options[scope] then
          local quota = util.copy(options[scope])
          quota.scope = scope
          quotas[#quotas + 1] = quota
        end
      end
      return { quotas = quotas }
    end,
  }
end

--- How many files a user or an organization may have: a quota of files.
-- @tparam table options `user`, `organization` (numbers)
function _M.count(options)
  util.options("count", options, { user = "whole", organization = "whole" }, "user or organization")
  return _M.quota {
    user = options.user and { files = options.user }, organization = options.organization
      and { files = options.organization },
  }
end

local WHO = {
  user = function(actor) return actor.tenant .. "\n" .. actor.organization .. "\n" .. actor.user end,
  organization = function(actor) return actor.tenant .. "\n" .. actor.organization end,
  address = function(actor) return actor.client and actor.client.address or "unknown" end,
  all = function() return "" end,
}

--- How often something may be done; counted in the store, for all brokers together.
-- @tparam table options `limit` times in `seconds` (60), `by` user (default), organization, address or all,
-- `hook` (default before_initiate), `name` (rules of one name share their count: give them one limit)
function _M.rate(options)
  util.options("rate", options, { limit = "positive", seconds = "positive", by = WHO, hook = "string",
    name = "string" })
  local limit, seconds, by, hook = options.limit, options.seconds or 60, options.by or "user",
    options.hook or "before_initiate"
  if not limit or limit < 1 then error("rules.rate: limit: 1 or more expected", 2) end
  if seconds > 31536000 then error("rules.rate: seconds: at most a year expected", 2) end
  if hook:sub(1, 7) ~= "before_" then error("rules.rate: hook: a before_ hook expected", 2) end
  -- So many a minute and so many an hour are two counts.
  local name = options.name or ("%s %.14g %.14g"):format(hook, limit, seconds)
  return {
    about = ("at most %.0f times in %.0f s by %s (%s)"):format(limit, seconds, by, hook),
    [hook] = function(context, host)
      if not context.actor then return true end
      local wait, err = host.take { name = name, key = by .. "\n" .. WHO[by](context.actor),
        limit = limit, seconds = seconds }
      if wait == nil then error(err and err.message or "the count failed", 0) end
      if wait > 0 then
        return false, { code = "rate_limited", status = 429, retry_after = wait,
          message = ("at most %.0f times in %.0f seconds; wait %.0f s"):format(limit, seconds, math.ceil(wait)) }
      end
    end,
  }
end

local function clamp(value, high)
  return math.floor(math.max(1, math.min(value, high)))
end

local LONGEST = 315360000 -- seconds of an upload, see longshore.policy.contract

-- Which entry of a list fits the client: by the beginning of its agent's name.
local function for_client(list, actor)
  local agent = actor and actor.client and actor.client.agent or ""
  for _, entry in ipairs(list or {}) do
    if agent:sub(1, #entry.agent) == entry.agent then return entry end
  end
  return {}
end

--- Lifetimes by size and by client.
-- @tparam table options `upload`: seconds an upload may take, plus `per_gib` seconds for each GiB, at most
-- `max`; `url`: seconds of a part's URL; `download`: of a download's; `clients`: list of `{agent=, upload=,
-- url=}`, the first whose `agent` the User-Agent begins with
function _M.expiry(options)
  util.options("expiry", options, { upload = "positive", per_gib = "positive", max = "positive", url = "positive",
    download = "positive", clients = "table" }, "upload, url, download or clients")
  for _, entry in ipairs(options.clients or {}) do
    util.options("expiry.clients", entry, { agent = "string", upload = "positive", url = "positive" })
    if not entry.agent then error("rules.expiry: clients: agent is missing", 2) end
  end
  if (options.per_gib or options.max) and not (options.upload or options.clients) then
    error("rules.expiry: upload is missing", 2)
  end
  local about = {}
  if options.upload then
    about[1] = ("an upload may take %.0f s%s"):format(options.upload,
      options.per_gib and (" and %.0f s for each GiB"):format(options.per_gib) or "")
  end
  if options.url then about[#about + 1] = ("a URL works %.0f s"):format(options.url) end
  local rule = { about = table.concat(about, ", ") }
  function rule.before_initiate(context)
    local base = for_client(options.clients, context.actor).upload or options.upload
    if not base then return true end
    local seconds = base + (context.size or 0) / 1073741824 * (options.per_gib or 0)
    return { upload_seconds = clamp(seconds, math.min(options.max or LONGEST, LONGEST)) }
  end
  function rule.before_sign(context)
    local seconds = for_client(options.clients, context.actor).url or options.url
    return seconds and { url_seconds = clamp(seconds, 604800) } or true
  end
  if options.download then
    function rule.before_download() return { url_seconds = clamp(options.download, 604800) } end
  end
  return rule
end

local DAYS = { mon = 1, tue = 2, wed = 3, thu = 4, fri = 5, sat = 6, sun = 7 }

local function minute_of(text, option)
  local h, m = tostring(text):match("^(%d%d?):(%d%d)$")
  h, m = tonumber(h), tonumber(m)
  if not h or m > 59 or h * 60 + m > 1440 then
    error(("rules.hours: %s: a time such as 08:30 expected"):format(option), 3)
  end
  return h * 60 + m
end

--- Office hours: uploads begin only then.
-- @tparam table options `from` ("08:00"), `to` ("18:00"; before `from`: over midnight), `days` (default mon to
-- fri), `zone` ("+01:00", or with summer time as POSIX has it, "CET-1CEST,M3.5.0,M10.5.0/3"; default UTC)
function _M.hours(options)
  util.options("hours", options, { from = "string", to = "string", days = "list", zone = "string" })
  local from, to = minute_of(options.from or "08:00", "from"), minute_of(options.to or "18:00", "to")
  local zone = util.offset(options.zone)
  if not zone then error("rules.hours: zone: an offset such as +01:00, or CET-1CEST,M3.5.0,M10.5.0/3, expected", 2) end
  local days, names = {}, options.days or { "mon", "tue", "wed", "thu", "fri" }
  for _, name in ipairs(names) do
    if not DAYS[name] then error("rules.hours: days: mon, tue, wed, thu, fri, sat, sun expected", 2) end
    days[DAYS[name]] = true
  end
  local text = ("%s to %s (%s), %s"):format(options.from or "08:00", options.to or "18:00", options.zone or "UTC",
    table.concat(names, " "))
  return {
    about = "uploads begin " .. text,
    before_initiate = function(context, host)
      if context.resume then return true end
      local at = util.calendar(host.now(), zone(host.now()))
      local day, minute = at.weekday, at.minute
      local open
      if from < to then
        open = days[day] and minute >= from and minute < to
      else
        open = (days[day] and minute >= from) or (days[(day + 5) % 7 + 1] and minute < to)
      end
      if open then return true end
      return false, { code = "forbidden", message = "uploads are accepted " .. text }
    end,
  }
end

return _M

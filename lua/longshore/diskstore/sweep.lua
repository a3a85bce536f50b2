--- The janitor of the disk store: finishes what a crash or a deletion left.
--
-- - `trash/`: the data of objects that were replaced or deleted goes after
--   `grace` seconds, when nobody can still be opening it, and not while
--   `in_use(id)` says that it is being sent.
-- - `pending/` and `spool/`: what has not changed for `stale` seconds belongs
--   to a request that died; the object never became visible.
-- - `sessions/`: those whose time is over, with what they have.
--
-- A host that has just started knows that nothing older than itself is alive
-- (`dead_before`), and need not wait.
--
-- It may run at any time, beside requests and beside itself.
--
-- Room: diskstore.
-- @module longshore.diskstore.sweep
local commit = require "longshore.diskstore.commit"
local core = require "longshore.core"
local document = require "longshore.diskstore.document"
local files = require "longshore.diskstore.files"
local sessions = require "longshore.diskstore.sessions"

local _M = {}

-- The kernel stamps files with the time of its last tick (10 ms at 100 Hz): what
-- is younger than a start can look this many seconds older.
local TICK = 0.05

-- Seconds since a file or its name was last changed; nil where it is gone.
local function age(path, now)
  local stat = core.file_stat(path)
  return stat and now - math.max(tonumber(stat.mtime_ns), tonumber(stat.ctime_ns)) / 1e9
end

-- Whether the visible object of the document's key is this very one.
local function is_visible(store, doc)
  local live, err = commit.find(store, doc.bucket, doc.key)
  if err then return nil, err end
  return live ~= nil and live.id == doc.id
end

local function empty_trash(store, name, report)
  local path = store.layout.folder .. "/trash/" .. name
  if name:find("%.bucket$") then
    if files.remove_tree(path) then report.removed = report.removed + 1 end
    return
  end
  local doc = document.read(path)
  local visible = doc and is_visible(store, doc)
  if doc and visible == nil then
    report.errors = report.errors + 1
    return
  end
  local ok = true
  if not visible then ok = files.remove_tree(store.layout:data(name)) end
  if ok then ok = os.remove(path) end
  if ok then report.removed = report.removed + 1 else report.errors = report.errors + 1 end
end

local function drop_pending(store, name, report)
  local path = store.layout.folder .. "/pending/" .. name
  local id, kind = name:match("^(%x+)%.(%l+)$")
  local ok = true
  if kind == "put" or kind == "upload" then
    local doc = document.read(path)
    local visible = doc and kind == "put" and is_visible(store, doc)
    if not visible then ok = files.remove_tree(store.layout:data(id)) end
  end
  -- "complete": the upload is still open, or an object; its parts stay.
  if ok then ok = files.remove_tree(path) end
  if ok then report.removed = report.removed + 1 else report.errors = report.errors + 1 end
end

--- One round.
-- @tparam table store
-- @tparam[opt] table options grace (seconds, 60), stale (seconds, 3600), dead_before (seconds since 1970),
-- in_use(id) -> boolean, limit (how many things are looked at)
-- @treturn table report: removed, kept, errors
function _M.run(store, options)
  options = options or {}
  local now = store.clock.now()
  local report = { removed = 0, kept = 0, errors = 0 }
  local left = options.limit or math.huge
  local function each(folder, limit, fn)
    for _, name in ipairs(files.list(store.layout.folder .. "/" .. folder) or {}) do
      if left <= 0 then return end
      left = left - 1
      local path = store.layout.folder .. "/" .. folder .. "/" .. name
      local old = age(path, now)
      local dead = old and options.dead_before and now - old < options.dead_before - TICK
      -- A clock that was set back must not keep it for ever.
      if old and (old >= limit or old < -86400 or dead) then
        fn(name)
      elseif old then
        report.kept = report.kept + 1
      end
    end
  end
  local in_use = options.in_use or function() return false end
  each("trash", options.grace or 60, function(name)
    if in_use(name) then
      report.kept = report.kept + 1
    else
      empty_trash(store, name, report)
    end
  end)
  each("pending", options.stale or 3600, function(name) drop_pending(store, name, report) end)
  each("spool", options.stale or 3600, function(name)
    local ok = files.remove_tree(store.layout:spool() .. "/" .. name)
    if ok then report.removed = report.removed + 1 else report.errors = report.errors + 1 end
  end)
  each("sessions", 0, function(name)
    local stem = name:match("^(.*)%.lock$")
    if stem then -- it goes with its document; one without belongs to a request that died
      local old = age(store.layout:session(name), now)
      if old and old >= (options.stale or 3600) and not files.read(store.layout:session(stem)) then
        os.remove(store.layout:session(name))
      end
      return
    end
    local gone = sessions.sweep_session(store, name, now)
    if gone then
      report.removed = report.removed + 1
    elseif gone == false then
      report.kept = report.kept + 1
    else
      report.errors = report.errors + 1
    end
  end)
  return report
end

return _M

--- Rows that were read a moment ago: for hosts that may answer from them, for some
-- seconds, without asking the database.
--
-- `watch` lets a store leave such rows in a cache, and outdate them at every change
-- that it makes: each change leaves a mark that no other has, a row is kept with the mark
-- from before it was read, and is good while the mark is the same. So a reader who was
-- slower than the change cannot bring the old row back, and with a cache that
-- all threads and processes of a host share, whoever asks after a change was answered
-- never gets the row from before it. Changes made elsewhere (on another machine, on
-- the command line) are seen when the row's seconds are over: they run from when it
-- was read, and using it does not extend them.
--
-- `only` is a store that knows nothing else than such rows. A row that not everybody may
-- answer from is kept apart, for the watched stores themselves (`again`).
--
-- Kept are tokens that are not revoked, and uploads that accept parts; used again are those whose time is not over.
--
-- Room: store, no I/O.
-- @module longshore.store.recent
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"

local _M = {}

-- How long a mark is remembered: longer than anybody needs from reading a row to keeping it, and
-- than a row is kept. (A number that counts would begin again then, and come back to what it was.)
local MARKED = 120
local UNMARKED = "-"
-- Rows kept decoded.
local DECODED = 1000

-- Where rows are kept: those for `only`, and those for the watched stores alone.
local FOR_ALL, FOR_STORES = "row:", "seen:"

local function new_reader(cache, place)
  return { cache = cache, place = place, known = {}, count = 0 }
end

-- The row under an id, shared by all who ask: not to be changed.
local function recall(self, id, owner)
  local text = self.cache.get(self.place .. id)
  if not text then return errors.fail("unavailable", "not among the recent rows") end
  local known = self.known[id]
  if not known or known.text ~= text then
    if self.count >= DECODED then self.known, self.count = {}, 0 end
    local mark, rest = text:match("^(%S+) (.*)$")
    local row, err = json.decode(rest)
    if not row then return nil, err end
    known = { text = text, row = row, mark = mark }
    self.known[id], self.count = known, self.count + 1
  end
  if known.mark ~= (self.cache.get("changes:" .. id) or UNMARKED) then
    return errors.fail("unavailable", "not among the recent rows any more")
  end
  local row = known.row
  if owner and (row.tenant ~= owner.tenant or row.organization ~= owner.organization) then
    return errors.fail("unavailable", "not among the recent rows of this owner")
  end
  return row
end

local function read_then_keep(options, what, read, is_kept, ends)
  local cache, again = options.cache, options.again
  local seen, open = new_reader(cache, FOR_STORES), new_reader(cache, FOR_ALL)
  return function(self, id, owner)
    if again and again(what) then
      local row = recall(seen, id, owner) or recall(open, id, owner)
      -- (That its time is over may be news from before it was extended.)
      if row and not (row[ends] and row[ends] <= options.clock.now()) then return row end
    end
    local mark = cache.get("changes:" .. id) or UNMARKED
    local row, err = read(self, id, owner)
    local wanted = row and is_kept(row) and options.wanted(row, what)
    if wanted then
      local place = wanted == "again" and FOR_STORES or FOR_ALL
      cache.set(place .. id, mark .. " " .. json.encode(row), options.seconds)
    end
    return row, err
  end
end

--- Lets a store's rows be used again.
-- @tparam table store of longshore.store; changed in place
-- @tparam table options `cache`: `get(key)` and `set(key, text, seconds)`; `seconds` (60 at most); `wanted(row, what)`:
-- whether to keep a row that was just read ("token" or "upload"), or "again": for the watched stores alone;
-- `again(what)`: whether who asks now takes such a row (default: nobody does), with `clock`
function _M.watch(store, options)
  store.token = read_then_keep(options, "token", store.token, function(row) return not row.revoked_at end, "expires_at")
  store.upload = read_then_keep(options, "upload", store.upload, function(row) return row.state == "uploading" end,
    "deadline")
  store:on_change(function(id) options.cache.set("changes:" .. id, core.letters(16), MARKED) end)
end

local methods = {}
-- Whatever else is asked for is not here.
local mt = { __index = function(_, name)
  return methods[name] or function() return errors.fail("unavailable", "not among the recent rows: " .. name) end
end }

function methods:token(id)
  return recall(self, id)
end

function methods:upload(id, owner)
  return recall(self, id, owner)
end

--- A store of recent rows: `token` and `upload` answer those, everything else and
-- every other row is `unavailable`.
-- @tparam table cache `get(key)`
-- @treturn table store
function _M.only(cache)
  return setmetatable(new_reader(cache, FOR_ALL), mt)
end

--- Whether `only` has a row of this id, perhaps an outdated one.
-- @tparam table cache `get(key)`
-- @tparam string id
-- @treturn boolean
function _M.has(cache, id)
  return cache.get(FOR_ALL .. id) ~= nil
end

return _M

--- Quotas: how much a user or an organization has, of all services together.
--
-- Everything is counted in the transaction that adds to it, under a lock of the
-- organization, so that whatever runs beside waits and then counts this, too. What
-- counts: files, records, datasets and managed files, from the moment they begin and with
-- the size that was announced, and what jobs are to bring; not what is deleted, aborted,
-- expired or in the trash. Content that nobody announced counts when it is there.
--
-- A *room* is what somebody asks for: `{owner={tenant,organization,user}, quotas=list|nil,
-- max_running=|nil, files=, bytes=, running=}`: how many more of each. A quota is
-- `{scope="user"|"organization", bytes=, files=, running=}`.
--
-- Room: store.
-- @module longshore.store.quotas
local errors = require "longshore.errors"
local rows = require "longshore.store.rows"

local _M = {}

local unpack = table.unpack or unpack -- luacheck: ignore

-- An upload that may still bring its file. (One that was given up may be at a store that is away.)
local RUNS = "uploads.state IN ('starting', 'uploading', 'completing')"

-- What is there: table, condition, how many files each row is, its bytes.
local KEPT = {
  { "files", "state = 'registered'", "COUNT(*)", "size" },
  { "files", "state = 'uploading' AND EXISTS (SELECT 1 FROM uploads WHERE uploads.file_id = files.id AND "
    .. RUNS .. ")", "COUNT(*)", "size" },
  { "records", "1 = 1", "COUNT(*)", "size" },
  { "datasets", "1 = 1", "COUNT(*)", "size" },
  { "jobs", "status IN ('pending', 'running')", "COUNT(*) - COUNT(dataset_id)", "size" },
  { "managed_files", "status NOT IN ('purged', 'abandoned', 'soft_deleted', 'deleting')", "COUNT(*)",
    "CASE WHEN COALESCE(declared_size, 0) > COALESCE(size, 0) THEN declared_size ELSE size END" },
}

-- A managed file waits for its first bytes, and no upload of parts brings them yet: that would be counted itself.
local WAITING = "status = 'presigned' AND NOT EXISTS (SELECT 1 FROM uploads "
  .. "WHERE uploads.file_id = managed_files.id AND " .. RUNS .. ")"

-- What is on its way.
local RUNNING = {
  { "uploads", RUNS },
  { "deliveries", "state IN ('starting', 'open', 'completing')" },
  { "jobs", "status = 'pending' AND object_key IS NULL" },
  { "managed_files", WAITING },
}

local function kept_sql(own)
  local list = {}
  for i, kind in ipairs(KEPT) do
    list[i] = ("SELECT %s AS n, COALESCE(SUM(%s), 0) AS b FROM %s WHERE tenant = ? AND organization = ?%s AND %s")
      :format(kind[3], kind[4], kind[1], own, kind[2])
  end
  return ("SELECT CAST(SUM(n) AS TEXT), CAST(SUM(b) AS TEXT) FROM (%s) AS kept"):format(
    table.concat(list, " UNION ALL "))
end

local function running_sql(own)
  local list = {}
  for i, kind in ipairs(RUNNING) do
    list[i] = ("SELECT 1 AS one FROM %s WHERE tenant = ? AND organization = ?%s AND %s"):format(kind[1], own, kind[2])
  end
  return ("SELECT CAST(COUNT(*) AS TEXT) FROM (SELECT one FROM (%s) AS each_one LIMIT ?i) AS running"):format(
    table.concat(list, " UNION ALL "))
end

local OF_USER = " AND username = ?"
local SQL = {
  organization = { kept = kept_sql "", running = running_sql "" },
  user = { kept = kept_sql(OF_USER), running = running_sql(OF_USER) },
}

-- The owner's parameters, once for each of `times` tables.
local function parameters(owner, scope, times)
  local params, n = {}, 0
  for _ = 1, times do
    params[n + 1], params[n + 2], n = owner.tenant, owner.organization, n + 2
    if scope == "user" then
      n = n + 1
      params[n] = owner.user
    end
  end
  return params, n
end

-- How many uploads run, of at most `limit`.
local function running(db, owner, scope, limit)
  local params, n = parameters(owner, scope, #RUNNING)
  params[n + 1] = limit
  local answer, err = db:query(SQL[scope].running, unpack(params, 1, n + 1))
  if not answer then return nil, err end
  return tonumber(answer[1][1])
end

local function over(quota, what, limit, used)
  return errors.fail("quota", ("the %s's quota is %.0f %s; %.0f are used"):format(quota.scope, limit, what, used),
    { reason = "quota", scope = quota.scope, quota = what, limit = limit, used = used })
end

local function fits(db, room, quota)
  local owner, bytes_count = room.owner, quota.bytes and room.bytes and room.bytes >= 0
  if bytes_count or quota.files and (room.files or 0) > 0 then
    local params, n = parameters(owner, quota.scope, #KEPT)
    local answer, err = db:query(SQL[quota.scope].kept, unpack(params, 1, n))
    if not answer then return nil, err end
    local count, bytes = tonumber(answer[1][1]), tonumber(answer[1][2])
    if quota.files and (room.files or 0) > 0 and count + room.files > quota.files then
      return over(quota, "files", quota.files, count)
    elseif bytes_count and bytes + room.bytes > quota.bytes then
      return over(quota, "bytes", quota.bytes, bytes)
    end
  end
  if quota.running and (room.running or 0) > 0 then
    local count, err = running(db, owner, quota.scope, quota.running + 1)
    if not count then return nil, err end
    if count + room.running > quota.running then return over(quota, "running uploads", quota.running, count) end
  end
  return true
end

--- Whether a managed file waits for its first bytes: counted as one that runs, until an upload brings them.
-- @tparam table db longshore.store.dbi, inside a transaction that has called `hold`
-- @tparam string id
-- @treturn boolean, or nil, err
function _M.waits(db, id)
  local answer, err = db:query("SELECT 1 FROM managed_files WHERE id = ? AND " .. WAITING, id)
  if not answer then return nil, err end
  return answer[1] ~= nil
end

-- Whether there is anything to count. (The largest number there is means no limit.)
local function counts(room)
  return room and (room.quotas and room.quotas[1] ~= nil
    or room.max_running ~= nil and room.max_running ~= rows.max_integer) or false
end

--- From here to the end of the transaction nobody else counts this organization. Whoever
-- locks rows before `admit` says so first, so that two never wait for each other.
-- @tparam table db longshore.store.dbi, inside a transaction
-- @tparam ?table room
-- @treturn true, or nil, err
function _M.hold(db, room)
  if not db.dialect.lock_name or not counts(room) then return true end -- SQLite has one writer at a time anyway
  local ok, err = db:query(db.dialect.lock_name, ("%s\n%s"):format(room.owner.tenant, room.owner.organization))
  if not ok then return nil, err end
  return true
end

--- Admits what somebody asks for, or not.
-- @tparam table db longshore.store.dbi, inside the transaction that adds it
-- @tparam ?table room
-- @treturn true, or nil, err: `quota`, its `reason` `quota` or `too_many_uploads`
function _M.admit(db, room)
  if not counts(room) then return true end
  local held, why = _M.hold(db, room)
  if not held then return nil, why end
  local limit = room.max_running
  if limit == rows.max_integer then limit = nil end
  if limit and (room.running or 0) > 0 then
    local count, err = running(db, room.owner, "organization", limit)
    if not count then return nil, err end
    if count >= limit then
      return errors.fail("quota", ("%.0f uploads are running; finish or abort some first"):format(limit),
        { reason = "too_many_uploads", limit = limit })
    end
  end
  for _, quota in ipairs(room.quotas or {}) do
    local ok, err = fits(db, room, quota)
    if not ok then return nil, err end
  end
  return true
end

return _M

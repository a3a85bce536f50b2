--- The store's operations on managed files: files whose keys clients name.
--
-- A *place* is a bucket and a key in it; a claim makes it a file's own, whatever
-- organization the file belongs to. Every change names the version of the row that
-- it was decided on.
--
-- * `write_managed(changes) -> true`: all of them, or `nil, err`: code `conflict` with
--   `reason` "claimed" (a place is another file's) or "changed" (a row, or the upload
--   beside it, is not what it was: read again). A change is
--   `{insert=row}` or `{id=, version=, fields=}`, each perhaps with `claim=place`,
--   `release=place`, `cleanups={row,...}`, `upload={id=, from={states}, to=state, now=}`, `events={row,...}` and
--   `room` (see `longshore.store.quotas`): `quota` when it is not there. Each change counts for those after it.
-- * `managed_file(id) -> row`, `managed_at(place) -> row`
-- * `managed_files{tenant, organization, user, all=bool, catalog|nil, bucket|nil, prefix|nil,
--   text|nil, limit, offset} -> rows, total`: what this user may see, by key. `all`: everything of the
--   organization (administrators).
-- * `hold_place(place, file_id, version|nil, holder) -> bool`: a claim that the file has, while its row has this
--   version (nil: there is no row), becomes the holder's; `free_place(place, holder) -> true`
-- * `due_managed(now, limit) -> rows`, oldest first
-- * `claimant(place) -> id|nil`, `count_managed(catalog, bucket|nil) -> count`
-- * `purge_managed(before, limit) -> count`: purged and abandoned rows.
-- * `cached_url(id, after) -> row|nil`: one that ends after then; `cache_url(row) -> true`,
--   `forget_urls(file_id) -> true`, `purge_urls(now) -> count`
--
-- Room: store.
-- @module longshore.store.managed
local errors = require "longshore.errors"
local quotas = require "longshore.store.quotas"
local rows = require "longshore.store.rows"
local schema = require "longshore.store.schema"
local tables = require "longshore.store.managed_tables"

local _M = {}

local unpack = table.unpack or unpack -- luacheck: ignore
local managed, urls, cleanups = tables.managed, tables.url_cache, schema.cleanups
local ms = rows.milliseconds

local function changed()
  return errors.fail("conflict", "the file was changed meanwhile; try again", { reason = "changed", retryable = true })
end

-- Makes a place the file's own. (It may be already: a change that is repeated.)
local function claim(db, place, file_id)
  local n, err = db:exec("INSERT INTO managed_claims (place, file_id) VALUES (?, ?) ON CONFLICT (place) DO NOTHING",
    place, file_id)
  if not n then return nil, err end
  if n == 1 then return true end
  local answer
  answer, err = db:query("SELECT file_id FROM managed_claims WHERE place = ?", place)
  if not answer then return nil, err end
  if answer[1] and answer[1][1] == file_id then return true end
  return errors.fail("conflict", "this key is another file's", { reason = "claimed" })
end

local function settle_upload(db, upload)
  local marks, params = {}, { upload.to, ms(upload.now), upload.id }
  for i, state in ipairs(upload.from) do
    marks[i] = "?"
    params[3 + i] = state
  end
  local n, err = db:exec(("UPDATE uploads SET state = ?, lease = 0, updated_at = ?i WHERE id = ? AND state IN (%s)")
    :format(table.concat(marks, ", ")), unpack(params))
  db:touch(upload.id)
  if not n then return nil, err end
  if n == 0 then return changed() end
  return db:exec("DELETE FROM parts WHERE upload_id = ?", upload.id)
end

local function write(db, change)
  local id = change.id
  local ok, err = quotas.admit(db, change.room)
  if not ok then return nil, err end
  if change.insert then
    id = change.insert.id
    ok, err = rows.insert(db, managed, change.insert)
    if not ok then return nil, err end
  else
    local fields = { version = change.version + 1 }
    for name, value in pairs(change.fields) do fields[name] = value end
    local set, values, n = managed:set(fields)
    values[n + 1], values[n + 2] = id, change.version
    ok, err = db:exec_with(("UPDATE managed_files SET %s WHERE id = ? AND version = ?i"):format(set), values, n + 2)
    if not ok then return nil, err end
    if ok == 0 then return changed() end
  end
  if change.release then
    ok, err = db:exec("DELETE FROM managed_claims WHERE place = ? AND file_id = ?", change.release, id)
    if not ok then return nil, err end
  end
  if change.claim then
    ok, err = claim(db, change.claim, id)
    if not ok then return nil, err end
  end
  if change.upload then
    ok, err = settle_upload(db, change.upload)
    if not ok then return nil, err end
  end
  ok, err = rows.insert_all(db, cleanups, change.cleanups)
  if not ok then return nil, err end
  return rows.insert_all(db, schema.events, change.events)
end

function _M.write_managed(self, changes)
  local db = self.db
  return db:transaction(function()
    for _, change in ipairs(changes) do -- before any row is locked
      local held, why = quotas.hold(db, change.room)
      if not held then return nil, why end
    end
    for _, change in ipairs(changes) do
      local ok, err = write(db, change)
      if not ok then return nil, err end
    end
    return true
  end)
end

local SELECT = ("SELECT %s FROM managed_files WHERE id = "):format(managed.all)

local function one(self, sql, param)
  local answer, err = self.db:query(sql, param)
  if not answer then return nil, err end
  if not answer[1] then return errors.fail("not_found", "there is no such file") end
  return managed:row(answer[1])
end

function _M.managed_file(self, id)
  return one(self, SELECT .. "?", id)
end

function _M.managed_at(self, place)
  return one(self, SELECT .. "(SELECT file_id FROM managed_claims WHERE place = ?)", place)
end

function _M.claimant(self, place)
  local answer, err = self.db:query("SELECT file_id FROM managed_claims WHERE place = ?", place)
  if not answer then return nil, err end
  return answer[1] and answer[1][1] or nil
end

function _M.hold_place(self, place, file_id, version, holder)
  local db = self.db
  return db:transaction(function()
    if version then
      -- Locks the row: what is about to happen to it sees the claim gone.
      local n, err = db:exec("UPDATE managed_files SET version = version WHERE id = ? AND version = ?i", file_id,
        version)
      if not n then return nil, err end
      if n == 0 then return false end
    end
    local n, err = db:exec("UPDATE managed_claims SET file_id = ? WHERE place = ? AND file_id = ?", holder, place,
      file_id)
    if not n then return nil, err end
    return n == 1
  end)
end

function _M.free_place(self, place, holder)
  local n, err = self.db:exec("DELETE FROM managed_claims WHERE place = ? AND file_id = ?", place, holder)
  if not n then return nil, err end
  return true
end

local function characters(text)
  return select(2, text:gsub("[^\128-\191]", ""))
end

-- What of a client's files this user sees.
local function restrict(query)
  local where = { "tenant = ?", "status NOT IN ('soft_deleted', 'deleting', 'restoring', 'purged', 'abandoned')" }
  local params = { query.tenant }
  local function both(text, ...)
    where[#where + 1] = text
    for i = 1, select("#", ...) do params[#params + 1] = (select(i, ...)) end
  end
  if query.all then
    both("(organization = ? OR visibility = 'public')", query.organization)
  else
    both("(visibility = 'public' OR (organization = ? AND (visibility = 'organization' OR username = ?)))",
      query.organization, query.user)
  end
  if query.catalog then both("catalog = ?", query.catalog) end
  if query.bucket then both("bucket = ?", query.bucket) end
  if query.prefix and query.prefix ~= "" then
    both("SUBSTR(object_key, 1, CAST(?i AS INTEGER)) = ?", characters(query.prefix), query.prefix)
  end
  if query.text and query.text ~= "" then
    local pattern = "%" .. query.text:lower():gsub("[%%_!]", "!%0") .. "%"
    both("(LOWER(name) LIKE ? ESCAPE '!' OR LOWER(object_key) LIKE ? ESCAPE '!')", pattern, pattern)
  end
  return table.concat(where, " AND "), params
end

function _M.managed_files(self, query)
  local where, params = restrict(query)
  local answer, err = self.db:query("SELECT CAST(COUNT(*) AS TEXT) FROM managed_files WHERE " .. where,
    unpack(params))
  if not answer then return nil, err end
  local total = tonumber(answer[1][1])
  params[#params + 1], params[#params + 2] = query.limit, query.offset or 0
  answer, err = self.db:query(("SELECT %s FROM managed_files WHERE %s ORDER BY object_key, id LIMIT ?i OFFSET ?i")
    :format(managed.all, where), unpack(params))
  if not answer then return nil, err end
  return managed:rows(answer), total
end

function _M.due_managed(self, now, limit)
  local answer, err = self.db:query(("SELECT %s FROM managed_files WHERE due <= ?i ORDER BY due, id LIMIT ?i")
    :format(managed.all), ms(now), limit)
  if not answer then return nil, err end
  return managed:rows(answer)
end

function _M.count_managed(self, catalog, bucket)
  local sql = [[SELECT CAST(COUNT(*) AS TEXT) FROM managed_files WHERE catalog = ?
    AND status NOT IN ('purged', 'abandoned')]]
  local answer, err
  if bucket then
    answer, err = self.db:query(sql .. " AND bucket = ?", catalog, bucket)
  else
    answer, err = self.db:query(sql, catalog)
  end
  if not answer then return nil, err end
  return tonumber(answer[1][1])
end

function _M.purge_managed(self, before, limit)
  return self.db:exec([[DELETE FROM managed_files WHERE id IN (SELECT id FROM managed_files
    WHERE status IN ('purged', 'abandoned') AND updated_at <= ?i
    AND NOT EXISTS (SELECT 1 FROM managed_claims WHERE managed_claims.file_id = managed_files.id)
    AND NOT EXISTS (SELECT 1 FROM uploads WHERE uploads.file_id = managed_files.id)
    ORDER BY updated_at LIMIT ?i)]], ms(before), limit)
end

function _M.cached_url(self, id, after)
  local answer, err = self.db:query(("SELECT %s FROM url_cache WHERE id = ? AND expires_at > ?i"):format(urls.all), id,
    ms(after))
  if not answer then return nil, err end
  return answer[1] and urls:row(answer[1]) or nil
end

function _M.cache_url(self, row)
  local values, n = urls:values(row)
  local ok, err = self.db:exec_with(urls.insert .. [[ ON CONFLICT (id) DO UPDATE SET url = excluded.url,
    headers = excluded.headers, expires_at = excluded.expires_at]], values, n)
  if not ok then return nil, err end
  return true
end

function _M.forget_urls(self, file_id)
  local ok, err = self.db:exec("DELETE FROM url_cache WHERE file_id = ?", file_id)
  if not ok then return nil, err end
  return true
end

function _M.purge_urls(self, now)
  return self.db:exec("DELETE FROM url_cache WHERE expires_at <= ?i", ms(now))
end

return _M

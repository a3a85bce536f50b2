--- Noticing: what lies at a managed file's key is compared with its row.
--
-- Nobody announces the end of a PUT, and a URL that was used once works until it ends.
-- So as long as one may be alive (`watch_until`), and until somebody has looked after that,
-- the object's ETag is compared at every read and by the janitor. Bytes that are
-- too many are removed.
--
-- Room: broker.
-- @module longshore.broker.managed.look
local decisions = require "longshore.broker.decision"
local errors = require "longshore.errors"
local keys = require "longshore.broker.managed.keys"
local rows = require "longshore.store.rows"

local _M = {}

--- A PUT that was begun before its URL ended may last this much longer.
_M.GRACE = 3600

-- How soon the janitor looks first, and how often then.
local FIRST, AGAIN = 60, 300

local LOOKED_AT = { presigned = true, uploading = true, available = true, failed = true }

--- When the janitor is to look at a file for which a URL is given now.
-- @tparam number now
-- @tparam number watch_until
-- @treturn number
function _M.first(now, watch_until)
  return math.min(now + FIRST, watch_until)
end

--- The end of the watch over a URL.
-- @tparam table row
-- @tparam number expires_at
-- @treturn number
function _M.until_after(row, expires_at)
  return math.max(row.watch_until or 0, expires_at + _M.GRACE)
end

-- The size that is too large for this client.
local function limit_of(self)
  return math.min(self.managed.max_size, (self.policy.settings or {}).max_size or math.huge)
end

_M.limit_of = limit_of

-- What a row becomes whose bytes may not stay, or are gone.
local function without_content(more)
  local fields = { status = "failed", etag = rows.null, size = rows.null, crc32c = rows.null, sha256 = rows.null }
  for name, value in pairs(more or {}) do fields[name] = value end
  return fields
end

-- Whether new bytes may be the file's content: true; or nil, an error, and whether that is for good.
local function admitted(self, row, object)
  if object.size > limit_of(self) then
    return nil, errors.new("too_large", ("%.0f bytes are more than the %.0f that are allowed"):format(object.size,
      limit_of(self))), true
  end
  local upload = self:view_managed_upload(row, { size = object.size, state = "completing" })
  local ok, err, final = decisions.final(self.policy:decide("before_complete",
    { upload = upload, parts = {}, size = object.size, crc32c = object.crc32c }))
  if not ok then return nil, err, final end
  return decisions.admit(self, nil, upload, object)
end

-- What is new: the fields of the row, nil when nothing is; and an error where the bytes may not stay.
-- False and an error: nobody can say now.
local function difference(self, row, object, now)
  if not object then
    if not row.etag then return nil end
    return without_content { generation = row.generation + 1 }, errors.new("not_found", "the object is gone")
  end
  if object.etag == row.etag and object.size == row.size then return nil end
  local ok, err, final = admitted(self, row, object)
  if not ok then
    if final then return without_content(), err end
    return false, err
  end
  return {
    status = "available", etag = object.etag, size = object.size, crc32c = object.crc32c or rows.null,
    sha256 = rows.null, content_type = not row.content_type and object.content_type or nil,
    declared_size = now >= row.watch_until and rows.null or nil, generation = row.generation + 1,
  }
end

--- What is to be told of a file whose row is about to get these fields.
-- @tparam table self broker
-- @tparam string hook
-- @tparam table row as it is
-- @tparam table fields
-- @tparam[opt] table err
-- @tparam[opt] table actor
-- @tparam[opt] table upload where it was more than a PUT
-- @treturn {table,...} events
function _M.events(self, hook, row, fields, err, actor, upload)
  return self:events(hook, function()
    local new = {}
    for name, value in pairs(row) do new[name] = value end
    for name, value in pairs(fields) do
      if value == rows.null then value = nil end
      new[name] = value
    end
    local state = ({ after_complete = "completed", after_fail = "failed", after_expire = "expired" })[hook]
    return { actor = actor, file = self:view_managed(new),
      upload = upload or self:view_managed_upload(new,
        { state = state, size = new.size, error = err and err.message }) }
  end)
end

-- Whether a multipart upload of the file is running.
local function is_uploading(self, row)
  local uploads, err = self.store:uploads_of_file(row.id)
  if not uploads then return nil, err end
  for _, upload in ipairs(uploads) do
    if upload.state == "starting" or upload.state == "uploading" or upload.state == "completing" then return true end
  end
  return false
end

-- Nothing came, and nothing can come any more: the change of the row.
local function abandon(self, row, now)
  local busy, err = is_uploading(self, row)
  if busy == nil then return nil, err end
  if busy then return { id = row.id, version = row.version, fields = { due = now + AGAIN } } end
  local fields = { status = "abandoned", due = rows.null }
  return { id = row.id, version = row.version, fields = fields, release = keys.place(row.provider, row.key),
    events = _M.events(self, "after_expire", row, fields) }
end

-- What lies at the key, nil when nothing does; or nil, err.
local function find(self, row, now)
  local provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local object
  object, err = provider:head { key = row.key }
  if object then return object end
  if not self:is_gone(err) then return nil, self:store_failure(err) end
  if (row.etag or now >= row.watch_until) and provider.check then
    -- A bucket that is not there says nothing of what was in it.
    local there, why = provider:check()
    if not there then return nil, self:store_failure(why) end
  end
  return nil
end

-- Bytes that may not stay go before the row says so: who looks again would find them again.
local function remove(self, row, object, why)
  local provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local ok
  ok, err = provider:delete { key = row.key }
  if not ok then return nil, self:store_failure(err) end
  self.log("warn", "bytes that are not allowed were removed", { file_id = row.id, size = object.size,
    reason = tostring(why) })
  return true
end

--- Bytes that were written just now may not stay: they go, and the file has failed.
-- @tparam table self broker
-- @tparam table row
-- @tparam table wrong why
-- @tparam[opt] table actor
-- @return nil
-- @treturn table err wrong, or what went wrong in saying so
function _M.refuse(self, row, wrong, actor)
  local ok, err = remove(self, row, { size = 0 }, wrong)
  if not ok then return nil, err end
  for _ = 1, 4 do
    local fields = without_content { updated_at = self.clock.now(), generation = row.generation + 1 }
    local events = _M.events(self, "after_fail", row, fields, wrong, actor)
    ok, err = self.store:write_managed { { id = row.id, version = row.version, fields = fields, events = events } }
    if ok then
      self:deliver(events)
      return nil, wrong
    end
    if err.reason ~= "changed" then return nil, err end
    row, err = self.store:managed_file(row.id)
    if not row then return nil, err end
  end
  return nil, err
end

-- The change of a row by what lies at its key; nil when there is none.
local function change_of(self, row, object, now)
  local fields, wrong = difference(self, row, object, now)
  if fields == false then return nil, wrong end
  if wrong and object then
    local ok, err = remove(self, row, object, wrong)
    if not ok then return nil, err end
  end
  local change = { id = row.id, version = row.version, fields = fields or {} }
  if fields then
    local hook = wrong and "after_fail" or "after_complete"
    change.events = _M.events(self, hook, row, fields, wrong)
    if not wrong then change.room = decisions.room(row, decisions.kept(row), object.size, row) end
    change.fields.updated_at = now
  end
  if now >= row.watch_until then
    change.fields.due = rows.null
    if not object and not row.etag and (row.status == "presigned" or row.status == "uploading") then
      return abandon(self, row, now)
    end
    if row.declared_size then
      local busy, err = is_uploading(self, row)
      if busy == nil then return nil, err end
      -- What was announced will not come any more, and is not counted, unless in parts.
      if busy then change.fields.due = now + AGAIN else change.fields.declared_size = rows.null end
    end
  elseif not row.due or row.due <= now then
    change.fields.due = math.min(now + AGAIN, row.watch_until)
  end
  return next(change.fields) and change or nil
end

local function once(self, row)
  local now = self.clock.now()
  local object, err = find(self, row, now)
  if not object and err then return nil, err end
  local change
  change, err = change_of(self, row, object, now)
  if not change then
    if err then return nil, err end
    return row
  end
  local ok
  ok, err = self.store:write_managed { change }
  if not ok and err.code == "quota" then
    -- Bytes that nobody announced, and that there is no room for.
    local wrong = err
    ok, err = remove(self, row, object, wrong)
    if not ok then return nil, err end
    local fields = without_content { updated_at = now, due = change.fields.due }
    change = { id = row.id, version = row.version, fields = fields,
      events = _M.events(self, "after_fail", row, fields, wrong) }
    ok, err = self.store:write_managed { change }
  end
  if not ok then return nil, err end
  if change.events then self:deliver(change.events) end
  local new
  new, err = self.store:managed_file(row.id)
  if new and change.fields.status then
    self.log("info", "a file's bytes were noticed", { file_id = row.id, status = new.status, size = new.size })
  end
  return new, err
end

--- Looks at a file's object, whatever the row says.
-- @tparam table self broker
-- @tparam table row
-- @treturn table|nil the row as it is then
-- @treturn table err
function _M.at(self, row)
  local err
  for _ = 1, 5 do
    if not LOOKED_AT[row.status] then return row end
    local new
    new, err = once(self, row)
    if new then return new end
    if err.reason ~= "changed" then return nil, err end
    row, err = self.store:managed_file(row.id)
    if not row then return nil, err end
  end
  return nil, err
end

--- Looks where it is needed: as long as bytes may still come unnoticed.
-- @tparam table self broker
-- @tparam table row
-- @treturn table|nil row
-- @treturn table err
function _M.fresh(self, row)
  if not row.due or not LOOKED_AT[row.status] then return row end
  return _M.at(self, row)
end

return _M

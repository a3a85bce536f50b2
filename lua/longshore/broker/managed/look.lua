--- Noticing: what lies at a managed file's key is compared with its row.
--
-- Nobody announces the end of a PUT, and a URL that was used once works until it ends.
-- So as long as one may be alive (`watch_until`), and until somebody has looked after that,
-- the object's ETag is compared at every read and by the janitor. Bytes that are
-- too many are removed.
--
-- Room: broker.
-- @module longshore.broker.managed.look
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

-- What is new, as fields of the row; nil when nothing is.
local function difference(self, row, object, now)
  local over = now >= row.watch_until
  if not object then
    if row.etag then
      return { status = "failed", etag = rows.null, size = rows.null, crc32c = rows.null, sha256 = rows.null,
        generation = row.generation + 1 }
    end
    return nil
  end
  if object.etag == row.etag and object.size == row.size then return nil end
  if object.size > limit_of(self) then
    return { status = "failed", etag = rows.null, size = rows.null, crc32c = rows.null, sha256 = rows.null }, true
  end
  return {
    status = "available", etag = object.etag, size = object.size, crc32c = object.crc32c or rows.null,
    sha256 = rows.null, content_type = not row.content_type and object.content_type or nil,
    declared_size = over and rows.null or nil, generation = row.generation + 1,
  }
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

-- Nothing came, and nothing can come any more.
local function abandon(self, row, now)
  local busy, err = is_uploading(self, row)
  if busy == nil then return nil, err end
  if busy then return { due = now + AGAIN } end
  return { status = "abandoned", due = rows.null }, keys.place(row.provider, row.key)
end

local function once(self, row)
  local now = self.clock.now()
  local provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local object
  object, err = provider:head { key = row.key }
  if not object and not self:is_gone(err) then return nil, self:store_failure(err) end
  if not object and (row.etag or now >= row.watch_until) and provider.check then
    -- A bucket that is not there says nothing of what was in it.
    local there, why = provider:check()
    if not there then return nil, self:store_failure(why) end
  end
  local fields, excess = difference(self, row, object, now)
  local change = { id = row.id, version = row.version, fields = fields or {} }
  if excess then
    -- Before the row says so: who looks again would find it again.
    local ok
    ok, err = provider:delete { key = row.key }
    if not ok then return nil, self:store_failure(err) end
    self.log("warn", "a file larger than allowed was removed", { file_id = row.id, size = object.size })
  end
  if now >= row.watch_until then
    change.fields.due = rows.null
    if not object and not row.etag and (row.status == "presigned" or row.status == "uploading") then
      change.fields, change.release = abandon(self, row, now)
      if not change.fields then return nil, change.release end
    end
  elseif not row.due or row.due <= now then
    change.fields.due = math.min(now + AGAIN, row.watch_until)
  end
  if fields then change.fields.updated_at = now end
  if not next(change.fields) then return row end
  local ok
  ok, err = self.store:write_managed { change }
  if not ok then return nil, err end
  local new
  new, err = self.store:managed_file(row.id)
  if new and fields then
    self.log("info", "a file's bytes were noticed", { file_id = row.id, status = new.status, size = new.size })
    if new.status == "available" then
      self:announce("after_complete", { file = self:view_managed(new), upload = self:view_managed(new) })
    end
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

--- Content of managed files that somebody vouches for: a confirmed upload, and bytes
-- that came through the broker's host.
--
-- Room: broker.
-- @module longshore.broker.managed.content
local access = require "longshore.broker.managed.access"
local check = require "longshore.broker.check"
local core = require "longshore.core"
local decide = require "longshore.broker.managed.decide"
local decisions = require "longshore.broker.decision"
local errors = require "longshore.errors"
local json = require "longshore.json"
local look = require "longshore.broker.managed.look"
local relocate = require "longshore.broker.managed.relocate"
local rows = require "longshore.store.rows"

local _M = {}

-- An object is read in pieces of this size; no more of it is in memory.
local PIECE = 4 * 1024 * 1024

-- Bytes from here are at the store in this time; then the janitor may look.
local PUT_SECONDS = 300

local function busy()
  return errors.fail("conflict", "the file is on its way to another key; try again",
    { retryable = true, retry_after = 1 })
end

-- The SHA-256 of an object, in hex; it must stay the one with this ETag.
local function digest(self, row)
  local provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local stream, at = core.sha256_new(), 0
  while at < row.size do
    local last = math.min(at + PIECE, row.size) - 1
    local bytes, about = provider:get { key = row.key, first = at, last = last, max = PIECE }
    if not bytes then
      if self:is_gone(about) then return errors.fail("conflict", "the file was replaced while it was checked",
        { reason = "changed" }) end
      return nil, self:store_failure(about)
    end
    if about and about.etag and about.etag ~= row.etag or #bytes ~= last - at + 1 then
      return errors.fail("conflict", "the file was replaced while it was checked", { reason = "changed" })
    end
    stream:update(bytes)
    at = last + 1
  end
  return core.hex(stream:value())
end

-- What the client says of its bytes against what is there. Answers the fields of the row
-- that follow, and an error where it is not true.
local function compare(self, row, claim)
  local fields = { content_type = claim.content_type, metadata = claim.metadata and json.encode(claim.metadata) }
  if claim.size and claim.size ~= row.size then
    fields.status = "failed"
    return fields, errors.new("integrity", ("size_bytes: %.0f bytes have arrived, not %.0f"):format(row.size,
      claim.size), { field = "size_bytes" })
  end
  if claim.sha256 then
    local sum = row.sha256
    if not sum then
      if row.size > self.managed.checksum_max then
        return check.invalid("checksum_sha256", ("is checked for files of at most %.0f bytes here"):format(
          self.managed.checksum_max))
      end
      local err
      sum, err = digest(self, row)
      if not sum then return nil, err end
    end
    fields.sha256 = sum
    if sum ~= claim.sha256 then
      fields.status = "failed"
      return fields, errors.new("integrity", "checksum_sha256: the bytes that have arrived have another SHA-256",
        { field = "checksum_sha256" })
    end
  end
  if row.status == "failed" and (claim.sha256 or claim.size) then fields.status = "available" end
  return fields
end

-- Another type, or other metadata, than the upload began with: the policy is asked as then.
local function redescribed(self, actor, row, claim)
  if not claim.metadata and (claim.content_type or row.content_type) == row.content_type then return true end
  return decide.ask(self, actor, { operation = "confirm", key = row.key, name = row.name, size = row.size,
    content_type = claim.content_type or row.content_type,
    metadata = claim.metadata or row.metadata and json.decode(row.metadata) or nil }, row)
end

--- Confirms an upload: the object is looked at now, and compared with what the client
-- says. What is not true makes the file `failed`, until other bytes arrive.
-- @tparam table actor
-- @tparam string id
-- @tparam table claim `size`, `sha256` (hex), `content_type`, `metadata`
-- @treturn table|nil file
-- @treturn table err `state` when nothing has arrived, `integrity` when it is not what was confirmed
function _M.confirm_managed(self, actor, id, claim)
  local ok, err = access.authorize(self, actor, "confirm", "upload")
  if not ok then return nil, err end
  local row
  for _ = 1, 4 do
    row, err = access.load(self, actor, id, "change")
    if not row then return nil, err end
    if relocate.BUSY[row.status] then return busy() end
    row, err = look.at(self, row)
    if not row then return nil, err end
    if access.GONE[row.status] then return access.missing() end
    if not row.etag then
      return errors.fail("state", "no bytes of this file have arrived yet", { state = row.status })
    end
    local fields, wrong = compare(self, row, claim)
    if fields then
      ok, err = redescribed(self, actor, row, claim)
      if not ok then return nil, err end
    end
    if not fields then
      if wrong.reason ~= "changed" then return nil, wrong end
      err = wrong
    else
      fields.updated_at = self.clock.now()
      local events = wrong and row.status ~= "failed" and look.events(self, "after_fail", row, fields, wrong, actor)
      ok, err = self.store:write_managed { { id = row.id, version = row.version, fields = fields,
        events = events or nil } }
      if ok and events then self:deliver(events) end
      if ok and wrong then return nil, wrong end
      if ok then break end
      if err.reason ~= "changed" then return nil, err end
    end
    row = nil
  end
  if not row then return nil, err end
  row, err = self.store:managed_file(row.id)
  if not row then return nil, err end
  return self:view_managed(row)
end

-- What was stored against what was to be stored.
local function stored_right(row, length, result)
  if row.declared_size and row.declared_size ~= length then
    return check.invalid("size_bytes", ("%.0f bytes were announced, %.0f came"):format(row.declared_size, length))
  end
  return result
end

--- Stores bytes that came to the broker's host as a file's content.
-- @tparam table actor
-- @tparam string id
-- @tparam table source `file` (`{path=, offset=, length=}`) or `text`, `length`, `content_type`
-- @treturn table|nil file
-- @treturn table err
function _M.ingest_managed(self, actor, id, source)
  local ok, err = access.authorize(self, actor, "ingest", "upload")
  if not ok then return nil, err end
  local row
  row, err = access.load(self, actor, id, "overwrite")
  if not row then return nil, err end
  if relocate.BUSY[row.status] then return busy() end
  ok, err = stored_right(row, source.length, true)
  if not ok then return nil, err end
  local content_type
  content_type, err = check.content_type(source.content_type or row.content_type)
  if not content_type then return nil, err end
  local decision
  decision, err = decide.ask(self, actor, { operation = "ingest", key = row.key, name = row.name, size = source.length,
    content_type = content_type, metadata = row.metadata and json.decode(row.metadata) or nil }, row, true)
  if not decision then return nil, err end
  content_type = decision.content_type
  ok, err = self.policy:decide("before_complete", { actor = actor, parts = {}, size = source.length,
    upload = self:view_managed_upload(row, { size = source.length, content_type = content_type }) })
  if not ok then return nil, err end
  local provider
  provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local digests
  if source.file then
    digests, err = core.digest_file(source.file.path, { offset = source.file.offset, length = source.length, md5 = true,
      sha256 = true })
    if not digests then return nil, err end
  end
  -- Should this process die behind the PUT, the janitor is to look.
  if not row.due or decision.quotas then
    ok, err = self.store:write_managed { { id = row.id, version = row.version,
      fields = { due = row.due or self.clock.now() + PUT_SECONDS },
      room = decisions.room(actor, decision, source.length, row) } }
    if not ok and err.reason ~= "changed" then return nil, err end
    row, err = access.load(self, actor, id, "overwrite")
    if not row then return nil, err end
    if relocate.BUSY[row.status] then return busy() end
  end
  local put
  put, err = provider:put {
    key = row.key, file = source.file, body = source.text, md5 = digests and digests.md5, content_type = content_type,
    headers = decide.headers(row.encryption and json.decode(row.encryption) or nil, decision),
  }
  if not put then return nil, self:store_failure(err) end
  local final
  ok, err, final = decisions.admit(self, actor, self:view_managed_upload(row, { state = "completing",
    size = source.length, content_type = content_type }),
    { size = source.length, etag = put.etag, crc32c = put.crc32c })
  if not ok then
    if final then return look.refuse(self, row, err, actor) end
    return nil, err -- whoever looks next asks again
  end
  local now, events = self.clock.now(), nil
  for _ = 1, 4 do
    local fields = decide.describe(decision, {
      status = "available", etag = put.etag, size = source.length, crc32c = put.crc32c or rows.null,
      sha256 = core.hex(digests and digests.sha256 or core.sha256(source.text)), content_type = content_type,
      generation = row.generation + 1, updated_at = now, due = row.due or now,
    })
    events = look.events(self, "after_complete", row, fields, nil, actor)
    ok, err = self.store:write_managed { { id = row.id, version = row.version, fields = fields, events = events,
      room = decisions.room(actor, decision, source.length, row) } }
    if not ok and err.code == "quota" then return look.refuse(self, row, err, actor) end
    if ok or err.reason ~= "changed" then break end
    row, err = access.load(self, actor, id, "overwrite")
    if not row then return nil, err end
    if relocate.BUSY[row.status] then return busy() end
  end
  if not ok then return nil, err end
  self:deliver(events)
  row, err = self.store:managed_file(row.id)
  if not row then return nil, err end
  return self:view_managed(row)
end

return _M

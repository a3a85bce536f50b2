--- The broker's ingest: bytes that came through the broker itself (a form, a raw
-- body), spooled in a file, brought to the store.
--
-- They take the way of any upload, with the broker as the client: parts are sent
-- from the file's range, never as one Lua string, and the whole is registered only
-- when what the store has is what was in the file.
--
-- Room: broker.
-- @module longshore.broker.ingest
local check = require "longshore.broker.check"
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}

-- Sends every part; a list of parts with tokens, and the CRC32C of all.
local function send(self, row, file)
  local provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local parts, whole = {}, 0
  for number = 1, row.part_count do
    local offset, length = self:part_offset(row, number), self:part_length(row, number)
    local range = { path = file.path, offset = file.offset + offset, length = length }
    local digest
    digest, err = core.digest_file(file.path,
      { offset = range.offset, length = length, md5 = true, crc32c = true })
    if not digest then return nil, err end
    if digest.bytes ~= length then
      return errors.fail("changed", "the spooled file became shorter while it was sent")
    end
    local crc = digest.crc32c
    local sent
    sent, err = provider:put_part {
      key = row.key, upload_id = row.provider_upload_id, number = number, file = range, md5 = digest.md5,
    }
    if not sent then return nil, self:store_failure(err) end
    -- What was read to be sent, and what the store says it got, where it says so.
    if (sent.sent_crc32c or crc) ~= crc or (sent.crc32c or crc) ~= crc then
      return errors.fail("integrity", ("part %d changed on the way to the store"):format(number))
    end
    whole = number == 1 and crc or core.crc32c_combine(whole, crc, length)
    parts[number] = { number = number, token = sent.etag }
  end
  return parts, whole
end

--- Brings a range of a file on this machine to the store and registers it.
-- @tparam table actor
-- @tparam table request as for `initiate` (`size` is the range's length), and
-- `file`: `path`, `offset` (0), `length` (to the end). `if_exists` is "replace"
-- unless given: the new content takes the place of a finished file of the name.
-- @treturn table file, or nil, err; nothing stays behind then
function _M.ingest(self, actor, request)
  check.actor(actor)
  local file = request.file
  assert(type(file) == "table" and type(file.path) == "string", "file.path: string expected")
  local stat, err = core.file_stat(file.path)
  if not stat then return nil, err end
  local offset = file.offset or 0
  local length = file.length or stat.size - offset
  if offset < 0 or length < 0 or offset + length > stat.size then
    return errors.fail("invalid", "the range lies outside of the file", { field = "file" })
  end
  local new = {}
  for field, value in pairs(request) do new[field] = value end
  new.size, new.resume, new.operation, new.file = length, false, "ingest", nil
  new.if_exists = request.if_exists or "replace"
  local upload
  upload, err = self:initiate(actor, new)
  if not upload then return nil, err end
  local row
  row, err = self.store:upload(upload.id, actor)
  if not row then return nil, err end

  local parts, whole = send(self, row, { path = file.path, offset = offset })
  local result
  if parts then
    result, err = self:complete(actor, upload.id,
      { parts = parts, crc32c = row.integrity == "crc32c" and whole or nil })
  else
    err = whole
  end
  if result then return result end
  -- In state completing the store may yet say that it is done: the janitor's.
  self:give_up(row, { "uploading" }, "aborting", tostring(err))
  return nil, err
end

return _M

--- What the policy's word on a new upload means, for every service.
--
-- What counts only at the end, when the bytes are there, is kept with the row that
-- waits for them, as JSON in its column `decided`: `headers` (that the object is to
-- have, tags among them), `content_type`, `quotas`, and `replaces`: which content it may
-- take the place of (what that is, the room that keeps it knows).
--
-- Room: broker, no I/O.
-- @module longshore.broker.decision
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"

local _M = {}

--- The headers that the policy wants the object to have.
-- @tparam table decision
-- @treturn ?table headers
function _M.object_headers(decision)
  local headers, tags = {}, {}
  for name, value in pairs(decision.headers or {}) do headers[name] = value end
  for name, value in pairs(decision.tags or {}) do
    tags[#tags + 1] = core.uri_encode(name) .. "=" .. core.uri_encode(value)
  end
  table.sort(tags)
  if tags[1] then headers["x-amz-tagging"] = table.concat(tags, "&") end
  return next(headers) and headers or nil
end

--- Whether the upload may take the place of what is there.
-- @tparam table decision `if_exists`, `replaces`
-- @tparam ?table current the file that is there, as policies see it
-- @treturn true|nil
-- @treturn table|nil err `conflict`; `reason` is name_taken or replaced
function _M.may_replace(decision, current)
  if not current then return true end
  if decision.if_exists ~= "replace" then
    return errors.fail("conflict", "a file of this name exists already",
      { reason = "name_taken", file_id = current.id })
  elseif decision.replaces and decision.replaces ~= current.id then
    return errors.fail("conflict", "the file was replaced by another one meanwhile",
      { reason = "replaced", file_id = current.id })
  end
  return true
end

--- How long an upload may take that its service ends anyway.
-- @tparam table decision
-- @tparam table rewritten which of its fields a policy wrote
-- @tparam number seconds as the service has it
-- @treturn number
function _M.seconds(decision, rewritten, seconds)
  if rewritten.upload_seconds then return math.min(seconds, decision.upload_seconds) end
  return seconds
end

--- What new content of a file asks of the store's quotas (see longshore.store.quotas).
-- @tparam table owner row or actor
-- @tparam table decided decision, or what was kept of it
-- @tparam number size
-- @tparam[opt] table row of the file, which is counted already
-- @tparam[opt] number files how many more
-- @tparam[opt] number running
-- @treturn table room
function _M.room(owner, decided, size, row, files, running)
  local counted = row and math.max(row.declared_size or 0, row.size or 0) or 0
  return { owner = owner, quotas = decided.quotas, max_running = decided.max_running, files = files or 0,
    bytes = size - counted, running = running or 0 }
end

--- Shows the policy content that nobody else can see yet.
-- @tparam table self broker
-- @tparam ?table actor
-- @tparam table upload as policies see it; its `key` is the content's
-- @tparam table content `size`, `etag`, `crc32c`
-- @treturn true|nil
-- @treturn table|nil err
-- @treturn boolean|nil true: it is refused for good; else it waits, because something is away or the policy broke
function _M.admit(self, actor, upload, content)
  return _M.final(self.policy:decide("before_register", { actor = actor, upload = upload, size = content.size,
    etag = content.etag, crc32c = content.crc32c }))
end

--- A decision about bytes that are there: `ok, err` and whether that is for good.
function _M.final(ok, err)
  if ok then return true end
  return nil, err, not (err.retryable or err.code == "internal")
end

--- The error of a rewrite that cannot be kept: logged with its field, and told without it.
-- @tparam table self broker
-- @tparam string hook
-- @tparam string field
-- @tparam string why
-- @return nil
-- @treturn table err
function _M.broken(self, hook, field, why)
  self.log("error", "policy failed", { hook = hook, field = field, reason = errors.redact(why) })
  return errors.fail("internal", ("the upload policy failed in %s"):format(hook), { hook = hook })
end

--- Whether the bucket that a policy named is one.
-- @tparam table self broker
-- @tparam table decision
-- @tparam table rewritten
-- @return true, or nil, err
function _M.check_bucket(self, decision, rewritten)
  if not rewritten.provider then return true end
  local provider, err = self:provider(decision.provider)
  if provider then return true end
  return _M.broken(self, "before_initiate", "provider", err.message)
end

--- What is to be remembered until the bytes are there.
-- @tparam table fields
-- @treturn ?string nil: nothing
function _M.keep(fields)
  if next(fields) == nil then return nil end
  return json.encode(fields)
end

--- What was remembered.
-- @tparam table row with `decided`
-- @treturn table
function _M.kept(row)
  return row.decided and json.decode(row.decided) or {}
end

return _M

--- The policy's word on managed files: before anything is given out for one, and when
-- its bytes are there.
--
-- Of what a policy may rewrite, all counts but the key and the bucket, which the client names, and the
-- size of parts, which it cuts. Headers and tags go along when content is written: by the client, who is told them
-- with the URL, and by every copy. A file that may not be replaced gets URLs that write only
-- once, where the store has a condition for that.
--
-- Room: broker.
-- @module longshore.broker.managed.decide
local decisions = require "longshore.broker.decision"
local json = require "longshore.json"
local look = require "longshore.broker.managed.look"

local _M = {}

local ENCRYPTION = "x-amz-server-side-encryption"

--- Asks about content, or a place, of a file.
-- @tparam table self broker
-- @tparam table actor
-- @tparam table r `operation`, `key`, `name`, `content_type`, `size`, `metadata`, `provider` (its name)
-- @tparam table row of the file, perhaps not stored yet
-- @tparam[opt] boolean replaces new content comes to where the row's is
-- @treturn table|nil decision, with `rewritten`, `object_headers`, `replaces_nothing` (true: bytes may come once)
-- @treturn table|nil err
function _M.ask(self, actor, r, row, replaces)
  local current = replaces and row.etag and self:view_managed(row) or nil
  local decision, rewritten = self.policy:decide("before_initiate", {
    actor = actor, operation = r.operation or "upload_url", service = "athena", filename = r.name or r.key,
    content_type = r.content_type, size = r.size, max_size = look.limit_of(self), metadata = r.metadata,
    resume = false, file_id = row.id, upload_id = row.id, provider = r.provider or row.provider, client_key = r.key,
    if_exists = "replace", current = current,
  })
  if not decision then return nil, rewritten end
  local ok, err = decisions.may_replace(decision, current)
  if not ok then return nil, err end
  decision.rewritten, decision.object_headers = rewritten, decisions.object_headers(decision)
  decision.replaces_nothing = rewritten.if_exists and decision.if_exists ~= "replace"
  return decision
end

--- The headers of an object: those that the client asked for, and the policy's, which count more.
-- @tparam ?table wished
-- @tparam table decision
-- @treturn ?table headers
function _M.headers(wished, decision)
  local own = decision.object_headers
  if not own then return wished end
  local headers = {}
  for name, value in pairs(wished or {}) do
    -- One way to encrypt, not parts of two.
    if not (own[ENCRYPTION] and name:sub(1, #ENCRYPTION) == ENCRYPTION) then headers[name] = value end
  end
  for name, value in pairs(own) do headers[name] = value end
  return headers
end

--- The fields of the row that a decision changes.
-- @tparam table decision
-- @tparam table fields into these
-- @treturn table fields
function _M.describe(decision, fields)
  if decision.rewritten.content_type then fields.content_type = decision.content_type end
  if decision.rewritten.metadata then fields.metadata = decision.metadata and json.encode(decision.metadata) end
  fields.decided = decisions.keep { quotas = decision.quotas }
  return fields
end

return _M

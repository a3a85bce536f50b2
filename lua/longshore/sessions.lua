--- What stands in the URL of a resumable session at the disk store: who made it,
-- until when it works, how many bytes it takes, and a MAC over these, the bucket
-- and the key. The broker makes it and the store checks it, both from the same key
-- pair, so that a session needs no call and no row before its first byte.
--
-- Shared ground: the provider and the disk store use it. No I/O.
-- @module longshore.sessions
local core = require "longshore.core"

local _M = {}

--- The beginning of the path; bucket and key follow.
_M.PREFIX = "/v1/files/gcs_proxy/"

-- Keeps a MAC of ours from being taken for any other use of the secret.
local PURPOSE = "longshore resumable session 1"

local function mac(secret, fields)
  local text = {}
  for i, field in ipairs(fields) do text[i] = ("%d:%s"):format(#field, field) end
  return core.base64url(core.hmac_sha256(core.hmac_sha256(secret, PURPOSE), table.concat(text)))
end

--- The id of a new session.
-- @tparam table o `access_key`, `secret_key`, `bucket`, `key`, `expires_at`
-- (seconds since 1970), `max_size` (bytes; 0: no limit of its own)
-- @treturn string
function _M.new_id(o)
  local fields = { o.access_key, ("%.0f"):format(o.expires_at), ("%.0f"):format(o.max_size or 0),
    core.base64url(core.random(16)), o.bucket, o.key }
  return table.concat({ core.base64url(o.access_key), fields[2], fields[3], fields[4], mac(o.secret_key, fields) }, ".")
end

--- The target of a session's URL.
-- @tparam string bucket
-- @tparam string key
-- @tparam string id
-- @treturn string
function _M.target(bucket, key, id)
  return ("%s%s/%s?uploadType=resumable&upload_id=%s"):format(_M.PREFIX, core.uri_encode(bucket),
    core.uri_encode(key, true), id)
end

--- Reads an id and checks its MAC. Whether its time is over is the caller's business.
-- @tparam string id
-- @tparam string bucket
-- @tparam string key
-- @tparam function secret_of(access_key) -> secret_key | nil
-- @treturn table|nil `expires_at`, `max_size` (nil: no limit), `hash` (a file's name); nil when it is none of ours
function _M.verify(id, bucket, key, secret_of)
  if type(id) ~= "string" or #id > 1024 then return nil end
  local encoded, expires, max, nonce, given = id:match("^([%w_%-]+)%.(%d+)%.(%d+)%.([%w_%-]+)%.([%w_%-]+)$")
  if not encoded or #expires > 15 or #max > 16 then return nil end
  local access_key = core.unbase64url(encoded)
  local secret = access_key and secret_of(access_key)
  if not secret or not core.equal(mac(secret, { access_key, expires, max, nonce, bucket, key }), given) then
    return nil
  end
  local max_size = tonumber(max)
  return { expires_at = tonumber(expires), max_size = max_size > 0 and max_size or nil,
    hash = core.hex(core.sha256(id)):sub(1, 40) }
end

return _M

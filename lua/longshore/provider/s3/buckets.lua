--- The bucket itself: make it, see whether it answers, set its CORS and lifecycle
-- rules, see whether a browser's page may upload.
--
-- Room: provider. Methods of the provider object of `longshore.provider.s3`.
-- @module longshore.provider.s3.buckets
local core = require "longshore.core"
local errors = require "longshore.errors"
local documents = require "longshore.provider.documents"
local xml = require "longshore.provider.xml"

local _M = {}

local NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

--- Makes the bucket. One that is already ours is made.
-- @treturn boolean|nil true
-- @treturn[opt] table err `conflict` when it is somebody else's
function _M:create_bucket()
  local body
  if self.profile.location_constraint and self.region ~= "us-east-1" then
    body = xml.document("CreateBucketConfiguration", { { "LocationConstraint", self.region } }, NAMESPACE)
  end
  local response, err = self.client:send {
    what = "make the bucket", method = "PUT", body = body,
    headers = body and { ["content-type"] = "application/xml" } or nil,
  }
  if not response and err.store_code ~= "BucketAlreadyOwnedByYou" then return nil, err end
  return true
end

--- Whether the bucket is there and the keys are good for it.
-- @treturn boolean|nil true
-- @treturn[opt] table err `not_found`, `forbidden`, `invalid` (field region), ...
function _M:check()
  local response, err = self.client:send { what = "look at the bucket", method = "HEAD" }
  if not response then
    if err.status == 404 then err.message = ("there is no bucket %s at the store"):format(self.bucket) end
    return nil, err
  end
  return true
end

local function put_document(self, what, query, text)
  local response, err = self.client:send {
    what = what, method = "PUT", query = { [query] = "" }, body = text,
    headers = { ["content-type"] = "application/xml", ["content-md5"] = core.base64(core.md5(text)) },
  }
  if not response then return nil, err end
  return true
end

--- Sets the CORS rules (all of them) for direct uploads.
-- @tparam table rules as in `documents.cors`
-- @treturn boolean|nil true
-- @treturn[opt] table err
function _M:set_cors(rules)
  if not self.profile.bucket_cors then
    return errors.fail("unsupported", ("%s has no CORS rules by API"):format(self.profile.title))
  end
  local document, err = documents.cors(rules)
  if not document then return nil, err end
  return put_document(self, "set the CORS rules", "cors", document.xml)
end

--- Sets the lifecycle rules (all of them).
-- @tparam[opt] table rules as in `documents.lifecycle`; its prefixes are below the
--   provider's own
-- @treturn boolean|nil true
-- @treturn[opt] table err
function _M:set_lifecycle(rules)
  if not self.profile.lifecycle_abort then
    return errors.fail("unsupported", ("%s has no rule for abandoned uploads; run the janitor")
      :format(self.profile.title))
  end
  local below = {}
  for k, v in pairs(rules or {}) do below[k] = v end
  below.prefix = self.prefix .. (below.prefix or "")
  if below.trash_prefix then below.trash_prefix = self.prefix .. below.trash_prefix end
  local document, err = documents.lifecycle(below)
  if not document then return nil, err end
  return put_document(self, "set the lifecycle rules", "lifecycle", document.xml)
end

local function lists(value, wanted)
  for item in (value or ""):gmatch("[^,%s]+") do
    if item == "*" or item:lower() == wanted:lower() then return true end
  end
  return false
end

--- Asks the store, as a browser would, whether a page may upload.
-- @tparam table o `origin`, `method` (default PUT), `key` (default a made-up one)
-- @treturn table|nil `{allowed=bool, etag_exposed=bool, why=text|nil}`
-- @treturn[opt] table err when there was no answer at all
function _M:check_cors(o)
  assert(type(o.origin) == "string", "origin: string expected")
  local method = o.method or "PUT"
  local key, err = self:full_key(o.key or "longshore-cors-check")
  if not key then return nil, err end
  local address = self.client.public_address
  local response
  response, err = self.client.transport {
    method = "OPTIONS", url = address.scheme .. "://" .. address.host .. core.uri_encode(address.root .. key, true),
    headers = { origin = o.origin, ["access-control-request-method"] = method }, timeout = self.client.timeout,
  }
  if not response then return nil, errors.from(err, "network") end
  local headers = response.headers or {}
  local allow = headers["access-control-allow-origin"]
  if response.status >= 300 or (allow ~= "*" and allow ~= o.origin) then
    return { allowed = false, etag_exposed = false,
      why = ("the store answers %d and does not allow the origin %s"):format(response.status, o.origin) }
  end
  if not lists(headers["access-control-allow-methods"], method) then
    return { allowed = false, etag_exposed = false, why = ("the store does not allow %s from there"):format(method) }
  end
  local exposed = lists(headers["access-control-expose-headers"], "etag")
  return {
    allowed = true, etag_exposed = exposed,
    why = not exposed and "the page cannot read ETag; complete from the store's own list of parts" or nil,
  }
end

return _M

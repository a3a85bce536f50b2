--- A guard in front of files or of a proxied bucket: lets presigned requests
-- through, and no others.
--
--     location ^~ /files/ {
--       access_by_lua_block {
--         require("longshore.nginx.guard").new {
--           access_key = "AKIDEXAMPLE", secret_key = "not-so-secret", region = "us-east-1",
--         }:check()
--       }
--       root /srv;
--     }
--
-- Whoever has the keys makes URLs for it with `longshore.presign` or any S3
-- library; `host` must be the one that clients use. What is signed is checked:
-- method, path, query, signed headers, expiry. A request signed in its headers
-- is let through as well, unless `presigned_only`.
--
-- Verifying is some microseconds of CPU; nothing is waited for.
--
-- Room: nginx.
-- @module longshore.nginx.guard
local core = require "longshore.core"

local _M = {}
local methods = {}
local mt = { __index = methods, __name = "longshore.nginx.guard" }
mt.__tostring = function() return "longshore.nginx.guard" end

--- Makes a guard.
-- @tparam table options `access_key` and `secret_key`, or `keys` (access key to secret key); `region` (nil: any),
-- `service` ("s3"), `skew` (seconds, 900), `presigned_only`
-- @treturn table guard
function _M.new(options)
  local keys = options.keys or { [options.access_key or ""] = options.secret_key }
  assert(next(keys) and not keys[""], "access_key and secret_key, or keys, expected")
  -- In a closure, so that no printing of tables shows them.
  return setmetatable({
    region = options.region, service = options.service or "s3", skew = options.skew or 900,
    presigned_only = options.presigned_only, secret_of = function(key) return keys[key] end,
  }, mt)
end

local function refuse(message)
  return nil, { code = "forbidden", message = message }
end

--- Verifies the current request.
-- @treturn boolean|nil
-- @treturn table err code and message; says what is wrong, shows nothing secret
function methods:verify()
  local request = { method = ngx.req.get_method(), target = ngx.var.request_uri, headers = ngx.req.get_headers(256) }
  setmetatable(request.headers, nil)
  local signed, err = core.sigv4_parse(request)
  if not signed then return nil, err end
  if signed.form == "none" then return refuse("a presigned URL is required") end
  if signed.form ~= "query" and self.presigned_only then return refuse("only presigned URLs are accepted") end
  local secret = self.secret_of(signed.access_key)
  if not secret then return refuse("the access key is not known") end
  ngx.update_time()
  return core.sigv4_verify(request, { secret_key = secret, now = ngx.now(), skew = self.skew, region = self.region,
    service = self.service })
end

--- Verifies the current request and ends it with 403 when it must not pass; the
-- reason is in `X-Longshore-Refused`. For `access_by_lua`.
-- @treturn boolean true
function methods:check()
  local ok, err = self:verify()
  if ok then return true end
  ngx.header["x-longshore-refused"] = err.code
  return ngx.exit(ngx.HTTP_FORBIDDEN)
end

return _M

--- Webhooks: after-hooks told to others over HTTP, signed.
--
-- A webhook is a POST of a JSON object: `id` (the delivery's; it stays the same
-- when it is repeated, so a receiver can drop what it has seen), `hook`, `at`
-- (seconds since 1970), `actor`, `upload`, `file`. Its headers:
--
--     x-longshore-hook: after_complete
--     x-longshore-delivery: evt_...
--     x-longshore-timestamp: 1767225600
--     x-longshore-signature: v1=<hex HMAC-SHA256 of timestamp "." body>
--
-- Whoever receives it computes the same over the raw body with the shared secret,
-- compares in constant time, and refuses timestamps that are more than some minutes
-- off: that is `verify`. Any 2xx answer is a receipt; anything else, and silence, is
-- tried again, later each time, for three days.
--
-- Room: policy, no I/O.
-- @module longshore.policy.webhook
local contract = require "longshore.policy.contract"
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}

local KNOWN = { name = true, url = true, secret = true, hooks = true, timeout = true }

--- Whether a text is an http or https URL that can be asked: ASCII, and nobody's password in it.
-- @param text anything
-- @treturn boolean
function _M.is_url(text)
  if type(text) ~= "string" or text:find("[^!-~]") or text:find("\\", 1, true) then return false end
  local host = text:match("^https?://([^/?#]+)")
  return host ~= nil and not host:find("@", 1, true)
end

--- Checks the webhooks of a configuration.
-- @tparam {table,...} list each `name` (kept with pending deliveries), `url`,
-- `secret` (16 bytes or more), `hooks` (list of after-hooks; default: all of them),
-- `timeout` (10 seconds)
-- @treturn {table,...} checked, `hooks` a set; or nil, err naming the field
function _M.check(list)
  local result, names = {}, {}
  for i, given in ipairs(list) do
    local function bad(field, why)
      return errors.fail("invalid", ("webhooks.%d.%s: %s"):format(i, field, why),
        { field = ("webhooks.%d.%s"):format(i, field) })
    end
    if type(given) ~= "table" then return bad("url", "a table expected") end
    for field in pairs(given) do
      if not KNOWN[field] then return bad(tostring(field), "there is no such field") end
    end
    local name, url, secret = given.name, given.url, given.secret
    if type(name) ~= "string" or not name:find("^[%w_%-]+$") or #name > 64 then
      return bad("name", "a word of letters, digits, _ and - expected")
    elseif names[name] then
      return bad("name", "two webhooks have this name")
    elseif not _M.is_url(url) then
      return bad("url", "an http or https URL, without a password, expected")
    elseif type(secret) ~= "string" or #secret < 16 then
      return bad("secret", "at least 16 bytes expected")
    elseif given.timeout and not (type(given.timeout) == "number" and given.timeout > 0 and given.timeout <= 60) then
      return bad("timeout", "seconds above 0, at most 60, expected")
    elseif given.hooks and (type(given.hooks) ~= "table" or given.hooks[1] == nil) then
      return bad("hooks", "a list of after-hooks expected")
    end
    local hook = { name = name, url = url, secret = secret, timeout = given.timeout or 10 }
    names[name] = true
    if given.hooks then
      hook.hooks = {}
      for _, wanted in ipairs(given.hooks) do
        local known = contract.hooks[wanted]
        if not known or not known.after then return bad("hooks", ("there is no after-hook %q"):format(wanted)) end
        hook.hooks[wanted] = true
      end
    end
    result[i] = hook
  end
  return result
end

local function signature(secret, timestamp, body)
  return "v1=" .. core.hex(core.hmac_sha256(secret, timestamp .. "." .. body))
end

--- The headers of a delivery.
-- @tparam string secret
-- @tparam string body
-- @tparam number now
-- @tparam table event `id`, `hook`
-- @treturn table headers
function _M.headers(secret, body, now, event)
  local timestamp = ("%.0f"):format(now)
  return {
    ["content-type"] = "application/json", ["x-longshore-hook"] = event.hook, ["x-longshore-delivery"] = event.id,
    ["x-longshore-timestamp"] = timestamp, ["x-longshore-signature"] = signature(secret, timestamp, body),
  }
end

--- Whether a delivery is ours, and of now.
-- @tparam string secret
-- @tparam table headers lower-case names
-- @tparam string body as received
-- @tparam[opt] table options `now` (the machine's clock), `tolerance` (300 seconds)
-- @treturn true, or nil, err: `unauthenticated` with `reason` missing, timestamp or signature
function _M.verify(secret, headers, body, options)
  assert(type(secret) == "string", "secret: string expected")
  assert(type(headers) == "table", "headers: table expected")
  assert(type(body) == "string", "body: string expected")
  options = options or {}
  local timestamp, given = headers["x-longshore-timestamp"], headers["x-longshore-signature"]
  if not timestamp or not given or not timestamp:find("^%d+$") then
    return errors.fail("unauthenticated", "the delivery is not signed", { reason = "missing" })
  end
  if math.abs(tonumber(timestamp) - (options.now or core.now())) > (options.tolerance or 300) then
    return errors.fail("unauthenticated", "the delivery is of another time", { reason = "timestamp" })
  end
  if not core.equal(signature(secret, timestamp, body), given) then
    return errors.fail("unauthenticated", "the signature is wrong", { reason = "signature" })
  end
  return true
end

return _M

--- Keys for a store: where they come from and when they are renewed.
--
-- A source is a function that returns `{access_key=, secret_key=,
-- session_token=, expires_at=}` (`expires_at` in seconds since 1970, nil for
-- keys that live for ever) or `nil, err`. `new` puts a holder around it that asks
-- again ahead of the end, once at a time, and lives on with the old keys while
-- they last when the source fails.
--
-- Room: provider. Reads the environment and one file only when asked to.
-- @module longshore.provider.credentials
local errors = require "longshore.errors"
local dates = require "longshore.dates"

local _M = {}

-- Renewed this long before the end; signed for nothing beyond the end less the margin.
local AHEAD = 300
_M.margin = 30
-- After a renewal, failed or not, the source is left alone for this long.
local PAUSE = 15
-- How long a second caller waits for a renewal that is under way.
local PATIENCE = 10

local function checked(found)
  if type(found) ~= "table" then return nil, "the source returned no table" end
  for _, name in ipairs { "access_key", "secret_key" } do
    local value = found[name]
    if type(value) ~= "string" or value == "" then return nil, name .. " is missing" end
    if value:find("[%c ]") then return nil, name .. " has a space or control character" end
  end
  local token = found.session_token
  if token ~= nil and (type(token) ~= "string" or token:find("[%c ]")) then
    return nil, "session_token is no token"
  end
  local expires_at = found.expires_at
  if type(expires_at) == "string" then expires_at = dates.parse_time(expires_at) end
  if found.expires_at ~= nil and type(expires_at) ~= "number" then
    return nil, "expires_at is neither seconds nor an ISO date"
  end
  return {
    access_key = found.access_key, secret_key = found.secret_key, session_token = token ~= "" and token or nil,
    expires_at = expires_at,
  }
end

--- Puts a holder around a source.
-- @tparam function source
-- @tparam table clock
-- @treturn function `get()` returns credentials, or `nil, err` (code `unavailable`
--   or `expired`); the table is the same until the keys change
function _M.new(source, clock)
  local held, asked_at, refreshing, last_wrong

  local function usable(now)
    return held and (not held.expires_at or held.expires_at - _M.margin > now)
  end

  local function refresh(now)
    asked_at, refreshing = now, true
    local ok, found, why = pcall(source)
    refreshing = false
    if not ok then found, why = nil, found end
    local fresh, wrong
    if found then
      fresh, wrong = checked(found)
    else
      wrong = errors.is(why) and why.message or tostring(why or "the source gave none")
    end
    if fresh then
      -- The same keys again are the same table: signers made for them stay.
      if not (held and held.access_key == fresh.access_key and held.secret_key == fresh.secret_key
        and held.session_token == fresh.session_token and held.expires_at == fresh.expires_at) then
        held = fresh
      end
    end
    last_wrong = wrong
    return wrong
  end

  return function()
    local now = clock.now()
    if held and (not held.expires_at or held.expires_at - AHEAD > now) then return held end
    if refreshing then
      local till = now + PATIENCE
      while refreshing and not usable(clock.now()) and clock.now() < till do clock.sleep(0.02) end
      if usable(clock.now()) then return held end
      return errors.fail("unavailable", "credentials: the renewal under way does not end", { retryable = true })
    end
    local wrong
    if not asked_at or now - asked_at >= PAUSE or now < asked_at then wrong = refresh(now) end
    if usable(now) then return held end
    if held and not wrong then
      return errors.fail("expired", "credentials: they have expired and the source gives no newer ones")
    end
    wrong = wrong or (last_wrong or "the source failed") .. " (a moment ago)"
    return errors.fail("unavailable", "credentials: " .. wrong, { retryable = true })
  end
end

--- A source for fixed keys.
-- @tparam table keys
-- @treturn function
function _M.static(keys)
  local fixed = assert(checked(keys))
  return function() return fixed end
end

--- A source that reads AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
-- AWS_SESSION_TOKEN.
-- @tparam[opt=os.getenv] function getenv
-- @treturn function
function _M.environment(getenv)
  getenv = getenv or os.getenv
  return function()
    local access_key, secret_key = getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY")
    if not access_key or access_key == "" or not secret_key or secret_key == "" then
      return errors.fail("invalid", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set")
    end
    return { access_key = access_key, secret_key = secret_key, session_token = getenv("AWS_SESSION_TOKEN") }
  end
end

--- A source that reads a section of an AWS credentials file
-- (`~/.aws/credentials`).
-- @tparam string path
-- @tparam[opt="default"] string section
-- @treturn function
function _M.file(path, section)
  section = section or "default"
  return function()
    local file, why = io.open(path, "r")
    if not file then return errors.fail("io", why) end
    local found, here
    for line in file:lines() do
      local head = line:match("^%s*%[%s*(.-)%s*%]")
      if head then
        here = head == section or head == "profile " .. section
        if here then found = found or {} end
      elseif here then
        local name, value = line:match("^%s*([%w_]+)%s*=%s*(.-)%s*$")
        if name and not found[name] then found[name] = value end
      end
    end
    file:close()
    if not found then
      return errors.fail("invalid", ("%s has no section [%s]"):format(path, section))
    end
    return { access_key = found.aws_access_key_id, secret_key = found.aws_secret_access_key,
      session_token = found.aws_session_token }
  end
end

return _M

--- Requests to one S3 endpoint: signed at the moment of sending, tried again with
-- growing random pauses, with the store's clock and error documents understood.
--
-- Keys live in closures only, so that no printing of tables shows them.
--
-- Room: provider. Sends through the injected transport.
-- @module longshore.provider.s3.client
local core = require "longshore.core"
local errors = require "longshore.errors"
local credentials = require "longshore.provider.credentials"
local dates = require "longshore.dates"
local failures = require "longshore.provider.s3.failures"
local xml = require "longshore.provider.xml"

local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.provider.s3.client" }

local MAX_PAUSE = 10
local MAX_RETRY_AFTER = 60
-- A clock off by less is left alone: Date has whole seconds, answers take time.
local SKEW_NOTICED = 5

local function random()
  local a, b, c = core.random(3):byte(1, 3)
  return (a * 65536 + b * 256 + c) / 16777216
end

--- Makes a client.
-- @tparam table o `address`, `public_address` (from `address.bucket`), `region`,
--   `credentials` (a source), `clock`, `transport`, and the optional `attempts`
--   (5), `timeout` (60), `patience` (none), `random`, `learn_clock` (true)
-- @treturn table client
function _M.new(o)
  local self = setmetatable({
    address = o.address, public_address = o.public_address, region = o.region, clock = o.clock,
    transport = o.transport, attempts = o.attempts or 5, timeout = o.timeout or 60, random = o.random or random,
    patience = o.patience or math.huge, learn_clock = o.learn_clock ~= false, offset = 0,
  }, mt)
  local get = credentials.new(o.credentials, o.clock)
  local keys, signer
  --- The keys of the moment; for what is proven by other means than a signature.
  self.keys = get
  --- The signer for the keys of the moment, and the end of those keys (or nil).
  function self.signer()
    local now, err = get()
    if not now then return nil, err end
    if now ~= keys then
      signer = core.signer {
        access_key = now.access_key, secret_key = now.secret_key, session_token = now.session_token,
        region = o.region, service = "s3",
      }
      keys = now
    end
    return signer, keys.expires_at
  end
  return self
end

--- The time as the store has it, as far as is known.
-- @treturn number seconds
function methods:now()
  return self.clock.now() + self.offset
end

-- Learns from an answer's Date how far the clock here is off: by as much as the
-- date lies outside of the time that the request took.
local function learn(self, date, before, after)
  if not self.learn_clock or not date then return nil end
  local measured = 0
  if date + 1 < before then
    measured = date + 0.5 - before
  elseif date > after then
    measured = date + 0.5 - after
  end
  if math.abs(measured) <= SKEW_NOTICED then
    self.offset = 0
  elseif math.abs(measured - self.offset) > 2 then
    self.offset = measured
  end
  return measured
end

local function skew_text(measured)
  return ("the clock here is %d s %s the store's"):format(math.floor(math.abs(measured) + 0.5),
    measured > 0 and "behind" or "ahead of")
end

-- Signs and sends once.
local function once(self, request, context)
  local signer, why = self.signer()
  if not signer then return nil, why end
  local before = self.clock.now()
  local headers, target = signer:sign {
    method = request.method, host = self.address.host, path = context.path, query = request.query or {},
    headers = request.headers or {}, time = before + self.offset,
    payload_hash = request.file and "UNSIGNED-PAYLOAD" or core.hex(core.sha256(request.body or "")),
  }
  local all = {}
  for name, value in pairs(request.headers or {}) do all[name] = value end
  for name, value in pairs(headers) do all[name] = value end
  local response, err = self.transport {
    method = request.method, url = self.address.scheme .. "://" .. self.address.host .. target, headers = all,
    body = not request.file and (request.body or (request.method == "PUT" or request.method == "POST") and "") or nil,
    file = request.file, output = request.output,
    -- A file may take as long as it takes while its bytes move.
    timeout = request.timeout or (not request.file and not request.output and self.timeout) or nil,
    max_response = request.max_response or 1048576, checksum = request.checksum,
  }
  if not response then
    err = errors.from(err, "network")
    return nil, errors.new(err.code, context.what .. ": " .. tostring(err.message), {
      retryable = err.retryable ~= false and (err.code == "network" or err.code == "timeout" or err.retryable) or nil,
      cause = err, lost = true,
    })
  end
  response.headers = response.headers or {}
  context.measured = learn(self, dates.parse_http(response.headers.date), before, self.clock.now())
  return response
end

-- The document that was asked for, or the error that came instead.
local function understand(response, request, context)
  if not request.expect then return response end
  local root, why = xml.read(response.body or "")
  if not root then return nil, failures.nonsense(response, context, why.message) end
  if root.name == "Error" then return nil, failures.from_response(response, context, root) end
  if root.name ~= request.expect then
    return nil, failures.nonsense(response, context,
      ("<%s> expected, got <%s>"):format(request.expect, root.name:sub(1, 64)))
  end
  response.root = root
  return response
end

-- One try, with a second one when the store only disliked our clock.
local function try(self, request, context)
  local corrected = false
  while true do
    local response, err = once(self, request, context)
    if not response then return nil, err end
    if response.status >= 200 and response.status < 300 then
      return understand(response, request, context)
    end
    err = failures.from_response(response, context)
    if err.store_code ~= "RequestTimeTooSkewed" then return nil, err end
    if err.server_time and not response.headers.date then
      local now = self.clock.now()
      context.measured = learn(self, dates.parse_time(err.server_time), now, now)
    end
    if context.measured then err.message = err.message .. " (" .. skew_text(context.measured) .. ")" end
    err.skew = context.measured
    if corrected or not context.measured or not self.learn_clock then return nil, err end
    corrected = true
  end
end

-- Full jitter under a doubling ceiling; never less than the store asks for.
local function pause(self, number, err)
  local seconds = self.random() * math.min(MAX_PAUSE, 0.1 * 2 ^ number)
  if err.retry_after then
    seconds = math.min(MAX_RETRY_AFTER, err.retry_after) + seconds
  end
  self.clock.sleep(seconds)
end

--- Sends a request until it succeeds, is refused for good, or was tried often
-- enough.
-- @tparam table request `what` (for messages), `method`, `key` (nil: the bucket),
--   `query`, `headers` (lower case), `body` or `file`, `output`, `expect` (name of
--   the document in the answer), `attempts`, `timeout`, `max_response`,
--   `reconsider(err)` (asked before each further try; may return another error)
-- @treturn[1] table response with `root` (the document) when one was expected;
--   `tries` is how often it was sent
-- @treturn[2] nil
-- @treturn[2] table err; `lost` is true when some try may have reached the store
--   without its answer reaching us
function methods:send(request)
  local path = request.key and self.address.root .. request.key or self.address.root:gsub("(.)/$", "%1")
  local context = { what = request.what, region = self.region, path = path }
  local attempts = request.attempts or self.attempts
  local lost, began = false, self.clock.now()
  for number = 1, attempts do
    local response, err = try(self, request, context)
    if response then
      response.tries = number
      return response
    end
    lost = lost or err.lost or err.nonsense or (err.retryable and err.code ~= "busy")
    if err.retryable and request.reconsider then err = request.reconsider(err) or err end
    err.lost = lost or nil
    if not err.retryable or number == attempts or self.clock.now() - began >= self.patience then
      err.tries = number
      return nil, err
    end
    pause(self, number, err)
  end
end

--- How long a URL signed now may live, and when it ends by the clock here.
-- @tparam number|nil wish seconds
-- @tparam number limit the store's own limit
-- @treturn[1] table `{signer, time, expires, expires_at, clamped}`
-- @treturn[2] nil
-- @treturn[2] table err
function methods:grant(wish, limit)
  if type(wish) ~= "number" or wish ~= math.floor(wish) or wish < 1 or wish > limit then
    return errors.fail("invalid", ("expires: %d to %d whole seconds expected"):format(1, limit), { field = "expires" })
  end
  local signer, ends = self.signer()
  if not signer then return nil, ends end
  local now = self.clock.now()
  local expires, clamped = wish, nil
  if ends then
    local left = math.floor(ends - credentials.margin - now)
    if left < 1 then
      return errors.fail("expired", "the credentials end too soon to sign anything", { retryable = true })
    end
    if left < expires then expires, clamped = left, true end
  end
  -- The signature has whole seconds; what is cut off now is missing at the end.
  local time = math.floor(now + self.offset)
  return {
    signer = signer, time = time, expires = expires, clamped = clamped,
    expires_at = math.floor(now) + expires,
  }
end

return _M

--- Policy: who may upload what, where to, how big and for how long.
--
-- `new` makes the policy a broker asks at every decision: the rules that always
-- hold (rights, size, key layout, lifetimes), followed by one's own. See
-- `longshore.policy.contract` for the hooks and `longshore.policy.chain` for how
-- a hook answers.
--
-- Room: policy, no I/O.
-- @module longshore.policy
local chain = require "longshore.policy.chain"
local errors = require "longshore.errors"
local keys = require "longshore.policy.keys"
local webhook = require "longshore.policy.webhook"

local _M = {}

local MAX = 9007199254740991

--- What holds when nothing else is said.
_M.defaults = {
  max_size = 250e9,                                   -- bytes in one file
  part_size = 16 * 1024 * 1024,                       -- bytes in a part, where the size allows it
  url_seconds = 3600,                                 -- how long a part's URL works
  download_seconds = 900,                             -- how long a download's URL works
  max_running = 10000,                                -- uploads of an organization at the same time
  upload_seconds = 7 * 86400,                         -- how long an upload may take
  layout = "{service}/{organization}/{file_id}",      -- object keys, see longshore.policy.keys
}

local bounds = {
  max_size = { 0, MAX }, max_running = { 1, MAX }, part_size = { 1, MAX }, url_seconds = { 1, 604800 },
  download_seconds = { 1, 604800 }, upload_seconds = { 1, 315360000 },
}

-- What the options may further have, and what each is.
local others = { rules = "table", log = "function", file = "string", trusted = "boolean", limits = "table",
  modules = "string", keep = "string", fetch = "table", webhooks = "table", clock = "table" }

local LIMITS = { memory = { 524288, 2 ^ 40 }, instructions = { 1000, 2 ^ 50 }, seconds = { 1e-3, 3600 },
  waiting = { 1e-3, 3600 } }

-- The limits of hooks and what they may fetch: true, or nil, err.
local function check_nested(options)
  for name, value in pairs(options.limits or {}) do
    local bound, field = LIMITS[name], "limits." .. tostring(name)
    if not bound then
      return errors.fail("invalid", ("there is no policy option %q"):format(field), { field = field })
    elseif type(value) ~= "number" or not (value >= bound[1] and value <= bound[2])
      or (bound[1] >= 1 and value % 1 ~= 0) then
      return errors.fail("invalid", ("%s: a number from %.14g to %.0f expected"):format(field, bound[1], bound[2]),
        { field = field })
    end
  end
  for i, url in ipairs(options.fetch or {}) do
    if not webhook.is_url(url) or url:find("[?#]") then
      return errors.fail("invalid", ("fetch.%d: an http or https URL, without password and query, expected"):format(i),
        { field = "fetch." .. i })
    end
  end
  return true
end

-- The rules that always hold, as a policy like any other.
local function house_rules(settings)
  local rules = { name = "house rules" }

  function rules.authorize(context)
    local rights = context.actor.rights or {}
    if rights[context.right] or rights.admin then return true end
    return false, { code = "forbidden", right = context.right,
      message = ("this needs the right %q"):format(context.right) }
  end

  function rules.before_initiate(context)
    local limit = math.min(settings.max_size, context.max_size or MAX)
    if context.size and context.size > limit then
      return false, { code = "too_large", field = "size", limit = limit,
        message = ("the file has %.0f bytes; at most %.0f are allowed"):format(context.size, limit) }
    end
    return {
      upload_seconds = settings.upload_seconds,
      max_running = settings.max_running,
      part_size = context.part_size or settings.part_size,
      key = keys.make(settings.layout, {
        service = context.service, tenant = context.actor.tenant,
        organization = context.actor.organization, user = context.actor.user,
        file_id = context.file_id, upload_id = context.upload_id,
      }),
    }
  end

  function rules.before_sign()
    return { url_seconds = settings.url_seconds }
  end

  function rules.before_download()
    return { url_seconds = settings.download_seconds }
  end

  return rules
end

--- Makes a policy.
-- @tparam[opt] table options any of `defaults`; `rules`: a list of further
-- policies, asked after the house rules; `file`: the path of a policy file (see
-- longshore.policy.file, also for `trusted`, `limits`, `modules` and `keep`), asked after
-- those; `fetch`: list of URLs that hooks may call (each stands for all below it);
-- `webhooks`: see longshore.policy.webhook; `clock`; `log`: function(level, message, fields)
-- @treturn table policy with `decide(hook, context)`, `notify(hook, context)`,
-- `settings`, `fetch` and `webhooks`, or nil, err when an option is wrong (`field` names it)
function _M.new(options)
  options = options or {}
  local settings = {}
  for name, default in pairs(_M.defaults) do
    local value = options[name]
    if value == nil then value = default end
    local bound = bounds[name]
    if bound and not (type(value) == "number" and value % 1 == 0 and value >= bound[1] and value <= bound[2]) then
      return errors.fail("invalid", ("%s: a whole number from %.0f to %.0f expected"):format(name,
        bound[1], bound[2]), { field = name })
    end
    settings[name] = value
  end
  local ok, why = keys.check_layout(settings.layout)
  if not ok then return errors.fail("invalid", why, { field = "layout" }) end
  for name, value in pairs(options) do
    if others[name] and type(value) ~= others[name] then
      return errors.fail("invalid", ("%s: a %s expected"):format(name, others[name]), { field = name })
    elseif settings[name] == nil and not others[name] then
      return errors.fail("invalid", ("there is no policy option %q"):format(tostring(name)), { field = tostring(name) })
    end
  end
  ok, why = check_nested(options)
  if not ok then return nil, why end
  local policies = { house_rules(settings) }
  for _, policy in ipairs(options.rules or {}) do policies[#policies + 1] = policy end
  if options.file then
    local from_file, err = require("longshore.policy.file").open {
      path = options.file, trusted = options.trusted, limits = options.limits, modules = options.modules,
      keep = options.keep,
      log = options.log, clock = options.clock,
    }
    if not from_file then return errors.fail(err.code, "file: " .. err.message, { field = "file" }) end
    policies[#policies + 1] = from_file
  end
  local hooks, bad = webhook.check(options.webhooks or {})
  if not hooks then return nil, bad end
  local policy = chain.new(policies, options.log)
  policy.house = policies[1]
  policy.settings, policy.webhooks, policy.fetch = settings, hooks, options.fetch or {}
  return policy
end

return _M

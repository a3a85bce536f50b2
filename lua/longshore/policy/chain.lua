--- Runs the hooks of several policies one after the other.
--
-- A policy is a table of functions named as in `longshore.policy.contract`. A
-- hook gets its context and answers
--
-- * nothing or `true`: allowed;
-- * a table of rewrites: allowed, with these fields changed for all who come after;
-- * `false` or `nil` with a reason (text, or a table of what `contract.refusal` lists: `code`, `message`,
--   `status` and more): refused; nobody after is asked.
--
-- A rewrite that the contract does not list, or of the wrong kind, a reason of which that is
-- true, and a hook that raises, refuse the request with an `internal` error that names hook and
-- field; the reason goes to the log, not to the client.
--
-- Room: policy, no I/O.
-- @module longshore.policy.chain
local contract = require "longshore.policy.contract"
local errors = require "longshore.errors"

local _M = {}

local MAX_WORDS = 2000

local methods = {}
local mt = { __index = methods, __name = "longshore.policy" }

-- Tables a hook could change are its own copies.
local function copy(value)
  if type(value) ~= "table" then return value end
  local new = {}
  for k, v in pairs(value) do new[k] = copy(v) end
  return setmetatable(new, getmetatable(value))
end

-- A context with fields of its own.
local function fields_of(context)
  local new = {}
  for field, value in pairs(context) do new[field] = value end
  return new
end

local function broken(self, hook, name, reason, field)
  self.log("error", "policy failed", { hook = hook, policy = name, field = field, reason = errors.redact(reason) })
  return errors.fail("internal", ("the upload policy failed in %s"):format(hook), { hook = hook })
end

-- Words for a client, which may have names that it gave itself in them: no control characters, and an end.
local function presentable(text)
  if #text > MAX_WORDS then text = text:sub(1, MAX_WORDS):gsub("[\192-\255][\128-\191]*$", "") .. "..." end
  return (text:gsub("%c", " "))
end

-- What a hook refused, as an error: `refused` says that status and message are the policy's own words.
local function refusal(self, hook, name, reason)
  local fields = { hook = hook, refused = true }
  if type(reason) ~= "table" then reason = { message = type(reason) == "string" and reason or nil } end
  for field, value in pairs(reason) do
    local check = contract.refusal[field]
    if not check then
      return broken(self, hook, name, ("a refusal has no %s"):format(tostring(field)), tostring(field))
    end
    local ok, expected = check(value)
    if not ok then return broken(self, hook, name, ("%s: %s expected"):format(field, expected), field) end
    fields[field] = type(value) == "string" and presentable(value) or value
  end
  return errors.fail(fields.code or "forbidden", fields.message or "the policy does not allow this", fields)
end

local function apply(self, hook, policy, context, rewrites, rewritten)
  local allowed, name = contract.hooks[hook].rewrites or {}, policy.name
  -- (The house rules lay keys out for everybody; where the client does it, nobody looks.)
  local fixed = hook == "before_initiate" and policy ~= self.house and contract.fixed[context.service] or {}
  for field, value in pairs(rewrites) do
    local check = allowed[field]
    if not check then
      return broken(self, hook, name, ("%s may not be rewritten"):format(tostring(field)),
        tostring(field))
    end
    if fixed[field] and value ~= context[field] then
      return broken(self, hook, name, ("%s cannot be rewritten for uploads of %s: %s"):format(field,
        context.service, fixed[field]), field)
    end
    local ok, expected = check(value, context)
    if not ok then
      return broken(self, hook, name, ("%s: %s expected"):format(field, expected), field)
    end
    context[field] = value
    if policy ~= self.house then rewritten[field] = true end
  end
  return true
end

-- Calls a hook of somebody's, that may change what it is shown.
local function call(self, policy, fn, context)
  -- (What copies by itself needs no copy, and makes the host when it wants one.)
  if policy.isolated then return pcall(fn, context, self.hosts) end
  return pcall(fn, copy(context), self.hosts and self.hosts(context) or {})
end

--- The same policy for somebody who says where hosts come from: the functions that a
-- hook may call. One policy may serve several brokers.
-- @tparam function hosts (context) -> table of functions
-- @treturn table policy
function methods:attach(hosts)
  return setmetatable({ hosts = hosts }, { __index = self, __name = mt.__name })
end

--- Whether any policy has this hook.
-- @tparam string hook
-- @treturn boolean
function methods:has(hook)
  for _, policy in ipairs(self.policies) do
    if policy[hook] then return true end
  end
  return false
end

--- Asks every policy.
-- @tparam string hook
-- @tparam table context
-- @treturn table the context with what was rewritten, or nil, err
-- @treturn table which fields were rewritten, but for the house rules
function methods:decide(hook, context)
  assert(contract.hooks[hook], hook)
  local decision, rewritten = fields_of(context), {}
  decision.service = contract.service(context)
  for _, policy in ipairs(self.policies) do
    local fn = policy[hook]
    if fn then
      local ok, answer, reason
      if policy == self.house then
        -- Our own rules change nothing that they are shown, and call nobody.
        ok, answer, reason = pcall(fn, decision)
      else
        ok, answer, reason = call(self, policy, fn, decision)
      end
      local err
      if not ok then
        ok, err = broken(self, hook, policy.name, tostring(answer))
      elseif answer == false or (answer == nil and reason ~= nil) then
        ok, err = refusal(self, hook, policy.name, reason)
      elseif type(answer) == "table" then
        ok, err = apply(self, hook, policy, decision, answer, rewritten)
      elseif answer ~= nil and answer ~= true then
        ok, err = broken(self, hook, policy.name, "answered a " .. type(answer))
      end
      if not ok then return nil, err end
    end
  end
  return decision, rewritten
end

--- Tells every policy; whatever they do, the others are told too.
-- @tparam string hook
-- @tparam table context
-- @treturn boolean whether all of them took it
-- @treturn ?string why one did not
function methods:notify(hook, context)
  assert(contract.hooks[hook] and contract.hooks[hook].after, hook)
  local failure
  local shown = fields_of(context)
  shown.service = contract.service(context)
  for _, policy in ipairs(self.policies) do
    local fn = policy[hook]
    if fn then
      local ok, why = call(self, policy, fn, shown)
      if not ok then
        failure = failure or tostring(why)
        self.log("error", "policy failed", { hook = hook, policy = policy.name, reason = tostring(why) })
      end
    end
  end
  return failure == nil, failure
end

--- Makes a chain.
-- @tparam {table,...} policies asked in this order; each may have a `name`
-- @tparam[opt] function log (level, message, fields)
-- @treturn table chain
function _M.new(policies, log)
  for i, policy in ipairs(policies) do
    assert(type(policy) == "table", ("policy %d: table expected"):format(i))
    for name, fn in pairs(policy) do
      if name ~= "name" and name ~= "about" then
        if not contract.hooks[name] then
          error(("policy %s: %s"):format(policy.name or i, contract.no_hook(name)), 2)
        elseif type(fn) ~= "function" then
          error(("policy %s: %s: function expected"):format(policy.name or i, name), 2)
        end
      end
    end
  end
  return setmetatable({ policies = policies, log = log or function() end }, mt)
end

return _M

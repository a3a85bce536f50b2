--- The ready-made rules, and the chain that joins them.
--
-- A rule is a policy like any other, a table of hooks: each is small, works alone,
-- and is made by a function that checks its options.
--
--     local rules = require "longshore.policy.rules"
--     return rules.chain {
--       rules.size { max = 2 * GiB },
--       rules.types { allow = { "video/*", "image/png" } },
--       rules.quota { user = { bytes = 50 * GiB } },
--       { before_delete = function() return false, "nothing is deleted here" end },
--     }
--
-- Each sees what those before it answered. They share one context: what a hook changes in it, instead of
-- answering it, the hooks after it see, and nobody else.
--
-- They run in the sandbox and, for a trusted policy, outside: they need nothing
-- but plain Lua, the hook's `context` and the `host`.
--
-- Room: policy, no I/O.
-- @module longshore.policy.rules
local _M = {}

local FAMILIES = { "limits", "content", "keys", "access", "storage" }

for _, family in ipairs(FAMILIES) do
  for name, rule in pairs(require("longshore.policy.rules." .. family)) do _M[name] = rule end
end

local function is_after(hook) return hook:sub(1, 6) == "after_" end

-- One before-hook of several: each sees what those before it rewrote.
local function before(hooks)
  return function(context, host)
    local rewrites, any = {}, false
    for _, fn in ipairs(hooks) do
      local answer, reason = fn(context, host)
      if answer == false or (answer == nil and reason ~= nil) then return false, reason end
      if type(answer) == "table" then
        for field, value in pairs(answer) do
          rewrites[field], context[field], any = value, value, true
        end
      elseif answer ~= nil and answer ~= true then
        error("a hook answered a " .. type(answer), 0)
      end
    end
    if any then return rewrites end
    return true
  end
end

-- One after-hook of several: all are told; the first failure is raised at the end,
-- so that the event comes again.
local function after(hooks)
  return function(context, host)
    local failure
    for _, fn in ipairs(hooks) do
      local ok, why = pcall(fn, context, host)
      if not ok and failure == nil then failure = why end
    end
    if failure ~= nil then error(failure, 0) end
  end
end

local function add(into, rule, path)
  if type(rule) ~= "table" then error(("%s: a table of hooks expected, got a %s"):format(path, type(rule)), 0) end
  if rule.name ~= nil and type(rule.name) ~= "string" then error(path .. ".name: a text expected", 0) end
  for key, value in pairs(rule) do
    if type(key) == "string" and key ~= "name" and key ~= "about" then
      if type(value) ~= "function" then
        error(("%s.%s: a function expected, got a %s"):format(path, key, type(value)), 0)
      end
      into.hooks[key] = into.hooks[key] or {}
      table.insert(into.hooks[key], value)
    elseif type(key) ~= "string" and type(key) ~= "number" then
      error(path .. ": its keys are names of hooks", 0)
    end
  end
  if type(rule.about) == "table" then
    for _, line in ipairs(rule.about) do table.insert(into.about, line) end
  elseif rule.about then
    table.insert(into.about, rule.about)
  end
  local count = 0
  for i, part in ipairs(rule) do
    add(into, part, ("%s[%d]"):format(path, i))
    count = i
  end
  for key in pairs(rule) do
    if type(key) == "number" and not (key >= 1 and key <= count) then -- else all behind the hole would be no rules
      error(("%s[%d]: a table of hooks expected, got a nil"):format(path, count + 1), 0)
    end
  end
end

--- Makes one policy of several, asked in order. A rule's own hooks come before
-- those of the rules listed inside it.
-- @tparam table list of rules; may have hooks and a `name` itself
-- @treturn table policy
function _M.chain(list)
  if type(list) ~= "table" then error("a policy is a table of hooks, got a " .. type(list), 0) end
  local into = { hooks = {}, about = {} }
  add(into, list, type(list.name) == "string" and list.name or "policy")
  local policy = { name = list.name, about = into.about }
  for hook, fns in pairs(into.hooks) do
    policy[hook] = is_after(hook) and after(fns) or before(fns)
  end
  return policy
end

return setmetatable(_M, { __index = function(_, name) error(("there is no rule %q"):format(tostring(name)), 2) end })

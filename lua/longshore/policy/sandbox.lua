--- Runs a policy file in a Lua state of its own.
--
-- The policy can reach nothing but what `longshore.policy.sandbox.prelude` gives
-- it and what its host answers; it can use up so much memory, so many
-- instructions and so many seconds for each hook, on both Luas. A hook that
-- breaks a limit is stopped, whatever it catches, and its state is thrown away:
-- the next call begins with a fresh one.
--
-- What holds: memory, instructions and time of the policy's own code, its
-- parsing, its patterns and its library calls, however often it asks its host in
-- between; how often that is, and how long it waits there altogether (the last answer
-- may be late by the timeout that `host.fetch` has of its own). The
-- clock is looked at every 64 instructions, so one that copies megabytes each
-- time may be late by a fraction of a second. On LuaJIT memory is looked at after each instruction: a single one
-- may take four times as much before its hook is stopped.
--
-- Room: policy. Reads its own two files (through `package.searchpath`) when the
-- first sandbox is made.
-- @module longshore.policy.sandbox
local core = require "longshore.core"
local errors = require "longshore.errors"
local marks = require "longshore.json.marks"

local _M = {}

local MAX_ASKED = 100 -- questions to the host in one call
local MAX_WORDS = 1000 -- of an error, which is logged and kept

--- Limits of one hook, unless told otherwise. `seconds`: of its thread's own time, whatever else the machine does;
-- `waiting`: for its host's answers, on the clock.
_M.defaults = { memory = 16 * 1024 * 1024, instructions = 2000000, seconds = 1, waiting = 90 }

local sources = {}

--- The source of one of longshore's own modules.
-- @tparam string name
-- @treturn string text, or nil, err
function _M.source(name)
  if sources[name] then return sources[name] end
  local path = package.searchpath(name, package.path) -- luacheck: ignore (LuaJIT has it too)
  local f = path and io.open(path, "rb")
  if not f then return errors.fail("not_found", ("the source of %s cannot be read"):format(name)) end
  sources[name] = f:read("*a")
  f:close()
  return sources[name]
end

-- Modules that every policy may require: pure ones, made to run inside.
local function own_module(name)
  if name == "longshore.policy.rules" or name:find("^longshore%.policy%.rules%.[%w_]+$") then
    return _M.source(name)
  end
  return nil
end

local methods = {}
local mt = { __index = methods, __name = "longshore.policy.sandbox" }

local function plain_error(err)
  if type(err) ~= "table" then return { code = "internal", message = tostring(err) } end
  return { code = tostring(err.code), message = tostring(err.message), retryable = err.retryable and true or nil,
    retry_after = type(err.retry_after) == "number" and err.retry_after or nil }
end

-- Answers one question of the policy: ok, value, err.
local function answer(self, host, question, ...)
  if question == "module" then
    local name = ...
    local text, err = own_module(name)
    if not text and self.modules then text, err = self.modules(name) end
    if text then return true, text end
    return false, ("module %q is not allowed here%s"):format(tostring(name), err and ": " .. tostring(err) or "")
  end
  local fn = host and host[question]
  if not fn then return false, ("host.%s is not available here"):format(tostring(question)) end
  local ok, value, err = pcall(fn, ...)
  if not ok then return false, ("host.%s: %s"):format(question, errors.redact(tostring(value))) end
  if value == nil and err ~= nil then return true, nil, plain_error(err) end
  return true, value
end

-- What a step of a call came to: true and its results, nil and an error, or the next step, with the host's answer.
local function go(self, box, host, context, asked, waited, kind, a, b, ...)
  if kind == "done" then return true, a, b, ... end
  if kind ~= "ask" then
    if #a.message > MAX_WORDS then a.message = a.message:sub(1, MAX_WORDS) .. "..." end
    return nil, a
  end
  local most = self.limits.waiting or _M.defaults.waiting
  if asked >= MAX_ASKED then
    box:drop(a)
    return errors.fail("calls", ("asked its host more than %d times"):format(MAX_ASKED))
  end
  if waited > most then
    box:drop(a)
    return errors.fail("time", ("waited for its host longer than %.14g seconds"):format(most))
  end
  if type(host) == "function" then host = host(context) end
  local began = core.monotonic()
  local function next_step(...)
    waited = waited + core.monotonic() - began
    local function on(handed, ...)
      if handed then return go(self, box, host, context, asked + 1, waited, ...) end
      -- (Nothing has happened in there yet.)
      return go(self, box, host, context, asked + 1, waited,
        box:run(a, false, ("host.%s: the answer is too large"):format(tostring(b))))
    end
    return on(pcall(box.run, box, a, ...))
  end
  return next_step(answer(self, host, b, ...))
end

-- Runs a call to its end. Returns true and its results, or nil, err.
local function run(self, host, operation, a, b, c)
  return go(self, self.box, host, b, 0, 0, self.box:run(nil, operation, a, b, c))
end

-- A whole number of 48 random bits.
local function random_number()
  local number = 0
  for _, byte in ipairs { core.random(6):byte(1, 6) } do number = number * 256 + byte end
  return number
end

-- A fresh state with the policy loaded.
local function open(self)
  local options = { array = marks.array, name = "=prelude" }
  for _, name in ipairs { "memory", "instructions", "seconds" } do
    options[name] = self.limits[name] or _M.defaults[name]
  end
  local err
  options.text, err = _M.source "longshore.policy.sandbox.prelude"
  if not options.text then return nil, err end
  local pattern
  pattern, err = _M.source "longshore.policy.sandbox.pattern"
  if not pattern then return nil, err end
  self.box, err = core.sandbox(options)
  if not self.box then return nil, err end
  local ok, hooks, name, about
  ok, hooks = run(self, nil, "setup", pattern, self.services, random_number())
  if ok then ok, hooks, name, about = run(self, nil, "load", self.text, self.chunk) end
  if not ok then
    self:close()
    return nil, hooks
  end
  self.hooks, self.name, self.about = {}, name and tostring(name), {}
  for _, hook in ipairs(hooks) do self.hooks[tostring(hook)] = true end
  for i, line in ipairs(type(about) == "table" and about or {}) do self.about[i] = tostring(line) end
  return true
end

--- Calls a hook.
-- @tparam string hook
-- @tparam table context data only; copied
-- @tparam[opt] table|function host functions the policy may call, or `host(context)` that makes
-- them when it calls one
-- @treturn true
-- @return what the hook answered, and its reason; or nil, err (`error`,
-- `instructions`, `time`, `calls`, `memory`)
function methods:call(hook, context, host)
  if not self.box then
    local ok, err = open(self)
    if not ok then return nil, err end
  end
  local box = self.box
  local ok, value, reason = run(self, host, "hook", hook, context)
  if ok then return true, value, reason end
  -- It closes itself when no other call waits in it for its host.
  if value.code ~= "error" and self.box == box then self.box = nil end
  return nil, value
end

--- Closes the state; a later call opens another. Again does nothing.
function methods:close()
  if self.box then self.box:close() end
  self.box = nil
end

--- Loads a policy.
-- @tparam table options `text`, `name` (shown in messages), `limits` (any of
-- `defaults`), `modules` (function(name) -> source text | nil, err: what it may
-- require besides longshore's rules), `services` (names of the host's functions)
-- @treturn table sandbox with `hooks` (a set), `name`, `about`; or nil, err
function _M.new(options)
  local self = setmetatable({
    text = options.text, chunk = "@" .. (options.name or "policy"), limits = options.limits or {},
    modules = options.modules, services = options.services or {},
  }, mt)
  local ok, err = open(self)
  if not ok then return nil, err end
  return self
end

return _M

--- `longshore policy`: looks at a policy file, and tries it on cases.
--
-- Room: cli.
-- @module longshore.cli.policy
local cases = require "longshore.policy.cases"
local common = require "longshore.cli.common"
local contract = require "longshore.policy.contract"
local file = require "longshore.policy.file"

local _M = {
  summary = [[
Loads a policy file as the broker would, in its sandbox, and says what it
does; or runs it on cases (request in, decision out), for policies that are
kept in git.]],
}

local function where(parser)
  parser:flag("--trusted"):description "Without the sandbox, as with policy.trusted."
  parser:option("--modules"):argname("DIR"):description "The folder of policy.modules."
  parser:flag("--json"):description "JSON, for programs."
  return parser
end

--- Adds the options.
function _M.configure(parser)
  parser:command_target "action"
  local check = where(parser:command("check"):summary "Load a policy and explain it.")
  check:argument("file", "The policy."):argname "FILE"
  local test = where(parser:command("test"):summary "Run a policy on cases.")
  test:argument("file", "The policy."):argname "FILE"
  test:argument("cases", "A Lua or JSON file: a list of cases."):argname "CASES"
  parser:epilog [[
A case: what is asked, and what should come of it.

  return {
    { name = "a video is welcome",
      context = { filename = "a.mp4", content_type = "video/mp4", size = 1000 },
      expect = { allow = true } },
    { name = "nothing is deleted", hook = "before_delete",
      context = { file = { filename = "a.mp4" } },
      expect = { refuse = "forbidden", message = "not allowed" } },
    { name = "by day", now = "2026-03-02T10:00:00Z",
      expect = { rewrites = { upload_seconds = 3600 } } },
  }

`hook` is before_initiate unless named; `context` is filled up with an actor
and what else the hook sees; `host` says what the broker would answer (take,
find, head, url, fetch). `refuse` names a code (true: any), `message` a part of
the message, `field` and `status` what else the refusal says.

nginx runs policies on LuaJIT, whatever this command runs on: no //, & or
<const> of Lua 5.4.

Exit codes: 0 good, 1 the policy does not load or a case fails, 2 wrong usage.

Examples:
  longshore policy check policy.lua
  longshore policy test policy.lua policy_cases.lua]]
end

local function load(args)
  return file.open { path = args.file, trusted = args.trusted, modules = args.modules,
    log = function(level, message, fields)
      common.err(("%s: %s: %s\n"):format(level, message, tostring(fields and fields.reason or "")))
    end }
end

local function hooks_of(policy)
  local names = {}
  for name in pairs(contract.hooks) do
    if policy.version[name] then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

local actions = {}

function actions.check(policy, args)
  local names = hooks_of(policy)
  if args.json then
    local array = require("longshore.json").array
    common.print_json { name = policy.name, hooks = array(names), about = array(policy.about or {}),
      trusted = args.trusted or false }
    return 0
  end
  common.print("%s: %s", policy.name, args.trusted and "trusted, without limits" or "in the sandbox")
  for _, line in ipairs(policy.about or {}) do common.print("  - %s", line) end
  if #names == 0 then common.print("It has no hooks: everything that the configuration allows is allowed.") end
  for _, name in ipairs(names) do
    local hook = contract.hooks[name]
    common.print("%-18s %s", name,
      hook.after and "is told" or hook.rewrites and "may refuse or rewrite" or "may refuse")
  end
  return 0
end

function actions.test(policy, args)
  local list, err = cases.read(args.cases)
  if not list then return nil, err end
  local results = cases.run(policy, list)
  local failed = 0
  for _, result in ipairs(results) do
    if not result.ok then failed = failed + 1 end
    if args.json then
      common.print_json(result)
    elseif result.ok then
      common.print("ok      %s", result.name)
    else
      common.print("FAILED  %s\n        expected %s\n        got      %s", result.name, result.expected, result.got)
    end
  end
  if not args.json then common.print("%s, %d failed", common.count(#results, "case"), failed) end
  return failed == 0 and 0 or 1
end

--- Runs the command.
-- @tparam table args
-- @treturn number exit code, or nil, err
function _M.run(args)
  local policy, err = load(args)
  if not policy then return nil, err end
  return actions[args.action](policy, args)
end

return _M

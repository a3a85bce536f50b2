--- `longshore janitor`: one round, or one every so often, of what a running
-- broker's janitor does by itself.
--
-- Room: cli.
-- @module longshore.cli.janitor
local common = require "longshore.cli.common"
local core = require "longshore.core"
local settings = require "longshore.cli.settings"

local _M = {
  summary = [[
Ends what nobody else will: expires uploads past their deadline, finishes
completes that were cut short, removes parts from the store, retries what
failed, drops old rows. Safe beside a running broker and beside other janitors.]],
}

--- Adds the options.
function _M.configure(parser)
  parser:option("--config"):argname("FILE"):description "The broker's configuration (default: what serve ran with)."
  parser:option("--data"):argname("DIR"):description "The broker's data folder (default ./longshore-data)."
  parser:flag("-n --dry-run"):description "Only count what is due."
  parser:flag("--orphans"):description("Also remove what our uploads left in the bucket and the database does not "
    .. "know, as after a restored backup. Not where a broker with another database uses the same bucket and prefix.")
  parser:option("--limit"):argname("N"):convert(common.integer(1, 1000000)):default "1000"
    :description "How many of each kind in one round."
  parser:option("--every"):argname("TIME"):convert(common.duration)
    :description "Go on, a round every TIME, for example 60 or 5m, until interrupted."
  parser:flag("--json"):description "A line of JSON for each round."
  parser:epilog [[
Exit codes: 0 all done, 1 something failed and is left for the next round,
2 wrong usage, 3 interrupted.

Examples:
  longshore janitor --data /var/lib/longshore
  longshore janitor --config longshore.lua --every 5m --json
  longshore janitor --config longshore.lua --orphans --dry-run]]
end

local function build(args)
  local config, err = settings.load(args)
  if not config then return nil, err end
  local ok
  ok, err = settings.reach_database(config)
  if not ok then return nil, err end
  return require("longshore.service").new(config)
end

local order = { "expired", "finished", "reopened", "failed", "aborted", "cleaned", "purged", "told", "orphans" }

local function show(report, args)
  if args.json then
    report.messages = require("longshore.json").array(report.messages)
    common.print_json(report)
    return
  end
  local words = {}
  for _, name in ipairs(order) do
    if (report[name] or 0) > 0 then words[#words + 1] = ("%d %s"):format(report[name], name) end
  end
  -- Not due yet: URLs of theirs may still work.
  local waiting = report.pending or 0
  common.print("%s%s%s", report.dry_run and "due: " or "", #words > 0 and table.concat(words, ", ") or "nothing to do",
    waiting > 0 and ("; %s for later"):format(common.count(waiting, "cleanup")) or "")
  for _, message in ipairs(report.messages) do common.err(("longshore janitor: %s\n"):format(message)) end
  if report.errors > #report.messages then
    common.err(("longshore janitor: %d further failures\n"):format(report.errors - #report.messages))
  end
end

--- Runs the command.
-- @tparam table args
-- @treturn number exit code, or nil, err
function _M.run(args)
  if args.every and args.every < 1 then common.usage "--every: at least 1 second" end
  local app, err = build(args)
  if not app then return nil, err end
  local report
  repeat
    report = app:janitor { dry_run = args.dry_run, limit = args.limit }
    if args.orphans then
      local found = app.broker:orphans { dry_run = args.dry_run }
      report.orphans = found.uploads + found.objects
      report.errors = report.errors + found.errors
      for _, message in ipairs(found.messages) do report.messages[#report.messages + 1] = message end
    end
    show(report, args)
    io.stdout:flush()
    if args.every then (args.sleep or core.sleep)(args.every) end
  until not args.every
  app:close()
  return report.errors == 0 and 0 or 1
end

return _M

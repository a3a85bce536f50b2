--- `longshore token`: the bearer tokens of a broker on this machine.
--
-- Works on the broker's database, whether the broker runs or not; a token that is made
-- counts at once, one that is revoked no more after `broker.cache_seconds` (2) at the latest.
--
-- Room: cli.
-- @module longshore.cli.token
local common = require "longshore.cli.common"
local settings = require "longshore.cli.settings"

local _M = {
  summary = [[
Makes, lists and revokes the tokens that clients authenticate with. Run it where
the broker's database is, with the --config or --data of `longshore serve`.]],
}

local function where(parser)
  parser:option("--config"):argname("FILE"):description "The broker's configuration (default: what serve ran with)."
  parser:option("--data"):argname("DIR"):description "The broker's data folder (default ./longshore-data)."
  parser:flag("--json"):description "JSON, for programs."
  return parser
end

local function rights(text)
  local list = {}
  for word in text:gmatch("[^,%s]+") do list[#list + 1] = word end
  return list
end

-- "600/1m" (or 600/m): so many requests in so long.
local function rate(text)
  local count, span = text:match("^(%d+)/(%w+)$")
  local requests = count and common.integer(1, 1000000000)(count)
  local seconds = span and common.duration(span:find("^%a") and "1" .. span or span)
  if not requests or not seconds or seconds < 1 or seconds > 86400 then
    return nil, ("%q is not a rate; write requests/time, for example 600/1m or 10/s (a day at most)"):format(text)
  end
  return { requests = requests, seconds = seconds }
end

--- Adds the options.
function _M.configure(parser)
  parser:command_target "action"
  local create = where(parser:command("create"):summary "Make a token.":description [[
Makes a token and prints it. This is the only time it can be seen: the database
keeps a hash.]])
  create:option("--user"):argname("NAME"):default "admin":description "Whose it is."
  create:option("--organization"):argname("NAME"):default "default"
    :description "What its files belong to."
  create:option("--tenant"):argname("NAME"):default "default":description "The tenant of the organization."
  create:option("--rights"):argname("LIST"):convert(rights)
    :description "Some of read,upload,delete,admin (default read,upload,delete)."
  create:option("--expires"):argname("TIME"):convert(common.duration)
    :description "How long it works, for example 12h or 90d (default: until revoked)."
  create:option("--rate"):argname("N/TIME"):convert(rate)
    :description "How often it may ask, for example 600/1m (default: as the configuration's broker.rate)."
  create:option("--label"):argname("TEXT"):description "A note to know it by."
  where(parser:command("list"):summary "List tokens, without what makes them work.")
  local revoke = where(parser:command("revoke"):summary "Make tokens useless at once.")
  revoke:argument("id", "As `token list` shows it (tok_...)."):args "+":argname "ID"
  parser:epilog [[
Exit codes: 0 done, 1 failed, 2 wrong usage.

Examples:
  longshore token create --user ci --organization acme --rights upload
  longshore token create --user crawler --rights read --rate 60/1m
  longshore token list
  longshore token revoke tok_4kq2v7zj3mxw5hne]]
end

-- The tokens of the configured database, and its store to be closed.
local function open(args)
  local config, err = settings.load(args)
  if not config then return nil, err end
  local ok
  ok, err = settings.reach_database(config, args.action == "create")
  if not ok then return nil, err end
  local store
  store, err = require("longshore.store").open(config.store)
  if not store then return nil, err end
  return require("longshore.broker.tokens").new { store = store }, store
end

local function date(seconds)
  return seconds and os.date("!%Y-%m-%d %H:%M", math.floor(seconds)) or "-"
end

local actions = {}

function actions.create(tokens, args)
  local made, err = tokens:create {
    user = args.user, organization = args.organization, tenant = args.tenant, rights = args.rights,
    expires_in = args.expires, rate = args.rate, label = args.label,
  }
  if not made then
    if err.code == "invalid" then common.usage(err.message) end
    return nil, err
  end
  if args.json then
    common.print_json(made)
  else
    common.print("%s", made.token)
    common.err(("%s for %s in %s; keep it, it is not shown again%s\n"):format(made.id, args.user,
      args.organization, made.expires_at and ("; it works until " .. date(made.expires_at) .. " UTC") or ""))
  end
  return 0
end

local columns = {
  { "ID", function(row) return row.id end }, { "STATE", function(row) return row.state end },
  { "USER", function(row) return row.user end }, { "ORGANIZATION", function(row) return row.organization end },
  { "TENANT", function(row) return row.tenant end },
  { "RIGHTS", function(row) return table.concat(row.rights, ",") end },
  { "CREATED", function(row) return date(row.created_at) end },
  { "EXPIRES", function(row) return date(row.expires_at) end },
  { "RATE", function(row) return row.rate and ("%d/%ds"):format(row.rate.requests, row.rate.seconds) or "-" end },
  { "LABEL", function(row) return row.label or "" end },
}

function actions.list(tokens, args)
  local rows, err = tokens:list()
  if not rows then return nil, err end
  if args.json then
    local json = require "longshore.json"
    for _, row in ipairs(rows) do row.rights = json.array(row.rights) end
    common.print_json(json.array(rows))
    return 0
  end
  local lines, widths = { {} }, {}
  for c, column in ipairs(columns) do lines[1][c] = column[1] end
  for _, row in ipairs(rows) do
    local line = {}
    for c, column in ipairs(columns) do line[c] = column[2](row) end
    lines[#lines + 1] = line
  end
  for _, line in ipairs(lines) do
    for c, cell in ipairs(line) do widths[c] = math.max(widths[c] or 0, #cell) end
  end
  for _, line in ipairs(lines) do
    for c, cell in ipairs(line) do line[c] = cell .. (" "):rep(widths[c] - #cell) end
    common.print("%s", (table.concat(line, "  "):gsub("%s+$", "")))
  end
  return 0
end

function actions.revoke(tokens, args)
  local code, results = 0, require("longshore.json").array()
  for _, id in ipairs(args.id) do
    local ok, err = tokens:revoke(id)
    if ok then
      if not args.json then common.print("%s is revoked", id) end
    else
      code = 1
      err.message = ("%s (%s)"):format(err.message, id)
      common.complain("token revoke", err)
    end
    results[#results + 1] = { id = id, revoked = ok == true }
  end
  if args.json then common.print_json(results) end
  return code
end

--- Runs the command.
-- @tparam table args
-- @treturn number exit code, or nil, err
function _M.run(args)
  local tokens, store = open(args)
  if not tokens then return nil, store end
  local code, err = actions[args.action](tokens, args)
  store:close()
  return code, err
end

return _M

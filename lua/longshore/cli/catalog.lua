--- `longshore catalog`: the buckets that athena's clients keep files in.
--
-- Works on the broker's database, whether the broker runs or not; what is made or
-- changed counts from the broker's next request.
--
-- Room: cli.
-- @module longshore.cli.catalog
local common = require "longshore.cli.common"
local errors = require "longshore.errors"
local settings = require "longshore.cli.settings"

local _M = {
  summary = [[
Makes, lists, changes and removes catalogs: the buckets that a client of the
athena service keeps its files in, with the keys to them. Run it where the
broker's database is, with the --config or --data of `longshore serve`. Secrets
are sealed with the key in services.athena.keys.]],
}

local function where(parser)
  parser:option("--config"):argname("FILE"):description "The broker's configuration."
  parser:option("--data"):argname("DIR"):description "The broker's data folder (default ./longshore-data)."
  parser:option("--client"):argname("NAME")
    :description "Whose catalogs (default: services.athena.default_client)."
  parser:flag("--json"):description "JSON, for programs."
  return parser
end

local function yes_or_no(text)
  if text == "yes" then return true elseif text == "no" then return false end
  return nil, "yes or no is expected"
end

-- What create and update share. Secrets come from the environment, not from the command line.
local function describe(parser)
  parser:option("--name"):argname("TEXT"):description "For people."
  parser:option("--bucket"):argname("NAME"):description "Where files go."
  parser:option("--also"):argname("NAME"):count "*":description "A further bucket that requests may name."
  parser:option("--prefix"):argname("TEXT"):description "In front of all keys, as a folder."
  parser:option("--profile"):argname("NAME"):description "The kind of store: aws, ceph, minio, r2, ..."
  parser:option("--endpoint"):argname("URL"):description "Where the broker connects."
  parser:option("--public-endpoint"):argname("URL"):description "What URLs are signed for (default: the endpoint)."
  parser:option("--region"):argname("NAME"):description "Of the buckets."
  parser:option("--path-style"):argname("yes|no"):convert(yes_or_no):description "Bucket in the path, not the host."
end

--- Adds the options.
function _M.configure(parser)
  parser:command_target "action"
  local create = where(parser:command("create"):summary "Make a catalog.":description [[
Makes a catalog and prints its id, the s3_id of requests. The keys to the bucket
are read from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.]])
  describe(create)
  where(parser:command("list"):summary "List catalogs, without their secrets.")
  local update = where(parser:command("update"):summary "Change a catalog, or its keys.":description [[
Changes what is given. With --rotate, the keys are read again from the
environment (AWS_ACCESS_KEY_ID ...), and sealed with the first key configured.]])
  update:argument("id", "As `catalog list` shows it."):argname "ID"
  describe(update)
  update:flag("--rotate"):description "Take new keys from the environment."
  update:option("--active"):argname("yes|no"):convert(yes_or_no):description "Whether it takes new files."
  local delete = where(parser:command("delete"):summary "Forget a catalog that no file is in.")
  delete:argument("id", "As `catalog list` shows it."):argname "ID"
  parser:epilog [[
Exit codes: 0 done, 1 failed, 2 wrong usage.

Examples:
  longshore catalog create --client north --name main --bucket north-files
  longshore catalog list --client north
  longshore catalog update --client north 0b7c... --rotate]]
end

-- Counts the files in a catalog: in the client's own database, if it has one.
local function counter(config, main)
  return function(name, id, bucket)
    local client = config.services.athena.clients[name]
    if not client.store then return main:count_managed(id, bucket) end
    -- A database that is not there has no files; it is the server's to make.
    if client.store.type == "sqlite" and not require("lfs").attributes(client.store.path, "mode") then return 0 end
    local store, err = require("longshore.store").open(client.store)
    if not store then return nil, err end
    local count
    count, err = store:count_managed(id, bucket)
    store:close()
    return count, err
  end
end

-- The keeper of catalogs of the configuration, and who speaks to it.
local function open(args)
  local config, err = settings.load(args)
  if not config then return nil, err end
  local athena = config.services.athena
  if not athena.enabled then
    return errors.fail("unsupported", "services.athena is not enabled in this configuration")
  end
  local client = args.client or athena.default_client
  if not client then common.usage "--client: the configuration has no default_client" end
  if not athena.clients[client] then
    common.usage(("--client: there is no client %q in the configuration"):format(client))
  end
  local ok
  ok, err = settings.reach_database(config, args.action == "create")
  if not ok then return nil, err end
  local store
  store, err = require("longshore.store").open(config.store)
  if not store then return nil, err end
  local catalogs = require("longshore.service.athena.clients").catalogs {
    config = config, store = store, clock = require("longshore.clock").system,
    make_provider = require("longshore.service.providers").maker {}, count = counter(config, store),
  }
  return { catalogs = catalogs, store = store }, { user = "longshore catalog", organization = "-", tenant = client,
    rights = { admin = true }, via = "host" }
end

local function env(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local function fields_of(args, with_keys)
  local fields = {
    name = args.name, bucket = args.bucket, prefix = args.prefix, provider = args.profile, endpoint = args.endpoint,
    public_endpoint = args.public_endpoint, region = args.region, path_style = args.path_style, active = args.active,
    buckets = args.also[1] and args.also or nil,
  }
  if with_keys then
    fields.access_key, fields.secret_key = env "AWS_ACCESS_KEY_ID", env "AWS_SECRET_ACCESS_KEY"
    fields.session_token = env "AWS_SESSION_TOKEN"
    if not fields.access_key or not fields.secret_key then
      common.usage "the keys to the bucket come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    end
  end
  return fields
end

local function view(row)
  local json = require "longshore.json"
  return { id = row.id, name = row.name, bucket = row.bucket, buckets = json.array(row.buckets or {}),
    prefix = row.prefix, profile = row.profile, endpoint = row.endpoint, region = row.region, active = row.active,
    access_key = row.access_key }
end

local actions = {}

function actions.create(catalogs, actor, args)
  if not args.name or not args.bucket then common.usage "--name and --bucket are needed" end
  local row, err = catalogs:create(actor, fields_of(args, true))
  if not row then return nil, err end
  if args.json then common.print_json(view(row)) else common.print("%s", row.id) end
  return 0
end

function actions.update(catalogs, actor, args)
  local row, err = catalogs:update(actor, args.id, fields_of(args, args.rotate))
  if not row then return nil, err end
  if args.json then common.print_json(view(row)) else common.print("%s is changed", row.id) end
  return 0
end

function actions.delete(catalogs, actor, args)
  local ok, err = catalogs:delete(actor, args.id)
  if not ok then return nil, err end
  if args.json then common.print_json { id = args.id, deleted = true } else common.print("%s is gone", args.id) end
  return 0
end

function actions.list(catalogs, actor, args)
  local list, err = catalogs:list(actor)
  if not list then return nil, err end
  if args.json then
    local json = require "longshore.json"
    local views = json.array()
    for i, row in ipairs(list) do views[i] = view(row) end
    common.print_json(views)
    return 0
  end
  if #list == 0 then common.print "no catalogs" end
  for _, row in ipairs(list) do
    common.print("%s  %-8s  %s  %s/%s  (%s%s)", row.id, row.active and "active" or "inactive", row.name, row.bucket,
      row.prefix, row.profile, row.endpoint and ", " .. row.endpoint or "")
  end
  return 0
end

--- Runs the command.
-- @tparam table args
-- @treturn number exit code, or nil, err
function _M.run(args)
  local opened, actor = open(args)
  if not opened then return nil, actor end
  local code, err = actions[args.action](opened.catalogs, actor, args)
  opened.store:close()
  return code, err
end

return _M

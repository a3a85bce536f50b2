--- `longshore status`: what a broker has, and what was interrupted here.
--
-- Room: cli.
-- @module longshore.cli.status
local access = require "longshore.cli.access"
local calls = require "longshore.service.client"
local common = require "longshore.cli.common"
local core = require "longshore.core"
local journals = require "longshore.uploader.journal"
local progress = require "longshore.uploader.progress"

local _M = {
  summary = [[
Shows whether a broker answers and what it holds for the token's organization,
or (--local) the uploads that were interrupted here and can be resumed.]],
}

--- Adds the options.
function _M.configure(parser)
  parser:argument("URL", "Of the broker."):args("?"):target "url"
  parser:flag("--local"):target("here"):description "The uploads that can be resumed from here."
  parser:option("--journal"):argname("FOLDER"):description "Where put --journal keeps them."
  parser:option("--files"):argname("N"):default "10":convert(common.integer(0, 1000))
    :description "How many files to list."
  access.configure_token(parser)
  parser:option("--ca-file"):argname("PATH"):description "Certificates to trust instead of the system's."
  parser:flag("--json"):description "JSON, for programs."
  parser:epilog [[
Exit codes: 0 shown, 1 the broker does not answer or refuses, 2 wrong usage.

Examples:
  LONGSHORE_TOKEN=ls_... longshore status http://127.0.0.1:8080
  longshore status --local]]
end

local function show_local(args)
  local folder, err = journals.folder(args.journal)
  if not folder then return nil, err end
  local list = journals.list(folder)
  if args.json then
    for _, entry in ipairs(list) do common.print_json(entry) end
    return 0
  end
  if #list == 0 then
    common.print "no interrupted uploads"
    return 0
  end
  for _, entry in ipairs(list) do
    local clean = common.printable
    common.print("%s\n  to %s as %s: %s of %s in %d parts, begun %s", clean(entry.path), clean(entry.destination),
      clean(entry.name), progress.size(entry.bytes), entry.size and progress.size(entry.size) or "?", entry.parts,
      entry.at and os.date("!%Y-%m-%d %H:%M UTC", entry.at) or "?")
  end
  common.print "The command that began an upload, given again, resumes it."
  return 0
end

local function get(transport, base, token, path, what)
  return calls.call(transport, { what = what, method = "GET", url = base .. path,
    headers = { Authorization = "Bearer " .. token }, timeout = 30, max_response = 16 * 1024 * 1024 })
end

local function show_server(args)
  local base, err = calls.base_url(args.url, "/v0.5", "/v%d[%d.]*")
  if not base then common.usage(err.message) end
  local token = access.token(args)
  local transport, close = require("longshore.http.transport").new { ca_file = args.ca_file }
  local began = core.monotonic()
  local info
  info, err = get(transport, base, token, "/files/info", args.url)
  if not info then
    close()
    return nil, common.advised(err)
  end
  local seconds = core.monotonic() - began
  local files = {}
  if args.files > 0 then
    local path = ("/files/metadata?shard_index=0&max_items_per_shard=%d"):format(args.files)
    files, err = get(transport, base, token, path, args.url)
    if not files then
      close()
      return nil, err
    end
  end
  close()
  if args.json then
    info.files, info.seconds = files, seconds
    common.print_json(info)
    return 0
  end
  common.print("%s answers in %.0f ms: %s, %s", args.url, seconds * 1000,
    common.count(tonumber(info.num_files) or 0, "file"), progress.size(tonumber(info.num_bytes) or 0))
  for _, file in ipairs(files) do
    common.print("  %-10s %10s  %s  %s", (tostring(file.file_status):gsub("^FILE_STATUS_", ""):lower()),
      progress.size(tonumber(file.num_bytes) or 0), tostring(file.file_uid), common.printable(tostring(file.file_id)))
  end
  local rest = (tonumber(info.num_files) or 0) - #files
  if #files > 0 and rest > 0 then common.print("  and %s more, later ones (--files N)", common.count(rest, "file")) end
  return 0
end

--- Shows.
function _M.run(args)
  if args.here then
    if args.url then common.usage "--local takes no URL" end
    return show_local(args)
  end
  if not args.url then common.usage "the URL of a broker, or --local, is expected" end
  return show_server(args)
end

return _M

--- `longshore put`: uploads files and folders.
--
-- Room: cli.
-- @module longshore.cli.put
local access = require "longshore.cli.access"
local bucket = require "longshore.cli.bucket"
local common = require "longshore.cli.common"
local core = require "longshore.core"
local reports = require "longshore.cli.put_report"
local sources = require "longshore.uploader.source"
local terminal = require "longshore.cli.terminal"
local uploader = require "longshore.uploader"

local _M = {
  summary = [[
Uploads files and folders, in parallel parts, resumable, checked.

The last argument says where to:
  http://HOST[:PORT], https://...  a broker (or a service that speaks its API);
                                   needs a token
  s3://BUCKET[/PREFIX]             straight to a bucket, with credentials from
                                   AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY

A file goes by its own name. What is in folder `a/b` goes as `b/...`, what is in
`a/b/` (with the slash) without the folder's name.

After an interruption - Ctrl-C, a lost network, kill -9 - the same command sends
only what is missing. A file that has changed since is uploaded from the start.]],
}

--- Adds the options.
function _M.configure(parser)
  parser:usage "Usage: longshore put [OPTION...] FILE... URL"
  parser:argument("FILE... URL", "Files and folders, and at last where to."):args("+"):target("words")

  parser:group("Sending",
    parser:option("-j --parallel"):argname("N"):convert(common.integer(1, 256))
      :description "Parts at once, over all files (default: found by trying, 4 to 16).",
    parser:option("--name"):argname("NAME"):description "Another name for the (one) file.",
    parser:option("--type"):argname("MIME"):description "Content type (default: by the name's ending).",
    parser:option("--limit-rate"):argname("SIZE"):convert(common.size)
      :description "Bytes a second at most, for all together: 5MiB.",
    parser:option("--attempts"):argname("N"):default "10":convert(common.integer(1, 1000))
      :description "How often a part or a call is tried.",
    parser:option("--ca-file"):argname("PATH"):description "Certificates to trust instead of the system's.",
    parser:option("--proxy"):argname("URL"):description "Proxy (default: http_proxy, https_proxy, no_proxy)."
  )
  parser:group("Resuming",
    parser:option("--journal"):argname("FOLDER")
      :description "Where to remember unfinished uploads (default: $XDG_STATE_HOME or ~/.local/state).",
    parser:flag("--no-journal"):description "Remember nothing; an interrupted upload starts over.",
    parser:flag("--restart"):description "Do not resume: abort what was interrupted and start over.",
    parser:flag("--recheck")
      :description "Resuming, compare what was sent with the file again (for files that change unnoticed)."
  )
  parser:group("Brokers", common.unpack(access.configure(parser)))
  parser:group("Datasets (--service geolens)",
    parser:option("--dataset"):argname("ID")
      :description "Replace this dataset's content (or give its URL); default: a new dataset.",
    parser:option("--title"):argname("TEXT"):description "Of a new dataset (default: the file's name).",
    parser:option("--visibility"):argname("WORD")
      :description("Of a new dataset: private (default), restricted, internal, public; "
        .. "of athena's files: private, organization, public.")
  )
  parser:group("Managed files (--service athena)",
    parser:option("--catalog"):argname("ID")
      :description "The catalog (s3_id) to put files in (default: the only one there is).",
    parser:option("--prefix"):argname("TEXT"):description "In front of the files' names, to make their keys: uploads/."
  )
  parser:group("Files of a project (--service cognite)",
    parser:option("--external-id"):argname("ID"):description "The (one) file's own id in the project.",
    parser:flag("--overwrite"):description "Replace the file of that id; without it, a file of that id is an error.",
    parser:option("--directory"):argname("PATH"):description "The directory that the project shows the file in."
  )
  local bucket_options = bucket.configure(parser)
  bucket_options[#bucket_options + 1] = parser:option("--part-size"):argname("SIZE"):convert(common.size)
    :description "Size of a part (default 16MiB, more where the file is very large)."
  bucket_options[#bucket_options + 1] = parser:option("--threshold"):argname("SIZE"):convert(common.size)
    :description "Files up to this size go as one PUT (default 32MiB)."
  bucket_options[#bucket_options + 1] = parser:flag("--no-clobber"):description "Never replace an object."
  bucket_options[#bucket_options + 1] = parser:option("--metadata"):argname("NAME=VALUE"):count "*"
    :description "Metadata to keep with the object."
  parser:group("Buckets", common.unpack(bucket_options))
  parser:group("Printing",
    parser:flag("--json"):description "A JSON object per line on stdout, for programs.",
    parser:flag("-q --quiet"):description "Print failures only.",
    parser:flag("-v --verbose"):description "Also say what was sent again, and why."
  )

  parser:epilog [[
Exit codes: 0 all done, 1 some or all failed, 2 wrong usage, 3 interrupted (the
same command again resumes).

Each line of result ends with what was compared with the store for each part:
crc32c, md5, or nothing where the store answers neither.

Examples:
  export LONGSHORE_TOKEN=ls_...
  longshore put video.mp4 http://127.0.0.1:8080
  longshore put -j 8 photos/ notes.txt https://uploads.example.com
  longshore put backup.tar s3://bucket/2026 --endpoint https://s3.example.com
  longshore put data.csv http://127.0.0.1:8080 --json]]
end

---------------------------------------------------------------------------
-- what the command line says

local function metadata_of(args)
  if #args.metadata == 0 then return nil end
  local metadata = {}
  for _, text in ipairs(args.metadata) do
    local name, value = text:match("^([^=]+)=(.*)$")
    if not name then common.usage(("--metadata: NAME=VALUE is expected, not %q"):format(text)) end
    metadata[name] = value
  end
  return metadata
end

-- Options that say something only about buckets, or only about brokers.
local function refuse(args, names, why)
  for _, name in ipairs(names) do
    local value = args[(name:gsub("%-", "_"))]
    if value ~= nil and value ~= false and not (type(value) == "table" and #value == 0) then
      common.usage(("--%s %s"):format(name, why))
    end
  end
end

local function driver_of(url, args)
  if args.service ~= "geolens" or url:match("^[sS]3://") then
    refuse(args, { "dataset", "title" }, "is for --service geolens")
  end
  if args.service ~= "athena" or url:match("^[sS]3://") then
    refuse(args, { "client", "catalog", "prefix" }, "is for --service athena")
    if args.service ~= "geolens" then
      refuse(args, { "visibility" }, "is for --service geolens and --service athena")
    end
  end
  if args.service ~= "cognite" or url:match("^[sS]3://") then
    refuse(args, { "external-id", "overwrite", "directory" }, "is for --service cognite")
  end
  if url:match("^[sS]3://") then
    refuse(args, { "token", "token-file" },
      "is for brokers; a bucket needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    local settings = bucket.settings(args)
    settings.url, settings.part_size, settings.threshold = url, args.part_size, args.threshold
    settings.no_clobber, settings.attempts = args.no_clobber, args.attempts
    return require("longshore.uploader.s3").new(settings)
  end
  if not url:match("^[hH][tT][tT][pP][sS]?://") then
    common.usage(("the last argument says where to: http://..., https://... or s3://..., not %q"):format(url))
  end
  refuse(args, { "endpoint", "region", "profile", "path-style", "part-size", "threshold", "no-clobber" },
    "is for buckets (s3://...)")
  if args.service ~= "cognite" then refuse(args, { "metadata" }, "is for buckets (s3://...) and --service cognite") end
  return access.driver(url, args, { dataset = args.dataset, title = args.title, visibility = args.visibility,
    external_id = args.external_id, overwrite = args.overwrite, directory = args.directory, catalog = args.catalog,
    prefix = args.prefix })
end

local function items_of(args, paths)
  for _, path in ipairs(paths) do
    if path == "-" then common.usage "standard input cannot be uploaded; write it to a file first" end
  end
  local items = sources.expand(paths)
  if args.external_id and #items ~= 1 then common.usage "--external-id is for one file" end
  if args.name then
    if args.name == "" then common.usage "--name: the name is empty" end
    if #items ~= 1 then common.usage "--name is for one file" end
    items[1].name = args.name
  end
  local seen, bytes, metadata = {}, 0, metadata_of(args)
  for _, item in ipairs(items) do
    if seen[item.name] and not item.error then
      common.usage(("%s and %s would both be uploaded as %q"):format(seen[item.name], item.path, item.name))
    end
    seen[item.name] = item.path
    item.content_type, item.metadata = args.type, metadata
    local stat = not item.error and core.file_stat(item.path)
    item.size = stat and stat.type == "file" and stat.size or 0
    bytes = bytes + item.size
  end
  return items, bytes
end

--- Uploads.
-- @tparam table args
-- @treturn number exit code
function _M.run(args)
  local words = args.words
  if #words < 2 then common.usage "FILE... URL are expected: what to upload, and where to" end
  local url = table.remove(words)
  local driver, err = driver_of(url, args)
  if not driver then
    if err.field then bucket.refuse(err) end
    return nil, err
  end
  if args.journal and args.no_journal then common.usage "--journal and --no-journal: one of them" end
  local items, bytes = items_of(args, words)
  if #items == 0 then common.err("nothing to upload: there are no files in it\n") end
  local report = reports.new(args)
  local interrupted, restore = terminal.signals()
  local up
  up, err = uploader.new {
    driver = driver, parallel = args.parallel, attempts = args.attempts,
    journal = not args.no_journal and (args.journal or true) or nil, restart = args.restart,
    recheck = args.recheck,
    engine = { ca_file = args.ca_file, proxy = args.proxy, rate_limit = args.limit_rate,
      user_agent = "longshore/" .. common.version() },
    on_event = report.event,
    interrupted = function()
      report.bar:draw()
      return interrupted()
    end,
  }
  if not up then return nil, err end
  report.bar:plan(#items, bytes)
  local began = core.monotonic()
  up:put_many(items, report.result)
  up:close()
  restore()
  return report.summary(core.monotonic() - began)
end

return _M

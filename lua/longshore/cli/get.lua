--- `longshore get`: reads a file back from a service or from a bucket.
--
-- Room: cli.
-- @module longshore.cli.get
local access = require "longshore.cli.access"
local bucket = require "longshore.cli.bucket"
local common = require "longshore.cli.common"
local core = require "longshore.core"
local errors = require "longshore.errors"
local progress = require "longshore.uploader.progress"
local terminal = require "longshore.cli.terminal"
local uploader = require "longshore.uploader"

local _M = {
  summary = "Reads a file back: ranges in parallel, checked, in place only when whole.",
}

--- Adds the options.
function _M.configure(parser)
  parser:argument("WHAT [URL]", "A file's id and the broker's URL; or s3://bucket/key."):args("1-2"):target "words"
    :argname { "WHAT", "URL" }
  parser:group("Reading",
    parser:option("-o --output"):argname("PATH")
      :description "Where to: a file, or a folder for it (default: the file's own name, in this folder).",
    parser:flag("-f --force"):description "Replace PATH when it exists.",
    parser:option("-j --parallel"):argname("N"):default "4":convert(common.integer(1, 256))
      :description "Ranges at once.",
    parser:option("--limit-rate"):argname("SIZE"):convert(common.size):description "Bytes a second at most: 5MiB.",
    parser:option("--ca-file"):argname("PATH"):description "Certificates to trust instead of the system's.",
    parser:option("--proxy"):argname("URL"):description "Proxy (default: http_proxy, https_proxy, no_proxy)."
  )
  parser:group("Brokers", common.unpack(access.configure(parser)))
  parser:group("Buckets", common.unpack(bucket.configure(parser)))
  parser:group("Printing",
    parser:flag("--json"):description "The result as a JSON object on stdout, for programs.",
    parser:flag("-q --quiet"):description "Print failures only."
  )
  parser:epilog [[
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 interrupted (nothing is left).

The result says what was compared: crc32c where the service or the store tells
the file's checksum, size otherwise.

Examples:
  export LONGSHORE_TOKEN=ls_...
  longshore get fil_7k3... http://127.0.0.1:8080 -o video.mp4
  longshore get s3://bucket/2026/backup.tar --endpoint https://s3.example.com]]
end

-- The id that the driver knows the file by, and the driver; or nil, nil, err.
local function source_of(args)
  local what, url = args.words[1], args.words[2]
  if what:match("^[sS]3://") then
    if url then common.usage "s3://bucket/key says it all; no URL is expected after it" end
    local folder, key = what:match("^([sS]3://.+)/([^/]+)$")
    if not folder then common.usage(("s3://bucket/key is expected, not %q"):format(what)) end
    local settings = bucket.settings(args)
    settings.url = folder
    return key, require("longshore.uploader.s3").new(settings)
  end
  if not url or not url:match("^[hH][tT][tT][pP][sS]?://") then
    common.usage "a file's id and the broker's URL are expected, or s3://bucket/key"
  end
  return what, access.driver(url, args)
end

-- A bar over one download, in the terms of the uploads' progress.
local function bar_of(args)
  local mode = (args.json or args.quiet) and "none" or terminal.is_tty(2) and "bar" or "none"
  local bar = progress.new {
    mode = mode, now = core.monotonic, write = function(text) io.stderr:write(text) end,
    width = function() return terminal.width(2) end,
  }
  local counted
  return bar, function(received, size)
    if not size then return end
    if not counted then
      counted = { item = { size = size }, size = size, confirmed = 0, left = 1, resumed_parts = 0,
        resumed_bytes = 0, in_flight = function() return 0 end }
      bar:plan(1, size)
      bar:event { type = "begin", upload = counted }
    end
    counted.confirmed = received
    bar:event { type = "progress", upload = counted }
  end
end

--- Reads.
-- @tparam table args
-- @treturn number exit code
function _M.run(args)
  if args.output == "-" then
    common.usage "a file cannot go to standard output before all of it is checked; name a path with -o"
  end
  local id, driver, err = source_of(args)
  if not driver then
    if err.field then bucket.refuse(err) end
    return nil, err
  end
  local bar, on_progress = bar_of(args)
  local interrupted, restore = terminal.signals()
  local up
  up, err = uploader.new {
    driver = driver, parallel = args.parallel, interrupted = interrupted,
    on_event = function(event)
      if event.type ~= "note" or args.json or args.quiet then return end
      bar:clear()
      common.err(errors.redact(event.text) .. "\n")
    end,
    engine = { ca_file = args.ca_file, proxy = args.proxy, rate_limit = args.limit_rate,
      user_agent = "longshore/" .. common.version() },
  }
  if not up then return nil, err end
  local result
  result, err = up:get { id = id, path = args.output, overwrite = args.force, on_progress = on_progress }
  up:close()
  restore()
  bar:finish()
  if args.json then
    common.print_json(result and { event = "result", ok = true, path = result.path, bytes = result.bytes,
      crc32c = core.crc32c_base64(result.crc32c), compared = result.compared }
      or { event = "result", ok = false, error = { code = err.code, message = errors.redact(err.message),
        status = err.status, request_id = err.request_id } })
    return result and 0 or err.interrupted and 3 or 1
  end
  if not result then
    if not err.interrupted then return nil, common.advised(err) end
    common.err "interrupted\n"
    return 3
  end
  if not args.quiet then
    common.out(("%s  %s  crc32c %s  (%s compared)\n"):format(common.printable(result.path), progress.size(result.bytes),
      core.crc32c_base64(result.crc32c), result.compared))
  end
  return 0
end

return _M

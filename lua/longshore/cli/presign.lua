--- `longshore presign`: prints presigned URLs.
--
-- Room: cli.
-- @module longshore.cli.presign
local bucket = require "longshore.cli.bucket"
local common = require "longshore.cli.common"
local json = require "longshore.json"

local _M = {
  summary = [[
Prints a presigned URL: whoever has it may do that one thing with that one
object, without credentials, until it expires.

Credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
AWS_SESSION_TOKEN. Nothing is sent anywhere.]],
}

local METHODS = { GET = true, PUT = true, HEAD = true, DELETE = true, POST = true }

--- Adds the options.
function _M.configure(parser)
  parser:argument("METHOD", "GET, PUT, HEAD, DELETE or POST."):target "method"
  parser:argument("URL", "s3://BUCKET/KEY, the key as it is, not encoded (GET and HEAD: a bucket, too)."):target "url"
  parser:option("-e --expires"):argname("TIME"):default "1h":convert(common.duration)
    :description "How long the URL works: 900, 15m, 1h, at most 7d."
  parser:option("--length"):argname("SIZE"):convert(common.size)
    :description "Size of the body of a PUT: no other is accepted then."
  parser:option("--header"):argname("NAME:VALUE"):count "*"
    :description "A header that is signed: the request must have it, exactly so."
  parser:option("--query"):argname("NAME=VALUE"):count "*"
    :description "A further query parameter, such as response-content-type=text/plain."
  parser:option("--upload-id"):argname("ID"):description "Of a multipart upload, for --part."
  parser:option("--part"):argname("N"):convert(common.integer(1, 10000))
    :description "The upload of part N (with PUT and --upload-id)."
  parser:option("--count"):argname("N"):convert(common.integer(1, 10000))
    :description "URLs for N parts from --part on, a line each."
  parser:flag("--json"):description "With method, headers to send and time of expiry, for programs."
  bucket.configure(parser)
  parser:epilog [[
Exit codes: 0 done, 1 it cannot be signed, 2 wrong usage.

Examples:
  longshore presign GET s3://bucket/report.pdf --expires 15m
  longshore presign PUT s3://bucket/data.csv --length 1048576 \
    --header content-type:text/csv
  longshore presign PUT s3://bucket/big --upload-id ABC --part 1 --count 100
  longshore presign GET "s3://bucket/a b/ü" --endpoint http://127.0.0.1:9000]]
end

local function pairs_of(list, pattern, option, form)
  local found = {}
  for _, text in ipairs(list) do
    local name, value = text:match(pattern)
    if not name then common.usage(("--%s: %s is expected, not %q"):format(option, form, text)) end
    found[name] = value
  end
  return next(found) and found or nil
end

local function sign(provider, args, key)
  local headers = pairs_of(args.header, "^([^:]+):%s*(.-)%s*$", "header", "NAME:VALUE")
  local query = pairs_of(args.query, "^([^=]+)=(.*)$", "query", "NAME=VALUE")
  if not args.part then
    if args.count or args.upload_id then common.usage "--upload-id and --count belong to --part" end
    local answer, err = provider:sign_url { method = args.method, key = key, headers = headers, query = query,
      length = args.length, expires = args.expires }
    return answer and { answer }, err
  end
  if args.method ~= "PUT" then common.usage "--part is for PUT" end
  if not args.upload_id then common.usage "--part needs --upload-id" end
  if headers or query then common.usage "--part takes no --header and no --query" end
  local parts = {}
  for i = 1, args.count or 1 do parts[i] = { number = args.part + i - 1, length = args.length } end
  if parts[#parts].number > 10000 then common.usage "there are at most 10000 parts" end
  return provider:sign_parts { key = key, upload_id = args.upload_id, parts = parts, expires = args.expires }
end

--- Prints the URLs.
function _M.run(args)
  args.method = args.method:upper()
  if not METHODS[args.method] then
    common.usage(("METHOD is GET, PUT, HEAD, DELETE or POST, not %q"):format(args.method))
  end
  local name, key = args.url:match("^[sS]3://([^/]+)/?(.*)$")
  if not name then common.usage(("s3://BUCKET/KEY is expected, not %q"):format(args.url)) end
  if key == "" and args.method ~= "GET" and args.method ~= "HEAD" then
    common.usage(("s3://BUCKET/KEY is expected: %s of %s would be of the whole bucket"):format(args.method, args.url))
  end
  if args.expires < 1 or args.expires > 604800 then common.usage "--expires: from 1 second to 7d" end
  if args.length and args.method ~= "PUT" and args.method ~= "POST" then common.usage "--length is for PUT" end
  local settings = bucket.settings(args)
  settings.bucket, settings.name = name, name
  local provider, err = require("longshore.provider.s3").new(settings)
  if not provider then common.usage(err.message) end
  local list
  list, err = sign(provider, args, key ~= "" and key or nil)
  if not list then return nil, err end
  for _, answer in ipairs(list) do
    if args.json then
      common.print_json { method = answer.method, url = answer.url, headers = json.object(answer.headers),
        expires_at = answer.expires_at, part = answer.number }
    else
      common.out(answer.url .. "\n")
    end
  end
  return 0
end

return _M

--- Options of the commands that talk to a bucket themselves: put and presign.
--
-- Room: cli.
-- @module longshore.cli.bucket
local common = require "longshore.cli.common"

local _M = {}

--- Adds --endpoint, --region, --profile, --path-style.
-- @tparam table parser
-- @treturn table the options, for a group
function _M.configure(parser)
  return {
    parser:option("--endpoint"):argname("URL")
      :description "Where the S3-compatible store is (AWS_ENDPOINT_URL; default: Amazon S3).",
    parser:option("--region"):argname("NAME")
      :description "Region of the bucket (AWS_REGION, AWS_DEFAULT_REGION).",
    parser:option("--profile"):argname("NAME")
      :description("What kind of store it is: aws, ceph, minio, r2, gcs, diskstore, ... "
        .. "(default: by the endpoint's host, else generic)."),
    parser:option("--path-style"):argname("yes|no"):choices { "yes", "no" }
      :description "Bucket in the path instead of the host name (default: by the store).",
  }
end

local function env(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

--- The driver's and provider's settings from options and environment.
-- @tparam table args
-- @treturn table endpoint, region, profile, path_style, credentials
function _M.settings(args)
  local s3 = require "longshore.uploader.s3"
  local credentials = require "longshore.provider.credentials"
  local endpoint = args.endpoint or env "AWS_ENDPOINT_URL_S3" or env "AWS_ENDPOINT_URL"
  local found, err = credentials.environment()()
  if not found then
    common.usage(err.message .. "; credentials for the bucket come from the environment "
      .. "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)")
  end
  local path_style
  if args.path_style then path_style = args.path_style == "yes" end
  return {
    endpoint = endpoint, region = args.region or env "AWS_REGION" or env "AWS_DEFAULT_REGION",
    profile = args.profile or s3.profile_of(endpoint), path_style = path_style,
    access_key = found.access_key, secret_key = found.secret_key, session_token = found.session_token,
  }
end

--- Stops the command with what is wrong about an option.
-- @tparam table err of a provider, with its `field`
function _M.refuse(err)
  local field, why = err.message:match("^provider .-: ([%l_]+): (.*)$")
  if not field then common.usage(err.message) end
  common.usage(("--%s: %s"):format(field:gsub("_", "-"), why))
end

return _M

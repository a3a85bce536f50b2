--- Options of the commands that talk to a service: which, and as whom.
--
-- Room: cli.
-- @module longshore.cli.access
local common = require "longshore.cli.common"

local _M = {}

--- The services that have a client driver (`longshore.service.NAME.client`).
_M.services = { "newton", "geolens", "cognite", "athena" }

--- Adds --token, --token-file.
-- @tparam table parser
-- @treturn two options
function _M.configure_token(parser)
  return parser:option("--token"):argname("TOKEN")
      :description "Better in LONGSHORE_TOKEN: others cannot see it in the list of processes.",
    parser:option("--token-file"):argname("PATH"):description "A file with the token in its first line."
end

--- Adds --token, --token-file, --service.
-- @tparam table parser
-- @treturn table the options, for a group
function _M.configure(parser)
  local token, token_file = _M.configure_token(parser)
  return {
    token, token_file,
    parser:option("--service"):argname("NAME"):choices(_M.services):default "newton"
      :description("Which API the broker is asked in: " .. table.concat(_M.services, ", ") .. "."),
    parser:option("--client"):argname("NAME")
      :description "athena: the logical client (LONGSHORE_CLIENT; default: the server's).",
  }
end

local function first_line(path)
  local file, why = io.open(path, "r")
  if not file then common.usage("--token-file: " .. why) end
  local line, failure = file:read("*l")
  file:close()
  local token = (line or ""):match("^%s*(.-)%s*$")
  if token == "" then
    common.usage(("--token-file: %s: %s"):format(path, failure or "there is no token in its first line"))
  end
  return token
end

--- The token, from --token, --token-file or LONGSHORE_TOKEN; without one, the command stops.
-- @tparam table args
-- @treturn string
function _M.token(args)
  if args.token and args.token_file then common.usage "--token and --token-file: one of them" end
  local token = args.token or args.token_file and first_line(args.token_file) or os.getenv "LONGSHORE_TOKEN"
  if not token or token == "" then
    common.usage "a token is needed: --token, --token-file or LONGSHORE_TOKEN (`longshore token create` makes one)"
  end
  return token
end

--- The driver of a service.
-- @tparam string url
-- @tparam table args
-- @tparam[opt] table more what this service's driver takes besides
-- @treturn[1] table driver
-- @return[2] nil
-- @treturn[2] table err
function _M.driver(url, args, more)
  local options = { url = url, token = _M.token(args) }
  if args.service == "athena" then
    options.client, options.key = args.client or os.getenv "LONGSHORE_CLIENT", os.getenv "LONGSHORE_API_KEY"
  elseif args.client then
    common.usage "--client is for --service athena"
  end
  for key, value in pairs(more or {}) do options[key] = value end
  return require("longshore.service." .. args.service .. ".client").new(options)
end

return _M

--- The `longshore` command.
--
-- A command is a module `longshore.cli.NAME` that returns
--
--     { summary = "one line",
--       configure = function(parser) ... end,   -- an argparse parser
--       run = function(args) return 0 end }     -- args from the parser; exit code
--
-- and is loaded only when it is asked for: `longshore presign` needs no nginx
-- and no database. `run` may return nil, err instead of a code (the error is
-- printed, exit code 1), and may call `common.usage(message)` for a mistake on
-- the command line (exit code 2). Its errors go to stderr, its results to
-- stdout.
--
-- Exit codes: 0 all done, 1 some or all failed, 2 wrong usage, 3 interrupted
-- and resumable.
--
-- Room: cli, above everything.
-- @module longshore.cli
local argparse = require "argparse"
local common = require "longshore.cli.common"
local errors = require "longshore.errors"

local _M = {}

--- The commands, in the order in which help lists them. The summaries are here
-- so that help loads none of them.
_M.commands = {
  { "put", "upload files and folders, in parallel parts, resumable" },
  { "get", "read a file back, in parallel ranges, checked" },
  { "serve", "run a broker and a disk store on this machine" },
  { "nginx-conf", "print the lines that mount the broker in your nginx" },
  { "presign", "print a presigned URL for a bucket" },
  { "crc32c", "print or check the CRC32C of files" },
  { "token", "create, list and revoke tokens of a broker" },
  { "policy", "check a policy file, or run it on cases" },
  { "catalog", "make and change the buckets of athena's clients" },
  { "janitor", "expire, abort and clean what uploads left behind" },
  { "status", "look at a broker, or at uploads interrupted here" },
}

local function help()
  local lines = {
    "Usage: longshore COMMAND [OPTION...] [ARGUMENT...]",
    "",
    "Direct-to-cloud uploads: from a file to a bucket, through a broker or straight.",
    "",
    "Commands:",
  }
  for _, command in ipairs(_M.commands) do
    lines[#lines + 1] = ("  %-10s %s"):format(command[1], command[2])
  end
  lines[#lines + 1] = [[

Options:
  -h, --help     this text; `longshore COMMAND --help` explains a command
  --version      the version

Exit codes: 0 all done, 1 some or all failed, 2 wrong usage, 3 interrupted
(the same command again resumes).

Examples:
  longshore serve
  longshore put video.mp4 http://127.0.0.1:8080
  longshore get fil_... http://127.0.0.1:8080 -o video.mp4
  longshore put photos/ s3://bucket/2026/ --endpoint https://s3.example.com
  longshore presign GET s3://bucket/key --expires 1h]]
  return table.concat(lines, "\n") .. "\n"
end

local function known(name)
  for _, command in ipairs(_M.commands) do
    if command[1] == name then return true end
  end
  return false
end

-- Thrown through argparse, which knows only how to exit.
local function stop(kind, parser, text)
  error({ stop = kind, parser = parser, text = text }, 0)
end

local function make_parser(name, command)
  local parser = argparse("longshore " .. name)
  parser:add_help(false)
  parser:help_max_width(80)
  parser:help_description_margin(28)
  parser.error = function(self, text) stop("usage", self, text) end
  if command.summary then parser:description(command.summary) end
  command.configure(parser)
  parser:flag("-h --help"):description("Show this help and exit."):action(function()
    stop("help", parser)
  end)
  return parser
end

-- The command with its own command, where that is one: whose --help is meant.
local function full_name(name, parser, args)
  for _, command in ipairs(parser._commands) do
    if command._name == args[1] then return name .. " " .. args[1] end
  end
  return name
end

-- Runs one command: its exit code. `where.name` is set to what was run.
local function run_command(name, args, where)
  local command = require("longshore.cli." .. name)
  local parser = make_parser(name, command)
  name = full_name(name, parser, args)
  where.name = name
  local ok, parsed = pcall(parser.parse, parser, args)
  if not ok then
    if type(parsed) ~= "table" or not parsed.stop then error(parsed, 0) end
    if parsed.stop == "help" then
      common.out(parsed.parser:get_help() .. "\n")
      return 0
    end
    common.err(("%s\n\nlongshore %s: %s (see longshore %s --help)\n"):format(
      parsed.parser:get_usage(), name, parsed.text, name))
    return 2
  end
  local code, err = command.run(parsed)
  if code == nil then
    common.err(("longshore %s: %s\n"):format(name, tostring(err)))
    return 1
  end
  return code
end

--- Runs a command line.
-- @tparam table args the words after `longshore`
-- @treturn number the exit code
function _M.run(args)
  local name = args[1]
  if name == nil then
    common.err(help())
    return 2
  end
  if name == "-h" or name == "--help" or (name == "help" and not args[2]) then
    common.out(help())
    return 0
  end
  if name == "--version" then
    common.out("longshore " .. common.version() .. "\n")
    return 0
  end
  local rest = {}
  for i = 2, #args do rest[#rest + 1] = args[i] end
  if name == "help" then
    name, rest = args[2], { "--help" }
  end
  if not known(name) then
    common.err(("longshore: there is no command %q; `longshore --help` lists them\n"):format(name))
    return 2
  end
  local traceback
  local where = { name = name }
  local ok, code = xpcall(run_command, function(thrown)
    if type(thrown) == "table" and thrown.usage then return thrown end
    traceback = debug.traceback("", 2)
    return thrown
  end, name, rest, where)
  if ok then return code end
  name = where.name
  if type(code) == "table" and code.usage then
    common.err(("longshore %s: %s (see longshore %s --help)\n"):format(name, code.usage, name))
    return 2
  end
  -- Ctrl-C, in a command with nothing to finish first: Lua's own handler raises this.
  if type(code) == "string" and code:find "interrupted!$" then
    common.err(("longshore %s: interrupted\n"):format(name))
    return 3
  end
  common.err(("longshore %s: this is a bug in longshore: %s\n"):format(name,
    errors.redact(tostring(code))))
  if os.getenv("LONGSHORE_DEBUG") then common.err(errors.redact(traceback or "") .. "\n") end
  return 1
end

--- Runs a command line and ends the process with its exit code.
-- @tparam table args as `arg` of a script
function _M.main(args)
  local code = _M.run(args)
  io.stdout:flush()
  os.exit(code, true)
end

return _M

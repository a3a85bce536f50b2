--- Writes anew what nginx reads, while `serve` runs: when it is told to (SIGHUP),
-- and before an nginx that died is started again.
--
-- nginx then loads the longshore that is installed now, which may be another one
-- than this process was started with: the new one must also write its nginx.conf,
-- which has to declare what the new one needs. So another process does it, of the
-- same command with the hidden option `--renew DATA`.
--
-- Room: cli.
-- @module longshore.cli.serve.renewal
local errors = require "longshore.errors"
local host = require "longshore.cli.serve.host"
local setup = require "longshore.cli.serve.setup"

local _M = {}

--- The words that this program was started with, up to its own name, for the shell.
-- @treturn string
function _M.program()
  local words, first = {}, 0
  while arg[first - 1] do first = first - 1 end
  for i = first, 0 do words[#words + 1] = host.shell(arg[i]) end
  return table.concat(words, " ")
end

local function read(path)
  local f = io.open(path, "rb")
  local text = f and f:read("*a")
  if f then f:close() end
  return text
end

--- Has the files written.
-- @tparam table args of `serve`
-- @tparam table ready `config`, `servers`, `owner`
-- @tparam boolean same from the configuration that is in use, not from what the user's file says now
-- @treturn function undo puts the old files back
-- @treturn[2] nil
-- @treturn[2] table err
function _M.run(args, ready, same)
  local data = ready.config.data
  local used = data .. "/run/config.lua"
  local words = { _M.program(), "serve", "--renew", host.shell(data) }
  local function option(name, value)
    if value then words[#words + 1] = name .. " " .. host.shell(value) end
  end
  option("--config", same and used or args.config)
  option("--data", same and data or args.data)
  if not same then
    option("--listen", args.listen)
    option("--store-listen", args.store_listen)
  end
  if args.quiet then words[#words + 1] = "--quiet" end
  local kept = { [used] = read(used) }
  for _, server in ipairs(ready.servers) do kept[server.conf] = read(server.conf) end
  local function undo()
    for path, text in pairs(kept) do setup.write_run(path, text, ready.owner) end
  end
  local pipe = io.popen(table.concat(words, " ") .. " 2>&1; echo $?", "r")
  local said, code = pipe:read("*a"):match("^(.-)%s*(%d+)%s*$")
  pipe:close()
  if code == "0" then return undo end
  undo()
  return errors.fail("invalid", ((said or ""):gsub("^longshore serve: ", ""):gsub("%s+", " ")))
end

--- Writes the files; what the other process does.
-- @tparam function load(args) -> config
-- @tparam function access_log(config, args) where it goes
-- @tparam table args of `serve`, with `renew`, the data folder
-- @treturn number exit code
-- @treturn[2] nil
-- @treturn[2] table err
function _M.write(load, access_log, args)
  local config, err = load(args)
  if not config then return nil, err end
  -- Another data folder is another server.
  if config.data ~= args.renew then return errors.fail("invalid", "data: cannot be changed by a reload") end
  local found
  found, err = host.find(config)
  if not found then return nil, err end
  local user, uid, gid = host.user(config)
  if not user and uid then return nil, uid end
  if user and uid ~= host.whose(config.data) then
    return errors.fail("invalid", "nginx.user: cannot be changed by a reload", { field = "nginx.user" })
  end
  local ok
  ok, err = require("longshore.service").check(config)
  if not ok then return nil, err end
  local owner = host.owner(uid, gid)
  found.user, found.access_log, found.apart = user, access_log(config, args), owner ~= nil
  ok, err = setup.write_conf(config, found, owner)
  if not ok then return nil, err end
  return 0
end

return _M

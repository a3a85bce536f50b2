--- The terminal and the signals, through lua-luv; without it everything is a
-- pipe and signals do what they do by default.
--
-- Room: cli.
-- @module longshore.cli.terminal
local _M = {}

local ok, uv = pcall(require, "luv")
if not ok then uv = nil end

--- Whether a file descriptor (1: stdout, 2: stderr) is a terminal.
-- @tparam number fd
-- @treturn boolean
function _M.is_tty(fd)
  return uv ~= nil and uv.guess_handle(fd) == "tty" and os.getenv("TERM") ~= "dumb"
end

local ttys = {}

--- The width of a terminal in columns.
-- @tparam number fd
-- @treturn number 80 where it is unknown
function _M.width(fd)
  if not _M.is_tty(fd) then return 80 end
  if not ttys[fd] then
    local tty = uv.new_tty(fd, false)
    if not tty then return 80 end
    tty:unref()
    ttys[fd] = tty
  end
  local width = ttys[fd]:get_winsize()
  return type(width) == "number" and width > 0 and width or 80
end

--- Takes SIGINT, SIGTERM and SIGHUP over.
-- @tparam[opt] function again called at the second one; the default ends the
-- process at once with code 3
-- @treturn function interrupted() -> the signal's name, or nil; asks without waiting
-- @treturn function restore() gives the signals back
function _M.signals(again)
  if not uv then return function() end, function() end end
  local got
  local handles = {}
  for _, name in ipairs { "sigint", "sigterm", "sighup" } do
    local handle = uv.new_signal()
    handle:start(name, function()
      if got then
        (again or function() os.exit(3) end)()
      end
      got = name
    end)
    handles[#handles + 1] = handle
  end
  return function()
    uv.run("nowait")
    return got
  end, function()
    for _, handle in ipairs(handles) do
      handle:stop()
      handle:close()
    end
    uv.run("nowait")
  end
end

return _M

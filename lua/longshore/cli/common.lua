--- What the commands share: output, sizes and times as people write them,
-- terminal, interruption.
--
-- Room: cli.
-- @module longshore.cli.common
local errors = require "longshore.errors"
local json

local _M = {}

--- table.unpack, on both Luas.
_M.unpack = rawget(table, "unpack") or rawget(_G, "unpack")

-- 5368709120.0 prints as it should not; LuaJIT has no integers to convert to.
local tointeger = rawget(math, "tointeger") or function(n) return n end

--- Writes to stdout. Tests replace it.
function _M.out(text)
  io.stdout:write(text)
end

--- Writes to stderr. Tests replace it.
function _M.err(text)
  io.stdout:flush()
  io.stderr:write(text)
end

--- A number of things: "1 file", "2 files".
-- @tparam number n
-- @tparam string what one of them is called
-- @treturn string
function _M.count(n, what)
  return ("%.0f %s%s"):format(n, what, n == 1 and "" or "s")
end

--- Prints a line built as by string.format.
function _M.print(format, ...)
  _M.out((select("#", ...) > 0 and format:format(...) or format) .. "\n")
end

--- A text as a terminal may get it: names of files and what servers say are
-- anybody's, and control characters would move the cursor or forge lines.
-- @tparam string text
-- @treturn string with ? for each of them
function _M.printable(text)
  return (text:gsub("%c", "?"):gsub("\194[\128-\159]", "?"))
end

--- Prints one value as a line of JSON, at once: a program may be waiting.
function _M.print_json(value)
  json = json or require "longshore.json"
  _M.out(json.encode(value) .. "\n")
  io.stdout:flush()
end

--- Stops the command: the command line is wrong. Exit code 2.
-- @tparam string message what is wrong and what is expected
function _M.usage(message)
  error({ usage = message }, 0)
end

--- The version of this longshore.
function _M.version()
  return "scm"
end

local UNITS = {
  [""] = 1, b = 1,
  k = 1024, kib = 1024, m = 1024 ^ 2, mib = 1024 ^ 2, g = 1024 ^ 3, gib = 1024 ^ 3,
  t = 1024 ^ 4, tib = 1024 ^ 4,
  kb = 1000, mb = 1000 ^ 2, gb = 1000 ^ 3, tb = 1000 ^ 4,
}

--- Reads a size: 1048576, 8MiB, 8M (binary), 8MB (decimal).
-- @tparam string text
-- @treturn[1] number bytes
-- @return[2] nil
-- @treturn[2] string why not (argparse's convert contract)
function _M.size(text)
  local number, unit = text:match("^%s*(%d+%.?%d*)%s*(%a*)%s*$")
  local factor = unit and UNITS[unit:lower()]
  local bytes = factor and math.floor(tonumber(number) * factor)
  if not bytes or bytes > 2 ^ 53 - 1 then
    return nil, ("%q is not a size; write for example 1048576, 8MiB or 10MB"):format(text)
  end
  return tointeger(bytes)
end

local SECONDS = { [""] = 1, s = 1, m = 60, min = 60, h = 3600, d = 86400, w = 604800 }

--- Reads a duration: 900, 15m, 1h, 7d.
-- @tparam string text
-- @treturn[1] number seconds
-- @return[2] nil
-- @treturn[2] string why not
function _M.duration(text)
  local number, unit = text:match("^%s*(%d+%.?%d*)%s*(%a*)%s*$")
  local factor = unit and SECONDS[unit:lower()]
  local seconds = factor and math.floor(tonumber(number) * factor)
  if not seconds or seconds > 2 ^ 53 - 1 then
    return nil, ("%q is not a duration; write for example 900, 15m, 1h or 7d"):format(text)
  end
  return tointeger(seconds)
end

--- Makes a converter for whole numbers within bounds.
-- @tparam number low
-- @tparam number high
-- @treturn function for argparse's convert
function _M.integer(low, high)
  return function(text)
    local n = text:match("^%d+$") and tonumber(text)
    if not n or n < low or n > high then
      return nil, ("%q is not a whole number from %.0f to %.0f"):format(text, low, high)
    end
    return tointeger(n)
  end
end

--- An error with what an option of the command does about it.
-- @tparam table err
-- @treturn table err
function _M.advised(err)
  if err.code == "tls" and err.message:find("certificate was refused", 1, true) then
    err.message = err.message .. " (--ca-file names a certificate to trust)"
  end
  return err
end

--- Prints an error for people, or as a JSON line.
function _M.complain(command, err)
  _M.err(("longshore %s: %s\n"):format(command, tostring(errors.from(err))))
end

return _M

--- `longshore crc32c`: prints and checks CRC32C checksums.
--
-- Room: cli.
-- @module longshore.cli.crc32c
local common = require "longshore.cli.common"
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {
  summary = "Prints the CRC32C of files, or checks files against printed ones.",
}

local CHUNK = 1024 * 1024
-- So many lines of a list that are none are named; who checks a video by mistake has seen enough then.
local NAMED = 5

--- Adds the options.
function _M.configure(parser)
  parser:argument("FILE", "Files; - is standard input."):args("+"):target "files"
  parser:flag("-b --base64")
    :description "The form that object stores use (x-amz-checksum-crc32c) instead of eight hexadecimal digits."
  parser:option("--range"):argname("FIRST-LAST")
    :description "These bytes only, counted from 0, the last included: 0-1023, 1024-."
  parser:flag("-c --check")
    :description "FILE are lists as this command prints them; says of each line whether it is still right."
  parser:flag("--json"):description "A JSON object per line, for programs."
  parser:epilog [[
Exit codes: 0 all done and right, 1 a file cannot be read or differs, 2 wrong
usage.

Examples:
  longshore crc32c video.mp4
  longshore crc32c --base64 --range 0-8388607 video.mp4
  longshore crc32c *.mp4 > sums && longshore crc32c --check sums
  tar c photos | longshore crc32c -]]
end

local function read_range(text)
  if not text then return nil end
  local first, last = text:match("^(%d+)%-(%d*)$")
  first, last = tonumber(first), tonumber(last)
  if not first or last and last < first or first >= 2 ^ 53 or last and last >= 2 ^ 53 - 1 then
    common.usage(("--range: FIRST-LAST is expected, such as 0-1023 or 1024-, not %q"):format(text))
  end
  return { offset = first, length = last and last - first + 1 or nil }
end

local function sum_of_stdin(range)
  local crc, skip, left = core.crc32c_new(), range and range.offset or 0, range and range.length or math.huge
  local bytes = 0
  while left > 0 do
    local data, why = io.stdin:read(CHUNK)
    if why then return errors.fail("io", why) end
    if not data then break end
    if skip > 0 then
      local dropped = math.min(skip, #data)
      skip, data = skip - dropped, data:sub(dropped + 1)
    end
    if #data > left then data = data:sub(1, left) end
    left, bytes = left - #data, bytes + #data
    crc:update(data)
  end
  return crc:value(), bytes
end

local function sum_of(path, range)
  local crc, bytes
  if path == "-" then
    crc, bytes = sum_of_stdin(range)
  else
    crc, bytes = core.crc32c_file(path, range)
    if not crc then return nil, bytes end
  end
  if range and range.length and bytes < range.length then
    return errors.fail("invalid", ("%s has no bytes %.0f-%.0f"):format(path, range.offset,
      range.offset + range.length - 1))
  end
  return crc, bytes
end

local function show(crc, base64)
  return base64 and core.crc32c_base64(crc) or ("%08x"):format(crc)
end

local function complain(path, err)
  err = errors.from(err)
  local text = err.message:find(path, 1, true) and err.message or path .. ": " .. err.message
  common.err("longshore crc32c: " .. text .. "\n")
end

-- A name that would be several lines, as sha256sum has it: the line begins with
-- a backslash then.
local ESCAPES = { ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r" }
local ESCAPED = { ["\\\\"] = "\\", ["\\n"] = "\n", ["\\r"] = "\r" }

-- The mark that a line with this name begins with, and the name in it.
local function in_line(path)
  if not path:find "[\\\n\r]" then return "", path end
  return "\\", (path:gsub("[\\\n\r]", ESCAPES))
end

-- A line of a list: the checksum and the name.
local function read_line(line)
  local mark, sum, path = line:match("^(\\?)(%S+)  (.+)$")
  if not sum then return nil end
  if mark ~= "" then path = path:gsub("\\.", ESCAPED) end
  if sum:match("^%x%x%x%x%x%x%x%x$") then return tonumber(sum, 16), path end
  local crc = core.crc32c_from_base64(sum)
  return crc, path
end

local function check(args, range)
  local bad = 0
  for _, list in ipairs(args.files) do
    local file, why = io.stdin, nil
    if list ~= "-" then file, why = io.open(list, "r") end
    if not file then
      common.err(("longshore crc32c: %s\n"):format(why))
      return 1
    end
    local number, strange = 0, 0
    while true do
      local line, failure = file:read "*l"
      if not line then
        if failure or number == 0 then
          complain(list, errors.new("io", failure or "there is no checksum in it"))
          bad = bad + 1
        end
        break
      end
      number = number + 1
      local expected, path = read_line(line)
      if not expected then
        bad, strange = bad + 1, strange + 1
        if strange <= NAMED then
          common.err(("longshore crc32c: %s, line %d: a checksum, two spaces and a name are expected\n"):format(list,
            number))
        end
      else
        local crc, err = sum_of(path, range)
        local right = crc == expected
        if not right then bad = bad + 1 end
        if args.json then
          common.print_json { name = path, ok = right, crc32c = crc and core.crc32c_base64(crc) or nil,
            error = not crc and errors.from(err).message or nil }
        else
          if not crc then complain(path, err) end
          local mark, name = in_line(path)
          common.print("%s%s: %s", mark, name, right and "OK" or crc and "FAILED" or "FAILED (cannot be read)")
        end
      end
    end
    if file ~= io.stdin then file:close() end
  end
  if bad > 0 and not args.json then
    common.err(("longshore crc32c: %d %s not right\n"):format(bad, bad == 1 and "line is" or "lines are"))
  end
  return bad == 0 and 0 or 1
end

--- Prints or checks.
function _M.run(args)
  local range = read_range(args.range)
  if args.check then return check(args, range) end
  local code = 0
  for _, path in ipairs(args.files) do
    local crc, bytes = sum_of(path, range)
    if not crc then
      code = 1
      if args.json then
        common.print_json { name = path, ok = false, error = errors.from(bytes).message }
      else
        complain(path, bytes)
      end
    elseif args.json then
      common.print_json { name = path, ok = true, bytes = bytes, crc32c = core.crc32c_base64(crc),
        hex = ("%08x"):format(crc) }
    else
      local mark, name = in_line(path)
      common.print("%s%s  %s", mark, show(crc, args.base64), name)
    end
  end
  return code
end

return _M

--- Makes one plain log of what the nginx processes write: a line per event,
--
--     2026-11-20T23:27:31Z broker info upload started parts=3 upload_id=upl_...
--
-- nginx puts the request's line into its messages, signatures of presigned URLs
-- with it; none of that gets through.
--
-- Room: cli. No I/O.
-- @module longshore.cli.serve.logs
local errors = require "longshore.errors"

local _M = {}

-- Bytes of a line: more than nginx's longest, that of a request whose path is all escaped.
local MAX_LINE = 256 * 1024

local words = {
  debug = "debug", info = "debug", notice = "info", warn = "warn", error = "error",
  crit = "error", alert = "error", emerg = "error",
}

-- nginx writes local time without a zone; ours is UTC.
local function now()
  return os.date("!%Y-%m-%dT%H:%M:%SZ")
end

-- A line of an nginx error log: its level and its text, or nil when nobody needs it.
local function read_error(line)
  local level, text = line:match("^%d+/%d+/%d+ %d+:%d+:%d+ %[(%a+)%] %d+#%d+: (.*)$")
  if not level then return nil end
  text = text:gsub("^%*%d+ ", "")
  local own = text:match("^%[lua%] [^:]+:%d+: [^:]-: (.*)$") or text:match("^%[lua%] [^:]+:%d+: (.*)$")
  -- What nginx says at its start and its end is for those who debug it.
  if not own and level == "notice" then level = "info" end
  text = (own or text):gsub(", client: .*$", ""):gsub(", context: ngx%.timer$", "")
  return words[level] or "info", text
end

--- Makes a reader for the output of one nginx.
-- @tparam string name what its lines are marked with
-- @tparam table options `write` (function(text), one line or several), `quiet` (warnings and errors only), `debug`
-- (everything)
-- @treturn function(chunk) to be called with whatever arrives, nil at the end
function _M.reader(name, options)
  local pieces, size = {}, 0 -- of the line that has not ended
  -- The line of our log, or nil when nobody needs it.
  local function read(line)
    if line == "" then return nil end
    local level, text = read_error(line)
    if not level then
      local request = line:match("^request (.*)$") or line:match("^{.*}$") -- the text or the JSON form
      level, text = request and "info" or "error", request or line:gsub(", client: .*$", "")
    end
    if level == "debug" and not options.debug then return nil end
    if options.quiet and (level == "info" or level == "debug") then return nil end
    return ("%s %s %s %s\n"):format(now(), name, level, errors.redact(text))
  end
  return function(chunk)
    local lines, from = {}, 1
    chunk = chunk or "\n"
    while true do
      local at = chunk:find("\n", from, true)
      if not at then break end
      pieces[#pieces + 1] = chunk:sub(from, at - 1)
      lines[#lines + 1] = read(table.concat(pieces))
      pieces, size, from = {}, 0, at + 1
    end
    -- The rest is not looked at again until its end is there; of a line without an end nobody keeps more than this.
    if from <= #chunk and size < MAX_LINE then
      pieces[#pieces + 1], size = chunk:sub(from), size + #chunk - from + 1
    end
    if lines[1] then options.write(table.concat(lines)) end
  end
end

return _M

-- Several processes that do the same at the same moment, for specs.
local core = require "longshore.core"
local json = require "longshore.json"
local support = require "spec.support"

local quote = support.quote
local _M = {}

--- Runs a script of spec/policy in several processes that begin at `settings.start_at`. Its arguments are
-- a Lua file that returns the settings, and its number; it prints how often it was allowed something.
-- @return the sum of what they print
function _M.together(script, processes, settings)
  settings.start_at = core.now() + 0.5
  local folder = support.tmpdir()
  local path = support.write_file(folder .. "/settings.lua", ("return require('longshore.json').decode(%q)")
    :format(json.encode(settings)))
  local command = {}
  for i = 1, processes do
    command[i] = ("%s %s/spec/policy/%s %s %d > %s/%d 2>&1 &"):format(support.lua, quote(support.root), script,
      quote(path), i, quote(folder), i)
  end
  support.run(table.concat(command, " ") .. " wait")
  local total = 0
  for i = 1, processes do
    local out = support.read_file(folder .. "/" .. i)
    total = total + assert(tonumber(out), out)
  end
  return total
end

return _M

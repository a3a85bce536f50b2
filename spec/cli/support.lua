-- Running commands inside the spec's process, with their output caught.
local cli = require "longshore.cli"
local common = require "longshore.cli.common"

local _M = {}

--- Runs `longshore ...`; returns exit code, stdout, stderr.
function _M.run(...)
  local out, err = {}, {}
  local saved = { common.out, common.err }
  common.out = function(text) out[#out + 1] = text end
  common.err = function(text) err[#err + 1] = text end
  local ok, code = pcall(cli.run, { ... })
  common.out, common.err = saved[1], saved[2]
  if not ok then error(code, 0) end
  return code, table.concat(out), table.concat(err)
end

return _M

--- Which of the broker's methods a host's handler may call, and how.
--
-- Room: nginx. No ngx.
-- @module longshore.nginx.calls
local _M = {}

local unpack = rawget(table, "unpack") or rawget(_G, "unpack")

local allowed = {}
for _, name in ipairs { "initiate", "part_urls", "checkpoint", "complete", "abort", "upload", "file", "files",
  "file_by_name", "usage", "download", "delete_file" } do
  allowed[name] = true
end

--- Calls a method.
-- @tparam table broker
-- @tparam string name
-- @tparam table actor
-- @tparam table arguments with `n`
-- @return what it returns
function _M.run(broker, name, actor, arguments)
  if not allowed[name] then error(("the broker has no method %q for handlers"):format(tostring(name)), 0) end
  return broker[name](broker, actor, unpack(arguments, 1, arguments.n))
end

return _M

--- Finds the route of a request. Routes are tables:
--
--     { method="POST", path="/v0.5/files/uploads/{upload_id}/complete", name="newton.complete",
--       auth="bearer", right="upload", body="json", schema=rule, max_body=bytes, handler=function(ctx) }
--
-- `{name}` stands for one path segment, which arrives percent-decoded in
-- `params`. A literal segment goes before a parameter. GET answers HEAD too.
-- Paths are taken raw and never normalised: `//` and `..` match nothing.
--
-- Room: http. No I/O.
-- @module longshore.http.router
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}
local methods = {}
local mt = { __index = methods, __name = "longshore.http.router" }

-- (Plain searches: LuaJIT compiles those.)
local function split(path)
  local segments, n = {}, 0
  local from = path:byte(1) == 47 and 2 or 1
  while true do
    local slash = path:find("/", from, true)
    n = n + 1
    segments[n] = path:sub(from, slash and slash - 1 or -1)
    if not slash then return segments end
    from = slash + 1
  end
end

--- A router over some routes.
-- @tparam table routes list; two routes with the same method and path raise
-- @treturn table router
function _M.new(routes)
  local self = setmetatable({ tree = { next = {} } }, mt)
  for _, route in ipairs(routes) do self:add(route) end
  return self
end

--- Adds one route.
-- @tparam table route
function methods:add(route)
  assert(type(route.method) == "string" and type(route.path) == "string", "a route has method and path")
  local node, names = self.tree, {}
  for _, segment in ipairs(split(route.path)) do
    local name = segment:match("^{([%w_]+)}$")
    local key = segment
    if name then
      names[#names + 1] = name
      node.any = node.any or { next = {} }
      node = node.any
    else
      node.next[key] = node.next[key] or { next = {} }
      node = node.next[key]
    end
  end
  node.routes = node.routes or {}
  assert(not node.routes[route.method], ("two routes for %s %s"):format(route.method, route.path))
  node.routes[route.method] = { route = route, names = names }
end

local function allowed(routes)
  local list = {}
  for method in pairs(routes) do list[#list + 1] = method end
  if routes.GET and not routes.HEAD then list[#list + 1] = "HEAD" end
  list[#list + 1] = "OPTIONS"
  table.sort(list)
  return list
end

local function find(node, segments, i, values)
  if i > #segments then return node.routes and node or nil end
  local segment = segments[i]
  local child = node.next[segment]
  local found = child and find(child, segments, i + 1, values)
  if found then return found end
  if node.any and segment ~= "" then
    values[#values + 1] = segment
    found = find(node.any, segments, i + 1, values)
    if found then return found end
    values[#values] = nil
  end
end

--- The methods that a path answers, sorted; nil when there is no such path.
-- @tparam string path raw
-- @treturn table|nil list
function methods:allowed(path)
  local node = find(self.tree, split(path), 1, {})
  return node and allowed(node.routes)
end

--- Finds the route for a method and a raw path.
-- @tparam string method
-- @tparam string path raw, without query
-- @treturn table route
-- @treturn table params name to decoded value
-- @treturn[2] nil
-- @treturn[2] table err code not_found; unsupported with status 405 and `allow`; invalid for a bad escape
function methods:match(method, path)
  local values = {}
  local node = find(self.tree, split(path), 1, values)
  if not node then
    return errors.fail("not_found", "there is nothing at this path", { reason = "path" })
  end
  local entry = node.routes[method] or (method == "HEAD" and node.routes.GET)
  if not entry then
    return errors.fail("unsupported", ("%s is not possible here"):format(method:sub(1, 20):gsub("[^%u]", "?")),
      { status = 405, reason = "method", allow = table.concat(allowed(node.routes), ", ") })
  end
  local params = {}
  for i, name in ipairs(entry.names) do
    local value = core.uri_decode(values[i])
    if not value then
      return errors.fail("invalid", ("the path has a malformed escape in %s"):format(name),
        { field = name, reason = "format" })
    end
    params[name] = value
  end
  return entry.route, params
end

return _M

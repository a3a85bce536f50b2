--- A request as the services see it, whatever received it.
--
-- `request.new` takes what a host has (nginx, a script, a spec) and fills in
-- the rest:
--
--     { method=, path="/v0.5/..." raw, query_string="a=b", query={k=v} (decoded, the first wins),
--       headers={lowercase=v}, body=string|nil, body_file={path=,length=}|nil,
--       remote_addr=, scheme=, host=, id="req_...", actor=nil (only where the host authenticates) }
--
-- Room: http. No I/O.
-- @module longshore.http.request
local core = require "longshore.core"

local _M = {}

--- A random id: a prefix and 26 base-32 characters.
-- @tparam string prefix for example "req_"
-- @treturn string
function _M.new_id(prefix)
  return prefix .. core.letters(26)
end

--- Splits and decodes a query string. Of a name that occurs twice the first
-- value counts; a malformed escape stays as it is.
-- @tparam[opt] string s
-- @treturn table name to value
function _M.parse_query(s)
  local query = {}
  for pair in (s or ""):gmatch("[^&]+") do
    local name, value = pair:match("^([^=]*)=?(.*)$")
    name = core.uri_decode(name, true) or name
    if query[name] == nil then
      query[name] = core.uri_decode(value, true) or value
    end
  end
  return query
end

--- Reads a Content-Type (or Content-Disposition) header.
-- @tparam[opt] string value `type/sub; name=value; name="quoted"`
-- @treturn string|nil the lowercase media type
-- @treturn table lowercase parameter names to values
function _M.media_type(value)
  if not value then return nil, {} end
  local kind, rest = value:match("^%s*([^;%s]+)%s*(.*)$")
  if not kind then return nil, {} end
  local params, at = {}, 1
  while true do
    local name, next_at = rest:match("^%s*;%s*([^=;%s]+)%s*=%s*()", at)
    if not name then break end
    local text
    if rest:sub(next_at, next_at) == '"' then
      local out, i = {}, next_at + 1
      while true do
        local plain, mark, after = rest:match('^([^"\\]*)(["\\]?)()', i)
        out[#out + 1] = plain
        i = after
        if mark ~= "\\" then break end
        out[#out + 1] = rest:sub(i, i)
        i = i + 1
      end
      text, at = table.concat(out), i
    else
      text, at = rest:match("^([^;]*)()", next_at)
      text = text:gsub("%s+$", "")
    end
    name = name:lower()
    if params[name] == nil then params[name] = text end
  end
  return kind:lower(), params
end

--- Makes a request complete.
-- @tparam table given `method` and either `target` ("/path?query") or `path`; headers with lowercase names
-- @treturn table request the same table
function _M.new(given)
  assert(type(given) == "table", "request: table expected")
  assert(type(given.method) == "string", "method: string expected")
  if given.target and not given.path then
    given.path, given.query_string = given.target:match("^([^?]*)%??(.*)$")
  end
  assert(type(given.path) == "string", "path: string expected")
  given.headers = given.headers or {}
  given.query = given.query or _M.parse_query(given.query_string)
  given.id = given.id or _M.new_id("req_")
  return given
end

return _M

--- Where a bucket is: endpoint URLs, path style and virtual hosts.
--
-- An endpoint is `http(s)://host[:port][/prefix]`; IPv6 hosts are in brackets.
-- The host that is signed has a port only if it is not the scheme's own. A path
-- prefix is part of what is signed (as in Supabase's `/storage/v1/s3`).
--
-- Room: provider, no I/O.
-- @module longshore.provider.address
local errors = require "longshore.errors"

local _M = {}

local default_ports = { http = 80, https = 443 }

local function invalid(text, why)
  return errors.fail("invalid", ("%q: %s"):format(text, why), { field = "endpoint" })
end

local function check_host(text, host)
  if host == "" then return invalid(text, "it has no host") end
  local inside = host:match("^%[(.*)%]$")
  if inside then
    if not inside:match("^[%x:%.]+$") or not inside:find(":", 1, true) then
      return invalid(text, "the address in brackets is not IPv6")
    end
  elseif host:find("[^%w%.%-_]") then
    return invalid(text, "the host has a character that no host name has")
  end
  return true
end

--- Reads an endpoint.
-- @tparam string text
-- @treturn[1] table `{scheme, host (lower case, with port if it is not the
--   default), name (without port), prefix ("" or "/a/b")}`
-- @treturn[2] nil
-- @treturn[2] table err code `invalid`, field `endpoint`
function _M.parse(text)
  if type(text) ~= "string" then return invalid(tostring(text), "a URL expected") end
  local scheme, rest = text:match("^(%a+)://(.*)$")
  scheme = scheme and scheme:lower()
  if not default_ports[scheme] then return invalid(text, "it must begin with http:// or https://") end
  if rest:find("[%c ]") then return invalid(text, "it has a space or control character") end
  if rest:find("[?#]") then return invalid(text, "it may not have a query") end
  local authority, prefix = rest:match("^([^/]*)(.*)$")
  if authority:find("@", 1, true) then return invalid(text, "keys do not belong into the URL") end
  local name, port = authority:match("^(%[[^%]]*%])(.*)$")
  if not name then
    if authority:find(":.*:") then return invalid(text, "IPv6 addresses go in brackets") end
    name, port = authority:match("^([^:]*)(.*)$")
  end
  if port ~= "" then
    local number = tonumber(port:match("^:(%d+)$"))
    if not number or number < 1 or number > 65535 then return invalid(text, "the port is not 1 to 65535") end
    port = number ~= default_ports[scheme] and (":%d"):format(number) or ""
  end
  local ok, err = check_host(text, name)
  if not ok then return nil, err end
  prefix = prefix:gsub("/+$", "")
  name = name:lower()
  return { scheme = scheme, name = name, host = name .. port, prefix = prefix }
end

--- Whether a name can be the first label of a host name.
-- @tparam string bucket
-- @treturn boolean
function _M.dns_name(bucket)
  return #bucket >= 3 and #bucket <= 63 and bucket:match("^[a-z0-9][a-z0-9%.%-]*[a-z0-9]$") ~= nil
    and not bucket:find("..", 1, true) and not bucket:find("%.%-") and not bucket:find("%-%.")
    and not bucket:match("^%d+%.%d+%.%d+%.%d+$")
end

--- Whether a bucket has to be in the path rather than in the host.
-- @tparam table endpoint from `parse`
-- @tparam string bucket
-- @param wish true, false, or nil and "auto": by the names
-- @treturn boolean
function _M.needs_path(endpoint, bucket, wish)
  if type(wish) == "boolean" then return wish end
  local name = endpoint.name
  return name:sub(1, 1) == "[" or name:match("^[%d%.]+$") ~= nil or not name:find(".", 1, true)
    or not _M.dns_name(bucket)
    -- A certificate for *.host does not cover a.b.host.
    or (bucket:find(".", 1, true) ~= nil and endpoint.scheme == "https")
end

--- The address of a bucket at an endpoint.
-- @tparam table endpoint from `parse`
-- @tparam string bucket
-- @tparam boolean path_style
-- @treturn table `{scheme, host, root}`: the path of a key is root .. key
function _M.bucket(endpoint, bucket, path_style)
  if path_style then
    return { scheme = endpoint.scheme, host = endpoint.host, root = endpoint.prefix .. "/" .. bucket .. "/" }
  end
  return { scheme = endpoint.scheme, host = bucket .. "." .. endpoint.host, root = endpoint.prefix .. "/" }
end

return _M

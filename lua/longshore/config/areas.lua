--- Who keeps objects where: services and catalogs have an area of a bucket each,
-- a prefix that nobody else's begins with, nor begins.
--
-- An area is `{place=, bucket=, prefix=, owner=}`; `place` is the store, as far as
-- its endpoint tells: two names of one machine are two places.
--
-- Room: shared ground, no I/O.
-- @module longshore.config.areas
local core = require "longshore.core"

local _M = {}

local PORTS = { http = "80", https = "443" }

--- The place that an endpoint names.
-- @tparam ?string endpoint nil: the profile's own
-- @tparam string profile
-- @tparam ?string account
-- @treturn string
function _M.place(endpoint, profile, account)
  if not endpoint then return ("%s/%s"):format(profile, account or "") end
  local scheme, host, path = endpoint:lower():match("^(%a+)://([^/]*)(.*)$")
  if not scheme then return endpoint end
  if host:find("%.amazonaws%.com$") or host:find("%.amazonaws%.com%.cn$") then return "aws/" end
  local name, port = host:match("^(.-):(%d+)$")
  name, port = name or host, port or PORTS[scheme]
  if name == "localhost" or name == "[::1]" then name = "127.0.0.1" end
  return ("%s:%s%s"):format(name, port or "", (path:gsub("/+$", "")))
end

--- The id of the catalog that a client has by configuration: always the same,
-- as no row keeps it.
-- @tparam string client
-- @treturn string a UUID
function _M.catalog_id(client)
  local hex = core.hex(core.sha256("longshore catalog of " .. client))
  return ("%s-%s-8%s-8%s-%s"):format(hex:sub(1, 8), hex:sub(9, 12), hex:sub(14, 16), hex:sub(18, 20), hex:sub(21, 32))
end

-- A client's name as a segment of a prefix.
local function word(name)
  if name:find("^[%w%-][%w%-_]*$") and #name <= 64 then return name end
  return "_" .. core.hex(core.sha256(name)):sub(1, 32)
end

--- The prefix of a client's catalog in the configured bucket, behind the bucket's own.
-- @tparam string client
-- @treturn string
function _M.client_prefix(client)
  return ("athena/%s/"):format(word(client))
end

-- What every key that a layout makes for a service begins with.
local function layout_prefix(layout, service)
  return (layout:gsub("{service}", service):match("^[^{]*"))
end

--- All areas that a configuration gives away.
-- @tparam table config
-- @treturn table list of areas
function _M.of_config(config)
  local list = {}
  local layout = config.policy.layout or "{service}/{organization}/{file_id}"
  local function add(owner, name, prefix)
    local bucket = config.buckets[name]
    if not bucket then return end
    list[#list + 1] = {
      owner = owner, place = _M.place(bucket.endpoint, bucket.profile, bucket.account), bucket = bucket.bucket,
      prefix = (bucket.prefix or "") .. prefix,
    }
  end
  for name, service in pairs(config.services) do
    if service.enabled and service.bucket and name ~= "athena" then
      add("services." .. name, service.bucket, layout_prefix(layout, name))
      if name == "geolens" then add("services.geolens", service.bucket, "staging/") end
    end
  end
  local athena = config.services.athena
  for name, client in pairs(athena and athena.enabled and athena.clients or {}) do
    if client.bucket then add("services.athena.clients." .. name, client.bucket, _M.client_prefix(name)) end
  end
  table.sort(list, function(a, b) return a.owner .. "\0" .. a.prefix < b.owner .. "\0" .. b.prefix end)
  return list
end

local function begins(text, with)
  return text:sub(1, #with) == with
end

--- The first area that another one would share objects with.
-- @tparam table area
-- @tparam table list
-- @treturn table|nil
function _M.conflict(area, list)
  for _, other in ipairs(list) do
    if other ~= area and other.place == area.place and other.bucket == area.bucket and other.owner ~= area.owner
      and (begins(other.prefix, area.prefix) or begins(area.prefix, other.prefix)) then
      return other
    end
  end
end

--- Checks that all areas of a configuration are apart.
-- @tparam table config
-- @treturn boolean|nil true
-- @treturn table `{field=, message=}`
function _M.check(config)
  local list = _M.of_config(config)
  for _, area in ipairs(list) do
    local other = _M.conflict(area, list)
    -- Services whose keys the server makes may share: no two of their keys are alike.
    local made = other and area.owner:find("^services%.%w+$") and other.owner:find("^services%.%w+$")
    if other and not made then
      return nil, { field = area.owner, message = ("%s: would keep its objects with those of %s: bucket %s, prefix %q")
        :format(area.owner, other.owner, area.bucket, area.prefix) }
    end
  end
  return true
end

return _M

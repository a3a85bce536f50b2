--- Rules of who.
--
-- Room: policy, no I/O. Runs inside the sandbox too.
-- @module longshore.policy.rules.access
local util = require "longshore.policy.rules.util"

local _M = {}

-- The 16 bytes of an address; IPv4 as ::ffff:a.b.c.d.
local function parse(text)
  local a, b, c, d = text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  local bytes = {}
  if a then
    for i = 1, 10 do bytes[i] = 0 end
    bytes[11], bytes[12] = 255, 255
    for i, part in ipairs { a, b, c, d } do
      bytes[12 + i] = tonumber(part)
      if bytes[12 + i] > 255 then return nil end
    end
    return bytes, true
  end
  if not text:find(":", 1, true) or text:find("[^%x:%.]") then return nil end
  local head, tail = text:match("^(.-)::(.*)$")
  local function groups(part)
    local list = {}
    if part == "" then return list end
    for group in (part .. ":"):gmatch("([^:]*):") do
      local v4 = group:find(".", 1, true) and parse(group)
      if v4 then
        list[#list + 1] = v4[13] * 256 + v4[14]
        list[#list + 1] = v4[15] * 256 + v4[16]
      elseif #group >= 1 and #group <= 4 and not group:find(".", 1, true) then
        list[#list + 1] = tonumber(group, 16)
      else
        return nil
      end
    end
    return list
  end
  local front, back = groups(head or text), groups(tail or "")
  if not front or not back or #front + #back > 8 or (not head and #front ~= 8) then return nil end
  for _ = 1, 8 - #front - #back do front[#front + 1] = 0 end
  for _, group in ipairs(back) do front[#front + 1] = group end
  for i, group in ipairs(front) do
    bytes[2 * i - 1], bytes[2 * i] = math.floor(group / 256), group % 256
  end
  return bytes, false
end

local function parse_network(text)
  local address, length = text:match("^([^/]+)/(%d+)$")
  local bytes, is_v4 = parse(address or text)
  length = tonumber(length) or (is_v4 and 32 or 128)
  if not bytes or length > (is_v4 and 32 or 128) then
    error(("rules.addresses: %q is not an address or a network such as 10.0.0.0/8"):format(text), 3)
  end
  return { bytes = bytes, bits = is_v4 and length + 96 or length }
end

local function begins(bytes, network)
  local whole = math.floor(network.bits / 8)
  for i = 1, whole do
    if bytes[i] ~= network.bytes[i] then return false end
  end
  local rest = network.bits - whole * 8
  if rest == 0 then return true end
  local step = 2 ^ (8 - rest)
  return math.floor(bytes[whole + 1] / step) == math.floor(network.bytes[whole + 1] / step)
end

local V4 = { bytes = parse "0.0.0.0", bits = 96 }

-- An IPv4 address, in whatever form, is in no larger network of IPv6: ::/0 is all of IPv6.
local function any(bytes, networks)
  local is_v4 = begins(bytes, V4)
  for _, network in ipairs(networks) do
    if begins(bytes, network) and not (is_v4 and network.bits < 96) then return true end
  end
  return false
end

--- Addresses that may come, or may not. A client whose address is not known is
-- treated as one that is not in a list. `::ffff:10.1.2.3` is 10.1.2.3; `::/0` is all of IPv6 and nothing of IPv4.
-- @tparam table options `allow`, `deny`: lists of addresses and networks, IPv4 and IPv6
function _M.addresses(options)
  util.options("addresses", options, { allow = "list", deny = "list" }, "allow or deny")
  local allow, deny = {}, {}
  for i, text in ipairs(options.allow or {}) do allow[i] = parse_network(text) end
  for i, text in ipairs(options.deny or {}) do deny[i] = parse_network(text) end
  return {
    about = "addresses: " .. (options.allow and table.concat(options.allow, ", ") or "all")
      .. (options.deny and " but " .. table.concat(options.deny, ", ") or ""),
    authorize = function(context)
      local address = context.actor and context.actor.client and context.actor.client.address
      local bytes = address and parse((address:gsub("%%.*", ""))) -- without the zone of fe80::1%eth0
      if (options.allow and not (bytes and any(bytes, allow))) or (bytes and any(bytes, deny)) then
        return false, { code = "forbidden", message = "not from this address" }
      end
    end,
  }
end

--- Who has no token may do this much, as a user of their own.
-- @tparam table options `user` ("anonymous"), `organization`, `tenant` ("default"), `rights` (list, default
-- { "upload" }), `services` (list; default: all)
function _M.anonymous(options)
  util.options("anonymous", options, { user = "string", organization = "string", tenant = "string", rights = "list",
    services = "list" })
  if not options.organization then error("rules.anonymous: organization is missing", 2) end
  local rights, services = util.set(options.rights or { "upload" }), options.services and util.set(options.services)
  util.options("anonymous: rights", rights, { read = "boolean", upload = "boolean", delete = "boolean",
    admin = "boolean" })
  util.options("anonymous: services", services or {}, { newton = "boolean", athena = "boolean", geolens = "boolean",
    cognite = "boolean" })
  return {
    about = "without a token: " .. table.concat(options.rights or { "upload" }, ", "),
    authenticate = function(context)
      if context.actor or context.token or (services and not services[context.service]) then return true end
      return { actor = { user = options.user or "anonymous", organization = options.organization,
        tenant = options.tenant or "default", rights = rights } }
    end,
  }
end

--- Nothing may be deleted, aborted or made visible, as listed.
-- @tparam table options names of operations: `delete`, `abort`, `visibility`, `download`; `message`
function _M.forbid(options)
  util.options("forbid", options, { delete = "boolean", abort = "boolean", visibility = "boolean",
    download = "boolean", message = "string" })
  local rule, names = {}, {}
  for _, name in ipairs { "delete", "abort", "visibility", "download" } do
    if options[name] then
      names[#names + 1] = name
      rule["before_" .. name] = function()
        return false, { code = "forbidden", message = options.message or (name .. " is not allowed here") }
      end
    end
  end
  if not names[1] then error("rules.forbid: delete, abort, visibility or download is missing", 2) end
  rule.about = "never: " .. table.concat(names, ", ")
  return rule
end

--- Chooses one of several rules.
-- @tparam function which (context) -> name
-- @tparam table rules by name; `otherwise` for all others (without it they are refused)
function _M.by(which, rules)
  if type(which) ~= "function" or type(rules) ~= "table" then
    error("rules.by: a function and a table of rules expected", 2)
  end
  local chain = require("longshore.policy.rules").chain
  local chosen, hooks, names = {}, {}, {}
  for name, rule in pairs(rules) do
    chosen[name] = chain(rule)
    names[#names + 1] = name
    for hook in pairs(chosen[name]) do
      if hook ~= "name" and hook ~= "about" then hooks[hook] = true end
    end
  end
  table.sort(names)
  local about = {}
  for _, name in ipairs(names) do
    about[#about + 1] = ("%s: %s"):format(name, table.concat(chosen[name].about, "; "))
  end
  local result = { about = about }
  for hook in pairs(hooks) do
    result[hook] = function(context, host)
      local rule = chosen[which(context)] or chosen.otherwise
      if not rule then return false, { code = "forbidden", message = "no rule is made for this" } end
      if rule[hook] then return rule[hook](context, host) end
      return true
    end
  end
  return result
end

return _M

--- User metadata as `x-amz-meta-*` headers, and back.
--
-- Header values are ASCII without leading, trailing or repeated spaces (signers
-- and proxies change those). What does not fit is written by a rule:
--
--  * `rfc2047` (default): `=?UTF-8?B?...?=` words, as Amazon and browsers' SDKs
--    do; plain values stay plain;
--  * `percent`: `%XX` for each such byte and for `%` itself;
--  * `refuse`: an error.
--
-- Control characters are refused by every rule, as are names that are no header
-- names, names that differ only in case, and more bytes than the store keeps.
--
-- Room: provider, no I/O.
-- @module longshore.provider.metadata
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"

local _M = {}

--- The name under which an upload's own mark is kept.
_M.marker = "longshore-upload"

local PREFIX = "x-amz-meta-"

local function plain(value)
  return not value:find("[^\32-\126]") and not value:find("^ ") and not value:find(" $")
    and not value:find("  ", 1, true)
end

-- Words of at most 75 characters, cut between characters.
local function rfc2047(value)
  local words, piece = {}, ""
  for c in value:gmatch("[%z\1-\127\192-\255][\128-\191]*") do
    if #piece + #c > 45 then
      words[#words + 1] = piece
      piece = ""
    end
    piece = piece .. c
  end
  words[#words + 1] = piece
  for i = 1, #words do words[i] = "=?UTF-8?B?" .. core.base64(words[i]) .. "?=" end
  return table.concat(words, " ")
end

local function percent_byte(c) return ("%%%02X"):format(c:byte()) end

local rules = {
  rfc2047 = {
    encode = function(value)
      if plain(value) and not value:find("=?", 1, true) then return value end
      return rfc2047(value)
    end,
    decode = function(value)
      value = value:gsub("(%?=)%s+(=%?)", "%1%2")
      return (value:gsub("=%?([%w%-]+)%?([bBqQ])%?([^?]*)%?=", function(charset, kind, text)
        if charset:lower() ~= "utf-8" then return nil end
        if kind == "b" or kind == "B" then return (core.unbase64(text)) end
        return (text:gsub("_", " "):gsub("=(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
      end))
    end,
  },
  percent = {
    encode = function(value)
      value = value:gsub("[^\32-\36\38-\126]", percent_byte)
      return (value:gsub("^ +", function(s) return ("%20"):rep(#s) end):gsub(" ( +)", function(s)
        return " " .. ("%20"):rep(#s)
      end):gsub(" $", "%%20"))
    end,
    decode = function(value)
      return (value:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
    end,
  },
  refuse = {
    encode = function(value) return plain(value) and value or nil end,
    decode = function(value) return value end,
  },
}

local function invalid(name, why)
  return errors.fail("invalid", ("metadata %q: %s"):format(name, why), { field = "metadata" })
end

local function check(name, value)
  if type(name) ~= "string" or not name:match("^[%w!#$&'*+.^_`|~-]+$") then
    return invalid(tostring(name), "this is no name for a header")
  end
  if type(value) ~= "string" then return invalid(name, "the value must be a string") end
  if value:find("%c") then return invalid(name, "the value has a control character") end
  if json.bad_utf8(value) then return invalid(name, "the value is not UTF-8") end
  return true
end

--- Makes headers of metadata.
-- @tparam table|nil metadata names to strings
-- @tparam table options `rule`, `limit` (bytes of names and values together)
-- @treturn[1] table headers
-- @treturn[2] nil
-- @treturn[2] table err code `invalid` or `too_large`, field `metadata`
function _M.headers(metadata, options)
  local rule = rules[options.rule or "rfc2047"]
  local headers, bytes = {}, 0
  for name, value in pairs(metadata or {}) do
    local ok, err = check(name, value)
    if not ok then return nil, err end
    local text = rule.encode(value)
    if not text then
      return invalid(name, "the value has characters or spaces that a header does not keep")
    end
    local header = PREFIX .. name:lower()
    if headers[header] then return invalid(name, "two names differ only in case") end
    headers[header] = text
    bytes = bytes + #name + #text
  end
  if options.limit and bytes > options.limit then
    return errors.fail("too_large", ("metadata: %d bytes of names and values; the store keeps %d")
      :format(bytes, options.limit), { field = "metadata" })
  end
  return headers
end

--- Reads metadata from the headers of an answer.
-- @tparam table headers lower-case names
-- @tparam[opt="rfc2047"] string rule
-- @treturn table metadata
function _M.read(headers, rule)
  local decode = rules[rule or "rfc2047"].decode
  local metadata = {}
  for name, value in pairs(headers) do
    local short = name:match("^x%-amz%-meta%-(.+)$") or name:match("^x%-goog%-meta%-(.+)$")
    if short then metadata[short] = decode(type(value) == "table" and table.concat(value, ",") or value) end
  end
  return metadata
end

--- Value of Content-Disposition that makes a browser save under a name.
-- @tparam string filename any UTF-8
-- @treturn string
function _M.disposition(filename)
  local ascii = filename:gsub("[^\32-\126]", "_"):gsub('["\\]', "_")
  local value = ('attachment; filename="%s"'):format(ascii)
  if ascii ~= filename then
    value = value .. "; filename*=UTF-8''" .. filename:gsub("[^%w%-%._~]", function(c)
      return ("%%%02X"):format(c:byte())
    end)
  end
  return value
end

--- Whether a rule of this name exists.
-- @tparam string rule
-- @treturn boolean
function _M.is_rule(rule)
  return rules[rule] ~= nil
end

return _M

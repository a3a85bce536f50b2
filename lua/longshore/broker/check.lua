--- Checks of what callers hand to the broker.
--
-- Room: broker, no I/O.
-- @module longshore.broker.check
local contract = require "longshore.policy.contract"
local errors = require "longshore.errors"

local _M = {}

local MAX_INTEGER = 9007199254740991

--- An actor made by authentication; anything else is a programmer's mistake.
function _M.actor(actor)
  if type(actor) ~= "table" then error("actor: table expected", 3) end
  for _, name in ipairs { "user", "organization", "tenant" } do
    if type(actor[name]) ~= "string" or actor[name] == "" then
      error(("actor.%s: string expected"):format(name), 3)
    end
  end
  if type(actor.rights) ~= "table" then error("actor.rights: table expected", 3) end
  if actor.rights[1] ~= nil then error("actor.rights: a set such as { upload = true } expected, got a list", 3) end
end

local function invalid(field, message, code)
  return errors.fail(code or "invalid", ("%s: %s"):format(field, message), { field = field })
end
_M.invalid = invalid

local function is_utf8(s)
  -- The store refuses what is not UTF-8; here the field gets its name.
  return require("longshore.store.dbi").is_text(s)
end

--- A name given by a client: data only, but to be shown, so no control characters.
function _M.name(value, field, limit)
  if type(value) ~= "string" then return invalid(field, "string expected") end
  if value == "" then return invalid(field, "must not be empty") end
  if #value > limit then return invalid(field, ("at most %d bytes"):format(limit)) end
  if value:find("[%z\1-\31\127]") then return invalid(field, "control characters are not allowed") end
  if not is_utf8(value) then return invalid(field, "must be UTF-8") end
  return value
end

--- A MIME type, with parameters perhaps; nil becomes application/octet-stream.
function _M.content_type(value)
  if value == nil then return "application/octet-stream" end
  if type(value) ~= "string" then return invalid("content_type", "string expected") end
  if #value > 255 then return invalid("content_type", "at most 255 bytes") end
  if not contract.is_content_type(value) then
    return invalid("content_type", "a MIME type such as video/mp4 is expected")
  end
  return value
end

--- A size in bytes.
function _M.size(value, field)
  if type(value) ~= "number" or value % 1 ~= 0 or value < 0 or value > MAX_INTEGER then
    return invalid(field, "a whole number of bytes, 0 to 2^53-1, is expected")
  end
  return value
end

--- A CRC32C as a number.
function _M.crc32c(value)
  if type(value) ~= "number" or value % 1 ~= 0 or value < 0 or value > 4294967295 then
    return invalid("crc32c", "a CRC32C is a number from 0 to 2^32-1")
  end
  return value
end

--- An ETag as it is compared: without quotes, weakness mark or outer spaces.
-- @tparam string token
-- @treturn string bare
function _M.bare_token(token)
  token = token:gsub("^%s+", ""):gsub("%s+$", "")
  token = token:gsub("^W/", "")
  return (token:gsub('^"(.*)"$', "%1"))
end

--- Part numbers of an upload; repeats are kept.
-- @tparam {number,...} numbers
-- @tparam table upload
-- @treturn {number,...} the same, or nil, err
function _M.numbers(numbers, upload)
  if type(numbers) ~= "table" then return invalid("part_numbers", "a list is expected") end
  if #numbers > 10000 then return invalid("part_numbers", "at most 10000 at once") end
  for _, number in ipairs(numbers) do
    if type(number) ~= "number" or number % 1 ~= 0 then
      return invalid("part_numbers", "whole numbers are expected")
    end
    if number < 1 or number > (upload.part_count or 10000) then
      return invalid("part_numbers", ("%.0f is not a part of this upload, which has parts 1 to %d"):format(number,
        upload.part_count or 10000))
    end
  end
  return numbers
end

--- Parts with their tokens, as clients report them. A part may stand twice with
-- the same token.
-- @tparam {{number=,token=},...} parts
-- @tparam table upload
-- @treturn {{number=,token=},...} each once, tokens bare, by number; or nil, err
function _M.parts(parts, upload)
  if type(parts) ~= "table" then return invalid("parts", "a list is expected") end
  if #parts > 20000 then return invalid("parts", "at most 20000 entries") end
  local list, seen = {}, {}
  for _, part in ipairs(parts) do
    if type(part) ~= "table" then return invalid("parts", "a list of objects is expected") end
    local ok, err = _M.numbers({ part.number }, upload)
    if not ok or part.number == nil then
      return invalid("parts", err and err.message or "part_number is missing")
    end
    local token = part.token
    if type(token) ~= "string" or #token > 1024 or token:find("[%c]") or not is_utf8(token) then
      return invalid("parts", ("part %.0f: the token must be the ETag the store answered"):format(part.number))
    end
    token = _M.bare_token(token)
    if token == "" then
      return invalid("parts", ("part %.0f: the token is empty"):format(part.number))
    end
    local known = seen[part.number]
    if known and known ~= token then
      return invalid("parts", ("part %.0f stands twice, with different tokens"):format(part.number))
    elseif not known then
      seen[part.number] = token
      list[#list + 1] = { number = part.number, token = token }
    end
  end
  table.sort(list, function(a, b) return a.number < b.number end)
  return list
end

return _M

--- Errors as values: one shape for everything that can go wrong at run time.
--
-- A function that can fail returns `nil, err`. `err` is a table with `code` (a
-- short stable word), `message` (one sentence that says what to do) and, where
-- they apply, `status`, `retryable`, `field`, `request_id`, `cause` and
-- `retry_after` (seconds). `tostring(err)` is one line without secrets.
--
-- Codes: `invalid` (input is wrong; `field` names it), `unauthenticated`,
-- `forbidden`, `not_found`, `conflict`, `expired`, `too_large`, `quota`,
-- `unsupported`, `rate_limited`, `busy`, `unavailable`, `timeout`, `network`,
-- `tls` (a certificate was refused), `integrity` (bytes are not what they should be), `changed` (a source file
-- changed), `io`, `store` (the object store answered an error), `database`,
-- `state` (the upload is not in a state that allows this), `cancelled`,
-- `internal`.
--
-- Room: shared ground, no I/O.
-- @module longshore.errors
local core = require "longshore.core"

local _M = {}

local mt = core.error_metatable

--- Removes what must never be shown from a text: signatures, tokens, secrets.
-- @tparam string text
-- @treturn string
function _M.redact(text)
  -- (Most texts have none of these words, and looking for a word is fast.)
  local function has(word) return text:find(word, 1, true) end
  if has "?" or has "&" then
    text = text:gsub("([?&][Xx]%-[Aa][Mm][Zz]%-[Ss]ignature=)[^&%s\"']*", "%1...")
    text = text:gsub("([?&][Xx]%-[Aa][Mm][Zz]%-[Cc]redential=)[^&%s\"']*", "%1...")
    text = text:gsub("([?&][Xx]%-[Aa][Mm][Zz]%-[Ss]ecurity%-[Tt]oken=)[^&%s\"']*", "%1...")
    text = text:gsub("([?&]upload_id=)[^&%s\"']*", "%1...") -- a resumable session's id is its key
    text = text:gsub("([?&][Ss][Ii][Gg]=)[^&%s\"']*", "%1...")
  end
  if has "ignature=" then text = text:gsub("([Ss]ignature=)%x%x%x%x%x%x%x%x+", "%1...") end
  if has "ls_" then
    text = text:gsub("(ls_[a-z2-7]+_)([a-z2-7]+)", function(id, secret)
      return #id == 20 and #secret >= 16 and id .. "..." or nil
    end)
  end
  if has "earer" then text = text:gsub("([Bb]earer%s+)[%w%-%._~%+/]+=*", "%1...") end
  return text
end

--- The same on one line, for a log.
-- @tparam string text
-- @treturn string
function _M.one_line(text)
  text = _M.redact(text)
  return text:find("%c") and text:gsub("%c+", " ") or text
end

--- A text without the path of a URL that stands in it: that of a webhook is often its key.
-- @tparam string text
-- @tparam string url whose path is not to be shown
-- @treturn string
function _M.without_path(text, url)
  local host, path = url:match("^(%a+://[^/?#]*)([^?#]*)")
  if not host or #path < 2 then return text end
  local words, at = {}, 1
  while true do
    local first, last = text:find(host .. path, at, true)
    if not first then break end
    words[#words + 1] = text:sub(at, first - 1) .. host .. "/..."
    at = last + 1
  end
  return table.concat(words) .. text:sub(at)
end

mt.__tostring = function(err)
  local line = ("%s: %s"):format(tostring(err.code), tostring(err.message))
  if err.request_id then
    line = ("%s (request %s)"):format(line, tostring(err.request_id))
  end
  return _M.one_line(line)
end

--- Makes an error.
-- @tparam string code one of the codes above
-- @tparam string message what happened and what to do about it
-- @tparam[opt] table fields further fields; copied
-- @treturn table err
function _M.new(code, message, fields)
  assert(type(code) == "string", "code: string expected")
  assert(type(message) == "string", "message: string expected")
  local err = {}
  for k, v in pairs(fields or {}) do
    err[k] = v
  end
  err.code, err.message = code, message
  return setmetatable(err, mt)
end

--- The `nil, err` of a failed call, ready to return.
-- @tparam string code
-- @tparam string message
-- @tparam[opt] table fields
-- @return nil
-- @treturn table err
function _M.fail(code, message, fields)
  return nil, _M.new(code, message, fields)
end

--- Whether a value is an error of this module (or of longshore.core).
-- @param value anything
-- @treturn boolean
function _M.is(value)
  return type(value) == "table" and getmetatable(value) == mt
end

--- Turns whatever a library threw or returned into an error.
-- @param value an error, a string, anything
-- @tparam[opt="internal"] string code for what is not an error yet
-- @treturn table err
function _M.from(value, code)
  if _M.is(value) then
    return value
  end
  return _M.new(code or "internal", tostring(value))
end

--- Gives an error back its metatable after it went through something that
-- drops metatables (JSON, an nginx worker thread).
-- @tparam table plain
-- @treturn table err
function _M.restore(plain)
  return setmetatable(plain, mt)
end

return _M

--- If-Match and its relatives, and Range.
--
-- Room: diskstore, no I/O.
-- @module longshore.diskstore.conditions
local fault = require "longshore.diskstore.fault"
local http_date = require "longshore.diskstore.http_date"

local _M = {}

local function bare(etag)
  return (etag:gsub("^%s+", ""):gsub("%s+$", ""):gsub("^W/", ""):gsub('^"(.*)"$', "%1"))
end

_M.bare_etag = bare

-- Whether a list of entity tags names this one. nil: the header is not there.
local function names(header, etag)
  if not header then return nil end
  if bare(header) == "*" then return etag ~= nil end
  for one in header:gmatch("[^,]+") do
    if bare(one) == etag then return true end
  end
  return false
end

local function failed(name)
  return fault.new("PreconditionFailed", nil, { { "Condition", name } })
end

-- `prefix` is "" or "x-amz-copy-source-".
local function evaluate(headers, prefix, doc)
  local match = names(headers[prefix .. "if-match"], doc.etag)
  local none = names(headers[prefix .. "if-none-match"], doc.etag)
  local since, unmodified = headers[prefix .. "if-modified-since"], headers[prefix .. "if-unmodified-since"]
  since, unmodified = since and http_date.parse(since), unmodified and http_date.parse(unmodified)
  local modified = math.floor(doc.modified)
  if match == false then return "failed", "If-Match" end
  -- As S3 has it: If-Match that holds outweighs If-Unmodified-Since.
  if match == nil and unmodified and modified > unmodified then return "failed", "If-Unmodified-Since" end
  if none then return "unchanged", "If-None-Match" end
  -- And If-None-Match that holds outweighs If-Modified-Since.
  if none == nil and since and modified <= since then return "unchanged", "If-Modified-Since" end
  return "ok"
end

--- The conditions of a GET or HEAD.
-- @tparam table headers
-- @tparam table doc
-- @treturn table fault (PreconditionFailed or NotModified), or nil
function _M.read(headers, doc)
  local result, name = evaluate(headers, "", doc)
  if result == "failed" then return failed(name) end
  if result == "unchanged" then return fault.new("NotModified") end
end

--- The conditions on the source of a copy.
-- @tparam table headers
-- @tparam table doc
-- @treturn table fault, or nil
function _M.copy_source(headers, doc)
  local result, name = evaluate(headers, "x-amz-copy-source-", doc)
  if result ~= "ok" then return failed("x-amz-copy-source-" .. name) end
end

--- Whether a write has conditions at all.
-- @tparam table headers
-- @treturn boolean
function _M.on_write(headers)
  return headers["if-match"] ~= nil or headers["if-none-match"] ~= nil
end

--- The conditions of a write: If-None-Match (S3 knows `*`; entity tags work
-- as well) and If-Match.
-- @tparam table headers
-- @tparam table|nil doc the object as it is, nil where there is none
-- @treturn table fault, or nil
function _M.write(headers, doc)
  if headers["if-match"] then
    if not doc then return fault.new("NoSuchKey") end
    if not names(headers["if-match"], doc.etag) then return failed("If-Match") end
  end
  if doc and names(headers["if-none-match"], doc.etag) then return failed("If-None-Match") end
end

--- The range that a request asks for. Several ranges, other units and what is
-- no range are ignored, as S3 does: the whole object is the answer.
-- @tparam table headers
-- @tparam table doc
-- @treturn table {first, last}, or nil for the whole object
-- @return[2] nil
-- @treturn[2] table fault InvalidRange
function _M.range(headers, doc)
  local text = headers.range
  if not text then return nil end
  local same = headers["if-range"]
  if same then
    local at = http_date.parse(same)
    if at and math.floor(doc.modified) > at or not at and bare(same) ~= doc.etag then return nil end
  end
  local first, last = text:match("^%s*[Bb][Yy][Tt][Ee][Ss]%s*=%s*(%d*)%s*%-%s*(%d*)%s*$")
  if not first or first == "" and last == "" then return nil end
  if first == "" then
    first = math.max(0, doc.size - tonumber(last))
    last = tonumber(last) > 0 and doc.size - 1 or -1
  else
    first, last = tonumber(first), tonumber(last ~= "" and last or nil)
    if last and last < first then return nil end
    last = math.min(last or doc.size - 1, doc.size - 1)
  end
  if first >= doc.size or last < first then
    return fault.fail("InvalidRange", nil, { { "RangeRequested", text },
      { "ActualObjectSize", ("%.0f"):format(doc.size) } })
  end
  return { first = first, last = last }
end

return _M

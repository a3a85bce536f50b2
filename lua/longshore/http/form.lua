--- Reads multipart/form-data where it lies: in a file (or, for a plain script,
-- in a string). It finds where each part begins and ends and never holds more
-- than a few chunks, so a part may be as large as the disk.
--
-- Room: http. Reads the spool file that the host wrote, nothing else.
-- @module longshore.http.form
local errors = require "longshore.errors"
local request = require "longshore.http.request"
local core = require "longshore.core"

local _M = {}

local CHUNK = 65536
local MAX_HEADERS = 16384
local MAX_PARTS = 100
local MAX_FIELD = 65536

local function broken(text)
  return errors.fail("invalid", "the form is broken: " .. text, { field = "body", reason = "format" })
end

-- A source reads bytes at a position: `read(offset, length)` -> string, shorter at the end only.
local function file_source(path)
  local f, why = io.open(path, "rb")
  if not f then return errors.fail("io", "cannot open the spooled body: " .. tostring(why)) end
  return {
    read = function(offset, length)
      f:seek("set", offset)
      return f:read(length) or ""
    end,
    close = function() f:close() end,
  }
end

local function string_source(text)
  return {
    read = function(offset, length) return text:sub(offset + 1, offset + length) end,
    close = function() end,
  }
end

-- The offset of the first `needle` at or after `from`, or nil. Chunks are
-- searched as they are read; only the seam between two of them is put together.
local function seek(source, needle, from)
  local keep = #needle - 1
  local tail, start = "", from
  while true do
    local chunk = source.read(start, CHUNK)
    local seam = tail .. chunk:sub(1, keep)
    local at = seam:find(needle, 1, true)
    if at then return start - #tail + at - 1 end
    if chunk == "" then return nil end
    at = chunk:find(needle, 1, true)
    if at then return start + at - 1 end
    tail = #chunk >= keep and chunk:sub(-keep) or (tail .. chunk):sub(-keep)
    start = start + #chunk
  end
end

local function parse_headers(text)
  local headers = {}
  for line in (text:gsub("\r\n[ \t]+", " ") .. "\r\n"):gmatch("(.-)\r\n") do
    local name, value = line:match("^([^:%s]+)%s*:%s*(.-)%s*$")
    if not name then return nil end
    name = name:lower()
    if headers[name] == nil then headers[name] = value end
  end
  return headers
end

-- Browsers write %22 for a quote and %0D%0A for line ends, curl a backslash,
-- RFC 5987 filename*=UTF-8''... . A name with a per cent sign of its own stays.
local function file_name(params)
  local extended = params["filename*"]
  if extended then
    local text = extended:match("^[Uu][Tt][Ff]%-8'[^']*'(.*)$")
    text = text and core.uri_decode(text)
    if text then return text end
  end
  local plain = params.filename
  return plain and (plain:gsub("%%22", '"'))
end

local function read_part(source, start)
  local stop = seek(source, "\r\n\r\n", start)
  if not stop or stop - start > MAX_HEADERS then
    return broken("a part has no end of headers")
  end
  local headers = parse_headers(source.read(start, stop - start))
  if not headers then return broken("a part has a malformed header") end
  local kind, params = request.media_type(headers["content-disposition"])
  if kind ~= "form-data" or not params.name then
    return broken("a part has no Content-Disposition: form-data; name=...")
  end
  return {
    name = params.name, filename = file_name(params), headers = headers,
    content_type = headers["content-type"], offset = stop + 4,
  }
end

local function parse(source, boundary)
  local delimiter = "\r\n--" .. boundary
  local parts = {}
  -- The first delimiter may stand at the very beginning, without a line end.
  local at
  if source.read(0, #delimiter - 2) == delimiter:sub(3) then
    at = #delimiter - 2
  else
    local found = seek(source, delimiter, 0)
    if not found then return broken("its boundary does not occur in the body") end
    at = found + #delimiter
  end
  while true do
    local tail = source.read(at, 256)
    if tail:sub(1, 2) == "--" then return parts end
    local padding = tail:match("^[ \t]*\r\n()")
    if not padding then return broken("a boundary is not followed by a line end") end
    if #parts >= MAX_PARTS then return broken(("it has more than %d parts"):format(MAX_PARTS)) end
    local part, err = read_part(source, at + padding - 1)
    if not part then return nil, err end
    -- An empty part's delimiter begins with the line end that closes its headers.
    local stop = seek(source, delimiter, part.offset - 2)
    if not stop then return broken("it ends inside a part (was the upload cut off?)") end
    part.length = math.max(stop - part.offset, 0)
    if not part.filename and part.length <= MAX_FIELD then
      part.value = source.read(part.offset, part.length)
    end
    parts[#parts + 1] = part
    at = stop + #delimiter
  end
end

--- Finds the parts of a form.
-- @tparam table body `{path=}` for a file, or `{text=}`
-- @tparam[opt] string content_type the request's Content-Type
-- @treturn table list of parts: `name`, `filename` (nil for a plain field), `content_type`, `headers`, `offset`,
-- `length`; `value` of a plain field of at most 64 KiB
-- @treturn[2] nil
-- @treturn[2] table err `unsupported` (status 415) for another content type, `invalid` for a broken form, `io`
function _M.parse(body, content_type)
  local kind, params = request.media_type(content_type)
  if kind ~= "multipart/form-data" then
    return errors.fail("unsupported", "multipart/form-data is expected", { status = 415, field = "content-type" })
  end
  local boundary = params.boundary
  if not boundary or #boundary == 0 or #boundary > 200 or boundary:find("[%c]") then
    return errors.fail("invalid", "the Content-Type has no usable boundary", { field = "content-type" })
  end
  local source, err
  if body.path then
    source, err = file_source(body.path)
    if not source then return nil, err end
  else
    source = string_source(body.text)
  end
  local ok, parts, why = pcall(parse, source, boundary)
  source.close()
  if not ok then error(parts, 0) end
  return parts, why
end

--- The part that carries the file: the one named `file`, else the first with a file name.
-- @tparam table parts of `parse`
-- @treturn table|nil part
function _M.file_part(parts)
  local first
  for _, part in ipairs(parts) do
    if part.filename then
      if part.name == "file" then return part end
      first = first or part
    end
  end
  return first
end

return _M

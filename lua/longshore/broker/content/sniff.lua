--- Does a file's content fit its extension? Judged by its first 8192 bytes,
-- and for Parquet by its last 4 as well.
--
-- What is accepted:
--
--   .zip .xlsx    a ZIP archive (an .xlsx may not be an empty one)
--   .gpkg         an SQLite 3 database
--   .tif .tiff    TIFF or BigTIFF, either byte order
--   .xls          an OLE 2 compound file, or a bare BIFF 2 to 4 sheet
--   .parquet      `PAR1` at both ends, 12 bytes or more
--   .json .geojson  text that begins with `{` or `[` (BOM and RFC 8142 record
--                 separators allowed)
--   .csv          text: no NUL byte, and no known other format
--
-- UTF-16 text holds NUL bytes and is refused: nothing behind this reads it.
--
-- Room: broker, content; pure.
-- @module longshore.broker.content.sniff
local errors = require "longshore.errors"
local source = require "longshore.broker.content.source"

local _M = {}

--- Bytes looked at.
_M.HEAD = 8192

-- Formats known by how they begin, most telling first. Names are what an error
-- shows.
local SIGNATURES = {
  { "PK\3\4", ".zip" },
  { "PK\5\6", ".zip (empty)" },
  { "PK\7\8PK\3\4", ".zip" },
  { "SQLite format 3\0", ".sqlite" },
  { "II*\0", ".tif" },
  { "MM\0*", ".tif" },
  { "II+\0\8\0\0\0", ".tif" },
  { "MM\0+\0\8\0\0", ".tif" },
  { "\208\207\17\224\161\177\26\225", ".xls" },
  { "\9\0\4\0", ".xls" },
  { "\9\2\6\0", ".xls" },
  { "\9\4\6\0", ".xls" },
  { "PAR1", ".parquet" },
  { "%PDF-", ".pdf" },
  { "\31\139", ".gz" },
  { "BZh", ".bz2" },
  { "\253" .. "7zXZ\0", ".xz" },
  { "7z\188\175\39\28", ".7z" },
  { "Rar!\26\7", ".rar" },
  { "\137PNG\r\n\26\n", ".png" },
  { "\255\216\255", ".jpg" },
  { "GIF8", ".gif" },
  { "\127ELF", ".elf" },
  { "\137HDF\r\n\26\n", ".hdf5" },
  { "fgb\3fgb", ".fgb" },
  { "<?xml", ".xml" },
  { "<!doctype html", ".html" },
  { "<html", ".html" },
}

local function is_text(head)
  return not head:find("\0", 1, true)
end

--- Names the format of some first bytes.
-- @tparam string head the first bytes of a file
-- @treturn string an extension with its dot, `text` or `unknown`
function _M.detect(head)
  local body = head:gsub("^\239\187\191", "")
  local lower = body:sub(1, 64):lower()
  for _, row in ipairs(SIGNATURES) do
    local magic = row[1]
    if head:sub(1, #magic) == magic or (magic:sub(1, 1) == "<" and lower:sub(1, #magic) == magic) then
      return row[2]
    end
  end
  if #head > 0 and is_text(head) then
    -- a character that begins JSON decides, wherever the white space ends
    if body:find("^[%s\30]*[%[{]") then return ".json" end
    return "text"
  end
  return "unknown"
end

local ZIP = { [".zip"] = true, [".zip (empty)"] = true }
local JSON = { [".json"] = true }
local TIFF = { [".tif"] = true }

-- What detect() may say of each extension.
local ACCEPTED = {
  [".zip"] = ZIP,
  [".xlsx"] = { [".zip"] = true },
  [".gpkg"] = { [".sqlite"] = true },
  [".tif"] = TIFF,
  [".tiff"] = TIFF,
  [".xls"] = { [".xls"] = true },
  [".parquet"] = { [".parquet"] = true },
  [".json"] = JSON,
  [".geojson"] = JSON,
  [".csv"] = { ["text"] = true, [".json"] = true },
}

--- The extensions known here, in the order in which the service lists them.
_M.EXTENSIONS = { ".zip", ".gpkg", ".geojson", ".json", ".csv", ".tif", ".tiff", ".xlsx", ".xls", ".parquet" }

--- A name's extension: lower case, with its dot, or "" where there is none.
-- @tparam string filename
-- @treturn string
function _M.extension(filename)
  local base = filename:match("([^/\\]*)$")
  return (base:match("^.+(%.[^%.]*)$") or ""):lower()
end

local function mismatch(detected, extension)
  return errors.fail("integrity",
    ("File content detected as '%s' but extension is '%s'. Please upload with the correct extension."):format(
      detected, extension), { field = "file", detected = detected })
end

--- Checks a file against its name.
-- @tparam string filename
-- @tparam function read see longshore.broker.content.source
-- @tparam number size of the file in bytes
-- @treturn true|nil
-- @treturn table|nil err `integrity` when the content is refused; whatever
--   `read` answered when it failed
function _M.check(filename, read, size)
  if size == 0 then
    return errors.fail("integrity", "The uploaded file is empty.", { field = "file" })
  end
  local extension = _M.extension(filename)
  local accepted = ACCEPTED[extension]
  if not accepted then
    return errors.fail("integrity", ("Files of type '%s' are not accepted."):format(extension), { field = "file" })
  end
  local head, err = source.range(read, 0, math.min(size, _M.HEAD) - 1)
  if not head then return nil, err end
  local detected = _M.detect(head)
  if not accepted[detected] then return mismatch(detected, extension) end
  if accepted == TIFF and size < 8 then return mismatch("unknown", extension) end
  if extension == ".parquet" then
    local tail
    tail, err = source.range(read, math.max(size - 4, 0), size - 1)
    if not tail then return nil, err end
    if size < 12 or tail ~= "PAR1" then
      return errors.fail("integrity",
        "File has .parquet extension but is not a valid Parquet file (PAR1 is missing at its end: "
        .. "the file may be corrupt or truncated).", { field = "file", detected = "unknown" })
    end
  end
  return true
end

return _M

--- What is to be uploaded: files and folders on disk, their names at the other
-- end, their identity and content type.
--
-- Room: uploader.
-- @module longshore.uploader.source
local core = require "longshore.core"
local errors = require "longshore.errors"
local lfs = require "lfs"

local _M = {}

local TYPES = {
  avi = "video/x-msvideo", avif = "image/avif", bmp = "image/bmp", bz2 = "application/x-bzip2",
  css = "text/css", csv = "text/csv", doc = "application/msword",
  docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
  flac = "audio/flac", geojson = "application/geo+json", gif = "image/gif",
  gpkg = "application/geopackage+sqlite3", gz = "application/gzip", heic = "image/heic", htm = "text/html",
  html = "text/html", ico = "image/vnd.microsoft.icon", ics = "text/calendar", jpeg = "image/jpeg",
  jpg = "image/jpeg", js = "text/javascript", json = "application/json", jsonl = "application/x-ndjson",
  kml = "application/vnd.google-earth.kml+xml", m4a = "audio/mp4", m4v = "video/mp4", md = "text/markdown",
  mkv = "video/x-matroska", mov = "video/quicktime", mp3 = "audio/mpeg", mp4 = "video/mp4",
  mpeg = "video/mpeg", mpg = "video/mpeg", ndjson = "application/x-ndjson", odt =
    "application/vnd.oasis.opendocument.text", ogg = "audio/ogg", opus = "audio/ogg",
  parquet = "application/vnd.apache.parquet", pdf = "application/pdf", png = "image/png",
  ppt = "application/vnd.ms-powerpoint",
  pptx = "application/vnd.openxmlformats-officedocument.presentationml.presentation",
  rtf = "application/rtf", sql = "application/sql", svg = "image/svg+xml", tar = "application/x-tar",
  tgz = "application/gzip", tif = "image/tiff", tiff = "image/tiff", tsv = "text/tab-separated-values",
  txt = "text/plain", wasm = "application/wasm", wav = "audio/x-wav", webm = "video/webm",
  webp = "image/webp", woff = "font/woff", woff2 = "font/woff2", xls = "application/vnd.ms-excel",
  xlsx = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", xml = "application/xml",
  xz = "application/x-xz", yaml = "application/yaml", yml = "application/yaml", zip = "application/zip",
  zst = "application/zstd", ["7z"] = "application/x-7z-compressed",
}

--- The content type that a name suggests.
-- @tparam string name
-- @treturn string
function _M.content_type(name)
  local extension = name:match("%.([%w]+)$")
  return extension and TYPES[extension:lower()] or "application/octet-stream"
end

--- What something is that is no regular file, for an error.
-- @tparam table stat of `core.file_stat`
-- @treturn string
function _M.kind(stat)
  return stat.type == "directory" and "a folder" or "a device, pipe or socket"
end

--- Opens a source: what it is now. The upload holds it to that.
-- @tparam string path
-- @treturn[1] table {path, size, mtime_ns, inode}
-- @return[2] nil
-- @treturn[2] table err
function _M.open(path)
  local stat, err = core.file_stat(path)
  if not stat then
    return nil, errors.from(err, "io")
  end
  if stat.type ~= "file" then
    return errors.fail("invalid", ("%s is %s, not a regular file"):format(path, _M.kind(stat)))
  end
  local file, why = io.open(path, "rb")
  if not file then return errors.fail("io", why) end
  file:close()
  return { path = path, size = stat.size, mtime_ns = stat.mtime_ns, inode = stat.inode }
end

--- Whether the file is still what it was.
-- @tparam table source from `open`
-- @treturn[1] boolean true
-- @return[2] nil
-- @treturn[2] table err `changed`
function _M.unchanged(source)
  local stat = core.file_stat(source.path)
  if stat and stat.size == source.size and stat.mtime_ns == source.mtime_ns and stat.inode == source.inode then
    return true
  end
  return errors.fail("changed", ("%s %s while it was being uploaded; upload it again when it is complete"):format(
    source.path, stat and "changed" or "disappeared"))
end

local function walk(path, name, list, mode)
  if mode ~= "directory" then
    list[#list + 1] = { path = path, name = name }
    return
  end
  local entries = {}
  local ok, why = pcall(function()
    for entry in lfs.dir(path) do
      if entry ~= "." and entry ~= ".." then entries[#entries + 1] = entry end
    end
  end)
  if not ok then
    list[#list + 1] = { path = path, name = name,
      error = errors.new("io", ("cannot read the folder: %s"):format((tostring(why):gsub("^[^:]+:%d+: ", "")))) }
    return
  end
  table.sort(entries)
  for _, entry in ipairs(entries) do
    local below = path:gsub("/+$", "") .. "/" .. entry
    if path:match("^/+$") then below = "/" .. entry end
    local below_name = name == "" and entry or name .. "/" .. entry
    -- Not through links to folders: they may lead in circles.
    local kind = lfs.symlinkattributes(below, "mode")
    if kind == "link" and lfs.attributes(below, "mode") == "directory" then
      list[#list + 1] = { path = below, name = below_name,
        error = errors.new("unsupported", "links to folders are not followed") }
    else
      walk(below, below_name, list, kind)
    end
  end
end

--- Lists what paths name. A file goes by its own name; what is in folder `a/b`
-- goes as `b/...`, and in `a/b/` (or `.`) without the folder's name.
-- @tparam table paths
-- @treturn table list of {path, name, error=?}, folders' contents in order of
-- their bytes
function _M.expand(paths)
  local list = {}
  for _, path in ipairs(paths) do
    local mode = lfs.attributes(path, "mode")
    local base = path:match("([^/]+)/*$") or ""
    if mode == "directory" then
      local inside = path:sub(-1) == "/" or base == "." or base == ".."
      walk(path, inside and "" or base, list, mode)
    else
      list[#list + 1] = { path = path, name = base }
    end
  end
  return list
end

return _M

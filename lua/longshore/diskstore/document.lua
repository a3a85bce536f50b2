--- Metadata documents: one small text file for each object and each upload.
--
--     longshore object 1
--     bucket longshore
--     key a%20b
--     ...
--     header content-type text/plain
--     header x-amz-meta-note caf%C3%A9
--     end
--
-- One field a line; values are percent-encoded where they must be. The last
-- line is `end`: a document without it was cut and is none. Fields, all
-- optional to this module: kind ("object" or "upload"), id, bucket, key, size,
-- etag, crc32c, modified (seconds), parts (0: the data is one file or nothing),
-- file (the data's path inside the store's folder, where it is one file),
-- headers (name to value), checksums (name to base64).
--
-- Room: diskstore.
-- @module longshore.diskstore.document
local files = require "longshore.diskstore.files"

local _M = {}

local function escape(value)
  return (value:gsub("[%z\1-\32%%\127]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function unescape(value)
  if not value:find("%", 1, true) then return value end
  return (value:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local texts = { "id", "bucket", "key", "etag", "file" }
local numbers = { size = "%.0f", crc32c = "%.0f", parts = "%.0f", modified = "%.3f" }
local is_text = {}
for _, name in ipairs(texts) do is_text[name] = true end

local function sorted(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- The text of a document.
-- @tparam table doc
-- @treturn string
function _M.encode(doc)
  local lines = { "longshore " .. doc.kind .. " 1" }
  for _, name in ipairs(texts) do
    if doc[name] then lines[#lines + 1] = name .. " " .. escape(doc[name]) end
  end
  for _, name in ipairs(sorted(numbers)) do
    if doc[name] then lines[#lines + 1] = name .. " " .. numbers[name]:format(doc[name]) end
  end
  for _, group in ipairs { "headers", "checksums" } do
    for _, name in ipairs(sorted(doc[group] or {})) do
      lines[#lines + 1] = ("%s %s %s"):format(group:sub(1, -2), escape(name), escape(doc[group][name]))
    end
  end
  lines[#lines + 1] = "end\n"
  return table.concat(lines, "\n")
end

--- Reads a document's text.
-- @tparam string text
-- @treturn table doc, or nil where the text is not a whole document
function _M.decode(text)
  local kind = text:match("^longshore (%l+) 1\n")
  if not kind or text:sub(-5) ~= "\nend\n" then return nil end
  local doc = { kind = kind, headers = {}, checksums = {} }
  for name, value in text:gmatch("([^ \n]+) ([^\n]*)\n") do
    if is_text[name] then
      doc[name] = unescape(value)
    elseif name == "modified" then
      doc.modified = tonumber(value)
    elseif numbers[name] then
      doc[name] = tonumber(value)
    elseif name == "header" or name == "checksum" then
      local field, rest = value:match("^([^ ]+) (.*)$")
      if field then doc[name .. "s"][unescape(field)] = unescape(rest) end
    end
  end
  return doc
end

--- Reads a document's file.
-- @tparam string path
-- @treturn table doc, or nil and why
function _M.read(path)
  local text, why = files.read(path)
  if not text then return nil, why end
  local doc = _M.decode(text)
  if not doc then return nil, path .. " is not a whole document" end
  return doc
end

--- Writes a document's file.
-- @tparam string path
-- @tparam table doc
-- @tparam[opt] boolean durable
-- @return true, or nil and why
function _M.write(path, doc, durable)
  return files.write(path, _M.encode(doc), durable)
end

return _M

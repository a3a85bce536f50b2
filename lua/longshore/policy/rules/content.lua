--- Rules of what a file is: its type, its name, its first bytes, its scanner's word.
--
-- Room: policy, no I/O. Runs inside the sandbox too.
-- @module longshore.policy.rules.content
local util = require "longshore.policy.rules.util"

local _M = {}

local function matches(list, content_type)
  for _, pattern in ipairs(list) do
    if util.fits_type(content_type, pattern) then return true end
  end
  return false
end

--- MIME types.
-- @tparam table options `allow`, `deny`: lists of types; `video/*` stands for all of a kind
function _M.types(options)
  util.options("types", options, { allow = "list", deny = "list" }, "allow or deny")
  for _, list in pairs(options) do
    for _, name in ipairs(list) do
      if not util.is_type(name) then
        error(("rules.types: %q is no type such as image/png"):format(name), 2)
      end
    end
  end
  return {
    about = "types: " .. (options.allow and table.concat(options.allow, ", ") or "any")
      .. (options.deny and ", none of " .. table.concat(options.deny, ", ") or ""),
    before_initiate = function(context)
      local content_type = util.bare_type(context.content_type)
      if (options.allow and not matches(options.allow, content_type))
        or (options.deny and matches(options.deny, content_type)) then
        return false, { code = "unsupported", field = "content_type", status = 415,
          message = content_type == "" and "files must say their type"
            or ("files of type %s are not accepted here"):format(content_type) }
      end
    end,
  }
end

local DOT, SPACE, SLASH, BACKSLASH = 46, 32, 47, 92

-- The extensions of a name, the last one apart: of `a.tar.gz` tar and gz. Dots and spaces at the end are none
-- (some file systems drop them), and `.bashrc` has none that counts as the last.
local function extensions_of(name)
  -- (By bytes, backwards: patterns that look for an end try every beginning, and take long for some names.)
  local last, parts, final = #name, {}, nil
  while last > 0 and (name:byte(last) == DOT or name:byte(last) == SPACE) do last = last - 1 end
  name = name:lower()
  for i = last, 1, -1 do
    local byte = name:byte(i)
    if byte == SLASH or byte == BACKSLASH then break end
    if byte == DOT then
      parts[#parts + 1] = name:sub(i + 1, last)
      local before = name:byte(i - 1)
      if not final then final = before and before ~= SLASH and before ~= BACKSLASH and parts[1] or "" end
      last = i - 1
    end
  end
  return parts, final or ""
end

--- Extensions of the file's name, and of the key where the client names that, in any case. The last must be allowed;
-- none may be denied: not in `a.php.jpg`, nor with something behind it, as in `a.php;1`.
-- @tparam table options `allow`, `deny`: lists; `none`: whether a name may have none (true)
function _M.extensions(options)
  util.options("extensions", options, { allow = "list", deny = "list", none = "boolean" }, "allow, deny or none")
  local allow, deny = {}, {}
  for set, list in pairs { [allow] = options.allow or {}, [deny] = options.deny or {} } do
    for _, name in ipairs(list) do
      local bare = name:lower():match("^%.?([%w_%-]+)$")
      if not bare then error(("rules.extensions: %q is no extension such as jpg"):format(name), 2) end
      set[bare] = true
    end
  end
  return {
    about = "extensions: " .. (options.allow and table.concat(options.allow, ", ") or "any")
      .. (options.deny and ", none of " .. table.concat(options.deny, ", ") or ""),
    before_initiate = function(context)
      for _, name in ipairs { context.filename or "", context.client_key } do
        local parts, last = extensions_of(name)
        local bad = (last == "" and options.none == false) or (last ~= "" and options.allow and not allow[last])
        if options.deny then
          for _, part in ipairs(parts) do bad = bad or deny[part:match("^[%w_%-]*")] end
        end
        if bad then
          return false, { code = "unsupported", field = "filename", status = 415,
            message = last == "" and options.none == false and "the file's name must have an extension"
              or ("files named .%s are not accepted here"):format(last == "" and parts[1] or last) }
        end
      end
    end,
  }
end

-- What a type's files begin with: the offset (from 1) and the bytes, or several of them.
local MAGIC = {
  ["image/png"] = { { 1, "\137PNG\r\n\26\n" } },
  ["image/jpeg"] = { { 1, "\255\216\255" } },
  ["image/gif"] = { { 1, "GIF87a" }, { 1, "GIF89a" } },
  ["image/webp"] = { { 9, "WEBP" } },
  ["image/tiff"] = { { 1, "II*\0" }, { 1, "MM\0*" }, { 1, "II+\0" }, { 1, "MM\0+" } },
  ["image/bmp"] = { { 1, "BM" } },
  ["application/pdf"] = { { 1, "%PDF-" } },
  ["application/zip"] = { { 1, "PK\3\4" }, { 1, "PK\5\6" } },
  ["application/gzip"] = { { 1, "\31\139" } },
  ["application/zstd"] = { { 1, "\40\181\47\253" } },
  ["application/x-xz"] = { { 1, "\2537zXZ\0" } },
  ["application/x-tar"] = { { 258, "ustar" } },
  ["application/vnd.sqlite3"] = { { 1, "SQLite format 3\0" } },
  ["application/geopackage+sqlite3"] = { { 1, "SQLite format 3\0" } },
  ["application/vnd.apache.parquet"] = { { 1, "PAR1" } },
  ["video/mp4"] = { { 5, "ftyp" } },
  ["video/quicktime"] = { { 5, "ftyp" }, { 5, "moov" }, { 5, "mdat" } },
  ["video/webm"] = { { 1, "\26\69\223\163" } },
  ["video/x-matroska"] = { { 1, "\26\69\223\163" } },
  ["audio/mpeg"] = { { 1, "ID3" }, { 1, "\255\251" }, { 1, "\255\243" }, { 1, "\255\242" } },
  ["audio/wav"] = { { 9, "WAVE" } },
  ["audio/flac"] = { { 1, "fLaC" } },
  ["audio/ogg"] = { { 1, "OggS" } },
}
MAGIC["application/x-gzip"] = MAGIC["application/gzip"]
MAGIC["audio/x-wav"] = MAGIC["audio/wav"]
MAGIC["image/jpg"] = MAGIC["image/jpeg"]
for _, name in ipairs { "wordprocessingml.document", "spreadsheetml.sheet", "presentationml.presentation" } do
  MAGIC["application/vnd.openxmlformats-officedocument." .. name] = MAGIC["application/zip"]
end

local PROGRAMS = { "\127ELF", "MZ", "#!", "\202\254\186\190", "\207\250\237\254", "\206\250\237\254" }

local function begins(head, signatures)
  for _, signature in ipairs(signatures) do
    local at, bytes = signature[1], signature[2]
    if head:sub(at, at + #bytes - 1) == bytes then return true end
  end
  return false
end

--- Magic bytes: when everything has arrived and before anybody can see it, the
-- first bytes must be those of the announced type. A file that lies fails.
-- @tparam table options `strict`: types without a known signature are refused, too; `programs`: whether
-- executables of any announced type pass (false)
function _M.magic(options)
  options = util.options("magic", options or {}, { strict = "boolean", programs = "boolean" })
  return {
    about = "the first bytes must fit the type" .. (options.programs and "" or "; no programs"),
    before_register = function(context, host)
      local content_type = util.bare_type(context.upload.content_type)
      local head, err = host.head(512)
      if not head then
        return false, { code = "unavailable", retryable = true, message = err and err.message or "cannot look" }
      end
      local signatures = MAGIC[content_type]
      if signatures and not begins(head, signatures) then
        return false, { code = "integrity", field = "content_type",
          message = ("the content is not %s"):format(content_type) }
      elseif not signatures and options.strict then
        return false, { code = "unsupported", field = "content_type",
          message = ("the content of %s cannot be checked"):format(content_type) }
      end
      if not options.programs and not signatures then
        for _, mark in ipairs(PROGRAMS) do
          if head:sub(1, #mark) == mark then
            return false, { code = "unsupported", field = "content_type", message = "the content is a program" }
          end
        end
      end
    end,
  }
end

--- Antivirus by webhook: the scanner is sent a URL to read the file from, before
-- anybody else can, and answers JSON with `clean` (true or false) and perhaps
-- `reason`. While it cannot be reached the upload waits: complete answers that it
-- should be repeated.
-- @tparam table options `url` (which the configuration must allow, `policy.fetch`), `seconds` (20, at most 60),
-- `headers`, `max_size`: larger files are not scanned but refused (`larger = "allow"`: let through)
function _M.antivirus(options)
  util.options("antivirus", options, { url = "string", seconds = "positive", headers = "table", max_size = "whole",
    larger = { allow = true, refuse = true } })
  if not (options.url or ""):find("^https?://[^/]") then error("rules.antivirus: url: an http URL expected", 2) end
  return {
    about = "a scanner at " .. options.url .. " must find it clean",
    before_register = function(context, host)
      if options.max_size and context.size > options.max_size then
        if options.larger == "allow" then return true end
        return false, { code = "too_large", message = "the file is too large to be scanned" }
      end
      local url, err = host.url(600)
      local response
      if url then
        response, err = host.fetch { method = "POST", url = options.url, headers = options.headers,
          timeout = options.seconds or 20, json = { file_id = context.upload.file_id, url = url, size = context.size,
            filename = context.upload.filename, content_type = context.upload.content_type } }
      end
      local verdict = response and response.status == 200 and response.json
      if type(verdict) ~= "table" or type(verdict.clean) ~= "boolean" then
        host.log("warn", "the scanner gave no verdict", { status = response and response.status,
          reason = err and err.message })
        return false, { code = "unavailable", retryable = true, retry_after = 10,
          message = "the file could not be scanned yet; complete again" }
      end
      if verdict.clean then return true end
      return false, { code = "integrity", reason = "infected",
        message = "the scanner refused the file" .. (type(verdict.reason) == "string"
          and ": " .. verdict.reason:sub(1, 200):gsub("%c", " ") or "") }
    end,
  }
end

return _M

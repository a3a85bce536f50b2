--- The fields of the newton service: types, limits, and the service's own word
-- for what is wrong with each.
--
-- Room: service. No I/O.
-- @module longshore.service.newton.schema
local core = require "longshore.core"

local _M = {}

local PARTS = 10000

--- A media type, parameters allowed: `text/csv; charset=utf-8`.
_M.file_type = {
  type = "string", required = true, min_bytes = 3, max_bytes = 255, code = "invalid_file_type",
  pattern = "^[%w!#$&^_.+-]+/[%w!#$&^_.+-]+%s*;?[^,]*$",
  says = "a media type such as text/csv is expected",
}

--- A file's name: data, never a path. Names that could be mistaken for a folder are refused.
_M.filename = {
  type = "string", required = true, min_bytes = 1, max_bytes = 1024,
  check = function(name)
    if name == "." or name == ".." then return nil, "is not a file name" end
    return true
  end,
}

local part_number = { type = "integer", required = true, min = 1, max = PARTS }

-- The ETag of a part, with or without its quotes.
local part_token = { type = "string", required = true, max_bytes = 256,
  check = function(token)
    if not token:find('^"?[^"%s]+"?$') then
      return nil, "the ETag of the part's answer is expected (may the browser read it? CORS must expose ETag)"
    end
    return true
  end,
}

-- A part listed twice is allowed, so there may be more entries than parts.
local function part_list(required)
  return {
    type = "array", required = required, max_items = 2 * PARTS,
    items = { type = "object", fields = { part_number = part_number, part_token = part_token } },
  }
end

local integrity_checksum = { type = "string", max_bytes = 64,
  check = function(text)
    if core.crc32c_from_base64(text) then return true end
    return nil, "the base64 form of the four CRC32C bytes is expected, for example yZRlqg=="
  end,
}

_M.initiate = { type = "object", fields = {
  filename = _M.filename,
  file_type = _M.file_type,
  num_bytes = { type = "integer", required = true, min = 0, code = "invalid_file_size" },
  resume_if_started = { type = "boolean", default = false },
} }

_M.part_urls = { type = "object", fields = {
  part_numbers = { type = "array", required = true, min_items = 1, max_items = PARTS, items = part_number },
} }

_M.checkpoint = { type = "object", fields = { parts = part_list(true) } }

_M.complete = { type = "object", fields = {
  parts = part_list(false),
  integrity_checksum = integrity_checksum,
} }

_M.abort = { type = "object", fields = {} }

_M.listing = { type = "object", fields = {
  shard_index = { type = "integer", min = -1, max = 1000000000, default = -1 },
  max_items_per_shard = { type = "integer", min = -1, max = 1000, default = -1,
    check = function(n)
      if n == 0 then return nil, "must be between 1 and 1000, or -1 for as many as possible" end
      return true
    end },
  file_type = { type = "string", max_bytes = 255 },
} }

return _M

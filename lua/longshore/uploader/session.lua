--- Sessions as drivers give them: is the plan whole, what is there already,
-- and what comes out of it in the end.
--
-- Room: uploader.
-- @module longshore.uploader.session
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}

-- Checksums of parts that an earlier try sent are read in slices, so that
-- other tasks go on.
local SLICE = 64 * 1024 * 1024

--- The parts of a map by number, in order.
-- @tparam table map
-- @treturn table list
function _M.in_order(map)
  local list = {}
  for _, part in pairs(map) do list[#list + 1] = part end
  table.sort(list, function(a, b) return a.number < b.number end)
  return list
end

local function bad(text, ...)
  return errors.fail("store", "the service's plan does not fit the file: " .. text:format(...))
end

--- Checks that the parts to send and the parts that are there make up the
-- file, in order, without gap or overlap.
-- @tparam table session
-- @tparam number size of the file
-- @treturn[1] boolean true
-- @return[2] nil
-- @treturn[2] table err
function _M.check_plan(session, size)
  local all = {}
  for _, part in ipairs(session.parts) do
    if all[part.number] then return bad("part %d is there twice", part.number) end
    all[part.number] = { number = part.number, offset = part.offset, length = part.length }
  end
  for number, part in pairs(session.have or {}) do
    if all[number] then return bad("part %d is both there and missing", number) end
    all[number] = { number = number, offset = part.offset, length = part.length }
  end
  local at = 0
  for _, part in ipairs(_M.in_order(all)) do
    if part.offset ~= at then return bad("part %d begins at %.0f instead of %.0f", part.number, part.offset, at) end
    at = at + part.length
  end
  if at ~= size then return bad("its parts are %.0f bytes, the file %.0f", at, size) end
  return true
end

-- The CRC32C of a range of the file.
local function crc_of_range(hub, path, offset, length)
  local crc, at = 0, 0
  while at < length do
    local n = math.min(SLICE, length - at)
    local piece, got = core.crc32c_file(path, { offset = offset + at, length = n })
    if not piece then return nil, got end
    if got ~= n then return errors.fail("changed", path .. " has become shorter") end
    crc = core.crc32c_combine(crc, piece, n)
    at = at + n
    if at < length then hub.loop:sleep(0) end
  end
  return crc
end

--- Takes over the parts that the service has already, each with its CRC32C:
-- the one that was kept, or read from the file again. With `hub.recheck` every
-- one is read again, and a part that is another now is to be sent.
-- @tparam table hub
-- @tparam table source
-- @tparam table session
-- @treturn[1] table finished parts by number
-- @return[2] nil
-- @treturn[2] table err
function _M.absorb(hub, source, session)
  local ok, err = _M.check_plan(session, source.size)
  if not ok then return nil, err end
  local done = {}
  for number, part in pairs(session.have or {}) do
    local crc = part.crc32c
    if not crc or hub.recheck then
      crc, err = crc_of_range(hub, source.path, part.offset, part.length)
      if not crc then return nil, err end
    end
    if part.crc32c and part.crc32c ~= crc then
      session.parts[#session.parts + 1] = { number = number, offset = part.offset, length = part.length }
    else
      done[number] = { number = number, offset = part.offset, length = part.length, token = part.token,
        crc32c = crc, check = part.check or "none", resumed = true }
    end
  end
  table.sort(session.parts, function(a, b) return a.number < b.number end)
  return done
end

--- The CRC32C of the whole file, from those of its parts in order.
-- @tparam table parts
-- @treturn number
function _M.whole_crc32c(parts)
  local crc = 0
  for _, part in ipairs(parts) do crc = core.crc32c_combine(crc, part.crc32c, part.length) end
  return crc
end

--- The result of an upload, without what the service adds.
-- @tparam table upload
-- @tparam table parts in order
-- @tparam ?number crc of the whole
-- @treturn table
function _M.result(upload, parts, crc)
  local checks, sent = { crc32c = 0, md5 = 0, none = 0 }, 0
  for _, part in ipairs(parts) do
    checks[part.check] = checks[part.check] + 1
    if not part.resumed then sent = sent + part.length end
  end
  local compared
  for _, kind in ipairs { "crc32c", "md5", "none" } do
    if checks[kind] > 0 then compared = compared and "mixed" or kind end
  end
  return {
    path = upload.item.path, name = upload.item.name, bytes = upload.source.size,
    upload_id = upload.session.id, file_id = upload.session.file_id,
    crc32c = crc, checks = checks, compared = compared or "none",
    resumed_parts = upload.resumed_parts, sent_parts = upload.sent_parts, sent_bytes = sent,
    parts = #parts, retries = upload.retries, seconds = upload.hub.loop.now() - upload.began,
  }
end

return _M

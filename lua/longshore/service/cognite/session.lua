--- A resumable session (`gcs_proxy`) as a client sees it: where it is, what is to
-- be sent to it, and what its answers mean.
--
-- Room: service.
-- @module longshore.service.cognite.session
local calls = require "longshore.service.client"
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"

local _M = {}

--- Chunks are multiples of this, except the last.
_M.QUANTUM = 256 * 1024

--- Whether a link is a session.
-- @tparam string url
-- @treturn boolean
function _M.is(url)
  return url:find("/v1/files/gcs_proxy/", 1, true) ~= nil
end

-- How many bytes a 308 says are there.
local function stored_of(headers)
  local last = (headers.range or ""):match("^bytes=0%-(%d+)$")
  return last and tonumber(last) + 1 or 0
end

local function gone(status)
  return errors.new("not_found", ("the upload session is gone (the store answered %d)"):format(status),
    { status = status, kind = "gone" })
end

--- Asks how many bytes a session has.
-- @tparam function transport
-- @tparam string url
-- @tparam number size of the file
-- @treturn number|nil; the size, when it is finished
-- @treturn table|nil err `not_found` when it is gone
function _M.ask(transport, url, size)
  local response, err = transport { method = "PUT", url = url, body = "", retry = "safe",
    headers = { ["Content-Range"] = ("bytes */%.0f"):format(size) } }
  if not response then return nil, err end
  local status = response.status
  if status == 308 then return stored_of(response.headers) end
  if status == 200 or status == 201 then return size end
  if status == 404 or status == 410 then return nil, gone(status) end
  return nil, calls.error(response, "asking where the upload is")
end

--- What is to be sent of a part, when everything before `from` is there.
--
-- Nothing that a session has can be taken back, so the bytes' checksum goes along:
-- longshore's store refuses what arrives damaged, others pass over the header.
-- @tparam table session `url`, `size`, `type`, `path`
-- @tparam table part
-- @tparam number from
-- @treturn table|nil {url, headers, offset, length}
-- @treturn table|nil err of reading the file
function _M.target(session, part, from)
  local ends = part.offset + part.length
  from = math.min(from, ends)
  local headers = { ["Content-Type"] = session.type }
  if from < ends then
    headers["Content-Range"] = ("bytes %.0f-%.0f/%.0f"):format(from, ends - 1, session.size)
    local crc, got = core.crc32c_file(session.path, { offset = from, length = ends - from })
    if not crc then return nil, got end
    if got == ends - from then headers["X-Longshore-Crc32c"] = core.crc32c_base64(crc) end
  elseif session.size > 0 then -- nothing of it is missing: a question makes sure
    headers["Content-Range"] = ("bytes */%.0f"):format(session.size)
  end
  return { url = session.url, headers = headers, offset = from, length = ends - from }
end

-- The CRC32C of the whole object, as Google's store or longshore's says it.
local function whole_crc32c(event)
  local told = (event.headers["x-goog-hash"] or ""):match("crc32c=([%w+/]+=*)")
  if not told then
    local body = json.decode(event.body or "")
    told = type(body) == "table" and body.crc32c
  end
  return type(told) == "string" and core.crc32c_from_base64(told) or nil
end

--- Reads the answer to a chunk.
-- @tparam table session `crc32c` is set to the whole object's, when it is finished
-- @tparam table part
-- @tparam table event
-- @return true when the part is there; nil, err; or nothing, for the usual reading
function _M.answer(session, part, event)
  local ends = part.offset + part.length
  local status, headers = event.status, event.headers
  local arrived = (status == 308 or status == 200) and headers["x-amz-checksum-crc32c"]
  if arrived and event.crc32c and event.sent > 0 and core.crc32c_from_base64(arrived) ~= event.crc32c then
    -- They are kept, and cannot be taken back.
    return errors.fail("integrity", "the bytes arrived damaged, and a session cannot take them again; start again",
      { kind = "gone" })
  end
  if status == 308 then
    local stored = stored_of(headers)
    if stored >= ends then return true end
    return errors.fail("unavailable", ("the store has %.0f bytes so far; the rest is sent again"):format(stored),
      { kind = "transient", retryable = true })
  elseif status == 200 or status == 201 then
    if ends < session.size then
      return errors.fail("store", "the store says that the upload is whole before it is", { kind = "fatal" })
    end
    session.crc32c = whole_crc32c(event)
    -- These are of the whole object, not of this chunk.
    if part.offset > 0 then headers["x-goog-hash"], headers.etag = nil, nil end
    return true
  elseif status == 404 or status == 410 then
    return nil, gone(status)
  end
end

--- Cancels a session; 499 is how one says yes.
-- @tparam function transport
-- @tparam string url
function _M.cancel(transport, url)
  transport { method = "DELETE", url = url, retry = "safe" }
end

return _M

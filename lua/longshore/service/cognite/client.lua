--- The cognite service (Cognite Data Fusion Files) as the uploader's driver: makes
-- a file in a project, or overwrites one; works with the service itself and with
-- longshore's broker.
--
-- What a link is, its URL says. One with `/v1/files/gcs_proxy/` in it is a resumable
-- session already: the file goes there in chunks, one after another, and after a
-- kill the service is asked where to go on. Any other takes one PUT; a file above
-- the threshold asks for links of parts instead, which go in parallel.
--
-- Nothing of parts can be taken up again at this service (fresh links are a new
-- upload), but the file's entry can: an interrupted upload brings its bytes to the
-- entry that it made, and leaves no second one.
--
-- The end of a PUT is announced to nobody: the service is asked until it says
-- `uploaded`, and for an overwritten file until it says so of the new bytes.
--
-- The journal of a session keeps its URL, without which nobody could resume it; it
-- grants no more than to send this file.
--
-- Room: service.
-- @module longshore.service.cognite.client
local calls = require "longshore.service.client"
local errors = require "longshore.errors"
local json = require "longshore.json"
local session_calls = require "longshore.service.cognite.session"

local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.cognite.client" }
mt.__tostring = function(self) return "cognite client of " .. self.destination end

local MiB = 1048576
-- The service's own limits.
local MAX_PUT, MAX_PARTS, MAX_PART = 5000000000, 250, 3999 * MiB
local PART, THRESHOLD = 16 * MiB, 64 * MiB
local COMPLETE_TIMEOUT = 900
-- How long the service may take to notice bytes, and how long an unchanged time of
-- upload of an overwritten file is taken for "not yet".
local NOTICE_SECONDS, SAME_SECONDS = 1800, 120

local to_integer = rawget(math, "tointeger") or function(n) return n end

--- Makes the driver.
-- @tparam table options `url` of the project (`https://HOST/api/v1/projects/PROJECT`), `token`;
-- `external_id`, `overwrite` (needs one), `directory`, `metadata`; `part_size` (of parts
-- and chunks), `threshold` (above it parts)
-- @treturn[1] driver
-- @return[2] nil
-- @treturn[2] table err
function _M.new(options)
  local base, err = calls.base_url(options.url, "")
  if not base then return nil, err end
  base = base:gsub("/files$", "")
  if not base:find("/api/v1/projects/[^/]+$") then
    return errors.fail("invalid", "the URL of a project is expected: https://HOST/api/v1/projects/PROJECT",
      { field = "url" })
  end
  local token, refused = calls.token(options.token)
  if not token then return nil, refused end
  if options.overwrite and not options.external_id then
    return errors.fail("invalid", "only a file with an external id can be overwritten", { field = "overwrite" })
  end
  if options.directory and options.directory:sub(1, 1) ~= "/" then
    return errors.fail("invalid", "a directory is an absolute path: /reports", { field = "directory" })
  end
  return setmetatable({
    name = "cognite", destination = base .. (options.external_id and "/files#" .. options.external_id or "/files"),
    base = base, host = base:match("^%a+://([^/]+)"), origin = base:match("^%a+://[^/]+"),
    external_id = options.external_id, overwrite = options.overwrite and true or false, directory = options.directory,
    part_size = options.part_size or PART, threshold = options.threshold or THRESHOLD,
    headers = { Authorization = "Bearer " .. token, ["cdf-version"] = "V20210406" },
    capabilities = { batch = MAX_PARTS, checkpoint = 0, etag = "maybe", token = "none", reask = true },
  }, mt)
end

--- @see longshore.uploader.driver
function methods:attach(context)
  self.context = context
end

local function call(self, what, path, body, options)
  options = options or {}
  local value, err, response = calls.call(self.context.transport, {
    what = what, method = "POST", url = self.base .. "/files" .. path, headers = self.headers, json = body,
    retry = options.retry or "safe", timeout = options.timeout, max_response = 4 * MiB,
  })
  if not value then return nil, err, response end
  if type(value) ~= "table" then
    return errors.fail("store", what .. ": the service answered something that is no object")
  end
  return value, nil, response
end

-- The one item of an answer, wrapped or not.
local function unwrapped(value)
  return type(value.items) == "table" and type(value.items[1]) == "table" and value.items[1] or value
end

local function is_id(n) return type(n) == "number" and n >= 1 and n % 1 == 0 and n < 2 ^ 53 end

local function by_id(file)
  return { items = json.array { { id = to_integer(file) } } }
end

-- A link as it can be used: some are paths at the service.
local function link_of(self, url)
  if type(url) ~= "string" then return nil end
  if url:sub(1, 1) == "/" then return self.origin .. url end
  return url:find("^https?://") and url or nil
end

---------------------------------------------------------------------------
-- sessions of the uploader

local function file_of(reply, state)
  state.file = reply.id
  state.before = type(reply.uploadedTime) == "number" and reply.uploadedTime or nil
  return state
end

-- One PUT.
local function single(source, url, state)
  state.kind = "put"
  return { id = ("%.0f"):format(state.file), kind = "put", part_size = source.size, state = state, resumed = false,
    have = {}, links = { url }, type = source.content_type,
    parts = { { number = 1, offset = 0, length = source.size, url = url,
      headers = { ["Content-Type"] = source.content_type } } } }
end

local function plan(source, size)
  local parts = {}
  for i = 1, math.max(1, math.ceil(source.size / size)) do
    local offset = (i - 1) * size
    parts[i] = { number = i, offset = offset, length = math.min(size, source.size - offset) }
  end
  return parts
end

local function part_size_of(self, size)
  local least = math.ceil(size / MAX_PARTS / MiB) * MiB
  return math.max(self.part_size, least)
end

-- Parts that go in parallel.
local function multipart(self, source, reply, state)
  local size = part_size_of(self, source.size)
  local parts = plan(source, size)
  if type(reply.uploadUrls) ~= "table" or #reply.uploadUrls ~= #parts or type(reply.uploadId) ~= "string" then
    return errors.fail("store", "the service's answer has no uploadId or not as many links as were asked for")
  end
  local links = {}
  for i, part in ipairs(parts) do
    links[i] = link_of(self, reply.uploadUrls[i])
    if not links[i] then return errors.fail("store", "the service gave a link that is no URL") end
    part.url, part.headers = links[i], {}
  end
  state.kind = "multipart"
  return { id = ("%.0f"):format(state.file), kind = "multipart", upload = reply.uploadId, part_size = size,
    parts = parts, links = links, have = {}, state = state, resumed = false }
end

-- Chunks of a resumable session, from `stored` on.
local function chunked(self, source, url, state, stored, saved)
  local size = math.ceil(math.max(1, self.part_size) / session_calls.QUANTUM) * session_calls.QUANTUM
  if saved then size = saved.part_size end
  state.kind, state.url = "session", url
  local session = { id = ("%.0f"):format(state.file), kind = "session", part_size = size, url = url, size = source.size,
    path = source.path, type = source.content_type, parts = {}, have = {}, ordered = true, state = state,
    resumed = saved ~= nil, stored = stored }
  for _, part in ipairs(plan(source, size)) do
    local ends = part.offset + part.length
    if saved and stored >= ends and part.length > 0 then
      local known = saved.parts[part.number]
      local same = known and known.offset == part.offset and known.length == part.length
      session.have[part.number] = { offset = part.offset, length = part.length, crc32c = same and known.crc32c or nil,
        check = same and known.check or nil }
    else
      session.parts[#session.parts + 1] = part
    end
  end
  return session
end

-- The session that a link gives to a file's entry.
local function with_link(self, source, reply, state)
  local url = link_of(self, reply.uploadUrl)
  if not url then return errors.fail("store", "the service's answer has no uploadUrl") end
  if session_calls.is(url) then return chunked(self, source, url, state, 0) end
  if source.size <= self.threshold then return single(source, url, state) end
  local count = math.ceil(source.size / part_size_of(self, source.size))
  local links, err = call(self, "asking for links of parts", ("/multiuploadlink?parts=%d"):format(count),
    by_id(state.file))
  if not links then return nil, err end
  return multipart(self, source, unwrapped(links), state)
end

-- A new entry, or the one that is overwritten.
local function begin(self, source)
  local body = {
    name = source.name, externalId = self.external_id, directory = self.directory, mimeType = source.content_type,
    metadata = source.metadata and next(source.metadata) and source.metadata or nil,
  }
  local huge = source.size > MAX_PUT
  local path = "?overwrite=" .. tostring(self.overwrite)
  if huge then
    path = ("/initmultipartupload%s&parts=%d"):format(path, math.ceil(source.size / part_size_of(self, source.size)))
  end
  -- Twice the same start is one entry only where the external id says so.
  local reply, err = call(self, "starting the upload", path, body, { retry = self.overwrite and "safe" or "refused" })
  if not reply then return nil, err end
  reply = unwrapped(reply)
  if not is_id(reply.id) then return errors.fail("store", "the service's answer to the start has no id") end
  local state = file_of(reply, { created = not (self.overwrite and reply.uploaded == true) })
  if huge then return multipart(self, source, reply, state) end
  return with_link(self, source, reply, state)
end

-- Takes up an interrupted upload: the session, or at least the entry.
local function resume(self, source, saved)
  local state = saved.state
  if not is_id(state.file) then return nil end
  if state.kind == "session" and type(state.url) == "string" then
    local stored, err = session_calls.ask(self.context.transport, state.url, source.size)
    if stored then return chunked(self, source, state.url, state, stored, saved) end
    if err.code ~= "not_found" then return nil, err end
  end
  local reply, err, response = call(self, "asking for a fresh link", "/uploadlink", by_id(state.file))
  if not reply then
    if response and response.status == 400 then return nil end -- the entry is gone
    return nil, err
  end
  reply = unwrapped(reply)
  local session
  session, err = with_link(self, source, reply, file_of({ id = state.file, uploadedTime = reply.uploadedTime },
    { created = state.created }))
  if session then
    session.notes = { "the interrupted upload cannot be taken up; its file's bytes are sent again" }
  end
  return session, err
end

--- @see longshore.uploader.driver
function methods:start(source, saved)
  if json.bad_utf8(source.name) then
    return errors.fail("invalid", "the name is not valid UTF-8, which this service needs; give another with --name",
      { field = "name" })
  end
  if math.ceil(source.size / MAX_PARTS) > MAX_PART then
    return errors.fail("too_large", "the service takes files of at most 976 GiB: 250 parts of less than 4000 MiB",
      { field = "size" })
  end
  if saved and type(saved.state) == "table" then
    local session, err = resume(self, source, saved)
    if session or err then return session, err end
  end
  return begin(self, source)
end

--- @see longshore.uploader.driver
function methods:urls(session, parts)
  local list = {}
  if session.kind == "session" then
    -- What start has learned is good for the first time.
    local stored, err = session.stored, nil
    session.stored = nil
    if not stored then stored, err = session_calls.ask(self.context.transport, session.url, session.size) end
    if not stored then
      if err.code == "not_found" then err.gone = true end
      return nil, err
    end
    if stored < parts[1].offset then
      return errors.fail("store", "the service lost bytes that it had; start again", { gone = true })
    end
    for i, part in ipairs(parts) do
      list[i], err = session_calls.target(session, part, math.max(part.offset, stored))
      if not list[i] then return nil, err end
      self.context.clock.sleep(0) -- the checksum took a while; others go on
    end
    return list
  elseif session.kind == "put" and session.refused then
    local reply, err = call(self, "asking for a fresh link", "/uploadlink", by_id(session.state.file))
    if not reply then return nil, err end
    local url = link_of(self, unwrapped(reply).uploadUrl)
    if not url or session_calls.is(url) then
      return errors.fail("store", "the service gave no link of the same kind; start again", { gone = true })
    end
    session.links[1], session.refused = url, nil
  end
  for i, part in ipairs(parts) do
    list[i] = { url = session.links[part.number],
      headers = session.kind == "put" and { ["Content-Type"] = session.type } or {} }
  end
  return list
end

--- @see longshore.uploader.driver
function methods.answer(_, session, part, event)
  if event.status == 401 or event.status == 403 then session.refused = true end
  if session.kind == "session" then return session_calls.answer(session, part, event) end
end

---------------------------------------------------------------------------
-- after the bytes

local function entry(self, file)
  local reply, err, response = call(self, "asking for the file", "/byids", by_id(file))
  if not reply then return nil, err, response end
  return unwrapped(reply)
end

-- Waits until the service has noticed the bytes.
local function acknowledged(self, session)
  local clock, state = self.context.clock, session.state
  local began, pause = clock.now(), 0.2
  while true do
    local file, err, response = entry(self, state.file)
    if not file then
      if response and (response.status == 401 or response.status == 403) then
        self.context.note("the token may not read the file, so nothing confirms that the service has noticed the bytes")
        return { file_status = "sent" }
      end
      return nil, err
    end
    local waited = clock.now() - began
    if file.uploaded == true and (file.uploadedTime ~= state.before or waited > SAME_SECONDS) then
      return { file_status = "uploaded" }
    end
    if waited > NOTICE_SECONDS then
      return errors.fail("timeout", "the bytes are sent, but the service has not noticed them yet")
    end
    clock.sleep(pause)
    pause = math.min(pause * 1.6, 10)
  end
end

--- @see longshore.uploader.driver
function methods:complete(session)
  if session.kind == "multipart" then
    local ok, err, response = call(self, "completing the upload", "/completemultipartupload",
      { id = to_integer(session.state.file), uploadId = session.upload }, { timeout = COMPLETE_TIMEOUT })
    -- An answer that was lost may have been a success: then the file says so.
    if not ok and not (response and response.status == 400 and response.doubtful) then return nil, err end
  end
  local result, err = acknowledged(self, session)
  if not result then return nil, err end
  result.file_id, result.crc32c = ("%.0f"):format(session.state.file), session.crc32c
  result.location = self.base .. "/files/" .. result.file_id
  return result
end

--- Gives up: the session ends, and an entry that never got bytes goes.
-- @see longshore.uploader.driver
function methods:abort(session)
  local state = session.state
  if type(state) ~= "table" or not is_id(state.file) then return true end
  if state.kind == "session" and type(state.url) == "string" then
    session_calls.cancel(self.context.transport, state.url)
  end
  if not state.created then return true end
  local file, err, response = entry(self, state.file)
  if not file then
    if response and response.status == 400 then return true end
    return nil, err
  end
  if file.uploaded == true then return true end
  local ok
  ok, err = call(self, "deleting the file's entry", "/delete", by_id(state.file))
  if not ok then return nil, err end
  return true
end

--- @see longshore.uploader.driver
function methods:download(id)
  local number = id:find("^%d+$") and #id <= 16 and tonumber(id)
  local body = { items = json.array { number and { id = to_integer(number) } or { externalId = id } } }
  local file, err = call(self, "looking at the file", "/byids", body)
  if not file then return nil, err end
  file = unwrapped(file)
  local reply
  reply, err = call(self, "asking for the file", "/downloadlink?extendedExpiration=true", body)
  if not reply then return nil, err end
  local url = link_of(self, unwrapped(reply).downloadUrl)
  if not url then return errors.fail("store", "the service's answer has no downloadUrl") end
  -- The URL carries its own permission; the token stays between us and the service.
  return { url = url, headers = {}, name = file.name }
end

return _M

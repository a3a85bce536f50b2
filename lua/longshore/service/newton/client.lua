--- The newton service (Archetype AI's Newton Files API) as the uploader's
-- driver: works with the service itself and with longshore's broker.
--
-- Part numbers, offsets and lengths are the service's; they are kept and sent
-- back, whether they count from 0 or from 1. The ETag of a part is its token,
-- as received.
--
-- A journal's upload is resumed by its id: `resume_if_started` picks by name
-- and may find somebody else's. Parts that the journal has are never sent
-- again; parts that only the service claims to have are, since nobody knows
-- from which content they came.
--
-- Room: service.
-- @module longshore.service.newton.client
local calls = require "longshore.service.client"
local core = require "longshore.core"
local dates = require "longshore.dates"
local errors = require "longshore.errors"
local json = require "longshore.json"

local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.newton.client" }
mt.__tostring = function(self) return "newton client of " .. self.destination end

-- Completing a large file may take the service minutes.
local COMPLETE_TIMEOUT = 900
-- 10,000 parts with their URLs.
local MAX_RESPONSE = 32 * 1024 * 1024

--- Makes the driver.
-- @tparam table options `url` of the service (with or without `/v0.5`), `token`
-- @treturn[1] driver
-- @return[2] nil
-- @treturn[2] table err
function _M.new(options)
  local base, err = calls.base_url(options.url, "/v0.5", "/v%d[%d.]*")
  if not base then return nil, err end
  local token, refused = calls.token(options.token)
  if not token then return nil, refused end
  return setmetatable({
    name = "newton", destination = base, host = base:match("^%a+://([^/]+)"),
    headers = { Authorization = "Bearer " .. token },
    capabilities = { batch = 100, checkpoint = 100, etag = "maybe" },
  }, mt)
end

--- @see longshore.uploader.driver
function methods:attach(context)
  self.transport = context.transport
end

local function call(self, what, path, body, options)
  local request = {
    what = what, method = body and "POST" or "GET", url = self.destination .. path, headers = self.headers,
    json = body, retry = "safe", max_response = MAX_RESPONSE,
  }
  for k, v in pairs(options or {}) do request[k] = v end
  local value, err, response = calls.call(self.transport, request)
  if not value then return nil, err, response end
  if type(value) ~= "table" then
    return errors.fail("store", what .. ": the service answered something that is no object")
  end
  return value, err
end

local function upload_call(self, what, id, path, body, options)
  return call(self, what, "/files/uploads/" .. core.uri_encode(id) .. path, body, options)
end

---------------------------------------------------------------------------
-- plans

local function is_count(n)
  return type(n) == "number" and n >= 0 and n % 1 == 0 and n < 2 ^ 53
end

-- A part as the service describes it.
local function read_part(part)
  if type(part) ~= "table" or not is_count(part.part_number) or type(part.url) ~= "string" then return nil end
  return {
    number = part.part_number, offset = part.offset, length = part.length, url = part.url,
    expires_at = dates.parse_time(part.expires_at),
  }
end

local function read_parts(list)
  if type(list) ~= "table" then return nil end
  local parts = {}
  for i, part in ipairs(list) do
    parts[i] = read_part(part)
    if not parts[i] then return nil end
  end
  return parts
end

-- Where a part lies, by the plan that was kept.
local function place(plan, number)
  if plan.parts then
    for _, part in ipairs(plan.parts) do
      if part[1] == number then return part[2], part[3] end
    end
    return nil
  end
  local index = number - plan.first
  if index < 0 or index >= plan.count then return nil end
  local offset = index * plan.part_size
  return offset, math.min(plan.part_size, plan.size - offset)
end

-- What of a fresh session is to be kept: first number, size of a part, count;
-- or every part, should they be irregular.
local function plan_of(parts, size)
  table.sort(parts, function(a, b) return a.number < b.number end)
  if not parts[1] then return { first = 1, part_size = 1, count = 0, size = size } end
  local plan = { first = parts[1].number, part_size = math.max(1, parts[1].length), count = #parts, size = size }
  for _, part in ipairs(parts) do
    local offset, length = place(plan, part.number)
    if offset ~= part.offset or length ~= part.length then
      local list = {}
      for j, p in ipairs(parts) do list[j] = json.array { p.number, p.offset, p.length } end
      return { parts = json.array(list), size = size }
    end
  end
  return plan
end

local function all_numbers(plan)
  local numbers = {}
  if plan.parts then
    for i, part in ipairs(plan.parts) do numbers[i] = part[1] end
  else
    for i = 1, plan.count do numbers[i] = plan.first + i - 1 end
  end
  return numbers
end

local function good_plan(plan)
  if type(plan) ~= "table" or not is_count(plan.size) then return false end
  if plan.parts then
    if type(plan.parts) ~= "table" then return false end
    for _, part in ipairs(plan.parts) do
      if type(part) ~= "table" or not (is_count(part[1]) and is_count(part[2]) and is_count(part[3])) then
        return false
      end
    end
    return true
  end
  return is_count(plan.first) and is_count(plan.part_size) and is_count(plan.count) and plan.count <= 1e6
end

---------------------------------------------------------------------------
-- start and resume

local function initiate(self, source, resume)
  local body = { filename = source.name, file_type = source.content_type, num_bytes = source.size }
  if resume then body.resume_if_started = true end
  local reply, err, response = call(self, "starting the upload", "/files/uploads/initiate", body)
  if not reply then return nil, err, response end
  local parts = read_parts(reply.parts)
  if type(reply.upload_id) ~= "string" or not parts then
    return errors.fail("store", "the service's answer to initiate has no upload_id or no usable parts")
  end
  reply.parts = parts
  return reply
end

-- A session of an upload that has just begun: every part is to be sent.
local function fresh_session(source, reply)
  local at = 0
  for _, part in ipairs(reply.parts) do
    if not is_count(part.offset) or not is_count(part.length) then
      if not is_count(reply.part_size) or reply.part_size == 0 then
        return errors.fail("store", "the service's parts have neither offset and length nor a part size")
      end
      part.offset = at
      part.length = math.min(reply.part_size, source.size - at)
    end
    at = part.offset + part.length
  end
  local plan = plan_of(reply.parts, source.size)
  return {
    id = reply.upload_id, file_id = reply.file_uid, parts = reply.parts, have = {}, resumed = false,
    part_size = plan.part_size, integrity = reply.integrity_algorithm == "crc32c" and "crc32c" or nil,
    state = { file_id = reply.file_uid, integrity = reply.integrity_algorithm, plan = plan },
  }
end

-- A session of the journal's upload. `lacking`: parts that the service has no
-- checkpoint of (with URLs), or nil when that is not known.
local function saved_session(saved, lacking)
  local plan, unrecorded, urls = saved.state.plan, lacking and {}, {}
  for _, part in ipairs(lacking or {}) do
    unrecorded[part.number] = true
    urls[part.number] = part
    local offset, length = place(plan, part.number)
    if not offset or part.offset and part.offset ~= offset or part.length and part.length ~= length then
      return nil
    end
  end
  local session = {
    id = saved.id, file_id = saved.state.file_id, parts = {}, have = {}, resumed = true, state = saved.state,
    part_size = saved.part_size, integrity = saved.state.integrity == "crc32c" and "crc32c" or nil,
  }
  for _, number in ipairs(all_numbers(plan)) do
    local offset, length = place(plan, number)
    local known = saved.parts[number]
    if known and known.token and known.offset == offset and known.length == length then
      session.have[number] = { offset = offset, length = length, token = known.token, crc32c = known.crc32c,
        check = known.check, unrecorded = not unrecorded or unrecorded[number] or nil }
    else
      local target = urls[number] or {}
      session.parts[#session.parts + 1] = { number = number, offset = offset, length = length,
        url = target.url, expires_at = target.expires_at }
    end
  end
  return session
end

-- The file of an upload, as the result, when the service has it whole.
local function finished(self, file_id, size)
  if type(file_id) ~= "string" then return nil end
  local file = call(self, "looking at the file", "/files/metadata/" .. core.uri_encode(file_id))
  if not file then return nil end
  local status = tostring(file.file_status or ""):upper():gsub("^FILE_STATUS_", "")
  local done = (status == "REGISTERED" or status == "INGESTED") and file.file_uid == file_id
    and file.num_bytes == size
  return done and file or nil, status
end

local function result_of(self, file)
  local attributes = type(file.file_attributes) == "table" and file.file_attributes or {}
  local crc = type(attributes.crc32c) == "string" and core.crc32c_from_base64(attributes.crc32c) or nil
  return {
    file_id = file.file_uid, file_name = file.file_name or file.file_id, file_status = file.file_status,
    crc32c = crc, location = file.file_uid and self.destination .. "/files/download/" .. file.file_uid or nil,
  }
end

-- Whether the upload of a journal still takes parts: asks for a URL of it.
local function alive(self, saved)
  local numbers = all_numbers(saved.state.plan)
  if not numbers[1] then return false end
  return self:urls({ id = saved.id }, { { number = numbers[1] } }) ~= nil
end

local function resume(self, source, saved)
  local reply, err, response = initiate(self, source, true)
  if not reply and not (response and (response.status == 409 or response.status == 404)) then return nil, err end
  if reply and reply.upload_id == saved.id then
    local session = saved_session(saved, reply.parts)
    if session then return session end
  elseif alive(self, saved) then
    return saved_session(saved)
  end
  -- Gone: because it was completed?
  local file = finished(self, saved.state.file_id, source.size)
  if file then
    return { id = saved.id, file_id = file.file_uid, parts = {}, resumed = true, state = saved.state,
      completed = result_of(self, file) }
  end
  if not reply then return nil, err end
  if reply.is_resume == true then
    reply, err = initiate(self, source, false)
    if not reply then return nil, err end
  end
  local session
  session, err = fresh_session(source, reply)
  if session then session.notes = { "the interrupted upload is gone at the service; starting over" } end
  return session, err
end

--- @see longshore.uploader.driver
function methods:start(source, saved)
  if json.bad_utf8(source.name) then
    return errors.fail("invalid", "the name is not valid UTF-8, which this service needs; give another with --name",
      { field = "name" })
  end
  if saved and good_plan(saved.state.plan) and saved.state.plan.size == source.size then
    return resume(self, source, saved)
  end
  local reply, err = initiate(self, source, false)
  if not reply then return nil, err end
  return fresh_session(source, reply)
end

---------------------------------------------------------------------------
-- the other steps

-- An upload that the service does not know (any more) cannot go on.
local function gone(err, response)
  if response and (response.status == 404 or response.status == 410) then err.gone = true end
  return nil, err
end

--- @see longshore.uploader.driver
function methods:urls(session, parts)
  local numbers = json.array()
  for i, part in ipairs(parts) do numbers[i] = part.number end
  local reply, err, response = upload_call(self, "asking for URLs", session.id, "/parts/urls",
    { part_numbers = numbers })
  if not reply then return gone(err, response) end
  local list = read_parts(reply.parts)
  if not list or #list ~= #numbers then
    return errors.fail("store", ("the service was asked for %d URLs and gave %d"):format(#numbers, list and #list or 0))
  end
  for i, part in ipairs(list) do
    if part.number ~= numbers[i] then
      return errors.fail("store", ("the service was asked for part %.0f and gave part %.0f"):format(numbers[i],
        part.number))
    end
    -- The plan says where the part lies.
    part.offset, part.length = nil, nil
  end
  return list
end

local function tokens(parts)
  local list = json.array()
  for _, part in ipairs(parts) do
    if part.token then list[#list + 1] = { part_number = part.number, part_token = part.token } end
  end
  return list
end

--- @see longshore.uploader.driver
function methods:checkpoint(session, parts)
  local reply, err = upload_call(self, "checkpoint", session.id, "/parts/checkpoint", { parts = tokens(parts) })
  return reply and true, err
end

--- @see longshore.uploader.driver
function methods:complete(session, parts, crc32c)
  local body = { parts = tokens(parts) }
  if crc32c then body.integrity_checksum = core.crc32c_base64(crc32c) end
  local size = 0
  for _, part in ipairs(parts) do size = size + part.length end
  local reply, err, response = upload_call(self, "completing the upload", session.id, "/complete", body,
    { timeout = COMPLETE_TIMEOUT })
  if not reply then
    if not response then return nil, err end
    -- Completed already, perhaps by a call of ours whose answer was lost?
    local file, status = finished(self, session.file_id, size)
    if file and (response.status == 404 or response.status == 409) then return result_of(self, file) end
    if err.service_code == "integrity_check_failed" or status == "CORRUPT" then
      err.code, err.retryable = "integrity", nil
      err.gone = true
      return nil, err
    end
    return gone(err, response)
  end
  if reply.num_bytes ~= nil and reply.num_bytes ~= size then
    return errors.fail("integrity", ("the service has %s bytes of a file of %.0f"):format(tostring(reply.num_bytes),
      size))
  end
  if tostring(reply.file_status):lower():find("corrupt", 1, true) then
    return errors.fail("integrity", "the service calls the file corrupt", { gone = true })
  end
  reply.file_uid = reply.file_uid or session.file_id
  return result_of(self, reply)
end

--- @see longshore.uploader.driver
function methods:abort(session)
  local reply, err, response = upload_call(self, "aborting the upload", session.id, "/abort", json.object())
  if reply or response and (response.status == 404 or response.status == 409) then return true end
  return nil, err
end

--- @see longshore.uploader.driver
function methods:download(id)
  local file, err = call(self, "looking at the file", "/files/metadata/" .. core.uri_encode(id))
  if not file then return nil, err end
  local response
  response, err = self.transport { method = "GET", url = self.destination .. "/files/download/" .. core.uri_encode(id),
    headers = self.headers, retry = "safe" }
  if not response then return nil, err end
  local location = response.headers.location
  if response.status < 300 or response.status > 399 then
    if response.status >= 400 then return nil, calls.error(response, "asking for the file") end
    return errors.fail("unsupported", "the service sends the file itself instead of saying where it is")
  end
  if not location or not location:find("^https?://") then
    return errors.fail("store", "the service's answer does not say where the file is")
  end
  -- The URL carries its own permission; the token stays between us and the service.
  local attributes = type(file.file_attributes) == "table" and file.file_attributes or {}
  return {
    url = location, headers = {}, name = file.file_name or file.file_id,
    size = is_count(file.num_bytes) and file.num_bytes or nil,
    crc32c = type(attributes.crc32c) == "string" and core.crc32c_from_base64(attributes.crc32c) or nil,
  }
end

return _M

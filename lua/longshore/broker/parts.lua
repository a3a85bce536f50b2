--- The broker's part_urls and checkpoint.
--
-- Room: broker.
-- @module longshore.broker.parts
local check = require "longshore.broker.check"

local _M = {}

local MAX_EXPIRES = 604800

--- Where a part lies in the file.
-- @tparam table row upload
-- @tparam number number
-- @treturn number offset, or nil when the size is not known
function _M.part_offset(_, row, number)
  return (number - 1) * row.part_size
end

--- How long a part is, or nil when the size is not known.
function _M.part_length(_, row, number)
  if not row.size then return nil end
  if number < row.part_count then return row.part_size end
  return row.size - (row.part_count - 1) * row.part_size
end

-- Numbers of the parts that are not among those that are recorded.
local function missing(row, recorded)
  local done, numbers = {}, {}
  for _, part in ipairs(recorded) do done[part.number] = true end
  for number = 1, row.part_count do
    if not done[number] then numbers[#numbers + 1] = number end
  end
  return numbers
end

-- What the policy and the provider say to signing these: the provider, and for how long; or nil, err.
local function decide(self, actor, row, numbers)
  local decision, err = self.policy:decide("before_sign",
    { actor = actor, upload = self:view_upload(row), numbers = numbers })
  if not decision then return nil, err end
  local provider
  provider, err = self:provider(row.provider)
  if not provider then return nil, err end
  local left = math.ceil(row.deadline - self.clock.now())
  return provider, math.max(1, math.min(decision.url_seconds, left, MAX_EXPIRES))
end

-- What both forms of part_urls begin with: the upload, the numbers, its
-- provider, and for how long to sign; or nil, err.
local function allow(self, actor, id, numbers)
  check.actor(actor)
  local ok, err = self:authorize(actor, "part_urls", "upload")
  if not ok then return nil, err end
  local row
  row, err = self:running_upload(actor, id)
  if not row then return nil, err end
  if numbers then
    numbers, err = check.numbers(numbers, row)
    if not numbers then return nil, err end
  else
    local recorded
    recorded, err = self.store:parts(id)
    if not recorded then return nil, err end
    numbers = missing(row, recorded)
  end
  local provider, expires = decide(self, actor, row, numbers)
  if not provider then return nil, expires end
  return row, numbers, provider, expires
end

local function sign(self, row, list, provider, expires)
  local parts, first = {}, {}
  for _, number in ipairs(list) do
    if not first[number] then
      parts[#parts + 1] = { number = number, length = row.signs_length and self:part_length(row, number) or nil }
      first[number] = #parts
    end
  end
  if #parts == 0 then return {} end
  local signed, err = provider:sign_parts {
    key = row.key, upload_id = row.provider_upload_id, parts = parts, expires = expires,
  }
  if not signed then return nil, err end
  local answer = {}
  for i, number in ipairs(list) do
    local grant = signed[first[number]]
    answer[i] = {
      number = number, url = grant.url, headers = grant.headers, expires_at = grant.expires_at,
      offset = self:part_offset(row, number), length = self:part_length(row, number),
    }
  end
  return answer
end

-- What `sign_parts_text` of a provider makes, from a list: for uploads and providers that have no faster way.
local function write(list, shape)
  local words, soonest = {}, nil
  for i, part in ipairs(list) do
    local values = { n = ("%.0f"):format(part.number), o = ("%.0f"):format(part.offset),
      l = part.length and ("%.0f"):format(part.length) or "null", u = part.url, ["%"] = "%" }
    words[i] = shape(part.expires_at):gsub("%%(.)", values)
    soonest = math.min(soonest or part.expires_at, part.expires_at)
  end
  return "[" .. table.concat(words, ",") .. "]", soonest
end

-- The same as `sign` as text, and when the first of the URLs ends (nil: there is none); or nil, err.
local function sign_text(self, row, list, provider, expires, shape)
  if not list[1] then return "[]" end
  if not provider.sign_parts_text or not row.signs_length or not row.size then
    local signed, err = sign(self, row, list, provider, expires)
    if not signed then return nil, err end
    return write(signed, shape)
  end
  local parts = {}
  for i, number in ipairs(list) do parts[i] = { number = number, length = self:part_length(row, number) } end
  return provider:sign_parts_text {
    key = row.key, upload_id = row.provider_upload_id, parts = parts, expires = expires,
    part_size = row.part_size, shape = shape,
  }
end

--- URLs to PUT parts to. Repeated numbers share one URL. A URL works until its
-- `expires_at`, and never longer than the upload may.
-- @tparam table actor
-- @tparam string id of the upload
-- @tparam[opt] {number,...} numbers default: all that are not recorded
-- @treturn {{number,url,headers,offset,length,expires_at},...} in the order of
-- `numbers`, or nil, err
function _M.part_urls(self, actor, id, numbers)
  local row, list, provider, expires = allow(self, actor, id, numbers)
  if not row then return nil, list end
  return sign(self, row, list, provider, expires)
end

--- URLs for all parts of an upload that has just been started, and whose row is at hand.
-- @tparam table actor
-- @tparam table row
-- @tparam[opt] function shape
-- @treturn {table,...} as `part_urls`, or with `shape` as `part_urls_text`; or nil, err
function _M.first_urls(self, actor, row, shape)
  local ok, err = self:authorize(actor, "part_urls", "upload")
  if not ok then return nil, err end
  local numbers = missing(row, {})
  local provider, expires = decide(self, actor, row, numbers)
  if not provider then return nil, expires end
  return (shape and sign_text or sign)(self, row, numbers, provider, expires, shape)
end

--- URLs to PUT parts to, as the text of a JSON array: the fast form for services
-- that hand out many.
-- @tparam table actor
-- @tparam string id of the upload
-- @tparam ?{number,...} numbers default: all that are not recorded
-- @tparam function shape `shape(expires_at)` -> what each part looks like: see `sign_parts_text` of the provider
-- @treturn string text, or nil, err
-- @treturn ?number when the first of the URLs ends
function _M.part_urls_text(self, actor, id, numbers, shape)
  local row, list, provider, expires = allow(self, actor, id, numbers)
  if not row then return nil, list end
  return sign_text(self, row, list, provider, expires, shape)
end

--- Records that parts are in the store. A part recorded again replaces its token.
-- @tparam table actor
-- @tparam string id of the upload
-- @tparam {{number=,token=},...} parts
-- @treturn number how many different parts were recorded, or nil, err
function _M.checkpoint(self, actor, id, parts)
  check.actor(actor)
  local ok, err = self:authorize(actor, "checkpoint", "upload")
  if not ok then return nil, err end
  local row
  row, err = self:running_upload(actor, id)
  if not row then return nil, err end
  local list
  list, err = check.parts(parts, row)
  if not list then return nil, err end
  local recorded
  recorded, err = self.store:checkpoint(id, list, self.clock.now())
  if recorded == nil then return nil, err end
  if recorded then return #list end
  row, err = self:running_upload(actor, id) -- what became of it meanwhile
  if not row then return nil, err end
  return self:state_error(row)
end

return _M

--- The geolens service as the uploader's driver: replaces the content of a
-- dataset, or makes a new one; works with the service itself and with longshore's broker.
--
-- The steps are the official web client's: start, PUT, complete, commit, poll
-- the job until the content is in place. What the service signs is what is
-- sent: the declared Content-Type with a single PUT, none with a part. ETags go
-- back as they came.
--
-- There are no fresh URLs, no checkpoints and no resume: all URLs end together,
-- and an upload that was interrupted starts over. Nor is there an abort: the
-- service ends an unfinished job by itself. What can be repeated here is what
-- comes after the bytes: a `complete` or a `commit` whose answer was lost is
-- recognised.
--
-- Room: service.
-- @module longshore.service.geolens.client
local calls = require "longshore.service.client"
local dates = require "longshore.dates"
local errors = require "longshore.errors"
local json = require "longshore.json"

local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.geolens.client" }
mt.__tostring = function(self) return "geolens client of " .. self.destination end

local UUID = "%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x"
local VISIBILITIES = { private = true, restricted = true, internal = true, public = true }
local MAX_RESPONSE = 32 * 1024 * 1024
-- Freezing and checking a large file may take the service minutes.
local COMPLETE_TIMEOUT = 900
-- How long a busy dataset, and a queued job, are waited for.
local BUSY_SECONDS, JOB_SECONDS = 1800, 6 * 3600

-- The API's base, and the dataset that a URL names: https://host/datasets/ID as
-- a browser shows it, or .../api/datasets/ID.
local function read_url(url)
  local base, err = calls.base_url(url, "")
  if not base then return nil, err end
  local before, id, behind = base:match("^(.-)/datasets/([^/]+)(.*)$")
  if not before then return calls.base_url(url, "/api") end
  if not id:find("^" .. UUID .. "$") or (behind ~= "" and behind ~= "/reupload") then
    return errors.fail("invalid", "a dataset's URL ends in /datasets/ and its id", { field = "url" })
  end
  if not before:find("/api$") then before = before .. "/api" end
  return before, id:lower()
end

-- A session token goes as such; anything else is an API key.
local function credentials(token)
  if token:find("^eyJ[%w_%-]+%.[%w_%-]+%.[%w_%-]+$") then return { Authorization = "Bearer " .. token } end
  return { ["X-Api-Key"] = token }
end

--- Makes the driver.
-- @tparam table options `url` of the service, or of a dataset whose content is to
-- be replaced; `token` (a session token or an API key); `dataset` (its id, where
-- the URL has none); for a new dataset `title` (default: the file's name),
-- `summary`, `visibility`; for both `srid`, `layer`
-- @treturn[1] driver
-- @return[2] nil
-- @treturn[2] table err
function _M.new(options)
  local base, dataset = read_url(options.url)
  if not base then return nil, dataset end
  local token, refused = calls.token(options.token)
  if not token then return nil, refused end
  if options.dataset and not options.dataset:find("^" .. UUID .. "$") then
    return errors.fail("invalid", "a dataset's id is a UUID", { field = "dataset" })
  end
  if options.dataset and dataset and options.dataset:lower() ~= dataset then
    return errors.fail("invalid", "the URL names another dataset", { field = "dataset" })
  end
  if options.visibility and not VISIBILITIES[options.visibility] then
    return errors.fail("invalid", "visibility is private, restricted, internal or public", { field = "visibility" })
  end
  dataset = dataset or options.dataset and options.dataset:lower()
  if dataset and (options.title or options.summary or options.visibility) then
    return errors.fail("invalid", "title, summary and visibility are for a new dataset", { field = "title" })
  end
  return setmetatable({
    name = "geolens", base = base, dataset = dataset, host = base:match("^%a+://([^/]+)"),
    destination = dataset and ("%s/datasets/%s"):format(base, dataset) or base .. "/ingest",
    title = options.title, summary = options.summary, visibility = options.visibility, srid = options.srid,
    layer = options.layer, headers = credentials(token),
    capabilities = { batch = 0, checkpoint = 0, etag = "maybe" },
  }, mt)
end

--- @see longshore.uploader.driver
function methods:attach(context)
  self.context = context
end

local function call(self, what, path, body, timeout)
  local value, err, response = calls.call(self.context.transport, {
    what = what, method = body and "POST" or "GET", url = self.base .. path, headers = self.headers, json = body,
    retry = "safe", timeout = timeout, max_response = MAX_RESPONSE,
  })
  if not value then return nil, err, response end
  if type(value) ~= "table" then
    return errors.fail("store", what .. ": the service answered something that is no object")
  end
  return value, err
end

-- The paths of a job's steps.
local function path_of(self, step, job)
  local replace = self.dataset and ("/datasets/%s/reupload"):format(self.dataset)
  if step == "start" then return (replace or "/ingest/upload") .. "/presigned" end
  if step == "complete" then return ("%s/presigned/%s/complete"):format(replace or "/ingest/upload", job) end
  return replace and ("%s/%s/commit"):format(replace, job) or "/ingest/commit/" .. job
end

-- When a presigned URL ends, as far as it says so.
local function end_of(url)
  local y, m, d, clock = url:match("[?&][Xx]%-[Aa][Mm][Zz]%-[Dd]ate=(%d%d%d%d)(%d%d)(%d%d)T(%d%d%d%d%d%d)Z")
  local seconds = tonumber(url:match("[?&][Xx]%-[Aa][Mm][Zz]%-[Ee]xpires=(%d+)"))
  if not y or not seconds then return nil end
  local began = dates.parse_time(("%s-%s-%sT%s:%s:%sZ"):format(y, m, d, clock:sub(1, 2), clock:sub(3, 4), clock:sub(5)))
  return began and began + seconds
end

local function is_count(n)
  return type(n) == "number" and n >= 1 and n % 1 == 0 and n < 2 ^ 53
end

-- The parts of an answer to start: one whole PUT, or the parts as the service
-- divided the file.
local function parts_of(reply, source)
  if reply.upload_id == nil or reply.upload_id == json.null then
    if #reply.urls ~= 1 then return nil end
    return { { number = 1, offset = 0, length = source.size, url = reply.urls[1],
      headers = { ["Content-Type"] = source.content_type }, expires_at = end_of(reply.urls[1]) } }
  end
  if not is_count(reply.part_size) or math.ceil(source.size / reply.part_size) ~= #reply.urls then return nil end
  local parts = {}
  for i, url in ipairs(reply.urls) do
    local offset = (i - 1) * reply.part_size
    parts[i] = { number = i, offset = offset, length = math.min(reply.part_size, source.size - offset), url = url,
      expires_at = end_of(url) }
  end
  return parts
end

local function usable(reply)
  if type(reply.job_id) ~= "string" or not reply.job_id:find("^[%w%-]+$") or type(reply.urls) ~= "table" then
    return false
  end
  for _, url in ipairs(reply.urls) do
    if type(url) ~= "string" then return false end
  end
  return true
end

--- @see longshore.uploader.driver
function methods:start(source)
  if json.bad_utf8(source.name) then
    return errors.fail("invalid", "the name is not valid UTF-8, which this service needs; give another with --name",
      { field = "name" })
  end
  if source.size == 0 then
    return errors.fail("invalid", "the file is empty; this service takes files of at least one byte",
      { field = "size" })
  end
  local filename = source.name:match("([^/]+)$") or source.name
  local reply, err = call(self, "starting the upload", path_of(self, "start"), {
    filename = filename, file_size = source.size, content_type = source.content_type })
  if not reply then return nil, err end
  local parts = usable(reply) and parts_of(reply, source)
  if not parts then
    return errors.fail("store", "the service's answer to the start has no job_id or no URLs that fit the file")
  end
  return { id = reply.job_id, parts = parts, have = {}, resumed = false, filename = filename,
    part_size = parts[2] and reply.part_size or source.size, single = reply.upload_id == nil
      or reply.upload_id == json.null }
end

---------------------------------------------------------------------------
-- after the bytes

-- Whether a refusal may mean that an earlier call of ours was carried out.
local function perhaps_done(response, word)
  if not response or response.status ~= 400 then return false end
  return response.doubtful == true or (response.body or ""):lower():find(word, 1, true) ~= nil
end

local function job_of(self, id)
  local job, err = call(self, "asking for the job", "/jobs/" .. id)
  if not job then return nil, err end
  if type(job.status) ~= "string" then
    return errors.fail("store", "asking for the job: the service's answer has no status")
  end
  return job
end

local function job_failed(job)
  local why = type(job.error_message) == "string" and job.error_message or "the service gives no reason"
  return errors.fail("invalid", ("the service's job %s: %s"):format(job.status, why), { gone = true })
end

local function complete(self, session, parts, till)
  local list = json.array {}
  if not session.single then
    for i, part in ipairs(parts) do list[i] = { etag = part.token or "", part_number = part.number } end
  end
  local reply, err, response = call(self, "completing the upload", path_of(self, "complete", session.id),
    { parts = list }, COMPLETE_TIMEOUT)
  if reply or perhaps_done(response, "already completed") then return true, not reply and err or nil end
  local clock = self.context.clock
  if response and response.status == 409 and response.doubtful and clock.now() < till then
    clock.sleep(2) -- an earlier call of ours is still being carried out
    return complete(self, session, parts, till)
  end
  if response and response.status >= 400 and response.status < 500 then err.gone = true end
  return nil, err
end

-- What the commit says of the content.
local function wishes(self, session)
  local body = json.object { srid_override = self.srid, layer_name = self.layer }
  if not self.dataset then
    body.title = self.title or session.filename:match("^(.+)%.[^.]*$") or session.filename
    body.summary, body.visibility = self.summary, self.visibility
  end
  return body
end

-- Commits; waits while another job replaces the dataset's content.
local function commit(self, session, doubt)
  local clock = self.context.clock
  local till, pause = clock.now() + BUSY_SECONDS, 1
  while true do
    local reply, err, response = call(self, "committing the upload", path_of(self, "commit", session.id),
      wishes(self, session), COMPLETE_TIMEOUT)
    if reply then return true end
    local busy = response and response.status == 409 and (response.body or ""):find("dataset_busy", 1, true)
    if not busy then
      -- The answer to complete was lost, and it had been refused after all.
      if doubt and response and response.status == 400 and not perhaps_done(response, "already processed") then
        return nil, doubt
      end
      if perhaps_done(response, "already processed") then return true end
      if response and response.status >= 400 and response.status < 500 then err.gone = true end
      return nil, err
    end
    if clock.now() >= till then return nil, err end
    if pause == 1 then self.context.note("another job is replacing this dataset's content; waiting for it") end
    clock.sleep(pause)
    pause = math.min(pause * 2, 15)
  end
end

-- Waits until the job has come to its end.
local function settle(self, id)
  local clock = self.context.clock
  local till, pause = clock.now() + JOB_SECONDS, 0.2
  while true do
    local job, err = job_of(self, id)
    if not job then return nil, err end
    if job.status == "complete" or job.status == "fanned_out" then return job end
    if job.status ~= "pending" and job.status ~= "running" then return job_failed(job) end
    if clock.now() >= till then
      return errors.fail("timeout", ("the file is uploaded and committed, but the service's job %s is still %s")
        :format(id, job.status))
    end
    clock.sleep(pause)
    pause = math.min(pause * 1.6, 10)
  end
end

--- @see longshore.uploader.driver
function methods:complete(session, parts)
  local ok, doubt = complete(self, session, parts, self.context.clock.now() + COMPLETE_TIMEOUT)
  if not ok then return nil, doubt end
  local err
  ok, err = commit(self, session, doubt)
  if not ok then return nil, err end
  local job
  job, err = settle(self, session.id)
  if not job then return nil, err end
  local dataset = type(job.dataset_id) == "string" and job.dataset_id or self.dataset
  return {
    job_id = session.id, file_id = dataset, file_status = job.status,
    location = dataset and ("%s/datasets/%s"):format(self.base, dataset) or nil,
  }
end

return _M

-- One upload at each of the four services, in steps, on a broker over the store in
-- memory: what the specs of policies and services share.
local assert = require "luassert"
local areas = require "longshore.config.areas"
local catalogs = require "longshore.broker.catalogs"
local fake = require "spec.support.fake_provider"
local worlds = require "spec.support.broker"

local ANN = worlds.actor()
local CATALOG = areas.catalog_id "default"
local BODY = "a,b\n1,2\n"
local _M = {}

_M.services = { "newton", "athena", "cognite", "geolens" }

local COGNITE = { service = "cognite", provider = "default", link_seconds = 604800, max_put = 1000, of_record = 5,
  content_type = "text/csv", check = function(fields)
    if fields.metadata and type(fields.metadata) ~= "table" then
      return require("longshore.errors").fail("invalid", "metadata: an object expected", { field = "metadata" })
    end
    return fields
  end }
local GEOLENS = { provider = "default", max_size = 1000, threshold = 100, part_size = 40, window = 3600,
  commit_seconds = 86400, extensions = { ".csv" } }

--- A table with further fields.
local function merged(defaults, more)
  local all = {}
  for k, v in pairs(defaults) do all[k] = v end
  for k, v in pairs(more or {}) do all[k] = v end
  return all
end

local w

--- A new world with these rules; every step is taken in the newest.
function _M.world(rules, more)
  more = more or {}
  more.rules = rules
  more.policy = merged({ upload_seconds = 7200 }, more.policy)
  local clock = require("longshore.clock").fixed(1700000000)
  more.clock, more.provider = clock, fake.new { clock = clock, profile = { conditional_put = true } }
  more.providers = { default = more.provider, other = fake.new { clock = clock } }
  w = worlds.new(more)
  w.other = more.providers.other
  w.catalogs = catalogs.new { store = w.store, clock = w.clock, builtin = { default = { id = CATALOG,
    profile = "fake", bucket = "fake", prefix = "m/", created_at = 0, provider = w.provider:below "m/" } } }
  w.broker:manage { catalogs = w.catalogs, trash_seconds = 86400 }
  return w
end

--- What was logged of policies that failed.
function _M.failures()
  local list = {}
  for _, line in ipairs(w.logged) do
    if line.message == "policy failed" then list[#list + 1] = line.fields end
  end
  return list
end

--- The steps of each service's uploads, in the broker's words. Each answers what comes of it, or nil, err.
local steps = { newton = {}, athena = {}, cognite = {}, geolens = {} }
_M.steps = steps

function steps.newton.start(fields)
  return w:initiate(BODY, merged({ content_type = "text/csv" }, fields))
end
function steps.newton.send(upload)
  local urls, err = w.broker:part_urls(ANN, upload.id)
  if not urls then return nil, err end
  return w:put(urls, BODY)
end
function steps.newton.finish(upload, parts) return w.broker:complete(ANN, upload.id, { parts = parts }) end
function steps.newton.file(file) return w.broker:file(ANN, file.id) end
function steps.newton.object(file) return w.provider.objects[w.store:file(file.id).key] end

function steps.athena.start(fields)
  local list, err = w.broker:upload_urls(ANN, { merged({ catalog = CATALOG, key = "a.csv", size = #BODY,
    content_type = "text/csv" }, fields) })
  return list and list[1], err
end
function steps.athena.send(entry)
  assert.equal(200, (w.provider:client_put(entry.upload.url, BODY)))
  for name, value in pairs(entry.upload.headers or {}) do -- as a client does that sends what it is told
    w.provider.objects["m/" .. entry.file.key].headers = w.provider.objects["m/" .. entry.file.key].headers or {}
    w.provider.objects["m/" .. entry.file.key].headers[name:lower()] = value
  end
  return {}
end
function steps.athena.finish(entry)
  local file, err = w.broker:managed_file(ANN, entry.file.id)
  if file and file.status ~= "available" then return nil, file end
  return file, err
end
function steps.athena.file(file) return w.broker:managed_file(ANN, file.id) end
function steps.athena.object(file) return w.provider.objects["m/" .. file.key] end

function steps.cognite.start(fields)
  fields = merged({ name = "a.csv", fields = { mimeType = "text/csv", metadata = fields and fields.metadata } }, fields)
  fields.metadata = nil
  local record, grant = w.broker:create_record(ANN, fields, merged(COGNITE,
    { metadata = fields.fields.metadata }))
  if not record then return nil, grant end
  return { id = record.id, grant = grant }
end
function steps.cognite.send(upload)
  assert.equal(200, (w.provider:client_put(upload.grant.url, BODY)))
  w.clock.advance(1)
  return {}
end
function steps.cognite.finish(upload)
  local list, err = w.broker:records(ANN, { { id = upload.id } })
  if list and not list[1].uploaded then return nil, list[1] end
  return list and list[1], err
end
function steps.cognite.file(file) return w.broker:records(ANN, { { id = file.id } })[1] end
function steps.cognite.object(file)
  return w.provider.objects[w.store:find_records(ANN, { { id = file.id } })[1].key]
end

function steps.geolens.start(fields)
  local job, urls = w.broker:start_job(ANN, merged({ filename = "a.csv", size = #BODY, content_type = "text/csv",
    signs_type = true }, fields), GEOLENS)
  if not job then return nil, urls end
  return { id = job.id, dataset_id = job.dataset_id, urls = urls, job = job }
end
function steps.geolens.send(upload)
  assert.equal(200, (w.provider:client_put(upload.urls[1], BODY, "text/csv")))
  return {}
end
function steps.geolens.finish(upload, _, visibility)
  local job, err = w.broker:complete_job(ANN, { job_id = upload.id, dataset_id = upload.dataset_id, parts = {} },
    GEOLENS)
  if not job then return nil, err end
  job, err = w.broker:commit_job(ANN, { job_id = upload.id, dataset_id = upload.dataset_id, options = { title = "t",
    visibility = visibility or "private" } }, GEOLENS)
  if not job then return nil, err end
  if job.status ~= "complete" then return nil, job end
  return w.broker:dataset(ANN, job.dataset_id)
end
function steps.geolens.file(file) return w.broker:dataset(ANN, file.id) end
function steps.geolens.object(file) return w.provider.objects[w.store:dataset(file.id).key] end

--- All of them: the file, or nil, err.
function _M.upload(service, fields)
  local step = steps[service]
  local started, err = step.start(fields)
  if not started then return nil, err end
  local parts
  parts, err = step.send(started)
  if not parts then return nil, err end
  return step.finish(started, parts)
end

_M.actor, _M.catalog, _M.body, _M.merged = ANN, CATALOG, BODY, merged
_M.cognite, _M.geolens = COGNITE, GEOLENS

return _M

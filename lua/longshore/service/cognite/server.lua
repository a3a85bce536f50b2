--- The cognite service as a server: files of a project (Cognite Data Fusion Files
-- API), each a row with rich metadata before it has bytes.
--
-- The project in the path is the tenant of the actor's token; a token of another
-- project is 403 with the same words whether that project exists or not.
--
-- Where schema, pages and SDKs disagree, the SDKs' reading is served: the start
-- of a multipart upload flat, `uploadlink` wrapped in `items` with the flat fields beside,
-- `multiuploadlink` wrapped. Both `/files` and `/files/` start an upload.
--
-- What the published service leaves open, and what was chosen here:
--
-- * Completing with parts missing is 400 and names them; nothing is lost: the upload stays
--   open, and the same call works once they are there. A part that is too small or too large
--   likewise. Completing again is 200 `{}`.
-- * `multiuploadlink` gives a new `uploadId` to which nothing of an earlier one is carried over;
--   the earlier one may still be completed until its links end.
-- * Whichever upload's bytes came last (by the object store's clock) are the content. A link
--   that an overwrite or a fresh link superseded still works until it ends.
-- * A second PUT to the same link replaces the content again. It is noticed within minutes (the
--   first one at the next read).
-- * Links work for a week from when they were asked for; an entry without bytes is gone when
--   the last of its links has ended. `uploadlink` extends a link that was not used.
-- * With `overwrite`, what was sent replaces what was there, each field as a whole; what was
--   not sent stays. The change is seen at once, the new content when it is there.
-- * External ids are unique among the files of one organization in one project.
-- * A single PUT of more than 5,000,000,000 bytes is thrown away when it is noticed. A part
--   other than the last is refused below the object store's minimum (5 MiB), not just at or below.
-- * An id that stands twice in a request is 400 with `duplicated`. More than 50 running uploads
--   of one file are 400.
-- * Files are listed oldest first. A filter by something that is not kept here (the asset
--   hierarchy, geoLocation) is refused instead of ignored.
-- * There are no data-model instances: an `instanceId` is always among the `missing`.
-- * Reading needs the right to read, deleting that to delete, all else that to upload.
-- * `upload = "resumable"` gives links that are resumable sessions (`/v1/files/gcs_proxy/`), as
--   Google-backed projects do; they need the disk store.
--
-- Room: service, cognite.
-- @module longshore.service.cognite.server
local changes = require "longshore.service.cognite.changes"
local errors = require "longshore.errors"
local filter = require "longshore.service.cognite.filter"
local json = require "longshore.json"
local render = require "longshore.service.cognite.render"
local responses = require "longshore.http.response"
local rules = require "longshore.service.cognite.rules"
local validate = require "longshore.http.validate"

local _M = {}

_M.name = "cognite"
_M.prefixes = { "/api/v1/projects" }
_M.openapi = {
  title = "Cognite Data Fusion Files: files of a project, with metadata, links and multipart uploads",
  schemas = rules.answers,
  errors = { content_type = "application/json", schema = "Error" },
}

local MiB = 1048576
local MAX_JSON = 8 * MiB
local RUNNING_OF_FILE = 50

--- Renders an error.
-- @tparam table err
-- @treturn table response
function _M.render_error(err)
  return render.error(err)
end

--- Whether the actor may be in this project at all; asked before the body is read.
-- @tparam table ctx `actor`, `params`
-- @treturn true|nil
-- @treturn table|nil err
function _M.admit(ctx)
  if ctx.params.project == ctx.actor.tenant then return true end
  return errors.fail("forbidden", "this token does not give access to this project", { reason = "project" })
end

--- Whether the bucket can do what the configuration asks of this service.
-- @tparam table settings
-- @tparam table provider
-- @treturn true|nil
-- @treturn table|nil err
function _M.check(settings, provider)
  if settings.upload ~= "resumable" or provider.profile.sessions then return true end
  return errors.fail("invalid", ("services.cognite.upload: %s has no resumable sessions; use \"put\"")
    :format(provider.profile.title), { field = "services.cognite.upload" })
end

-- A MIME type that can be a header.
local function header_type(text)
  if text and text:find("^[\33-\126][\32-\126]*$") and not text:find("[ \t]$") then return text end
end

-- Whether a file may have these fields.
local function may_keep(fields) return validate.check(rules.kept, fields) end

local function limits_of(ctx, body)
  local settings = ctx.settings
  return {
    service = "cognite", provider = settings.bucket, link_seconds = settings.link_seconds, max_put = settings.max_put,
    sessions = settings.upload == "resumable", of_record = RUNNING_OF_FILE,
    content_type = header_type(body and body.mimeType), metadata = body and body.metadata,
    check = may_keep,
  }
end

-- A request's reference as the broker has it.
local function read_reference(item)
  return { id = item.id, external_id = item.externalId, instance = item.instanceId }
end

-- References; one that stands twice is a mistake.
local function read_references(items)
  local list, seen, duplicated = {}, {}, {}
  for i, item in ipairs(items) do
    list[i] = read_reference(item)
    local key = item.id and ("i%.0f"):format(item.id) or item.externalId and "e" .. item.externalId
      or ("s%d:%s:%s"):format(#item.instanceId.space, item.instanceId.space, item.instanceId.externalId)
    if seen[key] then duplicated[#duplicated + 1] = list[i] end
    seen[key] = true
  end
  if duplicated[1] then
    return errors.fail("invalid", "items: the same file stands twice",
      { field = "items", reason = "value", duplicated = duplicated })
  end
  return list
end

local handlers = {}

function handlers.start(ctx)
  local body = ctx.body
  local record, grant = ctx.broker:create_record(ctx.actor, {
    name = body.name, external_id = body.externalId, fields = changes.fields_of(body),
    overwrite = ctx.query.overwrite and changes.overwrite(body) or nil, becomes = changes.overwrite(body),
    parts = ctx.query.parts,
  }, limits_of(ctx, body))
  if not record then return nil, grant end
  return responses.json(201, render.file(record, grant.urls
    and { uploadId = grant.upload_id, uploadUrls = json.array(grant.urls) } or { uploadUrl = grant.url }))
end

function handlers.link(ctx)
  local record, grant = ctx.broker:record_link(ctx.actor, read_reference(ctx.body.items[1]), limits_of(ctx))
  if not record then return nil, grant end
  local file = render.file(record, { uploadUrl = grant.url })
  local answer = { items = json.array { file } }
  for name, value in pairs(file) do answer[name] = value end
  return responses.json(201, answer)
end

function handlers.links(ctx)
  local record, grant = ctx.broker:record_parts(ctx.actor, read_reference(ctx.body.items[1]), ctx.query.parts,
    limits_of(ctx))
  if not record then return nil, grant end
  return responses.json(201, { items = json.array { render.file(record,
    { uploadId = grant.upload_id, uploadUrls = json.array(grant.urls) }) } })
end

function handlers.complete(ctx)
  local ok, err = ctx.broker:complete_record(ctx.actor, read_reference(ctx.body), ctx.body.uploadId)
  if not ok then return nil, err end
  return responses.json(200, json.object {})
end

function handlers.by_ids(ctx)
  local references, err = read_references(ctx.body.items)
  if not references then return nil, err end
  local records
  records, err = ctx.broker:records(ctx.actor, references, ctx.body.ignoreUnknownIds)
  if not records then return nil, err end
  return responses.json(200, { items = render.files(records) })
end

function handlers.list(ctx)
  local after, err = filter.read_cursor(ctx.body.cursor)
  if err then return nil, err end
  local matches = filter.new(ctx.body)
  local records, next_page = ctx.broker:list_records(ctx.actor, { limit = ctx.body.limit, after = after,
    accept = function(record) return matches(render.file(record)) end })
  if not records then return nil, next_page end
  return responses.json(200, { items = render.files(records), nextCursor = next_page and filter.cursor(next_page) })
end

function handlers.update(ctx)
  local references, err = read_references(ctx.body.items)
  if not references then return nil, err end
  local list = {}
  for i, item in ipairs(ctx.body.items) do
    list[i] = { reference = references[i], change = changes.update(item.update) }
  end
  local records
  records, err = ctx.broker:change_records(ctx.actor, list, may_keep)
  if not records then return nil, err end
  return responses.json(200, { items = render.files(records) })
end

function handlers.delete(ctx)
  local references, err = read_references(ctx.body.items)
  if not references then return nil, err end
  local ok
  ok, err = ctx.broker:delete_records(ctx.actor, references, ctx.body.ignoreUnknownIds)
  if not ok then return nil, err end
  return responses.json(200, json.object {})
end

function handlers.download(ctx)
  local references, err = read_references(ctx.body.items)
  if not references then return nil, err end
  local settings = ctx.settings
  local links
  links, err = ctx.broker:record_downloads(ctx.actor, references,
    ctx.query.extendedExpiration and settings.extended_download_seconds or settings.download_seconds,
    function(record) return header_type(record.fields.mimeType) end)
  if not links then return nil, err end
  local items = {}
  for i, link in ipairs(links) do
    items[i] = render.reference(references[i])
    items[i].downloadUrl = link.url
  end
  return responses.json(200, { items = json.array(items) })
end

--- The service's routes.
-- @treturn table list
function _M.routes()
  local function route(path, name, right, schema, query, answers, handler)
    return {
      method = "POST", path = "/api/v1/projects/{project}/files" .. path, name = "cognite." .. name, auth = "token",
      right = right, body = "json", schema = schema, query = query, answers = answers, handler = handler,
      max_body = MAX_JSON, params = rules.paths,
    }
  end
  return {
    route("", "init", "upload", rules.file, rules.start_query, { [201] = "FileWithUrl" }, handlers.start),
    -- The JavaScript SDK puts a slash before its query.
    route("/", "init_with_slash", "upload", rules.file, rules.start_query, { [201] = "FileWithUrl" }, handlers.start),
    route("/initmultipartupload", "init_parts", "upload", rules.file, rules.start_parts_query,
      { [201] = "FileWithUrls" }, handlers.start),
    route("/uploadlink", "link", "upload", rules.one, nil, { [201] = "UploadLink" }, handlers.link),
    route("/multiuploadlink", "links", "upload", rules.one, rules.parts_query, { [201] = "UploadLinks" },
      handlers.links),
    route("/completemultipartupload", "complete", "upload", rules.complete, nil, { [200] = "Nothing" },
      handlers.complete),
    route("/byids", "by_ids", "read", rules.many, nil, { [200] = "Files" }, handlers.by_ids),
    route("/list", "list", "read", rules.list, nil, { [200] = "FilePage" }, handlers.list),
    route("/update", "update", "upload", rules.update, nil, { [200] = "Files" }, handlers.update),
    route("/delete", "delete", "delete", rules.many, nil, { [200] = "Nothing" }, handlers.delete),
    route("/downloadlink", "download", "read", rules.downloads, rules.download_query, { [200] = "DownloadLinks" },
      handlers.download),
  }
end

return _M

--- The athena service as a server: managed files behind presigned URLs (Athena Storage).
--
-- The published service's server cannot be read. What its documents and SDK leave open, and what
-- was chosen here:
--
-- * Sessions and keys are tokens of `longshore token`; the token's tenant is the client. See
--   `session.lua` for where they stand and in which order things are refused. A client that is
--   not there, or not the session's, is 400 ("bad client routing") in the same words.
-- * `DEFAULT_CLIENT`, what the SDK sends for want of a name, is `services.athena.default_client`.
-- * A batch is all-or-nothing and has at most `max_batch` files (100); its answers are in request
--   order. One key twice in a batch is 400.
-- * A key is one file's in its bucket. Asking for it again, as the file's owner, updates the row
--   (what the request names, and no more) and gives a URL that replaces the content; anybody else, and an
--   object that has no row, is 403. `file_id` with another key is 409: PATCH changes keys.
-- * URLs live as long as `policy.url_seconds` says (an hour). One that is not in the second half of its
--   life may be given again (`cache_hit`), from nginx's memory or from the database.
-- * Nobody has to confirm: bytes are noticed when a file is read, and by the janitor. `confirm-upload`
--   looks at once, and checks size and SHA-256 (by reading the object); what is not true is 409, and the file
--   `failed` until other bytes come. Until a file has bytes, `size_bytes` is what was announced.
-- * `size_bytes` of a request is signed: no other length is accepted. Without it, more than `max_size` is
--   removed when it is noticed.
-- * Statuses are presigned, uploading, available, failed, soft_deleted, purged. A deleted file answers 404 to
--   everything but restore and purge; it stays in the trash for `trash_seconds` (30 days).
-- * A key that a file has left (delete, PATCH) is others' only when the last URL that could write there has ended.
-- * A file is its owner's; `organization` and `public` let others read it, the organization's
--   administrators may change and delete it, only the owner may overwrite it. Default: private.
-- * `update-many` puts files into a folder: `storage_key` ends in a slash (one file may have a plain key).
-- * Encryption is asked for where the store's profile has it, and 400 elsewhere; `upload.headers` has
--   what the PUT must send.
-- * `multipart/complete` may be repeated. Parts count from 1 without gaps; sizes are compared with `size_bytes` if
--   there was one. An upload is its beginner's and ends with `policy.upload_seconds`.
-- * `PUT files/{id}/upload` takes up to `tunnel_max` bytes; the host spools them to a file, never into memory.
-- * `GET files/{id}/proxy` redirects to the object: no bytes pass through here.
-- * Catalogs are listed to everybody of the client (without secrets), made by administrators. One that the
--   configuration brings along cannot be changed. `X-Strip-Nulls: true` is honoured.
--
-- Room: service, athena.
-- @module longshore.service.athena.server
local check = require "longshore.broker.check"
local clients = require "longshore.service.athena.clients"
local errors = require "longshore.errors"
local json = require "longshore.json"
local render = require "longshore.service.athena.render"
local responses = require "longshore.http.response"
local rules = require "longshore.service.athena.rules"
local session = require "longshore.service.athena.session"

local _M = {}

_M.name = "athena"
_M.prefixes = { "/storage" }
_M.start = clients.start
_M.authenticate = session.authenticate
_M.render_error = render.error
_M.openapi = {
  title = "Athena Storage: managed files behind presigned URLs, by logical client (header X-Athena-Client)",
  schemas = rules.answers,
  errors = { schema = "Error" },
  security = { { scheme = "athenaSession" }, { scheme = "athenaCookie" }, { scheme = "bearer" } },
  schemes = {
    athenaSession = { type = "apiKey", ["in"] = "header", name = "X-Athena-Auth-Session-Token" },
    athenaCookie = { type = "apiKey", ["in"] = "cookie", name = "athena-auth.session-token" },
  },
}

local MiB = 1048576
local MAX_JSON = 8 * MiB

local function visibility_of(body)
  if body.visibility then return body.visibility end
  if body.public ~= nil then return body.public and "public" or "private" end
end

-- One of two spellings; both may be there if they agree.
local function either(body, a, b)
  if body[a] ~= nil and body[b] ~= nil and body[a] ~= body[b] then
    return check.invalid(b, ("says something else than %s"):format(a))
  end
  if body[a] ~= nil then return body[a] end
  return body[b]
end

local function encryption_of(body)
  local kind, err = either(body, "server_side_encryption", "sse")
  if err then return nil, err end
  local key
  key, err = either(body, "kms_key_id", "ssekms_key_id")
  if err then return nil, err end
  return { encryption = kind, kms_key_id = key, bucket_key = body.bucket_key_enabled }
end

-- An upload request as the broker has it.
local function request_of(body)
  local r, err = encryption_of(body)
  if not r then return nil, err end
  r.catalog, r.bucket, r.key, r.file_id = body.s3_id:lower(), body.bucket, body.storage_key, body.file_id
  r.name, r.original_name, r.resource_id = body.name, body.original_name, body.resource_id
  r.content_type = body.content_type or body.mime_type
  r.size, r.visibility, r.metadata = body.size_bytes, visibility_of(body), body.metadata
  return r
end

local handlers = {}

function handlers.upload_url(ctx)
  local r, err = request_of(ctx.body)
  if not r then return nil, err end
  local list
  list, err = ctx.broker:upload_urls(ctx.actor, { r })
  if not list then return nil, err end
  return render.success(ctx, 201, "Upload URL created", render.upload(list[1]))
end

function handlers.upload_urls(ctx)
  local requests = {}
  for i, body in ipairs(ctx.body.files) do
    local err
    requests[i], err = request_of(body)
    if not requests[i] then
      err.message = ("files[%d]: %s"):format(i - 1, err.message)
      return nil, err
    end
  end
  local list, err = ctx.broker:upload_urls(ctx.actor, requests)
  if not list then return nil, err end
  local files = json.array()
  for i, entry in ipairs(list) do files[i] = render.upload(entry) end
  return render.success(ctx, 201, "Upload URLs created", { files = files })
end

function handlers.confirm(ctx)
  local body = ctx.body
  local file, err = ctx.broker:confirm_managed(ctx.actor, ctx.params.file_id, {
    size = body.size_bytes, sha256 = body.checksum_sha256 and rules.sha256(body.checksum_sha256),
    content_type = body.content_type, metadata = body.metadata,
  })
  if not file then return nil, err end
  return render.success(ctx, 200, "Upload confirmed", { file = render.file(file) })
end

function handlers.visibility(ctx)
  local files, err = ctx.broker:show_managed(ctx.actor, { ctx.params.file_id }, visibility_of(ctx.body))
  if not files then return nil, err end
  return render.success(ctx, 200, "Visibility updated", { file = render.file(files[1]) })
end

local function many(ctx, message, files, err)
  if not files then return nil, err end
  return render.success(ctx, 200, message, { count = #files, files = render.files(files) })
end

function handlers.visibility_many(ctx)
  return many(ctx, "Visibility updated",
    ctx.broker:show_managed(ctx.actor, ctx.body.file_ids, visibility_of(ctx.body)))
end

function handlers.get(ctx)
  local file, err = ctx.broker:managed_file(ctx.actor, ctx.params.file_id)
  if not file then return nil, err end
  return render.success(ctx, 200, "File found", { file = render.file(file) })
end

local function listing(ctx, query)
  query.catalog, query.bucket = ctx.body.s3_id and ctx.body.s3_id:lower(), ctx.body.bucket
  query.limit, query.offset = ctx.body.limit, ctx.body.offset
  local files, total = ctx.broker:managed_files(ctx.actor, query)
  if not files then return nil, total end
  return render.success(ctx, 200, "Files listed", { files = render.files(files), count = #files, total = total })
end

function handlers.list(ctx)
  return listing(ctx, { prefix = ctx.body.prefix })
end

function handlers.search(ctx)
  return listing(ctx, { text = ctx.body.query })
end

function handlers.update(ctx)
  local files, err = ctx.broker:move_managed(ctx.actor, { ctx.params.file_id },
    { key = ctx.body.storage_key, bucket = ctx.body.bucket })
  if not files then return nil, err end
  return render.success(ctx, 200, "File updated", { file = render.file(files[1]) })
end

function handlers.update_many(ctx)
  return many(ctx, "Files updated", ctx.broker:move_managed(ctx.actor, ctx.body.file_ids,
    { key = ctx.body.storage_key, bucket = ctx.body.bucket }))
end

function handlers.delete(ctx)
  local files, err = ctx.broker:delete_managed(ctx.actor, { ctx.params.file_id })
  if not files then return nil, err end
  return render.success(ctx, 200, "File deleted", { file = render.file(files[1]) })
end

function handlers.delete_many(ctx)
  return many(ctx, "Files deleted", ctx.broker:delete_managed(ctx.actor, ctx.body.file_ids))
end

function handlers.restore(ctx)
  local file, err = ctx.broker:restore_managed(ctx.actor, ctx.params.file_id)
  if not file then return nil, err end
  return render.success(ctx, 200, "File restored", { file = render.file(file) })
end

function handlers.purge(ctx)
  local file, err = ctx.broker:purge_managed(ctx.actor, ctx.params.file_id)
  if not file then return nil, err end
  return render.success(ctx, 200, "File purged", { file = render.file(file) })
end

function handlers.url(ctx)
  local purpose = ctx.query.purpose
  local url, err = ctx.broker:managed_url(ctx.actor, ctx.params.file_id, purpose)
  if not url then return nil, err end
  return render.success(ctx, 200, "URL created", render.url(url.file, url, purpose))
end

function handlers.proxy(ctx)
  local url, err = ctx.broker:managed_url(ctx.actor, ctx.params.file_id, ctx.query.purpose)
  if not url then return nil, err end
  return responses.redirect(url.url)
end

function handlers.tunnel(ctx)
  local source = ctx.source
  local declared = tonumber(ctx.request.headers["content-length"] or "")
  if declared and declared ~= source.length then
    return errors.fail("invalid", ("the body has %.0f bytes of %.0f"):format(source.length, declared),
      { field = "body" })
  end
  local file, err = ctx.broker:ingest_managed(ctx.actor, ctx.params.file_id, {
    file = source.path and { path = source.path, offset = 0, length = source.length } or nil,
    text = not source.path and source.text or nil, length = source.length,
    content_type = ctx.request.headers["content-type"],
  })
  if not file then return nil, err end
  return render.success(ctx, 200, "File uploaded", { file = render.file(file) })
end

---------------------------------------------------------------------------
-- multipart

function handlers.multipart_create(ctx)
  local wish, err = encryption_of(ctx.body)
  if not wish then return nil, err end
  wish.content_type = ctx.body.content_type
  local upload
  upload, err = ctx.broker:create_managed_upload(ctx.actor, ctx.body.file_id, wish)
  if not upload then return nil, err end
  return render.success(ctx, 200, "Multipart upload created", {
    upload_id = upload.id, file_id = upload.file_id, bucket = upload.provider:match("/(.+)$"), storage_key = upload.key,
    expires_at = responses.rfc3339(upload.deadline),
  })
end

function handlers.multipart_sign(ctx)
  local body = ctx.body
  local grant, err = ctx.broker:sign_managed_part(ctx.actor, body.file_id, body.upload_id, body.part_number)
  if not grant then return nil, err end
  return render.success(ctx, 200, "Part URL created", render.part(body.part_number, grant))
end

function handlers.multipart_list(ctx)
  local body = ctx.body
  local list, err = ctx.broker:list_managed_parts(ctx.actor, body.file_id, body.upload_id)
  if not list then return nil, err end
  local parts = json.array()
  for i, part in ipairs(list) do
    parts[i] = { part_number = part.number, etag = ('"%s"'):format(part.etag), size_bytes = part.size }
  end
  return render.success(ctx, 200, "Parts listed", { upload_id = body.upload_id, file_id = body.file_id,
    parts = parts })
end

function handlers.multipart_complete(ctx)
  local body, parts = ctx.body, {}
  for i, part in ipairs(body.parts) do parts[i] = { number = part.part_number, token = part.etag } end
  local file, err = ctx.broker:complete_managed_upload(ctx.actor, body.file_id, body.upload_id, parts)
  if not file then return nil, err end
  return render.success(ctx, 200, "Multipart upload completed", { file = render.file(file) })
end

function handlers.multipart_abort(ctx)
  local body = ctx.body
  local ok, err = ctx.broker:abort_managed_upload(ctx.actor, body.file_id, body.upload_id)
  if not ok then return nil, err end
  return render.success(ctx, 200, "Multipart upload aborted", { upload_id = body.upload_id, file_id = body.file_id,
    aborted = true })
end

---------------------------------------------------------------------------
-- catalogs: their answers have no envelope

local function catalog_fields(body)
  return {
    name = body.name, endpoint = body.endpoint, public_endpoint = body.public_endpoint, region = body.region,
    bucket = body.bucket, buckets = body.buckets, provider = body.provider, path_style = body.force_path_style,
    prefix = body.default_prefix, public_base_url = body.public_base_url, access_key = body.access_key_id,
    secret_key = body.secret_key, session_token = body.session_token, metadata = body.metadata,
    active = body.is_active,
  }
end

function handlers.catalogs(ctx)
  local list, err = ctx.state.catalogs:list(ctx.actor)
  if not list then return nil, err end
  local data = json.array()
  for i, row in ipairs(list) do data[i] = render.catalog(row) end
  return responses.json(200, { data = data })
end

function handlers.create_catalog(ctx)
  local row, err = ctx.state.catalogs:create(ctx.actor, catalog_fields(ctx.body))
  if not row then return nil, err end
  return responses.json(201, render.catalog(row))
end

function handlers.update_catalog(ctx)
  local row, err = ctx.state.catalogs:update(ctx.actor, ctx.params.id, catalog_fields(ctx.body))
  if not row then return nil, err end
  return responses.json(200, render.catalog(row))
end

function handlers.delete_catalog(ctx)
  local ok, err = ctx.state.catalogs:delete(ctx.actor, ctx.params.id)
  if not ok then return nil, err end
  return responses.json(200, { id = ctx.params.id, deleted = true })
end

function handlers.credentials(ctx)
  local list, err = ctx.state.catalogs:credentials(ctx.actor)
  if not list then return nil, err end
  local data = json.array()
  for i, row in ipairs(list) do data[i] = render.credential(row) end
  return responses.json(200, { data = data })
end

-- Every handler finds the client's own broker, and ids of paths in small letters.
local function for_client(handler)
  return function(ctx)
    local broker, err = ctx.state.broker(ctx.actor.tenant)
    if not broker then return nil, err end
    ctx.broker = broker
    for name, value in pairs(ctx.params) do ctx.params[name] = value:lower() end
    return handler(ctx)
  end
end

--- The service's routes.
-- @tparam table settings `config.services.athena`
-- @treturn table list
function _M.routes(settings)
  local list = {}
  local function route(method, path, name, right, more)
    local new = { method = method, path = "/storage/" .. path, name = "athena." .. name, auth = "session",
      right = right, max_body = MAX_JSON, params = rules.paths, headers = rules.headers, handler = handlers[name] }
    for key, value in pairs(more or {}) do new[key] = value end
    new.handler = for_client(new.handler)
    list[#list + 1] = new
  end
  local function post(path, name, right, schema, status, answer)
    route("POST", path, name, right, { body = "json", schema = schema, answers = { [status] = answer } })
  end
  local function plain(method, path, name, right, answer)
    route(method, path, name, right, { answers = { [200] = answer } })
  end
  post("files/upload-url", "upload_url", "upload", rules.upload, 201, "Upload")
  post("files/upload-urls", "upload_urls", "upload", rules.uploads(settings.max_batch), 201, "Uploads")
  route("POST", "files/{file_id}/confirm-upload", "confirm", "upload",
    { body = "optional_json", schema = rules.confirm, answers = { [200] = "File" } })
  post("files/{file_id}/visibility", "visibility", "upload", rules.visibility, 200, "File")
  route("PATCH", "files/{file_id}/visibility", "visibility_patch", "upload",
    { body = "json", schema = rules.visibility, answers = { [200] = "File" }, handler = handlers.visibility })
  post("files/visibility-many", "visibility_many", "upload", rules.visibility_many, 200, "Files")
  post("files/list", "list", "read", rules.list, 200, "FileList")
  post("files/search", "search", "read", rules.search, 200, "FileList")
  post("files/delete-many", "delete_many", "delete", rules.delete_many, 200, "Files")
  post("files/update-many", "update_many", "upload", rules.update_many, 200, "Files")
  plain("GET", "files/{file_id}", "get", "read", "File")
  route("PATCH", "files/{file_id}", "update", "upload",
    { body = "json", schema = rules.update, answers = { [200] = "File" } })
  plain("DELETE", "files/{file_id}", "delete", "delete", "File")
  plain("POST", "files/{file_id}/restore", "restore", "upload", "File")
  plain("DELETE", "files/{file_id}/purge", "purge", "delete", "File")
  route("GET", "files/{file_id}/url", "url", "read", { query = rules.url_query, answers = { [200] = "SignedUrl" } })
  route("GET", "files/{file_id}/proxy", "proxy", "read", { query = rules.url_query, answers = { [302] = false } })
  route("PUT", "files/{file_id}/upload", "tunnel", "upload",
    { body = "raw", tunnel = true, max_body = settings.tunnel_max, answers = { [200] = "File" } })
  post("multipart/create", "multipart_create", "upload", rules.multipart_create, 200, "MultipartCreated")
  post("multipart/sign-part", "multipart_sign", "upload", rules.multipart_sign, 200, "PartUrl")
  post("multipart/list-parts", "multipart_list", "upload", rules.multipart_named, 200, "Parts")
  post("multipart/complete", "multipart_complete", "upload", rules.multipart_complete, 200, "File")
  post("multipart/abort", "multipart_abort", "upload", rules.multipart_named, 200, "Aborted")
  plain("GET", "catalogs", "catalogs", nil, "Catalogs")
  post("catalogs", "create_catalog", "admin", rules.create_catalog, 201, "Catalog")
  route("PATCH", "catalogs/{id}", "update_catalog", "admin",
    { body = "json", schema = rules.update_catalog, answers = { [200] = "Catalog" } })
  plain("DELETE", "catalogs/{id}", "delete_catalog", "admin", "CatalogDeleted")
  plain("GET", "credentials", "credentials", "admin", "Credentials")
  return list
end

return _M

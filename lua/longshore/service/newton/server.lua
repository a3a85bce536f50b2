--- The newton service (Archetype AI's Newton Files API) as a server: reads a
-- request, calls the broker, writes the answer.
--
-- Where the service's facts are unknown, this was chosen:
--
--  * Numbering starts at 1, times are RFC 3339 in UTC, initiate answers 200.
--  * An upload is always a multipart upload at the store, `strategy` is always
--    `multipart`: no URL can rewrite a finished file.
--  * `file_id` is the file's name and `file_uid` the id, as the service's own
--    tests have it; where a path takes a `file_id` either will do, an id first.
--  * A finished file keeps its name: initiating an upload with it is 409. The
--    two form doors replace the file of that name instead, once the new bytes
--    are stored and checked.
--  * Initiating without `resume_if_started` beside an unfinished upload of the
--    same name starts another one; the first to complete gets the name.
--  * `integrity_checksum` is big-endian; a mismatch is 400 and the file Corrupt.
--  * Nothing is ever `ingested`: a Registered file is stored and checked, and
--    longshore does not look inside. `file_attributes` has `crc32c` and `checks`.
--  * Zero bytes are allowed (one empty part). Any media type is accepted unless
--    `services.newton.file_types` lists those that are.
--  * No answer is 204 or 422: the official client retries those and then fails.
--
-- Room: service.
-- @module longshore.service.newton.server
local answers = require "longshore.service.newton.answers"
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"
local render = require "longshore.service.newton.render"
local responses = require "longshore.http.response"
local schema = require "longshore.service.newton.schema"
local tunnel = require "longshore.service.newton.tunnel"

local _M = {}

_M.name = "newton"
_M.openapi = {
  title = "Newton files: uploads in parts by presigned URLs, checkpointed and resumed; metadata and downloads",
  schemas = answers, errors = { schema = "Errors" },
}
_M.prefixes = { "/v0.5" }
_M.render_error = render.error

local MiB = 1048576
-- -1 asks for all files at once; with more than these they are to be asked for in shards.
local LIST_ALL = 100000

-- A missing upload or file in the service's words.
local function named(err, word)
  if err.code == "not_found" then err.word = word end
  return nil, err
end

local function upload_id(ctx)
  local id = ctx.params.upload_id
  if #id <= 64 and id:find("^[%w_%-]+$") then return id end
  return errors.fail("not_found", "there is no such upload", { word = "upload_not_found" })
end

-- The file that a path names: by its id, else by its name.
local function find_file(ctx)
  local text = ctx.params.file_id
  local file, err
  if text:find("^fil_[%w]+$") and #text <= 64 then
    file, err = ctx.broker:file(ctx.actor, text)
    if file and file.service ~= nil and file.service ~= "newton" then
      file, err = errors.fail("not_found", "there is no such file")
    end
    if not file and err.code ~= "not_found" then return nil, err end
  end
  if not file and #text <= 1024 and text ~= "" and not text:find("%c") and not json.bad_utf8(text) then
    file, err = ctx.broker:file_by_name(ctx.actor, { service = "newton", filename = text })
    if not file and err.code ~= "not_found" then return nil, err end
  end
  if file then return file end
  return errors.fail("not_found", "there is no such file", { word = "file_not_found" })
end

-- Parts as the broker has them; it strips the tokens' quotes and takes a part that is listed twice.
local function listed_parts(list)
  local parts = {}
  for i, part in ipairs(list or {}) do parts[i] = { number = part.part_number, token = part.part_token } end
  return parts
end

local handlers = {}

function handlers.initiate(ctx)
  local body = ctx.body
  local ok, err = tunnel.check_type(ctx.settings, body.file_type)
  if not ok then return nil, err end
  local upload, info = ctx.broker:initiate(ctx.actor, {
    service = "newton", filename = body.filename, content_type = body.file_type, size = body.num_bytes,
    resume = body.resume_if_started, provider = ctx.settings.bucket, signs_length = true,
    part_size = ctx.settings.part_size, max_size = ctx.settings.max_size, urls = render.part_shape,
  })
  if not upload then return nil, info end
  return responses.json_text(200, render.upload(upload, info))
end

function handlers.part_urls(ctx)
  local id, err = upload_id(ctx)
  if not id then return nil, err end
  local list
  list, err = ctx.broker:part_urls_text(ctx.actor, id, ctx.body.part_numbers, render.part_shape)
  if not list then return named(err, "upload_not_found") end
  return responses.json_text(200, '{"parts":' .. list .. "}")
end

function handlers.checkpoint(ctx)
  local id, err = upload_id(ctx)
  if not id then return nil, err end
  local count
  count, err = ctx.broker:checkpoint(ctx.actor, id, listed_parts(ctx.body.parts))
  if not count then return named(err, "upload_not_found") end
  return responses.json(200, { num_checkpointed = count })
end

function handlers.complete(ctx)
  local id, err = upload_id(ctx)
  if not id then return nil, err end
  local checksum = ctx.body.integrity_checksum
  local file
  file, err = ctx.broker:complete(ctx.actor, id, {
    parts = listed_parts(ctx.body.parts), crc32c = checksum and core.crc32c_from_base64(checksum) or nil,
  })
  if not file then return named(err, "upload_not_found") end
  return responses.json(200, render.completed(file))
end

function handlers.abort(ctx)
  local id, err = upload_id(ctx)
  if not id then return nil, err end
  local ok
  ok, err = ctx.broker:abort(ctx.actor, id)
  if not ok then return named(err, "upload_not_found") end
  return responses.json(200, {})
end

function handlers.info(ctx)
  local usage, err = ctx.broker:usage(ctx.actor, { service = "newton" })
  if not usage then return nil, err end
  return responses.json(200, {
    num_files = usage.files, num_bytes = usage.bytes, num_ingested = 0, last_updated = usage.updated_at or 0,
  })
end

function handlers.list(ctx)
  local shard, size = ctx.query.shard_index, ctx.query.max_items_per_shard
  local all = size == -1
  if all then size = LIST_ALL end
  local offset = (all or shard == -1) and 0 or shard * size
  local files, total = ctx.broker:files(ctx.actor,
    { service = "newton", offset = offset, limit = size, content_type = ctx.query.file_type })
  if not files then return nil, total end
  if all and total > LIST_ALL then
    return errors.fail("invalid", ("there are %d files, more than one answer holds; ask for them in shards "
      .. "(shard_index, max_items_per_shard)"):format(total), { field = "max_items_per_shard" })
  end
  local list = {}
  for i, file in ipairs(files) do list[i] = render.metadata(file, offset + i - 1) end
  return responses.json(200, json.array(list))
end

function handlers.metadata(ctx)
  local file, err = find_file(ctx)
  if not file then return nil, err end
  return responses.json(200, render.metadata(file))
end

function handlers.download(ctx)
  local file, err = find_file(ctx)
  if not file then return nil, err end
  local link
  link, err = ctx.broker:download(ctx.actor, file.id)
  if not link then
    if err.code == "state" then
      return errors.fail("invalid", "the file cannot be downloaded in its state: " .. render.file_status(file.state),
        { field = "file_id", reason = "state" })
    end
    return named(err, "file_not_found")
  end
  return responses.redirect(link.url)
end

function handlers.delete(ctx)
  local file, err = find_file(ctx)
  if not file then return nil, err end
  local ok
  ok, err = ctx.broker:delete_file(ctx.actor, file.id)
  if not ok then return named(err, "file_not_found") end
  return responses.json(200, render.reference(file))
end

local function form_handler(store)
  return function(ctx)
    local file, err = store(ctx)
    if not file then return nil, err end
    return responses.json(200, render.reference(file))
  end
end

-- Bytes of a file whose answer has few URLs, and of a request that may be looked at before it is read.
local SMALL, SHORT = 1024 * MiB, 4096

-- Whether a start's answer will be small, so that many of them fit into a thread and into one turn of a host's event
-- loop. What is said in any unusual way counts as large.
local function is_small(request)
  local text = request.body
  if not text or #text > SHORT or text:find("\\", 1, true) then return false end
  if select(2, text:gsub("num_bytes", "")) ~= 1 then return false end
  local digits = text:match('"num_bytes"%s*:%s*(%d+)%s*[,}]')
  return digits ~= nil and tonumber(digits) <= SMALL
end

--- The service's routes.
-- @tparam table settings `config.services.newton`
-- @treturn table list
function _M.routes(settings)
  local function json_route(path, name, answer, body)
    return { method = "POST", path = "/v0.5/files/uploads/" .. path, name = "newton." .. name, auth = "bearer",
      right = "upload", body = body or "json", max_body = 8 * MiB, schema = schema[name],
      answers = { [200] = answer }, handler = handlers[name] }
  end
  local function plain_route(method, path, name, right, answer, query)
    return { method = method, path = "/v0.5/files/" .. path, name = "newton." .. name, auth = "bearer",
      right = right, max_body = 8 * MiB, query = query,
      answers = answer and { [200] = answer } or { [302] = false }, handler = handlers[name] }
  end
  local function form_route(path, name, store)
    return { method = "POST", path = path, name = "newton." .. name, auth = "bearer", right = "upload",
      body = "form", tunnel = true, max_body = settings.form_max + MiB,
      answers = { [200] = "Reference" }, handler = form_handler(store) }
  end
  local urls = json_route("{upload_id}/parts/urls", "part_urls", "Parts")
  local initiate = json_route("initiate", "initiate", "Upload")
  urls.near, initiate.together = true, is_small
  return {
    initiate,
    urls,
    json_route("{upload_id}/parts/checkpoint", "checkpoint", "Checkpoint"),
    json_route("{upload_id}/complete", "complete", "Completed"),
    json_route("{upload_id}/abort", "abort", "Nothing", "optional_json"),
    plain_route("GET", "info", "info", "read", "Info"),
    plain_route("GET", "metadata", "list", "read", "MetadataList", schema.listing),
    plain_route("GET", "metadata/{file_id}", "metadata", "read", "Metadata"),
    plain_route("GET", "download/{file_id}", "download", "read"),
    plain_route("DELETE", "delete/{file_id}", "delete", "delete", "Reference"),
    form_route("/v0.5/files", "form", tunnel.store_form),
    form_route("/v0.5/files/base64", "base64", tunnel.store_base64),
  }
end

return _M

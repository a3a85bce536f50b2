--- The two doors of the newton service through which bytes pass the broker's
-- host: the form upload, and its base64 variant. The host has the body in a
-- file; the file's part of it goes to the store from there.
--
-- Room: service. Writes a temporary file for the base64 variant.
-- @module longshore.service.newton.tunnel
local core = require "longshore.core"
local errors = require "longshore.errors"
local form = require "longshore.http.form"
local requests = require "longshore.http.request"
local schema = require "longshore.service.newton.schema"
local validate = require "longshore.http.validate"

local _M = {}

local CHUNK = 49152

--- Whether a file of this type may be uploaded.
-- @tparam table settings `config.services.newton`
-- @tparam string file_type
-- @treturn boolean|nil
-- @treturn table err
function _M.check_type(settings, file_type)
  if settings.file_types then
    local plain, known = requests.media_type(file_type), false
    for _, word in ipairs(settings.file_types) do known = known or word:lower() == plain end
    if not known then
      return errors.fail("invalid", "file_type: this type is not accepted here", { field = "file_type",
        reason = "value", word = "invalid_file_type",
        suggestion = "Supported types: " .. table.concat(settings.file_types, ", ") })
    end
  end
  return true
end

-- The file's part of the form, its name and type checked.
local function chosen_part(ctx)
  local part = form.file_part(ctx.parts)
  if not part then
    return errors.fail("invalid", "file: the form has no part with a file", { field = "file", reason = "missing" })
  end
  local file_type = part.content_type or "application/octet-stream"
  local _, err = validate.check(schema.filename, part.filename, "filename")
  if err then return nil, err end
  _, err = validate.check(schema.file_type, file_type, "file_type")
  if err then return nil, err end
  local ok
  ok, err = _M.check_type(ctx.settings, file_type)
  if not ok then return nil, err end
  if part.length > ctx.settings.form_max then
    return errors.fail("too_large", ("file: at most %.0f bytes are allowed in a form; initiate a direct upload instead")
      :format(ctx.settings.form_max), { field = "file" })
  end
  return { filename = part.filename, content_type = file_type, offset = part.offset, length = part.length }
end

-- A temporary file, open for writing, in the folder where the host spools.
local function scratch(ctx)
  local folder = ctx.data .. "/spool"
  require("lfs").mkdir(folder)
  local path = ("%s/%s"):format(folder, requests.new_id("form_"))
  local f, why = io.open(path, "wb")
  if not f then return errors.fail("io", "cannot write a temporary file: " .. tostring(why)) end
  return f, path
end

-- Writes what `read` yields into a scratch file and hands that to the broker.
local function ingest_copy(ctx, part, read)
  local f, path = scratch(ctx)
  if not f then return nil, path end
  local total = 0
  local piece, err = read()
  while piece do
    total = total + #piece
    local ok, why = f:write(piece)
    if not ok then
      err = errors.new("io", "cannot write a temporary file: " .. tostring(why))
      break
    end
    piece, err = read()
  end
  local closed, why = f:close()
  if not closed and not err then err = errors.new("io", "cannot write a temporary file: " .. tostring(why)) end
  local file
  if not err then
    file, err = ctx.broker:ingest(ctx.actor, { service = "newton", filename = part.filename,
      content_type = part.content_type, provider = ctx.settings.bucket,
      file = { path = path, offset = 0, length = total } })
  end
  os.remove(path)
  return file, err
end

-- A function that yields a part's bytes, chunk by chunk, then nil.
local function reader(ctx, part)
  local left, at = part.length, part.offset
  local f, why
  if ctx.source.path then
    f, why = io.open(ctx.source.path, "rb")
    if not f then return errors.fail("io", "cannot open the spooled body: " .. tostring(why)) end
    f:seek("set", at)
  end
  return function()
    if left == 0 then
      if f then f:close() end
      return nil
    end
    local n = math.min(left, CHUNK)
    local piece = f and f:read(n) or ctx.source.text and ctx.source.text:sub(at + 1, at + n)
    if not piece then return errors.fail("io", "the spooled body is shorter than it was") end
    left, at = left - #piece, at + #piece
    return piece
  end
end

--- Stores the file of a form.
-- @tparam table ctx
-- @treturn table file
-- @treturn[2] nil
-- @treturn[2] table err
function _M.store_form(ctx)
  local part, err = chosen_part(ctx)
  if not part then return nil, err end
  if not ctx.source.path then
    local read
    read, err = reader(ctx, part)
    if not read then return nil, err end
    return ingest_copy(ctx, part, read)
  end
  return ctx.broker:ingest(ctx.actor, { service = "newton", filename = part.filename,
    content_type = part.content_type, provider = ctx.settings.bucket,
    file = { path = ctx.source.path, offset = part.offset, length = part.length } })
end

local function not_base64()
  return errors.fail("invalid", "file: its content is not valid base64", { field = "file", reason = "format" })
end

--- Stores the file of a form whose content is base64 (white space allowed).
-- @tparam table ctx
-- @treturn table file
-- @treturn[2] nil
-- @treturn[2] table err
function _M.store_base64(ctx)
  local part, err = chosen_part(ctx)
  if not part then return nil, err end
  local read
  read, err = reader(ctx, part)
  if not read then return nil, err end
  local pending, ended = "", false
  return ingest_copy(ctx, part, function()
    while not ended do
      local piece, why = read()
      if why then return nil, why end
      if not piece then
        ended = true
        if pending == "" then return nil end
        local rest = core.unbase64(pending)
        if not rest then return not_base64() end
        return rest
      end
      pending = pending .. piece:gsub("%s+", "")
      -- The last four characters wait, as only they may hold the padding.
      local whole = #pending - 4 - (#pending % 4)
      if whole > 0 then
        local bytes = core.unbase64(pending:sub(1, whole))
        if not bytes or #bytes ~= whole / 4 * 3 then return not_base64() end
        pending = pending:sub(whole + 1)
        return bytes
      end
    end
  end)
end

return _M

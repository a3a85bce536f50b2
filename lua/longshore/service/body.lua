--- Reads a request's body as its route wants it, into `ctx.body`:
--
--     body = "json"           an object is required
--     body = "optional_json"  the same, or nothing
--     body = "form"           multipart/form-data; `ctx.parts` of longshore.http.form, `ctx.source`
--     body = "raw"            any bytes; `ctx.source`: `{path=}` where the host spooled them, or
--                             `{text=}`, and `length`
--     body = nil              a body is ignored
--
-- and checks it against `route.schema`, the query against `route.query`.
--
-- Room: service.
-- @module longshore.service.body
local core = require "longshore.core"
local errors = require "longshore.errors"
local form = require "longshore.http.form"
local json = require "longshore.json"
local requests = require "longshore.http.request"
local validate = require "longshore.http.validate"

local _M = {}

--- The error for a body above the route's limit.
-- @tparam table route
-- @treturn table err
function _M.too_large(route)
  return errors.new("too_large", ("the body is larger than the %.0f bytes that are allowed here")
    :format(route.max_body), { field = "body", reason = "body" })
end

local function read_json(ctx, optional)
  local request = ctx.request
  local text = request.body or ""
  if request.body_file then return nil, _M.too_large(ctx.route) end
  if text == "" and optional then
    text = "{}"
  elseif text == "" then
    return errors.fail("invalid", "a JSON object is expected as body", { field = "body", reason = "missing" })
  else
    local kind = requests.media_type(request.headers["content-type"])
    if kind and kind ~= "application/json" and not kind:find("%+json$") then
      return errors.fail("unsupported", "the body must be application/json", { status = 415, field = "content-type" })
    end
  end
  local value, err = json.decode(text)
  if err then
    return errors.fail("invalid", "the body is not valid JSON: " .. err.message, { field = "body", reason = "json" })
  end
  ctx.body, err = validate.check(ctx.route.schema, value)
  if err then return nil, err end
  return true
end

local function read_form(ctx)
  local request = ctx.request
  local source = request.body_file and { path = request.body_file.path } or { text = request.body or "" }
  local parts, err = form.parse(source, request.headers["content-type"])
  if not parts then return nil, err end
  ctx.parts, ctx.source = parts, source
  return true
end

-- The host spools a tunnel's body; an empty one leaves no file.
local function read_raw(ctx)
  local spooled = ctx.request.body_file
  if not spooled then
    local text = ctx.request.body or ""
    ctx.source = { text = text, length = #text }
    return true
  end
  local stat, err = core.file_stat(spooled.path)
  if not stat then return nil, err end
  ctx.source = { path = spooled.path, length = stat.size }
  return true
end

--- Reads body and query of a request.
-- @tparam table ctx with `request` and `route`
-- @treturn boolean|nil
-- @treturn table err
function _M.read(ctx)
  local route, request = ctx.route, ctx.request
  local length = request.body and #request.body or request.body_file and request.body_file.length or 0
  if route.max_body and length > route.max_body then return nil, _M.too_large(route) end
  if route.query then
    local query, err = validate.check_strings(route.query, request.query)
    if not query then return nil, err end
    ctx.query = query
  end
  if route.body then
    local encoding = request.headers["content-encoding"]
    if encoding and encoding:lower() ~= "identity" then
      return errors.fail("unsupported", "an encoded body (Content-Encoding) is not accepted",
        { status = 415, field = "content-encoding" })
    end
  end
  if route.body == "json" then return read_json(ctx) end
  if route.body == "optional_json" then return read_json(ctx, true) end
  if route.body == "form" then return read_form(ctx) end
  if route.body == "raw" then return read_raw(ctx) end
  return true
end

return _M

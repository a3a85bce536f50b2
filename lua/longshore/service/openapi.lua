--- The OpenAPI 3.1 document of all mounted services, made of the same tables
-- that route and check requests: what a route takes is described nowhere else.
--
-- From a route: `method`, `path`, `name` (the operation's id), `auth`, `right`,
-- `body` and `schema`, `query`, `params` (rules of the path's parameters), `headers` (described only),
-- `answers` (status to the name of a schema, a rule, or false for no body),
-- `summary`. From a service's module, in its field `openapi`, all optional:
--
--     title                              -- of its tag
--     schemas = { Name = rule }          -- what `answers` name
--     errors = { content_type =, schema = "Name" }
--     security = { { scheme = "..." } }  -- names of `schemes` below; any one of them suffices
--     schemes = { name = {...} }         -- security schemes of its own
--
-- Rules are those of longshore.http.validate. Patterns of Lua and functions
-- cannot be said in JSON Schema: where a rule has them, `says` goes into the
-- description, and `format` stands as it is. `stands_for` is a default that the
-- service fills in by itself, knowing that the field was not there.
--
-- Room: service. No I/O.
-- @module longshore.service.openapi
local json = require "longshore.json"

local _M = {}

local BEARER = { type = "http", scheme = "bearer", description = "A token of `longshore token create`." }

local function sorted(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  return keys
end

local schema_of

local function object_of(rule)
  local properties, required = json.object {}, json.array {}
  for _, name in ipairs(sorted(rule.fields)) do
    local field = rule.fields[name]
    properties[name] = schema_of(field)
    if field.required then required[#required + 1] = name end
  end
  local schema = { properties = properties, required = #required > 0 and required or nil }
  if rule.unknown == "refuse" then schema.additionalProperties = false end
  return schema
end

local makers = {
  string = function(rule)
    return {
      minLength = rule.min_chars or (rule.min_bytes and rule.min_bytes > 0 and 1) or nil,
      maxLength = rule.max_chars or rule.max_bytes, -- a byte bound is one of characters, too
      enum = rule.enum and json.array { (table.unpack or unpack)(rule.enum) } or nil, -- luacheck: ignore
      format = rule.format,
    }
  end,
  integer = function(rule)
    return { minimum = rule.min, maximum = rule.max }
  end,
  boolean = function() return {} end,
  array = function(rule)
    return { items = schema_of(rule.items), minItems = rule.min_items, maxItems = rule.max_items }
  end,
  object = object_of,
  map = function(rule)
    return { additionalProperties = schema_of(rule.values), maxProperties = rule.max_pairs }
  end,
}
makers.number = makers.integer

local TYPES = { map = "object" }

--- The JSON Schema of a rule.
-- @tparam table rule
-- @treturn table
function schema_of(rule)
  if rule.type == "any" then return json.object { description = rule.says } end
  local schema = makers[rule.type](rule)
  local kind = TYPES[rule.type] or rule.type
  schema.type = rule.nullable and json.array { kind, "null" } or kind
  if rule.nullable and schema.enum then schema.enum[#schema.enum + 1] = json.null end
  schema.default = rule.default == nil and rule.stands_for or rule.default
  schema.description = rule.says
  return schema
end

_M.schema = schema_of

local function body_of(route)
  if route.body == "form" then
    return { required = true, content = { ["multipart/form-data"] = { schema = {
      type = "object", required = json.array { "file" },
      properties = { file = { type = "string", contentMediaType = "application/octet-stream" } },
    } } } }
  elseif route.body == "raw" then
    return { required = true, content = { ["application/octet-stream"] = { schema = json.object {} } } }
  elseif route.schema then
    return { required = route.body == "json" or nil, content = { ["application/json"] = {
      schema = schema_of(route.schema) } } }
  end
end

local function parameters_of(route)
  local list = json.array {}
  for name in route.path:gmatch("{([%w_]+)}") do
    local rule = route.params and route.params[name] or { type = "string" }
    list[#list + 1] = { name = name, ["in"] = "path", required = true, schema = schema_of(rule) }
  end
  for _, entry in ipairs { { "query", route.query }, { "header", route.headers } } do
    local place, rules = entry[1], entry[2]
    for _, name in ipairs(rules and sorted(rules.fields) or {}) do
      local rule = rules.fields[name]
      list[#list + 1] = { name = name, ["in"] = place, required = rule.required or nil, schema = schema_of(rule) }
    end
  end
  return #list > 0 and list or nil
end

local DESCRIPTIONS = { [200] = "Done", [201] = "Created", [202] = "Accepted", [204] = "Done",
  [302] = "Where the content is" }

-- Names of schemas are unique within a service; the document prefixes them.
local function reference(route, name)
  return { ["$ref"] = ("#/components/schemas/%s.%s"):format(route.service.name, name) }
end

local function responses_of(route)
  local about = route.service.openapi or {}
  local responses = {}
  for status, answer in pairs(route.answers or { [200] = { type = "any" } }) do
    local schema = type(answer) == "string" and reference(route, answer) or answer and schema_of(answer) or nil
    responses[("%d"):format(status)] = {
      description = DESCRIPTIONS[status] or "Answer",
      content = schema and { ["application/json"] = { schema = schema } } or nil,
      headers = status == 302 and { Location = { schema = { type = "string", format = "uri" } } } or nil,
    }
  end
  local errors = about.errors
  responses.default = {
    description = "What went wrong",
    content = { [errors and errors.content_type or "application/json"] = {
      schema = errors and errors.schema and reference(route, errors.schema) or json.object {},
    } },
  }
  return responses
end

local function security_of(route)
  if not route.auth then return json.array {} end
  local about = route.service.openapi or {}
  local list = json.array {}
  for _, entry in ipairs(about.security or { { scheme = "bearer" } }) do
    list[#list + 1] = { [entry.scheme] = json.array {} }
  end
  return list
end

local function operation_of(route)
  return {
    operationId = route.name:gsub("[^%w]", "_"), tags = json.array { route.service.name },
    summary = route.summary, parameters = parameters_of(route), requestBody = body_of(route),
    responses = responses_of(route), security = security_of(route),
    ["x-longshore-right"] = route.right,
  }
end

-- To OpenAPI, paths that differ in nothing but a parameter's name are the same.
local function check_path(known, path)
  local shape = path:gsub("{[%w_]+}", "{}")
  known[shape] = known[shape] or path
  assert(known[shape] == path, ("%s and %s: one path, two names for a parameter"):format(path, known[shape]))
end

--- Makes the document.
-- @tparam table routes list of longshore.service.registry
-- @tparam[opt] table info `version`, `url` (of the server)
-- @treturn table
function _M.document(routes, info)
  local paths, shapes, schemas, services = {}, {}, json.object {}, {}
  local schemes = { bearer = BEARER }
  for _, route in ipairs(routes) do
    local service = route.service
    if not services[service.name] then
      local about = service.openapi or {}
      services[service.name] = about
      for name, rule in pairs(about.schemas or {}) do
        schemas[("%s.%s"):format(service.name, name)] = schema_of(rule)
      end
      for name, scheme in pairs(about.schemes or {}) do schemes[name] = scheme end
    end
    check_path(shapes, route.path)
    paths[route.path] = paths[route.path] or {}
    paths[route.path][route.method:lower()] = operation_of(route)
  end
  local tags = json.array {}
  for _, name in ipairs(sorted(services)) do
    tags[#tags + 1] = { name = name, description = services[name].title }
  end
  return {
    openapi = "3.1.0",
    info = { title = "longshore", version = info and info.version or "scm",
      description = "Direct-to-cloud uploads. Bytes go to the URLs that these calls answer with." },
    servers = info and info.url and json.array { { url = info.url } } or nil,
    tags = tags, paths = paths, components = { schemas = schemas, securitySchemes = schemes },
  }
end

--- The route that answers with the document. It is public, as the document holds
-- nothing but what the software is.
-- @tparam table routes list of longshore.service.registry
-- @tparam[opt] table info see `document`
-- @treturn table route
function _M.route(routes, info)
  local text
  return {
    method = "GET", path = "/openapi.json", name = "openapi",
    service = { name = "longshore" }, settings = {},
    handler = function()
      text = text or json.encode(_M.document(routes, info))
      return { status = 200, headers = { ["content-type"] = "application/json",
        ["cache-control"] = "public, max-age=300" }, body = text }
    end,
  }
end

return _M

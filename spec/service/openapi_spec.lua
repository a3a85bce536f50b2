-- The OpenAPI document: valid by the specification's own schema, complete, and
-- true to what the routes do.
local config = require "longshore.config"
local json = require "longshore.json"
local openapi = require "longshore.service.openapi"
local registry = require "longshore.service.registry"
local service = require "longshore.service"
local support = require "spec.support"
local worlds = require "spec.support.broker"

local function document()
  local world = worlds.new()
  local settings = assert(config.check({ data = support.tmpdir() }))
  local app = assert(service.new(settings, { broker = world.broker, tokens = {} }))
  local response = app:handle { method = "GET", target = "/openapi.json" }
  assert.equal(200, response.status)
  assert.equal("application/json", response.headers["content-type"])
  return assert(json.decode(response.body)), response.body, registry.routes(settings.services)
end

local function walk(value, visit)
  if type(value) ~= "table" then return end
  visit(value)
  for _, inner in pairs(value) do walk(inner, visit) end
end

describe("the OpenAPI document", function()
  after_each(support.cleanup)

  it("is served to everybody, without a token", function()
    local doc = document()
    assert.equal("3.1.0", doc.openapi)
    assert.equal("string", type(doc.info.title))
    assert.matches("^http", doc.servers[1].url)
  end)

  it("has every route, with its parameters, body, answers and security", function()
    local doc, _, routes = document()
    assert.is_true(#routes > 20)
    for _, route in ipairs(routes) do
      local operation = assert(doc.paths[route.path] and doc.paths[route.path][route.method:lower()], route.name)
      local names = {}
      for _, parameter in ipairs(operation.parameters or {}) do names[parameter.name] = parameter end
      for name in route.path:gmatch("{([%w_]+)}") do
        assert.is_truthy(names[name] and names[name].required, route.name .. name)
      end
      for name in pairs(route.query and route.query.fields or {}) do assert.equal("query", names[name]["in"]) end
      assert.equal(route.body ~= nil, operation.requestBody ~= nil, route.name)
      assert.is_truthy(operation.responses.default)
      for status, answer in pairs(operation.responses) do
        local content = answer.content and answer.content["application/json"]
        assert.is_truthy(not content or next(content.schema), route.name .. " " .. status .. " says nothing")
      end
      assert.equal(route.auth ~= nil, #operation.security > 0)
    end
  end)

  it("names every operation once, and points at nothing that is not there", function()
    local doc = document()
    local seen = {}
    for _, methods in pairs(doc.paths) do
      for _, operation in pairs(methods) do
        assert.is_nil(seen[operation.operationId])
        seen[operation.operationId] = true
        for _, requirement in ipairs(operation.security) do
          for name in pairs(requirement) do assert.is_truthy(doc.components.securitySchemes[name], name) end
        end
      end
    end
    walk(doc, function(node)
      local target = node["$ref"]
      if target then
        assert.is_truthy(doc.components.schemas[target:match("^#/components/schemas/(.+)$")], target)
      end
    end)
  end)

  it("says of a field what its check says", function()
    local doc = document()
    local post = doc.paths["/api/ingest/upload/presigned"].post
    local schema = post.requestBody.content["application/json"].schema
    assert.same({ "file_size", "filename" }, schema.required)
    assert.same({ type = "integer", minimum = 1 }, schema.properties.file_size)
    assert.equal(255, schema.properties.filename.maxLength)
    assert.equal("application/octet-stream", schema.properties.content_type.default)
    assert.equal("#/components/schemas/geolens.PresignedUploadResponse",
      post.responses["201"].content["application/json"].schema["$ref"])
    assert.equal("#/components/schemas/geolens.ProblemDetail",
      post.responses.default.content["application/problem+json"].schema["$ref"])
    assert.equal(3, #post.security)
  end)

  it("describes headers that a service reads by itself", function()
    local doc = document()
    local found = {}
    for _, parameter in ipairs(doc.paths["/storage/files/upload-url"].post.parameters) do
      found[parameter.name] = parameter
    end
    assert.same({ "header", true }, { found["X-Athena-Client"]["in"], found["X-Athena-Client"].required })
    assert.equal("header", found["X-Athena-Key"]["in"])
  end)

  it("turns every kind of rule into JSON Schema", function()
    local function is(expected, rule)
      assert.same(json.decode(expected), json.decode(json.encode(openapi.schema(rule))))
    end
    is('{"type":"string","minLength":1,"maxLength":9}', { type = "string", min_bytes = 2, max_bytes = 9 })
    is('{"type":["string","null"],"enum":["a","b",null]}', { type = "string", enum = { "a", "b" }, nullable = true })
    is('{"type":"integer","minimum":1,"maximum":2,"default":1}', { type = "integer", min = 1, max = 2, default = 1 })
    is('{"type":"number"}', { type = "number" })
    is('{"type":"boolean","default":false}', { type = "boolean", default = false })
    is("{}", { type = "any" })
    is('{"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":3}',
      { type = "array", items = { type = "boolean" }, min_items = 1, max_items = 3 })
    is('{"type":"object","additionalProperties":{"type":"string"},"maxProperties":4}',
      { type = "map", values = { type = "string" }, max_pairs = 4 })
    is('{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}',
      { type = "object", unknown = "refuse", fields = { a = { type = "string", required = true } } })
    is('{"type":"object","properties":{}}', { type = "object", fields = {} })
  end)

  it("is valid by the schema of OpenAPI 3.1", function()
    local _, text = document()
    local path = support.write_file(support.tmpdir() .. "/openapi.json", text)
    local code, folder = support.run(support.root
      .. "/spec/tools/npm.sh openapi @seriousme/openapi-schema-validator@2.11.0")
    assert.equal(0, code, folder)
    local bin = folder:match("([^\n]+)%s*$") .. "/node_modules/.bin/validate-api"
    local failed, out = support.run(support.quote(bin) .. " " .. support.quote(path))
    assert.equal(0, failed, out)
    -- and the validator would have noticed
    support.write_file(path, (text:gsub('"in":"path"', '"in":"nowhere"')))
    assert.are_not.equal(0, (support.run(support.quote(bin) .. " " .. support.quote(path))))
  end)
end)

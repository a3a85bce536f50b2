--- Documents that a bucket needs beside its objects: who may upload from a
-- browser (CORS) and what happens to abandoned parts (lifecycle).
--
-- Each as XML (what the S3 API takes) and as JSON (what `aws s3api`, consoles and
-- Terraform take).
--
-- Room: provider, no I/O.
-- @module longshore.provider.documents
local errors = require "longshore.errors"
local json = require "longshore.json"
local xml = require "longshore.provider.xml"

local _M = {}

local NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

local function invalid(field, why)
  return errors.fail("invalid", ("%s: %s"):format(field, why), { field = field })
end

local methods = { GET = true, PUT = true, POST = true, DELETE = true, HEAD = true }

local function strings(field, list, check)
  if type(list) ~= "table" or #list == 0 then return invalid(field, "a list of strings expected") end
  for _, value in ipairs(list) do
    if type(value) ~= "string" or value == "" or not xml.representable(value) then
      return invalid(field, "a list of strings expected")
    end
    local why = check and check(value)
    if why then return invalid(field, why) end
  end
  return list
end

local function check_origin(value)
  if value == "*" or value:match("^https?://[%w%.%-%[%]:*]+$") then
    local _, stars = value:gsub("%*", "")
    if stars <= 1 then return nil end
  end
  return ("%q is no origin: scheme://host[:port] without a path, at most one *"):format(value)
end

--- Makes the CORS rules for direct uploads: PUT (and GET, HEAD) from the origins,
-- with the ETag and the checksums readable by the page.
-- @tparam table o `origins` (list; required), `methods` (default GET, HEAD, PUT;
--   add POST for form uploads), `headers` (that pages may send, default `*`),
--   `expose` (default ETag, checksums, request id), `max_age` (seconds, default 3600)
-- @treturn[1] table `{xml=, json=, rules=}`
-- @treturn[2] nil
-- @treturn[2] table err code `invalid`
function _M.cors(o)
  local origins, err = strings("origins", o.origins, check_origin)
  if not origins then return nil, err end
  local verbs
  verbs, err = strings("methods", o.methods or { "GET", "HEAD", "PUT" }, function(value)
    return not methods[value] and ("%q is none of GET, HEAD, PUT, POST, DELETE"):format(value) or nil
  end)
  if not verbs then return nil, err end
  local headers
  headers, err = strings("headers", o.headers or { "*" })
  if not headers then return nil, err end
  local expose
  expose, err = strings("expose", o.expose or { "ETag", "Content-Range", "x-amz-checksum-crc32c", "x-amz-request-id" })
  if not expose then return nil, err end
  local max_age = o.max_age or 3600
  if type(max_age) ~= "number" or max_age < 0 or max_age ~= math.floor(max_age) or max_age > 86400 * 365 then
    return invalid("max_age", "whole seconds expected")
  end
  local rule = {}
  for _, group in ipairs { { "AllowedOrigin", origins }, { "AllowedMethod", verbs }, { "AllowedHeader", headers },
    { "ExposeHeader", expose } } do
    for _, value in ipairs(group[2]) do rule[#rule + 1] = { group[1], value } end
  end
  rule[#rule + 1] = { "MaxAgeSeconds", max_age }
  local rules = { {
    AllowedOrigins = json.array(origins), AllowedMethods = json.array(verbs), AllowedHeaders = json.array(headers),
    ExposeHeaders = json.array(expose), MaxAgeSeconds = max_age,
  } }
  return {
    xml = xml.document("CORSConfiguration", { { "CORSRule", rule } }, NAMESPACE),
    json = json.encode({ CORSRules = json.array(rules) }, { indent = "  " }) .. "\n",
    rules = rules,
  }
end

--- Makes the lifecycle rule that removes abandoned multipart uploads, and, where
-- wanted, objects under a prefix after some days (a trash folder).
-- @tparam[opt] table o `prefix` (default: all), `abort_days` (7), `trash_prefix`,
--   `trash_days`, `id`
-- @treturn[1] table `{xml=, json=, rules=}`
-- @treturn[2] nil
-- @treturn[2] table err code `invalid`
function _M.lifecycle(o)
  o = o or {}
  local function days(field, value)
    if type(value) ~= "number" or value ~= math.floor(value) or value < 1 or value > 36500 then
      return invalid(field, "1 to 36500 whole days expected")
    end
    return value
  end
  local function text(field, value, limit)
    if type(value) ~= "string" or #value > limit or not xml.representable(value) then
      return invalid(field, ("a text of at most %d bytes expected"):format(limit))
    end
    return value
  end
  local abort_days, err = days("abort_days", o.abort_days or 7)
  if not abort_days then return nil, err end
  local prefix
  prefix, err = text("prefix", o.prefix or "", 1024)
  if not prefix then return nil, err end
  local id
  id, err = text("id", o.id or "longshore", 200)
  if not id then return nil, err end
  local nodes = { { "Rule", {
    { "ID", id .. "-abandoned-uploads" }, { "Filter", { { "Prefix", prefix } } }, { "Status", "Enabled" },
    { "AbortIncompleteMultipartUpload", { { "DaysAfterInitiation", abort_days } } },
  } } }
  local rules = { {
    ID = id .. "-abandoned-uploads", Filter = { Prefix = prefix }, Status = "Enabled",
    AbortIncompleteMultipartUpload = { DaysAfterInitiation = abort_days },
  } }
  if o.trash_prefix ~= nil or o.trash_days ~= nil then
    local trash
    trash, err = text("trash_prefix", o.trash_prefix, 1024)
    if not trash then return nil, err end
    -- Without a prefix, the rule would empty the bucket.
    if trash == "" then return invalid("trash_prefix", "it would be the whole bucket") end
    local trash_days
    trash_days, err = days("trash_days", o.trash_days)
    if not trash_days then return nil, err end
    nodes[2] = { "Rule", { { "ID", id .. "-trash" }, { "Filter", { { "Prefix", trash } } }, { "Status", "Enabled" },
      { "Expiration", { { "Days", trash_days } } } } }
    rules[2] = { ID = id .. "-trash", Filter = { Prefix = trash }, Status = "Enabled",
      Expiration = { Days = trash_days } }
  end
  return {
    xml = xml.document("LifecycleConfiguration", nodes, NAMESPACE),
    json = json.encode({ Rules = json.array(rules) }, { indent = "  " }) .. "\n",
    rules = rules,
  }
end

return _M

--- Rules of how content is kept, and of what is known about it.
--
-- Room: policy, no I/O. Runs inside the sandbox too.
-- @module longshore.policy.rules.storage
local util = require "longshore.policy.rules.util"

local _M = {}

local function with_headers(context, new)
  local headers = util.copy(context.headers)
  for name, value in pairs(new) do headers[name] = value end
  return { headers = headers }
end

--- Storage class by size and type: the first entry that fits.
-- @tparam {table,...} list each `class`, and perhaps `larger_than`, `smaller_than` (bytes), `type` (`video/*`)
function _M.storage_class(list)
  if type(list) ~= "table" or not list[1] then error("rules.storage_class: a list expected", 2) end
  for _, entry in ipairs(list) do
    util.options("storage_class", entry, { class = "string", larger_than = "whole", smaller_than = "whole",
      type = "string" })
    if not util.is_header(entry.class) then error("rules.storage_class: class: a name such as GLACIER expected", 2) end
    if entry.type and not util.is_type(entry.type) then
      error(("rules.storage_class: type: %q is no type such as image/png"):format(entry.type), 2)
    end
  end
  return {
    about = "storage class: " .. list[1].class .. (list[2] and " and others" or ""),
    before_initiate = function(context)
      local content_type, size = util.bare_type(context.content_type), context.size or 0
      for _, entry in ipairs(list) do
        if size > (entry.larger_than or -1) and size < (entry.smaller_than or math.huge)
          and (not entry.type or util.fits_type(content_type, entry.type)) then
          return with_headers(context, { ["x-amz-storage-class"] = entry.class })
        end
      end
    end,
  }
end

--- Encryption at the store.
-- @tparam table options `algorithm` (AES256 or aws:kms), `key` (of KMS), `keys`: tenant or organization to key
function _M.encryption(options)
  util.options("encryption", options, { algorithm = util.set { "AES256", "aws:kms", "aws:kms:dsse" }, key = "string",
    keys = "table" })
  local algorithm = options.algorithm or ((options.key or options.keys) and "aws:kms" or "AES256")
  if algorithm == "AES256" and (options.key or options.keys) then
    error("rules.encryption: AES256 has no keys of one's own", 2)
  end
  for name, key in pairs(options.keys or { key = options.key }) do
    if not util.is_header(key) then
      error(("rules.encryption: %s: the name of a key expected"):format(tostring(name)), 2)
    end
  end
  return {
    about = "encrypted at the store: " .. algorithm,
    before_initiate = function(context)
      local keys = options.keys or {}
      local key = keys[context.actor.organization] or keys[context.actor.tenant] or options.key
      if options.keys and not key then
        return false, { code = "forbidden", message = "there is no encryption key for this organization" }
      end
      return with_headers(context, { ["x-amz-server-side-encryption"] = algorithm,
        ["x-amz-server-side-encryption-aws-kms-key-id"] = key })
    end,
  }
end

--- Locks the object at a store that has object lock.
-- @tparam table options `mode` (COMPLIANCE or GOVERNANCE), `days`
function _M.lock(options)
  util.options("lock", options, { mode = util.set { "COMPLIANCE", "GOVERNANCE" }, days = "whole" })
  local mode, days = options.mode or "COMPLIANCE", options.days or 0
  if days < 1 or days > 36500 then error("rules.lock: days: how many the object is locked, 1 to 36500", 2) end
  return {
    about = ("locked at the store for %.0f days (%s)"):format(days, mode),
    before_initiate = function(context, host)
      local at = util.calendar(host.now() + days * 86400)
      return with_headers(context, { ["x-amz-object-lock-mode"] = mode,
        ["x-amz-object-lock-retain-until-date"] = ("%04d-%02d-%02dT%02d:%02d:00Z"):format(at.year, at.month, at.day,
          math.floor(at.minute / 60), at.minute % 60) })
    end,
  }
end

local ACTOR = util.set { "user", "organization", "tenant" }
local NOT_IN_TAGS = "[^%w _%.:/=%+%-@]"

--- Tags of the object.
-- @tparam table options `set`: fixed tags; `metadata`: fields of the metadata to take along; `actor`: fields of
-- the actor (user, organization, tenant); what a tag may not have becomes `_` there, and is refused in metadata
function _M.tags(options)
  util.options("tags", options, { set = "table", metadata = "list", actor = "list" }, "set, metadata or actor")
  for _, name in ipairs(options.actor or {}) do
    if not ACTOR[name] then error("rules.tags: actor: user, organization or tenant expected", 2) end
  end
  local names, count = {}, 0
  for name, value in pairs(options.set or {}) do
    if type(name) ~= "string" or type(value) ~= "string" or (name .. value):find(NOT_IN_TAGS) or #value > 256 then
      error("rules.tags: set: letters, digits, spaces and _ . : / = + - @ expected, as texts", 2)
    end
    names[name] = true
  end
  for _, list in ipairs { options.metadata or {}, options.actor or {} } do
    for _, name in ipairs(list) do names[name] = true end
  end
  for name in pairs(names) do
    count = count + 1
    if name == "" or #name > 128 or name:find(NOT_IN_TAGS) then
      error(("rules.tags: %q cannot be the name of a tag"):format(name), 2)
    end
  end
  if count > 10 then error("rules.tags: an object has at most 10 tags", 2) end
  return {
    about = "tagged",
    before_initiate = function(context)
      local tags = util.copy(context.tags)
      for name, value in pairs(options.set or {}) do tags[name] = value end
      for _, name in ipairs(options.actor or {}) do
        tags[name] = context.actor[name]:sub(1, 256):gsub(NOT_IN_TAGS, "_")
      end
      for _, name in ipairs(options.metadata or {}) do
        local value = type(context.metadata) == "table" and context.metadata[name]
        if type(value) == "string" or type(value) == "number" then
          value = tostring(value)
          if #value > 256 or value:find(NOT_IN_TAGS) then
            return false, { code = "invalid", field = "metadata." .. name,
              message = ("metadata.%s: letters, digits, spaces and _ . : / = + - @ expected"):format(name) }
          end
          tags[name] = value
        end
      end
      return { tags = tags }
    end,
  }
end

local function check_field(name, value, wanted)
  local kind = wanted.type or "string"
  if kind == "integer" then
    if type(value) ~= "number" or value % 1 ~= 0 then return "a whole number" end
  elseif type(value) ~= kind then
    return "a " .. kind
  end
  if kind == "string" then
    if wanted.min and #value < wanted.min then return ("at least %.0f bytes"):format(wanted.min) end
    if wanted.max and #value > wanted.max then return ("at most %.0f bytes"):format(wanted.max) end
    if wanted.pattern and not value:find(wanted.pattern) then return "the form " .. wanted.pattern end
  elseif kind == "number" or kind == "integer" then
    if wanted.min and value < wanted.min then return ("at least %.14g"):format(wanted.min) end
    if wanted.max and value > wanted.max then return ("at most %.14g"):format(wanted.max) end
  end
  if wanted.one_of and not util.set(wanted.one_of)[value] then
    return "one of " .. table.concat(wanted.one_of, ", ")
  end
  return nil, name
end

local FIELD = { type = util.set { "string", "number", "integer", "boolean", "table" }, required = "boolean",
  max = "number", min = "number", pattern = "string", one_of = "table" }

--- A schema for the metadata of uploads.
-- @tparam table options `fields`: name to `{type=string|number|integer|boolean|table, required=, max=, min=
-- (of the number, or of the text's bytes), pattern=, one_of=}`; `other`: whether further fields are allowed (true).
-- What is required is missing where the API has no metadata (newton, geolens)
function _M.metadata(options)
  util.options("metadata", options, { fields = "table", other = "boolean" }, "fields")
  local names = {}
  for name, field in pairs(options.fields or {}) do
    if type(name) ~= "string" then error("rules.metadata: fields: a table of fields by name expected", 2) end
    util.options("metadata: " .. name, field, FIELD)
    if field.pattern and not pcall(string.find, "", field.pattern) then
      error(("rules.metadata: %s: %q is no pattern"):format(name, field.pattern), 2)
    elseif field.pattern and (field.type or "string") ~= "string" then
      error(("rules.metadata: %s: pattern: of texts only"):format(name), 2)
    elseif field.min and field.max and field.min > field.max then
      error(("rules.metadata: %s: min is more than max"):format(name), 2)
    elseif field.one_of and field.one_of[1] == nil then
      error(("rules.metadata: %s: one_of: a list expected"):format(name), 2)
    end
    names[#names + 1] = name
  end
  table.sort(names)
  local function bad(name, why)
    return false, { code = "invalid", field = "metadata." .. name, message = ("metadata.%s: %s"):format(name, why) }
  end
  return {
    about = "metadata: " .. table.concat(names, ", ") .. (options.other == false and ", nothing else" or ""),
    before_initiate = function(context)
      if context.resume then return true end
      local metadata = type(context.metadata) == "table" and context.metadata or {}
      for _, name in ipairs(names) do
        local wanted, value = options.fields[name], metadata[name]
        if value == nil then
          if wanted.required then return bad(name, "is required") end
        else
          local expected = check_field(name, value, wanted)
          if expected then return bad(name, expected .. " expected") end
        end
      end
      if options.other == false then
        for name in pairs(metadata) do
          if not options.fields[name] then return bad(tostring(name), "is not known here") end
        end
      end
    end,
  }
end

return _M

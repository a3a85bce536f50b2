--- Rules of where content goes, and of what is there already.
--
-- Room: policy, no I/O. Runs inside the sandbox too.
-- @module longshore.policy.rules.keys
local util = require "longshore.policy.rules.util"

local _M = {}

local FIELDS = util.set { "service", "tenant", "organization", "user", "file_id", "upload_id", "year", "month", "day",
  "extension" }

--- A template of object keys, such as `{organization}/{year}/{month}/{file_id}.{extension}`.
-- Names become safe words (see longshore.policy.keys), so nobody reaches out of their place. Where the client names
-- the key (athena) it stands.
-- @tparam string template has {file_id} or {upload_id}; further {service} {tenant} {organization} {user}
-- {year} {month} {day} {extension} (letters and digits, else "bin")
function _M.key(template)
  if type(template) ~= "string" then error("rules.key: a template expected", 2) end
  local own = false
  for field in template:gmatch("{([^}]*)}") do
    if not FIELDS[field] then error(("rules.key: there is no field {%s}"):format(field), 2) end
    own = own or field == "file_id" or field == "upload_id"
  end
  for segment in (template:gsub("{[^}]*}", "x") .. "/"):gmatch("([^/]*)/") do
    if segment == "" or segment == "." or segment == ".." or segment:find("[^%w%._~%-]") then
      error("rules.key: letters, digits, . _ ~ - and single / expected, and no . or .. between them", 2)
    end
  end
  if #template:gsub("{[^}]*}", ("x"):rep(64)) > 1024 then error("rules.key: the template is too long", 2) end
  if not own then error("rules.key: {file_id} or {upload_id} must be in it, or uploads would share a key", 2) end
  return {
    about = "keys: " .. template,
    before_initiate = function(context, host)
      if context.client_key then return true end
      local at = util.calendar(host.now())
      local extension = util.extension(context.filename):match("^%w+$")
      local values = {
        file_id = context.file_id, upload_id = context.upload_id, year = ("%04d"):format(at.year),
        month = ("%02d"):format(at.month), day = ("%02d"):format(at.day),
        extension = extension and #extension <= 16 and extension or "bin", service = context.service,
      }
      for _, name in ipairs { "tenant", "organization", "user" } do
        if template:find("{" .. name .. "}", 1, true) then values[name] = host.word(context.actor[name]) end
      end
      return { key = (template:gsub("{([^}]*)}", values)) }
    end,
  }
end

--- Puts each value of a field into a bucket of its own.
-- @tparam table options `by`: tenant (default), organization, user or service; `buckets`: value to the name of
-- a bucket in the configuration; `otherwise`: the bucket of all others (without it they are refused). Where the
-- client names the bucket (athena) it stands, and only who has none here is refused
function _M.bucket(options)
  util.options("bucket", options, { by = util.set { "tenant", "organization", "user", "service" }, buckets = "table",
    otherwise = "string" })
  local by = options.by or "tenant"
  if not options.buckets then error("rules.bucket: buckets is missing", 2) end
  for value, name in pairs(options.buckets) do
    if type(value) ~= "string" or type(name) ~= "string" then
      error(("rules.bucket: buckets: the name of a bucket for each %s expected"):format(by), 2)
    end
  end
  return {
    about = ("the bucket follows the %s"):format(by),
    before_initiate = function(context)
      local value = by == "service" and context.service or context.actor[by]
      local bucket = options.buckets[value] or options.otherwise
      if bucket then return not context.client_key and { provider = bucket } or true end
      return false, { code = "forbidden", message = ("this %s has no bucket here"):format(by) }
    end,
  }
end

local ABOUT = {
  replace = "a new file replaces one of the same name", keep = "a finished file is kept: its name is taken",
  ["new-key"] = "files of the same name stay side by side",
  ["if-match"] = "a file is replaced by who names its ETag (metadata if_match)",
}

--- What a finished file of the same name means (of the same key, external id or dataset: see
-- longshore.policy.contract).
-- @tparam string mode `replace`; `keep` (the new one is refused); `new-key` (both stay); `if-match` (replaced when
-- the request's metadata has `if_match`, the ETag of the one that is there; a new name needs none)
function _M.overwrite(mode)
  if not ABOUT[mode] then error("rules.overwrite: replace, keep, new-key or if-match expected", 2) end
  local rule = { about = ABOUT[mode] }
  local if_exists = ({ replace = "replace", keep = "refuse", ["new-key"] = "keep" })[mode]
  if if_exists then
    function rule.before_initiate() return { if_exists = if_exists } end
    return rule
  end
  function rule.before_initiate(context, host)
    local current, err = host.find { service = context.service, filename = context.filename }
    if not current then
      if err and err.code ~= "not_found" then error(err.message, 0) end
      return { if_exists = "refuse" }
    end
    local wanted = type(context.metadata) == "table" and context.metadata.if_match
    if not wanted or (tostring(wanted):gsub('"', "")) ~= current.etag then
      return false, { code = "conflict", status = 412, field = "metadata.if_match",
        message = "the file has changed, or if_match does not name its ETag" }
    end
    return { if_exists = "replace", replaces = current.id }
  end
  return rule
end

return _M

--- What the public functions take, by name and type.
--
-- A misspelt option would be one that was not given, and a wrong type would
-- fail deep below, or not at all. These functions raise, with a message that
-- begins with the name of the call and names the option.
--
-- Room: shared ground, no I/O.
-- @module longshore.options
local _M = {}

local function kinds(lists)
  local known = {}
  for kind, names in pairs(lists) do
    for name in names:gmatch "[%l_]+" do known[name] = kind end
  end
  return known
end

local function joined(...)
  local all = {}
  for _, known in ipairs { ... } do
    for name, kind in pairs(known) do all[name] = kind end
  end
  return all
end

local BUCKET = kinds {
  string = [[bucket prefix name account endpoint public_endpoint region access_key secret_key session_token
    metadata_rule]],
  boolean = "path_style learn_clock", number = "timeout attempts patience", table = "clock",
  ["function"] = "credentials random transport", ["string or table"] = "profile",
}
local REQUEST = kinds { string = "method url key", number = "expires length", table = "headers query" }

-- Of every transfer, of a direction, and of what is at the other end.
local TRANSFER = kinds {
  string = "path service", number = "parallel attempts", ["function"] = "interrupted on_event",
  ["table or userdata"] = "engine",
}
local UPLOAD = kinds {
  string = "to name content_type", table = "metadata", boolean = "restart recheck", ["boolean or string"] = "journal",
}
local DOWNLOAD = kinds { string = "from id", boolean = "overwrite", ["function"] = "on_progress" }
local PLACES = {
  newton = kinds { string = "token" },
  geolens = kinds { string = "token dataset title summary visibility layer", number = "srid" },
  athena = kinds {
    string = "token client key catalog bucket prefix visibility", number = "part_size threshold",
  },
  cognite = kinds {
    string = "token external_id directory", boolean = "overwrite", number = "part_size threshold",
  },
  bucket = kinds {
    string = "endpoint region access_key secret_key session_token", boolean = "path_style no_clobber",
    number = "part_size threshold expires", ["function"] = "credentials", ["string or table"] = "profile",
  },
}

-- Without a place: the public function knows where it was called.
local function stop(call, message, ...)
  error(("%s: " .. message):format(call, ...), 0)
end

local function check(call, options, known)
  for name, value in pairs(options) do
    local kind = known[name]
    if not kind then stop(call, "there is no option %q", tostring(name)) end
    if not (" or " .. kind .. " or "):find(" or " .. type(value) .. " or ", 1, true) then
      stop(call, "%s: %s expected, got %s", name, kind, type(value))
    end
  end
end

local function need(call, options, name, what)
  if options[name] == nil then stop(call, "%s: %s expected", name, what) end
end

local function need_table(call, options)
  if type(options) ~= "table" then stop(call, "a table of options expected, got %s", type(options)) end
end

--- Checks the options of `longshore.bucket`.
-- @param options
function _M.bucket(options)
  need_table("bucket", options)
  check("bucket", options, BUCKET)
  need("bucket", options, "bucket", "its name")
end

--- Checks the options of `longshore.presign`.
-- @param options
-- @treturn table those of the bucket
-- @treturn string the key
function _M.presign(options)
  need_table("presign", options)
  check("presign", options, joined(BUCKET, REQUEST))
  local bucket, key = options.bucket, options.key
  if options.url then
    if bucket or key then stop("presign", "url, or bucket and key: one of them") end
    bucket, key = options.url:match("^[sS]3://([^/]+)/(.+)$")
    if not key then stop("presign", "url: s3://bucket/key expected, got %q", options.url) end
  else
    need("presign", options, "bucket", "one, with its key, or url = \"s3://bucket/key\"")
    need("presign", options, "key", "the object's")
  end
  for _, field in ipairs { "headers", "query" } do
    for name in pairs(options[field] or {}) do
      if type(name) ~= "string" then stop("presign", "%s: names are expected, got %s", field, type(name)) end
    end
  end
  local settings = {}
  for name, value in pairs(options) do
    if BUCKET[name] then settings[name] = value end
  end
  settings.bucket = bucket
  return settings, key
end

-- Who takes an option: "athena, cognite".
local function takers(name)
  local names = {}
  for place, known in pairs(PLACES) do
    if known[name] then names[#names + 1] = place end
  end
  table.sort(names)
  return table.concat(names, ", ")
end

-- The options of a transfer: checked for what they go to, and parted.
local function transfer(call, options, direction, place)
  need_table(call, options)
  local where, service = options[place], options.service
  if where ~= nil and type(where) ~= "string" then stop(call, "%s: string expected, got %s", place, type(where)) end
  need(call, options, place, "the URL of a broker or s3://bucket/prefix")
  local bucket = where:find "^[sS]3://" ~= nil
  if service ~= nil and (bucket or service == "bucket" or not PLACES[service]) then
    stop(call, "service: newton, geolens, cognite or athena expected, of a broker")
  end
  service = bucket and "bucket" or service or "newton"
  local known = joined(PLACES[service], TRANSFER, direction)
  for name in pairs(options) do
    local others = known[name] == nil and takers(name) or ""
    if others ~= "" then stop(call, "%s: for %s, and here it is %s", name, others, service) end
  end
  check(call, options, known)
  local settings = { url = where, attempts = options.attempts }
  for name, value in pairs(options) do
    if PLACES[service][name] then settings[name] = value end
  end
  return bucket and "longshore.uploader.s3" or ("longshore.service.%s.client"):format(service), settings
end

--- Checks the options of `longshore.upload`.
-- @param options
-- @treturn string the module of the driver
-- @treturn table its options
function _M.upload(options)
  local driver, settings = transfer("upload", options, UPLOAD, "to")
  need("upload", options, "path", "the file to send")
  return driver, settings
end

--- Checks the options of `longshore.download`.
-- @param options
-- @treturn string the module of the driver
-- @treturn table its options
function _M.download(options)
  local driver, settings = transfer("download", options, DOWNLOAD, "from")
  need("download", options, "id", "the file's id, or its key")
  return driver, settings
end

return _M

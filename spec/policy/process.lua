-- One process of several in store_spec: starts uploads under a quota, or takes from a
-- rate, as often as told, and prints how often it was allowed. Arguments: a Lua file
-- that returns the settings, and a name that is its own.
local settings = dofile(arg[1])
local core = require "longshore.core"

local store = assert(require("longshore.store").open(settings.store))
while core.now() < settings.start_at do core.sleep(0.001) end

local count = 0
for i = 1, settings.times do
  local ok, err
  if settings.quotas then
    local id = ("%s_%d"):format(arg[2], i)
    local upload = { id = "upl_" .. id, file_id = "fil_" .. id, tenant = "default", organization = "acme",
      user = "ann", service = "newton", provider = "default", key = id,
      filename = id, content_type = "a/b", size = 10, part_size = 10,
      part_count = 1, integrity = "none", signs_length = true, requires_tokens = true, if_exists = "keep",
      state = "starting", deadline = 2e9, lease = 0, created_at = 1e9, updated_at = 1e9 }
    local file = { id = upload.file_id, tenant = "default", organization = "acme", user = "ann", service = "newton",
      filename = id, size = 10, state = "uploading", created_at = 1e9, updated_at = 1e9 }
    ok, err = store:create_upload(upload, file, nil, settings.quotas)
    if not ok and err.code ~= "quota" then error(tostring(err)) end
  else
    ok, err = store:take_rate("r", { limit = settings.limit, seconds = 1000, now = 1e9 })
    if not ok then error(tostring(err)) end
    ok = ok == 0
  end
  if ok then count = count + 1 end
end
io.write(count, "\n")
store:close()

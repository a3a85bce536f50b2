-- One process of several in serve_spec: the first changes a policy file again and again, for the
-- better and for the worse; the others start uploads meanwhile and print how many. An answer other than
-- an upload as one of the versions wants it is an error. Arguments: a Lua file that returns the
-- settings, and its number.
local settings, number = dofile(arg[1]), tonumber(arg[2])
local core = require "longshore.core"
local http = require "spec.support.http"
local json = require "longshore.json"
local support = require "spec.support"

while core.now() < settings.start_at do core.sleep(0.001) end

if number == 1 then
  local version = 0
  while core.now() < settings.start_at + settings.seconds - 1 do
    version = version + 1
    support.write_file(settings.path .. ".new", settings.template:format(version))
    assert(os.rename(settings.path .. ".new", settings.path))
    core.sleep(0.4)
    for _, wrong in ipairs { "return {", "return { before_breakfast = function() end }", "while true do end", "" } do
      support.write_file(settings.path, wrong) -- in place: it is empty for a moment, too
      core.sleep(0.15)
    end
    os.remove(settings.path)
    core.sleep(0.15)
  end
  support.write_file(settings.path, settings.template:format(version + 1))
  print(0)
  os.exit(0)
end

local count = 0
while core.now() < settings.start_at + settings.seconds do
  count = count + 1
  local response = http.call("POST", settings.url .. "/v0.5/files/uploads/initiate", settings.token,
    json.encode { filename = ("load%d-%d"):format(number, count), file_type = "a/b", num_bytes = 10 })
  assert(response and response.status == 200, response and response.body or "no answer")
  local url = json.decode(response.body).parts[1].url
  assert(url:find("/v%d+/fil_"), url)
end
print(count)

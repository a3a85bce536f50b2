--- What a broker mounted in a throwaway nginx (spec.support.nginx) stands on: a disk
-- store behind a relay, a folder, a configuration.
--
--   local w = mounted.world()
--   local server = nginx.start(w:blocks "--prefix /uploads")
--   w:upload(server.url .. "/uploads", w:token())
local diskstore = require "spec.support.diskstore"
local http = require "spec.support.http"
local relay = require "spec.support.relay"
local support = require "spec.support"

local _M = {}

local methods = {}
local mt = { __index = methods }

local quote = support.quote

--- What a command of ours prints; it must succeed.
function _M.longshore(arguments)
  local code, out = support.run(("LONGSHORE_LUA=%s %s/build/bin/longshore %s"):format(support.lua,
    quote(support.root), arguments))
  if code ~= 0 then error(("longshore %s: exit %d\n%s"):format(arguments, code, out), 2) end
  return out
end

--- The blocks of `longshore nginx-conf`: `main`, `http` and `server`.
function _M.blocks(config, arguments)
  local found = {}
  for _, name in ipairs { "main", "http", "server" } do
    found[name] = _M.longshore(("nginx-conf --config %s --block %s %s"):format(quote(config), name, arguments or ""))
  end
  return found
end

--- A new token of the broker of that configuration.
function _M.token(config, more)
  return _M.longshore(("token create --config %s --user ann --organization acme %s"):format(quote(config), more or ""))
    :match("ls_[%w_]+")
end

--- Makes it all: `store`, `between` (the relay), `folder`, `config` (a path), `access` and `audit` (the logs).
function _M.world()
  local store = diskstore.start()
  local w = setmetatable({ store = store, folder = support.tmpdir(), names = 0,
    between = relay.start { target = "127.0.0.1:" .. store.port } }, mt)
  w.access, w.audit = w.folder .. "/access.log", w.folder .. "/audit.log"
  assert(os.execute("mkdir -p " .. w.folder .. "/data/spool"))
  w.config = support.write_file(w.folder .. "/longshore.lua", ([[return {
    -- (nginx keeps the environment from its workers.)
    data = env "PATH" and "data", diskstore = { enabled = false }, cors = { origins = { "https://app.example" } },
    broker = { threads = 2, public_url = "http://up.example/uploads",
      rate = { requests = 40, seconds = 60 }, janitor_seconds = 0 },
    log = { access = %q, format = "json", audit = %q },
    buckets = { default = { profile = "diskstore", bucket = "longshore", region = "us-east-1", endpoint = %q,
      public_endpoint = %q, access_key = %q, secret_key = %q } },
  }]]):format(w.access, w.audit, w.between.endpoint, store.endpoint, store.access_key, store.secret_key))
  return w
end

--- Another configuration: the same with one text in the place of another.
function methods:changed(name, before, after)
  local text, count = support.read_file(self.config):gsub(before:gsub("%p", "%%%0"), (after:gsub("%%", "%%%%")), 1)
  assert(count == 1, before)
  return support.write_file(("%s/%s.lua"):format(self.folder, name), text)
end

function methods:blocks(arguments, config) return _M.blocks(config or self.config, arguments) end

function methods:token(more, config) return _M.token(config or self.config, more) end

--- Starts an upload of five bytes.
function methods:initiate(base, key)
  self.names = self.names + 1
  return http.call("POST", base .. "/v0.5/files/uploads/initiate", key,
    { filename = "n" .. self.names, file_type = "a/b", num_bytes = 5 })
end

--- Uploads five bytes; the answers to the first call and to the last.
function methods:upload(base, key)
  local function good(answer)
    if answer.status ~= 200 then error(("%d %s"):format(answer.status, answer.body), 3) end
    return answer
  end
  local started = good(self:initiate(base, key))
  local put = good(http.request { method = "PUT", url = started.json.parts[1].url, body = "hello" })
  return started, good(http.call("POST", ("%s/v0.5/files/uploads/%s/complete"):format(base, started.json.upload_id),
    key, { parts = { { part_number = 1, part_token = put.headers.etag } } }))
end

return _M

-- A whole installation that can be broken: `longshore serve` with relays in
-- front of its store and its broker, `longshore put` as a process of its own,
-- and eyes on what is really stored.
--
--   local world = faults.world()
--   world.store_relay:rules{ { method = "PUT", times = 1, flip = 1000 } }
--   local run = world:put(path, { "--attempts", "3" })
--   run.code, run.result, run.summary, run.text, run:of "retry"
--   world:assert_stored(run.result.file_id, path)
--   world:janitor()  world:leftovers()
local cjson = require "cjson"
local core = require "longshore.core"
local relay = require "spec.support.relay"
local s3 = require "longshore.provider.s3"
local serve = require "spec.support.serve"
local support = require "spec.support"

local _M = {}

_M.MiB = 1048576
-- The disk store's profile has S3's smallest part.
_M.PART = 5 * _M.MiB

local ACCESS, SECRET = "LSFAULTS", "secret-of-the-fault-specs"

local methods = {}
local mt = { __index = methods }

local function quote(value)
  if type(value) == "table" then
    local out = {}
    for k, v in pairs(value) do
      out[#out + 1] = (type(k) == "string" and ("[%q] = "):format(k) or "") .. quote(v)
    end
    return "{ " .. table.concat(out, ", ") .. " }"
  end
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

--- Starts a world. Options: `bucket` (settings of another store's bucket; default
-- the disk store), `diskstore`, `policy`, `nginx` (settings), `env` (of serve).
function _M.world(options)
  options = options or {}
  local self = setmetatable({ options = options, folder = support.tmpdir() }, mt)
  local store_port, port = support.free_port(), support.free_port()
  local own = "http://127.0.0.1:" .. store_port
  local target = options.bucket and options.bucket.endpoint or own
  self.store_relay = relay.start { target = target }
  self.broker_relay = relay.start { target = "127.0.0.1:" .. port }
  local bucket = { profile = "diskstore", region = "us-east-1", bucket = "longshore", access_key = ACCESS,
    secret_key = SECRET, path_style = true }
  for k, v in pairs(options.bucket or {}) do bucket[k] = v end
  bucket.endpoint, bucket.public_endpoint = self.store_relay.endpoint, self.store_relay.endpoint
  local disk = { fsync = false, credentials = { { access_key = ACCESS, secret_key = SECRET } } }
  for k, v in pairs(options.diskstore or {}) do disk[k] = v end
  local policy = { part_size = _M.PART }
  for k, v in pairs(options.policy or {}) do policy[k] = v end
  local config = "return " .. quote {
    diskstore = disk, buckets = { default = bucket }, policy = policy, nginx = options.nginx,
    broker = { janitor_seconds = 0 },
  }
  self.server = serve.start { config = config, port = port, store_port = store_port, data = self.folder .. "/data" }
  bucket.endpoint, bucket.public_endpoint = target, target
  bucket.transport = require("longshore.http.transport").new { proxy = "" }
  self.provider = assert(s3.new(bucket))
  self.access_key, self.secret_key = bucket.access_key, bucket.secret_key
  self.url = self.broker_relay.endpoint
  return self
end

--- A file of random bytes (of a repeated block, which is faster to make).
function methods:file(name, size)
  local path = self.folder .. "/" .. name
  local block = core.random(4096) .. core.random(4093)
  local f = assert(io.open(path, "wb"))
  local left = size
  while left > 0 do
    local chunk = block:rep(math.min(128, math.ceil(left / #block))):sub(1, left)
    f:write(chunk)
    left = left - #chunk
  end
  f:close()
  return path
end

local function arguments(self, path, more)
  local args = { support.root .. "/lua/longshore/cli/main.lua", "put", "--json", "--journal", self.folder ..
    "/journal" }
  for _, arg in ipairs(more or {}) do args[#args + 1] = arg end
  args[#args + 1] = path
  return args
end

local run_methods = {}

--- The events of a kind.
function run_methods:of(kind)
  local list = {}
  for _, event in ipairs(self.events) do
    if event.event == kind then list[#list + 1] = event end
  end
  return list
end

local function finished(process, log)
  local run = setmetatable({ process = process, text = support.read_file(log) or "", events = {} },
    { __index = run_methods })
  for line in run.text:gmatch("[^\n]+") do
    local ok, event = pcall(cjson.decode, line)
    if ok and type(event) == "table" then run.events[#run.events + 1] = event end
  end
  run.result, run.summary = run:of("result")[1], run:of("summary")[1]
  return run
end

--- Starts `longshore put`. `url` is where to (default: the broker, through its
-- relay). Returns a function that waits for the end and returns the run.
function methods:start_put(path, more, url, env)
  local args = arguments(self, path, more)
  args[#args + 1] = url or self.url
  self.runs = (self.runs or 0) + 1
  local log = ("%s/put-%d.log"):format(self.folder, self.runs)
  local all = { "LONGSHORE_TOKEN=" .. self.server.token, "AWS_ACCESS_KEY_ID=" .. self.access_key,
    "AWS_SECRET_ACCESS_KEY=" .. self.secret_key }
  for _, line in ipairs(env or {}) do all[#all + 1] = line end
  local process = support.spawn(support.lua, { args = args, env = all, stdout = log })
  return function(seconds)
    local code = process:wait(seconds or 180)
    if not code then
      process:kill("sigkill")
      process:wait(60)
    end
    local run = finished(process, log)
    run.code = code
    return run
  end, process
end

function methods:put(path, more, url, env)
  return (self:start_put(path, more, url, env))()
end

--- The CRC32C of what a file's download really gives. A server that is just
-- being started again has some seconds.
function methods:download_crc(file_id)
  local out = self.folder .. "/back"
  local text
  local got = support.wait_until(function()
    local code
    code, text = support.run(("curl -sSL --noproxy '*' -f -H 'Authorization: Bearer %s' -o %s %s"):format(
      self.server.token, out, self.server.url .. "/v0.5/files/download/" .. file_id))
    return code == 0
  end, 10, 0.1)
  assert(got, text)
  local crc, bytes = core.crc32c_file(out)
  os.remove(out)
  return crc, bytes
end

--- That a file is registered and its bytes are those of a file here.
function methods:assert_stored(file_id, path)
  local want, size = assert(core.crc32c_file(path))
  local crc, bytes = self:download_crc(file_id)
  assert(bytes == size, ("%s bytes are stored, not %s"):format(tostring(bytes), tostring(size)))
  assert(crc == want, "other bytes are stored than were sent")
end

--- Rows of the broker's database.
function methods:rows(query)
  local code, text = support.run(("sqlite3 -bail -separator '|' -cmd '.timeout 5000' %s %s"):format(
    support.quote(self.folder .. "/data/longshore.db"), support.quote(query)))
  assert(code == 0, text)
  local list = {}
  for line in text:gmatch("[^\n]+") do list[#list + 1] = line end
  return list
end

--- The part numbers that the broker has checkpointed of unfinished uploads.
function methods:checkpointed()
  local numbers = {}
  for _, line in ipairs(self:rows("select p.number from parts p join uploads u on u.id = p.upload_id " ..
    "where u.state = 'uploading'")) do
    numbers[tonumber(line)] = true
  end
  return numbers
end

--- The numbers of the parts that the store was sent (whole or not) since the
-- relay's log was cleared.
function methods:sent_parts()
  local numbers = {}
  for _, entry in ipairs(self.store_relay:log()) do
    local number = entry.method == "PUT" and tonumber(entry.target:match("[?&]partNumber=(%d+)"))
    if number then numbers[number] = (numbers[number] or 0) + 1 end
  end
  return numbers
end

--- Runs the broker's janitor, `seconds` from now, as another process of the same
-- installation would.
function methods:janitor(seconds)
  local clock = { now = function() return core.now() + (seconds or 0) end, sleep = core.sleep }
  local config = assert(require("longshore.config").load(self.folder .. "/data/run/config.lua"))
  local store = assert(require("longshore.store").open { type = "sqlite", path = config.store.path, clock = clock })
  local bucket = config.buckets.default
  bucket.transport, bucket.clock = require("longshore.http.transport").new { proxy = "" }, clock
  local broker = require("longshore.broker").new {
    store = store, providers = { default = assert(s3.new(bucket)) }, clock = clock,
    policy = assert(require("longshore.policy").new(config.policy)), log = function() end,
  }
  local report = broker:janitor()
  store:close()
  return report
end

--- What is at the store and in the database beyond the registered files.
function methods:leftovers()
  local left = {}
  local known = {}
  for _, line in ipairs(self:rows("select object_key from files where state = 'registered'")) do known[line] = true end
  for _, object in ipairs(assert(self.provider:list())) do
    if not known[object.key] then left[#left + 1] = "object " .. object.key end
    known[object.key] = nil
  end
  for key in pairs(known) do left[#left + 1] = "no object for " .. key end
  for _, upload in ipairs(assert(self.provider:list_uploads())) do left[#left + 1] = "upload of " .. upload.key end
  for _, line in ipairs(self:rows("select id, state from uploads where state not in " ..
    "('completed', 'failed', 'aborted', 'expired')")) do
    left[#left + 1] = "row " .. line
  end
  return left
end

--- Compiles a library that, preloaded, moves a program's clock by LONGSHORE_SPEC_SKEW
-- seconds. Returns its path.
function _M.wrong_clock()
  local folder = support.tmpdir()
  local source = support.write_file(folder .. "/clock.c", [[
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <stdlib.h>
    #include <sys/time.h>
    #include <time.h>
    static time_t skew(void) { const char *s = getenv("LONGSHORE_SPEC_SKEW"); return s ? atol(s) : 0; }
    int clock_gettime(clockid_t id, struct timespec *ts) {
      static int (*real)(clockid_t, struct timespec *);
      int rc;
      if(!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
      rc = real(id, ts);
      if(id == CLOCK_REALTIME) ts->tv_sec += skew();
      return rc;
    }
    int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
      struct timespec ts;
      (void)tz;
      clock_gettime(CLOCK_REALTIME, &ts);
      tv->tv_sec = ts.tv_sec;
      tv->tv_usec = ts.tv_nsec / 1000;
      return 0;
    }
    time_t time(time_t *t) {
      struct timespec ts;
      clock_gettime(CLOCK_REALTIME, &ts);
      if(t) *t = ts.tv_sec;
      return ts.tv_sec;
    }
  ]])
  local library = folder .. "/clock.so"
  local code, text = support.run(("cc -shared -fPIC -O1 -o %s %s -ldl"):format(library, source))
  assert(code == 0, text)
  return library
end

return _M

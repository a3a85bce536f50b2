-- A real S3 store for specs: a throwaway Ceph RADOS gateway on 127.0.0.1.
--
--   local store = rgw.start()     -- shared by all spec files of this process
--   store.endpoint, .access_key, .secret_key, .region, .bucket
--   store:make_bucket("name")     -- with curl, not with what is being tested
--   store:kill_gateway()          -- kill -9; data is kept
--   store:start_gateway()
--   store:stop()                  -- only for an instance of one's own
--
-- Options: min_part (bytes, default 1024; Ceph's own is 5 MiB), extra (further
-- configuration lines), own=true (not shared). Instances with equal options are
-- one. A shared one stops when this process ends, however it ends.
local uv = require "luv"
local lfs = require "lfs"
local core = require "longshore.core"
local support = require "spec.support"

local _M = {}

local shared = {}

local methods = {}
local mt = { __index = methods }

function methods:kill_gateway()
  local pid = tonumber(support.read_file(self.folder .. "/rgw.pid"))
  if pid then uv.kill(pid, "sigkill") end
  assert(support.wait_until(function()
    return support.run(("curl -s --noproxy '*' -m 1 -o /dev/null %s/"):format(self.endpoint)) == 7
  end, 30), "the gateway does not die")
end

function methods:start_gateway()
  assert(os.execute(("%s/spec/support/rgw.sh gateway %s >/dev/null 2>&1"):format(support.root, self.folder)))
  assert(support.wait_until(function()
    return support.run(("curl -s --noproxy '*' -m 1 -o /dev/null %s/"):format(self.endpoint)) == 0
  end, 60, 0.05), "the gateway does not start again")
end

function methods:make_bucket(name)
  local code, out = support.run(("curl -s --noproxy '*' -o /dev/null -w '%%{http_code}' -X PUT " ..
    "--aws-sigv4 aws:amz:%s:s3 --user %s:%s -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' %s/%s"):format(
    self.region, self.access_key, self.secret_key, self.endpoint, name))
  assert(code == 0 and out == "200", ("RGW makes no bucket: curl %d, %s"):format(code, out))
  return name
end

function methods:stop()
  if self.key then shared[self.key] = nil end
  uv.kill(self.pid, "sigterm")
  support.wait_until(function()
    uv.run("nowait")
    return not lfs.attributes(self.folder)
  end, 60)
end

local function try(options)
  local self = setmetatable({
    access_key = "RGWACCESSKEY", secret_key = "rgw+secret/with=signs", region = "us-east-1",
    bucket = "longshore-spec", port = support.free_port(), min_part = options.min_part or 1024,
  }, mt)
  local stamp = core.hex and core.hex(core.random(4)) or ("%02x%02x%02x%02x"):format(core.random(4):byte(1, 4))
  self.folder = ("/tmp/longshore-rgw-%d-%s"):format(uv.os_getpid(), stamp)
  self.endpoint = ("http://127.0.0.1:%d"):format(self.port)
  local log = self.folder .. ".log"
  local fd = assert(uv.fs_open(log, "w", 384))
  local env = { "AK=" .. self.access_key, "SK=" .. self.secret_key,
    ("RGW_EXTRA=rgw_multipart_min_part_size = %d\n%s"):format(self.min_part, options.extra or "") }
  for k, v in pairs(uv.os_environ()) do env[#env + 1] = k .. "=" .. v end
  local handle, pid
  local exited
  handle, pid = uv.spawn(support.root .. "/spec/support/rgw.sh", {
    args = { "start", self.folder, ("%d"):format(self.port), ("%d"):format(support.free_port()),
      ("%d"):format(uv.os_getpid()) },
    env = env, stdio = { nil, fd, fd },
  }, function()
    exited = true
    handle:close()
  end)
  uv.fs_close(fd)
  assert(handle, pid)
  handle:unref()
  self.pid = pid
  local ready = support.wait_until(function()
    uv.run("nowait")
    return exited or lfs.attributes(self.folder .. "/ready")
  end, 120, 0.02)
  if not ready or exited then
    local said = support.read_file(log) or ""
    os.remove(log)
    return nil, said
  end
  os.remove(log)
  self:make_bucket(self.bucket)
  return self
end

-- A port may be somebody else's by the time it is used.
local function launch(options)
  local why
  for _ = 1, 3 do
    local self, said = try(options)
    if self then return self end
    why = said
  end
  error("RGW did not start: " .. why)
end

--- Whether Ceph is installed.
function _M.available()
  return support.run("PATH=$PATH:/usr/sbin:/usr/bin command -v radosgw ceph-mon ceph-osd radosgw-admin") == 0
end

--- The shared instance for these options, started when it is first asked for.
function _M.start(options)
  options = options or {}
  if options.own then
    local self = launch(options)
    support.defer(function() self:stop() end)
    return self
  end
  local key = ("%s %s"):format(tostring(options.min_part or 1024), options.extra or "")
  if not shared[key] then
    shared[key] = launch(options)
    shared[key].key = key
  end
  return shared[key]
end

return _M

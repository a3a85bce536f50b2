--- The disk store inside nginx.
--
--     init_by_lua_block        { require("longshore.nginx.diskstore").setup { config = "/etc/longshore.lua" } }
--     init_worker_by_lua_block { require("longshore.nginx.diskstore").start() }
--     location / {
--       access_by_lua_block  { require("longshore.nginx.diskstore").access() }
--       content_by_lua_block { require("longshore.nginx.diskstore").content() }
--     }
--
-- The access handler verifies the signature and all that can be refused
-- without the body. nginx spools the body into the store's folder; a worker
-- thread checks it and renames it into place. A single file is sent by nginx's
-- static module, an object of parts chunk by chunk as the client takes it. The
-- event loop waits for no disk but nginx's own spooling and sending.
--
-- `longshore.nginx.conf_diskstore` writes the rest of the configuration.
--
-- Room: nginx.
-- @module longshore.nginx.diskstore
local cors = require "longshore.http.cors"
local errors = require "longshore.errors"
local fault = require "longshore.diskstore.fault"
local front = require "longshore.diskstore.front"
local gate = require "longshore.nginx.gate"
local pools = require "longshore.nginx.diskstore_pools"

local _M = {}

-- What the workers share: known buckets, and the ids of objects being sent.
_M.dictionary = "longshore_diskstore"

local WORKER = "longshore.nginx.diskstore_worker"
-- How much of an object of parts is in memory for each client, about twice.
local CHUNK = 65536
-- Seconds for which a reader's mark keeps an object's data, and how often it is renewed.
local MARK, RENEW = 120, 30

local METHODS = { "GET", "HEAD", "PUT", "POST", "DELETE" }
local EXPOSED = "ETag, Content-Length, Range, Content-Range, Accept-Ranges, Last-Modified, x-amz-checksum-crc32c, "
  .. "x-amz-checksum-type, x-amz-request-id, x-amz-mp-parts-count"

local conditional = { "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range" }

-- Operations that read a whole body have threads of their own: checking 5 GiB
-- must not keep a HEAD waiting.
local heavy = { put_object = true, session_put = true, upload_part = true, upload_part_copy = true }

local state

--- Prepares the handlers; call it in init_by_lua.
-- @tparam table options `config`: the path of the configuration file
function _M.setup(options)
  local config, err = require("longshore.config").load(options.config)
  if not config then error(tostring(err), 0) end
  local disk = config.diskstore
  state = {
    disk = disk,
    store = { folder = disk.folder, region = disk.region, durable = disk.fsync, min_part = disk.min_part },
    front = front.new { credentials = disk.credentials, region = disk.region, max_body = disk.max_body },
    cors = cors.new { origins = disk.cors.origins, max_age = disk.cors.max_age, exposed = EXPOSED },
  }
  -- Nothing that is older than this nginx is alive; a reload keeps the time.
  local shared = ngx.shared[_M.dictionary]
  shared:add("started", ngx.now())
  state.started = shared:get("started")
end

local function per_worker()
  if not state then error("call require('longshore.nginx.diskstore').setup{config=...} in init_by_lua_block", 0) end
  if not state.gates then
    state.gates = {}
    for kind, pool in pairs(pools.of(state.disk)) do
      state.gates[kind] = gate.new { pool = pool.name, permits = pool.vms, queue = state.disk.queue,
        seconds = state.disk.queue_seconds }
    end
  end
  return state
end

-- Calls the worker module in a thread: its results, or nil and a fault.
local function run(self, kind, name, ...)
  local result, why = self.gates[kind]:run(WORKER, name, ...)
  if result ~= nil then return result, why end
  if why.code == "busy" then
    local slow = fault.new("SlowDown")
    slow.retry_after = 1
    return nil, slow
  end
  local broken = fault.new("InternalError")
  broken.cause = why.message
  return nil, broken
end

local function set_headers(headers)
  -- nginx leaves a header without value out; a blank is no value, too.
  for name, value in pairs(headers) do ngx.header[name] = value == "" and " " or value end
end

-- Sends an answer that is in memory.
local function send(status, headers, body)
  ngx.status = status
  set_headers(headers)
  local head = ngx.req.get_method() == "HEAD"
  if body and body ~= "" then
    if not headers["content-type"] then ngx.header["content-type"] = "application/xml" end
    if not head then ngx.header["content-length"] = #body end
  elseif status ~= 204 and status ~= 304 and not headers["content-length"] then
    ngx.header["content-length"] = 0
  end
  ngx.send_headers()
  if body and body ~= "" and not head then ngx.print(body) end
  return ngx.eof()
end

local function path_of_request()
  return (ngx.var.request_uri or "/"):match("^[^?]*")
end

-- What nginx itself refuses is redirected within, which makes a GET of its method.
local function method_of_request()
  return (ngx.var.request or ""):match("^(%u+) ") or ngx.req.get_method()
end

local function refuse(why)
  local level = why.status >= 500 and why.status ~= 501 and ngx.ERR or ngx.INFO
  local line = ("%s %s: %s %s"):format(method_of_request(), path_of_request(), tostring(errors.restore(why)),
    tostring(why.cause or ""))
  ngx.log(level, errors.one_line(line))
  local headers = {}
  if why.retry_after then headers["retry-after"] = tostring(why.retry_after) end
  for _, detail in ipairs(why.details or {}) do
    if detail[1] == "ActualObjectSize" then headers["content-range"] = "bytes */" .. detail[2] end
  end
  local body = fault.render(why, path_of_request(), ngx.var.request_id)
  if not ngx.var.http_expect or ngx.ctx.has_body then return send(why.status, headers, body) end
  -- The client waits to be asked for its body and will not send it: nginx must
  -- neither ask (100 Continue) nor take the next request for the body. Another
  -- location is the only way to have it close the connection.
  ngx.req.clear_header("expect")
  set_headers(headers)
  ngx.var.longshore_answer = ("%d %s"):format(why.status, body)
  return ngx.exec("@closing")
end

--- Sends a refusal after which the connection is closed.
function _M.closing()
  local status, body = ngx.var.longshore_answer:match("^(%d+) (.*)$")
  return send(tonumber(status), {}, body)
end

local function preflight(self, headers)
  local request = { method = "OPTIONS", headers = headers }
  if not self.cors:is_preflight(request) then
    return refuse(fault.new("BadRequest", "A preflight needs Origin and Access-Control-Request-Method."))
  end
  local answer, err = self.cors:preflight(request, METHODS)
  if not answer then return refuse(fault.new("AccessForbidden", err.message)) end
  return send(200, answer)
end

local function health(self)
  local alive, why = run(self, "light", "has_bucket", self.store, self.disk.buckets[1])
  if alive == nil then return refuse(why) end
  if not alive then return refuse(fault.new("ServiceUnavailable")) end
  return send(200, { ["content-type"] = "text/plain", ["cache-control"] = "no-store" }, "ok\n")
end

-- Bytes that may still be written to the disk, as of a second ago, or nil where
-- that is not known. A disk that hangs must not keep the event loop: a thread
-- asks, for one request in a second, or for one that must know it `now`.
local function free_bytes(self, now)
  local shared = ngx.shared[_M.dictionary]
  if shared:add("free:turn", true, 1) or now then
    local free = run(self, "light", "free", self.store)
    if free then shared:set("free", free) end
  end
  return shared:get("free")
end

-- Whether the disk has room for a body. (What the system does not say is room.)
local function has_room(self, length)
  return (free_bytes(self) or length) >= length or (free_bytes(self, true) or length) >= length
end

-- What can be refused of a write by looking at the disk is refused before its
-- body is read. A plain PUT asks only for the bucket, which is remembered.
local function precheck(self, op)
  if op.body ~= "data" then return true end
  if not has_room(self, op.length or 0) then return fault.fail("InsufficientStorage") end
  local shared = ngx.shared[_M.dictionary]
  local asks = op.headers["if-match"] or op.headers["if-none-match"]
  local plain = op.name == "put_object" and not asks
  if plain and shared:get("bucket:" .. op.bucket) then return true end
  local result, why = run(self, "light", "precheck", self.store, op)
  if not result then return nil, why end
  if result.fault then return nil, result.fault end
  if plain then shared:set("bucket:" .. op.bucket, true, 60) end
  return true
end

-- Ends the request in the access phase; an answer has been sent.
local function done()
  return ngx.exit(ngx.OK)
end

--- The access handler: whatever goes on to `content` is signed and admitted.
function _M.access()
  local self = per_worker()
  local method, target = ngx.req.get_method(), ngx.var.request_uri
  if self.unready then
    refuse(fault.new("ServiceUnavailable"))
    return done()
  end
  local headers = ngx.req.get_headers(0)
  setmetatable(headers, nil)
  if method == "OPTIONS" then
    preflight(self, headers)
    return done()
  end
  if target == "/-/health" and (method == "GET" or method == "HEAD") then
    health(self)
    return done()
  end
  local op, why = self.front:admit { method = method, target = target, headers = headers }
  local ok = op ~= nil
  if ok then ok, why = precheck(self, op) end
  if not ok then
    refuse(why)
    return done()
  end
  -- nginx's own filters would act on these a second time, and on the answers to
  -- writes: a PUT with If-None-Match that made an object would get 304.
  for _, name in ipairs(conditional) do ngx.req.clear_header(name) end
  ngx.ctx.op = op
end

-- nginx has the body in a file of the store's folder, or there is none.
local function read_body(op)
  if not op.body or op.length == 0 then return end
  ngx.req.read_body()
  ngx.ctx.has_body = true
  op.spooled = ngx.req.get_body_file()
  if not op.spooled then op.text = ngx.req.get_body_data() end
end

local function send_parts(self, response)
  local first = response.range and response.range.first or 0
  local last = response.range and response.range.last or response.length - 1
  local shared, mark = ngx.shared[_M.dictionary], "use:" .. response.parts
  shared:set(mark, true, MARK)
  local renewed = ngx.now()
  while first <= last do
    local data, why = run(self, "read", "read", self.store, response.parts, first, math.min(CHUNK, last - first + 1))
    if not data then
      -- The header is out: a cut connection is the only way left to say it.
      ngx.log(ngx.ERR, "GET ", path_of_request(), " ends at byte ", first, ": ",
        type(why) == "table" and tostring(why.cause or why.code) or tostring(why))
      return ngx.exit(ngx.ERROR)
    end
    if not ngx.print(data) or not ngx.flush(true) then return ngx.exit(ngx.ERROR) end
    first = first + #data
    if ngx.now() - renewed > RENEW then
      shared:set(mark, true, MARK)
      renewed = ngx.now()
    end
  end
  return ngx.eof()
end

local function respond(self, response)
  if response.file then
    local range = response.range
    if range then
      ngx.req.set_header("range", ("bytes=%.0f-%.0f"):format(range.first, range.last))
      response.headers["content-range"] = nil
    else
      ngx.req.clear_header("range")
    end
    set_headers(response.headers)
    ngx.var.longshore_file = "/" .. response.file
    return ngx.exec("@file")
  end
  if response.length then response.headers["content-length"] = ("%.0f"):format(response.length) end
  if not response.parts then return send(response.status, response.headers, response.body) end
  ngx.status = response.status
  set_headers(response.headers)
  ngx.send_headers()
  return send_parts(self, response)
end

--- The content handler.
function _M.content()
  local self = per_worker()
  local op = ngx.ctx.op
  read_body(op)
  op.location = ngx.var.scheme .. "://" .. (ngx.var.http_host or "")
  local result, why = run(self, heavy[op.name] and "heavy" or "light", "handle", self.store, op)
  if result and result.fault then why = result.fault end
  if why then return refuse(why) end
  if op.name == "delete_bucket" then ngx.shared[_M.dictionary]:delete("bucket:" .. op.bucket) end
  return respond(self, result.response)
end

-- What nginx refuses by itself, by status.
local refusals = {
  [400] = "BadRequest", [404] = "NoSuchKey", [405] = "MethodNotAllowed", [408] = "RequestTimeout",
  [411] = "MissingContentLength", [412] = "PreconditionFailed", [413] = "EntityTooLarge",
  [414] = "RequestURITooLong", [416] = "InvalidRange", [494] = "HeadersTooLarge", [497] = "BadRequest",
  [501] = "NotImplemented", [503] = "ServiceUnavailable",
}

--- Gives nginx's own refusals S3's shape; the handler of the location that
-- `error_page` names.
-- @tparam[opt] number status where nginx no longer knows it
function _M.refused(status)
  status = status or ngx.status
  local why = fault.new(refusals[status] or "InternalError")
  if status == 497 then why.message = "This port speaks https only." end
  -- nginx could not write the body to the store's folder.
  local length = tonumber(ngx.var.http_content_length)
  if status == 500 and length and state and (free_bytes(per_worker(), true) or length) < length then
    why = fault.new("InsufficientStorage")
  end
  return refuse(why)
end

--- The header filter: what every answer carries, whoever made it.
function _M.headers()
  ngx.header["x-amz-request-id"] = ngx.var.request_id
  if not state then return end
  local more = { vary = ngx.header.vary }
  state.cors:decorate({ headers = { origin = ngx.var.http_origin } }, more)
  set_headers(more)
end

-- What is older than nginx is looked for until all of it is gone, and no longer: were the
-- clock set back later, what has just begun would look as old.
local function sweep_turn(premature, self)
  if premature or self.sweeping then return end
  self.sweeping = true
  local shared = ngx.shared[_M.dictionary]
  local called, report, why = pcall(run, self, "janitor", "sweep", self.store, _M.dictionary,
    { grace = self.disk.grace_seconds, stale = self.disk.stale_seconds,
      dead_before = not shared:get("dead_gone") and self.started or nil })
  self.sweeping = false
  if called and report and report.errors == 0 then shared:set("dead_gone", true) end
  if not called or not report then
    ngx.log(ngx.ERR, "disk store janitor: ", tostring(called and why and why.cause or report))
  elseif report.errors > 0 then
    ngx.log(ngx.ERR, "disk store janitor: ", report.errors, " things could not be removed")
  end
end

--- Makes the folder ready, and starts the janitor in one of the workers. Call
-- it in init_worker_by_lua: no request has come yet, so it may wait.
function _M.start()
  local self = per_worker()
  local ok, err = require("longshore.diskstore").new(self.store):prepare(self.disk.buckets)
  if not ok then
    self.unready = tostring(err)
    ngx.log(ngx.CRIT, "the disk store cannot start: ", self.unready)
    return
  end
  if ngx.worker.id() ~= 0 then return end
  assert(ngx.timer.at(0, sweep_turn, self))
  assert(ngx.timer.every(self.disk.sweep_seconds, sweep_turn, self))
end

return _M

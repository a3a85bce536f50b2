-- An object store in memory with the interface of a provider, for the faults
-- that a real store cannot be made to have at a chosen moment.
--
-- `fake.new{profile = overrides, clock =}`. The client's side of the wire is
-- `p:client_put(url, body)`, with the URL that the broker signed. Faults:
--
--   p:fault(op, { code =, when = "before"|"after", times = n, raise = true })
--
-- "before": the store did nothing; "after": it did, and the answer was lost.
-- `raise` raises instead of answering an error, as if the process had died.
-- `p.hook(op, request)` is called before every operation.
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}

local methods = {}
local mt = { __index = methods }

local function store_error(store_code, code)
  return errors.fail(code, "the store says " .. store_code, { store_code = store_code })
end

function _M.new(options)
  options = options or {}
  local profile = {
    api = "s3", min_part = 4, max_part = 1024, max_parts = 100, max_object = 102400, max_put = 1024,
    equal_parts = false, etag_is_md5 = true, checksum_of_unannounced = "crc32c", lists_crc32c = true,
  }
  for k, v in pairs(options.profile or {}) do profile[k] = v end
  return setmetatable({
    profile = profile, clock = options.clock, objects = {}, uploads = {}, urls = {}, counter = 0,
    faults = {}, calls = {}, name = options.name or "default",
  }, mt)
end

function methods:fault(op, fault)
  fault.times = fault.times or 1
  self.faults[op] = fault
end

-- Runs an operation with whatever fault is set for it.
local function operation(op, fn)
  methods[op] = function(self, request)
    self.calls[#self.calls + 1] = op
    if self.hook then self.hook(op, request) end
    local fault = self.faults[op]
    if fault and fault.times > 0 then
      fault.times = fault.times - 1
    else
      fault = nil
    end
    local function break_off()
      if fault.raise then error("the process died in " .. op, 0) end
      return errors.fail(fault.code or "network", "fault in " .. op,
        { retryable = fault.retryable ~= false, store_code = fault.store_code })
    end
    if fault and fault.when ~= "after" then return break_off() end
    local a, b = fn(self, request)
    if fault then return break_off() end
    if self.after then self.after(op, request) end
    return a, b
  end
end

local function etag_of(body) return core.hex(core.md5(body)) end

function methods:now()
  return self.clock and self.clock.now() or core.now()
end

local function copy(t)
  local new = {}
  for k, v in pairs(t or {}) do new[k] = v end
  return new
end

operation("create_multipart", function(self, r)
  self.counter = self.counter + 1
  local id = "mpu-" .. self.counter
  self.uploads[id] = { key = assert(r.key), parts = {}, metadata = copy(r.metadata), marker = r.marker,
    headers = copy(r.headers),
    content_type = r.content_type, initiated = self:now() }
  return { upload_id = id, tries = self.tries }
end)

local function sign(self, r, part)
  self.counter = self.counter + 1
  local url = ("http://store.test/%s?n=%d"):format(r.key, self.counter)
  local expires_at = self:now() + assert(r.expires)
  self.urls[url] = { key = r.key, upload_id = r.upload_id, number = part.number, length = part.length,
    expires_at = expires_at }
  self.signed = copy(r.headers)
  return { method = "PUT", url = url, headers = copy(r.headers), expires_at = expires_at }
end

operation("sign_part", function(self, r) return sign(self, r, r) end)

operation("sign_parts", function(self, r)
  local list = {}
  for i, part in ipairs(r.parts) do list[i] = sign(self, r, part) end
  return list
end)

operation("sign_put", function(self, r)
  local target = sign(self, r, { length = r.length })
  self.urls[target.url].content_type = r.content_type
  return target
end)

operation("sign_get", function(self, r)
  return { method = "GET", url = "http://store.test/" .. r.key, headers = {}, expires_at = self:now() + r.expires,
    filename = r.filename, content_type = r.content_type }
end)

-- The PUT of a client: status, etag.
function methods:client_put(url, body, content_type)
  local grant = assert(self.urls[url], "no such URL")
  if self:now() > grant.expires_at then return 403 end
  if grant.length and #body ~= grant.length then return 403 end
  if grant.content_type and grant.content_type ~= content_type then return 403 end
  if not grant.upload_id then
    self.objects[grant.key] = { body = body, etag = etag_of(body), metadata = {}, content_type = content_type,
      modified = self:now() }
    return 200, '"' .. etag_of(body) .. '"'
  end
  local upload = self.uploads[grant.upload_id]
  if not upload then return 404 end
  upload.parts[grant.number] = { body = body, etag = etag_of(body) }
  return 200, '"' .. etag_of(body) .. '"'
end

operation("put_part", function(self, r)
  local upload = self.uploads[r.upload_id]
  if not upload then return store_error("NoSuchUpload", "not_found") end
  local body = r.body
  if not body then
    local f = assert(io.open(r.file.path, "rb"))
    f:seek("set", r.file.offset or 0)
    body = r.file.length == 0 and "" or f:read(r.file.length) or ""
    f:close()
  end
  if self.corrupt then body = self.corrupt(body) end
  upload.parts[r.number] = { body = body, etag = etag_of(body) }
  return { etag = etag_of(body), crc32c = self.profile.lists_crc32c and core.crc32c(body) or nil }
end)

operation("list_parts", function(self, r)
  local upload = self.uploads[r.upload_id]
  if not upload or upload.key ~= r.key then return store_error("NoSuchUpload", "not_found") end
  local list = {}
  for number, part in pairs(upload.parts) do
    list[#list + 1] = { number = number, etag = part.etag, size = #part.body,
      crc32c = self.profile.lists_crc32c and core.crc32c(part.body) or nil }
  end
  table.sort(list, function(a, b) return a.number < b.number end)
  return list
end)

operation("complete_multipart", function(self, r)
  local upload = self.uploads[r.upload_id]
  if not upload or upload.key ~= r.key then return store_error("NoSuchUpload", "not_found") end
  local bodies, last = {}, 0
  for i, part in ipairs(r.parts) do
    local stored = upload.parts[part.number]
    if not stored or stored.etag ~= part.etag then return store_error("InvalidPart", "invalid") end
    if part.number <= last then return store_error("InvalidPartOrder", "invalid") end
    if i < #r.parts and #stored.body < self.profile.min_part then return store_error("EntityTooSmall", "invalid") end
    last = part.number
    bodies[i] = stored.body
  end
  local body = table.concat(bodies)
  if self.damage then body = self.damage(body) end
  self.uploads[r.upload_id] = nil
  local etag = etag_of(body) .. "-" .. #bodies
  self.objects[r.key] = { body = body, etag = etag, metadata = upload.metadata, marker = upload.marker,
    headers = upload.headers, content_type = upload.content_type, modified = self:now() }
  local tells = self.profile.checksum_of_unannounced and not self.quiet_complete
  return { etag = etag, crc32c = tells and core.crc32c(body) or nil }
end)

operation("abort_multipart", function(self, r)
  self.uploads[r.upload_id] = nil
  return true
end)

operation("list_uploads", function(self, r)
  local list = {}
  for id, upload in pairs(self.uploads) do
    if upload.key:sub(1, #(r.prefix or "")) == (r.prefix or "") then
      list[#list + 1] = { key = upload.key, upload_id = id, initiated = upload.initiated }
    end
  end
  return list
end)

operation("list", function(self, r)
  local list = {}
  for key, object in pairs(self.objects) do
    if key:sub(1, #(r.prefix or "")) == (r.prefix or "") and (not r.after or key > r.after) then
      list[#list + 1] = { key = key, size = #object.body, etag = object.etag, modified = object.modified }
    end
  end
  table.sort(list, function(a, b) return a.key < b.key end)
  for i = #list, (r.limit or #list) + 1, -1 do list[i] = nil end
  return list
end)

operation("head", function(self, r)
  local object = self.objects[r.key]
  if not object then return store_error("NoSuchKey", "not_found") end
  return { size = #object.body, etag = object.etag, metadata = copy(object.metadata),
    marker = object.marker, content_type = object.content_type, modified = object.modified,
    crc32c = self.profile.checksum_of_unannounced and core.crc32c(object.body) or nil }
end)

operation("get", function(self, r)
  local object = self.objects[r.key]
  if not object then return store_error("NoSuchKey", "not_found") end
  local body = object.body
  if r.first then body = body:sub(r.first + 1, r.last and r.last + 1 or -1) end
  assert(not r.max or #body <= r.max, "more than asked for")
  return body
end)

operation("put", function(self, r)
  local body = r.body
  if not body then
    local f = assert(io.open(r.file.path, "rb"))
    f:seek("set", r.file.offset or 0)
    body = r.file.length == 0 and "" or f:read(r.file.length) or ""
    f:close()
  end
  self.objects[r.key] = { body = body, etag = etag_of(body), metadata = copy(r.metadata), marker = r.marker,
    content_type = r.content_type, headers = copy(r.headers) }
  return { etag = etag_of(body), crc32c = core.crc32c(body), check = "crc32c" }
end)

operation("copy", function(self, r)
  local object = self.objects[r.from]
  if not object then return store_error("NoSuchKey", "not_found") end
  if r.if_match and r.if_match ~= object.etag then return store_error("PreconditionFailed", "conflict") end
  local new = copy(object)
  new.modified, new.headers = self:now(), copy(r.headers)
  new.content_type = r.content_type or object.content_type
  self.objects[r.to] = new
  return { etag = new.etag, crc32c = core.crc32c(new.body), size = #new.body }
end)

operation("delete", function(self, r)
  self.objects[r.key] = nil
  return true
end)

-- The same bucket, deeper.
function methods:below(prefix, name)
  local deeper = { prefix = prefix, bucket = "fake", name = name or self.name, endpoint = "http://store.test",
    region = "us-east-1", profile = self.profile }
  local outer = self
  return setmetatable(deeper, { __index = function(_, field)
    local method = outer[field]
    if type(method) ~= "function" then return method end
    return function(_, request)
      local inner = copy(request)
      for _, key in ipairs { "key", "from", "to", "prefix", "after" } do
        if inner[key] then inner[key] = prefix .. inner[key] end
      end
      local answer, err = method(outer, inner)
      if type(answer) == "table" and answer[1] and answer[1].key then
        for i, entry in ipairs(answer) do
          answer[i] = copy(entry)
          answer[i].key = entry.key:sub(#prefix + 1)
        end
      end
      return answer, err
    end
  end })
end

-- What lies in the store, counted: objects, multipart uploads.
function methods:left()
  local objects, uploads = 0, 0
  for _ in pairs(self.objects) do objects = objects + 1 end
  for _ in pairs(self.uploads) do uploads = uploads + 1 end
  return objects, uploads
end

return _M

--- What the disk store does in nginx's worker threads: whole operations, reads
-- of objects of parts, the janitor. One store per Lua VM and folder.
--
-- Everything goes in and comes out as data; nil as a first result would not
-- travel, so an answer is a table with `response` or `fault`.
--
-- Room: nginx.
-- @module longshore.nginx.diskstore_worker
local core = require "longshore.core"
local diskstore = require "longshore.diskstore"
local fault = require "longshore.diskstore.fault"

local _M = {}

local stores = {}

local function store_for(options)
  local store = stores[options.folder]
  if not store then
    store = diskstore.new(options)
    stores[options.folder] = store
  end
  return store
end

--- Does an operation.
-- @tparam table options of longshore.diskstore.new
-- @tparam table op
-- @treturn table {response=} or {fault=}
function _M.handle(options, op)
  local called, response, why = pcall(function() return store_for(options):handle(op) end)
  if not called then
    why = fault.new("InternalError")
    why.cause = tostring(response)
    response = nil
  end
  if response then return { response = response } end
  return { fault = fault.from_io(why) }
end

--- Looks whether an operation will be refused, before its body is read.
-- @treturn table {} or {fault=}
function _M.precheck(options, op)
  local ok, why = store_for(options):precheck(op)
  if ok then return {} end
  return { fault = fault.from_io(why) }
end

--- Bytes of an object of parts.
-- @treturn string|boolean false on failure
-- @treturn string|nil why
function _M.read(options, id, offset, length)
  local data, why = store_for(options):read(id, offset, length)
  if data then return data end
  return false, tostring(why)
end

--- Whether a bucket exists.
-- @treturn boolean
function _M.has_bucket(options, bucket)
  return store_for(options):has_bucket(bucket)
end

--- How many bytes may still be written to the disk.
-- @treturn number|boolean false where the system does not say
function _M.free(options)
  return core.disk_free(options.folder) or false
end

--- One round of the janitor. What readers mark in the shared dictionary stays.
-- @tparam table options
-- @tparam string dictionary its name
-- @tparam table limits grace, stale, dead_before
-- @treturn table report
function _M.sweep(options, dictionary, limits)
  local shared = ngx.shared[dictionary]
  limits.in_use = function(id) return shared:get("use:" .. id) ~= nil end
  return store_for(options):sweep(limits)
end

return _M

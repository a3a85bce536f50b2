-- What a host brings for the inline mode: a transport over nginx's cosockets,
-- and a store that does not block. The store here is SQLite in memory of the one
-- nginx worker, which waits for nobody, with a yield before each operation as a
-- database client over cosockets has it.
local errors = require "longshore.errors"

local _M = {}

local function read_chunked(socket)
  local chunks = {}
  while true do
    local size = tonumber(assert(socket:receive("*l")):match("^%x+"), 16)
    if size > 0 then chunks[#chunks + 1] = assert(socket:receive(size)) end
    assert(socket:receive("*l"))
    if size == 0 then return table.concat(chunks) end
  end
end

local function exchange(request)
  local host, port, target = request.url:match("^http://([^:/]+):(%d+)(.*)$")
  local socket = ngx.socket.tcp()
  socket:settimeout((request.timeout or 60) * 1000)
  assert(socket:connect(host, tonumber(port)))
  local lines = { ("%s %s HTTP/1.1"):format(request.method, target), ("host: %s:%s"):format(host, port) }
  for name, value in pairs(request.headers) do
    if name ~= "host" then lines[#lines + 1] = name .. ": " .. value end
  end
  lines[#lines + 1] = "content-length: " .. #(request.body or "")
  assert(socket:send(table.concat(lines, "\r\n") .. "\r\n\r\n" .. (request.body or "")))
  local response = { status = tonumber(assert(socket:receive("*l")):match("^HTTP/1%.%d (%d+)")), headers = {} }
  while true do
    local line = assert(socket:receive("*l"))
    if line == "" then break end
    local name, value = line:match("^([^:]+):%s*(.-)%s*$")
    response.headers[name:lower()] = value
  end
  local length = tonumber(response.headers["content-length"])
  if request.method == "HEAD" or response.status == 204 then
    response.body = ""
  elseif length then
    response.body = length > 0 and assert(socket:receive(length)) or ""
  else
    response.body = read_chunked(socket)
  end
  socket:setkeepalive(10000, 10)
  return response
end

local transport = {
  nonblocking = true,
  request = function(request)
    local ok, response = pcall(exchange, request)
    if ok then return response end
    return errors.fail("network", tostring(response), { retryable = true })
  end,
}

local function yielding_store()
  local inner = assert(require("longshore.store").open { type = "sqlite", path = ":memory:", synchronous = "OFF" })
  return setmetatable({ nonblocking = true }, { __index = function(_, name)
    local operation = inner[name]
    if type(operation) ~= "function" then return operation end
    return function(_, ...)
      ngx.sleep(0.001)
      return operation(inner, ...)
    end
  end })
end

function _M.good()
  return { store = yielding_store(), transport = transport }
end

function _M.blocking_store()
  return { store = {}, transport = transport }
end

function _M.blocking_transport()
  return { store = yielding_store(), transport = function() end }
end

return _M

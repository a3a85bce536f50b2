-- A small HTTP client for specs: sends exactly the bytes it is told to, so that
-- official clients' requests can be repeated to the letter, and wrong ones made.
local socket = require "socket"
local json = require "longshore.json"
local support = require "spec.support"

local _M = {}

--- Reads one answer from a connection: {status=, headers={lowercase}, body=}.
function _M.read(connection, method)
  local line, why = connection:receive("*l")
  if not line then return nil, why end
  local response = { status = tonumber(line:match("^HTTP/1%.%d (%d+)")), headers = {} }
  while true do
    line, why = connection:receive("*l")
    if not line then return nil, why end
    if line == "" then break end
    local name, value = line:match("^([^:]+):%s*(.-)%s*$")
    response.headers[name:lower()] = value
  end
  if response.status == 100 then return _M.read(connection, method) end
  local length = tonumber(response.headers["content-length"])
  if method == "HEAD" or response.status == 204 or response.status == 304 then
    response.body = ""
  elseif length then
    response.body = length == 0 and "" or connection:receive(length)
  elseif response.headers["transfer-encoding"] == "chunked" then
    local chunks = {}
    while true do
      local size = tonumber(connection:receive("*l"):match("^%x+"), 16)
      if size > 0 then chunks[#chunks + 1] = connection:receive(size) end
      connection:receive("*l")
      if size == 0 then break end
    end
    response.body = table.concat(chunks)
  else
    response.body = connection:receive("*a")
  end
  return response
end

--- Sends raw bytes to 127.0.0.1:port and reads one answer.
function _M.raw(port, bytes, seconds)
  local connection = assert(socket.connect("127.0.0.1", port))
  connection:settimeout(seconds or 20)
  connection:send(bytes)
  local response, why = _M.read(connection, bytes:match("^%S+"))
  connection:close()
  return response, why
end

--- One request. `given`: method, url (http://127.0.0.1:port/...), headers (map
-- or list of lines), body. Content-Length is added when there is a body, Host
-- always; nothing else is.
function _M.request(given)
  local port, target = given.url:match("^http://127%.0%.0%.1:(%d+)(.*)$")
  if target == "" then target = "/" end
  local lines = { ("%s %s HTTP/1.1"):format(given.method or "GET", target), "Host: 127.0.0.1:" .. port,
    "Connection: close" }
  for name, value in pairs(given.headers or {}) do
    lines[#lines + 1] = type(name) == "number" and value or ("%s: %s"):format(name, value)
  end
  if given.body then lines[#lines + 1] = ("Content-Length: %d"):format(#given.body) end
  return _M.raw(tonumber(port), table.concat(lines, "\r\n") .. "\r\n\r\n" .. (given.body or ""), given.seconds)
end

--- One request with a bearer token, and a JSON body if `value` is given. The
-- answer's JSON is in `json`.
function _M.call(method, url, token, value, more)
  local headers, body = {}, nil
  if token then headers.Authorization = "Bearer " .. token end
  if value ~= nil then
    body = type(value) == "string" and value or json.encode(value)
    headers["Content-Type"] = "application/json"
  end
  for name, text in pairs(more or {}) do headers[name] = text end
  local response, why = _M.request { method = method, url = url, headers = headers, body = body }
  if not response then error(("%s %s: %s"):format(method, url, tostring(why)), 2) end
  if (response.headers["content-type"] or ""):find("json", 1, true) and response.body ~= "" then
    response.json = assert(json.decode(response.body))
  end
  return response
end

--- Waits until the server on a port of 127.0.0.1 has read all that was sent to it: no connection
-- waits to be accepted, and nothing in one to be read.
function _M.taken(port)
  local own, other = (":%04X"):format(port), ("^%%s*%%d+: %%x+:%%x+ %%x+:%04X "):format(port)
  assert(support.wait_until(function()
    for line in assert(support.read_file("/proc/net/tcp")):gmatch("[^\n]+") do
      local sends, waits = line:match("%x+ %x%x (%x+):(%x+)")
      if line:match("^%s*%d+: %x+(:%x+)") == own and tonumber(waits, 16) > 0 then return false end
      if line:find(other) and tonumber(sends, 16) > 0 then return false end
    end
    return true
  end, 30), "the server does not take its requests")
end

--- Asks until the answer has a status; nobody who asks `seconds` from now or later may be answered
-- otherwise, however slow the machine is.
function _M.until_status(status, ask, seconds)
  local began, answer = socket.gettime(), nil
  local got = support.wait_until(function()
    local asked = socket.gettime()
    answer = ask()
    if answer.status == status then return true end
    if asked - began > seconds + 0.2 then error(("%d after %.1f s: %s"):format(answer.status, asked - began,
      answer.body)) end
  end, seconds + 30)
  assert(got, answer.body)
  return answer
end

return _M

-- Requests of a broker's clients that come at the same moment, each on a connection of its own.
local http = require "spec.support.http"
local json = require "longshore.json"
local socket = require "socket"

local _M = {}

--- Sends a POST; the connection, whose answer is still to be read. `body`: text, or what becomes JSON.
function _M.send(server, path, body, token)
  local connection = assert(socket.connect("127.0.0.1", server.port))
  connection:settimeout(60)
  local text = type(body) == "string" and body or json.encode(body)
  connection:send(table.concat({ ("POST %s HTTP/1.1"):format(path), "Host: x", "Connection: close",
    "Authorization: Bearer " .. (token or server.token), "Content-Type: application/json",
    "Content-Length: " .. #text, "", text }, "\r\n"))
  return connection
end

--- Sends a request for each body to a path, or to each one's own, all at once; what each was answered, with `json` and
--- `after` (how many seconds). `tokens`: of some of them, by index; `sent`: called when all are on their way.
function _M.all(server, paths, bodies, tokens, sent)
  local open, index, answers, left = {}, {}, {}, #bodies
  local began = socket.gettime()
  for i, body in ipairs(bodies) do
    local path = type(paths) == "table" and paths[i] or paths
    open[i] = _M.send(server, path, body, tokens and tokens[i])
    index[open[i]] = i
  end
  if sent then sent() end
  while left > 0 do
    for _, connection in ipairs(socket.select(open, nil, 60)) do
      local i = index[connection]
      local answer = assert(http.read(connection, "POST"))
      answer.after = socket.gettime() - began
      answer.json = json.decode(answer.body)
      answers[i], left = answer, left - 1
      for n, other in ipairs(open) do if other == connection then table.remove(open, n) break end end
      connection:close()
    end
  end
  return answers
end

return _M

--- The configuration as it was when nginx read it, for the worker threads.
--
-- A thread's Lua VM starts when there is work for it, maybe days after nginx did:
-- the file may be another one then, half written or wrong, and the threads would
-- not agree. It also lacks the environment, and the rights of nginx's master. So the
-- master reads the configuration, and the threads take it from the shared
-- dictionary, under a name that the next reload's has not got.
--
-- Room: nginx.
-- @module longshore.nginx.snapshot
local blocks = require "longshore.nginx.blocks"
local configuration = require "longshore.config"
local core = require "longshore.core"
local errors = require "longshore.errors"

local _M = {}

-- What this nginx was started with: name and text.
local taken

--- Keeps a configuration, in init_by_lua.
-- @tparam table config
-- @treturn string the name that threads `read` it by
function _M.take(config)
  local text = configuration.serialize(config)
  taken = { name = "configuration:" .. core.hex(core.sha256(text)), text = text }
  _M.keep()
  return taken.name
end

--- Has it in the dictionary still, however much else comes there: a dictionary that is
-- full gives up what was not asked for lately. Called once a second.
function _M.keep()
  local dict = ngx.shared[blocks.dictionary]
  if taken and dict and not dict:get(taken.name) then dict:set(taken.name, taken.text) end
end

--- The configuration of that name, in a thread.
-- @tparam string name
-- @treturn table config
-- @treturn[2] nil
-- @treturn[2] table err
function _M.read(name)
  local text = ngx.shared[blocks.dictionary]:get(name)
  if not text then
    return errors.fail("unavailable", "the shared dictionary has lost the configuration; it is there again in a second",
      { retryable = true })
  end
  return configuration.restore(text)
end

return _M

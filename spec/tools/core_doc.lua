-- What src/bind says of longshore.core, for the reference and for the lint.
--
--   lua5.4 spec/tools/core_doc.lua FILE    writes a Lua file for ldoc
--
-- The comment right above a function that Lua sees begins with how it is called,
-- `name(arguments) -> result` or `object:name(arguments)`, and goes on as text.
local lfs = require "lfs"

local _M = {}

local function read(path)
  local f = assert(io.open(path, "rb"))
  local text = f:read("*a")
  f:close()
  return text
end

-- Name in Lua -> its function in C: of the tables, and of those set one by one.
local function registered(text)
  local list = {}
  for name, fn in text:gmatch('{%s*"([%a][%w_]*)",%s*(l_[%w_]+)%s*}') do list[#list + 1] = { name, fn } end
  for fn, name in text:gmatch('lua_pushcc?%a+%(L, (l_[%w_]+)[^;]*;%s*lua_setfield%(L, %-%d, "(%a[%w_]*)"%)') do
    list[#list + 1] = { name, fn }
  end
  return list
end

-- The comment that ends right above the function, without its stars.
local function comment_of(text, fn)
  local at = text:find("\nstatic int " .. fn .. "(", 1, true)
  local above = at and text:sub(1, at - 1)
  if not above or above:sub(-2) ~= "*/" then return nil end
  local found = above:match(".*/%*(.-)%*/$")
  return (found:gsub("\n[ \t]*%*? ?", "\n"):gsub("^%s+", ""):gsub("%s+$", ""))
end

--- Every function and method of the C module: list of `{file, name, full, text}`,
-- `full` with its object ("engine:add"); `text` is nil where its comment is missing
-- or does not begin with the call.
function _M.entries()
  local files, list = {}, {}
  for name in lfs.dir "src/bind" do
    if name:find "%.c$" then files[#files + 1] = "src/bind/" .. name end
  end
  table.sort(files)
  for _, path in ipairs(files) do
    local source = read(path)
    for _, pair in ipairs(registered(source)) do
      local text = comment_of(source, pair[2])
      local full = text and (text:match("^(" .. pair[1] .. ")[({]") or text:match("^(%l+:" .. pair[1] .. ")[({]"))
      list[#list + 1] = { file = path, name = pair[1], full = full or pair[1], text = full and text }
    end
  end
  return list
end

local HEAD = [[
--- The C module: checksums, digests, signatures, part plans, files, and the
-- transfer engine; the same for Lua 5.4 and LuaJIT.
--
-- What can fail returns `nil, err`, as the README has it; wrong arguments raise.
-- Numbers are exact to 2^53 on both Luas. What `engine` and `engine:add` take, and
-- what `engine:step` tells, is a table in the README.
-- @module longshore.core
]]

local function write(path)
  local out = { HEAD }
  for _, entry in ipairs(_M.entries()) do
    local lines = {}
    for line in ((entry.text or "") .. "\n"):gmatch("([^\n]*)\n") do
      lines[#lines + 1] = ("-- " .. line):gsub("%s+$", "")
    end
    out[#out + 1] = "-" .. table.concat(lines, "\n") .. "\n-- @function " .. entry.full .. "\n"
  end
  local f = assert(io.open(path, "wb"))
  f:write(table.concat(out, "\n"), "\nreturn {}\n")
  f:close()
end

if arg and arg[0] and arg[0]:find "core_doc%.lua$" then write(assert(arg[1], "a file expected")) end

return _M

-- Checks that every public function has its comment and is run by a spec.
--
--   lua5.4 spec/tools/documented.lua        exit 1, and a line for each that has none
--
-- Public are the functions `_M.name` and methods `methods:name` of the modules
-- below, and all of longshore.core. A function is documented by the comment
-- right above it, which begins with `---` (in C: with the call), or, an operation
-- of the store, by name in the contract (store/*.lua's head comments). It is run by a spec when
-- its name is used there, or by another module: that one's spec runs it.
local lfs = require "lfs"

-- Below lua/longshore: files and folders.
local public = { "init.lua", "broker", "clock.lua", "config.lua", "errors.lua", "http", "json.lua", "nginx", "plan.lua",
  "policy", "provider", "service", "store", "uploader" }

local function each_file(path, ending, fn)
  if lfs.attributes(path, "mode") ~= "directory" then return fn(path) end
  local names = {}
  for name in lfs.dir(path) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local below = path .. "/" .. name
    if name:sub(1, 1) ~= "." and (name:find(ending) or lfs.attributes(below, "mode") == "directory") then
      each_file(below, ending, fn)
    end
  end
end

local function read(path)
  local f = assert(io.open(path, "rb"))
  local text = f:read("*a")
  f:close()
  return text
end

local in_specs, in_modules, contract = {}, {}, {}
each_file("spec", "%.lua$", function(path)
  for name in read(path):gmatch("[.:`%s]([%a_][%w_]*)") do in_specs[name] = true end
end)
each_file("lua", "%.lua$", function(path)
  local text = read(path)
  for name in text:gmatch("[.:\"]([%a_][%w_]*)") do in_modules[name] = (in_modules[name] or 0) + 1 end
  if path:find("longshore/store/", 1, true) then
    for line in text:gmatch("%-%-([^\n]*)") do
      for name in line:gmatch("([%a_][%w_]*)[%({]") do contract[name] = true end
    end
  end
end)

local entries = {}
local bad, count = 0, 0
local function check(where, name, documented, used)
  count = count + 1
  if documented and used then return end
  bad = bad + 1
  print(("%s: %s: %s"):format(where, name, not documented and "no comment (---)" or "no spec runs it"))
end

local function read_module(path)
  local documented, number = false, 0
  for line in (read(path) .. "\n"):gmatch("([^\n]*)\n") do
    number = number + 1
    local name = line:match("^function _M[.:](%a[%w_]*)%s*%(") or line:match("^function methods[.:](%a[%w_]*)%s*%(")
      or line:match("^_M%.(%a[%w_]*) = function")
    if name then
      -- (Its definition is one mention.)
      check(("%s:%d"):format(path, number), name, documented or (path:find("/store/", 1, true) and contract[name]),
        in_specs[name] or (in_modules[name] or 0) > 1)
    end
    if line:find("^%-%-%-") then documented = true elseif not line:find("^%-%-") then documented = false end
  end
end
for _, name in ipairs(public) do each_file("lua/longshore/" .. name, "%.lua$", read_module) end

-- The C module: functions and methods, by the comments that the reference is made of.
for _, entry in ipairs(dofile "spec/tools/core_doc.lua".entries()) do
  check(entry.file, entry.full, entry.text, in_specs[entry.name])
  entries[entry.full] = true
end
for name, value in pairs(require "longshore.core") do
  if type(value) == "function" then check("longshore.core", name, entries[name], true) end
end

if bad > 0 then
  print(("%d of %d public functions"):format(bad, count))
  os.exit(1)
end

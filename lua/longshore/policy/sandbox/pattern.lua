--- Lua's patterns, in Lua: for those that could take the C library for ever.
--
-- `string.find` and its kin run in C, where no instruction is counted, and a
-- pattern such as `.-.-.-.-x` tries every combination. Here each step is an
-- instruction like any other. What a single character class means is still asked
-- of the C library, so it is the same; so are the fine points of empty matches,
-- which differ between Lua 5.4 and LuaJIT.
--
-- Runs inside the sandbox and, in specs, outside.
--
-- Room: policy, no I/O.
-- @module longshore.policy.sandbox.pattern
local error, select, tonumber, tostring, type = error, select, tonumber, tostring, type
local byte, concat, find, gsub, sub = string.byte, table.concat, string.find, string.gsub, string.sub
local unpack = table.unpack or unpack -- luacheck: ignore

local _M = {}

local MAX_CAPTURES, MAX_DEPTH = 32, 180
local UNFINISHED, POSITION = -1, -2

-- Lua 5.4 takes no empty match where the last match ended.
local skips_empty_after_match = select(2, gsub("abc", "%w*", "x")) == 1

-- LuaJIT takes a start behind the end for the end.
local clamps_start = find("", "", 2) ~= nil

local function class_end(p, i)
  local c = sub(p, i, i)
  i = i + 1
  if c == "%" then
    if i > #p then error("malformed pattern (ends with '%')", 0) end
    return i + 1
  elseif c == "[" then
    if sub(p, i, i) == "^" then i = i + 1 end
    repeat
      if i > #p then error("malformed pattern (missing ']')", 0) end
      local inside = sub(p, i, i)
      i = i + 1
      if inside == "%" then i = i + 1 end
    until sub(p, i, i) == "]"
    return i + 1
  end
  return i
end

local function single(m, i, class)
  if i > #m.s then return false end
  local c = sub(m.s, i, i)
  if class == "." then return true end
  local first = byte(class)
  if first ~= 37 and first ~= 91 then return c == class end -- neither % nor [
  return find(c, class) ~= nil
end

local run

local function get_capture(m, index, from, to)
  if index > m.level then
    if index ~= 1 then error("invalid capture index %" .. index, 0) end
    return sub(m.s, from, to - 1)
  end
  local length = m.length[index]
  if length == UNFINISHED then error("unfinished capture", 0) end
  if length == POSITION then return m.start[index] end
  return sub(m.s, m.start[index], m.start[index] + length - 1)
end

local function start_capture(m, i, pi, what)
  local level = m.level + 1
  if level > MAX_CAPTURES then error("too many captures", 0) end
  m.start[level], m.length[level], m.level = i, what, level
  local e = run(m, i, pi)
  if not e then m.level = level - 1 end
  return e
end

local function end_capture(m, i, pi)
  local level = m.level
  while level > 0 and m.length[level] ~= UNFINISHED do level = level - 1 end
  if level == 0 then error("invalid pattern capture", 0) end
  m.length[level] = i - m.start[level]
  local e = run(m, i, pi)
  if not e then m.length[level] = UNFINISHED end
  return e
end

local function balance(m, i, pi)
  if pi + 1 > #m.p then error("malformed pattern (missing arguments to '%b')", 0) end
  local open, close = sub(m.p, pi, pi), sub(m.p, pi + 1, pi + 1)
  if i > #m.s or sub(m.s, i, i) ~= open then return nil end
  local depth = 1
  for j = i + 1, #m.s do
    local c = sub(m.s, j, j)
    if c == close then
      depth = depth - 1
      if depth == 0 then return j + 1 end
    elseif c == open then
      depth = depth + 1
    end
  end
  return nil
end

local function frontier(m, i, pi)
  if sub(m.p, pi, pi) ~= "[" then error("missing '[' after '%f' in pattern", 0) end
  local ep = class_end(m.p, pi)
  local class = sub(m.p, pi, ep - 1)
  local before = i == 1 and "\0" or sub(m.s, i - 1, i - 1)
  local here = i > #m.s and "\0" or sub(m.s, i, i)
  if not find(before, class) and find(here, class) then return ep end
  return nil
end

local function back_reference(m, i, digit)
  local index = tonumber(digit)
  if index < 1 or index > m.level or m.length[index] == UNFINISHED then
    error("invalid capture index %" .. digit, 0)
  end
  if m.length[index] == POSITION then return nil end
  local text = get_capture(m, index)
  if sub(m.s, i, i + #text - 1) == text then return i + #text end
  return nil
end

local function max_expand(m, i, class, ep)
  local n = 0
  while single(m, i + n, class) do n = n + 1 end
  while n >= 0 do
    local e = run(m, i + n, ep + 1)
    if e then return e end
    n = n - 1
  end
  return nil
end

local function min_expand(m, i, class, ep)
  while true do
    local e = run(m, i, ep + 1)
    if e then return e end
    if not single(m, i, class) then return nil end
    i = i + 1
  end
end

-- One item of the pattern. Answers the end of the match; or false and where to go on.
local function step(m, i, pi)
  local p = m.p
  local c = sub(p, pi, pi)
  if c == "(" then
    if sub(p, pi + 1, pi + 1) == ")" then return start_capture(m, i, pi + 2, POSITION) end
    return start_capture(m, i, pi + 1, UNFINISHED)
  elseif c == ")" then
    return end_capture(m, i, pi + 1)
  elseif c == "$" and pi == #p then
    return i == #m.s + 1 and i or nil
  elseif c == "%" then
    local kind = sub(p, pi + 1, pi + 1)
    if kind == "b" then
      local e = balance(m, i, pi + 2)
      if not e then return nil end
      return false, e, pi + 4
    elseif kind == "f" then
      local ep = frontier(m, i, pi + 2)
      if not ep then return nil end
      return false, i, ep
    elseif find(kind, "%d") then
      local e = back_reference(m, i, kind)
      if not e then return nil end
      return false, e, pi + 2
    end
  end
  local ep = class_end(p, pi)
  local class, suffix = sub(p, pi, ep - 1), sub(p, ep, ep)
  if suffix == "*" then
    return max_expand(m, i, class, ep)
  elseif suffix == "+" then
    if not single(m, i, class) then return nil end
    return max_expand(m, i + 1, class, ep)
  elseif suffix == "-" then
    return min_expand(m, i, class, ep)
  elseif suffix == "?" then
    if single(m, i, class) then
      local e = run(m, i + 1, ep + 1)
      if e then return e end
    end
    return false, i, ep + 1
  elseif single(m, i, class) then
    return false, i + 1, ep
  end
  return nil
end

run = function(m, i, pi)
  m.depth = m.depth + 1
  if m.depth > MAX_DEPTH then error("pattern too complex", 0) end
  local n = #m.p
  while pi <= n do
    local e, next_i, next_pi = step(m, i, pi)
    if e ~= false then
      m.depth = m.depth - 1
      return e
    end
    i, pi = next_i, next_pi
  end
  m.depth = m.depth - 1
  return i
end

local function matcher(s, p)
  return { s = s, p = p, level = 0, start = {}, length = {}, depth = 0 }
end

local function try(m, i, pi)
  m.level, m.depth = 0, 0
  return run(m, i, pi)
end

local function captures(m, from, to, whole)
  local n = m.level
  if n == 0 and whole then n = 1 end
  local list = {}
  for index = 1, n do list[index] = get_capture(m, index, from, to) end
  return list, n
end

-- The first match from `init` on: start, end + 1.
local function search(m, init)
  local anchored = sub(m.p, 1, 1) == "^"
  local i = init
  repeat
    local e = try(m, i, anchored and 2 or 1)
    if e then return i, e end
    i = i + 1
  until anchored or i > #m.s + 1
  return nil
end

local function first_position(s, init)
  init = init or 1
  if init < 0 then init = #s + init + 1 end
  if clamps_start and init > #s + 1 then init = #s + 1 end
  return init < 1 and 1 or init
end

--- As string.find without `plain`.
function _M.find(s, p, init)
  init = first_position(s, init)
  if init > #s + 1 then return nil end
  if not find(p, "[%^%$%*%+%?%.%(%[%%%-]") then return find(s, p, init, true) end
  local m = matcher(s, p)
  local from, to = search(m, init)
  if not from then return nil end
  local list, n = captures(m, from, to)
  return from, to - 1, unpack(list, 1, n)
end

--- As string.match.
function _M.match(s, p, init)
  init = first_position(s, init)
  if init > #s + 1 then return nil end
  local m = matcher(s, p)
  local from, to = search(m, init)
  if not from then return nil end
  local list, n = captures(m, from, to, true)
  return unpack(list, 1, n)
end

--- As string.gmatch.
function _M.gmatch(s, p)
  local m, i, last = matcher(s, p), 1, nil
  return function()
    while i <= #s + 1 do
      local at = i
      local e = try(m, at, 1)
      if e and e ~= last then
        if skips_empty_after_match then
          i, last = e, e
        else
          i = e == at and e + 1 or e
        end
        local list, n = captures(m, at, e, true)
        return unpack(list, 1, n)
      end
      i = at + 1
    end
    return nil
  end
end

local function replacement(m, repl, from, to)
  local whole = sub(m.s, from, to - 1)
  local kind = type(repl)
  local value
  if kind == "string" or kind == "number" then
    repl = tostring(repl)
    local out, i = {}, 1
    while i <= #repl do
      local c = sub(repl, i, i)
      if c == "%" then
        i = i + 1
        c = sub(repl, i, i)
        if c == "0" then
          c = whole
        elseif find(c, "%d") then
          c = tostring(get_capture(m, tonumber(c), from, to))
        elseif c ~= "%" and skips_empty_after_match then
          error("invalid use of '%' in replacement string", 0)
        end
      end
      out[#out + 1] = c
      i = i + 1
    end
    return concat(out)
  elseif kind == "table" then
    value = repl[get_capture(m, 1, from, to)]
  else
    local list, n = captures(m, from, to, true)
    value = repl(unpack(list, 1, n))
  end
  if not value then return whole end
  if type(value) ~= "string" and type(value) ~= "number" then
    error("invalid replacement value (a " .. type(value) .. ")", 0)
  end
  return tostring(value)
end

--- As string.gsub.
function _M.gsub(s, p, repl, max)
  local anchored = sub(p, 1, 1) == "^"
  local m, out, i, count, last = matcher(s, p), {}, 1, 0, nil
  max = max or #s + 1
  while count < max do
    local e = try(m, i, anchored and 2 or 1)
    if e and e ~= last then
      count = count + 1
      out[#out + 1] = replacement(m, repl, i, e)
      if skips_empty_after_match then last = e end
    end
    if e and e > i then
      i = e
    elseif i <= #s then
      out[#out + 1] = sub(s, i, i)
      i = i + 1
    else
      break
    end
    if anchored then break end
  end
  out[#out + 1] = sub(s, i)
  return concat(out), count
end

return _M

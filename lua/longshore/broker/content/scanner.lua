--- A pull reader of JSON over chunks: what a document of any size is read with
-- when only some of it is wanted.
--
-- `peek()` looks at the next byte behind white space; `string()`, `scalar()`,
-- `skip()` and `capture()` each consume one value or one piece of it; nothing
-- recurses. It holds one chunk and the token it is reading, a string's text up
-- to a bound. What is skipped is checked for balance and strings, not for
-- every comma.
--
-- A document that is not JSON ends the scan: methods then return nil and
-- `problem()` says why: "invalid", "truncated" (the bytes ended) or "deep".
--
-- Room: broker, content; pure.
-- @module longshore.broker.content.scanner
local byte, find, match, sub = string.byte, string.find, string.match, string.sub

local _M = {}

--- Nesting that is followed.
_M.MAX_DEPTH = 1000

local QUOTE = byte('"')
local OPEN = { ["{"] = "}", ["["] = "]" }
local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function utf8_of(code)
  if code < 0x80 then return string.char(code) end
  local tail = code % 64
  local rest = (code - tail) / 64
  if code < 0x800 then return string.char(0xC0 + rest, 0x80 + tail) end
  local middle = rest % 64
  rest = (rest - middle) / 64
  if code < 0x10000 then return string.char(0xE0 + rest, 0x80 + middle, 0x80 + tail) end
  local third = rest % 64
  rest = (rest - third) / 64
  return string.char(0xF0 + rest, 0x80 + third, 0x80 + middle, 0x80 + tail)
end

-- The character of the \u escape at `i`, and where it ends. Half a surrogate
-- pair shows as U+FFFD. nil: not an escape.
local function unicode(raw, i)
  local hex = match(raw, "^\\u(%x%x%x%x)", i)
  if not hex then return nil end
  local code = tonumber(hex, 16)
  if code < 0xD800 or code > 0xDFFF then return utf8_of(code), i + 6 end
  local low = code < 0xDC00 and match(raw, "^\\u([dD][c-fC-F]%x%x)", i + 6)
  if not low then return utf8_of(0xFFFD), i + 6 end
  return utf8_of((code - 0xD800) * 1024 + tonumber(low, 16) - 0xDC00 + 0x10000), i + 12
end

-- Undoes the escapes of a string's raw text; nil if one is not JSON's, unless
-- the text was cut off there.
local function unescape(raw, cut)
  local i = find(raw, "\\", 1, true)
  if not i then return raw end
  local out, from = {}, 1
  while i do
    out[#out + 1] = sub(raw, from, i - 1)
    local plain = ESCAPES[sub(raw, i + 1, i + 1)]
    if plain then
      out[#out + 1], from = plain, i + 2
    else
      local character, after = unicode(raw, i)
      if not character then
        if cut and #raw - i < 6 then return table.concat(out) end
        return nil
      end
      out[#out + 1], from = character, after
    end
    i = find(raw, "\\", from, true)
  end
  out[#out + 1] = sub(raw, from)
  return table.concat(out)
end

-- Whether more bytes could have made a scalar of it.
local function is_begun(word)
  for _, literal in ipairs { "true", "false", "null" } do
    if sub(literal, 1, #word) == word then return true end
  end
  return find(word, "^%-?%d*%.?%d*[eE]?[+-]?$") ~= nil
end

--- Reads a document.
-- @tparam function feed see longshore.broker.content.source
-- @treturn table scanner
function _M.new(feed)
  local buffer, at, ended = "", 1, false
  local dropped = 0 -- bytes already gone from the buffer
  local trouble
  local self = {}

  -- Appends the next chunk; what lies before `keep` is dropped.
  local function more(keep)
    if ended then return false end
    local chunk = feed()
    if not chunk then
      ended = true
      return false
    end
    buffer = sub(buffer, keep) .. chunk
    dropped, at = dropped + keep - 1, at - keep + 1
    return true
  end

  local function fail(kind)
    trouble = trouble or kind
    return nil
  end

  -- A byte order mark is no part of the document.
  while #buffer < 3 and more(1) do end
  if sub(buffer, 1, 3) == "\239\187\191" then at = 4 end

  --- Why the scan ended early, and at which byte of the file.
  function self.problem() return trouble, dropped + at - 1 end

  --- The next byte (a character) behind white space; nil at the end.
  function self.peek()
    if trouble then return nil end
    while true do
      local i = find(buffer, "[^ \t\r\n\30]", at)
      if i then
        at = i
        return sub(buffer, i, i)
      end
      at = #buffer + 1
      if not more(at) then return nil end
    end
  end

  --- Consumes one given character.
  function self.take(c)
    local seen = self.peek()
    if seen == c then
      at = at + 1
      return true
    end
    return fail(seen and "invalid" or "truncated")
  end

  -- The end of a string whose opening quote is at `at`; reads on as needed.
  -- Returns raw text (cut to `max`) and whether it was cut.
  local function raw_string(max)
    at = at + 1
    local pieces, length, cut = {}, 0, false
    local function keep(first, last)
      local piece = sub(buffer, first, last)
      if length + #piece > max then
        piece = sub(piece, 1, max - length)
        cut = true
      end
      pieces[#pieces + 1] = piece
      length = length + #piece
    end
    while true do
      local i = find(buffer, '["\\]', at)
      if not i then
        keep(at, #buffer)
        at = #buffer + 1
        if not more(at) then return fail("truncated") end
      elseif byte(buffer, i) == QUOTE then
        keep(at, i - 1)
        at = i + 1
        return table.concat(pieces), cut
      else
        if i == #buffer and not more(at) then return fail("truncated") end
        i = find(buffer, "\\", at, true) -- more() may have moved it
        keep(at, i + 1)
        at = i + 2
      end
    end
  end

  --- Consumes a string.
  -- @tparam number max bytes of raw text that are kept
  -- @treturn string|nil
  -- @treturn boolean whether it was longer
  function self.string(max)
    if self.peek() ~= '"' then return fail(ended and at > #buffer and "truncated" or "invalid") end
    local raw, cut = raw_string(max)
    if not raw then return nil end
    local text = unescape(raw, cut)
    if not text then return fail("invalid") end
    return text, cut
  end

  --- Consumes a number, true, false or null.
  -- @treturn string|nil its text
  function self.scalar()
    if not self.peek() then return fail("truncated") end
    local i = find(buffer, "[^%w+%-%.]", at)
    while not i do
      if #buffer - at > 1000 then return fail("invalid") end
      if not more(at) then
        i = #buffer + 1
        break
      end
      i = find(buffer, "[^%w+%-%.]", at)
    end
    local text = sub(buffer, at, i - 1)
    at = i
    if text == "true" or text == "false" or text == "null" then return text end
    if find(text, "^%-?%d+%.?%d*[eE]?[+-]?%d*$") and find(text, "%d$") and #text <= 1000 then return text end
    return fail(i > #buffer and is_begun(text) and "truncated" or "invalid")
  end

  --- Consumes a value of any kind.
  -- @tparam[opt] number keep capture its text when it is not longer than this
  -- @treturn boolean|nil
  -- @treturn string|nil the text, when asked for and short enough
  function self.skip(keep)
    local first = self.peek()
    if not first then return fail("truncated") end
    local pieces, length = {}, 0
    local function note(from, to)
      if keep and length <= keep then
        length = length + to - from + 1
        pieces[#pieces + 1] = length <= keep and sub(buffer, from, to) or nil
      end
    end
    local function result()
      return true, keep and length <= keep and table.concat(pieces) or nil
    end
    if first == '"' then
      local raw, cut = raw_string(keep or 0)
      if not raw then return nil end
      return true, keep and not cut and '"' .. raw .. '"' or nil
    elseif not OPEN[first] then
      local text = self.scalar()
      return text and true, keep and text or nil
    end
    local stack, depth = {}, 0
    while true do
      local i = find(buffer, '[%[%]{}"]', at)
      if not i then
        note(at, #buffer)
        at = #buffer + 1
        if not more(at) then return fail("truncated") end
      else
        local c = sub(buffer, i, i)
        if c == '"' then
          note(at, i - 1)
          at = i
          local room = keep and math.max(0, keep - length) or 0
          local raw, cut = raw_string(room)
          if not raw then return nil end
          if keep then
            length = length + #raw + 2 + (cut and keep or 0)
            pieces[#pieces + 1] = '"' .. raw .. '"'
          end
        else
          note(at, i)
          at = i + 1
          if OPEN[c] then
            depth = depth + 1
            if depth > _M.MAX_DEPTH then return fail("deep") end
            stack[depth] = OPEN[c]
          else
            if stack[depth] ~= c then return fail("invalid") end
            depth = depth - 1
            if depth == 0 then return result() end
          end
        end
      end
    end
  end

  --- The members of an object, one after another: `for key in members() do`
  -- must consume the value each time. Ends early when the scan fails.
  -- @tparam number max bytes kept of a key
  function self.members(max)
    local started = false
    self.take("{")
    return function()
      if trouble then return nil end
      local c = self.peek()
      if c == "}" then
        at = at + 1
        return nil
      end
      if started and not self.take(",") then return nil end
      started = true
      local key = self.string(max)
      if not key or not self.take(":") then return nil end
      return key
    end
  end

  --- The elements of an array: `for kind in elements() do` must consume the
  -- value each time; `kind` is its first character.
  function self.elements()
    local started = false
    self.take("[")
    return function()
      if trouble then return nil end
      local c = self.peek()
      if c == "]" then
        at = at + 1
        return nil
      end
      if started and not self.take(",") then return nil end
      started = true
      c = self.peek()
      if not c then return fail("truncated") end
      return c
    end
  end

  return self
end

return _M

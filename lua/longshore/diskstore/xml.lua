--- The XML that the disk store writes and the little that it reads.
--
-- The reader knows elements, text, entities, comments, CDATA and the XML
-- declaration. A document type is refused, so no entity can be declared.
-- Depth and number of elements are limited.
--
-- Room: diskstore, no I/O.
-- @module longshore.diskstore.xml
local _M = {}

_M.namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

local MAX_DEPTH = 16

local function char_ref(c)
  return ("&#%d;"):format(c:byte())
end

local named = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

-- The length of the valid UTF-8 sequence at `i`, or nil.
local function sequence(s, i)
  local a, b, c, d = s:byte(i, i + 3)
  local function tail(x) return x and x >= 0x80 and x <= 0xBF end
  if a < 0x80 then return 1 end
  if a >= 0xC2 and a <= 0xDF then return tail(b) and 2 end
  if a >= 0xE0 and a <= 0xEF then
    if not (tail(b) and tail(c)) then return nil end
    if (a == 0xE0 and b < 0xA0) or (a == 0xED and b > 0x9F) then return nil end
    return 3
  end
  if a >= 0xF0 and a <= 0xF4 then
    if not (tail(b) and tail(c) and tail(d)) then return nil end
    if (a == 0xF0 and b < 0x90) or (a == 0xF4 and b > 0x8F) then return nil end
    return 4
  end
  return nil
end

local function valid_utf8(s)
  if not s:find("[\128-\255]") then return s end
  local out, i, n = {}, 1, #s
  while i <= n do
    local len = sequence(s, i)
    out[#out + 1] = len and s:sub(i, i + len - 1) or "\239\191\189"
    i = i + (len or 1)
  end
  return table.concat(out)
end

--- Text as it may stand in a document: markup escaped, control characters as
-- references, bytes that are no UTF-8 as U+FFFD.
-- @tparam string text
-- @treturn string
function _M.escape(text)
  text = valid_utf8(text)
  text = text:gsub("[&<>\"']", named)
  return (text:gsub("[\1-\8\11-\31\127]", char_ref))
end

--- `<name>text</name>`.
-- @tparam string name
-- @param text a string, an integer or a boolean
-- @treturn string
function _M.element(name, text)
  if type(text) == "number" then text = ("%.0f"):format(text) end
  return "<" .. name .. ">" .. _M.escape(tostring(text)) .. "</" .. name .. ">"
end

--- A whole answer with S3's namespace.
-- @tparam string root name of the root element
-- @tparam table pieces list of strings, already XML
-- @treturn string
function _M.document(root, pieces)
  return '<?xml version="1.0" encoding="UTF-8"?>\n<' .. root .. ' xmlns="' .. _M.namespace .. '">'
    .. table.concat(pieces) .. "</" .. root .. ">"
end

local function utf8_char(n)
  if n < 0x80 then return string.char(n) end
  local function tail(shift) return 0x80 + math.floor(n / shift) % 0x40 end
  if n < 0x800 then return string.char(0xC0 + math.floor(n / 0x40), tail(1)) end
  if n < 0x10000 then return string.char(0xE0 + math.floor(n / 0x1000), tail(0x40), tail(1)) end
  return string.char(0xF0 + math.floor(n / 0x40000), tail(0x1000), tail(0x40), tail(1))
end

local entities = { amp = "&", lt = "<", gt = ">", quot = '"', apos = "'" }

-- Returns the text with its entities resolved, or nil.
local function unescape(text)
  if not text:find("&", 1, true) then return text end
  local bad = false
  local out = text:gsub("&([^;&]*);?", function(name)
    local n
    if name:sub(1, 2) == "#x" then
      n = tonumber(name:match("^#x(%x%x?%x?%x?%x?%x?)$") or "", 16)
    elseif name:sub(1, 1) == "#" then
      n = tonumber(name:match("^#(%d%d?%d?%d?%d?%d?%d?)$") or "", 10)
    elseif entities[name] then
      return entities[name]
    end
    if n and n >= 1 and n <= 0x10FFFF then return utf8_char(n) end
    bad = true
    return ""
  end)
  if bad then return nil end
  return out
end

--- Reads a document.
-- @tparam string text
-- @tparam[opt=50000] number limit elements at most
-- @treturn table root: {name=, text=, [1..n]=children}; the namespace prefix is dropped from names
-- @return nil and a string that says what is wrong
function _M.parse(text, limit)
  limit = limit or 50000
  local root, stack, count = nil, {}, 0
  local at, n = 1, #text
  if text:sub(1, 3) == "\239\187\191" then at = 4 end
  while at <= n do
    local open = text:find("<", at, true)
    local plain = text:sub(at, (open or n + 1) - 1)
    local top = stack[#stack]
    if plain ~= "" then
      if top then
        local value = unescape(plain)
        if not value then return nil, "an entity that is not known" end
        top.pieces[#top.pieces + 1] = value
      elseif plain:find("[^ \t\r\n]") then
        return nil, "text outside of the root element"
      end
    end
    if not open then break end
    local two = text:sub(open + 1, open + 1)
    if two == "?" then
      local _, stop = text:find("?>", open, true)
      if not stop then return nil, "an instruction without end" end
      at = stop + 1
    elseif two == "!" then
      if text:sub(open, open + 3) == "<!--" then
        local _, stop = text:find("-->", open + 4, true)
        if not stop then return nil, "a comment without end" end
        at = stop + 1
      elseif text:sub(open, open + 8) == "<![CDATA[" and top then
        local start, stop = text:find("]]>", open + 9, true)
        if not stop then return nil, "CDATA without end" end
        top.pieces[#top.pieces + 1] = text:sub(open + 9, start - 1)
        at = stop + 1
      else
        return nil, "a document type"
      end
    else
      local stop = text:find(">", open, true)
      if not stop then return nil, "a tag without end" end
      local tag = text:sub(open + 1, stop - 1)
      at = stop + 1
      local closing = tag:match("^/([%w_:.-]+)%s*$")
      if closing then
        if not top or top.tag ~= closing then return nil, "a closing tag that closes nothing" end
        top.text = table.concat(top.pieces)
        top.pieces = nil
        stack[#stack] = nil
      else
        local name = tag:match("^([%a_][%w_:.-]*)")
        local rest = name and tag:sub(#name + 1)
        if not name or not (rest == "" or rest:find("^%s") or rest == "/") then
          return nil, "a tag without name"
        end
        count = count + 1
        if count > limit then return nil, "more elements than are read here" end
        if #stack >= MAX_DEPTH then return nil, "elements nested too deeply" end
        local node = { tag = name, name = name:match("([^:]*)$"), pieces = {} }
        if top then
          top[#top + 1] = node
        elseif root then
          return nil, "two root elements"
        else
          root = node
        end
        if tag:sub(-1) == "/" then
          node.text, node.pieces = "", nil
        else
          stack[#stack + 1] = node
        end
      end
    end
  end
  if not root then return nil, "no element" end
  if stack[1] then return nil, "an element without end" end
  return root
end

--- The text of the first child of that name.
-- @tparam table node
-- @tparam string name
-- @return string or nil
function _M.child_text(node, name)
  for _, child in ipairs(node) do
    if child.name == name then return child.text end
  end
end

return _M

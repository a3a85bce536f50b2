--- XML as object stores speak it: a strict small reader of untrusted bytes and a
-- writer that escapes everything.
--
-- The reader takes elements, text, CDATA, comments, the five named entities and
-- numeric ones. It refuses DOCTYPE (and so every entity of one's own), processing
-- instructions other than the declaration, what is not UTF-8 or not well-formed,
-- and more bytes, levels or elements than allowed. Namespace prefixes are cut
-- off, attributes checked and dropped. White space around the document is fine:
-- stores send it to keep a connection alive.
--
-- Room: provider, no I/O.
-- @module longshore.provider.xml
local errors = require "longshore.errors"
local json = require "longshore.json"
local utf8 = require "longshore.json.utf8"

local find, match, sub, gsub, byte = string.find, string.match, string.sub, string.gsub, string.byte
local concat = table.concat

local _M = {}

-- A full page of 1000 keys of 1024 bytes, each byte written as %XX or &#x..;.
local MAX_BYTES = 8 * 1024 * 1024
local MAX_DEPTH = 32
local MAX_ELEMENTS = 100000

local node_methods = {}
local node_mt = { __index = node_methods, __name = "longshore.provider.xml" }

--- The first child element of a name.
-- @tparam string name
-- @treturn table|nil node
function node_methods:first(name)
  for i = 1, #self do
    if self[i].name == name then return self[i] end
  end
end

--- The text of the first child element of a name.
-- @tparam string name
-- @treturn string|nil text; "" for an empty element
function node_methods:get(name)
  local child = self:first(name)
  return child and child.text
end

--- All child elements of a name, in order.
-- @tparam string name
-- @treturn table list of nodes
function node_methods:all(name)
  local list = {}
  for i = 1, #self do
    if self[i].name == name then list[#list + 1] = self[i] end
  end
  return list
end

---------------------------------------------------------------------------
-- Reading

local fault_mt = {}

local function fail(message, pos)
  error(setmetatable({ message = message, pos = pos }, fault_mt), 0)
end

local named = { lt = "<", gt = ">", amp = "&", quot = '"', apos = "'" }

local function numeric(digits, base, pos)
  local c = #digits <= 8 and tonumber(digits, base)
  if not c or c == 0 or c > 0x10FFFF or (c >= 0xD800 and c <= 0xDFFF) then
    fail("a character reference to no character", pos)
  end
  return utf8.char(c)
end

local function unescape(text, pos)
  if not find(text, "&", 1, true) then return text end
  return (gsub(text, "&([^;&]*)(;?)", function(body, semicolon)
    if semicolon == "" then fail("& without an entity", pos) end
    local hex = match(body, "^#x(%x+)$")
    if hex then return numeric(hex, 16, pos) end
    local digits = match(body, "^#(%d+)$")
    if digits then return numeric(digits, 10, pos) end
    return named[body] or fail("an unknown entity", pos)
  end))
end

local NAME = "^([%a_\128-\255][%w_%.:%-\128-\255]*)()"

local function local_name(name)
  return match(name, ":([^:]*)$") or name
end

-- Checks the attributes that begin at `pos`; returns the position of > or />.
local function skip_attributes(text, pos)
  while true do
    local stop = match(text, "^%s*()", pos)
    local c = sub(text, stop, stop)
    if c == ">" then return stop, false end
    if c == "/" then
      if sub(text, stop + 1, stop + 1) ~= ">" then fail("/ inside a tag", stop) end
      return stop + 1, true
    end
    if stop == pos then fail("a space is missing inside a tag", pos) end
    local _, after = match(text, NAME, stop)
    if not after then fail("a broken tag", stop) end
    local quote, value, next_pos = match(text, "^%s*=%s*([\"'])(.-)%1()", after)
    if not quote or find(value, "<", 1, true) then fail("a broken attribute", after) end
    unescape(value, after)
    pos = next_pos
  end
end

-- What is neither element nor text: returns the position after it and, for
-- CDATA, its text.
local function markup(text, pos, inside)
  if sub(text, pos, pos + 3) == "<!--" then
    local from, stop = find(text, "--", pos + 4, true)
    if not from or sub(text, stop + 1, stop + 1) ~= ">" then fail("a broken comment", pos) end
    return stop + 2
  end
  if inside and sub(text, pos, pos + 8) == "<![CDATA[" then
    local from, stop = find(text, "]]>", pos + 9, true)
    if not from then fail("CDATA without its end", pos) end
    return stop + 1, sub(text, pos + 9, from - 1)
  end
  if sub(text, pos, pos + 1) == "<?" then fail("a processing instruction", pos) end
  fail("a document type or other declaration", pos)
end

local function open_tag(text, pos, state)
  local name, after = match(text, NAME, pos + 1)
  if not name then fail("a broken tag", pos) end
  local stop, empty = skip_attributes(text, after)
  state.elements = state.elements + 1
  if state.elements > state.max_elements then fail("too many elements", pos) end
  return name, stop + 1, empty
end

local read_element

-- The inside of an element up to and with its closing tag.
local function read_content(text, pos, name, depth, state)
  local node = setmetatable({ name = local_name(name) }, node_mt)
  local pieces
  while true do
    local lt = find(text, "<", pos, true) or fail("the document ends too early", #text)
    if lt > pos then
      local piece = sub(text, pos, lt - 1)
      if find(piece, "]]>", 1, true) then fail("]]> outside CDATA", pos) end
      pieces = pieces or {}
      pieces[#pieces + 1] = unescape(piece, pos)
    end
    local c = byte(text, lt + 1)
    if c == 47 then -- </
      local closing, after = match(text, NAME, lt + 2)
      local stop = closing == name and match(text, "^%s*>()", after)
      if not stop then fail("a closing tag that does not fit", lt) end
      -- White space between child elements is layout, not text.
      node.text = pieces and (node[1] and gsub(concat(pieces), "^%s+$", "") or concat(pieces)) or ""
      return node, stop
    elseif c == 33 or c == 63 then -- <! <?
      local cdata
      pos, cdata = markup(text, lt, true)
      if cdata then
        pieces = pieces or {}
        pieces[#pieces + 1] = cdata
      end
    else
      node[#node + 1], pos = read_element(text, lt, depth + 1, state)
    end
  end
end

read_element = function(text, pos, depth, state)
  if depth > state.max_depth then fail("nested too deep", pos) end
  local name, after, empty = open_tag(text, pos, state)
  if empty then
    return setmetatable({ name = local_name(name), text = "" }, node_mt), after
  end
  return read_content(text, after, name, depth, state)
end

-- Comments and white space before or after the root element.
local function skip_outside(text, pos)
  while true do
    pos = match(text, "^%s*()", pos)
    if sub(text, pos, pos + 1) ~= "<!" then return pos end
    pos = markup(text, pos, false)
  end
end

local function read_document(text, state)
  local pos = match(text, "^\239\187\191()") or 1
  pos = match(text, "^%s*()", pos)
  local declaration, after = match(text, "^<%?xml(%s[^<>]-)%?>()", pos)
  if declaration then
    local encoding = match(declaration, "encoding%s*=%s*[\"']([^\"']*)[\"']")
    if encoding and encoding:lower() ~= "utf-8" and encoding:lower() ~= "us-ascii" then
      fail("an encoding other than UTF-8", pos)
    end
    pos = after
  end
  pos = skip_outside(text, pos)
  if sub(text, pos, pos) ~= "<" then fail("no element", pos) end
  local c = sub(text, pos + 1, pos + 1)
  if c == "?" or c == "!" then markup(text, pos, false) end
  local root
  root, pos = read_element(text, pos, 1, state)
  pos = skip_outside(text, pos)
  if pos <= #text then fail("something follows the document", pos) end
  return root
end

--- Reads a document.
-- @tparam string text
-- @tparam[opt] table limits `max_bytes` (8 MiB), `max_depth` (32), `max_elements` (100,000)
-- @treturn[1] table root node: `name`, `text` (its own text, unescaped), child
--   nodes as 1..n; methods `first(name)`, `get(name)`, `all(name)`
-- @treturn[2] nil
-- @treturn[2] table err code `invalid` or `too_large`
function _M.read(text, limits)
  assert(type(text) == "string", "text: string expected")
  limits = limits or {}
  local max_bytes = limits.max_bytes or MAX_BYTES
  if #text > max_bytes then
    return errors.fail("too_large", ("the XML has %d bytes; %d are allowed"):format(#text, max_bytes))
  end
  local bad = find(text, "\0", 1, true) or utf8.bad(text)
  if bad then
    return errors.fail("invalid", ("broken XML: not UTF-8 at byte %d"):format(bad), { position = bad })
  end
  local state = {
    elements = 0, max_elements = limits.max_elements or MAX_ELEMENTS, max_depth = limits.max_depth or MAX_DEPTH,
  }
  local ok, root = pcall(read_document, text, state)
  if ok then return root end
  if getmetatable(root) ~= fault_mt then error(root, 0) end
  return errors.fail("invalid", ("broken XML: %s at byte %d"):format(root.message, root.pos or 0),
    { position = root.pos })
end

---------------------------------------------------------------------------
-- Writing

local escapes = {
  ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&apos;",
  ["\r"] = "&#13;", ["\n"] = "&#10;", ["\t"] = "&#9;",
}

--- Whether a text can be written in XML at all (UTF-8 without control
-- characters other than tab, newline, return).
-- @tparam string text
-- @treturn boolean
function _M.representable(text)
  return not find(text, "[%z\1-\8\11\12\14-\31]") and not utf8.bad(text)
end

--- Escapes a text for the inside of an element or an attribute. Raises on what
-- `representable` refuses.
-- @tparam string text
-- @treturn string
function _M.escape(text)
  if not _M.representable(text) then error("xml.escape: a text that XML cannot hold", 2) end
  return (gsub(text, "[&<>\"'\r\n\t]", escapes))
end

--- Writes one element. `content` is a text (escaped), a number, or a list of
-- `{name, content}` pairs; pairs whose content is nil are left out.
-- @tparam string name
-- @param content
-- @tparam[opt] string namespace
-- @treturn string
function _M.element(name, content, namespace)
  local open = namespace and ('%s xmlns="%s"'):format(name, _M.escape(namespace)) or name
  local inside
  if type(content) == "table" then
    local out = {}
    for i = 1, #content do
      local pair = content[i]
      if pair[2] ~= nil then out[#out + 1] = _M.element(pair[1], pair[2]) end
    end
    inside = concat(out)
  elseif type(content) == "number" then
    inside = json.number(content)
  else
    inside = _M.escape(tostring(content))
  end
  return ("<%s>%s</%s>"):format(open, inside, name)
end

--- Writes a document: the declaration and one element.
-- @tparam string name
-- @param content as in `element`
-- @tparam[opt] string namespace
-- @treturn string
function _M.document(name, content, namespace)
  return '<?xml version="1.0" encoding="UTF-8"?>\n' .. _M.element(name, content, namespace) .. "\n"
end

return _M

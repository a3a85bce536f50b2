--- The preview of a CSV file.
--
-- Reads at most 16 MiB from the beginning, a chunk at a time, and holds one
-- chunk, one record and the sample. A file that is longer has no row count and its types
-- are those of the part that was read.
--
-- The delimiter (comma, semicolon, tab or bar) is the one that gives the
-- first records the same number of fields, more than one; Excel's `sep=;`
-- line decides if it is there. Fields may be quoted, quotes are doubled, quoted
-- fields may hold line breaks; CR, LF and CRLF end a record. The first record
-- names the columns unless one of its fields is a number. Bytes that are not
-- UTF-8 show as U+FFFD.
--
-- Room: broker, content; pure.
-- @module longshore.broker.content.csv
local source = require "longshore.broker.content.source"
local text = require "longshore.broker.content.text"
local types = require "longshore.broker.content.types"

local byte, find, sub = string.byte, string.find, string.sub

local _M = {}

-- Columns kept, bytes of a name, bytes of a field (more is cut off), rows in a sample.
_M.MAX_COLUMNS, _M.MAX_NAME, _M.MAX_FIELD, _M.SAMPLE = 1000, 255, 500, 5
-- What the delimiter is guessed from.
local GUESS_BYTES, GUESS_RECORDS = 65536, 20
local DELIMITERS = { ",", ";", "\t", "|" }

local QUOTE, LF, CR = byte('"'), byte("\n"), byte("\r")

-- Records one after another: next() returns a list of fields and how many
-- there were (those beyond MAX_COLUMNS are counted, not kept).
local function records(feed, delimiter, rest)
  local self = { buffer = rest or "", at = 1, open_quote = false, ended = false }
  local stop = "[" .. delimiter .. "\r\n]"
  local separator = byte(delimiter)

  local function more()
    if self.ended then return false end
    local chunk = feed()
    if not chunk then
      self.ended = true
      return false
    end
    self.buffer = sub(self.buffer, self.at) .. chunk
    self.at = 1
    return true
  end

  -- A field in quotes; self.at is behind the opening one.
  local function quoted()
    local pieces, length = {}, 0
    local function keep(piece)
      if length < _M.MAX_FIELD and piece ~= "" then
        piece = sub(piece, 1, _M.MAX_FIELD - length)
        pieces[#pieces + 1] = piece
        length = length + #piece
      end
    end
    while true do
      local i = find(self.buffer, '"', self.at, true)
      if not i then
        keep(sub(self.buffer, self.at))
        self.at = #self.buffer + 1
        if not more() then
          self.open_quote = true
          return table.concat(pieces)
        end
      else
        keep(sub(self.buffer, self.at, i - 1))
        self.at = i + 1
        if self.at > #self.buffer then more() end
        if byte(self.buffer, self.at) ~= QUOTE then return table.concat(pieces) end
        keep('"')
        self.at = self.at + 1
      end
    end
  end

  local function bare()
    local i = find(self.buffer, stop, self.at)
    while not i do
      local scanned = #self.buffer - self.at + 1
      if not more() then break end
      i = find(self.buffer, stop, self.at + scanned)
    end
    i = i or #self.buffer + 1
    local field = sub(self.buffer, self.at, math.min(i - 1, self.at + _M.MAX_FIELD - 1))
    self.at = i
    return field
  end

  function self.next()
    if self.at > #self.buffer and not more() then return nil end
    local fields, count = {}, 0
    while true do
      local field
      if byte(self.buffer, self.at) == QUOTE then
        self.at = self.at + 1
        field = quoted()
        if self.at <= #self.buffer then field = field .. bare() end -- "a"b: what follows belongs to it
      else
        field = bare()
      end
      count = count + 1
      if count <= _M.MAX_COLUMNS then fields[count] = field end
      local c = byte(self.buffer, self.at)
      if c == separator then
        self.at = self.at + 1
        if self.at > #self.buffer then more() end
      else
        if c == CR then
          self.at = self.at + 1
          if self.at > #self.buffer then more() end
          if byte(self.buffer, self.at) == LF then self.at = self.at + 1 end
        elseif c == LF then
          self.at = self.at + 1
        end
        return fields, count
      end
    end
  end

  return self
end

-- How well a delimiter explains the beginning of a file: its number of fields
-- if the records agree on it, 0 otherwise.
local function score(head, delimiter)
  local rows = records(function() return nil end, delimiter, head)
  local first, seen, agree = nil, 0, 0
  while seen < GUESS_RECORDS do
    local fields, count = rows.next()
    if not fields then break end
    -- the last record of a cut head may be incomplete
    if rows.at > #rows.buffer and seen > 0 then break end
    if not (count == 1 and fields[1] == "") then
      first = first or count
      seen = seen + 1
      if count == first then agree = agree + 1 end
    end
  end
  if not first or first < 2 then return 0 end
  return agree / seen * 1e6 + first
end

local function guess(head)
  local line = head:match("^([^\r\n]*)")
  local named = line:match('^"?sep=([,;|\t])"?$')
  if named then return named, #line + (head:sub(#line + 1, #line + 2) == "\r\n" and 2 or 1) end
  local best, top = ",", 0
  for _, delimiter in ipairs(DELIMITERS) do
    local points = score(head, delimiter)
    if points > top then best, top = delimiter, points end
  end
  return best, 0
end

local function is_number(field)
  local kind = types.of_text(field)
  return kind == "Integer" or kind == "Integer64" or kind == "Real"
end

-- Column names: from the header, made distinct, none empty.
local function name_columns(header, count)
  local names, used = {}, {}
  for i = 1, math.min(count, _M.MAX_COLUMNS) do
    local raw = header and header[i] or ""
    local name = text.cut((text.utf8(raw:match("^%s*(.-)%s*$"))), _M.MAX_NAME)
    if name == "" then name = "field_" .. i end
    local base, n = name, 1
    while used[name:lower()] do
      n = n + 1
      name = base .. "_" .. n
    end
    used[name:lower()] = true
    names[i] = name
  end
  return names
end

-- The next record that is not an empty line.
local function next_record(rows)
  while true do
    local fields, count = rows.next()
    if not fields or count > 1 or fields[1]:find("%S") then return fields, count end
  end
end

local function is_header(fields)
  for i = 1, #fields do
    if is_number(fields[i]) then return false end
  end
  return true
end

-- Sample rows as objects with values of their columns' types.
local function as_objects(sample, columns)
  local shown, broken = {}, false
  for r, fields in ipairs(sample) do
    local row = {}
    for i, column in ipairs(columns) do
      local field, bad = text.utf8(fields[i] or "")
      broken = broken or bad
      row[column.name] = types.value(field, column.type)
    end
    shown[r] = row
  end
  return shown, broken
end

-- Enough of the file to guess from, without its byte order mark.
local function read_head(feed)
  local head = ""
  repeat
    local chunk = feed()
    head = head .. (chunk or "")
  until not chunk or #head >= GUESS_BYTES
  return (head:gsub("^\239\187\191", ""))
end

--- Reads the beginning of a CSV file.
-- @tparam function read see longshore.broker.content.source
-- @tparam number size
-- @tparam[opt] table options `scan`, `chunk` in bytes, `sample` in rows
-- @treturn table|nil `{columns={{name,type}}, rows=number|nil, sample={{...}},
--   delimiter=, header=boolean, warnings={...}}`
-- @treturn table|nil err what reading failed with
function _M.preview(read, size, options)
  local feed = source.feed(read, size, options)
  local head = read_head(feed)
  local delimiter, skip = guess(head:sub(1, GUESS_BYTES))
  local rows = records(feed, delimiter, head:sub(skip + 1))

  local kinds, sample, total, ragged = {}, {}, 0, false
  local limit = options and options.sample or _M.SAMPLE
  local fields, count = next_record(rows)
  local width = count or 0
  local header = fields ~= nil and is_header(fields)
  local names = name_columns(header and fields, width)
  if header then fields, count = next_record(rows) end
  while fields do
    total = total + 1
    ragged = ragged or count ~= width
    for i = 1, math.min(#fields, #names) do
      local kind = kinds[i]
      if kind ~= "String" then kinds[i] = types.merge(kind, types.of_text(fields[i])) end -- nothing is wider
    end
    if #sample < limit then sample[total] = fields end
    fields, count = next_record(rows)
  end
  if feed.err() then return nil, feed.err() end

  local whole = feed.whole()
  if not whole and total > 1 and total == #sample then sample[total] = nil end -- it is cut off
  local columns, warnings = {}, {}
  for i, name in ipairs(names) do
    columns[i] = { name = name, type = kinds[i] or "String" }
  end
  local shown, broken = as_objects(sample, columns)
  local function warn(condition, message)
    if condition then warnings[#warnings + 1] = message end
  end
  warn(width > _M.MAX_COLUMNS, ("%d columns: only the first %d are shown."):format(width, _M.MAX_COLUMNS))
  warn(rows.open_quote and whole, "A quoted field is not closed before the file ends.")
  warn(ragged, "Not every row has as many fields as the first.")
  warn(broken, "Some text is not UTF-8; what could not be read shows as U+FFFD.")
  return {
    columns = columns, rows = whole and total or nil, sample = shown,
    delimiter = delimiter, header = header, warnings = warnings,
  }
end

return _M

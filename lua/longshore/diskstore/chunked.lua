--- Bodies that a client sends in chunks of its own (`aws-chunked`, announced by
-- `STREAMING-...` in x-amz-content-sha256): taken apart, checked, never stored
-- as they came.
--
-- Three kinds are known: chunks with signatures, the same with signed trailers,
-- and unsigned chunks with trailers (which carry a checksum). A chunk is
--
--     <size in hexadecimal>[;chunk-signature=<64 digits>] CR LF <bytes> CR LF
--
-- and the one of size 0 is the last. Each signature covers the one before it,
-- the first that of the request. Other kinds (ECDSA) are refused by 501.
--
-- The decoded body is a second file beside the first, which costs the disk one
-- more copy for the time of the request; memory stays at a block.
--
-- Room: diskstore.
-- @module longshore.diskstore.chunked
local core = require "longshore.core"
local fault = require "longshore.diskstore.fault"
local files = require "longshore.diskstore.files"

local _M = {}

local kinds = {
  ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD"] = { signed = true },
  ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"] = { signed = true, trailer = true },
  ["STREAMING-UNSIGNED-PAYLOAD-TRAILER"] = { trailer = true },
}

local EMPTY = core.hex(core.sha256(""))
-- A chunk's first line, or a trailer, is shorter than this.
local LINE = 1024

--- Whether a payload hash announces chunks.
-- @tparam string|nil hash
-- @treturn boolean
function _M.is(hash)
  return hash ~= nil and hash:find("^STREAMING%-") ~= nil
end

--- What is known of a kind: `signed`, `trailer`; nil for one that is not taken.
-- @tparam string hash
-- @treturn table|nil
function _M.kind(hash)
  return kinds[hash]
end

--- What verifying the chunks takes: the day's key, not the secret.
-- @tparam string secret_key
-- @tparam table parsed of core.sigv4_parse
-- @tparam string date the request's x-amz-date
-- @tparam string signature the request's
-- @treturn table chain: key, scope, date, previous
function _M.chain(secret_key, parsed, date, signature)
  local key = "AWS4" .. secret_key
  for _, step in ipairs { parsed.date, parsed.region, parsed.service, "aws4_request" } do
    key = core.hmac_sha256(key, step)
  end
  return { key = key, date = date, previous = signature,
    scope = table.concat({ parsed.date, parsed.region, parsed.service, "aws4_request" }, "/") }
end

local function sign(chain, kind, ...)
  return core.hex(core.hmac_sha256(chain.key, table.concat({ "AWS4-HMAC-SHA256-" .. kind, chain.date, chain.scope,
    chain.previous, ... }, "\n")))
end

local function incomplete(why)
  return fault.fail("IncompleteBody", "The chunked body is malformed: " .. why .. ".")
end

local function wrong_signature()
  return fault.fail("SignatureDoesNotMatch", "The signature of a chunk does not match.")
end

-- The line at `at`, without its end, and where the next one begins.
local function line_at(input, at)
  input:seek("set", at)
  local text = input:read(LINE)
  local stop = text and text:find("\n", 1, true)
  if not stop then return nil end
  return (text:sub(1, stop - 1):gsub("\r$", "")), at + stop
end

-- The trailers at `at`: names to values, and the signature of all of them.
local function read_trailers(input, at)
  local trailers, signed = {}, {}
  while true do
    local line, after = line_at(input, at)
    -- Some clients leave out the empty line at the very end.
    if not line or line == "" then return trailers, table.concat(signed) end
    local name, value = line:match("^([%w-]+)%s*:%s*(.-)%s*$")
    if not name then return nil, "a line in the trailers that is none" end
    name = name:lower()
    if trailers[name] then return nil, "a trailer twice" end
    trailers[name] = value
    if name ~= "x-amz-trailer-signature" then signed[#signed + 1] = name .. ":" .. value .. "\n" end
    at = after
  end
end

-- Verifies and copies one chunk; its size 0 says that it was the last.
local function take_chunk(state, at)
  local line, begins = line_at(state.input, at)
  if not line then return incomplete("it ends before its last chunk") end
  local size, extension = line:match("^(%x+)(.*)$")
  if not size or #size > 13 then return incomplete("a chunk without size") end
  size = tonumber(size, 16)
  if state.kind.signed then
    local signature = extension:match("^;chunk%-signature=(%x+)$")
    if not signature then return incomplete("a chunk without signature") end
    local hash = EMPTY
    if size > 0 then
      local digest, why = core.digest_file(state.from, { offset = begins, length = size, sha256 = true })
      if not digest then return nil, fault.from_io(why) end
      if digest.bytes < size then return incomplete("a chunk is shorter than it says") end
      hash = core.hex(digest.sha256)
    end
    local expected = sign(state.chain, "PAYLOAD", EMPTY, hash)
    if not core.equal(expected, signature) then return wrong_signature() end
    state.chain.previous = expected
  end
  if size > 0 then
    if state.length + size > state.limit then return incomplete("it is longer than x-amz-decoded-content-length") end
    local ok, why = files.append_range(state.output, state.from, begins, size)
    if not ok then
      if tostring(why):find("is shorter than", 1, true) then return incomplete("a chunk is shorter than it says") end
      return nil, fault.from_io(why)
    end
    state.length = state.length + size
    local rest, after = line_at(state.input, begins + size)
    if rest ~= "" then return incomplete("a chunk is longer than it says") end
    return size, after
  end
  return 0, begins
end

local function take_all(state)
  local at, size, why = 0
  repeat
    size, why = take_chunk(state, at)
    if not size then return nil, why end
    at = why -- where the next one begins
  until size == 0
  if state.length ~= state.limit then return incomplete("it is shorter than x-amz-decoded-content-length") end
  if not state.kind.trailer then return {} end
  local trailers, text = read_trailers(state.input, at)
  if not trailers then return incomplete(text) end
  if state.kind.signed then
    local signature = trailers["x-amz-trailer-signature"]
    if not signature or not core.equal(signature, sign(state.chain, "TRAILER", core.hex(core.sha256(text)))) then
      return wrong_signature()
    end
  end
  trailers["x-amz-trailer-signature"] = nil
  return trailers
end

--- Decodes a spooled body.
-- @tparam string from path of the body as it came
-- @tparam string to path of the decoded one; removed again on a fault
-- @tparam table how `kind` (of `kind`), `length` (x-amz-decoded-content-length), `chain` (of `chain`, for signed ones)
-- @treturn table trailers, lowercase names to values
-- @return[2] nil
-- @treturn[2] table fault
function _M.decode(from, to, how)
  local input, why = io.open(from, "rb")
  if not input then return nil, fault.from_io(why) end
  local output
  output, why = io.open(to, "wb")
  if not output then
    input:close()
    return nil, fault.from_io(why)
  end
  local trailers
  trailers, why = take_all { input = input, output = output, from = from, kind = how.kind, chain = how.chain,
    limit = how.length, length = 0 }
  input:close()
  local closed, broken = output:close()
  if trailers and not closed then trailers, why = nil, fault.from_io(broken) end
  if not trailers then
    os.remove(to)
    return nil, why
  end
  return trailers
end

return _M

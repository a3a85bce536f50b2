--- Signed URLs, handed out again while they are good.
--
-- A cache has `get(key) -> text | nil` and `set(key, text, seconds)`: nginx's shared dictionary (the
-- layer `memory`); where the host has none, the database keeps them. The id is made
-- of everything that the URL depends on, the file's generation too: what has changed is never found
-- again. A URL in the second half of its life is not given again.
--
-- Room: broker.
-- @module longshore.broker.managed.urls
local core = require "longshore.core"
local json = require "longshore.json"

local _M = {}

-- However short its life: a client needs that long to begin.
local LEAST = 60

local function id_of(words)
  local text = {}
  for i, word in ipairs(words) do
    word = tostring(word)
    text[i] = ("%d:%s"):format(#word, word)
  end
  return core.hex(core.sha256(table.concat(text)))
end

local function read(self, id, after)
  if self.cache then
    local text = self.cache.get("url:" .. id)
    local entry = text and json.decode(text)
    return entry and entry.expires_at > after and entry or nil
  end
  local row = self.store:cached_url(id, after) -- without the database there is no URL anyway
  return row and { url = row.url, headers = json.decode(row.headers or "{}"), expires_at = row.expires_at } or nil
end

local function keep(self, id, file_id, entry, now)
  if self.cache then
    self.cache.set("url:" .. id, json.encode { url = entry.url, headers = json.object(entry.headers or {}),
      expires_at = entry.expires_at }, entry.expires_at - now)
    return
  end
  local ok, err = self.store:cache_url { id = id, file_id = file_id, url = entry.url,
    headers = json.encode(json.object(entry.headers or {})), expires_at = entry.expires_at }
  if not ok then self.log("warn", "a URL could not be kept", { file_id = file_id, error = tostring(err) }) end
end

--- A signed URL: one that is there, or a new one.
-- @tparam table self broker
-- @tparam table row the file
-- @tparam number seconds how long a new one lives
-- @tparam table words what it depends on, beside the file, its place and its generation
-- @tparam function sign(seconds) -> grant | nil, err
-- @treturn table|nil `{url, headers, expires_at, expires_in, hit, layer, keep()}`; a new one is kept when
-- the caller says so
-- @treturn table err
function _M.get(self, row, seconds, words, sign)
  local now = self.clock.now()
  local all = { row.tenant, row.id, row.provider, row.key, row.generation, seconds }
  for _, word in ipairs(words) do all[#all + 1] = word end
  local id = id_of(all)
  local layer = self.cache and "memory" or "database"
  local entry = read(self, id, now + math.max(LEAST, seconds / 2))
  local hit = entry ~= nil
  if not hit then
    local grant, err = sign(seconds)
    if not grant then return nil, err end
    entry = { url = grant.url, headers = grant.headers, expires_at = grant.expires_at }
  end
  return {
    url = entry.url, headers = entry.headers, expires_at = entry.expires_at,
    expires_in = math.max(0, entry.expires_at - math.floor(now)), hit = hit, layer = hit and layer or "none",
    keep = function()
      if not hit and entry.expires_at > now + LEAST then keep(self, id, row.id, entry, now) end
    end,
  }
end

return _M

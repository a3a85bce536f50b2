--- What a driver is: how one service (or a bucket itself) takes an upload.
--
-- The uploader has one workflow for all of them: start or resume, send the
-- parts, checkpoint, complete. A driver says how each step is said in its
-- service's language, sends no bytes of the file itself and holds no state of
-- an upload outside the session.
--
-- A driver is a table:
--
-- * `name`: short word, in journals and messages (`newton`, `s3`).
-- * `destination`: where to, without secrets; binds journals (`http://h/v0.5`).
-- * `capabilities`: a table, below.
-- * `attach(driver, context)`: called once by the uploader before anything
--   else. `context.transport(request)` sends a request and waits for its answer
--   ({status, headers, body} | nil, err), through the retry gate of the host;
--   `request.retry` is `"safe"` (may be repeated also when it is unknown whether
--   it arrived), `"refused"` (the default: only when it was refused for load, or
--   never left) or `"never"`. `context.clock` is right (corrected by what
--   servers say) and its `sleep` lets other uploads run.
--   `context.skew` and `context.note(text)` are there too.
-- * `start(driver, source, saved)`: begins an upload, or resumes the one that
--   `saved` ({id, state, part_size, parts}) is about. `source` has `path, name,
--   size, content_type, metadata`. Returns a session, or nil, err. A `saved`
--   upload that is gone is no error: begin a new one, with `resumed` false. One
--   that turns out to be complete is answered with `completed`.
-- * `urls(driver, session, parts)`: targets for these parts, in order:
--   {{url, headers, method, expires_at, offset, length}}. Absent where the
--   service gives URLs only at the start. A target may name an `offset` and a
--   `length` inside the part: the rest is there already (resumable sessions).
-- * `checkpoint(driver, session, parts)`: {number, token} of parts that the
--   store has; true, or nil, err. Optional; runs in the background.
-- * `complete(driver, session, parts, crc32c)`: parts in order of number
--   ({number, token, length, crc32c}), the CRC32C of the whole file or nil when
--   `session.integrity` is not `"crc32c"`. Must be safe to repeat: a lost answer
--   is a success when the upload turns out to be complete. Returns a table that
--   goes into the result (`file_id`, `etag`, `crc32c`, `location`...), or nil,
--   err. `err.gone`: the upload does not exist any more; `err.final`: nothing
--   can come of it, it is to be aborted.
-- * `abort(driver, session)`: gives up for good; also called with `saved` for
--   an upload that must not be resumed. Optional.
-- * `answer(driver, session, part, event)`: reads the answer to a part itself
--   (308 of a resumable session, a service without ETags): true, token | nil,
--   err. Optional; nil alone leaves it to the uploader.
-- * `download(driver, id)`: where a file can be read: {url, headers, expires_at,
--   name, size, crc32c}, or nil, err. Optional; called again for a fresh URL.
--
-- A session is a table of the driver's own with:
--
-- * `id`: shown to people and kept in the journal;
-- * `parts`: {number, offset, length, url=?, headers=?, method=?, expires_at=?}:
--   what is to be sent (on resume: what the service lacks);
-- * `part_size`, `integrity` (`"crc32c"` or nil), `resumed`, `completed` (the
--   result, when there is nothing left to do), `notes`, `ordered` (this one's
--   parts go one after another);
-- * `have`: on resume, what the service has: {[number] = {offset, length,
--   token=?, crc32c=?}}. Without a token the service completes by itself;
-- * `state`: plain data for the journal, without secrets, and without URLs but the
--   one of a resumable session, which nothing else can find again; nil when the
--   upload cannot be resumed (a single PUT).
--
-- Capabilities:
--
-- * `batch`: how many parts `urls` signs at once (athena: 1; cognite: all);
--   0: there is no `urls`;
-- * `checkpoint`: how many parts one checkpoint takes; 0: none;
-- * `ordered`: parts go one after another (resumable sessions);
-- * `etag`: `"md5"` when the store's ETag of a part is its MD5, `"maybe"` when
--   nobody knows (equality proves it), `"opaque"` otherwise;
-- * `token`: `"etag"` (default): a part without one is an error; `"none"`: the
--   service needs none;
-- * `reask`: ask for the target again before each repetition.
--
-- Room: uploader.
-- @module longshore.uploader.driver
local _M = {}

local DEFAULTS = { batch = 0, checkpoint = 0, ordered = false, etag = "opaque", token = "etag", reask = false }

local function known(value, values)
  for _, v in ipairs(values) do
    if v == value then return true end
  end
  return false
end

--- Checks a driver (a mistake is its programmer's, so it raises) and completes
-- its capabilities.
-- @tparam table driver
-- @treturn table driver
function _M.check(driver)
  assert(type(driver) == "table", "driver: table expected")
  for _, field in ipairs { "name", "destination" } do
    assert(type(driver[field]) == "string", "driver." .. field .. ": string expected")
  end
  for _, method in ipairs { "attach", "start", "complete" } do
    assert(type(driver[method]) == "function", "driver." .. method .. ": function expected")
  end
  local capabilities = driver.capabilities or {}
  for name in pairs(capabilities) do
    assert(DEFAULTS[name] ~= nil, "driver.capabilities." .. tostring(name) .. ": no such capability")
  end
  for name, default in pairs(DEFAULTS) do
    if capabilities[name] == nil then capabilities[name] = default end
    assert(type(capabilities[name]) == type(default), "driver.capabilities." .. name .. ": "
      .. type(default) .. " expected")
  end
  assert(known(capabilities.etag, { "md5", "maybe", "opaque" }), "driver.capabilities.etag: md5, maybe or opaque")
  assert(known(capabilities.token, { "etag", "none" }), "driver.capabilities.token: etag or none")
  assert(capabilities.batch == 0 or type(driver.urls) == "function", "driver.urls: function expected")
  assert(capabilities.checkpoint == 0 or type(driver.checkpoint) == "function",
    "driver.checkpoint: function expected")
  driver.capabilities = capabilities
  return driver
end

return _M

--- Looking for what no row knows of: the last resort.
--
-- In normal life nothing is orphaned, whatever dies when: everything is written
-- down before it is done. A database that was restored from an old backup, or
-- lost, knows less than the store has. This goes through the buckets and removes
-- what this longshore made and does not know: keys that end in an id of ours (the
-- default layout), old enough to belong to no running upload, and for objects
-- with an upload's mark in their metadata; and what lies directly below the id of a
-- delivery of records, where what came by a single PUT bears no mark.
--
-- The configuration may have a bucket under several names, one below the prefix of
-- another: what any of them has is known here.
--
-- Only to be run when no other longshore, with another database, uses the same
-- bucket and prefix: it would take the other's files for orphans.
--
-- Room: broker.
-- @module longshore.broker.orphans
local errors = require "longshore.errors"
local ids = require "longshore.broker.ids"

local _M = {}

local MESSAGES = 20
local DELIVERING = { starting = true, open = true, used = true, completing = true }
local RUNNING = { starting = true, uploading = true, completing = true, aborting = true, expiring = true }

local function note(report, key, err)
  report.errors = report.errors + 1
  if #report.messages < MESSAGES then
    report.messages[#report.messages + 1] = ("%s: %s"):format(key, errors.redact(tostring(err)))
  end
end

-- A row, or false when there is none, or nil, err.
local function maybe(row, err)
  if row then return row end
  if err.code == "not_found" then return false end
  return nil, err
end

-- The uploads and the file that a key's last word stands for; false when the key
-- is not of our making.
local function owners(self, key)
  -- (A job's, with a name that its user chose: see longshore.broker.datasets.start.)
  if ("/" .. key):find("/staging/[^/]+/[^/]+$") then return false end
  local word = key:match("[^/]+$")
  if ids.is(word, "fil_") then
    local uploads, err = self.store:uploads_of_file(word)
    if not uploads then return nil, err end
    local file
    file, err = maybe(self.store:file(word))
    if file == nil then return nil, err end
    return uploads, file
  elseif ids.is(word, "upl_") then
    local upload, err = maybe(self.store:upload(word))
    if upload == nil then return nil, err end
    if not upload then return {}, false end
    local file
    file, err = maybe(self.store:file(upload.file_id))
    if file == nil then return nil, err end
    return { upload }, file
  end
  return false
end

-- Whether two keys may be one at the store: a row's, and one that was listed, perhaps
-- above or below that one's prefix. (No two ids are alike.)
local function may_be(a, b)
  if #a > #b then a, b = b, a end
  return b:sub(-#a) == a
end

-- Whether a running upload may yet need what is at this key.
local function in_use(uploads, key, upload_id)
  for _, row in ipairs(uploads) do
    if may_be(row.key, key) and RUNNING[row.state]
      and (not upload_id or not row.provider_upload_id or row.provider_upload_id == upload_id) then
      return true
    end
  end
  return false
end

-- The delivery that a key's last words stand for (`dlv_x/parts`, where its parts
-- go, `dlv_x/staging`, where a PUT does, or `dlv_x/` and a copy's id), its row or
-- false, and that word; false when the key is none of these.
local function delivery_of(self, key)
  local id, word = key:match("([^/]+)/([^/]+)$")
  if not ids.is(id, "dlv_") or not (word == "parts" or word == "staging" or ids.is(word, "")) then return false end
  local row, err = maybe(self.store:delivery(id))
  if row == nil then return nil, err end
  return { row = row, word = word }
end

-- Whether records or files have this object, or a cleanup will remove it, under any name of its bucket.
local function is_content(self, provider, key)
  local place = (provider.prefix or "") .. key
  for name, other in pairs(self.providers) do
    local prefix = other.prefix or ""
    if place:sub(1, #prefix) == prefix then
      local content, err = self.store:is_content(name, place:sub(#prefix + 1))
      if content ~= false then return content, err end
    end
  end
  return false
end

-- Whether a multipart upload is nobody's.
local function is_stray_upload(self, upload)
  local delivery, err = delivery_of(self, upload.key)
  if delivery == nil then return nil, err end
  if delivery then
    local row = delivery.row
    return not (row and may_be(row.key, upload.key) and DELIVERING[row.state]
      and (not row.provider_upload_id or row.provider_upload_id == upload.upload_id))
  end
  local uploads
  uploads, err = owners(self, upload.key)
  if uploads == nil then return nil, err end
  return uploads and not in_use(uploads, upload.key, upload.upload_id)
end

local function look_at_upload(self, report, name, provider, upload)
  local stray, err = is_stray_upload(self, upload)
  if stray == nil then return nil, err end
  if not stray then return true end
  report.uploads = report.uploads + 1
  if report.dry_run then return true end
  self.log("warn", "orphan removed", { provider = name, key = upload.key, kind = "upload" })
  return provider:abort_multipart { key = upload.key, upload_id = upload.upload_id }
end

-- Whether an object has an upload's mark.
local function is_marked(provider, key, prefix)
  local found, err = maybe(provider:head { key = key })
  if found == nil then return nil, err end
  return found and ids.is(found.marker, prefix)
end

-- Whether an object is nobody's. What is being deleted is its cleanup's.
local function is_stray_object(self, provider, key)
  local delivery, err = delivery_of(self, key)
  if delivery == nil then return nil, err end
  if delivery then
    if delivery.row and DELIVERING[delivery.row.state] then return false end
  else
    local uploads, file = owners(self, key)
    if uploads == nil then return nil, file end
    if not uploads or in_use(uploads, key) then return false end
    if file and file.key and may_be(file.key, key) then return false end
  end
  -- (Uploads are forgotten in time, and what they brought stays.)
  local content
  content, err = is_content(self, provider, key)
  if content == nil then return nil, err end
  if content then return false end
  if not delivery then return is_marked(provider, key, "upl_") end
  return delivery.word ~= "parts" or is_marked(provider, key, "dlv_")
end

local function look_at_object(self, report, name, provider, object)
  local stray, err = is_stray_object(self, provider, object.key)
  if stray == nil then return nil, err end
  if not stray then return true end
  report.objects = report.objects + 1
  if report.dry_run then return true end
  self.log("warn", "orphan removed", { provider = name, key = object.key, kind = "object" })
  return provider:delete { key = object.key }
end

local function sweep(self, report, name, provider, before, page)
  local uploads, err = provider:list_uploads { prefix = "" }
  if not uploads then return nil, err end
  for _, upload in ipairs(uploads) do
    if upload.initiated and upload.initiated <= before then
      local ok, why = look_at_upload(self, report, name, provider, upload)
      if not ok then note(report, upload.key, why) end
    end
  end
  local after
  repeat
    local objects
    objects, err = provider:list { prefix = "", after = after, limit = page }
    if not objects then return nil, err end
    for _, object in ipairs(objects) do
      after = object.key
      if object.modified and object.modified <= before then
        local ok, why = look_at_object(self, report, name, provider, object)
        if not ok then note(report, object.key, why) end
      end
    end
  until #objects < page
  return true
end

--- Removes what this longshore made and its database does not know.
-- @tparam[opt] table options `dry_run` (only count), `older_than` (seconds; default
-- how long an upload may take, and a day), `now`, `page` (objects listed at a time)
-- @treturn table report: `uploads`, `objects` removed, `errors`, `messages`
function _M.orphans(self, options)
  options = options or {}
  local age = options.older_than or ((self.policy.settings or {}).upload_seconds or 7 * 86400) + 86400
  local report = { uploads = 0, objects = 0, errors = 0, messages = {}, dry_run = options.dry_run and true or nil }
  local before = (options.now or self.clock.now()) - age
  local names = {}
  for name in pairs(self.providers) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local ok, err = sweep(self, report, name, self.providers[name], before, options.page or 1000)
    if not ok then note(report, name, err) end
  end
  return report
end

return _M

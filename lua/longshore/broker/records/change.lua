--- Changes of records that have, or wait for, their bytes.
--
-- What the policy said of a record's metadata and type when it began holds for what they
-- become: it is asked (`before_initiate`, operation `update_file`) with what they would be, outside of the
-- transaction that changes them. Whoever was quicker in between makes it ask again.
--
-- Room: broker.
-- @module longshore.broker.records.change
local access = require "longshore.broker.records.access"
local decisions = require "longshore.broker.decision"
local errors = require "longshore.errors"
local json = require "longshore.json"
local views = require "longshore.broker.records.views"

local _M = {}

local TRIES = 5

-- What of the fields the policy has a word on, as one text.
local function known(fields)
  return json.encode({ metadata = fields.metadata, mimeType = fields.mimeType }, { sorted = true })
end

-- Asks the policy about one record: what it decided on and how that is to be changed, or nil, err.
local function decide(self, actor, row, change, check)
  local now = json.decode(row.fields)
  local wished, err = change(views.view(row))
  if not wished then return nil, err end
  local fields = wished.fields
  if not fields or known(fields) == known(now) then return { before = row.fields } end
  local file = views.file(row)
  local decision, rewritten = self.policy:decide("before_initiate", {
    actor = actor, operation = "update_file", service = row.service, filename = wished.name or row.name,
    content_type = fields.mimeType or "application/octet-stream", metadata = fields.metadata, resume = false,
    file_id = file.id, upload_id = file.id, provider = row.provider or "default", if_exists = "replace", file = file,
  })
  if not decision then return nil, rewritten end
  local decided = { before = row.fields, metadata = rewritten.metadata and decision.metadata,
    mimeType = rewritten.content_type and decision.content_type }
  fields.metadata, fields.mimeType = decided.metadata or fields.metadata, decided.mimeType or fields.mimeType
  if check and (decided.metadata or decided.mimeType) then
    local ok, why = check(fields)
    if not ok then return decisions.broken(self, "before_initiate", tostring(why.field), why.message) end
  end
  return decided
end

-- The change of a row in the transaction.
local function apply(actor, change, decided)
  return function(row)
    if row.fields ~= decided.before then
      return errors.fail("busy", "the file was changed meanwhile", { reason = "moved", retryable = true })
    end
    local wished, err = change(views.view(row))
    if not wished then return nil, err end
    if wished.fields then
      wished.fields.metadata = decided.metadata or wished.fields.metadata
      wished.fields.mimeType = decided.mimeType or wished.fields.mimeType
    end
    return access.columns(actor, row.service, wished)
  end
end

local function attempt(self, actor, changes, check)
  local references = {}
  for i, entry in ipairs(changes) do references[i] = entry.reference end
  local rows, err = access.find(self, actor, references) -- also those whose time is over are missing
  if not rows then return nil, err end
  local prepared, seen = {}, {}
  for i, entry in ipairs(changes) do
    if seen[rows[i].id] then
      return errors.fail("invalid", "items: the same file stands twice", { field = "items", reason = "value",
        duplicated = { references[i] } })
    end
    seen[rows[i].id] = true
    local decided
    decided, err = decide(self, actor, rows[i], entry.change, check)
    if not decided then return nil, err end
    prepared[i] = { reference = { id = rows[i].id }, change = apply(actor, entry.change, decided) }
  end
  local changed
  changed, err = self.store:change_records(actor, prepared, self.clock.now())
  if changed or err.reason == "moved" then return changed, err end
  if err.code == "conflict" then
    err.duplicated = { { external_id = err.external_id } }
  elseif err.code == "not_found" and err.missing then
    err.missing = { references[1] }
  end
  return nil, err
end

--- Changes records, all or none.
-- @tparam table actor
-- @tparam {{reference,change},...} changes `change(record)` answers the fields to set (`name`,
-- `external_id` or false, `fields`), or nil, err
-- @tparam[opt] function check whether the service may keep such fields: true, or nil, err
-- @treturn {table,...}|nil records
-- @treturn table|nil err not_found (`missing`), conflict (`duplicated`)
function _M.run(self, actor, changes, check)
  local ok, err = access.authorize(self, actor, "update", "upload")
  if not ok then return nil, err end
  local rows
  for _ = 1, TRIES do
    rows, err = attempt(self, actor, changes, check)
    if rows or err.reason ~= "moved" then break end
  end
  if not rows then return nil, err end
  local list = {}
  for i, row in ipairs(rows) do list[i] = views.view(row) end
  return list
end

return _M

--- Which records an actor sees, and as what.
--
-- Room: broker.
-- @module longshore.broker.records.access
local check = require "longshore.broker.check"
local core = require "longshore.core"
local errors = require "longshore.errors"
local json = require "longshore.json"
local notice = require "longshore.broker.records.notice"
local rows = require "longshore.store.rows"

local _M = {}

--- How many objects one request looks for at the store; the janitor sees the rest.
_M.LOOKS = 100
--- Seconds after a URL's end in which a PUT that began in time may still arrive.
_M.LAST_LOOK = 900

--- Asks the policy whether the actor may do this at all.
function _M.authorize(self, actor, operation, right)
  check.actor(actor)
  return self:authorize(actor, operation, right, "cognite")
end

-- What no other record may have: the owner and the external id, made one word.
-- Each part is preceded by its length, so that no two combinations are alike.
local function unique_name(owner, service, external_id)
  local text = {}
  for i, word in ipairs { service, owner.tenant, owner.organization, external_id } do
    text[i] = ("%d:%s"):format(#word, word)
  end
  return core.hex(core.sha256(table.concat(text)))
end

--- The columns of what a service wishes a record to be.
-- @tparam table owner
-- @tparam string service
-- @tparam table wished `name`, `external_id` (false: none any more), `fields`
-- @treturn table
function _M.columns(owner, service, wished)
  local columns = { name = wished.name, fields = wished.fields and json.encode(wished.fields) }
  if wished.external_id then
    columns.external_id = wished.external_id
    columns.unique_name = unique_name(owner, service, wished.external_id)
  elseif wished.external_id == false then
    columns.external_id, columns.unique_name = rows.null, rows.null
  end
  return columns
end

--- Of some rows those that are there: bytes that arrived are noticed, and what
-- has none and no time left is not there any more.
-- @tparam table self broker
-- @tparam {table,...} found rows
-- @tparam number budget how many objects may be looked for
-- @treturn {table,...}|nil rows
-- @treturn number|table what is left of the budget, or err
function _M.present(self, found, budget)
  local numbers, changed = {}, {}
  for i, row in ipairs(found) do numbers[i] = row.id end
  local open, err = self.store:open_deliveries(numbers)
  if not open then return nil, err end
  for _, delivery in ipairs(open) do
    if budget <= 0 then break end
    budget = budget - 1
    local taken = notice.look(self, delivery) -- a store that is away hides nothing: the old content stays
    if taken then changed[delivery.record_id] = true end
  end
  if next(changed) then
    local references = {}
    for id in pairs(changed) do references[#references + 1] = { id = id } end
    local fresh
    fresh, err = self.store:find_records(found[1], references)
    if not fresh then return nil, err end
    for _, row in ipairs(fresh) do changed[row.id] = row end
  end
  local now, present = self.clock.now(), {}
  for _, row in ipairs(found) do
    local there = changed[row.id] == nil or changed[row.id] ~= true
    if type(changed[row.id]) == "table" then row = changed[row.id] end
    if there and (row.key or row.expires_at > now) then present[#present + 1] = row end
  end
  return present, budget
end

--- The actor's records of these references.
-- @tparam table self broker
-- @tparam table actor
-- @tparam {table,...} references
-- @tparam[opt] boolean ignore leave out what there is not
-- @treturn {table,...}|nil rows in the order of the references
-- @treturn table|nil err not_found with `missing`
function _M.find(self, actor, references, ignore)
  local found, err = self.store:find_records(actor, references)
  if not found then return nil, err end
  local rows_there
  rows_there, err = _M.present(self, found, _M.LOOKS)
  if not rows_there then return nil, err end
  local by_id, by_name = {}, {}
  for _, row in ipairs(rows_there) do
    by_id[row.id] = row
    if row.external_id then by_name[row.external_id] = row end
  end
  local list, missing = {}, {}
  for _, reference in ipairs(references) do
    local row = reference.id and by_id[reference.id] or reference.external_id and by_name[reference.external_id]
    if row then list[#list + 1] = row else missing[#missing + 1] = reference end
  end
  if missing[1] and not ignore then
    return errors.fail("not_found", "there are no such files", { missing = missing, reason = "record" })
  end
  return list
end

return _M

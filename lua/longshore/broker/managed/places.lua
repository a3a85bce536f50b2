--- Managed files change their place: another key, the trash and back, away.
--
-- Of many files, all are checked before the first is touched; then one after another
-- is moved. What is cut off in between is as far as it got, and each file whole.
--
-- Room: broker.
-- @module longshore.broker.managed.places
local access = require "longshore.broker.managed.access"
local check = require "longshore.broker.check"
local decide = require "longshore.broker.managed.decide"
local decisions = require "longshore.broker.decision"
local errors = require "longshore.errors"
local json = require "longshore.json"
local keys = require "longshore.broker.managed.keys"
local look = require "longshore.broker.managed.look"
local relocate = require "longshore.broker.managed.relocate"

local _M = {}

local function load_all(self, actor, ids, deleted)
  local list, seen = {}, {}
  for _, id in ipairs(ids) do
    local row, err = access.load(self, actor, id, "change", deleted)
    if not row then return nil, err end
    if not seen[row.id] then
      seen[row.id] = true
      list[#list + 1] = row
    end
  end
  return list
end

-- Does something with a row, on its newest version.
local function on_newest(self, row, act)
  local done, err
  for _ = 1, 4 do
    done, err = act(row)
    if done or err.reason ~= "changed" then break end
    row, err = self.store:managed_file(row.id)
    if not row then return nil, err end
  end
  return done, err
end

-- A file of the same owner that has left the key and holds it only because of its URLs.
local function left_by_owner(self, row, holder, place)
  local other, err = self.store:managed_file(holder)
  if not other then return nil, err.code ~= "not_found" and err or nil end
  local same = other.tenant == row.tenant and other.organization == row.organization and other.user == row.user
  local gone = other.status == "soft_deleted" or other.status == "purged"
    or (not relocate.BUSY[other.status] and keys.place(other.provider, other.key) ~= place)
  return same and gone and other or nil
end

-- Whether the key may be taken by this file: nobody's row, and no object without one.
-- Second: who holds it and may be relieved of it (for `former`).
local function vacant(self, row, provider_name, key, former)
  local place = keys.place(provider_name, key)
  local holder, err = self.store:claimant(place)
  if holder == row.id then return true end
  if holder and former then
    local left
    left, err = left_by_owner(self, row, holder, place)
    if left then return true, left end
    if err then return nil, err end
  end
  if holder then
    return errors.fail("conflict", "storage_key: this key is another file's", { field = "storage_key" })
  end
  if err then return nil, err end
  local provider
  provider, err = self:provider(provider_name)
  if not provider then return nil, err end
  local object
  object, err = provider:head { key = key }
  if object then
    holder = self.store:claimant(place)
    if holder == row.id then return true end -- somebody else moved it there just now
    return errors.fail("forbidden", "storage_key: there is an object that is no file's; it may not be overwritten",
      { field = "storage_key" })
  end
  if self:is_gone(err) then return true end
  return nil, self:store_failure(err)
end

-- What the policy wants of a row whose object is copied: its headers go along.
local function described(row, decision)
  local fields = decide.describe(decision, {})
  fields.decided = nil -- no new bytes come
  if decision.object_headers then
    fields.encryption = json.encode(decide.headers(row.encryption and json.decode(row.encryption) or nil, decision))
  end
  return fields
end

-- Where a file is to go.
local function target_of(self, actor, row, wish, many)
  local key = wish.key
  if key:find("/$") then
    key = key .. row.key:match("[^/]*$")
  elseif many then
    return check.invalid("storage_key", "for several files it must be a folder, with a slash at its end")
  end
  local catalog, name = self.catalogs:find(actor.tenant, row.catalog, wish.bucket or row.bucket)
  if not catalog then return nil, name end
  local ok, err = keys.check(key, #catalog.prefix, self.managed.dot_segments)
  if not ok then return nil, err end
  local decision
  decision, err = decide.ask(self, actor, { operation = "update_file", key = key, name = row.name, size = row.size,
    content_type = row.content_type, provider = name,
    metadata = row.metadata and json.decode(row.metadata) or nil }, row)
  if not decision then return nil, err end
  return { provider = name, bucket = catalog.bucket, key = key, fields = described(row, decision) }
end

--- Gives files other keys (in buckets of the same catalog).
-- @tparam table actor
-- @tparam {string,...} ids
-- @tparam table wish `key` (one that ends in a slash is a folder: names stay), `bucket`
-- @treturn {table,...}|nil files
-- @treturn table err
function _M.move_managed(self, actor, ids, wish)
  local ok, err = access.authorize(self, actor, "update_file", "upload")
  if not ok then return nil, err end
  local list
  list, err = load_all(self, actor, ids)
  if not list then return nil, err end
  local targets, taken = {}, {}
  for i, row in ipairs(list) do
    list[i], err = look.fresh(self, row)
    if not list[i] then return nil, err end
    local target
    target, err = target_of(self, actor, row, wish, #list > 1)
    if not target then return nil, err end
    local place = keys.place(target.provider, target.key)
    if taken[place] then return check.invalid("storage_key", "two of these files would have the same key") end
    taken[place] = true
    ok, err = vacant(self, row, target.provider, target.key)
    if not ok then return nil, err end
    if row.status ~= "moving" and not list[i].etag then
      return errors.fail("state", "no bytes of this file have arrived yet", { state = row.status })
    end
    targets[i] = target
  end
  local files = {}
  for i, first in ipairs(list) do
    local target = targets[i]
    local moved
    moved, err = on_newest(self, first, function(row)
      if row.provider == target.provider and row.key == target.key and row.status ~= "moving" then return row end
      if row.status == "moving" and not (row.move_provider == target.provider and row.move_key == target.key) then
        return errors.fail("conflict", "the file is on its way to another key; try again",
          { retryable = true, retry_after = 1 })
      end
      return relocate.move(self, row, target)
    end)
    if not moved then return nil, err end
    files[i] = self:view_managed(moved)
  end
  return files
end

--- Puts files into the trash.
-- @tparam table actor
-- @tparam {string,...} ids
-- @treturn {table,...}|nil files
-- @treturn table err
function _M.delete_managed(self, actor, ids)
  local ok, err = access.authorize(self, actor, "delete_file", "delete")
  if not ok then return nil, err end
  local list
  list, err = load_all(self, actor, ids, true)
  if not list then return nil, err end
  for _, row in ipairs(list) do
    if access.GONE[row.status] and row.status ~= "deleting" then return access.missing() end
    ok, err = self.policy:decide("before_delete", { actor = actor, file = self:view_managed(row) })
    if not ok then return nil, err end
  end
  local files = {}
  for i, first in ipairs(list) do
    local done, told
    done, err = on_newest(self, first, function(row)
      told = nil
      if row.status == "moving" then
        return errors.fail("conflict", "the file is on its way to another key; try again",
          { retryable = true, retry_after = 1 })
      end
      if row.status == "soft_deleted" or row.status == "purged" then return row end
      local file = self:view_managed(row)
      file.state = "deleted"
      told = row.status ~= "deleting" and self:events("after_delete", { actor = actor, file = file }) or nil
      return relocate.delete(self, row, told)
    end)
    if not done then return nil, err end
    files[i] = self:view_managed(done)
    if told then self:deliver(told) end
  end
  return files
end

--- Takes a file out of the trash.
-- @tparam table actor
-- @tparam string id
-- @treturn table|nil file
-- @treturn table err `state` when it is not in the trash
function _M.restore_managed(self, actor, id)
  local ok, err = access.authorize(self, actor, "restore_file", "upload")
  if not ok then return nil, err end
  local first
  first, err = access.load(self, actor, id, "change", true)
  if not first then return nil, err end
  local done
  done, err = on_newest(self, first, function(row)
    if row.status ~= "soft_deleted" and row.status ~= "restoring" then
      return errors.fail("state", "the file is not deleted", { state = row.status })
    end
    if row.status == "restoring" then return relocate.restore(self, row) end
    local free, former = vacant(self, row, row.provider, row.key, true)
    if not free then return nil, former end
    local decision, why = decide.ask(self, actor, { operation = "restore_file", key = row.key, name = row.name,
      size = row.size, content_type = row.content_type,
      metadata = row.metadata and json.decode(row.metadata) or nil }, row)
    if not decision then return nil, why end
    -- It was counted no longer.
    return relocate.restore(self, row, former, { fields = described(row, decision),
      room = decisions.room(row, decision, math.max(row.declared_size or 0, row.size or 0), nil, 1) })
  end)
  if not done then return nil, err end
  return self:view_managed(done)
end

--- Removes a file for good, from the trash or straight away.
-- @tparam table actor
-- @tparam string id
-- @treturn table|nil file
-- @treturn table err
function _M.purge_managed(self, actor, id)
  local ok, err = access.authorize(self, actor, "purge_file", "delete")
  if not ok then return nil, err end
  local row
  row, err = access.load(self, actor, id, "change", true)
  if not row then return nil, err end
  if row.status == "soft_deleted" then
    ok, err = self.policy:decide("before_delete", { actor = actor, file = self:view_managed(row) })
    if not ok then return nil, err end
  else
    local gone
    gone, err = self:delete_managed(actor, { id })
    if not gone then return nil, err end
    row, err = self.store:managed_file(row.id)
    if not row then return nil, err end
  end
  local done
  done, err = on_newest(self, row, function(newest)
    if newest.status == "purged" then return newest end
    if newest.status ~= "soft_deleted" then
      return errors.fail("state", "the file is being restored", { state = newest.status })
    end
    return relocate.purge(self, newest)
  end)
  if not done then return nil, err end
  return self:view_managed(done)
end

return _M

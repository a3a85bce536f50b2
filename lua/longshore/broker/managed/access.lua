--- Who may see and change which managed file.
--
-- Everything happens inside one client (tenant). There a file is seen by its owner, by the
-- administrators of its organization, by the whole organization when its visibility is
-- `organization`, and by everybody of the client when it is `public`. Its owner and the
-- administrators of its organization may change it; only its owner may overwrite it. A file
-- that one may not see is not there.
--
-- Room: broker.
-- @module longshore.broker.managed.access
local check = require "longshore.broker.check"
local errors = require "longshore.errors"

local _M = {}

local UUID = "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"

local GONE = { deleting = true, soft_deleted = true, restoring = true, purged = true, abandoned = true }

--- Whether a status means that readers do not see the file.
_M.GONE = GONE

local function is_admin(actor)
  return actor.rights.admin == true
end

local function sees(actor, row)
  if row.tenant ~= actor.tenant then return false end
  if row.visibility == "public" then return true end
  if row.organization ~= actor.organization then return false end
  return row.visibility == "organization" or row.user == actor.user or is_admin(actor)
end

--- Whether the actor owns a file.
-- @tparam table actor
-- @tparam table row
-- @treturn boolean
function _M.owns(actor, row)
  return row.tenant == actor.tenant and row.organization == actor.organization and row.user == actor.user
end

local function changes(actor, row)
  return _M.owns(actor, row) or (row.tenant == actor.tenant and row.organization == actor.organization
    and is_admin(actor))
end

local function missing()
  return errors.fail("not_found", "there is no such file")
end

_M.missing = missing

--- Asks the policy whether the actor may do this at all.
-- @tparam table self broker
-- @tparam table actor
-- @tparam string operation
-- @tparam string right
-- @treturn true|nil
-- @treturn table|nil err
function _M.authorize(self, actor, operation, right)
  check.actor(actor)
  return self:authorize(actor, operation, right, "athena")
end

--- A file for a purpose.
-- @tparam table self broker
-- @tparam table actor
-- @tparam string id
-- @tparam string purpose "read", "change" or "overwrite"
-- @tparam[opt] boolean deleted files in the trash count, too
-- @treturn table|nil row
-- @treturn table|nil err not_found, forbidden
function _M.load(self, actor, id, purpose, deleted)
  if type(id) ~= "string" or not id:find(UUID) then return missing() end
  local row, err = self.store:managed_file(id:lower())
  if not row then return nil, err end
  if not sees(actor, row) then return missing() end
  if purpose ~= "read" and not changes(actor, row) then
    if GONE[row.status] then return missing() end
    return errors.fail("forbidden", "this file is another user's", { reason = "owner" })
  end
  if GONE[row.status] and not (deleted and row.status ~= "purged" and row.status ~= "abandoned") then
    return missing()
  end
  if purpose == "overwrite" and not _M.owns(actor, row) then
    return errors.fail("forbidden", "only the owner of a file may overwrite it", { reason = "owner" })
  end
  return row
end

return _M

--- Who may see and change which dataset and which job.
--
-- Everything happens inside one tenant and organization. There a dataset is
-- seen by its owner and by administrators, and by everybody when its visibility
-- is `internal` or `public`; its owner and administrators may change it. A
-- dataset that one may not see is not there. A job belongs to who made it.
--
-- Room: broker.
-- @module longshore.broker.datasets.access
local check = require "longshore.broker.check"
local errors = require "longshore.errors"

local _M = {}

local SHARED = { internal = true, public = true }

local function owner_of(actor)
  return { tenant = actor.tenant, organization = actor.organization }
end

_M.owner_of = owner_of

local function is_admin(actor)
  return actor.rights and actor.rights.admin == true
end

--- Asks the policy whether the actor may do this at all.
-- @tparam table self broker
-- @tparam table actor
-- @tparam string operation
-- @tparam string right
-- @treturn true|nil
-- @treturn table|nil err
function _M.authorize(self, actor, operation, right)
  check.actor(actor)
  return self:authorize(actor, operation, right, "geolens")
end

local function missing(what)
  return errors.fail("not_found", what .. " not found", { reason = what:lower() })
end

--- A dataset that the actor may see.
-- @tparam table self broker
-- @tparam table actor
-- @tparam string id
-- @treturn table|nil dataset
-- @treturn table|nil err not_found
function _M.visible(self, actor, id)
  local dataset, err = self.store:dataset(id, owner_of(actor))
  if not dataset then
    if err.code == "not_found" then return missing("Dataset") end
    return nil, err
  end
  if dataset.user == actor.user or is_admin(actor) or SHARED[dataset.visibility] then return dataset end
  return missing("Dataset")
end

--- A dataset that the actor may change.
-- @tparam table self broker
-- @tparam table actor
-- @tparam string id
-- @treturn table|nil dataset
-- @treturn table|nil err not_found, forbidden
function _M.writable(self, actor, id)
  local dataset, err = _M.visible(self, actor, id)
  if not dataset then return nil, err end
  if dataset.user == actor.user or is_admin(actor) then return dataset end
  return errors.fail("forbidden", "You do not have permission to modify this dataset")
end

--- A job of the actor's own, bound to a dataset or (nil) to none.
-- Every mismatch is the same not_found, so that ids of others tell nothing.
-- @tparam table self broker
-- @tparam table actor
-- @tparam string id
-- @tparam string workflow "reupload" or "ingest"
-- @tparam[opt] string dataset_id
-- @treturn table|nil job
-- @treturn table|nil err
function _M.own_job(self, actor, id, workflow, dataset_id)
  local job, err = self.store:job(id, owner_of(actor))
  if not job and err.code ~= "not_found" then return nil, err end
  local bound = job and job.user == actor.user and job.workflow == workflow
    and (workflow == "ingest" or job.dataset_id == dataset_id)
  if not bound then return missing(workflow == "reupload" and "Reupload job" or "Job") end
  return job
end

return _M

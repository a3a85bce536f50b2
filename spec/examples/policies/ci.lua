-- Artefacts of a build: what main made is kept, what branches made is replaced.
local rules = require "longshore.policy.rules"

local function is_main(metadata) return type(metadata) == "table" and metadata.branch == "main" end

return rules.chain {
  name = "CI artefacts",
  rules.metadata { fields = {
    project = { required = true, pattern = "^[%w_%-]+$", max = 60 },
    branch = { required = true, max = 200 },
    commit = { required = true, pattern = "^%x+$", max = 40 },
  } },
  rules.size { max = 5 * GiB },
  rules.quota { organization = { bytes = 500 * GiB, running = 200 } },
  rules.key "ci/{organization}/{year}-{month}-{day}/{file_id}.{extension}",
  rules.expiry { upload = 2 * hours, url = 30 * minutes, clients = { { agent = "longshore/", url = 1 * hours } } },
  rules.tags { metadata = { "project", "commit" } },
  {
    about = "main's artefacts are kept, others replaced",
    before_initiate = function(context, host)
      if context.operation == "update_file" then return false, "an artefact says what it was built from" end
      local headers = is_main(context.metadata) and { ["cache-control"] = "public, max-age=31536000, immutable" } or nil
      local current, err = host.find { service = context.service, filename = context.filename }
      if not current and err.code ~= "not_found" then error(err.message) end
      if not current or is_main(current.metadata) then return { if_exists = "refuse", headers = headers } end
      return { if_exists = "replace", replaces = current.id, headers = headers } -- that one, and no later one of main
    end,
    before_delete = function(context)
      if is_main(context.file.metadata) and not (context.actor and context.actor.rights.admin) then
        return false, "artefacts of main are deleted by administrators"
      end
    end,
  },
}

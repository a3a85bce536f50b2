-- An archive: written once, read often, never changed, gone when its time is over.
local rules = require "longshore.policy.rules"

local YEARS = { invoice = 10, contract = 10, report = 7 }

return rules.chain {
  name = "WORM archive",
  rules.metadata { other = false, fields = {
    kind = { required = true, one_of = { "invoice", "contract", "report" } },
    reference = { required = true, max = 100 },
  } },
  rules.types { allow = { "application/pdf" } },
  rules.magic(),
  rules.overwrite "keep",
  rules.lock { mode = "COMPLIANCE", days = 7 * 365 },
  rules.forbid { visibility = true, message = "what is archived stays as it is" },
  {
    about = "what it is said to be stays, too",
    before_initiate = function(context)
      if context.operation == "update_file" then return false, "what is archived stays as it is" end
    end,
  },
  {
    about = "deleted when the years of its kind are over",
    before_delete = function(context, host)
      local file = context.file
      local years = YEARS[file.metadata and file.metadata.kind] or 10
      local ends = file.created_at + years * 366 * days
      if host.now() >= ends then return true end
      return false, { code = "forbidden", message = ("kept for %d more days"):format(
        math.ceil((ends - host.now()) / days)) }
    end,
  },
}

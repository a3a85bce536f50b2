-- Replacing a dataset: whoever does it names the version they have seen and an
-- approved change; the change system has the last word, twice.
-- The configuration allows it to be asked: policy.fetch = { "https://changes.example/api/" }
local rules = require "longshore.policy.rules"

local function approved(change, filename, host)
  local answer, err = host.fetch { url = "https://changes.example/api/" .. change, timeout = 5 }
  if not answer or answer.status >= 500 then
    host.log("warn", "the change system is away", { reason = err and err.message, change = change })
    return nil
  end
  local found = answer.status == 200 and answer.json or {}
  return found.state == "approved" and found.dataset == filename
end

return rules.chain {
  name = "dataset replacement with approval",
  rules.extensions { allow = { "csv", "parquet", "gpkg" }, none = false },
  rules.metadata { fields = {
    change = { required = true, pattern = "^CH%-%d+$", max = 20 },
    if_match = { max = 64 },
  } },
  rules.overwrite "if-match",
  {
    about = "a replacement needs an approved change",
    before_initiate = function(context, host)
      if context.if_exists ~= "replace" then return true end
      local change = context.metadata.change
      local yes = approved(change, context.filename, host)
      if yes then return true end
      if yes == nil then
        return false, { code = "unavailable", retryable = true, retry_after = 30, message = "try again later" }
      end
      return false, { code = "forbidden", field = "metadata.change",
        message = ("change %s is not approved for %s"):format(change, context.filename) }
    end,
  },
}

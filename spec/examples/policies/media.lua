-- A media site: how large a file may be depends on who brings it.
local rules = require "longshore.policy.rules"

local ROLES = { mara = "editor", jon = "editor", priya = "author" }

-- Nobody asks when bytes are noticed later; then it is whose upload they are.
local function role(context) return ROLES[(context.actor or context.upload or {}).user] end

return rules.chain {
  name = "media site",
  rules.types { allow = { "video/mp4", "video/webm", "image/jpeg", "image/png", "audio/mpeg" } },
  rules.by(role, {
    editor = rules.size { max = 50 * GiB },
    author = rules.size { max = 2 * GiB },
    otherwise = rules.chain {
      rules.size { max = 20 * MiB },
      rules.types { allow = { "image/*" } },
      rules.rate { limit = 30, seconds = 3600 },
    },
  }),
  rules.expiry { upload = 6 * hours, per_gib = 10 * minutes, max = 2 * days },
  rules.magic { strict = true },
  rules.storage_class {
    { class = "INTELLIGENT_TIERING", type = "video/*", larger_than = 1 * GiB },
    { class = "STANDARD" },
  },
  rules.tags { actor = { "user" }, set = { site = "media" } },
}

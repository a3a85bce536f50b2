-- A public drop box: anybody may leave a file; only the owners look inside.
local rules = require "longshore.policy.rules"

return rules.chain {
  name = "public drop box",
  rules.anonymous { organization = "dropbox", rights = { "upload" } },
  rules.size { max = 100 * MiB, min = 1, announced = true },
  rules.extensions { deny = { "exe", "bat", "cmd", "js", "html", "svg" } },
  rules.rate { limit = 10, seconds = 3600, by = "address" },
  rules.quota { organization = { bytes = 50 * GiB, running = 100 } },
  rules.overwrite "new-key",
  rules.expiry { upload = 1 * hours, url = 15 * minutes },
  rules.magic(),
  {
    about = "strangers do not take up each other's uploads",
    before_initiate = function(context)
      if context.resume and context.actor.user == "anonymous" then
        return false, { code = "forbidden", message = "start again: only uploads with a token can be resumed" }
      end
    end,
  },
}

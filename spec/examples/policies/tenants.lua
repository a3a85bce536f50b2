-- Each tenant has a bucket, a key and a quota of its own. The buckets are named
-- in the configuration; a tenant that is not listed gets nothing.
local rules = require "longshore.policy.rules"

return rules.chain {
  name = "a bucket for each tenant",
  rules.bucket { by = "tenant", buckets = { acme = "acme", umbrella = "umbrella" } },
  rules.key "{organization}/{year}/{month}/{file_id}.{extension}",
  rules.encryption { keys = { acme = "alias/acme-uploads", umbrella = "alias/umbrella-uploads" } },
  rules.quota { organization = { bytes = 2 * TiB }, user = { running = 20 } },
}

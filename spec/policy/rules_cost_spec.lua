-- What a client may send, however odd and long, costs the ready-made rules little: in the sandbox a rule that takes
-- long is stopped, and refuses with an error of the policy's.
local keys = require "longshore.policy.keys"
local sandbox = require "longshore.policy.sandbox"

describe("the ready-made rules", function()
  local HOST = { now = function() return 1767614400 end, take = function() return 0 end, word = keys.word,
    find = function() return nil, { code = "not_found" } end, head = function() return ("\0"):rep(512) end }
  local NAMES = { ("a"):rep(1023) .. "/", ("a"):rep(511) .. "/" .. ("a"):rep(512), ("."):rep(1023) .. "x",
    (" "):rep(1023) .. "x", (". "):rep(512), ("/"):rep(1024), ("\\"):rep(1024), ("a."):rep(512), (".a"):rep(512),
    "a." .. ("b"):rep(1021) .. "!", ("\195\188"):rep(512), ("a-"):rep(512), ("%"):rep(1024), "a" .. ("."):rep(1023) }

  it("end soon on any name, type and key", function()
    local services = {}
    for name in pairs(HOST) do services[#services + 1] = name end
    local box = assert(sandbox.new { name = "p", services = services, limits = { instructions = 200000 }, text = [[
      local rules = require "longshore.policy.rules"
      return rules.chain {
        rules.size { max = 5 }, rules.extensions { allow = { "jpg" }, deny = { "php" } },
        rules.extensions { none = false }, rules.types { allow = { "image/*", "a/*" }, deny = { "image/svg+xml" } },
        rules.key "{organization}/{file_id}.{extension}", rules.tags { actor = { "user" }, metadata = { "m" } },
        rules.metadata { fields = { m = { max = 256, pattern = "^.-x.-y$" } } }, rules.overwrite "if-match",
        rules.storage_class { { class = "A", type = "video/*" } }, rules.magic(), rules.quota { user = { files = 1 } },
        rules.addresses { deny = { "2001:db8::/33" } }, rules.expiry { clients = { { agent = "x", upload = 5 } } },
      }]] })
    for _, name in ipairs(NAMES) do
      for _, hook in ipairs { "before_initiate", "authorize", "before_register" } do
        local ok, err = box:call(hook, { service = "newton", filename = name, client_key = name,
          content_type = (name:gsub("[\128-\255]", "x"):sub(1, 255)), size = 1, file_id = "f", upload_id = "u",
          metadata = { m = name:sub(1, 256), if_match = name },
          actor = { user = name, organization = name, tenant = name, client = { address = name, agent = name } },
          upload = { content_type = name } }, HOST)
        assert.is_true(ok, ("%s %q: %s"):format(hook, name:sub(1, 10), tostring(type(err) == "table" and err.message)))
      end
    end
  end)
end)

-- No value of a configuration gets out of its place in nginx.conf.
local config_room = require "longshore.config"
local errors = require "longshore.errors"

-- A value, with something behind it that would be a directive.
local ENDINGS = { "; EVIL on;", "; } EVIL {", "\nEVIL on;", "\" EVIL \"", "' EVIL '", "\\\" EVIL", "$EVIL", " EVIL=on",
  "#EVIL", "{EVIL}", "\rEVIL;", "]] EVIL" }

local TEMPLATES = { "longshore.nginx.conf_broker", "longshore.nginx.conf_diskstore" }

-- Where a configuration's words go, and what they begin with.
local PLACES = {
  { "data", "/srv/data" },
  { "log.access", "/var/log/x" }, { "log.access", "syslog:server=127.0.0.1" }, { "log.access", "/dev/stderr" },
  { "log.audit", "/var/log/x" }, { "log.audit", "syslog:server=127.0.0.1" },
  { "broker.tls.certificate", "/etc/x" }, { "broker.listen", "127.0.0.1" }, { "broker.listen", "127.0.0.1:80" },
  { "broker.metrics_allow.1", "10.0.0.1" }, { "diskstore.folder", "/srv/x" }, { "diskstore.listen", "127.0.0.1:81" },
  { "diskstore.tls.key", "/etc/x" }, { "nginx.modules.1", "/m.so" }, { "nginx.lua_path", "/x/?.lua" },
  { "nginx.lua_cpath", "/x/?.so" }, { "nginx.user", "www-data" },
}

local function set(config, path, value)
  local at, last = config, nil
  for word in path:gmatch("[^%.]+") do
    word = tonumber(word) or word
    if last then
      at[last] = at[last] or {}
      at = at[last]
    end
    last = word
  end
  at[last] = value
end

-- What nginx reads of a text that it is not told to take as it is.
local function bare(text)
  return (text:gsub('"[^"\n]*"', '""'))
end

describe("nginx.conf", function()
  local function render(template, config)
    local given = config.nginx
    return require(template).render(config, { binary = "/usr/sbin/nginx", modules = given.modules or {},
      lua_path = given.lua_path or "/x", lua_cpath = given.lua_cpath or "/x", user = given.user and given.user .. " x",
      access_log = config.log.access or "off", folder = config.data .. "/run/x", config = config.data .. "/run/x.lua" })
  end

  it("has no more connections than there may be files, and raises what it may", function()
    local conf = require "longshore.nginx.conf"
    local function lines(soft, hard)
      local text = conf.render({ folder = "/x", modules = {}, lua_path = "/x", lua_cpath = "/x",
        files = soft and { soft = soft, hard = hard } },
        { listen = "127.0.0.1:80", workers = 1, pools = {}, server = {}, body_folder = "/x" })
      return text:match("worker_connections (%d+)"), text:match("worker_rlimit_nofile (%d+)")
    end
    assert.same({ "4096" }, { lines(20000, 20000) })
    assert.same({ "4096" }, { lines() })
    assert.same({ "4096", "8192" }, { lines(1024, 1048576) })
    assert.same({ "4096", "8192" }, { lines(1024, math.huge) })
    assert.same({ "4096", "5000" }, { lines(1024, 5000) })
    assert.same({ "1024", "1024" }, { lines(1024, 1024) })
  end)

  local function check(given)
    given.broker, given.diskstore = given.broker or {}, given.diskstore or {}
    for _, tls in ipairs { given.broker, given.diskstore } do
      if tls.tls then
        tls.tls.certificate, tls.tls.key = tls.tls.certificate or "/c", tls.tls.key or "/k"
      end
    end
    return config_room.check(given)
  end

  for _, place in ipairs(PLACES) do
    it(("keeps %s (%s...) in its place"):format(place[1], place[2]), function()
      for _, format in ipairs { "text", "json" } do
        for i = 0, #ENDINGS do
          local given, ending = { log = { format = format } }, ENDINGS[i] or ""
          set(given, place[1], place[2] .. ending)
          local config = check(given)
          for _, template in ipairs(config and TEMPLATES or {}) do
            local ok, text = pcall(render, template, config)
            if not ok then
              assert.is_true(errors.is(text), tostring(text))
            else
              assert.is_nil(bare(text):find("EVIL", 1, true), ending)
            end
          end
        end
      end
    end)
  end
end)

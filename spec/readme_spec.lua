-- The README works when pasted: its Lua blocks run as they stand (but for the
-- ports), its nginx location is put into an nginx, its configuration is loaded.
local config = require "longshore.config"
local core = require "longshore.core"
local diskstore = require "spec.support.diskstore"
local serve = require "spec.support.serve"
local support = require "spec.support"

local quote = support.quote

describe("the README", function()
  local server, store, folder, blocks

  setup(function()
    blocks = {}
    local text = assert(support.read_file(support.root .. "/README.md"))
    for language, block in text:gmatch("```(%a+)\n(.-)```") do
      blocks[language] = blocks[language] or {}
      table.insert(blocks[language], block)
    end
    server = serve.start()
    store = diskstore.start()
    folder = support.tmpdir()
  end)
  teardown(support.cleanup)

  -- The one block of a language that contains a text.
  local function block_with(language, text)
    local found
    for _, block in ipairs(blocks[language]) do
      if block:find(text, 1, true) then
        assert.is_nil(found, "two blocks contain " .. text)
        found = block
      end
    end
    return assert(found, "no block contains " .. text)
  end

  -- Runs a script in the folder; the ports are those of our servers.
  local function run(script)
    script = script:gsub("127%.0%.0%.1:8080", "127.0.0.1:" .. server.port)
      :gsub("127%.0%.0%.1:9000", "127.0.0.1:" .. store.port)
    local path = support.write_file(folder .. "/script.lua", script)
    return support.run(("cd %s && LONGSHORE_TOKEN=%s AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s "
      .. "XDG_STATE_HOME=%s %s %s"):format(quote(folder), quote(server.token), quote(store.access_key),
      quote(store.secret_key), quote(folder), support.lua, quote(path)))
  end

  -- A block for the shell, in a checkout that has served already: its folder.
  local function paste(block, after)
    local checkout = support.tmpdir()
    assert.equal(0, (support.run(("cd %s && ln -s %s/build %s/lua . && ln -s %s longshore-data"):format(quote(checkout),
      quote(support.root), quote(support.root), quote(server.data)))))
    block = block:gsub("127%.0%.0%.1:8080", "127.0.0.1:" .. server.port)
    local script = support.write_file(checkout .. "/script.sh", "set -e\n" .. block .. (after or ""))
    local code, out = support.run(("cd %s && env -u LUA_PATH -u LUA_CPATH XDG_STATE_HOME=%s LONGSHORE_LUA=%s sh %s")
      :format(quote(checkout), quote(checkout), support.lua, quote(script)))
    assert.equal(0, code, out)
    return out
  end

  it("uploads, lists, reads back and compares with the lines for the shell, and deletes", function()
    local out = paste((block_with("sh", "longshore get")))
    assert.truthy(out:find("video%.mp4  50%.0 MiB  crc32c %S+  fil_%w+  %(crc32c compared; whole file"), out)
    assert.truthy(out:find("registered +50%.0 MiB  fil_%w+  video%.mp4"), out)
    assert.truthy(out:find("(%x+)  video%.mp4\n%1  copy%.mp4\n"), out)
    local delete = assert(support.read_file(support.root .. "/README.md")):match("`(curl %-X DELETE.-)`")
    out = paste(("LONGSHORE_TOKEN=%s\n%s"):format(quote(server.token), (delete:gsub("\n", " "))),
      "\nLONGSHORE_TOKEN=$LONGSHORE_TOKEN build/bin/longshore status http://127.0.0.1:" .. server.port)
    assert.truthy(out:find("ms: 0 files, 0 B", 1, true), out)
  end)

  it("uploads to other services with the lines for the shell", function()
    for service, name in pairs { athena = "report.pdf", cognite = "plan.pdf" } do
      local out = paste("export PATH=$PWD/build/bin:$PATH; echo of-" .. service .. " >" .. name .. "\n"
        .. block_with("sh", "--service " .. service))
      assert.truthy(out:find(name .. "  %d+ B  crc32c %S+  %S+  %(crc32c compared%)"), out)
    end
  end)

  it("gives a script its modules and its keys", function()
    local out = paste(block_with("sh", "LUA_CPATH"):gsub("build/lua5%.4", "build/" .. support.lua),
      ("\n%s -e 'print(require(\"longshore\").presign { url = \"s3://longshore/k\", "
        .. "endpoint = \"%s\", access_key = os.getenv \"AWS_ACCESS_KEY_ID\", "
        .. "secret_key = os.getenv \"AWS_SECRET_ACCESS_KEY\" })' | cut -f1 >url\n"
        .. "curl -s \"$(cat url)\""):format(support.lua, server.store_url))
    assert.truthy(out:find("NoSuchKey", 1, true), out) -- and not a signature that differs
  end)

  it("presigns a URL that takes the announced bytes and no others", function()
    local code, url = run(block_with("lua", "longshore.presign"))
    assert.equal(0, code, url)
    url = url:gsub("%s+$", "")
    local function put(body, content_type)
      local _, status = support.run(("curl -s -o /dev/null -w '%%{http_code}' -X PUT -H 'content-type: %s' "
        .. "--data-binary %s %s"):format(content_type, quote(body), quote(url)))
      return status
    end
    assert.equal("403", put("123456", "text/csv"))
    assert.equal("403", put("12345", "text/plain"))
    assert.equal("200", put("12345", "text/csv"))
  end)

  it("uploads a file through the broker", function()
    support.write_file(folder .. "/video.mp4", core.random(4096):rep(1000))
    local code, out = run(block_with("lua", "longshore.upload"))
    assert.equal(0, code, out)
    assert.truthy(out:find("fil_%w+%s+4096000%s+crc32c"), out)
  end)

  it("sends a file with the engine", function()
    local data = core.random(4096):rep(1000)
    support.write_file(folder .. "/video.mp4", data)
    local code, out = run(([[
      local url = assert(require("longshore").presign { method = "PUT", url = "s3://%s/engine", region = %q,
        endpoint = %q, access_key = %q, secret_key = %q })
      ]]):format(store.bucket, store.region, store.endpoint, store.access_key, store.secret_key)
      .. block_with("lua", "core.engine"))
    assert.equal(0, code, out)
    assert.truthy(out:find(('200\t"%s"\t%.0f'):format(core.hex(core.md5(data)), core.crc32c(data)), 1, true), out)
  end)

  it("uses the broker from a script, without nginx", function()
    local code, out = run((block_with("lua", "longshore.app"):gsub('{ data = "longshore%-data" }',
      function() return ("{ data = %q, diskstore = { listen = %q } }"):format(server.data,
        "127.0.0.1:" .. server.store_port) end)))
    assert.equal(0, code, out)
    assert.truthy(out:find("1%s+0%s+5%s+http://127.0.0.1:%d+/longshore/"), out)
    assert.truthy(out:find("X-Amz-Signature=", 1, true), out)
  end)

  it("has an nginx location that signs", function()
    local port, prefix, tree = support.free_port(), support.tmpdir(), support.public_tree()
    local modules = ""
    for _, name in ipairs { "ndk_http_module.so", "ngx_http_lua_module.so" } do
      local path = "/usr/lib/nginx/modules/" .. name
      if support.read_file(path) then modules = modules .. "load_module " .. path .. ";\n" end
    end
    support.write_file(prefix .. "/nginx.conf", modules .. ([[
      daemon off; pid nginx.pid; error_log error.log; events {}
      http {
        access_log off;
        client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
        lua_package_path "%s/lua/?.lua;;"; lua_package_cpath "%s/build/luajit/?.so;;";
        server { listen 127.0.0.1:%d;
          %s
        }
      }]]):format(tree, tree, port, block_with("nginx", "/upload-url")))
    support.spawn("/usr/sbin/nginx", { args = { "-p", prefix .. "/", "-c", "nginx.conf", "-e", "error.log" } })
    assert.is_true(support.wait_port(port), support.read_file(prefix .. "/error.log"))
    local _, url = support.run(("curl -s http://127.0.0.1:%d/upload-url"):format(port))
    local target = url:match("^https://s3%.example%.com(/%S+)%s*$")
    assert.truthy(target, url)
    assert.is_true(core.sigv4_verify({ method = "PUT", target = target, headers = { host = "s3.example.com" } },
      { secret_key = "not-so-secret", now = core.now(), region = "us-east-1" }))
  end)

  it("mounts the broker with lines that the generated configuration has too", function()
    local mount = block_with("nginx", "init_worker_by_lua_block")
    local conf = support.read_file(server.data .. "/run/broker/nginx.conf")
    for call in mount:gmatch('require%("longshore%.nginx"%)%.(%w+)') do
      assert.truthy(conf:find('require%(?"longshore%.nginx"%)?%.' .. call) or conf:find("longshore%.nginx.-" .. call),
        call .. " is not in the configuration of serve")
    end
  end)

  it("shows a configuration that loads", function()
    support.write_file(folder .. "/uploads.pem", "certificate")
    support.write_file(folder .. "/uploads.key", "key")
    local path = support.write_file(folder .. "/longshore.lua", (block_with("lua", "public_url")
      :gsub("/etc/ssl", folder):gsub('env "AWS_ACCESS_KEY_ID"', '"a"'):gsub('env "AWS_SECRET_ACCESS_KEY"', '"b"')))
    local loaded, err = config.load(path)
    assert.truthy(loaded, tostring(err))
    assert.equal(900, loaded.policy.url_seconds)
    assert.equal("example-uploads", loaded.buckets.default.bucket)
  end)

  it("shows a policy that does what its cases say", function()
    local policy = support.write_file(folder .. "/policy.lua", block_with("lua", "-- policy.lua:"))
    local cases = support.write_file(folder .. "/policy_cases.lua", block_with("lua", "-- policy_cases.lua:"))
    local code, out = support.run(("%s %s/lua/longshore/cli/main.lua policy test %s %s"):format(support.lua,
      quote(support.root), quote(policy), quote(cases)))
    assert.equal(0, code, out)
    assert.truthy(out:find("2 cases, 0 failed", 1, true), out)
  end)

  it("names every command, and no other", function()
    local text = support.read_file(support.root .. "/README.md")
    for _, command in ipairs(require("longshore.cli").commands) do
      assert.truthy(text:find("| `" .. command[1]:gsub("%-", "%%-") .. "[ `]"), command[1] .. " is missing")
    end
  end)

  it("lists every operation of every service, with a spec that is there", function()
    local text = support.read_file(support.root .. "/README.md")
    local registry = require "longshore.service.registry"
    local services = {}
    for _, name in ipairs(registry.names) do services[name] = { enabled = true } end
    for name, settings in pairs(assert(config.check { data = folder }).services) do services[name] = settings end
    local listed = 0
    for title, path in text:gmatch("%[([^%]]+)%]%((spec/[^)]+)%)") do
      local spec = assert(support.read_file(support.root .. "/" .. path), path)
      assert.truthy(spec:find(title, 1, true), title .. " is not in " .. path)
      listed = listed + 1
    end
    for _, route in ipairs(registry.routes(services)) do
      assert.truthy(text:find(("| %s | `%s %s`"):format(route.service.name, route.method, route.path), 1, true),
        route.method .. " " .. route.path .. " is missing")
    end
    assert.is_true(listed > 60)
  end)
end)

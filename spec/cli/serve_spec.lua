-- `longshore serve` as its users meet it: first run, stops, kills, mistakes.
local http = require "spec.support.http"
local json = require "longshore.json"
local lfs = require "lfs"
local serve = require "spec.support.serve"
local socket = require "socket"
local support = require "spec.support"
local uv = require "luv"

local root = uv.getuid() == 0

-- Runs it to its end: exit code and output.
local function run(args, prefix)
  local words = {}
  for i, arg in ipairs(args) do words[i] = support.quote(arg) end
  return support.run(("timeout 60 %s %s %s/lua/longshore/cli/main.lua serve %s"):format(prefix or "", support.lua,
    support.root, table.concat(words, " ")))
end

local function info(server)
  return http.call("GET", server.url .. "/v0.5/files/info", server.token)
end

local function put_file(server, name, content)
  local base = server.url .. "/v0.5/files/uploads/"
  local begun = http.call("POST", base .. "initiate", server.token,
    { filename = name, file_type = "a/b", num_bytes = #content })
  if begun.status ~= 200 then return begun end
  local upload = begun.json
  local etag = http.request({ method = "PUT", url = upload.parts[1].url, body = content }).headers.etag
  return http.call("POST", base .. upload.upload_id .. "/complete", server.token,
    { parts = { { part_number = 1, part_token = etag } } })
end

local function get_file(server, name)
  local response = http.call("GET", server.url .. "/v0.5/files/download/" .. name, server.token)
  return http.request({ url = response.headers.location }).body
end

describe("longshore serve", function()
  after_each(support.cleanup)

  it("sees when URLs lead where other machines do not come", function()
    local function unreachable(listen, store)
      return require("longshore.cli.serve.host").unreachable(assert(require("longshore.config").check {
        broker = { listen = listen }, diskstore = store }))
    end
    assert.equal("http://127.0.0.1:9000", unreachable("0.0.0.0:80", {}))
    assert.equal("http://127.0.0.1:9001", unreachable("10.0.0.1:80", { listen = "0.0.0.0:9001" }))
    assert.falsy(unreachable("127.0.0.1:80", {}))
    assert.falsy(unreachable("[::1]:80", {}))
    assert.falsy(unreachable("0.0.0.0:80", { public_endpoint = "https://files.example" }))
    assert.falsy(unreachable("0.0.0.0:80", { listen = "10.0.0.1:9000" }))
  end)

  it("makes everything at the first run, for its owner only, and keeps it", function()
    local server = serve.start()
    local function mode(name) return lfs.attributes(server.data .. name, "permissions") end
    assert.equal("rwx------", mode "")
    assert.equal("rw-------", mode "/token")
    assert.equal("rw-------", mode "/diskstore-credentials")
    assert.equal("rw-------", mode "/run/config.lua")
    assert.equal("rw-------", mode "/longshore.db")
    assert.equal(200, info(server).status)
    assert.equal("rw-------", mode "/longshore.db-wal")
    assert.equal("rwx------", mode "/run")
    assert.equal("rwx------", mode "/objects")
    local text = support.read_file(server.log)
    assert.truthy(text:find(("longshore put FILE %s"):format(server.url), 1, true))
    assert.truthy(text:find(server.data .. "/token", 1, true))
    assert.is_nil(text:find(server.token, 1, true))
    assert.equal(200, put_file(server, "kept.bin", "hello").status)
    assert.equal(0, server:stop())
    assert.truthy(support.read_file(server.log):find("longshore: stopped", 1, true))
    assert.same({}, server:nginx_pids())

    local token, credentials = server.token, support.read_file(server.data .. "/diskstore-credentials")
    server:start()
    assert.equal(token, server.token)
    assert.equal(credentials, support.read_file(server.data .. "/diskstore-credentials"))
    assert.equal("hello", get_file(server, "kept.bin"))
    assert.equal(0, server:stop("sigint"))
  end)

  it("is what --data means to the commands beside it, ports and all", function()
    local server = serve.start { config = "return { policy = { max_size = 5 } }" }
    assert.equal(413, put_file(server, "a", "longer").status)
    local command = ("%s %s/lua/longshore/cli/main.lua "):format(support.lua, support.root)
    local code, out = support.run(command .. "janitor --orphans --data " .. support.quote(server.data) .. "/ 2>&1")
    assert.equal(0, code, out)
    code, out = support.run(("cd %s && %stoken list --data data 2>&1"):format(
      support.quote(server.data:match "^(.*)/data$"), command))
    assert.equal(0, code, out)
    assert.truthy(out:find("first longshore serve", 1, true))
    -- A copy is not that broker.
    support.run(("cp -R %s %s.copy"):format(support.quote(server.data), support.quote(server.data)))
    local settings, copy = require "longshore.cli.settings", server.data .. ".copy"
    assert.equal(copy .. "/longshore.db", assert(settings.load { data = copy }).store.path)
    assert.equal(5, assert(settings.load { data = server.data }).policy.max_size)
    assert.equal(0, server:stop())
  end)

  it("does not wait for connections on which nothing is asked", function()
    local server = serve.start()
    local idle = {}
    for i, url in ipairs { server.url, server.url, (http.call("POST", server.url .. "/v0.5/files/uploads/initiate",
      server.token, { filename = "x", file_type = "a/b", num_bytes = 1 }).json.parts[1].url) } do
      idle[i] = assert(socket.connect(url:match "^http://([^:/]+):(%d+)"))
    end
    local began = socket.gettime()
    assert.equal(0, server:stop())
    assert.is_true(socket.gettime() - began < 14)
    for _, connection in ipairs(idle) do connection:close() end
  end)

  it("starts again after everything was killed, and after only itself was", function()
    local server = serve.start()
    assert.equal(200, put_file(server, "a", "before").status)
    server:kill()
    server:start()
    assert.equal("before", get_file(server, "a"))
    -- Now nginx outlives it, and still has the ports.
    server.process:kill("sigkill")
    server.process:wait(5)
    assert.truthy(#server:nginx_pids() >= 4)
    assert.equal(200, info(server).status)
    server:start()
    assert.equal("before", get_file(server, "a"))
    assert.equal(4, #server:nginx_pids())
    assert.equal(0, server:stop())
    assert.same({}, server:nginx_pids())
  end)

  it("starts an nginx again that was killed, with or without its workers", function()
    local server = serve.start()
    local put = put_file(server, "a", "content")
    assert.equal(200, put.status, put.body)
    local masters = {}
    for _, name in ipairs { "broker", "diskstore" } do
      local pid = tonumber(support.read_file(server.data .. "/run/" .. name .. "/nginx.pid"))
      masters[name] = pid
      uv.kill(pid, "sigkill")
    end
    assert.truthy(support.wait_until(function()
      if not (support.wait_port(server.port, 1) and support.wait_port(server.store_port, 1)) then return false end
      for name, old in pairs(masters) do
        local pid = tonumber((support.read_file(server.data .. "/run/" .. name .. "/nginx.pid")))
        if not pid or pid == old then return false end
      end
      return true
    end, 60))
    assert.equal("content", get_file(server, "a"))
    assert.equal(4, #server:nginx_pids())
    assert.truthy(support.read_file(server.log):find("starting it again", 1, true))
    assert.equal(0, server:stop())
  end)

  it("starts an nginx again with what the longshore that is installed by then needs", function()
    local tree = support.tmpdir()
    assert.equal(0, (support.run(("chmod 755 %s && cd %s && cp -R --parents lua build/%s/longshore "
      .. "build/luajit/longshore %s"):format(tree, support.quote(support.root), support.lua, tree))))
    local server = serve.start { tree = tree }
    assert.equal(200, info(server).status)
    -- The new one wants a thread pool of another name.
    local path = tree .. "/lua/longshore/nginx/pools.lua"
    local text, count = support.read_file(path):gsub('name = "longshore",', 'name = "longshore_new",')
    assert.equal(1, count)
    support.write_file(path, text)
    local conf, pid_file = server.data .. "/run/broker/nginx.conf", server.data .. "/run/broker/nginx.pid"
    local old = tonumber((support.read_file(pid_file)))
    uv.kill(old, "sigkill")
    assert.truthy(support.wait_until(function()
      local pid = tonumber((support.read_file(pid_file) or ""))
      return pid and pid ~= old and support.wait_port(server.port, 1)
    end, 60))
    assert.truthy(support.read_file(conf):find("thread_pool longshore_new ", 1, true))
    local answer = info(server)
    assert.equal(200, answer.status, answer.body)
    -- One that cannot even write it leaves what was there, and says so.
    support.write_file(path, "broken (")
    uv.kill(tonumber((support.read_file(pid_file))), "sigkill")
    assert.truthy(support.wait_until(function()
      return support.read_file(server.log):find("the broker's nginx.conf stays as it was: ", 1, true)
    end, 60))
    assert.truthy(support.read_file(conf):find("thread_pool longshore_new ", 1, true))
    server:stop()
  end)

  it("lets a request in flight finish when it is told to stop", function()
    local server = serve.start()
    local connection = assert(socket.connect("127.0.0.1", server.port))
    connection:settimeout(60)
    local content = ("x"):rep(3000000)
    local body = '--b\r\nContent-Disposition: form-data; name="file"; filename="late.txt"\r\n\r\n' .. content
      .. "\r\n--b--\r\n"
    connection:send(("POST /v0.5/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
      .. "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n"):format(server.token, #body))
    connection:send(body:sub(1, 1000000))
    http.taken(server.port)
    server.process:kill("sigterm")
    socket.sleep(0.5)
    connection:send(body:sub(1000001))
    local response = assert(http.read(connection, "POST"))
    connection:close()
    assert.equal(200, response.status, response.body)
    assert.equal("late.txt", json.decode(response.body).file_id)
    assert.equal(0, server.process:wait(40))
  end)

  it("refuses a folder that another one uses, and leaves that alone", function()
    local server = serve.start()
    support.write_file(server.data .. "/spool/0000000001", "in flight")
    local code, text = run { "--data", server.data, "--listen", "127.0.0.1:" .. support.free_port(),
      "--store-listen", "127.0.0.1:" .. support.free_port() }
    assert.equal(1, code)
    assert.truthy(text:find("another longshore serve (process " .. server.process.pid .. ")", 1, true), text)
    assert.equal("in flight", support.read_file(server.data .. "/spool/0000000001"))
    assert.equal(200, info(server).status)
    server:stop()
  end)

  it("says whose place is taken, before it starts anything", function()
    local port = support.free_port()
    local squatter = assert(socket.bind("127.0.0.1", port))
    local data = support.tmpdir() .. "/d"
    local code, text = run { "--data", data, "--listen", "127.0.0.1:" .. port,
      "--store-listen", "127.0.0.1:" .. support.free_port() }
    assert.equal(1, code)
    assert.truthy(text:find("broker.listen: another program listens on 127.0.0.1:" .. port, 1, true), text)
    code, text = run { "--data", data, "--listen", "127.0.0.1:" .. support.free_port(),
      "--store-listen", "127.0.0.1:" .. port }
    assert.equal(1, code)
    assert.truthy(text:find("diskstore.listen: another program", 1, true), text)
    squatter:close()
    code, text = run { "--data", data, "--listen", "192.0.2.1:" .. port,
      "--store-listen", "127.0.0.1:" .. support.free_port() }
    assert.equal(1, code)
    assert.truthy(text:find("not an address of this machine", 1, true), text)
  end)

  it("names mistakes in the configuration and on the command line", function()
    local dir = support.tmpdir()
    local function with(config)
      return run { "--data", dir .. "/d", "--config", support.write_file(dir .. "/c.lua", config),
        "--listen", "127.0.0.1:" .. support.free_port(), "--store-listen", "127.0.0.1:" .. support.free_port() }
    end
    for config, words in pairs {
      ["return { broker = { lisen = 'x' } }"] = "broker.lisen: is not a known key; did you mean broker.listen?",
      ["return {"] = "is not valid Lua",
      ["return { nginx = { binary = '/nonexistent/nginx' } }"] = "nginx.binary: there is no /nonexistent/nginx",
      ["return { nginx = { modules = { '/nonexistent.so' } } }"] = "nonexistent.so",
      ["return { nginx = { lua_cpath = '/nonexistent/?.so' } }"] = "longshore.core",
      ["return { buckets = { default = { profile = 'nosuch', bucket = 'b', access_key = 'a', secret_key = 'b' } } }"]
        = "buckets.default.profile: nosuch is none of",
      ["return { buckets = { default = { profile = 'minio', bucket = 'b', access_key = 'a', secret_key = 'b' } } }"]
        = "buckets.default.endpoint",
      ["return { policy = { layout = 'constant' } }"] = "policy.layout",
      ["return { broker = { tls = { certificate = 'no.pem', key = 'no.key' } } }"] = "broker.tls.certificate",
    } do
      local code, text = with(config)
      assert.equal(1, code, text)
      assert.truthy(text:find(words, 1, true), text)
    end
    local code, text = run { "--listen", "8080", "--data", dir .. "/d" }
    assert.equal(1, code)
    assert.truthy(text:find("broker.listen: host:port is expected", 1, true), text)
    code = run { "--no-such-option" }
    assert.equal(2, code)
    -- What nginx has no way to write is refused before anything is made.
    for _, name in ipairs { 'a"b', "a$b", "a\\b" } do
      code, text = run { "--data", dir .. "/" .. name .. "/d" }
      assert.equal(1, code)
      assert.truthy(text:find("nginx cannot be given a path with", 1, true), text)
      assert.is_nil(lfs.attributes(dir .. "/" .. name))
    end
    code, text = run { "--data", "/proc/nothing" }
    assert.equal(1, code)
    assert.truthy(text:find("/proc/nothing", 1, true), text)
  end)

  it("opens its logs anew on SIGUSR1, as nginx does", function()
    local log = support.tmpdir() .. "/access.log"
    local server = serve.start { config = ("return { log = { access = %q, buffered = false, format = 'json' } }")
      :format(log) }
    assert.equal(200, info(server).status)
    assert(os.rename(log, log .. ".1"))
    server.process:kill("sigusr1")
    assert.truthy(support.wait_until(function() return support.read_file(log) end, 20))
    assert.truthy(support.wait_until(function()
      assert.equal(200, info(server).status)
      return support.read_file(log):find("newton.info", 1, true)
    end, 20))
    assert.equal(0, server:stop())
  end)

  it("lets requests finish that take long, at a reload and at a stop", function()
    local server = serve.start()
    local function send(path, kind, body, now)
      local client = assert(socket.connect("127.0.0.1", server.port))
      client:settimeout(60)
      client:send(("POST /v0.5/files%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"
        .. "Content-Type: %s\r\nContent-Length: %d\r\n\r\n%s")
        :format(path, server.token, kind, #body, body:sub(1, now)))
      return client
    end
    local store = server:nginx_pids("diskstore")
    for _, pid in ipairs(store) do uv.kill(pid, "sigstop") end
    -- One whose store thinks, and one whose body comes slowly.
    local held = send("/uploads/initiate", "application/json",
      json.encode { filename = "held", file_type = "a/b", num_bytes = 5 }, 99)
    local body = '--b\r\nContent-Disposition: form-data; name="file"; filename="slow.txt"\r\n\r\nslowly\r\n--b--\r\n'
    local slow = send("", "multipart/form-data; boundary=b", body, 80)
    http.taken(server.port)
    socket.sleep(0.3)
    -- (The broker's nginx alone: the store's could not read it now.)
    uv.kill(server:nginx_pids("broker")[1], "sighup")
    socket.sleep(1)
    server.process:kill("sigterm")
    socket.sleep(6)
    for _, pid in ipairs(store) do uv.kill(pid, "sigcont") end
    slow:send(body:sub(81))
    for _, client in ipairs { held, slow } do
      assert.equal(200, (http.read(client, "POST") or {}).status)
      client:close()
    end
    assert.equal(0, server.process:wait(40))
  end)

  it("reads its configuration again on SIGHUP, without losing a request in flight", function()
    local path = support.tmpdir() .. "/longshore.lua"
    local function write(max_size)
      support.write_file(path, ("return { broker = { threads = 2 }, policy = { max_size = %s } }"):format(max_size))
    end
    write("1000")
    local server = serve.start { args = { "--config", path } }
    local function initiate(size)
      return http.call("POST", server.url .. "/v0.5/files/uploads/initiate", server.token,
        { filename = "s" .. size, file_type = "a/b", num_bytes = size }).status
    end
    assert.equal(413, initiate(2000))
    local processes = #server:nginx_pids("broker")
    -- A request that is on its way: its body comes after the reload.
    local body = json.encode { filename = "late", file_type = "a/b", num_bytes = 10 }
    local late = assert(socket.connect("127.0.0.1", server.port))
    late:settimeout(60)
    late:send(("POST /v0.5/files/uploads/initiate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
      .. "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"):format(server.token, #body, body:sub(1, 5)))
    http.taken(server.port)
    write("5000")
    server.process:kill("sighup")
    assert.truthy(support.wait_until(function() return initiate(2000 + math.random(1000)) == 200 end, 30, 0.1))
    late:send(body:sub(6))
    assert.equal(200, (http.read(late, "POST") or {}).status)
    late:close()
    -- Both generations accept until nginx has told the old one to end.
    assert.truthy(support.wait_until(function() return #server:nginx_pids("broker") == processes end, 40, 0.1))
    -- A mistake changes nothing, and is said.
    write("'much'")
    server.process:kill("sighup")
    assert.truthy(support.wait_until(function()
      return support.read_file(server.log):find("stays as it was: [^\n]*max_size")
    end, 30))
    assert.equal(200, initiate(4999))
    assert.equal(0, server:stop())
  end)

  it("is silent with --quiet", function()
    local port, dir = support.free_port(), support.tmpdir()
    local process = support.spawn(support.lua, { stdout = dir .. "/out", args = {
      support.root .. "/lua/longshore/cli/main.lua", "serve", "--quiet", "--data", dir .. "/d",
      "--listen", "127.0.0.1:" .. port, "--store-listen", "127.0.0.1:" .. support.free_port() } })
    -- (serve itself listens on the port for a moment, to see whether it is free.)
    assert.truthy(support.wait_until(function()
      local ok, response = pcall(http.request, { url = ("http://127.0.0.1:%d/v0.5/files/info"):format(port) })
      return ok and response and response.status == 401
    end, 60))
    process:kill("sigterm")
    assert.equal(0, process:wait(40))
    assert.equal("longshore: stopping\n", (support.read_file(dir .. "/out"):gsub("longshore: stopping\n$", "%0")))
  end)

  local as_root = root and it or pending

  -- What is neither nobody's nor what root keeps.
  local function others_below(data)
    local _, out = support.run(("cd %s && find . ! -user nobody ! -path . ! -path ./objects "
      .. "! -path ./objects/.bodies ! -path ./run ! -path './run/*'"):format(data))
    return out
  end

  as_root("runs as the user that the configuration names", function()
    local dir = support.tmpdir()
    support.run("chmod 755 " .. dir)
    local server = serve.start { data = dir .. "/data", config = "return { nginx = { user = 'nobody' } }",
      tree = support.public_tree() }
    assert.equal(200, put_file(server, "a", "content").status)
    local _, users = support.run("ps -o user= -p " .. table.concat(server:nginx_pids("broker"), ","))
    assert.truthy(users:find("nobody"), users)
    -- What is there is that user's.
    support.write_file(server.config, "return { nginx = { user = 'daemon' } }")
    server.process:kill("sighup")
    assert.truthy(support.wait_until(function()
      return support.read_file(server.log):find("stays as it was: [^\n]*nginx.user: cannot be changed by a reload")
    end, 30))
    assert.equal(200, put_file(server, "b", "content").status)
    assert.equal(0, server:stop())
    assert.equal("", others_below(dir .. "/data"))
    -- It is remembered.
    server.config = nil
    server:start()
    _, users = support.run("ps -o user= -p " .. table.concat(server:nginx_pids("broker"), ","))
    assert.truthy(users:find("nobody"), users)
    assert.equal(0, server:stop())
    server.config = support.write_file(dir .. "/longshore.lua", "return { nginx = { user = 'nobody' } }")
    support.run(("chown root:root %s/data && chmod 700 %s/data"):format(dir, dir))
    local ok, why = pcall(server.start, server)
    assert.is_false(ok)
    assert.truthy(tostring(why):find("nginx.user: ", 1, true), why)
  end)

  as_root("keeps what root reads from the user of its workers, who write beside it", function()
    local dir = support.tmpdir()
    support.run("chmod 755 " .. dir .. " && install -d -o nobody -g nogroup " .. dir .. "/data")
    -- (What that user has put there before is not what root reads, or gives away.)
    support.run(("cd %s/data && mkdir -p run/broker && ln -s %s/victim run/broker/tmp_proxy && ln -s %s/victim "
      .. "token.new && chown -R -h nobody:nogroup run token.new && mkdir %s/victim"):format(dir, dir, dir, dir))
    local server = serve.start { data = dir .. "/data", tree = support.public_tree() }
    local function worker(command)
      local code, out = support.run(("cd %s && setpriv --reuid=nobody --regid=nogroup --clear-groups sh -c %s 2>&1")
        :format(server.data, support.quote(command)))
      return code, out
    end
    for _, command in ipairs { "echo >> run/broker/nginx.conf", "echo >> run/diskstore/nginx.conf",
      "echo >> run/config.lua", "echo >> run/lock", "echo >> run/broker/nginx.pid", "echo > run/new",
      "echo > run/broker/new", "mv run run.old", "rm -rf run", "mv run/broker run/old", "chmod 777 .", "chmod 777 run",
      "mv run/broker/tmp_proxy run/broker/x", "mv run/broker/tmp_client_body run/broker/x", "mv objects other",
      "mv objects/.bodies objects/x", "mv objects/.bodies/nginx objects/x" } do
      local code, out = worker(command)
      assert.is_true(code ~= 0, command)
      assert.truthy(out:find("Permission denied", 1, true) or out:find("not permitted", 1, true), out)
    end
    assert.equal(0, worker("grep -q broker run/config.lua && grep -q events run/broker/nginx.conf"))
    assert.equal(0, worker("echo > mine && mv mine yours && rm yours && echo > objects/mine && rm objects/mine"))
    -- Nobody else looks in.
    local code = support.run(("setpriv --reuid=65533 --regid=65533 --clear-groups ls %s/run"):format(server.data))
    assert.is_true(code ~= 0)
    -- Bodies go through the folders that nginx gave to that user.
    assert.equal(200, put_file(server, "a", ("x"):rep(400000)).status)
    server.process:kill("sighup")
    assert.truthy(support.wait_until(function()
      return (support.read_file(server.log) or ""):find("read the configuration again", 1, true)
    end, 30), support.read_file(server.log))
    assert.equal(("x"):rep(400000), get_file(server, "a"))
    assert.equal(0, server:stop())
    server:start()
    assert.equal(200, put_file(server, "b", "again").status)
    assert.equal(0, server:stop())
    assert.equal("", others_below(server.data))
    -- (nogroup is the group of sync, too.)
    assert.truthy(support.read_file(server.log):find("longshore: [%w_, -]*sync[%w_, -]* can read the server's keys"),
      support.read_file(server.log))
    local _, owner = support.run("stat -c %U " .. dir .. "/victim && ls " .. dir .. "/victim")
    assert.equal("root\n", owner)
  end)

  as_root("names a folder above the data in which its user could put other data for root to read", function()
    local apart = require "longshore.cli.serve.apart"
    local dir = support.tmpdir()
    local function doubt(mode, owner)
      support.run(("mkdir -p %s/above/data && chmod 755 %s && chmod %s %s/above && chown %s %s/above"):format(dir, dir,
        mode, dir, owner, dir))
      return table.concat(apart.doubts(dir .. "/above/data", { uid = 65534, gid = 65533 }), " ")
    end
    for _, loose in ipairs { { "700", "nobody:root" }, { "777", "root:root" }, { "2775", "root:65533" } } do
      local words = doubt(loose[1], loose[2])
      assert.truthy(words:find("in " .. dir .. "/above its user can put another folder", 1, true), words)
    end
    for _, fast in ipairs { { "755", "root:root" }, { "1777", "root:root" }, { "775", "root:root" } } do
      assert.equal("", doubt(fast[1], fast[2]))
    end
  end)

  as_root("says which folder keeps its user from reading longshore itself", function()
    local dir = support.tmpdir()
    support.run(("chmod 755 %s && mkdir %s/private && install -d -o nobody -g nogroup %s/data && cd %s && "
      .. "cp -R --parents lua build/lua5.4/longshore build/luajit/longshore %s/private && chmod 700 %s/private"):format(
      dir, dir, dir, support.quote(support.root), dir, dir))
    local ok, why = pcall(serve.start, { data = dir .. "/data", tree = dir .. "/private" })
    assert.is_false(ok)
    assert.truthy(tostring(why):find(("run as nobody, who may not read %s/private;"):format(dir), 1, true), why)
  end)

  as_root("runs as a user without rights, and as root for the folder's owner", function()
    local dir = support.tmpdir()
    support.run("chmod 755 " .. dir .. " && install -d -o nobody -g nogroup " .. dir .. "/data")
    local server = serve.start { data = dir .. "/data", tree = support.public_tree() }
    assert.is_nil(support.read_file(server.log):find("another folder in the place", 1, true))
    assert.equal(200, put_file(server, "a", "content").status)
    local _, users = support.run("ps -o user= -p " .. table.concat(server:nginx_pids(), ","))
    assert.truthy(users:find("nobody"), users)
    assert.equal(0, server:stop())
    assert.equal("", others_below(dir .. "/data"))
    -- The same folder, now without root, who has to let go of it.
    local function without_root(out)
      return support.spawn("/usr/bin/setpriv", { stdout = out, env = server:environment(), args = { "--reuid=nobody",
        "--regid=nogroup", "--clear-groups", "/usr/bin/" .. support.lua,
        (unpack or table.unpack)(server:command()) } }) -- luacheck: ignore
    end
    assert.equal(1, without_root(dir .. "/out"):wait(40))
    assert.truthy(support.read_file(dir .. "/out"):find("chown -R " .. dir .. "/data", 1, true))
    support.run("chown -R nobody:nogroup " .. dir .. "/data")
    local process = without_root "/dev/null"
    assert.truthy(support.wait_until(function()
      local ok, response = pcall(info, server)
      return ok and response and response.status == 200
    end, 60))
    assert.equal("content", get_file(server, "a"))
    process:kill("sigterm")
    assert.equal(0, process:wait(40))
  end)
end)

local logs = require "longshore.cli.serve.logs"

describe("the log of serve", function()
  local out

  local function reader(options)
    out = {}
    options = options or {}
    options.write = function(text)
      for line in text:gmatch("([^\n]*)\n") do out[#out + 1] = line:match("^%S+Z (.*)$") end
    end
    return logs.reader("broker", options)
  end

  it("keeps what our own code says, without nginx's trimmings", function()
    local read = reader()
    read("2026/11/20 23:27:31 [notice] 7#7: *3 [lua] init.lua:64: log_line(): upload started parts=3, client: 1.2.3.4, "
      .. 'server: , request: "POST /x HTTP/1.1", host: "h"\n')
    assert.same({ "broker info upload started parts=3" }, out)
  end)

  it("drops what nginx says at its start, unless asked for", function()
    local line = "2026/11/20 23:27:31 [notice] 7#7: start worker processes\n"
    reader()(line)
    assert.same({}, out)
    reader { debug = true }(line)
    assert.same({ "broker debug start worker processes" }, out)
  end)

  it("keeps errors and requests; warnings and errors only when quiet", function()
    local text = "2026/11/20 23:27:31 [emerg] 7#7: bind() failed\nrequest GET /x 200 5 0.001 1.2.3.4 req_1\n"
    reader()(text)
    assert.same({ "broker error bind() failed", "broker info GET /x 200 5 0.001 1.2.3.4 req_1" }, out)
    reader { quiet = true }(text)
    assert.same({ "broker error bind() failed" }, out)
  end)

  it("puts lines together again, however they arrive", function()
    local read = reader()
    for c in ("request a\n\nrequest b\nrest of a"):gmatch(".") do read(c) end
    read(" trace")
    assert.same({ "broker info a", "broker info b" }, out)
    read(nil)
    assert.equal("broker error rest of a trace", out[3])
  end)

  it("takes no longer for a line whose end is far away", function()
    local read = reader()
    local began = os.clock()
    for _ = 1, 64 do read(("x"):rep(1000)) end
    for _ = 1, 4 do read(("y"):rep(65536)) end
    read("\nrequest b\n")
    -- (Looked through anew from each byte of it, this takes minutes.)
    assert.is_true(os.clock() - began < 5)
    assert.equal(2, #out)
    assert.equal("broker info b", out[2])
  end)

  it("ends a line that never ends", function()
    local read = reader()
    for _ = 1, 100 do read(("z"):rep(65536)) end
    read("\nrequest b\n")
    assert.is_true(#out[1] >= 256 * 1024 and #out[1] <= 320 * 1024 + 100)
    assert.equal("broker info b", out[2])
  end)

  it("lets no signature through", function()
    local read = reader { debug = true }
    read('2026/11/20 23:27:31 [error] 7#7: *3 oops "/b/k?X-Amz-Credential=AK%2F1&X-Amz-Signature=deadbeefcafe" x\n')
    read('last line, client: 1, request: "PUT /b/k?X-Amz-Signature=deadbeefcafe HTTP/1.1"\n')
    read('request: "PUT /b/k?X-Amz-Signature=deadbeefcafe HTTP/1.1"\n')
    assert.is_nil(table.concat(out):find("deadbeef", 1, true))
    assert.equal(3, #out)
  end)
end)

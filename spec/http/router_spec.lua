local router = require "longshore.http.router"

describe("the router", function()
  local routes = {
    { method = "POST", path = "/v1/files" },
    { method = "GET", path = "/v1/files/{id}" },
    { method = "DELETE", path = "/v1/files/{id}" },
    { method = "GET", path = "/v1/files/info" },
    { method = "POST", path = "/v1/files/" },
    { method = "POST", path = "/v1/{kind}/{id}/done" },
  }
  local r = router.new(routes)

  it("finds routes by method and path, a literal before a parameter", function()
    assert.equal(routes[1], (r:match("POST", "/v1/files")))
    assert.equal(routes[4], (r:match("GET", "/v1/files/info")))
    local route, params = r:match("GET", "/v1/files/abc")
    assert.equal(routes[2], route)
    assert.same({ id = "abc" }, params)
  end)

  it("tells a trailing slash from none", function()
    assert.equal(routes[5], (r:match("POST", "/v1/files/")))
    assert.is_nil((r:match("GET", "/v1/files/abc/")))
  end)

  it("goes back when a literal leads nowhere", function()
    local route, params = r:match("POST", "/v1/files/7/done")
    assert.equal(routes[6], route)
    assert.same({ kind = "files", id = "7" }, params)
  end)

  it("decodes parameters once, after splitting", function()
    local _, params = r:match("GET", "/v1/files/a%2Fb%20c%2520+%C3%A4")
    assert.same({ id = "a/b c%20+ä" }, params)
  end)

  it("refuses a malformed escape", function()
    local route, err = r:match("GET", "/v1/files/a%zz")
    assert.is_nil(route)
    assert.equal("invalid", err.code)
    assert.equal("id", err.field)
  end)

  it("says not_found for unknown paths, also odd ones", function()
    for _, path in ipairs { "/", "", "/v1", "/v2/files", "/v1//files", "/v1/../v1/files", "/v1/files//done", "*" } do
      local route, err = r:match("GET", path)
      assert.is_nil(route)
      assert.equal("not_found", err.code)
    end
  end)

  it("says which methods a path has", function()
    local route, err = r:match("PUT", "/v1/files/abc")
    assert.is_nil(route)
    assert.equal(405, err.status)
    assert.equal("DELETE, GET, HEAD, OPTIONS", err.allow)
    assert.same({ "OPTIONS", "POST" }, r:allowed("/v1/files"))
    assert.is_nil(r:allowed("/nowhere"))
  end)

  it("answers HEAD where there is GET", function()
    assert.equal(routes[2], (r:match("HEAD", "/v1/files/abc")))
    assert.is_nil((r:match("HEAD", "/v1/files")))
  end)

  it("refuses two routes for the same", function()
    assert.has_error(function() router.new { routes[1], { method = "POST", path = "/v1/files" } } end)
  end)
end)

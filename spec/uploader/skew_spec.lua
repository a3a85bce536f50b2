local skew = require "longshore.uploader.skew"

describe("clock skew", function()
  it("reads HTTP dates", function()
    assert.equal(1445412480, skew.parse_date("Wed, 21 Oct 2015 07:28:00 GMT"))
    assert.equal(0, skew.parse_date("Thu, 01 Jan 1970 00:00:00 GMT"))
    assert.equal(951782400, skew.parse_date("Tue, 29 Feb 2000 00:00:00 GMT"))
    assert.equal(4102444799, skew.parse_date("Thu, 31 Dec 2099 23:59:59 GMT"))
    for _, text in ipairs { "", "yesterday", "Wed, 21 Foo 2015 07:28:00 GMT", "21 Oct 2015 07:28:00 GMT" } do
      assert.is_nil(skew.parse_date(text))
    end
  end)

  it("reads the times that services give", function()
    assert.equal(1445412480, skew.parse_time("2015-10-21T07:28:00Z"))
    assert.equal(1445412480.5, skew.parse_time("2015-10-21T07:28:00.500Z"))
    assert.equal(1445412480, skew.parse_time("2015-10-21T09:28:00+02:00"))
    assert.equal(1445412480, skew.parse_time("2015-10-21T02:28:00-0500"))
    assert.equal(1445412480, skew.parse_time("2015-10-21T07:28:00"))
    assert.equal(1445412480, skew.parse_time(1445412480))
    assert.equal(1445412480, skew.parse_time(1445412480000))
    assert.equal(1445412480, skew.parse_time("1445412480"))
    for _, value in ipairs { "", "soon", "2015-10-21", "2015-10-21T07:28:00+2" } do
      assert.is_nil(skew.parse_time(value))
    end
    assert.is_nil(skew.parse_time(nil))
  end)

  it("learns a wrong clock and ignores a slow answer or a small difference", function()
    local s = skew.new()
    local date, theirs = "Wed, 21 Oct 2015 07:28:00 GMT", 1445412480
    s:learn("store", date, theirs - 900, theirs - 899.5)
    assert.is_true(math.abs(s:offset("store") - 900) < 1.5)
    assert.truthy(s:hint("store"):find("15 minutes behind", 1, true))
    s:learn("store", date, theirs + 899.5, theirs + 900)
    assert.truthy(s:hint("store"):find("15 minutes ahead of", 1, true))
    s:learn("store", date, theirs - 400, theirs)
    assert.truthy(s:hint("store"):find("ahead", 1, true))
    s:learn("store", date, theirs + 0.2, theirs + 0.9)
    assert.equal(0, s:offset("store"))
    assert.is_nil(s:hint("store"))
    assert.equal(0, s:offset("another"))
    s:learn("store", nil, 0, 1)
    s:learn("store", "nonsense", 0, 1)
    assert.equal(0, s:offset("store"))
  end)
end)

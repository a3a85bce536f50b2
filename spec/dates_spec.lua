local dates = require "longshore.dates"

describe("dates", function()
  it("of HTTP are read", function()
    assert.equal(1445412480, dates.parse_http("Wed, 21 Oct 2015 07:28:00 GMT"))
    assert.equal(0, dates.parse_http("Thu, 01 Jan 1970 00:00:00 GMT"))
    assert.equal(951782400, dates.parse_http("Tue, 29 Feb 2000 00:00:00 GMT"))
    assert.equal(4102444799, dates.parse_http("Thu, 31 Dec 2099 23:59:59 GMT"))
    for _, text in ipairs { "", "yesterday", "Wed, 21 Foo 2015 07:28:00 GMT", "21 Oct 2015 07:28:00 GMT",
      "Wed, 32 Oct 2015 07:28:00 GMT", "Wed, 31 Apr 2015 07:28:00 GMT", "Wed, 21 Oct 2015 24:28:00 GMT" } do
      assert.is_nil(dates.parse_http(text))
    end
    assert.is_nil(dates.parse_http(nil))
  end)

  it("that services give are read", function()
    assert.equal(1445412480, dates.parse_time("2015-10-21T07:28:00Z"))
    assert.equal(1445412480.5, dates.parse_time("2015-10-21T07:28:00.500Z"))
    assert.equal(1445412480, dates.parse_time("2015-10-21T09:28:00+02:00"))
    assert.equal(1445412480, dates.parse_time("2015-10-21T02:28:00-0500"))
    assert.equal(1445412480, dates.parse_time("2015-10-21T07:28:00"))
    assert.equal(1445412480, dates.parse_time(1445412480))
    assert.equal(1445412480, dates.parse_time(1445412480000))
    assert.equal(1445412480, dates.parse_time("1445412480"))
    for _, value in ipairs { "", "soon", "2015-10-21", "2015-10-21T07:28:00+2",
      "2015-13-21T07:28:00Z", "2015-10-00T07:28:00Z", "2015-10-21T07:60:00Z" } do
      assert.is_nil(dates.parse_time(value))
    end
    assert.is_nil(dates.parse_time(nil))
  end)
end)

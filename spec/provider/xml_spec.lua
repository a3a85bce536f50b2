local xml = require "longshore.provider.xml"

local function refused(text, limits)
  local root, err = xml.read(text, limits)
  assert.is_nil(root, text:sub(1, 80))
  return err
end

describe("longshore.provider.xml", function()
  it("reads elements, text and nesting", function()
    local root = assert(xml.read('<?xml version="1.0" encoding="UTF-8"?>\n<A xmlns="http://x/"><B>1</B><C/>' ..
      "<B> two </B><D><E>x</E></D></A>\n"))
    assert.equal("A", root.name)
    assert.equal("1", root:get("B"))
    assert.equal("", root:get("C"))
    assert.is_nil(root:get("E"))
    assert.equal("x", root:first("D"):get("E"))
    assert.equal(2, #root:all("B"))
    assert.equal(" two ", root:all("B")[2].text)
  end)

  it("takes white space and comments around the document, a byte order mark, prefixes", function()
    assert.equal("A", assert(xml.read("  \n\t <A/> \n ")).name)
    assert.equal("A", assert(xml.read("   <?xml version='1.0'?>   <!-- c --><A/><!-- d -->")).name)
    assert.equal("A", assert(xml.read("\239\187\191<A/>")).name)
    assert.equal("1", assert(xml.read('<s:A xmlns:s="u"><s:B>1</s:B></s:A>')):get("B"))
    assert.equal("12", assert(xml.read("<A>1<!-- - -->2</A>")).text)
  end)

  it("knows the five entities, numeric ones and CDATA", function()
    assert.equal("<>&\"'A\195\188\226\130\172\240\159\154\162\1",
      assert(xml.read("<A>&lt;&gt;&amp;&quot;&apos;&#65;&#xfc;&#8364;&#x1F6A2;&#1;</A>")).text)
    assert.equal("a<b>&amp;c", assert(xml.read("<A>a<![CDATA[<b>&amp;]]>c</A>")).text)
    assert.equal("", assert(xml.read("<A><![CDATA[]]></A>")).text)
  end)

  it("refuses every declaration of a document type or entity", function()
    for _, text in ipairs {
      '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
      '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "b">]><a/>', "<a><!ENTITY x 'y'></a>", "<a>&x;</a>",
      "<a><?php x ?></a>", "<?xml version='1.0'?><?xml version='1.0'?><a/>", "<a/><!DOCTYPE a>",
    } do
      assert.equal("invalid", refused(text).code)
    end
  end)

  it("refuses what is not well-formed", function()
    for _, text in ipairs {
      "", "   ", "x", "<a>", "<a></b>", "<a><b></a></b>", "<a/><b/>", "<a/>x", "<a", "< a/>", "<a b/>", "<a b=c/>",
      '<a b="c/>', "<a b='1'c='2'/>", '<a b="<"/>', "<a>&</a>", "<a>&amp</a>", "<a>&nope;</a>", "<a>&#0;</a>",
      "<a>&#xD800;</a>", "<a>&#x110000;</a>", "<a>&#;</a>", "<a>&#x;</a>", "<a>&#99999999999;</a>", "<a>]]></a>",
      "<a><![CDATA[x</a>", "<a><!-- x</a>", "<a><!-- -- --></a>", "<a></a", "</a>", "<a>\0</a>", "<a>\255</a>",
      "<1a/>", "<a><a", '<a b="&x;"/>',
    } do
      assert.equal("invalid", refused(text).code)
    end
    assert.equal("invalid", refused('<?xml version="1.0" encoding="UTF-16"?><a/>').code)
  end)

  it("limits bytes, levels and elements", function()
    assert.equal("too_large", refused("<a>" .. ("x"):rep(100) .. "</a>", { max_bytes = 50 }).code)
    assert.truthy(xml.read(("<a>"):rep(32) .. ("</a>"):rep(32)))
    assert.equal("invalid", refused(("<a>"):rep(33) .. ("</a>"):rep(33)).code)
    assert.equal("invalid", refused(("<a>"):rep(100000)).code)
    assert.equal("invalid", refused("<a>" .. ("<b/>"):rep(10) .. "</a>", { max_elements = 10 }).code)
  end)

  it("comes to an end on every cut and every changed byte of a document", function()
    local text = '<?xml version="1.0"?><A x="1"><!-- c --><B>&lt;&#65;</B><C><![CDATA[x]]></C></A>'
    assert.truthy(xml.read(text))
    for i = 1, #text - 1 do
      assert.is_nil((xml.read(text:sub(1, i))))
      for _, c in ipairs { "<", ">", "&", '"', "/", "!", "\0", "\255", " " } do
        xml.read(text:sub(1, i - 1) .. c .. text:sub(i + 1))
      end
    end
  end)

  it("reads a page of 1000 long keys in a fraction of a second", function()
    local out = { "<R>" }
    for i = 1, 1000 do
      out[#out + 1] = ("<Contents><Key>%s%d</Key><Size>1</Size><ETag>&quot;x&quot;</ETag></Contents>"):format(
        ("%20"):rep(1000), i)
    end
    out[#out + 1] = "</R>"
    local start = os.clock()
    local root = assert(xml.read(table.concat(out)))
    assert.is_true(os.clock() - start < 1)
    assert.equal(1000, #root:all("Contents"))
  end)

  it("writes what it reads back, whatever the text", function()
    local texts = { "", "a", "<&>\"'", "a\r\nb\tc", "\195\188 \240\159\154\162", "]]>", " x ", "&amp;" }
    for _, text in ipairs(texts) do
      local written = xml.document("R", { { "K", text }, { "N", 5368709120 }, { "X", nil } }, "http://u/")
      local root = assert(xml.read(written))
      assert.equal(text, root:get("K"))
      assert.equal("5368709120", root:get("N"))
      assert.is_nil(root:first("X"))
    end
  end)

  it("does not write what XML cannot hold", function()
    for _, text in ipairs { "\0", "a\1", "\255", "\27" } do
      assert.is_false(xml.representable(text))
      assert.has_error(function() xml.escape(text) end)
    end
  end)
end)

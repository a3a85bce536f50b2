-- Whoever is not of the tenant and organization finds nothing, whatever is tried.
local support = require "spec.support"
local worlds = require "spec.support.broker"

local ANN = worlds.actor()
local BODY = "0123456789"

describe("broker: wrong identities", function()
  teardown(support.cleanup)

  local w, upload, parts, file
  setup(function()
    w = worlds.new()
    upload, parts = w:upload(BODY)
    local other, other_parts = w:upload(BODY, { filename = "finished" })
    file = assert(w.broker:complete(ANN, other.id, { parts = other_parts }))
  end)

  local function calls(actor)
    local b = w.broker
    return {
      upload = function() return b:upload(actor, upload.id) end,
      part_urls = function() return b:part_urls(actor, upload.id) end,
      checkpoint = function() return b:checkpoint(actor, upload.id, parts) end,
      complete = function() return b:complete(actor, upload.id, { parts = parts }) end,
      abort = function() return b:abort(actor, upload.id) end,
      file = function() return b:file(actor, file.id) end,
      file_by_name = function() return b:file_by_name(actor, { service = "newton", filename = "finished" }) end,
      download = function() return b:download(actor, file.id) end,
      delete_file = function() return b:delete_file(actor, file.id) end,
    }
  end

  local all = { read = true, upload = true, delete = true, admin = true }
  local strangers = {
    ["another organization"] = { organization = "evil", rights = all },
    ["another tenant"] = { tenant = "other", rights = all },
    ["the same user elsewhere"] = { user = "ann", organization = "evil", tenant = "other", rights = all },
    ["a name that differs by case"] = { organization = "ACME", rights = all },
    ["a name with a space"] = { organization = "acme ", rights = all },
    ["a pattern"] = { organization = "%", tenant = "_efault", rights = all },
    ["SQL"] = { organization = "' OR '1'='1", rights = all },
  }

  for name, fields in pairs(strangers) do
    it("are told that there is nothing: " .. name, function()
      local actor = worlds.actor(fields)
      for operation, call in pairs(calls(actor)) do
        local result, err = call()
        assert.is_nil(result, operation)
        assert.equal("not_found", err.code, operation)
        -- The same words as for what never was: nothing to guess from.
        assert.is_nil(tostring(err):find("acme", 1, true), operation)
      end
      assert.same({}, (w.broker:files(actor)))
      assert.equal(0, w.broker:usage(actor).files)
      local _, info = assert(w.broker:initiate(actor, { service = "newton", filename = "a.bin",
        content_type = "video/mp4", size = 10, resume = true }))
      assert.is_false(info.is_resume)
    end)
  end

  it("have changed nothing", function()
    assert.equal("uploading", assert(w.broker:upload(ANN, upload.id)).state)
    assert.same({}, assert(w.broker:upload(ANN, upload.id)).parts)
    assert.same(file, w.broker:file(ANN, file.id))
    assert(w.broker:complete(ANN, upload.id, { parts = parts }))
  end)

  it("need the right for each operation", function()
    local needed = { upload = "upload", part_urls = "upload", checkpoint = "upload", complete = "upload",
      abort = "upload", file = "read", file_by_name = "read", download = "read", delete_file = "delete" }
    for operation, right in pairs(needed) do
      local rights = { read = true, upload = true, delete = true }
      rights[right] = nil
      local result, err = calls(worlds.actor { rights = rights })[operation]()
      assert.is_nil(result, operation)
      assert.equal("forbidden", err.code, operation)
      assert.equal(right, err.right, operation)
    end
    local _, err = w.broker:files(worlds.actor { rights = { upload = true } })
    assert.equal("forbidden", err.code)
    assert.truthy(w.broker:files(worlds.actor { rights = { admin = true } }))
  end)

  it("take ids that are none for ids of nothing", function()
    for _, bad in ipairs { "", "x", "upl_", file.id, upload.id .. "a", upload.id:upper(), "upl_" .. ("%"):rep(26),
      "upl_" .. ("\0"):rep(26), 7, {}, "../" .. upload.id } do
      for _, operation in ipairs { "upload", "part_urls", "abort" } do
        local _, err = w.broker[operation](w.broker, ANN, bad)
        assert.equal("not_found", err.code)
      end
      _ = bad ~= file.id and assert.equal("not_found", select(2, w.broker:file(ANN, bad)).code)
    end
  end)

  it("are given ids in the order of their time", function()
    local ids = require "longshore.broker.ids"
    local core = require "longshore.core"
    local last = ids.new("upl_")
    for _ = 1, 20 do
      core.sleep(0.002)
      local id = ids.new("upl_")
      assert.is_true(id:sub(1, 13) > last:sub(1, 13), last .. " " .. id)
      last = id
    end
  end)

  it("never meet an id twice", function()
    local ids = require "longshore.broker.ids"
    local seen, letters = {}, {}
    for _ = 1, 2000 do
      local id = ids.new("upl_")
      assert.is_nil(seen[id])
      assert.is_true(ids.is(id, "upl_"))
      seen[id] = true
      for c in id:sub(14):gmatch(".") do letters[c] = (letters[c] or 0) + 1 end
    end
    local different = 0
    for _, n in pairs(letters) do
      different = different + 1
      assert.truthy(n > 800 and n < 1325) -- 1062 expected of each
    end
    assert.equal(32, different)
  end)
end)

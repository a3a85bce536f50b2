-- What every implementation of the store holds. See longshore.store.
local support = require "spec.support"
local postgres = require "spec.support.postgres"
local json = require "longshore.json"
local stores = require "longshore.store"

local OWNER = { tenant = "default", organization = "acme" }
local T = 1700000000.125

local counter = 0
local function id(prefix)
  counter = counter + 1
  return ("%s%026d"):format(prefix, counter)
end

local function rows(fields)
  local upload = {
    id = id "upl_", file_id = id "fil_", tenant = "default", organization = "acme", user = "ann", service = "newton",
    provider = "default", key = "newton/acme/x", filename = "a.bin", content_type = "video/mp4", size = 10,
    part_size = 4, part_count = 3, integrity = "crc32c", signs_length = true, requires_tokens = true,
    if_exists = "refuse", state = "starting", deadline = T + 100, lease = 0, created_at = T, updated_at = T,
  }
  for k, v in pairs(fields or {}) do upload[k] = v end
  local file = {
    id = upload.file_id, tenant = upload.tenant, organization = upload.organization, user = upload.user,
    service = upload.service, filename = upload.filename, content_type = upload.content_type, size = upload.size,
    state = "uploading", created_at = upload.created_at, updated_at = upload.created_at,
  }
  return upload, file
end

local function cleanup(fields)
  local row = { id = id "cln_", provider = "default", key = "k", kind = "delete", due = T, attempts = 0,
    created_at = T }
  for k, v in pairs(fields or {}) do row[k] = v end
  return row
end

-- The operations that both stores of one database offer, tried on one of them.
local function contract(open)
  local store, second

  setup(function()
    store, second = open() -- the second as another process would have it
  end)
  teardown(function()
    store:close()
    second:close()
    store:close()
  end)

  local function uploading(fields)
    local upload, file = rows(fields)
    assert(store:create_upload(upload, file))
    assert(store:start_upload(upload.id, "mpu-1", T))
    return assert(store:upload(upload.id)), file
  end

  local function completing(fields, parts)
    local upload = uploading(fields)
    assert(store:begin_complete(upload.id, { now = T, lease = T + 60, parts = parts or {},
      unique_name = upload.if_exists == "refuse" and upload.unique_name or nil, file_id = upload.file_id }))
    return assert(store:upload(upload.id))
  end

  local function finish(upload, fields)
    local made = {}
    local file = { state = "registered", provider = "default", key = upload.key, size = upload.size, updated_at = T }
    for k, v in pairs(fields or {}) do file[k] = v end
    local ok, err = store:finish_complete(upload, { now = T, file = file,
      new_cleanup = function(f)
        made[#made + 1] = cleanup(f)
        return made[#made]
      end })
    return ok, err, made
  end

  it("gives back what it was given", function()
    local upload, file = rows {
      filename = "Ünï 文 ' \" % ? $1 \\.bin", user = "O'Hara", expected_crc32c = 4294967295,
      size = 9007199254740991, part_size = 5368709120, part_count = 2147483648, error = "",
    }
    assert(store:create_upload(upload, file))
    assert.same(upload, second:upload(upload.id))
    assert.same(file, second:file(file.id))
  end)

  it("keeps sizes exact where databases and bindings break", function()
    for _, size in ipairs { 0, 1, 2147483647, 2147483648, 4294967296, 5368709120, 99999999999999,
      1e15, 4503599627370496, 9007199254740991 } do
      local upload, file = rows { size = size }
      assert(store:create_upload(upload, file))
      assert.equal(("%.0f"):format(size), ("%.0f"):format(store:upload(upload.id).size))
    end
    for _, size in ipairs { 9007199254740994, 1.5, 1 / 0, -2 ^ 60 } do
      assert.has_error(function() store:create_upload(rows { size = size }) end)
    end
  end)

  it("compares integers as integers", function()
    -- As text, 999999 is more than 1000000.
    local upload = uploading { deadline = 999.999 }
    assert.is_false(store:checkpoint(upload.id, { { number = 1, token = "x" } }, 1000))
    assert.is_true(store:checkpoint(upload.id, { { number = 1, token = "x" } }, 99))
  end)

  it("keeps metadata to the last digit", function()
    local text = '{"a":9007199254740991,"b":[],"c":{},"d":null,"e":10.123456789012345,"f":5368709120,"g":"\\u0000"}'
    local upload, file = rows()
    file.metadata = json.encode(json.decode(text))
    assert(store:create_upload(upload, file))
    local back = json.decode(second:file(file.id).metadata)
    assert.equal("9007199254740991", ("%.0f"):format(back.a))
    assert.is_true(json.is_array(back.b))
    assert.is_false(json.is_array(back.c))
    assert.equal(json.null, back.d)
    assert.equal(10.123456789012345, back.e)
    assert.equal(5368709120, back.f)
    assert.equal("\0", back.g)
  end)

  it("refuses text that a database would cut or refuse, and changes nothing", function()
    for _, bad in ipairs { "a\0b", "\255", "\192\128", "\237\160\128", "\244\144\128\128", "\226\130" } do
      local upload, file = rows { filename = bad }
      local ok, err = store:create_upload(upload, file)
      assert.is_nil(ok)
      assert.equal("invalid", err.code)
      assert.equal("not_found", select(2, store:file(file.id)).code)
      assert.equal("not_found", select(2, store:upload(upload.id)).code)
    end
  end)

  it("counts running uploads of an organization, and only those", function()
    local org = id "org"
    local first = uploading { organization = org }
    local done = completing { organization = org }
    uploading { organization = id "org" }
    local upload, file = rows { organization = org }
    local _, err = store:create_upload(upload, file, 2)
    assert.equal("quota", err.code)
    assert.equal("not_found", select(2, store:file(file.id)).code)
    assert.is_true((finish(done)))
    assert.is_true(store:create_upload(upload, file, 2))
    assert.equal("quota", select(2, store:create_upload(rows { organization = org }, nil, 2)).code)
    assert.is_true(store:begin_undo(first.id,
      { from = { "uploading" }, to = "aborting", now = T, cleanup = cleanup() }))
    assert.is_true(store:create_upload(rows { organization = org }, nil, 2))
  end)

  it("starts an upload once", function()
    local upload, file = rows()
    assert(store:create_upload(upload, file))
    assert.is_true(store:start_upload(upload.id, "mpu-1", T + 1))
    assert.is_false(store:start_upload(upload.id, "mpu-2", T + 1))
    assert.equal("mpu-1", store:upload(upload.id).provider_upload_id)
    assert.equal("uploading", store:upload(upload.id).state)
  end)

  it("shows rows to their tenant and organization only", function()
    local upload = uploading()
    assert.truthy(store:upload(upload.id, OWNER))
    assert.truthy(store:file(upload.file_id, OWNER))
    for _, other in ipairs {
      { tenant = "default", organization = "evil" }, { tenant = "other", organization = "acme" },
      { tenant = "DEFAULT", organization = "acme" }, { tenant = "default", organization = "acme " },
      { tenant = "%", organization = "%" },
    } do
      assert.equal("not_found", select(2, store:upload(upload.id, other)).code)
      assert.equal("not_found", select(2, store:file(upload.file_id, other)).code)
    end
    finish(upload)
    assert.is_false((store:begin_delete(upload.file_id,
      { owner = { tenant = "default", organization = "evil" }, now = T, new_cleanup = cleanup })))
  end)

  it("finds running uploads by name, newest first", function()
    local name = id "name"
    local first = uploading { filename = name, created_at = T }
    local newer = uploading { filename = name, created_at = T + 1 }
    uploading { filename = name, organization = "evil" }
    uploading { filename = name, service = "athena" }
    local query = { tenant = "default", organization = "acme", service = "newton", filename = name,
      states = { "uploading", "completing" } }
    local found = store:find_uploads(query)
    assert.equal(2, #found)
    assert.same({ newer.id, first.id }, { found[1].id, found[2].id })
    query.states = { "completing" }
    assert.same({}, store:find_uploads(query))
  end)

  it("records parts once each, the last token counts, by number", function()
    local upload = uploading { part_count = 10000 }
    local many = {}
    for i = 1, 1234 do many[i] = { number = 10001 - i, token = "t" .. i } end
    assert.is_true(store:checkpoint(upload.id, many, T))
    assert.is_true(store:checkpoint(upload.id, { { number = 10000, token = "again" } }, T))
    local parts = store:parts(upload.id)
    assert.equal(1234, #parts)
    assert.same({ number = 8767, token = "t1234" }, parts[1])
    assert.same({ number = 10000, token = "again" }, parts[1234])
    assert(store:forget_parts(upload.id, { 8767, 10000 }))
    assert.equal(1232, #store:parts(upload.id))
  end)

  it("takes no part once the upload is over", function()
    local part = { { number = 1, token = "x" } }
    local late, running = uploading(), completing()
    assert.is_false(store:checkpoint(late.id, part, late.deadline))
    assert.is_false(store:checkpoint(running.id, part, T))
    assert.is_false(store:checkpoint(id "upl_", part, T))
    assert.same({}, store:parts(late.id))
    assert.same({}, store:parts(running.id))
  end)

  it("extends a running upload only", function()
    local upload = uploading()
    assert.is_true(store:extend_upload(upload.id, T + 500, T))
    assert.equal(T + 500, store:upload(upload.id).deadline)
    assert.is_false(store:extend_upload(upload.id, T + 900, T + 501))
    assert.is_false(store:extend_upload(completing().id, T + 900, T))
  end)

  it("lets one of two begin to complete", function()
    local upload = uploading()
    local begin = { now = T, lease = T + 60, parts = { { number = 1, token = "x" } }, expected_crc32c = 7,
      file_id = upload.file_id }
    assert.is_true(store:begin_complete(upload.id, begin))
    assert.is_false(second:begin_complete(upload.id, begin))
    local row = store:upload(upload.id)
    assert.equal("completing", row.state)
    assert.equal(7, row.expected_crc32c)
    assert.equal(1, #store:parts(upload.id))
  end)

  it("does not begin to complete after the deadline", function()
    local upload = uploading()
    assert.is_false(store:begin_complete(upload.id,
      { now = upload.deadline, lease = T, parts = {}, file_id = upload.file_id }))
    assert.equal("uploading", store:upload(upload.id).state)
  end)

  it("steps back once, forgetting the checksum and the name", function()
    local name = id "name"
    local upload = completing { unique_name = name }
    local _, err = store:create_upload(rows { unique_name = name })
    assert.equal("name_taken", err.reason)
    assert.is_true(store:step_back(upload.id, T))
    assert.is_false(store:step_back(upload.id, T))
    local row = store:upload(upload.id)
    assert.equal("uploading", row.state)
    assert.is_nil(row.expected_crc32c)
    assert.is_true(store:create_upload(rows { unique_name = name }))
  end)

  it("registers the file and finishes the upload in one", function()
    local upload = completing(nil, { { number = 1, token = "x" } })
    local ok, err, made = finish(upload, { etag = "abc-3", crc32c = 4294967295, checks = { "size", "crc32c" } })
    assert.is_true(ok, err)
    assert.same({}, made)
    assert.equal("completed", store:upload(upload.id).state)
    local file = store:file(upload.file_id)
    assert.equal("registered", file.state)
    assert.equal("abc-3", file.etag)
    assert.equal(4294967295, file.crc32c)
    assert.same({ "size", "crc32c" }, file.checks)
    assert.same({}, store:parts(upload.id))
    assert.is_false((finish(upload)))
  end)

  it("registers from uploading too, and from nowhere else", function()
    assert.is_true((finish(uploading())))
    local upload = uploading()
    assert(store:begin_undo(upload.id, { from = { "uploading" }, to = "aborting", now = T, cleanup = cleanup() }))
    assert.is_false((finish(upload)))
    assert.equal("uploading", store:file(upload.file_id).state)
  end)

  it("gives a name to one finished file", function()
    local name = id "name"
    local one, two = uploading { unique_name = name }, uploading { unique_name = name }
    local function begin(upload)
      return store:begin_complete(upload.id, { now = T, lease = T, parts = {}, unique_name = name,
        file_id = upload.file_id })
    end
    assert.is_true(begin(one))
    local _, err = begin(two)
    assert.equal("conflict", err.code)
    assert.equal("name_taken", err.reason)
    assert.equal("uploading", store:upload(two.id).state)
    assert.is_true((finish(store:upload(one.id))))
    _, err = begin(two)
    assert.equal("name_taken", err.reason)
    _, err = store:create_upload(rows { unique_name = name })
    assert.equal("name_taken", err.reason)
    assert.equal(one.file_id, err.file_id)
    assert(store:begin_delete(one.file_id, { owner = OWNER, now = T, new_cleanup = cleanup }))
    assert.is_true(begin(two))
  end)

  it("keeps files of one name where that is wanted", function()
    local one, two = completing { if_exists = "keep" }, completing { if_exists = "keep" }
    assert.is_true((finish(one)))
    assert.is_true((finish(two)))
  end)

  it("replaces the file of a name when the new one is finished, not before", function()
    local name = id "name"
    local old = completing { unique_name = name, if_exists = "replace", key = "old" }
    assert.is_true((finish(old)))
    local new = completing { unique_name = name, if_exists = "replace", key = "new" }
    assert.equal("registered", store:file(old.file_id).state)
    local ok, _, made = finish(new)
    assert.is_true(ok)
    assert.equal(1, #made)
    assert.equal("old", made[1].key)
    assert.equal(old.file_id, made[1].file_id)
    assert.equal("deleting", store:file(old.file_id).state)
    assert.equal("registered", store:file(new.file_id).state)
    assert(store:finish_cleanup(made[1], { now = T }))
    assert.equal("deleted", store:file(old.file_id).state)
  end)

  it("points a file at new content and leaves the old object to a cleanup", function()
    local first = completing { key = "first" }
    assert.is_true((finish(first)))
    local upload = rows { file_id = first.file_id, key = "second", size = 20 }
    assert(store:create_upload(upload))
    assert(store:start_upload(upload.id, "mpu-2", T))
    assert.equal("first", store:file(first.file_id).key)
    local ok, _, made = finish(store:upload(upload.id))
    assert.is_true(ok)
    assert.equal("first", made[1].key)
    local file = store:file(first.file_id)
    assert.equal("second", file.key)
    assert.equal(20, file.size)
  end)

  it("fails an upload: the file is corrupt, the name free, a cleanup waits", function()
    local name = id "name"
    local upload = completing { unique_name = name }
    local row = cleanup { upload_id = upload.id, kind = "undo", due = 5 }
    assert.is_true(store:fail_upload(upload, { now = T, error = "wrong", cleanup = row }))
    assert.is_false(store:fail_upload(upload, { now = T, error = "wrong", cleanup = cleanup() }))
    assert.equal("failed", store:upload(upload.id).state)
    assert.equal("wrong", store:upload(upload.id).error)
    assert.equal("corrupt", store:file(upload.file_id).state)
    assert.is_true(store:create_upload(rows { unique_name = name }))
    assert.equal(row.id, store:due_cleanups(6, 10)[1].id)
    assert(store:finish_cleanup(row, { now = T }))
  end)

  it("leaves content that a file has when new content fails", function()
    local first = completing { key = "first" }
    assert.is_true((finish(first)))
    local upload = rows { file_id = first.file_id, key = "second" }
    assert(store:create_upload(upload))
    assert(store:start_upload(upload.id, "mpu-2", T))
    assert(store:fail_upload(upload, { now = T, error = "x", cleanup = cleanup(), from = { "uploading" } }))
    assert.equal("registered", store:file(first.file_id).state)
    assert.equal("first", store:file(first.file_id).key)
  end)

  it("undoes once, and settles when the object store has confirmed", function()
    for _, case in ipairs { { "aborting", "aborted" }, { "expiring", "expired" } } do
      local upload = uploading()
      local row = cleanup { upload_id = upload.id, kind = "undo" }
      local undo = { from = { "uploading", "starting" }, to = case[1], now = T, cleanup = row, error = "why" }
      assert.is_true(store:begin_undo(upload.id, undo))
      assert.is_false(second:begin_undo(upload.id, undo))
      assert.equal(case[1], store:upload(upload.id).state)
      assert.truthy(store:file(upload.file_id))
      local again = cleanup { upload_id = upload.id, kind = "again", due = T + 9 }
      assert(store:finish_cleanup(row, { now = T, again = again }))
      assert.equal(case[2], store:upload(upload.id).state)
      assert.equal("not_found", select(2, store:file(upload.file_id)).code)
      assert(store:finish_cleanup(again, { now = T }))
      assert.equal(case[2], store:upload(upload.id).state)
    end
  end)

  it("does not expire what was extended meanwhile", function()
    local upload = uploading()
    local undo = { from = { "uploading" }, to = "expiring", now = T, cleanup = cleanup(),
      stale = { by = "deadline", before = T + 200 } }
    assert(store:extend_upload(upload.id, T + 500, T))
    assert.is_false(store:begin_undo(upload.id, undo))
    undo.stale.before = T + 500
    assert.is_true(store:begin_undo(upload.id, undo))
  end)

  it("finds what is stale, and gives a stuck complete to one", function()
    local upload = completing { deadline = T + 7 }
    local function found(before)
      for _, row in ipairs(store:stale_uploads { state = "completing", by = "lease", before = before, limit = 1000 }) do
        if row.id == upload.id then return row end
      end
    end
    assert.is_nil(found(T + 59))
    local row = assert(found(T + 60))
    assert.is_true(store:claim_completing(row, T + 120))
    assert.is_false(second:claim_completing(row, T + 121))
    assert.is_nil(found(T + 61))
    assert.has_error(function() store:stale_uploads { state = "x", by = "id; DROP", before = T, limit = 1 } end)
  end)

  it("gives a cleanup to one, and counts its attempts", function()
    local upload = uploading()
    local row = cleanup { due = 7.5, upload_id = upload.id, kind = "undo" }
    assert(store:begin_undo(upload.id, { from = { "uploading" }, to = "aborting", now = T, cleanup = row }))
    local due = store:due_cleanups(8, 10)
    assert.equal(1, #due)
    assert.is_true(store:claim_cleanup(due[1], 100))
    assert.is_false(second:claim_cleanup(due[1], 100))
    assert.same({}, store:due_cleanups(99, 10))
    assert(store:postpone_cleanup(row.id, 200, "the store is away"))
    due = store:due_cleanups(200, 10)
    assert.equal(1, due[1].attempts)
    assert.equal("the store is away", due[1].error)
    assert.truthy(store:count_cleanups().undo >= 1)
    assert(store:finish_cleanup(due[1], { now = T }))
    assert.same({}, store:due_cleanups(1000, 10))
  end)

  it("lists files oldest first, in pages, with the total", function()
    local org = id "org"
    for i = 1, 5 do
      finish(completing { organization = org, created_at = T + i, filename = "f" .. i,
        service = i == 5 and "athena" or "newton", content_type = i == 1 and "text/csv" or "video/mp4" })
    end
    local query = { tenant = "default", organization = org }
    local list, total = store:files(query)
    assert.equal(5, total)
    assert.equal("f1", list[1].filename)
    query.service, query.offset, query.limit = "newton", 1, 2
    list, total = store:files(query)
    assert.equal(4, total)
    assert.same({ "f2", "f3" }, { list[1].filename, list[2].filename })
    query.offset, query.limit = 3, nil
    list = store:files(query)
    assert.equal(1, #list)
    assert.equal("f4", list[1].filename)
    query.offset, query.content_type = nil, "text/csv"
    list, total = store:files(query)
    assert.equal(1, total)
    assert.equal("f1", list[1].filename)
    assert.same({}, (store:files { tenant = "default", organization = "nobody" }))
  end)

  it("sums what an organization has", function()
    local org = id "org"
    local query = { tenant = "default", organization = org, state = "registered" }
    assert.same({ files = 0, bytes = 0 }, store:usage(query))
    finish(completing { organization = org, size = 5368709120 })
    finish(completing { organization = org, size = 9007199254740991 - 5368709120 })
    uploading { organization = org, size = 3 }
    local usage = store:usage(query)
    assert.equal(2, usage.files)
    assert.equal("9007199254740991", ("%.0f"):format(usage.bytes))
    assert.equal(T, usage.updated_at)
  end)

  it("finds a file by name, a finished one before a newer unfinished one", function()
    local name = id "name"
    local query = { tenant = "default", organization = "acme", service = "newton", filename = name }
    assert.equal("not_found", select(2, store:file_by_name(query)).code)
    local old = uploading { filename = name, created_at = T }
    local new = uploading { filename = name, created_at = T + 1 }
    assert.equal(new.file_id, store:file_by_name(query).id)
    finish(old)
    assert.equal(old.file_id, store:file_by_name(query).id)
  end)

  it("deletes a finished file once and hides it at once", function()
    local upload = completing()
    local delete = { owner = OWNER, now = T, new_cleanup = cleanup }
    assert.is_false((store:begin_delete(upload.file_id, delete)))
    finish(upload)
    local ok, row = store:begin_delete(upload.file_id, delete)
    assert.is_true(ok)
    assert.equal(upload.key, row.key)
    assert.is_false((second:begin_delete(upload.file_id, delete)))
    assert.equal("not_found", select(2, store:file(upload.file_id, OWNER)).code)
    assert.equal("deleting", store:file(upload.file_id).state)
    assert(store:finish_cleanup(row, { now = T }))
    assert.equal("deleted", store:file(upload.file_id).state)
  end)

  it("purges final rows, not those that are needed", function()
    local kept, done = uploading(), completing()
    finish(done)
    local failed = completing()
    local row = cleanup { upload_id = failed.id, file_id = failed.file_id, kind = "undo" }
    assert(store:fail_upload(failed, { now = T, error = "x", cleanup = row }))
    assert.equal(0, store:purge_uploads(T - 1, 1000))
    assert.truthy(store:purge_uploads(T, 1000) >= 2)
    assert.equal("not_found", select(2, store:upload(done.id)).code)
    assert.truthy(store:upload(kept.id))
    assert.truthy(store:file(done.file_id))
    store:purge_files(T, 1000)
    assert.truthy(store:file(failed.file_id))
    assert(store:finish_cleanup(row, { now = T }))
    assert.truthy(store:purge_files(T, 1000) >= 1)
    assert.equal("not_found", select(2, store:file(failed.file_id)).code)
  end)

  it("finds the uploads of a file", function()
    local first = completing()
    finish(first)
    assert(store:create_upload((rows { file_id = first.file_id })))
    local found = store:uploads_of_file(first.file_id)
    assert.equal(2, #found)
    assert.same({}, store:uploads_of_file("fil_none"))
  end)

  it("adds a cleanup by itself", function()
    local row = cleanup { due = 3, kind = "strays" }
    assert(store:add_cleanup(row))
    assert.same(row, store:due_cleanups(4, 10)[1])
    assert(store:finish_cleanup(row, { now = T }))
  end)

  it("counts uploads by state", function()
    local before = store:count_uploads().uploading or 0
    uploading()
    assert.equal(before + 1, store:count_uploads().uploading)
  end)

  it("keeps tokens and revokes them for good", function()
    local token = { id = id "tok_", hash = ("ab"):rep(32), user = "ann", organization = "acme", tenant = "default",
      rights = { "read", "upload" }, label = "ci", created_at = T, expires_at = T + 10,
      rate_requests = 600, rate_seconds = 60 }
    assert(store:create_token(token))
    assert.same(token, second:token(token.id))
    assert.equal("conflict", select(2, store:create_token(token)).code)
    assert(store:revoke_token(token.id, T + 1))
    assert(store:revoke_token(token.id, T + 2))
    assert.equal(T + 1, store:token(token.id).revoked_at)
    assert.equal("not_found", select(2, store:revoke_token("tok_none", T)).code)
    local known = false
    for _, row in ipairs(store:tokens()) do known = known or row.id == token.id end
    assert.is_true(known)
  end)

  it("takes nothing for SQL that is data", function()
    local evil = "'; DROP TABLE uploads; --"
    local upload = uploading { filename = evil, organization = evil }
    assert.equal("not_found", select(2, store:upload(evil, { tenant = evil, organization = evil })).code)
    assert.equal(evil, store:upload(upload.id).filename)
  end)

  it("leaves nothing half done when it dies inside a transaction", function()
    -- finish_complete asks for a cleanup in the middle of its transaction.
    local name = id "name"
    finish(completing { unique_name = name, if_exists = "replace", key = "old" })
    local new = completing({ unique_name = name, if_exists = "replace", key = "new" }, { { number = 1, token = "x" } })
    local ok, why = pcall(store.finish_complete, store, new, {
      now = T, file = { state = "registered" }, new_cleanup = function() error("killed", 0) end,
    })
    assert.is_false(ok)
    assert.equal("killed", why)
    assert.equal("completing", second:upload(new.id).state)
    assert.equal(1, #second:parts(new.id))
    assert.is_true((finish(new)))
  end)

  it("says when a field is not one of the row", function()
    assert.has_error(function() store:create_upload(rows { colour = "red" }) end)
  end)
end

describe("store on SQLite", function()
  contract(function()
    local options = { type = "sqlite", path = support.tmpdir() .. "/s.db", synchronous = "OFF" }
    return assert(stores.open(options)), assert(stores.open(options))
  end)
  teardown(support.cleanup)
end)

describe("store on PostgreSQL", function()
  contract(function()
    local server = assert(postgres.start(), "PostgreSQL is missing: make deps")
    local options = server.options()
    return assert(stores.open(options)), assert(stores.open(options))
  end)
  teardown(support.cleanup)
end)

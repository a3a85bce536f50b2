--- Cases for policies: a request in, the decision out.
--
-- The policy is asked through the same chain and contract as in a broker; what the
-- broker would answer to its questions is said by the case. See `longshore policy
-- test --help` for what a case is.
--
-- Room: policy. Reads the file of cases.
-- @module longshore.policy.cases
local chain = require "longshore.policy.chain"
local contract = require "longshore.policy.contract"
local core = require "longshore.core"
local dates = require "longshore.dates"
local errors = require "longshore.errors"
local json = require "longshore.json"
local keys = require "longshore.policy.keys"

local _M = {}

local function invalid(path, why)
  if why:sub(1, #path + 1) ~= path .. ":" then why = path .. ": " .. why end
  return errors.fail("invalid", why, { field = "cases" })
end

local KNOWN = { name = "string", hook = "string", context = "table", actor = "table", expect = "table", host = "table",
  now = "string number" }
local EXPECT = { allow = "boolean", refuse = "boolean string", rewrites = "table", message = "string", field = "string",
  status = "number" }
local HOST = { take = "number", find = "table", head = "string", url = "string", fetch = "table" }

-- What is wrong with the fields of a table, if anything is.
local function wrong(given, known)
  for name, value in pairs(given) do
    local kinds = known[name]
    if not kinds then return ("there is no field %q"):format(tostring(name)) end
    if not kinds:find(type(value), 1, true) then
      return ("%s: a %s expected, got a %s"):format(name, kinds:gsub(" ", " or a "), type(value))
    end
  end
end

-- What is wrong with a case, if anything is.
local function mistake(case)
  if type(case) ~= "table" then return "a table expected" end
  local why = wrong(case, KNOWN)
  if why then return why end
  local hook = case.hook or "before_initiate"
  if not contract.hooks[hook] then return contract.no_hook(hook) end
  if not case.expect then return "expect is missing" end
  why = wrong(case.expect, EXPECT)
  if why then return "expect: " .. why end
  why = wrong(case.host or {}, HOST)
  if why then return "host: " .. why end
  if case.now and not dates.parse_time(case.now) then return "now: a time such as 2026-03-02T10:00:00Z expected" end
  local seen = { actor = true }
  for _, field in ipairs(contract.hooks[hook].sees) do seen[field] = true end
  for field in pairs(case.context or {}) do
    if not seen[field] then return ("context: %s sees no %q"):format(hook, tostring(field)) end
  end
  local expect = case.expect
  for field in pairs(expect.rewrites or {}) do
    if not (contract.hooks[hook].rewrites or {})[field] then
      return ("expect: %s rewrites no %q"):format(hook, tostring(field))
    end
  end
  local refuses = expect.refuse or expect.allow == false or expect.message or expect.field or expect.status
  if refuses and (expect.allow or expect.rewrites) then
    return "expect: a request is allowed (allow, rewrites) or refused (refuse, status, ...), not both"
  end
  if refuses and expect.refuse == nil then expect.refuse = true end
end

--- Reads a file of cases: JSON, or Lua that returns a list (and can reach nothing).
-- @tparam string path
-- @treturn {table,...} cases, or nil, err
function _M.read(path)
  local f, why = io.open(path, "rb")
  if not f then return errors.fail("not_found", why) end
  local text
  text, why = f:read("*a")
  f:close()
  if not text then return errors.fail("io", ("%s: %s"):format(path, why)) end
  local list
  if path:find("%.json$") then
    local err
    list, err = json.decode(text)
    if list == nil then return invalid(path, err.message) end
  else
    local set = rawget(_G, "setfenv")
    local env = { KiB = 1024, MiB = 1048576, GiB = 1073741824, TiB = 1099511627776, minutes = 60, hours = 3600,
      days = 86400 }
    if text:sub(1, 1) == "\27" then return invalid(path, "source code expected") end
    local chunk
    if set then
      chunk, why = loadstring(text, "@" .. path) -- luacheck: ignore
      if chunk then set(chunk, env) end
    else
      chunk, why = load(text, "@" .. path, "t", env) -- luacheck: ignore
    end
    if not chunk then return invalid(path, why) end
    local ok
    ok, list = pcall(chunk)
    if not ok then return invalid(path, tostring(list)) end
  end
  if type(list) ~= "table" or #list == 0 then return invalid(path, "a list of cases expected") end
  for key in pairs(list) do
    if type(key) ~= "number" or key % 1 ~= 0 or key < 1 or key > #list then
      return invalid(path, ("a list of cases expected, not a field %q"):format(tostring(key)))
    end
  end
  for i = 1, #list do
    local wrong_with = mistake(list[i])
    if wrong_with then
      local name = type(list[i]) == "table" and type(list[i].name) == "string" and (" (%s)"):format(list[i].name) or ""
      return invalid(("%s: case %d%s"):format(path, i, name), wrong_with)
    end
  end
  return list
end

-- What a hook sees when a case does not say.
local function usual(hook, now)
  local upload = { id = "upl_case", file_id = "fil_case", filename = "file.bin", size = 1000, state = "uploading",
    content_type = "application/octet-stream", service = "newton", part_size = 1000, part_count = 1, key = "k",
    provider = "default", organization = "acme", tenant = "default", user = "ann", created_at = now, updated_at = now,
    deadline = now + 86400, integrity = "crc32c" }
  local values = {
    operation = "initiate", right = "upload", service = "newton", filename = "file.bin", size = 1000,
    content_type = "application/octet-stream", resume = false, file_id = "fil_case", upload_id = "upl_case",
    provider = "default", if_exists = "refuse", numbers = { 1 }, parts = {}, upload = upload,
    method = "POST", path = "/", token = false, client = { address = "192.0.2.1", agent = "case" },
    visibility = "public",
    etag = "etag", file = { id = "fil_case", filename = "file.bin", size = 1000, state = "registered",
      content_type = "application/octet-stream", organization = "acme", tenant = "default", user = "ann",
      service = "newton" },
  }
  values.files = { values.file }
  local context = {}
  for _, field in ipairs(contract.hooks[hook].sees) do context[field] = values[field] end
  return context
end

local function merge(into, from)
  for name, value in pairs(from or {}) do
    if type(value) == "table" and type(into[name]) == "table" and value[1] == nil then
      merge(into[name], value)
    else
      into[name] = value
    end
  end
  return into
end

local function host_of(case, now)
  local given = case.host or {}
  return {
    now = function() return now end,
    log = function() return true end,
    word = function(name) return keys.word(tostring(name)) end,
    sha256 = function(text) return core.hex(core.sha256(tostring(text))) end,
    take = function() return given.take or 0 end,
    find = function()
      if given.find then return given.find end
      return errors.fail("not_found", "there is no finished file of this name")
    end,
    head = function() return given.head or "" end,
    url = function() return given.url or "https://store.example/object?signature" end,
    fetch = function()
      if given.fetch then return given.fetch end
      return errors.fail("unavailable", "this case has no host.fetch")
    end,
  }
end

local function show(value)
  local ok, text = pcall(json.encode, value, { sorted = true })
  return ok and text or tostring(value)
end

-- Whether the expected fields are there.
local function contains(got, expected)
  for name, value in pairs(expected) do
    if type(value) == "table" and type(got[name]) == "table" then
      if not contains(got[name], value) then return false end
    elseif got[name] ~= value then
      return false
    end
  end
  return true
end

local function judge(expect, decision, err, reason)
  local got, ok
  if decision then
    got = "allowed"
    ok = not expect.refuse
    if expect.rewrites then
      local seen = {}
      for name in pairs(expect.rewrites) do seen[name] = decision[name] end
      got = "allowed with " .. show(seen)
      ok = ok and contains(decision, expect.rewrites)
    end
  else
    got = ("refused: %s%s: %s%s"):format(err.code, err.status and (" (%.0f)"):format(err.status) or "", err.message,
      reason and " (" .. reason .. ")" or "")
    ok = expect.refuse == true or expect.refuse == err.code
    ok = ok and (not expect.message or err.message:find(expect.message, 1, true) ~= nil)
    ok = ok and (not expect.field or expect.field == err.field)
    ok = ok and (not expect.status or expect.status == err.status)
    -- A policy that broke has not refused.
    if err.code == "internal" and expect.refuse ~= "internal" then ok = false end
  end
  return ok, got
end

--- Runs cases.
-- @tparam table policy
-- @tparam {table,...} list
-- @treturn {table,...} for each `name`, `ok`, `expected`, `got` (texts)
function _M.run(policy, list)
  local results = {}
  for i, case in ipairs(list) do
    local hook = case.hook or "before_initiate"
    local now = dates.parse_time(case.now) or 1767225600
    local reason
    local asked = chain.new({ policy }, function(_, _, fields) reason = fields and fields.reason end)
    asked = asked:attach(function() return host_of(case, now) end)
    local context = merge(usual(hook, now), case.context)
    context.service = case.context and case.context.service -- else as its upload or file says
    context.service = contract.service(context) or "newton"
    if context.actor == nil and hook ~= "authenticate" then
      context.actor = merge({ user = "ann", organization = "acme", tenant = "default", via = "token",
        rights = { read = true, upload = true, delete = true }, client = { address = "192.0.2.1", agent = "case" } },
        case.actor)
    end
    local decision, err
    if contract.hooks[hook].after then
      local ok, why = asked:notify(hook, context)
      decision, err = ok and context, errors.new("internal", why or "")
    else
      decision, err = asked:decide(hook, context)
    end
    local ok, got = judge(case.expect, decision, err, reason)
    results[i] = { name = case.name or ("case %d"):format(i), ok = ok, expected = show(case.expect), got = got }
  end
  return results
end

return _M

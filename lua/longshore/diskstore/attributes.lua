--- What is kept with an object beside its bytes: content headers and user
-- metadata, byte for byte; and which headers a writer may not send.
--
-- Room: diskstore, no I/O.
-- @module longshore.diskstore.attributes
local fault = require "longshore.diskstore.fault"

local _M = {}

-- S3's own limits: of all headers that are kept, and of the user's among them.
local MAX_BYTES, MAX_USER_BYTES = 8192, 2048

local kept = {
  ["content-type"] = true, ["content-disposition"] = true, ["content-encoding"] = true,
  ["content-language"] = true, ["cache-control"] = true, ["expires"] = true,
}

-- Headers that change what is stored in ways this store does not know: the
-- client must not believe that it was done.
local refused = {
  ["x-amz-server-side-encryption"] = "server-side encryption",
  ["x-amz-server-side-encryption-customer-algorithm"] = "server-side encryption",
  ["x-amz-server-side-encryption-aws-kms-key-id"] = "server-side encryption",
  ["x-amz-copy-source-server-side-encryption-customer-algorithm"] = "server-side encryption",
  ["x-amz-tagging"] = "tagging",
  ["x-amz-object-lock-mode"] = "object lock",
  ["x-amz-object-lock-retain-until-date"] = "object lock",
  ["x-amz-object-lock-legal-hold"] = "object lock",
  ["x-amz-website-redirect-location"] = "website redirects",
  ["x-amz-write-offset-bytes"] = "appending",
}

--- Refuses what a writing request asks for and this store does not have.
-- @tparam table headers
-- @treturn table fault, or nil
function _M.refuse(headers)
  for name, what in pairs(refused) do
    if headers[name] then
      return fault.new("NotImplemented", ("This store has no %s (%s)."):format(what, name),
        { { "Header", name } })
    end
  end
  local class = headers["x-amz-storage-class"]
  if class and class ~= "STANDARD" then return fault.new("InvalidStorageClass") end
  return _M.refuse_acl(headers)
end

--- Refuses access control lists other than `private`.
-- @tparam table headers
-- @treturn table fault, or nil
function _M.refuse_acl(headers)
  local acl = headers["x-amz-acl"]
  if acl and acl ~= "private" then return fault.new("AccessControlListNotSupported") end
  for name in pairs(headers) do
    if name:find("^x%-amz%-grant%-") then return fault.new("AccessControlListNotSupported") end
  end
end

--- The headers to keep.
-- @tparam table headers of the request
-- @treturn table lowercase names to values
-- @return[2] nil
-- @treturn[2] table fault
function _M.take(headers)
  local taken, bytes, user_bytes = {}, 0, 0
  for name, value in pairs(headers) do
    local user = name:find("^x%-amz%-meta%-.")
    if user or kept[name] then
      if value:find("[%z\1-\8\10-\31\127]") then
        return fault.fail("InvalidArgument", "A header that is to be kept contains a control character.",
          { { "ArgumentName", name } })
      end
      -- This one said how the body was sent, and it was decoded.
      if name == "content-encoding" then value = value:gsub("aws%-chunked%s*,?%s*", "") end
      if not (name == "content-encoding" and value == "") then
        taken[name] = value
        bytes = bytes + #name + #value
        if user then user_bytes = user_bytes + #name - #"x-amz-meta-" + #value end
      end
    end
  end
  if user_bytes > MAX_USER_BYTES then
    return fault.fail("MetadataTooLarge", nil, { { "Size", tostring(user_bytes) },
      { "MaxSizeAllowed", tostring(MAX_USER_BYTES) } })
  end
  if bytes > MAX_BYTES then
    return fault.fail("MetadataTooLarge", nil, { { "Size", tostring(bytes) },
      { "MaxSizeAllowed", tostring(MAX_BYTES) } })
  end
  if not taken["content-type"] then taken["content-type"] = "binary/octet-stream" end
  return taken
end

-- response-content-type and its like: query parameter to header
local overrides = {
  ["response-content-type"] = "content-type",
  ["response-content-disposition"] = "content-disposition",
  ["response-content-encoding"] = "content-encoding",
  ["response-content-language"] = "content-language",
  ["response-cache-control"] = "cache-control",
  ["response-expires"] = "expires",
}

--- The headers of an answer: what was kept, and what the query overrides.
-- @tparam table doc
-- @tparam table query
-- @treturn table lowercase names to values
-- @return[2] nil
-- @treturn[2] table fault
function _M.answer(doc, query)
  local headers = {}
  for name, value in pairs(doc.headers) do headers[name] = value end
  for parameter, name in pairs(overrides) do
    local value = query[parameter]
    if value and value ~= "" then
      if value:find("[%z\1-\31\127]") then
        return fault.fail("InvalidArgument", "A response header cannot contain control characters.",
          { { "ArgumentName", parameter } })
      end
      headers[name] = value
    end
  end
  return headers
end

return _M

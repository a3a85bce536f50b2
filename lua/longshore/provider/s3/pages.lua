--- Lists that come in pages.
--
-- Room: provider.
-- @module longshore.provider.s3.pages
local errors = require "longshore.errors"

--- Asks for pages until the store says that there are no more.
-- @tparam table client
-- @tparam table request as for `client:send`
-- @tparam table query its parameters; the markers are added
-- @tparam function take gets the root of each page, returns the next markers (a
--   table), or nil and why there are none
-- @treturn boolean|nil true
-- @treturn[opt] table err
local function pages(client, request, query, take)
  while true do
    request.query = query
    local response, err = client:send(request)
    if not response then return nil, err end
    local markers, why = take(response.root)
    if response.root:get("IsTruncated") ~= "true" then return true end
    local moved = false
    for name, value in pairs(markers or {}) do
      moved = moved or query[name] ~= value
      query[name] = value
    end
    if not moved then
      return errors.fail("unavailable", ("%s: the store's list does not go on: %s"):format(request.what,
        why or "the same page again"))
    end
  end
end

return pages

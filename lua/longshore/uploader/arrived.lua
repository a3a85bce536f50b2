--- What has arrived while its command goes on, with other files or until it has
-- said so: the command given again, after an interruption, a failure or kill -9,
-- does not send it twice.
--
-- Room: uploader.
-- @module longshore.uploader.arrived
local _M = {}

local FIELDS = { "upload_id", "file_id", "etag", "location", "bytes", "crc32c", "compared", "whole_checked",
  "file_status" }

--- The session of an upload that an earlier try of its command has completed,
-- when the service has the file still, as far as it says.
-- @tparam table upload with a journal
-- @treturn ?table session with `completed`
function _M.session(upload)
  local result = upload.journal and not upload.hub.restart and upload.journal.arrived
  if not result then return nil end
  if upload.driver.download then
    local there, err = upload.driver:download(result.file_id or upload.item.name)
    if not there and err.code == "not_found" or there and (there.size and there.size ~= result.bytes
      or there.crc32c and result.crc32c and there.crc32c ~= result.crc32c) then
      upload:note("it had arrived, but is not there any more; starting over")
      return nil
    end
  end
  return { id = result.upload_id, parts = {}, completed = result }
end

--- An upload is complete: keeps that for the same command, until `forget`.
-- @tparam table upload with a journal
-- @tparam table result
function _M.keep(upload, result)
  local hub = upload.hub
  local kept = {}
  for _, field in ipairs(FIELDS) do kept[field] = result[field] end
  hub.arrived[#hub.arrived + 1] = upload.journal:arrive(kept)
end

--- All files of a command are there, and its caller knows: forgets them.
-- @tparam table hub
function _M.forget(hub)
  for _, path in ipairs(hub.arrived) do os.remove(path) end
  hub.arrived = {}
end

return _M

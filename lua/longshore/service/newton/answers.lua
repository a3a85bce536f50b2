--- What the newton service answers, for the OpenAPI document and for the specs
-- that hold it to that.
--
-- Room: service. No I/O.
-- @module longshore.service.newton.answers
local function object(fields, optional)
  for name, rule in pairs(fields) do
    if not (optional and optional[name]) then rule.required = true end
  end
  return { type = "object", fields = fields }
end

local function list(items) return { type = "array", items = items } end
local function text() return { type = "string" } end
local function whole() return { type = "integer" } end
local function yes_or_no() return { type = "boolean" } end

local part = object { part_number = whole(), url = text(), offset = whole(), length = whole(), expires_at = text() }

-- On what the claim rests that the bytes are the sender's.
local function attributes()
  return object({ crc32c = text(), checks = list(text()) }, { crc32c = true })
end

local function status(prefix)
  local words = {}
  for i, word in ipairs { "Uploading", "Registered", "Corrupt", "Deleting", "Deleted", "Unknown" } do
    words[i] = prefix and prefix .. word:upper() or word
  end
  return { type = "string", enum = words }
end

local metadata = object({
  file_id = text(), file_uid = text(), is_valid = yes_or_no(), file_type = text(), num_bytes = whole(),
  file_status = status "FILE_STATUS_", file_attributes = attributes(), file_tags = { type = "any" },
  ingested = yes_or_no(), file_index = whole(),
}, { file_index = true, file_type = true })

return {
  Upload = object({
    upload_id = text(), file_uid = text(), file_name = text(), total_bytes = whole(), num_parts = whole(),
    part_size = whole(), integrity_algorithm = text(), is_resume = yes_or_no(),
    strategy = { type = "string", enum = { "multipart" } }, expires_at = text(), parts = list(part),
  }, { expires_at = true, integrity_algorithm = true }),
  Parts = object { parts = list(part) },
  Checkpoint = object { num_checkpointed = whole() },
  Completed = object { file_uid = text(), file_name = text(), num_bytes = whole(), file_status = status(),
    file_attributes = attributes() },
  Nothing = object {},
  Info = object { num_files = whole(), num_bytes = whole(), num_ingested = whole(),
    last_updated = { type = "number" } },
  Metadata = metadata,
  MetadataList = list(metadata),
  Reference = object { is_valid = yes_or_no(), file_id = text(), file_uid = text() },
  Errors = object { errors = list(object({ code = text(), message = text(), suggestion = text(), error_uid = text() },
    { suggestion = true })) },
}

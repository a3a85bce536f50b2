--- What `longshore put` prints: a bar or lines for people, JSON for programs.
--
-- Results go to stdout, everything else to stderr; with --json all goes to
-- stdout, an object per line: `begin`, `progress`, `note`, `retry`, `renew`,
-- `part` (with --verbose), `result`, `summary`.
--
-- Room: cli.
-- @module longshore.cli.put_report
local common = require "longshore.cli.common"
local core = require "longshore.core"
local errors = require "longshore.errors"
local progress = require "longshore.uploader.progress"
local terminal = require "longshore.cli.terminal"

local _M = {}

local COMPARED = {
  crc32c = "crc32c compared", md5 = "md5 compared", mixed = "not all parts compared",
  none = "nothing compared: the store answers no checksum",
}

local function result_line(result)
  local notes = {}
  if result.already then
    notes[1] = "was complete already"
  else
    notes[1] = COMPARED[result.compared]
    if result.whole_checked then notes[#notes + 1] = "whole file confirmed" end
    if result.resumed_parts > 0 then
      notes[#notes + 1] = ("resumed, %d of %d parts were there"):format(result.resumed_parts, result.parts)
    end
  end
  return ("%s  %s  %s%s  (%s)\n"):format(common.printable(result.name), progress.size(result.bytes),
    result.crc32c and "crc32c " .. core.crc32c_base64(result.crc32c) .. "  " or "",
    common.printable(tostring(result.file_id or result.location or result.upload_id)), table.concat(notes, "; "))
end

local function json_result(item, result, err)
  local event = { event = "result", path = item.path, name = item.name, ok = result ~= nil }
  if err then
    event.error = { code = err.code, message = errors.redact(err.message), status = err.status,
      request_id = err.request_id }
    event.resumable, event.interrupted = err.resumable, err.interrupted
    return event
  end
  for _, field in ipairs { "bytes", "file_id", "upload_id", "etag", "location", "compared", "whole_checked",
    "parts", "sent_parts", "resumed_parts", "sent_bytes", "retries", "already", "file_status" } do
    event[field] = result[field]
  end
  event.crc32c = result.crc32c and core.crc32c_base64(result.crc32c) or nil
  event.seconds = math.floor(result.seconds * 1000 + 0.5) / 1000
  event.checks = result.checks
  return event
end

--- Makes what says, of an upload, what happens: `event` and `result` for the
-- uploader, `summary(seconds)` at the end, which answers the exit code.
-- @tparam table args `json`, `quiet`, `verbose`
-- @treturn table
function _M.new(args)
  local mode = args.json and "json" or args.quiet and "none" or terminal.is_tty(2) and "bar" or "lines"
  local bar = progress.new {
    mode = mode, now = core.monotonic, emit = common.print_json,
    write = function(text)
      io.stdout:flush()
      io.stderr:write(text)
      io.stderr:flush()
    end,
    width = function() return terminal.width(2) end,
  }
  local self = { bar = bar, done = 0, failed = 0, interrupted = 0, resumable = 0, bytes = 0, sent = 0 }

  local function say(text)
    bar:clear()
    common.err(text)
  end

  local function note(upload, kind, text, more)
    if args.json then
      local event = { event = kind, name = upload and upload.item.name, message = errors.redact(text) }
      for k, v in pairs(more or {}) do event[k] = v end
      common.print_json(event)
    elseif not args.quiet then
      say(("%s%s\n"):format(upload and common.printable(upload.item.name) .. ": " or "",
        errors.redact(text)))
    end
  end

  function self.event(event)
    local upload = event.upload
    if event.type == "note" then
      note(upload, "note", event.text)
    elseif event.type == "begin" then
      if args.json then
        common.print_json { event = "begin", name = upload.item.name, bytes = upload.size,
          upload_id = upload.session.id, parts = upload.left + upload.resumed_parts,
          resumed_parts = upload.resumed_parts, resumed_bytes = upload.resumed_bytes }
      end
    elseif event.type == "part" and args.json and args.verbose then
      common.print_json { event = "part", name = upload.item.name, part = event.part.number,
        bytes = event.part.length, compared = event.part.check, attempts = event.part.attempts,
        seconds = event.part.seconds }
    elseif event.type == "retry" and (args.verbose or args.json) then
      note(upload, "retry", ("part %d is sent again in %.1f s: %s"):format(event.part.number, event.delay,
        event.error.message), { part = event.part.number, attempt = event.attempt })
    elseif event.type == "renew" and (args.verbose or args.json) then
      note(upload, "renew", ("part %d gets a fresh URL: %s"):format(event.part.number, event.error.message),
        { part = event.part.number })
    end
    bar:event(event)
  end

  function self.result(item, result, err)
    bar:ended_file(item, result ~= nil)
    if result then
      self.done, self.bytes = self.done + 1, self.bytes + result.bytes
      self.sent = self.sent + result.sent_bytes
    elseif err.interrupted then
      self.interrupted = self.interrupted + 1
      if err.resumable then self.resumable = self.resumable + 1 end
    else
      self.failed = self.failed + 1
      if err.resumable then self.resumable = self.resumable + 1 end
    end
    if args.json then
      common.print_json(json_result(item, result, err))
    elseif result and not args.quiet then
      bar:clear()
      common.out(result_line(result))
      io.stdout:flush()
    elseif err and not err.interrupted then
      say(("%s: failed: %s%s\n"):format(common.printable(item.name), tostring(common.advised(err)),
        err.resumable and " (the same command resumes it)" or ""))
    end
  end

  function self.summary(seconds)
    bar:finish()
    local code = self.interrupted > 0 and 3 or self.failed > 0 and 1 or 0
    if args.json then
      common.print_json { event = "summary", done = self.done, failed = self.failed, interrupted = self.interrupted,
        resumable = self.resumable, bytes = self.bytes, sent_bytes = self.sent,
        seconds = math.floor(seconds * 1000 + 0.5) / 1000, exit_code = code }
      return code
    end
    if self.interrupted > 0 then
      common.err(("interrupted: %d done, %d not%s\n"):format(self.done, self.failed + self.interrupted,
        self.resumable > 0 and "; what was sent is remembered, the same command again resumes" or
        "; the same command again starts them"))
    elseif not args.quiet and self.done + self.failed > 1 then
      common.err(("%d done, %d failed: %s in %.1f s\n"):format(self.done, self.failed, progress.size(self.bytes),
        seconds))
    end
    return code
  end

  return self
end

return _M

--- The broker's janitor: brings to an end what nobody else will.
--
-- It may run at any time, and on many brokers at once: everything it takes up it
-- claims first by a change that only one can make.
--
-- Room: broker.
-- @module longshore.broker.janitor
local errors = require "longshore.errors"

local _M = {}

local MESSAGES = 20

local function note(report, err, fields)
  report.errors = report.errors + 1
  if #report.messages < MESSAGES then
    report.messages[#report.messages + 1] = ("%s: %s"):format(fields, errors.redact(tostring(err)))
  end
end

-- Uploads that are over by their deadline, or never got past their start.
local function expire(self, report, state, by, before, limit)
  local rows, err = self.store:stale_uploads { state = state, by = by, before = before, limit = limit }
  if not rows then return nil, err end
  for _, row in ipairs(rows) do
    if report.dry_run then
      report.expired = report.expired + 1
    else
      local events = self:events("after_expire", { upload = self:view_upload(row, "expiring") })
      local changed, why = self:give_up(row, { state }, "expiring", "the upload's time is over",
        { by = by, before = before }, events)
      if changed then
        report.expired = report.expired + 1
        self.log("info", "upload expired", { upload_id = row.id })
        self:deliver(events)
      elseif changed == nil then
        note(report, why, row.id)
      end
    end
  end
  return true
end

-- Completes that were cut short.
local function finish(self, report, now, limit)
  local rows, err = self.store:stale_uploads { state = "completing", by = "lease", before = now, limit = limit }
  if not rows then return nil, err end
  for _, row in ipairs(rows) do
    if report.dry_run then
      report.finished = report.finished + 1
    else
      local claimed, why = self.store:claim_completing(row, now + self.complete_lease)
      if claimed then
        local file
        local how = row.service == "managed" and "finish_managed_upload" or "finish"
        file, why = self[how](self, row)
        if file then
          report.finished = report.finished + 1
        else
          local after = self.store:upload(row.id)
          local state = after and after.state
          if state == "failed" then
            report.failed = report.failed + 1
          elseif state == "expiring" or state == "expired" then
            report.expired = report.expired + 1
          elseif state == "uploading" then
            report.reopened = report.reopened + 1
          else
            note(report, why, row.id)
          end
        end
      elseif claimed == nil then
        note(report, why, row.id)
      end
    end
  end
  return true
end

-- Jobs of datasets: abandoned ones end, commits that were cut off are finished.
local function end_jobs(self, report, now, limit)
  local swept, err = self:sweep_jobs { now = now, limit = limit, dry_run = report.dry_run }
  if not swept then return nil, err end
  for _, name in ipairs { "failed", "finished", "errors" } do report[name] = report[name] + swept[name] end
  return true
end

-- Records: bytes that arrived are noticed, completions finished, and those whose
-- bytes never came go.
local function attend_records(self, report, now, limit)
  local swept, err = self:sweep_records { now = now, limit = limit, dry_run = report.dry_run }
  if not swept then return nil, err end
  for _, name in ipairs { "finished", "expired", "errors" } do report[name] = report[name] + swept[name] end
  return true
end

-- Managed files: bytes that came unnoticed, moves that were cut off, the trash.
local function look_after(self, report, now, limit)
  local swept, err = self:sweep_managed { now = now, limit = limit, dry_run = report.dry_run }
  if not swept then return nil, err end
  for _, name in ipairs { "finished", "cleaned", "expired", "errors" } do
    report[name] = report[name] + swept[name]
  end
  for _, text in ipairs(swept.messages) do
    if #report.messages < MESSAGES then report.messages[#report.messages + 1] = text end
  end
  return true
end

local counted = { undo = "aborted", again = "cleaned", delete = "cleaned" }

local function clean(self, report, now, limit)
  local rows, err = self.store:due_cleanups(now, limit)
  if not rows then return nil, err end
  for _, row in ipairs(rows) do
    local name = counted[row.kind] or "cleaned"
    if report.dry_run then
      report[name] = report[name] + 1
    else
      local claimed, why = self.store:claim_cleanup(row, now + self.cleanup_lease)
      if claimed then
        local ok
        row.attempts = row.attempts + 1
        ok, why = self:run_cleanup(row)
        if ok then report[name] = report[name] + 1 else note(report, why, row.upload_id or row.file_id or row.id) end
      elseif claimed == nil then
        note(report, why, row.id)
      end
    end
  end
  return true
end

-- What is still to be told: webhooks, and after-hooks that failed.
local function tell(self, report, now)
  local told, err = self:deliver_due { now = now, dry_run = report.dry_run }
  if not told then return nil, err end
  report.told, report.errors = told.told, report.errors + told.failed
  for _, message in ipairs(told.messages) do
    if #report.messages < MESSAGES then report.messages[#report.messages + 1] = message end
  end
  return true
end

local function purge(self, report, before, limit)
  if report.dry_run then return true end
  for _, operation in ipairs { "purge_uploads", "purge_files", "purge_jobs", "purge_deliveries",
    "purge_managed" } do
    local n, err = self.store[operation](self.store, before, limit)
    if not n then return nil, err end
    report.purged = report.purged + n
  end
  return true
end

--- Brings stale uploads, unfinished completes, cleanups and old rows to an end.
-- @tparam[opt] table options `now` (default: the clock), `limit` (per kind, default
-- 1000), `dry_run` (only count what is due)
-- @treturn table report: `expired` uploads past their deadline or never started,
-- `finished` completes, `failed`, `reopened` (completes whose client has to send
-- something again), `aborted` (undone at the store), `cleaned` objects and second
-- looks, `told` events, `purged` rows, `errors` (a number; the next run tries again), `messages`
-- (the first of them), `pending` (cleanups that wait for their time)
function _M.janitor(self, options)
  options = options or {}
  local now, limit = options.now or self.clock.now(), options.limit or 1000
  local report = { expired = 0, finished = 0, failed = 0, reopened = 0, aborted = 0, cleaned = 0, purged = 0, told = 0,
    errors = 0, messages = {}, pending = 0, dry_run = options.dry_run and true or nil }
  local steps = {
    function() return finish(self, report, now, limit) end,
    function() return expire(self, report, "uploading", "deadline", now, limit) end,
    function() return expire(self, report, "starting", "updated_at", now - self.start_grace, limit) end,
    function() return end_jobs(self, report, now, limit) end,
    function() return attend_records(self, report, now, limit) end,
    function() return look_after(self, report, now, limit) end,
    function() return clean(self, report, now, limit) end,
    function() return tell(self, report, now) end,
    function() return report.dry_run or self.store:purge_rates(now) end,
    function() return purge(self, report, now - self.keep_seconds, limit) end,
  }
  for _, step in ipairs(steps) do
    local ok, err = step()
    if not ok then note(report, err, "database") end
  end
  for _, n in pairs(self.store:count_cleanups() or {}) do report.pending = report.pending + n end
  self.log(report.errors > 0 and "warn" or "debug", "janitor", report)
  return report
end

return _M

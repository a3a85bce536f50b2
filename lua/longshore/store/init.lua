--- The store: what longshore remembers about uploads, files and tokens.
--
-- A store is an object with the operations below. Each is atomic: it happens as a
-- whole or not at all, also when the process is killed inside it. A change of
-- state is compare-and-set: the operation names the state it starts from and
-- answers `false` when the row is not in it any more (somebody else was first, or
-- it never was); nothing is changed then. Failures answer `nil, err` with `busy`
-- or `unavailable` (try again), `not_found`, `conflict`, `invalid`, `database`.
--
-- Rows are plain tables with the fields listed in `longshore.store.schema`. Times
-- are seconds since 1970 (kept to the millisecond), integers are exact to
-- 2^53-1, text is UTF-8 without NUL. `owner` is `{tenant=, organization=}`: with
-- it, rows of others are `not_found`. Nothing here reads the clock.
--
-- **Uploads** (states: starting, uploading, completing, completed, failed,
-- aborting, aborted, expiring, expired)
--
-- * `create_upload(upload, file|nil, max_running|nil, quotas|nil, managed|nil) -> true`: a new upload, with a
--   new file row unless it is for an existing one. `quotas`: list of `{scope="user"|"organization",
--   bytes=, files=, running=}`, each counted in the same transaction, over all services (see
--   `longshore.store.quotas`). `quota` when the organization has `max_running` uploads running, also counting
--   those of the same moment. `managed`: the id of the managed file that it is for: the first upload of one that
--   waits for its bytes counts as that file does, not once more. `conflict` (`reason="name_taken"`,
--   `file_id`) when `if_exists="refuse"` and a finished file has `unique_name`.
-- * `start_upload(id, provider_upload_id, now) -> bool`: starting → uploading.
-- * `upload(id, owner|nil) -> row`, `parts(id) -> {{number,token},...}` by number.
-- * `find_uploads{tenant,organization,service,filename,states} -> rows`, newest first.
-- * `uploads_of_file(file_id) -> rows`
-- * `extend_upload(id, deadline, now) -> bool`: while uploading, before the deadline.
-- * `checkpoint(id, parts, now) -> bool`: while uploading, before the deadline.
--   A part given again replaces its token.
-- * `forget_parts(id, numbers) -> true`
-- * `begin_complete(id, {now,lease,parts,expected_crc32c,unique_name,file_id}) -> bool`:
--   uploading → completing before the deadline, keeping the parts, and the name
--   (given for `refuse`) becomes the file's: `conflict` (`name_taken`) when another has it.
-- * `step_back(id, now) -> bool`: completing → uploading; the name is free again.
-- * `finish_complete(upload, {now,file,new_cleanup,events|nil}) -> bool`: completing or
--   uploading → completed, and in the same transaction the fields `file` are set on
--   the file's row, a finished file of the same name is displaced (`replace`), and
--   cleanups are made (`new_cleanup(fields) -> row`) for objects that are not
--   needed any more. With `upload.replaces` only that file is displaced; `conflict`
--   (`reason="replaced"`) when another has its name by now. `events` are rows of the outbox.
-- * `fail_upload(upload, {now,error,cleanup,from|nil,events|nil}) -> bool`: completing → failed,
--   a file that has no content yet becomes corrupt.
-- * `begin_undo(id, {from,to,now,error,cleanup,stale|nil,events|nil}) -> bool`: one of the
--   states `from` → aborting or expiring, with the cleanup that will undo it. With
--   `stale={by="deadline"|"updated_at"|"lease", before=time}` only when it still is.
-- * `stale_uploads{state,by,before,limit} -> rows`, oldest first.
-- * `claim_completing(upload, lease) -> bool`: the lease moves from the value in
--   `upload`: one caller gets it.
-- * `purge_uploads(before, limit) -> count`: final rows last touched before then.
-- * `count_uploads() -> {state=count}`
--
-- **Files** (states: uploading, registered, corrupt, deleting, deleted)
--
-- * `file(id, owner|nil) -> row`. With an owner, as in the lists, files that are
--   being deleted or are deleted do not exist.
-- * `file_by_name{tenant,organization,service,filename} -> row`: a finished one
--   before others, then the newest.
-- * `files{tenant,organization,service|nil,content_type|nil,state|nil,offset|nil,
--   limit|nil} -> rows, total`, oldest first.
-- * `usage{tenant,organization,service|nil,state|nil} -> {files,bytes,updated_at}`
-- * `begin_delete(id, {owner,now,new_cleanup,events|nil}) -> bool, cleanup|nil`: registered or
--   corrupt → deleting (deleted at once where there is no content).
-- * `purge_files(before, limit) -> count`: deleted and corrupt rows, once nothing
--   refers to them.
--
-- **Cleanups**: what has to be undone at an object store, written before or
-- together with the change that makes it necessary.
--
-- * `add_cleanup(cleanup) -> true`
-- * `due_cleanups(now, limit) -> rows`
-- * `claim_cleanup(cleanup, lease) -> bool`: one caller gets it; counts the attempt.
-- * `postpone_cleanup(id, due, why) -> true`
-- * `finish_cleanup(cleanup, {now,again|nil}) -> true`: it is done: aborting →
--   aborted, expiring → expired, deleting → deleted; `again` is a cleanup to follow.
-- * `count_cleanups() -> {kind=count}`
--
-- **Events**: the outbox, written together with the change that they tell of.
--
-- * `add_events(events) -> true`
-- * `due_events(now, limit[, target]) -> rows`, `claim_event(event, lease) -> bool`,
--   `postpone_event(id, due, why) -> true`, `finish_event(id) -> true`,
--   `postpone_events(target, before, due) -> count`: all of a target that were due `before`,
--   `count_events() -> {target=count}`
--
-- **Rates**
--
-- * `take_rate(name, {limit,seconds,now}) -> wait`: counts one, if not more than `limit`
--   were counted in `seconds`; 0, or how many seconds to wait (nothing is counted then).
-- * `purge_rates(before) -> count`
--
-- **Tokens**
--
-- * `create_token(row) -> true`, `token(id) -> row`, `tokens() -> rows`,
--   `revoke_token(id, now) -> true` (also when it was revoked already)
--
-- **Datasets** and their jobs: see `longshore.store.datasets`. **Managed files**, their
-- keys and URLs: `longshore.store.managed`. **Catalogs**: `longshore.store.catalogs`.
--
-- **Records** and their deliveries: see `longshore.store.records` and `longshore.store.deliveries`.
--
-- **close()**: twice is fine.
--
-- Implementations: `longshore.store.sqlite`, `longshore.store.postgres`; they share
-- the statements. One spec runs through every implementation.
--
-- Room: store.
-- @module longshore.store
local dbi = require "longshore.store.dbi"
local schema = require "longshore.store.schema"

local _M = {}

local methods = {}
local mt = { __index = methods, __name = "longshore.store" }
mt.__tostring = function(self) return "store (" .. self.db.dialect.name .. ")" end

for _, room in ipairs { "uploads", "files", "cleanups", "events", "rates", "tokens",
  "datasets", "records", "deliveries", "managed", "catalogs" } do
  for name, operation in pairs(require("longshore.store." .. room)) do
    assert(not methods[name], name)
    methods[name] = operation
  end
end

--- Says who is to hear of changed rows; see `longshore.store.recent`. (Of one that only begins, nobody knows yet.)
-- @tparam function listener `listener(id)`, called after the change of an upload or a token
function methods:on_change(listener)
  self.db.listener = listener
end

function methods:close()
  self.db:close()
end

local dialects = {
  sqlite = "longshore.store.sqlite",
  postgres = "longshore.store.postgres",
}

--- Opens a store and brings its tables up to date.
-- @tparam table options `type` ("sqlite" or "postgres") and what that type takes:
-- see `longshore.store.sqlite.dialect` and `longshore.store.postgres.dialect`
-- @treturn table store, or nil, err
function _M.open(options)
  local name = dialects[options.type or "sqlite"]
  if not name then error('type: "sqlite" or "postgres" expected', 2) end
  local db, err = dbi.open(require(name).dialect(options))
  if not db then return nil, err end
  local version
  version, err = schema.migrate(db)
  if not version then
    db:close()
    return nil, err
  end
  return setmetatable({ db = db, version = version }, mt)
end

return _M

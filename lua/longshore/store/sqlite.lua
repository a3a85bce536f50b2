--- The store on SQLite: one file, any number of processes on one machine.
--
-- WAL, so that readers and the one writer do not wait for each other; writers
-- wait for each other up to `busy_timeout`, those of one process in turns. `synchronous` is FULL unless told
-- otherwise: an answered change survives a power cut. With NORMAL the last
-- changes may be lost then (never the database's consistency); they are regained
-- by repeating the call or by the janitor, as after a crash.
--
-- Room: store.
-- @module longshore.store.sqlite
local core = require "longshore.core"
local errors = require "longshore.errors"
local lfs = require "lfs"

local _M = {}

local SYNCHRONOUS = { OFF = true, NORMAL = true, FULL = true, EXTRA = true }

local function classify(text)
  if text:find("database is locked", 1, true) or text:find("table is locked", 1, true) then
    return "busy"
  end
  local constraint = text:match("UNIQUE constraint failed: ([%w_%.]+)")
  if constraint then return "conflict", { constraint = constraint } end
  return "database"
end

-- Two processes that open a new database at once may both be told that it is
-- locked while it changes to WAL: busy_timeout does not cover that change.
local function switch_to_wal(db)
  local answer, err
  for _ = 1, 50 do
    answer, err = db:query("PRAGMA journal_mode=WAL")
    if answer or err.code ~= "busy" then break end
    require("longshore.clock").system.sleep(0.02)
  end
  if not answer then return nil, err end
  local mode = answer[1] and answer[1][1]
  -- A database in memory knows no WAL.
  if mode ~= "wal" and mode ~= "memory" then
    return errors.fail("database", "the database cannot be switched to WAL: is its folder on a network drive?")
  end
  return true
end

-- Makes a new database's file, which others may not read whatever the umask; SQLite gives the files beside it the
-- same mode. (It is made beside its place and linked there: closing a file by whatever hand takes away the locks that
-- this process has on it.) Where that cannot be done, SQLite makes the file or says why not.
local function make_private(path)
  if path == ":memory:" or lfs.attributes(path, "mode") then return end
  local made = ("%s.new-%s"):format(path, core.hex(core.random(8)))
  local file = core.lock_file(made, "exclusive")
  if not file then return end
  file:close()
  lfs.link(made, path)
  os.remove(made)
end

-- SQLite's "unable to open database file" leaves people to guess.
local function why_not(path, text)
  local folder = path:match("^(.*)/[^/]*$") or "."
  local stat, err = core.file_stat(folder == "" and "/" or folder)
  if not stat then return err.message .. "; make that folder, for the user that the broker runs as" end
  return tostring(text) .. "; may the user that the broker runs as write there?"
end

--- Describes a SQLite database for `longshore.store.dbi`.
-- @tparam table options `path`; `busy_timeout` in seconds, default 10;
-- `synchronous` OFF, NORMAL, FULL (default) or EXTRA
-- @treturn table dialect
function _M.dialect(options)
  assert(type(options.path) == "string" and options.path ~= "", "path: string expected")
  local busy_timeout = options.busy_timeout or 10
  assert(type(busy_timeout) == "number" and busy_timeout >= 0, "busy_timeout: seconds expected")
  local synchronous = tostring(options.synchronous or "FULL"):upper()
  assert(SYNCHRONOUS[synchronous], "synchronous: OFF, NORMAL, FULL or EXTRA expected")
  return {
    name = "sqlite " .. options.path,
    integer_type = "INTEGER",
    begin = "BEGIN IMMEDIATE",
    turn = core.turn("sqlite " .. options.path), turn_seconds = busy_timeout,
    classify = classify,
    connect = function()
      make_private(options.path)
      local handle, text = require("DBI").Connect("SQLite3", options.path)
      if not handle then text = why_not(options.path, text) end
      return handle, text
    end,
    prepare_connection = function(db)
      for _, pragma in ipairs {
        ("PRAGMA busy_timeout=%.0f"):format(busy_timeout * 1000),
        "PRAGMA foreign_keys=ON",
        "PRAGMA synchronous=" .. synchronous,
        -- What a savepoint would take back is kept in memory, not in a file of its own.
        "PRAGMA temp_store=MEMORY",
      } do
        local ok, err = db:query(pragma)
        if not ok then return nil, err end
      end
      return switch_to_wal(db)
    end,
  }
end

return _M

-- Writes the tables of build/bench/*.json into the README, each between its
-- marks <!-- bench: NAME --> and <!-- end -->. A benchmark that was not run keeps
-- the table it has.
--
--   spec/tools/bench.sh tables [README [FOLDER]]          (make bench-tables)
local json = require "longshore.json"
local report = require "spec.bench.report"
local support = require "spec.support"

local readme, folder = arg[1] or "README.md", arg[2] or (os.getenv("BUILD") or "build") .. "/bench"

-- A ratio of rates is better when larger, one of times and sizes when smaller.
local function goal_of(row)
  if row.goal == json.null or not row.goal then return "", "" end
  local less = row.less_is_better
  if less == nil then less = (row.met and true) == (row.ratio <= row.goal) end
  return ("%s %.4g"):format(less and "\226\137\164" or "\226\137\165", row.goal), row.met and "yes" or "no"
end

local function table_of(rows)
  local lines = { "| case | longshore | beside | ratio | goal | met |", "| --- | --- | --- | --- | --- | --- |" }
  for _, row in ipairs(rows) do
    local goal, met = goal_of(row)
    local peer = row.peer_name:find("^%(") and row.peer_name or row.peer_name .. " " .. report.value(row.peer, row.unit)
    lines[#lines + 1] = ("| %s | %s | %s | %.2f | %s | %s |"):format(row.case, report.value(row.ours, row.unit), peer,
      row.ratio, goal, met)
  end
  return table.concat(lines, "\n")
end

local text = assert(support.read_file(readme))
for name, before in text:gmatch("<!%-%- bench: (%w+) %-%->\n(.-)<!%-%- end %-%->") do
  local results = support.read_file(("%s/%s.json"):format(folder, name))
  if results then
    local from, to = text:find(("<!-- bench: %s -->\n"):format(name) .. before, 1, true)
    text = ("%s<!-- bench: %s -->\n%s\n%s"):format(text:sub(1, from - 1), name, table_of(assert(json.decode(results))),
      text:sub(to + 1))
    print(name .. ": written")
  else
    print(name .. ": not run, left as it is")
  end
end
support.write_file(readme, text)

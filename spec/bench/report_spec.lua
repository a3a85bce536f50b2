-- The benchmarks' figures: what is written of a goal, and how the README gets it.
local json = require "longshore.json"
local report = require "spec.bench.report"
local support = require "spec.support"

describe("a benchmark's results", function()
  local folder

  setup(function() folder = support.tmpdir() end)
  teardown(support.cleanup)

  it("read well", function()
    for want, given in pairs {
      ["5.35 M/s"] = { 5346123, "URLs/s" }, ["86,145/s"] = { 86145.2, "URLs/s" }, ["283/s"] = { 283, "requests/s" },
      ["2,204 ns"] = { 2204, "ns" }, ["4.5 ns"] = { 4.49, "ns" }, ["0.74 s"] = { 0.741, "s" },
      ["12.7 MiB"] = { 12.71, "MiB" }, ["124 ms"] = { 124.4, "ms" }, ["35.5 GB/s"] = { 35.54, "GB/s" },
    } do
      assert.equal(want, report.value(given[1], given[2]))
    end
    assert.equal(2.5, report.median { 4, 1, 3, 2 })
  end)

  it("tell and write a goal that was missed, without failing, and get into the README", function()
    local script = support.write_file(folder .. "/run.lua", [[
      local r = require("spec.bench.report").new("presign")
      r.row { case = "fast", ours = 20, peer = 10, unit = "GB/s", peer_name = "peer", goal = 1.5 }
      r.row { case = "slow", ours = 20, peer = 10, unit = "ns", peer_name = "(limit)", goal = 1.5, less = true }
      r.row { case = "free", ours = 20, peer = 10, unit = "s", peer_name = "peer" }
      r.finish()
    ]])
    assert(os.execute("mkdir -p " .. folder .. "/bench"))
    local code, out = support.run(("BUILD=%s %s %s"):format(folder, support.lua, script))
    assert.equal(0, code, out)
    assert.truthy(out:find("slow.-<= 1%.5 NOT MET"))
    assert.truthy(out:find("1 NOT MET; written to", 1, true))
    local rows = json.decode(support.read_file(folder .. "/bench/presign.json"))
    assert.same({ true, false, json.null }, { rows[1].met, rows[2].met, rows[3].met })

    local readme = support.write_file(folder .. "/README.md", "before\n\n<!-- bench: presign -->\nold\n<!-- end -->\n"
      .. "\n<!-- bench: broker -->\nkept\n<!-- end -->\nafter\n")
    code, out = support.run(("%s %s/spec/bench/tables.lua %s %s/bench"):format(support.lua, support.root, readme,
      folder))
    assert.equal(0, code, out)
    assert.equal("before\n\n<!-- bench: presign -->\n| case | longshore | beside | ratio | goal | met |\n"
      .. "| --- | --- | --- | --- | --- | --- |\n"
      .. "| fast | 20.0 GB/s | peer 10.0 GB/s | 2.00 | \226\137\165 1.5 | yes |\n"
      .. "| slow | 20.0 ns | (limit) | 2.00 | \226\137\164 1.5 | no |\n"
      .. "| free | 20.00 s | peer 10.00 s | 2.00 |  |  |\n"
      .. "<!-- end -->\n\n<!-- bench: broker -->\nkept\n<!-- end -->\nafter\n", support.read_file(readme))
  end)
end)

-- busted's terminal output, closed by the files that took longest and the line
-- "N passed, N failed, N skipped" that programs read.
local busted = require "busted"
local core = require "longshore.core"

return function(options)
  local handler = require "busted.outputHandlers.plainTerminal"(options)
  local began, times = nil, {}
  busted.subscribe({ "file", "start" }, function()
    began = core.monotonic()
    return nil, true
  end)
  busted.subscribe({ "file", "end" }, function(file)
    times[#times + 1] = { file.name, core.monotonic() - began }
    return nil, true
  end)
  busted.subscribe({ "exit" }, function()
    table.sort(times, function(a, b) return a[2] > b[2] end)
    for i = 1, math.min(#times, 10) do
      if times[i][2] >= 1 then io.write(("%6.1f s  %s\n"):format(times[i][2], times[i][1])) end
    end
    io.write(("%d passed, %d failed, %d skipped\n"):format(handler.successesCount,
      handler.failuresCount + handler.errorsCount, handler.pendingsCount))
    io.flush()
    return nil, true
  end)
  return handler
end

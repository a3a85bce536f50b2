-- busted --helper: the collector never rests, so that what nobody anchors is
-- gone soon. (LuaJIT takes a large step to be a whole cycle for each
-- allocation, which no spec would live to see the end of.)
collectgarbage("setpause", 1)
collectgarbage("setstepmul", rawget(_G, "jit") and 400 or 1000)

#!/usr/bin/env lua
-- The `longshore` command. Room: cli.
os.exit(require("longshore.cli").main(arg))

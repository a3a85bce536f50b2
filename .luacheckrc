std = "min"
max_line_length = 120
files["lua/longshore/nginx"] = { std = "+ngx_lua" }
files["spec"] = { std = "+busted" }
exclude_files = { "build" }
files["spec/examples/policies"] = { read_globals = { "KiB", "MiB", "GiB", "TiB", "minutes", "hours", "days", "array" } }

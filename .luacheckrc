std = "min"
max_line_length = 120
files["lua/longshore/nginx"] = { std = "+ngx_lua" }
files["spec"] = { std = "+busted" }
files["spec/nginx/inline_parts.lua"] = { std = "+ngx_lua" }
files["spec/nginx/lateness.lua"] = { std = "+ngx_lua" }
exclude_files = { "build" }
files["spec/examples/policies"] = { read_globals = { "KiB", "MiB", "GiB", "TiB", "minutes", "hours", "days", "array" } }

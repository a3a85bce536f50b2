std = "min"
max_line_length = 120
files["lua/longshore/nginx"] = { std = "+ngx_lua" }
files["spec"] = { std = "+busted" }
exclude_files = { "build" }

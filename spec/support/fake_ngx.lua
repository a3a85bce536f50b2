-- nginx's side of a module of longshore.nginx, for what cannot be made to happen in
-- a real one: `fake_ngx(fields, fn)` runs `fn` with a global `ngx` of these fields and
-- fresh modules. A semaphore has room always, unless `new_semaphore` makes another.
local MODULES = { "ngx.semaphore", "longshore.nginx.batches", "longshore.nginx.gate", "longshore.nginx.diskstore" }

return function(fields, fn, new_semaphore)
  local kept = {}
  for _, name in ipairs(MODULES) do kept[name], package.loaded[name] = package.loaded[name], nil end
  local permits = { wait = function() return true end, post = function() end }
  package.loaded["ngx.semaphore"] = { new = new_semaphore or function() return permits end }
  rawset(_G, "ngx", fields)
  local ok, err = pcall(fn)
  rawset(_G, "ngx", nil)
  for _, name in ipairs(MODULES) do package.loaded[name] = kept[name] end
  if not ok then error(err, 0) end
end

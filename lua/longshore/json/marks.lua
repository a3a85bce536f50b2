--- What reader and writer of JSON share: the marks of tables, null, the limit.
--
-- Room: shared ground, no I/O.
-- @module longshore.json.marks
return {
  array = { __name = "longshore.json.array" },
  object = { __name = "longshore.json.object" },
  null = require("cjson").null,
  -- How deep arrays and objects may be nested, both ways.
  max_depth = 128,
}

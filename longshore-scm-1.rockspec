rockspec_format = "3.0"
package = "longshore"
version = "scm-1"
source = {
  url = "git+https://github.com/longshore/longshore.git",
}
description = {
  summary = "Direct-to-cloud uploads for Lua and OpenResty",
  detailed = [[
    A broker hands out presigned URLs, the bytes go straight from the client to
    the object store, and the broker records, checks and finishes what arrived.
    The C module longshore.core presigns, computes CRC32C and transfers parts in
    parallel; Lua orchestrates the upload workflow and its metadata.
  ]],
  license = "MIT",
  labels = { "s3", "upload", "openresty", "crc32c", "presign" },
}
-- Tested on Lua 5.4 and on LuaJIT, which counts as 5.1 here.
dependencies = {
  "lua >= 5.1, < 5.5",
  "lua-cjson",
  "luafilesystem",
  "argparse",
  "luv",
}
-- No header is named: Debian keeps curl.h in its multiarch folder, where
-- luarocks does not look but the compiler does.
external_dependencies = {
  CURL = { library = "curl" },
  CRYPTO = { library = "crypto" },
  OPENSSL = { library = "ssl" },
}
-- LuaDBI with its SQLite3 or PostgreSQL driver is needed by the broker only
-- (serve, token, janitor, longshore.app), so it is not forced on those who
-- install longshore to sign or to upload.
build = {
  type = "make",
  makefile = "Makefile",
  build_target = "rock",
  install_target = "rock-install",
  build_variables = {
    CC = "$(CC)",
    CFLAGS = "$(CFLAGS)",
    ROCK_LUA_INCDIR = "$(LUA_INCDIR)",
    ROCK_LUA_VERSION = "$(LUA_VERSION)",
  },
  install_variables = {
    ROCK_LUA_INCDIR = "$(LUA_INCDIR)",
    ROCK_LUA_VERSION = "$(LUA_VERSION)",
    ROCK_LIBDIR = "$(LIBDIR)",
    ROCK_LUADIR = "$(LUADIR)",
    ROCK_BINDIR = "$(BINDIR)",
  },
}

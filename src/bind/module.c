/* luaopen_longshore_core: makes the module table and asks each binding file
 * to add its functions. Room: src/bind. */
#include "bind.h"

__attribute__((visibility("default")))
int luaopen_longshore_core(lua_State *L);

/* One line for each binding file: void lsb_open_NAME(lua_State *L) adds its
 * functions to the table on top of the stack. */
#define LSB_BINDINGS(X) \
  X(object) \
  X(system) \
  X(crc32c) \
  X(digest) \
  X(file) \
  X(lock) \
  X(signer) \
  X(run) \
  X(seal) \
  X(jws) \
  X(turn) \
  X(verifier) \
  X(plan) \
  X(engine) \
  X(sandbox)

#define DECLARE(name) void lsb_open_##name(lua_State *L);
LSB_BINDINGS(DECLARE)

static int error_tostring(lua_State *L)
{
  lua_getfield(L, 1, "code");
  lua_getfield(L, 1, "message");
  lua_pushfstring(L, "%s: %s",
                  lua_isstring(L, -2) ? lua_tostring(L, -2) : "error",
                  lua_isstring(L, -1) ? lua_tostring(L, -1) : "");
  return 1;
}

int luaopen_longshore_core(lua_State *L)
{
  lua_newtable(L);

  /* The metatable of every error, made here because C makes errors too;
   * longshore.errors adds to it. */
  luaL_newmetatable(L, "longshore.error");
  lua_pushcfunction(L, error_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, "longshore.error");
  lua_setfield(L, -2, "__name");
  lua_setfield(L, -2, "error_metatable");

  lua_pushliteral(L, "scm");
  lua_setfield(L, -2, "_VERSION");

#define OPEN(name) lsb_open_##name(L);
  LSB_BINDINGS(OPEN)
  return 1;
}

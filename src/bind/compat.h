/* Lua 5.4 and LuaJIT 2.1 (5.1 API) from one source.
 *
 * Room: src/bind. The only place that looks at LUA_VERSION_NUM. LuaJIT's own
 * additions (luaL_setfuncs and friends) are not used, so that the 5.1 build
 * also loads in PUC Lua 5.1, which reads the same folders.
 */
#ifndef LSB_COMPAT_H
#define LSB_COMPAT_H

#include <lua.h>
#include <lauxlib.h>

#include <stddef.h>
#include <stdint.h>

/* The largest integer that both Luas hold exactly: 2^53. */
#define LSB_INTEGER_MAX ((int64_t)9007199254740992)

#if LUA_VERSION_NUM < 502
/* LuaJIT can say whether its collector runs; PUC Lua 5.1 answers -1. */
#ifdef LUA_GCISRUNNING
#define LSB_COLLECTOR_PAUSES
#endif

#define lua_rawlen(L, i) lua_objlen((L), (i))

static inline void lsb_setfuncs(lua_State *L, const luaL_Reg *funcs)
{
  for(; funcs->name; funcs++) {
    lua_pushcfunction(L, funcs->func);
    lua_setfield(L, -2, funcs->name);
  }
}

static inline void *lsb_testudata(lua_State *L, int index, const char *name)
{
  void *p = lua_touserdata(L, index);
  if(!p || !lua_getmetatable(L, index))
    return NULL;
  luaL_getmetatable(L, name);
  if(!lua_rawequal(L, -1, -2))
    p = NULL;
  lua_pop(L, 2);
  return p;
}
#else
static inline void lsb_setfuncs(lua_State *L, const luaL_Reg *funcs)
{
  luaL_setfuncs(L, funcs, 0);
}

static inline void *lsb_testudata(lua_State *L, int index, const char *name)
{
  return luaL_testudata(L, index, name);
}
#endif

#endif

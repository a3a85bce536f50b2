/* Resting the collector while much is made that all lives on. See bind.h.
 * Room: src/bind.
 *
 * Lua 5.4 gains nothing by it.
 */
#include "bind.h"

/* Below this it does not pay. */
#define LEAST ((size_t)512 << 10)

bool lsb_pause_pays(lua_State *L, size_t bytes)
{
#ifdef LSB_COLLECTOR_PAUSES
  return bytes >= LEAST && lua_gc(L, LUA_GCISRUNNING, 0) == 1 &&
         (size_t)lua_gc(L, LUA_GCCOUNT, 0) < bytes / 1024;
#else
  (void)L;
  (void)bytes;
  (void)LEAST;
  return false;
#endif
}

int lsb_call_paused(lua_State *L, lua_CFunction function)
{
  int arguments = lua_gettop(L), status;

  lua_pushcfunction(L, function);
  lua_insert(L, 1);
  lua_gc(L, LUA_GCSTOP, 0);
  status = lua_pcall(L, arguments, LUA_MULTRET, 0);
  lua_gc(L, LUA_GCRESTART, 0);
  if(status) {
    /* Behind lua_pcall nobody could see which line made the mistake. */
    if(lua_type(L, -1) == LUA_TSTRING) {
      luaL_where(L, 1);
      lua_insert(L, -2);
      lua_concat(L, 2);
    }
    return lua_error(L);
  }
  return lua_gettop(L);
}

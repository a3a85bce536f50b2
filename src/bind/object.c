/* Userdata that the bindings share: classes with methods, and buffers that
 * the collector frees when an error is thrown past them. Room: src/bind.
 */
#include "bind.h"
#include "../core/buf.h"

#define BUF "longshore.buf"

void lsb_open_object(lua_State *L);

void lsb_new_class(lua_State *L, const char *name, const luaL_Reg *methods)
{
  luaL_newmetatable(L, name);
  lua_pushstring(L, name);
  lua_setfield(L, -2, "__name");
  lua_newtable(L);
  lsb_setfuncs(L, methods);
  lua_setfield(L, -2, "__index");
  /* setmetatable and getmetatable from Lua see this, not the table. */
  lua_pushliteral(L, "locked");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}

ls_buf *lsb_new_buf(lua_State *L, size_t ceiling)
{
  ls_buf *buf = lua_newuserdata(L, sizeof(*buf));

  ls_buf_init(buf, ceiling);
  luaL_getmetatable(L, BUF);
  lua_setmetatable(L, -2);
  return buf;
}

int lsb_push_buf(lua_State *L, ls_buf *buf)
{
  switch(ls_buf_code(buf)) {
  case LS_OK:
    lua_pushlstring(L, buf->data ? buf->data : "", buf->size);
    ls_buf_free(buf);
    return 1;
  case LS_ELIMIT:
    return lsb_fail(L, "too_large", "the result would be too large");
  default:
    return luaL_error(L, "not enough memory");
  }
}

static int l_free(lua_State *L)
{
  ls_buf_free(lua_touserdata(L, 1));
  return 0;
}

void lsb_open_object(lua_State *L)
{
  luaL_newmetatable(L, BUF);
  lua_pushcfunction(L, l_free);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}

/* Plain values between two Lua states; see values.h. Room: src/bind. */
#include "values.h"

#include <string.h>

#define MAX_DEPTH 160 /* JSON's 128, and what it is shown in */

enum {
  V_NIL = 'n',
  V_TRUE = 't',
  V_FALSE = 'f',
  V_INTEGER = 'i',
  V_NUMBER = 'd',
  V_STRING = 's',
  V_NULL = '0',
  V_TABLE = '{',
  V_ARRAY = '[',
  V_END = '}'
};

static void tag(ls_buf *buf, char c)
{
  ls_buf_add(buf, &c, 1);
}

static int is_marked(lua_State *L, int index)
{
  int same;

  if(!lua_getmetatable(L, index))
    return 0;
  lua_getfield(L, LUA_REGISTRYINDEX, LSB_ARRAY_MARK);
  same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same;
}

/* How large a table is to be made: entries with numbers as keys, and others. */
struct sizes {
  int listed;
  int named;
};

static const char *freeze(lua_State *L, int index, ls_buf *buf, int depth);

static const char *freeze_table(lua_State *L, int index, ls_buf *buf,
                                int depth)
{
  struct sizes sizes = { 0, 0 };
  const char *bad;
  size_t at;

  if(depth >= MAX_DEPTH)
    return "a table nested too deeply, or containing itself";
  if(!lua_checkstack(L, 8))
    return "a table nested too deeply";
  tag(buf, is_marked(L, index) ? V_ARRAY : V_TABLE);
  at = buf->size;
  ls_buf_add(buf, &sizes, sizeof(sizes));
  lua_pushnil(L);
  while(lua_next(L, index)) {
    int top = lua_gettop(L);
    int kind = lua_type(L, top - 1);

    if(kind == LUA_TSTRING)
      sizes.named++;
    else
      sizes.listed++;
    if(kind != LUA_TSTRING && kind != LUA_TNUMBER)
      bad = "a table with a key that is neither string nor number";
    else
      bad = freeze(L, top - 1, buf, depth + 1);
    if(!bad)
      bad = freeze(L, top, buf, depth + 1);
    if(bad || ls_buf_code(buf)) {
      lua_pop(L, 2);
      return bad;
    }
    lua_pop(L, 1);
  }
  tag(buf, V_END);
  if(!ls_buf_code(buf))
    memcpy(buf->data + at, &sizes, sizeof(sizes));
  return NULL;
}

static const char *freeze(lua_State *L, int index, ls_buf *buf, int depth)
{
  switch(lua_type(L, index)) {
  case LUA_TNIL:
    tag(buf, V_NIL);
    return NULL;
  case LUA_TBOOLEAN:
    tag(buf, lua_toboolean(L, index) ? V_TRUE : V_FALSE);
    return NULL;
  case LUA_TNUMBER: {
#if LUA_VERSION_NUM >= 503
    if(lua_isinteger(L, index)) {
      lua_Integer i = lua_tointeger(L, index);

      tag(buf, V_INTEGER);
      ls_buf_add(buf, &i, sizeof(i));
      return NULL;
    }
#endif
    {
      lua_Number d = lua_tonumber(L, index);

      tag(buf, V_NUMBER);
      ls_buf_add(buf, &d, sizeof(d));
    }
    return NULL;
  }
  case LUA_TSTRING: {
    size_t n;
    const char *s = lua_tolstring(L, index, &n);

    tag(buf, V_STRING);
    ls_buf_add(buf, &n, sizeof(n));
    ls_buf_add(buf, s, n);
    return NULL;
  }
  case LUA_TTABLE:
    return freeze_table(L, index, buf, depth);
  case LUA_TLIGHTUSERDATA:
    if(!lua_touserdata(L, index)) {
      tag(buf, V_NULL);
      return NULL;
    }
    break;
  default:
    break;
  }
  return lua_typename(L, lua_type(L, index));
}

const char *lsb_freeze(lua_State *L, int index, ls_buf *buf)
{
  return freeze(L, index, buf, 0);
}

static const char *thaw(lua_State *L, const char *p);

static const char *thaw_table(lua_State *L, const char *p, int marked)
{
  struct sizes sizes;

  luaL_checkstack(L, 6, "a table nested too deeply");
  memcpy(&sizes, p, sizeof(sizes));
  p += sizeof(sizes);
  lua_createtable(L, sizes.listed, sizes.named);
  while(*p != V_END) {
    p = thaw(L, p);
    p = thaw(L, p);
    lua_rawset(L, -3);
  }
  if(marked) {
    lua_getfield(L, LUA_REGISTRYINDEX, LSB_ARRAY_MARK);
    lua_setmetatable(L, -2);
  }
  return p + 1;
}

static const char *thaw(lua_State *L, const char *p)
{
  switch(*p++) {
  case V_TRUE:
    lua_pushboolean(L, 1);
    return p;
  case V_FALSE:
    lua_pushboolean(L, 0);
    return p;
  case V_INTEGER: {
    lua_Integer i;

    memcpy(&i, p, sizeof(i));
    lua_pushinteger(L, i);
    return p + sizeof(i);
  }
  case V_NUMBER: {
    lua_Number d;

    memcpy(&d, p, sizeof(d));
    lua_pushnumber(L, d);
    return p + sizeof(d);
  }
  case V_STRING: {
    size_t n;

    memcpy(&n, p, sizeof(n));
    lua_pushlstring(L, p + sizeof(n), n);
    return p + sizeof(n) + n;
  }
  case V_NULL:
    lua_pushlightuserdata(L, NULL);
    return p;
  case V_TABLE:
    return thaw_table(L, p, 0);
  case V_ARRAY:
    return thaw_table(L, p, 1);
  default:
    lua_pushnil(L);
    return p;
  }
}

int lsb_thaw(lua_State *L, ls_str frozen)
{
  const char *p = frozen.p;
  const char *end = p ? p + frozen.n : p;
  int n = 0;

  while(p < end) {
    luaL_checkstack(L, 4, "too many values");
    p = thaw(L, p);
    n++;
  }
  return n;
}

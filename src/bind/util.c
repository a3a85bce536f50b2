/* The shared ground of the bindings: errors and integers. Room: src/bind. */
#include "bind.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void lsb_push_error(lua_State *L, const char *code, const char *fmt, ...)
{
  va_list ap;

  lua_createtable(L, 0, 2);
  lua_pushstring(L, code);
  lua_setfield(L, -2, "code");
  va_start(ap, fmt);
  lua_pushvfstring(L, fmt, ap);
  va_end(ap);
  lua_setfield(L, -2, "message");
  luaL_getmetatable(L, "longshore.error");
  lua_setmetatable(L, -2);
}

int lsb_fail(lua_State *L, const char *code, const char *fmt, ...)
{
  va_list ap;

  lua_pushnil(L);
  lua_createtable(L, 0, 2);
  lua_pushstring(L, code);
  lua_setfield(L, -2, "code");
  va_start(ap, fmt);
  lua_pushvfstring(L, fmt, ap);
  va_end(ap);
  lua_setfield(L, -2, "message");
  luaL_getmetatable(L, "longshore.error");
  lua_setmetatable(L, -2);
  return 2;
}

const char *lsb_check_path(lua_State *L, int index)
{
  size_t n;
  const char *path = luaL_checklstring(L, index, &n);

  luaL_argcheck(L, n > 0 && !memchr(path, 0, n), index, "a path expected");
  return path;
}

int lsb_fail_errno(lua_State *L, const char *what, const char *path,
                   int error)
{
  bool missing = error == ENOENT || error == ENOTDIR;
  int results = lsb_fail(L, missing ? "not_found" : "io",
                         "cannot %s %s: %s", what, path, strerror(error));

  lua_pushinteger(L, error);
  lua_setfield(L, -2, "errno");
  return results;
}

void lsb_get(lua_State *L, int index, const char *name)
{
  lua_pushstring(L, name);
  lua_rawget(L, index);
}

bool lsb_to_uint(lua_State *L, int index, uint64_t *value)
{
#if LUA_VERSION_NUM >= 503
  /* Not by way of a double: an integer above 2^53 would be another one. */
  int exact;
  lua_Integer n = lua_tointegerx(L, index, &exact);

  *value = (uint64_t)n;
  return exact && n >= 0 && n <= LSB_INTEGER_MAX &&
         lua_type(L, index) == LUA_TNUMBER;
#else
  lua_Number n = lua_tonumber(L, index);

  /* The first comparison also refuses NaN. */
  if(!(n >= 0 && n <= (lua_Number)LSB_INTEGER_MAX) ||
     lua_type(L, index) != LUA_TNUMBER)
    return false;
  *value = (uint64_t)n;
  return (lua_Number)*value == n;
#endif
}

static uint64_t read_uint(lua_State *L, int index, const char *name,
                          uint64_t min, uint64_t max, int arg)
{
  uint64_t value = 0;
  const char *why;

  if(!lsb_to_uint(L, index, &value) || value < min || value > max) {
    char range[64];

    if(lua_type(L, index) != LUA_TNUMBER) {
      why = lua_pushfstring(L, "%s: integer expected, got %s", name,
                            luaL_typename(L, index));
      luaL_argerror(L, arg, why);
    }
    snprintf(range, sizeof(range), "%" PRIu64 " to %" PRIu64, min, max);
    why = lua_pushfstring(L, "%s: an integer from %s expected", name, range);
    luaL_argerror(L, arg, why);
  }
  return value;
}

uint64_t lsb_check_uint(lua_State *L, int index, uint64_t min, uint64_t max)
{
  return read_uint(L, index, "number", min, max, index);
}

uint64_t lsb_pop_uint(lua_State *L, int arg, const char *name, uint64_t min,
                      uint64_t max, uint64_t fallback)
{
  uint64_t value = fallback;

  if(!lua_isnil(L, -1))
    value = read_uint(L, -1, name, min, max, arg);
  lua_pop(L, 1);
  return value;
}

uint64_t lsb_field_uint(lua_State *L, int index, const char *name,
                        uint64_t min, uint64_t max, uint64_t fallback)
{
  lsb_get(L, index, name);
  return lsb_pop_uint(L, index, name, min, max, fallback);
}

ls_str lsb_field_str(lua_State *L, int index, const char *name,
                     const char *fallback)
{
  ls_str s = { fallback, fallback ? strlen(fallback) : 0 };

  luaL_checktype(L, index, LUA_TTABLE);
  lsb_get(L, index, name);
  if(lua_type(L, -1) == LUA_TSTRING)
    s.p = lua_tolstring(L, -1, &s.n);
  else if(!lua_isnil(L, -1) || !fallback)
    luaL_argerror(L, index, lua_pushfstring(L, "%s: string expected, got %s",
                                            name, luaL_typename(L, -1)));
  lua_pop(L, 1);
  return s;
}

void lsb_push_uint(lua_State *L, uint64_t value)
{
#if LUA_VERSION_NUM >= 503
  lua_pushinteger(L, (lua_Integer)value);
#else
  lua_pushnumber(L, (lua_Number)value);
#endif
}

void lsb_check_keys(lua_State *L, int index, const char *const *known)
{
  lua_pushnil(L);
  while(lua_next(L, index)) {
    const char *const *k = known;
    const char *key = lua_type(L, -2) == LUA_TSTRING ?
      lua_tostring(L, -2) : NULL;

    while(key && *k && strcmp(*k, key))
      k++;
    if(!key || !*k)
      luaL_error(L, "unknown option: %s", key ? key : luaL_typename(L, -2));
    lua_pop(L, 1);
  }
}

const char *lsb_field_text(lua_State *L, int index, const char *name,
                           const char *fallback)
{
  const char *text = fallback;
  size_t n;

  lsb_get(L, index, name);
  if(!lua_isnil(L, -1)) {
    if(lua_type(L, -1) != LUA_TSTRING)
      luaL_error(L, "%s: string expected, got %s", name,
                 luaL_typename(L, -1));
    text = lua_tolstring(L, -1, &n);
    if(strlen(text) != n)
      luaL_error(L, "%s: a NUL byte is not allowed", name);
  }
  lua_pop(L, 1);
  return text;
}

void lsb_set_uint(lua_State *L, const char *name, uint64_t value)
{
  lsb_push_uint(L, value);
  lua_setfield(L, -2, name);
}

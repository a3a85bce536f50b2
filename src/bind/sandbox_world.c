/* The world inside a sandbox: its libraries, the native functions of the chunk
 * that makes the rest. See sandbox.h. Room: src/bind. */
#include "sandbox.h"

#include <lualib.h>

#if LUA_VERSION_NUM == 501
#include <luajit.h>
#endif

/* charge(n): the work of a library function, in instructions */
static int s_charge(lua_State *S)
{
  lua_Number n = luaL_checknumber(S, 1);

  lsb_box_charge(S, n > 0 ? n < 1e15 ? (int64_t)n : (int64_t)1e15 : 0);
  return 0;
}

/* check(...) -> ...: raises when the sandbox was stopped */
static int s_check(lua_State *S)
{
  lsb_box_charge(S, 0);
  return lua_gettop(S);
}

/* is_plain(table): whether no metatable could take part in anything */
static int s_is_plain(lua_State *S)
{
  int plain = 1;

  luaL_checktype(S, 1, LUA_TTABLE);
  if(lua_getmetatable(S, 1)) {
    lua_getfield(S, LUA_REGISTRYINDEX, LSB_ARRAY_MARK);
    plain = lua_rawequal(S, -1, -2);
  }
  lua_pushboolean(S, plain);
  return 1;
}

#define SLICE 1024 /* bytes of source between two looks at the limits */

/* The parser calls no hook, and some chunks take it very long (a chain of
 * thousands of `or`): it gets its text by slices. */
static const char *next_slice(lua_State *S, void *ud, size_t *n)
{
  ls_str *rest = ud;
  const char *slice = rest->p;

  *n = rest->n < SLICE ? rest->n : SLICE;
  lsb_box_charge(S, SLICE / 4);
  rest->p += *n;
  rest->n -= *n;
  return *n ? slice : NULL;
}

/* compile(text, name, env) -> function | nil, message: source code only */
static int s_compile(lua_State *S)
{
  ls_str text;
  const char *name = luaL_checkstring(S, 2);

  text.p = luaL_checklstring(S, 1, &text.n);
  luaL_checktype(S, 3, LUA_TTABLE);
  if(text.n && text.p[0] == LUA_SIGNATURE[0]) {
    lua_pushnil(S);
    lua_pushliteral(S, "bytecode is not allowed");
    return 2;
  }
#if LUA_VERSION_NUM == 501
  if(lua_loadx(S, next_slice, &text, name, "t")) {
#else
  if(lua_load(S, next_slice, &text, name, "t")) {
#endif
    lua_pushnil(S);
    lua_insert(S, -2);
    return 2;
  }
  lua_pushvalue(S, 3);
#if LUA_VERSION_NUM == 501
  lua_setfenv(S, -2);
#else
  lua_setupvalue(S, -2, 1);
#endif
  return 1;
}

static void open_library(lua_State *S, const char *name, lua_CFunction open)
{
#if LUA_VERSION_NUM == 501
  lua_pushcfunction(S, open);
  lua_pushstring(S, name);
  lua_call(S, 1, 0);
#else
  luaL_requiref(S, name, open, 1);
  lua_pop(S, 1);
#endif
}

/* The libraries that a policy could want, none that leads out. */
int lsb_box_begin(lua_State *S)
{
  static const luaL_Reg native[] = {
    { "charge", s_charge },
    { "check", s_check },
    { "compile", s_compile },
    { "is_plain", s_is_plain },
    { NULL, NULL }
  };
  lsb_box_start *start = lua_touserdata(S, 1);

#if LUA_VERSION_NUM == 501
  open_library(S, "", luaopen_base);
  luaJIT_setmode(S, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
#else
  open_library(S, "_G", luaopen_base);
  open_library(S, "coroutine", luaopen_coroutine);
#endif
  open_library(S, "string", luaopen_string);
  open_library(S, "table", luaopen_table);
  open_library(S, "math", luaopen_math);

  lua_newtable(S);
  lua_pushboolean(S, 0);
  lua_setfield(S, -2, "__metatable");
  lua_setfield(S, LUA_REGISTRYINDEX, LSB_ARRAY_MARK);

  if(luaL_loadbuffer(S, start->text.p, start->text.n, start->name))
    return lua_error(S);
  lua_newtable(S);
  lsb_setfuncs(S, native);
  lua_getfield(S, LUA_REGISTRYINDEX, LSB_ARRAY_MARK);
  lua_setfield(S, -2, "array");
  lua_call(S, 1, 1);
  luaL_checktype(S, -1, LUA_TFUNCTION);
  lua_setfield(S, LUA_REGISTRYINDEX, LSB_DISPATCH);
  return 0;
}

/* Nothing is allocated outside of the
 * protected call on 5.4; LuaJIT's own does the same. */
int lsb_box_protect(lua_State *S, lua_CFunction f, void *ud)
{
#if LUA_VERSION_NUM == 501
  return lua_cpcall(S, f, ud);
#else
  lua_pushcfunction(S, f);
  lua_pushlightuserdata(S, ud);
  return lua_pcall(S, 1, 0, 0);
#endif
}

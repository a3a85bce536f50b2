/* A job for core.engine, read from a Lua table. Room: src/bind. */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

double lsb_field_seconds(lua_State *L, int index, const char *name,
                         double fallback)
{
  double v = fallback;

  lsb_get(L, index, name);
  if(!lua_isnil(L, -1)) {
    v = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;
    if(!(v >= 0 && v <= 86400 * 7.0))
      luaL_argerror(L, index, lua_pushfstring(L,
        "%s: seconds (0 to 604800) expected", name));
  }
  lua_pop(L, 1);
  return v;
}

static void add_header(lua_State *L, lst_request *r, lst_header *headers,
                       int name, int value)
{
  lst_header *h;

  if(r->header_count == LSB_MAX_HEADERS)
    luaL_argerror(L, 2, "headers: more than 128");
  if(lua_type(L, name) != LUA_TSTRING)
    luaL_argerror(L, 2, "headers: names must be strings");
  if(lua_type(L, value) != LUA_TSTRING)
    luaL_argerror(L, 2, lua_pushfstring(L,
      "headers: the value of %s must be a string, got %s",
      lua_tostring(L, name), luaL_typename(L, value)));
  h = &headers[r->header_count++];
  h->name = lua_tolstring(L, name, &h->name_length);
  h->value = lua_tolstring(L, value, &h->value_length);
}

/* headers = {["Name"] = "value"} or {{"Name", "value"}, ...}. The strings
 * stay in the table, so that the pointers stay good. */
static void read_headers(lua_State *L, lst_request *r, lst_header *headers)
{
  lsb_get(L, 2, "headers");
  r->headers = headers;
  if(lua_isnil(L, -1))
    return;
  if(!lua_istable(L, -1))
    luaL_argerror(L, 2, "headers: table expected");
  lua_pushnil(L);
  while(lua_next(L, -2)) {
    if(lua_istable(L, -1)) {
      lua_rawgeti(L, -1, 1);
      lua_rawgeti(L, -2, 2);
      add_header(L, r, headers, lua_gettop(L) - 1, lua_gettop(L));
      lua_pop(L, 2);
    }
    else
      add_header(L, r, headers, lua_gettop(L) - 1, lua_gettop(L));
    lua_pop(L, 1);
  }
}

/* A whole number in decimal that may be above 2^53: a string. */
static bool field_int64(lua_State *L, int index, const char *name,
                        int64_t *value)
{
  bool there = false;

  lsb_get(L, index, name);
  if(!lua_isnil(L, -1)) {
    size_t n = 0;
    const char *text = lua_type(L, -1) == LUA_TSTRING ?
      lua_tolstring(L, -1, &n) : "";
    char *end;

    errno = 0;
    *value = strtoll(text, &end, 10);
    if(!n || end != text + n || errno)
      luaL_argerror(L, 2, lua_pushfstring(L,
        "%s: a whole number in decimal, as a string, expected", name));
    there = true;
  }
  lua_pop(L, 1);
  return there;
}

static void read_file(lua_State *L, lst_request *r)
{
  static const char *const known[] = {
    "path", "offset", "length", "size", "mtime_ns", NULL
  };
  int index = lua_gettop(L);
  const uint64_t max = (uint64_t)LSB_INTEGER_MAX;

  lsb_check_keys(L, index, known);
  r->body = LST_BODY_FILE;
  r->path = lsb_field_text(L, index, "path", NULL);
  if(!r->path)
    luaL_argerror(L, 2, "body: path expected");
  r->offset = lsb_field_uint(L, index, "offset", 0, max, 0);
  r->size = lsb_field_uint(L, index, "size", 0, max, UINT64_MAX);
  r->has_size = r->size != UINT64_MAX;
  r->length = lsb_field_uint(L, index, "length", 0, max, UINT64_MAX);
  if(r->length == UINT64_MAX) {
    if(!r->has_size || r->size < r->offset)
      luaL_argerror(L, 2, "body: length expected");
    r->length = r->size - r->offset;
  }
  r->has_mtime = field_int64(L, index, "mtime_ns", &r->mtime_ns);
}

static void read_body(lua_State *L, lst_request *r)
{
  size_t n;

  lsb_get(L, 2, "body");
  switch(lua_type(L, -1)) {
  case LUA_TNIL:
    break;
  case LUA_TSTRING:
    r->body = LST_BODY_BYTES;
    r->bytes = lua_tolstring(L, -1, &n);
    r->length = n;
    break;
  case LUA_TTABLE:
    read_file(L, r);
    break;
  default:
    luaL_argerror(L, 2, "body: string or table expected");
  }
}

static void read_output(lua_State *L, lst_request *r)
{
  static const char *const known[] = { "path", "offset", "length", NULL };
  const uint64_t max = (uint64_t)LSB_INTEGER_MAX;
  int index;

  lsb_get(L, 2, "output");
  index = lua_gettop(L);
  if(lua_isnil(L, -1))
    return;
  if(!lua_istable(L, -1))
    luaL_argerror(L, 2, "output: table expected");
  lsb_check_keys(L, index, known);
  r->output_path = lsb_field_text(L, index, "path", NULL);
  if(!r->output_path)
    luaL_argerror(L, 2, "output: path expected");
  r->output_offset = lsb_field_uint(L, index, "offset", 0, max, 0);
  r->output_length = lsb_field_uint(L, index, "length", 0, max, UINT64_MAX);
  r->has_output_length = r->output_length != UINT64_MAX;
}

static bool field_bool(lua_State *L, int index, const char *name,
                       bool fallback)
{
  bool v = fallback;

  lsb_get(L, index, name);
  if(!lua_isnil(L, -1)) {
    if(!lua_isboolean(L, -1))
      luaL_argerror(L, index, lua_pushfstring(L, "%s: boolean expected",
                                              name));
    v = lua_toboolean(L, -1);
  }
  lua_pop(L, 1);
  return v;
}

static void read_limits(lua_State *L, lst_request *r)
{
  uint64_t none = UINT64_MAX;
  uint64_t max_response = lsb_field_uint(L, 2, "max_response", 0, 1u << 30,
                                         none);
  uint64_t stall_bytes = lsb_field_uint(L, 2, "stall_bytes", 0, 1u << 30,
                                        none);
  double stall_seconds = lsb_field_seconds(L, 2, "stall_seconds", -1);

  r->has_max_response = max_response != none;
  r->max_response = (size_t)max_response;
  r->has_stall_bytes = stall_bytes != none;
  r->stall_bytes = stall_bytes;
  r->has_stall_seconds = stall_seconds >= 0;
  r->stall_seconds = stall_seconds;
  r->timeout = lsb_field_seconds(L, 2, "timeout", 0);
  r->checksum = field_bool(L, 2, "checksum", true);
  r->fresh = field_bool(L, 2, "fresh", false);
}

void lsb_read_request(lua_State *L, lst_request *r, lst_header *headers)
{
  static const char *const known[] = {
    "method", "url", "headers", "body", "output", "max_response", "timeout",
    "stall_bytes", "stall_seconds", "checksum", "fresh", NULL
  };

  lsb_check_keys(L, 2, known);
  memset(r, 0, sizeof(*r));
  lsb_get(L, 2, "method");
  if(lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushliteral(L, "GET");
  }
  lsb_get(L, 2, "url");
  if(lua_type(L, -2) != LUA_TSTRING)
    luaL_argerror(L, 2, "method: string expected");
  if(lua_type(L, -1) != LUA_TSTRING)
    luaL_argerror(L, 2, "url: string expected");
  r->method = lua_tolstring(L, -2, &r->method_length);
  r->url = lua_tolstring(L, -1, &r->url_length);
  read_limits(L, r);
  read_headers(L, r, headers);
  read_body(L, r);
  read_output(L, r);
}

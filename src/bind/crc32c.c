/* CRC32C for Lua: one-shot, a stream object, combining, the text that object
 * stores use. Room: src/bind.
 */
#include "bind.h"
#include "../core/crc32c.h"
#include "../core/text.h"

void lsb_open_crc32c(lua_State *L);

#define STREAM "longshore.crc32c"

typedef struct stream {
  uint32_t crc;
  uint64_t length;
} stream;

static uint32_t check_crc(lua_State *L, int index)
{
  return (uint32_t)lsb_check_uint(L, index, 0, UINT32_MAX);
}

static void push_base64(lua_State *L, uint32_t crc)
{
  unsigned char bytes[4] = {
    (unsigned char)(crc >> 24), (unsigned char)(crc >> 16),
    (unsigned char)(crc >> 8), (unsigned char)crc
  };
  char text[LS_BASE64_SIZE(4)];

  lua_pushlstring(L, text, ls_base64(text, bytes, 4, false));
}

/* crc32c(data [, crc]) -> the CRC, continuing from what came before */
static int l_crc32c(lua_State *L)
{
  size_t n;
  const char *p = luaL_checklstring(L, 1, &n);
  uint32_t crc = lua_isnoneornil(L, 2) ? 0 : check_crc(L, 2);

  lsb_push_uint(L, ls_crc32c(crc, p, n));
  return 1;
}

/* crc32c_combine(crc_a, crc_b, length_b) -> the CRC of a followed by b. The
 * operator of the last length is kept, since parts are of equal length. */
static int l_combine(lua_State *L)
{
  struct { uint64_t length; uint32_t op; } *last =
    lua_touserdata(L, lua_upvalueindex(1));
  uint32_t a = check_crc(L, 1);
  uint32_t b = check_crc(L, 2);
  uint64_t length = lsb_check_uint(L, 3, 0, (uint64_t)LSB_INTEGER_MAX);

  if(length != last->length) {
    last->op = ls_crc32c_operator(length);
    last->length = length;
  }
  lsb_push_uint(L, ls_crc32c_combine_op(a, b, last->op));
  return 1;
}

/* crc32c_base64(crc) -> its four bytes, most significant first, as Base64 */
static int l_base64(lua_State *L)
{
  push_base64(L, check_crc(L, 1));
  return 1;
}

/* crc32c_from_base64(text) -> the CRC | nil, err */
static int l_from_base64(lua_State *L)
{
  size_t n, size;
  const char *p = luaL_checklstring(L, 1, &n);
  unsigned char b[LS_UNBASE64_SIZE(LS_BASE64_SIZE(4))];

  if(n != LS_BASE64_SIZE(4) || ls_unbase64(b, &size, p, n, false) || size != 4)
    return lsb_fail(L, "invalid", "a CRC32C is 4 bytes in Base64");
  lsb_push_uint(L, (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 |
                   (uint32_t)b[2] << 8 | b[3]);
  return 1;
}

/* crc32c_implementations() -> the names of those this CPU can run */
static int l_implementations(lua_State *L)
{
  const char *name;
  int i;

  lua_newtable(L);
  for(i = 0; (name = ls_crc32c_name((size_t)i)) != NULL; i++) {
    lua_pushstring(L, name);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* crc32c_use(name | nil): forces one, for tests; nil for the best */
static int l_use(lua_State *L)
{
  if(ls_crc32c_use(luaL_optstring(L, 1, NULL)))
    return luaL_argerror(L, 1, "no such implementation on this CPU");
  return 0;
}

/* crc32c_new() -> stream, for data that comes in pieces */
static int l_new(lua_State *L)
{
  stream *s = lua_newuserdata(L, sizeof(*s));

  s->crc = 0;
  s->length = 0;
  luaL_getmetatable(L, STREAM);
  lua_setmetatable(L, -2);
  return 1;
}

static stream *check_stream(lua_State *L)
{
  return luaL_checkudata(L, 1, STREAM);
}

/* stream:update(bytes) -> stream */
static int l_update(lua_State *L)
{
  stream *s = check_stream(L);
  size_t n;
  const char *p = luaL_checklstring(L, 2, &n);

  s->crc = ls_crc32c(s->crc, p, n);
  s->length += n;
  lua_settop(L, 1);
  return 1;
}

/* stream:value() -> the CRC of what came so far */
static int l_value(lua_State *L)
{
  lsb_push_uint(L, check_stream(L)->crc);
  return 1;
}

/* stream:length() -> bytes so far */
static int l_length(lua_State *L)
{
  lsb_push_uint(L, check_stream(L)->length);
  return 1;
}

/* stream:base64() -> the CRC as crc32c_base64 has it */
static int l_stream_base64(lua_State *L)
{
  push_base64(L, check_stream(L)->crc);
  return 1;
}

/* stream:reset() -> stream, as if new */
static int l_reset(lua_State *L)
{
  stream *s = check_stream(L);

  s->crc = 0;
  s->length = 0;
  lua_settop(L, 1);
  return 1;
}

void lsb_open_crc32c(lua_State *L)
{
  static const luaL_Reg funcs[] = {
    { "crc32c", l_crc32c },
    { "crc32c_base64", l_base64 },
    { "crc32c_from_base64", l_from_base64 },
    { "crc32c_implementations", l_implementations },
    { "crc32c_use", l_use },
    { "crc32c_new", l_new },
    { NULL, NULL }
  };
  static const luaL_Reg methods[] = {
    { "update", l_update },
    { "value", l_value },
    { "length", l_length },
    { "base64", l_stream_base64 },
    { "reset", l_reset },
    { NULL, NULL }
  };
  struct { uint64_t length; uint32_t op; } *last;

  lsb_setfuncs(L, funcs);
  last = lua_newuserdata(L, sizeof(*last));
  last->length = 0;
  last->op = ls_crc32c_operator(0);
  lua_pushcclosure(L, l_combine, 1);
  lua_setfield(L, -2, "crc32c_combine");
  lsb_new_class(L, STREAM, methods);
}

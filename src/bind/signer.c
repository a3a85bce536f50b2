/* Signing for Lua: core.signer{...} and its methods. Room: src/bind.
 *
 * A value that no signature can carry (a control character in a header, an
 * expiry of a month) is nil and an error; a wrong type raises.
 */
#include "signer.h"
#include "../core/sha256.h"
#include "../core/text.h"

#include <time.h>

void lsb_open_signer(lua_State *L);

lsb_signer *lsb_check_signer(lua_State *L)
{
  lsb_signer *s = luaL_checkudata(L, 1, LSB_SIGNER);

  luaL_argcheck(L, s->core, 1, "the signer is closed");
  return s;
}

int lsb_signer_fail(lua_State *L, const ls_signer *s, ls_code code)
{
  const char *why = ls_signer_why(s);
  const char *colon = strchr(why, ':');

  switch(code) {
  case LS_EINVAL:
    lsb_fail(L, "invalid", "%s", why);
    if(colon) {
      lua_pushlstring(L, why, (size_t)(colon - why));
      lua_setfield(L, -2, "field");
    }
    return 2;
  case LS_ELIMIT:
    return lsb_fail(L, "too_large", "the request to sign is too large");
  default:
    return luaL_error(L, "not enough memory");
  }
}

/* The time to sign for: a field, or the system's clock. */
uint64_t lsb_field_time(lua_State *L)
{
  lua_Number n;

  lsb_get(L, 2, "time");
  if(lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return (uint64_t)time(NULL);
  }
  n = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;
  luaL_argcheck(L, n >= 0 && n < (lua_Number)LSB_INTEGER_MAX, 2,
                "time: seconds since 1970 expected");
  lua_pop(L, 1);
  return (uint64_t)n;
}

/* The value on top of the stack as text; a number is written into `room`. */
static ls_str value_text(lua_State *L, const char *what,
                         char room[LS_DECIMAL_MAX])
{
  ls_str text = { NULL, 0 };
  uint64_t n;

  switch(lua_type(L, -1)) {
  case LUA_TSTRING:
    text.p = lua_tolstring(L, -1, &text.n);
    return text;
  case LUA_TBOOLEAN:
    if(lua_toboolean(L, -1))
      return LS_LIT("");
    break;
  case LUA_TNUMBER:
    if(lsb_to_uint(L, -1, &n)) {
      text.p = room;
      text.n = ls_decimal(room, n);
      return text;
    }
    break;
  }
  luaL_error(L, "%s: a value must be a string, a whole number, true, or a "
             "list of these", what);
  return text;
}

typedef void add_pair(ls_signer *s, ls_str name, ls_str value);

/* Adds the pairs of a field {name = value | {value, ...}} of argument 2. */
static void add_pairs(lua_State *L, ls_signer *s, const char *field,
                      add_pair *add)
{
  char room[LS_DECIMAL_MAX];
  ls_str name;
  int i, n;

  lsb_get(L, 2, field);
  if(lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return;
  }
  if(!lua_istable(L, -1))
    luaL_error(L, "%s: table expected, got %s", field, luaL_typename(L, -1));
  lua_pushnil(L);
  while(lua_next(L, -2)) {
    if(lua_type(L, -2) != LUA_TSTRING)
      luaL_error(L, "%s: a name must be a string", field);
    name.p = lua_tolstring(L, -2, &name.n);
    if(lua_istable(L, -1)) {
      n = (int)lua_rawlen(L, -1);
      for(i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        add(s, name, value_text(L, field, room));
        lua_pop(L, 1);
      }
    }
    else {
      add(s, name, value_text(L, field, room));
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

void lsb_signer_begin(lua_State *L, ls_signer *s)
{
  ls_signer_begin(s);
  add_pairs(L, s, "query", ls_signer_query);
  add_pairs(L, s, "headers", ls_signer_header);
}

/* The table of argument 2 keeps the strings alive. */
ls_target lsb_read_target(lua_State *L, const char *method)
{
  ls_target t;

  luaL_checktype(L, 2, LUA_TTABLE);
  t.method = lsb_field_str(L, 2, "method", method);
  t.scheme = lsb_field_str(L, 2, "scheme", "https");
  t.host = lsb_field_str(L, 2, "host", NULL);
  t.path = lsb_field_str(L, 2, "path", NULL);
  return t;
}

/* signer{access_key=, secret_key=, session_token=, region=, service="s3"} ->
 * signer. It keeps derived keys; the time to sign for is the field `time` of a
 * call, or the system's. */
static int l_new(lua_State *L)
{
  static const char *const known[] = { "access_key", "secret_key",
    "session_token", "region", "service", NULL };
  ls_credentials c;
  lsb_signer *s;

  luaL_checktype(L, 1, LUA_TTABLE);
  lsb_check_keys(L, 1, known);
  c.access_key = lsb_field_str(L, 1, "access_key", NULL);
  c.secret_key = lsb_field_str(L, 1, "secret_key", NULL);
  c.session_token = lsb_field_str(L, 1, "session_token", "");
  c.region = lsb_field_str(L, 1, "region", NULL);
  c.service = lsb_field_str(L, 1, "service", "s3");
  s = lua_newuserdata(L, sizeof(*s));
  s->core = NULL;
  s->run = NULL;
  luaL_getmetatable(L, LSB_SIGNER);
  lua_setmetatable(L, -2);
  if(ls_signer_new(&s->core, &c))
    return luaL_error(L, "not enough memory");
  return 1;
}

static int l_gc(lua_State *L)
{
  lsb_signer *s = luaL_checkudata(L, 1, LSB_SIGNER);

  ls_signer_free(s->core);
  ls_run_free(s->run);
  s->core = NULL;
  s->run = NULL;
  return 0;
}

static int l_tostring(lua_State *L)
{
  luaL_checkudata(L, 1, LSB_SIGNER);
  lua_pushliteral(L, LSB_SIGNER);
  return 1;
}

static void set_field(lua_State *L, const char *name, ls_str value)
{
  if(!value.n)
    return;
  lua_pushlstring(L, value.p, value.n);
  lua_setfield(L, -2, name);
}

/* signer:sign{method=, scheme=, host=, path=, query=, headers=, payload_hash=
 * | body=, time=} -> headers, target */
static int l_sign(lua_State *L)
{
  ls_signer *s = lsb_check_signer(L)->core;
  ls_target target = lsb_read_target(L, NULL);
  uint64_t when = lsb_field_time(L);
  ls_str hash = lsb_field_str(L, 2, "payload_hash", "");
  unsigned char digest[LS_SHA256_SIZE];
  char hex[LS_HEX_SIZE(LS_SHA256_SIZE)];
  ls_signed out;
  ls_code code;

  if(!hash.n) {
    ls_str body = lsb_field_str(L, 2, "body", "");

    ls_sha256_once(body.p, body.n, digest);
    ls_hex(hex, digest, sizeof(digest));
    hash = (ls_str){ hex, sizeof(hex) };
  }
  lsb_signer_begin(L, s);
  code = ls_signer_sign(s, &target, hash, when, &out);
  if(code)
    return lsb_signer_fail(L, s, code);
  lua_createtable(L, 0, 5);
  set_field(L, "authorization", out.authorization);
  set_field(L, "x-amz-date", out.date);
  set_field(L, "x-amz-content-sha256", out.payload_hash);
  set_field(L, "x-amz-security-token", out.session_token);
  lua_pushlstring(L, out.target.p, out.target.n);
  return 2;
}

/* signer:presign{method=, scheme="https", host=, path=, query=, headers=,
 * expires=, time=} -> url */
static int l_presign(lua_State *L)
{
  ls_signer *s = lsb_check_signer(L)->core;
  ls_target target = lsb_read_target(L, NULL);
  uint64_t when = lsb_field_time(L);
  uint64_t expires = lsb_field_uint(L, 2, "expires", 0,
                                    (uint64_t)LSB_INTEGER_MAX, UINT64_MAX);
  ls_str url;
  ls_code code;

  luaL_argcheck(L, expires != UINT64_MAX, 2, "expires: seconds expected");
  lsb_signer_begin(L, s);
  code = ls_signer_presign(s, &target, when, expires, &url);
  if(code)
    return lsb_signer_fail(L, s, code);
  lua_pushlstring(L, url.p, url.n);
  return 1;
}

void lsb_open_signer(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "sign", l_sign },
    { "presign", l_presign },
    { NULL, NULL }
  };

  lsb_new_class(L, LSB_SIGNER, methods);
  luaL_getmetatable(L, LSB_SIGNER);
  lua_pushcfunction(L, l_gc);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, l_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pop(L, 1);
  lua_pushcfunction(L, l_new);
  lua_setfield(L, -2, "signer");
}

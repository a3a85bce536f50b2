/* Verifying signatures for Lua: core.sigv4_parse and core.sigv4_verify. Both
 * share one verifier for each Lua state, which keeps derived keys.
 * Room: src/bind.
 */
#include "bind.h"
#include "../core/verifier.h"

#include <time.h>

void lsb_open_verifier(lua_State *L);

#define VERIFIER "longshore.verifier"

static void set_field_of(lua_State *L, int table, const char *name,
                         ls_str value)
{
  if(!value.p)
    return;
  lua_pushlstring(L, value.p, value.n);
  lua_setfield(L, table - 1, name);
}

static void set_field(lua_State *L, const char *name, ls_str value)
{
  set_field_of(L, -1, name, value);
}

static int fail(lua_State *L, const ls_verifier *v, ls_code code)
{
  const ls_fault *fault = ls_verifier_fault(v);

  switch(code) {
  case LS_EPARSE:
  case LS_ESIG:
    if(fault->field.p) {
      lua_pushlstring(L, fault->field.p, fault->field.n);
      lsb_fail(L, fault->code, "%s (%s)", fault->message,
               lua_tostring(L, -1));
      lua_pushvalue(L, -3);
      lua_setfield(L, -2, "field");
    }
    else {
      lsb_fail(L, fault->code, "%s", fault->message);
    }
    return 2;
  case LS_ELIMIT:
    return lsb_fail(L, "malformed", "the request's head is too large");
  default:
    return luaL_error(L, "not enough memory");
  }
}

/* One header: its values are strings, or numbers a host made of them. */
static void add_header(lua_State *L, ls_verifier *v, ls_str name)
{
  ls_str value;

  if(lua_type(L, -1) != LUA_TSTRING && lua_type(L, -1) != LUA_TNUMBER)
    luaL_error(L, "headers: a value must be a string or a list of strings");
  lua_pushvalue(L, -1); /* a number is converted in the copy */
  value.p = lua_tolstring(L, -1, &value.n);
  ls_verifier_header(v, name, value);
  lua_pop(L, 1);
}

/* Gives {method=, target=, headers=} at argument 1 to the verifier. */
static ls_verifier *read_request(lua_State *L)
{
  ls_verifier *v = *(ls_verifier **)lua_touserdata(L, lua_upvalueindex(1));
  ls_str name;
  int i, n;

  luaL_checktype(L, 1, LUA_TTABLE);
  ls_verifier_begin(v, lsb_field_str(L, 1, "method", NULL),
                    lsb_field_str(L, 1, "target", NULL));
  lsb_get(L, 1, "headers");
  if(!lua_istable(L, -1))
    luaL_argerror(L, 1, "headers: table expected");
  lua_pushnil(L);
  while(lua_next(L, -2)) {
    if(lua_type(L, -2) != LUA_TSTRING)
      luaL_error(L, "headers: a name must be a string");
    name.p = lua_tolstring(L, -2, &name.n);
    if(lua_istable(L, -1)) {
      n = (int)lua_rawlen(L, -1);
      for(i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        add_header(L, v, name);
        lua_pop(L, 1);
      }
    }
    else {
      add_header(L, v, name);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return v;
}

/* sigv4_parse{method=, target=, headers=} -> {form=, access_key=, ...} |
 * nil, err */
static int l_parse(lua_State *L)
{
  static const char *const forms[] = { "none", "header", "query" };
  ls_verifier *v = read_request(L);
  ls_auth auth;
  ls_code code = ls_verifier_parse(v, &auth);
  ls_str names;
  int i;

  if(code)
    return fail(L, v, code);
  lua_createtable(L, 0, 12);
  lua_pushstring(L, forms[auth.form]);
  lua_setfield(L, -2, "form");
  if(auth.form == LS_AUTH_NONE)
    return 1;
  set_field(L, "access_key", auth.access_key);
  set_field(L, "date", auth.day);
  set_field(L, "region", auth.region);
  set_field(L, "service", auth.service);
  set_field(L, "payload_hash", auth.payload_hash);
  set_field(L, "session_token", auth.session_token);
  lsb_push_uint(L, auth.time);
  lua_setfield(L, -2, "time");
  if(auth.form == LS_AUTH_QUERY) {
    lsb_push_uint(L, auth.expires);
    lua_setfield(L, -2, "expires");
  }
  lua_newtable(L);
  names = auth.signed_headers;
  for(i = 1; names.p; i++) {
    ls_str name = ls_str_cut(&names, ';');

    lua_pushlstring(L, name.p, name.n);
    lua_rawseti(L, -2, i);
  }
  lua_setfield(L, -2, "signed_headers");
  return 1;
}

static uint64_t field_now(lua_State *L)
{
  lua_Number n = -1;

  lsb_get(L, 2, "now");
  if(lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return (uint64_t)time(NULL);
  }
  if(lua_type(L, -1) == LUA_TNUMBER)
    n = lua_tonumber(L, -1);
  luaL_argcheck(L, n >= 0 && n < (lua_Number)LSB_INTEGER_MAX, 2,
                "now: seconds since 1970 expected");
  lua_pop(L, 1);
  return (uint64_t)n;
}

static ls_str optional(lua_State *L, const char *name, const char *fallback)
{
  ls_str s = lsb_field_str(L, 2, name, fallback);

  return s.n ? s : (ls_str){ NULL, 0 };
}

/* sigv4_verify(request, {secret_key=, now=, skew=900, region=, service="s3",
 * session_token=, allow_unsigned=}) -> true | nil, err. Without the option
 * `allow_unsigned`, x-amz-* headers must be signed, as S3 has it. */
static int l_verify(lua_State *L)
{
  ls_verifier *v;
  ls_expected expected;
  ls_auth auth;
  ls_buf *text;
  ls_code code;

  lua_settop(L, 2);
  luaL_checktype(L, 2, LUA_TTABLE);
  expected.secret_key = lsb_field_str(L, 2, "secret_key", NULL);
  expected.session_token = optional(L, "session_token", "");
  expected.region = optional(L, "region", "");
  expected.service = optional(L, "service", "s3");
  expected.skew = lsb_field_uint(L, 2, "skew", 0, LS_DATE_MAX, 900);
  expected.now = field_now(L);
  lsb_get(L, 2, "allow_unsigned");
  expected.allow_unsigned = lua_toboolean(L, -1);
  lua_pop(L, 1);
  v = read_request(L);
  code = ls_verifier_parse(v, &auth);
  if(!code && auth.form == LS_AUTH_NONE)
    return lsb_fail(L, "unauthenticated", "the request is not signed");
  if(!code)
    code = ls_verifier_check(v, &auth, &expected);
  if(!code) {
    lua_pushboolean(L, 1);
    return 1;
  }
  fail(L, v, code);
  if(strcmp(ls_verifier_fault(v)->code ? ls_verifier_fault(v)->code : "",
            "signature_mismatch") == 0) {
    set_field(L, "canonical_request", ls_verifier_canonical(v));
    text = lsb_new_buf(L, 4096);
    ls_verifier_string_to_sign(v, &auth, text);
    if(ls_buf_code(text))
      return luaL_error(L, "not enough memory");
    set_field_of(L, -2, "string_to_sign", ls_buf_view(text));
    lua_pop(L, 1);
  }
  else if(auth.time) {
    lsb_push_uint(L, auth.time);
    lua_setfield(L, -2, "request_time");
    lsb_push_uint(L, expected.now);
    lua_setfield(L, -2, "server_time");
  }
  return 2;
}

static int l_gc(lua_State *L)
{
  ls_verifier **v = lua_touserdata(L, 1);

  ls_verifier_free(*v);
  *v = NULL;
  return 0;
}

void lsb_open_verifier(lua_State *L)
{
  ls_verifier **v = lua_newuserdata(L, sizeof(*v));

  *v = NULL;
  luaL_newmetatable(L, VERIFIER);
  lua_pushcfunction(L, l_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  if(ls_verifier_new(v))
    luaL_error(L, "not enough memory");
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, l_parse, 1);
  lua_setfield(L, -3, "sigv4_parse");
  lua_pushcclosure(L, l_verify, 1);
  lua_setfield(L, -2, "sigv4_verify");
}

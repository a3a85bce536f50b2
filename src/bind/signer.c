/* Signing for Lua: core.signer{...} and its methods. Room: src/bind.
 *
 * A value that no signature can carry (a control character in a header, an
 * expiry of a month) is nil and an error; a wrong type raises.
 */
#include "bind.h"
#include "../core/sha256.h"
#include "../core/signer.h"
#include "../core/text.h"

#include <stdio.h>
#include <time.h>

void lsb_open_signer(lua_State *L);

#define SIGNER "longshore.signer"
#define PARTS_MAX 1000000

typedef struct signer {
  ls_signer *core;
} signer;

static ls_signer *check_signer(lua_State *L)
{
  signer *s = luaL_checkudata(L, 1, SIGNER);

  luaL_argcheck(L, s->core, 1, "the signer is closed");
  return s->core;
}

static int fail(lua_State *L, const ls_signer *s, ls_code code)
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
static uint64_t field_time(lua_State *L)
{
  lua_Number n;

  lua_getfield(L, 2, "time");
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
static ls_str value_text(lua_State *L, const char *what, char room[24])
{
  ls_str text = { NULL, 0 };
  lua_Number n;

  switch(lua_type(L, -1)) {
  case LUA_TSTRING:
    text.p = lua_tolstring(L, -1, &text.n);
    return text;
  case LUA_TBOOLEAN:
    if(lua_toboolean(L, -1))
      return LS_LIT("");
    break;
  case LUA_TNUMBER:
    n = lua_tonumber(L, -1);
    if(n >= 0 && n <= (lua_Number)LSB_INTEGER_MAX &&
       (lua_Number)(uint64_t)n == n) {
      text.n = (size_t)snprintf(room, 24, "%.0f", n);
      text.p = room;
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
  char room[24];
  ls_str name;
  int i, n;

  lua_getfield(L, 2, field);
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

static void begin(lua_State *L, ls_signer *s)
{
  ls_signer_begin(s);
  add_pairs(L, s, "query", ls_signer_query);
  add_pairs(L, s, "headers", ls_signer_header);
}

/* The table of argument 2 keeps the strings alive. */
static ls_target read_target(lua_State *L, const char *method)
{
  ls_target t;

  luaL_checktype(L, 2, LUA_TTABLE);
  t.method = lsb_field_str(L, 2, "method", method);
  t.scheme = lsb_field_str(L, 2, "scheme", "https");
  t.host = lsb_field_str(L, 2, "host", NULL);
  t.path = lsb_field_str(L, 2, "path", NULL);
  return t;
}

/* core.signer{access_key=, secret_key=, session_token=, region=, service=} */
static int l_new(lua_State *L)
{
  ls_credentials c;
  signer *s;

  luaL_checktype(L, 1, LUA_TTABLE);
  c.access_key = lsb_field_str(L, 1, "access_key", NULL);
  c.secret_key = lsb_field_str(L, 1, "secret_key", NULL);
  c.session_token = lsb_field_str(L, 1, "session_token", "");
  c.region = lsb_field_str(L, 1, "region", NULL);
  c.service = lsb_field_str(L, 1, "service", "s3");
  s = lua_newuserdata(L, sizeof(*s));
  s->core = NULL;
  luaL_getmetatable(L, SIGNER);
  lua_setmetatable(L, -2);
  if(ls_signer_new(&s->core, &c))
    return luaL_error(L, "not enough memory");
  return 1;
}

static int l_gc(lua_State *L)
{
  signer *s = luaL_checkudata(L, 1, SIGNER);

  ls_signer_free(s->core);
  s->core = NULL;
  return 0;
}

static int l_tostring(lua_State *L)
{
  luaL_checkudata(L, 1, SIGNER);
  lua_pushliteral(L, SIGNER);
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
  ls_signer *s = check_signer(L);
  ls_target target = read_target(L, NULL);
  uint64_t when = field_time(L);
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
  begin(L, s);
  code = ls_signer_sign(s, &target, hash, when, &out);
  if(code)
    return fail(L, s, code);
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
  ls_signer *s = check_signer(L);
  ls_target target = read_target(L, NULL);
  uint64_t when = field_time(L);
  uint64_t expires = lsb_field_uint(L, 2, "expires", 0,
                                    (uint64_t)LSB_INTEGER_MAX, UINT64_MAX);
  ls_buf *url;
  ls_code code;

  luaL_argcheck(L, expires != UINT64_MAX, 2, "expires: seconds expected");
  begin(L, s);
  url = lsb_new_buf(L, (size_t)1 << 23);
  code = ls_signer_presign(s, &target, when, expires, url);
  return code ? fail(L, s, code) : lsb_push_buf(L, url);
}

/* The parts of a run: a list of {number=, length=}, or a first number and a
 * count of equal lengths. */
typedef struct run {
  ls_signer *signer;
  ls_target target;
  uint64_t time;
  uint64_t expires;
  int list;           /* stack index of the list; 0: a range */
  uint64_t first;
  size_t count;
  bool has_length;
  uint64_t length;
  uint64_t last_length;
} run;

static run read_run(lua_State *L)
{
  const uint64_t max = (uint64_t)LSB_INTEGER_MAX;
  run r;

  memset(&r, 0, sizeof(r));
  r.signer = check_signer(L);
  r.target = read_target(L, "PUT");
  r.time = field_time(L);
  r.expires = lsb_field_uint(L, 2, "expires", 0, max, UINT64_MAX);
  luaL_argcheck(L, r.expires != UINT64_MAX, 2, "expires: seconds expected");
  lua_settop(L, 2);
  lua_getfield(L, 2, "parts");
  if(!lua_isnil(L, 3)) {
    luaL_argcheck(L, lua_istable(L, 3), 2, "parts: a list expected");
    r.list = 3;
    r.count = lua_rawlen(L, 3);
    luaL_argcheck(L, r.count <= PARTS_MAX, 2, "parts: at most 1000000");
    return r;
  }
  r.first = lsb_field_uint(L, 2, "first", 1, INT32_MAX, 1);
  r.count = (size_t)lsb_field_uint(L, 2, "count", 0, PARTS_MAX, UINT32_MAX);
  luaL_argcheck(L, r.count <= PARTS_MAX, 2, "parts or count expected");
  r.length = lsb_field_uint(L, 2, "length", 0, max, UINT64_MAX);
  r.has_length = r.length != UINT64_MAX;
  r.last_length = lsb_field_uint(L, 2, "last_length", 0, max, r.length);
  luaL_argcheck(L, (r.last_length != UINT64_MAX) == r.has_length, 2,
                "last_length: needs length");
  return r;
}

/* Part i of the run, from 0; the result says whether its length is signed. */
static bool get_part(lua_State *L, const run *r, size_t i, ls_part *part)
{
  bool has_length;

  if(!r->list) {
    part->number = r->first + i;
    part->length = i + 1 == r->count ? r->last_length : r->length;
    return r->has_length;
  }
  lua_rawgeti(L, r->list, (int)i + 1);
  if(!lua_istable(L, -1))
    luaL_error(L, "parts: a list of {number=, length=} expected");
  part->number = lsb_field_uint(L, lua_gettop(L), "number", 1, INT32_MAX, 0);
  if(!part->number)
    luaL_error(L, "parts: a part without number");
  part->length = lsb_field_uint(L, lua_gettop(L), "length", 0,
                                (uint64_t)LSB_INTEGER_MAX, UINT64_MAX);
  has_length = part->length != UINT64_MAX;
  lua_pop(L, 1);
  return has_length;
}

static ls_code prepare(lua_State *L, const run *r, bool lengths)
{
  ls_str upload_id = lsb_field_str(L, 2, "upload_id", "");

  begin(L, r->signer);
  if(upload_id.n)
    ls_signer_query(r->signer, LS_LIT("uploadId"), upload_id);
  return ls_signer_parts(r->signer, &r->target, r->time, r->expires, lengths);
}

/* Signs the run, four parts at a time, and gives each URL to `each`. */
static ls_code sign_run(lua_State *L, const run *r,
                        void (*each)(lua_State *L, void *to, size_t i,
                                     ls_str url), void *to)
{
  ls_part parts[LS_PARTS_LANES];
  ls_str urls[LS_PARTS_LANES];
  bool prepared = false, lengths = false, has_length = false;
  size_t i = 0, n = 0, k;

  /* One part is read ahead of those that are signed: parts[n]. */
  while(i < r->count) {
    ls_code code;

    has_length = get_part(L, r, i, &parts[0]);
    if(!prepared || has_length != lengths) {
      code = prepare(L, r, has_length);
      if(code)
        return code;
      prepared = true;
      lengths = has_length;
    }
    for(n = 1; n < LS_PARTS_LANES && i + n < r->count; n++) {
      if(get_part(L, r, i + n, &parts[n]) != lengths)
        break;
    }
    code = ls_signer_next(r->signer, parts, n, urls);
    if(code)
      return code;
    for(k = 0; k < n; k++)
      each(L, to, i + k, urls[k]);
    i += n;
  }
  return LS_OK;
}

static void into_table(lua_State *L, void *to, size_t i, ls_str url)
{
  (void)to;
  lua_pushlstring(L, url.p, url.n);
  lua_rawseti(L, -2, (int)i + 1);
}

static void into_json(lua_State *L, void *to, size_t i, ls_str url)
{
  (void)L;
  /* No character of a URL needs an escape in JSON. */
  ls_buf_add(to, i ? ",\"" : "\"", i ? 2 : 1);
  ls_buf_str(to, url);
  ls_buf_lit(to, "\"");
}

/* signer:presign_parts{scheme=, host=, path=, upload_id=, parts={{number=,
 * length=}, ...} | first=, count=, length=, last_length=, query=, headers=,
 * expires=, time=} -> list of URLs */
static int l_presign_parts(lua_State *L)
{
  run r = read_run(L);
  ls_code code;

  lua_createtable(L, (int)r.count, 0);
  code = sign_run(L, &r, into_table, NULL);
  return code ? fail(L, r.signer, code) : 1;
}

/* The same -> the list as JSON text */
static int l_presign_parts_json(lua_State *L)
{
  run r = read_run(L);
  ls_buf *json = lsb_new_buf(L, (size_t)1 << 31);
  ls_code code;

  ls_buf_lit(json, "[");
  code = sign_run(L, &r, into_json, json);
  if(code)
    return fail(L, r.signer, code);
  ls_buf_lit(json, "]");
  return lsb_push_buf(L, json);
}

void lsb_open_signer(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "sign", l_sign },
    { "presign", l_presign },
    { "presign_parts", l_presign_parts },
    { "presign_parts_json", l_presign_parts_json },
    { NULL, NULL }
  };

  lsb_new_class(L, SIGNER, methods);
  luaL_getmetatable(L, SIGNER);
  lua_pushcfunction(L, l_gc);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, l_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pop(L, 1);
  lua_pushcfunction(L, l_new);
  lua_setfield(L, -2, "signer");
}

/* Runs of parts for Lua: all URLs in one call, or one at a time.
 * Room: src/bind.
 */
#include "run_sink.h"
#include "signer.h"

void lsb_open_run(lua_State *L);

#define RUN "longshore.run"
#define PARTS_MAX 1000000

static const uint64_t most = (uint64_t)LSB_INTEGER_MAX;

/* The parts of a run: a list of {number=, length=}, or a first number and a
 * count of equal lengths. */
typedef struct batch {
  ls_signer *signer;
  ls_run *run;
  ls_target target;
  uint64_t time;
  uint64_t expires;
  int list;           /* stack index of the list, which its two keys follow;
                       * 0: a range */
  uint64_t first;
  size_t count;
  bool has_length;
  uint64_t length;
  uint64_t last_length;
} batch;

/* What a run has in common. */
static batch read_common(lua_State *L)
{
  lsb_signer *s = lsb_check_signer(L);
  batch b;

  memset(&b, 0, sizeof(b));
  b.target = lsb_read_target(L, "PUT");
  b.time = lsb_field_time(L);
  b.expires = lsb_field_uint(L, 2, "expires", 0, most, UINT64_MAX);
  luaL_argcheck(L, b.expires != UINT64_MAX, 2, "expires: seconds expected");
  b.signer = s->core;
  return b;
}

static batch read_batch(lua_State *L)
{
  lsb_signer *s = lsb_check_signer(L);
  batch b = read_common(L);

  if(!s->run && ls_run_new(&s->run))
    luaL_error(L, "not enough memory");
  b.run = s->run;
  lua_settop(L, 2);
  lsb_get(L, 2, "parts");
  if(!lua_isnil(L, 3)) {
    luaL_argcheck(L, lua_istable(L, 3), 2, "parts: a list expected");
    b.list = 3;
    b.count = lua_rawlen(L, 3);
    lua_pushliteral(L, "number");
    lua_pushliteral(L, "length");
    luaL_argcheck(L, b.count <= PARTS_MAX, 2, "parts: at most 1000000");
    return b;
  }
  b.first = lsb_field_uint(L, 2, "first", 1, INT32_MAX, 1);
  b.count = (size_t)lsb_field_uint(L, 2, "count", 0, PARTS_MAX, UINT32_MAX);
  luaL_argcheck(L, b.count <= PARTS_MAX, 2, "parts or count expected");
  b.length = lsb_field_uint(L, 2, "length", 0, most, UINT64_MAX);
  b.has_length = b.length != UINT64_MAX;
  b.last_length = lsb_field_uint(L, 2, "last_length", 0, most, b.length);
  luaL_argcheck(L, (b.last_length != UINT64_MAX) == b.has_length, 2,
                "last_length: needs length");
  return b;
}

/* Part i of the batch, from 0; the result says whether its length is signed. */
static bool get_part(lua_State *L, const batch *b, size_t i, ls_part *part)
{
  int top;

  if(!b->list) {
    part->number = b->first + i;
    part->length = i + 1 == b->count ? b->last_length : b->length;
    return b->has_length;
  }
  lua_rawgeti(L, b->list, (int)i + 1);
  if(!lua_istable(L, -1))
    luaL_error(L, "parts: a list of {number=, length=} expected");
  top = lua_gettop(L);
  lua_pushvalue(L, b->list + 1);
  lua_rawget(L, top);
  part->number = lsb_pop_uint(L, 2, "number", 1, INT32_MAX, 0);
  if(!part->number)
    luaL_error(L, "parts: a part without number");
  lua_pushvalue(L, b->list + 2);
  lua_rawget(L, top);
  part->length = lsb_pop_uint(L, 2, "length", 0, most, UINT64_MAX);
  lua_pop(L, 1);
  return part->length != UINT64_MAX;
}

static ls_code prepare(lua_State *L, const batch *b, bool lengths)
{
  ls_str upload_id = lsb_field_str(L, 2, "upload_id", "");

  lsb_signer_begin(L, b->signer);
  if(upload_id.n)
    ls_signer_query(b->signer, LS_LIT("uploadId"), upload_id);
  return ls_run_prepare(b->run, b->signer, &b->target, b->time, b->expires,
                        lengths);
}

/* Signs the batch, as many parts at a time as have lengths or as have none,
 * and gives each URL to the sink. */
static ls_code sign_batch(lua_State *L, const batch *b, lsb_sink *to)
{
  ls_part parts[LS_RUN_MAX];
  ls_signature signatures[LS_RUN_MAX];
  bool prepared = false, lengths = false;
  size_t i, n, k;

  for(i = 0; i < b->count; i += n) {
    bool has_length = get_part(L, b, i, &parts[0]);
    ls_code code = LS_OK;

    if(!prepared || has_length != lengths) {
      code = prepare(L, b, has_length);
      if(code)
        return code;
      /* One allocation, where all are of a kind. */
      if(to->json && !to->piece)
        ls_buf_room(to->json, (b->count - i) *
                    lsb_sink_room(to, ls_run_url_max(b->run)) + 2);
      prepared = true;
      lengths = has_length;
    }
    for(n = 1; n < LS_RUN_MAX && i + n < b->count; n++) {
      if(get_part(L, b, i + n, &parts[n]) != lengths)
        break;
    }
    code = ls_run_sign(b->run, parts, n, signatures);
    if(code)
      return code;
    for(k = 0; k < n; k++)
      lsb_sink_take(L, to, i + k == 0, &parts[k],
           ls_run_url(b->run, parts[k].number, signatures[k]));
  }
  return LS_OK;
}

static int list_urls(lua_State *L)
{
  batch b = read_batch(L);
  lsb_sink to = { NULL, 0, 0, { NULL, 0 }, 0 };
  ls_code code;

  lua_createtable(L, (int)b.count, 0);
  code = sign_batch(L, &b, &to);
  return code ? lsb_signer_fail(L, b.signer, code) : 1;
}

/* The least that a URL takes. */
#define URL_SIZE 512

/* signer:presign_parts{scheme=, host=, path=, upload_id=, parts={{number=,
 * length=}, ...} | first=, count=, length=, last_length=, query=, headers=,
 * expires=, time=} -> list of URLs */
static int l_presign_parts(lua_State *L)
{
  batch b = read_batch(L);

  /* In a list are tables of Lua's, and mistakes to be told where they are. */
  if(!b.list && lsb_pause_pays(L, b.count * URL_SIZE)) {
    lua_settop(L, 2);
    return lsb_call_paused(L, list_urls);
  }
  return list_urls(L);
}

/* signer:presign_parts_json{the same, pieces=, shape=, part_size=} -> the list
 * as JSON text, or with `pieces` that text in a list of pieces below 96 KiB, as
 * ngx.print takes it. With `shape` (and `part_size`) the list is of what the shape makes of each part: %n its number,
 * %o its offset, %l its length, %u its URL, %% a percent sign. */
static int l_presign_parts_json(lua_State *L)
{
  batch b = read_batch(L);
  lsb_sink to = { NULL, 0, 0, { NULL, 0 }, 0 };
  ls_code code;

  to.shape = lsb_field_str(L, 2, "shape", "");
  to.part_size = lsb_field_uint(L, 2, "part_size", 0, most, 0);
  lsb_get(L, 2, "pieces");
  to.piece = lua_toboolean(L, -1) ? LSB_PIECE : 0;
  to.json = lsb_new_buf(L, (size_t)1 << 31);
  if(to.piece)
    lua_newtable(L);
  code = sign_batch(L, &b, &to);
  if(code)
    return lsb_signer_fail(L, b.signer, code);
  if(!b.count)
    ls_buf_lit(to.json, "[");
  ls_buf_lit(to.json, "]");
  if(!to.piece)
    return lsb_push_buf(L, to.json);
  if(ls_buf_code(to.json))
    return lsb_signer_fail(L, b.signer, ls_buf_code(to.json));
  lsb_sink_add(L, &to, ls_buf_view(to.json));
  return 1;
}

/* signer:parts{as above, without the parts; lengths=} -> a run, whose urls are
 * made one at a time: run:url(number [, length]) */
static int l_parts(lua_State *L)
{
  batch b = read_common(L);
  ls_run **run = lua_newuserdata(L, sizeof(*run));
  bool lengths;
  ls_code code;

  *run = NULL;
  luaL_getmetatable(L, RUN);
  lua_setmetatable(L, -2);
  if(ls_run_new(run))
    return luaL_error(L, "not enough memory");
  b.run = *run;
  lsb_get(L, 2, "lengths");
  lengths = lua_toboolean(L, -1);
  lua_pop(L, 1);
  code = prepare(L, &b, lengths);
  return code ? lsb_signer_fail(L, b.signer, code) : 1;
}

static ls_run *check_run(lua_State *L)
{
  ls_run **run = luaL_checkudata(L, 1, RUN);

  luaL_argcheck(L, *run, 1, "the run is closed");
  return *run;
}

/* run:url(number [, length]) -> url; `length` where the run has `lengths` */
static int l_url(lua_State *L)
{
  ls_run *run = check_run(L);
  ls_part part = { lsb_check_uint(L, 2, 1, INT32_MAX), 0 };
  ls_signature signature;
  ls_str url;

  if(ls_run_has_lengths(run))
    part.length = lsb_check_uint(L, 3, 0, most);
  else
    luaL_argcheck(L, lua_isnoneornil(L, 3), 3, "the run signs no lengths");
  if(ls_run_sign(run, &part, 1, &signature))
    return luaL_error(L, "not enough memory");
  url = ls_run_url(run, part.number, signature);
  lua_pushlstring(L, url.p, url.n);
  return 1;
}

static int l_gc(lua_State *L)
{
  ls_run **run = luaL_checkudata(L, 1, RUN);

  ls_run_free(*run);
  *run = NULL;
  return 0;
}

static int l_tostring(lua_State *L)
{
  luaL_checkudata(L, 1, RUN);
  lua_pushliteral(L, RUN);
  return 1;
}

void lsb_open_run(lua_State *L)
{
  static const luaL_Reg of_signer[] = {
    { "presign_parts", l_presign_parts },
    { "presign_parts_json", l_presign_parts_json },
    { "parts", l_parts },
    { NULL, NULL }
  };
  static const luaL_Reg methods[] = {
    { "url", l_url },
    { NULL, NULL }
  };

  lsb_new_class(L, RUN, methods);
  luaL_getmetatable(L, RUN);
  lua_pushcfunction(L, l_gc);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, l_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pop(L, 1);
  luaL_getmetatable(L, LSB_SIGNER);
  lua_getfield(L, -1, "__index");
  lsb_setfuncs(L, of_signer);
  lua_pop(L, 2);
}

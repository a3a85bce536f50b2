/* core.engine: the transfer engine as a Lua object. Room: src/bind. */
#include "engine.h"

#include <string.h>

void lsb_open_engine(lua_State *L);

#define ENGINE "longshore.engine"

typedef struct engine_box {
  lst_engine *engine; /* NULL once closed */
} engine_box;

static engine_box *check_box(lua_State *L)
{
  return luaL_checkudata(L, 1, ENGINE);
}

static lst_engine *check_engine(lua_State *L)
{
  engine_box *box = check_box(L);

  luaL_argcheck(L, box->engine, 1, "the engine is closed");
  return box->engine;
}

/* engine(options) -> engine | nil, err */
static int l_engine(lua_State *L)
{
  static const char *const known[] = {
    "connections", "buffer", "ca_file", "ca_path", "connect_timeout",
    "stall_bytes", "stall_seconds", "rate_limit", "max_response",
    "user_agent", "proxy", "threads", NULL
  };
  lst_options o;
  engine_box *box;
  ls_code code;

  lst_options_init(&o);
  o.user_agent = "longshore";
  if(!lua_isnoneornil(L, 1)) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lsb_check_keys(L, 1, known);
    o.connections = (unsigned)lsb_field_uint(L, 1, "connections", 1,
                                             LST_MAX_CONNECTIONS,
                                             o.connections);
    o.threads = (unsigned)lsb_field_uint(L, 1, "threads", 1, LST_MAX_THREADS,
                                         o.threads);
    o.buffer = (size_t)lsb_field_uint(L, 1, "buffer", LST_MIN_BUFFER,
                                      LST_MAX_BUFFER, o.buffer);
    o.max_response = (size_t)lsb_field_uint(L, 1, "max_response", 0,
                                            1u << 30, o.max_response);
    o.stall_bytes = lsb_field_uint(L, 1, "stall_bytes", 0, 1u << 30,
                                   o.stall_bytes);
    o.rate_limit = lsb_field_uint(L, 1, "rate_limit", 0,
                                  (uint64_t)LSB_INTEGER_MAX, 0);
    o.stall_seconds = lsb_field_seconds(L, 1, "stall_seconds", o.stall_seconds);
    o.connect_timeout = lsb_field_seconds(L, 1, "connect_timeout",
                                      o.connect_timeout);
    luaL_argcheck(L, o.connect_timeout > 0, 1,
                  "connect_timeout: more than 0 seconds expected");
    o.ca_file = lsb_field_text(L, 1, "ca_file", NULL);
    o.ca_path = lsb_field_text(L, 1, "ca_path", NULL);
    o.proxy = lsb_field_text(L, 1, "proxy", NULL);
    o.user_agent = lsb_field_text(L, 1, "user_agent", o.user_agent);
  }
  box = lua_newuserdata(L, sizeof(*box));
  box->engine = NULL;
  luaL_getmetatable(L, ENGINE);
  lua_setmetatable(L, -2);
  code = lst_engine_new(&o, &box->engine);
  if(code == LS_EINVAL)
    return lsb_fail(L, "invalid", "user_agent: control characters are not "
                                  "allowed");
  if(code != LS_OK)
    return lsb_fail(L, "internal", "the transfer engine cannot be made: out "
                                   "of memory");
  return 1;
}

/* engine:close(): ends what is under way; again does nothing */
static int l_close(lua_State *L)
{
  engine_box *box = check_box(L);
  lst_engine *engine = box->engine;

  box->engine = NULL;
  lst_engine_free(engine);
  return 0;
}

static int l_tostring(lua_State *L)
{
  engine_box *box = check_box(L);
  lst_stats s;

  if(!box->engine) {
    lua_pushliteral(L, "longshore.engine (closed)");
    return 1;
  }
  lst_engine_stats(box->engine, &s);
  lua_pushfstring(L, "longshore.engine (%d active, %d queued)",
                  (int)s.active, (int)s.queued);
  return 1;
}

/* engine:stats() -> {queued=, active=, connections_opened=, bytes_sent=,
 * bytes_received=, buffer_bytes=} */
static int l_stats(lua_State *L)
{
  lst_stats s;

  lst_engine_stats(check_engine(L), &s);
  lua_createtable(L, 0, 6);
  lsb_set_uint(L, "queued", s.queued);
  lsb_set_uint(L, "active", s.active);
  lsb_set_uint(L, "connections_opened", s.connections_opened);
  lsb_set_uint(L, "bytes_sent", s.bytes_sent);
  lsb_set_uint(L, "bytes_received", s.bytes_received);
  lsb_set_uint(L, "buffer_bytes", s.buffer_bytes);
  return 1;
}

/* engine:add(job) -> id | nil, err */
static int l_add(lua_State *L)
{
  lst_engine *engine = check_engine(L);
  lst_header headers[LSB_MAX_HEADERS];
  lst_request r;
  uint64_t id;
  const char *why;

  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  lsb_read_request(L, &r, headers);
  if(lst_engine_add(engine, &r, &id, &why) != LS_OK)
    return why ? lsb_fail(L, "invalid", "%s", why) :
      lsb_fail(L, "internal", "out of memory");
  lsb_push_uint(L, id);
  return 1;
}

/* {name = value}; of a header that came more than once the values are joined
 * with a comma, as HTTP has it. */
static void push_headers(lua_State *L, const lst_event *e)
{
  const char *p = e->headers;
  const char *end = p ? p + e->headers_length : p;

  lua_newtable(L);
  while(p != end) {
    const char *value = p + strlen(p) + 1;

    lua_getfield(L, -1, p);
    if(lua_isnil(L, -1)) {
      lua_pop(L, 1);
      lua_pushstring(L, value);
    }
    else {
      lua_pushliteral(L, ", ");
      lua_pushstring(L, value);
      lua_concat(L, 3);
    }
    lua_setfield(L, -2, p);
    p = value + strlen(value) + 1;
  }
}

static void set_seconds(lua_State *L, const char *name, double v)
{
  lua_pushnumber(L, v);
  lua_setfield(L, -2, name);
}

static void push_done(lua_State *L, const lst_event *e)
{
  lua_pushinteger(L, e->status);
  lua_setfield(L, -2, "status");
  push_headers(L, e);
  lua_setfield(L, -2, "headers");
  lua_pushlstring(L, e->body ? e->body : "", e->body_length);
  lua_setfield(L, -2, "body");
  if(e->has_crc32c)
    lsb_set_uint(L, "crc32c", e->crc32c);
  lsb_set_uint(L, "received_crc32c", e->received_crc32c);
  lua_createtable(L, 0, 3);
  set_seconds(L, "connect", e->connect);
  set_seconds(L, "first_byte", e->first_byte);
  set_seconds(L, "total", e->total);
  lua_setfield(L, -2, "seconds");
}

static void push_event(lua_State *L, const lst_event *e)
{
  static const char *const types[] = { "progress", "done", "failed" };

  lua_createtable(L, 0, 10);
  lua_pushstring(L, types[e->type]);
  lua_setfield(L, -2, "type");
  lsb_set_uint(L, "id", e->id);
  lsb_set_uint(L, "sent", e->sent);
  lsb_set_uint(L, "received", e->received);
  if(e->type == LST_DONE)
    push_done(L, e);
  if(e->type == LST_FAILED) {
    lsb_push_error(L, e->code, "%s", e->message);
    lua_pushboolean(L, e->retryable);
    lua_setfield(L, -2, "retryable");
    lua_pushboolean(L, !e->unconnected);
    lua_setfield(L, -2, "connected");
    if(e->status > 0) {
      lua_pushinteger(L, e->status);
      lua_setfield(L, -2, "answered");
    }
    lua_setfield(L, -2, "error");
  }
}

/* engine:step(seconds) -> array of events */
static int l_step(lua_State *L)
{
  lst_engine *engine = check_engine(L);
  double seconds = luaL_optnumber(L, 2, 0);
  const lst_event *event;
  int i = 0;

  luaL_argcheck(L, seconds >= 0 && seconds <= 86400, 2,
                "0 to 86400 seconds expected");
  lst_engine_step(engine, seconds);
  lua_newtable(L);
  while((event = lst_engine_next(engine)) != NULL) {
    push_event(L, event);
    lua_rawseti(L, -2, ++i);
  }
  return 1;
}

/* engine:cancel(id) -> whether it was queued or under way */
static int l_cancel(lua_State *L)
{
  lst_engine *engine = check_engine(L);
  uint64_t id = lsb_check_uint(L, 2, 0, (uint64_t)LSB_INTEGER_MAX);

  lua_pushboolean(L, lst_engine_cancel(engine, id));
  return 1;
}

/* engine:limit{rate_limit=, connections=}: changes either while running */
static int l_limit(lua_State *L)
{
  static const char *const known[] = { "rate_limit", "connections", NULL };
  lst_engine *engine = check_engine(L);
  uint64_t rate;
  uint64_t connections;

  luaL_checktype(L, 2, LUA_TTABLE);
  lsb_check_keys(L, 2, known);
  rate = lsb_field_uint(L, 2, "rate_limit", 0, (uint64_t)LSB_INTEGER_MAX,
                        UINT64_MAX);
  connections = lsb_field_uint(L, 2, "connections", 1, LST_MAX_CONNECTIONS,
                               0);
  if(rate != UINT64_MAX)
    lst_engine_set_rate(engine, rate);
  if(connections)
    lst_engine_set_connections(engine, (unsigned)connections);
  return 0;
}

void lsb_open_engine(lua_State *L)
{
  static const luaL_Reg funcs[] = {
    { "engine", l_engine },
    { NULL, NULL }
  };
  static const luaL_Reg methods[] = {
    { "add", l_add },
    { "step", l_step },
    { "cancel", l_cancel },
    { "stats", l_stats },
    { "limit", l_limit },
    { "close", l_close },
    { NULL, NULL }
  };
  static const luaL_Reg meta[] = {
    { "__gc", l_close },
    { "__close", l_close },
    { "__tostring", l_tostring },
    { NULL, NULL }
  };

  lsb_new_class(L, ENGINE, methods);
  luaL_getmetatable(L, ENGINE);
  lsb_setfuncs(L, meta);
  lua_pop(L, 1);
  lsb_setfuncs(L, funcs);
}

/* A Lua state of its own for code that is not trusted. Room: src/bind.
 *
 * What the code may reach is decided by the chunk it is started with (see
 * lua/longshore/policy/sandbox/prelude.lua); what it may use up, in
 * sandbox_limits.c.
 *
 * Values are copied in and out, nothing is shared. Code in the sandbox asks its
 * host by yielding, so no call ever runs from one state into the other.
 */
#include "sandbox.h"

#define SANDBOX_MT "longshore.sandbox"
#define MAX_VALUES (4u * 1024 * 1024)

void lsb_open_sandbox(lua_State *L);

struct run {
  lsb_box *box;
  int ref;           /* of the coroutine; 0: none yet */
  lua_State *thread;
  lsb_rest *rest;    /* kept in the sandbox, as [-ref] beside the coroutine */
  int count;         /* of its arguments */
};

static int protected_run(lua_State *S)
{
  struct run *run = lua_touserdata(S, 1);

  int begins = !run->ref;

  if(begins) {
    run->ref = run->box->idle;
    run->box->idle = 0;
  } else if(run->ref == run->box->idle)
    return luaL_error(S, "no such run");
  if(!run->ref) {
    run->thread = lua_newthread(S);
    run->ref = luaL_ref(S, LUA_REGISTRYINDEX);
    run->rest = lua_newuserdata(S, sizeof(*run->rest));
    lua_rawseti(S, LUA_REGISTRYINDEX, -run->ref);
  } else {
    lua_rawgeti(S, LUA_REGISTRYINDEX, run->ref);
    run->thread = lua_tothread(S, -1);
    lua_rawgeti(S, LUA_REGISTRYINDEX, -run->ref);
    run->rest = lua_touserdata(S, -1);
    if(!run->thread || run->thread == S || !run->rest)
      return luaL_error(S, "no such run");
  }
  if(begins) {
    *run->rest = lsb_box_all(run->box);
    lua_getfield(S, LUA_REGISTRYINDEX, LSB_DISPATCH);
    lua_xmove(S, run->thread, 1);
  }
  run->count = lsb_thaw(S, ls_buf_view(&run->box->values));
  if(!lua_checkstack(run->thread, run->count + 8))
    return luaL_error(S, "too many values");
  lua_xmove(S, run->thread, run->count);
  return 0;
}

static void forget(lua_State *S, const struct run *run)
{
  lua_pushnil(S);
  lua_rawseti(S, LUA_REGISTRYINDEX, -run->ref);
  luaL_unref(S, LUA_REGISTRYINDEX, run->ref);
}

/* A run has ended well: the next one has its coroutine. */
static void put_by(lua_State *S, const struct run *run)
{
  if(run->box->idle)
    forget(S, run);
  else
    run->box->idle = run->ref;
}

static void box_close(lsb_box *box);

/* A sandbox that is of no further use ends with its last run. */
static void close_if_spoilt(lsb_box *box)
{
  if(box->spoilt && !box->waiting)
    box_close(box);
}

static void box_close(lsb_box *box)
{
  if(box->state) {
    lua_State *S = box->state;

    box->state = NULL;
    box->memory = (size_t)-1; /* closing may need some */
    lua_sethook(S, NULL, 0, 0);
    lua_close(S);
  }
  ls_buf_free(&box->values);
}

/* nil, err for what a run ended with; the message is on top of `S`. */
static int failed(lua_State *L, lsb_box *box, lua_State *S, int status)
{
  const char *text = lua_gettop(S) && lua_type(S, -1) == LUA_TSTRING ?
    lua_tostring(S, -1) : "the error is not a text";
  int n;

  if(box->stopped ? !strcmp(box->stopped, "memory") : status == LUA_ERRMEM)
    n = lsb_fail(L, "memory", "out of memory (%d KiB)",
                 (int)(box->memory / 1024));
  else if(box->stopped)
    n = lsb_fail(L, box->stopped, "stopped: out of %s", box->stopped);
  else
    n = lsb_fail(L, "error", "%s", text);
  return n;
}

static lsb_box *check_box(lua_State *L)
{
  lsb_box *box = luaL_checkudata(L, 1, SANDBOX_MT);

  if(!box->state)
    luaL_error(L, "the sandbox is closed");
  return box;
}

/* sandbox{text=, name=, memory=, instructions=, seconds=, array=metatable}
 *   -> box | nil, err
 * `text` is run with a table of native functions, and returns the function that
 * every later run calls. */
static int l_sandbox(lua_State *L)
{
  static const char *const known[] = { "text", "name", "memory",
    "instructions", "seconds", "array", NULL };
  lsb_box *box;
  lsb_box_start start;
  lsb_rest all;
  int status;

  luaL_checktype(L, 1, LUA_TTABLE);
  lsb_check_keys(L, 1, known);
  start.text = lsb_field_str(L, 1, "text", NULL);
  start.name = lsb_field_text(L, 1, "name", "=sandbox");

  box = lua_newuserdata(L, sizeof(*box));
  memset(box, 0, sizeof(*box));
  ls_buf_init(&box->values, MAX_VALUES);
  luaL_getmetatable(L, SANDBOX_MT);
  lua_setmetatable(L, -2);
  box->memory = (size_t)lsb_field_uint(L, 1, "memory", 512 * 1024,
                                       (uint64_t)1 << 40, 16 * 1024 * 1024);
  box->instructions = (int64_t)lsb_field_uint(L, 1, "instructions", 1000,
                                              (uint64_t)1 << 50, 10000000);
  lsb_get(L, 1, "seconds");
  box->seconds = lua_isnil(L, -1) ? 1 : luaL_checknumber(L, -1);
  lua_pop(L, 1);
  luaL_argcheck(L, box->seconds > 0, 1, "seconds: more than 0 expected");
  lsb_get(L, 1, "array");
  if(lua_istable(L, -1))
    lua_setfield(L, LUA_REGISTRYINDEX, LSB_ARRAY_MARK);
  else
    lua_pop(L, 1);

  box->state = lsb_box_state(box);
  if(!box->state)
    return lsb_fail(L, "unsupported", "no sandbox here: this LuaJIT was built "
                    "without LJ_GC64, or memory is short");
  all = lsb_box_all(box);
  lsb_box_refill(box, &all);
  status = lsb_box_protect(box->state, lsb_box_begin, &start);
  if(status || box->stopped) {
    int n = failed(L, box, box->state, status);

    box_close(box);
    return n;
  }
  return 1;
}

/* Whether the state at hand has an error to report; else the values of `S`
 * from `first` on are frozen. */
static const char *collect(lsb_box *box, lua_State *S)
{
  int i, top = lua_gettop(S);
  const char *bad = NULL;

  ls_buf_clear(&box->values);
  for(i = 1; i <= top && !bad; i++)
    bad = lsb_freeze(S, i, &box->values);
  lua_settop(S, 0);
  if(!bad && ls_buf_code(&box->values))
    bad = "more than 4 MiB of values";
  return bad;
}

static int resume(struct run *run)
{
#if LUA_VERSION_NUM == 501
  return lua_resume(run->thread, run->count);
#else
  int results, status;

  lsb_box_watch(run->thread);
  status = lua_resume(run->thread, NULL, run->count, &results);
  if(status == LUA_YIELD) {
    /* what was yielded is on top; below is what the coroutine needs again */
    lua_State *S = run->box->state;

    lua_settop(S, 0);
    if(!lua_checkstack(S, results + 8))
      return LUA_ERRMEM;
    lua_xmove(run->thread, S, results);
  }
  return status;
#endif
}

/* box:run(nil|id, ...) -> "done", results... | "ask", id, what was asked...
 * | nil, err. `id` goes on with a run that asked its host something. err.code:
 * error, instructions, time, calls, memory. After all but the first the box
 * closes itself, when no other run waits. */
static int l_run(lua_State *L)
{
  lsb_box *box = check_box(L);
  struct run run = { box, 0, NULL, NULL, 0 };
  lsb_rest all = lsb_box_all(box);
  int i, top = lua_gettop(L), status, resumed = !lua_isnoneornil(L, 2);
  const char *bad = NULL;
  lua_State *S = box->state, *from;

  if(resumed)
    run.ref = (int)lsb_check_uint(L, 2, 1, 1 << 30);
  ls_buf_clear(&box->values);
  for(i = 3; i <= top && !bad; i++)
    bad = lsb_freeze(L, i, &box->values);
  if(bad || ls_buf_code(&box->values))
    return luaL_error(L, "cannot hand over %s",
                      bad ? bad : "more than 4 MiB of values");
  lsb_box_refill(box, &all);
  lua_settop(S, 0);
  status = lsb_box_protect(S, protected_run, &run);
  if(resumed && run.rest)
    box->waiting--;
  if(!status) {
    lsb_box_refill(box, run.rest);
    status = resume(&run);
    *run.rest = lsb_box_left(box);
    from = run.thread;
  } else
    from = S;

  if(status == LUA_OK || status == LUA_YIELD) {
    if(box->stopped) {
      status = LUA_ERRRUN;
      lua_settop(from, 0);
      lua_pushboolean(from, 0);
    } else {
#if LUA_VERSION_NUM != 501
      if(status == LUA_YIELD)
        from = S;
#endif
      bad = collect(box, from);
    }
  }
  if(status == LUA_OK || status == LUA_YIELD) {
    if(status == LUA_OK)
      put_by(S, &run);
    else if(bad)
      forget(S, &run);
    else
      box->waiting++;
    if(bad) {
      close_if_spoilt(box);
      return lsb_fail(L, "error", "what is handed out may not be %s", bad);
    }
    lua_settop(L, 1);
    lua_pushstring(L, status == LUA_OK ? "done" : "ask");
    if(status == LUA_YIELD)
      lsb_push_uint(L, (uint64_t)run.ref);
    i = lsb_thaw(L, ls_buf_view(&box->values));
    close_if_spoilt(box);
    return i + (status == LUA_YIELD ? 2 : 1);
  }
  i = failed(L, box, from, status);
  if(box->stopped || status == LUA_ERRMEM) {
    box->spoilt = 1;
    box->stopped = NULL;
#if LUA_VERSION_NUM == 501
    /* Those who wait go on, and not with its garbage. */
    if(box->waiting && run.rest) {
      forget(S, &run);
      lua_gc(S, LUA_GCCOLLECT, 0);
    }
#endif
  } else if(run.rest)
    forget(S, &run);
  close_if_spoilt(box);
  return i;
}

/* box:drop(id): that run will not go on; nor will the box, when no other waits. */
static int l_drop(lua_State *L)
{
  lsb_box *box = check_box(L);
  struct run run = { box, 0, NULL, NULL, 0 };

  run.ref = (int)lsb_check_uint(L, 2, 1, 1 << 30);
  lua_settop(box->state, 0);
  lua_rawgeti(box->state, LUA_REGISTRYINDEX, -run.ref);
  run.rest = lua_touserdata(box->state, -1);
  lua_settop(box->state, 0);
  luaL_argcheck(L, run.rest && run.ref != box->idle, 2, "no such run");
  forget(box->state, &run);
  box->waiting--;
  box->spoilt = 1;
  close_if_spoilt(box);
  return 0;
}

/* box:memory() -> bytes in use */
static int l_memory(lua_State *L)
{
  lsb_push_uint(L, check_box(L)->used);
  return 1;
}

/* box:close(): again does nothing */
static int l_close(lua_State *L)
{
  box_close(luaL_checkudata(L, 1, SANDBOX_MT));
  return 0;
}

void lsb_open_sandbox(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "run", l_run },
    { "drop", l_drop },
    { "memory", l_memory },
    { "close", l_close },
    { NULL, NULL }
  };
  static const luaL_Reg funcs[] = {
    { "sandbox", l_sandbox },
    { NULL, NULL }
  };

  lsb_new_class(L, SANDBOX_MT, methods);
  luaL_getmetatable(L, SANDBOX_MT);
  lua_pushcfunction(L, l_close);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, l_close);
  lua_setfield(L, -2, "__close");
  lua_pop(L, 1);
  lsb_setfuncs(L, funcs);
}

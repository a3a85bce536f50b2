/* A Lua state of its own for code that is not trusted. Room: src/bind.
 *
 * What the code may reach is decided by the chunk it is started with (see
 * lua/longshore/policy/sandbox/prelude.lua); what it may use up is decided here:
 *
 * - memory, by the state's own allocator;
 * - instructions, by a count hook. LuaJIT's compiler, which never calls hooks,
 *   is off in this state;
 * - time, looked at by the hook too.
 *
 * A stop is remembered. Every later hook raises again, and so does `check`,
 * which the chunk's pcall calls: catching the error wins nothing. A sandbox that
 * was stopped is of no further use.
 *
 * Values are copied in and out, nothing is shared. Code in the sandbox asks its
 * host by yielding, so no call ever runs from one state into the other.
 */
#include "values.h"

#include <lualib.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if LUA_VERSION_NUM == 501
#include <luajit.h>
#endif

#define SANDBOX_MT "longshore.sandbox"
#define DISPATCH "longshore.dispatch"
#define HOOK_COUNT 64
#define MAX_CALLS 1000 /* nested; deep stacks make each error dear on 5.4 */
#define MAX_VALUES (4u * 1024 * 1024)

void lsb_open_sandbox(lua_State *L);

struct sandbox {
  lua_State *state;     /* NULL: closed */
  size_t used;          /* bytes of memory */
  size_t memory;        /* at most */
  int64_t left;         /* instructions of this run */
  int64_t instructions; /* of a run, at most */
  double seconds;       /* of a run, at most */
  double deadline;
  const char *stopped;  /* NULL, "instructions", "time" or "calls" */
  ls_buf values;
};

static double monotonic(void)
{
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *box_alloc(void *ud, void *old, size_t old_size, size_t size)
{
  struct sandbox *box = ud;
  void *new;

  if(!old)
    old_size = 0; /* Lua 5.4 tells the kind of object here */
  if(!size) {
    free(old);
    box->used -= old_size;
    return NULL;
  }
  if(size > old_size && size - old_size > box->memory - box->used) {
    /* Lua 5.4 collects everything before it tries again: that is work, too. */
    box->left -= (int64_t)(box->used / 64);
    return NULL;
  }
  new = realloc(old, size);
  if(new)
    box->used += size - old_size;
  return new;
}

static struct sandbox *box_of(lua_State *S)
{
  void *ud;

  lua_getallocf(S, &ud);
  return ud;
}

static void raise_if_stopped(lua_State *S, struct sandbox *box)
{
  if(!box->stopped) {
    if(box->left < 0)
      box->stopped = "instructions";
    else if(monotonic() > box->deadline)
      box->stopped = "time";
  }
  if(box->stopped)
    luaL_error(S, "stopped: out of %s", box->stopped);
}

static void box_hook(lua_State *S, lua_Debug *ar)
{
  struct sandbox *box = box_of(S);

  box->left -= HOOK_COUNT;
  if(!box->stopped && lua_getstack(S, MAX_CALLS, ar))
    box->stopped = "calls";
  raise_if_stopped(S, box);
}

/* charge(n): the work of a library function, in instructions */
static int s_charge(lua_State *S)
{
  struct sandbox *box = box_of(S);
  lua_Number n = luaL_checknumber(S, 1);

  if(n > 0)
    box->left -= n < 1e15 ? (int64_t)n : (int64_t)1e15;
  raise_if_stopped(S, box);
  return 0;
}

/* check(...) -> ...: raises when the sandbox was stopped */
static int s_check(lua_State *S)
{
  raise_if_stopped(S, box_of(S));
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

/* compile(text, name, env) -> function | nil, message: source code only */
static int s_compile(lua_State *S)
{
  size_t n;
  const char *text = luaL_checklstring(S, 1, &n);
  const char *name = luaL_checkstring(S, 2);

  luaL_checktype(S, 3, LUA_TTABLE);
  if(n && text[0] == LUA_SIGNATURE[0]) {
    lua_pushnil(S);
    lua_pushliteral(S, "bytecode is not allowed");
    return 2;
  }
  if(luaL_loadbuffer(S, text, n, name)) {
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

struct start {
  ls_str text;
  const char *name;
};

/* Runs in the sandbox: the libraries that a policy could want, none that leads
 * out, and the chunk that makes a world of them. */
static int protected_start(lua_State *S)
{
  static const luaL_Reg native[] = {
    { "charge", s_charge },
    { "check", s_check },
    { "compile", s_compile },
    { "is_plain", s_is_plain },
    { NULL, NULL }
  };
  struct start *start = lua_touserdata(S, 1);

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
  lua_setfield(S, LUA_REGISTRYINDEX, DISPATCH);
  return 0;
}

struct run {
  struct sandbox *box;
  int ref;           /* of the coroutine; 0: a new one */
  lua_State *thread;
  int count;         /* of its arguments */
};

static int protected_run(lua_State *S)
{
  struct run *run = lua_touserdata(S, 1);

  if(!run->ref) {
    run->thread = lua_newthread(S);
    run->ref = luaL_ref(S, LUA_REGISTRYINDEX);
    lua_getfield(S, LUA_REGISTRYINDEX, DISPATCH);
    lua_xmove(S, run->thread, 1);
  } else {
    lua_rawgeti(S, LUA_REGISTRYINDEX, run->ref);
    run->thread = lua_tothread(S, -1);
    if(!run->thread || run->thread == S)
      return luaL_error(S, "no such run");
  }
  run->count = lsb_thaw(S, ls_buf_view(&run->box->values));
  if(!lua_checkstack(run->thread, run->count + 8))
    return luaL_error(S, "too many values");
  lua_xmove(S, run->thread, run->count);
  return 0;
}

/* lua_cpcall, which Lua 5.4 does not have. Nothing is allocated outside of the
 * protected call on 5.4; LuaJIT's own does the same. */
static int protect(lua_State *S, lua_CFunction f, void *ud)
{
#if LUA_VERSION_NUM == 501
  return lua_cpcall(S, f, ud);
#else
  lua_pushcfunction(S, f);
  lua_pushlightuserdata(S, ud);
  return lua_pcall(S, 1, 0, 0);
#endif
}

static void refill(struct sandbox *box)
{
  box->left = box->instructions;
  box->deadline = monotonic() + box->seconds;
}

static void box_close(struct sandbox *box)
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
static int failed(lua_State *L, struct sandbox *box, lua_State *S, int status)
{
  const char *text = lua_type(S, -1) == LUA_TSTRING ? lua_tostring(S, -1)
                     : "the error is not a text";
  int n;

  if(box->stopped)
    n = lsb_fail(L, box->stopped, "stopped: out of %s", box->stopped);
  else if(status == LUA_ERRMEM)
    n = lsb_fail(L, "memory", "out of memory (%d KiB)",
                 (int)(box->memory / 1024));
  else
    n = lsb_fail(L, "error", "%s", text);
  return n;
}

static struct sandbox *check_box(lua_State *L)
{
  struct sandbox *box = luaL_checkudata(L, 1, SANDBOX_MT);

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
  struct sandbox *box;
  struct start start;
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
  lua_getfield(L, 1, "seconds");
  box->seconds = lua_isnil(L, -1) ? 1 : luaL_checknumber(L, -1);
  lua_pop(L, 1);
  luaL_argcheck(L, box->seconds > 0, 1, "seconds: more than 0 expected");
  lua_getfield(L, 1, "array");
  if(lua_istable(L, -1))
    lua_setfield(L, LUA_REGISTRYINDEX, LSB_ARRAY_MARK);
  else
    lua_pop(L, 1);

  box->state = lua_newstate(box_alloc, box);
  if(!box->state)
    return lsb_fail(L, "unsupported", "no sandbox here: this LuaJIT was built "
                    "without LJ_GC64, or memory is short");
  refill(box);
  lua_sethook(box->state, box_hook, LUA_MASKCOUNT, HOOK_COUNT);
  status = protect(box->state, protected_start, &start);
  if(status) {
    int n = failed(L, box, box->state, status);

    box_close(box);
    return n;
  }
  return 1;
}

/* Whether the state at hand has an error to report; else the values of `S`
 * from `first` on are frozen. */
static const char *collect(struct sandbox *box, lua_State *S)
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

  lua_sethook(run->thread, box_hook, LUA_MASKCOUNT, HOOK_COUNT);
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
 * error, instructions, time, calls, memory. After all but the first the box is
 * closed. */
static int l_run(lua_State *L)
{
  struct sandbox *box = check_box(L);
  struct run run = { box, 0, NULL, 0 };
  int i, top = lua_gettop(L), status;
  const char *bad = NULL;
  lua_State *S = box->state, *from;

  if(!lua_isnoneornil(L, 2))
    run.ref = (int)lsb_check_uint(L, 2, 1, 1 << 30);
  ls_buf_clear(&box->values);
  for(i = 3; i <= top && !bad; i++)
    bad = lsb_freeze(L, i, &box->values);
  if(bad || ls_buf_code(&box->values))
    return luaL_error(L, "cannot hand over %s",
                      bad ? bad : "more than 4 MiB of values");
  refill(box);
  lua_settop(S, 0);
  status = protect(S, protected_run, &run);
  if(!status) {
    status = resume(&run);
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
    if(status == LUA_OK || bad)
      luaL_unref(S, LUA_REGISTRYINDEX, run.ref);
    if(bad)
      return lsb_fail(L, "error", "what is handed out may not be %s", bad);
    lua_settop(L, 1);
    lua_pushstring(L, status == LUA_OK ? "done" : "ask");
    if(status == LUA_YIELD)
      lsb_push_uint(L, (uint64_t)run.ref);
    i = lsb_thaw(L, ls_buf_view(&box->values));
    return i + (status == LUA_YIELD ? 2 : 1);
  }
  i = failed(L, box, from, status);
  if(box->stopped || status == LUA_ERRMEM)
    box_close(box);
  else if(run.ref)
    luaL_unref(S, LUA_REGISTRYINDEX, run.ref);
  return i;
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
